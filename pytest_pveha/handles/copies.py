"""Guests that we make from backups, and take away again: restore, configuration, tasks, destruction.

Sources: the official REST schema of 8.4 and 9 (POST …/qemu and …/lxc, …/config, …/tasks); qm(1), pct(1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.backups import Backup
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.reading import Said, an_object, kind, some_rows
from pytest_pveha.handles.shell import ShellLine, all_of, piped, quote, whatever_comes
from pytest_pveha.wire.pve_api import PveApi, api_path

_ABSENT = "does not exist"
LINES = 2000
"""Lines of a task's log that are read at once."""


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task: whether it runs, and how it ended."""

    upid: str
    started: int
    """Epoch seconds of its node's clock."""
    ended: str
    """``OK``, or what went wrong; empty while it runs."""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return not self.ended


class Copies:
    """Guests made from backups, by the API. Keeps no state."""

    def __init__(self, api: PveApi) -> None:
        self._api = api

    @property
    def user(self) -> str:
        """Who starts what we start, as tasks tell it."""
        return self._api.user

    # --- reading -----------------------------------------------------------------------------------------------------

    def free(self, number: int, deadline: Deadline) -> bool:
        """Whether no guest of the cluster has that number."""
        try:
            told = self._api.get("/cluster/nextid", deadline=deadline, vmid=number).value
        except ProtocolError as error:
            if error.status == HTTPStatus.BAD_REQUEST:
                return False
            raise
        return str(told) == str(number)

    def settings(self, sid: str, node: str, deadline: Deadline) -> dict[str, str] | None:
        """The guest's configuration on that node with its digest; None where it has none there."""
        path = _path(sid, node, "config")
        try:
            said = an_object(self._api.get(path, deadline=deadline).value, f"GET {path}")
        except ProtocolError as error:
            if error.status == HTTPStatus.INTERNAL_SERVER_ERROR and _ABSENT in str(error):
                return None
            raise
        return said.texts()

    def restores(self, sid: str, node: str, since: float, deadline: Deadline) -> tuple[TaskState, ...]:
        """Our restores to that number on that node that began since then (its clock), the newest first."""
        path, number = api_path("nodes", node, "tasks"), sid.partition(":")[2]
        wanted: dict[str, Any] = {"vmid": number, "since": int(since), "source": "all", "limit": 50}
        rows = some_rows(self._api.get(path, deadline=deadline, **wanted).value, f"GET {path}")
        found = [
            _task(row)
            for row in rows
            if row.values.get("type") == _restore(sid)
            and row.word("id", "") == number
            and row.word("user") == self.user
        ]
        return tuple(sorted((one for one in found if one.started >= int(since)), key=lambda one: -one.started))

    def log(self, upid: str, node: str, deadline: Deadline) -> tuple[str, ...]:
        """What the task has written so far."""
        path = api_path("nodes", node, "tasks", upid, "log")
        rows = some_rows(self._api.get(path, deadline=deadline, limit=LINES).value, f"GET {path}")
        return tuple(row.word("t", "") for row in rows)

    # --- acting ------------------------------------------------------------------------------------------------------

    def restore(
        self, sid: str, node: str, backup: Backup, storage: str, settings: Mapping[str, str], deadline: Deadline,
        *, live: bool = False,
    ) -> str:  # fmt: skip
        """A restore to that number has been asked for; the task. Without ``force``, so that nothing is overwritten."""
        number, vm = sid.partition(":")[2], sid.startswith("vm:")
        path = api_path("nodes", node, "qemu" if vm else "lxc")
        params: dict[str, Any] = {"vmid": number, "storage": storage, "unique": True, "start": live, **settings}
        params |= {"archive": backup.volume} if vm else {"ostemplate": backup.volume, "restore": True}
        params |= {"live-restore": True} if live else {}
        return _upid(self._api.post(path, deadline=deadline, **params).value, f"POST {path}")

    def drop(self, sid: str, node: Node, keys: tuple[str, ...], deadline: Deadline) -> None:
        """Its configuration has none of these keys: root alone may take some of them away, on its node."""
        node.act(deadline, _tool(sid), "set", sid.partition(":")[2], "--delete", ",".join(keys))

    def start(self, sid: str, node: str, deadline: Deadline) -> str:
        """Its start has been asked for; the task."""
        path = _path(sid, node, "status", "start")
        return _upid(self._api.post(path, deadline=deadline).value, f"POST {path}")

    def stop(self, sid: str, node: str, deadline: Deadline) -> str:
        """It is to be stopped at once; the task."""
        path = _path(sid, node, "status", "stop")
        return _upid(self._api.post(path, deadline=deadline).value, f"POST {path}")

    def stop_task(self, upid: str, node: str, deadline: Deadline) -> None:
        """The task's worker was told to end where it stands."""
        self._api.delete(api_path("nodes", node, "tasks", upid), deadline=deadline)

    def destroy(self, sid: str, node: str, deadline: Deadline) -> str:
        """It is taken away, with every volume that has its number; the task."""
        path = _path(sid, node)
        whole: dict[str, Any] = {"purge": True, "destroy-unreferenced-disks": True}
        told = self._api.delete(path, deadline=deadline, **whole)
        return _upid(told.value, f"DELETE {path}")

    def unlock(self, sid: str, node: Node, deadline: Deadline) -> None:
        """No lock is on it: root alone may do that, on its node."""
        node.act(deadline, _tool(sid), "unlock", sid.partition(":")[2])


