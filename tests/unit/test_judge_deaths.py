"""When a node died, whatever was seen of it: never earlier than it can have been."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge import half_alive, reset_after, reset_after_last_feed
from pytest_pveha.judge.deaths import STAMP_AFTER_FEED, death, which_watchdog
from pytest_pveha.judge.deaths import half_alive as judged_half_alive
from pytest_pveha.judge.deaths import reset_after as judged_reset_after
from pytest_pveha.judge.deaths import reset_after_last_feed as judged_last_feed
from pytest_pveha.judge.facts import SECOND, Fault, Seen, TestFacts

NODE = {"node": "pve3"}


def seen(what: str, old: str | None, new: str, low: float, high: float) -> Seen:
    """Something became ``new`` between these seconds."""
    return Seen(what, old, new, round(low * SECOND), round(high * SECOND), "ssh")


def facts(*lines: Seen, effect: tuple[float, float] = (100.0, 100.2)) -> TestFacts:
    """A test with one fault, and what was seen in it."""
    low, high = (round(each * SECOND) for each in effect)
    fault = Fault("daemon-killed-1", "DaemonKilled", {"node": "pve3"}, "t", before=low, effect="yes")
    fault.effect_low, fault.effect_high = low, high
    return TestFacts("t", faults=[fault], seen=list(lines))


def silence(low: float, high: float) -> Seen:
    """The node fell silent."""
    return seen("answering/pve3", "yes", "no", low, high)


def boot(low: float, high: float) -> Seen:
    """The node has another boot id."""
    return seen("boot_id/pve3", "a", "b", low, high)


def test_a_reset_is_dated_by_the_silence() -> None:
    """From the effect to the silence before the new boot id, not to the end of the boot."""
    measured = judged_reset_after(facts(silence(109.0, 109.5), boot(99.0, 300.0)), "pve3", NODE)
    assert (measured.low, measured.high) == (8.8, 9.5)


def test_an_earlier_silence_is_no_death() -> None:
    """A lost packet before the death does not put it earlier, nor does a silence before the fault."""
    lines = (silence(90.0, 90.5), silence(103.0, 103.5), silence(168.0, 169.0), boot(99.0, 300.0))
    measured = judged_reset_after(facts(*lines), "pve3", NODE)
    assert (measured.low, measured.high) == (67.8, 69.0)


def test_who_was_seen_alive_had_not_died() -> None:
    """A silence that ended with the old boot id says nothing: the death is bounded by the boot ids alone."""
    died = death(facts(silence(103.0, 103.5), boot(150.0, 300.0)), "pve3", 100 * SECOND)
    assert died is not None
    assert (died.low, died.high) == (150 * SECOND, 300 * SECOND)


@pytest.mark.parametrize("lines", [(), (silence(109.0, 109.5),), (seen("boot_id/pve3", None, "a", 99.0, 99.1),)])
def test_without_a_new_boot_id_nothing_is_measured(lines: tuple[Seen, ...]) -> None:
    """Silence alone proves no reset."""
    with pytest.raises(Inconclusive, match="pve3 was not seen to be reset"):
        judged_reset_after(facts(*lines), "pve3", NODE)


def test_the_last_feed_counts() -> None:
    """The stamp that changed last before the fault took effect is the feed's, with what it may be late."""
    lines = (
        seen("lrm_stamp/pve3", None, "1", 90.0, 90.1),
        seen("lrm_stamp/pve3", "1", "2", 104.8, 105.0),
        silence(174.0, 174.5),
        boot(99.0, 300.0),
    )
    measured = judged_last_feed(facts(*lines, effect=(100.0, 105.5)), "pve3", NODE)
    assert (measured.low, measured.high) == (69.0, 69.7 + STAMP_AFTER_FEED / SECOND)


def test_an_unknown_feed_is_inconclusive() -> None:
    """A stamp that was never seen to change dates no feed."""
    lines = (seen("lrm_stamp/pve3", None, "1", 100.0, 100.1), silence(174.0, 174.5), boot(99.0, 300.0))
    with pytest.raises(Inconclusive, match="fed its watchdog last was not seen"):
        judged_last_feed(facts(*lines), "pve3", NODE)


