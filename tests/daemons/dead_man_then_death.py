"""Arms a dead-man on the only node of an inventory's site, says so, and is killed: ``INVENTORY RUN FAULT SECONDS``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from pytest_pveha.clock import LiveClock
from pytest_pveha.faults.fault import DeadMan, Undo
from pytest_pveha.faults.keeping import Keeping
from pytest_pveha.handles.connect import connect
from pytest_pveha.handles.shell import into, quote
from pytest_pveha.inventory import load

UNDONE = "/var/lib/undone"


def main(inventory: Path, run: str, fault: str, seconds: float) -> None:
    """The dead-man is armed and this process is dead."""
    keeping = Keeping(connect(load(inventory), LiveClock()), run)
    keeping.begin({"run": run})
    keeping.plan(fault, {"type": "partition", "params": {}})
    keeping.arm(fault, DeadMan.on_every(Undo("pve1", (into(quote("echo", "undone"), UNDONE),))), seconds)
    sys.stdout.write("armed\n")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4]))
