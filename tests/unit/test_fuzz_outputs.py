"""Commands that print rubbish: whatever a node's shell gives back, a handle reads it or says ProtocolError."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, cast

import pytest
from fuzzing import budget, spoilt_bytes, tries
from hypothesis import given
from hypothesis import strategies as st

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import SiteError
from pytest_pveha.handles.node import JournalLine, Node, Processes, Votes
from pytest_pveha.wire.ssh import CommandResult, Ssh

CLOCK = LiveClock()

PVECM = b"""\
Cluster information
-------------------
Name:             orcl
Config Version:   3

Quorum information
------------------
Ring ID:          1.1a
Quorate:          Yes

Votequorum information
----------------------
Expected votes:   3
Highest expected: 3
Total votes:      3
Quorum:           2
Flags:            Quorate
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


class Shell:
    """Prints the same, whatever is asked."""

    def __init__(self, stdout: bytes, status: int = 0) -> None:
        self._stdout = stdout
        self._status = status

    def run(self, command: str, **_: Any) -> CommandResult:
        now = CLOCK.now()
        return CommandResult(self._status, self._stdout, b"", now, now)


def node(stdout: bytes, status: int = 0) -> Node:
    return Node("n1", cast("Ssh", Shell(stdout, status)), None, CLOCK, ())


def reading(of: Callable[[Node], Any]) -> Callable[[bytes], Any]:
    return lambda stdout: of(node(stdout))


READS: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
    "boot_id": (BOOT_ID, reading(lambda node: node.boot_id(CLOCK.deadline(5)))),
    "processes": (PS, reading(lambda node: node.processes(CLOCK.deadline(5)))),
    "clock": (b"1795335870.123456789\n", reading(lambda node: node.clock_offset(CLOCK.deadline(5)))),
    "journal": (JOURNAL, reading(lambda node: node.journal(0, ("pve-ha-crm",), CLOCK.deadline(5)))),
    "votes": (PVECM, reading(lambda node: node.votes(CLOCK.deadline(5)))),
    "unit": (b"active\n", reading(lambda node: node.unit_active("corosync", CLOCK.deadline(5)))),
}


def plausible(found: Any) -> bool:
    """Whether a reading may be believed by whoever calculates with it."""
    if isinstance(found, Processes):
        return all(re.fullmatch(r"(vm|ct):[0-9]{1,9}", sid) and 0 <= age < 1 << 40 for sid, age in found.ages.items())
    if isinstance(found, Votes):
        return 0 <= found.expected < 1 << 40 and 0 <= found.total < 1 << 40
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
    ],
)
def test_votes_that_are_none_are_refused(words: bytes, instead: bytes) -> None:
    """A view without its three figures is no view; "Quorate: 3" is not "No"."""
    with pytest.raises(SiteError, match="does not say the votes"):
        node(PVECM.replace(words, instead)).votes(CLOCK.deadline(5))
    with pytest.raises(SiteError, match="does not say the votes"):
        node(PVECM + b"Quorate:          No\n").votes(CLOCK.deadline(5))


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
