"""The fixture ``operator``: a person is asked for what no machine can do."""

from __future__ import annotations

from pytest_pveha.handles.node import Node
from pytest_pveha.inventory import parse_duration
from pytest_pveha.observe.observer import Observer
from pytest_pveha.observe.people import NOBODY


class Operator:
    """Whoever stands at the rack, or at the terminal."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

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
