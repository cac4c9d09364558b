"""Storages: as configured, as each node finds them, and what lies on them.

Keys: the REST schema of PVE 9. What is active: pve-storage 9.1 (Storage.pm, storage_info: one that cannot be activated
is not, and its figures are 0). A node with a silent server answers after that server's timeout.
"""

from __future__ import annotations

from typing import Any

from pytest_pveha.sim.servers import api_backups
from pytest_pveha.sim.servers.api_registry import ApiError, Call, route
from pytest_pveha.sim.servers.facts import digest
from pytest_pveha.sim.servers.storage_facts import EXPORT, TYPES, called_shared, entry, mount_options, volumes
from pytest_pveha.sim.world.model import Node
from pytest_pveha.sim.world.storages import Storage
from pytest_pveha.sim.world.world import World

_AUDIT = ("Datastore.Audit", "Datastore.AllocateSpace")


def _hangs(world: World, target: Node) -> float:
    return world.storages.hangs(target)


@route("GET", "/storage")
def storages(call: Call) -> list[dict[str, Any]]:
    """What is configured: /etc/pve/storage.cfg."""
    if not call.may("Datastore.Audit"):
        return []
    wanted = call.params.get("type")
    found = [*(_configured(call.world, one) for one in call.world.storages), *api_backups.configured(call)]
    return [one for one in found if wanted in (None, one["type"])]


@route("GET", "/storage/{storage}", ("Datastore.Allocate",), "/storage/{storage}")
def storage(call: Call, storage: str) -> dict[str, Any]:
    """One of them."""
    return (
        api_backups.configured(call)[0]
        if api_backups.is_it(call, storage)
        else _configured(call.world, _named(call, storage))
    )


def _configured(world: World, one: Storage) -> dict[str, Any]:
    known: dict[str, Any] = {
        "storage": one.name,
        "type": TYPES[one.kind].type,
        "content": TYPES[one.kind].content,
        "digest": digest("storage.cfg"),
    }
    if called_shared(world, one):
        known["shared"] = 1
    if one.nodes:
        known["nodes"] = ",".join(one.nodes)
    match one.kind:
        case "nfs":
            where = {"server": one.spec.server, "export": EXPORT.format(name=one.name), "path": f"/mnt/pve/{one.name}"}
            known |= {**where, "options": mount_options(one)}
        case "iscsi":
            known |= {"portal": one.spec.server, "target": f"iqn.2003-01.example:{one.name}"}
        case "rbd":
            known |= {"pool": one.name, "krbd": 0}
        case "cephfs":
            known |= {"path": f"/mnt/pve/{one.name}", "fs-name": one.name}
        case "zfs":
            known |= {"pool": "rpool/data", "sparse": 1}
        case "lvm":
            known |= {"vgname": "pve", "thinpool": "data"}
        case "dir":
            known |= {"path": "/var/lib/vz"}
    return known


@route("GET", "/nodes/{node}/storage", slow=_hangs)
def node_storages(call: Call, node: str) -> list[dict[str, Any]]:
    """Every storage as this node finds it."""
    if not call.may("Datastore.Audit"):
        return []
    rows = [{**entry(call.facts, one), "storage": one.name} for one in call.world.storages]
    rows += [
        {**row, "storage": one["storage"]} for one in api_backups.configured(call) for row in [api_backups.status(call)]
    ]
    return [{**row, "used_fraction": row["used"] / row["total"]} if row["total"] else row for row in rows]


@route("GET", "/nodes/{node}/storage/{storage}/status", _AUDIT, "/storage/{storage}", slow=_hangs)
def node_storage(call: Call, node: str, storage: str) -> dict[str, Any]:
    """One storage as this node finds it."""
    return api_backups.status(call) if api_backups.is_it(call, storage) else entry(call.facts, _named(call, storage))


@route("GET", "/nodes/{node}/storage/{storage}/content", _AUDIT, "/storage/{storage}")
def content(call: Call, node: str, storage: str) -> list[dict[str, Any]]:
    """The volumes on it; ``vmid`` and ``content`` filter."""
    if api_backups.is_it(call, storage):
        return api_backups.content(call, storage)
    one = _named(call, storage)
    if not call.world.storages.active(call.node, one):
        raise ApiError(500, f"storage '{storage}' is not online")
    vmid, kind = call.number("vmid"), call.params.get("content")
    return [
        volume
        for volume in volumes(call.facts, one)
        if vmid in (None, volume.get("vmid")) and kind in (None, volume["content"])
    ]


def _named(call: Call, name: str) -> Storage:
    found = next((one for one in call.world.storages if one.name == name), None)
    if found is None:
        raise ApiError(500, f"storage '{name}' does not exist")
    return found
