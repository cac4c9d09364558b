"""Guests asked by what answers inside of them, for those whose inventory has an ``agent`` probe.

A VM's agent is asked through the API, a container by a command on its node: every few seconds, each guest by a task of
its own. Who cannot be asked is not taken for silent, unless the cluster has lost its node.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pytest_pveha.clock import SECOND, Task
from pytest_pveha.errors import SiteError
from pytest_pveha.handles.agent import AgentAway
from pytest_pveha.handles.guest import Guest
from pytest_pveha.observe.heard import Heard
from pytest_pveha.observe.observer import READ, Observer

EVERY: Final = 5
"""Seconds between two questions to a guest: the API is not to be worn down by them."""
PATIENCE: Final = 4.0
"""Seconds for an answer."""


class AgentProbes:
    """Whether somebody answers inside. Nobody is asked before ``watch`` names them."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._heard = Heard(observer, EVERY * SECOND, probe="agent:{}", subject="{}", what="agent")
        self._tasks: dict[str, Task] = {}
        self._good: dict[str, int | None] = {}
        self._nodes: dict[str, str] = {}
        self._over = False

    @property
    def alive(self) -> bool:
        """Whether anybody is being asked."""
        return bool(self._tasks)

    def watch(self, guests: Iterable[Guest]) -> None:
        """Those of them with an agent probe are asked from now on."""
        for guest in guests:
            if not guest.agent or guest.sid in self._tasks:
                continue
            self._heard.expect(guest.sid)
            self._good[guest.sid] = None
            clock, name = self._observer.site.clock, f"agent-{guest.sid.replace(':', '-')}"
            self._tasks[guest.sid] = clock.spawn(name, lambda sid=guest.sid: self._loop(sid))  # type: ignore[misc]

    def good_since(self, sid: str) -> int | None:
        """Since which question (mono ns) it has answered each; None where it did not answer the last one."""
        return self._good.get(sid)

    def stop(self) -> None:
        """The last answers are in the journal; nobody is asked any more."""
        self._over = True
        for task in self._tasks.values():
            task.join()
        self._tasks.clear()
        self._heard.stop()

    def _loop(self, sid: str) -> None:
        clock = self._observer.site.clock
        due = clock.now().mono
        while not self._over:
            asked = clock.now().mono
            answer = self._ask(sid)
            self._heard.told(sid, answer, asked, clock.now().mono)
            self._good[sid] = None if answer != "good" else asked if self._good[sid] is None else self._good[sid]
            due = max(due + EVERY * SECOND, clock.now().mono)
            clock.sleep_until(due)

    def _ask(self, sid: str) -> str:
        site = self._observer.site
        node = ""
        try:
            node = self._nodes.get(sid) or site.cluster.guests(site.clock.deadline(READ))[sid].node
            site.inside(sid, node).ping(site.clock.deadline(PATIENCE))
        except (AgentAway, SiteError, KeyError) as error:
            self._nodes.pop(sid, None)  # it may be elsewhere by now
            return "bad" if isinstance(error, AgentAway) or self._lost(node) else "unknown"
        self._nodes[sid] = node
        return "good"

    def _lost(self, node: str) -> bool:
        """Whether the cluster says that the guest's node is no member any more."""
        site = self._observer.site
        try:
            return site.cluster.membership(site.clock.deadline(READ)).online.get(node) is False
        except SiteError:
            return False
