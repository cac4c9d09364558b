"""The ledger's program as it is, run by the shells and tools that guests have, read by the run's own readers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_pveha.clock import SECOND, Deadline, LiveClock
from pytest_pveha.handles.agent import AgentAway, Ran
from pytest_pveha.handles.canary import MARK, TAG, Canary, Told, nanoseconds, parse, sweep
from pytest_pveha.handles.guest import Guest
from pytest_pveha.judge import writes
from pytest_pveha.judge.facts import Fault, TestFacts
from pytest_pveha.observe.ledger import Ledger

CLOCK = LiveClock()
RUN = "0a1b2c3d"
SHELLS = [shell for shell in (("dash",), ("busybox", "sh")) if shutil.which(shell[0])]


@dataclass
class Here:
    """This machine for a guest; away while it is said to be."""

    shell: tuple[str, ...]
    sid: str = "vm:101"
    node: str = "pve1"
    away: bool = False
    ran: list[tuple[str, ...]] = field(default_factory=list)

    def run(self, deadline: Deadline, *words: str, input: str = "") -> Ran:
        if self.away:
            raise AgentAway("QEMU guest agent is not running", status=500)
        assert words[0] == "/bin/sh"
        assert input.startswith(MARK)
        self.ran.append(words[3:])
        asked = CLOCK.now()
        done = subprocess.run([*self.shell, *words[1:]], input=input, capture_output=True, text=True, timeout=20)
        return Ran(done.returncode, done.stdout, done.stderr, asked, CLOCK.now())


def ample() -> Deadline:
    return CLOCK.deadline(20)


def until(seen: Callable[[], bool]) -> None:
    """That is so, within some seconds."""
    deadline = ample()
    while not seen():
        assert not deadline.expired()
        CLOCK.sleep(0.05)


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def here(request: pytest.FixtureRequest) -> Here:
    """A guest with that shell."""
    return Here(request.param)


@pytest.fixture
def folder(tmp_path: Path, here: Here) -> Iterator[Path]:
    """Where it writes; nothing runs there afterwards."""
    yield tmp_path
    sweep(here, str(tmp_path), ample())


def written(canary: Canary, count: int) -> tuple[Told, list[Any]]:
    """So many whole lines, at least."""
    found: list[Any] = []

    def enough() -> bool:
        found[:] = canary.tail(ample(), 0)
        return len(parse(found[1])) >= count

    until(enough)
    return found[0], parse(found[1])


def test_what_is_written_is_numbered_synced_and_chained(here: Here, folder: Path) -> None:
    """Each line follows from the one before, tells when that had been synced, and stands in its guest's uptime."""
    canary = Canary(here, str(folder), RUN)
    begun = canary.start(ample())
    told, lines = written(canary, 4)
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert all(line.linked for line in lines)
    assert {line.incarnation for line in lines} == {begun.incarnation} == {told.incarnation}
    assert [line.before is None for line in lines] == [True, *[False] * (len(lines) - 1)]
    for line, after in pairwise(lines):
        assert line.begun <= after.before <= after.begun
    assert begun.uptime <= lines[0].begun <= told.uptime
    assert told.word == "writing"


def test_a_second_start_does_not_write_twice(here: Here, folder: Path) -> None:
    """Whoever starts it again renews its lease, and nothing else."""
    canary = Canary(here, str(folder), RUN)
    canary.start(ample())
    written(canary, 2)
    writer = (folder / f"{TAG}{RUN}/writer").read_text()
    canary.start(ample())
    assert (folder / f"{TAG}{RUN}/writer").read_text() == writer
    assert all(line.linked for line in written(canary, 5)[1])


def test_what_a_crash_tore_is_passed_over(here: Here, folder: Path) -> None:
    """After a crash the chain goes on from the last whole line, whatever stands behind it."""
    canary = Canary(here, str(folder), RUN)
    canary.start(ample())
    _, before = written(canary, 3)
    place = folder / f"{TAG}{RUN}"
    pid = int((place / "writer").read_text().split()[0])
    os.kill(pid, 9)
    until(lambda: not Path(f"/proc/{pid}").exists() or canary.tail(ample(), 0)[0].word == "idle")
    with (place / "ledger").open("ab") as file:
        file.write(b"99 torn" + bytes(300) + b"\xff\xfe")
    canary.start(ample())
    _, lines = written(canary, len(before) + 3)
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert all(line.linked for line in lines)


def test_the_lease_is_a_dead_man(here: Here, folder: Path) -> None:
    """When nobody reads any more the writer ends by itself, and nothing of it is left."""
    canary = Canary(here, str(folder), RUN)
    canary.start(ample())
    written(canary, 1)
    place = folder / f"{TAG}{RUN}"
    pid = int((place / "writer").read_text().split()[0])
    (place / "lease").write_text("1\n")
    until(lambda: not place.exists())
    until(lambda: _ended(pid))


