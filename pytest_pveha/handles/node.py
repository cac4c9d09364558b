"""One Proxmox node: what it says of itself over SSH, and its chassis over its BMC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND, Clock, Deadline, Instant
from pytest_pveha.errors import ProtocolError, SiteError
from pytest_pveha.handles.bmc import Bmc
from pytest_pveha.handles.disk import Disk
from pytest_pveha.handles.hand import Hand
from pytest_pveha.handles.pdu import Pdu
from pytest_pveha.handles.shell import ShellLine, ending_by, quote
from pytest_pveha.handles.units import Units
from pytest_pveha.wire import redaction
from pytest_pveha.wire.ssh import CommandResult, Ssh

if TYPE_CHECKING:
    from testinfra.host import Host

_PROCESS = re.compile(r"^\s*(?P<pid>[0-9]{1,10})\s+(?P<age>[0-9]{1,10})\s+(?P<args>.*)$")
# of the program itself: a shell whose command speaks of `/usr/bin/kvm -id 102` is no guest; and its first such option,
# for a guest's name and notes stand in the arguments behind
_VM = re.compile(r"^(?:\S*/)?(?:kvm|qemu-system-\S+)\s(?:.*?\s)??-id\s+(?P<id>[0-9]{1,9})(?:\s|$)")
_CT = re.compile(r"^(?:\S*/)?lxc-start\s(?:.*?\s)??-n\s*(?P<id>[0-9]{1,9})(?:\s|$)")
_QUORUM = re.compile(
    r"^(?P<key>Nodes|Quorate|Expected votes|Total votes|Quorum|Flags):[ \t]+(?P<value>\S.*)$", re.MULTILINE
)
_NUMBER = re.compile(r"[0-9]{1,9}")
_FIGURES = {
    "Quorate": re.compile(r"Yes|No"),
    "Expected votes": _NUMBER,
    "Total votes": _NUMBER,
    "Quorum": re.compile(r"[0-9]{1,9}(?: .*)?"),  # "2 Activity blocked" without quorum
    "Nodes": _NUMBER,
    "Flags": re.compile(r".*"),
}
"""What each line of ``pvecm status`` may say."""
_NEEDED = {"Quorate", "Expected votes", "Total votes"}
_PID = re.compile(r"[0-9]{1,10}")
_JOURNAL = re.compile(r"^(?P<at>[0-9]{1,11}\.[0-9]{1,9}) \S+ (?P<unit>[^\s\[:]+)(?:\[(?P<pid>\d+)\])?: (?P<text>.*)$")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_UPTIME = re.compile(
    rf"(?P<boot_id>{_UUID.pattern})\n(?P<seconds>[0-9]{{1,12}}\.[0-9]{{2}}) [0-9]{{1,15}}\.[0-9]{{2}}\n?"
)
_EPOCH = re.compile(rb"-?[0-9]{1,11}(?:\.[0-9]{1,9})?\n?")


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
class Way:
    """Both ends of our SSH connection as the node sees them: IP addresses."""

    seen_from: str
    at: str


@dataclass(frozen=True, slots=True)
class Uptime:
    """Which kernel runs, and for how many seconds by its own clock, which nobody sets (proc(5), uptime)."""

    boot_id: str
    seconds: float


UPTIME = ("cat", "/proc/sys/kernel/random/boot_id", "/proc/uptime")
"""What prints it."""


def uptime_of(text: str) -> Uptime | None:
    """What that command printed; None where it is something else, or half of it."""
    found = _UPTIME.fullmatch(text)
    return None if found is None else Uptime(found["boot_id"], float(found["seconds"]))


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
        bmc_address: tuple[str, int] | None = None,
        bmc_system: str = "",
    ) -> None:
        self.name = name
        self.room = room or name
        """Its failure domain; a node that names none is one by itself."""
        self.bmc = bmc
        self.bmc_identity = bmc_identity or BmcIdentity()
        """What the inventory says its BMC can be told by."""
        self.bmc_address = bmc_address
        """Host and port that the inventory says its BMC is at."""
        self.bmc_system = bmc_system
        """Which of the machines behind that BMC it is; empty where there is one."""
        self.pdu: Pdu | None = None
        """Its outlets, where the inventory says how they are switched."""
        self.operator: Hand | None = None
        """Whoever pulls its cord, where the inventory names somebody."""
        self.addresses = ports
        """Where it answers when it lives: (host, port) of its API and SSH."""
        self._ssh = ssh
        self._given_up: SiteError | None = None
        self._clock = clock
        self.disk = Disk(name, self._ask, self._act)
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
        if self._given_up is not None:
            raise self._given_up
        return self._ssh

    @contextmanager
    def given_up(self, because: SiteError) -> Iterator[None]:
        """Meanwhile whatever it is asked over SSH fails at once, with that: it gave no answer, and is not to be waited
        for by each question after another."""
        before, self._given_up = self._given_up, because
        try:
            yield
        finally:
            self._given_up = before

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

    def way(self, deadline: Deadline) -> Way:
        """From where the node sees us come, and at which address of its own: SSH_CONNECTION, ssh(1)."""
        said = self._read(deadline, "printenv", "SSH_CONNECTION").split()
        try:
            seen_from, _, at, _ = said
            return Way(_address(seen_from), _address(at))
        except ValueError:
            shown = " ".join(said)[:60]
            raise ProtocolError(f"node {self.name}: SSH_CONNECTION reads {shown!r}, no two addresses") from None

    def own_addresses(self, deadline: Deadline) -> frozenset[str]:
        """Every address of its network cards, but link-local ones: ``hostname -I``, hostname(1)."""
        said = self._read(deadline, "hostname", "-I").split()
        try:
            return frozenset(map(_address, said))
        except ValueError:
            shown = " ".join(said)[:60]
            raise ProtocolError(f"node {self.name}: `hostname -I` said {shown!r}, no addresses") from None

    def processes(self, deadline: Deadline) -> Processes:
        """Which guests run here, by their processes: the only proof of where a guest runs."""
        result = self._run(deadline, "ps", "-eww", "-o", "pid=,etimes=,args=")
        ages = {}
        for line in _lines(result.stdout):
            if (process := _PROCESS.match(line)) is None:
                continue
            for kind, pattern in (("vm", _VM), ("ct", _CT)):
                if found := pattern.match(process["args"]):
                    ages[f"{kind}:{found['id']}"] = int(process["age"])
        return Processes(ages, result.asked_at, result.answered_at)

    def pids(self, deadline: Deadline) -> frozenset[int]:
        """Every process of the node."""
        told = self._read(deadline, "ps", "-e", "-o", "pid=").split()
        if not told or not all(_PID.fullmatch(word) for word in told):
            raise ProtocolError(f"node {self.name}: `ps` lists no processes: {' '.join(told)[:60]!r}")
        return frozenset(map(int, told))

    def uptime(self, deadline: Deadline) -> tuple[Uptime, Instant, Instant]:
        """For how long its kernel has been running, and between which moments of ours it said so."""
        result = self._run(deadline, *UPTIME)
        found = uptime_of(result.stdout.decode(errors="replace"))
        if found is None:
            raise ProtocolError(f"node {self.name}: its uptime reads {result.stdout[:80]!r}, which is none")
        return found, result.asked_at, result.answered_at

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
        line = quote(*ending_by(deadline), "pvecm", "status")  # its exit status is 2 without quorum
        result = self.ssh.run(line, deadline=deadline)
        text = result.stdout.decode(errors="replace")
        said: dict[str, str] = {}
        clear = True
        for found in _QUORUM.finditer(text):
            key, value = found["key"], found["value"].strip()
            clear &= said.setdefault(key, value) == value and _FIGURES[key].fullmatch(value) is not None
        if not clear or not said.keys() >= _NEEDED:
            shown = (text + result.stderr.decode(errors="replace")).strip()[:200]
            raise ProtocolError(f"node {self.name}: `pvecm status` does not say the votes, each once: {shown}")
        return Votes(
            said["Quorate"] == "Yes",
            int(said["Expected votes"]),
            int(said["Total votes"]),
            int(said["Quorum"].partition(" ")[0]) if "Quorum" in said else None,
            frozenset(said.get("Flags", "").split()),
            int(said["Nodes"]) if "Nodes" in said else None,
        )

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
        words = ("timeout", "10", "ceph", "--connect-timeout", "8", "osd", "ok-to-stop", *(str(osd) for osd in osds))
        result = self.ssh.run(quote(*words), deadline=deadline)
        # the reason in words first: the list of placement groups before it may be long (seen on 16.2.15)
        said = (result.stderr + b" " + result.stdout).decode(errors="replace").strip()
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

    def _ask(self, deadline: Deadline, line: ShellLine, input: bytes | None = None) -> CommandResult:
        return self.ssh.run(line, deadline=deadline, acts=True, input=input)

    def _act(self, deadline: Deadline, line: ShellLine, input: bytes | None = None) -> CommandResult:
        return self._good(line, self._ask(deadline, line, input))

    def _run(self, deadline: Deadline, *words: str) -> CommandResult:
        return self._good(quote(*words), self.ssh.run(quote(*words), deadline=deadline))

    def _good(self, line: ShellLine, result: CommandResult) -> CommandResult:
        if result.exit_status != 0:
            raise ProtocolError(
                f"node {self.name}: `{line}` ended with status {result.exit_status}: "
                f"{redaction.scrub(result.stderr.decode(errors='replace')).strip()[:200]}"
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


def _address(text: str) -> str:
    """As everybody writes it: without a zone, and an IPv4 address as one though a socket for both took it."""
    address = ip_address(text.partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address)


def _lines(output: bytes) -> list[str]:
    """The lines of a command's output. Not ``splitlines``: a log message may hold U+2028 or a form feed, and what
    stands behind it would pass for a line of its own."""
    return output.decode(errors="replace").split("\n")
