"""One card of a bond: lost only where another carries, and seen by the bond itself, not by the command's word."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from test_handles_bonds import BACKUP, LACP

from pytest_pveha.clock import Deadline, LiveClock
from pytest_pveha.errors import PreflightRefused, ProtocolError
from pytest_pveha.faults.bonds import BondMemberLoss
from pytest_pveha.observe.observer import Observer

LOSS = BondMemberLoss("n1", "bond0", "eno1")
BOTH = BACKUP.replace("MII Status: down", "MII Status: up")
AGREED = LACP.replace("Address: 00:00:00:00:00:00", "Address: 00:23:04:ee:be:01", 1)
AGREED = AGREED.replace("enp1s0f0", "eno1").replace("enp1s0f1", "eno2")
IN_USE = AGREED.replace("MII Status: down", "MII Status: up").replace("Aggregator ID: 1", "Aggregator ID: 2")


@dataclass
class Node:
    """A node with that text in /proc/net/bonding/bond0."""

    text: str
    name: str = "n1"
    typed: list[str] = field(default_factory=list)

    def command(self, deadline: Deadline, *words: str) -> str:
        if not self.text:
            raise ProtocolError("cat: No such file or directory")
        return self.text

    def act(self, deadline: Deadline, *words: str) -> str:
        self.typed.append(" ".join(words))
        return ""


class Eyes:
    """An observer of one node."""

    def __init__(self, text: str) -> None:
        self.node = Node(text)
        self.clock = LiveClock()
        self.nodes = {"n1": self.node}

    @property
    def site(self) -> Any:
        return self

    def look(self) -> None: ...


def eyes(text: str) -> Observer:
    return cast("Observer", Eyes(text))


@pytest.mark.parametrize("text", [BOTH, IN_USE])
def test_where_another_carries_it_may_be_lost(text: str) -> None:
    """In either mode: set down, and set up."""
    seen = cast("Any", eyes(text))
    LOSS.preflight(seen)
    LOSS.inject(seen)
    LOSS.heal(seen)
    assert seen.node.typed == ["ip link set dev eno1 down", "ip link set dev eno1 up"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BACKUP, "no other member of bond0 on n1 carries: without eno1 the node would be cut off"),
        (BOTH.replace("ms): 100", "ms): 0"), "looks for lost links neither by MII nor by ARP"),
        (AGREED, "eno1 of bond0 on n1 has no link already; nothing to lose"),
        (IN_USE.replace("00:23:04:ee:be:01", "00:00:00:00:00:00"), r"bond0 of n1 negotiates \(802.3ad\) and nobody"),
        (IN_USE[::-1].replace("2 :DI", "3 :DI", 1)[::-1], "no other member of bond0 on n1 carries"),
    ],
)
def test_what_could_not_be_missed_is_not_broken(text: str, told: str) -> None:
    """No second card, none that is in use, no watch over them, none to lose, or nobody at the other end."""
    with pytest.raises(PreflightRefused, match=told):
        LOSS.preflight(eyes(text))


@pytest.mark.parametrize("text", ["", BOTH.replace("eno1", "eno7")])
def test_what_cannot_be_read_is_not_touched(text: str) -> None:
    """No such bond, or no such member."""
    with pytest.raises(PreflightRefused, match="bond0 of n1 is not touched: "):
        LOSS.preflight(eyes(text))


def test_the_bond_itself_is_asked() -> None:
    """It bit when the bond leaves the member out, and is healed when it is in use again."""
    assert LOSS.took_effect(eyes(BOTH)).verdict == "no"
    lost = BOTH.replace("Slave Interface: eno1\nMII Status: up", "Slave Interface: eno1\nMII Status: down")
    assert LOSS.took_effect(eyes(lost)).saw == "bond0 of n1 goes on without eno1, over eno2"
    assert LOSS.healed(eyes(lost)).verdict == "no"
    assert LOSS.healed(eyes(BOTH)).verdict == "yes"
    assert LOSS.healed(eyes(IN_USE)).verdict == "yes"
    apart = AGREED.replace("MII Status: down", "MII Status: up")
    assert LOSS.healed(eyes(apart)).saw == "eno1 is up and not yet in use: its partner has not agreed"
    assert LOSS.healed(eyes("")).verdict == "cant_tell"
