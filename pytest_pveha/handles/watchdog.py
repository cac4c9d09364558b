"""A node's watchdog, and what its kernel does after a panic: read, never touched."""

from __future__ import annotations

import re
from contextlib import suppress

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.node import Node

SOFTWARE = "Software Watchdog"
"""What softdog calls itself (softdog.c): a timer of the very kernel that it watches."""

_IDENTITY = "/sys/class/watchdog/watchdog0/identity"
_OPENED = re.compile(r"Watchdog driver '(?P<identity>[^']+)'")
"""watchdog-mux, when it has opened the device (recorded on PVE 9.1.9)."""


def identity(node: Node, deadline: Deadline) -> str:
    """What the driver behind /dev/watchdog calls itself, such as ``Software Watchdog``, ``iTCO_wdt`` or ``IPMI``.

    The multiplexer's own word counts, then the kernel's: ipmi_watchdog is not in /sys/class/watchdog.

    Raises:
        ProtocolError: neither says; nobody may have opened it.
    """
    with suppress(ProtocolError):  # an empty journal may be an error
        said = node.command(deadline, "journalctl", "-b", "-o", "cat", "--no-pager", "-u", "watchdog-mux")
        if found := _OPENED.findall(said):
            return str(found[-1])
    try:
        return node.command(deadline, "cat", _IDENTITY).strip()
    except ProtocolError as error:
        raise ProtocolError(
            f"node {node.name}: which watchdog it has cannot be told: watchdog-mux has not said so since boot, and "
            f"{_IDENTITY} cannot be read; `systemctl status watchdog-mux` there"
        ) from error


def restarts_after_panic(node: Node, deadline: Deadline) -> int:
    """Seconds after which its kernel restarts the machine when it has panicked; 0 = never (sysctl kernel.panic)."""
    said = node.command(deadline, "cat", "/proc/sys/kernel/panic").strip()
    try:
        return int(said)
    except ValueError as error:
        raise ProtocolError(f"node {node.name}: kernel.panic is {said[:60]!r}, which is no number") from error


def lrm_stamp(node: Node, deadline: Deadline) -> str:
    """The LRM's status as it last wrote it, whole; it does so in every round, right after it fed its watchdog."""
    return node.command(deadline, "cat", f"/etc/pve/nodes/{node.name}/lrm_status")


def stopped(node: Node, deadline: Deadline) -> frozenset[int]:
    """The processes there that stand still, as by SIGSTOP (ps(1), STAT T)."""
    rows = [line.split() for line in node.command(deadline, "ps", "-e", "-o", "pid=,stat=").splitlines()]
    if not rows or any(len(row) != 2 or not row[0].isdigit() for row in rows):
        raise ProtocolError(f"node {node.name}: `ps` lists no processes with their states")
    return frozenset(int(pid) for pid, state in rows if state.startswith("T"))