def dead_man(sid: str, node: str, tag: str, user: str, since: int) -> tuple[ShellLine, ...]:
    """What takes the copy away on its node when nobody else does: if its tag and our restore's task are there.

    First a stub that is locked by a restore of ours, then a copy that carries our tag. While a restore still runs PVE's
    own lock keeps everybody off, this too.
    """
    number, tool = sid.partition(":")[2], _tool(sid)
    conf = config_file(sid, node)
    listed = quote(
        "pvenode", "task", "list", "--source", "all", "--vmid", number, "--typefilter", _restore(sid),
        "--userfilter", user, "--since", str(since),
    )  # fmt: skip
    ours = piped(listed, quote("grep", "-q", _restore(sid)))
    gone = (quote(tool, "destroy", number, "--purge", "1", "--destroy-unreferenced-disks", "1"),)
    stop = whatever_comes(quote(tool, "stop", number))
    locked, tagged = (quote("grep", "-qs", text, conf) for text in ("^lock: create", f"^tags:.*{tag}"))
    return (
        all_of(locked, ours, quote(tool, "unlock", number), *gone),
        all_of(tagged, ours, stop),
        all_of(tagged, ours, *gone),
    )


def config_file(sid: str, node: str) -> str:
    """Where that guest's configuration lies on every node."""
    folder = "qemu-server" if sid.startswith("vm:") else "lxc"
    return f"/etc/pve/nodes/{node}/{folder}/{sid.partition(':')[2]}.conf"


def _restore(sid: str) -> str:
    """The type of task that makes such a guest from a backup."""
    return "qmrestore" if sid.startswith("vm:") else "vzrestore"


def _tool(sid: str) -> str:
    return "qm" if sid.startswith("vm:") else "pct"


def _path(sid: str, node: str, *below: str) -> str:
    which, _, number = sid.partition(":")
    return api_path("nodes", node, "qemu" if which == "vm" else "lxc", number, *below)


def _task(row: Said) -> TaskState:
    ended = row.word("status", "") if row.values.get("endtime") else ""
    return TaskState(row.word("upid"), row.count("starttime"), ended or ("?" if row.values.get("endtime") else ""))


def _upid(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ProtocolError(f"{where}: expected the id of a task, got {kind(value)}; whether it runs is unknown")
    return value
