"""Pure: journal in, verdict out. Suites claim measures; the judge finds their values in the journal alone."""

from __future__ import annotations

from pytest_pveha.judge.measures import (
    Measure,
    both_quorate,
    collateral_resets,
    downtime,
    fence_margin,
    fences,
    half_alive,
    last_reset,
    lost_writes,
    membership_changes,
    not_before_death,
    overlaps,
    quorum_losses,
    recovery_time,
    rejoins,
    reset_after,
    reset_after_last_feed,
    sides_reset,
    start_after_death,
    violations,
)

__all__ = [
    "Measure",
    "both_quorate",
    "collateral_resets",
    "downtime",
    "fence_margin",
    "fences",
    "half_alive",
    "last_reset",
    "lost_writes",
    "membership_changes",
    "not_before_death",
    "overlaps",
    "quorum_losses",
    "recovery_time",
    "rejoins",
    "reset_after",
    "reset_after_last_feed",
    "sides_reset",
    "start_after_death",
    "violations",
]
