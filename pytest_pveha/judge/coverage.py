"""What was ever proven of which node or guest, by which fault, in which role, and how long ago; and what was not.

This run's proofs come from its own tests. Those of earlier runs, and what there would be to prove, are what the run
wrote down when it began (line ``history``): the journal alone gives the map.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from pytest_pveha.judge.facts import Facts, Fault, TestFacts, dicts, mapping, strings, text

SAME: Final = {"cord-pulled": "mains-cut"}
"""Faults that are another one by other means: they prove the same."""

ROLES: Final = ("crm-master", "other")
"""The roles that change what a fault does; any other is nobody's in particular."""

_SOME_DAY: Final = "2026-01-01T00:00:00Z"

_NUMBERED: Final = re.compile(r"(.+?)(-trial)?-\d+(-trial)?")


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One square of the map. An empty role: whichever the subject played."""

    fault: str
    role: str
    subject: str


@dataclass(frozen=True, slots=True)
class Proof:
    """When a cell was proven (UTC), and in which run."""

    cell: Cell
    at: str
    run: str

    def to_json(self) -> dict[str, str]:
        """As a ``history`` line has it."""
        cell = self.cell
        return {"fault": cell.fault, "role": cell.role, "subject": cell.subject, "at": self.at, "run": self.run}


@dataclass(frozen=True, slots=True)
class Square:
    """A cell of the map, with the last proof of it."""

    cell: Cell
    proof: Proof | None
    age: float | None
    """Seconds from that proof to the end of this run."""
    here: str | None
    """The worst verdict of the tests of this run that were about it; None where none was."""

    def to_json(self) -> dict[str, Any]:
        """As verdict.json has it."""
        return {
            "fault": self.cell.fault,
            "role": self.cell.role,
            "subject": self.cell.subject,
            "proven": None if self.proof is None else self.proof.at,
            "run": None if self.proof is None else self.proof.run,
            "age": self.age,
            "here": self.here,
        }


@dataclass(frozen=True, slots=True)
class Coverage:
    """The map."""

    squares: tuple[Square, ...] = ()
    uncounted: tuple[tuple[str, str], ...] = ()
    """Earlier runs that prove nothing here, and why."""

    def to_json(self) -> dict[str, Any]:
        """As verdict.json has it."""
        return {
            "proven": sum(square.proof is not None for square in self.squares),
            "of": len(self.squares),
            "cells": [square.to_json() for square in self.squares],
            "uncounted": [{"run": run, "reason": reason} for run, reason in self.uncounted],
        }


class Judged(Protocol):
    """A test with its verdict."""

    @property
    def id(self) -> str: ...
    @property
    def verdict(self) -> str: ...


def coverage(tests: Sequence[Judged], facts: Facts, worst_first: Sequence[str]) -> Coverage:
    """The map as this run leaves it."""
    data = {} if facts.history is None else facts.history
    earlier = mapping(data.get("earlier"))
    wanted = _wanted(data, facts)
    at = "" if facts.last is None else (facts.close or facts.last).utc
    known, tried = [*_told(earlier), *proofs(tests, facts)], _tried(tests, facts)
    squares = []
    for cell in sorted({*wanted, *(proof.cell for proof in known if not _within(proof.cell, wanted))}):
        proof = max((each for each in known if _fits(each.cell, cell)), key=lambda each: each.at, default=None)
        here = [verdict for of, verdict in tried if _fits(of, cell) and verdict in worst_first]
        age = None if proof is None else _age(proof.at, at)
        squares.append(Square(cell, proof, age, min(here, key=worst_first.index, default=None)))
    rows = dicts(earlier.get("uncounted"))
    return Coverage(tuple(squares), tuple((text(row.get("run")), text(row.get("reason"))) for row in rows))


def proofs(tests: Sequence[Judged], facts: Facts) -> list[Proof]:
    """What the accepted tests of this run prove."""
    run = "" if facts.open is None else text(facts.open.data.get("run"))
    at = "" if facts.last is None else (facts.close or facts.last).utc
    cells = {cell for cell, verdict in _tried(tests, facts) if verdict == "accepted"}
    return [Proof(cell, at, run) for cell in sorted(cells)]


def _tried(tests: Sequence[Judged], facts: Facts) -> list[tuple[Cell, str]]:
    return [
        (cell, test.verdict)
        for test in tests
        if test.id in facts.tests
        for fault in facts.tests[test.id].faults
        if "fault.inject" in fault.kinds and not fault.trial
        for cell in _cells(facts.tests[test.id], fault)
    ]


def _cells(test: TestFacts, fault: Fault) -> Iterator[Cell]:
    match = _NUMBERED.fullmatch(fault.fault)
    kind = match[1] if match else fault.fault
    for subject in _subjects(fault.params):
        role = next((role for role, nodes in test.roles.items() if subject in text(nodes).split(", ")), "")
        yield Cell(SAME.get(kind, kind), plain_role(role), subject)


def _subjects(params: Mapping[str, Any]) -> list[str]:
    """Whom or what a fault hits, by its parameters: a guest, a node, a storage, a switch, or several nodes."""
    if sid := text(params.get("sid")):
        return [sid]
    if node := text(params.get("node")) or text(params.get("victim")):
        return [node]
    if thing := text(params.get("storage")) or text(params.get("switch")):
        return [thing]
    return strings(params.get("cut_off")) or strings(params.get("nodes")) or ["the site"]


def plain_role(role: str) -> str:
    """The role that matters: ``other`` for ``other-2`` and ``others-2``, ``crm-master`` also with others."""
    if role.startswith("crm-master"):
        return "crm-master"
    return "other" if role.startswith("other") else ""


def _wanted(data: Mapping[str, Any], facts: Facts) -> set[Cell]:
    """What there would be to prove: as the run said, and of what the site has beside it."""
    found = mapping(facts.found)
    present = {"nodes": sorted(mapping(found.get("nodes"))), "guests": sorted(mapping(found.get("services")))}
    cells = {
        Cell(text(row.get("fault")), text(row.get("role")), subject)
        for row in dicts(data.get("wanted"))
        for subject in {*strings(row.get("subjects")), *present.get(text(row.get("of")), [])}
    }
    particular = {(cell.fault, cell.subject) for cell in cells if cell.role}
    return {cell for cell in cells if cell.role or (cell.fault, cell.subject) not in particular}


def _fits(proof: Cell, cell: Cell) -> bool:
    """Whether what was proven there is what that square is about."""
    return proof == cell or (not cell.role and (proof.fault, proof.subject) == (cell.fault, cell.subject))


def _within(cell: Cell, wanted: Iterable[Cell]) -> bool:
    return any(_fits(cell, each) for each in wanted)


def _told(earlier: Mapping[str, Any]) -> list[Proof]:
    """The proofs of earlier runs as they were written down; one without its moment or run is none."""
    found = []
    for row in dicts(earlier.get("proofs")):
        fault, role, subject, at, run = (text(row.get(key)) for key in ("fault", "role", "subject", "at", "run"))
        if fault and subject and at and run and _age(at, _SOME_DAY) is not None:
            found.append(Proof(Cell(fault, role, subject), at, run))
    return found


def _age(at: str, now: str) -> float | None:
    try:
        return max(0.0, (datetime.fromisoformat(now) - datetime.fromisoformat(at)).total_seconds())
    except (ValueError, TypeError):
        return None
