"""The ledger: numbered writes in the guests that are made for tests, read back again and again, on record in brief.

A write counts as durable when the guest's program has noted that it was synced and we have read that note. What was
durable must be there for ever after: also on another node, after a crash, in a copy. Each canary has a reader of its
own, beside the run; on record are numbers, digests and how the times were spread, not every write.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from pytest_pveha.clock import SECOND, Task
from pytest_pveha.errors import ProtocolError, SiteError
from pytest_pveha.handles.canary import CENTI, PART, Canary, Told, Write, parse
from pytest_pveha.handles.guest import Guest
from pytest_pveha.observe.observer import READ, Observer

CALM: Final = 60
"""Seconds between two readings of a canary while nothing is due."""
CLOSE: Final = 1
"""The same around a fault: what was written in the last second before it is known, too."""
BUSY: Final = 5
"""The same in the first minute after Ceph began to make copies, and after it ended: how long a write takes meanwhile
is told apart from before and after."""
REBUILDING: Final = "ceph/rebuilding"
"""What was seen of it: yes or no."""
AGAIN: Final = 5
"""Seconds until one that did not answer is asked again; also how soon readers follow a change of pace."""
PATIENCE: Final = 5.0
"""Seconds for each answer from inside a guest."""
LONG: Final = SECOND
"""From this length on (ns) each gap between two acknowledged writes is on record by itself."""
MOST: Final = 64 * 1024 * 1024
"""Bytes of a ledger that are read whole, where it must be."""
LAST: Final = 60
"""Seconds that a canary which does not answer at the end is waited for."""
GIVE_UP: Final = 180
"""Seconds in which a canary must answer at the end, so that what we left in it can be removed."""


class Ledger:
    """What every canary wrote. Nothing happens in a guest before ``start`` names it."""

    def __init__(self, observer: Observer, run: str) -> None:
        self._observer = observer
        self._run = run
        self._readers: dict[str, Reader] = {}
        self._tasks: list[Task] = []
        self._pace = Pace()

    def start(self, guests: Iterable[Guest]) -> None:
        """In each of these that is a canary something writes, and is read back, until ``stop``. Idempotent."""
        for guest in guests:
            if not guest.canary or guest.sid in self._readers:
                continue
            reader = self._readers[guest.sid] = Reader(self._observer, guest, self._run, self._pace)
            reader.look()
            self._tasks.append(self._observer.site.clock.spawn(f"ledger-{guest.sid.replace(':', '-')}", reader.loop))

    def closely(self, on: Iterable[str] = ()) -> None:
        """Canaries are read once a second: something is about to be broken.

        Args:
            on: nodes and guests that it is about; where none of them is one, it is about all.
        """
        self._pace.until = None
        known = {*self._observer.site.nodes.names, *self._observer.site.guests.sids}
        self._pace.on = frozenset(known.intersection(on))

    def calmly(self, after: float = 0) -> None:
        """Every canary is read once a minute, in so many seconds; one that has fallen silent meanwhile, at once."""
        self._pace.until = self._observer.site.clock.now().mono + round(after * SECOND)

    def stop(self) -> None:
        """Nobody is read any more; each was read, and all that it had written was looked for, a last time."""
        self._pace.over = True
        for task in self._tasks:
            task.join()
        self._tasks.clear()
        for reader in self._readers.values():
            reader.last_look(LAST)

    def clear(self) -> list[str]:
        """Nothing of ours is in any canary; where that could not be done, in words."""
        left = [trouble for reader in self._readers.values() if (trouble := reader.clear())]
        self._readers.clear()
        self._pace = Pace()
        return left

    def look_into(self, sid: str, copy: str, node: str) -> None:
        """What the copy of that canary has of its writes is on record: a restored backup, a replica that was started.

        Args:
            copy: the guest that is the copy, ``vm:9101``; it runs on ``node`` and its agent answers.

        Raises:
            SiteError: it does not answer, or has no ledger that could be read.
        """
        self._readers[sid].compare(copy, node)


@dataclass(slots=True)
class Pace:
    """How often all readers look."""

    until: int | None = 0
    """Once a second until then (mono ns); None: until something else is said."""
    on: frozenset[str] = frozenset()
    """Whom alone it is about: nodes and guests; all, where it is empty."""
    over: bool = False

    def close(self, now: int, *names: str) -> bool:
        """Whether it is once a second now for who has one of these names."""
        return (self.until is None or now < self.until) and (not self.on or not self.on.isdisjoint(names))


@dataclass(slots=True)
class Known:
    """What was read and is durable: so many bytes, with their digest, and each acknowledged write's hash."""

    end: int = 0
    sha: Any = field(default_factory=hashlib.sha256)
    head: str = "0"
    acked: dict[int, tuple[str, str, int]] = field(default_factory=dict)
    """Each acknowledged write: its hash, its incarnation, and when it was acknowledged (ns of uptime)."""
    acks: dict[str, int] = field(default_factory=dict)
    """The last acknowledgement (ns of uptime) by incarnation."""
    last: int = 0
    """The last acknowledged write."""
    incarnation: str = ""
    """Whose that was."""


