"""What a node's systemd says of the whole system: up, or on its way down."""

from __future__ import annotations

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.node import Node, quote

STOPPING = "stopping"
"""The system is shutting down (systemctl(1), is-system-running)."""

_STATES = frozenset({"initializing", "starting", "running", "degraded", "maintenance", STOPPING, "offline", "unknown"})


def state(node: Node, deadline: Deadline) -> str:
    """One word: ``running``, ``degraded``, ``stopping`` … Its exit status is 0 for ``running`` alone."""
    result = node.ssh.run(quote("systemctl", "is-system-running"), deadline=deadline)
    word = result.stdout.decode(errors="replace").strip()
    if word not in _STATES:
        said = (result.stdout + result.stderr).decode(errors="replace").strip()[:200]
        raise ProtocolError(f"node {node.name}: `systemctl is-system-running` says {said!r}, which is no state")
    return word
