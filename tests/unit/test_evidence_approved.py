"""The second signature of a run is bound into its evidence: each way in which it does not hold is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from journal_builder import accepted_run, chained, changed
from jsonschema import Draft202012Validator

from pytest_pveha.evidence import sshsig
from pytest_pveha.evidence.approved import NAMESPACE
from pytest_pveha.evidence.seal import seal
from pytest_pveha.evidence.verify import VerifyReport, verify_run
from pytest_pveha.judge.schema import verdict_schema
from pytest_pveha.judge.verdict import dump, judge
from pytest_pveha.record.journal import read
from pytest_pveha.report.html import render
from pytest_pveha.scenario.planning import digest

BOSS = "boss@example.org"
PLAN = b'{"plan": 1}\n'


class Folder:
    """A sealed run that the boss approved."""

    def __init__(self, place: Path) -> None:
        self.keys, self.run = place, place / "run"
        self.run.mkdir()
        for name in ("boss", "stranger"):
            sshsig.throwaway_key(place / name, name)
        armored = sshsig.sign(PLAN, place / "boss", namespace=NAMESPACE)
        (self.run / "approved-plan.json").write_bytes(PLAN)
        (self.run / "approved-plan.json.approval").write_text(armored)
        key = sshsig.parse(armored).fingerprint
        self.write({"approved_by": BOSS, "key": key, "plan_digest": digest(PLAN)})

    def write(self, approval: Any) -> None:
        """The record says that of its approval."""
        lines = chained(changed(accepted_run(), "run.open", approval=approval))
        (self.run / "journal.jsonl").write_bytes(b"".join(line.encode() + b"\n" for line in lines))
        (self.run / "verdict.json").write_bytes(dump(judge(lines)))
        (self.run / "SIMULATED").touch()

    @property
    def verdict(self) -> dict[str, Any]:
        return dict(json.loads((self.run / "verdict.json").read_bytes()))

    def approvers(self, key: str = "boss", identity: str = BOSS) -> Path:
        """The reader's own list."""
        path = self.keys / "approvers"
        path.write_text(sshsig.allowed_signers(identity, self.keys / key, namespace=NAMESPACE))
        return path

    def verified(self, approvers: Path | None = None) -> VerifyReport:
        """What is told of it, sealed as it is now."""
        if not (self.run / "MANIFEST").exists():
            seal(self.run, None, None)
        return verify_run(self.run, approvers=approvers, rejudge=lambda each: dump(judge(read(each / "journal.jsonl"))))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Everything as it must be."""
    return Folder(tmp_path)


def test_the_verdict_names_who_approved(folder: Folder) -> None:
    """Who, with which key, under which plan: in verdict.json by its schema, in the report and in what verify says."""
    said = folder.verdict["approval"]
    assert said == {"approved_by": BOSS, "key": said["key"], "plan_digest": digest(PLAN)}
    Draft202012Validator(verdict_schema()).validate(folder.verdict)
    page = render(folder.verdict, [], {})
    assert all(text in page for text in said.values())
    told = folder.verified()
    assert told.ok, told.lines
    (line,) = [line for line in told.lines if line.startswith("approval ")]
    assert all(text in line for text in said.values())
    assert line.endswith("by whoever has that key: compare it with the approver's own")
    (line,) = [line for line in folder.verified(folder.approvers()).lines if line.startswith("approval ")]
    assert line.endswith("as the given approvers say")


@pytest.mark.parametrize(
    "said", [None, {}, {"approved_by": BOSS}, {"approved_by": 1, "key": "", "plan_digest": []}, "x"]
)
def test_without_one_it_names_none(folder: Folder, said: Any) -> None:
    """A run that nobody had to approve, and a record that does not say who did, name nobody."""
    for path in folder.run.glob("approved-plan*"):
        path.unlink()
    folder.write(said)
    assert folder.verdict["approval"] is None
    assert "Second signature" not in render(folder.verdict, [], {})
    told = folder.verified()
    assert told.ok, told.lines
    assert not any(line.startswith("approval ") for line in told.lines)
    (finding,) = folder.verified(folder.approvers()).findings
    assert "names no approval, and one is expected" in str(finding)


def other_plan(folder: Folder) -> None:
    (folder.run / "approved-plan.json").write_bytes(b'{"plan": 2}\n')


def no_plan(folder: Folder) -> None:
    (folder.run / "approved-plan.json").unlink()


def no_signature(folder: Folder) -> None:
    (folder.run / "approved-plan.json.approval").unlink()


def other_key(folder: Folder) -> None:
    armored = sshsig.sign(PLAN, folder.keys / "stranger", namespace=NAMESPACE)
    (folder.run / "approved-plan.json.approval").write_text(armored)


def for_something_else(folder: Folder) -> None:
    (folder.run / "approved-plan.json.approval").write_text(sshsig.sign(PLAN, folder.keys / "boss"))


def garbage(folder: Folder) -> None:
    (folder.run / "approved-plan.json.approval").write_bytes(b"\xff\x00")


def unnamed(folder: Folder) -> None:
    folder.write(None)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_plan, f"and the run was approved by {digest(PLAN)}"),
        (no_plan, "approved-plan.json: is missing, and the run names it"),
        (no_signature, "approved-plan.json.approval: is missing, and the run names it"),
        (other_key, ", and the run names SHA256:"),
        (for_something_else, "not as 'pveha-approval'"),
        (garbage, "cannot be read"),
        (unnamed, "is there, and the run names no approval"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_does_not_hold_is_found(folder: Folder, spoil: Callable[[Folder], None], message: str) -> None:
    """Sealed or not, a folder whose approval is not the one that its verdict names is not verified."""
    spoil(folder)
    told = folder.verified()
    assert not told.ok
    assert message in "\n".join(told.lines)
    assert told.lines[-1].startswith("NOT VERIFIED")


@pytest.mark.parametrize(
    ("key", "identity", "message"),
    [
        ("stranger", BOSS, "a key that is not among the allowed signers"),
        ("boss", "other@example.org", f"signed by other@example.org, and the run names {BOSS}"),
    ],
)
def test_the_reader_may_know_better_who_approves(folder: Folder, key: str, identity: str, message: str) -> None:
    """By a list got from elsewhere, the key must be that person's."""
    told = folder.verified(folder.approvers(key, identity))
    assert not told.ok
    assert message in "\n".join(told.lines)


def test_a_list_of_approvers_by_pattern_holds(folder: Folder) -> None:
    """As ssh-keygen takes it: the key of a whole group."""
    path = folder.approvers()
    path.write_text(path.read_text().replace(BOSS, "*@example.org", 1))
    assert folder.verified(path).ok
