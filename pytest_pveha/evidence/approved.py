"""The second signature in a run folder: is it under the plan that armed the run, and whose is it?"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from pytest_pveha.errors import BadSignature
from pytest_pveha.evidence import sshsig
from pytest_pveha.evidence.manifest import Finding, is_plain_file

NAMESPACE: Final = "pveha-approval"
SUFFIX: Final = ".approval"
PLAN: Final = "approved-plan.json"
"""What the approved plan is called in a run folder; its signature lies beside it, with SUFFIX."""

OWN_KEY: Final = "by whoever has that key: compare it with the approver's own"


def check_approval(run_dir: Path, approvers: str | None) -> tuple[list[str], list[Finding]]:
    """What to tell of the approval that verdict.json names, and what speaks against it.

    Args:
        approvers: who may approve, in ssh-keygen's form, as the reader got it by another way than with the run.
    """
    said = _said(run_dir)
    plan, signature = run_dir / PLAN, run_dir / f"{PLAN}{SUFFIX}"
    if said is None:
        left = [path.name for path in (plan, signature) if path.exists() or path.is_symlink()]
        found = [Finding("approval", name, "is there, and the run names no approval") for name in left]
        if approvers is not None and not left:
            found.append(Finding("approval", "verdict.json", "names no approval, and one is expected"))
        return [], found
    if missing := [path.name for path in (plan, signature) if not is_plain_file(path)]:
        return [], [Finding("approval", name, "is missing, and the run names it") for name in missing]
    by, key = str(said.get("approved_by")), str(said.get("key"))
    raw = plan.read_bytes()
    if said.get("plan_digest") != (digest := f"sha256:{hashlib.sha256(raw).hexdigest()}"):
        text = f"is {digest}, and the run was approved by {said.get('plan_digest')}"
        return [], [Finding("approval", plan.name, text)]
    try:
        armored = signature.read_bytes().decode("utf-8", errors="replace")
        found_key = sshsig.intact(raw, armored, namespace=NAMESPACE).fingerprint
        if found_key != key:
            raise BadSignature(f"made by {found_key}, and the run names {key}")
        if approvers is not None:
            names = sshsig.signers(raw, armored, approvers, namespace=NAMESPACE)
            if by not in names and not any(sshsig.matches(name, by) for name in names):
                raise BadSignature(f"signed by {', '.join(names)}, and the run names {by}")
    except BadSignature as error:
        return [], [Finding("approval", signature.name, str(error))]
    whose = OWN_KEY if approvers is None else "as the given approvers say"
    return [f"approval   plan {digest}, approved by {by} with {key}: the signature holds, {whose}"], []


def _said(run_dir: Path) -> dict[str, Any] | None:
    """What verdict.json says of it; whether that is what the journal says is asked elsewhere."""
    try:
        said = json.loads((run_dir / "verdict.json").read_bytes()).get("approval")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return said if isinstance(said, dict) else None
