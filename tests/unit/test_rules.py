"""Packet filter rules of ours: what they say, and that taking them back names nothing but them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pytest_pveha.clock import Deadline, LiveClock
from pytest_pveha.errors import ProtocolError
from pytest_pveha.faults import rules
from pytest_pveha.handles.node import Node

TAG = "pveha-0a1b2c3d-partition-1"
TRAFFIC = rules.Traffic(("10.0.0.2", "fd00::2"), (5405, 5412))


@dataclass
class FakeNode:
    """A node that has some tools and remembers what was typed."""

    tools: frozenset[str]
    answers: dict[str, str] = field(default_factory=dict)
    typed: list[tuple[str, ...]] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    name: str = "n1"

    def command(self, deadline: Deadline, *words: str) -> str:
        if words[:2] == ("sh", "-c"):
            if words[2].split()[-1] in self.tools:
                return f"/usr/sbin/{words[2].split()[-1]}\n"
            raise ProtocolError("not found")
        return self.answers.get(words[0], "")

    def act(self, deadline: Deadline, *words: str, input: str | None = None) -> str:
        self.typed.append(words)
        self.inputs += [input] if input else []
        return ""


def fake(*tools: str, **answers: str) -> Any:
    return cast("Node", FakeNode(frozenset(tools), answers))


def deadline() -> Deadline:
    return LiveClock().deadline(10)


def test_nft_drops_both_ways_and_counts() -> None:
    """One table of the tag's name, a chain each way, each address family by its own word."""
    node = fake("nft", "iptables")
    rules.put(node, TAG, TRAFFIC, deadline=deadline())
    assert node.typed == [("nft", "-f", "-")]
    assert node.inputs == [
        "table inet pveha_0a1b2c3d_partition_1\n"
        "delete table inet pveha_0a1b2c3d_partition_1\n"
        "table inet pveha_0a1b2c3d_partition_1 {\n"
        "    chain from {\n"
        "        type filter hook input priority -300; policy accept;\n"
        "        ip saddr { 10.0.0.2 } udp dport 5405-5412 counter drop\n"
        "        ip6 saddr { fd00::2 } udp dport 5405-5412 counter drop\n"
        "    }\n"
        "    chain to {\n"
        "        type filter hook output priority -300; policy accept;\n"
        "        ip daddr { 10.0.0.2 } udp dport 5405-5412 counter drop\n"
        "        ip6 daddr { fd00::2 } udp dport 5405-5412 counter drop\n"
        "    }\n"
        "}\n"
    ]


def test_one_way_is_one_chain() -> None:
    """What only comes in is dropped, or only what goes out."""
    node = fake("nft")
    rules.put(node, TAG, rules.Traffic(("10.0.0.2",), outgoing=False), deadline=deadline())
    assert "chain from" in node.inputs[0]
    assert "chain to" not in node.inputs[0]
    assert "udp" not in node.inputs[0]


def test_without_nft_iptables_does_it() -> None:
    """A chain of the tag's name, and a jump to it from each side."""
    node = fake("iptables")
    rules.put(node, TAG, rules.Traffic(("10.0.0.2",), (5405, 5412)), deadline=deadline())
    ports = ("-p", "udp", "--dport", "5405:5412")
    assert node.typed == [
        ("iptables", "-w", "-N", TAG),
        ("iptables", "-w", "-A", TAG, "-s", "10.0.0.2", *ports, "-j", "DROP"),
        ("iptables", "-w", "-A", TAG, "-d", "10.0.0.2", *ports, "-j", "DROP"),
        ("iptables", "-w", "-I", "INPUT", "-j", TAG),
        ("iptables", "-w", "-I", "OUTPUT", "-j", TAG),
    ]
    assert len(TAG.replace("partition-1", "partition-12")) < 29  # what a chain's name may have (iptables(8))


def test_without_either_nothing_is_cut() -> None:
    """The message says which tools there are not."""
    with pytest.raises(ProtocolError, match="neither nft nor iptables"):
        rules.put(fake(), TAG, TRAFFIC, deadline=deadline())


@pytest.mark.parametrize(
    ("node", "there"),
    [
        (fake("nft", nft="table inet filter\ntable inet pveha_0a1b2c3d_partition_1\n"), True),
        (fake("nft", nft="table inet pveha_0a1b2c3d_partition_12\n"), False),
        (fake("iptables", iptables=f"-P INPUT ACCEPT\n-N {TAG}\n"), True),
        (fake("iptables", iptables=f"-P INPUT ACCEPT\n-N {TAG}2\n"), False),
        (fake("iptables", ip6tables=f"-N {TAG}\n"), True),
    ],
)
def test_they_are_seen_by_their_whole_name(node: Any, there: bool) -> None:
    """A table or chain whose name only begins alike is somebody else's."""
    assert rules.there(node, TAG, deadline()) is there


def test_taking_back_names_only_ours() -> None:
    """Every line of the undo carries the tag, and fails without harm."""
    lines = rules.undo_script(TAG)
    assert all(TAG in line or TAG.replace("-", "_") in line for line in lines)
    assert all(line.endswith("2>/dev/null || true") for line in lines)
    idle = fake("nft")
    rules.take_back(idle, TAG, deadline=deadline())
    assert idle.typed == []
