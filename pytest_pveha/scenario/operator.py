"""The fixture ``operator``: a person is asked for what no machine can do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.inventory import parse_duration
from pytest_pveha.observe.observer import Observer
from pytest_pveha.observe.people import NOBODY


@dataclass(frozen=True, slots=True)
class Step:
    """What the runbook has people do."""

    name: str
    text: str
    within: float
    """Seconds they have."""


@dataclass(frozen=True, slots=True)
class Procedure:
    """A failover that people make: the way there, and the way back."""

    runbook: str
    """The file that says it."""
    there: tuple[Step, ...]
    back: tuple[Step, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every step's name, in order."""
        return tuple(step.name for step in (*self.there, *self.back))


class Operator:
    """Whoever stands at the rack, or at the terminal."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def follow(self, steps: Iterable[Step], runbook: str, *, at: Nodes) -> None:
        """Each step was asked for when the one before was done, and somebody typed that it is.

        Args:
            at: the nodes that are left; whom the inventory names at the first of them that has somebody is called.

        Raises:
            PreflightRefused: nobody answered in time, or they refuse: the test is *not proven*.
        """
        hand = next((node.operator for node in at if node.operator is not None), NOBODY)
        for step in steps:
            self._observer.look()
            self._observer.people.ask(step.name, f"{step.text}\n(from {runbook})", hand, step.within)

    def ask(self, step: str, text: str, *, at: Node | None = None, within: str | None = None) -> None:
        """Somebody did it, and said so: typed ``done`` on the terminal, or ``pveha answer RUN STEP`` in another one.

        Args:
            step: the question's name, small letters, digits and hyphens; ``pveha answer`` is given it.
            at: the node at which it is to be done; whom the inventory names there is called, and has the time given
                there.
            within: how long they have; ``15 min`` where neither says.

        Raises:
            PreflightRefused: nobody answered in time, or they refuse: the test is *not proven*.
        """
        hand = (at.operator if at is not None else None) or NOBODY
        seconds = parse_duration(within) if within is not None else None
        self._observer.people.ask(step, text, hand, seconds)
