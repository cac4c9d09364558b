"""Guests: their processes start, answer after a while, stop, move.

``qm start`` takes 0.2 to 0.35 s until the process runs; a VM of 32 MiB migrates live in 5.7 to 9 s (both measured on a
PVE 9.1.9 control plane), and its memory takes the time that the migration network needs for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world.model import Guest, GuestProcess, Node, Report, Task

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

Ended = Callable[[bool], None]
By = tuple[str, int]
"""In whose name the journal speaks: identifier and pid."""

_MIB = 1 << 20
_AGENT = 0.6
"""The agent answers after this part of the boot."""
_UNASKED = 200.0
_SLOW = 600.0
_RELAPSE = 60.0


@dataclass(frozen=True, slots=True)
class _Move:
    """A migration under way."""

    guest: Guest
    node: Node
    target: str
    task: Task
    ended: Ended
    by: By
    began: int


class GuestActs:
    """Everything that happens to guests in one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng("guests")

    def start(self, guest: Guest, node: Node, user: str, ended: Ended, by: By) -> Task:
        """The guest's process is started on that node; ``ended`` is told whether it was."""
        task = self._world.open_task(node, "qmstart" if guest.kind == "vm" else "vzstart", str(guest.vmid), user)
        self._say(node, by, f"<{user}> starting task {task.upid}")
        kind = guest.kind.upper()
        self._say(node, (by[0], task.pid), f"{'start VM' if kind == 'VM' else 'starting CT'} {guest.vmid}: {task.upid}")
        seconds = guest.spec.start_seconds + self._rng.uniform(0.2, 0.35)
        self._world.on(node, seconds, lambda: self._started(guest, node, task, ended, by), f"{guest.sid} starts")
        return task

    def _started(self, guest: Guest, node: Node, task: Task, ended: Ended, by: By) -> None:
        refusal = self._why_not(guest, node)
        if refusal is None:
            process = self._run(guest, node)
            if guest.kind == "vm":
                self._say(node, (by[0], task.pid), f"VM {guest.vmid} started with PID {process.pid}.")
        self._end(node, task, refusal or "OK", by)
        ended(refusal is None)

    def _why_not(self, guest: Guest, node: Node) -> str | None:
        if guest.config_node != node.name:
            return f"Configuration file 'nodes/{node.name}/qemu-server/{guest.vmid}.conf' does not exist"
        if not self._world.quorate(node):
            return "cluster not ready - no quorum?"
        if node.name in guest.processes:
            return f"{guest.kind.upper()} {guest.vmid} already running"
        if (held := self._world.restores.start_refused(guest)) is not None:
            return held
        if guest.start_failures:
            guest.start_failures -= 1
            return "start failed: QEMU exited with code 1"
        if trouble := self._world.storages.why_not(guest, node):
            return f"start failed: {trouble}"
        if guest.kind == "vm" and not self._has_memory(node, guest):
            return "start failed: QEMU exited with code 1: cannot set up guest memory 'pc.ram': Cannot allocate memory"
        if guest.recovered and node.name != guest.spec.node and self._world.planted("guest-does-not-restart"):
            return "start failed: storage 'local-lvm' has no volume of this guest on this node"
        return None

    def _has_memory(self, node: Node, guest: Guest) -> bool:
        """Whether the node has room for that guest beside those that run there."""
        used = sum(one.spec.memory_bytes for one in self._world.guests.values() if node.name in one.processes)
        return used + guest.spec.memory_bytes <= node.spec.memory_bytes

    def _run(self, guest: Guest, node: Node) -> GuestProcess:
        process = GuestProcess(self._world.new_pid(node), self._world.timeline.now, recovered=guest.recovered)
        slow = _SLOW if guest.recovered and self._world.planted("slow-recovery") else 0.0
        relapses = guest.recovered and self._world.planted("guest-relapses")
        guest.processes[node.name] = process
        self._world.storages.starts(guest, node)
        guest.wanted, guest.recovered = True, False
        self._world.truth("guest_process_start", {"vmid": guest.vmid, "node": node.name, "pid": process.pid})
        if guest.content and self._world.planted("restored-guest-does-not-boot"):
            return process
        boot = guest.spec.boot_seconds * self._rng.uniform(0.95, 1.05) + slow
        after = self._world.timeline.after
        after(boot * _AGENT, lambda: self._agent(guest, process), f"{guest.sid}: the agent answers")
        after(boot, lambda: self._answer(guest, process), f"{guest.sid}: the application answers")
        if relapses:
            after(boot + _RELAPSE, lambda: self._fall_silent(guest, process), f"{guest.sid}: the application hangs")
            after(boot + 6 * _RELAPSE, lambda: self._answer(guest, process), f"{guest.sid}: the application answers")
        return process

    def _agent(self, guest: Guest, process: GuestProcess) -> None:
        hangs = process.recovered and self._world.planted("agent-hangs-after-recovery")
        process.agent_up = guest.spec.agent and not hangs

    def _answer(self, guest: Guest, process: GuestProcess) -> None:
        process.answering = True
        for name, one in guest.processes.items():
            if one is process:
                self._world.truth("guest_answers", {"vmid": guest.vmid, "node": name})

    def _fall_silent(self, guest: Guest, process: GuestProcess) -> None:
        process.answering = False
        for name, one in guest.processes.items():
            if one is process:
                self._world.truth("guest_silent", {"vmid": guest.vmid, "node": name})

    def stop(self, guest: Guest, node: Node, user: str, ended: Ended, by: By) -> Task:
        """The guest's process on that node is killed; ``ended`` is told so."""
        return self._halt(guest, node, user, ended, by, "stop", self._rng.uniform(0.3, 1.0))

    def shut_down(self, guest: Guest, node: Node, user: str, ended: Ended, by: By, timeout: float) -> Task:
        """The guest was asked to power off, and killed when the timeout (seconds) was over; ``ended`` is told so."""
        obeys = guest.spec.acpi and guest.answering
        seconds = min(timeout, guest.spec.shutdown_seconds * self._rng.uniform(0.8, 1.2)) if obeys else timeout
        return self._halt(guest, node, user, ended, by, "shutdown", seconds)

    def _halt(self, guest: Guest, node: Node, user: str, ended: Ended, by: By, how: str, seconds: float) -> Task:
        kind = "qm" if guest.kind == "vm" else "vz"
        task = self._world.open_task(node, kind + how, str(guest.vmid), user)
        self._say(node, by, f"<{user}> starting task {task.upid}")

        def stopped() -> None:
            self.gone(guest, node.name, "stopped")
            self._end(node, task, "OK", by)
            ended(True)

        if node.name not in guest.processes:
            seconds = 0.2
        self._world.on(node, seconds, stopped, f"{guest.sid} stops")
        return task

    def migrate(self, guest: Guest, node: Node, target: str, user: str, ended: Ended, by: By) -> Task:
        """The guest moves, process and configuration; ``ended`` is told whether it did."""
        task = self._world.open_task(node, "qmigrate" if guest.kind == "vm" else "vzmigrate", str(guest.vmid), user)
        self._say(node, by, f"<{user}> starting task {task.upid}")
        text = f"starting migration of {guest.kind.upper()} {guest.vmid} to node '{target}'"
        task.log.append(f"{text} ({self._world.network.address(self._world.nodes[target])})")
        move = _Move(guest, node, target, task, ended, by, self._world.timeline.now)
        if refusal := self._why_not_there(guest, node, self._world.nodes[target]):
            task.log.append(refusal)
            self._world.on(node, 1.0, lambda: self._move_failed(move), f"{guest.sid} cannot move")
            return task
        if node.name not in guest.processes:
            seconds = self._rng.uniform(0.3, 0.7) + self._disk_seconds(guest, target)
            self._world.on(node, seconds, lambda: self._arrive(move), f"{guest.sid} moves")
            return task
        seconds = self._rng.uniform(5.5, 8.5) + self._disk_seconds(guest, target) + self._memory_seconds(guest)
        self._world.on(node, seconds, lambda: self._switch(move), f"{guest.sid} moves")
        return task

    def _memory_seconds(self, guest: Guest) -> float:
        return guest.spec.memory_bytes / (self._world.spec.migration_mib * _MIB)

    def _disk_seconds(self, guest: Guest, target: str) -> float:
        if self._world.storages.of(guest).shared or (guest.vmid, target) in self._world.replication.copies:
            return 0.0  # where a copy is, only what changed since goes there
        return guest.spec.disk_bytes / (self._world.spec.migration_mib * _MIB)

    def _why_not_there(self, guest: Guest, node: Node, there: Node) -> str | None:
        if node.name in guest.processes and guest.sid in self._world.mishaps.pinned:
            return "ERROR: migration aborted: can't migrate running VM which uses local devices: hostpci0"
        if self._world.planted("guest-migration-fails"):
            return "ERROR: storage 'local-iso' is not available on node '" + there.name + "'"
        if trouble := self._world.storages.why_not(guest, node):
            return f"ERROR: Problem found while scanning volumes - {trouble}"
        if guest.kind == "vm" and node.name in guest.processes and not self._has_memory(there, guest):
            return "ERROR: online migrate failure - remote command failed: Cannot allocate memory"
        return None

    def _possible(self, move: _Move) -> bool:
        world, node, there = self._world, move.node, self._world.nodes[move.target]
        joined = there.cfs_joined and world.view_members(node) == world.view_members(there)
        return joined and world.quorate(node) and not node.syncing and move.guest.config_node == node.name

    def _switch(self, move: _Move) -> None:
        """The memory is there: the VM stands still here and goes on over there."""
        process = move.guest.processes.get(move.node.name)
        if process is None or not self._possible(move):
            self._move_failed(move)
            return
        downtime = self._rng.uniform(0.03, 0.15)
        was_answering, process.answering = process.answering, False
        if was_answering:
            self._world.truth("guest_silent", {"vmid": move.guest.vmid, "node": move.node.name})
        move.task.log.append(self._speed(move, downtime))
        self._world.on(
            move.node, downtime, lambda: self._go_on(move, process, was_answering), f"{move.guest.sid} switches over"
        )

    def _speed(self, move: _Move, downtime: float) -> str:
        seconds = (self._world.timeline.now - move.began) / SECOND
        speed = move.guest.spec.memory_bytes / _MIB / seconds
        return f"average migration speed: {speed:.1f} MiB/s - downtime {downtime * 1000:.0f} ms"

    def _go_on(self, move: _Move, process: GuestProcess, was_answering: bool) -> None:
        if move.node.name not in move.guest.processes:
            self._move_failed(move)
            return
        process.answering = was_answering
        if self._possible(move):
            self._arrive(move)
            return
        if was_answering:
            self._world.truth("guest_answers", {"vmid": move.guest.vmid, "node": move.node.name})
        self._move_failed(move)

    def _arrive(self, move: _Move) -> None:
        if not self._possible(move):
            self._move_failed(move)
            return
        guest, node, there = move.guest, move.node, self._world.nodes[move.target]
        guest.config_node = guest.disk_node = there.name
        self._world.replication.moved(guest, node.name, there.name)
        process = guest.processes.pop(node.name, None)
        if process is not None:
            self._world.storages.left(guest)
            moved = GuestProcess(self._world.new_pid(there), self._world.timeline.now)
            guest.processes[there.name] = moved
            self._hand_over(guest, process, moved)
            self._world.truth("guest_migrated", {"vmid": guest.vmid, "from": node.name, "node": there.name})
            if moved.answering:
                self._world.truth("guest_answers", {"vmid": guest.vmid, "node": there.name})
        seconds = round((self._world.timeline.now - move.began) / SECOND)
        move.task.log.append(f"migration finished successfully (duration {timedelta(seconds=seconds)!s:0>8})")
        self._end(node, move.task, "OK", move.by)
        move.ended(True)

    def _move_failed(self, move: _Move) -> None:
        move.task.log.append("aborting phase 2 - cleanup resources")
        self._end(move.node, move.task, "migration aborted", move.by)
        move.ended(False)

    def _hand_over(self, guest: Guest, old: GuestProcess, new: GuestProcess) -> None:
        new.answering, new.agent_up = old.answering, old.agent_up
        new.recovered, new.booted_at = old.recovered, old.booted_at
        self._world.canaries.moved(guest, old, new)
        if not old.answering:
            # it goes on booting where it was; a full boot more is the simple upper bound
            boot = guest.spec.boot_seconds
            self._world.timeline.after(boot * _AGENT, lambda: self._agent(guest, new), "the agent answers")
            self._world.timeline.after(boot, lambda: self._answer(guest, new), "the application answers")

    def gone(self, guest: Guest, node: str, why: str) -> None:
        """The guest's process on that node is no more."""
        process = guest.processes.pop(node, None)
        if process is None:
            return
        self._world.canaries.ended(guest, process, clean=why in ("stopped", "shutdown"))
        self._world.storages.left(guest)
        self._world.truth("guest_process_stop", {"vmid": guest.vmid, "node": node, "pid": process.pid, "why": why})
        if process.answering:
            self._world.truth("guest_silent", {"vmid": guest.vmid, "node": node})

    def start_all(self, node: Node) -> None:
        """Guests without HA that ran before are started again, one after the other, as at every boot."""
        task = self._world.open_task(node, "startall", "", "root@pam")
        waiting = [
            g
            for g in self._world.guests.values()
            if not g.spec.ha and g.wanted and g.spec.onboot and g.config_node == node.name
        ]
        by = ("pve-guests", task.pid)

        def step(good: bool) -> None:
            if waiting:
                self.start(waiting.pop(0), node, "root@pam", step, by)
            else:
                self._end(node, task, "OK", by)

        self._say(node, by, f"<root@pam> starting task {task.upid}")
        step(True)
        if self._world.planted("starts-without-quorum") and not self._world.quorate(node):
            self._start_unasked(node)

    def _start_unasked(self, node: Node) -> None:
        """Whatever the node believes to be its own runs for some minutes. Only a planted defect calls it."""
        for vmid, home in self._world.pmxcfs.places(node).items():
            guest = self._world.guests[vmid]
            if home == node.name and guest.spec.ha and node.name not in guest.processes:
                self._run(guest, node)
                self._world.on(node, _UNASKED, partial(self.gone, guest, node.name, "stopped"), f"{guest.sid} ends")

    def report(self, node: Node) -> None:
        """The cluster knows what runs on that node, as pvestatd tells it every ten seconds."""
        node.reporting = True
        for guest in self._world.guests.values():
            if guest.config_node == node.name:
                process = guest.processes.get(node.name)
                started = process.started_at if process else None
                seen = Report(node.name, process is not None, self._world.timeline.now, started)
                self._world.pmxcfs.store.reports[guest.vmid] = seen

    def _end(self, node: Node, task: Task, status: str, by: By) -> None:
        self._world.close_task(task, status)
        self._say(node, by, f"<{task.user}> end task {task.upid} {status}")

    def _say(self, node: Node, by: By, text: str) -> None:
        self._world.log(node, by[0], text, by[1])
