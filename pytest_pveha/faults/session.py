"""One session runs every fault: planned here and on the nodes, armed, injected, seen to bite, healed, seen healed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, Protocol

from pytest_pveha.clock import SECOND, Deadline
from pytest_pveha.errors import (
    CantTell,
    DeadManFired,
    EvidenceError,
    HealFailed,
    NoEffect,
    NotMet,
    PreflightRefused,
    SiteError,
    WaitTimeout,
)
from pytest_pveha.faults.fault import Fault, Reach, params
from pytest_pveha.faults.keeping import GRACE, Armed, Fired, Keeping
from pytest_pveha.faults.sentinel import Sentinel
from pytest_pveha.observe.answer import Condition, Write, cant_tell, wait_until
from pytest_pveha.observe.observer import READ, Observer, View
from pytest_pveha.observe.reachable import answering

BITE = 60.0
"""Seconds a fault has to be seen to bite: BMCs act within 6 s, the membership forgets a node within 8."""

HEAL_WITHIN = 60.0
"""Seconds after which an undo that was not seen is made again."""

HEAL_PATIENCE = 900.0
"""Seconds until an undo is given up: a node that reset itself may take ten minutes until its own can be looked at.
A person who was asked for it has the time that the inventory gives them."""


CHASE = 60.0
"""Seconds between two tries to reach a node that was out of reach when its fault was over."""


class Register(Protocol):
    """Remembers, outside the run folder, that this run has something to heal."""

    def opened(self) -> None:
        """Called before the plan line is written."""

    def closed(self) -> None:
        """Called when the site is as it was found again."""

    def stop_asked(self) -> str | None:
        """Why the campaign is to end now; None while it may go on."""


class Session:
    """One test's faults, each in force while its ``with`` is open, one inside another as the test has them."""

    def __init__(self, observer: Observer, register: Register, keeping: Keeping) -> None:
        self._observer = observer
        self._register = register
        self._keeping = keeping
        self._sentinel = Sentinel(observer.site, register.stop_asked)
        self._next: Deadline | None = None

    @property
    def standing(self) -> tuple[Reach, ...]:
        """What the faults in force take away, and what those just undone inside of them have not given back yet."""
        return self._sentinel.standing

    @contextmanager
    def injected(
        self,
        fault: Fault,
        name: str,
        *,
        at_most: float,
        grace: float = GRACE,
        trial: bool = False,
        unattended: bool = False,
    ) -> Iterator[None]:
        """While open the fault is in force; afterwards it is undone, whatever happened in between.

        Args:
            at_most: seconds it may be in force; the nodes themselves undo it ``grace`` seconds later.
            trial: it is made for a moment, before the fault that the test is about.
            unattended: the nodes are to undo it by themselves, each of them, while it is open.

        Raises:
            PreflightRefused: nothing was touched; or, unattended, it was undone by us where a node should have.
            NoEffect: it was injected and did not bite.
            HarmSeen, StopAsked: from any look at the site while it is open: more is being lost than was meant, or
                somebody wants it to end.
            DeadManFired: a node undid it while it was wanted, or when, cannot be told.
            HealFailed: the undo could not be seen; the site is dirty. While another error is under way it is a note
                on it.
        """
        observer, keeping = self._observer, self._keeping
        fault.preflight(observer)
        guests = observer.site.cluster.guests(observer.site.clock.deadline(READ))
        self._sentinel.learn(observer.look(), guests)
        self._register.opened()
        outer = (observer.since, observer.broken_at)
        observer.since = observer.site.clock.now().utc / SECOND
        plan = {
            "fault": name,
            "type": type(fault).__name__,
            "params": params(fault),
            "undo": {"by_hand": fault.undo},
            "trial": trial,
            "unattended": unattended,
        }
        observer.write("fault.plan", plan)
        body: BaseException | None = None
        armed: Armed | None = None
        fired: list[Fired] = []
        try:
            self._chase(observer.site.nodes.names)  # what an earlier one left might undo this one
            armed = _arm(fault, name, plan, observer, keeping, at_most + grace)
            observer.write("fault.arm", {"fault": name, **asdict(armed)})
            self._sentinel.begin(name, fault.reach, at_most)
            self._watch()
            _inject(fault, name, observer)
            _confirm(fault, name, observer, min(BITE, at_most))
            yield
        except BaseException as error:  # pytest.fail and Ctrl-C are no Exceptions
            body = error
            raise
        finally:
            observer.sentinel = _nobody
            try:
                if armed is not None:
                    fired = heal(fault, name, observer, keeping)
            except (HealFailed, EvidenceError) as dirty:
                if body is None:
                    raise
                body.add_note(str(dirty))
            finally:
                self._sentinel.end(name)
                self._watch()
                if self._sentinel.standing:  # what is asked from now on is about the fault that is still in force
                    observer.since, observer.broken_at = outer
        if unattended:
            _all_acted(name, armed, fired)
        elif fired:
            nodes = ", ".join(one.node for one in fired)
            raise DeadManFired(
                f"{nodes} undid {name} without being asked, while it was still wanted: what was measured proves "
                f"nothing. Was the run held up, or a node's clock changed?"
            )

    def _watch(self) -> None:
        """While anything is in force, or may still be undone by a node, each view is looked at; who is lost is not
        asked."""
        needed = self._sentinel.standing or self._keeping.astray
        self._observer.sentinel = self._look if needed else _nobody
        self._observer.site.cluster.shun("broken", self._sentinel.lost)

    def _look(self, view: View) -> None:
        if self._sentinel.standing:
            self._sentinel(view)
            self._observer.site.cluster.shun("broken", self._sentinel.lost)
        if self._keeping.astray and view.membership is not None and (self._next is None or self._next.expired()):
            self._next = self._observer.site.clock.deadline(CHASE)
            self._chase(name for name, online in view.membership.online.items() if online)

    def _chase(self, nodes: Iterable[str]) -> None:
        """Dead-men of faults that are over, on nodes that are back, are gone; what had acted is on record."""
        for name, fired in self._keeping.chase(nodes).items():
            tell_fired(self._observer.write, name, fired)


