"""Every fence path of a site: from each node to every other node's BMC, on that node's own network.

All nodes ask at once, each one BMC after the other, in the order that begins after its own place: so each BMC is asked
by one node at a time, and with our own that is two sessions (many BMCs have four). Whoever answers nobody holds no
session, and is asked by one more node for each that waited in vain: else two dead BMCs would cost a large site minutes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from pytest_pveha.clock import Instant, Task
from pytest_pveha.errors import SiteError
from pytest_pveha.handles.bmc import BmcAccess, NodeCommands
from pytest_pveha.handles.fence_path import STDIN, FencePath, Reply
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.identity import compared, in_band
from pytest_pveha.observe.observer import Observer

AGAIN = 0.25
"""Seconds after which a node whose next BMCs are all being asked looks again."""

LOOK = 1.0
"""Seconds between two looks at how far it is, for the person at the terminal."""

_MAY_SWITCH = frozenset({"OPERATOR", "ADMINISTRATOR", "OEM"})
"""Privilege levels that switch power (IPMI 2.0, appendix G)."""

PACKAGES = {"ipmitool": "ipmitool", "curl": "curl"}


class Turns:
    """Which BMC each node asks next. Safe from any thread."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._left = {name: [*names[at + 1 :], *names[:at]] for at, name in enumerate(names)}
        self._busy = dict.fromkeys(names, 0)
        self._waited = dict.fromkeys(names, 0)
        self._answered: set[str] = set()
        self._lock = threading.Lock()

    def left(self, peer: str) -> bool:
        """Whether that node has not asked everybody."""
        return bool(self._left[peer])

    def take(self, peer: str) -> str | None:
        """The BMC that this node asks now; None while those it still has to ask are busy."""
        with self._lock:
            for target in self._left[peer]:
                room = 1 if target in self._answered else 1 + self._waited[target]
                if self._busy[target] < room:
                    self._busy[target] += 1
                    self._left[peer].remove(target)
                    return target
        return None

    def ended(self, target: str, *, silent: bool) -> None:
        """Somebody has asked that BMC, and was answered or not."""
        with self._lock:
            self._busy[target] -= 1
            if silent:
                self._waited[target] += 1
            else:
                self._answered.add(target)


@dataclass(slots=True)
class _Known:
    """What was found out of one node and its BMC before its peers ask it."""

    commands: NodeCommands | None = None
    access: BmcAccess | None = None
    board: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""


@dataclass(slots=True)
class _Asked:
    """One path, asked."""

    peer: str
    target: str
    reply: Reply | None = None
    told: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""


class _Survey:
    """One pass over all paths."""

    def __init__(self, observer: Observer, within: float) -> None:
        self._observer = observer
        self._site = observer.site
        self._clock = observer.site.clock
        self._seconds = math.ceil(within) + 1
        self._turns = Turns(self._site.nodes.names)
        self._stop = threading.Event()
        self.known = {name: _Known() for name in self._site.nodes.names}
        self.asked: list[_Asked] = []

    def run(self) -> None:
        """Every BMC and then every path has been asked, each node by itself."""
        for task in self._side_by_side("learn", self._learn):
            task.join()
        tasks = self._side_by_side("path", self._ask_all)
        try:
            while any(self._turns.left(name) for name in self._site.nodes.names):
                self._observer.tell("asking every BMC from every other node", f"{len(self.asked)} paths")
                self._clock.sleep(LOOK)
        except BaseException:
            self._stop.set()  # each ends after its present question
            raise
        finally:
            for task in tasks:
                task.join()
        self.asked.sort(key=lambda one: (one.peer, one.target))

    def _side_by_side(self, name: str, work: Callable[[Node], None]) -> list[Task]:
        return [self._clock.spawn(f"{name}-{node.name}", partial(work, node)) for node in self._site.nodes]

    def _learn(self, node: Node) -> None:
        known = self.known[node.name]
        if node.bmc is None:
            known.trouble = f"node {node.name} has no BMC in the inventory; add nodes.{node.name}.bmc"
            return
        known.board = in_band(self._observer, node)
        try:
            known.commands = node.bmc.from_a_node(STDIN, self._clock.deadline(self._seconds))
            known.access = node.bmc.access(self._clock.deadline(self._seconds))
        except SiteError as error:
            known.trouble = str(error)

    def _ask_all(self, peer: Node) -> None:
        trouble = ""
        while self._turns.left(peer.name) and not self._stop.is_set():
            target = self._turns.take(peer.name)
            if target is None:
                self._clock.sleep(AGAIN)
                continue
            asked = _Asked(peer.name, target, trouble=trouble)
            if not trouble and (commands := self.known[target].commands) is not None:
                try:
                    self._ask(FencePath(peer, target, commands, self._clock), asked)
                except SiteError as error:  # of the peer itself: its other paths cannot be asked either
                    trouble = asked.trouble = str(error)
            self.asked.append(asked)
            self._turns.ended(target, silent=asked.reply is not None and asked.reply.silent)

    def _ask(self, path: FencePath, asked: _Asked) -> None:
        asked.reply = path.power_state(self._seconds)
        if asked.reply.power:
            asked.told = path.tells(self._seconds)


