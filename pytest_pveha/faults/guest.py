"""Faults of one guest: its process killed, its place changed, its network gone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults.fault import Danger, DeadMan, Reach, Undo
from pytest_pveha.handles import guest_process
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.shell import quote
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.observe.reachable import answering

HA_TAKES = 60.0
"""Seconds after which HA has started a dead guest again, if it does: an LRM looks every ten, and a start takes some."""

A_ROUND = 15.0
"""Seconds after which a request that still waited in the master's queue has been taken: its rounds are 10 s apart."""


@dataclass(frozen=True, slots=True)
class GuestKilled:
    """A guest's process is killed hard on its node, as by the kernel when memory is short.

    Blast radius: the guest. Undo: HA starts it again, which is what is tested; where it does not, it is asked to.
    """

    kind: ClassVar[str] = "guest-killed"
    family: ClassVar[str] = "guest"
    danger: ClassVar[Danger] = Danger.GUESTS
    undo: ClassVar[str] = "ha-manager set SID --state disabled, then --state started"

    sid: str
    node: str
    pid: int
    places: tuple[tuple[str, int], ...]
    """Where the guest answers: until it does so again it is not as it was."""

    @property
    def reach(self) -> Reach:
        return _only(self.sid)

    def preflight(self, observer: Observer) -> None:
        _started_there(observer, self.sid, self.node)
        try:
            now = guest_process.pid(_node(observer, self.node), self.sid, observer.site.clock.deadline(READ))
        except SiteError as error:
            raise PreflightRefused(f"the process of {self.sid} is not to be seen: {error}") from error
        if now != self.pid:
            raise PreflightRefused(f"{self.sid} was process {self.pid} on {self.node} and is {now}; look again")
        _answers(observer, self.sid, self.places)

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """None: the HA manager is the one who starts it again, whoever else is gone."""
        return DeadMan.on_every()

    def inject(self, observer: Observer) -> None:
        _node(observer, self.node).act(observer.site.clock.deadline(READ), "kill", "-9", str(self.pid))

    def took_effect(self, observer: Observer) -> Answer:
        """The process is gone, by the node's process table."""
        if self.pid in _node(observer, self.node).pids(observer.site.clock.deadline(READ)):
            return no(f"process {self.pid} of {self.sid} still runs on {self.node}")
        return yes(f"process {self.pid} of {self.sid} is gone on {self.node}")

    def heal(self, observer: Observer) -> None:
        _ask_to_run(observer, self.sid)

    def healed(self, observer: Observer) -> Answer:
        """It runs where HA has it, and answers where it did."""
        answer = _runs(observer, self.sid)
        if answer.verdict != "yes":
            return answer
        silent = set(self.places) - set(answering(observer.site.clock, self.places))
        return no(f"{answer.saw} and does not answer at {_listed(silent)}") if silent else answer


@dataclass(frozen=True, slots=True)
class GuestMoved:
    """The HA manager moves a guest to another node: alive (migrate), or stopped and started there (relocate).

    Blast radius: the guest. Undo: it is moved home.
    """

    kind: ClassVar[str] = "guest-moved"
    family: ClassVar[str] = "guest"
    danger: ClassVar[Danger] = Danger.GUESTS
    undo: ClassVar[str] = "ha-manager migrate SID HOME"

    sid: str
    home: str
    target: str
    alive: bool

    @property
    def reach(self) -> Reach:
        return _only(self.sid)

    def preflight(self, observer: Observer) -> None:
        _started_there(observer, self.sid, self.home)
        if self.target == self.home:
            raise PreflightRefused(f"{self.sid} runs on {self.home} already: that is no move")

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """Two nodes ask for it to be moved home, in different failure domains where there are any."""
        nodes = sorted(observer.site.nodes, key=lambda node: node.room == _node(observer, self.target).room)
        script = (quote("ha-manager", "migrate", self.sid, self.home),)
        undos = tuple(Undo(node.name, script, outlives_reboot=True) for node in nodes)
        return DeadMan(undos, min(2, len(undos)))

    def inject(self, observer: Observer) -> None:
        cluster = observer.site.cluster
        ask = cluster.migrate if self.alive else cluster.relocate
        ask(self.sid, self.target, observer.site.clock.deadline(READ))

    def took_effect(self, observer: Observer) -> Answer:
        """The HA manager has taken the request: it moves the service, or has it there. Its arrival is the test's."""
        view = observer.look()
        row = view.manager.services.get(self.sid) if view.manager is not None else None
        if row is None:
            return cant_tell(view.trouble or f"{self.sid} is no HA service")
        if row.state in ("migrate", "relocate", "request_stop") or row.node == self.target:
            return yes(f"HA calls {self.sid} {row.state} on {row.node}")
        return no(f"HA calls {self.sid} {row.state} on {row.node}")

    def heal(self, observer: Observer) -> None:
        # asked even where it is at home: the move may still wait in the master's queue, and this waits behind it
        view = observer.look()
        row = view.manager.services.get(self.sid) if view.manager is not None else None
        if row is not None and row.state == "started":
            observer.site.cluster.migrate(self.sid, self.home, observer.site.clock.deadline(READ))
        else:
            _ask_to_run(observer, self.sid)

    def healed(self, observer: Observer) -> Answer:
        """At home, and still there when whatever waited in the master's queue has been taken."""
        for pause in (0.0, A_ROUND):
            observer.site.clock.sleep(pause)
            answer = _runs(observer, self.sid, self.home)
            if answer.verdict != "yes":
                return answer
        return answer


