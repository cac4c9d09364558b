"""What was broken and is not known to be mended: in one journal, and over all runs against a site."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pytest_pveha.errors import EvidenceError
from pytest_pveha.record.journal import Line
from pytest_pveha.record.private import private_directory

_STATES: Final = {
    "fault.inject": "injected",
    "fault.effect": "effective",
    "fault.heal": "healing",
    "fault.healed": "healed",
    "fault.close": "not_healed",
}


@dataclass(frozen=True, slots=True)
class OpenFault:
    """A fault that was planned and not closed as healed or not injected: it must be healed, whatever its state.

    ``state`` is how far the record goes: planned, injected, effective, healing, healed (seen, not yet closed),
    not_healed. A planned fault may have been injected: the act comes before its line.
    """

    fault: str
    type: str
    params: dict[str, Any]
    undo: dict[str, Any]
    state: str
    test: str | None = None


def open_faults(lines: Iterable[Line]) -> list[OpenFault]:
    """The faults still open at the end of these lines, in the order in which they were planned."""
    found: dict[str, OpenFault] = {}
    for line in lines:
        name = line.data.get("fault")
        if not isinstance(name, str):
            continue
        if line.kind == "fault.plan":
            found.pop(name, None)
            found[name] = _planned(name, line)
        elif line.kind == "fault.close" and line.data.get("outcome") in ("healed", "not_injected"):
            found.pop(name, None)
        elif name in found and line.kind in _STATES:
            found[name] = replace(found[name], state=_STATES[line.kind])
    return list(found.values())


def _planned(name: str, line: Line) -> OpenFault:
    params, undo = line.data.get("params"), line.data.get("undo")
    return OpenFault(
        fault=name,
        type=str(line.data.get("type")),
        params=params if isinstance(params, dict) else {},
        undo=undo if isinstance(undo, dict) else {},
        state="planned",
        test=line.test,
    )


class OpenRuns:
    """The register of runs that may have open faults: one small file a run, on the disk before the first fault."""

    def __init__(self, state_dir: Path) -> None:
        """``state_dir`` is this site's own directory; see ``open_runs``."""
        self.state_dir = state_dir

    def add(self, run_dir: Path) -> None:
        """A next run, or ``pveha heal`` from any working directory, will find this run. Idempotent."""
        entry = self._entry(run_dir)
        fresh = entry.with_suffix(".new")
        try:
            private_directory(self.state_dir)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"run_dir": str(run_dir.resolve())}, file)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(entry)
            self._sync()
        except OSError as error:
            raise EvidenceError(
                f"{self.state_dir}: cannot note the open run ({error.strerror}); nothing may be broken that could not "
                "be found again: make the directory writable or set PVEHA_STATE"
            ) from error

    def remove(self, run_dir: Path) -> None:
        """This run has nothing open any more. Idempotent."""
        with contextlib.suppress(FileNotFoundError):
            self._entry(run_dir).unlink()
            self._sync()

    def list(self) -> list[Path]:
        """The run folders with open entries, sorted; a folder may be gone, and then its name is all there is."""
        if not self.state_dir.is_dir():
            return []
        return sorted(_run_dir(entry) for entry in self.state_dir.glob("*.json"))

    def _entry(self, run_dir: Path) -> Path:
        name = hashlib.sha256(os.fsencode(run_dir.resolve())).hexdigest()[:16]
        return self.state_dir / f"{name}.json"

    def _sync(self) -> None:
        descriptor = os.open(self.state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def open_runs(site: str, environ: Mapping[str, str]) -> OpenRuns:
    """The register of that site for this user: in PVEHA_STATE, XDG_STATE_HOME/pveha or ~/.local/state/pveha."""
    return OpenRuns(state_home(environ) / "open" / quote(site, safe="").replace(".", "%2E"))


def state_home(environ: Mapping[str, str]) -> Path:
    """Where this user's state lies, absolute."""
    if environ.get("PVEHA_STATE"):
        return Path(environ["PVEHA_STATE"]).expanduser().absolute()
    if environ.get("XDG_STATE_HOME"):
        return Path(environ["XDG_STATE_HOME"]).absolute() / "pveha"
    return Path(environ.get("HOME") or Path.home()) / ".local" / "state" / "pveha"


def _run_dir(entry: Path) -> Path:
    try:
        value = json.loads(entry.read_text(encoding="utf-8"))
        return Path(value["run_dir"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise EvidenceError(
            f"{entry}: cannot be read ({error}); it names a run that may have left something broken: "
            "look for it under reports/, heal it, then remove this file"
        ) from error
