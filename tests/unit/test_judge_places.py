"""Where guests were, when and how often they moved: the truth lies within the bounds; the unseen is not measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge import claims, places
from pytest_pveha.judge.facts import Fault, Seen, TestFacts
from pytest_pveha.judge.measured import Measured, counted

S = 1_000_000_000
VICTIM = {"node": "n1"}


def facts(*seen: Seen, heal: float | None = 200, claimed: float | None = 500) -> TestFacts:
    """A node n1 that was told to go down at 100 s, healed at 200; claims were made at 500."""
    fault = Fault("clean-reboot-1", "CleanReboot", dict(VICTIM), "t", before=100 * S, after=100 * S)
    fault.effect, fault.effect_low, fault.effect_high = "yes", 100 * S, 102 * S
    fault.heal_at = None if heal is None else round(heal * S)
    found = TestFacts("t", seen=list(seen), faults=[fault])
    found.claimed_at = None if claimed is None else round(claimed * S)
    return found


def saw(what: str, old: str | None, new: str, low: float, high: float) -> Seen:
    """It became so between these seconds."""
    return Seen(what, old, new, round(low * S), round(high * S), "api")


def placed(node: str, low: float, high: float, old: str = "migrate@n1") -> tuple[Seen, Seen]:
    """vm:101 is started there by HA, and its process was seen."""
    return (
        saw("service/vm:101", old, f"started@{node}", low, high),
        saw(f"process_start/vm:101@{node}", None, "started", low - 5, low),
    )


LEFT = saw("membership/n1", "online", "offline", 140, 141)
BACK = saw("membership/n1", "offline", "online", 190, 191)


def test_a_guest_that_moved_before_its_node_left_did_so() -> None:
    """Surely before: 0. Surely after, or never: 1. In between: it is open."""
    assert places.not_moved(facts(*placed("n2", 120, 121), LEFT), "vm:101", VICTIM) == counted(0, 0)
    assert places.not_moved(facts(*placed("n2", 150, 151), LEFT), "vm:101", VICTIM) == counted(1, 1)
    assert places.not_moved(facts(*placed("n2", 139, 140.5), LEFT), "vm:101", VICTIM) == counted(0, 1)
    frozen = saw("service/vm:101", "started@n1", "freeze@n1", 110, 111)
    assert places.not_moved(facts(frozen, LEFT), "vm:101", VICTIM) == counted(1, 1)


def test_a_process_alone_is_no_move() -> None:
    """While a VM moves live one waits at the other end; and HA's word alone is none either."""
    service, process = placed("n2", 120, 121)
    moving = saw("service/vm:101", "started@n1", "migrate@n1", 110, 111)
    assert places.not_moved(facts(moving, process, LEFT), "vm:101", VICTIM) == counted(1, 1)
    assert places.not_moved(facts(service, LEFT), "vm:101", VICTIM) == counted(1, 1)


def test_a_container_is_handed_over_and_starts_after_that() -> None:
    """It is stopped, and HA's word that it is elsewhere must come before its node leaves; its process may follow."""
    word = saw("service/ct:101", "relocate@n1", "started@n2", 134, 135)
    process = saw("process_start/ct:101@n2", None, "started", 142, 143)
    assert places.not_moved(facts(word, process, LEFT), "ct:101", VICTIM) == counted(0, 0)
    assert places.not_moved(facts(word, LEFT), "ct:101", VICTIM) == counted(1, 1)  # it was never seen to run there
    late = saw("service/ct:101", "relocate@n1", "started@n2", 150, 151)
    then = saw("process_start/ct:101@n2", None, "started", 155, 156)
    assert places.not_moved(facts(late, then, LEFT), "ct:101", VICTIM) == counted(1, 1)
    vm = [replace(each, what=each.what.replace("ct:", "vm:")) for each in (word, process)]
    assert places.not_moved(facts(*vm, LEFT), "vm:101", VICTIM) == counted(1, 1)  # a VM was to move while it ran


def test_what_was_not_seen_is_not_measured() -> None:
    """No look at the guest, no departure, no return, no heal."""
    for measure, test in (
        (places.not_moved, facts(LEFT)),
        (places.not_moved, facts(*placed("n2", 120, 121))),
        (places.time_after_return, facts(LEFT)),
        (places.time_away, facts(LEFT)),
        (places.time_home, facts(*placed("n2", 120, 121))),
        (places.time_home, facts(*placed("n1", 210, 211), heal=None)),
        (places.time_to_leave, facts(BACK)),
        (places.moves, facts(*placed("n2", 120, 121))),
        (places.misplaced, facts(LEFT)),
    ):
        with pytest.raises(Inconclusive):
            measure(test, "vm:101", VICTIM)
    with pytest.raises(Inconclusive, match="names no node"):
        places.time_home(facts(*placed("n1", 210, 211)), "vm:101", {})


