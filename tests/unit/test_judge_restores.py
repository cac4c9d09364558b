"""How long a restore took, and how old its backup was: from lines made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge.facts import SECOND, Fault, TestFacts
from pytest_pveha.judge.restores import backup_age, restore_time

MARKS = {"marks": ["vm:101 is restored", "the copy of vm:101 answers inside"]}


def facts(*expects: dict[str, Any], injected: bool = True) -> TestFacts:
    """A test that asked for a restore at 100 s, within a second, and waited for these."""
    fault = Fault("guest-restored-1", "GuestRestored", {"sid": "vm:101", "size": 600 << 20}, "t")
    if injected:
        fault.before, fault.after = 100 * SECOND, 101 * SECOND
    return TestFacts("t", faults=[fault], expects=list(expects))


def met(condition: str, low: float, high: float) -> dict[str, Any]:
    """It came true between these seconds."""
    return {
        "condition": condition, "within": 600.0, "outcome": "met",
        "low": round(low * SECOND), "high": round(high * SECOND),
    }  # fmt: skip


def test_the_time_ends_with_the_last_mark() -> None:
    """From asking until somebody answers inside, and the other marks and the speed are told with it."""
    test = facts(met("vm:101 is restored", 129, 130), met("the copy of vm:101 answers inside", 150, 151))
    found = restore_time(test, "vm:101", MARKS)
    assert (found.low, found.high) == (49.0, 51.0)
    assert "vm:101 is restored after 30.0 s" in found.about
    assert "20 MiB/s" in found.about


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (facts(injected=False), "no restore of vm:101 was asked for"),
        (facts(), "it was not looked whether vm:101 is restored"),
        (
            facts({**met("vm:101 is restored", 1, 2), "outcome": "cant_tell", "low": None, "high": None}),
            "whether vm:101 is restored could not be told",
        ),
        (
            facts(met("vm:101 is restored", 129, 130)),
            "it was not looked whether the copy of vm:101 answers inside",
        ),
    ],
)
def test_what_was_not_seen_has_no_time(test: TestFacts, said: str) -> None:
    """No act, no look, or no answer: inconclusive."""
    with pytest.raises(Inconclusive, match=said):
        restore_time(test, "vm:101", MARKS)


def test_a_mark_that_was_missed_is_more_than_that() -> None:
    """It was waited for so long, and did not come."""
    missed = {"condition": "the copy of vm:101 answers inside", "within": 1200.0, "outcome": "not_met"}
    found = restore_time(facts(met("vm:101 is restored", 129, 130), missed), "vm:101", MARKS)
    assert found.censored
    assert found.low >= 28


def test_an_age_has_its_error() -> None:
    """Both bounds as they were told; without a look, or upside down, it is inconclusive."""
    row = {"guest": "vm:101", "volume": "pbs1:backup/vm/101/x", "taken": 5, "least": 21599.0, "most": 21601.5}
    found = backup_age(TestFacts("t", backups=[row]), "vm:101", {})
    assert (found.low, found.high, found.about) == (21599.0, 21601.5, "pbs1:backup/vm/101/x")
    for rows in ([], [{**row, "guest": "vm:102"}], [{**row, "least": 30000.0}], [{**row, "most": "x"}]):
        with pytest.raises(Inconclusive):
            backup_age(TestFacts("t", backups=rows), "vm:101", {})
