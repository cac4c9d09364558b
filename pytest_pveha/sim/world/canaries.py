"""What a small program writes inside of guests: worked out when somebody reads it, never an event a write.

The program is not run here: that a guest can run it is a contract, by its first line and its words. What it would have
written follows from when the guest lived, when its storage hung, and what of it a failover lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import NAMESPACE_OID, uuid5

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world.model import Guest, GuestProcess

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

MARK: Final = "# pveha-ledger 1"
"""The program's first line."""

SLOW: Final = 2.2
"""How many times as long a write takes where a defect makes it slow."""
TAKES: Final = (20_000_000, 30_000_000)
"""How long a write takes, in turn (ns)."""
FORGOTTEN: Final = 8 * SECOND
"""So much of what was acknowledged is in a memory without a battery."""
ROLLED_BACK: Final = 60 * SECOND
HANGS: Final = (30 * SECOND, 150 * SECOND)
"""From when until when after its start a recovered guest's writes hang, where a defect is planted."""
_CENTI: Final = 10_000_000
_LONG_AGO: Final = 1_000_000_000
"""When a node began (ticks): before the site's time did."""


@dataclass(slots=True)
class Row:
    """One line in a guest's file."""

    text: str
    begun: int
    acknowledged: int | None
    """None while its write hangs."""


@dataclass(slots=True)
class Writer:
    """The program, as long as it runs."""

    process: GuestProcess
    incarnation: str
    pause: int
    until: int
    """The end of its lease."""
    next: int
    number: int
    hash: str
    acknowledged: str = "-"
    begin: str = "\n"
    hanging: Row | None = None
    ended: int | None = None
    clean: bool = False
    count: int = 0


@dataclass(slots=True)
class Disk:
    """The program's folder in one guest."""

    tag: str
    created: int
    rows: list[Row] = field(default_factory=list)
    writers: list[Writer] = field(default_factory=list)
    hidden: int = 0
    """Losses of the storage that were taken off already."""


