"""Ceph's maps as values: where OSDs stand, what pools promise, which rule places them, who serves each placement group.

Shapes: ``ceph … -f json``, recorded on 16.2.15; Ceph's documentation (CRUSH Maps, Pools, Placement Groups).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.reading import Said

NONE = 0x7FFFFFFF
"""What stands where CRUSH has found no OSD (CRUSH_ITEM_NONE)."""
_REPLICATED, _ERASURE = 1, 3
_DEEPEST = 16
"""Buckets one in another; more is a loop."""


@dataclass(frozen=True, slots=True)
class Osd:
    """One OSD as the map has it."""

    id: int
    up: bool
    in_: bool
    weight: float
    """What it was reweighted to: 0 is out, 1 whole."""
    public: str = ""
    """Its address for clients; empty where it has none now."""
    back: str = ""
    """Its address for the other OSDs."""
    up_from: int = 0
    """Since which epoch of the map it is up, if it is: another one is another start, or another return."""


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool and what it promises."""

    id: int
    name: str
    size: int
    min_size: int
    rule: int
    pg_num: int
    needed: int = 1
    """Copies, or pieces of an erasure-coded pool, without which nothing can be read."""
    erasure: bool = False


@dataclass(frozen=True, slots=True)
class OsdMap:
    """``ceph osd dump``: OSDs, pools, flags and ratios."""

    osds: Mapping[int, Osd]
    pools: Mapping[int, Pool]
    flags: frozenset[str]
    nearfull: float
    backfillfull: float
    full: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where an OSD stands in the CRUSH map."""

    where: Mapping[str, str]
    """Each bucket above it by its type, such as ``{"host": "pve1", "root": "default"}``."""
    device_class: str
    weight: float
    """By CRUSH: its size in TiB, as a rule."""

    @property
    def host(self) -> str:
        """The host; empty where there is none above it."""
        return self.where.get("host", "")


@dataclass(frozen=True, slots=True)
class Step:
    """One choice of a rule: so many buckets (0: as many as copies; negative: so many less) of that type."""

    count: int
    type: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A CRUSH rule: from which root, of which class of device, and by which choices."""

    id: int
    name: str
    root: str
    device_class: str
    """Empty: any."""
    steps: tuple[Step, ...]

    @property
    def failure_domain(self) -> str:
        """The widest bucket of which no two copies lie in one."""
        for at, step in enumerate(self.steps):
            if all(later.count == 1 for later in self.steps[at + 1 :]):
                return step.type
        return self.steps[-1].type


@dataclass(frozen=True, slots=True)
class Pg:
    """A placement group: who is to have it, and who serves it."""

    id: str
    state: str
    up: tuple[int, ...]
    acting: tuple[int, ...]

    @property
    def pool(self) -> int:
        """The pool it is of."""
        return int(self.id.partition(".")[0])


@dataclass(frozen=True, slots=True)
class Room:
    """What fits on one OSD and what is on it, in bytes."""

    total: int
    used: int


@dataclass(frozen=True, slots=True)
class Mons:
    """The mons, those in quorum, and who leads them."""

    names: tuple[str, ...]
    quorum: tuple[str, ...]
    leader: str
    addresses: Mapping[str, str]


def osd_map_of(body: Said) -> OsdMap:
    """From ``ceph osd dump``."""
    profiles = {name: told for name, told in body.part("erasure_code_profiles").parts()}
    return OsdMap(
        osds={row.count("osd"): _osd(row) for row in body.rows("osds")},
        pools={row.count("pool"): _pool(row, profiles) for row in body.rows("pools")},
        flags=frozenset(word for word in body.word("flags").split(",") if word),
        nearfull=body.number("nearfull_ratio"),
        backfillfull=body.number("backfillfull_ratio"),
        full=body.number("full_ratio"),
    )


def _osd(row: Said) -> Osd:
    public, back = (_address(row, kind) for kind in ("public_addr", "cluster_addr"))
    return Osd(
        id=row.count("osd"),
        up=row.truth("up"),
        in_=row.truth("in"),
        weight=row.number("weight"),
        public=public,
        back=back,
        up_from=row.count("up_from", 0),
    )


def _address(row: Said, key: str) -> str:
    """``10.0.0.1:6805/1965`` or ``[fd00::1]:6805/1965``; an OSD that never was up has ``:/0`` or ``-``."""
    host = row.word(key, "").rpartition("/")[0].rpartition(":")[0].strip("[]")
    try:
        return str(ip_address(host))
    except ValueError:
        return ""


