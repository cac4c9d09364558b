"""Faults of Ceph: an OSD that dies or is lost, a network of its own that is cut, a flag that keeps it from healing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import ClassVar

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults import rules
from pytest_pveha.faults.fault import Danger, DeadMan, Reach, Undo
from pytest_pveha.faults.network import check_addresses, check_free, none_left, take_back
from pytest_pveha.handles.ceph import shell
from pytest_pveha.handles.ceph.daemon import osd_unit
from pytest_pveha.handles.ceph.maps import OsdMap
from pytest_pveha.handles.echo import echoes
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.shell import ShellLine, quote, whatever_comes
from pytest_pveha.handles.units import giving_back
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.ceph_map import ASK, told_by
from pytest_pveha.observe.observer import READ, Observer

STOP = 100.0
"""Seconds an OSD may take to stop: systemd kills it after 90 (DefaultTimeoutStopSec)."""

STEADY = 45.0
"""Seconds that an OSD must have been up until it is called healed: a damaged one dies again while it recovers."""

ECHOES, ECHO_EVERY = 3, 0.2
"""So many echoes, so many seconds apart, are asked of a node that is cut off."""

CLUSTER, PUBLIC = "cluster", "public"


@dataclass(frozen=True, slots=True)
class OsdKilled:
    """An OSD's process is killed without a word, as the kernel does when memory runs out.

    Blast radius: the OSD, until its unit's restart policy starts it again. Undo: it is started, and in with its weight.
    """

    kind: ClassVar[str] = "osd-killed"
    family: ClassVar[str] = "storage"
    danger: ClassVar[Danger] = Danger.STORAGE
    undo: ClassVar[str] = (
        "on the OSD's node: systemctl unmask --runtime ceph-osd@N; systemctl reset-failed ceph-osd@N; "
        "systemctl start ceph-osd@N; ceph osd in N"
    )

    node: str
    osd: int
    pid: int
    """Its main process before."""
    weight: float = 1.0
    """What it was reweighted to."""

    @property
    def reach(self) -> Reach:
        return Reach(frozenset(), costs_membership=False, osds=frozenset({self.osd}))

    def preflight(self, observer: Observer) -> None:
        _preflight(observer, self.node, self.osd, self.pid)

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        return _dead_man(observer, self.node, self.osd, self.weight)

    def inject(self, observer: Observer) -> None:
        node = observer.site.nodes[self.node]
        node.act(observer.site.clock.deadline(READ), "systemctl", "kill", "-s", "KILL", osd_unit(self.osd))

    def took_effect(self, observer: Observer) -> Answer:
        """The process is gone, by the node's process table."""
        return _process_gone(observer, self.node, self.osd, self.pid)

    def heal(self, observer: Observer) -> None:
        _bring_back(observer, self.node, (self.osd,), {self.osd: self.weight})

    def healed(self, observer: Observer) -> Answer:
        return _up_and_in(observer, self.node, {self.osd: self.weight})


@dataclass(frozen=True, slots=True)
class OsdLost:
    """An OSD is stopped, and nothing starts it: as a disk that died.

    Blast radius: the OSD; after mon_osd_down_out_interval its data is rebuilt elsewhere. Undo: it is started, and in
    with its weight. That mons marked it out survives a reboot.
    """

    kind: ClassVar[str] = "osd-lost"
    family: ClassVar[str] = "storage"
    danger: ClassVar[Danger] = Danger.STORAGE
    undo: ClassVar[str] = OsdKilled.undo

    node: str
    osd: int
    pid: int
    """Its main process before."""
    weight: float = 1.0
    """What it was reweighted to."""

    @property
    def reach(self) -> Reach:
        return Reach(frozenset(), costs_membership=False, osds=frozenset({self.osd}))

    def preflight(self, observer: Observer) -> None:
        _preflight(observer, self.node, self.osd, self.pid)

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        return _dead_man(observer, self.node, self.osd, self.weight)

    def inject(self, observer: Observer) -> None:
        observer.site.nodes[self.node].units.take_away(osd_unit(self.osd), observer.site.clock.deadline(STOP))

    def took_effect(self, observer: Observer) -> Answer:
        """The process is gone, by the node's process table, and Ceph calls the OSD down, by another node."""
        gone = _process_gone(observer, self.node, self.osd, self.pid)
        if gone.verdict != "yes":
            return gone
        if _map(observer, self.node).osds[self.osd].up:
            return no(f"Ceph still calls osd.{self.osd} up")
        return yes(f"{gone.saw}, and Ceph calls osd.{self.osd} down")

    def heal(self, observer: Observer) -> None:
        _bring_back(observer, self.node, (self.osd,), {self.osd: self.weight})

    def healed(self, observer: Observer) -> Answer:
        return _up_and_in(observer, self.node, {self.osd: self.weight})


