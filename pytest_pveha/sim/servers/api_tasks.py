"""A node's tasks: what ran, how it ended, and what it wrote. As recorded on a PVE 9.1.9 control plane."""

from __future__ import annotations

import re
from typing import Any

from pytest_pveha.sim.servers.api_registry import PARAMETERS, ApiError, Call, Listing, route
from pytest_pveha.sim.world.model import Task

_UPID = re.compile(r"UPID:[^:]+:[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8}:[^:\s]+:[^:\s]*:[^:\s]+:")


@route("GET", "/nodes/{node}/tasks")
def node_tasks(call: Call, node: str) -> Listing:
    """The node's tasks, newest first."""
    found = sorted(call.node.tasks, key=lambda task: task.starttime, reverse=True)
    limit = call.number("limit") or 50
    entries = [{**task_entry(task), "pid": task.pid, "pstart": task.pstart} for task in found[:limit]]
    return Listing(entries, len(found))


@route("GET", "/nodes/{node}/tasks/{upid}/status")
def task_status(call: Call, node: str, upid: str) -> dict[str, Any]:
    """Whether a task runs, or how it ended."""
    task = _task(call, upid)
    entry = {**task_entry(task), "pid": task.pid, "pstart": task.pstart}
    entry.pop("endtime", None)
    entry["status"] = "running" if task.endtime is None else "stopped"
    return entry if task.endtime is None else {**entry, "exitstatus": task.exitstatus}


@route("GET", "/nodes/{node}/tasks/{upid}/log")
def task_log(call: Call, node: str, upid: str) -> Listing:
    """What a task wrote."""
    lines = _task(call, upid).log
    start, limit = call.number("start") or 0, call.number("limit") or 50
    shown = [{"n": number, "t": text} for number, text in enumerate(lines, 1)]
    return Listing(shown[start : start + limit], len(lines))


def task_entry(task: Task) -> dict[str, Any]:
    """A task as lists show it."""
    entry: dict[str, Any] = {
        "id": task.id,
        "node": task.node,
        "starttime": task.starttime,
        "type": task.type,
        "upid": task.upid,
        "user": task.user,
    }
    return entry if task.endtime is None else {**entry, "endtime": task.endtime, "status": task.exitstatus}


def _task(call: Call, upid: str) -> Task:
    if not _UPID.fullmatch(upid):
        raise ApiError(400, PARAMETERS, {"upid": f"unable to parse worker upid '{upid}'"})
    for task in call.node.tasks:
        if task.upid == upid:
            return task
    raise ApiError(400, PARAMETERS, {"upid": "no such task"})
