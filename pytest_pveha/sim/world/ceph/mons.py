"""Mons and managers: who is in quorum, who leads, and which manager is active.

The mons that all hear each other and are a majority elect the one of the lowest rank: two rooms that both hear the
tiebreaker, and not each other, are no quorum together, and the one that is first has it. A lost one is missed for some
seconds (mon_lease 5 s, acknowledged within 10 s); until then nothing is changed, and what is asked is answered as it
was. A standby manager takes over when the active one has sent no beacon for 30 s (mon_mgr_beacon_grace). Source:
Ceph's documentation; the mons' 5 to 10 s are not measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.timeline import Event
from pytest_pveha.sim.world.ceph.model import Mon

if TYPE_CHECKING:
    from pytest_pveha.sim.world.ceph.cluster import Ceph

_MISSED = (5.0, 10.0)
_JOINS = (2.0, 5.0)
_TAKES_OVER = (30.0, 34.0)
_SKEW = 0.05
"""mon_clock_drift_allowed."""


class Mons:
    """The mons of one cluster."""

    def __init__(self, ceph: Ceph, mons: list[Mon]) -> None:
        self._ceph = ceph
        self.all = {mon.name: mon for mon in mons}
        self.quorum: tuple[str, ...] = tuple(self.all)
        """Of the last election, by rank."""
        self.epoch = 2 * ceph.rng.randint(8, 40)
        self.since = 0
        self._election: Event | None = None
        self._wanted = self.quorum
        self._waiting: list[Callable[[], None]] = []

    @property
    def leader(self) -> Mon | None:
        """Who leads, None without a quorum."""
        return self.all[self.quorum[0]] if self.quorum else None

    def alive(self, mon: Mon) -> bool:
        """Whether its daemon runs."""
        if not mon.node:
            return True
        node = self._ceph.world.nodes[mon.node]
        unit = node.units.get(mon.unit)
        return node.running and unit is not None and unit.active and not node.stopped(mon.unit)

    def talk(self, one: Mon, other: Mon) -> bool:
        """Whether two mons hear each other."""
        return one is other or self._ceph.network.mons_talk(one, other)

    def working(self) -> bool:
        """Whether there is a quorum, and it acts."""
        leader = self.leader
        if leader is None or not self.alive(leader):
            return False
        heard = [name for name in self.quorum if self.alive(self.all[name]) and self.talk(leader, self.all[name])]
        return 2 * len(heard) > len(self.all)

    def reached_from(self, host: str, *, in_its_room: bool = False) -> bool:
        """Whether whoever is on that host gets answers: it reaches a mon that is in a quorum which acts.

        In stretch mode OSDs speak to the mons of their own room alone (Ceph's documentation, "Stretch clusters").
        """
        room = self._ceph.world.nodes[host].spec.room
        mons = [self.all[name] for name in self.quorum if not in_its_room or self.all[name].room == room]
        return self.working() and any(self.alive(mon) and self._ceph.network.reaches_mon(host, mon) for mon in mons)

    def state(self, mon: Mon) -> str:
        """What it says of itself to whoever asks on its machine: leader, peon, or probing while in no quorum."""
        leader = self.leader
        if (
            leader is None
            or mon.name not in self.quorum
            or (self._wanted != self.quorum and mon.name not in self._wanted)
        ):
            return "probing"
        return "leader" if mon is leader else "peon"

    def heard_from(self, host: str) -> bool:
        """Whether a mon of the last quorum takes questions from that host: it does until the loss is noticed.

        Measured on 16.2.15: with two of three mons gone the third answers for 9 s more, as if all were there.
        """
        network = self._ceph.network
        return any(self.alive(self.all[name]) and network.reaches_mon(host, self.all[name]) for name in self.quorum)

    def when_working(self, act: Callable[[], None]) -> None:
        """Act once there is a quorum again."""
        if act not in self._waiting:
            self._waiting.append(act)

    def follow(self) -> None:
        """Somebody died, came, was cut off or is heard again: there may be an election."""
        wanted = self._majority()
        if wanted == self._wanted and (self._election is not None or wanted == self.quorum):
            self._tell_waiting()
            return
        self._wanted = wanted
        if self._election is not None:
            self._election.cancel()
            self._election = None
        if wanted == self.quorum:
            self._tell_waiting()
            return
        if not wanted:
            # those left go on probing, and nobody answers
            seconds = self._ceph.rng.uniform(*_MISSED)
        else:
            seconds = self._ceph.rng.uniform(*(_JOINS if set(self.quorum) <= {*wanted} else _MISSED))
        self._election = self._ceph.world.timeline.after(seconds, self._elected, "the mons have elected")

    def _majority(self) -> tuple[str, ...]:
        """The mons that could be in quorum together, by rank."""
        alive = [mon for mon in self.all.values() if self.alive(mon)]
        if self._ceph.world.planted("arbiters-disagree"):
            alive.reverse()
        best: list[Mon] = []
        for mon in alive:
            group = [mon]
            for other in alive:
                if other is not mon and all(self.talk(other, one) for one in group):
                    group.append(other)
            if 2 * len(group) > len(self.all) and len(group) > len(best):
                best = group
        return tuple(mon.name for mon in sorted(best, key=lambda mon: mon.rank))

    def _elected(self) -> None:
        self._election = None
        self.quorum = self._wanted
        self.epoch += 2
        self.since = self._ceph.world.timeline.now
        self._ceph.world.truth("mon_quorum", {"mons": list(self.quorum)})
        self._tell_waiting()
        self._ceph.changed_mons()

    def _tell_waiting(self) -> None:
        if self.working():
            waiting, self._waiting = self._waiting, []
            for act in waiting:
                act()

    def skewed(self) -> dict[str, float]:
        """The mons in quorum whose clocks are too far from the leader's, and by how much (s)."""
        offsets = {name: self._offset(self.all[name]) for name in self.quorum}
        first = offsets[self.quorum[0]] if self.quorum else 0.0
        return {name: offset - first for name, offset in offsets.items() if abs(offset - first) > _SKEW}

    def offsets(self) -> dict[str, float]:
        """Each mon's clock against the leader's, s."""
        first = self._offset(self.all[self.quorum[0]]) if self.quorum else 0.0
        return {name: self._offset(self.all[name]) - first for name in self.quorum}

    def _offset(self, mon: Mon) -> float:
        return self._ceph.world.nodes[mon.node].clock_offset if mon.node else 0.0


class Managers:
    """The managers of one cluster: one active, the others standing by."""

    def __init__(self, ceph: Ceph, hosts: list[str]) -> None:
        self._ceph = ceph
        self.hosts = hosts
        self.active = ceph.rng.choice(hosts) if hosts else ""
        self.epoch = ceph.rng.randint(10, 99)
        self.since = 0
        self._change: Event | None = None

    def alive(self, host: str) -> bool:
        """Whether the manager there runs and reaches the mons."""
        node = self._ceph.world.nodes[host]
        unit = node.units.get(f"ceph-mgr@{host}")
        runs = node.running and unit is not None and unit.active and not node.stopped(unit.name)
        return runs and self._ceph.mons.reached_from(host)

    @property
    def works(self) -> bool:
        """Whether somebody tells the mons how the placement groups are."""
        return bool(self.active) and self.alive(self.active)

    def standbys(self) -> list[str]:
        """Those that stand by."""
        return [host for host in self.hosts if host != self.active and self.alive(host)]

    def follow(self) -> None:
        """Somebody died, or is back."""
        if self.works:
            if self._change is not None:
                self._change.cancel()
                self._change = None
            return
        if self._change is None and (self.active or self.standbys()):
            seconds = self._ceph.rng.uniform(*_TAKES_OVER) if self.active else 1.0
            self._change = self._ceph.world.timeline.after(seconds, self._take_over, "a manager takes over")

    def _take_over(self) -> None:
        self._change = None
        if self.works:
            return
        if not self._ceph.mons.working():
            self._ceph.mons.when_working(self.follow)
            return
        ready = self.standbys()
        self.active = ready[0] if ready else ""
        self.epoch += 1
        self.since = self._ceph.world.timeline.now
        self._ceph.world.truth("mgr", {"active": self.active})
        self._ceph.digest.note()


def age(since: int, now: int) -> int:
    """Whole seconds from then to now."""
    return (now - since) // SECOND