@dataclass(frozen=True, slots=True)
class CephNetworkCut:
    """A node and the others do not hear each other on Ceph's cluster network, or on its public one.

    Blast radius: the node's OSDs, which are called down after some 25 s; on the public network its mon, too, and the
    disks of the guests that run there. Undo: the rules are taken back; OSDs that gave up meanwhile are started.
    """

    kind: ClassVar[str] = "ceph-network-cut"
    family: ClassVar[str] = "network"
    danger: ClassVar[Danger] = Danger.NETWORK
    undo: ClassVar[str] = (
        "on every node: nft delete table inet TAG (with _ for -), or iptables -D INPUT -j TAG; iptables -D OUTPUT -j "
        "TAG; iptables -F TAG; iptables -X TAG; then systemctl start ceph-osd@N where one does not run"
    )

    tag: str
    node: str
    network: str
    """``cluster`` or ``public``."""
    addresses: tuple[tuple[str, tuple[str, ...]], ...]
    """Each node's addresses on it."""
    osds: tuple[tuple[int, float], ...]
    """The node's OSDs, each with what it was reweighted to."""
    mon: bool = False
    """Whether a mon stands on the node."""
    cidr: str = ""
    """The network as the inventory declares it; empty where it does not."""
    guests: tuple[str, ...] = ()
    """Those that run on the node: on the public network their disks are cut off."""
    echoed: bool = False
    """Whether the node answered another one's echoes there: only then does its silence say something."""

    @property
    def reach(self) -> Reach:
        public = self.network == PUBLIC
        return Reach(
            frozenset(),
            costs_membership=False,
            osds=frozenset(osd for osd, _ in self.osds),
            mons=frozenset({self.node}) if self.mon and public else frozenset(),
            guests=frozenset(self.guests) if public else frozenset(),
        )

    def preflight(self, observer: Observer) -> None:
        """It is a network of Ceph's own, as far as we and corosync are concerned, and nobody has rules of ours."""
        if not self.osds:
            raise PreflightRefused(
                f"no OSD stands on {self.node}: a cut of Ceph's {self.network} network proves nothing"
            )
        for name, known in self.addresses:
            check_addresses(name, known, f"Ceph's {self.network} network")
            for one in known:
                if self.cidr and ip_address(one) not in ip_network(self.cidr, strict=False):
                    raise PreflightRefused(
                        f"the inventory says that Ceph's {self.network} network is {self.cidr}, and {name} uses {one} "
                        f"there; correct `networks.ceph_{self.network}`"
                    )
        if what := _carries(observer, self._carried):
            raise PreflightRefused(
                f"Ceph's {self.network} network is not cut: it carries {what} too, and that would be lost with it"
            )
        check_free(observer, self.tag, [name for name, _ in self.addresses])
        _all_up(observer, self.node, [osd for osd, _ in self.osds])

    def _carried(self, address: str) -> bool:
        """Whether that address is on the network that is cut."""
        one = ip_address(address)
        inside = bool(self.cidr) and one in ip_network(self.cidr, strict=False)
        return inside or any(one == ip_address(each) for _, known in self.addresses for each in known)

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """Every node takes its own rules back, and the node starts what gave up. A reboot does the same."""
        script = rules.undo_script(self.tag)
        own = (*script, *(line for osd, weight in self.osds for line in _undo(osd, weight)))
        names = [name for name, _ in self.addresses]
        return DeadMan.on_every(*(Undo(name, own if name == self.node else script) for name in names))

    def inject(self, observer: Observer) -> None:
        others = tuple(one for name, known in self.addresses if name != self.node for one in known)
        mine = dict(self.addresses)[self.node]
        for name, _ in self.addresses:
            traffic = rules.Traffic(others if name == self.node else mine)
            rules.put(observer.site.nodes[name], self.tag, traffic, deadline=observer.site.clock.deadline(READ))

    def took_effect(self, observer: Observer) -> Answer:
        """No other node's echoes are answered there; where they never were, Ceph calls an OSD of that node down."""
        observer.look()  # whoever watches goes on watching meanwhile
        if self.echoed:
            return self._unheard(observer)
        down = [osd for osd, _ in self.osds if not _map(observer, self.node).osds[osd].up]
        if not down:
            return no(f"Ceph calls every OSD of {self.node} up")
        return yes(
            f"Ceph calls osd.{', osd.'.join(map(str, down))} of {self.node} down",
            (observer.broken_at, observer.site.clock.now().mono),
        )

    def _unheard(self, observer: Observer) -> Answer:
        """Whether none of the others hears the node on that network, as the kernels' own echoes tell."""
        site, trouble, asked = observer.site, [], []
        mine = dict(self.addresses)[self.node]
        for name, address in ((name, one) for name, _ in self.addresses if name != self.node for one in mine):
            try:
                heard = echoes(site.nodes[name], address, ECHOES, ECHO_EVERY, site.clock.deadline(READ)).times
            except SiteError as error:
                trouble.append(str(error))
                continue
            if heard:
                return no(f"{name} hears {self.node} at {address}")
            asked.append(name)
        if not asked:
            return cant_tell(f"no node could say whether it hears {self.node}: {'; '.join(trouble)[:300]}")
        return yes(
            f"{', '.join(asked)} hear nothing of {self.node} on Ceph's {self.network} network",
            (observer.broken_at, site.clock.now().mono),
        )

    def heal(self, observer: Observer) -> None:
        take_back(observer, self.tag, [name for name, _ in self.addresses], ())
        _bring_back(observer, self.node, [osd for osd, _ in self.osds], dict(self.osds))

    def healed(self, observer: Observer) -> Answer:
        gone = none_left(observer, self.tag, tuple(name for name, _ in self.addresses), ())
        return gone if gone.verdict != "yes" else _up_and_in(observer, self.node, dict(self.osds))