class Reader:
    """One canary."""

    def __init__(self, observer: Observer, guest: Guest, run: str, pace: Pace) -> None:
        self._observer = observer
        self._site = observer.site
        self._clock = observer.site.clock
        self._guest = guest
        self._run = run
        self._pace = pace
        self._node = ""
        self._known = Known()
        self._incarnation = ""
        self._silent = False

    def loop(self) -> None:
        """It is read until all is over, each time as soon as the pace says."""
        looked = self._clock.now().mono
        while not self._pace.over:
            now = self._clock.now().mono
            every = AGAIN if self._silent else self._every(now)
            if now >= looked + every * SECOND:
                self.look()
                looked = now
            self._clock.sleep(min(every, AGAIN))

    def _every(self, now: int) -> int:
        if self._pace.close(now, self._guest.sid, self._node):
            return CLOSE
        began = self._observer.began(REBUILDING)
        if began is None or self._observer.change(REBUILDING) is None or now >= began + CALM * SECOND:
            return CALM
        return BUSY

    def last_look(self, patience: float) -> None:
        """It was read, and all that was durable looked for; an agent that is later up than its guest is waited for."""
        until = self._clock.deadline(patience)
        self.look(finally_=True)
        while self._silent and not until.expired():
            self._clock.sleep(AGAIN)
            self.look(finally_=True)

    def look(self, *, finally_: bool = False) -> None:
        """What is new in it is on record; it is written in again where nobody does."""
        asked = self._clock.now()
        try:
            self._look(finally_=finally_)
        except SiteError as error:
            if not self._silent or finally_:
                self._write("silent", asked.mono, self._clock.now().mono, saw=str(error))
            self._silent = True
            self._node = ""
        else:
            self._silent = False

    def _look(self, *, finally_: bool) -> None:
        canary = self._canary()
        told, text = canary.tail(self._deadline(), self._known.end)
        anew = told.incarnation != self._incarnation
        if (anew and self._incarnation) or told.size < self._known.end or finally_:
            self._check(canary)
            told, text = canary.tail(self._deadline(), self._known.end)
        self._take(told, text)
        while len(text) >= PART and told.size > self._known.end:
            told, text = canary.tail(self._deadline(), self._known.end)
            self._take(told, text)
        if (anew or told.word != "writing") and not finally_:
            begun = canary.start(self._deadline())
            self._told("start", begun, saw=begun.word)
        self._incarnation = told.incarnation

    def _check(self, canary: Canary) -> None:
        """All that was durable is looked for."""
        known = self._known
        told = canary.digest(self._deadline(), known.end)
        if told.word == known.sha.hexdigest():
            self._told("check", told, **_found(known, known))
            return
        found = _taken(Known(), _whole(canary, self._deadline))
        self._told("check", told, **_found(known, found))
        self._known = found

    def _take(self, told: Told, text: str) -> None:
        """What is durable of it is known from now on, and on record by incarnation."""
        known = self._known
        writes = parse(text, known.end, known.head)
        lives: dict[str, list[tuple[Write, int | None]]] = {}
        for pair in _acknowledged(writes):
            lives.setdefault(pair[0].incarnation, []).append(pair)
        for inc, pairs in lives.items():
            self._told("read", told, **_brief(known, inc, pairs, mine=inc == told.incarnation))
        if len(writes) < 2:
            self._told("read", told, **_nothing(known, told))
        self._known = _taken(known, text, writes)

    def compare(self, copy: str, node: str) -> None:
        """See ``Ledger.look_into``."""
        canary = Canary(self._site.inside(copy, node), self._guest.canary_folder, self._run)
        told = canary.digest(self._deadline(), self._known.end)
        found = _taken(Known(), _whole(canary, self._deadline))
        if not found.acked:
            raise ProtocolError(f"{copy}: there is no ledger of {self._guest.sid} in it")
        self._told("copy", told, copy=copy, **_found(self._known, found))

    def clear(self) -> str:
        """Nothing of ours is in it; else why not."""
        until = self._clock.deadline(GIVE_UP)
        while True:
            try:
                self._canary().stop(self._deadline())
            except SiteError as error:
                self._node = ""
                if until.expired():
                    return f"{self._guest.sid}: {error}"
                self._clock.sleep(AGAIN)
            else:
                return ""

    def _canary(self) -> Canary:
        if not self._node:
            rows = self._site.cluster.guests(self._clock.deadline(READ))
            if self._guest.sid not in rows:
                raise ProtocolError(f"{self._guest.sid}: the cluster has no such guest")
            self._node = rows[self._guest.sid].node
        inside = self._site.inside(self._guest.sid, self._node)
        return Canary(inside, self._guest.canary_folder, self._run)

    def _deadline(self) -> Any:
        return self._clock.deadline(PATIENCE)

    def _told(self, event: str, told: Told, **data: Any) -> None:
        more = {"incarnation": told.incarnation, "uptime": told.uptime, **data}
        self._write(event, told.asked_at.mono, told.answered_at.mono, **more)

    def _write(self, event: str, asked: int, answered: int, **data: Any) -> None:
        self._observer.write(
            "ledger", {"guest": self._guest.sid, "event": event, "asked": asked, "answered": answered, **data}
        )


