"""ZFS storage replication: jobs as configured, as the node that runs the guest knows them, and copies as they lie.

What a node knows of a job is its own: after a failover the new node knows of no sync (pve-guest-common,
ReplicationState.pm). What really lies on a node its snapshots say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.reading import Said, once, some_rows
from pytest_pveha.wire.pve_api import PveApi, api_path

_SNAPSHOT = re.compile(r"(\S*?(?:vm|subvol|basevol)-(\d+)-disk-\S+?)@__replicate_(\d+-\d+)_(\d+)__\t(\d+)")
"""A line of ``zfs list``: PVE names a job's snapshots after it and the epoch at which the run began
(ReplicationState.pm, replication_snapshot_name)."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the cluster has it configured: GET /cluster/replication."""

    id: str
    vmid: int
    source: str
    target: str
    schedule: str
    disabled: bool
    removing: bool


@dataclass(frozen=True, slots=True)
class Status:
    """A job as the node that runs its guest knows it. Times: epoch seconds of that node's clock; 0: never."""

    id: str
    vmid: int
    target: str
    last_sync: int
    """When the last run that ended well began."""
    last_try: int
    next_sync: int
    fail_count: int
    error: str
    running: bool
    disabled: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that replication left on a node."""

    volume: str
    vmid: int
    job: str
    epoch: int
    """When the run that made it began, by the source's clock."""
    created: int
    """When it was made, by the source's clock: a received snapshot keeps that (zfs-receive(8))."""


class Replication:
    """Replication by the API. Keeps no state."""

    def __init__(self, api: PveApi) -> None:
        self._api = api

    def jobs(self, deadline: Deadline) -> dict[str, Job]:
        """Every job of the cluster by its id. Without VM.Audit PVE shows none."""
        path = "/cluster/replication"
        rows = some_rows(self._api.get(path, deadline=deadline).value, f"GET {path}")
        return once(((row.word("id"), _job(row)) for row in rows), f"GET {path}")

    def on(self, node: str, deadline: Deadline) -> dict[str, Status]:
        """The jobs of the guests that node has, by id, as it knows them. One that means that very node is left out."""
        path = api_path("nodes", node, "replication")
        rows = some_rows(self._api.get(path, deadline=deadline).value, f"GET {path}")
        return once(((row.word("id"), _status(row)) for row in rows), f"GET {path}")


def snapshots(node: Node, deadline: Deadline) -> tuple[Snapshot, ...]:
    """Every snapshot of replication on that node, of whatever guest. ProtocolError where zfs fails or is missing."""
    return parsed(node.command(deadline, "zfs", "list", "-H", "-p", "-t", "snapshot", "-o", "name,creation"))


def parsed(text: str) -> tuple[Snapshot, ...]:
    """The snapshots of replication in what ``zfs list -H -p -o name,creation`` printed."""
    found = (_SNAPSHOT.fullmatch(line) for line in text.split("\n"))
    return tuple(Snapshot(one[1], int(one[2]), one[3], int(one[4]), int(one[5])) for one in found if one is not None)


def newest(found: tuple[Snapshot, ...], vmid: int) -> Mapping[str, Snapshot]:
    """For each volume of that guest the newest snapshot."""
    by_volume: dict[str, Snapshot] = {}
    for one in found:
        if one.vmid == vmid and (one.volume not in by_volume or one.epoch > by_volume[one.volume].epoch):
            by_volume[one.volume] = one
    return by_volume


def _job(row: Said) -> Job:
    return Job(
        row.word("id"),
        row.count("guest"),
        row.word("source", ""),
        row.name("target"),
        row.word("schedule", "*/15"),
        row.truth("disable", False),
        bool(row.word("remove_job", "")),
    )


def _status(row: Said) -> Status:
    if "last_sync" not in row.values:
        raise ProtocolError(f"{row.where}: does not say when it last replicated")
    return Status(
        row.word("id"),
        row.count("guest"),
        row.name("target"),
        row.count("last_sync"),
        row.count("last_try", 0),
        row.count("next_sync", 0),
        row.count("fail_count", 0),
        row.word("error", ""),
        bool(row.count("pid", 0)),
        row.truth("disable", False),
    )
