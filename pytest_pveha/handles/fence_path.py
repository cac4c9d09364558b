"""The way from one node's shell to another node's BMC: what that node would type to fence the other.

The BMC's password goes to the command's standard input: it is in no file and on no command line there, and gone with
the command, also when we are. ``ipmitool -f`` and ``curl --config`` read /dev/stdin as any file (tried: ipmitool
1.8.19 against ipmi_sim of OpenIPMI 2.0.33, curl 8).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from pytest_pveha.clock import SECOND, Clock, Instant
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.bmc import NodeCommands
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.shell import ShellLine, all_of, quote
from pytest_pveha.wire.ssh import CommandResult

STDIN = "/dev/stdin"

TIMED_OUT, NO_SUCH_TOOL = 124, 127
"""Exit statuses of timeout(1)."""

_CURL_SILENT = (7, 28)
"""curl(1): failed to connect; operation timed out."""

_SSH = 10.0
"""Seconds that SSH itself may add."""

_POWER = re.compile(r"^Chassis Power is (on|off)\s*$", re.MULTILINE)
_TELLS = {
    "guid": re.compile(r"^System GUID\s*:\s*([0-9A-Fa-f-]{32,36})\s*$", re.MULTILINE),
    "mac": re.compile(r"^MAC Address\s*:\s*([0-9A-Fa-f:]{17})\s*$", re.MULTILINE),
    "level": re.compile(r"^privilege level\s*:\s*(\S+)\s*$", re.MULTILINE),
}
_NOISE = re.compile(r"^Get HPM\.x Capabilities request failed.*$", re.MULTILINE)
"""What ipmitool complains of to whoever is not an administrator, though all goes well."""
_IN_VAIN = 10.0
"""Seconds below which "Unable to establish" means that the BMC said no: to a dead one ipmitool tries for 20 s with
``-N 2 -R 2``, and of a wrong password it says the same at once (1.8.19)."""
_DATES = re.compile(r"(?<!\S)\d{9,}\.\d+(?=\s)|\d{9,}\.\d{9}\s*\Z")
"""What ``date +%s.%N`` printed: a line of its own, or right behind a reply that ends without one."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one question to a BMC, asked from another node, came to."""

    power: str
    """``on`` or ``off``; empty where the BMC did not say."""
    silent: bool
    """Whether nothing answered at all."""
    missing: str
    """The tool that the node lacks."""
    trouble: str
    """Why there is no answer, in the tool's words."""
    asked_at: Instant
    answered_at: Instant
    least: float
    """Seconds it took at least, by the node's own clock."""


class FencePath:
    """From ``peer`` to the BMC of ``target``. Every method raises SiteError where the peer itself does not answer."""

    def __init__(self, peer: Node, target: str, commands: NodeCommands, clock: Clock) -> None:
        self.peer = peer
        self.target = target
        self._commands = commands
        self._clock = clock
        self._spelling = 0

    def power_state(self, seconds: int) -> Reply:
        """What the BMC says of its chassis, asked on the peer; given up there after that many seconds."""
        first, *others = self._commands.status
        reply, self._spelling = self._question(first, seconds), 0
        for number, words in enumerate(others, 1):
            if reply.power or reply.silent or reply.missing:
                break
            reply, self._spelling = self._question(words, seconds), number
        return reply

    def tells(self, seconds: int) -> dict[str, str]:
        """What the BMC says of itself and of our session: guid, uuid, mac, level; what it does not tell is left out."""
        found: dict[str, str] = {}
        for spellings in self._commands.tells:
            words = spellings[min(self._spelling, len(spellings) - 1)]
            result = self._run(quote("timeout", str(seconds), *words), seconds)
            if result.exit_status != 0:
                continue
            out = result.stdout.decode(errors="replace")
            found |= {key: match[1] for key, pattern in _TELLS.items() if (match := pattern.search(out))}
            if uuid := _document(out).get("UUID"):
                found["uuid"] = str(uuid)
        return found

    def off(self, seconds: int) -> str:
        """Why the BMC refused to cut its machine's power; empty where it took the command. Sent once.

        Raises:
            ProtocolError: it did not answer, so that it may have been carried out.
        """
        words = self._commands.off[min(self._spelling, len(self._commands.off) - 1)]
        result = self._run(quote("timeout", str(seconds), *words), seconds, acts=True)
        if result.exit_status == 0:
            return ""
        err = result.stderr.decode(errors="replace")
        said = _said(err) or f"status {result.exit_status}"
        took = (result.answered_at.mono - result.asked_at.mono) / SECOND
        if result.exit_status == TIMED_OUT or _silence(words[0], result.exit_status, err, took):
            raise ProtocolError(
                f"node {self.peer.name}: the BMC of {self.target} did not answer the power command ({said}); it may "
                "have been carried out"
            )
        return said

    def _question(self, words: tuple[str, ...], seconds: int) -> Reply:
        now = quote("date", "+%s.%N")
        result = self._run(all_of(now, quote("timeout", str(seconds), *words), now), seconds)
        out, err = result.stdout.decode(errors="replace"), result.stderr.decode(errors="replace")
        status = result.exit_status
        power = _power(out) if status == 0 else ""
        least = _least(out, status, seconds, result.answered_at.mono - result.asked_at.mono)
        took = (result.answered_at.mono - result.asked_at.mono) / SECOND
        silent = status == TIMED_OUT or (not power and _silence(words[0], status, err, took))
        if status == TIMED_OUT:
            trouble = f"no answer in {seconds} s"
        elif status == NO_SUCH_TOOL:
            trouble = f"{words[0]} is not installed there"
        else:
            trouble = _said(err) or f"{words[0]} ended with status {status} and said nothing we know"
        return Reply(
            power,
            silent,
            words[0] if status == NO_SUCH_TOOL else "",
            "" if power else trouble,
            result.asked_at,
            result.answered_at,
            least,
        )

    def _run(self, line: ShellLine, seconds: int, *, acts: bool = False) -> CommandResult:
        deadline = self._clock.deadline(seconds + _SSH)
        return self.peer.ssh.run(line, deadline=deadline, acts=acts, input=f"{self._commands.secret}\n".encode())


def _power(out: str) -> str:
    if match := _POWER.search(out):
        return match[1]
    state = str(_document(out).get("PowerState", "")).casefold()
    return "off" if state == "off" else "on" if state else ""


def _document(out: str) -> dict[str, object]:
    """The JSON object in it, as a Redfish service answers."""
    try:
        value = json.loads(out[out.find("{") : out.rfind("}") + 1])
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _silence(tool: str, status: int, err: str, took: float) -> bool:
    if tool == "curl":
        return status in _CURL_SILENT
    return "Unable to establish" in err and took >= _IN_VAIN


def _said(err: str) -> str:
    return " ".join(_NOISE.sub("", err).split())[:200]


def _least(out: str, status: int, seconds: int, whole: int) -> float:
    """By the node's own two dates; never more than what passed here, should its clock have been changed."""
    if status == TIMED_OUT:
        return float(seconds)
    dates = [float(date) for date in _DATES.findall(out)]
    if len(dates) < 2:
        return 0.0
    return max(0.0, min(dates[-1] - dates[0], whole / SECOND))