def test_times_are_bounded_by_what_was_seen() -> None:
    """Away since the effect, home since the heal, online since the heal."""
    test = facts(
        *placed("n2", 120, 121),
        *placed("n1", 230, 231, old="migrate@n2"),
        saw("node_status/n1", "maintenance", "online", 214, 215),
    )
    assert places.time_away(test, "vm:101", VICTIM) == Measured(19.5, 18, 21, "s")
    assert places.time_home(test, "vm:101", VICTIM) == Measured(30.5, 30, 31, "s")
    assert places.time_to_leave(test, "cluster", VICTIM) == Measured(14.5, 14, 15, "s")


def test_homes_decide_what_is_misplaced() -> None:
    """On a home: 0. Elsewhere: 1. Without a home it has to stay."""
    test = facts(*placed("n2", 120, 121), *placed("n1", 230, 231, old="migrate@n2"))
    assert places.misplaced(test, "vm:101", {"homes": {"vm:101": ["n1"]}}) == counted(0, 0)
    assert places.misplaced(test, "vm:101", {"homes": {"vm:101": ["n3"]}}) == counted(1, 1)
    assert places.misplaced(test, "vm:101", {"homes": {"vm:101": []}}) == counted(1, 1)
    stayed = facts(*placed("n2", 120, 121), saw("node_status/n1", "unknown", "online", 214, 215))
    assert places.misplaced(stayed, "vm:101", {"homes": {}}) == counted(0, 0)


@dataclass(frozen=True)
class Journey:
    """Where a guest went after the heal, one look after another."""

    nodes: tuple[str, ...]


@given(st.lists(st.sampled_from(["n1", "n2", "n3"]), min_size=1, max_size=12).map(lambda each: Journey(tuple(each))))
def test_moves_are_counted_until_the_claim(journey: Journey) -> None:
    """Each change of node counts once, however often the state changes; what the run asks for later does not count."""
    start = placed("n2", 120, 121)
    steps = []
    before = "started@n2"
    for number, node in enumerate(journey.nodes):
        at = 210 + 10 * number
        for state in (f"migrate@{before.partition('@')[2]}", f"started@{node}"):
            steps.append(saw("service/vm:101", before, state, at, at + 1))
            before, at = state, at + 3
    put_back = saw("service/vm:101", before, "started@elsewhere", 600, 601)
    truth = sum(left != right for left, right in pairwise(("n2", *journey.nodes)))
    assert places.moves(facts(*start, *steps, put_back), "vm:101", {}) == counted(truth, truth)


def test_a_policy_that_moves_nobody_is_named() -> None:
    """Whoever reads the reason learns which policy it was."""
    claim = {"measure": "not_moved", "subject": "vm:101", "op": "none", "unit": "count"}
    claim["params"] = {**VICTIM, "policy": "conditional"}  # type: ignore[assignment]
    verdict = claims.evaluate(facts(saw("service/vm:101", "started@n1", "freeze@n1", 110, 111), LEFT), claim)
    assert verdict.verdict == "rejected"
    assert "not met by policy conditional" in verdict.reason


def test_partners_on_two_nodes_are_parted() -> None:
    """As HA last saw them; nobody parted where no rule keeps anybody together; the unseen is not measured."""
    other = saw("service/vm:102", None, "started@n2", 90, 91)
    apart = facts(*placed("n3", 250, 251), other)
    params = {"together": [["vm:101", "vm:102"]]}
    assert places.parted(apart, "", params) == counted(1, 1)
    assert places.parted(facts(*placed("n2", 250, 251), other), "", params) == counted(0, 0)
    assert places.parted(facts(), "", {"together": []}) == counted(0, 0)
    stayed = saw("service/vm:101", "started@n1", "freeze@n1", 110, 111), saw("node_status/n1", None, "online", 199, 201)
    assert places.parted(facts(*stayed), "", params) == counted(0, 0)
    assert places.parted(facts(stayed[1]), "", params) == counted(0, 0)
    left_alone = placed("n3", 250, 251)
    assert places.parted(facts(*left_alone), "", params) == counted(1, 1)
    with pytest.raises(Inconclusive):
        places.parted(facts(other, stayed[1]), "", params)
    with pytest.raises(Inconclusive):
        places.parted(facts(other), "", params)
