"""Every row of the verdict table, from handmade journals; and that nothing unseen is ever accepted."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from journal_builder import (
    TEST,
    Entry,
    S,
    accepted_run,
    chained,
    changed,
    claim,
    fault,
    gate,
    ns,
    replaced,
    run_open,
    samples,
    seen,
    without,
)
from jsonschema import Draft202012Validator

from pytest_pveha.judge.schema import verdict_schema
from pytest_pveha.judge.timeline import timelines
from pytest_pveha.judge.verdict import Verdict, dump, exit_code, judge
from pytest_pveha.record.kinds import FIELDS


def judged(entries: list[Entry]) -> Verdict:
    """The verdict, which fits its schema and is the same twice."""
    lines = chained(entries)
    verdict = judge(lines)
    assert dump(verdict) == dump(judge(lines))
    Draft202012Validator(verdict_schema()).validate(json.loads(dump(verdict)))
    return verdict


def the_test(verdict: Verdict) -> tuple[str, str]:
    """Verdict and reason of the builder's test."""
    (found,) = (test for test in verdict.tests if test.id == TEST)
    return found.verdict, found.reason


def test_the_builders_run_is_accepted() -> None:
    """When everything was seen and holds, the run is accepted, and says that it was simulated."""
    verdict = judged(accepted_run())
    assert the_test(verdict)[0] == "accepted", the_test(verdict)[1]
    assert verdict.verdict == "accepted (simulated)"
    assert verdict.not_proven == ()
    assert verdict.exit_code == 0
    assert [test.id for test in verdict.tests] == ["gate", TEST]
    assert verdict.started == "2026-01-02T08:00:00.000000Z"


def test_the_claims_carry_value_bounds_and_objective() -> None:
    """Each claim's numbers follow from the samples and the fault's bounds."""
    claims = {each["measure"]: each for each in judged(accepted_run()).to_json()["tests"][1]["claims"]}
    assert claims["recovery_time"] == {
        "measure": "recovery_time",
        "subject": "vm:101",
        "value": 147.051,
        "low": 146.5,
        "high": 147.602,
        "unit": "s",
        "censored": False,
        "op": "at_most",
        "objective": 300,
        "verdict": "accepted",
    }
    assert (claims["downtime"]["low"], claims["downtime"]["high"]) == (146.998, 147.202)
    assert (claims["not_before_death"]["low"], claims["not_before_death"]["high"]) == (56.0, 68.5)
    assert claims["collateral_resets"]["value"] == 0
    assert claims["violations"]["objective"] == 0


def test_the_phases_tell_where_the_time_went() -> None:
    """Phases come in their order, in seconds since the fault's best estimate, with their source."""
    phases = judged(accepted_run()).tests[1].phases
    assert [(each.name, each.start) for each in phases] == [
        ("fault", 0.0),
        ("membership lost", 6.5),
        ("node unknown", 16.5),
        ("fence", 66.5),
        ("acknowledged", 126.5),
        ("start", 126.5),
        ("running", 127.25),
        ("application", 147.051),
        ("node back", 400.5),
        ("quorum whole", 405.5),
    ]
    assert all(each.low <= each.start <= each.high for each in phases)


@pytest.mark.parametrize(
    ("changes", "spelled"),
    [
        ({"simulated": False}, "accepted"),
        ({"simulated": False, "partial": True}, "accepted (partial)"),
        ({"partial": True}, "accepted (partial, simulated)"),
        ({"not_selected": [{"id": "x", "title": "", "reason": "-k"}], "simulated": False}, "accepted (partial)"),
    ],
)
def test_an_accepted_run_says_what_it_is(changes: dict[str, Any], spelled: str) -> None:
    """Partial and simulated are part of the word accepted."""
    verdict = judged([run_open(**changes), *accepted_run()[1:]])
    assert verdict.verdict == spelled
    assert verdict.exit_code == 0


