"""What earlier runs of a site proved, and how long their tests took: from their folders, as far as these hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import EvidenceError
from pytest_pveha.evidence.verify import verify_run
from pytest_pveha.judge.coverage import Proof, proofs
from pytest_pveha.judge.facts import Facts, gather, mapping, text
from pytest_pveha.judge.verdict import GATE, UNCOUNTED, Verdict, dump, judge
from pytest_pveha.record.journal import Line, read

NEWEST = 100
"""So many runs are looked at, the newest ones."""

_STEP = re.compile(r"(?:-|(?<=\[))step-\d+(?=\]$)")
_LOOKS_ONLY = re.compile(r"(^|/)suites/readiness/")


@dataclass(frozen=True, slots=True)
class Past:
    """One earlier run that counts."""

    run: str
    at: str
    """When it ended (UTC)."""
    verdict: str
    versions: dict[str, str]
    """Node → Proxmox VE."""
    whole: bool
    """All there was to break was broken, and accepted."""

    def to_json(self) -> dict[str, Any]:
        """As a ``history`` line has it."""
        return {"run": self.run, "at": self.at, "verdict": self.verdict, "pve": self.versions, "whole": self.whole}


@dataclass(frozen=True, slots=True)
class History:
    """Everything that counts of what went before."""

    runs: tuple[Past, ...] = ()
    """Oldest first."""
    proofs: tuple[Proof, ...] = ()
    """The newest of each cell."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Test → how long it took, of the site's time, when it was accepted last."""
    uncounted: tuple[tuple[str, str], ...] = ()
    """Folders that prove nothing here, and why."""

    @property
    def proven(self) -> Past | None:
        """The last run in which all was proven."""
        return max((run for run in self.runs if run.whole), key=lambda run: run.at, default=None)

    def to_json(self) -> dict[str, Any]:
        """As a ``history`` line has it."""
        return {
            "runs": [run.to_json() for run in self.runs],
            "proofs": [proof.to_json() for proof in self.proofs],
            "uncounted": [{"run": run, "reason": reason} for run, reason in self.uncounted],
        }


def plain(test: str) -> str:
    """A test's id without the step of a campaign."""
    return _STEP.sub("", test).removesuffix("[]")


def history(reports: Path, site: str, cluster: str, *, simulated: bool) -> History:
    """What the runs in ``reports/SITE`` proved; what was changed, or is of another site, is named and not counted."""
    folders = [path for path in (reports / site).glob("*") if path.is_dir() and not path.is_symlink()]
    runs: list[Past] = []
    newest: dict[object, Proof] = {}
    seconds: dict[str, float] = {}
    uncounted: list[tuple[str, str]] = []
    for folder in sorted(folders, key=lambda path: path.name)[-NEWEST:]:
        try:
            lines, verdict = _read(folder)
            facts = gather(lines)
            _refuse_another(facts, site, cluster, simulated=simulated)
        except EvidenceError as error:
            uncounted.append((folder.name, str(error).removeprefix(f"{folder}/")))
            continue
        runs.append(_past(facts, verdict))
        newest.update({proof.cell: proof for proof in proofs(verdict.tests, facts)})
        seconds |= _seconds(lines, verdict)
    return History(tuple(runs), tuple(newest[cell] for cell in sorted(newest, key=str)), seconds, tuple(uncounted))


def _read(folder: Path) -> tuple[list[Line], Verdict]:
    """The run's journal and what it gives today.

    Raises:
        EvidenceError: the folder is not as it was sealed.
    """
    lines: list[Line] = []

    def again(run: Path) -> bytes:
        lines[:] = read(run / "journal.jsonl")
        return dump(judge(lines))

    report = verify_run(folder, rejudge=again)
    # judged by rules that have changed since, a journal gives another verdict: today's is taken
    wrong = [each for each in report.findings if (each.kind, each.path) != ("verdict", "verdict.json")]
    if wrong:
        raise EvidenceError(f"not as it was sealed: {wrong[0]}")
    return lines, judge(lines)


def _refuse_another(facts: Facts, site: str, cluster: str, *, simulated: bool) -> None:
    opened = {} if facts.open is None else facts.open.data
    if text(opened.get("site")) != site or text(opened.get("cluster")) != cluster:
        raise EvidenceError("a run of another site, or of a cluster that calls itself differently")
    if (opened.get("simulated") is not False) is not simulated:
        raise EvidenceError(f"the site was {'real' if simulated else 'simulated'} then, and is not now")


def _past(facts: Facts, verdict: Verdict) -> Past:
    opened = {} if facts.open is None else facts.open.data
    counted = [
        test
        for test in verdict.tests
        if test.verdict not in UNCOUNTED and test.id != GATE and not _LOOKS_ONLY.search(test.id)
    ]
    finished = facts.close is not None and facts.close.data.get("exit_reason") == "finished"
    whole = (
        finished
        and verdict.gate == "accepted"
        and not (opened.get("partial") or opened.get("not_selected"))
        and any("fault.inject" in fault.kinds for fault in facts.faults)
        and all(test.verdict == "accepted" for test in counted)
    )
    versions = {name: text(version) for name, version in mapping(opened.get("pve")).items()}
    return Past(verdict.run, verdict.finished or "", verdict.verdict, versions, whole)


def _seconds(lines: Iterable[Line], verdict: Verdict) -> dict[str, float]:
    """How long each test took that was accepted, or did not apply, from its first line to its last."""
    accepted = {test.id for test in verdict.tests if test.verdict in ("accepted", "not applicable")}
    begun: dict[str, int] = {}
    found: dict[str, float] = {}
    for line in lines:
        if line.test in accepted and line.test is not None:
            begin = begun.setdefault(line.test, line.mono)
            if line.kind == "test.close":
                found[plain(line.test)] = (line.mono - begin) / SECOND
    return found