def _acknowledged(writes: list[Write]) -> list[tuple[Write, int | None]]:
    """Each write but the last, with when it had been synced: the next line of the same incarnation says so.

    Where a guest lives twice the lines of both stand among each other.
    """
    after: dict[tuple[str, int], int | None] = {(each.incarnation, each.number): each.before for each in writes[1:]}
    return [(write, after.get((write.incarnation, write.number + 1))) for write in writes[:-1]]


def _brief(known: Known, inc: str, pairs: list[tuple[Write, int | None]], *, mine: bool) -> dict[str, Any]:
    """These writes of one incarnation, in brief. Only its last one may be without an acknowledgement."""
    failed = sum(ack is None for _, ack in (pairs if mine else pairs[:-1]))
    gaps: Counter[int] = Counter()
    took: Counter[int] = Counter()
    long = []
    last = known.acks.get(inc)
    acks = [(write, ack) for write, ack in pairs if ack is not None]
    for write, ack in acks:
        took[(ack - write.begun) // CENTI] += 1
        if last is not None:
            gaps[(ack - last) // CENTI] += 1
            if ack - last >= LONG:
                long.append([last, ack])
        last = ack
    return {
        "of": inc,
        "mine": mine,
        "first": pairs[0][0].number,
        "last": pairs[-1][0].number,
        "acknowledged": len(acks),
        "failed": failed,
        "broken": sum(not write.linked for write, _ in pairs),
        "head": pairs[-1][0].hash,
        "begun": pairs[0][0].begun,
        "first_ack": acks[0][1] if acks else None,
        "last_ack": last,
        "gaps": _counts(gaps),
        "took": _counts(took),
        "long": long,
    }


def _nothing(known: Known, told: Told) -> dict[str, Any]:
    """A reading that found nothing new."""
    return {
        "of": told.incarnation,
        "mine": True,
        "first": None,
        "last": None,
        "acknowledged": 0,
        "failed": 0,
        "broken": 0,
        "head": known.head,
        "begun": None,
        "first_ack": None,
        "last_ack": known.acks.get(told.incarnation),
        "gaps": [],
        "took": [],
        "long": [],
    }


def _counts(values: Counter[int]) -> list[list[int]]:
    """Hundredths of a second, and how often; in order."""
    return [[value, values[value]] for value in sorted(values)]


def _taken(known: Known, text: str, writes: list[Write] | None = None) -> Known:
    """The same, with what is durable of the text behind it."""
    writes = parse(text, known.end, known.head) if writes is None else writes
    pairs = _acknowledged(writes)
    if not pairs:
        return known
    last = pairs[-1][0]
    known.sha.update(text.encode()[: last.end - known.end])
    known.end, known.head = last.end, last.hash
    for write, ack in pairs:
        if ack is not None:
            known.acked[write.number] = (write.hash, write.incarnation, ack)
            known.acks[write.incarnation] = ack
            known.last, known.incarnation = write.number, write.incarnation
    return known


def _whole(canary: Canary, deadline: Any) -> str:
    """The ledger as it is now, from its beginning."""
    text = ""
    while True:
        told, part = canary.tail(deadline(), len(text))
        text += part
        if not part or len(text) >= told.size:
            return text
        if len(text) > MOST:
            raise ProtocolError(f"the ledger has {told.size} bytes, more than {MOST}, and cannot be read whole")


def _found(known: Known, there: Known) -> dict[str, Any]:
    """How much of what was durable is there still."""
    lost = sorted(number for number, write in known.acked.items() if there.acked.get(number, ("",))[0] != write[0])
    gone = set(lost)
    kept = max((number for number in known.acked if number not in gone), default=0)
    _, of, ack = known.acked.get(kept, ("", None, None))
    return {
        "of": known.incarnation,
        "durable": len(known.acked),
        "last": known.last,
        "last_ack": known.acks.get(known.incarnation),
        "lost": len(lost),
        "first_lost": lost[0] if lost else None,
        "kept": kept,
        "kept_of": of,
        "kept_ack": ack,
    }