CLOSES = [
    ("failed", "NotMet", "rejected"),
    ("failed", "AssertionError", "rejected"),
    ("failed", "Failed", "rejected"),
    ("failed", "CantTell", "inconclusive"),
    ("failed", "Unreachable", "inconclusive"),
    ("error", "ProtocolError", "inconclusive"),
    ("failed", "ZeroDivisionError", "inconclusive"),
    ("failed", None, "inconclusive"),
    ("error", "NoEffect", "invalid"),
    ("error", "PreflightRefused", "not proven"),
    ("error", "UnsafeTarget", "not proven"),
    ("error", "SiteDirty", "not proven"),
    ("skipped", "Skipped", "not proven"),
    ("skipped", None, "not proven"),
    ("interrupted", "Interrupted", "not proven"),
    ("interrupted", None, "not proven"),
    ("error", "HealFailed", "dirty"),
]
EXITS = {"accepted": 0, "rejected": 1, "dirty": 7, "invalid": 6, "inconclusive": 6, "not proven": 6}


@pytest.mark.parametrize(("outcome", "error", "verdict"), CLOSES)
def test_how_a_test_ended_gives_its_verdict(outcome: str, error: str | None, verdict: str) -> None:
    """An error's class decides between the product, the fault, and us."""
    entries = [entry for entry in accepted_run() if not entry.kind.startswith("fault.") and entry.kind != "claim"]
    entries = changed(entries, "test.close", outcome=outcome, error=error, reason="because")
    found = judged(entries)
    assert the_test(found)[0] == verdict
    assert "because" in the_test(found)[1]
    assert found.verdict == verdict
    assert found.exit_code == EXITS[verdict]


def test_a_dirty_site_after_a_fault_is_dirty() -> None:
    """SiteDirty refuses a test that broke nothing, and condemns one that did."""
    verdict = judged(changed(accepted_run(), "test.close", outcome="error", error="SiteDirty", reason="still 2 of 3"))
    assert the_test(verdict) == ("dirty", "still 2 of 3")


@pytest.mark.parametrize(
    ("entries", "verdict", "word"),
    [
        (without(accepted_run(), "claim"), "not proven", "makes no claim"),
        (without(accepted_run(), "test.close"), "not proven", "cut off while it ran"),
        (without(accepted_run(), "samples"), "inconclusive", "no usable answer"),
        (without(accepted_run(), "fault.effect"), "inconclusive", "took effect could not be told"),
        (without(accepted_run(), "fault.plan"), "inconclusive", "never planned"),
        (without(accepted_run(), "fault.inject"), "invalid", "not injected"),
        (without(accepted_run(), "fault.healed"), "dirty", "nobody saw it healed"),
        (without(accepted_run(), "fault.close"), "dirty", "not healed: chassis on; run `pveha heal`"),
        (without(accepted_run(), "audit"), "inconclusive", "nobody compared the other nodes' boot_ids"),
        (changed(accepted_run(), "fault.effect", answer="no", saw="chassis on"), "invalid", "did not bite"),
        (changed(accepted_run(), "fault.effect", answer="cant_tell"), "inconclusive", "could not be told"),
        (changed(accepted_run(), "fault.effect", high=None), "inconclusive", "time that was not seen"),
        (changed(accepted_run(), "fault.close", outcome="not_healed"), "dirty", "not healed"),
        (changed(accepted_run(), "fault.close", outcome="not_injected"), "invalid", "not injected"),
        (changed(accepted_run(), "audit", answer="no", saw="pve3 is new"), "rejected", "found harm: pve3 is new"),
        (changed(accepted_run(), "audit", answer="cant_tell"), "inconclusive", "could not tell"),
        (changed(accepted_run(), "expect", outcome="not_met", saw="fence"), "rejected", "not within 240 s"),
        (changed(accepted_run(), "expect", outcome="cant_tell"), "inconclusive", "could not be told"),
        (changed(accepted_run(), "claim", measure="lost_minds"), "inconclusive", "no measure this version knows"),
        (changed(accepted_run(), "samples", first="soon"), "inconclusive", "(samples) cannot be used"),
        (
            [*accepted_run()[:-1], Entry("seen", {"what": "x"}, TEST), accepted_run()[-1]],
            "inconclusive",
            "lacks high, low",
        ),
        (
            replaced(accepted_run(), "test.open", lambda entry: Entry("note", {"text": ""})),
            "not proven",
            "was begun",
        ),
    ],
)
def test_what_is_missing_or_wrong_decides(entries: list[Entry], verdict: str, word: str) -> None:
    """Each thing a test needs, taken away or turned round, gives its own verdict and names the cause."""
    found = judged(entries)
    assert the_test(found)[0] == verdict
    assert word in the_test(found)[1]
    assert found.exit_code == EXITS[verdict]


