"""A real-style inventory for a running paced site: no simulator block, so the tool takes it for somebody's cluster.

    with paced_site(folder, speed=1) as site:
        described = describe(site)
        described["nodes"]["pve1"]["bmc"]["user"] = "nobody"     # spoil what the test is about
        path = write(described, folder / "real.yml")

Everything then runs as on a real cluster: live clock, pinned certificates, host keys, BMC logins, consent. At speed 1
the nodes' clocks agree with ours; at any other they do not, and the readiness check of the clocks says so.
"""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pytest_pveha.embedded import Embedded, start
from pytest_pveha.inventory import load, node_digest

ROOT = Path(__file__).parents[1]
SIMULATED = ROOT / "inventories" / "sim-3node.yml"


@contextmanager
def paced_site(folder: Path, *, speed: float = 1, defects: tuple[str, ...] = ()) -> Iterator[Embedded]:
    """The default simulated site, running in paced time until the block ends.

    PVEHA_RUNTIME must name a directory of the test's own. The inventory it is started from is ``folder/sim.yml``.
    """
    text = SIMULATED.read_text(encoding="utf-8").replace("defects: []", f"defects: [{', '.join(defects)}]")
    path = folder / "sim.yml"
    path.write_text(text, encoding="utf-8")
    site = start(load(path), speed=speed)
    try:
        yield site
    finally:
        site.stop()


def describe(site: Embedded, *, name: str = "realish", pinned: bool = False, consent: bool = True) -> dict[str, Any]:
    """The data of an inventory that describes this site as if it were real; change it as you like, then ``write``.

    Args:
        pinned: trust the API by certificate fingerprints instead of the CA file.
        consent: with a valid consent to break anything from an hour ago for eight hours.
    """
    model = site.inventory.model
    api = model.cluster.api
    assert api is not None
    trust: dict[str, Any] = {"ca_file": str(site.runtime / "ca.pem")}
    if pinned:
        trust = {"fingerprints": {endpoint: _fingerprint(endpoint) for endpoint in api.endpoints}}
    described: dict[str, Any] = {
        "site": {"name": name},
        "cluster": {
            "name": model.cluster.name,
            "api": {
                "endpoints": list(api.endpoints),
                "token_id": api.token_id,
                "token_secret": f"file:{site.runtime / 'token'}",
                **trust,
            },
        },
        "nodes": {
            node: {
                "address": block.address,
                "room": block.room,
                "ssh": {
                    "user": block.ssh.user,
                    "port": block.ssh.port,
                    "key_file": str(block.ssh.key_file),
                    "host_key": block.ssh.host_key,
                },
                "bmc": {
                    "address": block.bmc.address,
                    "port": block.bmc.port,
                    "user": block.bmc.user,
                    "password": f"file:{site.runtime / 'bmc-password'}",
                    "cipher": block.bmc.cipher,
                },
            }
            for node, block in model.nodes.items()
            if block.bmc is not None
        },
        "guests": [
            {
                "id": guest.id,
                "name": guest.name,
                "tier": guest.tier,
                "preferred_node": guest.preferred_node,
                "probes": [{"tcp": {"host": p.tcp.host, "port": p.tcp.port}} for p in guest.probes if p.tcp],
            }
            for guest in model.guests
        ],
        "objectives": {
            "tiers": {tier: {"rto": f"{promise.rto:g} s"} for tier, promise in model.objectives.tiers.items()},
            "settle": f"{model.objectives.settle:g} s",
        },
    }
    if consent:
        now = datetime.now(UTC)
        described["consent"] = {
            "destructive": True,
            "cluster": model.cluster.name,
            "node_digest": node_digest(list(model.nodes)),
            "granted_by": "Head of Operations",
            "ticket": "CHG-1",
            "not_before": _moment(now - timedelta(hours=1)),
            "not_after": _moment(now + timedelta(hours=8)),
            "faults": ["power", "guest", "maintenance"],
            "targets": "all",
        }
    return described


def write(described: Mapping[str, Any], path: Path) -> Path:
    """The inventory is in that file (JSON, which is YAML)."""
    path.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    return path


def _fingerprint(endpoint: str) -> str:
    host, _, port = endpoint.rpartition(":")
    certificate = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port))))
    return ":".join(f"{byte:02X}" for byte in hashlib.sha256(certificate).digest())


def _moment(when: datetime) -> str:
    return when.isoformat(timespec="seconds")
