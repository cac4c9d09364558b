"""Lost writes, stalls, two lives and slowdown: from handmade readings whose truth is known."""

from __future__ import annotations

from typing import Any

import pytest
from fuzzing import tries
from hypothesis import given
from hypothesis import strategies as st
from journal_builder import FAULT_AT, TEST, S, accepted_run, chained, changed, claim, ns

from pytest_pveha.errors import Inconclusive
from pytest_pveha.handles.guest import Guest
from pytest_pveha.judge import data_loss, lost_writes, rebuild_slowdown, write_stall
from pytest_pveha.judge import writes as measures
from pytest_pveha.judge.facts import Fault, Seen, TestFacts
from pytest_pveha.judge.verdict import judge
from pytest_pveha.record.kinds import FIELDS

SID = "vm:101"
OLD, NEW = "old", "new"
BOOTED = {OLD: -5000.0, NEW: 150.0}
"""When each life began, in seconds since the fault."""
STEP = 10_000_000


def uptime(of: str, at: float) -> int:
    """The uptime (ns, cut off as it is told) of that life at that second since the fault."""
    return round((at - BOOTED[of]) * 100) * STEP


def read(of: str, first: float, last: float, **changes: Any) -> dict[str, Any]:
    """A reading 0.4 s after ``last``: writes every 0.2 s from ``first`` on, 20 ms each."""
    count = round((last - first) / 0.2) + 1
    data = {
        "guest": SID,
        "event": "read",
        "asked": ns(last + 0.4),
        "answered": ns(last + 0.45),
        "of": of,
        "mine": True,
        "incarnation": of,
        "uptime": uptime(of, last + 0.42),
        "acknowledged": count,
        "failed": 0,
        "broken": 0,
        "first_ack": uptime(of, first),
        "last_ack": uptime(of, last),
        "gaps": [[20, count]],
        "took": [[2, count]],
        "long": [],
    }
    return data | changes


def check(at: float, **changes: Any) -> dict[str, Any]:
    """All that was durable is looked for."""
    data = {
        "guest": SID,
        "event": "check",
        "asked": ns(at),
        "answered": ns(at + 0.05),
        "incarnation": NEW,
        "of": OLD,
        "durable": 100,
        "last": 100,
        "last_ack": uptime(OLD, -0.6),
        "lost": 0,
        "first_lost": None,
        "kept": 100,
        "kept_of": OLD,
        "kept_ack": uptime(OLD, -0.6),
    }
    return data | changes


def facts(*lines: dict[str, Any], healed: float = 300) -> TestFacts:
    """A test whose fault took effect at second 0, healed later."""
    found = TestFacts(TEST)
    fault = Fault("power-cut-1", "PowerCut", {}, TEST, before=ns(-0.1), after=ns(0), effect="yes")
    fault.effect_low, fault.effect_high, fault.healed_at = ns(-0.1), ns(0.5), ns(healed)
    found.faults.append(fault)
    found.ledger = list(lines)
    return found


HEALTHY = (read(OLD, -30, -0.6), check(170), read(NEW, 180, 290), read(NEW, 290.2, 320), read(NEW, 320.2, 340))


def test_a_guest_that_lost_nothing() -> None:
    """Everything read back before the fault is there, in one life after the other, as fast as before."""
    found = facts(*HEALTHY)
    assert measures.lost_writes(found, SID, {}).high == 0
    assert measures.double_runs(found, SID, {}).high == 0
    slower = measures.write_slowdown(found, SID, {})
    assert slower.high is not None
    assert 0.5 < slower.low <= 1 <= slower.high < 1.5
    stall = measures.write_stall(found, SID, {})
    assert stall.high is not None
    assert stall.low <= 0.2 <= stall.high < 0.5
    loss = measures.data_loss(found, SID, {})
    assert loss.low == 0
    assert loss.high is not None
    assert 1.1 <= loss.high < 1.3  # the fault came at most 0.5 s after zero, the last write that is known was at -0.6


def test_lost_writes_are_counted_exactly() -> None:
    """Each write that is not there any more counts, and so does each that was changed."""
    lost = facts(HEALTHY[0], check(170, lost=7, kept=93, kept_ack=uptime(OLD, -2)), *HEALTHY[2:])
    assert measures.lost_writes(lost, SID, {}).low == measures.lost_writes(lost, SID, {}).high == 7
    forged = facts(read(OLD, -30, -0.6, broken=2), *HEALTHY[1:])
    assert measures.lost_writes(forged, SID, {}).low == 2
    loss = measures.data_loss(lost, SID, {})
    assert loss.high is not None
    assert loss.low == pytest.approx(1.4)
    assert 2.5 <= loss.high < 2.7


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ((), "was not watched"),
        ((HEALTHY[1], *HEALTHY[2:]), "no write of vm:101 was read back before the fault"),
        ((read(OLD, -30, -8), *HEALTHY[1:]), "which is too early to tell"),
        ((HEALTHY[0], *HEALTHY[2:]), "not looked for after the fault"),
        (
            (HEALTHY[0], {"guest": SID, "event": "silent", "asked": ns(9), "answered": ns(9), "saw": "agent is away"}),
            "agent is away",
        ),
    ],
)
def test_what_was_not_read_is_no_zero(lines: tuple[dict[str, Any], ...], why: str) -> None:
    """Without a reading just before the fault, or a look after it, nobody knows what was lost."""
    with pytest.raises(Inconclusive, match=why):
        measures.lost_writes(facts(*lines), SID, {})