def with_claim(entry: Entry) -> list[Entry]:
    """The builder's run with this claim alone."""
    entries = without(accepted_run(), "claim")
    return [*entries[:-3], entry, *entries[-3:]]


@pytest.mark.parametrize(
    ("objective", "verdict"),
    [(147.602, "accepted"), (147.0, "inconclusive"), (146.4, "rejected"), (None, "inconclusive")],
)
def test_the_whole_interval_decides(objective: float | None, verdict: str) -> None:
    """An objective beyond the interval is met or missed; within it, nobody can tell."""
    entries = [entry for entry in accepted_run() if entry.data.get("measure") in (None, "recovery_time")]
    found = judged(changed(entries, "claim", objective=objective))
    assert the_test(found)[0] == verdict
    assert "recovery_time of vm:101 is 147.1 s (146.5 to 147.6)" in the_test(found)[1]


def test_a_guest_that_never_came_back_is_censored() -> None:
    """No value, only "more than": rejected beyond the objective, inconclusive before it."""
    entries = [entry for entry in accepted_run() if entry.data.get("first") != ns(147.1)]
    claims = {each["measure"]: each for each in judged(entries).to_json()["tests"][1]["claims"]}
    assert claims["recovery_time"]["value"] is None
    assert claims["recovery_time"]["high"] is None
    assert claims["recovery_time"]["low"] == 146.5
    assert claims["recovery_time"]["censored"] is True
    assert claims["recovery_time"]["verdict"] == "inconclusive"
    rejected = judged(changed(entries, "claim", objective=120))
    assert the_test(rejected)[0] == "rejected"
    assert "more than 146.5 s (its end was not seen), objective at most 120 s" in the_test(rejected)[1]


def early(low: float, high: float) -> list[Entry]:
    """The builder's run with the guest's process starting elsewhere between these seconds."""
    return [
        seen("process_start/vm:101@pve2", None, "started", low, high, "ps on pve2")
        if str(entry.data.get("what")).startswith("process_start")
        else entry
        for entry in accepted_run()
    ]


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(40, 42, "rejected"), (65, 72, "inconclusive"), (70.5, 72, "accepted")]
)
def test_a_guest_may_not_start_before_the_victim_is_surely_dead(low: float, high: float, verdict: str) -> None:
    """Seventy seconds after the victim's last feed its watchdog has reset it, and not before."""
    assert the_test(judged(early(low, high)))[0] == verdict


def test_an_answer_alone_does_not_prove_a_late_start() -> None:
    """Without the process seen on a node, a late answer says nothing, and an early one enough."""
    entries = [entry for entry in accepted_run() if not str(entry.data.get("what")).startswith("process_start")]
    verdict, reason = the_test(judged(entries))
    assert verdict == "inconclusive"
    assert "was not seen on the nodes themselves" in reason
    unbounded = [*entries[:-3], seen("process/vm:101@pve2", None, "running", 130, 131, "ssh"), *entries[-3:]]
    assert the_test(judged(unbounded))[0] == "inconclusive"
    bounded = [*entries[:-3], seen("process/vm:101@pve2", "absent", "running", 120, 131, "ssh"), *entries[-3:]]
    assert the_test(judged(bounded))[0] == "accepted"
    entries = [entry for entry in entries if entry.kind != "samples"]
    quick = [samples("tcp:vm:101", "good", -30, -0.1), samples("tcp:vm:101", "bad", 0, 40)]
    quick += [samples("tcp:vm:101", "good", 40.1, 500)]
    verdict, reason = the_test(judged([*entries[:-3], *quick, *entries[-3:]]))
    assert verdict == "rejected"
    assert "not_before_death of vm:101" in reason


def test_another_nodes_reset_is_counted() -> None:
    """A new boot_id of another node is harm; the victim's own is not."""
    for node, verdict in (("pve1", "accepted"), ("pve3", "rejected")):
        entries = accepted_run()
        entries.insert(-4, seen(f"boot_id/{node}", "a", "b", 300, 301, "ssh"))
        assert the_test(judged(entries))[0] == verdict


def test_violations_count_named_audits_that_are_missing_as_open() -> None:
    """An audit that was claimed and never made keeps the claim inconclusive."""
    entry = claim("violations", "cluster", "none", None, "count", audits=["boot_ids", "bad_news"])
    verdict, reason = the_test(judged(with_claim(entry)))
    assert verdict == "inconclusive"
    assert "violations of cluster is 0 to 1" in reason


