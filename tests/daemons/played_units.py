#!/usr/bin/python3
"""``systemctl`` for the laboratory's machines, which have no systemd: it plays Ceph's units, and nothing else.

As Debian's ceph 16.2.15 ships them: Restart=on-failure, RestartSec=10, at most 3 starts in 30 minutes (systemd counts
what it starts by itself and what it is told to, ``reset-failed`` forgets), and ``mask --runtime`` is a link in
/run/systemd/system. Words and statuses are those of systemctl(1), systemd 252.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path("/run/played-units")
MASKS = Path("/run/systemd/system")
DAEMONS = {"ceph-osd": "ceph-osd", "ceph-mon": "ceph-mon", "ceph-mgr": "ceph-mgr"}
RESTART_SEC = 10.0
BURST, INTERVAL = 3, 1800.0


class Unit:
    """One instance of a template unit."""

    def __init__(self, name: str) -> None:
        self.name = name.removesuffix(".service")
        template, _, self.instance = self.name.partition("@")
        if template not in DAEMONS or not self.instance:
            sys.stderr.write(f"Unit {self.name}.service could not be found.\n")
            sys.exit(4)
        self.daemon = DAEMONS[template]
        self._file = STATE / f"{self.name}.json"

    def read(self) -> dict[str, object]:
        """Its state, the processes that play it, and when it was started."""
        try:
            return dict(json.loads(self._file.read_text()))
        except OSError:
            return {"state": "inactive", "pid": 0, "player": 0, "starts": []}

    def write(self, **changes: object) -> None:
        """That of its state is new."""
        draft = self._file.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({**self.read(), **changes}))
        draft.rename(self._file)

    @property
    def masked(self) -> bool:
        return (MASKS / f"{self.name}.service").is_symlink()

    def begin(self) -> bool:
        """Whether it may be started once more now; if so it is counted."""
        now = time.monotonic()
        starts = [one for one in self.read()["starts"] if now - one < INTERVAL]  # type: ignore[attr-defined]
        if len(starts) >= BURST:
            return False
        self.write(starts=[*starts, now])
        return True

    def start(self) -> int:
        if self.masked:
            sys.stderr.write(f"Failed to start {self.name}.service: Unit {self.name}.service is masked.\n")
            return 1
        if self.read()["state"] in ("active", "activating"):
            return 0
        if not self.begin():
            self.write(state="failed", result="start-limit-hit")
            sys.stderr.write(f"Job for {self.name}.service failed.\nStart request repeated too quickly.\n")
            return 1
        self.write(state="active", stopping=False, pid=0)
        words = [sys.executable, __file__, "--play", self.name]
        void = subprocess.DEVNULL
        player = subprocess.Popen(words, stdin=void, stdout=void, stderr=void, start_new_session=True)
        self.write(player=player.pid)
        while self.read()["pid"] == 0 and player.poll() is None:
            time.sleep(0.02)
        return 0

    def play(self) -> None:
        """The daemon, started again when it fails, as long as nobody stops it."""
        while True:
            words = [f"/usr/bin/{self.daemon}", "-f", "--cluster", "ceph", "--id", self.instance]
            with Path(f"/var/log/ceph/{self.name}.out").open("ab") as log:
                daemon = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.write(state="active", pid=daemon.pid)
            status = daemon.wait()
            if self.read().get("stopping") or status == 0:
                self.write(state="inactive", pid=0, player=0)
                return
            self.write(state="activating", pid=0)
            time.sleep(RESTART_SEC)
            if self.read().get("stopping") or self.masked:
                self.write(state="inactive", pid=0, player=0)
                return
            if not self.begin():
                self.write(state="failed", result="start-limit-hit", pid=0, player=0)
                return

    def stop(self) -> int:
        self.write(stopping=True)
        told = self.read()
        if told["state"] == "activating":
            self.end(int(str(told["player"])))
            self.write(state="inactive", pid=0, player=0)
        elif told["pid"]:
            os.kill(int(str(told["pid"])), signal.SIGTERM)
        for _ in range(900):
            if self.read()["state"] in ("inactive", "failed"):
                return 0
            time.sleep(0.1)
        return 1

    @staticmethod
    def end(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def main(words: list[str]) -> int:
    """What systemctl would have done."""
    STATE.mkdir(parents=True, exist_ok=True)
    MASKS.mkdir(parents=True, exist_ok=True)
    options = [word for word in words if word.startswith("-") and word not in ("-s", "-p")]
    verb, *rest = [word for word in words if word not in options]
    if "--play" in options:
        Unit(verb).play()
        return 0
    if verb == "is-active":
        state = str(Unit(rest[0]).read()["state"])
        print(state)
        return 0 if state == "active" else 3
    if verb == "is-enabled":
        print("masked-runtime" if Unit(rest[0]).masked else "enabled-runtime")
        return 1 if Unit(rest[0]).masked else 0
    if verb == "show":
        at = rest.index("-p")
        wanted, names = rest[at + 1], [*rest[:at], *rest[at + 2 :]]
        told = Unit(names[0])
        values = {
            "MainPID": told.read()["pid"],
            "ActiveState": told.read()["state"],
            "LoadState": "masked" if told.masked else "loaded",
            "UnitFileState": "masked-runtime" if told.masked else "enabled-runtime",
            "Restart": "on-failure",
            "RestartUSec": f"{RESTART_SEC:.0f}s",
        }
        for key in wanted.split(","):
            print(f"{key}={values[key]}")
        return 0
    if verb == "kill":
        number = signal.Signals[f"SIG{rest[rest.index('-s') + 1]}"]
        pid = int(str(Unit(rest[-1]).read()["pid"]))
        if pid:
            os.kill(pid, number)
        return 0
    units = [Unit(name) for name in rest]
    if verb == "start":
        return max(unit.start() for unit in units)
    if verb == "stop":
        return max(unit.stop() for unit in units)
    if verb == "restart":
        return max([unit.stop() for unit in units] + [unit.start() for unit in units])
    for unit in units:
        if verb == "mask":
            (MASKS / f"{unit.name}.service").symlink_to("/dev/null")
        elif verb == "unmask":
            (MASKS / f"{unit.name}.service").unlink(missing_ok=True)
        elif verb == "reset-failed":
            state = "inactive" if unit.read()["state"] == "failed" else unit.read()["state"]
            unit.write(starts=[], state=state)
        else:
            sys.stderr.write(f"Unknown command verb {verb}.\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
