"""A node's systemd: its services, and timers that act when nobody comes."""

from __future__ import annotations

import re

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.disk import Disk, Run
from pytest_pveha.handles.shell import ShellLine, all_of, each_of, quote, whatever_comes

_STATES = {"active", "inactive", "failed", "activating", "deactivating", "reloading", "refreshing", "maintenance"}
"""What ``systemctl is-active`` may print (systemctl(1)); anything else is no answer, be it "unknown" or an error."""

_AT_BOOT = {"enabled", "static", "alias", "indirect", "generated"}
_NOT_AT_BOOT = {"disabled", "masked", "enabled-runtime", "linked", "linked-runtime", "masked-runtime", "not-found"}
"""What ``systemctl is-enabled`` may print of a unit, systemctl(1): a static one is started by those that want it."""

_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]{1,255}")
"""What a unit may be called (systemd.unit(5))."""
_MAIN_PID = re.compile(r"MainPID=([0-9]{1,10})")

FOLDER = "/etc/systemd/system"
WANTS = f"{FOLDER}/timers.target.wants"
"""The links by which timers come back after a boot."""
_ACCURACY = "AccuracySec=100ms"
"""Without it a timer may come a minute late (systemd.timer(5), seen)."""


def giving_back(unit: str) -> tuple[ShellLine, ...]:
    """What makes a unit run again that was masked until the next boot, or failed too often (systemctl(1)).

    Right whatever state they meet; the last line alone must succeed.
    """
    verbs = (("unmask", "--runtime"), ("reset-failed",))
    return (*(whatever_comes(quote("systemctl", *verb, unit)) for verb in verbs), quote("systemctl", "start", unit))


