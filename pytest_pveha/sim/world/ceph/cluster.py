"""The Ceph of one world: its parts, and what the world tells them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import NAMESPACE_OID, uuid5

from pytest_pveha.sim.ceph_spec import RELEASES, CephSpec, PoolSpec
from pytest_pveha.sim.world.ceph.crush import Crush, CrushRule, Place
from pytest_pveha.sim.world.ceph.digest import Digest
from pytest_pveha.sim.world.ceph.groups import Groups
from pytest_pveha.sim.world.ceph.io import Io
from pytest_pveha.sim.world.ceph.model import FLAGS, Group, Mon, Osd, Pool
from pytest_pveha.sim.world.ceph.mons import Managers, Mons
from pytest_pveha.sim.world.ceph.osds import Osds
from pytest_pveha.sim.world.ceph.progress import Progress
from pytest_pveha.sim.world.ceph.recovery import Recovery
from pytest_pveha.sim.world.ceph.stretch import Stretch
from pytest_pveha.sim.world.ceph.units import Units
from pytest_pveha.sim.world.ceph.wires import CLUSTER, OUTSIDE_MON, PUBLIC, Wires
from pytest_pveha.sim.world.model import Node
from pytest_pveha.sim.world.storages import Storage

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

_OBJECT = 4 << 20
_MGR_POOL = {"pacific": "device_health_metrics"}
"""What the managers' own pool is called; since Quincy it is ``.mgr``."""
_RULE_NAMES = {"host": "replicated_rule", "osd": "replicated_osd", "room": "replicated_room"}
_NEARLY_FULL = 0.82
_MUTED = (
    "MON_DOWN", "OSD_DOWN", "OSD_HOST_DOWN", "OSD_ROOM_DOWN", "OSD_DATACENTER_DOWN", "OSD_SLOW_PING_TIME_BACK",
    "OSD_SLOW_PING_TIME_FRONT", "PG_AVAILABILITY", "PG_DEGRADED", "SLOW_OPS",
)  # fmt: skip
_ALWAYS = ("sortbitwise", "recovery_deletes", "purged_snapdirs", "pglog_hardlimit")


