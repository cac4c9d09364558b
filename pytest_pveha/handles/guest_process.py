"""A guest as its node's own shell has it: the process that is the guest, and its network cards' ends on the node.

Sources: qemu-server (``/run/qemu-server/ID.pid``, cards ``tapIDiN``), pve-container (cards ``vethIDiN``),
lxc-info(1), ip(8) with -o.
"""

from __future__ import annotations

import re

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.node import Node

_LINK = re.compile(r"^\d+: (?P<name>[^:@\s]+)(?:@\S+)?: <(?P<flags>[^>]*)>", re.MULTILINE)


def pid(node: Node, sid: str, deadline: Deadline) -> int:
    """The process whose end is the guest's: QEMU, or the container's init. ProtocolError where it does not run."""
    kind, number = sid.split(":")
    if kind == "vm":
        told = node.command(deadline, "cat", f"/run/qemu-server/{number}.pid")
    else:  # the monitor's end would leave the container running
        told = node.command(deadline, "lxc-info", "-n", number, "-p", "-H")
    if not told.strip().isdigit():
        raise ProtocolError(f"node {node.name}: the process of {sid} is called {told.strip()[:60]!r}")
    return int(told)


def cards(node: Node, sid: str, deadline: Deadline) -> dict[str, bool]:
    """The guest's network cards, by the name of their end on the node, and whether each is up."""
    kind, number = sid.split(":")
    own = re.compile(rf"{'tap' if kind == 'vm' else 'veth'}{number}i\d+")
    links = _LINK.finditer(node.command(deadline, "ip", "-o", "link", "show"))
    return {link["name"]: "UP" in link["flags"].split(",") for link in links if own.fullmatch(link["name"])}
