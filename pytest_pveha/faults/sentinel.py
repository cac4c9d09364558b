"""Stop conditions: what ends a fault at once, because more is being lost than was meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import HarmSeen, SiteError, StopAsked
from pytest_pveha.faults.fault import Reach
from pytest_pveha.handles.cluster import GuestRow, Membership
from pytest_pveha.handles.site import Site
from pytest_pveha.observe.observer import READ, View

GUESTS_EVERY = 10 * SECOND
"""Nodes tell the cluster of their guests every ten seconds (pvestatd); asking more often shows nothing new."""

PGS_EVERY = 10 * SECOND

PGS_PATIENCE = 30 * SECOND
"""Placement groups are inactive for some seconds while they peer after a loss; longer than this they are lost."""

FULL = frozenset({"OSD_FULL", "POOL_FULL"})
"""Health checks of Ceph at which nobody can write any more (Ceph's documentation, Health Checks)."""

A_READ = 0.5
"""Seconds of nothing after each reading of its own: with the two of each look the API has two a second at most."""

LATE = 60 * SECOND
"""How much later than its fault's end a node may still be lost to it: so long a watchdog takes to bite."""

DECIDES = 30 * SECOND
"""For so long a new membership of half of the nodes may wait for the quorum device's vote."""

_ENDS = "healed at once, the campaign ends"


@dataclass(slots=True, eq=False)
class Standing:
    """A fault in force; or one that was undone inside another, as long as what it took is not back."""

    name: str
    reach: Reach
    until: int
    """The moment (mono ns) at which it has been in force for longer than was declared."""
    undone: int | None = None
    """When (mono ns) it was."""
    away: bool = True
    """Whether its nodes are, or may be, lost."""
    fallen: set[str] = field(default_factory=set)
    """Once it is undone: the guests that it may have felled and that were not seen running since."""

    def fells(self, sid: str, home: str) -> bool:
        """Whether that guest, which ran there, may be down because of it."""
        return sid in self.fallen if self.undone is not None else home in self.reach.nodes or sid in self.reach.guests


class Sentinel:
    """Looks at every view while faults are in force, one inside another as they come.

    Args:
        stop_asked: why somebody wants the campaign to end, or None.
    """

    def __init__(self, site: Site, stop_asked: Callable[[], str | None]) -> None:
        self.site = site
        self._stop_asked = stop_asked
        self._standing: list[Standing] = []
        self._forget()

    def _forget(self) -> None:
        self._online: set[str] = set()
        """The nodes that were members before."""
        self._running: dict[str, GuestRow] = {}
        """The guests that ran before, wherever."""
        self._in_error: set[str] = set()
        """The HA services that were in error before."""
        self._missed: set[str] = set()
        """Those of which the API did not tell and whose processes were nowhere at the last look."""
        self._guests_at = 0
        self._pgs_at = 0
        self._inactive_since: int | None = None
        self._unquorate_since: int | None = None

    # --- what is in force ----------------------------------------------------------------------------------------

    def learn(self, view: View, guests: Mapping[str, GuestRow]) -> None:
        """The site as it is before the next fault is how it is to stay, and how it was before those in force."""
        if not self._standing:
            self._forget()
        if view.membership is not None:
            self._online |= {name for name, online in view.membership.online.items() if online}
        if view.manager is not None:
            self._in_error |= {sid for sid, row in view.manager.services.items() if row.state == "error"}
        self._running |= {sid: guest for sid, guest in guests.items() if guest.status == "running"}

    def begin(self, name: str, reach: Reach, at_most: float) -> None:
        """That is in force from now on, for so many seconds at most."""
        self._standing.append(Standing(name, reach, self.site.clock.now().mono + round(at_most * SECOND)))

    def end(self, name: str) -> None:
        """That was undone. What it took may still be on its way back, as long as anything else is in force."""
        for each in self._standing:
            if each.name == name and each.undone is None:
                each.fallen = {sid for sid, was in self._running.items() if each.fells(sid, was.node)}
                each.undone = self.site.clock.now().mono
        if all(each.undone is not None for each in self._standing):
            self._standing.clear()

    @property
    def standing(self) -> tuple[Reach, ...]:
        """What is, or may be, taken away now."""
        return tuple(each.reach for each in self._standing if each.away)

    @property
    def lost(self) -> frozenset[str]:
        """The nodes that are, or may be, lost now, where it is known which."""
        return frozenset().union(*(reach.nodes for reach in self.standing if not reach.sides))

    # --- looking -------------------------------------------------------------------------------------------------

    def __call__(self, view: View) -> None:
        """Return if all is as predicted. A part of the site that does not answer is no reason to stop: it may be meant.

        Raises:
            HarmSeen: a second node is gone, or quorum is; a guest fell that was not to, or HA gave one up; data is
                not served.
            StopAsked: a person or the consent's window ends the campaign, or it takes longer than was declared.
        """
        if (why := self._stop_asked()) is not None:
            raise StopAsked(f"stopped: {why}; what was broken is healed first")
        now = self.site.clock.now().mono
        for each in self._standing:
            if each.undone is None and now >= each.until:
                what = _names([each.reach])
                raise StopAsked(f"stopped: {what} has been broken for longer than was declared; it is healed at once")
        self._returned(view, now)
        self._membership(view)
        self._services(view)
        if now - self._guests_at >= GUESTS_EVERY:
            self._guests_at = now
            self._bystanders()
        elif self.site.has_ceph and not self._may_lose_data and now - self._pgs_at >= PGS_EVERY:
            self._pgs_at = now
            self._data(now)

    def _returned(self, view: View, now: int) -> None:
        """What was undone is no longer excused once its nodes are members again, and the cluster is quorate."""
        if view.membership is None or not view.membership.quorate:
            return
        gone = self._gone(view.membership)
        for each in self._standing:
            if each.undone is not None and now - each.undone >= LATE and not gone & each.reach.nodes:
                each.away = False

    def _gone(self, membership: Membership) -> set[str]:
        return {name for name in self._online if membership.online.get(name) is False}

    @property
    def _may_lose_data(self) -> bool:
        """Whether nodes are to be reset for want of quorum: their storage goes with them, and was agreed to."""
        return any(reach.about_quorum and not reach.brief for reach in self.standing)

    def _membership(self, view: View) -> None:
        if view.membership is None:
            return
        gone, reaches = self._gone(view.membership), self.standing
        ways = product(*(reach.sides or (reach.nodes,) for reach in reaches))
        lost = min((sorted(gone - frozenset().union(*way)) for way in ways), key=len)
        # with sides, whoever answers may be of the one that is lost
        meant = any(reach.about_quorum or reach.sides for reach in reaches)
        quorum = not view.membership.quorate and not meant
        if lost:
            raise HarmSeen(
                f"{', '.join(lost)} was lost too, while only {_names(reaches)} was to be"
                f"{', and with it quorum' if quorum else ''}: {_ENDS}"
            )
        if quorum and not self._undecided(reaches):
            raise HarmSeen(f"the cluster lost quorum, which was not to happen: {_ENDS}")
        if not quorum:
            self._unquorate_since = None

    def _undecided(self, reaches: tuple[Reach, ...]) -> bool:
        """Whether the quorum device has the last word, by the nodes that are to be left, and may not have said it.

        They are not quorate until it has voted, which it is waited for (corosync-qdevice(8), sync_timeout).
        """
        away = frozenset().union(*(reach.nodes for reach in reaches))
        now = self.site.clock.now().mono
        if self._unquorate_since is None:
            self._unquorate_since = now
        by_the_device = 2 * len(self._online - away) <= len(self._online)
        return by_the_device and now - self._unquorate_since < DECIDES

    def _services(self, view: View) -> None:
        if view.manager is None:
            return
        given_up = sorted(sid for sid, row in view.manager.services.items() if row.state == "error")
        ours = [sid for sid in given_up if sid in self.site.guests.sids and sid not in self._in_error]
        if ours:
            raise HarmSeen(f"HA gave up {', '.join(ours)} (state error): {_ENDS}")

    def _bystanders(self) -> None:
        """Guests that ran elsewhere. The list is what nodes last told, so whoever seems to be down is asked for."""
        protected = {
            sid: was
            for sid, was in self._running.items()
            if not any(each.fells(sid, was.node) for each in self._standing)
        }
        try:
            guests = self.site.cluster.guests(self.site.clock.deadline(READ))
        except SiteError:
            self._unlisted(protected)
            return
        self.site.clock.sleep(A_READ)
        self._recovered(guests)
        hidden = {}
        for sid, was in sorted(protected.items()):
            there = guests.get(sid)
            if there is None:
                raise HarmSeen(f"{sid} ran on {was.node} and is gone, while it was not to be touched: {_ENDS}")
            if there.status == "unknown":
                hidden[sid] = was
            elif there.status == "stopped" and not there.lock:
                if (down := self._is_down(sid, there.node)) is None:
                    hidden[sid] = was
                elif down:
                    where = f"ran on {was.node} and is stopped on {there.node}"
                    raise HarmSeen(f"{sid} {where}, while it was not to be touched: {_ENDS}")
        self._unlisted(hidden)

    def _unlisted(self, guests: Mapping[str, GuestRow]) -> None:
        """Guests of which the API does not tell: the nodes' own process tables do, where each of them can be read.

        Twice, for one that is just being moved may be missed on both sides once. A guest that runs and does not answer
        us is no reason to stop: that our own way to it is cut looks the same.
        """
        missed, self._missed = self._missed, set()
        if not guests or any(reach.sides for reach in self.standing):
            return
        here: set[str] = set()
        for node in self.site.nodes:
            if node.name in self.lost:
                continue
            try:
                here |= set(node.processes(self.site.clock.deadline(READ)).ages)
            except SiteError:
                return
        self._missed = {sid for sid in guests if sid not in here}
        if gone := sorted(self._missed & missed):
            homes = ", ".join(f"{sid} ran on {guests[sid].node}" for sid in gone)
            raise HarmSeen(
                f"{homes}, and no node that is left has its process, while it was not to be touched: {_ENDS}"
            )

    def _recovered(self, guests: Mapping[str, GuestRow]) -> None:
        """A guest that fell is no longer excused once its process was seen: the list may be of before it fell."""
        for each in self._standing:
            if each.away or not each.fallen:
                continue
            listed = {sid: row for sid in each.fallen if (row := guests.get(sid)) and row.status == "running"}
            for name in {row.node for row in listed.values()} & {*self.site.nodes.names}:
                try:
                    seen = self.site.nodes[name].processes(self.site.clock.deadline(READ)).ages
                except SiteError:
                    continue
                each.fallen -= {sid for sid, row in listed.items() if row.node == name and sid in seen}
                self._running |= {sid: row for sid, row in listed.items() if row.node == name and sid in seen}

    def _is_down(self, sid: str, node: str) -> bool | None:
        """Whether its node's API says so: one that has just come there is not told of yet. None: it says nothing."""
        try:
            status = self.site.cluster.guest_status(sid, node, self.site.clock.deadline(READ))
        except SiteError:
            return None
        self.site.clock.sleep(A_READ)
        return status == "stopped"

    def _data(self, now: int) -> None:
        try:
            status = self.site.ceph.status(self.site.clock.deadline(READ))
        except SiteError:
            return
        self.site.clock.sleep(A_READ)
        if full := sorted(FULL.intersection(status.checks)):
            raise HarmSeen(f"Ceph is full ({', '.join(full)}: {status.messages.get(full[0], '')}): {_ENDS}")
        if not status.inactive:
            self._inactive_since = None
        elif self._inactive_since is None:
            self._inactive_since = now
        elif now - self._inactive_since >= PGS_PATIENCE:
            raise HarmSeen(
                f"{status.inactive} of {sum(status.pgs.values())} placement groups have served no data for "
                f"{(now - self._inactive_since) / SECOND:.0f} s: {_ENDS}"
            )


def _names(reaches: Iterable[Reach]) -> str:
    names: set[str] = set()
    return ", ".join(sorted(names.union(*(reach.nodes | reach.guests | reach.hung for reach in reaches)))) or "nobody"
