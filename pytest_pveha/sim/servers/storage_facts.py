"""What a node says about its storages, read from the world once for the API and the shell alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.world.configs import config_of
from pytest_pveha.sim.world.model import Guest
from pytest_pveha.sim.world.storages import Storage
from pytest_pveha.sim.world.world import World

EXPORT = "/export/{name}"
_TOTAL = 1 << 40
_USED = 1 << 38


@dataclass(frozen=True, slots=True)
class Type:
    """How PVE calls a kind of storage, and what it may hold."""

    type: str
    content: str


TYPES = {
    "rbd": Type("rbd", "images,rootdir"),
    "cephfs": Type("cephfs", "vztmpl,iso,backup"),
    "nfs": Type("nfs", "images,rootdir"),
    "iscsi": Type("iscsi", "images"),
    "zfs": Type("zfspool", "images,rootdir"),
    "lvm": Type("lvmthin", "images,rootdir"),
    "dir": Type("dir", "images,vztmpl,snippets,backup,rootdir,iso"),
}
ISO = "debian-13.1.0-amd64-netinst.iso"


def configured(facts: Facts, guest: Guest) -> dict[str, str]:
    """The guest's configuration, its drives as they are."""
    config = config_of(facts.world, guest)
    return config | drives(facts, guest) if guest.config is None and guest.spec.disk_bytes else config


def entry(facts: Facts, storage: Storage) -> dict[str, Any]:
    """The storage as that node finds it. An iSCSI storage has no figures (ISCSIPlugin.pm, status)."""
    given = not storage.nodes or facts.node.name in storage.nodes
    active = given and facts.world.storages.active(facts.node, storage)
    figures = active and storage.kind != "iscsi"
    total, used = _TOTAL, _USED
    if (backup := facts.world.spec.backup) is not None:
        total, used = backup.space_bytes, sum(row["size"] for row in volumes(facts, storage))
    return {
        "active": int(active),
        "avail": total - used if figures else 0,
        "content": TYPES[storage.kind].content,
        "enabled": int(given),  # listed all the same (seen on PVE 9.2)
        "shared": int(called_shared(facts.world, storage)),
        "total": total if figures else 0,
        "type": TYPES[storage.kind].type,
        "used": used if figures else 0,
    }


def called_shared(world: World, storage: Storage) -> bool:
    """Whether the configuration says that all nodes have the same there."""
    return storage.shared or (storage.kind == "dir" and world.planted("shared-in-name-only"))


def mount_options(storage: Storage) -> str:
    """What the storage's configuration gives to mount(8)."""
    said = [word for word in ("soft",) if storage.spec.soft]
    if (storage.spec.timeo, storage.spec.retrans) != (600, 2):
        said += [f"timeo={storage.spec.timeo}", f"retrans={storage.spec.retrans}"]
    return ",".join(["vers=4.2", *said])


def volume(storage: Storage, guest: Guest, number: int = 0) -> str:
    """The id of a guest's disk."""
    disk = f"{'subvol' if storage.kind == 'zfs' and guest.kind == 'ct' else 'vm'}-{guest.vmid}-disk-{number}"
    if storage.kind == "nfs":
        return f"{storage.name}:{guest.vmid}/{disk}.{'qcow2' if guest.kind == 'vm' else 'raw'}"
    return f"{storage.name}:0.0.{guest.vmid % 100}.lun-{disk}" if storage.kind == "iscsi" else f"{storage.name}:{disk}"


def drives(facts: Facts, guest: Guest) -> dict[str, str]:
    """The drives and devices of a guest's configuration, those of planted defects among them."""
    world = facts.world
    storage = world.storages.of(guest)
    size = f"size={guest.spec.disk_bytes >> 30}G"
    if guest.kind == "ct":
        return {"rootfs": f"{volume(storage, guest)},{size}"}
    found = {"scsi0": f"{volume(storage, guest)},{size}"}
    first = next((one for one in world.guests.values() if one.spec.ha), None)
    if guest is first and world.planted("guest-on-local-disk"):
        found["scsi1"] = f"local-lvm:vm-{guest.vmid}-disk-1,size=32G"
    if guest is first and world.planted("shared-in-name-only"):
        found["scsi1"] = f"{in_name_only(guest)},size=32G"
    if guest is first and world.planted("guest-with-local-iso"):
        found["ide2"] = f"local:iso/{ISO},media=cdrom,size=783M"
    if guest is first and world.planted("guest-with-passthrough"):
        found["hostpci0"] = "0000:3b:00.0,pcie=1"
    if world.replication.leaves_out_a_disk(guest):
        found["scsi1"] = f"{volume(storage, guest, 1)},replicate=0,size=4G"
    return found


def in_name_only(guest: Guest) -> str:
    """The disk of a guest on a directory of its node, which the configuration calls shared."""
    return f"local:{guest.vmid}/vm-{guest.vmid}-disk-1.qcow2"


def volumes(facts: Facts, storage: Storage) -> list[dict[str, Any]]:
    """The volumes that lie there, as that node lists them: of a local storage only what it has itself."""
    world, node = facts.world, facts.node
    found: list[dict[str, Any]] = []
    for guest in world.guests.values():
        here = storage.shared or guest.disk_node == node.name or (guest.vmid, node.name) in world.replication.copies
        if guest.vmid not in world.restores.made and world.storages.of(guest) is storage and here:
            plain = storage.kind != "nfs" or guest.kind == "ct"
            subvol = storage.kind == "zfs" and guest.kind == "ct"
            found.append(
                {
                    "content": "rootdir" if guest.kind == "ct" else "images",
                    "format": "subvol" if subvol else "raw" if plain else "qcow2",
                    "size": guest.spec.disk_bytes,
                    "vmid": guest.vmid,
                    "volid": volume(storage, guest),
                }
            )
    found += [
        {"content": "images", "format": "raw", "size": size, "vmid": vmid, "volid": name}
        for name, (on, vmid, size) in world.restores.volumes.items()
        if on == storage.name
    ]
    if storage.kind == "dir" and world.planted("shared-in-name-only"):
        first = next(one for one in world.guests.values() if one.spec.ha)
        if first.disk_node == node.name or first.config_node == node.name:
            found.append(
                {"content": "images", "format": "qcow2", "size": 32 << 30, "vmid": first.vmid,
                 "volid": in_name_only(first)}
            )  # fmt: skip
    if storage.kind == "dir" and world.planted("guest-with-local-iso") and node is next(iter(world.nodes.values())):
        found.append(
            {"content": "iso", "format": "iso", "size": 821035008, "ctime": world.spec.epoch_utc,
             "volid": f"{storage.name}:iso/{ISO}"}
        )  # fmt: skip
    return found
