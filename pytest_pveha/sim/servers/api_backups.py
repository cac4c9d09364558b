"""The storage of backups as PVE's API tells it, and the guests' configurations in them.

Shapes: official REST schema of 9.1 and 8.4; the volume ids and the extra keys of backups: pve-docs, vzdump.
"""

from __future__ import annotations

from typing import Any

from pytest_pveha.sim.servers.api_registry import ApiError, Call, route
from pytest_pveha.sim.servers.facts import digest
from pytest_pveha.sim.world.pbs import OWNER, TOTAL, Snapshot


def is_it(call: Call, storage: str) -> bool:
    """Whether that is the storage of the backup server."""
    spec = call.world.pbs.spec
    return spec is not None and spec.storage == storage


def configured(call: Call) -> list[dict[str, Any]]:
    """The storage as /etc/pve/storage.cfg has it, if there is one."""
    pbs = call.world.pbs
    if pbs.spec is None:
        return []
    key = {"encryption-key": "1"} if pbs.key_there else {}
    space = {"namespace": pbs.spec.namespace} if pbs.spec.namespace else {}
    where = {"server": pbs.address, "datastore": pbs.spec.datastore, "username": OWNER, **space, **key}
    plain = {"storage": pbs.spec.storage, "type": "pbs", "content": "backup", "shared": 1}
    return [{**plain, **where, "digest": digest("storage.cfg")}]


def status(call: Call) -> dict[str, Any]:
    """How full its datastore is; a server that does not answer is not active."""
    pbs = call.world.pbs
    total, used = (TOTAL, pbs.used) if pbs.answering else (0, 0)
    figures = {"total": total, "used": used, "avail": total - used}
    return {"type": "pbs", "content": "backup", "shared": 1, "enabled": 1, "active": int(pbs.answering), **figures}


def content(call: Call, storage: str) -> list[dict[str, Any]]:
    """The backups; ``vmid`` and ``content`` filter."""
    if not call.world.pbs.answering:
        raise ApiError(500, f"{storage}: error fetching datastores - 500 Can't connect to the server:8007")
    vmid, kind = call.number("vmid"), call.params.get("content")
    found = [_backup(storage, each) for each in call.world.pbs.snapshots]
    return [row for row in found if vmid in (None, row["vmid"]) and kind in (None, row["content"])]


@route("GET", "/nodes/{node}/vzdump/extractconfig")
def backed_up_config(call: Call, node: str) -> str:
    """The guest's configuration as a backup has it."""
    volume = call.needed("volume")
    snapshot = _snapshot(call, volume)
    for privilege, on in (("VM.Backup", f"/vms/{snapshot.vmid}"), ("Datastore.AllocateSpace", "/storage")):
        if not call.may(privilege):
            raise ApiError(403, f"Permission check failed ({on}, {privilege})")
    if snapshot.fingerprint and not call.world.pbs.key_there:
        raise ApiError(500, f"missing key - manifest was created with key {snapshot.fingerprint}")
    return "".join(f"{key}: {value}\n" for key, value in sorted(snapshot.config.items()))


def _snapshot(call: Call, volume: str) -> Snapshot:
    storage, _, rest = volume.partition(":")
    pbs = call.world.pbs
    if not is_it(call, storage):
        raise ApiError(500, f"storage '{storage}' does not exist")
    if not pbs.answering:
        raise ApiError(500, f"{storage}: error fetching datastores - 500 Can't connect to the server:8007")
    found = pbs.find(rest.removeprefix("backup/"))
    if found is None:
        raise ApiError(500, f"volume '{volume}' does not exist")
    return found


def _backup(storage: str, snapshot: Snapshot) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "volid": f"{storage}:backup/{snapshot.name}",
        "content": "backup",
        "ctime": snapshot.time,
        "format": f"pbs-{snapshot.kind}",
        "subtype": "qemu" if snapshot.kind == "vm" else "lxc",
        "size": snapshot.size,
        "vmid": snapshot.vmid,
        "notes": snapshot.config.get("name") or snapshot.config.get("hostname", ""),
        "protected": int(snapshot.protected),
    }
    if snapshot.fingerprint:
        entry["encrypted"] = snapshot.fingerprint
    if snapshot.verification is not None:
        entry["verification"] = {
            "state": snapshot.verification,
            "upid": "UPID:pbs:0:0:0:0:verify::root@pam:",
        }
    return entry
