"""What is open: the faults of one journal, and the runs of a site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import EvidenceError
from pytest_pveha.record import Journal, OpenRuns, open_faults, open_runs, read

PLAN = {"fault": "power-cut-1", "type": "PowerCut", "params": {"node": "pve1"}, "undo": {"verb": "on", "params": {}}}
STEPS: list[tuple[str, dict[str, Any]]] = [
    ("fault.plan", PLAN),
    ("fault.inject", {"fault": "power-cut-1", "before": 1, "after": 2}),
    ("fault.effect", {"fault": "power-cut-1", "answer": "yes", "saw": "", "low": 1, "high": 2}),
    ("fault.heal", {"fault": "power-cut-1"}),
    ("fault.healed", {"fault": "power-cut-1", "answer": "yes", "saw": ""}),
    ("fault.close", {"fault": "power-cut-1", "outcome": "healed"}),
]


@pytest.mark.parametrize(
    ("steps", "state"),
    [(1, "planned"), (2, "injected"), (3, "effective"), (4, "healing"), (5, "healed"), (0, None), (6, None)],
)
def test_a_fault_is_open_from_its_plan_to_its_close(tmp_path: Path, steps: int, state: str | None) -> None:
    """At every control line the fault is open, and the state says how far it went."""
    with Journal(tmp_path / "j", LiveClock()) as journal:
        for kind, data in STEPS[:steps]:
            journal.write(kind, data, test="t")
    found = open_faults(read(tmp_path / "j", tolerant_tail=True))
    assert [(fault.state, fault.type, fault.params, fault.undo, fault.test) for fault in found] == (
        [] if state is None else [(state, "PowerCut", {"node": "pve1"}, {"verb": "on", "params": {}}, "t")]
    )


def test_not_healed_stays_open_until_somebody_heals(tmp_path: Path) -> None:
    """A close with not_healed keeps the fault open; a later healed close ends it."""
    with Journal(tmp_path / "j", LiveClock()) as journal:
        journal.write("fault.plan", PLAN)
        journal.write("fault.close", {"fault": "power-cut-1", "outcome": "not_healed"})
        assert [fault.state for fault in open_faults(read(tmp_path / "j"))] == ["not_healed"]
        journal.write("fault.close", {"fault": "power-cut-1", "outcome": "healed", "by": "pveha heal"})
        assert open_faults(read(tmp_path / "j")) == []


def test_open_runs_are_found_until_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run once added is listed by its absolute path, from anywhere, until removed; both can be repeated."""
    monkeypatch.chdir(tmp_path)
    register = OpenRuns(tmp_path / "state" / "site")
    assert register.list() == []
    register.add(Path("reports/run-1"))
    register.add(tmp_path / "reports" / "run-1")
    register.add(Path("reports/run-2"))
    monkeypatch.chdir("/")
    assert OpenRuns(tmp_path / "state" / "site").list() == [tmp_path / "reports/run-1", tmp_path / "reports/run-2"]
    register.remove(tmp_path / "reports/run-1")
    register.remove(tmp_path / "reports/run-1")
    assert register.list() == [tmp_path / "reports/run-2"]


def test_a_spoilt_entry_is_not_overlooked(tmp_path: Path) -> None:
    """An entry that cannot be read is an error that says what to do, never an empty list."""
    (tmp_path / "0123.json").write_text("{", encoding="utf-8")
    with pytest.raises(EvidenceError, match="look for it under reports"):
        OpenRuns(tmp_path).list()


def test_each_site_has_its_own_register(tmp_path: Path) -> None:
    """The place comes from the environment and the site's name; no name leads out of it."""
    assert open_runs("a", {"PVEHA_STATE": "/s"}).state_dir == Path("/s/open/a")
    assert open_runs("a", {"XDG_STATE_HOME": "/x"}).state_dir == Path("/x/pveha/open/a")
    assert open_runs("a", {"HOME": "/h"}).state_dir == Path("/h/.local/state/pveha/open/a")
    for name in ("..", "../b", "/etc", "."):
        assert open_runs(name, {"PVEHA_STATE": str(tmp_path)}).state_dir.resolve().parent == tmp_path / "open"
    with pytest.raises(EvidenceError, match="PVEHA_STATE"):
        OpenRuns(Path("/proc/none")).add(tmp_path)
