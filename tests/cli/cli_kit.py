"""What the tests of the command line share: ``pveha`` as a process of its own, in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from real_style import describe, write
from warm_start import run

from pytest_pveha.embedded import Embedded

ROOT = Path(__file__).parents[2]
SIMULATED = ROOT / "inventories" / "sim-3node.yml"
EXAMPLE = ROOT / "inventories" / "example-prod.yml"
BACKSTOP = 240
"""Real seconds after which a process that hangs fails the test; no result is decided by it."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What it printed."""
        return self.out.splitlines()

    def starting(self, word: str) -> list[str]:
        """The lines that begin with that word."""
        return [line for line in self.lines if line.startswith(f"{word}  ")]


@dataclass(frozen=True)
class Shell:
    """Somebody's terminal: a working directory, and state that nobody else shares."""

    place: Path
    environment: dict[str, str]

    def pveha(self, *words: object, check: bool = True, **environment: str) -> Done:
        """``pveha`` with these words; whatever happens, it shows no traceback."""
        ended = run("pytest_pveha", [*map(str, words)], cwd=self.place, env={**self.environment, **environment})
        if check:
            assert "Traceback" not in ended.output, ended.err
        return Done(ended.returncode, ended.out, ended.err)

    def begin(self, *words: object, stdout: int | IO[Any] = subprocess.PIPE) -> subprocess.Popen[str]:
        """``pveha`` with these words, in the background."""
        return subprocess.Popen(
            [sys.executable, "-m", "pytest_pveha", *map(str, words)],
            cwd=self.place,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


@dataclass(frozen=True)
class Realish:
    """A paced site at the speed of real time, and terminals to look at it from, as at somebody's cluster."""

    site: Embedded
    shell: Shell

    def describe(self, **wishes: Any) -> dict[str, Any]:
        """Its inventory, as if it were real."""
        return describe(self.site, **wishes)

    def check(self, described: dict[str, Any], place: Path) -> Done:
        """``pveha check`` of that inventory."""
        return self.shell.pveha("check", write(described, place / "real.yml"))

    def touched(self) -> list[str]:
        """What was done to the site, by its own record: power commands, deaths, moves of guests."""
        truth = (self.site.runtime / "truth.jsonl").read_text(encoding="utf-8")
        kinds = ('"bmc_command"', '"dead"', '"power_off"', '"watchdog_reset"', '"guest_migrated"', '"network_cut"')
        return [line for line in truth.splitlines() if any(kind in line for kind in kinds)]


@contextmanager
def new_shell(place: Path) -> Iterator[Shell]:
    """A shell whose simulated sites lie under a short path, for a Unix socket's has 107 bytes at most."""
    runtime = Path(tempfile.mkdtemp(prefix="pveha-t-", dir="/tmp"))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PVEHA_")},
        "PYTHONPATH": str(ROOT),
        "PVEHA_RUNTIME": str(runtime),
        "PVEHA_STATE": str(runtime / "state"),
    }
    try:
        yield Shell(place, environment)
    finally:
        shutil.rmtree(runtime, ignore_errors=True)
