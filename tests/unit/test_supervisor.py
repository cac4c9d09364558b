"""The supervisor acts when the run has really ended, not while it is still on its way out."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

DYING = """
import sys
from pathlib import Path
from pytest_pveha.supervisor import Supervisor
process = Supervisor(Path(sys.argv[1]), Path(sys.argv[1]) / "nowhere.yml")._process
process.stdin.close()
print(process.pid, flush=True)
sys.stdin.readline()
"""
"""A run that has closed its end of the pipe, and lives on until it is told."""
SOON, LONG = 3.0, 60.0
"""Real seconds: a supervisor that waited for nothing would have ended in the first; no result depends on the second."""


def test_a_run_that_still_lives_is_not_healed_behind_its_back(tmp_path: Path) -> None:
    """Its hold on the site may be the last thing it lets go: who came before was turned away, and healed nothing."""
    (tmp_path / "raw").mkdir()
    words = [sys.executable, "-c", DYING, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        supervisor = os.pidfd_open(int(run.stdout.readline()))
        try:
            assert select.select([supervisor], [], [], SOON)[0] == []
            run.stdin.close()
            assert select.select([supervisor], [], [], LONG)[0] == [supervisor]
        finally:
            os.close(supervisor)
    assert "nowhere.yml" in (tmp_path / "raw" / "supervisor.log").read_text()
