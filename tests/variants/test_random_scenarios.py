"""Random tests on sites with random defects, struck at random lines: nothing is left broken, nor accepted wrongly.

SCENARIOS=N plays N of them, 200 unless said; STRIKES=K/N every N-th from the K-th on. A number is a scenario, always
the same one.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import whole_run
from test_defects_table import BY_SUITES, played_with
from variants import SUITES, VARIANTS, share, suite_tests
from warm_start import run_pytest
from whole_run import ROOT

from pytest_pveha.record.journal import read
from pytest_pveha.record.openings import open_faults
from tests.crash.test_crash import by_hand, wait_for_supervisor

CRASH = ROOT / "tests" / "crash"
NUMBER = int(os.environ.get("SCENARIOS", "200"))
LINES = ("fault.arm", "fault.inject", "fault.effect", "fault.heal", "fault.healed")
WAYS = ("kill", "kill-both", "sigterm", "ctrl-c", "exception")
PLAIN = next(variant for variant in VARIANTS if variant.name == "3-nodes")


@dataclass(frozen=True)
class Scenario:
    """What is played: a test, or the whole suite that must catch the defect; what is wrong; and the blow, if any."""

    number: int
    test: str
    defects: tuple[str, ...]
    line: str | None
    way: str | None

    def __str__(self) -> str:
        return "-".join(map(str, (self.number, *self.defects, *((self.line, self.way) if self.way else ()))))

    @property
    def own(self) -> bool:
        """Whether the suite is the one that must catch the only defect, and nothing disturbs it."""
        return len(self.defects) == 1 and self.way is None and BY_SUITES[self.defects[0]].caught_by.endswith(self.test)


def scenario(number: int) -> Scenario:
    """That scenario: the same for the same number, whatever else is played."""
    chance = random.Random(f"scenario {number}")
    defects = tuple(chance.sample(sorted(BY_SUITES), chance.choice((0, 1, 1, 1, 2))))
    if defects and chance.random() < 0.5:
        return Scenario(number, BY_SUITES[defects[0]].caught_by.removeprefix("suites/"), defects, None, None)
    test = chance.choice(suite_tests())
    if chance.random() < 0.5:
        return Scenario(number, test, defects, chance.choice(LINES), chance.choice(WAYS))
    return Scenario(number, test, defects, None, None)


@dataclass(frozen=True)
class Row:
    """One scenario as the table keeps it."""

    number: int
    test: str
    defects: tuple[str, ...]
    blow: str
    verdicts: dict[str, str]
    """Of each test but the gate."""
    allowed: bool


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[whole_run.Place]:
    """A user's own corner, for this process and those it starts."""
    with whole_run.place() as place:
        for name in ("PVEHA_STATE", "PVEHA_RUNTIME"):
            monkeypatch.setenv(name, place.environment[name])
        yield place


def played(one: Scenario, here: whole_run.Place) -> tuple[int, Path, bool, str]:
    """Its exit code, its inventory, whether it was struck, and what it said."""
    blocks, simulator = played_with(one.defects[0]) if one.defects else ({}, {})
    inventory = here.inventory(blocks, **{"boot_seconds": 40, **simulator, "defects": list(one.defects)})
    path, _, name = one.test.partition("::")
    words = whole_run.typed(inventory, here, suites=SUITES / (f"{path}::{name}" if name else path))
    if not name:  # what must catch the defect may be a test that only looks
        words += ["-m", "destructive or readiness"]
    environment = dict(here.environment)
    mark = here.folder / "struck"
    if one.way is not None:
        environment |= {"PYTHONPATH": os.pathsep.join((str(ROOT), str(CRASH))), "STRUCK": str(mark)}
        environment |= {"STRIKE": f"after {one.line}", "STRIKE_BY": one.way}
        words = [*words, "-p", "striking"]
    done = run_pytest(words, env=environment, cwd=ROOT)
    return done.returncode, inventory, mark.exists(), done.output


def verdicts(here: whole_run.Place) -> dict[str, str]:
    """What the run says of each test; nothing where it was killed, or no test applied."""
    paths = list(here.reports.glob("*/2*/verdict.json"))
    tests = json.loads(paths[0].read_text())["tests"] if paths else []
    return {test["id"]: test["verdict"] for test in tests if test["id"] != "gate"}


def keep(row: Row) -> None:
    """The row is in the table of the folder PROOF_TABLES, where it is named."""
    if folder := os.environ.get("PROOF_TABLES"):
        path = Path(folder) / "random.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row), sort_keys=True) + "\n")


def assert_in_order(one: Scenario, here: whole_run.Place) -> None:
    """However it went, nothing is open, nothing is dirty, and what bit was not accepted."""
    code, inventory, struck, output = played(one, here)
    if code == -signal.SIGKILL:
        assert struck, output
        (journal,) = here.reports.rglob("journal.jsonl")
        if one.way == "kill":
            wait_for_supervisor(journal.parent)
        by_hand(inventory)
        assert open_faults(read(journal, tolerant_tail=True)) == []
        found: dict[str, str] = {}
    else:
        assert code in (0, 1, 5, 6, *([2] if struck else [])), output
        found = verdicts(here)
    allowed = not (one.own and found and set(found.values()) <= {"accepted", "not applicable"})
    if not one.defects and not struck:
        allowed = all(verdict in PLAIN.allowed(test) for test, verdict in found.items())
    blow = f"{one.way} after {one.line}" if struck else ""
    keep(Row(one.number, one.test, one.defects, blow, found, allowed))
    assert here.open_runs() == [], output
    assert "dirty" not in found.values(), output
    assert allowed, output


def test_the_scenarios_are_many_and_always_the_same() -> None:
    """A number is one scenario; among 200 there is every way to be struck, most defects, and healthy ones too."""
    drawn = [scenario(number) for number in range(200)]
    assert drawn == [scenario(number) for number in range(200)]
    assert {one.way for one in drawn} == {None, *WAYS}
    assert len({defect for one in drawn for defect in one.defects}) > len(BY_SUITES) / 2
    assert sum(one.own for one in drawn) > 20
    assert sum(not one.defects for one in drawn) > 20


QUICK = next(
    one for one in map(scenario, range(10_000)) if one.way == "kill" and one.defects and "test_killed" in one.test
)
"""One that is played in every run of the project's own tests: a guest is killed, and then the run."""


def test_a_quick_one(here: whole_run.Place) -> None:
    """A defect, a kill, a heal."""
    assert_in_order(QUICK, here)


@pytest.mark.proof
@pytest.mark.parametrize("number", share(range(NUMBER)), ids=lambda number: str(scenario(number)))
def test_a_random_scenario_ends_in_order(number: int, here: whole_run.Place) -> None:
    """The whole lot."""
    assert_in_order(scenario(number), here)
