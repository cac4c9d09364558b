"""The QEMU guest agent behind the REST API: whether it answers, what it runs, and what that printed.

Parameters, limits and privileges as in the schemas of PVE 8.4 and 9; error texts as recorded on a PVE 9.1.9 control
plane, and those of a program that is not there as qemu-server words them (QemuServer/Agent.pm).
"""

from __future__ import annotations

from typing import Any

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.servers.api_guests import guest_at
from pytest_pveha.sim.servers.api_registry import PARAMETERS, ApiError, Call, route
from pytest_pveha.sim.world.model import Guest, GuestProcess

_AGENT = "/nodes/{node}/qemu/{vmid}/agent"
_VM = "/vms/{vmid}"
_AUDIT = ("VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted", "VM.Monitor")
_ANYTHING = ("VM.GuestAgent.Unrestricted", "VM.Monitor")
_LONGEST_INPUT = 65536


@route("POST", f"{_AGENT}/ping", _AUDIT, _VM)
def agent_ping(call: Call, node: str, vmid: str) -> dict[str, Any]:
    """Nothing, wrapped in ``result``, if the guest's agent answers."""
    _answering(call, vmid)
    return {"result": {}}


@route("GET", f"{_AGENT}/get-time", _AUDIT, _VM)
def agent_time(call: Call, node: str, vmid: str) -> dict[str, Any]:
    """The guest's wall clock, ns since 1970."""
    _answering(call, vmid)
    return {"result": call.world.spec.epoch_utc * SECOND + call.world.timeline.now}


@route("GET", f"{_AGENT}/get-osinfo", _AUDIT, _VM)
def agent_osinfo(call: Call, node: str, vmid: str) -> dict[str, Any]:
    """What runs in the guest."""
    _answering(call, vmid)
    return {"result": {"id": "debian", "pretty-name": "Debian GNU/Linux 12 (bookworm)", "version-id": "12"}}


@route("POST", f"{_AGENT}/fsfreeze-status", _AUDIT, _VM)
def agent_frozen(call: Call, node: str, vmid: str) -> dict[str, Any]:
    """Whether its file systems are frozen: nobody freezes them here."""
    _answering(call, vmid)
    return {"result": "thawed"}


@route("POST", f"{_AGENT}/exec", _ANYTHING, _VM)
def agent_exec(call: Call, node: str, vmid: str) -> dict[str, Any]:
    """The process id of what was started."""
    call.only("command", "input-data")
    words = call.needed("command").split("\0")
    given = call.params.get("input-data", "")
    if len(given) > _LONGEST_INPUT:
        raise ApiError(400, PARAMETERS, {"input-data": f"value may only be {_LONGEST_INPUT} characters long"})
    guest, process = _answering(call, vmid)
    return {"pid": call.world.canaries.start(guest, process, words, given)}


@route("GET", f"{_AGENT}/exec-status", _ANYTHING, _VM)
def agent_exec_status(call: Call, node: str, vmid: str) -> dict[str, Any]:
    """What it ended with; it is told once."""
    pid = int(call.needed("pid"))
    guest, _ = _answering(call, vmid)
    found = call.world.canaries.result(guest, pid)
    if found is None:
        raise ApiError(500, f"Agent error: Invalid parameter 'pid': PID {pid} does not exist")
    status, out, err = found
    told: dict[str, Any] = {"exited": 1, "exitcode": status}
    return told | ({"out-data": out} if out else {}) | ({"err-data": err} if err else {})


def _answering(call: Call, vmid: str) -> tuple[Guest, GuestProcess]:
    """The guest and its process here, if its agent answers."""
    guest = guest_at(call, "qemu", vmid)
    process = guest.processes.get(call.node.name)
    if not guest.spec.agent:
        raise ApiError(500, "No QEMU guest agent configured")
    if process is None:
        raise ApiError(500, f"VM {vmid} is not running")
    if not process.agent_up:
        raise ApiError(500, "QEMU guest agent is not running")
    return guest, process
