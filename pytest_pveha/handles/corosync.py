"""Corosync as a node's own tools tell it: votes, quorum device; and whether the cluster's files can be written there.

Sources: corosync-quorumtool(8), corosync-qdevice-tool(8); wording recorded on PVE 9.1.9.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.shell import all_of, ending_by, quote

if TYPE_CHECKING:
    from pytest_pveha.handles.cluster import Cluster, Totem

CONSENSUS = 1.2
"""Consensus timeout in tokens, corosync.conf(5)."""

MARGIN = 4.0
"""Seconds a membership takes beyond token and consensus until a question sees it: a join, a round of asking (seen:
8.0 to 8.5 s with 3.65 s of token and 4.38 s of consensus)."""

REJOIN = 4.0
"""Seconds in which parted nodes are one ring again (seen: 2.2 to 4.1 s)."""

DEVICE_WAIT = 30.0
"""Seconds that votequorum waits for a quorum device in a new membership (corosync-qdevice(8), sync_timeout)."""

ENOUGH = 20.0
"""Seconds of a short cut; longer proves nothing more."""

UNHARMED = 40.0
"""Seconds without quorum that no watchdog minds, with ten to spare."""

PATIENCE = 50.0
"""Seconds without quorum after which the first multiplexer may give up: 60 after the last feed, which may be 10 old."""

LATE = 2.0
"""Seconds by which a node's own timer may be late, and its rules gone."""

_TOLD = re.compile(r"^(?P<key>Nodes|Quorate|Expected votes|Total votes|Quorum|Flags):[ \t]+(?P<value>\S.*)$", re.M)
_DEVICE = re.compile(r"^\s*0(?:x0+)?\s+(?P<votes>\d+)\s.*\bQdevice\b", re.M)
_STATE = re.compile(r"^\s*State:\s+(?P<state>\S+)\s*$", re.M)
_HOST = re.compile(r"^\s*QNetd host:\s+(?P<host>\S+):(?P<port>\d+)\s*$", re.M)
_LINK = re.compile(r"^LINK ID (?P<link>\d+)")
_TIME = re.compile(r"^runtime\.config\.totem\.(?P<key>token|consensus) \(u32\) = (?P<ms>\d{1,9})$", re.M)
_PEER = re.compile(r"^\s*nodeid:\s*(?P<id>\d+):\s*(?P<state>\w+)\s*$")
DENIED = "Permission denied"
"""What pmxcfs says to who writes without quorum (recorded on PVE 9.1.9)."""


@dataclass(frozen=True, slots=True)
class Ring:
    """The times of a membership, in seconds, as they follow from the configuration."""

    token: float
    device: bool = False
    """Whether a quorum device votes."""
    agreement: float | None = None
    """``totem.consensus``, where it is configured."""

    @classmethod
    def of(cls, totem: Totem, *, device: bool = False) -> Ring:
        """By that configuration."""
        return cls(totem.token, device, totem.consensus)

    @property
    def consensus(self) -> float:
        """How long the rest looks for an agreement after the token was lost."""
        return CONSENSUS * self.token if self.agreement is None else self.agreement

    @property
    def forms(self) -> float:
        """Within so many seconds a cut is known to the nodes that count votes by themselves."""
        return self.token + self.consensus + MARGIN

    @property
    def settles(self) -> float:
        """Within so many seconds a cut is known to both sides; until then both may say that they are quorate."""
        return self.forms + (DEVICE_WAIT if self.device else 0.0)

    @property
    def blip(self) -> float:
        """A cut of so many seconds resets nobody: quorum is back before a watchdog minds."""
        return min(ENOUGH, UNHARMED - self.consensus - REJOIN)

    @property
    def undone_by(self) -> float:
        """After so many seconds at the latest the nodes undo a short cut by themselves, and still nobody is reset."""
        return PATIENCE - self.consensus - REJOIN - LATE

    def harmless(self, seconds: float) -> bool:
        """Whether a cut of so many seconds is mended before a watchdog minds."""
        return seconds <= self.undone_by


def ring(cluster: Cluster, deadline: Deadline, *, device: bool = False) -> Ring:
    """The times of the cluster's membership, by its configuration and the number of its nodes."""
    return Ring.of(cluster.totem(deadline, len(cluster.votes(deadline))), device=device)


