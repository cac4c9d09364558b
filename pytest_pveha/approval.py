"""A second person's signature under a plan: made by ``pveha approve``, asked for before a run breaks anything.

A signature tells no time. What dates an approval is the plan it is for: the checksum of the inventory and the
consent's window stand in it, so it ends with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pytest_pveha.errors import BadSignature, EvidenceError, PvehaError, UnsafeTarget, UsageError
from pytest_pveha.evidence import sshsig
from pytest_pveha.evidence.approved import NAMESPACE, PLAN, SUFFIX
from pytest_pveha.evidence.manifest import write_durably
from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.scenario.planning import Document, digest, parse

_AGREED = ("role", "blast", "breaks", "families", "expected_seconds", "site_reset", "combined")
"""What of a test is approved. Who plays its role is decided when it begins, within the consent's targets."""


@dataclass(frozen=True, slots=True)
class Approved:
    """A plan, and whose signature under it holds."""

    plan: bytes = field(repr=False)
    signature: str = field(repr=False)
    identity: str
    fingerprint: str

    def store(self, folder: Path) -> None:
        """Both are in the run folder, as they were checked."""
        write_durably(folder / PLAN, self.plan.decode())
        write_durably(folder / f"{PLAN}{SUFFIX}", self.signature)

    def to_json(self) -> dict[str, str]:
        """As the line that opens the run, and its verdict, name it."""
        return {"approved_by": self.identity, "key": self.fingerprint, "plan_digest": digest(self.plan)}


def approve(plan: Path, key: Path, identity: str) -> tuple[Path, str]:
    """The plan's signature lies beside it; returns its path, and the allowed_signers line that lets the key approve.

    Raises:
        UsageError: it is no plan.
        EvidenceError: the key cannot sign.
    """
    raw = _read(plan, "the plan")
    parse(raw, str(plan))
    line = sshsig.allowed_signers(identity, key, namespace=NAMESPACE)
    signature = sshsig.sign(raw, key, namespace=NAMESPACE)
    sshsig.signers(raw, signature, line, namespace=NAMESPACE)
    target = plan.with_name(plan.name + SUFFIX)
    try:
        write_durably(target, signature)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written ({error.strerror})") from error
    return target, line


def needed(inventory: Inventory) -> bool:
    """Whether nothing may be broken on this site without a second signature."""
    consent = inventory.model.consent
    return not inventory.simulated and consent is not None and consent.approval is not None


def approved(
    inventory: Inventory, tests: Sequence[Document], *, now: datetime, sealing_key: Callable[[], Path | None]
) -> Approved:
    """The approval of these tests, of whom all that break something are in the approved plan.

    Args:
        tests: as a plan lists them.
        sealing_key: where the key that seals the evidence lies.

    Raises:
        UnsafeTarget: in every other case; says which part does not hold. Nothing was touched.
    """
    consent = inventory.model.consent
    assert consent is not None
    assert consent.approval is not None
    where = f"{inventory.path}: consent.approval"
    try:
        signed = inventory.file(consent.approval.file)
        raw = _read(signed.with_name(signed.name.removesuffix(SUFFIX)), "the plan")
        signature = _read(signed, "the approval").decode("utf-8", errors="replace")
        allowed = _read(inventory.file(consent.approval.allowed_signers), "allowed_signers").decode()
        found = _signed(raw, signature, allowed, inventory, sealing_key)
        refused = next(_objections(parse(raw, "the approved plan"), inventory, tests, now), None)
    except (PvehaError, UnicodeDecodeError, OSError) as error:
        raise UnsafeTarget(f"{where}: {error}") from None
    if refused is not None:
        raise UnsafeTarget(f"{where}: {refused}")
    return found


def _signed(
    raw: bytes, signature: str, allowed: str, inventory: Inventory, sealing_key: Callable[[], Path | None]
) -> Approved:
    """Who signed, if it is somebody else than who seals the evidence."""
    try:
        names = sshsig.signers(raw, signature, allowed, namespace=NAMESPACE)
    except BadSignature as error:
        raise BadSignature(f"the approval does not hold: {error}; have the plan approved (again)") from None
    parts = sshsig.parse(signature)
    identity, signer = names[0], inventory.model.evidence.signer
    try:
        key = sealing_key()
        same = key is not None and sshsig.public_key(key) == parts.key_blob
    except (PvehaError, OSError) as error:
        raise EvidenceError(f"whether the approver is somebody else than the signer cannot be told: {error}") from None
    if same or (signer is not None and any(sshsig.matches(name, signer) for name in names)):
        raise BadSignature(
            f"approved by {identity} with {'the key' if same else 'the identity'} that also seals the evidence; "
            "a second person must approve, with a key of their own"
        )
    return Approved(raw, signature, identity, parts.fingerprint)


def _objections(plan: Document, inventory: Inventory, tests: Sequence[Document], now: datetime) -> Iterator[str]:
    consent = inventory.model.consent
    assert consent is not None
    again = "have the plan made and approved again"
    if plan.get("cluster") != consent.cluster:
        yield f"the approved plan is for cluster {plan.get('cluster')}, this inventory for {consent.cluster}; {again}"
    window = {"not_before": consent.not_before.isoformat(), "not_after": consent.not_after.isoformat()}
    if plan.get("window") != window or not consent.not_before <= now < consent.not_after:
        yield (
            f"the approved plan is for the window {_span(plan.get('window'))}, the consent's is {_span(window)}, and "
            f"it is {now.isoformat(timespec='seconds')}; {again}"
        )
    if plan.get("node_digest") != consent.node_digest:
        yield f"the approved plan is for other nodes ({plan.get('node_digest')}) than the consent; {again}"
    if plan.get("inventory_sha256") != inventory.sha256:
        yield (
            f"the inventory was changed since the plan was made: its checksum is {inventory.sha256}, "
            f"the approved plan's {plan.get('inventory_sha256')}; {again}"
        )
    left = Counter(_agreed(test) for test in plan["tests"])
    left.subtract(_agreed(test) for test in tests if test["destructive"])
    if strange := [test["id"] for test in tests if test["destructive"] and left[_agreed(test)] < 0]:
        yield (
            f"{', '.join(dict.fromkeys(strange))}: not in the approved plan, or it says now that it breaks something "
            f"else; leave out what was not approved, or {again}"
        )


def _agreed(test: Document) -> tuple[str, ...]:
    return (str(test["id"]), *(repr(test.get(key)) for key in _AGREED))


def _span(window: Any) -> str:
    if not isinstance(window, dict):
        return "of no consent"
    return f"{window.get('not_before')} to {window.get('not_after')}"


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{what}, {path}, cannot be read ({error.strerror}); "
            "a plan is made by pveha plan INVENTORY --json PLAN, and approved by pveha approve PLAN"
        ) from error