def test_an_earlier_runs_remains_are_cleared_away(here: Here, folder: Path) -> None:
    """What a run that was killed left in a guest that was reset since goes when the next one starts."""
    remains = folder / f"{TAG}deadbeef"
    remains.mkdir()
    (remains / "writer").write_text("1 00000000-0000-0000-0000-000000000000:1\n")
    (folder / "others").mkdir()
    Canary(here, str(folder), RUN).start(ample())
    assert sorted(path.name for path in folder.iterdir()) == ["others", f"{TAG}{RUN}"]


def test_nothing_is_left(here: Here, folder: Path) -> None:
    """At the end neither a process nor a file is there, of this run or of any."""
    canary = Canary(here, str(folder), RUN)
    canary.start(ample())
    written(canary, 1)
    pid = int((folder / f"{TAG}{RUN}/writer").read_text().split()[0])
    canary.stop(ample())
    assert list(folder.iterdir()) == []
    until(lambda: _ended(pid))


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Bench:
    """A reader of that guest, with its lines."""

    def __init__(self, here: Here, folder: Path) -> None:
        self.lines: list[dict[str, Any]] = []
        site = SimpleNamespace(
            clock=CLOCK,
            inside=lambda sid, node: here,
            nodes=SimpleNamespace(names=("pve1",)),
            guests=SimpleNamespace(sids=("vm:101",)),
            cluster=SimpleNamespace(guests=lambda deadline: {"vm:101": SimpleNamespace(node="pve1")}),
        )
        observer: Any = SimpleNamespace(site=site, write=lambda kind, data: self.lines.append(data))
        self.ledger = Ledger(observer, RUN)
        self.place = folder / f"{TAG}{RUN}"
        self.ledger.closely()
        self.ledger.start([Guest("vm:101", "gold", None, (), (), True, str(folder))])

    def acknowledged(self) -> int:
        return sum(line.get("acknowledged", 0) for line in self.lines)

    def facts(self) -> TestFacts:
        """What the judge sees, with a fault that came when all but the last look was over."""
        facts = TestFacts("t")
        looks = [line for line in self.lines if line["event"] in ("check", "silent")]
        before = max(each["answered"] for each in self.lines if each["answered"] < looks[-1]["asked"]) + 1
        fault = Fault("f-1", "F", {}, "t", before=before, after=before)
        fault.effect, fault.effect_high = "yes", before + SECOND // 10
        facts.faults.append(fault)
        facts.ledger = self.lines
        return facts


def test_the_readers_lines_are_what_the_judge_measures(here: Here, folder: Path) -> None:
    """Nothing lost, no stall, one life: read back from a real writer, judged from the lines alone."""
    bench = Bench(here, folder)
    try:
        until(lambda: bench.acknowledged() >= 15)
    finally:
        bench.ledger.stop()
    assert bench.ledger.clear() == []
    facts = bench.facts()
    assert writes.lost_writes(facts, "vm:101", {}).high == 0
    stall = writes.write_stall(facts, "vm:101", {})
    assert stall.high is not None
    assert 0.1 < stall.high < 2
    assert writes.double_runs(facts, "vm:101", {}).high == 0
    assert list(folder.iterdir()) == []


def test_a_write_that_vanished_is_counted(here: Here, folder: Path) -> None:
    """What had been read back as durable and is not in the file any more is lost, each write of it."""
    bench = Bench(here, folder)
    try:
        until(lambda: bench.acknowledged() >= 8)
        text = (bench.place / "ledger").read_text().splitlines(keepends=True)
        (bench.place / "ledger").write_text("".join(text[:4]))
        CLOCK.sleep(1)
    finally:
        bench.ledger.stop()
        bench.ledger.clear()
    found = writes.lost_writes(bench.facts(), "vm:101", {})
    assert found.low >= 4
    assert found.low == found.high


def test_a_write_that_was_forged_is_counted(here: Here, folder: Path) -> None:
    """A line that was changed and chained anew is none of those that were read before."""
    bench = Bench(here, folder)
    try:
        until(lambda: bench.acknowledged() >= 8)
        path = bench.place / "ledger"
        path.write_text(path.read_text().replace("\n3 ", "\n30 ", 1))
    finally:
        bench.ledger.stop()
        bench.ledger.clear()
    found = writes.lost_writes(bench.facts(), "vm:101", {})
    assert found.low >= 1


def test_a_guest_that_does_not_answer_is_no_zero(here: Here, folder: Path) -> None:
    """Who cannot be asked after the fault has not lost nothing: it cannot be told, and the reason is said."""
    bench = Bench(here, folder)
    try:
        until(lambda: bench.acknowledged() >= 4)
        here.away = True
        bench.ledger.stop()
    finally:
        here.away = False
        bench.ledger.clear()
    facts = bench.facts()
    with pytest.raises(writes.Inconclusive, match="QEMU guest agent is not running"):
        writes.lost_writes(facts, "vm:101", {})


def test_times_of_the_guest_are_exact() -> None:
    """A time with two decimals is read to the nanosecond."""
    assert nanoseconds("25109.76") == 25_109_760_000_000
    assert nanoseconds("0.5") == 500_000_000
