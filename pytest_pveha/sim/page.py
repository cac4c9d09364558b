"""The simulated operator's pager as a command: ``python -m pytest_pveha.sim.page BATON NODE``, the message on stdin."""

from __future__ import annotations

import json
import os
import socket
import sys

STATE = ("PVEHA_STATE", "XDG_STATE_HOME", "HOME")
"""What says whose questions they are: the operator answers as the user who calls."""


def main(baton: str, node: str) -> int:
    """The operator has the message."""
    environment = {name: os.environ[name] for name in STATE if name in os.environ}
    message = {"op": "page", "node": node, "text": sys.stdin.read(), "environment": environment}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as conn:
        conn.connect(baton)
        conn.send(json.dumps(message).encode())
        conn.recv(100)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
