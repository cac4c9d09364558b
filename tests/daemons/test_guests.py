"""Real guests, killed, moved and reset by their watchdogs: what we measure from outside against what QEMU says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from guests import CLOCK, HTTP, Guest, Guests
from lab import Lab, needs

from pytest_pveha.clock import SECOND, Deadline
from pytest_pveha.errors import Inconclusive, SiteError
from pytest_pveha.handles import watchdog
from pytest_pveha.handles.connect import connect
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import load
from pytest_pveha.judge.deaths import reset_after_last_feed, which_watchdog
from pytest_pveha.judge.facts import Fault, Run, Seen, TestFacts
from pytest_pveha.judge.outages import Outage, outages
from pytest_pveha.observe import life
from pytest_pveha.observe.observer import Observer
from pytest_pveha.observe.sampler import Probe
from pytest_pveha.observe.sampling import SamplerProcess

pytestmark = [pytest.mark.daemons, needs("qemu-system-x86_64", "busybox", "cpio", "sshd", "ssh-keygen", "apt-get")]

AMPLE = 120.0
TIMEOUT = 10.0
"""Seconds without being fed after which the watchdogs here reset the guest."""
HELD = 0.7
"""Seconds for which a live migration is held while nobody runs."""
BUSY = 3.0
"""How many times as long as on an idle machine something may take."""


@pytest.fixture(scope="module")
def nursery(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Guests:
    """Where guests can be started."""
    return Guests(lab, tmp_path_factory.mktemp("guests"))


@pytest.fixture
def guests(nursery: Guests) -> Iterator[Guests]:
    """The same, without guests before and after."""
    yield nursery
    nursery.close()


def ample() -> Deadline:
    return CLOCK.deadline(AMPLE)


class Watched:
    """A guest watched ten times a second."""

    def __init__(self, guest: Guest) -> None:
        self._rows: list[dict[str, Any]] = []
        self._sampler = SamplerProcess(self._write)
        self._sampler.watch([Probe("tcp:vm:1", "vm:1", guest.address, HTTP)])
        self._sampler.fast()
        self.until(lambda: self.good() is not None)

    def _write(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "samples":
            self._rows.append(data)

    def good(self) -> int | None:
        """Since when (mono ns) it answers; None while it does not."""
        return self._sampler.good_since("vm:1")

    @staticmethod
    def until(seen: Callable[[], bool]) -> None:
        """That was seen."""
        deadline = ample()
        while not seen():
            assert not deadline.expired()
            CLOCK.sleep(0.05)

    def found(self) -> list[Outage]:
        """The outages there were, by the judge's own rule; nothing is watched any more."""
        self._sampler.stop()
        runs = [Run(**{name: row.get(name) for name in Run.__dataclass_fields__}) for row in self._rows]
        return outages(runs, 2 * SECOND)


def test_a_process_that_is_killed(guests: Guests) -> None:
    """The guest went between its last good answer and the first bad one, and so did its process."""
    with guests.watching():
        guest = guests.start("killed", "10.41.0.11")
        guest.up()
        watched = Watched(guest)
        # a busy machine's guest may miss a question now and then
        watched.until(lambda: (since := watched.good()) is not None and CLOCK.now().mono - since > SECOND)
        before, after = guest.kill()
        CLOCK.sleep(1)
        *_, outage = watched.found()
    assert outage.start_low is not None
    assert outage.start_low <= after
    assert before <= outage.start_high
    assert outage.start_high - outage.start_low < BUSY * 0.25 * SECOND
    assert outage.end_high is None  # it never came back: that is no number


def test_a_live_migration(guests: Guests) -> None:
    """What is seen from outside holds the downtime that QEMU itself reports, and the guest did not start anew."""
    with guests.watching():
        source = guests.start("source", "10.41.0.12")
        source.up()
        with node_of(guests, source) as site:
            before = site.nodes["pve1"].boot_id(ample())
        channel = guests.folder / "moving"
        target = guests.start("target", "10.41.0.12", more=["-incoming", f"unix:{channel}"])
        watched = Watched(source)
        # held between the stop here and the start there: a fast machine is away for less than two probes otherwise
        source.ask("migrate-set-capabilities", capabilities=[{"capability": "pause-before-switchover", "state": True}])
        source.ask("migrate", uri=f"unix:{channel}")
        moved: dict[str, Any] = {}

        def reached(*states: str) -> bool:
            moved.update(source.ask("query-migrate"))
            return moved["status"] in (*states, "failed")

        watched.until(lambda: reached("pre-switchover"))
        CLOCK.sleep(HELD)
        source.ask("migrate-continue", state="pre-switchover")
        watched.until(lambda: reached("completed"))
        assert moved["status"] == "completed", moved
        watched.until(lambda: watched.good() is not None)
        CLOCK.sleep(1)
        found = watched.found()
        with node_of(guests, target) as site:
            assert site.nodes["pve1"].boot_id(ample()) == before
    stopped = moved["downtime"] / 1000
    low = sum(outage.low for outage in found) / SECOND
    high = sum(outage.high or 0 for outage in found) / SECOND
    print(f"QMP says {stopped:.3f} s; seen from outside {low:.3f} to {high:.3f} s")
    # the switch learns where the guest is now, and the guest goes on: both after QEMU stops counting
    assert stopped >= HELD
    assert found != []
    assert low <= stopped + BUSY * 0.2
    assert stopped <= high


