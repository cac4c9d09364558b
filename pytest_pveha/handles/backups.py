"""Backups as PVE shows them, and the storages that they lie on and are restored to.

Sources: the official REST schema (…/storage/{storage}/content and …/status, vzdump/extractconfig); volume ids of
backups on a Proxmox Backup Server: pve-storage, PBSPlugin.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.reading import Said, an_object, kind, some_rows
from pytest_pveha.inventory.storage import Backup as Block
from pytest_pveha.wire.pve_api import PveApi, api_path

KEYS = "/etc/pve/priv/storage"
"""Where PVE keeps the keys of encrypted backups, as ``STORAGE.enc``."""

_VOLUME = re.compile(r"[^:\s/]+:backup/(?P<kind>vm|ct)/(?P<number>[0-9]{1,9})/\S+")
_SETTING = re.compile(r"(?P<key>[a-z0-9_.]+): ?(?P<value>.*)")


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup of one guest, by its volume id."""

    volume: str
    sid: str
    taken: int
    """Epoch seconds, by the clock of the node that made it."""
    size: int
    verification: str
    """``ok``, ``failed``; empty: never verified, or the storage does not say."""
    key: str
    """What says that it is encrypted: the key's fingerprint, or ``1``; empty where it is not."""
    protected: bool


@dataclass(frozen=True, slots=True)
class Room:
    """How full a storage is, as one node sees it (bytes)."""

    active: bool
    total: int
    used: int


class Backups:
    """What lies on the storage of the inventory's block ``backup``. Keeps no state."""

    def __init__(self, api: PveApi, block: Block) -> None:
        self._api = api
        self.block = block
        """What the inventory says of backups and restores."""

    def every(self, node: str, deadline: Deadline) -> tuple[Backup, ...]:
        """Every guest's backups, as that node lists them, the newest first."""
        path = api_path("nodes", node, "storage", self.block.storage, "content")
        rows = some_rows(self._api.get(path, deadline=deadline, content="backup").value, f"GET {path}")
        found = [_backup(row, match) for row in rows if (match := _VOLUME.fullmatch(row.word("volid")))]
        return tuple(sorted(found, key=lambda one: (-one.taken, one.volume)))

    def of(self, sid: str, node: str, deadline: Deadline) -> tuple[Backup, ...]:
        """That guest's backups, the newest first."""
        return tuple(one for one in self.every(node, deadline) if one.sid == sid)

    def settings(self, backup: Backup, node: str, deadline: Deadline) -> dict[str, str]:
        """The guest's configuration as it was backed up, without what its snapshots say."""
        path = api_path("nodes", node, "vzdump", "extractconfig")
        told = self._api.get(path, deadline=deadline, volume=backup.volume).value
        if not isinstance(told, str):
            raise ProtocolError(f"GET {path}: expected a configuration, got {kind(told)}")
        found: dict[str, str] = {}
        for line in told.splitlines():
            if line.startswith("["):
                break
            if match := _SETTING.fullmatch(line):
                found[match["key"]] = match["value"]
        return found

    def key_on(self, node: Node, deadline: Deadline) -> bool:
        """Whether that node has the key of encrypted backups (pve-storage, PBSPlugin). Its content is not read."""
        try:
            node.command(deadline, "stat", "-c", "%s", f"{KEYS}/{self.block.storage}.enc")
        except ProtocolError as error:
            if "No such file" in str(error):
                return False
            raise
        return True

    def storage(self, deadline: Deadline) -> dict[str, str]:
        """How the storage of the backups is set: ``type``, ``server``, ``datastore`` and the like."""
        path = "/storage"
        rows = some_rows(self._api.get(path, deadline=deadline).value, f"GET {path}")
        found = [row for row in rows if row.values.get("storage") == self.block.storage]
        if len(found) != 1:
            raise ProtocolError(f"GET {path}: no storage {self.block.storage!r} is told of; may our token see it?")
        return {key: str(value) for key, value in found[0].values.items() if isinstance(value, str | int)}

    def room(self, storage: str, node: str, deadline: Deadline) -> Room:
        """How full that storage is."""
        path = api_path("nodes", node, "storage", storage, "status")
        said = an_object(self._api.get(path, deadline=deadline).value, f"GET {path}")
        return Room(said.truth("active", False), said.count("total", 0), said.count("used", 0))

    def disks(self, storage: str, sid: str, node: str, deadline: Deadline) -> Mapping[str, int]:
        """The volumes of that guest on that storage, whatever its configuration says, and how large each is."""
        path, number = api_path("nodes", node, "storage", storage, "content"), sid.partition(":")[2]
        rows = some_rows(self._api.get(path, deadline=deadline, vmid=number).value, f"GET {path}")
        mine = [row for row in rows if row.count("vmid", 0) == int(number)]
        return {row.word("volid"): row.count("size", 0) for row in mine if row.values.get("content") != "backup"}


def _backup(row: Said, volume: re.Match[str]) -> Backup:
    return Backup(
        volume[0],
        f"{volume['kind']}:{volume['number']}",
        row.count("ctime"),
        row.count("size"),
        row.part("verification").word("state", ""),
        row.word("encrypted", ""),
        row.truth("protected", False),
    )
