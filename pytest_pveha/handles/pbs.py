"""The Proxmox Backup Server itself: what it keeps of whom, whether it has verified it, and who owns it.

Shapes: the server's public API viewer, admin/datastore/{store}/snapshots and …/status; Proxmox Backup 3 and 4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.reading import Said, an_object, some_rows
from pytest_pveha.wire.pve_api import PveApi, api_path

_KINDS = frozenset({"vm", "ct"})
_UPID_START = re.compile(r"UPID:[^:]*:[0-9A-Fa-f]{8}:[0-9A-Fa-f]{8}:[0-9A-Fa-f]{8,16}:(?P<start>[0-9A-Fa-f]{8}):.*")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One backup as the server has it."""

    sid: str
    taken: int
    """Epoch seconds, of the clock of whoever made it."""
    owner: str
    verification: str
    """``ok``, ``failed``; empty: never verified, which is not ok."""
    verified: int | None
    """When that was begun (epoch seconds of the server's clock); None where it does not say."""
    size: int
    protected: bool
    key: str
    """The fingerprint of the key that it is encrypted with; empty where it is not."""
    files: tuple[str, ...]


class Pbs:
    """One datastore, or a namespace in it. Keeps no state."""

    def __init__(self, api: PveApi, address: str, datastore: str, namespace: str, fingerprint: str = "") -> None:
        self._api = api
        self.address = address
        """The server's address."""
        self.datastore = datastore
        self.namespace = namespace
        """Empty: the root."""
        self.fingerprint = fingerprint
        """Of its certificate, as the inventory pins it; empty where that names a CA."""

    def version(self, deadline: Deadline) -> str:
        """What runs there, such as ``3.2.4``."""
        said = an_object(self._api.get("/version", deadline=deadline).value, "GET /version")
        return ".".join(part for part in (said.word("version"), said.word("release", "")) if part)

    def usage(self, deadline: Deadline) -> tuple[int, int]:
        """Total and used bytes of the datastore."""
        path = self._path("status")
        said = an_object(self._api.get(path, deadline=deadline).value, f"GET {path}")
        return said.count("total"), said.count("used")

    def rights(self, deadline: Deadline) -> frozenset[str]:
        """Our token's privileges where the backups lie (GET access/permissions: path → privilege → propagated)."""
        where = "/".join(("/datastore", self.datastore, *([self.namespace] if self.namespace else [])))
        told = self._api.get("/access/permissions", deadline=deadline, path=where).value
        said = an_object(told, "GET /access/permissions")
        return frozenset(said.part(where).values)

    def snapshots(self, deadline: Deadline, sid: str | None = None) -> tuple[Snapshot, ...]:
        """What it keeps of that guest, or of every guest of the namespace, the newest first; hosts' are left out."""
        path, params = self._path("snapshots"), {"ns": self.namespace} if self.namespace else {}
        if sid is not None:
            kind, _, number = sid.partition(":")
            params |= {"backup-type": kind, "backup-id": number}
        rows = some_rows(self._api.get(path, deadline=deadline, **params).value, f"GET {path}")
        found = [_snapshot(row) for row in rows if row.word("backup-type") in _KINDS]
        return tuple(sorted(found, key=lambda one: (-one.taken, one.sid)))

    def _path(self, what: str) -> str:
        return api_path("admin", "datastore", self.datastore, what)


def _snapshot(row: Said) -> Snapshot:
    number = row.word("backup-id")
    if not number.isascii() or not number.isdigit():
        raise ProtocolError(f"{row.where}: backup-id is {number[:60]!r}, expected a guest's number")
    verification = row.part("verification")
    start = _UPID_START.fullmatch(verification.word("upid", ""))
    return Snapshot(
        sid=f"{row.word('backup-type')}:{number}",
        taken=row.count("backup-time"),
        owner=row.word("owner", ""),
        verification=verification.word("state", ""),
        verified=int(start["start"], 16) if start else None,
        size=row.count("size", 0),
        protected=row.truth("protected", False),
        key=row.word("fingerprint", ""),
        files=tuple(file.word("filename") for file in row.rows("files")),
    )
