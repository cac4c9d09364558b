"""Restores: how long until each mark, how old the backup was. From the journal's lines alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge.facts import SECOND, TestFacts, integer, real, strings, text
from pytest_pveha.judge.measured import Measured, at_least, between, seconds_up

RESTORED: Final = "GuestRestored"
MIB: Final = 1 << 20


def restore_time(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """From asking for the restore to the last of the marks, in seconds; the other marks are told with it.

    Raises:
        Inconclusive: no restore was asked for, or a mark was neither met nor missed.
    """
    fault = next((one for one in test.faults if one.type == RESTORED and one.params.get("sid") == subject), None)
    if fault is None or fault.before is None:
        raise Inconclusive(f"no restore of {subject} was asked for")
    asked_low, asked_high = fault.before, fault.before if fault.after is None else fault.after
    marks = strings(params.get("marks"))
    if not marks:
        raise Inconclusive("the claim names no mark")
    told = []
    found: Measured | None = None
    for mark in marks:
        row = next((each for each in reversed(test.expects) if text(each.get("condition")) == mark), None)
        if row is None:
            raise Inconclusive(f"it was not looked whether {mark}")
        low, high = integer(row.get("low")), integer(row.get("high"))
        if row.get("outcome") == "not_met":
            waited = real(row.get("within")) or 0.0
            return at_least(round(waited * SECOND)) if found is None else at_least(round(found.low * SECOND))
        if row.get("outcome") != "met" or low is None or high is None:
            raise Inconclusive(f"whether {mark} could not be told")
        found = between(max(0, low - asked_high), max(0, high - asked_low))
        told.append(f"{mark} after {seconds_up(max(0, high - asked_low)):.1f} s")
    assert found is not None
    about = "; ".join([*told, *_speed(fault.params, told, test, asked_low, marks[0])])
    return Measured(found.value, found.low, found.high, found.unit, about=about)


def _speed(params: Mapping[str, Any], told: list[str], test: TestFacts, asked: int, first: str) -> list[str]:
    """What was read in a second, until the restore had ended."""
    size = real(params.get("size"))
    row = next((each for each in reversed(test.expects) if text(each.get("condition")) == first), None)
    high = integer(row.get("high")) if row is not None else None
    if not size or not told or high is None or high <= asked:
        return []
    return [f"{size / MIB / ((high - asked) / SECOND):.0f} MiB/s"]


def backup_age(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How old the newest backup was when the restore was asked for, in seconds.

    Raises:
        Inconclusive: nobody looked.
    """
    del params
    row = next((each for each in test.backups if text(each.get("guest")) == subject), None)
    if row is None:
        raise Inconclusive(f"no backup of {subject} was looked for")
    low, high = real(row.get("least")), real(row.get("most"))
    if low is None or high is None or low > high:
        raise Inconclusive(f"how old the backup of {subject} is was not told")
    low, high = max(0.0, low), max(0.0, high)
    return Measured((low + high) / 2, low, high, "s", about=text(row.get("volume")))