@contextmanager
def node_of(guests: Guests, guest: Guest) -> Iterator[Site]:
    """The guest as a node that our handles reach."""
    site = connect(load(guests.inventory(guest)), CLOCK)
    try:
        yield site
    finally:
        site.close()


@pytest.mark.parametrize(
    ("kind", "named", "words"),
    [
        ("i6300esb", "hardware", f"pveha.dog=i6300esb pveha.options=heartbeat={TIMEOUT:.0f}"),
        ("softdog", "the kernel's own timer", f"pveha.dog=softdog pveha.options=soft_margin={TIMEOUT:.0f}"),
    ],
)
def test_a_watchdog_that_is_not_fed(guests: Guests, kind: str, named: str, words: str) -> None:
    """From the last feed to the reset, as QEMU dates it; which watchdog it was is named; another boot id proves it."""
    device = ["-device", "i6300esb", "-action", "watchdog=reset"] if kind == "i6300esb" else []
    with guests.watching():
        guest = guests.start(kind, "10.41.0.13", kernel_words=words, more=device)
        guest.up()
        test = starved(guests, guest, until=lambda: guest.boots() > 1)
        resets = guest.events("RESET")
        assert bool(guest.events("WATCHDOG")) == (kind == "i6300esb")
    measured = reset_after_last_feed(test, "pve1", {"node": "pve1"})
    (feed,) = [seen for seen in test.seen if seen.what == "lrm_stamp/pve1" and seen.old is not None][-1:]
    truth = (resets[0].at - feed.high) / SECOND, (resets[0].at - feed.low) / SECOND + 0.3
    print(f"{kind}: {measured.low:.2f} to {measured.high} s; QEMU's reset {truth[0]:.2f} to {truth[1]:.2f} s after it")
    assert measured.high is not None
    assert measured.low <= truth[1]
    assert truth[0] <= measured.high
    assert measured.high > TIMEOUT - 1
    assert measured.low < BUSY * TIMEOUT
    assert named in which_watchdog(test, {"node": "pve1"})


def test_a_watchdog_that_never_fires(guests: Guests) -> None:
    """Nobody is reset, and that is found: no figure, whatever the device calls itself."""
    words = f"pveha.dog=i6300esb pveha.options=heartbeat={TIMEOUT:.0f}"
    with guests.watching():
        guest = guests.start(
            "never", "10.41.0.14", kernel_words=words, more=["-device", "i6300esb", "-action", "watchdog=none"]
        )
        guest.up()
        deadline = CLOCK.deadline(BUSY * TIMEOUT)
        test = starved(guests, guest, until=deadline.expired)
        assert guest.events("WATCHDOG") != []  # it expired, and did nothing
        assert guest.events("RESET") == []
        assert guest.boots() == 1
    with pytest.raises(Inconclusive, match="not seen to be reset"):
        reset_after_last_feed(test, "pve1", {"node": "pve1"})
    assert "hardware" in which_watchdog(test, {"node": "pve1"})


def starved(guests: Guests, guest: Guest, until: Callable[[], bool]) -> TestFacts:
    """What was seen of a guest whose watchdog was fed and then no more, until that has come about."""
    seen: list[Seen] = []
    with node_of(guests, guest) as site:
        node = site.nodes["pve1"]
        observer = Observer(site, lambda kind, data: seen.append(Seen(**data)) if kind == "seen" else None)
        asked = CLOCK.now()
        node.act(ample(), "sh", "-c", "setsid feed >/dev/null 2>&1 &")
        observer.note("watchdog/pve1", watchdog.identity(node, ample()), asked, CLOCK.now(), "ssh")
        assert watchdog.restarts_after_panic(node, ample()) == 1
        observer.boot_id(node)
        assert life.answers(observer, node)
        before = CLOCK.now().mono
        stamped(observer, times=2)
        node.act(ample(), "killall", "-STOP", "feed")
        stamped(observer, times=0)  # had it been fed meanwhile, that would be on record, too
        after = CLOCK.now().mono
        while not until():
            life.answers(observer, node)
            CLOCK.sleep(0.2)
        again = ample()
        while True:
            try:
                observer.boot_id(node)
                break
            except SiteError:
                assert not again.expired()
    fault = Fault("daemon-frozen-1", "DaemonFrozen", {"node": "pve1"}, "t", before=before, effect="yes")
    fault.effect_low, fault.effect_high = before, after
    return TestFacts("t", faults=[fault], seen=seen)


def stamped(observer: Observer, times: int) -> None:
    """So many new stamps of the feeder were seen, as a fault sees them before it strikes; at least one look was."""
    node, seen = observer.site.nodes["pve1"], 0
    deadline = ample()
    while True:
        assert not deadline.expired()
        asked = CLOCK.now()
        with suppress(SiteError):  # none yet
            stamp = watchdog.lrm_stamp(node, ample())
            seen += observer.note("lrm_stamp/pve1", stamp, asked, CLOCK.now(), "ssh")
        if seen >= times:
            return
