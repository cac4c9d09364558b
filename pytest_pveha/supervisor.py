"""Outlives the run: a process in a session of its own that heals what a dead run left broken.

It is told by its standard input: ``done`` means the run ended and needs nothing; end of file without it means that the
run died, by kill -9, the out-of-memory killer or Jenkins' abort, and what it left must be healed.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from pathlib import Path

from pytest_pveha.errors import PvehaError
from pytest_pveha.record.private import private_file

_JENKINS = ("JENKINS_", "HUDSON_", "BUILD_ID", "BUILD_TAG")
"""Jenkins ends every process that carries its cookie when a build is aborted; the one who heals must live."""


LINGERS = 10.0
"""Real seconds for which the end of a run that has closed its pipe is waited for: until then the site is still its."""


class Supervisor:
    """The run's end of it."""

    def __init__(self, run_dir: Path, inventory: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_JENKINS)}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        with private_file(run_dir / "raw" / "supervisor.log") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest_pveha.supervisor", str(run_dir), str(inventory), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env=environment,
            )

    def dismiss(self) -> None:
        """It has ended: the run needs nobody any more."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(b"done\n")
        self._process.wait()


def main() -> int:
    run_dir, inventory, run = Path(sys.argv[1]), Path(sys.argv[2]), _process(int(sys.argv[3]))
    _spared()
    raw = _text(inventory)
    if sys.stdin.readline().strip() == "done":
        return 0
    if run is not None:  # one that is killed closes one thing after the other: its hold on the site may be the last
        select.select([run], [], [], LINGERS)
    from pytest_pveha.healing import heal_site

    try:
        heal_site(inventory, by="supervisor", tell=_say, only=run_dir, raw=raw)
    except PvehaError as error:
        _say(str(error))
        return 7
    return 0


def _text(inventory: Path) -> bytes | None:
    """What stands in it now: somebody may edit it, or put it away, while the run goes on. None: it cannot be read."""
    try:
        return inventory.read_bytes()
    except OSError:
        return None


def _process(run: int) -> int | None:
    """A descriptor that is readable when the run has ended (pidfd_open(2)); None if it has already."""
    try:
        found = os.pidfd_open(run)
    except ProcessLookupError:
        return None
    if os.getppid() == run:  # else that number is another process's by now
        return found
    os.close(found)
    return None


def _spared() -> None:
    """When memory runs out, others go first, as far as this user may ask for that (proc(5), oom_score_adj)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("-900")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
