"""The LRM's workers: a few acts at a time, and what it remembers of how they ended.

A round forks up to ``max_workers`` (4 unless the datacenter says otherwise), looks after them once a second for 8 s,
and leaves the rest to the next round. A guest that could not be started is tried again in the next round,
``max_restart`` times.
Source: pve-ha-manager 5.2 (LRM.pm, Resources/*.pm).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world.model import Facts, Node
from pytest_pveha.sim.world.service import MAX_RESTART, MOVING

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

MAX_WORKERS = 4
STOP_TIMEOUT = 60.0
_WATCHED = 8 * SECOND
_IDENT = "pve-ha-lrm"
_USER = "root@pam"

Say = Callable[[str, int | None], None]


@dataclass(frozen=True, slots=True)
class _Task:
    """What is to be done for a service; without a uid nobody waits for the result."""

    sid: str
    uid: str | None
    state: str
    target: str = ""
    timeout: float = STOP_TIMEOUT


class Workers:
    """The queue and the workers of one LRM."""

    def __init__(self, world: World, node: Node, say: Say, alive: Callable[[], bool], idle: Callable[[], None]) -> None:
        self._world = world
        self._node = node
        self._say = say
        self._alive = alive
        self._idle = idle
        self._rng = world.rng(f"lrm workers {node.name}")
        self._queue: dict[str, _Task] = {}
        self._running: dict[str, _Task] = {}
        self._tries: dict[str, int] = {}
        self._watched_until = 0
        self.results: Facts = {}
        self.stop_errors = 0
        """How many stops failed while the node was going down."""

    @property
    def busy(self) -> bool:
        """Whether something is under way or waiting."""
        return bool(self._running or self._queue)

    def begin_round(self) -> None:
        """The LRM looks after its workers from now on, for a while."""
        self._watched_until = self._world.timeline.now + _WATCHED

    def attend(self, mine: Mapping[str, Facts]) -> None:
        """Whatever these services need and is not done yet is under way or waiting."""
        for sid in self._tries.keys() - mine.keys():
            del self._tries[sid]
        uids = {service["uid"] for service in mine.values()}
        self.results = {uid: one for uid, one in self.results.items() if uid in uids or one["state"] in MOVING}
        for sid, service in mine.items():
            self._attend(sid, service)
        self.go_on()

    def _attend(self, sid: str, service: Facts) -> None:
        uid, state = service["uid"], service["state"]
        if sid in self._running or state in ("recovery", "freeze", "request_start", "fence"):
            return
        if uid in self.results and state != "stopped":
            return
        here = self._node.name in self._world.guest_of(sid).processes
        guest = self._world.guest_of(sid)
        guest.taken_for_running = guest.taken_for_running and state == "started"
        here = here or guest.taken_for_running
        as_wanted = here if state == "started" else not here
        if state in ("started", "stopped", "request_stop") and as_wanted:
            self._done(_Task(sid, uid, state), 0)
        elif state == "error":
            self._say(
                f"service {sid} is in an error state and needs manual intervention. Look up 'ERROR RECOVERY' in the "
                "documentation.",
                None,
            )
            self._done(_Task(sid, uid, state), 0)
        else:
            timeout = float(service.get("timeout", STOP_TIMEOUT))
            self._queue[sid] = _Task(sid, uid, state, service.get("target", ""), timeout)

    def stop_all(self, sids: Iterable[str]) -> None:
        """Those services' guests will be stopped, whatever the manager says: the node goes down."""
        for sid in sids:
            self._queue[sid] = _Task(sid, None, "request_stop")

    def go_on(self) -> None:
        """As many workers run as may, while the LRM watches them."""
        limit = int(self._world.pmxcfs.read(self._node).options.get("max_workers", MAX_WORKERS))
        waiting = [sid for sid in self._queue if sid not in self._running]
        for sid in waiting[: max(0, limit - len(self._running))]:
            task = self._running[sid] = self._queue.pop(sid)
            # the loop forks it after its first look
            pause = self._rng.uniform(0.01, 0.03)
            self._world.on(self._node, pause, partial(self._work, task), f"lrm worker for {sid}")

    # one worker

    def _work(self, task: _Task) -> None:
        guest = self._world.guest_of(task.sid)
        if guest.config_node != self._node.name:
            self._say(f"service '{task.sid}' not on this node", None)
            # what moved is moved; the rest is on the wrong node
            self._ended(task, 0 if guest.config_node == task.target else 3)
        elif task.state == "started":
            self._start(task)
        elif task.state in ("request_stop", "stopped"):
            self._stop(task)
        elif task.state == "migrate":
            self._move(task)
        elif self._node.name in guest.processes:
            self._shut_down(task, lambda good: self._move(task) if good else self._ended(task, 1))
        else:
            self._move(task)

    def _start(self, task: _Task) -> None:
        worker, guest = self._world.new_pid(self._node), self._world.guest_of(task.sid)
        if self._node.name in guest.processes:
            self._ended(task, 0)
            return
        self._say(f"starting service {task.sid}", worker)

        def ended(good: bool) -> None:
            self._say(f"service status {task.sid} started" if good else f"unable to start service {task.sid}", worker)
            self._ended(task, 0 if good else 1)

        self._world.guest_acts.start(guest, self._node, _USER, ended, (_IDENT, worker))

    def _stop(self, task: _Task) -> None:
        self._shut_down(task, lambda good: self._ended(task, 0 if good else 1))

    def _shut_down(self, task: _Task, then: Callable[[bool], None]) -> None:
        worker, guest = self._world.new_pid(self._node), self._world.guest_of(task.sid)
        if self._node.name not in guest.processes:
            then(True)
            return
        self._say(f"stopping service {task.sid}", worker)

        def ended(good: bool) -> None:
            how = "service status {} stopped" if good else "unable to stop service {} (still running)"
            self._say(how.format(task.sid), worker)
            then(good)

        acts, by = self._world.guest_acts, (_IDENT, worker)
        if task.timeout:
            acts.shut_down(guest, self._node, _USER, ended, by, task.timeout)
        else:
            acts.stop(guest, self._node, _USER, ended, by)

    def _move(self, task: _Task) -> None:
        worker, guest = self._world.new_pid(self._node), self._world.guest_of(task.sid)

        def ended(good: bool) -> None:
            if not good:
                self._say(f"service {task.sid} not moved (migration error)", worker)
            self._ended(task, 0 if good else 1)

        self._world.guest_acts.migrate(guest, self._node, task.target, _USER, ended, (_IDENT, worker))

    def _ended(self, task: _Task, code: int) -> None:
        self._running.pop(task.sid, None)
        if task.uid is None:
            self.stop_errors += code != 0
        elif task.state != "started" or code != 1 or not self._try_again(task.sid):
            self._done(task, code)
        # it is seen to have ended when the loop looks again
        self._world.on(self._node, self._rng.uniform(0.0, 1.0), self._looks, "lrm looks after its workers")

    def _looks(self) -> None:
        if self._world.timeline.now > self._watched_until or not self._alive():
            # nobody looks before the next round
            return
        self.go_on()
        if not self.busy:
            self._idle()

    def _try_again(self, sid: str) -> bool:
        """Whether a failed start is simply tried again in the next round."""
        resource = self._world.pmxcfs.read(self._node).resources.get(sid, {})
        tries = self._tries.get(sid, 0)
        if tries >= int(resource.get("max_restart", MAX_RESTART)):
            self._say(f"unable to start service {sid} on local node after {tries} retries", None)
            self._tries[sid] = 0
            return False
        self._tries[sid] = tries + 1
        self._say(f"restart policy: retry number {tries + 1} for service '{sid}'", None)
        return True

    def _done(self, task: _Task, code: int) -> None:
        if task.uid is None:
            return
        if task.state == "started" and code == 0:
            self._tries[task.sid] = 0
        for old in [uid for uid, result in self.results.items() if result["sid"] == task.sid]:
            del self.results[old]
        self.results[task.uid] = {"exit_code": code, "sid": task.sid, "state": task.state}
