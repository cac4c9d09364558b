"""Whose BMC is this? Asked before any power command: exchanged cables would cut the wrong machine's power.

The machine is asked from both sides: what its operating system reads of its own board, and what the BMC at the
inventory's address says of itself. One match suffices, one contradiction refuses.

And who are we? Asked before any fault: the machine that runs the tests must not go down with what it breaks.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from pytest_pveha.errors import SiteError
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer

BMC = 20.0
"""Seconds a BMC may take to say who it is."""

_MAC = re.compile(r"^MAC Address\s*:\s*([0-9A-Fa-f:]{17})\s*$", re.MULTILINE)
_GUID = re.compile(r"^System GUID\s*:\s*([0-9A-Fa-f-]{32,36})\s*$", re.MULTILINE)
"""Without dashes where ipmitool takes it for no UUID of any version (1.8.19)."""
_NOBODY = ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "00:00:00:00:00:00")
"""What boards say that were never given an identity: equal to nothing, not even to itself."""


def own_bmc(observer: Observer, node: Node) -> Answer:
    """Whether the BMC that would be commanded is this node's own."""
    if node.bmc is None:
        return cant_tell(f"node {node.name} has no BMC in the inventory")
    return compared(node, node.bmc.identity(observer.site.clock.deadline(BMC)), in_band(observer, node))


def compared(node: Node, told: Mapping[str, str], seen: Mapping[str, str]) -> Answer:
    """Whether what a BMC told of itself is what the node has.

    Args:
        seen: what the node's running system reads of its own board; see ``in_band``.
    """
    declared = node.bmc_identity
    matches: list[str] = []
    contradictions: list[str] = []
    for what, theirs, ours in (
        ("MAC address", told.get("mac"), declared.mac or seen.get("mac")),
        # by Redfish the system's UUID alone is told, which need not be the BMC's own GUID
        ("GUID", told.get("guid") or (told.get("uuid") if declared.guid else None), declared.guid or seen.get("guid")),
        ("system UUID", told.get("uuid") or told.get("guid"), seen.get("uuid")),
    ):
        if not _usable(theirs) or not _usable(ours):
            continue
        assert theirs is not None
        assert ours is not None
        same = _same_uuid(theirs, ours) if what != "MAC address" else _plain(theirs) == _plain(ours)
        (matches if same else contradictions).append(f"{what}: the BMC says {theirs}, {node.name} has {ours}")
    hard = [text for text in contradictions if not text.startswith("system UUID")]
    if hard or (contradictions and not matches):
        return no(f"the BMC reached is not {node.name}'s own: {'; '.join(hard or contradictions)}")
    if matches:
        return yes(f"{node.name}'s own BMC: {matches[0]}")
    if declared.confirmed_by:
        return yes(f"{node.name}'s own BMC: confirmed by {declared.confirmed_by}")
    return cant_tell(
        f"neither MAC nor GUID of {node.name}'s BMC can be compared (ipmitool on the node? a blank identity?); compare "
        f"them by hand and write nodes.{node.name}.bmc.identity (mac, guid or confirmed_by)"
    )


def in_band(observer: Observer, node: Node) -> dict[str, str]:
    """What the running system reads of its own board; what it cannot is left out."""
    found = {}
    for key, words, pattern in (
        ("mac", ("ipmitool", "lan", "print"), _MAC),
        ("guid", ("ipmitool", "mc", "guid"), _GUID),
        ("uuid", ("cat", "/sys/class/dmi/id/product_uuid"), re.compile(r"^([0-9A-Fa-f-]{36})\s*$")),
    ):
        try:
            text = node.command(observer.site.clock.deadline(READ), *words)
        except SiteError:
            continue
        if match := pattern.search(text):
            found[key] = match[1]
    return found


def _usable(value: str | None) -> bool:
    return bool(value) and str(value).lower() not in _NOBODY


def _plain(value: str) -> str:
    return value.lower().replace("-", ":")


def _same_uuid(one: str, other: str) -> bool:
    """Equal in either byte order: boards disagree on which half of a UUID is little-endian (SMBIOS 2.6, §7.2.1)."""
    try:
        left, right = UUID(one), UUID(other)
    except ValueError:
        return False
    return right.bytes in (left.bytes, left.bytes_le, left.bytes[::-1], left.bytes_le[::-1])


def own_marks(sys: Path = Path("/sys/class")) -> frozenset[str]:
    """What this machine can be told by, in lower case: its network cards' addresses and its board's UUID.

    The UUID may be root's alone to read; then the cards must do.
    """
    found = set()
    for path in [*sys.glob("net/*/address"), sys / "dmi/id/product_uuid"]:
        with suppress(OSError):
            found.add(path.read_text().strip().lower())
    return frozenset(mark for mark in found if _usable(mark))


def own_addresses(places: Iterable[tuple[str, int]]) -> frozenset[str]:
    """Our own address on the way to each of these places, as the routes are now. Nothing is sent."""
    found = set()
    for host, port in places:
        with suppress(OSError):
            for family, kind, proto, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM):
                with socket.socket(family, kind, proto) as sock:
                    sock.connect(address)
                    found.add(str(sock.getsockname()[0]))
    return frozenset(found)
