"""Sealing: after this, every change to the run folder can be seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_pveha.errors import EvidenceError
from pytest_pveha.evidence import sshsig
from pytest_pveha.evidence.manifest import (
    ALLOWED_SIGNERS,
    SIGNATURE,
    SIMULATED,
    is_plain_file,
    write_durably,
    write_manifest,
)


@dataclass(frozen=True, slots=True)
class SealResult:
    """What the seal consists of."""

    manifest: Path
    signed: bool
    identity: str | None
    simulated: bool


def seal(run_dir: Path, key: Path | None, identity: str | None) -> SealResult:
    """The folder has its MANIFEST and, with a key, MANIFEST.sig and the allowed_signers line of that key.

    An earlier seal is taken off first, so that a stale signature never lies beside a new manifest.

    Raises:
        EvidenceError: the folder cannot be listed, or the key cannot sign (then the manifest stands, unsigned).
    """
    for name in (SIGNATURE, ALLOWED_SIGNERS):
        (run_dir / name).unlink(missing_ok=True)
    manifest = write_manifest(run_dir)
    simulated = is_plain_file(run_dir / SIMULATED)
    if key is None:
        return SealResult(manifest, signed=False, identity=None, simulated=simulated)
    if identity is None:
        raise EvidenceError("evidence has a signing key and no identity; say who signs, as in ha-team@example.org")
    allowed = sshsig.allowed_signers(identity, key)
    signature = sshsig.sign(manifest.read_bytes(), key)
    sshsig.verify(manifest.read_bytes(), signature, allowed, identity)
    write_durably(run_dir / ALLOWED_SIGNERS, allowed)
    write_durably(run_dir / SIGNATURE, signature)
    return SealResult(manifest, signed=True, identity=identity, simulated=simulated)