@dataclass(frozen=True, slots=True)
class NooutSet:
    """Ceph marks nothing out, as before work on a node.

    Blast radius: nothing; what is lost meanwhile is not rebuilt. Undo: the flag is taken away. Survives reboots.
    """

    kind: ClassVar[str] = "noout"
    family: ClassVar[str] = "storage"
    danger: ClassVar[Danger] = Danger.CEPH_FLAGS
    undo: ClassVar[str] = "on any node: ceph osd unset noout"

    victim: str = ""
    """The node for whose sake it is set."""

    @property
    def reach(self) -> Reach:
        return Reach(frozenset(), costs_membership=False, flags=frozenset({"noout"}))

    def preflight(self, observer: Observer) -> None:
        try:
            flags = _map(observer).flags
        except SiteError as error:
            raise PreflightRefused(f"Ceph's flags cannot be told, so none is set: {error}") from error
        if "noout" in flags:
            raise PreflightRefused("noout is set already: whose it is is not known, and it would not be taken away")

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """Two nodes, in different failure domains where there are any, take it away."""
        nodes = observer.site.nodes
        room = nodes[self.victim].room if self.victim else ""
        others = sorted((node for node in nodes if node.name != self.victim), key=lambda node: node.room == room)
        script = (quote(*shell.words("osd", "unset", "noout")),)
        undos = tuple(Undo(node.name, script, outlives_reboot=True) for node in others)
        return DeadMan(undos, min(2, len(undos)))

    def inject(self, observer: Observer) -> None:
        _by_any(observer, lambda node: shell.set_flag(node, "noout", observer.site.clock.deadline(ASK)))

    def took_effect(self, observer: Observer) -> Answer:
        return yes("noout is set") if self._set(observer) else no("noout is not set")

    def heal(self, observer: Observer) -> None:
        if self._set(observer):
            _by_any(observer, lambda node: shell.unset_flag(node, "noout", observer.site.clock.deadline(ASK)))

    def healed(self, observer: Observer) -> Answer:
        return no("noout is still set") if self._set(observer) else yes("noout is not set")

    def _set(self, observer: Observer) -> bool:
        return "noout" in _map(observer, *observer.site.nodes.names[:1]).flags


# --- what they share -------------------------------------------------------------------------------------------------


def _map(observer: Observer, *but: str) -> OsdMap:
    """The OSD map as a node tells it, those named being asked last."""
    return told_by(observer, lambda node: shell.osd_map(node, observer.site.clock.deadline(ASK)), but)


def _by_any(observer: Observer, act: Callable[[Node], None]) -> None:
    """The first node that can did it."""
    told_by(observer, act)


def _preflight(observer: Observer, name: str, osd: int, pid: int) -> None:
    """The OSD's unit runs on that node as that process, and Ceph calls it up and in; PreflightRefused otherwise."""
    node, unit = observer.site.nodes[name], osd_unit(osd)
    try:
        active = node.units.active(unit, observer.site.clock.deadline(READ))
        running = pid in node.pids(observer.site.clock.deadline(READ))
    except SiteError as error:
        raise PreflightRefused(f"osd.{osd} on {name} is not broken: {error}") from error
    if not (active and pid and running):
        raise PreflightRefused(f"{unit} on {name} does not run; there is nothing to break")
    _all_up(observer, name, [osd])


