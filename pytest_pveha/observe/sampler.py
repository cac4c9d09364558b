"""The one sampler: asks every probe on an absolute schedule and journals runs of equal answers.

A probe is one non-blocking connect per tick, given up shortly before the next tick. What is journalled are the actual
moments of sending and answering; the nominal period proves nothing.
"""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from pytest_pveha.clock import SECOND, Clock, Task
from pytest_pveha.handles.knock import knock, learn
from pytest_pveha.observe.answer import Write
from pytest_pveha.record.took import counts, step

SLOW = SECOND
FAST = SECOND // 10
LEAST = 4
"""This part of a period every question is given, however late it went out: our own delay is not their silence."""

_REFUSED_BY_US = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EACCES}
"""Errors that speak of this machine, not of the other: they make an answer "unknown", never "bad"."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A TCP port that accepts connections while its subject lives. ``slow`` ones are never asked faster than 1 Hz."""

    name: str
    subject: str
    host: str
    port: int
    slow: bool = False


@dataclass(slots=True)
class _Streak:
    """A run of equal answers of one probe."""

    answer: str
    saw: str
    first: int
    first_end: int
    last: int
    last_end: int
    first_out: int | None
    """By when the first question had left, where nobody answered it."""
    count: int = 1
    worst_gap: int = 0
    worst_late: int = 0


def asked_once(clock: Clock, probes: list[Probe], seconds: float) -> dict[str, tuple[str, str]]:
    """What each probe, by its name, has for an answer within that time: good, bad or unknown; and what it saw."""
    for host, port in {(probe.host, probe.port) for probe in probes}:
        learn(host, port)
    once = Sampler(clock, lambda kind, data: None)
    now = clock.now().mono
    once._ask(probes, now, now + round(seconds * SECOND))
    return {name: (streak.answer, streak.saw) for name, streak in once._streaks.items()}


