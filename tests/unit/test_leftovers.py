"""What a run could leave on a node: told, and only what carries our tag is ever removed."""

from __future__ import annotations

from typing import cast

import pytest

from pytest_pveha.clock import Deadline, LiveClock
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles import leftovers
from pytest_pveha.handles.node import Node

NFT = "table inet filter\ntable inet pveha_cut_1\n"
IPTABLES = """-P INPUT ACCEPT
-P FORWARD DROP
-N PVEFW-INPUT
-N PVEHA-CUT
-A INPUT -j PVEFW-INPUT
-A INPUT -p udp -m comment --comment "pveha cut-1" -j DROP
"""
UNITS = "pveha-heal-1.timer loaded active waiting heals\npveha-heal-1.service loaded inactive dead heals\n"
BOOT = "Boot parameter version: 1\nBoot parameter 5 is valid/unlocked\nBoot parameter data: {}\n Boot Flags :\n"


class Shell:
    """A node that answers what it was given, and remembers what it was told to do."""

    name = "pve1"
    bmc: Controller | None = None

    def __init__(self, **answers: str) -> None:
        self._answers = answers
        self.told: list[str] = []

    def command(self, deadline: Deadline, *words: str) -> str:
        if words[1] in ("delete", "stop", "-D", "-F", "-X"):
            self.told.append(" ".join(words))
            return ""
        if words[0] not in self._answers:
            raise ProtocolError(f"{words[0]}: command not found")
        return self._answers[words[0]]


def read(shell: Shell) -> leftovers.Standing:
    return leftovers.read(cast("Node", shell), LiveClock().deadline(5))


def remove(shell: Shell, *items: str) -> list[str]:
    for item in leftovers.in_order(frozenset(items)):
        leftovers.remove(cast("Node", shell), item, LiveClock().deadline(5))
    return shell.told


def test_ours_is_told_from_others() -> None:
    """What carries our tag is listed by kind, the rest apart."""
    found = read(Shell(nft=NFT, iptables=IPTABLES, systemctl=UNITS))
    assert found.ours == {
        "nft table ": {"nft table inet pveha_cut_1"},
        "iptables ": {
            "iptables -N PVEHA-CUT",
            'iptables -A INPUT -p udp -m comment --comment "pveha cut-1" -j DROP',
        },
        "unit ": {"unit pveha-heal-1.timer", "unit pveha-heal-1.service"},
    }
    assert found.tables == {"inet filter"}
    assert found.policies == {"INPUT ACCEPT", "FORWARD DROP"}


def test_what_cannot_be_read_is_not_nothing() -> None:
    """A tool that is missing leaves its part unknown, and the others known."""
    found = read(Shell(nft=NFT))
    assert found.ours == {"nft table ": {"nft table inet pveha_cut_1"}, "iptables ": None, "unit ": None}
    assert found.policies is None


class Controller:
    """A BMC that says something of its next boot, or fails."""

    def __init__(self, says: str | None, *, fails: bool = False) -> None:
        self._says, self._fails = says, fails

    def boot_override(self, deadline: Deadline) -> str | None:
        if self._fails:
            raise ProtocolError("a BMC of other ways")
        return self._says


def boots(shell: Shell, controller: Controller | None = None) -> str | None:
    shell.bmc = controller
    return leftovers.boot_override(cast("Node", shell), LiveClock().deadline(5))


def test_the_boot_override_is_the_bmcs_word() -> None:
    """Of the BMC in the inventory; without one by the node's own ipmitool; and who cannot say breaks nothing."""
    assert boots(Shell(ipmitool=BOOT.format("8004000000"))) == "pxe at the next boot (IPMI 8004000000)"
    assert boots(Shell(ipmitool=BOOT.format("0004000000"))) == "none"
    assert boots(Shell(ipmitool="Unable to get it")) is None
    assert boots(Shell()) is None
    asked = Shell(ipmitool=BOOT.format("8004000000"))
    assert boots(asked, Controller("none")) == "none"
    assert boots(asked, Controller(None)) is None
    assert boots(asked, Controller("none", fails=True)) is None


def test_rules_go_before_the_chains_they_jump_to() -> None:
    """Each thing of ours goes by its own command, in an order in which none is in use any more."""
    rule = 'iptables -A INPUT -m comment --comment "pveha cut-1" -j PVEHA-CUT'
    assert remove(Shell(), "unit pveha-heal-1.timer", "iptables -N PVEHA-CUT", rule, "nft table inet pveha_cut_1") == [
        "nft delete table inet pveha_cut_1",
        "iptables -D INPUT -m comment --comment pveha cut-1 -j PVEHA-CUT",
        "iptables -F PVEHA-CUT",
        "iptables -X PVEHA-CUT",
        "systemctl stop pveha-heal-1.timer",
    ]


@pytest.mark.parametrize("item", ["unit pve-firewall.service", "nft table inet filter", "iptables -N PVEFW-INPUT"])
def test_what_is_not_ours_is_never_removed(item: str) -> None:
    """Without our tag nothing is done, whoever asks."""
    assert remove(Shell(), item) == []
