"""Guests of a node: what they are, and what they are told.

Field by field as recorded on a PVE 9.1.9 control plane; error texts as there.
"""

from __future__ import annotations

from typing import Any

from pytest_pveha.sim.servers.api_registry import PARAMETERS, ApiError, Call, asked, route
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.servers.storage_facts import configured
from pytest_pveha.sim.world.configs import digest_of
from pytest_pveha.sim.world.model import Guest
from pytest_pveha.sim.world.requests import SHUTDOWN_TIMEOUT

_NUMBERS = {"onboot", "swap", "unprivileged"}
"""Keys that PVE writes as numbers; ``memory`` of a VM is a text (recorded on 9.1.9)."""


@route("GET", "/nodes/{node}/{kind:qemu|lxc}")
def guests(call: Call, node: str, kind: str) -> list[dict[str, Any]]:
    """The guests whose configuration lies on this node."""
    here = (
        guest
        for guest in call.facts.world.guests.values()
        if call.facts.view.config_nodes.get(guest.vmid) == call.node.name
    )
    seen = here if call.may("VM.Audit") else ()
    return [_guest_entry(call.facts, guest) for guest in seen if _folder(guest) == kind]


@route("GET", "/nodes/{node}/{kind:qemu|lxc}/{vmid}/status/current", ("VM.Audit",), "/vms/{vmid}")
def guest_status(call: Call, node: str, kind: str, vmid: str) -> dict[str, Any]:
    """One guest as its node sees it now."""
    guest = guest_at(call, kind, vmid)
    entry = _guest_entry(call.facts, guest)
    shown = call.facts.service_shown(guest.sid)
    ha: dict[str, Any] = {"managed": 0} if shown is None else {"managed": 1, "state": shown}
    entry |= {"ha": ha}
    if kind == "qemu":
        paused = entry["status"] == "running" and guest.vmid in call.world.mishaps.paused
        entry |= {"clipboard": None, "qmpstatus": "paused" if paused else entry["status"]}
        entry |= {"agent": 1} if guest.spec.agent else {}
        if (process := guest.processes.get(call.node.name)) is not None:
            failed = {"failed_rd_operations": 0, "failed_wr_operations": process.failed, "failed_flush_operations": 0}
            entry["blockstat"] = {"scsi0": {**failed, "account_failed": 1, "wr_operations": 157514}}
    return entry


@route("GET", "/nodes/{node}/{kind:qemu|lxc}/{vmid}/config", ("VM.Audit",), "/vms/{vmid}")
def guest_config(call: Call, node: str, kind: str, vmid: str) -> dict[str, Any]:
    """One guest's configuration."""
    config = configured(call.facts, guest_at(call, kind, vmid))
    numbers = {key: int(config[key]) for key in _NUMBERS & config.keys() if config[key].isdigit()}
    return {**config, **numbers, "digest": digest_of(config)}


@route(
    "POST",
    "/nodes/{node}/{kind:qemu|lxc}/{vmid}/status/{command:start|stop|shutdown}",
    ("VM.PowerMgmt",),
    "/vms/{vmid}",
)
def guest_command(call: Call, node: str, kind: str, vmid: str, command: str) -> str:
    """A task's UPID. For an HA guest the task only writes the request: its OK is not the guest's."""
    guest = guest_at(call, kind, vmid)
    requests = call.world.requests
    if command == "shutdown":
        timeout = call.number("timeout")
        patience = SHUTDOWN_TIMEOUT if timeout is None else float(timeout)
        return asked(lambda: requests.shut_down(guest.vmid, call.user, patience))
    act = requests.start if command == "start" else requests.stop
    return asked(lambda: act(guest.vmid, call.user))


@route("POST", "/nodes/{node}/{kind:qemu|lxc}/{vmid}/migrate", ("VM.Migrate",), "/vms/{vmid}")
def guest_migrate(call: Call, node: str, kind: str, vmid: str) -> str:
    """A task's UPID. For an HA guest the task only queues the request: its OK is not the migration's."""
    guest, target = guest_at(call, kind, vmid), call.needed("target")
    online = call.params.get("online") == "1"
    return asked(lambda: call.world.requests.migrate(guest.vmid, target, call.user, online=online))


def _folder(guest: Guest) -> str:
    return "qemu" if guest.kind == "vm" else "lxc"


def guest_at(call: Call, kind: str, vmid: str) -> Guest:
    """The guest, if its configuration lies here; PVE knows no other."""
    if not vmid.isdigit():
        raise ApiError(400, PARAMETERS, {"vmid": f"type check ('integer') failed - got '{vmid}'"})
    guest = call.facts.world.guests.get(int(vmid))
    if guest is None or call.facts.view.config_nodes.get(guest.vmid) != call.node.name or _folder(guest) != kind:
        folder = "qemu-server" if kind == "qemu" else "lxc"
        raise ApiError(500, f"Configuration file 'nodes/{call.node.name}/{folder}/{vmid}.conf' does not exist")
    return guest


def _guest_entry(facts: Facts, guest: Guest) -> dict[str, Any]:
    uptime = facts.process_uptime(guest)
    entry: dict[str, Any] = {
        "cpu": 0,
        "cpus": 1,
        "disk": 0,
        "maxdisk": 0,
        "maxmem": guest.spec.memory_bytes,
        "mem": 0,
        "memhost": 0,
        "name": guest.name,
        "netin": 0,
        "netout": 0,
        "status": "stopped" if uptime is None else "running",
        "uptime": int(uptime or 0),
        "vmid": guest.vmid,
    }
    if guest.kind == "vm":
        entry["serial"] = 1
    else:
        entry["type"] = "lxc"
    if uptime is not None:
        pressures = ("cpufull", "cpusome", "iofull", "iosome", "memoryfull", "memorysome")
        entry |= {f"pressure{name}": 0 for name in pressures}
        entry["pid"] = guest.processes[facts.node.name].pid
    return entry
