"""What stands on a node that a run could have left: firewall tables and chains, systemd units, the BMC's boot override.

Only what carries our tag is ever removed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError, SiteError
from pytest_pveha.handles.node import Node
from pytest_pveha.wire.bmc import boot_flags

TAG = "pveha"
"""What we put on a node has this in its name or its comment."""

_BOOT_DATA = re.compile(r"^Boot parameter data: ((?:[0-9A-Fa-f]{2}){2,8})\s*$", re.MULTILINE)

UNIT, TABLE, RULE = "unit ", "nft table ", "iptables "


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands on a node. None: could not be read."""

    ours: Mapping[str, frozenset[str] | None]
    """By kind, each with its kind before it: ``unit pveha-x.timer``, ``nft table inet pveha``, ``iptables -N PVEHA``.
    """
    tables: frozenset[str] | None
    """Others' nft tables: family and name."""
    policies: frozenset[str] | None
    """iptables' policies, ``INPUT ACCEPT``."""


def read(node: Node, deadline: Deadline) -> Standing:
    """What stands there now: three commands, all within one deadline. What cannot be read is None."""
    tables = _lines(node, deadline, "nft", "list", "tables")
    rules = _lines(node, deadline, "iptables", "-S")
    running = _lines(node, deadline, "systemctl", "list-units", "--all", "--plain", "--no-legend", f"{TAG}*")
    named = None if tables is None else [line.removeprefix("table ").strip() for line in tables]
    units = None if running is None else [line.split()[0] for line in running]
    return Standing(
        {kind: _ours(kind, seen) for kind, seen in ((TABLE, named), (RULE, rules), (UNIT, units))},
        None if named is None else frozenset(name for name in named if not _tagged(name)),
        None if rules is None else frozenset(rule.removeprefix("-P ") for rule in rules if rule.startswith("-P ")),
    )


def remove(node: Node, item: str, deadline: Deadline) -> None:
    """That thing of ours is gone; nothing is done to what does not carry our tag."""
    if not _tagged(item):
        return
    if item.startswith(UNIT):
        node.command(deadline, "systemctl", "stop", item.removeprefix(UNIT))
    elif item.startswith(TABLE):
        node.command(deadline, "nft", "delete", "table", *item.removeprefix(TABLE).split())
    elif item.startswith(f"{RULE}-A "):
        try:
            words = shlex.split(item.removeprefix(f"{RULE}-A "))
        except ValueError as error:
            raise ProtocolError(f"node {node.name}: {item[:200]!r} is no rule that could be read: {error}") from error
        node.command(deadline, "iptables", "-D", *words)
    elif item.startswith(f"{RULE}-N "):
        chain = item.removeprefix(f"{RULE}-N ")
        node.command(deadline, "iptables", "-F", chain)
        node.command(deadline, "iptables", "-X", chain)


def in_order(items: frozenset[str]) -> list[str]:
    """First what lets traffic through again: rules before the chains they jump to, timers last."""
    order: tuple[Callable[[str], bool], ...] = (
        lambda item: item.startswith(TABLE),
        lambda item: item.startswith(f"{RULE}-A"),
        lambda item: item.startswith(RULE),
    )
    return sorted(items, key=lambda item: (next((n for n, test in enumerate(order) if test(item)), 9), item))


def _ours(kind: str, seen: list[str] | None) -> frozenset[str] | None:
    return None if seen is None else frozenset(kind + name for name in seen if _tagged(name))


def _tagged(name: str) -> bool:
    return TAG in name.lower()


def _lines(node: Node, deadline: Deadline, *words: str) -> list[str] | None:
    try:
        # not splitlines: what stands behind a U+2028 in somebody's comment would pass for a line of its own
        return [line.strip() for line in node.command(deadline, *words).split("\n") if line.strip()]
    except SiteError:
        return None


def boot_override(node: Node, deadline: Deadline) -> str | None:
    """What the node's BMC will make its next boot do, ``none`` for nothing; None: it could not be asked.

    By the protocol of the inventory, or by the node's own ``ipmitool`` where the inventory has no BMC of it.
    """
    if node.bmc is not None:
        try:
            return node.bmc.boot_override(deadline)
        except SiteError:
            return None
    text = "\n".join(_lines(node, deadline, "ipmitool", "chassis", "bootparam", "get", "5") or ())
    found = _BOOT_DATA.search(text)
    return None if found is None else boot_flags(bytes.fromhex(found[1]))
