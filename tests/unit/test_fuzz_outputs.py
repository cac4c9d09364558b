"""Commands that print rubbish: whatever a node's shell gives back, a handle reads it or says ProtocolError."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fuzzing import budget, spoilt_bytes, tries
from hypothesis import given
from hypothesis import strategies as st

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import SiteError
from pytest_pveha.faults.keeping import remembered
from pytest_pveha.handles import leftovers
from pytest_pveha.handles.cluster_lease import UNKNOWN, Holder, lease_holder
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.leftovers import Standing
from pytest_pveha.handles.node import JournalLine, Node, Processes, Votes, Way
from pytest_pveha.handles.site import Site
from pytest_pveha.wire.ssh import CommandResult, Ssh

CLOCK = LiveClock()

PVECM = b"""\
Cluster information
-------------------
Name:             orcl
Config Version:   3

Quorum information
------------------
Nodes:            3
Ring ID:          1.1a
Quorate:          Yes

Votequorum information
----------------------
Expected votes:   3
Highest expected: 3
Total votes:      3
Quorum:           2
Flags:            Quorate Qdevice
"""
"""An excerpt of ``pvecm status``, recorded on PVE 9.1.9."""

PS = b"""\
      1   86400 /sbin/init
   2001    1203 /usr/bin/kvm -id 101 -name svc1,debug-threads=on -no-shutdown
   2002      77 /usr/bin/lxc-start -F -n 102
   2003      12 grep kvm -id 999
