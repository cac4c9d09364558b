"""What a node says of quorum, its watchdog and its OSDs, read from what its commands print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.node import Node, Votes
from pytest_pveha.wire.ssh import CommandResult, Ssh

# as recorded on a PVE 9.1.9 control plane, abridged
STATUS = """Quorum information
------------------
Quorum provider:  corosync_votequorum
Nodes:            3
Quorate:          {quorate}

Votequorum information
----------------------
Expected votes:   {expected}
Highest expected: 3
Total votes:      {total}
Quorum:           {quorum}
Flags:            {flags}
"""


@dataclass
class Shell:
    """Answers every command with the same."""

    status: int
    out: str
    err: str = ""

    def run(self, line: str, *, deadline: Any) -> CommandResult:
        now = LiveClock().now()
        return CommandResult(self.status, self.out.encode(), self.err.encode(), now, now)


def node(status: int, out: str, err: str = "") -> Node:
    return Node("n1", cast("Ssh", Shell(status, out, err)), None, LiveClock(), ())


def soon() -> Any:
    return LiveClock().deadline(5)


@pytest.mark.parametrize(
    ("said", "votes"),
    [
        (("Yes", 3, 3, "2  ", "Quorate "), Votes(True, 3, 3, 2, frozenset({"Quorate"}), 3)),
        (("No", 3, 1, "2 Activity blocked", ""), Votes(False, 3, 1, 2, nodes=3)),
        (("Yes", 2, 2, "1  ", "2Node Quorate "), Votes(True, 2, 2, 1, frozenset({"2Node", "Quorate"}), 3)),
    ],
)
def test_votes_quorum_and_flags(said: tuple[Any, ...], votes: Votes) -> None:
    """What is expected, there and needed, with and without quorum, and the mode it is counted in."""
    quorate, expected, total, quorum, flags = said
    text = STATUS.format(quorate=quorate, expected=expected, total=total, quorum=quorum, flags=flags)
    assert node(0 if quorate == "Yes" else 2, text).votes(soon()) == votes


def test_a_node_without_corosync_names_no_votes() -> None:
    """What it says instead is in the message."""
    with pytest.raises(ProtocolError, match="does not say the votes, each once: Cannot initialize CMAP service"):
        node(1, "", "Cannot initialize CMAP service").votes(soon())


def test_a_watchdog_is_held_free_or_not_known() -> None:
    """The directory is there or is not; any other answer is none."""
    assert node(0, "").watchdog_has_clients(soon()) is True
    assert node(1, "").watchdog_has_clients(soon()) is False
    with pytest.raises(ProtocolError, match="status 127"):
        node(127, "", "test: command not found").watchdog_has_clients(soon())


def test_osds_may_stop_may_not_or_it_is_not_known() -> None:
    """Ceph's yes, its no with the reason, and an error that is neither."""
    assert node(0, '{"ok_to_stop":true}').ceph_ok_to_stop((0, 1), soon()) == (True, '{"ok_to_stop":true}')
    names = '{"bad_become_inactive":["' + '","'.join(f"2.{number:x}" for number in range(128)) + '"]}'
    said = node(16, names, "Error EBUSY: unsafe to stop osd(s) at this time (3 PGs)\n").ceph_ok_to_stop((0,), soon())
    assert said[0] is False
    assert said[1].startswith("Error EBUSY: unsafe to stop osd(s) at this time (3 PGs)")
    with pytest.raises(ProtocolError, match="osd ok-to-stop 0` ended with 1: timed out"):
        node(1, "", "timed out").ceph_ok_to_stop((0,), soon())
