"""What Ceph must be like before anything is broken, and what is worth knowing of it.

Blockers refuse every destructive test: what they find would put data at risk, or make every measurement worthless.
Findings refuse nothing: a promise that is not kept, or a loss that would hurt more than it must. Whether a given fault
is survived the interlock asks anyway, by the maps as they are then.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from pytest_pveha.handles.ceph import shell
from pytest_pveha.handles.ceph.maps import OsdMap, Pool
from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.observe import ceph_map
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.ceph_map import ASK, told_by
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.observe.what_if import CephMap, without
from pytest_pveha.readiness.check import Check

STOPPING = frozenset(
    {"noout", "noin", "nodown", "noup", "norecover", "nobackfill", "norebalance", "pause", "pauserd", "pausewr"}
)
"""Flags that keep Ceph from healing, or from noticing (ceph(8), osd set)."""

SERIOUS = frozenset(
    {
        "OSD_DOWN", "OSD_HOST_DOWN", "OSD_FULL", "OSD_BACKFILLFULL", "OSD_SCRUB_ERRORS", "OSD_SLOW_PING_TIME_BACK",
        "OSD_SLOW_PING_TIME_FRONT", "OSD_UNREACHABLE", "OSD_FLAPPING", "PG_AVAILABILITY", "PG_DEGRADED", "PG_DAMAGED",
        "PG_RECOVERY_FULL", "PG_BACKFILL_FULL", "OBJECT_UNFOUND", "POOL_FULL", "POOL_BACKFILLFULL", "SLOW_OPS",
        "MON_DOWN", "MON_DISK_CRIT", "MGR_DOWN", "DEGRADED_STRETCH_MODE", "BLUESTORE_SLOW_OP_ALERT",
    }
)  # fmt: skip
"""Health checks that speak of data, OSDs, mons or networks as they are now (Ceph's documentation, Health Checks).
Others are told, and refuse nothing: a crash of last week, a scrub that is late."""

UNEVEN = 1.2
"""How many times as much as on the smallest host the largest may hold of disks."""


def _whole(observer: Observer) -> Answer:
    """All data is where it should be: what is broken next meets a whole Ceph."""
    found, whole = ceph_map.settled(observer)
    bad = []
    if whole.verdict == "cant_tell":
        return whole
    if whole.verdict == "no":
        bad.append(whole.saw)
    if found.osds_up < found.osds or found.osds_in < found.osds:
        bad.append(f"{found.osds_up} up and {found.osds_in} in of {found.osds} OSDs")
    if len(found.quorum) < found.mons:
        bad.append(f"{len(found.quorum)} of {found.mons} mons in quorum")
    error = found.health == "HEALTH_ERR"
    bad += [f"{name}: {found.messages.get(name, '')}" for name in found.checks if error or name in SERIOUS]
    health = " ".join((found.health, *found.checks))
    return no("; ".join(bad)) if bad else yes(f"{health}; {found.in_words}; {found.osds} OSDs, {found.mons} mons")


def _flags(observer: Observer) -> Answer:
    """A flag that somebody forgot makes every loss last, and hides it."""
    found = sorted(observer.site.ceph.flags(observer.site.clock.deadline(READ)) & STOPPING)
    return no(f"{', '.join(found)} is set") if found else yes("no flag keeps it from healing")


def _copies(observer: Observer) -> Answer:
    """With one copy left that takes writes, the next failure loses what was acknowledged: no test may get there."""
    pools = _osd_map(observer).pools
    if not pools:
        return cant_tell("Ceph tells of no pool")
    bad = [f"{pool.name}: size {pool.size}, min_size {pool.min_size}" for pool in pools.values() if _risky(pool)]
    return no("; ".join(bad)) if bad else yes("; ".join(_promise(pool) for pool in pools.values()))


def _risky(pool: Pool) -> bool:
    return pool.size < 2 or (pool.min_size < 2 if not pool.erasure else pool.min_size <= pool.needed)


def _promise(pool: Pool) -> str:
    return f"{pool.name} {pool.size}/{pool.min_size}"


# --- findings ---------------------------------------------------------------------------------------------------------


def _mon_hosts(observer: Observer) -> Answer:
    """Two mons on one host die with it: then one host's loss may stop everything, whatever the pools promise."""
    placed = observer.site.ceph.daemons(observer.site.nodes.names[0], observer.site.clock.deadline(READ)).mons
    if not placed:
        return cant_tell("no mon is told of")
    count = sum(len(mons) for mons in placed.values())
    if count < 3:
        return no(f"{count} mons: with one of them gone there is no quorum; have three, on hosts of their own")
    if doubled := [f"{len(mons)} on {host}" for host, mons in sorted(placed.items()) if len(mons) > 1]:
        return no(f"of {count} mons are {', '.join(doubled)}")
    return yes(f"{count} mons, each on a host of its own: {', '.join(sorted(placed))}")


def _room(observer: Observer) -> Answer:
    """Whether there is room, with nobody near full, when the largest failure domain is gone and was rebuilt."""
    maps = ceph_map.read(observer)
    now = max((room.used / room.total for room in maps.rooms.values() if room.total), default=None)
    if now is None:
        return cant_tell("how full OSDs are is not told")
    then = {name: without(maps, osds).fullest for name, osds in _largest(maps)}
    worst = max(then, key=lambda name: then[name], default="")
    words = f"the fullest OSD is at {now:.0%}" + (f", and at {then[worst]:.0%} without {worst}" if worst else "")
    limit = maps.osd_map.nearfull
    return no(f"{words}: not below {limit:.0%}") if max(now, *then.values()) >= limit else yes(words)


def _mutes(observer: Observer) -> Answer:
    """A check that somebody muted complains to nobody: health stays OK through the next outage."""
    muted = ceph_map.status(observer).muted
    return no(f"{', '.join(muted)}: muted") if muted else yes("no health check is muted")


def _largest(maps: CephMap) -> list[tuple[str, frozenset[int]]]:
    """The failure domain with the most data, of each kind that a rule keeps apart: ``host pve1`` and its OSDs."""
    kinds = sorted({rule.failure_domain for rule in maps.rules.values()} - {"osd"})
    return [(f"{kind} {found[0]}", found[1]) for kind in kinds if (found := maps.largest(kind)) is not None]


def _spare_place(observer: Observer) -> Answer:
    """Whether Ceph becomes whole by itself after the largest failure domain was lost: with as many hosts as copies it
    cannot, and the next failure meets it degraded."""
    maps = ceph_map.read(observer)
    largest = _largest(maps)
    for name, osds in largest:
        found = without(maps, osds)
        if found.no_place:
            return no(f"without {name}: {'; '.join(found.no_place)}")
        if found.stays_in:
            return no(f"without {name}: {len(found.stays_in)} OSDs of it would not be marked out by themselves")
    if not largest:
        return cant_tell("no rule's failure domain has OSDs")
    return yes(f"without {', '.join(name for name, _ in largest)} all copies have a place")


def _one_osd(observer: Observer) -> Answer:
    """Whether Ceph becomes whole by itself after the loss of any one OSD."""
    maps = ceph_map.read(observer)
    for osd in sorted(maps.up):
        found = without(maps, [osd])
        if found.no_place or found.stays_in:
            return no(
                f"without osd.{osd} of {maps.places[osd].host}: {'; '.join(found.no_place) or 'it would stay in'}"
            )
        if found.fullest >= maps.osd_map.backfillfull:
            return no(f"without osd.{osd} its rebuild would fill an OSD to {found.fullest:.0%}")
    return yes(f"any one of {len(maps.up)} OSDs") if maps.up else cant_tell("no OSD is told of")


def _even(observer: Observer) -> Answer:
    maps = ceph_map.read(observer)
    sizes = {host: sum(maps.places[osd].weight for osd in osds) for host, osds in maps.domains("host").items() if osds}
    if not sizes:
        return cant_tell("no host with OSDs is told of")
    told = ", ".join(f"{host} {len(maps.osds_of('host', host))}" for host in sizes)
    if max(sizes.values()) > UNEVEN * min(sizes.values()):
        most, least = max(sizes, key=lambda host: sizes[host]), min(sizes, key=lambda host: sizes[host])
        return no(f"{most} holds {sizes[most] / max(sizes[least], 1e-9):.1f} times as much as {least} (OSDs: {told})")
    return yes(f"OSDs: {told}")


def failure_domain(inventory: Inventory) -> Check:
    """The check that no two copies lie in one of what the inventory says may be lost."""
    promised = inventory.model.ceph.failure_domain if inventory.model.ceph is not None else "host"

    def ask(observer: Observer) -> Answer:
        maps = ceph_map.read(observer)
        bad, told = [], []
        for pool in maps.osd_map.pools.values():
            rule = maps.rules.get(pool.rule)
            if rule is None:
                return cant_tell(f"pool {pool.name}: its rule {pool.rule} is not told of")
            together = _together(maps, pool, promised)
            if together:
                bad.append(f"pool {pool.name} (rule {rule.name}, by {rule.failure_domain}): {together}")
            told.append(f"{pool.name} by {rule.failure_domain}")
        return no("; ".join(bad)) if bad else yes("; ".join(told)) if told else cant_tell("Ceph tells of no pool")

    return Check(
        "ceph-failure-domain",
        f"The loss of one {promised} leaves every placement group served, as the inventory promises",
        "change the pool's CRUSH rule, or `ceph.failure_domain`",
        ask,
    )


def _together(maps: CephMap, pool: Pool, kind: str) -> str:
    """Whose loss alone would stop that pool; empty where nobody's would."""
    domains = maps.domains(kind)
    if not domains:
        return f"no OSD stands in a {kind}"
    for name, osds in domains.items():
        dead = [pg for pg in maps.pgs if pg.pool == pool.id and len(set(pg.acting) - osds) < pool.min_size]
        if dead:
            return f"without {kind} {name} {len(dead)} placement groups would serve nothing"
    return ""


def networks(inventory: Inventory) -> Check:
    """The check that Ceph's two networks and the guests' are apart, down to the switch where that is declared."""
    declared = inventory.model.networks

    def ask(observer: Observer) -> Answer:
        osds = [osd for osd in _osd_map(observer).osds.values() if osd.public and osd.back]
        if not osds:
            return cant_tell("no OSD tells its addresses")
        if same := sorted(f"osd.{osd.id}" for osd in osds if osd.public == osd.back):
            return no(f"{', '.join(same)} talk to clients and to each other at one address: there is one network")
        bad = []
        for kind, at in (("ceph_public", "public"), ("ceph_cluster", "back")):
            block = declared.get(kind)
            if block is not None and block.cidr is not None:
                inside = ip_network(str(block.cidr), strict=False)
                other = [osd for osd in osds if ip_address(getattr(osd, at)) not in inside]
                bad += [f"osd.{osd.id} is at {getattr(osd, at)}, and {kind} is {block.cidr}" for osd in other[:2]]
        switches = {name: set(declared[name].switch) for name in _APART if name in declared and declared[name].switch}
        bad += [
            f"{one} and {other} go through {', '.join(sorted(switches[one] & switches[other]))}"
            for number, one in enumerate(sorted(switches))
            for other in sorted(switches)[number + 1 :]
            if switches[one] & switches[other]
        ]
        silent = sorted(set(_APART) - switches.keys())
        told = f"; which switch {', '.join(silent)} uses is not declared" if silent else ", and switches of their own"
        return no("; ".join(bad)) if bad else yes(f"public and cluster network have addresses of their own{told}")

    return Check(
        "ceph-networks",
        "Ceph's networks and the guests' are apart",
        "set `cluster_network`, and give each network a switch of its own",
        ask,
    )


_APART = ("ceph_public", "ceph_cluster", "guest")


def _osd_map(observer: Observer) -> OsdMap:
    return told_by(observer, lambda node: shell.osd_map(node, observer.site.clock.deadline(ASK)))


BLOCKERS = (
    Check("ceph-whole", "Ceph is whole", "`ceph health detail`; wait until all is active+clean", _whole),
    Check("ceph-flags", "No flag keeps Ceph from healing", "`ceph osd unset FLAG`, if it is yours", _flags),
    Check("ceph-copies", "No pool takes writes with its last copy", "`ceph osd pool set POOL min_size 2`", _copies),
)
"""Asked by the gate, too, where Ceph is in scope."""

FINDINGS = (
    Check("ceph-mons", "Three mons or more stand on hosts of their own", "`pveceph mon create` there", _mon_hosts),
    Check("ceph-mutes", "No health check is muted", "`ceph health unmute CODE`, if it is over", _mutes),
    Check("ceph-room", "Nobody is near full, even without the largest failure domain", "add disks", _room),
    Check("ceph-spare-place", "After the largest loss Ceph becomes whole by itself", "add a host", _spare_place),
    Check("ceph-one-osd", "After the loss of an OSD Ceph becomes whole by itself", "add OSDs to each host", _one_osd),
    Check("ceph-even", "The hosts hold about as much as each other", "spread the disks evenly", _even),
)
"""Told by ``-m readiness``; beside them ``failure_domain`` and ``networks``, which hold it against the inventory."""
