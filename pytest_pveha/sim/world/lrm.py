"""The local resource manager of one node: holds the node's agent lock, feeds the watchdog, starts and moves guests.

Rounds are 10 s apart while active, 5 s while waiting. Sources: pve-ha-manager 5.2 (LRM.pm); measured on a PVE 9.1.9
control plane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.timeline import Event
from pytest_pveha.sim.world.model import Facts, Node
from pytest_pveha.sim.world.pmxcfs import agent_lock

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

IDLE_ROUNDS = 60
MAX_WORKERS = 4
_IDENT = "pve-ha-lrm"
_TRIES = 6
_FREEZE_PATIENCE = 30
"""How long (s) it waits for its services to be frozen when it is stopped: three rounds of the CRM."""
_WAIT = 5.0


class Lrm:
    """The daemon, from its start to its node's death."""

    def __init__(self, world: World, node: Node, pid: int, state: str = "wait_for_agent_lock") -> None:
        self._world = world
        self._node = node
        self._rng = world.rng(f"lrm {node.name}")
        self._next: Event | None = None
        self._next_at = 0
        self._tries = 0
        self._idle_rounds = 0
        self._busy: set[str] = set()
        self._queue: list[tuple[str, Callable[[], None]]] = []
        self.pid = pid
        self.state = state
        self.halted = False
        """Whether the process stands still, or is gone."""
        self.mode = "active"
        self.timestamp = 0
        self.results: Facts = {}

    def schedule(self, seconds: float) -> None:
        """The next round is that far away, whatever was planned."""
        if self._next is not None:
            self._next.cancel()
        self._next = self._world.on(self._node, seconds, self.round, "lrm round")

    def hurry(self) -> None:
        """The next round comes within a few seconds. Only a planted defect calls it."""
        self.schedule(self._rng.uniform(0.5, 4.0))

    def round(self) -> None:
        """One round of the daemon; it plans the next one."""
        if self.halted:
            return
        if self._node.syncing:
            # it goes on a moment after the CRM: its own loop looks once more first
            pause = self._rng.uniform(0.0, 0.15)
            self._node.stalled.append(lambda: self._pause(pause))
            return
        self._work()

    def _pause(self, seconds: float) -> None:
        self._world.on(self._node, seconds, self._resume, "lrm round goes on")

    def _resume(self) -> None:
        if self._node.syncing:
            self.round()
            return
        # a renewal under way when the ring broke may still be delivered to the sender alone, before it sees that it
        # lost quorum: this is why an isolated node may live until 78 s after the cut
        if self.state == "active" and not self._world.quorate(self._node) and self._rng.random() < 0.5:
            self._node.watchdog.feed()
        self._work()

    def _work(self) -> None:
        if self.halted or self.mode == "shutdown":
            return
        quorate = self._world.quorate(self._node)
        if self.state == "active":
            self._active(quorate)
        else:
            self._waiting(quorate)

    # waiting

    def _waiting(self, quorate: bool) -> None:
        if quorate:
            self.write_status()
        wanted = quorate and bool(self._mine()) and not self._fence_requested()
        if wanted and self._world.pmxcfs.grab(agent_lock(self._node.name), self._node):
            self._activate()
            return
        if self.state == "lost_agent_lock" and quorate and not self._mine():
            self._node.watchdog.close()
            self._change("wait_for_agent_lock")
        if wanted:
            self._tries += 1
            if self._tries < _TRIES and self._world.may_expire(agent_lock(self._node.name), _TRIES):
                self.schedule(1.0)
                return
        self._tries = 0
        self.schedule(_WAIT + self._rng.uniform(0.0, 0.04))

    def _activate(self) -> None:
        self._tries = self._idle_rounds = 0
        self._say(f"successfully acquired lock '{agent_lock(self._node.name)}'")
        if self._node.watchdog.active:
            self._node.watchdog.feed()
        else:
            self._node.watchdog.open(self.pid)
            self._say("watchdog active")
        self._change("active")
        self._active(True)

    # active

    def _active(self, quorate: bool) -> None:
        lock = agent_lock(self._node.name)
        if quorate and self._fence_requested():
            self._change("lost_agent_lock")
        elif not self._world.pmxcfs.grab(lock, self._node):
            why = "File exists" if quorate else "Permission denied"
            self._say(f"lost lock '{lock} - cfs lock update failed - {why}")
            self._change("lost_agent_lock")
        if self.state != "active":
            self.schedule(_WAIT)
            return
        self._node.watchdog.feed()
        mine = self._mine()
        self._idle_rounds = 0 if mine else self._idle_rounds + 1
        if self._idle_rounds >= IDLE_ROUNDS:
            self._go_idle(lock)
            return
        for sid, service in mine:
            self._attend(sid, service)
        self.write_status()
        self.schedule(10.01 + self._rng.uniform(0.0, 0.03))

    def _go_idle(self, lock: str) -> None:
        self._say(f"node had no service configured for {IDLE_ROUNDS} rounds, going idle.")
        self._node.watchdog.close()
        self._say("watchdog closed (disabled)")
        self._world.pmxcfs.release(lock, self._node)
        self.results.clear()
        self._change("wait_for_agent_lock")
        self.write_status()
        self.schedule(_WAIT)

    def _attend(self, sid: str, service: Facts) -> None:
        guest = self._world.guest_of(sid)
        here = self._node.name in guest.processes
        uid, state = service["uid"], service["state"]
        if sid in self._busy or service["node"] != self._node.name or guest.config_node != self._node.name:
            return
        if state == "started":
            if here:
                self._done(sid, uid, "started", 0)
            else:
                self._enqueue(sid, lambda: self._start(sid, uid))
        elif uid in self.results:
            return
        elif state == "request_stop":
            self._enqueue(sid, lambda: self._stop(sid, uid))
        elif state == "migrate" and here:
            self._enqueue(sid, lambda: self._migrate(sid, uid, service["target"]))
        elif state in ("migrate", "relocate"):
            self._enqueue(sid, lambda: self._relocate(sid, uid, service["target"]))

    # workers: four at a time

    def _enqueue(self, sid: str, act: Callable[[], None]) -> None:
        if sid not in (waiting for waiting, _ in self._queue):
            self._queue.append((sid, act))
        self._next_worker()

    def _next_worker(self) -> None:
        if self._queue and len(self._busy) < MAX_WORKERS:
            sid, act = self._queue.pop(0)
            self._busy.add(sid)
            # the loop forks it after its first look
            self._world.on(self._node, self._rng.uniform(0.01, 0.03), act, f"lrm worker for {sid}")

    def _finish(self, sid: str, uid: str, state: str, code: int) -> None:
        if self.halted:
            return
        self._busy.discard(sid)
        self._done(sid, uid, state, code)
        if self._world.quorate(self._node) and not self._node.syncing:
            self.write_status()
        self._next_worker()

    def _start(self, sid: str, uid: str) -> None:
        worker = self._world.new_pid(self._node)
        guest = self._world.guest_of(sid)
        self._say(f"starting service {sid}", worker)

        def ended(good: bool) -> None:
            text = f"service status {sid} started" if good else f"unable to start service {sid}"
            self._say(text, worker)
            self._finish(sid, uid, "started", 0 if good else 1)

        self._world.guest_acts.start(guest, self._node, "root@pam", ended, (_IDENT, worker))

    def _stop(self, sid: str, uid: str) -> None:
        worker = self._world.new_pid(self._node)
        guest = self._world.guest_of(sid)
        self._say(f"stopping service {sid}", worker)

        def ended(good: bool) -> None:
            self._say(f"service status {sid} stopped", worker)
            self._finish(sid, uid, "stopped", 0 if good else 1)

        self._world.guest_acts.stop(guest, self._node, "root@pam", ended, (_IDENT, worker))

    def _migrate(self, sid: str, uid: str, target: str) -> None:
        worker = self._world.new_pid(self._node)
        guest = self._world.guest_of(sid)

        def ended(good: bool) -> None:
            self._finish(sid, uid, "migrate", 0 if good else 1)

        self._world.guest_acts.migrate(guest, self._node, target, "root@pam", ended, (_IDENT, worker))

    def _relocate(self, sid: str, uid: str, target: str) -> None:
        guest = self._world.guest_of(sid)

        def moved(good: bool) -> None:
            able = good and self._world.quorate(self._node) and not self._node.syncing
            if able:
                guest.config_node = target
            self._finish(sid, uid, "relocate", 0 if able else 1)

        worker = self._world.new_pid(self._node)
        self._world.guest_acts.stop(guest, self._node, "root@pam", moved, (_IDENT, worker))

    def _done(self, sid: str, uid: str, state: str, code: int) -> None:
        for old in [u for u, result in self.results.items() if result["sid"] == sid]:
            del self.results[old]
        self.results[uid] = {"exit_code": code, "sid": sid, "state": state}

    # what it reads and writes

    def _mine(self) -> list[tuple[str, Facts]]:
        services = self._world.pmxcfs.read(self._node).manager["service_status"]
        name = self._node.name
        wanted = ("started", "request_stop", "migrate", "relocate")
        return sorted(
            (sid, service)
            for sid, service in services.items()
            if service["state"] in wanted and name in (service["node"], service.get("target"))
        )

    def _fence_requested(self) -> bool:
        found = self._world.pmxcfs.store.manager["node_status"].get(self._node.name)
        return bool(found == "fence")

    def write_status(self) -> None:
        """The cluster sees this LRM's state, results and time."""
        self.timestamp = int(self._world.utc(self._node))
        self._world.pmxcfs.store.lrm[self._node.name] = {
            "mode": self.mode,
            "results": {uid: dict(result) for uid, result in self.results.items()},
            "state": self.state,
            "timestamp": self.timestamp,
        }

    def stop(self, then: Callable[[], None] = lambda: None) -> None:
        """The daemon ends in good order, once its services are stopped or frozen: no watchdog, no lock."""
        if self.mode == "active":
            self.mode = "restart"
            self._say("received signal TERM")
            self._say("restart LRM, freeze all services")
            if self._world.quorate(self._node) and not self._node.syncing:
                self.write_status()
        self._leave(self._world.timeline.now + _FREEZE_PATIENCE * SECOND, then)

    def _leave(self, latest: int, then: Callable[[], None]) -> None:
        if self.halted:
            return
        waits = any(service["state"] != "freeze" for _, service in self._mine())
        if self.mode == "restart" and waits and self._world.timeline.now < latest:
            self._world.on(self._node, 1.0, lambda: self._leave(latest, then), "lrm waits to be frozen")
            return
        self._node.watchdog.close()
        self._say("watchdog closed (disabled)")
        self._world.pmxcfs.release(agent_lock(self._node.name), self._node)
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
        self._node.lrm = None
        unit = self._node.units[_IDENT]
        unit.active, unit.pid, unit.since = False, 0, self._world.timeline.now

    def _change(self, state: str) -> None:
        self._say(f"status change {self.state} => {state}")
        self.state = state

    def _say(self, text: str, pid: int | None = None) -> None:
        self._world.log(self._node, _IDENT, text, pid)