class Units:
    """Units of one node, by SSH. ``ask`` runs a command whatever its status, ``act`` expects 0."""

    def __init__(self, name: str, ask: Run, act: Run, disk: Disk) -> None:
        self._name = name
        self._ask = ask
        self._act = act
        self._disk = disk

    def active(self, unit: str, deadline: Deadline) -> bool:
        """Whether systemd calls the unit active. ProtocolError where it says nothing usable."""
        return not self.inactive((unit,), deadline)

    def inactive(self, units: tuple[str, ...], deadline: Deadline) -> list[str]:
        """Those that systemd does not call active. ProtocolError where it says nothing usable."""
        words = self._words("is-active", units, _STATES, deadline)
        return [unit for unit, word in words if word != "active"]

    def lost_at_boot(self, units: tuple[str, ...], deadline: Deadline) -> list[str]:
        """Those that do not come back when the node boots. ProtocolError where systemd says nothing usable."""
        words = self._words("is-enabled", units, _AT_BOOT | _NOT_AT_BOOT, deadline)
        return [unit for unit, word in words if word not in _AT_BOOT]

    def _words(self, verb: str, units: tuple[str, ...], known: set[str], deadline: Deadline) -> list[tuple[str, str]]:
        """What systemd calls each of the units, a word a line, in the order they were named."""
        result = self._ask(deadline, quote("systemctl", verb, *units))
        words = result.stdout.decode(errors="replace").split("\n")[:-1]
        if len(words) != len(units) or not set(words) <= known:
            said = " ".join(words) or result.stderr.decode(errors="replace").strip()
            raise ProtocolError(f"node {self._name}: `systemctl {verb} {' '.join(units)}` said {said[:100]!r}")
        return list(zip(units, words, strict=True))

    def main_pid(self, unit: str, deadline: Deadline) -> int:
        """The unit's main process; 0 where it has none."""
        said = self._act(deadline, quote("systemctl", "show", "-p", "MainPID", unit)).stdout.decode(errors="replace")
        if (told := _MAIN_PID.fullmatch(said.strip())) is None:
            raise ProtocolError(f"node {self._name}: `systemctl show -p MainPID {unit}` said {said[:100]!r}")
        return int(told[1])

    def start(self, unit: str, deadline: Deadline) -> None:
        """The unit was started."""
        self._act(deadline, quote("systemctl", "start", unit))

    def stop(self, unit: str, deadline: Deadline) -> None:
        """The unit was stopped."""
        self._act(deadline, quote("systemctl", "stop", unit))

    def take_away(self, unit: str, deadline: Deadline) -> None:
        """The unit is stopped, and nothing starts it until it is given back or the node boots."""
        self._act(deadline, all_of(quote("systemctl", "mask", "--runtime", unit), quote("systemctl", "stop", unit)))

    def give_back(self, unit: str, deadline: Deadline) -> None:
        """The unit may be started, however often that failed before, and was."""
        self._ask(deadline, each_of(*giving_back(unit)[:-1]))
        self.start(unit, deadline)

    def restart(self, unit: str, deadline: Deadline) -> None:
        """The unit was stopped, and started again."""
        self._act(deadline, quote("systemctl", "restart", unit))

    def listed(self, pattern: str, deadline: Deadline) -> list[str]:
        """The units in memory, and the unit files on the disk, whose names match, sorted.

        ProtocolError where what is listed are no units' names.
        """
        prefix = pattern.removesuffix("*")
        told = self._act(deadline, quote("systemctl", "list-units", "--all", "--no-legend", "--plain", pattern))
        loaded = {line.split()[0] for line in told.stdout.decode(errors="replace").split("\n") if line.split()}
        found = sorted(name for name in {*loaded, *self._disk.names(FOLDER, deadline)} if name.startswith(prefix))
        if strange := [name for name in found if not _NAME.fullmatch(name)]:
            raise ProtocolError(f"node {self._name}: {strange[0][:100]!r} is listed as a unit, and is no unit's name")
        return found

    # timers that run a script once

    def arm(self, tag: str, seconds: float, script: str, deadline: Deadline) -> None:
        """In so many seconds the node runs that script by itself, unless it is restarted before."""
        self._act(
            deadline,
            quote(
                "systemd-run", "--quiet", "--collect", f"--unit={tag}", f"--on-active={seconds:.0f}",
                f"--timer-property={_ACCURACY}", "/bin/sh", script,
            ),
        )  # fmt: skip

    def arm_for_good(self, tag: str, seconds: float, script: str, deadline: Deadline) -> None:
        """In so many seconds the node runs that script by itself; after a restart it counts anew."""
        about = f"[Unit]\nDescription=undoes what pytest-pveha broke, when nobody else does ({tag})\n"
        service = f"{about}\n[Service]\nType=oneshot\nExecStart=/bin/sh {script}\n"
        timer = f"{about}\n[Timer]\nOnActiveSec={seconds:.0f}\n{_ACCURACY}\n\n[Install]\nWantedBy=timers.target\n"
        self._disk.write(f"{FOLDER}/{tag}.service", service, deadline)
        self._disk.write(f"{FOLDER}/{tag}.timer", timer, deadline)
        line = all_of(
            quote("systemctl", "daemon-reload"),
            quote("systemctl", "enable", "--now", f"{tag}.timer"),
            quote("sync", WANTS),
        )
        self._act(deadline, line)

    def disarm(self, tag: str, deadline: Deadline) -> None:
        """That timer, of either kind, is gone for good, power cut or not. ProtocolError where it is still active."""
        timer, service = f"{tag}.timer", f"{tag}.service"
        self._ask(deadline, quote("systemctl", "stop", timer, service))
        if timer in self._disk.names(FOLDER, deadline):
            link = [f"{WANTS}/{timer}"] if timer in self._disk.names(WANTS, deadline) else []
            self._disk.remove(deadline, *link, f"{FOLDER}/{timer}", f"{FOLDER}/{service}")
            self._act(deadline, quote("systemctl", "daemon-reload"))
        self._ask(deadline, quote("systemctl", "reset-failed", service))
        if self.active(timer, deadline):
            raise ProtocolError(f"node {self._name}: {timer} is still active")
