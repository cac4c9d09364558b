"""Bonds of network cards, as a node's kernel has them.

Sources: Linux Documentation/networking/bonding.rst and drivers/net/bonding/bond_procfs.c (/proc/net/bonding/NAME);
ip(8) of iproute2 with -j -d (linkinfo). IEEE 802.1AX, 6.4.4: a partner's timeout is three of its periods, of 1 s or of
30 s. Bonds of Open vSwitch are not the kernel's: of a node that has that and no other bond, none can be told.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.node import Node

LACP = "802.3ad"

OPEN_VSWITCH = "openvswitch"
"""The kind of its links (ip-link(8))."""

NOTICED = {"slow": 90.0, "fast": 3.0}
"""Seconds without a word of its partner after which a member is left out, by the rate that was asked for."""

_MODE = re.compile(r"^Bonding Mode: (?P<mode>\S.*)$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_NOBODY = "00:00:00:00:00:00"


@dataclass(frozen=True, slots=True)
class Member:
    """A card of a bond."""

    name: str
    up: bool
    """Whether the bond calls its link up."""
    aggregator: int | None = None
    """Which links it works together with; None where nothing is negotiated."""


@dataclass(frozen=True, slots=True)
class Card:
    """A member by its names."""

    bond: str
    name: str


@dataclass(frozen=True, slots=True)
class Bond:
    """Several cards that are one."""

    name: str
    lacp: bool
    up: bool
    members: tuple[Member, ...]
    watched: bool
    """Whether the kernel looks for lost links at all, by MII or ARP."""
    rate: str = ""
    """How often the partner is asked to speak, ``slow`` or ``fast``; empty where nothing is negotiated."""
    aggregator: int | None = None
    """The links that are in use, where some were negotiated."""
    partner: bool = True
    """Whether the other end negotiates, too."""

    def carries(self, member: Member) -> bool:
        """Whether that member carries, or could at once."""
        return member.up and (not self.lacp or member.aggregator == self.aggregator)


def bonds(node: Node, deadline: Deadline) -> tuple[Bond, ...]:
    """Every bond of the node, by name; none where it has none."""
    names = bond_names(node.name, node.command(deadline, "ip", "-j", "-d", "link", "show"))
    return tuple(bond(node, name, deadline) for name in names)


def cards(node: Node, deadline: Deadline) -> tuple[Card, ...]:
    """Every member of every bond of the node."""
    return tuple(Card(bond.name, member.name) for bond in bonds(node, deadline) for member in bond.members)


def bond(node: Node, name: str, deadline: Deadline) -> Bond:
    """That bond as it is now."""
    if not _NAME.fullmatch(name):
        raise ProtocolError(f"node {node.name}: a bond is called {name[:60]!r}")
    return told(node.name, name, node.command(deadline, "cat", f"/proc/net/bonding/{name}"))


def bond_names(node: str, text: str) -> list[str]:
    """The bonds in what ``ip -j -d link show`` printed."""
    try:
        rows = [row for row in json.loads(text) if row]  # some versions print {} for what they filter out
        names = {str(row["ifname"]): (row.get("linkinfo") or {}).get("info_kind") for row in rows}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ProtocolError(f"node {node}: `ip -j -d link show` names no links: {text.strip()[:80]!r}") from error
    if not names:
        raise ProtocolError(f"node {node}: `ip -j -d link show` names no link, not even its own")
    found = sorted(name for name, kind in names.items() if kind == "bond")
    if not found and (foreign := [name for name, kind in names.items() if kind == OPEN_VSWITCH]):
        raise ProtocolError(
            f"node {node}: its network is Open vSwitch's ({foreign[0]}), whose bonds are not read here; look at "
            f"`ovs-appctl bond/show` there"
        )
    return found


def told(node: str, name: str, text: str) -> Bond:
    """The bond that /proc/net/bonding describes so."""
    head, *parts = re.split(r"^Slave Interface: ", text, flags=re.MULTILINE)
    mode = _MODE.search(head)
    try:
        if mode is None or not parts:
            raise KeyError("Bonding Mode")
        lacp = LACP in mode["mode"]
        active = head.partition("Active Aggregator Info:")[2]
        return Bond(
            name,
            lacp,
            _value(head, "MII Status") == "up",
            tuple(_member(part, lacp=lacp) for part in parts),
            any(float(_value(head, f"{way} Polling Interval (ms)", "0")) > 0 for way in ("MII", "ARP")),
            _value(head, "LACP rate") if lacp else "",
            int(_value(active, "Aggregator ID")) if lacp and active else None,
            not lacp or _value(active, "Partner Mac Address", _NOBODY) != _NOBODY,
        )
    except (KeyError, ValueError) as error:
        raise ProtocolError(
            f"node {node}: /proc/net/bonding/{name} does not say {error}: {' '.join(text.split())[:80]!r}"
        ) from error


def _member(text: str, *, lacp: bool) -> Member:
    name = text.partition("\n")[0].strip()
    if not _NAME.fullmatch(name):
        raise KeyError("Slave Interface")
    aggregator: Any = int(_value(text, "Aggregator ID")) if lacp and "Aggregator ID: N/A" not in text else None
    return Member(name, _value(text, "MII Status") == "up", aggregator)


def _value(text: str, key: str, otherwise: str | None = None) -> str:
    found = re.search(rf"^[ \t]*{re.escape(key)}:[ \t]*(\S.*?)[ \t]*$", text, re.MULTILINE)
    if found is not None:
        return found[1]
    if otherwise is None:
        raise KeyError(key)
    return otherwise
