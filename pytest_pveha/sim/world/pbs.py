"""A Proxmox Backup Server: a machine of its own with a datastore, and what it keeps of the cluster's guests.

Names of fields and of files in a snapshot: the public API viewer of Proxmox Backup Server 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_pveha.sim.spec import GIB
from pytest_pveha.sim.world.configs import config_of

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

OWNER = "pve@pbs!cluster"
"""The token that the cluster's storage uses there, and so the owner of what it backed up."""
STRANGER = "root@pam"
KEY = "e9:04:5c:17:a8:3b:d2:60"
"""The fingerprint's first bytes, as the tools show it, of the key that encrypts."""
DAY = 86400
KEPT = 3
"""Backups that are kept of each guest."""
TOTAL = 4000 * GIB
_OLD = 60 * 3600.0


@dataclass(slots=True)
class Snapshot:
    """One backup of one guest."""

    kind: str
    vmid: int
    time: int
    """Epoch seconds of the server's clock."""
    config: dict[str, str]
    """The guest's configuration then."""
    size: int
    owner: str = OWNER
    verification: str | None = "ok"
    """``ok``, ``failed``; None = never verified."""
    protected: bool = False
    fingerprint: str = ""
    """Of the key that it is encrypted with."""
    corrupt: bool = False
    """Whether a chunk of it is rotten."""
    content: str = ""
    """The sid whose data it holds."""
    files: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """``vm/101/2026-01-02T02:00:00Z``."""
        return f"{self.kind}/{self.vmid}/{datetime.fromtimestamp(self.time, UTC):%Y-%m-%dT%H:%M:%SZ}"


class Pbs:
    """The backup server of one world, if it has one."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.spec = world.spec.backup
        self.up = True
        self.address = "10.99.7.7"
        self.clock_offset = world.rng("clock pbs").uniform(-0.05, 0.05)
        self.snapshots: list[Snapshot] = []

    @property
    def there(self) -> bool:
        """Whether the site has one at all."""
        return self.spec is not None

    @property
    def guest(self) -> int:
        """The guest of this very cluster that the server is; 0 if it is a machine of its own."""
        if self.spec is None or self.spec.guest or not self._world.planted("pbs-on-same-ceph"):
            return self.spec.guest if self.spec is not None else 0
        return next((guest.vmid for guest in self._world.guests.values() if not guest.spec.ha), 0)

    @property
    def answering(self) -> bool:
        """Whether it can be reached: as a guest of this cluster, only while that runs."""
        if self.spec is None or not self.up:
            return False
        guest = self._world.guests.get(self.guest)
        return guest is None or guest.answering

    @property
    def key_there(self) -> bool:
        """Whether the cluster has the key that its backups are encrypted with."""
        return self.spec is not None and self.spec.encrypted and not self._world.planted("restore-key-missing")

    @property
    def encrypted(self) -> bool:
        """Whether backups are encrypted before they leave the cluster."""
        return self.spec is not None and (self.spec.encrypted or self._world.planted("restore-key-missing"))

    def begin(self) -> None:
        """It has the backups of the last days."""
        if self.spec is None:
            return
        world, planted = self._world, self._world.planted
        newest = world.spec.epoch_utc - round(_OLD if planted("backup-too-old") else self.spec.age_hours * 3600)
        sids = [guest.sid for guest in world.guests.values()]
        for place, guest in enumerate(world.guests.values()):
            if guest.vmid == self.guest:
                continue
            config = config_of(world, guest) | (dict(self.spec.extra_config) if guest.kind == "vm" else {})
            for number in range(KEPT):
                latest = number == 0
                failed = latest and planted("backup-verification-failed")
                self.snapshots.append(
                    Snapshot(
                        guest.kind,
                        guest.vmid,
                        newest - number * DAY + place * 60,
                        config,
                        guest.spec.disk_bytes,
                        owner=STRANGER if latest and planted("backup-owner-wrong") else OWNER,
                        verification=None if latest and planted("backup-unverified") else "failed" if failed else "ok",
                        fingerprint=KEY if self.encrypted else "",
                        corrupt=failed or (latest and planted("backup-corrupt")),
                        content=sids[place - 1] if planted("restored-content-differs") else guest.sid,
                        files=_files(guest.kind),
                    )
                )

    def find(self, name: str) -> Snapshot | None:
        """The snapshot of that name."""
        return next((one for one in self.snapshots if one.name == name), None)

    def go(self) -> None:
        """It is gone, without a word."""
        self.up = False
        self._world.truth("pbs_gone", {})

    @property
    def used(self) -> int:
        """Bytes in the datastore: what is equal is kept once."""
        return sum({(one.kind, one.vmid): one.size for one in self.snapshots}.values())


def _files(kind: str) -> tuple[str, ...]:
    disks = ("drive-scsi0.img.fidx", "qemu-server.conf.blob") if kind == "vm" else ("root.pxar.didx", "pct.conf.blob")
    return (*disks, "client.log.blob", "index.json.blob")
