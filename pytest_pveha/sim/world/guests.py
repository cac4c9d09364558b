"""Guests: their processes start, answer after a while, stop, move; and what a user may ask of them.

``qm start`` takes 0.2 to 0.35 s until the process runs; an empty VM migrates live in 6 to 10 s (both measured on a PVE
9.1.9 control plane).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_pveha.sim.world.model import Guest, GuestProcess, Node, Refused, Report, Task

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

Ended = Callable[[bool], None]
By = tuple[str, int]
"""In whose name the journal speaks: identifier and pid."""

_AGENT = 0.6
"""The agent answers after this part of the boot."""
_SLOW = 600.0


class GuestActs:
    """Everything that happens to guests in one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng("guests")

    # what a user asks

    def request_start(self, vmid: int, user: str) -> str:
        """The guest is asked to start, through the HA manager where that manages it. The task's UPID."""
        guest, node = self._where(vmid)
        guest.wanted = True
        if guest.spec.ha:
            self._world.pmxcfs.store.resources[guest.sid]["state"] = "started"
            return self._quick(node, "hastart", guest, user, f"Requesting HA start for {guest.kind.upper()} {vmid}")
        return self.start(guest, node, user, lambda good: None, self._daemon(node)).upid

    def request_stop(self, vmid: int, user: str) -> str:
        """The guest is asked to stop, through the HA manager where that manages it. The task's UPID."""
        guest, node = self._where(vmid)
        guest.wanted = False
        if guest.spec.ha:
            self._world.pmxcfs.store.resources[guest.sid]["state"] = "stopped"
            return self._quick(node, "hastop", guest, user, f"Requesting HA stop for {guest.kind.upper()} {vmid}")
        return self.stop(guest, node, user, lambda good: None, self._daemon(node)).upid

    def request_migrate(self, vmid: int, target: str, user: str) -> str:
        """The guest is asked to move; an HA guest's request waits for the CRM's next round. The task's UPID."""
        guest, node = self._where(vmid)
        if target not in self._world.nodes:
            raise Refused(f"no such cluster node '{target}'")
        if target == node.name:
            raise Refused("can't migrate to local node")
        if self._world.nodes[target].nodeid not in self._world.view_members(node):
            raise Refused(f"node '{target}' is not online")
        if guest.spec.ha:
            self._world.pmxcfs.store.commands.append(f"migrate {guest.sid} {target}")
            text = f"Requesting HA migration for {guest.kind.upper()} {vmid} to node {target}"
            return self._quick(node, "hamigrate", guest, user, text)
        return self.migrate(guest, node, target, user, lambda good: None, self._daemon(node)).upid

    def _where(self, vmid: int) -> tuple[Guest, Node]:
        guest = self._world.guests[vmid]
        node = self._world.nodes[guest.config_node]
        if not self._world.quorate(node):
            raise Refused("cluster not ready - no quorum?")
        return guest, node

    def _quick(self, node: Node, kind: str, guest: Guest, user: str, text: str) -> str:
        task = self._world.open_task(node, kind, str(guest.vmid), user)
        task.log.append(text)
        self._world.close_task(task, "OK")
        return task.upid

    def _daemon(self, node: Node) -> By:
        return "pvedaemon", node.units["pvedaemon"].pid

    # what happens

    def start(self, guest: Guest, node: Node, user: str, ended: Ended, by: By) -> Task:
        """The guest's process is started on that node; ``ended`` is told whether it was."""
        task = self._world.open_task(node, "qmstart" if guest.kind == "vm" else "vzstart", str(guest.vmid), user)
        self._say(node, by, f"<{user}> starting task {task.upid}")
        kind = guest.kind.upper()
        self._say(node, (by[0], task.pid), f"{'start VM' if kind == 'VM' else 'starting CT'} {guest.vmid}: {task.upid}")
        seconds = self._rng.uniform(0.2, 0.35)
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
        if guest.recovered and node.name != guest.spec.node and self._world.planted("guest-does-not-restart"):
            return "start failed: storage 'local-lvm' has no volume of this guest on this node"
        return None

    def _run(self, guest: Guest, node: Node) -> GuestProcess:
        process = GuestProcess(self._world.new_pid(node), self._world.timeline.now)
        slow = _SLOW if guest.recovered and self._world.planted("slow-recovery") else 0.0
        guest.processes[node.name] = process
        guest.wanted, guest.recovered = True, False
        self._world.truth("guest_process_start", {"vmid": guest.vmid, "node": node.name, "pid": process.pid})
        boot = guest.spec.boot_seconds * self._rng.uniform(0.95, 1.05) + slow
        after = self._world.timeline.after
        after(boot * _AGENT, lambda: self._agent(guest, process), f"{guest.sid}: the agent answers")
        after(boot, lambda: self._answer(guest, process), f"{guest.sid}: the application answers")
        return process

    def _agent(self, guest: Guest, process: GuestProcess) -> None:
        process.agent_up = True

    def _answer(self, guest: Guest, process: GuestProcess) -> None:
        process.answering = True
        for name, one in guest.processes.items():
            if one is process:
                self._world.truth("guest_answers", {"vmid": guest.vmid, "node": name})

    def stop(self, guest: Guest, node: Node, user: str, ended: Ended, by: By) -> Task:
        """The guest's process on that node is stopped; ``ended`` is told so."""
        task = self._world.open_task(node, "qmstop" if guest.kind == "vm" else "vzstop", str(guest.vmid), user)
        self._say(node, by, f"<{user}> starting task {task.upid}")

        def stopped() -> None:
            self.gone(guest, node.name, "stopped")
            self._end(node, task, "OK", by)
            ended(True)

        seconds = self._rng.uniform(1.0, 4.0) if node.name in guest.processes else 0.2
        self._world.on(node, seconds, stopped, f"{guest.sid} stops")
        return task

    def migrate(self, guest: Guest, node: Node, target: str, user: str, ended: Ended, by: By) -> Task:
        """The guest moves, process and configuration; ``ended`` is told whether it did."""
        task = self._world.open_task(node, "qmigrate" if guest.kind == "vm" else "vzmigrate", str(guest.vmid), user)
        self._say(node, by, f"<{user}> starting task {task.upid}")
        task.log.append(f"starting migration of {guest.kind.upper()} {guest.vmid} to node '{target}'")
        seconds = self._rng.uniform(6.0, 10.0) if node.name in guest.processes else 0.5
        self._world.on(
            node, seconds, lambda: self._migrated(guest, node, target, task, ended, by), f"{guest.sid} moves"
        )
        return task

    def _migrated(self, guest: Guest, node: Node, target: str, task: Task, ended: Ended, by: By) -> None:
        there = self._world.nodes[target]
        joined = there.cfs_joined and self._world.view_members(node) == self._world.view_members(there)
        good = joined and self._world.quorate(node) and not node.syncing and guest.config_node == node.name
        if good:
            guest.config_node = target
            process = guest.processes.pop(node.name, None)
            if process is not None:
                moved = GuestProcess(self._world.new_pid(there), self._world.timeline.now)
                guest.processes[target] = moved
                self._hand_over(guest, process, moved)
                self._world.truth("guest_migrated", {"vmid": guest.vmid, "from": node.name, "node": target})
            task.log.append("migration finished successfully")
        else:
            task.log.append("migration aborted")
        self._end(node, task, "OK" if good else "migration aborted", by)
        ended(good)

    def _hand_over(self, guest: Guest, old: GuestProcess, new: GuestProcess) -> None:
        new.answering, new.agent_up = old.answering, old.agent_up
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
