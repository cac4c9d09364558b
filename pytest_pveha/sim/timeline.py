"""The world's future: a heap of events, played one by one.

Time is nanoseconds since the site was started. Equal times are played in the order in which they were entered, so the
same seed plays the same history.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from pytest_pveha.clock import SECOND


@dataclass(order=True, slots=True)
class Event:
    """Something the world will do at a moment."""

    when: int
    sequence: int
    what: str = field(compare=False)
    act: Callable[[], None] = field(compare=False)
    cancelled: bool = field(compare=False, default=False)

    def cancel(self) -> None:
        """It will not happen."""
        self.cancelled = True


class Timeline:
    """The heap of future events, and the present moment."""

    def __init__(self) -> None:
        self.now = 0
        self._heap: list[Event] = []
        self._sequence = 0

    def at(self, when: int, act: Callable[[], None], what: str) -> Event:
        """Enter an event; a moment already past means now, after what is already entered for now."""
        self._sequence += 1
        event = Event(max(when, self.now), self._sequence, what, act)
        heappush(self._heap, event)
        return event

    def after(self, seconds: float, act: Callable[[], None], what: str) -> Event:
        """Enter an event that far from now."""
        return self.at(self.now + round(seconds * SECOND), act, what)

    def next_time(self) -> int | None:
        """When the next event happens, or None if nothing will."""
        while self._heap and self._heap[0].cancelled:
            heappop(self._heap)
        return self._heap[0].when if self._heap else None

    def run_next(self) -> None:
        """Play the earliest event; time is then its moment."""
        if self.next_time() is None:
            return
        event = heappop(self._heap)
        self.now = event.when
        event.act()

    def run_until(self, when: int) -> None:
        """Play everything up to and including ``when``; time is then ``when``."""
        while (upcoming := self.next_time()) is not None and upcoming <= when:
            self.run_next()
        self.now = max(self.now, when)
