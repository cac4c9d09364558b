"""The manifest: the SHA-256 of every file of a run folder, in the format ``sha256sum -c`` reads.

What the manifest cannot list is what comes after it: itself, its signature, and the list of who may sign.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_pveha.errors import EvidenceError

MANIFEST = "MANIFEST"
SIGNATURE = "MANIFEST.sig"
ALLOWED_SIGNERS = "allowed_signers"
SIMULATED = "SIMULATED"
UNLISTED = frozenset({MANIFEST, SIGNATURE, ALLOWED_SIGNERS})
"""Files at the top of the run folder that the manifest does not list."""

SIMULATED_TEXT = (
    "SIMULATED\n"
    "This run was made against a simulated site. It proves that the tests work, and nothing about a real cluster.\n"
)

_LINE = re.compile(r"([0-9a-f]{64})  ([^\x00-\x1f\x7f\\]+)")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")

Kind = Literal["missing", "changed", "extra", "refused", "malformed", "signature", "verdict", "unsigned", "approval"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a run folder."""

    kind: Kind
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


def write_manifest(run_dir: Path) -> Path:
    """MANIFEST lists every file of the run folder, sorted by path, and has reached the disk.

    A simulated run gets the file ``SIMULATED`` first, so that the seal itself says so: the format knows no comments.

    Raises:
        EvidenceError: the folder is no run folder, or holds what a manifest cannot list (a link, a device,
            a name with a control character or a backslash).
    """
    simulated = says_simulated(run_dir)
    # what lies there may be stale, or a link out of the folder: never kept, never written through
    for name in (MANIFEST, SIMULATED):
        (run_dir / name).unlink(missing_ok=True)
    if simulated:
        write_durably(run_dir / SIMULATED, SIMULATED_TEXT)
    files, refused = _walk(run_dir)
    if refused:
        raise EvidenceError(
            "cannot seal "
            + "; ".join(f"{str(run_dir / finding.path)!r}: {finding.text}" for finding in refused)
            + ": remove or rename, then seal again"
        )
    lines = [f"{_digest(run_dir / path)}  {path}\n" for path in files]
    target = run_dir / MANIFEST
    write_durably(target, "".join(lines))
    return target


def check_manifest(run_dir: Path) -> list[Finding]:
    """Everything in which the folder differs from its MANIFEST; empty when nothing does.

    Only files found inside the folder are ever opened: a listed path that leads elsewhere is refused.
    """
    manifest = run_dir / MANIFEST
    if not is_plain_file(manifest):
        return [
            Finding("missing", MANIFEST, "there is no manifest: this run was never sealed, or the file was removed")
        ]
    listed, findings = _parse(manifest.read_bytes())
    files, refused = _walk(run_dir)
    findings += refused
    there = set(files)
    for path, digest in listed.items():
        if path not in there:
            findings.append(Finding("missing", path, "listed in the manifest, and not there as a plain file"))
        elif _digest(run_dir / path) != digest:
            findings.append(Finding("changed", path, "is not what was sealed (another SHA-256)"))
    findings += [
        Finding("extra", path, "was not sealed: it is not in the manifest") for path in files if path not in listed
    ]
    return findings


def says_simulated(run_dir: Path) -> bool:
    """Whether the run says of itself that its site was simulated: in verdict.json, else at the journal's start.

    Raises:
        EvidenceError: neither can be read, so it cannot be told.
    """
    for name, key in (("verdict.json", ("simulated",)), ("journal.jsonl", ("data", "simulated"))):
        path = run_dir / name
        if not is_plain_file(path):
            continue
        try:
            with path.open(encoding="utf-8") as stream:
                value = json.loads(stream.read() if name == "verdict.json" else stream.readline())
            for part in key:
                value = value[part]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(value, bool):
            return value
    raise EvidenceError(
        f"{run_dir}: neither verdict.json nor journal.jsonl says whether the site was simulated; is this a run folder?"
    )


def is_plain_file(path: Path) -> bool:
    """Whether it is there and a regular file, not a link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def write_durably(path: Path, text: str) -> None:
    """The file holds ``text`` and both it and its name have reached the disk. A link in its place is replaced."""
    path.unlink(missing_ok=True)
    with path.open("x", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _walk(run_dir: Path) -> tuple[list[str], list[Finding]]:
    """The folder's regular files, sorted by path, and whatever must not be there at all."""
    files: list[str] = []
    refused: list[Finding] = []
    for path, mode in _entries(run_dir, ""):
        if _UNPRINTABLE.search(path):
            refused.append(
                Finding("refused", ascii(path)[1:-1], "a name with a control character, a backslash or no UTF-8")
            )
        elif stat.S_ISLNK(mode):
            refused.append(Finding("refused", path, "a symbolic link: evidence lies in the folder itself"))
        elif not stat.S_ISREG(mode):
            refused.append(Finding("refused", path, "neither file nor folder"))
        elif path not in UNLISTED:
            files.append(path)
    # code point order is UTF-8 byte order: the auditor's `LC_ALL=C sort` gives the same
    return sorted(files), sorted(refused, key=lambda finding: finding.path)


def _entries(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                yield from _entries(Path(entry.path), f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name, mode


def _parse(raw: bytes) -> tuple[dict[str, str], list[Finding]]:
    """Path → digest, and each line that is not exactly as write_manifest writes them."""
    listed: dict[str, str] = {}
    findings: list[Finding] = []
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return {}, [Finding("malformed", MANIFEST, "is not UTF-8")]
    if not text.endswith("\n"):
        findings.append(Finding("malformed", MANIFEST, "is cut off: its last line has no end"))
    # split, not splitlines: U+2028 and its kin are no line ends to sha256sum
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        where = f"{MANIFEST}:{number}"
        match = _LINE.fullmatch(line)
        if match is None:
            findings.append(Finding("malformed", where, "not '<sha256>  <path>'"))
        elif _escapes(match[2]):
            findings.append(Finding("refused", where, f"{match[2]!r} leads out of the run folder"))
        elif match[2] in UNLISTED or match[2] in listed:
            findings.append(Finding("malformed", where, f"{match[2]!r} may not be listed here, or is listed twice"))
        else:
            listed[match[2]] = match[1]
    return listed, findings


def _escapes(path: str) -> bool:
    return any(part in {"", ".", ".."} for part in path.split("/"))


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
