"""What people did by a runbook, step by step, as they typed that they had done it.

Method: docs/explanation/method.md, "Steps of people".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge.facts import TestFacts, strings
from pytest_pveha.judge.measured import Measured, between, counted


def unconfirmed(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many of the steps nobody said to be done; and in words how long each of the others took.

    Raises:
        Inconclusive: the claim names none.
    """
    del subject
    steps = strings(params.get("steps"))
    if not steps:
        raise Inconclusive("the claim names no step")
    done = [step for step in steps if step in test.asks and test.answers.get(step, ("",))[0] == "done"]
    told = [f"{step} {between(*_taken(test, step))}" for step in done]
    missing = [step for step in steps if step not in done]
    found = counted(len(missing), len(missing))
    about = "; ".join([*(f"{step}: nobody said done" for step in missing), *told])
    return Measured(found.value, found.low, found.high, found.unit, about=about)


def _taken(test: TestFacts, step: str) -> tuple[int, int]:
    """From when it was asked for to when it was said to be done, at least and at most (ns)."""
    asked, (_, low, high) = test.asks[step], test.answers[step]
    return max(0, low - asked), max(0, high - asked)
