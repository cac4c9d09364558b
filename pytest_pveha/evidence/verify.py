"""Verifying: is the run folder what was sealed, who sealed it, and does its record give its verdict?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_pveha.errors import BadSignature, EvidenceError
from pytest_pveha.evidence import sshsig
from pytest_pveha.evidence.approved import check_approval
from pytest_pveha.evidence.manifest import (
    ALLOWED_SIGNERS,
    MANIFEST,
    SIGNATURE,
    SIMULATED,
    Finding,
    check_manifest,
    is_plain_file,
    says_simulated,
)

OWN_KEY = "signed by a key shipped with the run: proves integrity, not who"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What could be verified of a run folder.

    ``ok`` means that nothing found speaks against it. It needs no signature unless allowed signers were given:
    ask ``signed`` and ``signer`` too, or read the last of ``lines``.
    """

    ok: bool
    findings: tuple[Finding, ...]
    signer: str | None
    simulated: bool
    signed: bool
    lines: list[str]


@dataclass(frozen=True, slots=True)
class _Seal:
    signed: bool
    signer: str | None
    line: str
    findings: tuple[Finding, ...] = ()


def verify_run(
    run_dir: Path,
    *,
    allowed_signers: Path | None = None,
    identity: str | None = None,
    approvers: Path | None = None,
    rejudge: Callable[[Path], bytes],
) -> VerifyReport:
    """A report on manifest, signature and verdict; never raises for what is wrong with the folder.

    Args:
        allowed_signers: who may sign, as the reader got it by another way than with the run.
        identity: who must have signed; anybody in ``allowed_signers`` when not given.
        approvers: who may approve; then an approval is expected.
        rejudge: the bytes of verdict.json as the folder's journal gives them.

    Raises:
        EvidenceError: ``run_dir`` is no folder, or ``allowed_signers`` or ``approvers`` cannot be read.
    """
    if not run_dir.is_dir():
        raise EvidenceError(f"{run_dir}: is not a folder; name a run folder, as in reports/latest")
    in_manifest = check_manifest(run_dir)
    seal = _check_seal(run_dir, allowed_signers, identity)
    in_verdict = _check_verdict(run_dir, rejudge)
    simulated, in_marker = _check_simulated(run_dir)
    approval, in_approval = check_approval(run_dir, _given(approvers, "approvers"))
    findings = (*in_manifest, *seal.findings, *in_verdict, *in_marker, *in_approval)
    lines = ["SIMULATED: this run was made against a simulated site, not a real cluster"] if simulated else []
    lines += [f"NOT AS SEALED  {finding}" for finding in findings]
    if not in_manifest:
        lines.append(f"manifest   every file is as listed in {MANIFEST}, and no other is there")
    lines.append(f"signature  {seal.line}")
    if not in_verdict:
        lines.append("verdict    the journal, judged again, gives verdict.json byte for byte")
    lines += approval
    lines.append(_conclusion(findings, seal, allowed_signers))
    lines = [_printable(line) for line in lines]
    return VerifyReport(not findings, findings, seal.signer, simulated, seal.signed, lines)


def _printable(line: str) -> str:
    """The line with nothing in it that could move a terminal's cursor: a changed folder may hold anything."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def _conclusion(findings: tuple[Finding, ...], seal: _Seal, allowed_signers: Path | None) -> str:
    if findings:
        return f"NOT VERIFIED: {len(findings)} finding{'s' if len(findings) > 1 else ''}; do not rely on this folder"
    if not seal.signed:
        return "INTACT, NOT SIGNED: shows no accidental change; whoever made one on purpose could have sealed it again"
    if allowed_signers is None:
        return "INTACT: to know who signed, give the allowed signers you got by another way (--allowed-signers FILE)"
    return f"VERIFIED: sealed by {seal.signer}"


def _check_seal(run_dir: Path, given: Path | None, identity: str | None) -> _Seal:
    allowed_text = _given(given, "allowed signers")
    signature, own = run_dir / SIGNATURE, run_dir / ALLOWED_SIGNERS
    if not is_plain_file(signature):
        if allowed_text is not None or identity is not None or own.exists() or signature.is_symlink():
            text = "there is no signature, and one is expected"
            return _Seal(False, None, "missing", (Finding("unsigned", SIGNATURE, text),))
        return _Seal(False, None, "none: this run was not signed")
    try:
        if allowed_text is None:
            if not is_plain_file(own):
                raise BadSignature("the run names no signer, and none was given: use --allowed-signers FILE")
            allowed_text = _read_text(own)
        signer = _verified_signer(run_dir, _read_text(signature), allowed_text, identity)
    except (OSError, UnicodeDecodeError, BadSignature) as error:
        return _Seal(True, None, "does not hold", (Finding("signature", SIGNATURE, str(error)),))
    return _Seal(True, signer, f"good, by {signer}; {OWN_KEY}" if given is None else f"good, by {signer}")


def _verified_signer(run_dir: Path, armored: str, allowed: str, identity: str | None) -> str:
    if not is_plain_file(run_dir / MANIFEST):
        raise BadSignature("there is no manifest to check it against")
    manifest = (run_dir / MANIFEST).read_bytes()
    if identity is None:
        return sshsig.signers(manifest, armored, allowed)[0]
    sshsig.verify(manifest, armored, allowed, identity)
    return identity


def _check_verdict(run_dir: Path, rejudge: Callable[[Path], bytes]) -> list[Finding]:
    for name in ("journal.jsonl", "verdict.json"):
        if not is_plain_file(run_dir / name):
            return [Finding("verdict", name, "is missing: the verdict cannot be derived again")]
    try:
        again = rejudge(run_dir)
    except Exception as error:  # whatever a changed journal provokes is a finding, not a crash
        return [Finding("verdict", "journal.jsonl", f"cannot be judged again: {error}")]
    if again != (run_dir / "verdict.json").read_bytes():
        return [Finding("verdict", "verdict.json", "is not what the journal gives when judged again")]
    return []


def _check_simulated(run_dir: Path) -> tuple[bool, list[Finding]]:
    marked = is_plain_file(run_dir / SIMULATED)
    try:
        said = says_simulated(run_dir)
    except EvidenceError as error:
        return marked, [Finding("verdict", "verdict.json", str(error))]
    if marked != said:
        text = f"is {'there' if marked else 'not there'}, and the run says it was {'' if said else 'not '}simulated"
        return True, [Finding("verdict", SIMULATED, text)]
    return said, []


def _given(path: Path | None, what: str) -> str | None:
    """The text of a file that the reader has from elsewhere."""
    try:
        return _read_text(path) if path is not None else None
    except (OSError, UnicodeDecodeError) as error:
        raise EvidenceError(f"{what} {path}: cannot be read ({error})") from error


def _read_text(path: Path) -> str:
    # newline="": no byte of a signature may be smoothed over
    with path.open(encoding="utf-8", newline="") as stream:
        return stream.read()
