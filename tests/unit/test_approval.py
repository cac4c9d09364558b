"""A second signature is worth what it is for: each way in which it is not has its one message."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from inventory_texts import CONSENT, REAL

from pytest_pveha.approval import NAMESPACE, approve, approved, needed
from pytest_pveha.errors import UnsafeTarget, UsageError
from pytest_pveha.evidence import sshsig
from pytest_pveha.inventory import Site, load, node_digest
from pytest_pveha.scenario.declared import Declared
from pytest_pveha.scenario.planning import Scene, Subject, canonical, plan

NOON = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)
BOSS = "boss@example.org"
SIGNER = "ha-team@example.org"
TEXT = (
    REAL
    + CONSENT.replace("ticket:", f"node_digest: {node_digest(['pve1', 'pve2'])}\n  ticket:")
    + "  approval: {file: plan.json.approval, allowed_signers: approvers}\n"
    + f"evidence: {{signing_key: seal, signer: {SIGNER}}}\n"
)
CUT = Subject("t.py::test_cut[crm-master]", "It is fenced.", Declared("one node", 60.0, ("power-cut",)), "crm-master")
LOOKS = Subject("t.py::test_ready", "It is ready.", None)


@dataclass
class Desk:
    """A folder with an inventory, two keys, and a plan that the boss has approved."""

    folder: Path
    subjects: list[Subject] = field(default_factory=lambda: [CUT])

    @property
    def site(self) -> Site:
        return load(self.folder / "site.yml")

    def scene(self) -> Scene:
        return Scene("prod1", ("pve1", "pve2"), (), connected=True, master="pve1")

    def draw(self) -> dict[str, Any]:
        """The plan as it would be made now."""
        return plan(self.site, self.scene(), "all", self.subjects)

    def write(self, document: dict[str, Any] | None = None) -> Path:
        path = self.folder / "plan.json"
        path.write_bytes(canonical(document or self.draw()))
        return path

    def sign(self, key: str = "boss", identity: str = BOSS) -> None:
        _, line = approve(self.folder / "plan.json", self.folder / key, identity)
        (self.folder / "approvers").write_text(line)

    def asked(self, *, now: datetime = NOON, key: str | None = "seal") -> str | None:
        """The refusal, without the folder's name; None = approved by the boss."""
        try:
            found = approved(
                self.site, self.draw()["tests"], now=now, sealing_key=lambda: None if key is None else self.folder / key
            )
        except UnsafeTarget as error:
            return str(error).replace(f"{self.folder}/", "").removeprefix("site.yml: consent.approval: ")
        assert found.identity == BOSS
        return None


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Everything as it must be."""
    (tmp_path / "site.yml").write_text(TEXT)
    for name in ("boss", "seal"):
        sshsig.throwaway_key(tmp_path / name, name)
    found = Desk(tmp_path)
    found.write()
    found.sign()
    return found


def test_it_holds(desk: Desk) -> None:
    """As agreed: approved, and what only looks needs nobody's leave."""
    assert needed(desk.site)
    assert desk.asked() is None
    desk.subjects.append(LOOKS)
    assert desk.asked() is None


