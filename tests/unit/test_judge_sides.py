"""The two sides of a cut: the truth lies within the bounds, and what was not watched is not measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_builder import TEST, Entry, accepted_run, chained, fault, ns, samples, seen

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge import sides
from pytest_pveha.judge.facts import TestFacts, gather
from pytest_pveha.judge.measured import Measured, compare

NODES = {"nodes": ["pve1", "pve2"]}
SIDES = {"one": ["pve1"], "other": ["pve2"]}
HOMES = {"homes": {"vm:101": "pve1"}}


def facts(*entries: Entry) -> TestFacts:
    """A cut of pve1 from pve2, healed after 300 s, in which these things were seen."""
    opened = [entry for entry in accepted_run() if entry.kind in ("run.open", "test.open")]
    cut = [
        fault("plan", type="Partition", params={"cut_off": ["pve1"]}, undo={}),
        fault("inject", before=ns(0), after=ns(0.1)),
        fault("effect", answer="yes", saw="parted", low=ns(7), high=ns(8)),
    ]
    lines = chained([*opened, *cut, *entries, fault("heal")])
    test = gather(lines).tests[TEST]
    test.faults[0].heal_at = ns(300)
    return test


def asked(*nodes: str, until: float = 310) -> list[Entry]:
    """These nodes were asked all the time."""
    return [samples(f"inside:{node}", "good", -20, until, subject=f"node:{node}:inside") for node in nodes]


def died(at: float = 66, back: float = 110) -> list[Entry]:
    """pve1 was silent from then until then, and has a new boot id."""
    return [
        samples("node:pve1", "good", -20, at, subject="node:pve1"),
        samples("node:pve1", "bad", at + 1, back, subject="node:pve1"),
        samples("node:pve1", "good", back + 1, 310, subject="node:pve1"),
        seen("boot_id/pve1", "a", "b", at - 1, back + 2, "ssh"),
    ]


def quorate(node: str, lost: float | None = None) -> list[Entry]:
    """The node said yes, and from a second before that moment on, no."""
    first = seen(f"quorate@{node}", None, "yes", -20, -19, "ssh")
    return [first] if lost is None else [first, seen(f"quorate@{node}", "yes", "no", lost - 1, lost, "ssh")]


@given(lost=st.floats(2, 250), other=st.floats(2, 250))
def test_both_are_quorate_until_the_first_is_not(lost: float, other: float) -> None:
    """The time both said yes ends within the bounds of the earlier loss."""
    test = facts(*asked("pve1", "pve2"), *quorate("pve1", lost), *quorate("pve2", other))
    measured = sides.both_quorate(test, "cluster", SIDES)
    first = min(lost, other)
    assert measured.high is not None
    assert measured.low <= first <= measured.high + 1e-6
    assert measured.high - measured.low <= 1.1


def test_a_side_that_never_loses_quorum_is_counted_to_the_heal() -> None:
    """Both sides quorate all the time: as long as the cut."""
    test = facts(*asked("pve1", "pve2"), *quorate("pve1"), *quorate("pve2"))
    assert sides.both_quorate(test, "cluster", SIDES).low == pytest.approx(300)


def test_a_node_that_boots_as_the_cut_ends_was_not_quorate_before() -> None:
    """It was dead and silent until just before: that it is quorate at the first look after the cut says nothing."""
    inside = "node:pve1:inside"
    told = [
        samples("inside:pve1", "good", -20, 66, subject=inside),
        samples("inside:pve1", "bad", 70, 296, subject=inside),
        samples("inside:pve1", "good", 301, 310, subject=inside),
        *quorate("pve1", 8),
        seen("quorate@pve1", "no", "yes", 65, 301, "ssh"),
    ]
    booting = facts(*asked("pve2"), *died(66, 298), *told, *quorate("pve2"))
    measured = sides.both_quorate(booting, "cluster", SIDES)
    assert (measured.low, measured.high) == (pytest.approx(7), pytest.approx(8))
    alive = facts(*asked("pve2"), *told, *quorate("pve2"))
    assert sides.both_quorate(alive, "cluster", SIDES).high > 200


def test_a_side_that_nobody_asked_is_inconclusive() -> None:
    """Silence is not a lost quorum."""
    with pytest.raises(Inconclusive, match="pve1 was not asked"):
        sides.both_quorate(facts(*asked("pve2"), *quorate("pve2")), "cluster", SIDES)


@given(at=st.floats(20, 100), silent=st.floats(10, 100))
def test_the_margin_lies_between_the_oldest_and_the_newest_renewal(at: float, silent: float) -> None:
    """120 s from a renewal up to ten seconds before the cut, less the death, as late and as early as seen."""
    test = facts(*asked("pve1", "pve2"), *died(at, at + 1 + silent))
    measured = sides.fence_margin(test, "cluster", {"nodes": ["pve1"]})
    assert measured.low == pytest.approx(120 - 10 - (at + 1), abs=0.01)
    assert measured.high == pytest.approx(120 + 0.1 - at, abs=0.01)
    assert measured.about.startswith("pve1 ")


@pytest.mark.parametrize(("at", "verdict"), [(80, "accepted"), (95, "inconclusive"), (105, "rejected")])
def test_a_margin_across_its_objective_is_inconclusive(at: float, verdict: str) -> None:
    """Twenty seconds are to be left: surely, perhaps, or surely not."""
    test = facts(*asked("pve1", "pve2"), *died(at, at + 60))
    assert compare(sides.fence_margin(test, "cluster", {"nodes": ["pve1"]}), "at_least", 20)[0] == verdict


def warned(at: float, pid: str = "900", word: str = "starving") -> Entry:
    """The multiplexer of pve1 said so at that moment."""
    return seen(f"{word}/pve1", None, pid, at - 0.01, at + 0.01, "journal pve1")


def starved(*more: Entry, at: float = 66) -> Measured:
    """For how long pve1 was not fed when it died."""
    return sides.starved_for(facts(*died(at), *more), "cluster", {"nodes": ["pve1"]})


def test_the_time_without_a_feed_counts_from_fifty_seconds_before_the_warning() -> None:
    """By whole seconds: up to 52. Of two clients the first to starve counts, unless it was fed after all."""
    found = starved(warned(46))
    assert (found.low, found.high) == (pytest.approx(70, abs=0.02), pytest.approx(73, abs=0.02))
    assert starved(warned(46), warned(50, "901")).low == found.low
    assert starved(warned(30, "901"), warned(40, "901", "fed"), warned(46)).low == found.low


@pytest.mark.parametrize(("at", "verdict"), [(40, "rejected"), (66, "inconclusive")])
def test_a_death_without_a_warning_came_too_early_or_nobody_knows(at: float, verdict: str) -> None:
    """Less than 60 s after a feed ten seconds before the cut is too early; later it cannot be told."""
    assert compare(starved(at=at), "at_least", 60)[0] == verdict


def test_a_warning_before_the_cut_is_another_matter() -> None:
    """It was about something else."""
    assert starved(warned(-5)).low == 0


def test_the_last_to_be_quorate_again_counts() -> None:
    """From the heal, or from the last death; a node that was not seen to be quorate again is inconclusive."""
    back = [seen(f"quorate@{node}", "no", "yes", low, low + 1, "ssh") for node, low in (("pve1", 305), ("pve2", 310))]
    found = sides.time_to_quorum(facts(*back), "cluster", NODES)
    assert (found.low, found.high) == (10, 11)
    reset = sides.time_to_quorum(facts(*died(66), *back), "cluster", NODES)
    assert (reset.low, reset.high) == (pytest.approx(243, abs=0.1), pytest.approx(245, abs=0.1))
    with pytest.raises(Inconclusive, match="pve2 was not seen"):
        sides.time_to_quorum(facts(back[0]), "cluster", NODES)
    lost = seen("quorate@pve2", "yes", "no", 320, 321, "ssh")
    with pytest.raises(Inconclusive, match="pve2 was not seen"):
        sides.time_to_quorum(facts(*back, lost), "cluster", NODES)


def test_who_is_quorate_before_the_last_one_died_stays_so() -> None:
    """Two that were reset early are a majority by themselves; that they were still asked afterwards must be seen."""
    early = [seen(f"quorate@{node}", "no", "yes", low, low + 1, "ssh") for node, low in (("pve1", 60), ("pve2", 310))]
    found = sides.time_to_quorum(facts(*died(66), *early, *asked("pve1")), "cluster", NODES)
    assert found.high == pytest.approx(245, abs=0.1)
    with pytest.raises(Inconclusive, match="pve1 was not asked"):
        sides.time_to_quorum(facts(*died(66), *early), "cluster", NODES)


def test_a_node_that_did_not_die_has_no_margin() -> None:
    """Without a new boot id, or without having watched the silence, nothing is claimed."""
    with pytest.raises(Inconclusive, match="nobody saw a new boot id"):
        sides.fence_margin(facts(*asked("pve1")), "cluster", {"nodes": ["pve1"]})
    with pytest.raises(Inconclusive, match="no probe saw it silent"):
        sides.fence_margin(facts(seen("boot_id/pve1", "a", "b", 60, 110)), "cluster", {"nodes": ["pve1"]})


@pytest.mark.parametrize(("start", "good"), [(130.0, True), (60.0, False)])
def test_a_start_is_held_against_the_death_of_its_node(start: float, good: bool) -> None:
    """Later than the death: positive; earlier: negative."""
    born = seen("process_start/vm:101@pve2", None, "started", start, start + 1, "process age")
    measured = sides.start_after_death(facts(*died(66), born), "vm:101", HOMES)
    assert measured.high is not None
    assert (measured.low > 0) is good
    assert (measured.high < 0) is not good


def runs(node: str, first: float, last: float | None = None, *, old: str | None = "absent") -> list[Entry]:
    """The guest's process was seen on that node between these moments."""
    what = f"process/vm:101@{node}"
    begin = seen(what, old, "running", first - 1, first, "ssh")
    return [begin] if last is None else [begin, seen(what, "running", "absent", last, last + 1, "ssh")]


