"""A guest's newest backup, restored beside it under another number: nothing of the guest itself is touched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pytest_pveha.errors import PreflightRefused, ProtocolError, SiteError
from pytest_pveha.faults.fault import Danger, DeadMan, Reach, Restoring, Undo
from pytest_pveha.handles import copies
from pytest_pveha.handles.backups import Backup
from pytest_pveha.observe.answer import Answer, no, yes
from pytest_pveha.observe.observer import READ, Observer

EARLIER = 5
"""Seconds before it was planned from which on tasks may be its own: clocks differ."""

STEP = 2.0
"""Seconds after which the next step of an undo is taken."""
STEPS = 25

STUB = frozenset({"memory", "lock", "digest"})
"""All that stands under a number while a restore to it runs, or after one that failed (qemu-server; seen)."""


@dataclass(frozen=True, slots=True)
class GuestRestored:
    """A guest's newest backup is restored to a free number of the inventory's range, links down, under our tag.

    Blast radius: the copy, and the storage's space and bandwidth. Undo: the copy is stopped and destroyed, if it
    carries our tag, or is what a restore of ours left, and that restore's task is there.
    """

    kind: ClassVar[str] = "guest-restored"
    family: ClassVar[str] = "restore"
    danger: ClassVar[Danger] = Danger.STORAGE
    undo: ClassVar[str] = (
        "on its node: qm unlock NUMBER; qm stop NUMBER; qm destroy NUMBER --purge 1 --destroy-unreferenced-disks 1 "
        "(a container: pct)"
    )

    sid: str
    copy: str
    node: str
    storage: str
    volume: str
    size: int
    memory: int
    tag: str
    user: str
    since: int
    """Epoch seconds: what began earlier is not ours."""
    settings: tuple[tuple[str, str], ...]
    """What the copy's configuration has in the place of the backup's: links down, no start at boot, our tag."""
    live: bool = False

    @property
    def reach(self) -> Reach:
        number, original = (sid.partition(":")[2] for sid in (self.copy, self.sid))
        needed = {
            (f"/vms/{number}", "VM.Allocate"),
            (f"/vms/{number}", "VM.Config.Network"),
            (f"/vms/{number}", "VM.Config.Options"),
            (f"/vms/{number}", "VM.PowerMgmt"),
            (f"/vms/{original}", "VM.Backup"),
            (f"/storage/{self.storage}", "Datastore.AllocateSpace"),
        }
        restoring = Restoring(self.sid, self.copy, self.node, self.storage, self.volume, self.size, self.memory)
        return Reach(frozenset(), costs_membership=False, privileges=frozenset(needed), restoring=restoring)

    def preflight(self, observer: Observer) -> None:
        clock = observer.site.clock
        try:
            there = observer.site.copies.settings(self.copy, self.node, clock.deadline(READ))
        except SiteError as error:
            raise PreflightRefused(
                f"whether {self.copy} is free cannot be told, so nothing was made: {error}"
            ) from error
        if there is not None or not observer.site.copies.free(_number(self.copy), clock.deadline(READ)):
            raise PreflightRefused(f"{self.copy} is there by now; look again")

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """The copy's own node alone can take it away; it does, as soon as it lives."""
        script = copies.dead_man(self.copy, self.node, self.tag, self.user, self.since)
        return DeadMan.on_every(Undo(self.node, script, outlives_reboot=True))

    def inject(self, observer: Observer) -> None:
        backup = Backup(self.volume, self.sid, 0, self.size, "", "", False)
        deadline = observer.site.clock.deadline(READ)
        upid = observer.site.copies.restore(
            self.copy, self.node, backup, self.storage, dict(self.settings), deadline, live=self.live
        )
        observer.write("note", {"text": f"{self.copy} is restored by {upid}"})

    def took_effect(self, observer: Observer) -> Answer:
        """The number has a configuration, in the cluster file system as the node has it."""
        node = observer.site.nodes[self.node]
        try:
            node.disk.read(copies.config_file(self.copy, self.node), observer.site.clock.deadline(READ))
        except ProtocolError as error:
            return no(f"{self.copy} is not there on {self.node}: {error}")
        return yes(f"{self.copy} is there on {self.node}")

    def heal(self, observer: Observer) -> None:
        """One step after the other: its restore ends, it stops, it is unlocked, it is destroyed."""
        for _ in range(STEPS):
            if not self._step(observer):
                return
            observer.site.clock.sleep(STEP)

    def healed(self, observer: Observer) -> Answer:
        """Neither number nor disk nor a restore of ours is there; a stranger under that number is left alone."""
        site, deadline = observer.site, observer.site.clock.deadline
        there = site.copies.settings(self.copy, self.node, deadline(READ))
        tasks = site.copies.restores(self.copy, self.node, self.since, deadline(READ))
        if any(task.running for task in tasks):
            return no(f"a restore to {self.copy} still runs on {self.node}")
        if there is not None:
            if self.owns(there, restored=bool(tasks)):
                return no(f"{self.copy} is still there on {self.node}")
            return yes(f"what is {self.copy} on {self.node} is not ours")
        left = site.backups.disks(self.storage, self.copy, self.node, deadline(READ)) if site.backups else {}
        if left and tasks:
            return no(f"{', '.join(sorted(left))} is still there; on {self.node}: pvesm free VOLUME")
        return yes(f"{self.copy} and its disks are gone")

    def owns(self, settings: Mapping[str, str], *, restored: bool) -> bool:
        """Whether what stands there is ours: made by a restore of ours, and under our tag, or a restore's mere stub."""
        tags = re.split(r"[;, ]", settings.get("tags", ""))
        return restored and (self.tag in tags or settings.keys() <= STUB)

    def _step(self, observer: Observer) -> bool:
        """The next thing to do was done; False: there is none."""
        site, deadline = observer.site, observer.site.clock.deadline
        settings = site.copies.settings(self.copy, self.node, deadline(READ))
        tasks = site.copies.restores(self.copy, self.node, self.since, deadline(READ))
        if settings is None or not self.owns(settings, restored=bool(tasks)):
            return False
        running = next((task for task in tasks if task.running), None)
        if running is not None:
            site.copies.stop_task(running.upid, self.node, deadline(READ))
        elif self.copy in observer.site.nodes[self.node].processes(deadline(READ)).ages:
            if "lock" in settings:
                site.copies.unlock(self.copy, site.nodes[self.node], deadline(READ))
            site.copies.stop(self.copy, self.node, deadline(READ))
        elif "lock" in settings:
            site.copies.unlock(self.copy, site.nodes[self.node], deadline(READ))
        else:
            site.copies.destroy(self.copy, self.node, deadline(READ))
        return True


def _number(sid: str) -> int:
    return int(sid.partition(":")[2])
