"""Storages as PVE's API tells them: how they are set, how full they are, what lies on them.

Shapes: official REST schema of 9.1 and 8.4; the volume ids and the extra keys of backups: pve-docs, vzdump.
"""

from __future__ import annotations

from typing import Any

from pytest_pveha.sim.servers.api_registry import ApiError, Call, route
from pytest_pveha.sim.world.pbs import TOTAL, Snapshot

READ = ("Datastore.Audit", "Datastore.AllocateSpace")
_TYPES = {"zfs": "zfspool", "lvm": "lvmthin"}
"""Kinds whose type PVE calls otherwise."""
_CONTENT = {"dir": "iso,vztmpl,snippets", "nfs": "images,rootdir", "iscsi": "images", "cephfs": "iso,snippets"}


@route("GET", "/storage")
def storages(call: Call) -> list[dict[str, Any]]:
    """Every storage as /etc/pve/storage.cfg has it."""
    if not any(call.may(privilege) for privilege in READ):
        return []
    wanted = call.params.get("type")
    return [entry for name in _names(call) for entry in [_settings(call, name)] if wanted in (None, entry["type"])]


@route("GET", "/storage/{storage}", ("Datastore.Allocate",), "/storage/{storage}")
def storage_settings(call: Call, storage: str) -> dict[str, Any]:
    """One storage as it is set."""
    _there(call, storage)
    return _settings(call, storage)


@route("GET", "/nodes/{node}/storage")
def node_storages(call: Call, node: str) -> list[dict[str, Any]]:
    """How full each storage is, as the node sees it."""
    seen = any(call.may(privilege) for privilege in READ)
    return [{"storage": name, **_status(call, name)} for name in _names(call)] if seen else []


@route("GET", "/nodes/{node}/storage/{storage}/status", READ, "/storage/{storage}")
def storage_status(call: Call, node: str, storage: str) -> dict[str, Any]:
    """How full one storage is, as the node sees it."""
    _there(call, storage)
    return _status(call, storage)


@route("GET", "/nodes/{node}/storage/{storage}/content", READ, "/storage/{storage}")
def storage_content(call: Call, node: str, storage: str) -> list[dict[str, Any]]:
    """What lies there: guests' disks, or backups."""
    _there(call, storage)
    vmid = call.number("vmid")
    if _is_pbs(call, storage):
        if not call.world.pbs.answering:
            raise ApiError(500, f"{storage}: error fetching datastores - 500 Can't connect to the server:8007")
        found = [_backup(storage, each) for each in call.world.pbs.snapshots]
    else:
        found = [
            {"volid": volume, "content": "images", "format": "raw", "size": size, "vmid": number}
            for volume, number, size in call.world.restores.disks(storage)
        ]
    kind = call.params.get("content")
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
    if not _is_pbs(call, storage):
        raise ApiError(500, f"storage '{storage}' does not exist")
    if not pbs.answering:
        raise ApiError(500, f"{storage}: error fetching datastores - 500 Can't connect to the server:8007")
    found = pbs.find(rest.removeprefix("backup/"))
    if found is None:
        raise ApiError(500, f"volume '{volume}' does not exist")
    return found


def _is_pbs(call: Call, storage: str) -> bool:
    spec = call.world.pbs.spec
    return spec is not None and spec.storage == storage


def _names(call: Call) -> list[str]:
    spec = call.world.pbs.spec
    return [*(one.name for one in call.world.storages), *([spec.storage] if spec is not None else [])]


def _there(call: Call, storage: str) -> None:
    if storage not in _names(call):
        raise ApiError(500, f"storage '{storage}' does not exist")


def _settings(call: Call, name: str) -> dict[str, Any]:
    spec = call.world.pbs.spec
    if spec is not None and spec.storage == name:
        key = {"encryption-key": "1"} if call.world.pbs.key_there else {}
        space = {"namespace": spec.namespace} if spec.namespace else {}
        host = {
            "server": call.world.pbs.address,
            "datastore": spec.datastore,
            "username": "pve@pbs!cluster",
            **space,
            **key,
        }
        return {"storage": name, "type": "pbs", "content": "backup", "shared": 1, **host}
    one = call.world.storages[name]
    entry = {"storage": name, "type": _TYPES.get(one.kind, one.kind), "shared": int(one.shared)}
    return {**entry, "content": _CONTENT.get(one.kind, "images,rootdir")}


def _status(call: Call, name: str) -> dict[str, Any]:
    world = call.world
    settings = _settings(call, name)
    entry = {"type": settings["type"], "content": settings["content"], "shared": settings["shared"], "enabled": 1}
    if _is_pbs(call, name):
        if not world.pbs.answering:
            return {**entry, "active": 0, "total": 0, "used": 0, "avail": 0}
        total, used = TOTAL, world.pbs.used
    else:
        total = world.spec.backup.space_bytes if world.spec.backup is not None else TOTAL
        used = sum(size for _, _, size in world.restores.disks(name))
    return {**entry, "active": 1, "total": total, "used": used, "avail": total - used}


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
