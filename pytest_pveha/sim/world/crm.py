"""The cluster resource manager of one node: election, node states, fencing, recovery, migration.

Rounds of a master are 10.03 s apart, of the others 5 s; a round that begins before a new membership stands waits for it
and still believes what it saw when it began. There is no fence action: taking the dead node's lock is the
acknowledgement. Sources: pve-ha-manager 5.2 (CRM.pm, Manager.pm, NodeStatus.pm); measured on a PVE 9.1.9 control plane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.timeline import Event
from pytest_pveha.sim.world.model import Facts, Node
from pytest_pveha.sim.world.pmxcfs import MANAGER_LOCK, agent_lock

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

FENCE_DELAY = 60
_IDENT = "pve-ha-crm"
_WAIT = 5.0
_OF_A_NODE = ("started", "request_stop", "migrate", "relocate")
"""Service states that are lost with their node."""


class Crm:
    """The daemon, from its start to its node's death."""

    def __init__(self, world: World, node: Node, pid: int, state: str = "wait_for_quorum") -> None:
        self._world = world
        self._node = node
        self._rng = world.rng(f"crm {node.name}")
        self._next: Event | None = None
        self._found_free = False
        self._soon = False
        self.pid = pid
        self.state = state
        self.halted = False
        """Whether the process stands still, or is gone."""
        self.last_online: dict[str, int] = {}
        """When this master last saw each node online (ns); it remembers only what it saw itself."""

    def schedule(self, seconds: float) -> None:
        """The next round is that far away, whatever was planned."""
        if self._next is not None:
            self._next.cancel()
        self._next = self._world.on(self._node, seconds, self.round, "crm round")

    def round(self) -> None:
        """One round of the daemon; it plans the next one."""
        if self.halted:
            return
        believed = self._world.members(self._node)
        if self._node.syncing:
            self._node.stalled.append(lambda: self._work(believed))
            return
        self._work(believed)

    def hurry(self) -> None:
        """Look at once. Only a planted defect calls it: this manager waits for nothing."""
        if self.state != "master":
            self._world.pmxcfs.seize(MANAGER_LOCK, self._node)
            self._become_master()
        self.schedule(self._rng.uniform(1.0, 2.0))

    def stop(self, then: Callable[[], None] = lambda: None) -> None:
        """The daemon has ended in good order; the next master need not wait."""
        self._say("received signal TERM")
        self._say("server received shutdown request")
        if self.state == "master":
            self._world.pmxcfs.release(MANAGER_LOCK, self._node)
        self._say("server stopped")
        self._gone()
        then()

    def kill(self) -> None:
        """The daemon is gone without a word, as by SIGKILL: its locks stay, and nobody feeds its watchdog."""
        self._gone()

    def pause(self) -> None:
        """The daemon stands still, as by SIGSTOP."""
        self.halted = True

    def resume(self) -> None:
        """The daemon goes on where it stood."""
        self.halted = False
        self.schedule(0.01)

    def _gone(self) -> None:
        self.halted = True
        self._node.crm = None
        unit = self._node.units[_IDENT]
        unit.active, unit.pid, unit.since = False, 0, self._world.timeline.now

    def _work(self, believed: frozenset[str]) -> None:
        if self.halted:
            return
        if not self._world.quorate(self._node):
            self._without_quorum()
        elif self.state == "master":
            self._master(believed)
        else:
            self._candidate()

    def _without_quorum(self) -> None:
        self._found_free = False
        if self.state == "master":
            self._say(f"lost lock '{MANAGER_LOCK} - cfs lock update failed - Permission denied")
            self._change("lost_manager_lock")
        elif self.state != "wait_for_quorum":
            self._change("wait_for_quorum")
        self.schedule(_WAIT + self._rng.uniform(0.0, 0.03))

    def _candidate(self) -> None:
        if self.state != "slave":
            self._change("slave")
        if self._eligible() and self._world.pmxcfs.grab(MANAGER_LOCK, self._node):
            self._become_master()
            self._master(self._world.members(self._node))
            return
        # rounds that cannot succeed are slept through
        pause = _WAIT if self._world.may_expire(MANAGER_LOCK, 2 * _WAIT) else 2 * _WAIT
        self.schedule(pause + self._rng.uniform(0.0, 0.03))

    def _eligible(self) -> bool:
        """Whether this round may take the manager's lock.

        A lock that was another's is taken one round after it was found free or expired; a node that is to be fenced
        does not become master.
        """
        store = self._world.pmxcfs.store
        lock = store.locks.get(MANAGER_LOCK)
        if store.manager["node_status"].get(self._node.name) == "fence":
            return False
        if lock is not None and lock.holder == self._node.name and lock.life == self._node.life:
            return True
        if lock is None and self._found_free:
            return True
        if lock is not None:
            self._world.pmxcfs.grab(MANAGER_LOCK, self._node)
        self._found_free = MANAGER_LOCK not in store.locks
        return False

    def _become_master(self) -> None:
        self._found_free = False
        self.last_online = {}
        self._say(f"successfully acquired lock '{MANAGER_LOCK}'")
        self._say("watchdog active")
        self._change("master")
        self._world.truth("master", {"node": self._node.name})

    def _master(self, believed: frozenset[str]) -> None:
        status = self._world.pmxcfs.store.manager
        if not self._world.pmxcfs.grab(MANAGER_LOCK, self._node):
            self._say(f"lost lock '{MANAGER_LOCK} - cfs lock update failed - File exists")
            self._change("lost_manager_lock")
            self.schedule(_WAIT)
            return
        status["master_node"] = self._node.name
        self._see_nodes(status, believed)
        self._take_commands(status, believed)
        self._take_results(status)
        self._fence(status, believed)
        self._recover(status, believed)
        status["timestamp"] = int(self._world.utc(self._node))
        pause = self._rng.uniform(2.0, 4.0) if self._soon else 10.02 + self._rng.uniform(0.0, 0.02)
        self._soon = False
        self.schedule(pause)

    # nodes

    def _see_nodes(self, status: Facts, believed: frozenset[str]) -> None:
        now = self._world.timeline.now
        for name in sorted(self._world.nodes):
            state = status["node_status"].setdefault(name, "online")
            if name in believed:
                self.last_online[name] = now
                if state == "unknown":
                    self._node_state(status, name, "online")
            else:
                self.last_online.setdefault(name, now)
                if state == "online":
                    self._node_state(status, name, "unknown")

    def _gone_long_enough(self, name: str, believed: frozenset[str]) -> bool:
        if name in believed or self._world.planted("never-fences"):
            return False
        # the real manager compares whole seconds
        gone = (self._world.timeline.now - self.last_online[name]) // SECOND
        return self._world.planted("recovers-before-death") or gone >= FENCE_DELAY

    def _fence(self, status: Facts, believed: frozenset[str]) -> None:
        new: set[str] = set()
        for sid, service in sorted(status["service_status"].items()):
            name = service["node"]
            if service["state"] in _OF_A_NODE and self._gone_long_enough(name, believed):
                self._service_state(status, sid, "fence")
                if status["node_status"][name] != "fence":
                    self._node_state(status, name, "fence")
                    self._world.truth("fence", {"node": name})
                    new.add(name)
        for name in sorted(n for n, state in status["node_status"].items() if state == "fence"):
            if self._acknowledge(name, name in new):
                self._say(f"successfully acquired lock '{agent_lock(name)}'")
                self._say(f"fencing: acknowledged - got agent lock for node '{name}'")
                self._world.truth("acknowledged", {"node": name, "by": self._node.name})
                self._node_state(status, name, "unknown")
                for sid, service in sorted(status["service_status"].items()):
                    if service["state"] == "fence" and service["node"] == name:
                        self._service_state(status, sid, "recovery")

    def _acknowledge(self, name: str, new: bool) -> bool:
        if self._world.planted("recovers-before-death"):
            if new:
                self._soon = True
                return False
            self._world.pmxcfs.seize(agent_lock(name), self._node)
            return True
        # a round in which a state changed looks twice
        return any(self._world.pmxcfs.grab(agent_lock(name), self._node) for _ in range(2 if new else 1))

    def _recover(self, status: Facts, believed: frozenset[str]) -> None:
        for sid, service in sorted(status["service_status"].items()):
            if service["state"] != "recovery":
                continue
            guest = self._world.guest_of(sid)
            target = self._choose(status, believed)
            if target is None:
                self._say(
                    f"recovering service '{sid}' from fenced node '{service['node']}' failed, no recovery node found"
                )
                continue
            fenced = service["node"]
            self._say(f"recover service '{sid}' from fenced node '{fenced}' to node '{target}'")
            guest.config_node = target
            guest.recovered = True
            self._service_state(status, sid, "started", node=target)
            self._world.truth("recovery", {"sid": sid, "vmid": guest.vmid, "from": fenced, "node": target})
            if self._world.planted("recovers-before-death"):
                self._world.hurry_lrm(target)

    def _choose(self, status: Facts, believed: frozenset[str]) -> str | None:
        """The online node with the fewest HA services and running guests without HA; by name among equals."""
        load = {name: 0 for name in believed if status["node_status"].get(name) == "online"}
        for service in status["service_status"].values():
            if service["node"] in load and service["state"] not in ("recovery", "fence"):
                load[service["node"]] += 1
        for guest in self._world.guests.values():
            if not guest.spec.ha and guest.config_node in load and guest.processes:
                load[guest.config_node] += 1
        return min(load, key=lambda name: (load[name], name), default=None)

    # services

    def _take_commands(self, status: Facts, believed: frozenset[str]) -> None:
        commands, self._world.pmxcfs.store.commands = self._world.pmxcfs.store.commands, []
        for command in commands:
            if len(command.split()) != 3:
                self._say(f"unable to parse command: {command}")
                continue
            verb, sid, target = command.split()
            service = status["service_status"].get(sid)
            self._say(f"got crm command: {command}")
            usable = target in believed and status["node_status"].get(target) == "online"
            if service is None or service["state"] not in ("started", "stopped") or not usable:
                self._say(f"ignore crm command - service '{sid}' or node '{target}' not ready: {command}")
            elif service["node"] == target:
                self._say(f"ignore crm command - service already on target node: {command}")
            elif service["state"] == "stopped":
                self._world.guest_of(sid).config_node = target
                service["node"] = target
            else:
                self._move(status, sid, verb, target)

    def _move(self, status: Facts, sid: str, verb: str, target: str) -> None:
        live = verb == "migrate" and sid.startswith("vm:") and "running" in status["service_status"][sid]
        kind = "migrate" if live else "relocate"
        running = " (running)" if kind == "migrate" else ""
        self._say(f"{kind} service '{sid}' to node '{target}'{running}")
        self._service_state(status, sid, kind, target=target)

    def _take_results(self, status: Facts) -> None:
        for sid, service in sorted(status["service_status"].items()):
            home = self._world.guest_of(sid).config_node
            result = self._result(service)
            if service["state"] in ("migrate", "relocate"):
                if home != service["node"]:
                    self._service_state(status, sid, "started", node=home)
                elif result is not None:
                    self._say(f"service '{sid}' - migration failed (exit code {result['exit_code']})")
                    self._service_state(status, sid, "started", node=home)
            elif result is not None and service["state"] == "started":
                if result["exit_code"] == 0:
                    service["running"] = 1
                else:
                    service.pop("running", None)
                service["uid"] = self._world.uid()
            elif result is not None and service["state"] == "request_stop" and result["exit_code"] == 0:
                self._service_state(status, sid, "stopped")
            self._follow_request(status, sid)

    def _follow_request(self, status: Facts, sid: str) -> None:
        service = status["service_status"][sid]
        asked = self._world.pmxcfs.store.resources[sid]["state"]
        if service["state"] == "started" and asked in ("stopped", "disabled"):
            self._service_state(status, sid, "request_stop")
        elif service["state"] == "error" and asked == "disabled":
            self._service_state(status, sid, "stopped")
        elif service["state"] == "stopped" and asked == "started":
            self._service_state(status, sid, "started", node=service["node"])

    def _result(self, service: Facts) -> Facts | None:
        results = self._world.pmxcfs.store.lrm.get(service["node"], {}).get("results", {})
        found: Facts | None = results.get(service["uid"])
        return found

    # words

    def _node_state(self, status: Facts, name: str, state: str) -> None:
        old = status["node_status"][name]
        status["node_status"][name] = state
        self._say(f"node '{name}': state changed from '{old}' => '{state}'")
        self._world.truth("node_state", {"node": name, "old": old, "new": state})

    def _service_state(
        self, status: Facts, sid: str, state: str, *, node: str | None = None, target: str | None = None
    ) -> None:
        old = status["service_status"][sid]
        fresh: Facts = {"state": state, "node": node or old["node"], "uid": self._world.uid()}
        if target is not None:
            fresh["target"] = target
        status["service_status"][sid] = fresh
        extra = f"  (node = {fresh['node']}, target = {target})" if target else f"  (node = {node})" if node else ""
        self._say(f"service '{sid}': state changed from '{old['state']}' to '{state}'{extra}")
        data = {"sid": sid, "old": old["state"], "new": state, "node": fresh["node"]}
        self._world.truth("service_state", data)

    def _change(self, state: str) -> None:
        self._say(f"status change {self.state} => {state}")
        self.state = state

    def _say(self, text: str) -> None:
        self._world.log(self._node, _IDENT, text)