def test_a_stall_is_one_gap_by_itself() -> None:
    """The longest gap within one life counts; that between two lives is an outage, and no stall."""
    long = [uptime(NEW, 200), uptime(NEW, 260)]
    found = facts(HEALTHY[0], check(170), read(NEW, 180, 290, long=[long], gaps=[[20, 100], [6000, 1]]))
    stall = measures.write_stall(found, SID, {})
    assert stall.high is not None
    assert stall.low <= 60 <= stall.high < 60.5
    assert stall.low > 59.5


def test_a_stall_before_the_fault_is_none() -> None:
    """What hung before anything was broken is not of this fault."""
    long = [uptime(OLD, -28), uptime(OLD, -10)]
    found = facts(read(OLD, -30, -0.6, long=[long]), *HEALTHY[1:])
    assert (measures.write_stall(found, SID, {}).high or 9) < 1


def test_a_stall_that_goes_on_has_no_end() -> None:
    """A guest whose writes still hang at the last look is censored, never a number."""
    last = read(NEW, 180, 190, asked=ns(300), answered=ns(300.05), uptime=uptime(NEW, 300.02))
    stall = measures.write_stall(facts(HEALTHY[0], check(170), last), SID, {})
    assert stall.censored
    assert 109 < stall.low < 111


def test_a_clock_that_stood_still_is_a_stall() -> None:
    """A guest that was stopped for 40 s has no gap by its own clock; ours tells it."""
    late = 40.0
    behind = read(NEW, 290.2, 320, asked=ns(320.4 + late), answered=ns(320.45 + late))
    stall = measures.write_stall(facts(*HEALTHY[:3], behind), SID, {})
    assert stall.high is not None
    assert stall.low <= 40 <= stall.high
    assert stall.low > 39.5


def test_a_clock_that_jumped_is_no_stall() -> None:
    """A guest whose clock went ahead by two minutes has a gap of two minutes, which ours has not."""
    jump = 120 * S
    ahead = read(NEW, 290.2, 320)
    ahead["uptime"] += jump
    ahead["last_ack"] += jump
    ahead["long"] = [[uptime(NEW, 300), uptime(NEW, 300.2) + jump]]
    ahead["gaps"] = [[20, 100], [12020, 1]]
    stall = measures.write_stall(facts(*HEALTHY[:3], ahead), SID, {})
    assert stall.low < 0.5
    assert (stall.high or 999) < 1


def test_two_lives_at_once_are_seen() -> None:
    """Writes of the old life that were made when the new one had written already are harm."""
    ghost = read(OLD, 195, 210, mine=False, uptime=None, asked=ns(212), answered=ns(212.1))
    found = facts(*HEALTHY[:3], ghost)
    twice = measures.double_runs(found, SID, {})
    assert (twice.low, twice.high) == (1, 1)


def test_a_guest_that_never_came_back_proves_nothing() -> None:
    """Without a look at the end nobody knows whether it lived twice, and its stall has no upper bound."""
    gone = {"guest": SID, "event": "silent", "asked": ns(9), "answered": ns(9), "saw": "agent is away"}
    found = facts(HEALTHY[0], read(OLD, -0.4, 0.2), gone)
    with pytest.raises(Inconclusive, match="agent is away"):
        measures.double_runs(found, SID, {})
    stall = measures.write_stall(found, SID, {})
    assert (stall.high, stall.censored) == (None, False)


def test_writes_that_take_twice_as_long_are_slower() -> None:
    """After the heal a write takes 40 ms, before it took 20."""
    slow = [read(NEW, 290.2, 320, took=[[4, 150]]), read(NEW, 320.2, 340, took=[[4, 100]])]
    slower = measures.write_slowdown(facts(*HEALTHY[:3], *slow), SID, {})
    assert slower.high is not None
    assert 1.5 < slower.low <= 2 <= slower.high


def test_a_few_writes_say_nothing_of_their_speed() -> None:
    """Fewer than thirty on either side cannot be compared."""
    few = read(OLD, -3, -0.6)
    with pytest.raises(Inconclusive, match="30 are needed"):
        measures.write_slowdown(facts(few, *HEALTHY[1:]), SID, {})


