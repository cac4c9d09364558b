"""OSDs as the map has them: how one is missed, called down, taken out, and called up again.

A daemon that is gone while its machine answers is refused at once, and reported as that; one that is silent is missed
by the others' heartbeats for 20 s (osd_heartbeat_grace), and enough of them, on two hosts, have to say so
(mon_osd_min_down_reporters, mon_osd_reporter_subtree_level). Source: Ceph's documentation, "Configuring monitor/OSD
interaction". Measured on Pacific (real daemons on one machine): down 0.6 s after kill -9, worst stall 2.1 to 2.5 s;
after the loss of both networks of a host down at 27.2 s, stall 28.2 s, and 7.6 s more after the heal; after the loss of
the cluster network alone a stall of 25 s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world.ceph.model import Osd

if TYPE_CHECKING:
    from pytest_pveha.sim.world.ceph.cluster import Ceph

REFUSED, SILENT = "refused", "silent"
_REPORTERS = 2
_NOTICED = {REFUSED: (0.6, 1.3), SILENT: (20.5, 26.5)}
_FORGIVING = 10.0
"""How many times as long a silent OSD is waited for where a defect makes it so."""
_BEACON = 900.0
"""mon_osd_report_timeout: without a word for so long the mons call it down by themselves."""
_GONE = (0.6, 1.2)
"""Peering after OSDs were called down: to be served again after a kill takes 1.2 to 2.5 s in all."""
_STARTED = (0.8, 1.6)
_REJOINED = (5.0, 8.0)
"""Peering after OSDs that were cut off are back."""
_HEALTHY = (1.0, 6.0)
"""A cut-off OSD hears the others again with their next heartbeats, and says that it is there."""
_HEALTHY_RATIO = 1 / 3
"""osd_heartbeat_min_healthy_ratio: hearing fewer peers, an OSD that was called down does not come back."""
_LINGERS = (62.0, 80.0)
"""After it is back it goes on complaining of slow requests (measured: longer than 60 s)."""
_LEAST_IN = 0.75
"""mon_osd_min_in_ratio."""


class Osds:
    """The OSDs of one cluster, and the mons' opinion of them."""

    def __init__(self, ceph: Ceph) -> None:
        self._ceph = ceph
        self._drawn: dict[str, float] = {}
        self._drawn_at = -1

    def follow(self) -> None:
        """Somebody died, came, was cut off or is heard again."""
        for osd in self._ceph.osds.values():
            if osd.up:
                self._watch(osd)
            else:
                self._unwatch(osd)
                self._await(osd)

    # called up, and not there

    def _watch(self, osd: Osd) -> None:
        """Whoever misses it counts the seconds, from when they are enough to be believed."""
        fault, reporters = self._fault(osd)
        if reporters >= (1 if fault == REFUSED else _REPORTERS):
            watching = "reports"
        elif fault and not (self._ceph.alive(osd) and self._ceph.reaches_mons(osd.host)):
            watching = "beacons"
        else:
            watching = ""
        if (osd.fault, osd.watching) == (fault, watching) and (osd.noticed is not None or not watching):
            return
        self._unwatch(osd)
        osd.fault, osd.watching = fault, watching
        if watching:
            seconds = self._patience(osd, fault) if watching == "reports" else _BEACON
            what = f"{osd.name} is missed ({watching})"
            osd.noticed = self._ceph.world.timeline.after(seconds, lambda: self._noticed(osd), what)

    def _patience(self, osd: Osd, fault: str) -> float:
        seconds = self._once(f"{osd.host} {fault}", _NOTICED[fault])
        return seconds * _FORGIVING if fault == SILENT and self._ceph.world.planted("osd-grace-too-long") else seconds

    def _once(self, what: str, bounds: tuple[float, float]) -> float:
        """Seconds between these bounds, the same for all that happens now and is called so: the OSDs of one host."""
        now = self._ceph.world.timeline.now
        if self._drawn_at != now:
            self._drawn_at = now
            self._drawn.clear()
        if what not in self._drawn:
            self._drawn[what] = self._ceph.rng.uniform(*bounds)
        return self._drawn[what]

    def _unwatch(self, osd: Osd) -> None:
        if osd.noticed is not None:
            osd.noticed.cancel()
        osd.noticed, osd.fault, osd.watching = None, "", ""

    def _fault(self, osd: Osd) -> tuple[str, int]:
        """Why others do not get an answer of it, and on how many hosts that is so."""
        ceph = self._ceph
        others = [host for host in ceph.crush.hosts() if host != osd.host and ceph.speaks(host)]
        if not ceph.alive(osd):
            heard = [host for host in others if ceph.hears(host, osd.host)]
            if heard and ceph.refuses(osd):
                return REFUSED, len(heard)
            return SILENT, len([host for host in others if ceph.reaches_mons(host)])
        missing = [host for host in others if not ceph.hears(host, osd.host) and ceph.reaches_mons(host)]
        return (SILENT, len(missing)) if missing else ("", 0)

    def _noticed(self, osd: Osd) -> None:
        osd.noticed = None
        if not self._ceph.mons.working():
            self._ceph.mons.when_working(self.follow)
            return
        if "nodown" in self._ceph.flags | osd.flags:
            return
        self.down([osd])

    def down(self, osds: Iterable[Osd]) -> None:
        """The mons call these down."""
        ceph, timeline = self._ceph, self._ceph.world.timeline
        gone = [osd for osd in osds if osd.up]
        if not gone:
            return
        ceph.new_epoch()
        for osd in gone:
            self._unwatch(osd)
            osd.up, osd.changed, osd.down_at = False, timeline.now, ceph.epoch
            osd.rejoins = ceph.runs(osd) and not osd.starting
            ceph.world.truth("osd_down", {"osd": osd.number, "host": osd.host})
            timeline.after(ceph.spec.down_out_seconds, self.take_out, f"{osd.name} is taken out")
        ceph.groups.remap([group for osd in gone for group in osd.groups], ceph.rng.uniform(*_GONE))
        self.take_out()
        self.follow()
        ceph.changed_map()

    # called down, and there

    def _await(self, osd: Osd) -> None:
        """One that runs and hears enough of the others says that it is there."""
        if osd.returning is None and self._ready(osd):
            self.returns(osd, self._once(f"{osd.host} is back", _HEALTHY))

    def _ready(self, osd: Osd) -> bool:
        ceph = self._ceph
        return (
            ceph.alive(osd)
            and ceph.mons.working()
            and ceph.reaches_mons(osd.host)
            and "noup" not in ceph.flags | osd.flags
            and self._healthy(osd)
        )

    def returns(self, osd: Osd, seconds: float) -> None:
        """The daemon will have told the mons by then that it is there."""
        if osd.returning is not None:
            osd.returning.cancel()
        act, what = self._ceph.world.timeline.after, f"{osd.name} says that it is there"
        osd.returning = act(seconds, lambda: self._back(osd), what)

    def _back(self, osd: Osd) -> None:
        osd.returning, osd.starting = None, False
        if osd.up and osd.fault and self._ceph.runs(osd):
            self.down([osd])  # nobody has missed it yet, and its new life is another one to the mons
            osd.rejoins = False
        if osd.up:
            return
        if self._ready(osd):
            self.boot(osd)
        elif self._ceph.alive(osd):
            self._ceph.mons.when_working(self.follow)  # it goes on trying

    def _healthy(self, osd: Osd) -> bool:
        """Whether it hears enough of those that are up, if there are any."""
        peers = [one for one in self._ceph.osds.values() if one is not osd and one.up and self._ceph.alive(one)]
        heard = sum(self._ceph.hears(osd.host, one.host) for one in peers)
        if self._ceph.world.planted("cut-osds-flap"):
            return True
        return not peers or heard > len(peers) * _HEALTHY_RATIO

    def boot(self, osd: Osd) -> None:
        """The mons call it up."""
        ceph, timeline = self._ceph, self._ceph.world.timeline
        cut = osd.rejoins
        ceph.new_epoch()
        osd.up, osd.changed, osd.up_from, osd.rejoins, osd.fault = True, timeline.now, ceph.epoch, False, ""
        if osd.auto_out and "noin" not in ceph.flags | osd.flags:
            osd.weight, osd.auto_out = 1.0, False
        if cut:
            osd.slow_until = timeline.now + round(ceph.rng.uniform(*_LINGERS) * SECOND)
        ceph.world.truth("osd_up", {"osd": osd.number, "host": osd.host})
        seconds = ceph.rng.uniform(*(_REJOINED if cut else _STARTED))
        ceph.groups.remap(ceph.concerned(osd), seconds)
        self.follow()
        ceph.changed_map()

    # out and in

    def take_out(self) -> None:
        """Those that have been down for long enough are out, as far as that is allowed."""
        ceph, now = self._ceph, self._ceph.world.timeline.now
        if "noout" in ceph.flags or not ceph.mons.working():
            return
        limit = round(ceph.spec.down_out_seconds * SECOND)
        due = [osd for osd in ceph.osds.values() if not osd.up and osd.is_in and now - osd.changed >= limit]
        out = []
        for osd in due:
            share = sum(one.is_in for one in ceph.osds.values()) / len(ceph.osds)
            if share < _LEAST_IN or "noout" in osd.flags or self._whole_room_down(osd):
                continue
            osd.weight, osd.auto_out = 0.0, True
            out.append(osd)
        if out:
            self._moved(out, "osd_out")
            for osd in out:
                ceph.progress.begin(f"Rebalancing after osd.{osd.number} marked out")

    def _whole_room_down(self, osd: Osd) -> bool:
        """mon_osd_down_out_subtree_limit: when all of a room is down, nothing of it is taken out."""
        rooms = self._ceph.crush.rooms()
        room = self._ceph.crush.places[osd.number].room
        members = [one for one in self._ceph.osds.values() if self._ceph.crush.places[one.number].room == room]
        return len(rooms) > 1 and not any(one.up for one in members)

    def set_in(self, osds: Iterable[Osd], is_in: bool) -> None:
        """Somebody has taken these in, or out."""
        moved = [osd for osd in osds if osd.is_in is not is_in]
        for osd in moved:
            osd.weight, osd.auto_out = (1.0 if is_in else 0.0), False
        if moved:
            self._moved(moved, "osd_in" if is_in else "osd_out")
            word = "in" if is_in else "out"
            for osd in moved:
                self._ceph.progress.begin(f"Rebalancing after osd.{osd.number} marked {word}")

    def reweight(self, osd: Osd, weight: float) -> None:
        """Somebody has given it another weight. Of how much lies on it only all or nothing is played."""
        if osd.weight != weight:
            osd.weight, osd.auto_out = weight, False
            self._moved([osd], "osd_reweighted")

    def _moved(self, osds: list[Osd], what: str) -> None:
        ceph = self._ceph
        ceph.new_epoch()
        for osd in osds:
            ceph.world.truth(what, {"osd": osd.number, "host": osd.host})
        ceph.groups.remap([group for osd in osds for group in ceph.concerned(osd)], ceph.rng.uniform(*_GONE))
        ceph.changed_map()
