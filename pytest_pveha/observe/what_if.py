"""What Ceph loses when OSDs go: pure, from its maps, before anything is broken.

A placement group with fewer live copies than its pool's ``size`` is undersized and serves on; with fewer than
``min_size`` it serves nothing; with none (of an erasure-coded pool: fewer than k pieces) it cannot be read. It becomes
whole again only where the CRUSH rule has a place for every copy. Source: Ceph's documentation, Placement Group States,
CRUSH Maps, Monitor Config Reference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_pveha.handles.ceph.maps import OsdMap, Pg, Place, Pool, Room, Rule, Step
from pytest_pveha.handles.ceph.status import serves

MIN_IN = 0.75
"""Share of OSDs that are in, below which mons mark no more of them out by themselves (mon_osd_min_in_ratio)."""

NOT_MARKED_OUT = ("rack", "row", "pdu", "pod", "room", "datacenter", "zone", "region")
"""Buckets that are not marked out by themselves when all of one is down (mon_osd_down_out_subtree_limit)."""

ASSUMED_RATE = 20 * 2**20
"""Bytes in a second that one OSD is believed to take in while it is rebuilt, until it was measured."""

_KNOWN = frozenset({"active", "clean", "undersized", "degraded", "scrubbing", "deep", "snaptrim", "snaptrim_wait"})
"""Words of a state in which every acting OSD has a whole copy."""


@dataclass(frozen=True, slots=True)
class CephMap:
    """All that a prediction needs, as it was read."""

    osd_map: OsdMap
    places: Mapping[int, Place]
    rules: Mapping[int, Rule]
    pgs: tuple[Pg, ...]
    rooms: Mapping[int, Room]
    stored: Mapping[int, int]
    """Pool → bytes that its users have stored."""

    def osds_of(self, kind: str, *names: str) -> frozenset[int]:
        """The OSDs below those buckets, such as ``osds_of("host", "pve1")``."""
        return frozenset(osd for osd, place in self.places.items() if place.where.get(kind) in names)

    def domains(self, kind: str) -> dict[str, frozenset[int]]:
        """Every bucket of that type that has OSDs."""
        found: dict[str, set[int]] = {}
        for osd, place in self.places.items():
            if kind in place.where:
                found.setdefault(place.where[kind], set()).add(osd)
        return {name: frozenset(osds) for name, osds in sorted(found.items())}

    def largest(self, kind: str) -> tuple[str, frozenset[int]] | None:
        """The bucket of that type with the most data on it; None where there is no such bucket."""
        domains = self.domains(kind)
        if not domains:
            return None
        return max(domains.items(), key=lambda one: sum(self.rooms[osd].used for osd in one[1] if osd in self.rooms))

    @property
    def gaps(self) -> tuple[str, ...]:
        """What one answer speaks of and another one does not: what would be left cannot be told from such maps."""
        serving = sorted(osd.id for osd in self.osd_map.osds.values() if osd.up and osd.in_)
        told = Counter(pg.pool for pg in self.pgs)
        return (
            *(f"osd.{osd} is not in `osd tree`" for osd in serving if osd not in self.places),
            *(f"osd.{osd} is not in `osd df`" for osd in serving if osd not in self.rooms),
            *(f"pool {pool.name} is not in `df`" for pool in self.osd_map.pools.values() if pool.id not in self.stored),
            *(
                f"{told[pool.id]} of {pool.pg_num} placement groups of pool {pool.name} are told"
                for pool in self.osd_map.pools.values()
                if told[pool.id] < pool.pg_num
            ),
        )

    @property
    def up(self) -> frozenset[int]:
        """The OSDs that serve."""
        return frozenset(osd.id for osd in self.osd_map.osds.values() if osd.up)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is left when these OSDs are gone. Placement groups by their ids."""

    osds: frozenset[int]
    undersized: tuple[str, ...]
    """They lack copies and serve on."""
    inactive: tuple[str, ...]
    """They serve nothing until OSDs come back or copies were made elsewhere."""
    unreadable: tuple[str, ...]
    """Of them nothing is left that could be read."""
    unsure: tuple[str, ...]
    """In a state in which it cannot be told from the map who has a whole copy."""
    no_place: tuple[str, ...]
    """Why pools cannot become whole without the lost OSDs: in words, one a pool."""
    stays_in: frozenset[int]
    """Lost OSDs that mons would not mark out by themselves, so that nothing of theirs is rebuilt."""
    rebuild_bytes: int
    receivers: int
    """OSDs that can take in what is rebuilt."""
    fill: float
    """How full the fullest failure domain is when all that can be rebuilt was."""
    fullest: float
    """The same of the fullest OSD."""

    @property
    def serves(self) -> bool | None:
        """Whether every placement group serves on; None where that cannot be told."""
        if self.inactive:
            return False
        return None if self.unsure else True

    @property
    def clean_again(self) -> bool:
        """Whether it becomes whole by itself without the lost OSDs."""
        return not (self.no_place or self.stays_in or self.unreadable or self.unsure)

    def seconds(self, rate: float = ASSUMED_RATE) -> float:
        """How long the rebuild takes at so many bytes in a second and receiving OSD."""
        return 0.0 if not self.rebuild_bytes else self.rebuild_bytes / (rate * max(1, self.receivers))

    @property
    def in_words(self) -> str:
        """What is predicted, for people."""
        told = [f"{len(some)} {word}" for word, some in self._groups if some]
        gone = ", ".join(f"osd.{osd}" for osd in sorted(self.osds)) or "nothing"
        future = "; ".join(self.no_place) if self.no_place else f"{_gib(self.rebuild_bytes)} to rebuild"
        if self.stays_in:
            future += f"; mons would not mark {', '.join(f'osd.{osd}' for osd in sorted(self.stays_in))} out"
        return f"without {gone}: {', '.join(told) or 'no placement group is hit'}; {future}"

    @property
    def _groups(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return (
            ("unreadable", self.unreadable),
            ("inactive", tuple(pg for pg in self.inactive if pg not in self.unreadable)),
            ("active+undersized", self.undersized),
            ("that cannot be told", self.unsure),
        )


def without(ceph: CephMap, osds: Iterable[int], *, noout: bool = False) -> Prediction:
    """What is left of that Ceph when these OSDs go, beside those that are down already.

    Args:
        noout: nothing is marked out, so that nothing is rebuilt.
    """
    lost = frozenset(osds)
    live = ceph.up - lost
    stays_in = lost if noout else _not_marked_out(ceph, lost)
    undersized, inactive, unreadable, unsure = [], [], [], []
    hit: dict[int, int] = {}
    for pg in ceph.pgs:
        pool = ceph.osd_map.pools.get(pg.pool)
        left = [osd for osd in pg.acting if osd in live]
        if pool is None or not set(pg.state.split("+")) <= _KNOWN:
            unsure.append(pg.id)
            continue
        if set(pg.acting) & lost:
            hit[pool.id] = hit.get(pool.id, 0) + len(set(pg.acting) & (lost - stays_in))
        if len(left) < pool.needed:
            unreadable.append(pg.id)
        if len(left) < pool.min_size or not serves(pg.state):
            inactive.append(pg.id)
        elif len(left) < pool.size:
            undersized.append(pg.id)
    usable = frozenset(osd for osd in live if ceph.osd_map.osds[osd].in_)
    no_place = {pool.id: why for pool in _hit(ceph, hit) if (why := _lacks(ceph, pool, usable))}
    rebuilt = [pool for pool in _hit(ceph, hit) if hit[pool.id] and pool.id not in no_place]
    rebuild_bytes = sum(hit[pool.id] * _piece(ceph, pool) for pool in rebuilt)
    receivers = _receivers(ceph, rebuilt, usable, lost)
    fill = _fill(ceph, usable) if rebuilt else _as_now(ceph, lost)
    return Prediction(
        osds=lost,
        undersized=tuple(undersized),
        inactive=tuple(inactive),
        unreadable=tuple(unreadable),
        unsure=tuple(unsure),
        no_place=tuple(no_place.values()),
        stays_in=stays_in,
        rebuild_bytes=rebuild_bytes,
        receivers=len(receivers),
        fill=fill,
        fullest=max(fill, _fullest(ceph, lost, receivers, rebuild_bytes)),
    )


def _hit(ceph: CephMap, hit: Mapping[int, int]) -> list[Pool]:
    return [pool for pool in ceph.osd_map.pools.values() if pool.id in hit]


def _piece(ceph: CephMap, pool: Pool) -> int:
    """Bytes of one copy, or one piece, of one placement group, on the average."""
    return ceph.stored.get(pool.id, 0) // pool.needed // max(1, pool.pg_num)


# --- places -----------------------------------------------------------------------------------------------------------


def _lacks(ceph: CephMap, pool: Pool, usable: frozenset[int]) -> str:
    """Why that pool cannot have all of its copies on these OSDs; empty where it can."""
    rule = ceph.rules.get(pool.rule)
    if rule is None:
        return f"pool {pool.name}: its rule {pool.rule} is not told"
    found = room_for(rule, pool.size, ceph.places, usable)
    if found >= pool.size:
        return ""
    return (
        f"pool {pool.name}: rule {rule.name} finds {found} of {pool.size} places, one in a {rule.failure_domain}: it "
        f"stays undersized"
    )


def room_for(rule: Rule, size: int, places: Mapping[int, Place], usable: Iterable[int]) -> int:
    """How many of ``size`` copies the rule can place on these OSDs."""
    return min(size, _fit(rule.steps, [(osd, places[osd]) for osd in _candidates(rule, places, usable)], size))


def _candidates(rule: Rule, places: Mapping[int, Place], usable: Iterable[int]) -> list[int]:
    return [
        osd
        for osd in sorted(usable)
        if osd in places
        and places[osd].weight > 0
        and rule.root in places[osd].where.values()
        and rule.device_class in ("", places[osd].device_class)
    ]


def _fit(steps: Sequence[Step], below: Sequence[tuple[int, Place]], wanted: int) -> int:
    if not steps:
        return 1 if below else 0
    step, *later = steps
    count = step.count if step.count > 0 else wanted + step.count
    groups: dict[str, list[tuple[int, Place]]] = {}
    for osd, place in below:
        name = str(osd) if step.type == "osd" else place.where.get(step.type, "")
        if name:
            groups.setdefault(name, []).append((osd, place))
    return sum(sorted((_fit(later, group, wanted) for group in groups.values()), reverse=True)[: max(0, count)])


def _not_marked_out(ceph: CephMap, lost: frozenset[int]) -> frozenset[int]:
    """Those of the lost that mons leave in: too few would be left, or a whole rack or more is down with them."""
    down = lost | (ceph.places.keys() - ceph.up)
    kept = {
        osd
        for kind in NOT_MARKED_OUT
        for members in ceph.domains(kind).values()
        if members <= down
        for osd in members & lost
    }
    every = len(ceph.osd_map.osds)
    inside = sum(osd.in_ for osd in ceph.osd_map.osds.values())
    for osd in sorted(lost - kept):
        if not ceph.osd_map.osds[osd].in_:
            continue
        if inside < MIN_IN * every:  # asked before each of them
            kept.add(osd)
        else:
            inside -= 1
    return frozenset(kept)


def _receivers(ceph: CephMap, pools: Iterable[Pool], usable: frozenset[int], lost: frozenset[int]) -> frozenset[int]:
    """The OSDs that can take in a copy: where there are just as many failure domains as copies, the lost one's own."""
    found: set[int] = set()
    for pool in pools:
        rule = ceph.rules[pool.rule]
        candidates, domain = _candidates(rule, ceph.places, usable), rule.failure_domain
        if domain == "osd":
            found |= set(candidates)
            continue
        names = {ceph.places[osd].where.get(domain, "") for osd in candidates}
        of_lost = {ceph.places[osd].where.get(domain, "") for osd in lost if osd in ceph.places}
        tight = len(names) <= pool.size
        found |= {osd for osd in candidates if not tight or ceph.places[osd].where.get(domain, "") in of_lost}
    return frozenset(found)


# --- bytes ------------------------------------------------------------------------------------------------------------


def _as_now(ceph: CephMap, lost: frozenset[int]) -> float:
    """How full those are on the average that are left, where nothing is rebuilt on them."""
    left = [room.used / room.total for osd, room in ceph.rooms.items() if room.total and osd not in lost]
    return sum(left) / len(left) if left else 0.0


def _fullest(ceph: CephMap, lost: frozenset[int], receivers: frozenset[int], added: int) -> float:
    """How full the fullest OSD becomes when those take in so many bytes by their weight."""
    weights = {osd: ceph.places[osd].weight for osd in receivers}
    whole = sum(weights.values()) or 1.0
    return max(
        (
            (room.used + added * weights.get(osd, 0.0) / whole) / room.total
            for osd, room in ceph.rooms.items()
            if room.total and osd not in lost
        ),
        default=0.0,
    )


def _fill(ceph: CephMap, usable: frozenset[int]) -> float:
    """How full the fullest failure domain becomes when all copies lie on these OSDs, by the rules and weights."""
    rooms = {osd: room for osd, room in ceph.rooms.items() if room.total}
    load: dict[tuple[str, str], float] = {}
    raw = 0.0
    members: dict[tuple[str, str], set[int]] = {}
    for pool in ceph.osd_map.pools.values():
        rule = ceph.rules.get(pool.rule)
        if rule is None:
            continue
        domain = rule.failure_domain
        groups: dict[str, set[int]] = {}
        for osd in _candidates(rule, ceph.places, usable):
            name = str(osd) if domain == "osd" else ceph.places[osd].where.get(domain, "")
            groups.setdefault(name, set()).add(osd)
        piece = ceph.stored.get(pool.id, 0) / pool.needed
        raw += piece * pool.size
        weights = {name: sum(ceph.places[osd].weight for osd in osds) for name, osds in groups.items()}
        for name, share in _shares(weights, pool.size).items():
            load[domain, name] = load.get((domain, name), 0.0) + share * piece
            members.setdefault((domain, name), set()).update(groups[name])
    used = sum(room.used for room in rooms.values())
    overhead = max(1.0, used / raw) if raw else 1.0
    fills = [
        load[key] * overhead / total
        for key, osds in members.items()
        if (total := sum(rooms[osd].total for osd in osds if osd in rooms))
    ]
    return max(fills, default=0.0)


def _shares(weights: Mapping[str, float], size: int) -> dict[str, float]:
    """How likely each failure domain has one of ``size`` copies: by weight, and never more than one in each."""
    shares: dict[str, float] = {}
    left, open_ = float(size), {name: weight for name, weight in weights.items() if weight > 0}
    while open_:
        total = sum(open_.values())
        capped = [name for name, weight in open_.items() if left * weight / total >= 1]
        if not capped:
            return shares | {name: left * weight / total for name, weight in open_.items()}
        for name in capped:
            shares[name] = 1.0
            del open_[name]
        left = max(0.0, size - float(sum(shares.values())))
    return shares


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