"""

JOURNAL = (
    b"1795335870.123456 n3 pve-ha-crm[812]: fencing: acknowledged - got agent lock for node 'n1'\n"
    b"1795335871.000001 n3 pve-ha-crm[812]: service 'vm:101': state changed from 'fence' to 'recovery'\n"
)

BOOT_ID = b"0f3c9d1e-7a52-4a0e-9a55-2f1f6f1f0a11\n"


TABLES = b"table inet filter\ntable inet pveha_cut_1\n"
CHAINS = b"""\
-P INPUT ACCEPT
-N PVEHA-CUT
-A INPUT -j PVEFW-INPUT
-A INPUT -p udp -m comment --comment "pveha cut-1" -j DROP
"""
UNITS = b"pveha-1a2b3c4d-f1.timer loaded active waiting undoes\npveha-1a2b3c4d-f1.service loaded inactive dead undoes\n"
BOOT = b"Boot parameter version: 1\nBoot parameter data: 8004000000\n"
HOLDER = json.dumps({"run": "1a2b3c4d", "host": "ops1", "pid": 4711, "until": 1795335870}).encode()
PLAN = json.dumps({"fault": "f1", "type": "power_cut", "params": {"node": "n1"}}).encode()


class Shell:
    """Prints the same, whatever is asked, but for commands whose first words are given."""

    def __init__(self, stdout: bytes, status: int = 0, others: Mapping[str, bytes] | None = None) -> None:
        self._stdout = stdout
        self._status = status
        self._others = others or {}
        self.asked: list[str] = []

    def run(self, command: str, **_: Any) -> CommandResult:
        self.asked.append(command)
        now = CLOCK.now()
        known = next((said for words, said in self._others.items() if command.startswith(words)), self._stdout)
        return CommandResult(self._status, known, b"", now, now)


def node(stdout: bytes, status: int = 0, **others: bytes) -> Node:
    """A node; ``others``: what it prints for a command, spelled with ``_`` for a blank."""
    told = {words.replace("_", " "): said for words, said in others.items()}
    return Node("n1", cast("Ssh", Shell(stdout, status, told)), None, CLOCK, ())


def kept(stdout: bytes) -> Any:
    """What the node remembers of runs, where one file of one run holds that."""
    folders = {
        "ls -1 /var/lib/pveha/1a2b3c4d": b"f1.json\nrun.json\n",
        "ls -1 /var/lib/pveha": b"1a2b3c4d\nlost+found\n",
        "cat /var/lib/pveha/1a2b3c4d/run.json": b"{}",
    }
    only = Node("n1", cast("Ssh", Shell(stdout, others=folders)), None, CLOCK, ())
    found = remembered(cast("Site", SimpleNamespace(nodes=Nodes([only]), clock=CLOCK)))
    return {name: each.plans for name, each in found.items()}


def holder(stdout: bytes) -> Any:
    return lease_holder(Nodes([node(stdout, ls=b"holder\n")]), CLOCK)


def reading(of: Callable[[Node], Any]) -> Callable[[bytes], Any]:
    return lambda stdout: of(node(stdout))


def left(**said: bytes) -> Any:
    """What stands on a node that prints one of these; all that is ours of it is then removed."""
    told = {"nft": TABLES, "iptables": CHAINS, "systemctl": UNITS, "ipmitool": BOOT, **said}
    asked = node(b"", **told)
    found = leftovers.read(asked, CLOCK.deadline(5))
    for items in found.ours.values():
        for item in leftovers.in_order(items or frozenset()):
            leftovers.remove(asked, item, CLOCK.deadline(5))
    return found


READS: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
    "boot_id": (BOOT_ID, reading(lambda node: node.boot_id(CLOCK.deadline(5)))),
    "processes": (PS, reading(lambda node: node.processes(CLOCK.deadline(5)))),
    "clock": (b"1795335870.123456789\n", reading(lambda node: node.clock_offset(CLOCK.deadline(5)))),
    "journal": (JOURNAL, reading(lambda node: node.journal(0, ("pve-ha-crm",), CLOCK.deadline(5)))),
    "votes": (PVECM, reading(lambda node: node.votes(CLOCK.deadline(5)))),
    "way": (b"192.0.2.9 50022 192.0.2.11 22\n", reading(lambda node: node.way(CLOCK.deadline(5)))),
    "addresses": (b"192.0.2.11 2001:db8::b \n", reading(lambda node: node.own_addresses(CLOCK.deadline(5)))),
    "pids": (b"    1\n  412\n", reading(lambda node: node.pids(CLOCK.deadline(5)))),
    "unit": (b"active\n", reading(lambda node: node.units.active("corosync", CLOCK.deadline(5)))),
    "main_pid": (b"MainPID=812\n", reading(lambda node: node.units.main_pid("corosync", CLOCK.deadline(5)))),
    "units": (
        UNITS,
        lambda said: node(said, ls=b"pveha-1a2b3c4d-f2.timer\n").units.listed("pveha-1a2b3c4d-*", CLOCK.deadline(5)),
    ),
    "unit_files": (UNITS[:23], lambda said: node(b"", ls=said).units.listed("pveha-1a2b3c4d-*", CLOCK.deadline(5))),
    "names": (b"f1.json\nrun.json\n", reading(lambda node: node.disk.names("/var/lib/pveha", CLOCK.deadline(5)))),
    "tables": (TABLES, lambda said: left(nft=said)),
    "chains": (CHAINS, lambda said: left(iptables=said)),
    "left_units": (UNITS, lambda said: left(systemctl=said)),
    "boot": (BOOT, lambda said: left(ipmitool=said)),
    "holder": (HOLDER, holder),
    "plan": (PLAN, kept),
}


def plausible(found: Any) -> bool:
    """Whether a reading may be believed by whoever calculates with it."""
    if isinstance(found, Processes):
        return all(re.fullmatch(r"(vm|ct):[0-9]{1,9}", sid) and 0 <= age < 1 << 40 for sid, age in found.ages.items())
    if isinstance(found, Votes):
        counted = [each for each in (found.expected, found.total, found.quorum, found.nodes) if each is not None]
        return all(0 <= each < 1 << 40 for each in counted) and all(not re.search(r"\s", flag) for flag in found.flags)
    if isinstance(found, Way):
        return all(str(ip_address(each)) == each for each in (found.seen_from, found.at))
    if isinstance(found, Holder):
        return 0 <= found.pid <= 1 << 22 and 0 <= found.until < 1 << 63
    if isinstance(found, Standing):
        ours = [item for items in found.ours.values() for item in items or ()]
        return all("pveha" in item.lower() and "\n" not in item for item in ours)
    if isinstance(found, frozenset):
        return all(0 <= one < 10**10 if isinstance(one, int) else str(ip_address(one)) == one for one in found)
    if isinstance(found, dict):
        return found.keys() <= {"1a2b3c4d"} and all(isinstance(each, dict) for each in found["1a2b3c4d"].values())
    if isinstance(found, list) and found and isinstance(found[0], str):
        return all("/" not in name and "\n" not in name and name not in ("", ".", "..") for name in found)
    if isinstance(found, int):
        return 0 <= found < 10**10
    if isinstance(found, list):
        return all(isinstance(line, JournalLine) and math.isfinite(line.at) and "\n" not in line.text for line in found)
    if isinstance(found, str | bool):
        return True
    return math.isfinite(found.offset) and math.isfinite(found.error) and found.error >= 0


@budget(300, 4000)
@pytest.mark.parametrize("name", READS)
def test_spoilt_output_is_read_or_refused(name: str, examples: int) -> None:
    """Cut, flipped and mixed output gives a plausible reading or a ProtocolError that names the node."""
    recorded, read = READS[name]
    assert plausible(read(recorded))

    @tries(examples)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        try:
            good = plausible(read(spoilt_bytes(recorded, data.draw)))
        except SiteError as error:
            good = str(error).startswith("node n1: ")
        assert good

    holds()


@pytest.mark.parametrize("said", [b"nan\n", b"inf\n", b"-inf", b"1e400\n", b"", b"1_0\n", b"9" * 5000, "١٧٩٥".encode()])
def test_a_time_that_is_none_is_refused(said: bytes) -> None:
    """NaN differs from nothing, so it would have passed for a clock that agrees."""
    with pytest.raises(SiteError, match="which is no time"):
        node(said).clock_offset(CLOCK.deadline(5))


@pytest.mark.parametrize(("said", "years"), [(b"0.0\n", -50), (b"4102444800.5\n", 70), (b"-86400.0\n", -50)])
def test_a_clock_that_is_years_off_is_measured(said: bytes, years: int) -> None:
    """A dead clock battery is a figure, and not an error."""
    assert round(node(said).clock_offset(CLOCK.deadline(5)).offset / 31_557_600 / years) in (0, 1, 2)


@pytest.mark.parametrize("said", [b"", b"unknown", b"0f3c9d1e", b"cat: /proc: No such file", BOOT_ID * 2])
def test_a_boot_id_that_is_none_is_refused(said: bytes) -> None:
    """Any other text would have passed for a new boot, and so for a reset that nobody made."""
    with pytest.raises(SiteError, match="which is no UUID"):
        node(said).boot_id(CLOCK.deadline(5))


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        (b"Yes", b"3"),
        (b"Yes", b""),
        (b"votes:   3", b"votes:   -1"),
        (b"votes:   3", b"votes:   many"),
        (b"Total", b"T"),
        (b"Quorum:           2", b"Quorum:           two"),
        (b"Nodes:            3", b"Nodes:            3 or so"),
        (b"Nodes:            3", b"Nodes:            3\nNodes:            2"),
    ],
)
def test_votes_that_are_none_are_refused(words: bytes, instead: bytes) -> None:
    """A view without its three figures is no view; "Quorate: 3" is not "No"."""
    with pytest.raises(SiteError, match="does not say the votes"):
        node(PVECM.replace(words, instead)).votes(CLOCK.deadline(5))
    with pytest.raises(SiteError, match="does not say the votes"):
        node(PVECM + b"Quorate:          No\n").votes(CLOCK.deadline(5))


@pytest.mark.parametrize("name", ["../../../etc", "a/b", "..", "."])
def test_a_listed_name_is_a_name(name: str) -> None:
    """What is listed becomes part of a path that is removed, so it may not lead anywhere else."""
    for listed in (
        lambda: node(name.encode() + b"\n").disk.names("/var/lib/pveha", CLOCK.deadline(5)),
        lambda: node(b"", ls=f"pveha-1-{name}/x".encode()).units.listed("pveha-1-*", CLOCK.deadline(5)),
        lambda: node(f"pveha-1-/{name} loaded".encode(), ls=b"").units.listed("pveha-1-*", CLOCK.deadline(5)),
    ):
        with pytest.raises(SiteError, match=r"^node n1: .*(is no name of a file|is no unit's name)"):
            listed()


@pytest.mark.parametrize(
    "said", [b"", b"[]", b"{}", b'{"type": 1, "params": {}}', b'{"type": "power_cut", "params": []}']
)
def test_half_a_plan_is_none(said: bytes) -> None:
    """A plan that no fault could be made of is as good as none: another node's copy counts."""
    assert kept(PLAN) == {"1a2b3c4d": {"f1": json.loads(PLAN)}}
    assert kept(said) == {"1a2b3c4d": {}}