def alive(*lines: Seen) -> Any:
    """Half alive, of one guest that was started elsewhere between 240 and 241 s."""
    started = seen("process_start/vm:101@pve1", None, "started", 240.0, 241.0)
    return judged_half_alive(facts(started, *lines), "pve3", NODE | {"guests": ["vm:101"]})


def test_a_guest_after_the_death_is_no_harm() -> None:
    """Started after the silence: none was half alive."""
    assert (alive(silence(109.0, 109.5), boot(99.0, 300.0)).high) == 0


def test_a_guest_before_the_death_is() -> None:
    """Started while the old node still answered, or was looked at with its old boot id: one."""
    assert alive(silence(250.0, 250.5), boot(99.0, 300.0)).low == 1
    assert alive(seen("lives/pve3", None, str(242 * SECOND), 242.0, 242.1)).low == 1


def test_a_guest_about_the_death_may_be() -> None:
    """Started between the last answer and the first silence: neither one nor none."""
    measured = alive(silence(240.5, 241.5), boot(99.0, 300.0))
    assert (measured.low, measured.high) == (0, 1)


def test_a_guest_that_came_back_is_none() -> None:
    """It runs where it was, after the reset."""
    there = seen("process_start/vm:101@pve3", None, "started", 240.0, 241.0)
    measured = judged_half_alive(facts(there, boot(99.0, 200.0)), "pve3", NODE | {"guests": ["vm:101"]})
    assert (measured.low, measured.high) == (0, 0)


def test_what_was_not_seen_is_inconclusive() -> None:
    """A guest runs elsewhere, and nobody saw a reset, nor since when it runs: can't tell."""
    with pytest.raises(Inconclusive, match="whether pve3 was reset was not seen"):
        alive()
    blind = seen("process/vm:101@pve1", None, "running", 240.0, 241.0)
    measured = judged_half_alive(
        facts(blind, silence(109.0, 109.5), boot(99.0, 300.0)), "pve3", NODE | {"guests": ["vm:101"]}
    )
    assert (measured.low, measured.high) == (0, 1)
    with pytest.raises(Inconclusive, match="names no guest"):
        judged_half_alive(facts(boot(99.0, 300.0)), "pve3", NODE)


def test_the_watchdog_is_named() -> None:
    """Software or hardware, or that nobody knows."""
    assert which_watchdog(facts(), NODE) == "which watchdog it has was not seen"
    soft = facts(seen("watchdog/pve3", None, "Software Watchdog", 99.0, 99.1))
    assert which_watchdog(soft, NODE) == "watchdog: Software Watchdog, the kernel's own timer"
    own = seen("watchdog/pve3", None, "IPMI", 99.0, 99.1)
    assert which_watchdog(facts(own), NODE) == "watchdog: IPMI, hardware"
    logged = [seen(f"bmc_log/{node}", None, "watchdog reset", 300.0, 301.0) for node in ("pve3", "pve2", "pve3")]
    told = "watchdog: IPMI, hardware; in its BMC's log: pve3 watchdog reset"
    assert which_watchdog(facts(own, *logged), NODE) == told


class Named:
    """A node, or a guest."""

    name, sid, tier = "pve3", "vm:101", "gold"


def test_claims_name_their_node() -> None:
    """What is claimed of a node has it as its subject, and its guests beside it."""
    assert (reset_after(Named()).subject, reset_after_last_feed(Named()).params) == ("pve3", NODE)
    assert half_alive([Named()], Named()).params == NODE | {"guests": ["vm:101"]}


@given(
    died=st.floats(100.3, 250.0),
    looks=st.lists(st.floats(0.05, 5.0), min_size=60, max_size=120),
    lost=st.sets(st.integers(0, 40), max_size=6),
)
def test_the_truth_lies_within(died: float, looks: list[float], lost: set[int]) -> None:
    """However often one looked, and whatever packets were lost before: the true death is within the bounds."""
    lines, last, moment = [], ("yes", 99.9), 100.0
    for number, pause in enumerate(looks):
        moment += pause
        answered = moment < died and not (number in lost and moment + 5.0 < died - 5.0)
        word = "yes" if answered else "no"
        if word != last[0]:
            lines.append(seen("answering/pve3", last[0], word, last[1], moment))
        last = (word, moment)
    if last[0] == "yes":
        return
    found = death(facts(*lines, boot(99.0, moment + 200.0)), "pve3", 100 * SECOND)
    assert found is not None
    assert found.low <= died * SECOND <= found.high + 1
