"""What a run's time went into is told from the journal alone, and only where it says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from pytest_pveha.clock import SECOND
from pytest_pveha.judge.facts import Facts, Fault
from pytest_pveha.judge.spent import spent
from pytest_pveha.record.journal import Line


@dataclass
class At:
    """A line, as far as it matters here."""

    mono: int
    data: dict[str, Any] = field(default_factory=dict)


def facts(whole: float, **close: Any) -> Facts:
    """A run of that many seconds that broke something."""
    fault = Fault("power-cut-1", "PowerCut", {}, "t")
    return Facts(
        first=cast("Line", At(5 * SECOND)),
        close=cast("Line", At(5 * SECOND + round(whole * SECOND), close)),
        faults=[fault],
    )


def test_the_rest_is_the_tool_s() -> None:
    """Of 100 s, 60 waited and 30 watched, ten are the tool's: 11.1 % of the 90."""
    found = spent(facts(100, waited=60 * SECOND, watched=30 * SECOND))
    assert found is not None
    assert found.to_json() == {
        "seconds": 100.0,
        "waited_for_site": 60.0,
        "watched": 30.0,
        "tool_added": 10.0,
        "tool_added_percent": 11.1,
    }


def test_a_journal_that_does_not_say_is_not_guessed() -> None:
    """Without the times, or with nonsense in them, nothing is told."""
    for close in ({}, {"waited": 1}, {"waited": "1", "watched": 0}, {"waited": -1, "watched": 0}):
        assert spent(facts(10, **close)) is None
    assert spent(Facts()) is None


@given(st.floats(0, 1e6), st.integers(0, 10**15), st.integers(0, 10**15))
def test_shares_are_never_negative(whole: float, waited: int, watched: int) -> None:
    """Whatever a journal claims, the tool's part is no credit."""
    found = spent(facts(whole, waited=waited, watched=watched))
    assert found is not None
    assert found.added >= 0
    assert (found.percent is None) == (waited + watched == 0)
