"""Pure: journal in, verdict out. Suites claim measures; the judge finds their values in the journal alone."""

from __future__ import annotations

from pytest_pveha.judge.measures import (
    Measure,
    collateral_resets,
    downtime,
    fences,
    lost_writes,
    misplaced,
    moves,
    not_before_death,
    not_moved,
    recovery_time,
    time_after_return,
    time_away,
    time_home,
    time_to_leave,
    violations,
)

__all__ = [
    "Measure",
    "collateral_resets",
    "downtime",
    "fences",
    "lost_writes",
    "misplaced",
    "moves",
    "not_before_death",
    "not_moved",
    "recovery_time",
    "time_after_return",
    "time_away",
    "time_home",
    "time_to_leave",
    "violations",
]