def _pool(row: Said, profiles: Mapping[str, Said]) -> Pool:
    erasure = row.count("type") == _ERASURE
    needed = 1
    if erasure:
        name = row.word("erasure_code_profile", "")
        if name not in profiles:
            raise ProtocolError(f"{row.where}: its erasure code profile {name[:60]!r} is not told")
        needed = profiles[name].count("k")
    elif row.count("type") != _REPLICATED:
        raise ProtocolError(f"{row.where}: pools of type {row.count('type')} are not known")
    size, min_size = row.count("size"), row.count("min_size")
    if not 0 < min_size <= size:
        raise ProtocolError(f"{row.where}: min_size {min_size} and size {size} cannot be")
    return Pool(
        row.count("pool"),
        row.word("pool_name"),
        size,
        min_size,
        row.count("crush_rule"),
        row.count("pg_num"),
        needed,
        erasure,
    )


def places_of(body: Said) -> dict[int, Place]:
    """From ``ceph osd tree``: every OSD below a bucket."""
    rows = {row.id("id"): row for row in body.rows("nodes")}
    children = {number: row.ids("children") for number, row in rows.items() if "children" in row.values}
    below = {child for some in children.values() for child in some}
    found: dict[int, Place] = {}

    def walk(number: int, above: Mapping[str, str], depth: int) -> None:
        if number not in rows or depth > _DEEPEST:
            raise ProtocolError(f"{body.where}: bucket or OSD {number} hangs nowhere, or in itself")
        row = rows[number]
        if row.word("type") == "osd":
            found[number] = Place(above, row.word("device_class", ""), row.number("crush_weight"))
            return
        here = {**above, row.word("type"): row.word("name")}
        for child in children.get(number, ()):
            walk(child, here, depth + 1)

    for number in rows:
        if number not in below:
            walk(number, {}, 0)
    return found


def rules_of(rows: Iterable[Said]) -> dict[int, Rule]:
    """From ``ceph osd crush rule dump``."""
    return {rule.id: rule for rule in map(_rule, rows)}


def _rule(row: Said) -> Rule:
    root, device_class = "", ""
    steps: list[Step] = []
    for told in row.rows("steps"):
        operation = told.word("op")
        if operation == "take":
            if root:
                raise ProtocolError(f"{row.where}: a rule that takes twice is not understood")
            root, _, device_class = told.word("item_name").partition("~")
        elif operation.startswith("choose"):
            steps.append(Step(_signed(told, "num"), told.word("type")))
    if not root or not steps:
        raise ProtocolError(f"{row.where}: rule {row.word('rule_name', '?')[:60]!r} takes or chooses nothing")
    return Rule(row.count("rule_id"), row.word("rule_name"), root, device_class, tuple(steps))


def _signed(row: Said, key: str) -> int:
    value = row.values.get(key)
    if type(value) is not int or abs(value) > 1000:
        raise ProtocolError(f"{row.where}: {key} is no small whole number")
    return value


def pgs_of(rows: Iterable[Said]) -> tuple[Pg, ...]:
    """From ``ceph pg dump pgs_brief``."""
    return tuple(
        Pg(_pg_id(row), row.word("state"), _members(row.ids("up")), _members(row.ids("acting"))) for row in rows
    )


def _pg_id(row: Said) -> str:
    told = row.word("pgid")
    pool, dot, number = told.partition(".")
    if not (dot and pool.isdigit() and number):
        raise ProtocolError(f"{row.where}: {told[:60]!r} names no placement group")
    return told


def _members(ids: Iterable[int]) -> tuple[int, ...]:
    return tuple(osd for osd in ids if 0 <= osd != NONE)


def rooms_of(rows: Iterable[Said]) -> dict[int, Room]:
    """From ``ceph osd df``: each OSD's size, in KiB there."""
    return {
        row.count("id"): Room(row.count("kb") * 1024, row.count("kb_used") * 1024)
        for row in rows
        if row.word("type", "osd") == "osd"
    }


def stored_of(body: Said) -> dict[int, int]:
    """From ``ceph df``: bytes that each pool's users have stored, before copies."""
    found = {}
    for row in body.rows("pools"):
        stats = row.part("stats", needed=True)
        found[row.count("id")] = stats.count("stored")
    return found


def mons_of(body: Said) -> Mons:
    """From ``ceph quorum_status``."""
    rows = body.part("monmap", needed=True).rows("mons")
    addresses = {row.word("name"): _address(row, "public_addr") for row in rows}
    return Mons(tuple(addresses), body.words("quorum_names"), body.word("quorum_leader_name", ""), addresses)