class Canaries:
    """The guests of one world that somebody lets write."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._disks: dict[int, Disk] = {}
        self._results: dict[tuple[int, int], tuple[int, str, str]] = {}
        self._pid = 700

    # what happens to guests

    def moved(self, guest: Guest, old: GuestProcess, new: GuestProcess) -> None:
        """The guest goes on in another process."""
        for writer in self._writers(guest):
            if writer.process is old:
                writer.process = new

    def ended(self, guest: Guest, process: GuestProcess, *, clean: bool) -> None:
        """That process of the guest's is no more."""
        for writer in self._writers(guest):
            if writer.process is process and writer.ended is None:
                self._grow(guest)
                writer.ended, writer.clean = self._world.timeline.now, clean

    # what runs in guests

    def start(self, guest: Guest, process: GuestProcess, words: Sequence[str], given: str) -> int:
        """Some program was started; its process id in the guest."""
        self._pid += 1
        self._results[guest.vmid, self._pid] = self.run(guest, process, words, given)
        return self._pid

    def result(self, guest: Guest, pid: int) -> tuple[int, str, str] | None:
        """What it ended with, told once; None if there is no such process."""
        return self._results.pop((guest.vmid, pid), None)

    def run(self, guest: Guest, process: GuestProcess, words: Sequence[str], given: str) -> tuple[int, str, str]:
        """Status, output and errors of a program in the guest."""
        if list(words[:3]) == ["/bin/sh", "-s", "--"] and given.split("\n", 1)[0] == MARK:
            return self._program(guest, process, words[3:])
        if list(words) == ["true"]:
            return 0, "", ""
        if len(words) == 2 and words[0] == "sha256sum":
            text = f"{guest.content or guest.sid} {words[1]}"
            return 0, f"{hashlib.sha256(text.encode()).hexdigest()}  {words[1]}\n", ""
        return 127, "", f"{words[0] if words else ''}: not found\n"

    def _program(self, guest: Guest, process: GuestProcess, words: Sequence[str]) -> tuple[int, str, str]:
        verb, _, tag, *more = words
        self._grow(guest)
        disk = self._disks.get(guest.vmid)
        if disk is not None and disk.tag != tag and verb == "start" and not self._writing(disk, process):
            del self._disks[guest.vmid]  # an earlier run's, which nobody writes any more
            disk = None
        mine = disk if disk is not None and disk.tag == tag else None
        if verb == "start":
            self._begin(guest, process, mine, tag, int(more[0]), float(more[1]))
            return 0, self._told(guest, process, "ext2/ext3"), ""
        if verb == "tail":
            if mine is None:
                return 0, self._told(guest, process, "idle"), ""
            offset, count, lease = map(int, more)
            for writer in mine.writers:
                if writer.process is process:
                    writer.until = self._world.timeline.now + lease * SECOND
            word = "writing" if self._writing(mine, process) else "idle"
            return 0, self._told(guest, process, word) + _text(mine)[offset : offset + count], ""
        if verb == "digest":
            text = _text(mine)[: int(more[0])] if mine else ""
            return 0, self._told(guest, process, hashlib.sha256(text.encode()).hexdigest()), ""
        if verb == "stop":
            if mine is not None or tag.endswith("-all"):
                self._disks.pop(guest.vmid, None)
            return 0, self._told(guest, process, "gone"), ""
        return 2, self._told(guest, process, "what"), ""

    def _told(self, guest: Guest, process: GuestProcess, word: str) -> str:
        disk = self._disks.get(guest.vmid)
        size = sum(len(row.text) for row in disk.rows) if disk else 0
        return f"{self._incarnation(guest, process)} {self._uptime(process)} {size} {word}\n"

    def _incarnation(self, guest: Guest, process: GuestProcess) -> str:
        """A VM's kernel is its own; a container's is its host's, and its first process tells its lives apart."""
        boot = uuid5(NAMESPACE_OID, f"{self._world.spec.seed}/{guest.vmid}/{process.booted_at}")
        return f"{boot}:{_LONG_AGO + process.booted_at // _CENTI if guest.kind == 'ct' else 2}"

    def _uptime(self, process: GuestProcess, at: int | None = None) -> str:
        now = self._world.timeline.now if at is None else at
        centi = max(0, now - process.booted_at) // _CENTI
        return f"{centi // 100}.{centi % 100:02d}"

    # the file

    def _writers(self, guest: Guest) -> list[Writer]:
        disk = self._disks.get(guest.vmid)
        return disk.writers if disk else []

    def _writing(self, disk: Disk, process: GuestProcess) -> bool:
        return any(one.process is process and one.ended is None for one in disk.writers)

    def _begin(
        self, guest: Guest, process: GuestProcess, disk: Disk | None, tag: str, lease: int, pause: float
    ) -> None:
        now = self._world.timeline.now
        if disk is None:
            disk = self._disks[guest.vmid] = Disk(tag, now, hidden=len(self._world.storages.losses(guest)))
        if self._writing(disk, process):
            return
        last = disk.rows[-1].text.split() if disk.rows else ["0", "0"]
        every = round(pause * SECOND)
        disk.writers.append(
            Writer(
                process,
                self._incarnation(guest, process),
                every,
                now + lease * SECOND,
                now + every,
                int(last[0]),
                last[-1],
            )
        )

    def _grow(self, guest: Guest) -> None:
        """Everything that was written until now stands in the file, and what was lost does not."""
        disk = self._disks.get(guest.vmid)
        if disk is None:
            return
        now = self._world.timeline.now
        while True:
            ready = [(at, n) for n, one in enumerate(disk.writers) if (at := self._due(guest, one, now)) is not None]
            if not ready:
                break
            _, index = min(ready)
            self._write(guest, disk, disk.writers[index])
        for writer in disk.writers:
            if writer.ended is None and now >= writer.until:
                del self._disks[guest.vmid]  # nobody read for so long: it ends, and clears away what it made
                return
        self._lose(guest, disk)

    def _due(self, guest: Guest, writer: Writer, now: int) -> int | None:
        """When it begins its next line; None if it does not before now."""
        if writer.hanging is not None:
            done = self._done(guest, writer, writer.hanging.begun)
            if done is None or done > now:
                return None
            self._acknowledge(writer, done)
        end = min(now, writer.until, now if writer.ended is None else writer.ended)
        return writer.next if writer.next < end else None

    def _write(self, guest: Guest, disk: Disk, writer: Writer) -> None:
        process, begun = writer.process, writer.next
        wall = int(self._world.spec.epoch_utc + begun // SECOND)
        writer.number += 1
        body = f"{writer.number} {writer.incarnation} {self._uptime(process, begun)} {wall} {writer.acknowledged}"
        writer.hash = hashlib.sha256(f"{writer.hash} {body}".encode()).hexdigest()
        row = Row(f"{writer.begin}{body} {writer.hash}\n", begun, None)
        writer.begin, writer.count = "", writer.count + 1
        disk.rows.append(row)
        writer.hanging = row
        done = self._done(guest, writer, begun)
        if done is not None and done <= self._world.timeline.now:
            self._acknowledge(writer, done)

    def _acknowledge(self, writer: Writer, done: int) -> None:
        assert writer.hanging is not None
        if writer.ended is None or done <= writer.ended:
            writer.hanging.acknowledged = done
        writer.hanging = None
        writer.acknowledged = self._uptime(writer.process, done)
        writer.next = done + writer.pause

    def _done(self, guest: Guest, writer: Writer, begun: int) -> int | None:
        """When a write that began then is acknowledged; None while it hangs."""
        takes = TAKES[writer.count % len(TAKES)]
        planted, process = self._world.planted, writer.process
        if process.recovered and planted("writes-slower-after-recovery"):
            takes = round(takes * SLOW)
        takes += round(self._world.storages.dragged(guest, begun) * SECOND)
        hung = [*self._world.storages.stalls(guest), *self._world.storages.refusals(guest)]
        if process.recovered and planted("storage-hangs-after-recovery"):
            hung.append((process.booted_at + HANGS[0], process.booted_at + HANGS[1]))
        done = begun + takes
        for since, until in sorted(hung, key=lambda span: span[0]):
            if since > done or (until is not None and until <= begun):
                continue
            if until is None or until > self._world.timeline.now:
                return None
            done = max(done, until + takes)
        return done

    def _lose(self, guest: Guest, disk: Disk) -> None:
        """What did not reach the disk, or is not on this copy of it, is not there."""
        for writer in disk.writers:
            if writer.ended is not None and writer.hanging is not None:
                disk.rows.remove(writer.hanging)
                writer.hanging = None
        ended = [one for one in disk.writers if one.ended is not None]
        for writer in ended:
            assert writer.ended is not None
            kept = writer.ended
            if not writer.clean and self._world.planted("writes-acknowledged-too-early"):
                kept -= FORGOTTEN
            if not writer.clean and self._world.planted("disk-of-a-minute-ago"):
                kept -= ROLLED_BACK
            _cut(disk, kept, writer.ended, of=writer.incarnation)
        disk.writers = [one for one in disk.writers if one.ended is None]
        losses = self._world.storages.losses(guest)
        for kept, started in losses[disk.hidden :]:
            _cut(disk, kept, started)
            disk.writers = [one for one in disk.writers if one.process.started_at >= started]
            if disk.created > kept:
                self._disks.pop(guest.vmid, None)
        disk.hidden = len(losses)


def _cut(disk: Disk, kept: int, end: int, of: str = "") -> None:
    """What was acknowledged after ``kept`` and begun before ``end`` is gone."""
    disk.rows = [
        row
        for row in disk.rows
        if (of and f" {of} " not in row.text)
        or row.begun >= end
        or (row.acknowledged is not None and row.acknowledged <= kept)
    ]


def _text(disk: Disk) -> str:
    return "".join(row.text for row in disk.rows)
