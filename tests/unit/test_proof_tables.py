"""The tables of ``make proof`` show the worst, and what was not allowed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import tables


def row(site: str, test: str, verdict: str, allowed: bool = True) -> str:
    return json.dumps({"site": site, "test": f"suites/{test}", "verdict": verdict, "allowed": allowed})


def test_the_worst_role_is_shown_and_a_red_one_is_bold(tmp_path: Path) -> None:
    """Two roles of a test are one cell; a table that was not made says so."""
    rows = [
        row("3-nodes", "nodes/test_power_loss.py::test_power_loss[crm-master]", "accepted"),
        row("3-nodes", "nodes/test_power_loss.py::test_power_loss[other-1]", "rejected", allowed=False),
        row("5-nodes", "nodes/test_power_loss.py::test_power_loss[other-1]", "not proven"),
        row("5-nodes", "upgrade/test_rolling.py::test_reboot", "accepted"),
    ]
    (tmp_path / "variants.jsonl").write_text("\n".join(rows) + "\n")
    crash = {"fault": "power-cut", "line": "after fault.arm", "way": "kill", "by": "supervisor", "seconds": 12.5}
    (tmp_path / "crashes.jsonl").write_text(json.dumps(crash) + "\n")
    drawn = [
        {"number": 2, "defects": ["never-fences"], "blow": "", "verdicts": {"a": "rejected"}, "allowed": True},
        {"number": 7, "defects": ["never-fences"], "blow": "", "verdicts": {"a": "accepted"}, "allowed": False},
        {"number": 3, "defects": [], "blow": "kill after fault.arm", "verdicts": {}, "allowed": True},
    ]
    (tmp_path / "random.jsonl").write_text("".join(json.dumps(each) + "\n" for each in drawn))
    page = tables.page(tmp_path)
    assert "| | test_power_loss power_loss | test_rolling reboot |" in page
    assert "| 3-nodes | **✗** |  |" in page
    assert "| 5-nodes | – | ✓ |" in page
    assert "| power-cut | after fault.arm | supervisor, 12.5 s |" in page
    assert "| 1 defect | 2 | 1 | 0 | 0 | 0 | 0 | 1 | 0 | 7 |" in page
    assert "| nothing planted, struck | 1 | 0 | 0 | 0 | 0 | 0 | 0 | 0 |  |" in page
    assert "Not made." in page
