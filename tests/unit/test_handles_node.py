"""What a node says of itself, read from replies captured on a control plane of three nodes (PVE 9.2, Debian 13)."""

from __future__ import annotations

from typing import cast

import pytest

from pytest_pveha.clock import Deadline, LiveClock
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.node import JournalLine, Node, Votes, Way
from pytest_pveha.wire.ssh import CommandResult, Ssh

PS = """\
     73     327 /usr/bin/pmxcfs
    101     317 pve-ha-crm
    112     312 pve-ha-lrm
    159     256 /usr/bin/kvm -id 102 -name g102,debug-threads=on -no-shutdown -pidfile /var/run/qemu-server/102.pid
    427       0 bash -c ps -eww -o pid=,etimes=,args= | grep pve-ha; true # /usr/bin/kvm -id 103 -name
    430       0 grep -E kvm -id|pve-ha|pmxcfs
"""

JOURNAL = """\
1795807645.546470 n2 systemd[1]: Started pve-ha-crm.service - PVE Cluster HA Resource Manager Daemon.
-- Boot e90689d1dd0a427aa7ed62eb8394103f --
1795808588.926276 n2 pve-ha-crm[101]: status change startup => wait_for_quorum
"""

CUT_OFF = """\
Quorum information
------------------
Date:             Fri Nov 27 20:04:21 2026
Quorum provider:  corosync_votequorum
Nodes:            1
Node ID:          0x00000003
Ring ID:          3.6d
Quorate:          No

Votequorum information
----------------------
Expected votes:   3
Highest expected: 3
Total votes:      1
Quorum:           2 Activity blocked
Flags:            
"""  # noqa: W291


class Shell:
    """Answers every command with the same text."""

    def __init__(self, stdout: str, exit_status: int = 0) -> None:
        self._stdout = stdout
        self._exit_status = exit_status

    def run(self, command: str, *, deadline: Deadline, **_: object) -> CommandResult:
        now = LiveClock().now()
        return CommandResult(self._exit_status, self._stdout.encode(), b"", now, now)


def node(stdout: str, exit_status: int = 0) -> Node:
    return Node("n2", cast("Ssh", Shell(stdout, exit_status)), None, LiveClock(), ())


def test_a_guest_is_its_own_process_and_no_talk_of_it() -> None:
    """A shell or a grep that names a guest's process is no guest that runs here."""
    assert node(PS).processes(LiveClock().deadline(1)).ages == {"vm:102": 256}


def test_a_boot_between_two_lines_of_the_journal_is_no_line() -> None:
    """What journalctl says itself, between the boots, is left out."""
    lines = node(JOURNAL).journal(0, ("pve-ha-crm",), LiveClock().deadline(1))

    assert lines == [
        JournalLine(
            1795807645.546470, "systemd", "Started pve-ha-crm.service - PVE Cluster HA Resource Manager Daemon."
        ),
        JournalLine(1795808588.926276, "pve-ha-crm", "status change startup => wait_for_quorum"),
    ]


@pytest.mark.parametrize(
    ("said", "status", "lost"),
    [
        ("static\nenabled\n", 0, []),
        ("static\ndisabled\n", 0, ["pve-ha-lrm"]),
        ("masked\ndisabled\n", 1, ["watchdog-mux", "pve-ha-lrm"]),
    ],
)
def test_which_units_do_not_come_back_with_a_boot(said: str, status: int, lost: list[str]) -> None:
    """By systemd's word, whatever its status: watchdog-mux is static there, and the LRM's unit wants it."""
    units = ("watchdog-mux", "pve-ha-lrm")
    assert node(said, status).units.lost_at_boot(units, LiveClock().deadline(1)) == lost


@pytest.mark.parametrize("said", ["", "active\n", "active\nsomething\n", "active\nactive\nactive\n"])
def test_units_of_which_nothing_usable_is_said_are_no_answer(said: str) -> None:
    """One word too few, too many or unknown: whose word each is cannot be told."""
    with pytest.raises(ProtocolError, match=r"is-active watchdog-mux pve-ha-lrm` said "):
        node(said, 3).units.inactive(("watchdog-mux", "pve-ha-lrm"), LiveClock().deadline(1))


@pytest.mark.parametrize(
    ("said", "way"),
    [
        ("192.0.2.9 50022 192.0.2.11 22\n", Way("192.0.2.9", "192.0.2.11")),
        ("::ffff:192.0.2.9 50022 ::ffff:192.0.2.11 22\n", Way("192.0.2.9", "192.0.2.11")),
        ("fe80::9%vmbr0 50022 2001:DB8::B 22\n", Way("fe80::9", "2001:db8::b")),
    ],
)
def test_from_where_a_node_sees_us_come(said: str, way: Way) -> None:
    """Addresses are told as everybody writes them: no zone, lower case, IPv4 as IPv4."""
    assert node(said).way(LiveClock().deadline(1)) == way


def test_every_address_of_a_node() -> None:
    """Those of all its cards, as everybody writes them; what is none is refused by name."""
    assert node("192.0.2.11 2001:DB8::B \n").own_addresses(LiveClock().deadline(1)) == {"192.0.2.11", "2001:db8::b"}
    with pytest.raises(ProtocolError, match=r"n2: `hostname -I` said .hostname: .*, no addresses"):
        node("hostname: invalid option -- 'I'\n").own_addresses(LiveClock().deadline(1))


@pytest.mark.parametrize("said", ["", "192.0.2.9 50022 192.0.2.11\n", "here 50022 there 22\n"])
def test_no_way_is_made_up(said: str) -> None:
    """What is no pair of addresses is refused by name."""
    with pytest.raises(ProtocolError, match=r"n2: SSH_CONNECTION reads .*, no two addresses"):
        node(said).way(LiveClock().deadline(1))


def test_votes_of_a_node_that_is_cut_off() -> None:
    """A node without quorum tells its votes all the same; its `pvecm status` ends with status 2."""
    assert node(CUT_OFF, exit_status=2).votes(LiveClock().deadline(1)) == Votes(
        quorate=False, expected=3, total=1, quorum=2, nodes=1
    )
