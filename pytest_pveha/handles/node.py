"""One Proxmox node: what it says of itself over SSH, and its chassis over its BMC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND, Clock, Deadline, Instant
from pytest_pveha.errors import ProtocolError, SiteError
from pytest_pveha.handles.bmc import Bmc
from pytest_pveha.handles.disk import Disk
from pytest_pveha.handles.pdu import Pdu
from pytest_pveha.handles.units import Units
from pytest_pveha.wire.ssh import CommandResult, Ssh
from pytest_pveha.wire.ssh import quote as quote

if TYPE_CHECKING:
    from testinfra.host import Host

_PROCESS = re.compile(r"^\s*(?P<pid>\d+)\s+(?P<age>\d+)\s+(?P<args>.*)$")
# from the first word on: a shell whose command speaks of `/usr/bin/kvm -id 102` is no guest
_VM = re.compile(r"(?:\S*/)?(?:kvm|qemu-system-\S+)\s(?:.*\s)?-id\s+(?P<id>\d+)(?:\s|$)")
_CT = re.compile(r"(?:\S*/)?lxc-start\s(?:.*\s)?-n\s*(?P<id>\d+)(?:\s|$)")
_QUORUM = re.compile(
    r"^(?P<key>Nodes|Quorate|Expected votes|Total votes|Quorum|Flags):[ \t]+(?P<value>\S.*)$", re.MULTILINE
)
_JOURNAL = re.compile(r"^(?P<at>\d+\.\d+) \S+ (?P<unit>[^\s\[:]+)(?:\[(?P<pid>\d+)\])?: (?P<text>.*)$")


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
    """As it counts now: ``pvecm expected`` can set it without a trace in the configuration."""
    total: int
    quorum: int | None = None
    """What is needed; None where it was not told."""
    flags: frozenset[str] = frozenset()
    """``Quorate``, ``2Node``, ``Qdevice`` and the like (corosync-quorumtool(8))."""
    nodes: int | None = None
    """How many nodes it counts, itself among them; None where it was not told."""


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
        room: str = "",
    ) -> None:
        self.name = name
        self.room = room or name
        """Its failure domain; a node that names none is one by itself."""
        self.bmc = bmc
        self.bmc_identity = bmc_identity or BmcIdentity()
        """What the inventory says its BMC can be told by."""
        self.pdu: Pdu | None = None
        """Its outlets, where the inventory says how they are switched."""
        self.addresses = ports
        """Where it answers when it lives: (host, port) of its API and SSH."""
        self._ssh = ssh
        self._clock = clock
        self.disk = Disk(self._ask, self._act)
        """Files we leave there."""
        self.units = Units(name, self._ask, self._act, self.disk)
        """Its systemd."""

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
        return self._read(deadline, "cat", "/proc/sys/kernel/random/boot_id").strip()

    def processes(self, deadline: Deadline) -> Processes:
        """Which guests run here, by their processes: the only proof of where a guest runs."""
        result = self._run(deadline, "ps", "-eww", "-o", "pid=,etimes=,args=")
        ages = {}
        for line in result.stdout.decode(errors="replace").splitlines():
            if (process := _PROCESS.match(line)) is None:
                continue
            for kind, pattern in (("vm", _VM), ("ct", _CT)):
                if found := pattern.match(process["args"]):
                    ages[f"{kind}:{found['id']}"] = int(process["age"])
        return Processes(ages, result.asked_at, result.answered_at)

    def pids(self, deadline: Deadline) -> frozenset[int]:
        """Every process of the node."""
        told = self._read(deadline, "ps", "-e", "-o", "pid=").split()
        if not told or not all(word.isdigit() for word in told):
            raise ProtocolError(f"node {self.name}: `ps` lists no processes: {' '.join(told)[:60]!r}")
        return frozenset(map(int, told))

    def clock_offset(self, deadline: Deadline) -> ClockOffset:
        """The node's clock against ours; the error is half of how long the question took."""
        result = self._run(deadline, "date", "+%s.%N")
        try:
            theirs = float(result.stdout)
        except ValueError as error:
            raise ProtocolError(f"node {self.name}: `date` said {result.stdout[:60]!r}, which is no time") from error
        asked, answered = result.asked_at.utc / SECOND, result.answered_at.utc / SECOND
        return ClockOffset(theirs - (asked + answered) / 2, (answered - asked) / 2 + 0.001)

    def journal(self, since: float, units: tuple[str, ...], deadline: Deadline) -> list[JournalLine]:
        """The journal of these units since that moment of the node's own clock, oldest first."""
        words = ["journalctl", "-o", "short-unix", "--no-pager", "--since", f"@{int(since)}"]
        for unit in units:
            words += ["-u", unit]
        result = self._run(deadline, *words)
        lines = (_JOURNAL.match(line) for line in result.stdout.decode(errors="replace").splitlines())
        return [JournalLine(float(line["at"]), line["unit"], line["text"]) for line in lines if line]

    def votes(self, deadline: Deadline) -> Votes:
        """What this node's own corosync says of quorum; for nodes whose API cannot be asked by itself."""
        result = self.ssh.run(quote("pvecm", "status"), deadline=deadline)  # its exit status is 2 without quorum
        said = {found["key"]: found["value"] for found in _QUORUM.finditer(result.stdout.decode(errors="replace"))}
        try:
            needed = said.get("Quorum", "").partition(" ")[0]  # "2 Activity blocked" without quorum
            return Votes(
                said["Quorate"] == "Yes",
                int(said["Expected votes"]),
                int(said["Total votes"]),
                int(needed) if needed else None,
                frozenset(said.get("Flags", "").split()),
                int(said["Nodes"]) if "Nodes" in said else None,
            )
        except (KeyError, ValueError) as error:
            text = (result.stdout + result.stderr).decode(errors="replace").strip()[:200]
            raise ProtocolError(f"node {self.name}: `pvecm status` names no votes: {text}") from error

    def watchdog_has_clients(self, deadline: Deadline) -> bool:
        """Whether somebody holds the watchdog open: to end ``watchdog-mux`` then resets the machine within 10 s."""
        result = self.ssh.run(quote("test", "-d", "/run/watchdog-mux.active"), deadline=deadline)
        if result.exit_status not in (0, 1):
            raise ProtocolError(f"node {self.name}: `test` ended with status {result.exit_status}")
        return result.exit_status == 0

    def ceph_ok_to_stop(self, osds: tuple[int, ...], deadline: Deadline) -> tuple[bool, str]:
        """Whether these OSDs may stop together, all data being served still, and what Ceph said of it.

        REST has this for one daemon at a time (…/ceph/cmd-safety), and each alone may stop where all together may not.
        Status 0, or 16 (EBUSY) with its reasons (ceph(8), osd ok-to-stop).
        """
        words = ("ceph", "osd", "ok-to-stop", *(str(osd) for osd in osds))
        result = self.ssh.run(quote(*words), deadline=deadline)
        said = (result.stdout + result.stderr).decode(errors="replace").strip()
        if result.exit_status not in (0, 16):
            raise ProtocolError(f"node {self.name}: `{quote(*words)}` ended with {result.exit_status}: {said[:200]}")
        return result.exit_status == 0, " ".join(said.split())[:200]

    def command(self, deadline: Deadline, *words: str) -> str:
        """What a command that only reads printed; ProtocolError where it failed or is not installed."""
        return self._read(deadline, *words)

    def facts(self, per_command: float = 20) -> Host:
        """Testinfra's ``host`` on this node, riding on our connection; for reading only."""
        from pytest_pveha.wire.facts import host_on

        return host_on(self.ssh, self._clock, per_command)

    def act(self, deadline: Deadline, *words: str, input: str | None = None) -> str:
        """What a command that changes something printed, run at most once; ProtocolError where it failed."""
        sent = None if input is None else input.encode()
        return self._act(deadline, quote(*words), sent).stdout.decode(errors="replace")

    def _ask(self, deadline: Deadline, line: str, input: bytes | None = None) -> CommandResult:
        return self.ssh.run(line, deadline=deadline, acts=True, input=input)

    def _act(self, deadline: Deadline, line: str, input: bytes | None = None) -> CommandResult:
        return self._good(line, self._ask(deadline, line, input))

    def _run(self, deadline: Deadline, *words: str) -> CommandResult:
        return self._good(quote(*words), self.ssh.run(quote(*words), deadline=deadline))

    def _good(self, line: str, result: CommandResult) -> CommandResult:
        if result.exit_status != 0:
            raise ProtocolError(
                f"node {self.name}: `{line}` ended with status {result.exit_status}: "
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