REBUILT = (
    read(OLD, -30, -0.6),
    read(OLD, -0.4, 99, took=[[2, 500]]),
    read(OLD, 99.2, 112, took=[[9, 60]]),  # it began before copies were made
    read(OLD, 112.2, 150, took=[[6, 180]]),
    read(OLD, 150.2, 203, took=[[4, 200]]),  # and this one ended after
    read(OLD, 203.2, 250, took=[[5, 200]]),
    read(OLD, 250.2, 310, took=[[2, 300]]),
    read(OLD, 310.2, 340, took=[[2, 150]]),
)


def rebuilding(*changes: tuple[float, str]) -> TestFacts:
    """A guest that lives on, while Ceph was seen to make copies, or not to, from these moments on; healed at 240."""
    found = facts(*REBUILT, healed=240)
    old = "no"
    found.seen.append(Seen("ceph/rebuilding", None, "no", ns(-20), ns(-20), "ceph"))
    for at, new in changes:
        found.seen.append(Seen("ceph/rebuilding", old, new, ns(at - 2), ns(at), "ceph"))
        old = new
    return found


def test_writes_during_a_rebuild_are_told_apart() -> None:
    """Of the readings those count alone that lie in it as a whole; what comes after it is after."""
    found = rebuilding((105, "yes"), (200, "no"))
    slower = measures.rebuild_slowdown(found, SID, {})
    assert slower.about == "20 ms before, 60 ms meanwhile"
    assert slower.high is not None
    assert slower.low <= 3 <= slower.high
    after = measures.write_slowdown(found, SID, {})
    assert after.about.startswith("20 ms before, 29")  # 200 writes of 50 ms, and 450 of 20


def test_what_is_written_in_a_rebuild_is_not_after_it() -> None:
    """Copies are made until after the heal: until they are, nothing is as it will be."""
    after = measures.write_slowdown(rebuilding((105, "yes"), (245, "no")), SID, {})
    assert after.about == "20 ms before, 20 ms after"


def test_a_rebuild_that_was_not_seen_slows_nothing() -> None:
    """Neither where none was made since the fault, nor where it was over too soon for thirty writes to be read."""
    for changes in ((), ((-10, "yes"), (-5, "no"))):
        with pytest.raises(Inconclusive, match="Ceph was not seen to make copies since the fault"):
            measures.rebuild_slowdown(rebuilding(*changes), SID, {})
    with pytest.raises(Inconclusive, match=r"0 writes of vm:101 were read back while Ceph made copies"):
        measures.rebuild_slowdown(rebuilding((120, "yes"), (140, "no")), SID, {})


def test_where_nothing_is_to_be_copied_nothing_is_promised() -> None:
    """It is listed with its reason, and not judged."""
    written = Guest(SID, "gold", None, (), canary=True)
    assert rebuild_slowdown([written], "no place").params == {"unwatched": "no place"}
    assert rebuild_slowdown([written]).guests == (written,)


def test_a_copys_loss_is_up_to_its_last_write() -> None:
    """A restored copy has lost what came after the last write that is in it."""
    copy = check(600, event="copy", copy="vm:9101", lost=5, kept_ack=uptime(OLD, -20), since=ns(0))
    loss = measures.data_loss(facts(*HEALTHY, copy), SID, {"copy": "vm:9101"})
    assert loss.high is not None
    assert 19 < loss.low <= 20 <= loss.high < 21


def test_a_site_without_canaries_claims_nothing_of_writes() -> None:
    """The claim is listed with its reason as not proven, and the test's verdict stands on its other claims."""
    plain = Guest(SID, "gold", None, ())
    measure = lost_writes([plain])
    assert measure.guests == ()
    assert data_loss([plain]).params["unwatched"] == write_stall([plain]).params["unwatched"]
    entry = claim(measure.measure, measure.subject, "none", None, "count", **measure.params)
    run = accepted_run()
    at = next(n for n, each in enumerate(run) if each.kind == "claim")
    verdict = judge(chained([*run[:at], entry, *run[at:]]))
    assert verdict.verdict == "accepted (simulated)"
    assert verdict.tests[1].claims[0].verdict == "not proven"
    assert ("lost_writes", measure.params["unwatched"]) in verdict.not_proven
    alone = judge(chained(changed(run, "claim", **entry.data)))
    assert alone.tests[1].verdict == "not proven"


def test_a_ledgers_line_says_what_the_table_asks() -> None:
    """The fields that every line must carry are in each of the lines here."""
    assert all(FIELDS["ledger"] <= set(line) for line in HEALTHY)
    assert FAULT_AT > 0


@tries(200)
@given(
    st.dictionaries(
        st.sampled_from(["of", "mine", "uptime", "asked", "answered", "gaps", "took", "long", "lost", "kept_ack"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=3)),
    )
)
def test_whatever_a_line_says_nothing_is_raised(noise: dict[str, Any]) -> None:
    """A ledger's line of the wrong types makes a measure inconclusive, or leaves it as it is; it breaks nothing."""
    found = facts(*(dict(line) | noise for line in HEALTHY))
    for measure in measures.MEASURES.values():
        try:
            measure(found, SID, {})
        except Inconclusive:
            continue