def test_a_guest_on_both_sides_is_counted() -> None:
    """Its process was on both nodes at once; after its first node has died it was not, whenever that was seen."""
    both = facts(*asked("pve1", "pve2"), *runs("pve1", -20, 200, old=None), *runs("pve2", 130))
    assert (measured := sides.overlaps(both, "vm:101", NODES)).low == measured.high == 1
    moved = facts(*asked("pve1", "pve2"), *died(66, 140), *runs("pve1", -20, 65, old=None), *runs("pve2", 130))
    assert sides.overlaps(moved, "vm:101", NODES).high == 0


def test_an_overlap_that_cannot_be_excluded_is_no_zero() -> None:
    """When the old process ended was seen within a minute only, and the new one began in it: zero or one."""
    blurred = seen("process/vm:101@pve1", "running", "absent", 100, 160, "ssh")
    test = facts(*asked("pve1", "pve2"), runs("pve1", -20, old=None)[0], blurred, *runs("pve2", 130))
    measured = sides.overlaps(test, "vm:101", NODES)
    assert (measured.low, measured.high) == (0, 1)


def test_nothing_happened_counts_only_where_somebody_looked() -> None:
    """No fence, no change, no loss: with a witness zero, without one inconclusive."""
    quiet = facts(*asked("api", "pve1", "pve2"), *quorate("pve1"), *quorate("pve2"))
    unread = sides.fences(quiet, "cluster", NODES)
    assert (unread.low, unread.high) == (0, None), "a fence may have passed between two looks"
    quiet.audits.append({"audit": "bad_news", "answer": "yes"})
    with pytest.raises(Inconclusive, match="was not asked for"):
        sides.fences(facts(*asked("api", until=100)), "cluster", {})
    for measure in (sides.fences, sides.membership_changes, sides.quorum_losses, sides.rejoins):
        assert measure(quiet, "cluster", NODES).high == 0
        if measure is sides.fences:
            continue
        with pytest.raises(Inconclusive, match="was not asked"):
            measure(facts(), "cluster", NODES)
        with pytest.raises(Inconclusive, match="was not asked for"):
            measure(facts(*asked("api", "pve1", "pve2", until=100)), "cluster", NODES)