@dataclass(frozen=True, slots=True)
class BridgeDown:
    """A guest's network cards are down on its node: it runs, and nobody reaches it. HA watches processes only.

    Blast radius: the guest's network. Undo: the cards are up; a restart or a move of the guest makes new ones.
    """

    kind: ClassVar[str] = "bridge-down"
    family: ClassVar[str] = "guest"
    danger: ClassVar[Danger] = Danger.NETWORK
    undo: ClassVar[str] = "on the node: ip link set dev CARD up"

    sid: str
    node: str
    cards: tuple[str, ...]
    """Their ends on the node, such as tap101i0."""
    places: tuple[tuple[str, int], ...]
    """Where the guest answers: that it no longer does is seen by us."""

    @property
    def reach(self) -> Reach:
        return _only(self.sid)

    def preflight(self, observer: Observer) -> None:
        _started_there(observer, self.sid, self.node)
        there = _cards(observer, self.node, self.sid)
        if not self.cards or set(self.cards) != set(there):
            raise PreflightRefused(f"{self.sid} has no network card on {self.node} that could be set down")
        if down := [card for card, up in there.items() if not up]:
            raise PreflightRefused(f"{', '.join(down)} of {self.sid} is down already")
        _answers(observer, self.sid, self.places)

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        return DeadMan.on_every(Undo(self.node, tuple(quote(*_set(card, "up")) for card in self.cards)))

    def inject(self, observer: Observer) -> None:
        for card in self.cards:
            _node(observer, self.node).act(observer.site.clock.deadline(READ), *_set(card, "down"))

    def took_effect(self, observer: Observer) -> Answer:
        """The guest no longer answers us."""
        if there := answering(observer.site.clock, self.places):
            return no(f"{self.sid} still answers at {_listed(there)}")
        return yes(f"{self.sid} answers nowhere any more")

    def heal(self, observer: Observer) -> None:
        for card in sorted(_cards(observer, self.node, self.sid)):
            if card in self.cards:
                _node(observer, self.node).act(observer.site.clock.deadline(READ), *_set(card, "up"))

    def healed(self, observer: Observer) -> Answer:
        down = [card for card, up in _cards(observer, self.node, self.sid).items() if not up and card in self.cards]
        return no(f"{', '.join(down)} of {self.sid} is down") if down else yes(f"no card of {self.sid} is down")


def _only(sid: str) -> Reach:
    return Reach(frozenset(), costs_membership=False, guests=frozenset({sid}))


def _node(observer: Observer, name: str) -> Node:
    return observer.site.nodes[name]


def _started_there(observer: Observer, sid: str, node: str) -> None:
    view = observer.look()
    if view.manager is None:
        raise PreflightRefused(f"the HA manager cannot be asked, so nothing was broken: {view.trouble}")
    row = view.manager.services.get(sid)
    if row is None or (row.state, row.node) != ("started", node):
        told = "no HA service" if row is None else f"{row.state} on {row.node}"
        raise PreflightRefused(f"{sid} is {told}; it must be started on {node}")


def _answers(observer: Observer, sid: str, places: tuple[tuple[str, int], ...]) -> None:
    """Return only if it answers at each of them, and there are any: else nobody could see what becomes of it."""
    if not places:
        raise PreflightRefused(f"{sid} has no probe in the inventory that could see it go; add guests.probes")
    if silent := set(places) - set(answering(observer.site.clock, places)):
        raise PreflightRefused(f"{sid} does not answer at {_listed(silent)} now, so nothing was broken")


def _listed(places: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{host}:{port}" for host, port in sorted(places))


def _ask_to_run(observer: Observer, sid: str) -> None:
    """A service that HA gave up, or that is stopped, is asked for again; disabling first is the way out of an error."""
    view = observer.look()
    row = view.manager.services.get(sid) if view.manager is not None else None
    wanted = {"error": "disabled", "stopped": "started"}.get(row.state) if row is not None else None
    if row is not None and row.state == "started" and _waited(observer) > HA_TAKES:
        running = sid in observer.processes(_node(observer, row.node)).ages
        wanted = None if running else "stopped"  # HA takes it for running: stopped first, then started
    if wanted is not None:
        observer.site.cluster.request(sid, wanted, observer.site.clock.deadline(READ))


def _waited(observer: Observer) -> float:
    """Seconds since the incident began, or since somebody came to heal it."""
    return observer.site.clock.now().utc / SECOND - observer.since


def _runs(observer: Observer, sid: str, node: str | None = None) -> Answer:
    """Whether HA calls it started, there if a node is named, and its process is seen where HA has it."""
    view = observer.look()
    if view.manager is None:
        return view.unseen()
    row = view.manager.services.get(sid)
    if row is None:
        return no(f"{sid} is no HA service")
    if row.state != "started" or node not in (None, row.node):
        return no(f"{sid} is {row.state} on {row.node}")
    if sid not in observer.processes(_node(observer, row.node)).ages:
        return no(f"no process of {sid} on {row.node}")
    return yes(f"{sid} runs on {row.node}")


def _cards(observer: Observer, node: str, sid: str) -> dict[str, bool]:
    return guest_process.cards(_node(observer, node), sid, observer.site.clock.deadline(READ))


def _set(card: str, state: str) -> tuple[str, ...]:
    return ("ip", "link", "set", "dev", card, state)
