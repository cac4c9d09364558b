"""Stop conditions: what ends a fault at once, because more is being lost than was meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import HarmSeen, SiteError, StopAsked
from pytest_pveha.faults.fault import Reach
from pytest_pveha.handles.cluster import GuestRow
from pytest_pveha.handles.site import Site
from pytest_pveha.observe.observer import READ, Observer, View

GUESTS_EVERY = 10 * SECOND
"""Nodes tell the cluster of their guests every ten seconds (pvestatd); asking more often shows nothing new."""

PGS_EVERY = 10 * SECOND

PGS_PATIENCE = 30 * SECOND
"""Placement groups are inactive for some seconds while they peer after a loss; longer than this they are lost."""

A_READ = 0.5
"""Seconds of nothing after each reading of its own: with the two of each look the API has two a second at most."""

_ENDS = "healed at once, the campaign ends"


@dataclass(slots=True)
class Sentinel:
    """Looks at every view while a fault is in force.

    Args:
        online: the nodes that were members before it.
        stop_asked: why somebody wants the campaign to end, or None.
        running: the guests that ran before it, wherever.
        in_error: the HA services that were in error before it.
        until: the moment (mono ns) at which the fault has been in force for longer than was declared.
    """

    reach: Reach
    online: frozenset[str]
    stop_asked: Callable[[], str | None]
    site: Site
    running: dict[str, GuestRow] = field(default_factory=dict)
    in_error: frozenset[str] = frozenset()
    until: int | None = None
    _guests_at: int = field(default=0, init=False)
    _pgs_at: int = field(default=0, init=False)
    _inactive_since: int | None = field(default=None, init=False)

    def __call__(self, view: View) -> None:
        """Return if all is as predicted. A part of the site that does not answer is no reason to stop: it may be meant.

        Raises:
            HarmSeen: a second node is gone, or quorum is; a guest fell that was not to, or HA gave one up; data is
                not served.
            StopAsked: a person or the consent's window ends the campaign, or it takes longer than was declared.
        """
        if (why := self.stop_asked()) is not None:
            raise StopAsked(f"stopped: {why}; what was broken is healed first")
        now = self.site.clock.now().mono
        if self.until is not None and now >= self.until:
            raise StopAsked(
                f"stopped: {_names(self.reach)} has been broken for longer than was declared; it is healed at once"
            )
        self._membership(view)
        self._services(view)
        if now - self._guests_at >= GUESTS_EVERY:
            self._guests_at = now
            self._bystanders()
        elif self.site.has_ceph and now - self._pgs_at >= PGS_EVERY:
            self._pgs_at = now
            self._data(now)

    def _membership(self, view: View) -> None:
        if view.membership is None:
            return
        gone = {name for name in self.online if view.membership.online.get(name) is False}
        lost = min((sorted(gone - side) for side in self.reach.sides or (self.reach.nodes,)), key=len)
        # with sides, whoever answers may be of the one that is lost
        quorum = not view.membership.quorate and not self.reach.about_quorum and not self.reach.sides
        if lost:
            raise HarmSeen(
                f"{', '.join(lost)} was lost too, while only {_names(self.reach)} was to be"
                f"{', and with it quorum' if quorum else ''}: {_ENDS}"
            )
        if quorum:
            raise HarmSeen(f"the cluster lost quorum, which was not to happen: {_ENDS}")

    def _services(self, view: View) -> None:
        if view.manager is None:
            return
        given_up = sorted(sid for sid, row in view.manager.services.items() if row.state == "error")
        ours = [sid for sid in given_up if sid in self.site.guests.sids and sid not in self.in_error]
        if ours:
            raise HarmSeen(f"HA gave up {', '.join(ours)} (state error): {_ENDS}")

    def _bystanders(self) -> None:
        """Guests that ran elsewhere. The list is what nodes last told, so whoever seems to be down is asked for."""
        try:
            guests = self.site.cluster.guests(self.site.clock.deadline(READ))
        except SiteError:
            return
        self.site.clock.sleep(A_READ)
        for sid, was in sorted(self.running.items()):
            if was.node in self.reach.nodes or sid in self.reach.guests:
                continue
            there = guests.get(sid)
            if there is None:
                raise HarmSeen(f"{sid} ran on {was.node} and is gone, while it was not to be touched: {_ENDS}")
            if there.status == "stopped" and not there.lock and self._is_down(sid, there.node):
                raise HarmSeen(
                    f"{sid} ran on {was.node} and is stopped on {there.node}, while it was not to be touched: {_ENDS}"
                )

    def _is_down(self, sid: str, node: str) -> bool:
        """Whether its node, asked itself, says so: one that has just come there is not told of yet."""
        try:
            status = self.site.cluster.guest_status(sid, node, self.site.clock.deadline(READ))
        except SiteError:
            return False
        self.site.clock.sleep(A_READ)
        return status == "stopped"

    def _data(self, now: int) -> None:
        try:
            status = self.site.ceph.status(self.site.clock.deadline(READ))
        except SiteError:
            return
        self.site.clock.sleep(A_READ)
        if not status.inactive:
            self._inactive_since = None
        elif self._inactive_since is None:
            self._inactive_since = now
        elif now - self._inactive_since >= PGS_PATIENCE:
            raise HarmSeen(
                f"{status.inactive} of {sum(status.pgs.values())} placement groups have served no data for "
                f"{(now - self._inactive_since) / SECOND:.0f} s: {_ENDS}"
            )


def posted(
    observer: Observer, reach: Reach, stop_asked: Callable[[], str | None], until: int | None = None
) -> Sentinel:
    """A sentinel that knows the site as it is now, before the fault."""
    view = observer.look()
    members = view.membership.online.items() if view.membership is not None else ()
    services = view.manager.services.items() if view.manager is not None else ()
    guests = observer.site.cluster.guests(observer.site.clock.deadline(READ))
    return Sentinel(
        reach,
        frozenset(member for member, online in members if online),
        stop_asked,
        observer.site,
        {sid: guest for sid, guest in guests.items() if guest.status == "running"},
        frozenset(sid for sid, row in services if row.state == "error"),
        until,
    )


def _names(reach: Reach) -> str:
    return ", ".join(sorted(reach.nodes | reach.guests)) or "nobody"
