"""One Proxmox node: what it says of itself over SSH, and its chassis over its BMC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND, Clock, Deadline, Instant
from pytest_pveha.errors import ProtocolError, SiteError
from pytest_pveha.handles.bmc import Bmc
from pytest_pveha.wire.ssh import CommandResult, Ssh, quote

if TYPE_CHECKING:
    from testinfra.host import Host

_PROCESS = re.compile(r"^\s*(?P<pid>[0-9]{1,10})\s+(?P<age>[0-9]{1,10})\s+(?P<args>.*)$")
_VM = re.compile(r"^(?:\S*/)?(?:kvm|qemu-system-\S+)\s(?:.*?\s)??-id\s+(?P<id>[0-9]{1,9})(?:\s|$)")
_CT = re.compile(r"^(?:\S*/)?lxc-start\s(?:.*?\s)??-n\s*(?P<id>[0-9]{1,9})(?:\s|$)")
"""Of the program itself and its first such option: a guest's name and notes stand in the arguments behind."""
_QUORUM = re.compile(
    r"^(?:Quorate:\s+(?P<quorate>Yes|No)"
    r"|Expected votes:\s+(?P<expected>[0-9]{1,9})"
    r"|Total votes:\s+(?P<total>[0-9]{1,9}))\b",
    re.MULTILINE,
)
_JOURNAL = re.compile(r"^(?P<at>[0-9]{1,11}\.[0-9]{1,9}) \S+ (?P<unit>[^\s\[:]+)(?:\[(?P<pid>\d+)\])?: (?P<text>.*)$")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_EPOCH = re.compile(rb"-?[0-9]{1,11}(?:\.[0-9]{1,9})?\n?")
_UNIT_STATES = {"active", "inactive", "failed", "activating", "deactivating", "reloading", "refreshing", "maintenance"}
"""What ``systemctl is-active`` may print (systemctl(1)); anything else is no answer, be it "unknown" or an error."""


@dataclass(frozen=True, slots=True)
class Processes:
    """The guests whose process runs on a node, with its age in seconds."""

    ages: dict[str, int]
    asked_at: Instant
    answered_at: Instant


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """A node's clock minus ours, in seconds, known to ± ``error``."""

    offset: float
    error: float


@dataclass(frozen=True, slots=True)
class Votes:
    """The cluster's votes as one node's corosync counts them."""

    quorate: bool
    expected: int
    total: int


@dataclass(frozen=True, slots=True)
class JournalLine:
    """A line of the node's journal; ``at`` is epoch seconds by the node's own clock."""

    at: float
    unit: str
    text: str


@dataclass(frozen=True, slots=True)
class BmcIdentity:
    """How a node's own BMC can be told, as the inventory declares it."""

    mac: str | None = None
    guid: str | None = None
    confirmed_by: str | None = None


