"""Every planted defect against every test: each run ends with a verdict, and never on a dirty site."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import whole_run
from variants import EVERY, ROOT, keep, play, rows, share, suite_tests

from pytest_pveha.sim.defects import DEFECTS

BY_SUITES = {name: defect for name, defect in DEFECTS.items() if defect.caught_by.startswith("suites/")}


def played_with(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The blocks, and the keys of the simulator block, with which that defect's own test plays it."""
    blocks: dict[str, Any] = {}
    simulator: dict[str, Any] = {}
    for path in sorted((ROOT / "tests" / "mutants").glob("test_defects*.py")):
        module = importlib.import_module(f"tests.mutants.{path.stem}")
        caught = getattr(module, "CAUGHT", {}).get(name)
        blocks |= getattr(caught, "blocks", {})
        for keys in ("site", "played", "simulator"):
            simulator |= getattr(caught, keys, {})
        simulator |= getattr(module, "PLAYED", {}).get(name, {})
    return blocks, simulator


@pytest.fixture
def here() -> Iterator[whole_run.Place]:
    """A user's own corner."""
    with whole_run.place() as place:
        yield place


def test_every_defect_names_a_suite_that_exists() -> None:
    """What must catch it is among the tests of the table."""
    suites = {f"suites/{test.partition('::')[0]}" for test in suite_tests()}
    harmless = {
        *(f"suites/readiness/test_{name}.py" for name in ("bonds", "readiness")),
        "suites/stretched/test_latency.py",
    }
    assert {defect.caught_by for defect in BY_SUITES.values()} <= suites | harmless
    assert all(Path(ROOT, suite).is_file() for suite in suites | harmless)


@pytest.mark.proof
@pytest.mark.parametrize("name", share(list(BY_SUITES)))
def test_a_run_with_the_defect_ends_in_order(name: str, here: whole_run.Place) -> None:
    """Its suite does not accept it, so the run does not; each verdict has its reason, and nothing is left broken."""
    blocks, simulator = played_with(name)
    inventory = here.inventory(blocks, **{"boot_seconds": 40, **simulator, "defects": [name]})
    outcome, seconds = play(inventory, here, EVERY, "-m", "destructive or readiness")
    found = rows(name, EVERY, outcome, seconds)
    keep("defects", found)
    assert outcome.exit_code in (1, 6), outcome.output
    own = {row.verdict for row in found if row.test.startswith(BY_SUITES[name].caught_by)}
    assert own - {"accepted", "not applicable"}, outcome.output
    assert all(row.reason for row in found)
    assert here.open_runs() == []