def test_the_worst_finding_decides() -> None:
    """Dirty before rejected before invalid before inconclusive before not proven."""
    entries = changed(accepted_run(), "fault.effect", answer="no")
    assert the_test(judged(entries))[0] == "invalid"
    entries = changed(entries, "audit", answer="no")
    assert the_test(judged(entries))[0] == "rejected"
    entries = changed(entries, "fault.close", outcome="not_healed")
    assert the_test(judged(entries))[0] == "dirty"


def test_a_run_that_was_cut_off_is_not_accepted() -> None:
    """Without its last line a run proves nothing as a whole, though its tests stand."""
    verdict = judged(accepted_run()[:-1])
    assert the_test(verdict)[0] == "accepted"
    assert verdict.verdict == "not proven"
    assert verdict.not_proven[0][0] == "run"
    assert "cut off" in verdict.not_proven[0][1]


@pytest.mark.parametrize("reason", ["interrupted", "internal error", "stopped", ""])
def test_a_run_that_did_not_finish_is_not_accepted(reason: str) -> None:
    """Whatever stopped the run stands in the verdict."""
    assert judged(changed(accepted_run(), "run.close", exit_reason=reason)).verdict == "not proven"


def test_selected_tests_that_never_opened_are_not_proven() -> None:
    """What was selected and did not run is listed with the reason."""
    more = [{"id": TEST, "title": ""}, {"id": "b", "title": "B"}]
    entries = changed(
        [run_open(selected=more), *accepted_run()[1:]], "run.close", not_run=["b", "c"], exit_reason="stopped"
    )
    verdict = judged(entries)
    found = {test.id: (test.verdict, test.reason) for test in verdict.tests}
    assert found["b"] == ("not proven", "did not run: the run ended before it (stopped)")
    assert found["c"][0] == "not proven"
    assert {"b", "c"} <= {name for name, _ in verdict.not_proven}


def test_a_blocking_gate_is_rejected_and_names_why_nothing_ran() -> None:
    """A gate that says no is rejected, and the tests behind it are not proven for that reason."""
    verdict = judged(
        [run_open(), gate("no", saw="2 of 3"), Entry("run.close", {"exit_reason": "finished", "not_run": []})]
    )
    assert verdict.gate == "rejected"
    assert verdict.exit_code == 1
    assert the_test(verdict)[0] == "not proven"
    assert "the gate refused it" in the_test(verdict)[1]
    assert "2 of 3 (wait)" in the_test(verdict)[1]


def test_a_gate_that_could_not_tell_is_inconclusive() -> None:
    """No observation is no yes."""
    assert judged(replaced(accepted_run(), "gate", lambda _: gate("cant_tell"))).verdict == "inconclusive"
    assert judged(replaced(accepted_run(), "gate", lambda _: Entry("gate", {"checks": []}))).verdict == "inconclusive"


def test_faults_without_a_gate_are_not_proven() -> None:
    """Who breaks things without looking first has proven nothing; who breaks nothing needs no gate."""
    assert judged(without(accepted_run(), "gate")).verdict == "not proven"
    entries = [entry for entry in accepted_run() if entry.kind != "gate" and not entry.kind.startswith("fault.")]
    entries = [entry for entry in entries if entry.kind != "claim" or entry.data["measure"] == "violations"]
    assert judged(entries).gate == "not applicable"
    assert judged(entries).verdict == "accepted (simulated)"


def test_out_of_scope_and_waived_are_listed_and_not_counted() -> None:
    """They have their own words in the list of tests and change nothing."""
    ceph = [{"id": "ceph", "title": "Ceph", "reason": "the inventory declares no ceph"}]
    waived = [{"id": "w", "title": "W", "reason": "CHG-1, until 2026-03-01"}]
    verdict = judged([run_open(not_applicable=ceph, waived=waived), *accepted_run()[1:]])
    assert verdict.verdict == "accepted (simulated)"
    assert [(test.id, test.verdict) for test in verdict.tests[2:]] == [("ceph", "not applicable"), ("w", "waived")]
    empty = judged([run_open(selected=[], waived=waived), gate(), accepted_run()[-1]])
    assert empty.verdict == "not proven"


