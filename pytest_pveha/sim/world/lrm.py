"""The local resource manager of one node: holds the node's agent lock, feeds the watchdog, and knows when to let go.

Rounds are 10 s apart while active, 5 s while waiting or in maintenance. What it does with guests is its workers'.
Sources: pve-ha-manager 5.2 (LRM.pm); measured on a PVE 9.1.9 control plane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world.daemon import Daemon
from pytest_pveha.sim.world.model import Facts, Node
from pytest_pveha.sim.world.pmxcfs import agent_lock
from pytest_pveha.sim.world.service import active_count, fenced_count
from pytest_pveha.sim.world.workers import Workers

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

IDLE_ROUNDS = 60
_TRIES = 6
_WAIT = 5.0
_GIVES_UP = 90 * SECOND
"""How long a restart waits for a lost lock."""


class Lrm(Daemon):
    """The daemon, from its start to its end or its node's death."""

    ident = "pve-ha-lrm"

    def __init__(self, world: World, node: Node, pid: int, state: str = "wait_for_agent_lock") -> None:
        super().__init__(world, node, pid, state)
        self._tries = 0
        self._idle_rounds = 0
        self._lost_at = 0
        self.workers = Workers(world, node, self._say, lambda: self.alive, self._workers_idle)
        self.mode = "active"
        self.timestamp = 0

    @property
    def results(self) -> Facts:
        """How its acts ended, by the uid of what asked for them."""
        return self.workers.results

    @property
    def watched(self) -> bool:
        """Whether it has the watchdog open."""
        return self._node.watchdog.active

    def hurry(self) -> None:
        """The next round comes within a few seconds. Only a planted defect calls it."""
        self.schedule(self._rng.uniform(0.5, 4.0))

    def shut_down(self, reboot: bool) -> None:
        """The node is going down, and the policy of the site says what becomes of its services."""
        policy = self._world.pmxcfs.read(self._node).options.get("ha", {}).get("shutdown_policy", "conditional")
        kind = "reboot" if reboot else "shutdown"
        self._say(f"got shutdown request with shutdown policy '{policy}'")
        if self._world.planted("policy-not-obeyed"):
            policy = "conditional"
        if policy != "migrate":
            self.workers.stop_all(sid for sid, service in self._mine().items() if service["node"] == self._node.name)
        if self.mode == "maintenance":
            if policy == "migrate":
                self._say(f"{kind} LRM, ignore maintenance policy, already in maintenance mode")
            else:
                self._say(f"{kind} LRM, ignore {policy} policy as manual maintenance mode is enabled")
        elif policy == "migrate":
            self._say(f"{kind} LRM, doing maintenance, removing this node from active list")
            self.mode = "maintenance"
        elif policy == "freeze" or (policy == "conditional" and reboot):
            self._say(f"{kind} LRM, stop and freeze all services")
            self.mode = "restart"
        else:
            self._say("shutdown LRM, stop all services")
            self.mode = "shutdown"
        self._write_if_possible()

    def _asked_to_stop(self) -> None:
        shutdown = self._world.shutdowns.of(self._node)
        if shutdown is not None:
            self.shut_down(shutdown.reboot)
            return
        if self.mode == "maintenance":
            self._say("Restarting LRM in maintenance mode may be delayed until all services are moved")
        else:
            self._say("restart LRM, freeze all services")
            self.mode = "restart"
        self._write_if_possible()

    # rounds

    def round(self) -> None:
        """One round of the daemon; it plans the next one."""
        if self._node.syncing:
            # it goes on a moment after the CRM: its own loop looks once more first
            pause = self._rng.uniform(0.0, 0.15)
            self._node.stalled.append(lambda: self._pause(pause))
            return
        self._work()

    def _pause(self, seconds: float) -> None:
        self._world.on(self._node, seconds, self._resume, "lrm round goes on")

    def _resume(self) -> None:
        if not self.alive:
            return
        if self._node.syncing:
            self.round()
            return
        # a renewal under way when the ring broke may still be delivered to the sender alone, before it sees that it
        # lost quorum: this is why an isolated node may live until 78 s after the cut
        if self.state == "active" and not self._world.quorate(self._node) and self._rng.random() < 0.5:
            self._node.watchdog.feed()
        self._work()

    def _work(self) -> None:
        if not self.alive:
            return
        self._read_requests()
        self.workers.begin_round()
        {
            "wait_for_agent_lock": self._waiting,
            "lost_agent_lock": self._lost,
            "active": self._active,
            "maintenance": self._maintenance,
        }[self.state]()

    def _read_requests(self) -> None:
        if self.stopping:
            return
        manager = self._world.pmxcfs.read(self._node).manager
        if manager.get("node_request", {}).get(self._node.name, {}).get("maintenance"):
            self.mode = "maintenance"
        elif "disarm" in manager:
            self.mode = "disarm"
        elif self.mode in ("maintenance", "disarm") and not self._world.mishaps.stays_in_maintenance(self._node):
            self.mode = "active"

    def _waiting(self) -> None:
        quorate = self._world.quorate(self._node)
        if quorate:
            self.write_status()
        wanted = quorate and self.mode != "disarm" and bool(self._busy()) and not self._fence_requested()
        if wanted and self._hold_lock():
            self._tries = self._idle_rounds = 0
            self._change("active")
            self._active()
            return
        if self.stopping:
            self._end()
            return
        if wanted:
            self._tries += 1
            if self._tries < _TRIES and self._world.may_expire(agent_lock(self._node.name), _TRIES):
                self.schedule(1.0)
                return
        self._tries = 0
        self.schedule(_WAIT + self._rng.uniform(0.0, 0.04))

    def _lost(self) -> None:
        quorate = self._world.quorate(self._node)
        if quorate and not self._fence_requested() and self._hold_lock():
            self._change("active")
            self._active()
            return
        if self.stopping and self._leaves_without_lock():
            return
        self.schedule(_WAIT)

    def _leaves_without_lock(self) -> bool:
        count = self._busy()
        if not count:
            self._close_watchdog()
            self._end()
            return True
        self._say(f"got shutdown request in state 'lost_agent_lock' - detected {count} running services")
        if self.mode == "restart" and self._world.timeline.now - self._lost_at > _GIVES_UP:
            self._say("lost agent lock and restart request for over 90 seconds - giving up!")
            self._end()
            return True
        return False

    def _active(self) -> None:
        if not self._keep_lock():
            self.schedule(_WAIT)
        elif self.mode == "maintenance":
            self._change("maintenance")
            self._serve_maintenance()
        elif self.mode == "disarm" and not self.workers.busy:
            self._say("HA disarm requested, releasing agent lock and watchdog")
            self._let_go()
        elif self._idle():
            self._say(f"node had no service configured for {IDLE_ROUNDS} rounds, going idle.")
            self.workers.results.clear()
            self._let_go()
        else:
            self._serve()

    def _serve(self) -> None:
        if not self.stopping:
            self.workers.attend(self._mine())
        else:
            self.workers.go_on()
            if self._left():
                return
        self.write_status()
        self.schedule(10.01 + self._rng.uniform(0.0, 0.03))

    def _left(self) -> bool:
        """Whether there was nothing left to do, and the daemon has ended. A restart waits until all is frozen."""
        if self.workers.busy or (self.mode == "restart" and self._busy()):
            return False
        self._close_watchdog()
        if not self.workers.stop_errors:
            self._world.pmxcfs.release(agent_lock(self._node.name), self._node)
        self._write_if_possible()
        self._end()
        return True

    def _workers_idle(self) -> None:
        settled = self.stopping and self.state == "active" and self.alive
        if settled and self._left():
            return
        self._write_if_possible()

    def _maintenance(self) -> None:
        if self._fence_requested():
            self._say("node needs to be fenced during maintenance mode - releasing agent_lock")
            self._lose()
        elif self.mode == "disarm" and not self._busy() and not self.workers.busy:
            self._say("HA disarm requested during maintenance, releasing agent lock and watchdog")
            self._let_go()
            return
        elif self._busy() or self.workers.busy:
            if not self._hold_lock():
                self._lose()
        elif self.mode != "maintenance":
            if self._hold_lock():
                self._change("active")
                self._active()
                return
            self._lose()
        if self.state == "maintenance":
            self._serve_maintenance()
        else:
            self.schedule(_WAIT)

    def _serve_maintenance(self) -> None:
        if not self._busy() and not self.workers.busy:
            self._close_watchdog()
            self._world.pmxcfs.release(agent_lock(self._node.name), self._node)
            if self.stopping:
                self._write_if_possible()
                self._end()
                return
        self.workers.attend(self._mine())
        self._write_if_possible()
        self.schedule(_WAIT)

    # lock and watchdog

    def _hold_lock(self) -> bool:
        """Whether the node has its lock, and with it its watchdog."""
        lock = agent_lock(self._node.name)
        before = self._world.pmxcfs.holds(lock, self._node)
        if not self._world.pmxcfs.grab(lock, self._node):
            return False
        if not before:
            self._say(f"successfully acquired lock '{lock}'")
        if self._node.watchdog.active:
            self._node.watchdog.feed()
        else:
            self._node.watchdog.open(self.pid)
            self._say("watchdog active")
        return True

    def _keep_lock(self) -> bool:
        if self._world.quorate(self._node) and self._fence_requested():
            self._say("node needs to be fenced - releasing agent_lock")
            self._lose()
            return False
        if self._hold_lock():
            return True
        why = "File exists" if self._world.quorate(self._node) else "Permission denied"
        self._say(f"lost lock '{agent_lock(self._node.name)} - cfs lock update failed - {why}")
        self._lose()
        return False

    def _lose(self) -> None:
        self._lost_at = self._world.timeline.now
        self._change("lost_agent_lock")

    def _let_go(self) -> None:
        """No lock, no watchdog, no round that needs them."""
        self._close_watchdog()
        self._world.pmxcfs.release(agent_lock(self._node.name), self._node)
        self._change("wait_for_agent_lock")
        self._idle_rounds = 0
        if self.stopping:
            self._end()
            return
        self._write_if_possible()
        self.schedule(_WAIT)

    def _close_watchdog(self) -> None:
        if self._node.watchdog.active:
            self._node.watchdog.close()
            self._say("watchdog closed (disabled)")

    def _idle(self) -> bool:
        here = any(service["node"] == self._node.name for service in self._services().values())
        self._idle_rounds = 0 if here or self.workers.busy else self._idle_rounds + 1
        return self._idle_rounds > IDLE_ROUNDS

    # what it reads and writes

    def _services(self) -> dict[str, Facts]:
        found: dict[str, Facts] = self._world.pmxcfs.read(self._node).manager.get("service_status", {})
        return found

    def _mine(self) -> dict[str, Facts]:
        return {sid: one for sid, one in sorted(self._services().items()) if one["node"] == self._node.name}

    def _busy(self) -> int:
        return active_count(self._services(), self._node.name)

    def _fence_requested(self) -> bool:
        manager = self._world.pmxcfs.read(self._node).manager
        fenced = manager["node_status"].get(self._node.name) == "fence"
        return fenced or fenced_count(manager["service_status"], self._node.name) > 0

    def _write_if_possible(self) -> None:
        if self.alive and self._world.quorate(self._node) and not self._node.syncing:
            self.write_status()

    def write_status(self) -> None:
        """The cluster sees this LRM's state, results and time."""
        self.timestamp = int(self._world.utc(self._node))
        self._world.pmxcfs.store.lrm[self._node.name] = {
            "mode": self.mode,
            "results": {uid: dict(result) for uid, result in self.results.items()},
            "state": self.state,
            "timestamp": self.timestamp,
        }
