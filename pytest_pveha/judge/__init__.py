"""Pure: journal in, verdict out. Suites claim measures; the judge finds their values in the journal alone."""

from __future__ import annotations

from pytest_pveha.judge.measures import (
    Measure,
    collateral_resets,
    downtime,
    fences,
    lost_writes,
    not_before_death,
    recovery_time,
    violations,
)

__all__ = [
    "Measure",
    "collateral_resets",
    "downtime",
    "fences",
    "lost_writes",
    "not_before_death",
    "recovery_time",
    "violations",
]