def _all_up(observer: Observer, name: str, osds: Iterable[int]) -> None:
    try:
        known = _map(observer, name).osds
    except SiteError as error:
        raise PreflightRefused(f"whether the OSDs of {name} are up cannot be told: {error}") from error
    if bad := [f"osd.{osd}" for osd in osds if osd not in known or not (known[osd].up and known[osd].in_)]:
        raise PreflightRefused(f"{', '.join(bad)} of {name} is not up and in; repair that first")


def _process_gone(observer: Observer, name: str, osd: int, pid: int) -> Answer:
    if pid in observer.site.nodes[name].pids(observer.site.clock.deadline(READ)):
        return no(f"process {pid} of osd.{osd} still runs on {name}")
    return yes(f"process {pid} of osd.{osd} is gone on {name}")


def _bring_back(observer: Observer, name: str, osds: Iterable[int], weights: dict[int, float]) -> None:
    """What of them does not run was started, and what was marked out is in."""
    node = observer.site.nodes[name]
    for osd in osds:
        if not node.units.active(osd_unit(osd), observer.site.clock.deadline(READ)):
            node.units.give_back(osd_unit(osd), observer.site.clock.deadline(STOP))
    known = _map(observer).osds
    for osd, weight in weights.items():
        if osd in known and known[osd].weight != weight:
            _take_in(observer, osd, weight)


def _take_in(observer: Observer, osd: int, weight: float) -> None:
    _by_any(observer, lambda node: shell.take_in(node, osd, weight, observer.site.clock.deadline(2 * ASK)))


def _up_and_in(observer: Observer, name: str, weights: dict[int, float]) -> Answer:
    """Whether Ceph calls them up and in, as they weighed, and systemd has them running."""
    observer.look()  # whoever watches goes on watching meanwhile
    node, known = observer.site.nodes[name], _map(observer).osds
    for osd, weight in weights.items():
        if not node.units.active(osd_unit(osd), observer.site.clock.deadline(READ)):
            return no(f"{osd_unit(osd)} on {name} does not run")
        if osd not in known or not known[osd].up:
            return no(f"Ceph calls osd.{osd} down")
        if known[osd].weight != weight:
            return no(f"osd.{osd} weighs {known[osd].weight:g}, and was {weight:g}")
    asked, names = observer.site.clock.now(), f"osd.{', osd.'.join(map(str, weights))} of {name}"
    seen = f"osds_back/{name}"
    observer.note(seen, " ".join(f"{osd} since {known[osd].up_from}" for osd in weights), asked, asked, "ceph")
    began = observer.began(seen)
    if began is None or asked.mono - began < STEADY * SECOND:
        return no(f"{names}: up and in, and not for {STEADY:g} s yet")
    return yes(f"{names} runs, and is up and in as before")


def _undo(osd: int, weight: float) -> tuple[ShellLine, ...]:
    """The same as commands on its node."""
    return (*giving_back(osd_unit(osd)), *_in_again(osd, weight))


def _in_again(osd: int, weight: float) -> tuple[ShellLine, ...]:
    commands = [("osd", "in", str(osd)), *([("osd", "reweight", str(osd), f"{weight:g}")] if weight < 1 else [])]
    return tuple(whatever_comes(quote(*shell.words(*command))) for command in commands)


def _dead_man(observer: Observer, name: str, osd: int, weight: float) -> DeadMan:
    """Its node starts it and takes it in, and so it does after a restart; another node takes it in, too."""
    nodes = observer.site.nodes
    others = sorted(nodes - {nodes[name]}, key=lambda node: node.room == nodes[name].room)
    own = Undo(name, _undo(osd, weight), outlives_reboot=True)
    more = [Undo(node.name, _in_again(osd, weight), outlives_reboot=True) for node in others[:1]]
    return DeadMan.on_every(own, *more)


def _carries(observer: Observer, carried: Callable[[str], bool]) -> str:
    """What else is on that network: corosync, or our way in; empty where nothing of it is.

    Raises:
        PreflightRefused: that cannot be told.
    """
    site, deadline = observer.site, observer.site.clock.deadline
    try:
        rings = site.cluster.ring_addresses(deadline(READ))
        ways = {node.name: node.way(deadline(READ)).at for node in site.nodes}
    except SiteError as error:
        raise PreflightRefused(f"what else that network carries cannot be told, so it is not cut: {error}") from error
    for name, known in sorted(rings.items()):
        for one in known:
            if not _is_address(one):
                raise PreflightRefused(
                    f"corosync calls a link of {name} {one!r}, so it cannot be told whether it is cut"
                )
            if carried(one):
                return f"corosync ({name} at {one})"
    spoken = [*ways.items(), *((node.name, host) for node in site.nodes for host, _ in node.addresses)]
    for name, one in spoken:
        if _is_address(one) and carried(one):
            return f"our way to {name} ({one})"
    return ""


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
