"""The one home of time: instants, deadlines, waiting, and the guard that bounds every call on the wire.

Durations come from one host's monotonic clock. On a live site that is this machine's; on a simulated one it is the
site's own virtual clock, reached over a Unix socket (``simclock.py``). Nothing else in the package sleeps.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from pytest_pveha.errors import Interrupted, TimedOut

SECOND = 1_000_000_000
"""Nanoseconds in a second."""


@dataclass(frozen=True, slots=True, order=True)
class Instant:
    """One moment: monotonic nanoseconds (for durations) and UTC nanoseconds since 1970 (for people and other hosts)."""

    mono: int
    utc: int

    def iso(self) -> str:
        """This moment as RFC 3339 in UTC, to the microsecond."""
        return datetime.fromtimestamp(self.utc // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%S") + (
            f".{self.utc % SECOND // 1000:06d}Z"
        )


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on a Clock by which something must be done."""

    clock: Clock
    mono: int

    def remaining(self) -> float:
        """Seconds left; never negative."""
        return max(0, self.mono - self.clock.now().mono) / SECOND

    def expired(self) -> bool:
        """Whether the moment has come."""
        return self.clock.now().mono >= self.mono

    def sooner(self, seconds: float) -> Deadline:
        """The earlier of this deadline and ``seconds`` from now."""
        return Deadline(self.clock, min(self.mono, self.clock.now().mono + round(seconds * SECOND)))


@dataclass(frozen=True, slots=True)
class Decided:
    """A connect that came to an end: by when (mono), and whether it was connected then, whatever came of it later."""

    mono: int
    connected: bool


class Task(Protocol):
    """A participant running beside the main one."""

    def join(self) -> None:
        """Wait, on the Clock, until it has ended; raises what it raised."""


class Clock(Protocol):
    """Time for one run. Every wait and every call on the wire goes through it."""

    simulated: bool

    def now(self) -> Instant:
        """The present moment."""

    def sleep(self, seconds: float) -> None:
        """Wait; raises Interrupted when a signal asked the run to stop."""

    def sleep_until(self, mono: int) -> None:
        """Wait until that moment on the monotonic clock; at once if it is past."""

    def deadline(self, seconds: float) -> Deadline:
        """A Deadline that far from now."""

    def guard(
        self, deadline: Deadline, abort: Callable[[], None], peers: Collection[int] = ()
    ) -> AbstractContextManager[None]:
        """Bound the body: at the deadline ``abort`` is called from another thread and must make the body fail at once.

        Whatever the body then raises becomes TimedOut. ``peers`` are the ports on this host that the body may wait
        for (a simulated site lets time pass only while all of them are silent); a live clock ignores them.
        A body that ends by itself keeps its result, or its own exception.
        """

    def connected(self, pending: Mapping[int, int], until: int) -> dict[int, Decided]:
        """Wait until every pending connect (file descriptor → port) is decided, or ``until`` (mono) has come.

        Returns how each file descriptor that is decided was decided; the others got no answer.
        """

    def spawn(self, name: str, body: Callable[[], None]) -> Task:
        """Run ``body`` beside us in a thread of its own."""

    def interrupt(self) -> None:
        """Make the main participant's present or next wait raise Interrupted. Safe in a signal handler."""

    def shielded(self) -> AbstractContextManager[None]:
        """While open, interrupts are kept back: healing is not cut short."""


class _Thread:
    def __init__(self, name: str, body: Callable[[], None]) -> None:
        self._error: BaseException | None = None
        self._body = body
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._body()
        except BaseException as error:  # handed to whoever joins
            self._error = error

    def join(self) -> None:
        self._thread.join()
        if self._error is not None:
            raise self._error


class LiveClock:
    """Real time of this host. Whoever sets its clock while this process runs changes nothing that is measured."""

    simulated = False
    began = time.time_ns() - time.monotonic_ns()
    """UTC when the monotonic clock read zero, by the calendar with which this process began."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._shields = 0
        self._main = threading.main_thread()

    def now(self) -> Instant:
        mono = time.monotonic_ns()
        return Instant(mono, self.began + mono)

    def utc(self) -> datetime:
        """The present moment for consent windows and folder names: by this host's calendar as it is now, or as it was
        when this process began, whichever is later. A clock that is set back opens no window again."""
        return datetime.fromtimestamp(max(time.time_ns(), self.now().utc) / SECOND, UTC)

    def sleep(self, seconds: float) -> None:
        self.sleep_until(time.monotonic_ns() + round(seconds * SECOND))

    def sleep_until(self, mono: int) -> None:
        interruptible = threading.current_thread() is self._main
        while True:
            if interruptible and self._shields == 0 and self._stop.is_set():
                self._stop.clear()
                raise Interrupted
            left = (mono - time.monotonic_ns()) / SECOND
            if left <= 0:
                return
            if interruptible and self._shields == 0:
                self._stop.wait(min(left, 3600))
            else:
                time.sleep(min(left, 3600))

    def deadline(self, seconds: float) -> Deadline:
        return Deadline(self, self.now().mono + round(seconds * SECOND))

    @contextmanager
    def guard(self, deadline: Deadline, abort: Callable[[], None], peers: Collection[int] = ()) -> Iterator[None]:
        del peers
        fired = threading.Event()

        def expire() -> None:
            fired.set()
            abort()

        timer = threading.Timer(deadline.remaining(), expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception as error:
            if fired.is_set():
                raise TimedOut("no answer within the deadline") from error
            raise
        finally:
            timer.cancel()

    def connected(self, pending: Mapping[int, int], until: int) -> dict[int, Decided]:
        waiting = select.poll()
        for descriptor in pending:
            waiting.register(descriptor, select.POLLOUT | select.POLLERR | select.POLLHUP)
        decided: dict[int, Decided] = {}
        while len(decided) < len(pending):
            left = (until - time.monotonic_ns()) / 1_000_000
            ready = waiting.poll(max(0.0, left))
            now = time.monotonic_ns()
            for descriptor, events in ready:
                decided[descriptor] = Decided(now, connected=events == select.POLLOUT)
                waiting.unregister(descriptor)
            if not ready and left <= 0:
                break
        return decided

    def spawn(self, name: str, body: Callable[[], None]) -> Task:
        return _Thread(name, body)

    def interrupt(self) -> None:
        self._stop.set()

    @contextmanager
    def shielded(self) -> Iterator[None]:
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
