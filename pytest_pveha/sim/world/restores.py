"""Restores from the backup server: a guest made anew under a free number, from its first stub to its first start.

Behaviour: pve-docs (qm, pct, vzdump), the official REST schema; wording of the tasks' logs as published by users of
PVE 7.4 and 9.1. While a restore runs the number's configuration says that it is being made, and nothing of the guest.
What a failed restore got done stays; the lock stays where nobody could take it away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.spec import GuestSpec
from pytest_pveha.sim.world.configs import CREATE, DISK, NETWORK, STUB, config_of, new_mac, new_uuid, with_new_mac
from pytest_pveha.sim.world.guests import By
from pytest_pveha.sim.world.model import Guest, Node, Refused, Task
from pytest_pveha.sim.world.pbs import OWNER, Snapshot

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

MIB = 1 << 20
STEPS = 20
"""So often a restore says how far it is."""
_SLOW = 40.0
_GONE_AT = 8
_ROTTEN_AT = 12
_DESTROY = 2.0
OPTIONS = frozenset(
    {
        "vmid",
        "archive",
        "ostemplate",
        "restore",
        "storage",
        "unique",
        "start",
        "live-restore",
        "force",
        "pool",
        "bwlimit",
    }
)
"""What a request says of the restore itself; all else is configuration, and wins over the backup's."""


@dataclass(slots=True)
class Restore:
    """One restore under way."""

    guest: Guest
    node: Node
    snapshot: Snapshot
    storage: str
    task: Task
    options: Mapping[str, str]
    by: By
    step: int = 0
    began: int = 0
    stopped: bool = False
    volumes: list[str] = field(default_factory=list)