def test_stock_tools_verify_it(desk: Desk) -> None:
    """ssh-keygen finds the signature good, in our namespace."""
    command = ["ssh-keygen", "-Y", "verify", "-f", "approvers", "-I", BOSS, "-n", NAMESPACE, "-s", "plan.json.approval"]
    with (desk.folder / "plan.json").open("rb") as raw:
        done = subprocess.run(command, cwd=desk.folder, stdin=raw, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f'Good "{NAMESPACE}" signature for {BOSS}' in done.stdout


def test_a_signature_by_stock_tools_holds(desk: Desk) -> None:
    """What ssh-keygen signed, renamed, is an approval."""
    (desk.folder / "plan.json.approval").unlink()
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", "boss", "plan.json"]
    subprocess.run(command, cwd=desk.folder, check=True, capture_output=True)
    (desk.folder / "plan.json.sig").rename(desk.folder / "plan.json.approval")
    assert desk.asked() is None


def test_it_goes_into_the_run_folder(desk: Desk, tmp_path: Path) -> None:
    """Plan and signature are copied as they were checked, and named for the environment."""
    found = approved(desk.site, desk.draw()["tests"], now=NOON, sealing_key=lambda: None)
    (folder := tmp_path / "run").mkdir()
    found.store(folder)
    assert (folder / "approved-plan.json").read_bytes() == (desk.folder / "plan.json").read_bytes()
    assert (folder / "approved-plan.json.approval").read_text() == (desk.folder / "plan.json.approval").read_text()
    assert found.to_json()["approved_by"] == BOSS
    assert found.to_json()["plan_digest"].startswith("sha256:")


def rewrite(desk: Desk, **changes: Any) -> None:
    """A plan that says something else, approved by the boss all the same."""
    desk.write({**desk.draw(), **changes})
    desk.sign()


def no_approval(desk: Desk) -> None:
    (desk.folder / "plan.json.approval").unlink()


def no_plan(desk: Desk) -> None:
    (desk.folder / "plan.json").unlink()


def no_allowed(desk: Desk) -> None:
    (desk.folder / "approvers").unlink()


def plan_changed(desk: Desk) -> None:
    document = json.loads((desk.folder / "plan.json").read_bytes())
    desk.write({**document, "scope": "one-per-role"})


def stranger(desk: Desk) -> None:
    sshsig.throwaway_key(desk.folder / "stranger", "stranger")
    approve(desk.folder / "plan.json", desk.folder / "stranger", BOSS)


def signed_as_evidence(desk: Desk) -> None:
    signature = sshsig.sign((desk.folder / "plan.json").read_bytes(), desk.folder / "boss")
    (desk.folder / "plan.json.approval").write_text(signature)


def key_for_evidence_only(desk: Desk) -> None:
    (desk.folder / "approvers").write_text(sshsig.allowed_signers(BOSS, desk.folder / "boss"))


def garbage(desk: Desk) -> None:
    (desk.folder / "plan.json.approval").write_bytes(b"\xff\x00 nothing")


def own_key(desk: Desk) -> None:
    desk.sign("seal", BOSS)


def own_name(desk: Desk) -> None:
    desk.sign("boss", SIGNER)


def own_name_by_a_pattern(desk: Desk) -> None:
    line = (desk.folder / "approvers").read_text()
    (desk.folder / "approvers").write_text(line.replace(BOSS, "*@example.org", 1))


def other_cluster(desk: Desk) -> None:
    rewrite(desk, cluster="prod2")


def other_nodes(desk: Desk) -> None:
    rewrite(desk, node_digest="sha256:" + "0" * 64)


def other_window(desk: Desk) -> None:
    rewrite(desk, window={"not_before": "2025-03-01T20:00:00+00:00", "not_after": "2025-03-02T04:00:00+00:00"})


def no_window(desk: Desk) -> None:
    rewrite(desk, window=None)


def inventory_changed(desk: Desk) -> None:
    (desk.folder / "site.yml").write_text(TEXT + "# a remark\n")


def another_test(desk: Desk) -> None:
    desk.subjects.append(replace(CUT, id="t.py::test_cut[other-1]", role="other-1"))


def twice(desk: Desk) -> None:
    desk.subjects.append(CUT)


def breaks_more(desk: Desk) -> None:
    desk.subjects[0] = replace(CUT, declared=Declared("one node", 60.0, ("power-cut",), site_reset=True))


def takes_longer(desk: Desk) -> None:
    desk.subjects[0] = replace(CUT, declared=Declared("one node", 61.0, ("power-cut",)))


HAVE_IT = "a plan is made by pveha plan INVENTORY --json PLAN, and approved by pveha approve PLAN"
AGAIN = "have the plan made and approved again"
UNKNOWN = "not in the approved plan, or it says now that it breaks something else; leave out what was not approved, or"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_approval, f"the approval, plan.json.approval, cannot be read (No such file or directory); {HAVE_IT}"),
        (no_plan, f"the plan, plan.json, cannot be read (No such file or directory); {HAVE_IT}"),
        (no_allowed, "allowed_signers, approvers, cannot be read (No such file or directory)"),
        (
            plan_changed,
            "the approval does not hold: the signature does not belong to this text: one of them was changed",
        ),
        (stranger, "a key that is not among the allowed signers, not for approval, or not valid at this time"),
        (signed_as_evidence, "signed as 'pveha-evidence', not as 'pveha-approval': it was made for something else"),
        (key_for_evidence_only, "a key that is not among the allowed signers, not for approval"),
        (garbage, "the approval does not hold: the signature cannot be read"),
        (own_key, f"approved by {BOSS} with the key that also seals the evidence; a second person must approve"),
        (own_name, f"approved by {SIGNER} with the identity that also seals the evidence"),
        (own_name_by_a_pattern, "approved by *@example.org with the identity that also seals the evidence"),
        (other_cluster, f"the approved plan is for cluster prod2, this inventory for prod1; {AGAIN}"),
        (other_nodes, "the approved plan is for other nodes (sha256:0000"),
        (
            other_window,
            "the approved plan is for the window 2025-03-01T20:00:00+00:00 to 2025-03-02T04:00:00+00:00, the consent's "
            "is 2026-03-01T20:00:00+00:00 to 2026-03-02T04:00:00+00:00, and it is 2026-03-01T22:00:00+00:00; " + AGAIN,
        ),
        (no_window, "the approved plan is for the window of no consent, the consent's is"),
        (inventory_changed, "the inventory was changed since the plan was made: its checksum is"),
        (another_test, f"t.py::test_cut[other-1]: {UNKNOWN} {AGAIN}"),
        (twice, f"t.py::test_cut[crm-master]: {UNKNOWN} {AGAIN}"),
        (breaks_more, f"t.py::test_cut[crm-master]: {UNKNOWN} {AGAIN}"),
        (takes_longer, f"t.py::test_cut[crm-master]: {UNKNOWN} {AGAIN}"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_refusal(desk: Desk, spoil: Callable[[Desk], None], message: str) -> None:
    """What is wrong is said, with what to do."""
    spoil(desk)
    told = desk.asked()
    assert told is not None
    assert message in told


def test_after_the_window_it_is_worth_nothing(desk: Desk) -> None:
    """The window that stands in the plan is the approval's own."""
    told = desk.asked(now=datetime(2026, 3, 2, 4, tzinfo=UTC))
    assert told is not None
    assert "and it is 2026-03-02T04:00:00+00:00" in told


def test_an_unreadable_seal_key_is_no_other_persons(desk: Desk) -> None:
    """Whether the approver is somebody else cannot be told then, so it is refused."""
    told = desk.asked(key="nowhere")
    assert told is not None
    assert told.startswith("whether the approver is somebody else than the signer cannot be told: signing key ")


def test_a_smaller_run_needs_no_new_signature(desk: Desk) -> None:
    """What is left out was approved all the same."""
    desk.subjects = [CUT, replace(CUT, id="t.py::test_cut[other-1]", role="other-1")]
    desk.write()
    desk.sign()
    desk.subjects = [CUT]
    assert desk.asked() is None


def test_what_is_no_plan_is_not_signed(desk: Desk) -> None:
    """An approval of something else is not made."""
    (desk.folder / "plan.json").write_text("{}\n")
    with pytest.raises(UsageError, match="is no plan that can be approved"):
        desk.sign()
