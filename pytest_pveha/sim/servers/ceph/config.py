"""Ceph's configuration: the database's entries, and /etc/pve/ceph.conf."""

from __future__ import annotations

from typing import Any

from pytest_pveha.sim.world.ceph import Ceph
from pytest_pveha.sim.world.ceph.wires import CLUSTER, NETWORKS, PUBLIC

_DEFAULTS = {
    "osd_heartbeat_grace": "20",
    "osd_heartbeat_interval": "6",
    "mon_osd_down_out_interval": "600",
    "mon_osd_min_down_reporters": "2",
    "mon_osd_reporter_subtree_level": "host",
    "mon_osd_down_out_subtree_limit": "rack",
    "mon_osd_min_in_ratio": "0.750000",
    "mon_osd_report_timeout": "900",
    "mon_lease": "5.000000",
    "mon_clock_drift_allowed": "0.050000",
    "mon_osd_full_ratio": "0.950000",
    "mon_osd_nearfull_ratio": "0.850000",
    "osd_pool_default_size": "3",
    "osd_pool_default_min_size": "2",
    "osd_max_backfills": "1",
}


def entries(ceph: Ceph) -> list[dict[str, Any]]:
    """``ceph config dump -f json``."""
    row = {
        "section": "mon",
        "name": "auth_allow_insecure_global_id_reclaim",
        "value": "false",
        "level": "advanced",
        "can_update_at_runtime": True,
        "mask": "",
    }
    found = [row]
    if ceph.spec.down_out_seconds != 600:
        value = str(round(ceph.spec.down_out_seconds))
        found.append({**row, "name": "mon_osd_down_out_interval", "value": value})
    return found


def value(ceph: Ceph, who: str, key: str) -> str | None:
    """``ceph config get WHO KEY``: what is set, else the default; None for a key that is not known here."""
    section = who.partition(".")[0]
    for row in entries(ceph):
        if row["name"] == key and row["section"] in (section, "global"):
            return str(row["value"])
    written = file_values(ceph)["global"]
    return written.get(key, _DEFAULTS.get(key))


def file_values(ceph: Ceph) -> dict[str, dict[str, str]]:
    """The file's sections."""
    cluster = PUBLIC if ceph.spec.one_network else CLUSTER
    return {
        "global": {
            "auth_client_required": "cephx",
            "auth_cluster_required": "cephx",
            "auth_service_required": "cephx",
            "cluster_network": NETWORKS[cluster],
            "fsid": ceph.fsid,
            "mon_allow_pool_delete": "true",
            "mon_host": " ".join(mon.address for mon in ceph.mons.all.values()),
            "ms_bind_ipv4": "true",
            "ms_bind_ipv6": "false",
            "osd_pool_default_min_size": str(ceph.spec.min_size),
            "osd_pool_default_size": str(ceph.spec.size),
            "public_network": NETWORKS[PUBLIC],
        },
        "client": {"keyring": "/etc/pve/priv/$cluster.$name.keyring"},
        **{f"mon.{mon.name}": {"public_addr": mon.address} for mon in ceph.mons.all.values()},
    }


def file_text(ceph: Ceph) -> str:
    """The file itself."""
    return "\n".join(
        f"[{section}]\n" + "".join(f"\t{key} = {text}\n" for key, text in values.items())
        for section, values in file_values(ceph).items()
    )
