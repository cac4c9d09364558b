"""What happened: the journal, its reader, and what it leaves open."""

from __future__ import annotations

from pytest_pveha.record.journal import Journal, Line, read
from pytest_pveha.record.openings import OpenFault, OpenRuns, open_faults, open_runs

__all__ = ["Journal", "Line", "OpenFault", "OpenRuns", "open_faults", "open_runs", "read"]
