"""Each node asked itself, again and again: its quorum, the guests' processes on it, its boot id.

What the cluster says of a node is not what the node does. A cut leaves SSH alone, so that both sides can be seen.
"""

from __future__ import annotations

import re

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import SiteError
from pytest_pveha.handles import corosync
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.heard import Heard
from pytest_pveha.observe.observer import Observer, View
from pytest_pveha.observe.turns import EVERY, Turns

PATIENCE = 2.0
"""Seconds for each answer: a dead node must not hold up the others."""

STARVING = 30 * SECOND
"""Nanoseconds without quorum after which a node's watchdog is asked: it warns 50 s after its last feed, which may be
10 s older than the cut, and quorum is lost within some seconds of it."""

WARNED = re.compile(r"client \(PID (?P<pid>\d+)\) watchdog (?P<what>is about to expire|was updated before expiring)")
"""What watchdog-mux says when a client has not fed it for 50 s, and when it did after all (watchdog-mux.c)."""


class Witness:
    """Sees what each node does itself, whenever the run looks at the site; when it could is on record, too."""

    def __init__(self, observer: Observer, nodes: Nodes) -> None:
        self._observer = observer
        self._clock = observer.site.clock
        self._heard = Heard(observer, EVERY)
        self._warnings: set[tuple[str, float]] = set()
        observer.afresh("process/", "quorate@", "members@", "votes@", "device@")
        self._heard.expect("api")
        self._turns = Turns(observer, nodes, self._heard)

    def __call__(self, view: View) -> None:
        """The nodes whose turn it is have been asked; ``view`` is what the API said."""
        told = view.manager or view.membership
        now = self._clock.now().mono
        if told is not None and view.manager is not None:
            self._heard.told("api", "good", told.asked.at.mono, now)
        else:
            self._heard.told("api", "bad", now, now)
        self._turns.take(self._ask)

    def stop(self) -> None:
        """When each was seen is in the journal."""
        self._heard.stop()

    def _ask(self, node: Node) -> None:
        self._observer.processes(node, PATIENCE)
        self._observer.boot_id(node, PATIENCE)
        self._votes(node)
        lost = self._observer.began(f"quorate@{node.name}")
        starving = lost is not None and self._clock.now().mono - lost >= STARVING
        if starving and self._observer.last(f"quorate@{node.name}") == "no":
            self._watchdog(node)

    def _votes(self, node: Node) -> None:
        asked = self._clock.now()
        try:
            found = corosync.quorum(node, self._clock.deadline(PATIENCE))
        except SiteError:
            return  # no corosync there, or one that hangs: not quorate is what corosync says, and it says nothing
        answered = self._clock.now()
        for what, value in (
            (f"quorate@{node.name}", "yes" if found.quorate else "no"),
            (f"members@{node.name}", str(found.nodes)),
            (f"votes@{node.name}", f"{found.total} of {found.expected}, {found.quorum} needed"),
            (f"device@{node.name}", "none" if found.device is None else str(found.device)),
        ):
            self._observer.note(what, value, asked, answered, "ssh")

    def _watchdog(self, node: Node) -> None:
        """What its multiplexer says of clients that do not feed it, by our clock: soon nobody can read it any more."""
        try:
            offset = node.clock_offset(self._clock.deadline(PATIENCE))
            lines = node.journal(self._observer.since, ("watchdog-mux",), self._clock.deadline(PATIENCE))
        except SiteError:
            return
        now = self._clock.now()
        for line in lines:
            said = WARNED.search(line.text)
            if said is None or (node.name, line.at) in self._warnings:
                continue
            self._warnings.add((node.name, line.at))
            ours = now.mono + round((line.at - offset.offset) * SECOND) - now.utc
            error = round((offset.error + 0.001) * SECOND)
            word = "starving" if said["what"].startswith("is about") else "fed"
            seen = {"what": f"{word}/{node.name}", "old": None, "new": said["pid"]}
            self._observer.write(
                "seen",
                {**seen, "low": max(0, ours - error), "high": max(0, ours + error), "source": f"journal {node.name}"},
            )