@pytest.mark.parametrize(
    "said",
    [
        b"", b"[]", b"null", b"{", b"[" * 100_000, HOLDER.replace(b"4711", b"1e400"), HOLDER.replace(b"4711", b"NaN"),
        HOLDER.replace(b"4711", b"9999999999"), HOLDER.replace(b"4711", b"-1"), HOLDER.replace(b'"ops1"', b"[]"),
        HOLDER.replace(b"1795335870", b"9" * 30), HOLDER.replace(b"4711", b"9" * 5000),
    ],
)  # fmt: skip
def test_a_lease_that_cannot_be_read_is_somebodys(said: bytes) -> None:
    """Rubbish in the lease means that nobody knows whose it is, and never that it is free."""
    assert holder(HOLDER) == Holder("1a2b3c4d", "ops1", 4711, 1795335870)
    assert holder(said) == UNKNOWN


def test_a_rule_that_cannot_be_read_is_told() -> None:
    """A quote that is never closed is an error that names node and rule."""
    with pytest.raises(SiteError, match=r"node n1: .*is no rule that could be read"):
        left(iptables=b'-A INPUT -m comment --comment "pveha\n')


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x85", "\r"])
def test_a_log_text_cannot_pass_for_a_line_of_its_own(separator: str) -> None:
    """Whatever Unicode calls a line end, a message stays one message of the one who logged it."""
    forged = (
        f"1795335870.0 n3 pve-ha-crm[1]: user said {separator}1795335870.0 n3 pve-ha-crm[1]: fencing: acknowledged\n"
    )
    found = node(forged.encode()).journal(0, ("pve-ha-crm",), CLOCK.deadline(5))
    assert len(found) <= 1
    processes = f"  1  5 /bin/sh {separator}  2  5 /usr/bin/kvm -id 666 -name x\n"
    assert node(processes.encode()).processes(CLOCK.deadline(5)).ages == {}


def test_arguments_of_others_are_no_guests() -> None:
    """A process that merely names kvm, and a guest whose name looks like an option, are not taken for guests."""
    output = (
        b"  1  5 grep /usr/bin/kvm -id 666\n"
        b"  2  6 vim /usr/bin/lxc-start -n 667\n"
        b"  3  7 /usr/bin/kvm -id 101 -name a -id 668 -x\n"
        b"  4  8 /usr/bin/lxc-start -F -n 102 -n 669\n"
    )
    assert node(output).processes(CLOCK.deadline(5)).ages == {"vm:101": 7, "ct:102": 8}


def test_what_a_command_said_is_fit_for_a_terminal() -> None:
    """Escapes in an output are spelled in the message."""
    with pytest.raises(SiteError) as refused:
        node(b"Name: \x1b[2J\xe2\x80\xae").votes(CLOCK.deadline(5))
    assert str(refused.value).isprintable()
