"""What JUnit XML says of a test: a property for machines, and messages that begin with the verdict's word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_pveha.report import words

PROPERTY = "pveha.verdict"


def properties(test: Mapping[str, Any], *, simulated: bool) -> list[tuple[str, str]]:
    """The properties of a test case: its verdict, whether the site was simulated, and each measured figure."""
    test = words.clean(test)
    figures = [
        (
            f"pveha.{claim['measure']}.{claim['subject']}",
            f"{words.statement(claim)}: {claim['verdict']}",
        )
        for claim in test["claims"]
    ]
    return [(PROPERTY, test["verdict"]), ("pveha.simulated", "true" if simulated else "false"), *figures]


def message(test: Mapping[str, Any]) -> str:
    """One line for a failure, error or skip: the verdict's word, then why."""
    test = words.clean(test)
    reason = " ".join(str(test["reason"] or "").split())
    return f"{test['verdict']}: {reason}" if reason else str(test["verdict"])
