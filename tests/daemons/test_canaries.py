"""The ledger in a real guest: QEMU killed and started again on its disk, stopped, and throttled, by a real agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from canaries import CLOCK, FOLDER, Machine, disk, initramfs
from lab import needs

from pytest_pveha.clock import SECOND, Deadline
from pytest_pveha.errors import Inconclusive
from pytest_pveha.handles.guest import Guest
from pytest_pveha.judge import writes
from pytest_pveha.judge.facts import Fault, TestFacts
from pytest_pveha.observe import ledger
from pytest_pveha.observe.ledger import Ledger

pytestmark = [pytest.mark.daemons, needs("qemu-system-x86_64", "busybox", "cpio", "mke2fs", "apt-get")]

SID = "vm:101"
AMPLE = 90.0
STALL = 6.0


def ample() -> Deadline:
    return CLOCK.deadline(AMPLE)


@pytest.fixture(scope="module")
def boots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What guests boot into."""
    return initramfs(tmp_path_factory.mktemp("boots"))


class Site:
    """One real guest and the run's readers of it."""

    def __init__(self, folder: Path, boots: Path, drive: str) -> None:
        self._folder, self._boots, self._drive = folder, boots, drive
        self.lines: list[dict[str, Any]] = []
        self.machines: list[Machine] = []
        self.on()
        site = SimpleNamespace(
            clock=CLOCK,
            inside=lambda sid, node: self.way,
            nodes=SimpleNamespace(names=("pve1",)),
            guests=SimpleNamespace(sids=(SID,)),
            cluster=SimpleNamespace(guests=lambda deadline: {SID: SimpleNamespace(node="pve1")}),
        )
        observer: Any = SimpleNamespace(site=site, write=lambda kind, data: self.lines.append(data))
        self.ledger = Ledger(observer, "0a1b2c3d")
        self.ledger.closely()
        self.ledger.start([Guest(SID, "gold", None, (), (), True, FOLDER)])
        self.facts = TestFacts("t", ledger=self.lines)

    def on(self) -> None:
        """It runs, from its disk."""
        machine = Machine(self._folder / f"boot-{len(self.machines)}", self._boots, self._drive)
        self.machines.append(machine)
        self.way = machine.up()

    @property
    def machine(self) -> Machine:
        return self.machines[-1]

    def acknowledged(self) -> int:
        """So many writes were read back as durable."""
        return sum(line.get("acknowledged", 0) for line in self.lines)

    def until(self, seen: Callable[[], bool]) -> None:
        """That is so."""
        deadline = ample()
        while not seen():
            assert not deadline.expired(), self.lines[-5:]
            CLOCK.sleep(0.1)

    def written(self, more: int) -> None:
        """So many writes more were read back."""
        before = self.acknowledged()
        self.until(lambda: self.acknowledged() >= before + more)

    def broken(self, act: Callable[[], None]) -> Fault:
        """It was broken, between two moments."""
        before = CLOCK.now().mono
        act()
        after = CLOCK.now().mono
        fault = Fault("f-1", "F", {}, "t", before=before, after=after, effect="yes", effect_low=before)
        fault.effect_high = fault.healed_at = after
        self.facts.faults.append(fault)
        return fault

    def pace(self) -> float:
        """Seconds from a reading's begin to the next one's end, at worst, while all was well: no figure is tighter."""
        ended = self.facts.faults[0].before or 0
        reads = [line for line in self.lines if line["event"] == "read" and line["answered"] < ended]
        return max((later["answered"] - each["asked"]) / SECOND for each, later in pairwise(reads))

    def over(self) -> None:
        """Nothing is read any more, and nothing of ours is left in the guest."""
        self.ledger.stop()
        assert self.ledger.clear() == []

    def close(self) -> None:
        for machine in self.machines:
            machine.kill()


