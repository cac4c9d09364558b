"""The REST API of a Proxmox Backup Server: one server, one token, and everything else as the PVE client has it."""

from __future__ import annotations

from collections.abc import Callable

from pytest_pveha.clock import Clock
from pytest_pveha.wire.pve_api import Endpoint, PveApi
from pytest_pveha.wire.tls import Trust

PBS_PORT = 8007


def pbs_api(host: str, port: int, token_id: str, secret: Callable[[], str], trust: Trust, clock: Clock) -> PveApi:
    """The API of that server, asked with that token."""
    return PveApi([Endpoint("the backup server", host, port)], token_id, secret, trust, clock, service="PBS")


__all__ = ["PBS_PORT", "pbs_api"]