class Sampler:
    """Asks its probes until stopped; ``fast`` and ``slow`` set its pace."""

    def __init__(
        self, clock: Clock, write: Write, changed: Callable[[Probe, str, int], None] = lambda probe, answer, first: None
    ) -> None:
        """``changed`` hears of each new run of equal answers: probe, answer, and its first sending (mono ns)."""
        self._clock = clock
        self._write = write
        self._changed = changed
        self._probes: list[Probe] = []
        self._streaks: dict[str, _Streak] = {}
        self._took: dict[str, Counter[int]] = {}
        self._since = 0
        self._period = SLOW
        self._stopping = False
        self._task: Task | None = None
        self._lock = threading.Lock()
        self._flushed: set[str] = set()

    def watch(self, probes: list[Probe]) -> None:
        """These probes are asked from now on."""
        with self._lock:
            if not self._probes:
                self._since = self._clock.now().mono
            known = {probe.name for probe in self._probes}
            for probe in probes:
                if probe.name in known:
                    continue
                self._write(
                    "watch",
                    {"probe": probe.name, "subject": probe.subject, "what": "tcp", "period_ms": SLOW // 1_000_000},
                )
                self._probes.append(probe)
        if self._task is None:
            self._task = self._clock.spawn("sampler", self._loop)

    def fast(self) -> None:
        """From the next tick on every probe but the slow ones is asked ten times a second."""
        self._period = FAST

    def slow(self) -> None:
        """From the next tick on every probe is asked once a second."""
        self._period = SLOW

    def mark(self) -> None:
        """How long the answers took until now is in the journal, by itself: what comes is another stretch."""
        with self._lock:
            self._mark()

    @property
    def alive(self) -> bool:
        """Whether anything is being asked."""
        return self._task is not None

    def good_since(self, subject: str) -> int | None:
        """Since which sending (mono ns) every probe of the subject has answered well; None while one does not."""
        with self._lock:
            streaks = [self._streaks.get(probe.name) for probe in self._probes if probe.subject == subject]
            if not streaks or any(streak is None or streak.answer != "good" for streak in streaks):
                return None
            return max(streak.first for streak in streaks if streak is not None)

    def stop(self) -> None:
        """The last answers are in the journal; nothing is asked any more."""
        if self._task is None:
            return
        self._stopping = True
        self._task.join()
        self._task = None

    def _loop(self) -> None:
        due = self._clock.now().mono
        tick = 0
        while not self._stopping:
            period = self._period
            with self._lock:
                probes = [probe for probe in self._probes if period == SLOW or not probe.slow or tick % 10 == 0]
            self._ask(probes, due, due + period * 9 // 10)  # what was heard is to be written down before the next tick
            tick += 1
            due += period
            now = self._clock.now().mono
            if now > due:  # we were held up: keep the grid, and let the gap speak
                due += (now - due) // period * period
            self._clock.sleep_until(due)
        with self._lock:
            self._mark()
            for probe in self._probes:
                self._flush(probe)

    def _ask(self, probes: list[Probe], due: int, until: int) -> None:
        sockets: dict[int, tuple[Probe, socket.socket, int, int]] = {}
        for probe in probes:
            sent = self._clock.now().mono
            try:
                knocked = knock(probe.host, probe.port)
            except OSError as error:
                self._heard(probe, "unknown", f"this machine: {error.strerror}", sent, sent, due)
                continue
            if knocked is None:
                self._heard(probe, "unknown", f"this machine: no address of {probe.host} yet", sent, sent, due)
                continue
            sock, code = knocked
            # close with a reset: ten probes a second leave no TIME_WAIT behind
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if code == errno.EINPROGRESS:
                sockets[sock.fileno()] = (probe, sock, sent, self._clock.now().mono)
                continue
            self._decide(probe, sock, code, sent, self._clock.now().mono, due)
        if not sockets:
            return
        until = max(until, self._clock.now().mono + (until - due) // LEAST)
        decided = self._clock.connected({fd: probe.port for fd, (probe, *_) in sockets.items()}, until)
        for descriptor, (probe, sock, sent, out) in sockets.items():
            if (how := decided.get(descriptor)) is not None:
                # a connection that was reset since had been made all the same
                code = 0 if how.connected else sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ECONNRESET
                self._decide(probe, sock, code, sent, how.mono, due)
            else:
                sock.close()
                self._heard(probe, "bad", "no answer", sent, self._clock.now().mono, due, out)

    def _decide(self, probe: Probe, sock: socket.socket, code: int, sent: int, end: int, due: int) -> None:
        sock.close()
        if code == 0:
            self._heard(probe, "good", "connected", sent, end, due)
        elif code in _REFUSED_BY_US:
            self._heard(probe, "unknown", f"this machine: {errno.errorcode[code]}", sent, end, due)
        else:
            self._heard(probe, "bad", errno.errorcode.get(code, str(code)), sent, end, due)

    def _heard(
        self, probe: Probe, answer: str, saw: str, sent: int, end: int, due: int, out: int | None = None
    ) -> None:
        with self._lock:
            streak = self._streaks.get(probe.name)
            late = max(0, sent - due)
            if answer == "good" and sent >= self._since:
                self._took.setdefault(probe.name, Counter())[step(end - sent)] += 1
            if streak is not None and (streak.answer, streak.saw) == (answer, saw):
                streak.worst_gap = max(streak.worst_gap, sent - streak.last)
                streak.worst_late = max(streak.worst_late, late)
                streak.last, streak.last_end = sent, end
                streak.count += 1
                return
            self._flush(probe)
            self._streaks[probe.name] = _Streak(answer, saw, sent, end, sent, end, out, worst_late=late)
            self._changed(probe, answer, sent)

    def _mark(self) -> None:
        since, until = self._since, self._clock.now().mono
        for probe in self._probes:
            if took := self._took.get(probe.name):
                data = {"probe": probe.name, "subject": probe.subject, "since": since, "until": until}
                self._write("took", {**data, "took": counts(took)})
        self._took.clear()
        self._since = until

    def _flush(self, probe: Probe) -> None:
        streak = self._streaks.pop(probe.name, None)
        if streak is None:
            return
        self._write(
            "samples",
            {
                "probe": probe.name,
                "subject": probe.subject,
                "answer": streak.answer,
                "saw": streak.saw,
                "first": streak.first,
                "first_end": streak.first_end,
                "last": streak.last,
                "last_end": streak.last_end,
                "count": streak.count,
                "worst_gap": streak.worst_gap,
                "worst_late": streak.worst_late,
                **({} if streak.first_out is None else {"first_out": streak.first_out}),
            },
        )
