"""Ceph in a suite test: its faults by their verbs, and what its maps foretell of a loss."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults.ceph import CLUSTER, ECHO_EVERY, ECHOES, CephNetworkCut, NooutSet, OsdKilled, OsdLost
from pytest_pveha.faults.fault import Fault
from pytest_pveha.handles.ceph import shell
from pytest_pveha.handles.ceph.daemon import OsdDaemon
from pytest_pveha.handles.ceph.maps import OsdMap
from pytest_pveha.handles.echo import echoes
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import parse_duration
from pytest_pveha.observe import ceph, ceph_map
from pytest_pveha.observe.answer import Answer, Condition, no, yes
from pytest_pveha.observe.ceph_map import ASK, told_by
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.observe.what_if import ASSUMED_RATE, CephMap, Prediction, without

WINDOW = 1800.0
"""A rebuild is waited for that is foretold to take at most so many seconds; of another one ten minutes are watched."""

WATCHED = 600.0

LATE = 2.0
"""How many times as long as foretold it may take: the rate is believed, and copies wait for each other's OSDs."""

SLACK = 120.0
"""Seconds that mons may take beyond their interval to mark an OSD out: they look every few seconds."""


class Breaks(Protocol):
    """The one who makes faults: ``Run``."""

    @property
    def site(self) -> Site: ...

    @property
    def observer(self) -> Observer: ...

    def break_with(
        self,
        make: Callable[[str], Fault],
        kind: str,
        victims: tuple[str, ...],
        at_most: float,
        *,
        dies: bool = True,
    ) -> AbstractContextManager[None]: ...


class CephFaults:
    """Ways to break Ceph; see ``Faults``."""

    def __init__(self, run: Breaks) -> None:
        self._ceph_run = run

    @contextmanager
    def osd_killed(self, osd: OsdDaemon, *, at_most: str = "20 min") -> Iterator[None]:
        """The OSD's process has been killed when this opens; afterwards it runs, up and in as before."""
        with self._osd(osd, OsdKilled, at_most):
            yield

    @contextmanager
    def osd_lost(self, osd: OsdDaemon, *, at_most: str = "90 min") -> Iterator[None]:
        """The OSD does not run, and nothing starts it, while open; afterwards it is up and in as before."""
        with self._osd(osd, OsdLost, at_most):
            yield

    @contextmanager
    def _osd(self, osd: OsdDaemon, fault: type[OsdKilled] | type[OsdLost], at_most: str) -> Iterator[None]:
        run = self._ceph_run
        node = run.site.nodes[osd.node]
        pid = node.units.main_pid(osd.unit, run.site.clock.deadline(READ))
        known = _osd_map(run.observer).osds
        if osd.id not in known:
            raise PreflightRefused(f"Ceph knows no {osd.name}, so nothing was broken")
        with run.break_with(
            lambda tag: fault(osd.node, osd.id, pid, known[osd.id].weight),
            fault.kind,
            (osd.node,),
            parse_duration(at_most),
            dies=False,
        ):
            yield

    @contextmanager
    def ceph_network_cut(self, victim: Node, network: str, *, at_most: str = "15 min") -> Iterator[None]:
        """The node and the others do not hear each other on Ceph's ``cluster`` or ``public`` network while open."""
        run = self._ceph_run
        deadline = run.site.clock.deadline
        known = _osd_map(run.observer).osds
        places = told_by(run.observer, lambda node: shell.places(node, deadline(ASK)))
        mons = told_by(run.observer, lambda node: shell.mons(node, deadline(ASK)))
        found: dict[str, set[str]] = {name: set() for name in run.site.nodes.names}
        for osd, place in places.items():
            if place.host in found and osd in known:
                found[place.host].add(known[osd].back if network == CLUSTER else known[osd].public)
        if network != CLUSTER:
            for name, address in mons.addresses.items():
                found.get(name, set()).add(address)
        services = run.site.cluster.guests(deadline(READ))
        with run.break_with(
            lambda tag: CephNetworkCut(
                tag,
                victim.name,
                network,
                tuple((name, tuple(sorted(some - {""}))) for name, some in sorted(found.items()) if some),
                tuple((osd, known[osd].weight) for osd in sorted(places) if places[osd].host == victim.name),
                mon=victim.name in mons.names,
                cidr=run.site.ceph_networks.get(network, ""),
                guests=tuple(sorted(sid for sid, row in services.items() if row.node == victim.name)),
                echoed=_echoed(run.site, victim, found[victim.name] - {""}),
            ),
            CephNetworkCut.kind,
            (victim.name,),
            parse_duration(at_most),
            dies=False,
        ):
            yield

    @contextmanager
    def noout(self, sake: Node, *, at_most: str = "120 min") -> Iterator[None]:
        """Ceph marks nothing out while open, as before work on that node."""
        with self._ceph_run.break_with(
            lambda tag: NooutSet(sake.name), NooutSet.kind, (sake.name,), parse_duration(at_most), dies=False
        ):
            yield