def _all_acted(name: str, armed: Armed | None, fired: Sequence[Fired]) -> None:
    """Return only if every dead-man did what it is for."""
    idle = sorted(set(armed.nodes if armed else ()) - {one.node for one in fired})
    if idle:
        raise PreflightRefused(
            f"the dead-man of {', '.join(idle)} did not undo {name} by itself, as it must if we die; it was undone "
            f"from here, and nothing that lasts longer is made"
        )


def _nobody(view: View) -> None:
    """While nothing is broken, nothing is out of order."""


def _arm(fault: Fault, name: str, plan: dict[str, Any], observer: Observer, keeping: Keeping, seconds: float) -> Armed:
    """The nodes know the fault, and undo it by themselves when nobody comes; else it is closed as not injected."""
    try:
        keeping.plan(name, plan)
        observer.look()  # a node that is off already takes its time, and whoever watches goes on watching
        return keeping.arm(name, fault.dead_man(observer, keeping.kept(name)), seconds)
    except BaseException:
        with observer.site.clock.shielded():
            keeping.disarm(name)
            observer.write("fault.close", {"fault": name, "outcome": "not_injected"})
        raise


def _inject(fault: Fault, name: str, observer: Observer) -> None:
    clock = observer.site.clock
    before = clock.now().mono
    observer.broken_at = before
    fault.inject(observer)
    observer.write("fault.inject", {"fault": name, "before": before, "after": clock.now().mono})


def _confirm(fault: Fault, name: str, observer: Observer, within: float) -> None:
    data: dict[str, Any] = {"fault": name}
    try:
        met = wait_until(Condition(f"{name} took effect", fault.took_effect), within, observer, every=0.5)
    except (NotMet, CantTell) as error:
        answer = "no" if isinstance(error, NotMet) else "cant_tell"
        observer.write("fault.effect", {**data, "answer": answer, "saw": error.last_seen, "low": None, "high": None})
        raise NoEffect(f"{name} did not bite, so what followed proves nothing: {error.last_seen}") from error
    observer.write("fault.effect", {**data, "answer": "yes", "saw": met.saw, "low": met.low, "high": met.high})


def _answering(observer: Observer) -> tuple[str, ...]:
    """The nodes that can be asked, members or not: who was cut off is none yet. The rest is cleared at the end."""
    found = []
    for node in observer.site.nodes:
        with suppress(SiteError):
            found += [node.name] * bool(answering(observer.site.clock, node.addresses))
    return tuple(found)


def tell_fired(write: Write, name: str, fired: Iterable[Fired]) -> None:
    """Each dead-man that had acted is on record; what that means the judge says."""
    for one in fired:
        write("fault.fired", one.to_json(name))


def heal(fault: Fault, name: str, observer: Observer, keeping: Keeping) -> list[Fired]:
    """The fault is undone and its undo was seen; signals are kept back meanwhile. The dead-men that had acted before
    that, as far as can be told.

    Raises:
        HealFailed: it could not be seen after several tries; the message says what to type.
        EvidenceError: it was healed, and that could not be written down.
    """
    clock = observer.site.clock
    with clock.shielded(), observer.undeterred():
        observer.write("fault.heal", {"fault": name})
        last = ""
        patience = clock.deadline(HEAL_PATIENCE)
        while True:
            try:
                fault.heal(observer)
            except SiteError as error:
                last = str(error)
            try:
                met = wait_until(Condition(f"{name} healed", fault.healed), HEAL_WITHIN, observer, every=2)
            except (NotMet, WaitTimeout) as error:
                last = last or str(error)
                if patience.expired() and observer.people.over():
                    break
                continue
            observer.write("fault.healed", {"fault": name, "answer": "yes", "saw": met.saw})
            healed = clock.now().mono
            fired = keeping.disarm(name, _answering(observer))
            tell_fired(observer.write, name, fired)
            observer.write("fault.close", {"fault": name, "outcome": "healed"})
            return [one for one in fired if not one.after(healed)]
        answer = cant_tell(last)
        observer.write("fault.healed", {"fault": name, "answer": answer.verdict, "saw": last})
        observer.write("fault.close", {"fault": name, "outcome": "not_healed"})
        observer.unhealed.append(name)
        raise HealFailed(
            f"the site is DIRTY: {name} could not be undone ({last}). By hand: {fault.undo}; then `pveha heal`."
        )