def survey(observer: Observer, within: float) -> None:
    """Every path's answer is in the journal, each a ``path`` line.

    Args:
        within: seconds in which a BMC is to answer; it is waited for a second longer.
    """
    clock = observer.site.clock
    begin = clock.now()
    found = _Survey(observer, within)
    found.run()
    for asked in found.asked:
        _write(observer, found.known[asked.target], asked, begin)


def _write(observer: Observer, known: _Known, asked: _Asked, begin: Instant) -> None:
    answer = _answer(known, asked)
    own, may = _own(observer.site.nodes[asked.target], known, asked), _may(known, asked)
    reply = asked.reply
    observer.write(
        "path",
        {
            "peer": asked.peer,
            "bmc": asked.target,
            "answer": answer.verdict,
            "saw": answer.saw,
            "before": (reply.asked_at if reply else begin).mono,
            "after": (reply.answered_at if reply else begin).mono,
            "least": reply.least if reply else 0.0,
            "own": own.verdict,
            "own_saw": own.saw,
            "may": may.verdict,
            "may_saw": may.saw,
        },
    )


def _answer(known: _Known, asked: _Asked) -> Answer:
    if asked.reply is None:
        return cant_tell(asked.trouble or known.trouble)
    if asked.reply.missing:
        package = PACKAGES.get(asked.reply.missing, asked.reply.missing)
        return cant_tell(f"{asked.reply.trouble}; on {asked.peer} type: apt-get install {package}")
    if not asked.reply.power:
        return no(asked.reply.trouble)
    return yes(f"chassis {asked.reply.power}")


def _own(node: Node, known: _Known, asked: _Asked) -> Answer:
    if asked.reply is None or not asked.reply.power:
        return cant_tell("it did not answer")
    return compared(node, asked.told, known.board)


def _may(known: _Known, asked: _Asked) -> Answer:
    """By what this very session was granted, and by what the BMC says of our user: the lesser counts."""
    if asked.reply is None or not asked.reply.power:
        return cant_tell("it did not answer")
    level, access = asked.told.get("level"), known.access
    if level is not None and level.upper() not in _MAY_SWITCH:
        return no(f"the session was granted {level} only")
    if access is not None and access.may_switch is False:
        return no(f"user {access.user} is {access.level or 'less than an operator'} there; give it OPERATOR")
    if level is not None:
        return yes(f"the session was granted {level}")
    if access is not None and access.may_switch:
        return yes(f"user {access.user} is {access.level}")
    return cant_tell(f"the BMC does not say what our user may do{f': {known.trouble}' if known.trouble else ''}")
