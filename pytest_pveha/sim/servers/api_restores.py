"""Guests made from backups, changed and destroyed by the API. Privileges as the official REST schema words them."""

from __future__ import annotations

import re

from pytest_pveha.sim.servers.api_guests import guest_at
from pytest_pveha.sim.servers.api_registry import PARAMETERS, ApiError, Call, asked, route
from pytest_pveha.sim.world.configs import rewrite
from pytest_pveha.sim.world.model import Refused
from pytest_pveha.sim.world.restores import OPTIONS

_ROOT_ONLY = ("args", "lock", "hookscript")
"""Keys that root alone may set (qemu-server); ``delete`` of a lock is one of them."""
CONFIG = (
    "VM.Config.Disk", "VM.Config.CDROM", "VM.Config.CPU", "VM.Config.Memory", "VM.Config.Network", "VM.Config.HWType",
    "VM.Config.Options", "VM.Config.Cloudinit",
)  # fmt: skip
OF_CONTAINERS = ("VM.Config.Disk", "VM.Config.CPU", "VM.Config.Memory", "VM.Config.Network", "VM.Config.Options")


@route("POST", "/nodes/{node}/{kind:qemu|lxc}")
def restore(call: Call, node: str, kind: str) -> str:
    """A restore's UPID; the simulated site makes guests from backups alone."""
    vmid = call.number("vmid")
    if vmid is None or vmid < 100:
        raise ApiError(400, PARAMETERS, {"vmid": "property is missing and it is not optional"})
    archive = call.params.get("archive" if kind == "qemu" else "ostemplate")
    if archive is None or (kind == "lxc" and call.params.get("restore") != "1"):
        raise ApiError(400, PARAMETERS, {"archive": "property is missing and it is not optional"})
    storage = call.params.get("storage", "local")
    _needed(call, "VM.Allocate", f"/vms/{vmid}")
    _needed(call, "Datastore.AllocateSpace", f"/storage/{storage}")
    call.writing()
    origin = re.fullmatch(r"[^:]+:backup/(?:vm|ct)/(\d+)/.*", archive)
    _needed(call, "VM.Backup", f"/vms/{origin[1] if origin else vmid}")
    for key in call.params.keys() - OPTIONS:
        _needed(call, _privilege(key), f"/vms/{vmid}")
    return asked(
        lambda: call.world.restores.begin(
            call.node, "vm" if kind == "qemu" else "ct", vmid, archive, call.params, call.user
        )
    )


@route("PUT", "/nodes/{node}/qemu/{vmid}/config", CONFIG, "/vms/{vmid}")
def change_vm(call: Call, node: str, vmid: str) -> None:
    """The VM's configuration is as asked for."""
    _change(call, "qemu", vmid)


@route("PUT", "/nodes/{node}/lxc/{vmid}/config", OF_CONTAINERS, "/vms/{vmid}")
def change_container(call: Call, node: str, vmid: str) -> None:
    """The container's configuration is as asked for."""
    _change(call, "lxc", vmid)


@route("DELETE", "/nodes/{node}/{kind:qemu|lxc}/{vmid}", ("VM.Allocate",), "/vms/{vmid}")
def destroy(call: Call, node: str, kind: str, vmid: str) -> str:
    """The UPID of the task that takes the guest away with its disks."""
    guest = guest_at(call, kind, vmid)
    call.writing()
    call.only("purge", "destroy-unreferenced-disks", "force")
    purge, unreferenced = (call.params.get(name) == "1" for name in ("purge", "destroy-unreferenced-disks"))
    return asked(lambda: call.world.restores.destroy(guest, call.user, purge=purge, unreferenced=unreferenced))


@route("DELETE", "/nodes/{node}/tasks/{upid}")
def stop_task(call: Call, node: str, upid: str) -> None:
    """The task's worker was stopped, as by Ctrl-C."""
    for task in call.node.tasks:
        if task.upid == upid:
            if task.user != call.user:
                _needed(call, "Sys.Modify", f"/nodes/{node}")
            call.world.restores.kill(task)
            return
    raise ApiError(400, PARAMETERS, {"upid": "no such task"})


def _change(call: Call, kind: str, vmid: str) -> None:
    guest = guest_at(call, kind, vmid)
    call.writing()
    delete = [key for key in call.params.get("delete", "").split(",") if key]
    changes = {key: value for key, value in call.params.items() if key not in ("delete", "digest")}
    for key in [*changes, *delete]:
        if key == "lock" or (key in changes and key in _ROOT_ONLY):
            raise ApiError(403, f"only root can set '{key}' config")
        _needed(call, _privilege(key), f"/vms/{vmid}")
    try:
        rewrite(call.world, guest, changes, delete, call.params.get("digest", ""))
    except Refused as refused:
        raise ApiError(500, str(refused)) from None


def _privilege(key: str) -> str:
    if re.fullmatch(r"net\d+|nameserver|searchdomain", key):
        return "VM.Config.Network"
    if re.fullmatch(r"(?:scsi|virtio|sata|ide|mp|unused)\d+|rootfs", key):
        return "VM.Config.Disk"
    return "VM.Config.Options"


def _needed(call: Call, privilege: str, path: str) -> None:
    if not call.may(privilege):
        raise ApiError(403, f"Permission check failed ({path}, {privilege})")
