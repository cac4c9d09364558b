"""``pveha soak``: runs until the time is up, and what they add up to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cli_kit import ROOT, SIMULATED, Shell

from pytest_pveha.cli.soak import Played, exit_code, summed, told

KILLED = ROOT / "suites" / "guests" / "test_each_guest.py"


@pytest.fixture
def project(shell: Shell) -> Shell:
    """A folder of somebody's."""
    (shell.place / "pytest.ini").write_text("[pytest]\npveha = true\naddopts = -p no:pytest11.testinfra\n")
    return shell


def test_it_runs_until_the_time_is_up(project: Shell) -> None:
    """Two short runs fit into three minutes of the site's time; each has its folder, and the sum says so."""
    words = ("soak", "3 min", SIMULATED, f"{KILLED}::test_killed[vm:101]", "--json", "sum.json")
    done = project.pveha(*words)
    assert done.code == 0, done.out + done.err
    total = json.loads((project.place / "sum.json").read_text())
    assert 2 <= len(total["runs"]) <= 3
    assert total["seconds"] <= 180
    assert {run["verdict"] for run in total["runs"]} == {"accepted (partial, simulated)"}
    (killed,) = [test for test in total["tests"] if "test_killed" in test["id"]]
    assert killed["verdicts"] == {"accepted": len(total["runs"])}
    assert done.lines[-1] == "2 of 2 tests were accepted each time"
    assert len(list((project.place / "reports" / "sim-3node").glob("2*"))) == len(total["runs"])


@pytest.mark.parametrize(
    ("words", "code", "told_so"),
    [
        (("soak", "soon", SIMULATED), 4, "DURATION soon"),
        (("soak", "1 h", "nowhere.yml"), 4, "nowhere.yml"),
        (("soak", "1 h", SIMULATED, "no-such-test.py"), 4, "exit code 4"),
    ],
)
def test_what_cannot_run_is_not_run_again(project: Shell, words: tuple[object, ...], code: int, told_so: str) -> None:
    """A slip of the pen ends it at once."""
    done = project.pveha(*words)
    assert done.code == code, done.out + done.err
    assert told_so in done.out + done.err


def test_a_test_that_failed_once_is_named() -> None:
    """With how often, and the first run that shows it."""

    def one(verdict: str, minute: int) -> Played:
        tests: list[dict[str, Any]] = [
            {"id": "a", "title": "A holds", "verdict": verdict, "reason": "it did not"},
            {"id": "b", "title": "B holds", "verdict": "accepted", "reason": ""},
        ]
        times = {"started": "2026-01-01T00:00:00Z", "finished": f"2026-01-01T00:0{minute}:00Z"}
        return Played(SIMULATED.parent / f"run-{minute}", 0, {"verdict": verdict, "tests": tests, **times})

    lines = told(summed([one("accepted", 1), one("rejected", 2), one("accepted", 3)]))
    assert lines[0] == "3 runs in 6 min of the site's time: 2 accepted, 1 rejected"
    assert lines[1:] == [
        "  2 accepted, 1 rejected: A holds",
        "    a; first in run-2: it did not",
        "1 of 2 tests were accepted each time",
    ]


@pytest.mark.parametrize(
    ("codes", "code"), [([0, 0], 0), ([0, 6], 6), ([1, 6, 0], 1), ([1, 7], 7), ([1, 4], 4), ([0, 2], 2), ([2, 7], 7)]
)
def test_the_worst_run_decides(codes: list[int], code: int) -> None:
    """Dirty before all, then what could not be run."""
    assert exit_code(codes) == code
