"""One session runs every fault: planned here and on the nodes, armed, injected, seen to bite, healed, seen healed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, Protocol

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import (
    CantTell,
    DeadManFired,
    EvidenceError,
    HealFailed,
    NoEffect,
    NotMet,
    SiteError,
    WaitTimeout,
)
from pytest_pveha.faults.fault import Fault, params
from pytest_pveha.faults.keeping import GRACE, Armed, Keeping
from pytest_pveha.faults.sentinel import posted
from pytest_pveha.observe.answer import Condition, cant_tell, wait_until
from pytest_pveha.observe.observer import Observer, View
from pytest_pveha.observe.reachable import answering

BITE = 60.0
"""Seconds a fault has to be seen to bite: BMCs act within 6 s, the membership forgets a node within 8."""

HEAL_WITHIN = 60.0
"""Seconds after which an undo that was not seen is made again."""

HEAL_PATIENCE = 900.0
"""Seconds until an undo is given up: a node that reset itself may take ten minutes until its own can be looked at.
A person who was asked for it has the time that the inventory gives them."""


class Register(Protocol):
    """Remembers, outside the run folder, that this run has something to heal."""

    def opened(self) -> None:
        """Called before the plan line is written."""

    def closed(self) -> None:
        """Called when the site is as it was found again."""

    def stop_asked(self) -> str | None:
        """Why the campaign is to end now; None while it may go on."""


@contextmanager
def injected(
    fault: Fault,
    name: str,
    observer: Observer,
    register: Register,
    keeping: Keeping,
    *,
    at_most: float,
    grace: float = GRACE,
    trial: bool = False,
) -> Iterator[None]:
    """While open the fault is in force; afterwards it is undone, whatever happened in between.

    Args:
        at_most: seconds it may be in force; the nodes themselves undo it ``grace`` seconds later.
        trial: it is made for a moment, before the fault that the test is about.

    Raises:
        PreflightRefused: nothing was touched.
        NoEffect: it was injected and did not bite.
        HarmSeen, StopAsked: from any look at the site while it is open: more is being lost than was meant, or somebody
            wants it to end.
        DeadManFired: a node undid it while it was wanted.
        HealFailed: the undo could not be seen; the site is dirty. While another error is under way it is a note on it.
    """
    fault.preflight(observer)
    sentinel = posted(observer, fault.reach, register.stop_asked)
    register.opened()
    observer.since = observer.site.clock.now().utc / SECOND
    plan = {
        "fault": name,
        "type": type(fault).__name__,
        "params": params(fault),
        "undo": {"by_hand": fault.undo},
        "trial": trial,
    }
    observer.write("fault.plan", plan)
    body: BaseException | None = None
    armed: Armed | None = None
    fired: list[str] = []
    outer = observer.sentinel
    try:
        armed = _arm(fault, name, plan, observer, keeping, at_most + grace)
        observer.write("fault.arm", {"fault": name, **asdict(armed)})
        observer.site.cluster.shun(fault.reach.nodes)
        sentinel.until = observer.site.clock.deadline(at_most).mono
        observer.sentinel = sentinel
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
            observer.site.cluster.shun(frozenset())
            observer.sentinel = outer
    if fired:
        raise DeadManFired(
            f"{', '.join(fired)} undid {name} without being asked, while it was still wanted: what was measured proves "
            f"nothing. Was the run held up, or a node's clock changed?"
        )


def _nobody(view: View) -> None:
    """While nothing is broken, nothing is out of order."""


def _arm(fault: Fault, name: str, plan: dict[str, Any], observer: Observer, keeping: Keeping, seconds: float) -> Armed:
    """The nodes know the fault, and undo it by themselves when nobody comes; else it is closed as not injected."""
    try:
        keeping.plan(name, plan)
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


def heal(fault: Fault, name: str, observer: Observer, keeping: Keeping) -> list[str]:
    """The fault is undone and its undo was seen; signals are kept back meanwhile. The dead-men that had acted before.

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
            fired = keeping.disarm(name, _answering(observer))
            if fired:
                observer.write("fault.fired", {"fault": name, "nodes": fired})
            observer.write("fault.close", {"fault": name, "outcome": "healed"})
            return fired
        answer = cant_tell(last)
        observer.write("fault.healed", {"fault": name, "answer": answer.verdict, "saw": last})
        observer.write("fault.close", {"fault": name, "outcome": "not_healed"})
        observer.unhealed.append(name)
        raise HealFailed(
            f"the site is DIRTY: {name} could not be undone ({last}). By hand: {fault.undo}; then `pveha heal`."
        )