def test_what_happened_is_counted() -> None:
    """A fenced node, a changed membership, a lost quorum, a second return, resets on both sides."""
    watched = asked("api", "pve1", "pve2")
    assert sides.fences(facts(*watched, seen("node_status/pve1", "unknown", "fence", 66, 67)), "cluster", {}).low == 1
    changed = facts(*watched, seen("members@pve2", "3", "2", 7, 8), seen("membership/pve1", "online", "offline", 7, 8))
    assert sides.membership_changes(changed, "cluster", NODES).low == 2
    assert sides.quorum_losses(facts(*watched, *quorate("pve1", 8)), "cluster", NODES).low == 1
    flaps = [seen("quorate@pve1", *pair, at, at + 1) for pair, at in ((("no", "yes"), 20), (("no", "yes"), 60))]
    assert sides.rejoins(facts(*watched, *flaps), "cluster", NODES).low == 2
    both = [seen(f"boot_id/{node}", "a", "b", 60, 120) for node in ("pve1", "pve2")]
    assert sides.sides_reset(facts(*watched, *both), "cluster", SIDES).low == 2
    reset = sides.last_reset(facts(*watched, *died(66)), "cluster", {"nodes": ["pve1"]})
    assert reset.low <= 66.5 <= (reset.high or 0)