class Ceph:
    """A cluster that has been clean for days."""

    def __init__(self, world: World, spec: CephSpec) -> None:
        self.world = world
        self.spec = spec
        self.rng = world.rng("ceph")
        self.release = spec.release or ("squid" if world.spec.version.startswith("9") else "reef")
        self.fsid = str(uuid5(NAMESPACE_OID, f"ceph/{world.spec.seed}/{world.spec.cluster}"))
        self.epoch = self.rng.randint(400, 900)
        self.flags: set[str] = set()
        self.muted: dict[str, bool] = {}
        """Health codes that somebody muted, and whether for ever (sticky)."""
        self.failed: set[int] = set()
        """OSDs whose disk is dead."""
        self.ratios = {"nearfull": 0.85, "backfillfull": 0.9, "full": 0.95}
        self.crush = Crush(world.spec.seed, self._places())
        self.osds = {
            number: Osd(number, place.host, spec.osd_bytes, str(uuid5(NAMESPACE_OID, f"{self.fsid}/{number}")))
            for number, place in self.crush.places.items()
        }
        self.network = Wires(self)
        self.mons = Mons(self, self._mons())
        self.managers = Managers(self, [mon.node for mon in self.mons.all.values() if mon.node])
        self.rules: dict[str, CrushRule] = {}
        self.pools = {pool.name: pool for pool in self._pools()}
        self.groups = Groups(self)
        self.recovery = Recovery(self)
        self.digest = Digest(self)
        self.progress = Progress(self)
        self.io = Io(self)
        self.osd_map = Osds(self)
        self.units = Units(self)
        self.stretch = Stretch(self)

    def begin(self) -> None:
        """The nodes run, and everything on them."""
        for node in self.world.nodes.values():
            self.units.begin(node)
            for number in self.crush.hosts().get(node.name, ()):
                self.osds[number].changed = node.booted_at or 0
        self.groups.begin()
        if self.world.planted("survivor-nearly-full"):
            for osds in self.crush.hosts().values():
                last = self.osds[osds[-1]]
                last.bytes = round(last.used / _NEARLY_FULL)
        if self.world.planted("health-muted"):
            self.muted = dict.fromkeys(_MUTED, True)
        self.digest.begin()
        if self.world.planted("ceph-cluster-network-dead"):
            host = max(self.crush.hosts())
            self.network.set_link(host, CLUSTER, False)
            self.osd_map.down([self.osds[osd] for osd in self.crush.hosts()[host]])  # long ago

    # what it consists of

    def _places(self) -> dict[int, Place]:
        rooms = self.world.spec.nodes
        count = self.spec.osds_per_node
        ordered = sorted(rooms, key=lambda node: node.name)
        holders = [node for node in ordered if node.name != self.spec.tiebreaker]
        return {
            first * count + number: Place(node.name, node.room)
            for first, node in enumerate(holders)
            for number in range(count)
        }

    def _mons(self) -> list[Mon]:
        nodes = {node.name: node for node in self.world.spec.nodes}
        most = 2 if self.world.planted("two-mons-only") else self.spec.mons
        names = [name for name in sorted(nodes) if name != self.spec.tiebreaker][:most]
        mons = [Mon(name, rank, name, self.network.address(name, PUBLIC), nodes[name].room)
                for rank, name in enumerate(names)]  # fmt: skip
        if (extra := self.spec.tiebreaker) and extra in nodes:
            mons.append(Mon(extra, len(mons), extra, self.network.address(extra, PUBLIC), nodes[extra].room))
        elif extra:
            mons.append(Mon(extra, len(mons), "", OUTSIDE_MON))
        return mons

    def _pools(self) -> list[Pool]:
        storages = [one.name for one in self.storages()]
        own = PoolSpec(_MGR_POOL.get(self.release, ".mgr"), pgs=1)
        specs = [own, *(self.spec.pools or [PoolSpec(name) for name in storages])]
        room = sum(osd.bytes for osd in self.osds.values()) * self.spec.fill
        pools = []
        for number, one in enumerate(specs, 1):
            size = one.size or self.spec.size
            least = 1 if self.world.planted("pool-min-size-one") else one.min_size or self.spec.min_size
            pool = Pool(number, one.name, size, min(least, size), self._rule(one))
            count = one.pgs or self.spec.pgs
            if one is own:
                pool.application, pool.busy = "mgr" if own.name == ".mgr" else "mgr_devicehealth", False
                pool.groups = [Group(pool, 0, 2, 2 * _OBJECT // 8)]
            else:
                share = round(room / size / (len(specs) - 1) / count)
                pool.groups = [Group(pool, group, max(1, share // _OBJECT), share) for group in range(count)]
            pools.append(pool)
        return pools

    def _rule(self, pool: PoolSpec) -> CrushRule:
        domain = pool.failure_domain or self.spec.failure_domain
        if self.spec.stretch:
            return self.rules.setdefault("stretch_rule", CrushRule(1, "stretch_rule", "host", 2))
        if self.world.planted("copies-share-a-host"):
            domain = "osd"
        name = _RULE_NAMES[domain]
        return self.rules.setdefault(name, CrushRule(len(self.rules), name, domain))

    def storages(self) -> list[Storage]:
        """The world's storages that lie on it."""
        return [one for one in self.world.storages if one.kind in ("rbd", "cephfs")]

    def pool_of(self, storage: Storage) -> Pool:
        """The pool of that storage: the one that is called so, else the first for data."""
        return self.pools.get(storage.name) or list(self.pools.values())[1]

    @property
    def room_type(self) -> str:
        """The kind of bucket that rooms are in the CRUSH map."""
        return "datacenter" if self.spec.stretch else "room"

    @property
    def version(self) -> str:
        """The version of all daemons."""
        return RELEASES[self.release]

    # who is there

    def node(self, osd: Osd) -> Node:
        """Where that OSD stands."""
        return self.world.nodes[osd.host]

    def runs(self, osd: Osd) -> bool:
        """Whether its daemon's process is there."""
        node = self.node(osd)
        return node.running and node.units[osd.unit].active and osd.number not in self.failed

    def alive(self, osd: Osd) -> bool:
        """Whether its daemon does anything."""
        return self.runs(osd) and not osd.starting and not self.node(osd).stopped(osd.unit)

    def refuses(self, osd: Osd) -> bool:
        """Whether its machine answers in its stead."""
        node = self.node(osd)
        return node.running and (osd.starting or not self.runs(osd))

    def can_run(self, unit: str) -> bool:
        """Whether that unit's daemon would stay up."""
        return not (unit.startswith("ceph-osd@") and int(unit.partition("@")[2]) in self.failed)

    def speaks(self, host: str) -> bool:
        """Whether somebody on that host is up, and misses others."""
        return any(self.osds[osd].up and self.alive(self.osds[osd]) for osd in self.crush.hosts()[host])

    def hears(self, one: str, other: str) -> bool:
        """Whether the OSDs on two hosts hear each other."""
        return self.network.hears(one, other)

    def reaches_mons(self, host: str) -> bool:
        """Whether the OSDs on that host reach a mon that is in quorum."""
        return self.mons.reached_from(host, in_its_room=self.spec.stretch)

    def answers(self, node: Node) -> bool:
        """Whether somebody who asks on that node gets an answer."""
        return node.running and self.mons.reached_from(node.name)

    def network_parted(self) -> bool:
        """Whether some running hosts do not hear each other."""
        hosts = [host for host in self.crush.hosts() if self.world.nodes[host].running]
        return self.network.filtered() and any(
            not self.hears(one, other) for one in hosts for other in hosts if one < other
        )

    def concerned(self, osd: Osd) -> Iterable[Group]:
        """The groups whose copies may lie elsewhere now that this OSD has changed."""
        return [group for pool in self.pools.values() for group in pool.groups]

    # what happens

    def disturbed(self) -> None:
        """Somebody died, came, was cut off or is heard again."""
        self.network.forget()
        self.mons.follow()
        self.managers.follow()
        self.osd_map.follow()
        self.io.follow()

    def changed_mons(self) -> None:
        """There was an election."""
        self.managers.follow()
        self.osd_map.follow()
        self.osd_map.take_out()
        self.io.follow()

    def changed_map(self) -> None:
        """OSDs are up, down, in or out."""
        self.stretch.follow()
        self.recovery.pump()
        self.digest.note()
        self.io.follow()

    def new_epoch(self) -> None:
        """The map is another one."""
        self.epoch += 1

    def set_flag(self, flag: str, on: bool) -> None:
        """A flag of the whole cluster is set, or not."""
        if flag not in FLAGS:
            raise ValueError(f"flag {flag!r} is unknown")
        if (flag in self.flags) is on:
            return
        (self.flags.add if on else self.flags.discard)(flag)
        self.new_epoch()
        self.world.truth("ceph_flag", {"flag": flag, "set": on})
        self.recovery.held_up()
        self.osd_map.follow()
        self.osd_map.take_out()
        self.changed_map()

    def flag_words(self) -> list[str]:
        """The flags as the map lists them: those set, and those every cluster has."""
        shown = [*(("pauserd", "pausewr") if "pause" in self.flags else ()), *sorted(self.flags - {"pause"})]
        return [*shown, *_ALWAYS]

    def fail(self, osd: int) -> None:
        """That OSD's disk is dead."""
        self.failed.add(osd)
        self.units.crash(osd)

    def repair(self, osd: int) -> None:
        """Its disk is well again, and somebody starts its daemon."""
        self.failed.discard(osd)
        self.units.revive(osd)