@pytest.fixture
def make(boots: Path, tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    """Starts a site whose guest's disk has those options."""
    made: list[Site] = []

    def start(options: str) -> Site:
        made.append(Site(tmp_path, boots, f"file={disk(tmp_path / 'disk')},format=raw,{options}"))
        return made[-1]

    yield start
    for site in made:
        site.close()


@pytest.mark.parametrize("cache", ["writeback", "none"])
def test_nothing_acknowledged_is_lost_with_a_killed_qemu(make: Callable[[str], Site], cache: str) -> None:
    """A guest whose QEMU is killed has, started again on its disk, every write that was seen durable, in a new life."""
    site = make(f"cache={cache}")
    site.written(20)
    site.broken(site.machine.kill)
    site.until(lambda: any(line["event"] == "silent" for line in site.lines))
    site.on()
    site.written(20)
    site.over()
    lost = writes.lost_writes(site.facts, SID, {})
    assert (lost.low, lost.high) == (0, 0)
    assert len({line["of"] for line in site.lines if line["event"] == "read"}) == 2
    twice = writes.double_runs(site.facts, SID, {})
    assert (twice.low, twice.high) == (0, 0)
    loss = writes.data_loss(site.facts, SID, {})
    assert loss.low == 0
    assert loss.high is not None
    assert loss.high < 1 + 2 * site.pace()
    assert site.way.run(ample(), "/bin/ls", FOLDER).out.split() == ["lost+found"]


def test_a_guest_that_stands_still_stalls_for_as_long(make: Callable[[str], Site]) -> None:
    """A guest that is stopped counts no time meanwhile; the stall is found all the same, as long as it was."""
    site = make("cache=writeback")
    site.written(10)
    begin = CLOCK.now().mono
    site.broken(lambda: site.machine.qmp("stop"))
    CLOCK.sleep(STALL)
    site.machine.qmp("cont")
    true = (CLOCK.now().mono - begin) / SECOND
    site.written(10)
    site.over()
    stall = writes.write_stall(site.facts, SID, {})
    assert stall.high is not None
    assert stall.low <= true <= stall.high, (stall, true)
    assert stall.low > STALL - 2 * site.pace(), stall
    assert stall.high < true + 2 + 2 * site.pace(), stall


def test_a_disk_that_hangs_stalls_for_as_long(make: Callable[[str], Site]) -> None:
    """A disk that takes a byte a second hangs each write for as long as that is so, and none is lost."""
    site = make("cache=writeback")
    throttle = {"device": "disk", "bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0}
    site.written(10)
    begin = CLOCK.now().mono
    site.broken(lambda: site.machine.qmp("block_set_io_throttle", **{**throttle, "bps_wr": 1}))
    CLOCK.sleep(STALL)
    site.machine.qmp("block_set_io_throttle", **throttle)
    true = (CLOCK.now().mono - begin) / SECOND
    site.written(10)
    site.over()
    stall = writes.write_stall(site.facts, SID, {})
    assert stall.high is not None
    assert stall.low > STALL - 2 * site.pace(), stall
    assert stall.high < true + 1 + 2 * site.pace(), stall
    lost = writes.lost_writes(site.facts, SID, {})
    assert (lost.low, lost.high) == (0, 0)


def test_an_agent_that_is_gone_is_no_zero(make: Callable[[str], Site], monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that never comes back has not lost nothing: it cannot be told."""
    monkeypatch.setattr(ledger, "LAST", 0)
    site = make("cache=writeback")
    site.written(10)
    site.broken(site.machine.kill)
    site.ledger.stop()
    with pytest.raises(Inconclusive, match="QEMU guest agent is not running"):
        writes.lost_writes(site.facts, SID, {})


def test_what_the_handle_asks_is_what_the_agent_answers(make: Callable[[str], Site]) -> None:
    """Files, programs, their status and output, the clock and the system of a real guest, by the handle."""
    site = make("cache=writeback")
    way = site.way
    assert site.way.run(ample(), "/bin/sh", "-c", "cat; echo oops >&2; exit 3", input="given").out == "given"
    ran = way.run(ample(), "/bin/sh", "-s", "--", "a b", input='echo "$1"; echo oops >&2; exit 3\n')
    assert (ran.status, ran.out, ran.err) == (3, "a b\n", "oops\n")
    way.write("/tmp/file", b"pveha\n" * 3, ample())
    assert way.read("/tmp/file", ample()) == b"pveha\n" * 3
    seconds, asked, answered = way.time(ample())
    assert asked.utc - 120 * SECOND < seconds < answered.utc + 120 * SECOND
    assert way.frozen(ample()) is False
    assert way.system(ample())