class Restores:
    """Everything that makes guests from backups in one world, and takes guests away."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._running: dict[str, Restore] = {}
        self.volumes: dict[str, tuple[str, int, int]] = {}
        """Disks that restores made: volume id → (storage, whose number, bytes)."""

    # --- restoring ---------------------------------------------------------------------------------------------------

    def begin(self, node: Node, kind: str, vmid: int, archive: str, options: Mapping[str, str], user: str) -> str:
        """A restore to that number runs; the task's UPID. Refused carries PVE's words."""
        world, what = self._world, "VM" if kind == "vm" else "CT"
        if not world.quorate(node):
            raise Refused("cluster not ready - no quorum?")
        if vmid in world.guests:
            raise Refused(f"unable to restore {what} {vmid} - {what} {vmid} already exists on node "
                          f"'{world.guests[vmid].config_node}'")  # fmt: skip
        snapshot = self.snapshot(archive)
        spec = GuestSpec(vmid, f"{what}{vmid}", node.name, kind, ha=False, onboot=False, memory_bytes=128 * MIB)
        storage = options.get("storage") or "local-lvm"
        if storage not in {one.name for one in world.storages}:
            raise Refused(f"storage '{storage}' does not exist")
        guest = Guest(vmid, spec.name, kind, replace(spec, storage=storage), node.name, wanted=False)
        guest.config, guest.disk_node = dict(STUB), node.name
        world.mishaps.locks[vmid] = CREATE
        world.guests[vmid] = guest
        world.truth("restore_begins", {"vmid": vmid, "node": node.name, "archive": archive})
        task = world.open_task(node, "qmrestore" if kind == "vm" else "vzrestore", str(vmid), user)
        by = ("pvedaemon", node.units["pvedaemon"].pid)
        restore = Restore(guest, node, snapshot, storage, task, options, by, began=world.timeline.now)
        self._running[task.upid] = restore
        world.log(node, by[0], f"<{user}> starting task {task.upid}", by[1])
        world.on(node, 1.0, partial(self._open, restore), f"{guest.sid} is restored")
        return task.upid

    def snapshot(self, archive: str) -> Snapshot:
        """The snapshot that a volume id means. Refused where there is none, or nobody can be asked."""
        pbs = self._world.pbs
        storage, _, rest = archive.partition(":")
        if pbs.spec is None or storage != pbs.spec.storage:
            raise Refused(f"storage '{storage}' does not exist")
        if not pbs.answering:
            raise Refused(f"{storage}: error fetching datastores - 500 Can't connect to the server:8007")
        found = pbs.find(rest.removeprefix("backup/"))
        if found is None:
            raise Refused(f"volume '{archive}' does not exist")
        return found

    def _open(self, restore: Restore) -> None:
        """The disk is there, the backup is opened."""
        if restore.stopped:
            return
        snapshot, guest, pbs = restore.snapshot, restore.guest, self._world.pbs
        assert pbs.spec is not None
        log = restore.task.log
        disk = _disk(guest)
        volume = f"{restore.storage}:{disk}"
        self.volumes[volume] = (restore.storage, guest.vmid, snapshot.size)
        if guest.kind == "ct":
            log += [
                f"recovering backed-up configuration from '{_archive(restore)}'",
                f"restoring '{_archive(restore)}' now..",
            ]
        else:
            log += [
                f"new volume ID is '{volume}'",
                f"restore proxmox backup image: /usr/bin/pbs-restore --repository {OWNER}@pbs:{pbs.spec.datastore} "
                f"{snapshot.name} drive-scsi0.img.fidx /dev/{disk} --verbose --format raw --skip-zero",
                f"connecting to repository '{OWNER}@pbs:{pbs.spec.datastore}'",
            ]
        if snapshot.fingerprint and not pbs.key_there:
            self._fail(restore, f"missing key - manifest was created with key {snapshot.fingerprint}")
        elif snapshot.owner != OWNER:
            self._fail(restore, f"backup owner check failed ({OWNER} != {snapshot.owner})")
        else:
            log.append(f"starting to restore snapshot '{snapshot.name}'")
            log.append("download and verify backup index")
            if restore.options.get("live-restore") == "1":
                self._write(restore)
                log.append("starting VM for live-restore")
                self._world.guest_acts.start(guest, restore.node, restore.task.user, _nobody, restore.by)
            self._next(restore)

    def _next(self, restore: Restore) -> None:
        spec = self._world.pbs.spec
        assert spec is not None
        speed = spec.speed_mib * MIB / (_SLOW if self._world.planted("restore-slow") else 1.0)
        seconds = restore.snapshot.size / speed / STEPS
        self._world.on(restore.node, seconds, partial(self._step, restore), f"{restore.guest.sid} is restored")

    def _step(self, restore: Restore) -> None:
        if restore.stopped:
            return
        world, size = self._world, restore.snapshot.size
        restore.step += 1
        if restore.step == _GONE_AT and world.planted("pbs-gone-in-mid-restore"):
            world.pbs.go()
        if not world.pbs.answering:
            self._fail(restore, "restore failed: connection reset by peer")
            return
        if restore.step == _ROTTEN_AT and restore.snapshot.corrupt:
            self._fail(restore, "restore failed: Data blob has wrong CRC checksum.")
            return
        seconds = (world.timeline.now - restore.began) / SECOND
        percent, done = 100 * restore.step // STEPS, size * restore.step // STEPS
        if restore.guest.kind == "vm":
            restore.task.log.append(
                f"progress {percent}% (read {done} bytes, zeroes = 20% ({done // 5} bytes), duration {seconds:.0f} sec)"
            )
        if restore.step < STEPS:
            self._next(restore)
            return
        if restore.guest.kind == "vm":
            speed = size / max(seconds, 0.01) / 1e6
            restore.task.log.append(
                f"restore image complete (bytes={size}, duration={seconds:.2f}s, speed={speed:.2f}MB/s)"
            )
        self._finish(restore)

    def _finish(self, restore: Restore) -> None:
        guest = restore.guest
        live = restore.options.get("live-restore") == "1"
        if not live:
            self._write(restore)
        restore.task.log.append(
            "rescan volumes..." if guest.kind == "vm" else "merging backed-up and given configuration.."
        )
        if not self._world.planted("restore-leaves-lock"):
            self._world.mishaps.locks.pop(guest.vmid, None)
        self._end(restore, "OK")
        if restore.options.get("start") == "1" and not live:
            self._world.guest_acts.start(guest, restore.node, restore.task.user, _nobody, restore.by)

    def _write(self, restore: Restore) -> None:
        """The configuration is the backup's, with what the request says, on the disk that was made."""
        world, guest, snapshot = self._world, restore.guest, restore.snapshot
        unique = restore.options.get("unique") == "1"
        config = dict(snapshot.config)
        config.pop("lock", None)
        disk = _disk(guest)
        for key, value in config.items():
            if DISK.fullmatch(key) and f"-{snapshot.vmid}-disk-0" in value:
                config[key] = f"{restore.storage}:{disk},{value.partition(',')[2]}"
            elif unique and NETWORK.fullmatch(key):
                config[key] = with_new_mac(world, value)
        if "vmgenid" in config:
            config["vmgenid"] = new_uuid(world)
        if unique and "smbios1" in config:
            config["smbios1"] = f"uuid={new_uuid(world)}"
        for key, value in restore.options.items():
            if key not in OPTIONS:
                bare = re.match("[a-z0-9]+(?=,)", value) if NETWORK.fullmatch(key) else None
                config[key] = f"{bare[0]}={new_mac(world)}{value[bare.end() :]}" if bare else value
        origin = world.guests.get(snapshot.vmid)
        guest.config, guest.content = config, snapshot.content
        guest.name = config.get("name") or config.get("hostname") or guest.name
        guest.spec = replace(
            guest.spec,
            name=guest.name,
            memory_bytes=int(config.get("memory", "512")) * MIB,
            boot_seconds=origin.spec.boot_seconds if origin else guest.spec.boot_seconds,
            agent=config.get("agent", "0").startswith("1"),
            disk_bytes=snapshot.size,
            onboot=config.get("onboot") == "1",
        )

    def _fail(self, restore: Restore, why: str) -> None:
        """What was done stays, without the lock."""
        task, guest = restore.task, restore.guest
        task.log.append(why)
        if guest.kind == "vm":
            task.log.append(
                "error before or during data restore, some or all disks were not completely restored. "
                f"VM {guest.vmid} state is NOT cleaned up."
            )
            why = f"command '/usr/bin/pbs-restore … {restore.snapshot.name}' failed: exit code 255"
        if restore.options.get("live-restore") == "1":
            self._world.guest_acts.gone(guest, restore.node.name, "its backup is gone")
        self._world.mishaps.locks.pop(guest.vmid, None)
        if guest.config is not None:
            guest.config.pop("lock", None)
        self._end(restore, f"unable to restore {_what(guest)} {guest.vmid} - {why}")

    def kill(self, task: Task) -> None:
        """The task's worker was stopped where it stood; its lock stays."""
        restore = self._running.get(task.upid)
        if restore is not None and task.endtime is None:
            self._end(restore, "interrupted by signal")

    def _end(self, restore: Restore, status: str) -> None:
        restore.stopped = True
        self._running.pop(restore.task.upid, None)
        self._world.close_task(restore.task, status)
        node, by = restore.node, restore.by
        self._world.log(node, by[0], f"<{restore.task.user}> end task {restore.task.upid} {status}", by[1])
        self._world.truth("restore_ends", {"vmid": restore.guest.vmid, "status": status})

    def running(self, vmid: int) -> bool:
        """Whether a restore to that number is under way, so that nobody else gets at it."""
        return any(
            one.guest.vmid == vmid and one.node.running for one in self._running.values() if one.task.endtime is None
        )

    def start_refused(self, guest: Guest) -> str | None:
        """Why a guest that is being restored cannot start; None where none is, or it starts as it is restored."""
        restore = next((one for one in self._running.values() if one.guest is guest), None)
        if restore is not None and restore.options.get("live-restore") != "1":
            return f"can't lock file '/var/lock/qemu-server/lock-{guest.vmid}.conf' - got timeout"
        if restore is None and self._world.mishaps.locks.get(guest.vmid) == CREATE:
            return f"{_what(guest)} is locked ({CREATE})"
        return None

    # --- taking away -------------------------------------------------------------------------------------------------

    def destroy(
        self, guest: Guest, user: str, *, purge: bool = False, unreferenced: bool = False, skip_lock: bool = False
    ) -> str:
        """The guest goes, its disks too; the task's UPID. Refused carries PVE's words."""
        world, node, what = self._world, self._world.nodes[guest.config_node], _what(guest)
        if not world.quorate(node):
            raise Refused("cluster not ready - no quorum?")
        config = config_of(world, guest)
        if self.running(guest.vmid):
            raise Refused(f"can't lock file '/var/lock/qemu-server/lock-{guest.vmid}.conf' - got timeout")
        if (lock := config.get("lock")) and not skip_lock:
            raise Refused(f"{what} is locked ({lock})")
        if config.get("protection") == "1":
            raise Refused(f"can't remove {what} {guest.vmid} - protection mode enabled")
        if guest.processes:
            raise Refused(f"{what} {guest.vmid} is running - destroy failed")
        if guest.sid in world.pmxcfs.store.resources and not purge:
            raise Refused(f"unable to remove {what} {guest.vmid} - used in HA resources and purge parameter not set.")
        task = world.open_task(node, "qmdestroy" if guest.kind == "vm" else "vzdestroy", str(guest.vmid), user)
        world.on(node, _DESTROY, partial(self._destroyed, guest, task, unreferenced), f"{guest.sid} is destroyed")
        return task.upid

    def _destroyed(self, guest: Guest, task: Task, unreferenced: bool) -> None:
        world = self._world
        config = config_of(world, guest)
        for volume, (_, vmid, _) in list(self.volumes.items()):
            if vmid == guest.vmid and (unreferenced or any(volume in value for value in config.values())):
                del self.volumes[volume]
                task.log.append(f"removing volume {volume}")
        world.guests.pop(guest.vmid, None)
        world.mishaps.locks.pop(guest.vmid, None)
        world.pmxcfs.store.reports.pop(guest.vmid, None)
        world.pmxcfs.store.resources.pop(guest.sid, None)
        world.close_task(task, "OK")
        world.truth("guest_destroyed", {"vmid": guest.vmid, "node": task.node})

    def unlock(self, guest: Guest) -> None:
        """Nothing holds the guest any more (``qm unlock``, as root). Refused while it is being restored."""
        if self.running(guest.vmid):
            raise Refused(f"can't lock file '/var/lock/qemu-server/lock-{guest.vmid}.conf' - got timeout")
        self._world.mishaps.locks.pop(guest.vmid, None)
        if guest.config is not None:
            guest.config.pop("lock", None)

    @property
    def made(self) -> frozenset[int]:
        """The numbers of guests that restores made, or are making."""
        return frozenset(self._world.guests) - {guest.vmid for guest in self._world.spec.guests}


def _archive(restore: Restore) -> str:
    return restore.options.get("archive") or restore.options.get("ostemplate") or restore.snapshot.name


def _disk(guest: Guest) -> str:
    return f"{'vm' if guest.kind == 'vm' else 'subvol'}-{guest.vmid}-disk-0"


def _what(guest: Guest) -> str:
    return "VM" if guest.kind == "vm" else "CT"


def _nobody(_good: bool) -> None:
    """Nobody waits for the guest's start."""
