"""Guests' configurations: what one says until somebody writes it, and what may be written.

Key by key as qemu-server and pve-container of PVE 9.1 have them (official REST schema).
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pytest_pveha.sim.world.model import Guest, Refused

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

CREATE = "create"
"""The lock of a guest that is being made."""
STUB = {"memory": "128", "lock": CREATE}
"""What stands under a number while a backup is restored to it: nothing of the guest yet."""
NETWORK = re.compile(r"net\d+")
DISK = re.compile(r"(?:scsi|virtio|sata|ide|efidisk|tpmstate|mp|unused)\d+|rootfs")


def config_of(world: World, guest: Guest) -> dict[str, str]:
    """The guest's configuration as it lies in the cluster file system, without its digest."""
    found = dict(guest.config) if guest.config is not None else _from_spec(world, guest)
    lock = world.mishaps.locks.get(guest.vmid)
    return found | ({"lock": lock} if lock else {})


def digest_of(config: Mapping[str, str]) -> str:
    """What tells one state of a configuration from another."""
    text = "\n".join(f"{key}: {value}" for key, value in sorted(config.items()))
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def rewrite(world: World, guest: Guest, changes: Mapping[str, str], delete: Iterable[str], digest: str = "") -> None:
    """The configuration has these keys, and none of those. Refused carries PVE's words."""
    config = config_of(world, guest)
    if digest and digest != digest_of(config):
        raise Refused("detected modified configuration - file changed by other user? Try again.")
    if lock := config.get("lock"):
        raise Refused(f"{'VM' if guest.kind == 'vm' else 'CT'} is locked ({lock})")
    guest.config = {key: value for key, value in config.items() if key not in set(delete)} | dict(changes)
    world.truth("config_written", {"vmid": guest.vmid})


def new_mac(world: World) -> str:
    """A network address that nobody has: of the range that PVE takes them from."""
    return "BC:24:11:" + ":".join(f"{byte:02X}" for byte in world.rng("macs").randbytes(3))


def new_uuid(world: World) -> str:
    """A UUID that nobody has."""
    return str(uuid.UUID(bytes=world.rng("uuids").randbytes(16)))


def with_new_mac(world: World, card: str) -> str:
    """The network card's line with another address."""
    return re.sub(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", new_mac(world), card)


def _from_spec(world: World, guest: Guest) -> dict[str, str]:
    vmid, storage = guest.vmid, world.storages.of(guest).name
    size = f"size={guest.spec.disk_bytes >> 30}G"
    mac = f"BC:24:11:00:{vmid >> 8 & 255:02X}:{vmid & 255:02X}"
    memory = str(guest.spec.memory_bytes >> 20)
    if guest.kind == "ct":
        return {
            "arch": "amd64",
            "hostname": guest.name,
            "memory": memory,
            "net0": f"name=eth0,bridge=vmbr0,hwaddr={mac},ip=dhcp,type=veth",
            "ostype": "debian",
            "rootfs": f"{storage}:subvol-{vmid}-disk-0,{size}",
            "swap": "0",
            "unprivileged": "1",
        }
    own_mac = world.mishaps.own_mac
    if own_mac is not None and guest is next(iter(world.guests.values())):
        mac = own_mac.upper()
    disk = f"{storage}:vm-{vmid}-disk-0,{size}"
    parts = {"net0": f"virtio={mac},bridge=vmbr0", "onboot": str(int(guest.spec.onboot)), "scsi0": disk}
    return {
        **({"agent": "1"} if guest.spec.agent else {}),
        "boot": "order=scsi0" if guest.spec.disk_bytes else " ",
        "memory": memory,
        "meta": f"creation-qemu=10.1.2,ctime={world.spec.epoch_utc}",
        "name": guest.name,
        "ostype": "l26",
        **(parts if guest.spec.disk_bytes else {}),
        "serial0": "socket",
        "smbios1": f"uuid={_uuid('smbios', vmid)}",
        "vga": "none",
        "vmgenid": _uuid("vmgenid", vmid),
    }


def _uuid(*parts: object) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(map(str, parts))))
