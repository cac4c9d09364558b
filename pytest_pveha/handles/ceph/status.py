"""What ``ceph status`` says, by whichever way it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_pveha.handles.reading import Said, once

CLEAN = "active+clean"
_BESIDE_CLEAN = frozenset({"scrubbing", "deep", "snaptrim", "snaptrim_wait"})
"""Upkeep that goes on in a placement group that is whole (Ceph's documentation, Placement Group States)."""


def serves(state: str) -> bool:
    """Whether a placement group in that state serves IO: ``stale`` is what nobody has confirmed since."""
    words = state.split("+")
    return "active" in words and "stale" not in words


def whole(state: str) -> bool:
    """Whether that state is active+clean, scrubbing or not."""
    return set(state.split("+")) - _BESIDE_CLEAN == {"active", "clean"}


@dataclass(frozen=True, slots=True)
class CephStatus:
    """What ``ceph status`` says. Judge availability by PG states: health lags by tens of seconds (seen on Pacific)."""

    health: str
    checks: tuple[str, ...]
    quorum: tuple[str, ...]
    mons: int
    osds: int
    osds_up: int
    osds_in: int
    pgs: Mapping[str, int]
    """Number of placement groups by state, such as ``active+clean``."""
    messages: Mapping[str, str] = field(default_factory=dict)
    """Each check's own words."""
    expected: int | None = None
    """How many placement groups there are by its own count; None where it was not told."""
    degraded: int = 0
    """Copies of objects that are missing."""
    misplaced: int = 0
    muted: tuple[str, ...] = ()
    """Checks that somebody has muted (``ceph health mute``), whether they complain now or not: they do not count in
    ``health``."""
    recovery_rate: int = 0
    """Bytes that are rebuilt in a second, by its own smoothed count."""
    epoch: int = 0
    """Of its OSD map: another one is another state of OSDs, flags or pools."""

    @property
    def inactive(self) -> int:
        """Placement groups that serve no IO."""
        return sum(count for state, count in self.pgs.items() if not serves(state))

    @property
    def told_all(self) -> bool:
        """Whether it speaks of every placement group there is, and of at least one."""
        told = sum(self.pgs.values())
        return told > 0 and self.expected in (None, told)

    @property
    def clean(self) -> bool:
        """Whether it calls every placement group active+clean; without any that is not known, and so not said.

        What it says may be older than its OSD map: whether it can be believed, ``observe.ceph_map.whole`` tells.
        """
        return self.told_all and all(whole(state) for state in self.pgs)

    @property
    def in_words(self) -> str:
        """The states, most frequent first."""
        rows = sorted(self.pgs.items(), key=lambda row: (-row[1], row[0]))
        return ", ".join(f"{count} {state}" for state, count in rows) or "no placement group is told of"


def _muted(health: Said, checks: Mapping[str, Said]) -> tuple[str, ...]:
    """By the list of all mutes, and by what each check says of itself."""
    listed = {row.word("code") for row in health.rows("mutes")} if "mutes" in health.values else set()
    return tuple(sorted(listed | {name for name, check in checks.items() if check.truth("muted", False)}))


def status_of(body: Said) -> CephStatus:
    """Of Octopus or later; earlier ones nest the osdmap once more. Keys at zero may be absent (seen on 16.2.15)."""
    health, osdmap, monmap = (body.part(name, needed=True) for name in ("health", "osdmap", "monmap"))
    if "osdmap" in osdmap.values:
        osdmap = osdmap.part("osdmap", needed=True)
    pgmap = body.part("pgmap", needed=True)
    states = pgmap.rows("pgs_by_state")
    checks = dict(health.part("checks").parts())
    return CephStatus(
        health=health.word("status"),
        checks=tuple(sorted(checks)),
        quorum=body.words("quorum_names"),
        # PVE gives the full monmap, `ceph status` only a count
        mons=len(monmap.rows("mons")) if "mons" in monmap.values else monmap.count("num_mons"),
        osds=osdmap.count("num_osds"),
        osds_up=osdmap.count("num_up_osds"),
        osds_in=osdmap.count("num_in_osds"),
        pgs=once(((row.word("state_name"), row.count("count")) for row in states), body.where),
        messages={name: check.part("summary").word("message", "") for name, check in sorted(checks.items())},
        expected=pgmap.count("num_pgs") if "num_pgs" in pgmap.values else None,
        degraded=pgmap.count("degraded_objects", 0),
        misplaced=pgmap.count("misplaced_objects", 0),
        muted=_muted(health, checks),
        recovery_rate=pgmap.count("recovering_bytes_per_sec", 0),
        epoch=osdmap.count("epoch"),
    )
