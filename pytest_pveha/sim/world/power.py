"""Power: what the BMC does, how a node dies, and how it comes back.

A command takes effect a second or three after the BMC accepted it, one command after the other; until then the chassis
reads as before. After power-on the userland is up when firmware and kernel are through; corosync 4 s later, its ring
2 s later, the cluster file system and the API around 9 to 10 s, the LRM at 11.5 s (measured: PVE 9.1.9 control plane).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world.crm import Crm
from pytest_pveha.sim.world.lrm import Lrm
from pytest_pveha.sim.world.model import Node, UnitState

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

UNITS = (
    "systemd-journald",
    "chrony",
    "cron",
    "ksmtuned",
    "lxcfs",
    "postfix",
    "pve-lxc-syscalld",
    "qmeventd",
    "sshd",
    "watchdog-mux",
    "pve-cluster",
    "corosync",
    "proxmox-firewall",
    "pve-firewall",
    "pvefw-logger",
    "pvestatd",
    "pvedaemon",
    "pve-ha-crm",
    "pveproxy",
    "spiceproxy",
    "pve-ha-lrm",
    "pvescheduler",
)
"""The units a node runs, in the order in which they start."""
_LATER = {"corosync", "pve-ha-crm", "pvedaemon", "pveproxy", "spiceproxy", "pvestatd", "pve-ha-lrm", "pvescheduler"}
_COMMANDS = {"on": (0.5, 1.5), "off": (1.0, 3.0), "cycle": (1.0, 3.0), "reset": (0.3, 1.0), "soft": (0.2, 0.5)}
_CYCLE_PAUSE = 5.0
_BMC_BOOT = 40.0
_WARM_BOOT = 27.0
_EVERY_BOOT = 0x40
_PXE_FOR_EVER = bytes((0x80 | _EVERY_BOOT, 0x04, 0, 0, 0))
"""Boot flags: valid, persistent, PXE (IPMI 2.0, table 28-14)."""


class Power:
    """Chassis, death and boot of the nodes of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng("power")
        self._busy_until: dict[str, int] = {}
        self._was_on: dict[str, bool] = {}
        self.starters: dict[str, Callable[[Node], None]] = {
            "pve-cluster": self._restart_pmxcfs,
            "corosync": self._start_corosync,
            "pve-ha-crm": self._start_crm,
            "pve-ha-lrm": self._start_lrm,
        }
        """How the daemons start that do more than be there."""

    def chassis(self, name: str, command: str) -> None:
        """The BMC has accepted the command and carries it out after those before it."""
        if command not in _COMMANDS:
            raise ValueError(f"chassis command {command!r}; known: {', '.join(_COMMANDS)}")
        node = self._world.nodes[name]
        self._world.truth("bmc_command", {"node": name, "command": command})
        if command in ("off", "cycle") and self._world.planted("bmc-ignores-power-off"):
            return
        timeline = self._world.timeline
        start = max(timeline.now, self._busy_until.get(name, 0))
        when = start + round(self._rng.uniform(*_COMMANDS[command]) * SECOND)
        self._busy_until[name] = when
        acts = {"on": self._on, "off": self._off, "cycle": self._cycle, "reset": self._reset, "soft": self._soft}
        timeline.at(when, lambda: acts[command](node), f"chassis {command} {name}")

    def mains(self, name: str, on: bool) -> None:
        """The outlets of that node are switched: off takes its BMC too, on brings it back as it was last."""
        node = self._world.nodes[name]
        if node.mains is on:
            return
        node.mains = on
        self._world.truth("mains", {"node": name, "on": on})
        if not on:
            self._was_on[name], node.bmc_up = node.chassis_on, False
            self._off(node)
            return
        self._world.timeline.after(_BMC_BOOT, lambda: self._bmc_boots(node), f"the BMC of {name} boots")
        if self._was_on.get(name):  # restore policy "previous" (IPMI 2.0 §28.8)
            self._on(node)

    def _bmc_boots(self, node: Node) -> None:
        node.bmc_up = node.mains

    def _on(self, node: Node) -> None:
        if not node.chassis_on and node.mains:
            node.chassis_on = True
            self._world.truth("power_on", {"node": node.name})
            if self._world.planted("power-cycle-sets-pxe"):
                node.boot_flags = _PXE_FOR_EVER
            self._boot(node, node.spec.boot_seconds)

    def _off(self, node: Node) -> None:
        if node.chassis_on:
            node.chassis_on = False
            self._world.truth("power_off", {"node": node.name})
            was_master = node.crm_state == "master"
            self.die(node, "power off")
            if self._world.planted("other-node-reboots-too"):
                self._pull_another(node, was_master)

    def _cycle(self, node: Node) -> None:
        if node.chassis_on:
            self._off(node)
            self._world.timeline.after(_CYCLE_PAUSE, lambda: self._on(node), f"chassis cycle {node.name}: on")
            self._busy_until[node.name] = self._world.timeline.now + round(_CYCLE_PAUSE * SECOND)

    def _reset(self, node: Node) -> None:
        if node.chassis_on:
            self.reset_now(node, "reset")

    def _pull_another(self, victim: Node, was_master: bool) -> None:
        others = [n for n in self._world.nodes.values() if n.running and n is not victim and n.crm_state != "master"]
        if others:
            other = min(others, key=lambda n: n.nodeid)
            seconds = min(other.spec.boot_seconds, _WARM_BOOT)
            self._world.on(
                other, 0.3, partial(self.reset_now, other, "pulled down", seconds), f"{other.name} is pulled"
            )

    def reset_now(self, node: Node, why: str, boot_seconds: float | None = None) -> None:
        """The node is dead this instant and boots again."""
        self.die(node, why)
        self._boot(node, node.spec.boot_seconds if boot_seconds is None else boot_seconds)

    # death

    def panic(self, node: Node, why: str) -> None:
        """The kernel has stopped; the chassis is on. A timer of the machine's own, or kernel.panic, may restart it.

        A software watchdog is part of the kernel and stops with it. Source: kernel.panic, kernel docs sysctl/kernel;
        softdog.c (a kernel timer).
        """
        hardware = node.spec.watchdog_driver != "softdog" and node.watchdog.fed
        was_master = node.crm_state == "master"
        self.die(node, why)
        if self._world.planted("panic-takes-others"):
            self._pull_another(node, was_master)
        if self._world.planted("kernel-panic-hangs"):
            return
        if node.spec.kernel_panic:
            restart = partial(self.reset_now, node, "kernel.panic")
            self._world.on(node, node.spec.kernel_panic, restart, f"{node.name} restarts after its panic")
        if hardware:
            # it was fed within the last second
            left = self._rng.uniform(9.0, 10.0)
            self._world.on(node, left, partial(self._reset_by_watchdog, node), f"{node.name}: hardware watchdog")

    def _reset_by_watchdog(self, node: Node) -> None:
        self._world.truth("watchdog_reset", {"node": node.name})
        self.reset_now(node, "watchdog")

    def die(self, node: Node, why: str) -> None:
        """Nothing runs on that node any more; the others have not noticed yet."""
        world = self._world
        node.life += 1
        was_running = node.running
        self._silence(node)
        world.systemd.forget(node)
        world.network.forget(node)
        world.files[node.name].disk.lose_power()
        world.files[node.name].boot()
        for guest in world.guests.values():
            world.guest_acts.gone(guest, node.name, f"node dead: {why}")
        for task in node.tasks:
            if task.endtime is None:
                task.endtime, task.exitstatus = int(world.utc(node)), "unexpected status"
        if was_running:
            world.truth("dead", {"node": node.name, "why": why})
        world.storages.follow()
        world.corosync.disturbed()
        world.disturb_ceph()

    def _silence(self, node: Node) -> None:
        if node.frozen is None:
            node.frozen = self._world.pmxcfs.snapshot()
        node.running = node.api_up = node.reporting = node.cfs_joined = False
        node.cfs_started = node.booted_at = None
        node.crm = node.lrm = None
        node.watchdog.forget()
        node.halted.clear()
        self._world.corosync.forget(node)
        for unit in node.units.values():
            unit.active, unit.pid, unit.since, unit.failed = False, 0, self._world.timeline.now, False

    def _soft(self, node: Node) -> None:
        """An ACPI power button: the system shuts down in good order, then the chassis goes off."""
        if not node.chassis_on:
            return
        if not node.running:
            self._off(node)
            return
        self._world.log(node, "systemd-logind", "Power key pressed short.", 1)
        self._world.shutdown(node.name, reboot=False)

    # boot

    def _boot(self, node: Node, seconds: float) -> None:
        self._world.on(node, seconds * self._rng.uniform(0.97, 1.03), lambda: self.userland(node), f"{node.name} boots")

    def userland(self, node: Node) -> None:
        """The operating system runs and SSH answers; the cluster's daemons follow."""
        world, uniform = self._world, self._rng.uniform
        self.new_boot(node, world.timeline.now)
        world.log(node, "kernel", "Linux version 6.17.2-1-pve", 0)
        for name in UNITS:
            if name not in _LATER and name != "pve-cluster" and world.systemd.starts_at_boot(node, name):
                self.up(node, name)
        node.running = True
        world.bonds.boot(node)
        world.storages.follow()
        world.truth("booted", {"node": node.name, "boot_id": node.boot_id})
        node.watchdog.say_driver()
        world.mishaps.returned(node)
        steps = (
            (uniform(0.5, 1.2), "pve-cluster", self._start_pmxcfs),
            (uniform(3.8, 4.2), "corosync", self._start_corosync),
            (uniform(7.8, 8.4), "pve-ha-crm", self._start_crm),
            (uniform(9.5, 10.5), "", self._start_api),
            (uniform(11.3, 11.9), "pve-ha-lrm", self._start_lrm),
            (uniform(12.0, 13.0), "", world.guest_acts.start_all),
        )
        for after, unit, step in steps:
            if world.systemd.starts_at_boot(node, unit):
                world.on(node, after, partial(step, node), f"{node.name} boots")
        world.systemd.boot(node)
        if world.ceph is not None:
            world.ceph.units.boot(node)
            world.ceph.disturbed()

    def new_boot(self, node: Node, when: int) -> None:
        """The node has a new boot id, and pids are small again."""
        rng = self._world.rng(f"boot {node.name}")
        if not node.boot_flags[0] & _EVERY_BOOT:
            node.boot_flags = bytes(5)  # it was for this boot
        node.boot_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        node.booted_at = when
        node.next_pid = rng.randint(600, 800)

    def up(self, node: Node, name: str) -> None:
        """That unit's daemon runs, with a new pid."""
        node.units[name] = UnitState(name, True, self._world.new_pid(node), self._world.timeline.now)

    def _start_pmxcfs(self, node: Node) -> None:
        self.up(node, "pve-cluster")
        node.cfs_started = self._world.timeline.now
        for text in (
            "[quorum] crit: quorum_initialize failed: CS_ERR_LIBRARY (failed to connect to corosync)",
            "[quorum] crit: can't initialize service",
        ):
            self._world.log(node, "pmxcfs", text)

    def _restart_pmxcfs(self, node: Node) -> None:
        """Started by hand on a running node: it joins as soon as it has found corosync."""
        self._start_pmxcfs(node)
        if node.corosync_up:
            after = self._rng.uniform(0.5, 2.0)
            self._world.on(node, after, lambda: self._join_pmxcfs(node), f"{node.name}: pmxcfs joins")

    def _start_corosync(self, node: Node) -> None:
        self.up(node, "corosync")
        self._world.corosync.start(node)
        # pmxcfs looks for corosync every few seconds; measured 4.95 and 5.00 s
        after = self._rng.uniform(4.8, 5.1)
        self._world.on(node, after, lambda: self._join_pmxcfs(node), f"{node.name}: pmxcfs joins")

    def _join_pmxcfs(self, node: Node) -> None:
        if not node.corosync_up or node.cfs_started is None or node.cfs_joined:
            return
        if node.syncing:
            node.stalled.append(lambda: self._join_pmxcfs(node))
            return
        self._world.join_pmxcfs(node)

    def _start_crm(self, node: Node) -> None:
        self.up(node, "pve-ha-crm")
        node.crm = Crm(self._world, node, node.units["pve-ha-crm"].pid)
        self._world.log(node, "pve-ha-crm", "starting server")
        self._world.log(node, "pve-ha-crm", "status change startup => wait_for_quorum")
        node.crm.schedule(5.0)

    def _start_api(self, node: Node) -> None:
        for name in ("pvedaemon", "pveproxy", "spiceproxy", "pvestatd", "pvescheduler"):
            if self._world.systemd.starts_at_boot(node, name):
                self.up(node, name)
        node.api_up = node.units["pveproxy"].active
        # the first numbers come 8 to 16 s after the boot
        self.statd(node, self._rng.uniform(0.5, 5.5))
        self._world.replication.scheduler(node)

    def statd(self, node: Node, seconds: float) -> None:
        """The node's pvestatd tells the cluster about its guests, then and every ten seconds."""

        def tell() -> None:
            if not node.syncing and self._world.quorate(node) and node.units["pvestatd"].active:
                self._world.guest_acts.report(node)
            waited = self._world.storages.hangs(node)
            if waited:  # it asks each storage in turn, and each silent server until it gives up
                self._world.log(node, "pvestatd", f"status update time ({waited + 0.3:.3f} seconds)")
            self.statd(node, 10.0 + waited)

        self._world.on(node, seconds, tell, f"{node.name}: pvestatd")

    def _start_lrm(self, node: Node) -> None:
        self.up(node, "pve-ha-lrm")
        node.lrm = Lrm(self._world, node, node.units["pve-ha-lrm"].pid)
        self._world.log(node, "pve-ha-lrm", "starting server")
        self._world.log(node, "pve-ha-lrm", "status change startup => wait_for_agent_lock")
        node.lrm.schedule(0.1)
