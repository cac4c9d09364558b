"""Health checks: what the mons complain of, from the map, from their own state and from what the manager last told.

Texts and codes: Ceph's documentation ("Health checks") and its health output as known from Pacific on. A group that is
not active or is undersized is complained of after a minute (mon_pg_stuck_threshold), an idle one at once: that is why
one inactive group is told of while all are (measured on Pacific).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world.ceph.digest import Row

if TYPE_CHECKING:
    from pytest_pveha.sim.world.ceph.cluster import Ceph

OK, WARN, ERR = "HEALTH_OK", "HEALTH_WARN", "HEALTH_ERR"
_STUCK = 60 * SECOND
_SHOWN = 50
"""Lines of detail on placement groups (mon_health_max_detail)."""


@dataclass(frozen=True, slots=True)
class Check:
    """One complaint."""

    code: str
    severity: str
    message: str
    count: int
    detail: tuple[str, ...] = ()


class Health:
    """The complaints of one cluster at this moment."""

    def __init__(self, ceph: Ceph) -> None:
        self._ceph = ceph
        self._now = ceph.world.timeline.now

    def checks(self) -> list[Check]:
        """All of them, muted or not, by code."""
        kinds: tuple[Callable[[], Iterator[Check]], ...] = (
            self._mons,
            self._managers,
            self._flags,
            self._osds,
            self._fullness,
            self._groups,
            self._pools,
            self._slow,
            self._stretch,
        )
        return sorted((check for kind in kinds for check in kind()), key=lambda check: check.code)

    def status(self) -> str:
        """The worst of what is not muted."""
        found = {check.severity for check in self.checks() if check.code not in self._ceph.muted}
        return next((word for word in (ERR, WARN) if word in found), OK)

    # the kinds

    def _mons(self) -> Iterator[Check]:
        mons = self._ceph.mons
        missing = [mon for name, mon in mons.all.items() if name not in mons.quorum]
        if missing:
            text = f"{len(missing)}/{len(mons.all)} mons down, quorum {','.join(mons.quorum)}"
            detail = tuple(
                f"mon.{mon.name} (rank {mon.rank}) addr [v2:{mon.address}:3300/0,v1:{mon.address}:6789/0] is down "
                "(out of quorum)"
                for mon in missing
            )
            yield Check("MON_DOWN", WARN, text, len(missing), detail)
        if skewed := mons.skewed():
            text = f"clock skew detected on {', '.join(f'mon.{name}' for name in skewed)}"
            detail = tuple(
                f"mon.{name} clock skew {abs(by):.6g}s > max 0.05s (latency 0.0005s)" for name, by in skewed.items()
            )
            yield Check("MON_CLOCK_SKEW", WARN, text, len(skewed), detail)

    def _managers(self) -> Iterator[Check]:
        if self._ceph.managers.hosts and not self._ceph.managers.active:
            yield Check("MGR_DOWN", WARN, "no active mgr", 0)

    def _flags(self) -> Iterator[Check]:
        ceph = self._ceph
        words = [*(("pauserd", "pausewr") if "pause" in ceph.flags else ()), *sorted(ceph.flags - {"pause"})]
        if words:
            yield Check("OSDMAP_FLAGS", WARN, f"{','.join(words)} flag(s) set", 1)
        flagged = [osd for osd in ceph.osds.values() if osd.flags]
        if flagged:
            text = f"{len(flagged)} OSDs or CRUSH {{nodes, device-classes}} have {{NOUP,NODOWN,NOIN,NOOUT}} flags set"
            detail = tuple(f"{osd.name} has flags {','.join(sorted(osd.flags))}" for osd in flagged)
            yield Check("OSD_FLAGS", WARN, text, len(flagged), detail)

    def _osds(self) -> Iterator[Check]:
        ceph = self._ceph
        down = [osd for osd in ceph.osds.values() if not osd.up and osd.is_in]
        if not down:
            return
        detail = tuple(f"{osd.name} (root=default,host={osd.host}) is down" for osd in down)
        yield Check("OSD_DOWN", WARN, f"{len(down)} osds down", len(down), detail)
        numbers = {osd.number for osd in down}
        hosts = [host for host, osds in ceph.crush.hosts().items() if set(osds) <= numbers]
        if hosts:
            lost = sum(len(ceph.crush.hosts()[host]) for host in hosts)
            word = "host" if len(hosts) == 1 else "hosts"
            detail = tuple(f"host {host} (root=default) ({len(ceph.crush.hosts()[host])} osds) is down"
                           for host in hosts)  # fmt: skip
            yield Check("OSD_HOST_DOWN", WARN, f"{len(hosts)} {word} ({lost} osds) down", len(hosts), detail)
        yield from self._rooms(numbers)

    def _rooms(self, down: set[int]) -> Iterator[Check]:
        ceph = self._ceph
        below: dict[str, set[int]] = {}
        for number, place in ceph.crush.places.items():
            below.setdefault(place.room, set()).add(number)
        lost = {room: osds for room, osds in sorted(below.items()) if osds <= down}
        if len(below) > 1 and lost:
            kind, count = ceph.room_type, sum(map(len, lost.values()))
            detail = tuple(f"{kind} {room} (root=default) ({len(osds)} osds) is down" for room, osds in lost.items())
            text = f"{len(lost)} {kind}{'s' * (len(lost) != 1)} ({count} osds) down"
            yield Check(f"OSD_{kind.upper()}_DOWN", WARN, text, len(lost), detail)

    def _fullness(self) -> Iterator[Check]:
        ceph = self._ceph
        kinds = (
            ("full", "OSD_FULL", ERR),
            ("backfillfull", "OSD_BACKFILLFULL", WARN),
            ("nearfull", "OSD_NEARFULL", WARN),
        )
        counted: set[int] = set()
        worst = ""
        for ratio, code, severity in kinds:
            found = [
                osd
                for osd in ceph.osds.values()
                if osd.is_in and osd.number not in counted and osd.fullness >= ceph.ratios[ratio]
            ]
            counted |= {osd.number for osd in found}
            if found:
                worst = worst or ratio
                text = f"{len(found)} {ratio} osd(s)" if ratio != "nearfull" else f"{len(found)} nearfull osd(s)"
                detail = tuple(f"{osd.name} is {'near full' if ratio == 'nearfull' else ratio}" for osd in found)
                yield Check(code, severity, text, len(found), detail)
        if worst:
            code, severity = (f"POOL_{worst.upper()}", WARN)
            detail = tuple(f"pool '{name}' is {worst}" for name in ceph.pools)
            yield Check(code, severity, f"{len(ceph.pools)} pool(s) {worst}", len(ceph.pools), detail)

    def _groups(self) -> Iterator[Check]:
        told = self._ceph.digest.told
        rows = told.rows
        words = {row: frozenset(row.state.split("+")) for row in rows}
        inactive = [
            row for row in rows
            if "active" not in words[row] and (row.idle or self._now - row.unserved_since >= _STUCK)
        ]  # fmt: skip
        kinds = [
            ("inactive", inactive),
            *((word, [row for row in rows if word in words[row]]) for word in ("peering", "down", "stale")),
        ]
        if parts := [f"{len(found)} pg{'s' * (len(found) != 1)} {kind}" for kind, found in kinds if found]:
            bad = [row for row in rows if any(row in found for _, found in kinds)]
            text = f"Reduced data availability: {', '.join(parts)}"
            yield Check("PG_AVAILABILITY", WARN, text, len(bad), self._details(bad))
        degraded = [row for row in rows if "degraded" in words[row]]
        undersized = [row for row in rows if "undersized" in words[row] and self._now - row.undersized_since >= _STUCK]
        if told.degraded:
            share = 100 * told.degraded / told.copies
            parts = [f"{told.degraded}/{told.copies} objects degraded ({share:.3f}%)"]
            parts += [
                f"{len(found)} pg{'s' * (len(found) != 1)} {kind}"
                for kind, found in (("degraded", degraded), ("undersized", undersized))
                if found
            ]
            text = f"Degraded data redundancy: {', '.join(parts)}"
            yield Check("PG_DEGRADED", WARN, text, len(degraded), self._details(degraded))
        full = [row for row in rows if words[row] & {"backfill_toofull", "recovery_toofull"}]
        if full:
            plural = "s" * (len(full) != 1)
            text = f"Low space hindering backfill (add storage if this doesn't resolve itself): {len(full)} pg{plural} "
            yield Check("PG_BACKFILL_FULL", WARN, f"{text}backfill_toofull", len(full), self._details(full))

    @staticmethod
    def _details(rows: list[Row]) -> tuple[str, ...]:
        return tuple(
            f"pg {row.name} is {row.state}, acting [{','.join(map(str, row.acting))}]" for row in rows[:_SHOWN]
        )

    def _pools(self) -> Iterator[Check]:
        single = [pool.name for pool in self._ceph.pools.values() if pool.size == 1]
        if single:
            detail = tuple(f"pool '{name}' has no replicas configured" for name in single)
            text = f"{len(single)} pool(s) have no replicas configured"
            yield Check("POOL_NO_REDUNDANCY", WARN, text, len(single), detail)

    def _slow(self) -> Iterator[Check]:
        ceph = self._ceph
        seconds = ceph.io.slow_seconds()
        if seconds:
            blamed = [osd.name for osd in ceph.osds.values() if osd.up][:2]
            text = f"{8 * max(1, len(blamed))} slow ops, oldest one blocked for {round(seconds)} sec"
            yield Check("SLOW_OPS", WARN, f"{text}, daemons [{','.join(blamed)}] have slow ops.", len(blamed))
        pinged = [osd for osd in ceph.osds.values() if osd.up and self._now < osd.slow_until]
        if pinged:
            for code, word in (("OSD_SLOW_PING_TIME_BACK", "back"), ("OSD_SLOW_PING_TIME_FRONT", "front")):
                text = f"Slow OSD heartbeats on {word} (longest 26113.904ms)"
                yield Check(code, WARN, text, len(pinged))

    def _stretch(self) -> Iterator[Check]:
        if self._ceph.stretch.degraded:
            text = "We are missing stretch mode buckets, only requiring half size for pools to peer."
            yield Check("DEGRADED_STRETCH_MODE", WARN, text, 1)
        elif self._ceph.stretch.recovering:
            text = (
                "We have recovered stretch mode buckets and are waiting for data to recover before leaving that mode."
            )
            yield Check("RECOVERING_STRETCH_MODE", WARN, text, 1)