def test_a_fault_healed_by_another_process_is_not_dirty() -> None:
    """A killed run whose supervisor healed leaves the test not proven and the site clean."""
    entries = accepted_run()
    cut = next(at for at, entry in enumerate(entries) if entry.kind == "fault.heal")
    killed = judged(entries[:cut])
    assert killed.verdict == "dirty"
    healed = [Entry(entry.kind, entry.data | {"by": "supervisor"}) for entry in entries[cut : cut + 3]]
    verdict = judged([*entries[:cut], *healed])
    assert verdict.verdict == "not proven"
    assert the_test(verdict)[0] == "not proven"


def test_an_interrupt_is_not_proven_whatever_it_cut_off() -> None:
    """Claims that could not be measured because somebody stopped the run do not make it inconclusive."""
    entries = changed(without(accepted_run(), "fault.effect"), "test.close", outcome="interrupted", reason="SIGTERM")
    assert the_test(judged(entries)) == ("not proven", "interrupted: SIGTERM")


@pytest.mark.parametrize(
    ("verdict", "code"),
    [*EXITS.items(), ("accepted (simulated)", 0), ("accepted (partial, simulated)", 0), ("acceptedly", 6), ("", 6)],
)
def test_exit_codes(verdict: str, code: int) -> None:
    """0 only for accepted in any spelling; 1 rejected, 7 dirty, 6 everything else."""
    assert exit_code(verdict) == code


def test_no_journal_at_all_is_not_proven() -> None:
    """The judge is total: no line is a verdict too."""
    assert judged([]).verdict == "not proven"


SAMPLED = ("recovery_time", "downtime")
"""Measures of what the probes saw."""
NEEDED = ["claim", "samples", "fault.effect", "fault.healed", "fault.close", "test.close", "run.close", "run.open"]


@example(seed=1082218, needed="samples", drop=0.25)
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), needed=st.sampled_from(NEEDED), drop=st.floats(0, 0.5))
def test_shuffled_and_thinned_journals_are_never_wrongly_accepted(seed: int, needed: str, drop: float) -> None:
    """Without claims, samples, effect or heal, and with any other lines gone or out of order, nothing is accepted.

    A claim that rests on samples stays where those are gone: without it nothing would be asked of them.
    """
    chance = random.Random(seed)
    entries = [entry for entry in without(accepted_run(), needed) if chance.random() >= drop]
    if needed == "samples" and not any(entry.data.get("measure") in SAMPLED for entry in entries):
        entries += [entry for entry in accepted_run() if entry.data.get("measure") in SAMPLED][:1]
    chance.shuffle(entries)
    lines = chained(entries)
    verdict = judge(lines)
    assert verdict.exit_code != 0
    assert dump(verdict) == dump(judge(lines))
    timelines(lines)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
WORDS = st.sampled_from([
    "yes", "no", "good", "bad", "unknown", "met", "power-cut-1", "tcp:vm:101", "vm:101", "PowerCut", "passed", "healed",
    "boot_id/pve1", "process_start/vm:101@pve2", "at_most", "recovery_time", "downtime", "not_before_death",
])  # fmt: skip


@st.composite
def any_entry(draw: st.DrawFn) -> Entry:
    """A line of a known kind whose fields are anything."""
    kind = draw(st.sampled_from(sorted(FIELDS)))
    data = {key: draw(JSON | WORDS | st.integers(-5, 2**40)) for key in sorted(FIELDS[kind]) if draw(st.booleans())}
    return Entry(kind, data, draw(st.sampled_from([TEST, None, "other"])))


@settings(max_examples=150, deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 40), any_entry()), max_size=8), keep=st.booleans())
def test_the_judge_never_raises(places: list[tuple[int, Entry]], keep: bool) -> None:
    """Any well-formed journal has a verdict and a timeline, whatever its lines say."""
    entries = accepted_run() if keep else []
    for place, entry in places:
        entries.insert(place, entry)
    lines = chained(entries)
    verdict = judge(lines)
    Draft202012Validator(verdict_schema()).validate(json.loads(dump(verdict)))
    timelines(lines)