def _echoed(site: Site, victim: Node, addresses: Collection[str]) -> bool:
    """Whether another node has an answer to its echoes from each of these addresses."""
    for node in site.nodes - {victim}:
        try:
            return bool(addresses) and all(
                [echoes(node, one, ECHOES, ECHO_EVERY, site.clock.deadline(READ)).times for one in sorted(addresses)]
            )
        except SiteError:
            continue
    return False


def _osd_map(observer: Observer) -> OsdMap:
    return told_by(observer, lambda node: shell.osd_map(node, observer.site.clock.deadline(ASK)))


def osds_on(observer: Observer, node: Node) -> tuple[OsdDaemon, ...]:
    """The OSDs that stand on that node, up and in."""
    deadline = observer.site.clock.deadline
    known = _osd_map(observer).osds
    places = told_by(observer, lambda one: shell.places(one, deadline(ASK)))
    return tuple(
        OsdDaemon(osd, node.name, known[osd].up_from)
        for osd, place in sorted(places.items())
        if place.host == node.name and osd in known and known[osd].up and known[osd].in_
    )


# --- what is foretold ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outlook:
    """What Ceph's maps foretell of a loss, and what of it can be waited for."""

    told: Prediction
    down_out: float
    """Seconds after which what is down is marked out; 0: never."""
    mons: tuple[str, ...]
    """Those that are left."""

    @property
    def out_within(self) -> str:
        """By then what is down is out."""
        return f"{(self.down_out or 600.0) + SLACK:.0f} s"

    @property
    def unproven(self) -> str:
        """Why the end of the rebuild is not proven; empty where it is waited for."""
        if not self.told.clean_again:
            return f"it cannot become clean without what was lost: {self.told.in_words}"
        if self._too_long:
            minutes = self.told.seconds() / 60
            return (
                f"the rebuild of {self.told.rebuild_bytes / 2**30:.0f} GiB is foretold to take {minutes:.0f} min, by "
                f"{ASSUMED_RATE / 2**20:.0f} MiB/s for each OSD that takes part; its first {WATCHED / 60:.0f} min were "
                f"watched"
            )
        return ""

    @property
    def nothing_to_copy(self) -> str:
        """Why no copies are made while the OSD is away; empty where they are."""
        return "" if self.told.clean_again and self.told.rebuild_bytes else self.unproven or self.told.in_words

    @property
    def _too_long(self) -> bool:
        return self.told.seconds() > WINDOW

    @property
    def mended_within(self) -> str:
        """By then it is as far as can be waited for."""
        return f"{(WATCHED if self._too_long else max(WINDOW, LATE * self.told.seconds())) + SLACK:.0f} s"

    def given_up(self, osd: OsdDaemon) -> Condition:
        """The mons have marked it out by themselves; where they leave in what is lost, all is as foretold still."""
        return ceph.as_predicted(self.told) if osd.id in self.told.stays_in else ceph.marked_out(osd)

    def begun(self) -> Condition:
        """The rebuild has begun by itself, where there is a place for what was lost; else all is as foretold still."""
        return ceph.rebuilding() if self.told.clean_again else ceph.as_predicted(self.told)

    def mended(self) -> Condition:
        """Ceph has mended itself as far as it can and as can be waited for, without what was lost."""
        if not self.told.clean_again:
            return ceph.as_predicted(self.told)
        return progress(WATCHED) if self._too_long else ceph.clean()


def progress(seconds: float) -> Condition:
    """So long something has been rebuilt, and less is lacking than before."""
    seen: list[tuple[int, int]] = []

    def ask(observer: Observer) -> Answer:
        observer.look()
        found = ceph_map.status(observer)
        now = observer.site.clock.now().mono
        if found.clean:
            return ceph.rebuilt(observer, found)
        lacking = found.degraded + found.misplaced
        seen.append((now, lacking))
        begin, least = seen[0]
        if now - begin < seconds * SECOND or lacking >= least:
            return no(f"{lacking} copies lacking, {least} at first")
        rate = (least - lacking) / ((now - begin) / SECOND)
        return yes(
            f"{least - lacking} copies made in {(now - begin) / SECOND:.0f} s, {rate:.1f} a second; {lacking} to go"
        )

    return Condition(f"it is rebuilt for {seconds / 60:.0f} min", ask)


def outlook(observer: Observer, *nodes: Node, osds: tuple[OsdDaemon, ...] = (), noout: bool = False) -> Outlook:
    """What is foretold of the loss of all OSDs and mons of these nodes, and of these OSDs besides.

    Raises:
        SiteError: Ceph does not tell its maps.
    """
    maps = ceph_map.read(observer)
    deadline = observer.site.clock.deadline
    lost = _lost(maps, nodes) | {osd.id for osd in osds}
    found = told_by(observer, lambda node: shell.mons(node, deadline(ASK)))
    names = {node.name for node in nodes}
    return Outlook(
        without(maps, lost, noout=noout),
        _down_out(observer),
        tuple(name for name in found.quorum if name not in names),
    )


def _lost(maps: CephMap, nodes: tuple[Node, ...]) -> frozenset[int]:
    return maps.osds_of("host", *(node.name for node in nodes))


def _down_out(observer: Observer) -> float:
    try:
        return told_by(observer, lambda node: shell.down_out_interval(node, observer.site.clock.deadline(ASK)))
    except SiteError:
        return 600.0  # as shipped
