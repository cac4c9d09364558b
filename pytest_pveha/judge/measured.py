"""A measured value with its bounds, and the one rule that holds it against an objective.

Method: docs/explanation/method.md, "Values and objectives".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Comparison = Literal["accepted", "rejected", "inconclusive", "not proven"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured: the truth lies between ``low`` and ``high``.

    ``high`` None means: no upper bound was seen. ``censored``: the end was never seen, so there is no value, only
    "at least low".
    """

    value: float | None
    low: float
    high: float | None
    unit: str
    censored: bool = False
    about: str = ""
    """Whose value it is, where it is the worst of many, and what they said."""

    def __str__(self) -> str:
        sign = f" {self.unit}" if self.unit != "count" else ""
        if self.censored:
            return f"more than {number(self.low)}{sign} (its end was not seen)"
        if self.high is None:
            return f"at least {number(self.low)}{sign}"
        if self.value is None or self.low == self.high:
            bounds = f"{number(self.low)} to {number(self.high)}{sign}"
            return f"{number(self.low)}{sign}" if self.low == self.high else bounds
        return f"{number(self.value)}{sign} ({number(self.low)} to {number(self.high)})"


def number(value: float) -> str:
    """The number as people write it: one decimal, none where there is nothing behind the point."""
    return f"{value:.1f}".removesuffix(".0")


def between(low_ns: int, high_ns: int) -> Measured:
    """A duration known to lie between two numbers of nanoseconds, in seconds; its value is the middle."""
    low, high = seconds_down(low_ns), seconds_up(high_ns)
    return Measured(min(high, max(low, seconds_down((low_ns + high_ns) // 2))), low, high, "s")


def at_least(low_ns: int) -> Measured:
    """A duration whose end was never seen."""
    return Measured(None, seconds_down(low_ns), None, "s", censored=True)


def counted(least: int, most: int | None) -> Measured:
    """A number of things: all that were seen, and at most those that could not be looked at besides."""
    return Measured(least if least == most else None, least, most, "count")


def compare(measured: Measured, op: str, objective: float | None) -> tuple[Comparison, str]:
    """How the value stands to its objective, and the objective in words.

    The whole interval meets it: accepted. The whole interval misses it: rejected. Across: inconclusive.
    """
    if op == "none":
        return _at_most(measured, 0), "objective none"
    if objective is None:
        return "inconclusive", "no objective to hold it against"
    sign = "" if measured.unit == "count" else f" {measured.unit}"
    if op == "at_most":
        return _at_most(measured, objective), f"objective at most {number(objective)}{sign}"
    if op == "at_least":
        return _at_least(measured, objective), f"objective at least {number(objective)}{sign}"
    return "inconclusive", f"{op!r} is no comparison this version knows"


def _at_most(measured: Measured, objective: float) -> Comparison:
    if measured.high is not None and measured.high <= objective:
        return "accepted"
    return "rejected" if measured.low > objective else "inconclusive"


def _at_least(measured: Measured, objective: float) -> Comparison:
    if measured.low >= objective:
        return "accepted"
    return "rejected" if measured.high is not None and measured.high < objective else "inconclusive"


def seconds_down(nanoseconds: int) -> float:
    """Seconds, rounded down to the microsecond: for lower bounds."""
    return nanoseconds // 1000 / 1_000_000


def seconds_up(nanoseconds: int) -> float:
    """Seconds, rounded up to the microsecond: for upper bounds."""
    return -(-nanoseconds // 1000) / 1_000_000
