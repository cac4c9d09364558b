"""How the simulator plays the backup server of a site whose inventory has a block `backup`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from pytest_pveha.inventory.base import Block
from pytest_pveha.inventory.values import GuestId, Label, PositiveDuration, Size, StorageId, Word

if TYPE_CHECKING:
    from pytest_pveha.inventory.model import Inventory


class SimulatedBackup(Block):
    """The simulated Proxmox Backup Server, and the backups it keeps."""

    datastore: StorageId = "main"
    """Its one datastore."""
    namespace: Label | None = None
    """The namespace that the cluster's backups lie in; none = the root."""
    encrypted: bool = False
    """true = the backups are encrypted, and the cluster has the key."""
    age: PositiveDuration = 6 * 3600.0
    """How old each guest's newest backup is when the site starts; there are two older ones."""
    speed: Size = 200 * 2**20
    """What a restore reads in a second."""
    space: Size = 500 * 2**30
    """How large each storage for disks is."""
    guest: GuestId | None = None
    """Guest of this very cluster that the server is; none = a machine of its own."""
    token_lacks: tuple[Word, ...] = ()
    """Privileges the token on the backup server has not, such as Datastore.Audit."""
    config: dict[Word, Label] = Field(default_factory=dict)
    """What the backed-up VMs have configured besides, such as hostpci0."""


def backup_spec(inventory: Inventory, play: SimulatedBackup) -> dict[str, Any] | None:
    """The backup server as the simulator is told it; None where none is in scope."""
    if inventory.backup is None:
        return None
    return {
        "storage": inventory.backup.storage,
        "datastore": play.datastore,
        "namespace": play.namespace or "",
        "encrypted": play.encrypted,
        "age_hours": play.age / 3600,
        "speed_mib": play.speed / 2**20,
        "space_bytes": play.space,
        "token_lacks": list(play.token_lacks),
        "guest": int(play.guest.partition(":")[2]) if play.guest else 0,
        "extra_config": dict(play.config),
    }
