"""The simulated site's PDU as a command: ``python -m pytest_pveha.sim.pdu BATON NODE on|off|status``."""

from __future__ import annotations

import json
import socket
import sys


def main(baton: str, node: str, verb: str) -> int:
    """The outlet is as wanted, and what it is now has been printed."""
    wanted = {"on": True, "off": False, "status": None}[verb]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as conn:
        conn.connect(baton)
        conn.send(json.dumps({"op": "mains", "node": node, "on": wanted}).encode())
        sys.stdout.write("on\n" if json.loads(conn.recv(1000))["on"] else "off\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
