"""A plugin that strikes a run at one exact point: right before or right after the journal's line of one kind.

    STRIKE="after fault.inject" STRIKE_BY=kill pytest -p striking …

With STRIKE_FAULT=power-cut-2 it is that fault's line, else the first fault's.
A line that asks a person is told apart by the last word of its step: ``ask/pull``.

What it does then: ``kill`` (SIGKILL), ``kill-both`` and ``abandoned`` (its supervisor never was, either), ``sigterm``,
``ctrl-c`` (twice), ``disk-full`` (no line can be written any more), ``exception`` (a bug in the test), ``unplugged``
(the controller has no network any more; who plugs it in again is the one who watches).
With STRIKE_SPOILS=FILE somebody has just broken off editing that file.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_pveha import supervisor
from pytest_pveha.errors import EvidenceError
from pytest_pveha.record.journal import Journal, Line
from pytest_pveha.simclock import unplug_controller

WHEN, KIND = os.environ["STRIKE"].split()
BY = os.environ["STRIKE_BY"]
FAULT = os.environ.get("STRIKE_FAULT", "")
SPOILS = os.environ.get("STRIKE_SPOILS", "")
STRUCK = Path(os.environ["STRUCK"])
"""Is there once it has struck, and says at which moment of the site's time."""


class NoSupervisor:
    """As if the supervisor had been killed with the run."""

    def __init__(self, run_dir: Path, inventory: Path) -> None: ...

    def dismiss(self) -> None: ...


class BugInTheTest(Exception):
    """Something that no test expects."""


def strike(journal: Journal) -> None:
    """What happens, once."""
    if STRUCK.exists() and BY != "disk-full":
        return
    if not STRUCK.exists():
        STRUCK.write_text(str(journal._clock.now().mono))
        if SPOILS:
            Path(SPOILS).write_text("site: {name: ")
    if BY in ("kill", "kill-both", "abandoned"):
        os.kill(os.getpid(), signal.SIGKILL)
    elif BY == "sigterm":
        os.kill(os.getpid(), signal.SIGTERM)
    elif BY == "ctrl-c":
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    elif BY == "disk-full":
        raise EvidenceError("cannot write: No space left on device; nothing is done unrecorded")
    elif BY == "exception":
        raise BugInTheTest
    elif BY == "unplugged":
        unplug_controller(Path(os.environ["SITE_BATON"]))


_write = Journal.write


def _striking(self: Journal, kind: str, data: Mapping[str, Any], test: str | None = None) -> Line:
    told = f"{kind}/{str(data['step']).rpartition('-')[2]}" if kind == "ask" else kind
    here = told == KIND and FAULT in ("", data.get("fault"))
    if (here and WHEN == "before") or (BY == "disk-full" and STRUCK.exists()):
        strike(self)
    line = _write(self, kind, data, test)
    if here and WHEN == "after":
        strike(self)
    return line


Journal.write = _striking  # type: ignore[method-assign]
if BY in ("kill-both", "abandoned"):
    supervisor.Supervisor = NoSupervisor  # type: ignore[misc,assignment]