APART = {**SIDES, "mons": ["pve1", "pve2"]}


def mon(node: str, lost: float | None = None, back: float | None = None, value: str = "in quorum") -> list[Entry]:
    """The mon there was asked all the time: it was that, then from that moment on not, and then again."""
    told = [
        samples(f"inside:mon:{node}", "good", -20, 310, subject=f"node:mon:{node}:inside"),
        seen(f"mon@{node}", None, value, -20, -19, "ssh"),
    ]
    if lost is not None:
        told.append(seen(f"mon@{node}", value, "out", lost - 1, lost, "ssh"))
    if back is not None:
        told.append(seen(f"mon@{node}", "out", value, back - 1, back, "ssh"))
    return told


@given(lost=st.floats(2, 60), away=st.floats(2, 200))
def test_the_time_without_a_mon_of_the_side_that_goes_on(lost: float, away: float) -> None:
    """pve2 goes on, and its mon is in no quorum for so long: Ceph went on elsewhere."""
    known = [*asked("pve1", "pve2"), *quorate("pve1", 9), *quorate("pve2"), *mon("pve1")]
    measured = sides.arbiters_apart(facts(*known, *mon("pve2", lost, lost + away)), "cluster", APART)
    assert measured.low <= away <= (measured.high or 0) + 1e-6
    assert sides.arbiters_apart(facts(*known, *mon("pve2")), "cluster", APART).high == pytest.approx(0)


def test_a_mon_that_never_was_in_quorum_is_the_whole_cut() -> None:
    """What never was so is no spell."""
    known = [*asked("pve1", "pve2"), *quorate("pve1", 9), *quorate("pve2"), *mon("pve1"), *mon("pve2", value="out")]
    assert sides.arbiters_apart(facts(*known), "cluster", APART).low == pytest.approx(300)


@pytest.mark.parametrize(
    ("told", "mons", "why"),
    [
        ([*quorate("pve1", 9), *quorate("pve2")], ["pve1", "pve2"], "mon:pve2 was not asked"),
        ([*quorate("pve1", 9), *quorate("pve2"), *mon("pve1")], ["pve1"], "no mon stands on the side that went on"),
        ([*quorate("pve1"), *quorate("pve2"), *mon("pve2")], ["pve2"], "both sides were seen to go on"),
        ([*quorate("pve1", 9), *quorate("pve2", 9), *mon("pve2")], ["pve2"], "neither side was seen to go on"),
    ],
)
def test_whom_ceph_chose_is_not_guessed(told: list[Entry], mons: list[str], why: str) -> None:
    """A mon that nobody asked, or that is not there, says nothing."""
    with pytest.raises(Inconclusive, match=why):
        sides.arbiters_apart(facts(*asked("pve1", "pve2"), *told), "cluster", {**SIDES, "mons": mons})
