"""In whose turn guests were started: counted on the node where it was, by the ages of their processes."""

from __future__ import annotations

import pytest
from journal_builder import TEST, Entry, accepted_run, chained, samples, seen

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge import turns
from pytest_pveha.judge.facts import TestFacts, gather

PARAMS = {"node": "pve1", "guests": ["vm:101", "vm:102", "vm:103", "vm:104"]}


def facts(*entries: Entry) -> TestFacts:
    """A power cut of pve1, after which vm:102 answered again after 300 s, and these things were seen."""
    kept = [entry for entry in accepted_run() if not (entry.kind == "seen" and "process" in entry.data["what"])]
    probe = [
        samples("tcp:vm:102", "good", -20, 1),
        samples("tcp:vm:102", "bad", 2, 300),
        samples("tcp:vm:102", "good", 300.1, 400),
    ]
    return gather(chained([*kept, *probe, *entries])).tests[TEST]


def born(sid: str, node: str, low: float, high: float) -> Entry:
    """Its process began there between these moments."""
    return seen(f"process_start/{sid}@{node}", None, "started", low, high, "process age")


def test_those_that_came_before_on_the_same_node_are_counted() -> None:
    """Those on another node, or later, are not; where the bounds overlap it may have been either way."""
    found = turns.recovery_in_turn(
        facts(
            born("vm:101", "pve2", 130, 131),
            born("vm:103", "pve2", 179.5, 180.5),
            born("vm:102", "pve2", 180, 181),
            born("vm:104", "pve3", 130, 131),
        ),
        "vm:102",
        PARAMS,
    )
    assert found.about == "started on pve2 behind 1 to 2 of 2 others, 50 s (49 to 51) after the first"
    assert found.low <= 300 <= (found.high or 0)


def test_alone_on_its_node_it_waited_for_nobody() -> None:
    """There is nothing to wait for."""
    found = turns.recovery_in_turn(facts(born("vm:102", "pve2", 130, 131)), "vm:102", PARAMS)
    assert found.about == "started on pve2, alone"


def test_a_start_that_nobody_saw_has_no_turn() -> None:
    """It is back, and where it came from nobody knows; what ran on its old node before is no start elsewhere."""
    with pytest.raises(Inconclusive, match="when and where vm:102 was started was not seen"):
        turns.recovery_in_turn(facts(born("vm:102", "pve1", 130, 131)), "vm:102", PARAMS)


def test_one_that_never_came_back_is_censored() -> None:
    """It is late for sure, whatever is known of its turn."""
    kept = [entry for entry in accepted_run() if entry.kind != "seen"]
    probe = [samples("tcp:vm:102", "good", -20, 1), samples("tcp:vm:102", "bad", 2, 600)]
    found = turns.recovery_in_turn(gather(chained([*kept, *probe])).tests[TEST], "vm:102", PARAMS)
    assert (found.censored, found.about) == (True, "it was not seen to be started elsewhere")