def test_the_timeline_is_what_the_report_draws() -> None:
    """Probes have contiguous segments in seconds since the fault; marks and expectations stand beside them."""
    (timeline,) = timelines(chained(accepted_run()))
    assert timeline.test == TEST
    assert timeline.has_fault
    assert timeline.roles == (("crm-master", "pve1"),)
    (probe,) = timeline.probes
    assert [(each.start, each.end, each.answer) for each in probe.segments] == [
        (-30.0, 0.0, "good"),
        (0.0, 147.1, "bad"),
        (147.1, 500.002, "good"),
    ]
    marks = {mark.name: mark for mark in timeline.marks}
    assert (marks["power-cut-1 injected"].low, marks["power-cut-1 injected"].high) == (-2.0, -1.9)
    assert {"power-cut-1 heal", "application", "fence"} <= marks.keys()
    assert (timeline.expectations[0].condition, timeline.expectations[0].high) == ("node pve1 is fenced", 127.0)


def test_a_fault_in_the_run_outside_any_test_counts() -> None:
    """A fault that belongs to no test and is open makes the run dirty."""
    stray = Entry("fault.plan", {"fault": "x", "type": "PowerCut", "params": {}, "undo": {}})
    assert judged([*accepted_run()[:-1], stray, accepted_run()[-1]]).verdict == "dirty"
    assert fault("heal").test == TEST


def with_fired(low: float | None, high: float | None, *others: Entry) -> list[Entry]:
    """The accepted run, in which pve3 undid the fault so many seconds after it had been healed."""
    entries = accepted_run()
    place = next(number for number, entry in enumerate(entries) if entry.kind == "fault.close") + 1
    healed = (place - 2) * S  # lines are a second apart
    when = [None if each is None else healed + round(each * S) for each in (low, high)]
    fired = fault("fired", nodes=["pve3"], low=when[0], high=when[1])
    return [*entries[:place], fired, *others, *entries[place:]]


def another(before: int, healed: bool = True) -> list[Entry]:
    """A second fault, injected at that moment and healed a few lines later."""
    data: dict[str, dict[str, Any]] = {
        "plan": {"type": "PowerCut", "params": {"node": "pve1"}, "undo": {}},
        "inject": {"before": before, "after": before + 1},
        "effect": {"answer": "yes", "saw": "", "low": before, "high": before + 1},
        **({"healed": {"answer": "yes", "saw": ""}} if healed else {}),
        "close": {"outcome": "healed"},
    }
    return [Entry(f"fault.{kind}", {"fault": "power-cut-2", **more}, TEST) for kind, more in data.items()]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.5, 0.7, "accepted"), (-1, 0.5, "invalid"), (-30, -29, "invalid"), (0, 1, "invalid"), (None, None, "invalid")],
)
def test_a_dead_man_counts_by_when_it_acted(low: float | None, high: float | None, verdict: str) -> None:
    """Known to have acted after the heal it harmed nothing; before it, around it, or nobody knows when: invalid."""
    assert the_test(judged(with_fired(low, high)))[0] == verdict


def test_a_line_that_does_not_say_when_it_acted_is_invalid() -> None:
    """As an older journal has it."""
    entries = replaced(with_fired(5, 6), "fault.fired", lambda entry: fault("fired", nodes=["pve3"]))
    assert the_test(judged(entries))[0] == "invalid"


def test_a_late_dead_man_may_undo_a_later_fault() -> None:
    """Acting while another one of the test is in force, or shortly before, it may have undone that one."""
    healed = next(line.mono for line in chained(accepted_run()) if line.kind == "fault.healed")
    for before, acted, verdict in ((1, 4, "invalid"), (30, 4, "invalid"), (900, 4, "accepted"), (1, 400, "accepted")):
        entries = with_fired(acted, acted + 0.5, *another(healed + before * S))
        assert the_test(judged(entries))[0] == verdict, (before, acted)
    open_still = with_fired(400, 401, *another(healed + S, healed=False))
    assert the_test(judged(open_still))[0] == "dirty"


def test_how_the_site_was_left_is_in_the_verdict() -> None:
    """The comparison goes into verdict.json as the run made it; without one it says so."""
    told = changed(
        accepted_run(), "snapshot", differences=["HA rule pin: a → absent"], surroundings=["nft tables: x → y"]
    )
    left = judged(told).to_json()["left"]
    assert left == {
        "compared": True, "differences": ["HA rule pin: a → absent"], "surroundings": ["nft tables: x → y"],
    }  # fmt: skip
    unseen = judged(without(accepted_run(), "snapshot")).to_json()["left"]
    assert unseen == {"compared": False, "differences": [], "surroundings": []}
