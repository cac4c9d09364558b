"""A thin Ceph on the nodes: two OSDs and a mon each, one pool (of size 3 and min_size 2 unless said), by hosts.

OSDs of a dead node are called down 20 to 25 s after its death and are up again some time after its boot; nothing is
re-replicated meanwhile, as with three hosts nothing can be. Shapes: Ceph's documentation (Pacific and later) and PVE's
REST schema; there are no OSDs, only what would be said of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world.model import Facts, Node

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

PER_NODE = 2
PGS = 129

_DOWN_AFTER = 15.0
"""Seconds after the membership's loss: heartbeats are missed for 20 s (osd_heartbeat_grace)."""
_UP_AFTER = 40.0


class Ceph:
    """The Ceph cluster of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._gone: set[str] = set()
        """Nodes whose OSDs were called down."""
        self.failed: set[int] = set()
        """OSDs whose disk died."""
        self.flags: set[str] = set()

    @property
    def there(self) -> bool:
        """Whether the site has Ceph at all."""
        return self._world.spec.ceph

    def lost(self, nodes: list[Node]) -> None:
        """Nodes died: their OSDs are called down when the heartbeats have been missed for long enough."""

        def down() -> None:
            self._gone |= {node.name for node in nodes if not node.running}

        self._world.timeline.after(_DOWN_AFTER, down, "OSDs are called down")

    def osds(self, node: Node) -> tuple[int, ...]:
        """The OSDs that stand on that node."""
        first = PER_NODE * sorted(self._world.nodes).index(node.name)
        return tuple(range(first, first + PER_NODE))

    def up(self) -> frozenset[int]:
        """The OSDs that are called up now."""
        self._gone -= {node.name for node in self._world.nodes.values() if self._back(node)}
        every = {osd for node in self._world.nodes.values() if node.name not in self._gone for osd in self.osds(node)}
        return frozenset(every - self.failed)

    def _back(self, node: Node) -> bool:
        booted = node.booted_at
        return node.running and booted is not None and self._world.timeline.now - booted >= _UP_AFTER * SECOND

    def mons(self) -> list[Node]:
        """The nodes on which mons stand; each mon is called like its node."""
        return [self._world.nodes[name] for name in sorted(self._world.nodes)][: self._world.spec.ceph_mons]

    def in_quorum(self) -> list[str]:
        """The mons that run, if they are a majority."""
        alive = [node.name for node in self.mons() if node.running]
        return alive if 2 * len(alive) > len(self.mons()) else []

    def pgs(self, up: frozenset[int]) -> dict[str, int]:
        """Number of placement groups by state, with those OSDs up."""
        found: dict[str, int] = {}
        for number in range(PGS):
            live = sum(osd in up for osd in self._acting(number))
            state = (
                "active+clean"
                if live >= min(self._world.spec.ceph_size, len(self._world.nodes))
                else "active+undersized+degraded"
                if live >= self._world.spec.ceph_min_size
                else "undersized+degraded+peered"
            )
            found[state] = found.get(state, 0) + 1
        return found

    def _acting(self, number: int) -> list[int]:
        names = sorted(self._world.nodes)
        chosen = [names[(number + copy) % len(names)] for copy in range(min(self._world.spec.ceph_size, len(names)))]
        return [self.osds(self._world.nodes[name])[number % PER_NODE] for name in chosen]

    def inactive(self, up: frozenset[int]) -> int:
        """Placement groups that would serve nothing with those OSDs up."""
        return sum(count for state, count in self.pgs(up).items() if "active" not in state.split("+"))

    def status(self) -> Facts:
        """``ceph -s`` as GET /cluster/ceph/status has it."""
        up = self.up()
        pgs = self.pgs(up)
        count = PER_NODE * len(self._world.nodes)
        checks: Facts = {}
        if len(up) < count:
            checks["OSD_DOWN"] = _check(f"{count - len(up)} osds down")
        if self.flags:
            checks["OSDMAP_FLAGS"] = _check(f"{','.join(sorted(self.flags))} flag(s) set")
        if set(pgs) != {"active+clean"}:
            checks["PG_DEGRADED"] = _check("Degraded data redundancy")
        return {
            "health": {"status": "HEALTH_WARN" if checks else "HEALTH_OK", "checks": checks, "mutes": []},
            "quorum_names": self.in_quorum(),
            "monmap": {"mons": [{"name": node.name, "rank": rank} for rank, node in enumerate(self.mons())]},
            "osdmap": {"num_osds": count, "num_up_osds": len(up), "num_in_osds": count},
            "pgmap": {
                "num_pgs": PGS,
                "pgs_by_state": [{"state_name": state, "count": number} for state, number in sorted(pgs.items())],
            },
        }

    def ok_to_stop(self, osds: tuple[int, ...]) -> Facts:
        """``ceph osd ok-to-stop`` of these OSDs together."""
        bad = self.inactive(self.up() - set(osds))
        return {
            "ok_to_stop": bad == 0,
            "osds": list(osds),
            "num_ok_pgs": PGS - bad,
            "num_not_ok_pgs": bad,
        }


def _check(message: str) -> Facts:
    return {"severity": "HEALTH_WARN", "summary": {"message": message, "count": 1}, "muted": False}
