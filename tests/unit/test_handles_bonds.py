"""Bonds as the kernel tells them: what carries, what negotiates, and text that says neither."""

from __future__ import annotations

import json

import pytest

from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.bonds import Member, bond_names, told

BACKUP = """Ethernet Channel Bonding Driver: v6.8.12-4-pve

Bonding Mode: fault-tolerance (active-backup)
Primary Slave: None
Currently Active Slave: eno1
MII Status: up
MII Polling Interval (ms): 100
Up Delay (ms): 0
Down Delay (ms): 0
Peer Notification Delay (ms): 0

Slave Interface: eno1
MII Status: up
Speed: 10000 Mbps
Duplex: full
Link Failure Count: 0
Permanent HW addr: 3c:ec:ef:00:01:00
Slave queue ID: 0

Slave Interface: eno2
MII Status: down
Speed: Unknown
Duplex: Unknown
Link Failure Count: 2
Permanent HW addr: 3c:ec:ef:00:01:01
Slave queue ID: 0
"""

LACP = """Ethernet Channel Bonding Driver: v3.7.1 (April 27, 2011)

Bonding Mode: IEEE 802.3ad Dynamic link aggregation
Transmit Hash Policy: layer3+4 (1)
MII Status: up
MII Polling Interval (ms): 100
Up Delay (ms): 0
Down Delay (ms): 0

802.3ad info
LACP rate: fast
Min links: 0
Aggregator selection policy (ad_select): stable
System priority: 65535
System MAC address: 00:25:90:85:81:f2
Active Aggregator Info:
\tAggregator ID: 2
\tNumber of ports: 1
\tActor Key: 9
\tPartner Key: 1
\tPartner Mac Address: 00:00:00:00:00:00

Slave Interface: enp1s0f0
MII Status: down
Speed: Unknown
Duplex: Unknown
Link Failure Count: 2
Permanent HW addr: 00:25:90:85:81:f2
Slave queue ID: 0
Aggregator ID: 1
Actor Churn State: churned
Partner Churn State: churned
details actor lacp pdu:
    system priority: 65535
    port state: 71
details partner lacp pdu:
    system mac address: 00:00:00:00:00:00
    port state: 1

Slave Interface: enp1s0f1
MII Status: up
Speed: 1000 Mbps
Duplex: full
Link Failure Count: 2
Permanent HW addr: 00:25:90:85:81:f3
Slave queue ID: 0
Aggregator ID: 2
"""
"""As an old driver tells it whose switch does not negotiate: the shape of public samples."""


def test_a_bond_with_one_active_member() -> None:
    """Nothing is negotiated; whoever has a link could carry."""
    found = told("n1", "bond0", BACKUP)
    assert (found.lacp, found.up, found.watched, found.rate, found.partner) == (False, True, True, "", True)
    assert found.members == (Member("eno1", up=True), Member("eno2", up=False))
    assert [found.carries(each) for each in found.members] == [True, False]


def test_a_bond_that_negotiates() -> None:
    """Its rate, its links in use, and whether anybody answers."""
    found = told("n1", "bond0", LACP)
    assert (found.lacp, found.rate, found.aggregator, found.partner) == (True, "fast", 2, False)
    assert [found.carries(each) for each in found.members] == [False, True]
    answered = LACP.replace("Partner Mac Address: 00:00:00:00:00:00", "Partner Mac Address: 00:23:04:ee:be:01")
    assert told("n1", "bond0", answered).partner
    apart = told("n1", "bond0", LACP.replace("MII Status: down", "MII Status: up"))
    assert [(each.up, apart.carries(each)) for each in apart.members] == [(True, False), (True, True)]


def test_a_bond_that_never_looks() -> None:
    """Without MII and ARP intervals a lost link is never noticed; ARP alone is a way, too."""
    blind = BACKUP.replace("Interval (ms): 100", "Interval (ms): 0")
    assert not told("n1", "bond0", blind).watched
    assert told("n1", "bond0", blind.replace("Up Delay", "ARP Polling Interval (ms): 200\nUp Delay")).watched


@pytest.mark.parametrize(
    "text", ["", "no such file", BACKUP.partition("Slave Interface")[0], BACKUP.replace("MII", "M")]
)
def test_what_is_no_bond_is_told(text: str) -> None:
    """Half of the text, or another one, is no bond without members."""
    with pytest.raises(ProtocolError, match="/proc/net/bonding/bond0 does not say"):
        told("n1", "bond0", text)


def test_which_links_are_bonds() -> None:
    """By their kind; empty rows, as some versions print them, count for nothing, and no rows at all are no answer."""
    rows = [{}, {"ifname": "lo"}, {"ifname": "eno1", "linkinfo": {"info_slave_kind": "bond"}}]
    assert bond_names("n1", json.dumps(rows)) == []
    assert bond_names("n1", json.dumps([*rows, {"ifname": "bond0", "linkinfo": {"info_kind": "bond"}}])) == ["bond0"]
    foreign = {"ifname": "ovs-system", "linkinfo": {"info_kind": "openvswitch"}}
    assert bond_names("n1", json.dumps([foreign, {"ifname": "bond0", "linkinfo": {"info_kind": "bond"}}])) == ["bond0"]
    with pytest.raises(ProtocolError, match=r"Open vSwitch's \(ovs-system\), whose bonds are not read here"):
        bond_names("n1", json.dumps([*rows, foreign]))  # none could be seen: that is no answer either
    for text in ("", "[]", "[{}]", "{}", "1: lo: <UP>", '[{"name": "lo"}]', "[1]"):
        with pytest.raises(ProtocolError, match="names no link"):
            bond_names("n1", text)
