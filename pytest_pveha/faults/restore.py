"""The site as it was found again: what HA does not bring back by itself is asked for, then waited for."""

from __future__ import annotations

from contextlib import suppress

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import CantTell, HealFailed, NotMet, SiteError
from pytest_pveha.handles import leftovers
from pytest_pveha.observe.answer import Answer, Condition, Met, cant_tell, no, wait_until, yes
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.observe.settings import (
    BETWEEN,
    NOTHING,
    UNKNOWN,
    changed,
    is_ours_on,
    of_the_cluster,
    on_the_nodes,
    ours_in,
)
from pytest_pveha.observe.snapshot import Snapshot, closer, differences, outline

AGAIN = 60.0
"""Seconds before the same request is made again: an HA request takes a CRM round and an LRM round (≤ 20 s). Also how
often the nodes are searched while the cluster is not yet set as it was found: Ceph is clean again after hours."""

UNMANAGED = ("ignored", "disabled")
"""HA states of a service that HA leaves alone."""

PAUSE, TWENTIETH, SELDOM = 5.0, 20, 30.0
"""Seconds between looks while waiting for minutes; later a twentieth of the wait so far, and at most half a minute:
what takes an hour (Ceph's recovery) is not hurried by being asked, and no measure depends on it."""


def restore(observer: Observer, found: Snapshot, within: float) -> Met:
    """The site is as it was found: quorum, nodes, HA services and guests on their nodes, guests running that ran.

    How it is set is looked at once that is so: rules, flags, arm state, and what of ours stands on the nodes, which is
    removed. Only what carries our tag is.

    Raises:
        HealFailed: not within that time; says what differs.
    """
    clock = observer.site.clock
    asked: dict[str, int] = {}
    searched = _Search(observer, found)

    def ask(observer: Observer) -> Answer:
        try:
            now = outline(observer)
            rows = differences(found, now)
            if not rows:  # until then the nodes, which may be booting, need not be asked
                now = closer(observer, now)
                rows = differences(found, now)
        except SiteError as error:
            return cant_tell(str(error))
        if not rows and found.settings:
            cluster = of_the_cluster(observer)
            rows = changed(found.settings, {**ours_in(found.settings), **cluster})
            if not rows or searched.is_due:
                rows = changed(found.settings, {**searched.anew(), **cluster})
        if not rows:
            return yes("as found")
        if now.quorate and all(state == "online" for state in now.nodes.values()):
            _request(observer, found, now, asked)
        return no("; ".join(rows))

    with clock.shielded(), observer.undeterred():
        try:
            return wait_until(
                Condition("the site is as it was found", ask),
                within,
                observer,
                every=PAUSE,
                share=TWENTIETH,
                seldom=SELDOM,
            )
        except (NotMet, CantTell) as error:
            raise HealFailed(f"the site is DIRTY: {error}. Put it right by hand, then `pveha heal`.") from error


def _request(observer: Observer, found: Snapshot, now: Snapshot, asked: dict[str, int]) -> None:
    """Guests that are not where, or not as, they were found are moved or started, each at most once a minute.

    What did not run is never started. Guests without HA stay where they are: only their own node can start them.
    """
    site = observer.site
    present = site.clock.now().mono
    for sid, was in found.guests.items():
        if sid in asked and present - asked[sid] <= AGAIN * SECOND:
            continue
        status, node = was.split("@")
        is_status, is_node = now.guests.get(sid, "absent@").split("@")
        service = now.services.get(sid, "").partition("@")[0]
        managed = found.services.get(sid, "ignored@").partition("@")[0] not in UNMANAGED
        if managed and service == "started" and is_node != node:
            asked[sid] = present
            site.cluster.migrate(sid, node, site.clock.deadline(READ))
        elif managed and service == "error" and found.services[sid].startswith("started@"):
            asked[sid] = present  # the way out of it: disabled, and then started as any that is stopped
            site.cluster.request(sid, "disabled", site.clock.deadline(READ))
        elif status == "running" and is_status == "stopped" and (service == "stopped" if managed else is_node == node):
            asked[sid] = present
            site.cluster.start(sid, is_node, site.clock.deadline(READ))


class _Search:
    """What of ours stands on the nodes and did not before is looked for, and removed."""

    def __init__(self, observer: Observer, found: Snapshot) -> None:
        self._observer = observer
        self._before = found.settings
        self._there = [name for name, state in found.nodes.items() if state != "offline"]
        self._clock = observer.site.clock
        self._last: int | None = None

    @property
    def is_due(self) -> bool:
        """Whether the last one is a minute ago, or there was none."""
        return self._last is None or self._clock.now().mono - self._last > AGAIN * SECOND

    def anew(self) -> dict[str, str]:
        """What stood there; of that, what is ours has been removed: the next look says whether it is gone."""
        self._last = self._clock.now().mono
        ours, _ = on_the_nodes(self._observer, self._there)
        for node in self._observer.site.nodes:
            there = {setting: text for setting, text in ours.items() if is_ours_on(node.name, setting)}
            before = {item for setting in there for item in self._before.get(setting, "").split(BETWEEN)}
            here = {item for text in there.values() for item in text.split(BETWEEN)} - {NOTHING, UNKNOWN}
            for item in leftovers.in_order(frozenset(here - before)):
                self._observer.write("note", {"text": f"removed from {node.name}: {item}"})
                with suppress(SiteError):
                    leftovers.remove(node, item, self._clock.deadline(READ))
        return ours
