"""The run's eyes: they ask the site, remember what they last saw, and journal each change with its bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_pveha.clock import SECOND, Instant
from pytest_pveha.errors import EvidenceError, NoProxmox, SiteError
from pytest_pveha.handles.cluster import Manager, Membership
from pytest_pveha.handles.node import Node, Processes, Votes
from pytest_pveha.handles.site import Site
from pytest_pveha.observe.answer import Answer, Write, cant_tell, not_there
from pytest_pveha.observe.people import People
from pytest_pveha.observe.sampling import Sampling

READ = 10.0
"""Seconds any single reading may take. Around a membership change the API can hang for more than five
(measured on a PVE 9.1.9 control plane), which is no outage."""


@dataclass(frozen=True, slots=True)
class View:
    """One look at the cluster; a part that did not answer is None, with the reason in ``trouble``."""

    membership: Membership | None
    manager: Manager | None
    trouble: str
    proxmox: bool = True
    """Whether there is an HA manager that could have told."""

    @property
    def whole(self) -> bool:
        """Whether all was told that there is to tell."""
        return self.membership is not None and (self.manager is not None or not self.proxmox)

    def unseen(self) -> Answer:
        """What a question is answered with whose part of this view is None."""
        return not_there() if self.membership is not None and not self.proxmox else cant_tell(self.trouble)


class Agents(Protocol):
    """Who asks guests by what answers inside of them."""

    @property
    def alive(self) -> bool: ...
    def good_since(self, sid: str) -> int | None: ...


class Observer:
    """Looks at the site, and writes a ``seen`` line whenever something is not what it last was."""

    def __init__(
        self, site: Site, write: Write, tell: Callable[[str, str], None] = lambda waiting_for, saw: None
    ) -> None:
        self.site = site
        self.write = write
        self.tell = tell
        """Hears, for the person at the terminal, what is waited for and what was last seen."""
        self.unhealed: list[str] = []
        """Faults whose undo was not seen: the site is dirty, however it looks."""
        self.people = People(self)
        """Whoever can be asked to do what no machine can."""
        self.since = site.clock.now().utc / SECOND
        """When the present incident began (epoch seconds): journals are read from here on."""
        self.broken_at = 0
        """When the present fault was injected (mono ns)."""
        self.agents: Agents | None = None
        """Who asks guests by their agents, in a run."""
        self.sampler: Sampling | None = None
        self.sentinel: Callable[[View], None] = lambda view: None
        """Sees every view while a fault is in force, and raises when it must end at once."""
        self.witness: Callable[[View], None] = lambda view: None
        """Sees every view, and asks the nodes themselves."""
        self.waited = 0
        """Nanoseconds spent in waits for what the site had to do."""
        self.watched = 0
        """Nanoseconds that tests let pass on purpose."""
        self._last: dict[str, tuple[str, int]] = {}
        self._changes: dict[str, tuple[int, int]] = {}
        self._began: dict[str, int] = {}
        self.mute_of_ceph: set[str] = set()
        """Nodes that had no answer of Ceph's when they were asked last."""
        self.ceph_map = (0, 0, 0)
        """The epoch of Ceph's OSD map when it was last seen, since when it is known to be that, and when it was asked
        for (mono ns)."""

    @contextmanager
    def undeterred(self) -> Iterator[None]:
        """What the record cannot take meanwhile (a full disk) stops nothing; it is raised at the end.

        For healing: a site is not left broken because nobody can write it down.
        """
        write, lost = self.write, list[EvidenceError]()

        def try_to(kind: str, data: Mapping[str, Any]) -> None:
            try:
                write(kind, dict(data))
            except EvidenceError as error:
                lost.append(error)

        self.write = try_to
        try:
            yield
        finally:
            self.write = write
        if lost:
            raise lost[0]

    def look(self) -> View:
        """Membership and the HA manager's status as one endpoint tells them: two reads."""
        membership: Membership | None = None
        manager: Manager | None = None
        trouble, proxmox = "", True
        deadline = self.site.clock.deadline(READ)
        try:
            membership = self.site.cluster.membership(deadline)
            manager = self.site.cluster.manager(deadline)
        except NoProxmox as error:
            trouble, proxmox = str(error), False
        except SiteError as error:
            trouble = str(error)
        if membership is not None:
            asked = membership.asked
            self.note("quorate", _word(membership.quorate), asked.at, asked.answered, "api")
            for name, online in sorted(membership.online.items()):
                self.note(f"membership/{name}", "online" if online else "offline", asked.at, asked.answered, "api")
        if manager is not None:
            asked = manager.asked
            self.note("master", manager.master, asked.at, asked.answered, "api")
            for name, state in sorted(manager.nodes.items()):
                self.note(f"node_status/{name}", state, asked.at, asked.answered, "api")
            for sid, service in sorted(manager.services.items()):
                self.note(f"service/{sid}", f"{service.state}@{service.node}", asked.at, asked.answered, "api")
        self.people.hear()
        view = View(membership, manager, trouble, proxmox)
        self.sentinel(view)
        self.witness(view)
        return view

    def boot_id(self, node: Node, patience: float = READ) -> str:
        """The node's boot id, noted."""
        asked = self.site.clock.now()
        value = node.boot_id(self.site.clock.deadline(patience))
        self.note(f"boot_id/{node.name}", value, asked, self.site.clock.now(), "ssh")
        return value

    def votes(self, node: Node) -> Votes:
        """The votes as the node's own corosync counts them, noted."""
        asked = self.site.clock.now()
        found = node.votes(self.site.clock.deadline(READ))
        self.note(f"quorate@{node.name}", _word(found.quorate), asked, self.site.clock.now(), "ssh")
        return found

    def processes(self, node: Node, patience: float = READ) -> Processes:
        """The guests whose process runs on the node, each noted."""
        found = node.processes(self.site.clock.deadline(patience))
        for sid in self.site.guests.sids:
            what = f"process/{sid}@{node.name}"
            state = "running" if sid in found.ages else "absent"
            if self.note(what, state, found.asked_at, found.answered_at, "ssh") and state == "running":
                self._note_start(sid, node.name, found)
        return found

    def _note_start(self, sid: str, node: str, found: Processes) -> None:
        """A process's own age bounds its start better than our looks do; ``ps`` gives whole seconds, cut off."""
        age = found.ages[sid] * SECOND
        low, high = max(0, found.asked_at.mono - age - SECOND), found.answered_at.mono - age
        if high < 0:  # before our clock's zero, which a controller that was booted lately has not long ago
            return
        data = {"what": f"process_start/{sid}@{node}", "old": None, "new": "started", "low": low, "high": high}
        self.write("seen", {**data, "source": "process age"})

    def last(self, what: str) -> str | None:
        """What that was when it was last seen; None if it never was."""
        seen = self._last.get(what)
        return None if seen is None else seen[0]

    def began(self, what: str) -> int | None:
        """When (mono ns) that was first seen to be what it is now; None if it never was seen."""
        return self._began.get(what)

    def change(self, what: str) -> tuple[int, int] | None:
        """Between which moments (mono ns) that last became what it is; None if it was always seen so."""
        return self._changes.get(what)

    def afresh(self, *kinds: str) -> None:
        """Whatever of these kinds is seen next is told, changed or not: a test's record stands by itself."""
        for what in [what for what in self._last if what.startswith(kinds)]:
            del self._last[what]

    def note(self, what: str, value: str, asked: Instant, answered: Instant, source: str) -> bool:
        """Remember what was seen; whether it is new.

        A change is journalled as having come between the last sight of the old and the first of the new.
        """
        old = self._last.get(what)
        self._last[what] = (value, asked.mono)
        if old is not None and old[0] == value:
            return False
        self._began[what] = asked.mono
        if old is None:
            self.write(
                "seen",
                {"what": what, "old": None, "new": value, "low": asked.mono, "high": answered.mono, "source": source},
            )
        else:
            self._changes[what] = (old[1], answered.mono)
            self.write(
                "seen",
                {"what": what, "old": old[0], "new": value, "low": old[1], "high": answered.mono, "source": source},
            )
        return True


def _word(value: bool) -> str:
    return "yes" if value else "no"