class Node:
    """A Proxmox node by its inventory name. Keeps no state but its connection."""

    def __init__(
        self,
        name: str,
        ssh: Ssh | None,
        bmc: Bmc | None,
        clock: Clock,
        ports: tuple[tuple[str, int], ...],
        bmc_identity: BmcIdentity | None = None,
        bmc_address: tuple[str, int] | None = None,
    ) -> None:
        self.name = name
        self.bmc = bmc
        self.bmc_identity = bmc_identity or BmcIdentity()
        """What the inventory says its BMC can be told by."""
        self.bmc_address = bmc_address
        """Host and port that the inventory says its BMC is at."""
        self.addresses = ports
        """Where it answers when it lives: (host, port) of its API and SSH."""
        self._ssh = ssh
        self._clock = clock

    def __repr__(self) -> str:
        return f"<node {self.name}>"

    @property
    def ssh(self) -> Ssh:
        """The SSH connection; SiteError where the inventory names none."""
        if self._ssh is None:
            raise SiteError(f"node {self.name}: the inventory names no ssh access; add nodes.{self.name}.ssh")
        return self._ssh

    def boot_id(self, deadline: Deadline) -> str:
        """The kernel's boot id; a new one proves a reset."""
        said = self._read(deadline, "cat", "/proc/sys/kernel/random/boot_id").strip()
        if not _UUID.fullmatch(said):  # any other text would pass for a new boot, and so for a reset
            raise ProtocolError(f"node {self.name}: its boot id reads {said[:60]!r}, which is no UUID")
        return said

    def host_name(self, deadline: Deadline) -> str:
        """What the machine calls itself; PVE's name for a node is the first label of it."""
        return self._read(deadline, "hostname").strip().partition(".")[0]

    def machine_id(self, deadline: Deadline) -> str:
        """The installation's own id (machine-id(5)): another one is another installation, a shared one a clone."""
        said = self._read(deadline, "cat", "/etc/machine-id").strip()
        if not re.fullmatch("[0-9a-f]{32}", said):
            raise ProtocolError(f"node {self.name}: its machine id reads {said[:60]!r}, which is none")
        return said

    def processes(self, deadline: Deadline) -> Processes:
        """Which guests run here, by their processes: the only proof of where a guest runs."""
        result = self._run(deadline, "ps", "-eww", "-o", "pid=,etimes=,args=")
        ages = {}
        for line in _lines(result.stdout):
            if (process := _PROCESS.match(line)) is None:
                continue
            for kind, pattern in (("vm", _VM), ("ct", _CT)):
                if found := pattern.search(process["args"]):
                    ages[f"{kind}:{found['id']}"] = int(process["age"])
        return Processes(ages, result.asked_at, result.answered_at)

    def clock_offset(self, deadline: Deadline) -> ClockOffset:
        """The node's clock against ours; the error is half of how long the question took."""
        result = self._run(deadline, "date", "+%s.%N")
        if not _EPOCH.fullmatch(result.stdout):  # float() takes "nan", which would differ from nothing
            raise ProtocolError(f"node {self.name}: `date` said {result.stdout[:60]!r}, which is no time")
        theirs = float(result.stdout)
        asked, answered = result.asked_at.utc / SECOND, result.answered_at.utc / SECOND
        return ClockOffset(theirs - (asked + answered) / 2, (answered - asked) / 2 + 0.001)

    def journal(self, since: float, units: tuple[str, ...], deadline: Deadline) -> list[JournalLine]:
        """The journal of these units since that moment of the node's own clock, oldest first."""
        words = ["journalctl", "-o", "short-unix", "--no-pager", "--since", f"@{int(since)}"]
        for unit in units:
            words += ["-u", unit]
        result = self._run(deadline, *words)
        lines = (_JOURNAL.match(line) for line in _lines(result.stdout))
        return [JournalLine(float(line["at"]), line["unit"], line["text"]) for line in lines if line]

    def votes(self, deadline: Deadline) -> Votes:
        """What this node's own corosync says of quorum; for nodes whose API cannot be asked by itself."""
        result = self.ssh.run(quote("pvecm", "status"), deadline=deadline)  # its exit status is 2 without quorum
        text = result.stdout.decode(errors="replace")
        said: dict[str, set[str]] = {"quorate": set(), "expected": set(), "total": set()}
        for found in _QUORUM.finditer(text):
            said[str(found.lastgroup)].add(found[str(found.lastgroup)])
        if any(len(values) != 1 for values in said.values()):
            shown = (text + result.stderr.decode(errors="replace")).strip()[:200]
            raise ProtocolError(f"node {self.name}: `pvecm status` does not say the votes, each once: {shown}")
        (quorate,), (expected,), (total,) = said["quorate"], said["expected"], said["total"]
        return Votes(quorate == "Yes", int(expected), int(total))

    def unit_active(self, unit: str, deadline: Deadline) -> bool:
        """Whether systemd calls the unit active. ProtocolError where it says nothing usable."""
        result = self.ssh.run(quote("systemctl", "is-active", unit), deadline=deadline)
        word = result.stdout.decode(errors="replace").strip()
        if word not in _UNIT_STATES:
            said = word or result.stderr.decode(errors="replace").strip()
            raise ProtocolError(f"node {self.name}: `systemctl is-active {unit}` said {said[:100]!r}")
        return word == "active"

    def command(self, deadline: Deadline, *words: str) -> str:
        """What a command that only reads printed; ProtocolError where it failed or is not installed."""
        return self._read(deadline, *words)

    def facts(self, per_command: float = 20) -> Host:
        """Testinfra's ``host`` on this node, riding on our connection; for reading only."""
        from pytest_pveha.wire.facts import host_on

        return host_on(self.ssh, self._clock, per_command)

    def _run(self, deadline: Deadline, *words: str) -> CommandResult:
        result = self.ssh.run(quote(*words), deadline=deadline)
        if result.exit_status != 0:
            raise ProtocolError(
                f"node {self.name}: `{quote(*words)}` ended with status {result.exit_status}: "
                f"{result.stderr.decode(errors='replace').strip()[:200]}"
            )
        return result

    def _read(self, deadline: Deadline, *words: str) -> str:
        return self._run(deadline, *words).stdout.decode(errors="replace")

    def close(self) -> None:
        """Its connections are closed."""
        if self._ssh is not None:
            self._ssh.close()
        if self.bmc is not None:
            self.bmc.close()


def _lines(output: bytes) -> list[str]:
    """The lines of a command's output. Not ``splitlines``: a log message may hold U+2028 or a form feed, and what
    stands behind it would pass for a line of its own."""
    return output.decode(errors="replace").split("\n")
