"""Pure: journal in, verdict out. Suites claim measures; the judge finds their values in the journal alone."""

from __future__ import annotations

from pytest_pveha.judge.measures import (
    Measure,
    broken_paths,
    collateral_resets,
    downtime,
    fence_path_time,
    lost_writes,
    not_before_death,
    recovery_time,
    violations,
    wrong_machines,
)

__all__ = [
    "Measure",
    "broken_paths",
    "collateral_resets",
    "downtime",
    "fence_path_time",
    "lost_writes",
    "not_before_death",
    "recovery_time",
    "violations",
    "wrong_machines",
]
