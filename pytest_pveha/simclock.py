"""The clock of a run on a simulated site: time is the site's, reached over a Unix socket.

Each thread that waits is a participant with its own connection (the protocol is in ``sim/baton.py``). While one
participant runs, time stands; ``now`` is therefore simply what the last grant said.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_pveha.clock import SECOND, Deadline, Decided, Instant, Task
from pytest_pveha.errors import Interrupted, SiteBusy, TimedOut, Unreachable

MAIN_RANK = 9
"""Main runs after everybody else at the same moment, so that it sees what they saw."""

SIDE_RANK = 1


class _Participant:
    """One thread's connection to the site, and the time of its last grant."""

    def __init__(self, address: Path, name: str, rank: int) -> None:
        self.name = name
        self.now = 0
        self._stop_read, self._stop_write = os.pipe()
        self.conn = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.conn.connect(str(address))
        except OSError as error:
            self.close()
            raise Unreachable(f"the simulated site at {address} does not answer ({error.strerror})") from error
        try:
            self.send(op="hello", name=name, rank=rank, pid=os.getpid())
            self.await_grant()
        except BaseException:
            self.close()
            raise

    def send(self, **message: Any) -> None:
        try:
            self.conn.send(json.dumps(message).encode())
        except OSError as error:
            raise Unreachable("the simulated site has ended; start the run again") from error

    def receive(self) -> dict[str, Any]:
        try:
            raw = self.conn.recv(65536)
        except OSError as error:
            raise Unreachable("the simulated site has ended; start the run again") from error
        if not raw:
            raise Unreachable("the simulated site has ended; start the run again")
        message: dict[str, Any] = json.loads(raw)
        return message

    def await_grant(self) -> None:
        message = self.receive()
        if message["re"] == "taken":
            raise SiteBusy(f"another run (process {message['pid']}) is on this simulated site; wait for it, or end it")
        self.now = message["now"]

    @contextmanager
    def guard(self, deadline: int, abort: Callable[[], None], peers: Collection[int]) -> Iterator[None]:
        self.send(op="guard", peers=list(peers), deadline=deadline)
        fired = False

        def watch() -> None:
            nonlocal fired
            ready, _, _ = select.select([self.conn.fileno(), self._stop_read], [], [])
            if self._stop_read in ready:
                os.read(self._stop_read, 1)
                return
            fired = True
            abort()
            os.read(self._stop_read, 1)

        watcher = threading.Thread(target=watch, name=f"{self.name}-guard", daemon=True)
        watcher.start()
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        finally:
            os.write(self._stop_write, b".")
            watcher.join()
            self.send(op="unguard")
            message = self.receive()
            if message["re"] == "expired":
                message = self.receive()
            self.now = message["now"]
        if failure is not None:
            # who hangs up in the very moment of the deadline may be heard before it, or not
            if fired or self.now >= deadline:
                raise TimedOut("no answer within the deadline") from failure
            raise failure

    def close(self) -> None:
        self.conn.close()
        os.close(self._stop_read)
        os.close(self._stop_write)


