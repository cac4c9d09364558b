"""One session runs every fault: planned on disk, injected, seen to bite, healed, seen healed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import CantTell, HealFailed, NoEffect, NotMet, SiteError, WaitTimeout
from pytest_pveha.faults.fault import Fault, params
from pytest_pveha.faults.sentinel import posted
from pytest_pveha.observe.answer import Condition, cant_tell, wait_until
from pytest_pveha.observe.observer import Observer, View

BITE = 60.0
"""Seconds a fault has to be seen to bite: BMCs act within 6 s, the membership forgets a node within 8."""

HEAL_TRIES = 5
HEAL_WITHIN = 60.0


class Register(Protocol):
    """Remembers, outside the run folder, that this run has something to heal."""

    def opened(self) -> None:
        """Called before the plan line is written."""

    def closed(self) -> None:
        """Called when the site is as it was found again."""

    def stop_asked(self) -> str | None:
        """Why the campaign is to end now; None while it may go on."""


@contextmanager
def injected(fault: Fault, name: str, observer: Observer, register: Register) -> Iterator[None]:
    """While open the fault is in force; afterwards it is undone, whatever happened in between.

    Raises:
        PreflightRefused: nothing was touched.
        NoEffect: it was injected and did not bite.
        HarmSeen, StopAsked: from any look at the site while it is open: more is being lost than was meant, or somebody
            wants it to end.
        HealFailed: the undo could not be seen; the site is dirty. While another error is under way it is a note on it.
    """
    fault.preflight(observer)
    sentinel = posted(observer, fault.reach, register.stop_asked)
    register.opened()
    observer.since = observer.site.clock.now().utc / SECOND
    observer.write(
        "fault.plan",
        {"fault": name, "type": type(fault).__name__, "params": params(fault), "undo": {"by_hand": fault.undo}},
    )
    body: BaseException | None = None
    observer.sentinel = sentinel
    try:
        _inject(fault, name, observer)
        _confirm(fault, name, observer)
        yield
    except BaseException as error:  # pytest.fail and Ctrl-C are no Exceptions
        body = error
        raise
    finally:
        observer.sentinel = _nobody
        try:
            heal(fault, name, observer)
        except HealFailed as dirty:
            if body is None:
                raise
            body.add_note(str(dirty))


def _nobody(view: View) -> None:
    """While nothing is broken, nothing is out of order."""


def _inject(fault: Fault, name: str, observer: Observer) -> None:
    clock = observer.site.clock
    before = clock.now().mono
    fault.inject(observer)
    observer.write("fault.inject", {"fault": name, "before": before, "after": clock.now().mono})


def _confirm(fault: Fault, name: str, observer: Observer) -> None:
    data: dict[str, Any] = {"fault": name}
    try:
        met = wait_until(Condition(f"{name} took effect", fault.took_effect), BITE, observer, every=0.5)
    except (NotMet, CantTell) as error:
        answer = "no" if isinstance(error, NotMet) else "cant_tell"
        observer.write("fault.effect", {**data, "answer": answer, "saw": error.last_seen, "low": None, "high": None})
        raise NoEffect(f"{name} did not bite, so what followed proves nothing: {error.last_seen}") from error
    observer.write("fault.effect", {**data, "answer": "yes", "saw": met.saw, "low": met.low, "high": met.high})


def heal(fault: Fault, name: str, observer: Observer) -> None:
    """The fault is undone and its undo was seen; signals are kept back meanwhile.

    Raises:
        HealFailed: it could not be seen after several tries; the message says what to type.
    """
    clock = observer.site.clock
    with clock.shielded():
        observer.write("fault.heal", {"fault": name})
        last = ""
        for _ in range(HEAL_TRIES):
            try:
                fault.heal(observer)
            except SiteError as error:
                last = str(error)
            try:
                met = wait_until(Condition(f"{name} healed", fault.healed), HEAL_WITHIN, observer, every=2)
            except (NotMet, WaitTimeout) as error:
                last = last or str(error)
                continue
            observer.write("fault.healed", {"fault": name, "answer": "yes", "saw": met.saw})
            observer.write("fault.close", {"fault": name, "outcome": "healed"})
            return
        answer = cant_tell(last)
        observer.write("fault.healed", {"fault": name, "answer": answer.verdict, "saw": last})
        observer.write("fault.close", {"fault": name, "outcome": "not_healed"})
        raise HealFailed(
            f"the site is DIRTY: {name} could not be undone ({last}). By hand: {fault.undo}; then `pveha heal`."
        )
