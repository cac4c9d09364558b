"""The last lines of a run in the terminal: a line a test with its figures, what was not proven, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_pveha.record.journal import Line
from pytest_pveha.record.openings import open_faults
from pytest_pveha.report import coverage, words

_COLUMN = 13
_SHOWN = 5


def summary_lines(verdict: Mapping[str, Any], report: Path | None = None) -> list[str]:
    """What a person reads when the run has ended. No line holds anything that could move the cursor."""
    return [line.replace("\n", " ").rstrip() for line in _lines(words.clean(verdict), report)]


def by_hand(lines: Iterable[Line], inventory: str) -> list[str]:
    """What a person types where the site could not be put right: each open fault with its undo, the worst first."""
    told = ["THE SITE IS DIRTY: something that this run broke was not seen to be whole again."]
    for fault in open_faults(lines):
        undo = fault.undo.get("by_hand", "see the fault.plan line in the journal")
        told.append(words.clean(f"  {fault.fault} ({fault.type} {fault.params}): {undo}"))
    return [*told, words.clean(f"  then, and before anything else: pveha heal --inventory {inventory}")]


def _lines(verdict: dict[str, Any], report: Path | None) -> Iterator[str]:
    took = words.between(verdict["started"], verdict["finished"])
    where = f"{verdict['site']}{' (SIMULATED)' if verdict['simulated'] else ''}"
    yield f"pveha: {where}, run {verdict['run']}" + (f", {words.length(took)}" if took is not None else "")
    if spent := verdict.get("time"):
        yield f"site time {words.length(spent['seconds'])}, of which the tool added {_added(spent)}"
    if campaign := verdict.get("campaign"):
        yield f"drawn by {words.drawn(campaign)}; to repeat one scenario alone add --pveha-step K"
    gate = verdict["gate"]
    if gate["verdict"] != "accepted":
        yield _row(gate["verdict"], "the gate: is the site fit to be tested?")
        for check in gate["checks"]:
            if check.get("answer") != "yes":
                yield _row(
                    "", f"{check.get('title') or check.get('id')}: {check.get('saw', '')}. {check.get('advice', '')}"
                )
    tests = [test for test in verdict["tests"] if test["id"] != words.GATE]
    for test in tests:
        if test["verdict"] not in words.UNCOUNTED:
            yield from _test(test)
    said = {test["id"] for test in tests}
    left = [item for item in verdict["not_proven"] if item["id"] not in said]
    if left:
        yield "not proven:"
    for item in left:
        yield f"  {'the run as a whole' if item['id'] == words.RUN else item['id']}: {item['reason']}"
    yield from _requirements(verdict)
    yield from _coverage(verdict)
    for row in (verdict.get("left") or {}).get("differences", []):
        yield _row("as left", row)
    outside = [test for test in tests if test["verdict"] in words.UNCOUNTED]
    if outside:
        yield "outside the declared scope:"
    for test in outside:
        yield f"  {test['verdict']}: {test['title'] or test['id']}: {test['reason']}"
    shouted = verdict["verdict"].upper()
    if verdict["simulated"] and "SIMULATED" not in shouted:
        shouted += " (SIMULATED)"
    yield f"verdict: {shouted}. {words.MEANING.get(words.word(verdict['verdict']), '')}"
    if report is not None:
        yield f"report:  {words.clean(str(report))}"


def _requirements(verdict: Mapping[str, Any]) -> Iterator[str]:
    """What was asked, and answered; questions of which no test was in the run share a line."""
    rows = verdict.get("requirements") or []
    if not rows:
        return
    yield f"what was asked{_simulated(verdict)}:"
    for row in rows:
        if row["tests"]:
            why = f": {row['reason']}" if row["verdict"] != "accepted" else ""
            yield _row(row["verdict"], f"{row['question']}{why}")
    if untouched := [row["question"] for row in rows if not row["tests"]]:
        yield _row("not proven", f"no test of it was in this run: {'; '.join(untouched)}")


def _coverage(verdict: Mapping[str, Any]) -> Iterator[str]:
    """Who was ever proven to survive what, and who never was."""
    found = verdict.get("coverage") or {"cells": [], "uncounted": []}
    if found["cells"]:
        yield f"coverage by this run and earlier ones{_simulated(verdict)}: {coverage.told(found)}"
    for line in coverage.lines(found):
        yield f"  {line}"
    for row in found["uncounted"]:
        yield f"  not counted: {row['run']}: {row['reason']}"


def _simulated(verdict: Mapping[str, Any]) -> str:
    return " (SIMULATED)" if verdict["simulated"] else ""


def _test(test: Mapping[str, Any]) -> Iterator[str]:
    role = words.role(test["id"])
    yield _row(test["verdict"], f"{test['title']}{f' [{role}]' if role else ''}")
    if test["verdict"] != "accepted" and test["reason"]:
        yield _row("", test["reason"])
    missed = [claim for claim in test["claims"] if claim["verdict"] != "accepted"]
    for claim in missed[:_SHOWN]:
        yield _row("", f"{claim['verdict']}: {_claim(claim)}")
    if len(missed) > _SHOWN:
        yield _row("", f"and {len(missed) - _SHOWN} more, see the report")
    met = [claim for claim in test["claims"] if claim["verdict"] == "accepted"]
    for claim, count in words.worst(met):
        yield _row("", _claim(claim) + (f"; the worst of {count}" if count > 1 else ""))


def _claim(claim: Mapping[str, Any]) -> str:
    return f"{words.measure(claim['measure'])} of {claim['subject']} {words.statement(claim)}"


def _added(spent: Mapping[str, Any]) -> str:
    percent = spent["tool_added_percent"]
    share = "" if percent is None else f" ({percent:g} % of what was waited for and watched)"
    return f"{words.length(spent['tool_added'])}{share}"


def _row(verdict: str, text: str) -> str:
    return f"  {verdict.upper():<{_COLUMN}} {text}"
