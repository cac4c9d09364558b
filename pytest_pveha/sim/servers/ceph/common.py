"""What several answers have in common: addresses, times, versions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pytest_pveha.sim.ceph_spec import RELEASES
from pytest_pveha.sim.world.ceph import Ceph, Mon, Osd
from pytest_pveha.sim.world.ceph.wires import CLUSTER, MON_PORTS, PUBLIC

RELEASE_NUMBERS = {"pacific": 16, "quincy": 17, "reef": 18, "squid": 19, "tentacle": 20}
COMMIT = "5be0bb5b6a3c6bb3a7a1f0d0d2e3c7d9b1a4e8f2"
_ORDER = tuple(RELEASES)


def since(ceph: Ceph, release: str) -> bool:
    """Whether the played release is that one or a later one."""
    return _ORDER.index(ceph.release) >= _ORDER.index(release)


def version_text(ceph: Ceph) -> str:
    """As each daemon calls its version."""
    return f"ceph version {ceph.version} ({COMMIT}) {ceph.release} (stable)"


def stamp(ceph: Ceph, at_ns: int) -> str:
    """A moment as Ceph writes it."""
    moment = datetime.fromtimestamp(ceph.world.utc_of(at_ns), UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}+0000"


def epoch_seconds(ceph: Ceph, at_ns: int) -> int:
    """A moment in whole seconds of the epoch."""
    return int(ceph.world.utc_of(at_ns))


def mon_vector(mon: Mon) -> dict[str, Any]:
    """A mon's addresses."""
    kinds = zip(("v2", "v1"), MON_PORTS, strict=True)
    return {"addrvec": [{"type": kind, "addr": f"{mon.address}:{port}", "nonce": 0} for kind, port in kinds]}


def osd_address(ceph: Ceph, osd: Osd, use: str) -> str:
    """One of an OSD's four addresses: front, back, hb_front or hb_back."""
    kind = CLUSTER if use.endswith("back") else PUBLIC
    place = ("front", "back", "hb_back", "hb_front").index(use)
    number = ceph.crush.hosts()[osd.host].index(osd.number)
    return f"{ceph.network.address(osd.host, kind)}:{6800 + 8 * number + 2 * place}"


def osd_vector(ceph: Ceph, osd: Osd, use: str) -> dict[str, Any]:
    """One of an OSD's addresses, in both versions of the protocol."""
    host, _, port = osd_address(ceph, osd, use).partition(":")
    return {
        "addrvec": [
            {"type": "v2", "addr": f"{host}:{port}", "nonce": nonce(osd)},
            {"type": "v1", "addr": f"{host}:{int(port) + 1}", "nonce": nonce(osd)},
        ]
    }


def nonce(osd: Osd) -> int:
    """What tells one life of an OSD from another."""
    return 4_000_000 + osd.number * 1000 + osd.up_from


def vector_text(vector: dict[str, Any]) -> str:
    """Addresses as one text."""
    return "[" + ",".join(f"{one['type']}:{one['addr']}/{one['nonce']}" for one in vector["addrvec"]) + "]"


def size_text(number: float) -> str:
    """Bytes as Ceph's tables print them."""
    value, units = float(number), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.1f} {units[0]}" if value < 10 and units[0] != "B" else f"{value:.0f} {units[0]}"
