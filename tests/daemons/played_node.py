#!/usr/bin/python3
"""``systemd-run``, ``systemctl`` and ``journalctl`` for the laboratory's nodes, which have no systemd.

Played is what a run needs of them: a timer that runs a script once, in memory or as a unit file, and the journal, which
is corosync's own log in journalctl's form. Words and statuses are those of systemd 252. A node that loses its power
loses its timers in memory; ``boot`` starts those of unit files anew, as systemd would.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

STATE = Path("/run/played-timers")
UNITS = Path("/etc/systemd/system")
WANTS = UNITS / "timers.target.wants"
LOG = Path("/var/log/corosync/corosync.log")
_LINE = re.compile(r"(\w{3} \d\d \d\d:\d\d:\d\d\.\d{3}) \[(\d+)\] (\S+) corosync \w+ +(.*)")


def begin(tag: str, seconds: float, script: str) -> None:
    """That timer counts from now on."""
    STATE.mkdir(exist_ok=True)
    words = [sys.executable, __file__, "--wait", tag, str(seconds), script]
    void = subprocess.DEVNULL
    started = subprocess.Popen(words, stdin=void, stdout=void, stderr=void, start_new_session=True)
    (STATE / tag).write_text(str(started.pid))


def wait(tag: str, seconds: float, script: str) -> None:
    """The script runs when the time has come; then the timer is gone."""
    time.sleep(seconds)
    subprocess.run(["/bin/sh", script], check=False)
    (STATE / tag).unlink(missing_ok=True)


def end(tag: str) -> None:
    """That timer does not count any more."""
    with contextlib.suppress(OSError, ValueError):
        os.killpg(int((STATE / tag).read_text()), signal.SIGKILL)
    (STATE / tag).unlink(missing_ok=True)


def from_file(tag: str) -> None:
    """The timer of that unit file counts from now on."""
    seconds = re.search(r"OnActiveSec=(\d+)", (UNITS / f"{tag}.timer").read_text())
    script = re.search(r"ExecStart=/bin/sh (\S+)", (UNITS / f"{tag}.service").read_text())
    assert seconds
    assert script
    begin(tag, float(seconds[1]), script[1])


def boot() -> int:
    """The timers that are wanted at boot count."""
    for link in WANTS.glob("pveha-*.timer") if WANTS.is_dir() else ():
        from_file(link.name.removesuffix(".timer"))
    return 0


def systemd_run(words: list[str]) -> int:
    given = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
    begin(given["unit"], float(given["on-active"]), words[-1])
    return 0


def systemctl(words: list[str]) -> int:
    verb, *rest = [word for word in words if not word.startswith("-")]
    timers = sorted(each.name for each in STATE.iterdir()) if STATE.is_dir() else []
    if verb == "is-active":
        there = rest[0].removesuffix(".timer") in timers
        print("active" if there else "inactive")
        return 0 if there else 3
    if verb == "list-units":
        for tag in timers:
            if fnmatch.fnmatch(f"{tag}.timer", rest[0]):
                print(f"{tag}.timer loaded active waiting {tag}")
        return 0
    if verb == "stop":
        for name in rest:
            end(name.rpartition(".")[0])
        return 0
    if verb == "enable":
        WANTS.mkdir(parents=True, exist_ok=True)
        (WANTS / rest[0]).symlink_to(UNITS / rest[0])
        from_file(rest[0].removesuffix(".timer"))
        return 0
    return 0 if verb in ("daemon-reload", "reset-failed") else 1


def journalctl(words: list[str]) -> int:
    if "-u" in words:  # of units of Proxmox: none is here
        return 0
    since = float(words[words.index("--since") + 1].removeprefix("@")) if "--since" in words else 0.0
    found = []
    for match in map(_LINE.fullmatch, LOG.read_text(errors="replace").split("\n")):
        if match is None:
            continue
        at = (
            datetime.strptime(f"{time.localtime().tm_year} {match[1]}", "%Y %b %d %H:%M:%S.%f").astimezone().timestamp()
        )
        if at >= since:
            found.append(f"{at:.6f} {match[3]} corosync[{match[2]}]:   {match[4]}")
    print("\n".join(found[-int(words[words.index("-n") + 1]) :] if "-n" in words else found))
    return 0


def main(name: str, words: list[str]) -> int:
    """What that command would have done."""
    if words[:1] == ["--wait"]:
        wait(words[1], float(words[2]), words[3])
        return 0
    if words[:1] == ["--boot"]:
        return boot()
    return {"systemd-run": systemd_run, "systemctl": systemctl, "journalctl": journalctl}[name](words)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[0]).name, sys.argv[1:]))
