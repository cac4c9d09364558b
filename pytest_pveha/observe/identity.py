"""Whose BMC is this? Asked before any power command: exchanged cables would cut the wrong machine's power.

The machine is asked from both sides: what its operating system reads of its own board, and what the BMC at the
inventory's address says of itself. One match suffices, one contradiction refuses, and what two nodes have in common
matches neither.

And who are we? Asked before any fault: the machine that runs the tests must not go down with what it breaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from pytest_pveha.errors import SiteError
from pytest_pveha.handles.bmc import sockets
from pytest_pveha.handles.node import BmcIdentity, Node
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer

BMC = 20.0
"""Seconds a BMC may take to say who it is."""

_MAC = re.compile(r"^MAC Address\s*:\s*([0-9A-Fa-f:]{17})\s*$", re.MULTILINE)
_GUID = re.compile(r"^System GUID\s*:\s*([0-9A-Fa-f-]{32,36})\s*$", re.MULTILINE)
"""Without dashes where ipmitool takes it for no UUID of any version (1.8.19)."""
_UUID = "system UUID"
_NOBODY = ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "00:00:00:00:00:00")
"""What boards say that were never given an identity: equal to nothing, not even to itself."""


def own_bmc(observer: Observer, node: Node) -> Answer:
    """Whether the BMC that would be commanded is this node's own."""
    if node.bmc is None:
        return cant_tell(f"node {node.name} has no BMC in the inventory")
    if (other := _at_the_same_address(observer, node)) is not None:
        return no(f"the inventory gives {node.name} and {other.name} one and the same BMC, by two names; one is wrong")
    told = node.bmc.identity(observer.site.clock.deadline(BMC))
    texts, refusal = _matches(node, told, in_band(observer, node))
    if refusal is not None:
        return refusal
    shared = _shared(observer, node, told, texts)
    if own := [text for what, text in texts.items() if what not in shared]:
        return yes(f"{node.name}'s own BMC: {own[0]}")
    if confirmed := node.bmc_identity.confirmed_by:
        return yes(f"{node.name}'s own BMC: confirmed by {confirmed}")
    if shared:
        who = "; ".join(f"{what}: {name} has the same" for what, name in shared.items())
        return cant_tell(
            f"what the BMC of {node.name} can be told by, it shares ({who}): either could be meant; compare them by "
            f"hand and write nodes.{node.name}.bmc.identity.confirmed_by"
        )
    return _incomparable(node)


def compared(node: Node, told: Mapping[str, str], seen: Mapping[str, str]) -> Answer:
    """Whether what a BMC says of itself is this node's, by what its system reads of its board; others are not asked."""
    texts, refusal = _matches(node, told, seen)
    if refusal is not None:
        return refusal
    if texts:
        return yes(f"{node.name}'s own BMC: {next(iter(texts.values()))}")
    if confirmed := node.bmc_identity.confirmed_by:
        return yes(f"{node.name}'s own BMC: confirmed by {confirmed}")
    return _incomparable(node)


def _matches(node: Node, told: Mapping[str, str], seen: Mapping[str, str]) -> tuple[dict[str, str], Answer | None]:
    """In what a BMC and a machine are one, in words by kind; and the refusal, if they contradict each other."""
    pairs = _compared(told, node.bmc_identity, seen)
    texts = {what: f"{what}: the BMC says {theirs}, {node.name} has {ours}" for what, theirs, ours, _ in pairs}
    matches = {what: texts[what] for what, _, _, same in pairs if same}
    contradictions = [what for what, _, _, same in pairs if not same]
    hard = [what for what in contradictions if what != _UUID]
    if hard or (contradictions and not matches):
        told_off = "; ".join(texts[what] for what in hard or contradictions)
        return matches, no(f"the BMC reached is not {node.name}'s own: {told_off}")
    return matches, None


def _incomparable(node: Node) -> Answer:
    return cant_tell(
        f"neither MAC nor GUID of {node.name}'s BMC can be compared (ipmitool on the node? a blank identity?); compare "
        f"them by hand and write nodes.{node.name}.bmc.identity (mac, guid or confirmed_by)"
    )


def _compared(
    told: Mapping[str, str], declared: BmcIdentity, seen: Mapping[str, str]
) -> list[tuple[str, str, str, bool]]:
    """What can be compared of a BMC and a machine: the kind, both values, and whether they are one."""
    found = []
    for what, theirs, ours in (
        ("MAC address", told.get("mac"), declared.mac or seen.get("mac")),
        # by Redfish the system's UUID alone is told, which need not be the BMC's own GUID
        ("GUID", told.get("guid") or (told.get("uuid") if declared.guid else None), declared.guid or seen.get("guid")),
        (_UUID, told.get("uuid") or told.get("guid"), seen.get("uuid")),
    ):
        if theirs is None or ours is None or not _usable(theirs) or not _usable(ours):
            continue
        same = _same_uuid(theirs, ours) if what != "MAC address" else _plain(theirs) == _plain(ours)
        found.append((what, theirs, ours, same))
    return found


def _shared(observer: Observer, node: Node, told: Mapping[str, str], matches: Iterable[str]) -> dict[str, str]:
    """The kinds of match that are another node's as well, with its name: boards that were cloned, or named twice."""
    found: dict[str, str] = {}
    for other in observer.site.nodes:
        if other.name == node.name or not matches:
            continue
        for what, _, _, same in _compared(told, other.bmc_identity, in_band(observer, other)):
            if same and what in matches:
                found.setdefault(what, other.name)
    return found


def _at_the_same_address(observer: Observer, node: Node) -> Node | None:
    """Another node whose BMC the inventory has at this one's address, whatever either is called."""
    if node.bmc_address is None:
        return None
    own = sockets(*node.bmc_address)
    for other in observer.site.nodes:
        if other.name == node.name or other.bmc_address is None or other.bmc_system != node.bmc_system:
            continue
        if own & sockets(*other.bmc_address):
            return other
    return None


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


def _usable(value: str) -> bool:
    return bool(value) and value.lower() not in _NOBODY


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
