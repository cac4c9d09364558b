"""A node's network cards and bonds as its kernel tells them: ``ip -j -d link show``, and /proc/net/bonding.

Formats: ip(8) of iproute2 6.15; Linux 6.17, drivers/net/bonding/bond_procfs.c.
"""

from __future__ import annotations

from typing import Any

from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.spec import BondSpec

FOLDER = "/proc/net/bonding/"
_MODES = {"802.3ad": "IEEE 802.3ad Dynamic link aggregation", "active-backup": "fault-tolerance (active-backup)"}
_SWITCH = "00:23:04:ee:be:01"


def links(facts: Facts) -> list[dict[str, Any]]:
    """Every link of the node."""
    names = ["lo"]
    rows = [{"ifindex": 1, "ifname": "lo", "flags": ["LOOPBACK", "UP", "LOWER_UP"], "operstate": "UNKNOWN"}]
    for bond in facts.world.bonds.specs:
        for member in bond.members:
            up = facts.world.bonds.up(facts.node, member)
            names.append(member)
            rows.append(
                {
                    "ifindex": len(names),
                    "ifname": member,
                    "flags": ["BROADCAST", "MULTICAST", "SLAVE", *(["UP", "LOWER_UP"] if up else [])],
                    "master": bond.name,
                    "operstate": "UP" if up else "DOWN",
                    "linkinfo": {
                        "info_slave_kind": "bond",
                        "info_slave_data": {"state": "ACTIVE", "mii_status": "UP" if up else "DOWN"},
                    },
                }
            )
        names.append(bond.name)
        rows.append(
            {
                "ifindex": len(names),
                "ifname": bond.name,
                "flags": ["BROADCAST", "MULTICAST", "MASTER", "UP", "LOWER_UP"],
                "operstate": "UP",
                "linkinfo": {"info_kind": "bond", "info_data": {"mode": bond.mode, "miimon": 100}},
            }
        )
    return rows


def bonding(facts: Facts, path: str) -> str | None:
    """The file of a bond; None where that is none."""
    found = next((bond for bond in facts.world.bonds.specs if path == f"{FOLDER}{bond.name}"), None)
    return None if found is None else _told(facts, found)


def _told(facts: Facts, bond: BondSpec) -> str:
    up = [member for member in bond.members if facts.world.bonds.up(facts.node, member)]
    lacp = bond.mode == "802.3ad"
    head = f"Ethernet Channel Bonding Driver: v6.17.2-1-pve\n\nBonding Mode: {_MODES[bond.mode]}\n"
    if lacp:
        head += "Transmit Hash Policy: layer3+4 (1)\n"
    else:
        head += f"Primary Slave: None\nCurrently Active Slave: {up[0] if up else 'None'}\n"
    head += (
        f"MII Status: {'up' if up else 'down'}\nMII Polling Interval (ms): 100\nUp Delay (ms): 0\n"
        "Down Delay (ms): 0\nPeer Notification Delay (ms): 0\n"
    )
    if lacp:
        rate = "slow" if facts.world.bonds.slow(bond) else "fast"
        head += (
            f"\n802.3ad info\nLACP active: on\nLACP rate: {rate}\nMin links: 0\n"
            "Aggregator selection policy (ad_select): stable\nSystem priority: 65535\n"
            f"System MAC address: {_hardware(facts, bond, bond.members[0])}\nActive Aggregator Info:\n"
            f"\tAggregator ID: 1\n\tNumber of ports: {len(up)}\n\tActor Key: 15\n\tPartner Key: 32770\n"
            f"\tPartner Mac Address: {_SWITCH}\n"
        )
    return head + "".join(f"\n{_slave(facts, bond, member, lacp=lacp)}" for member in bond.members)


def _slave(facts: Facts, bond: BondSpec, member: str, *, lacp: bool) -> str:
    up = facts.world.bonds.up(facts.node, member)
    text = (
        f"Slave Interface: {member}\nMII Status: {'up' if up else 'down'}\n"
        f"Speed: {'10000 Mbps' if up else 'Unknown'}\nDuplex: {'full' if up else 'Unknown'}\nLink Failure Count: 0\n"
        f"Permanent HW addr: {_hardware(facts, bond, member)}\nSlave queue ID: 0\n"
    )
    if lacp:
        text += (
            f"Aggregator ID: {1 if up else 2}\nActor Churn State: none\nPartner Churn State: none\n"
            "Actor Churned Count: 0\nPartner Churned Count: 0\n"
        )
    return text


def _hardware(facts: Facts, bond: BondSpec, member: str) -> str:
    place = [name for each in facts.world.bonds.specs for name in each.members].index(member)
    return f"3c:ec:ef:00:{facts.node.nodeid:02x}:{place:02x}"