class SiteClock:
    """Virtual time of a simulated site; the thread that makes it is its main participant."""

    simulated = True

    def __init__(self, address: Path, epoch_utc: int, *, name: str = "main") -> None:
        self._address = address
        self._epoch = epoch_utc * SECOND
        self._mine = threading.local()
        self._main = _Participant(address, name, MAIN_RANK)
        self._main_thread = threading.current_thread()
        self._mine.participant = self._main
        self._interrupted = False
        self._waiting = False
        self._shields = 0
        self._spawned = 0

    def _me(self) -> _Participant:
        participant: _Participant | None = getattr(self._mine, "participant", None)
        if participant is None:
            raise RuntimeError(f"thread {threading.current_thread().name} is no participant of the site's time")
        return participant

    def now(self) -> Instant:
        mono = self._me().now
        return Instant(mono, self._epoch + mono)

    def sleep(self, seconds: float) -> None:
        self.sleep_until(self._me().now + round(seconds * SECOND))

    def sleep_until(self, mono: int) -> None:
        me = self._me()
        main = me is self._main
        if main:
            self._raise_if_interrupted()
            self._waiting = True
        try:
            me.send(op="until", when=mono)
            me.await_grant()
        finally:
            if main:
                self._waiting = False
        if main:
            self._raise_if_interrupted()

    def _raise_if_interrupted(self) -> None:
        if self._interrupted and self._shields == 0:
            self._interrupted = False
            raise Interrupted

    def deadline(self, seconds: float) -> Deadline:
        return Deadline(self, self.now().mono + round(seconds * SECOND))

    @contextmanager
    def guard(self, deadline: Deadline, abort: Callable[[], None], peers: Collection[int] = ()) -> Iterator[None]:
        with self._me().guard(deadline.mono, abort, peers):
            yield

    def connected(self, pending: Mapping[int, int], until: int) -> dict[int, Decided]:
        me = self._me()
        me.send(op="silent", ports=sorted(set(pending.values())))
        told = me.receive()
        silent, late = set(told["ports"]), dict(told["late"])
        waiting = select.poll()
        hopeful = {descriptor for descriptor, port in pending.items() if port not in silent}
        for descriptor in hopeful:
            waiting.register(descriptor, select.POLLOUT | select.POLLERR | select.POLLHUP)
        decided: dict[int, Decided] = {}
        while decided.keys() != hopeful:
            for descriptor, events in waiting.poll(60_000):
                decided[descriptor] = Decided(me.now, connected=events == select.POLLOUT)
                waiting.unregister(descriptor)
        begun = me.now
        for after, descriptor in sorted((late[port], each) for each, port in pending.items() if port in late):
            how = decided.pop(descriptor, None)
            if how is not None and begun + after < until:
                self.sleep_until(begun + after)
                decided[descriptor] = Decided(me.now, connected=how.connected)
        if len(decided) < len(pending):
            self.sleep_until(until)
        return decided

    def spawn(self, name: str, body: Callable[[], None]) -> Task:
        parent = self._me()
        self._spawned += 1
        unique = f"{self._main.name}/{name}-{self._spawned}"
        parent.send(op="announce", name=unique, rank=SIDE_RANK)
        parent.receive()
        return _Side(self, unique, body)

    def _enter(self, name: str) -> _Participant:
        self._mine.participant = _Participant(self._address, name, SIDE_RANK)
        return self._me()

    def interrupt(self) -> None:
        self._interrupted = True
        if self._waiting and self._shields == 0:
            self._main.send(op="wake")

    @contextmanager
    def shielded(self) -> Iterator[None]:
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1

    def close(self) -> None:
        """Leave the site; its time stands until somebody else comes."""
        self._main.send(op="leave")
        self._main.close()


class _Side:
    """A thread beside the main one, running in turns with it."""

    def __init__(self, clock: SiteClock, name: str, body: Callable[[], None]) -> None:
        self._clock = clock
        self._name = name
        self._body = body
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        participant = self._clock._enter(self._name)
        try:
            self._body()
        except BaseException as error:  # handed to whoever joins
            self._error = error
        finally:
            participant.send(op="leave")
            participant.close()

    def join(self) -> None:
        me = self._clock._me()
        me.send(op="join", name=self._name)
        me.await_grant()
        self._thread.join()
        if self._error is not None:
            raise self._error


def stop_site(address: Path) -> None:
    """The site's process has been asked to end; it is no error if it is gone already."""
    with contextlib.suppress(OSError):
        _tell(address, op="stop")


def unplug_controller(address: Path, *, after: float = 0.0, lasting: float | None = None) -> None:
    """No port of the site answers, from ``after`` seconds of site time on, for ``lasting`` seconds or until plugged in.

    The nodes go on, and so do their connections to each other: it is our own cable that is out. Connections that were
    open are reset when it is in again.

    Raises:
        Unreachable: no site is there.
    """
    try:
        _tell(address, op="unplug", after=after, **{"for": lasting})
    except OSError as error:
        raise Unreachable(f"the simulated site at {address} does not answer ({error.strerror})") from error


def plug_controller(address: Path) -> None:
    """Every port of the site is again as the site has it.

    Raises:
        Unreachable: no site is there.
    """
    try:
        _tell(address, op="plug")
    except OSError as error:
        raise Unreachable(f"the simulated site at {address} does not answer ({error.strerror})") from error


def _tell(address: Path, **message: Any) -> None:
    """The site has taken note of the message; whoever says it takes no part in the site's time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as conn:
        conn.connect(str(address))
        conn.send(json.dumps(message).encode())
        conn.recv(100)
