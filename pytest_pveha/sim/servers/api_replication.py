"""Replication jobs: as configured, and as the node that runs the guest knows them.

Sources: pve-manager 9.2 (API2/Replication.pm, API2/ReplicationConfig.pm), the REST schema of PVE 9.
"""

from __future__ import annotations

from typing import Any

from pytest_pveha.sim.servers.api_registry import ApiError, Call, Listing, route
from pytest_pveha.sim.world.replication import Job


@route("GET", "/cluster/replication")
def jobs(call: Call) -> list[dict[str, Any]]:
    """Every job as configured."""
    if not call.may("VM.Audit"):
        return []
    return [call.world.replication.configured(job) for job in call.world.replication.jobs.values()]


@route("GET", "/nodes/{node}/replication")
def status(call: Call, node: str) -> list[dict[str, Any]]:
    """The jobs of the guests whose configuration lies here, disabled ones too."""
    guest = call.number("guest")
    return [
        call.world.replication.told(job, call.node)
        for job in call.world.replication.on(call.node)
        if call.may("VM.Audit") and guest in (None, job.guest.vmid)
    ]


@route("GET", "/nodes/{node}/replication/{id}/status")
def job_status(call: Call, node: str, id: str) -> dict[str, Any]:
    """One of them; a disabled one is not known here (job_status without get_disabled)."""
    job = _here(call, id)
    return call.world.replication.told(job, call.node)


@route("GET", "/nodes/{node}/replication/{id}/log")
def job_log(call: Call, node: str, id: str) -> Listing:
    """The last run's log."""
    job = call.world.replication.jobs.get(id)
    if job is None:
        raise ApiError(500, f"no such replication job '{id}'")
    return Listing([{"n": number, "t": text} for number, text in enumerate(job.log, 1)], len(job.log))


@route("POST", "/nodes/{node}/replication/{id}/schedule_now", ("VM.Replicate", "Datastore.Allocate"), "/vms")
def schedule_now(call: Call, node: str, id: str) -> str:
    """It runs as soon as the scheduler looks."""
    call.world.replication.schedule_now(_here(call, id), call.node)
    return ""


def _here(call: Call, name: str) -> Job:
    found = next((job for job in call.world.replication.on(call.node) if job.id == name and not job.disable), None)
    if found is None:
        raise ApiError(500, f"no such replication job '{name}'")
    return found