@dataclass(frozen=True, slots=True)
class Quorum:
    """Quorum as one node's votequorum counts it."""

    quorate: bool
    nodes: int
    expected: int
    total: int
    quorum: int
    flags: frozenset[str]
    device: int | None
    """The quorum device's votes; None where it is not listed."""


def quorum(node: Node, deadline: Deadline) -> Quorum:
    """What the node's own corosync counts. ProtocolError where it does not run."""
    line = quote(*ending_by(deadline), "corosync-quorumtool", "-s")  # its status is 2 without quorum
    result = node.ssh.run(line, deadline=deadline)
    said = result.stdout.decode(errors="replace")
    told = {found["key"]: found["value"] for found in _TOLD.finditer(said)}
    device = _DEVICE.search(said)
    try:
        return Quorum(
            told["Quorate"] == "Yes",
            int(told["Nodes"]),
            int(told["Expected votes"]),
            int(told["Total votes"]),
            int(told["Quorum"].partition(" ")[0]),  # "2 Activity blocked" without quorum
            frozenset(told.get("Flags", "").split()),
            int(device["votes"]) if device else None,
        )
    except (KeyError, ValueError) as error:
        text = (result.stdout + result.stderr).decode(errors="replace").strip()[:200]
        raise ProtocolError(f"node {node.name}: `corosync-quorumtool -s` names no votes: {text}") from error


def links(node: Node, deadline: Deadline) -> dict[int, dict[int, bool]]:
    """The node's corosync links by number, and for each other node (by id) whether the link to it is up."""
    said = node.command(deadline, *ending_by(deadline), "corosync-cfgtool", "-s")
    found: dict[int, dict[int, bool]] = {}
    for line in said.splitlines():
        if head := _LINK.match(line):
            peers = found.setdefault(int(head["link"]), {})
        elif found and (peer := _PEER.match(line)) and peer["state"] != "localhost":
            peers[int(peer["id"])] = peer["state"] == "connected"
    if not found:
        raise ProtocolError(f"node {node.name}: `corosync-cfgtool -s` names no link: {said.strip()[:200]}")
    return found


def times(node: Node, deadline: Deadline) -> tuple[float, float]:
    """Token and consensus in seconds by which the node's corosync runs, whatever any file says (cmap_keys(7))."""
    said = node.command(deadline, *ending_by(deadline), "corosync-cmapctl", "runtime.config.totem.")
    found = {row["key"]: int(row["ms"]) / 1000 for row in _TIME.finditer(said)}
    if found.keys() != {"token", "consensus"}:
        raise ProtocolError(f"node {node.name}: `corosync-cmapctl` tells no token: {said.strip()[:200]}")
    return found["token"], found["consensus"]


def device_state(node: Node, deadline: Deadline) -> str:
    """The node's line to its quorum device: ``Connected``, ``Connecting``, ``Disconnected`` …"""
    said = node.command(deadline, *ending_by(deadline), "corosync-qdevice-tool", "-s")
    found = _STATE.search(said)
    if found is None:
        raise ProtocolError(f"node {node.name}: `corosync-qdevice-tool -s` names no state: {said.strip()[:200]}")
    return found["state"]


def device_host(node: Node, deadline: Deadline) -> tuple[str, int]:
    """Where the node's daemon looks for qnetd: host and port, as it says itself."""
    said = node.command(deadline, *ending_by(deadline), "corosync-qdevice-tool", "-s")
    found = _HOST.search(said)
    if found is None:
        raise ProtocolError(f"node {node.name}: `corosync-qdevice-tool -s` names no host: {said.strip()[:200]}")
    return found["host"].strip("[]"), int(found["port"])


def write_refused(node: Node, path: str, deadline: Deadline) -> str | None:
    """With which words the cluster's file system refused a file there; None if it took it, and gave it back.

    ProtocolError where it failed for another reason.
    """
    line = all_of(quote("touch", path), quote("rm", "-f", path))
    result = node.ssh.run(line, deadline=deadline, acts=True)
    said = result.stderr.decode(errors="replace").strip()
    if result.exit_status == 0 or said.startswith("rm:"):
        return None
    if DENIED in said:
        return said
    raise ProtocolError(f"node {node.name}: `{line}` ended with status {result.exit_status}: {said[:200]}")
