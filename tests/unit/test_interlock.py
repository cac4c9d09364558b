"""The interlock's arithmetic: a fault that the site would not survive is never allowed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pveha.faults.fault import Reach
from pytest_pveha.faults.interlock import State, objections
from pytest_pveha.handles.cluster import RunningTask, Totem

GIB = 1 << 30
NODES = ("n1", "n2", "n3", "n4", "n5")

HEALTHY = State(
    votes={"n1": 1, "n2": 1, "n3": 1},
    expected_votes=3,
    online=frozenset({"n1", "n2", "n3"}),
    quorate=True,
    armed=True,
    totem=Totem(3.125),
    free_memory={"n1": 30 * GIB, "n2": 30 * GIB, "n3": 30 * GIB},
    guest_memory={"n1": {"vm:101": 4 * GIB, "vm:102": 4 * GIB}},
    ha_guests=frozenset({"vm:101", "vm:102"}),
    permitted=frozenset({"vm:101", "vm:102"}),
)
ONE = Reach(frozenset({"n1"}))


def test_a_healthy_site_may_lose_one_node() -> None:
    """With votes, memory and time to spare nothing speaks against it."""
    assert objections(HEALTHY, ONE) == []


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (replace(HEALTHY, online=frozenset({"n1", "n2"})), "2 present − 1 of n1 = 1, and 2 of 3 are needed"),
        (replace(HEALTHY, quorate=False), "not quorate now"),
        (replace(HEALTHY, armed=False), "HA is disarmed"),
        (replace(HEALTHY, totem=Totem(22.5)), "2.2 × token 22.5 s + 10 s = 59.5 s, not below 50 s"),
        (
            replace(
                HEALTHY,
                totem=Totem(5.0),
                votes={"n1": 2, "n2": 2, "n3": 2},
                expected_votes=7,
                qdevice_configured=True,
                qdevice_connected=False,
            ),
            "30 s (a qdevice is configured and not connected) = 51.0 s",
        ),
        (replace(HEALTHY, free_memory={"n2": 3 * GIB, "n3": 4 * GIB}), "need 8.0 GiB, and n2, n3 have 7.0 GiB"),
        (replace(HEALTHY, permitted=frozenset({"vm:101"})), "vm:102 on n1 would go down"),
        (replace(HEALTHY, tasks=(RunningTask("vzdump", "", "n2"),)), "under way: vzdump on n2"),
        (replace(HEALTHY, ceph_clean=False), "not all placement groups are active+clean"),
        (replace(HEALTHY, controller_guest="vm:900"), "this machine is vm:900"),
    ],
)
def test_each_refusal_says_what_and_how_much(state: State, words: str) -> None:
    """Each reason not to break it is named with its figures, and alone."""
    found = objections(state, ONE)
    assert len(found) == 1
    assert words in found[0]


def test_a_scenario_about_quorum_may_cost_quorum() -> None:
    """What a scenario is for is no objection to it; the rest still is."""
    cut = Reach(frozenset({"n1", "n2"}), about_quorum=True)
    assert objections(replace(HEALTHY, guest_memory={}), cut) == []
    assert objections(replace(HEALTHY, armed=False, guest_memory={}), cut) != []


def test_unlisted_guests_may_fall_where_all_are_permitted() -> None:
    """With every bystander permitted, none is an objection."""
    assert objections(replace(HEALTHY, permitted=None), ONE) == []


@st.composite
def sites(draw: st.DrawFn) -> tuple[State, Reach]:
    """A random site and a random wish to break it."""
    names = NODES[: draw(st.integers(2, 5))]
    votes = {name: draw(st.integers(1, 3)) for name in names}
    device = draw(st.booleans())
    guests = {
        name: {f"vm:{100 + 10 * at + k}": draw(st.integers(1, 40)) * GIB for k in range(draw(st.integers(0, 3)))}
        for at, name in enumerate(names)
    }
    every = [sid for of in guests.values() for sid in of]
    state = State(
        votes=votes,
        expected_votes=sum(votes.values()) + device,
        online=draw(st.sets(st.sampled_from(names), min_size=1).map(frozenset)),
        quorate=draw(st.booleans()),
        armed=draw(st.sampled_from([True, False, None])),
        totem=Totem(draw(st.floats(1, 30))),
        qdevice_configured=device,
        qdevice_connected=draw(st.booleans()) if device else None,
        free_memory={name: draw(st.integers(0, 80)) * GIB for name in names},
        guest_memory=guests,
        ha_guests=draw(st.sets(st.sampled_from(every)).map(frozenset)) if every else frozenset(),
        permitted=draw(st.one_of(st.none(), st.sets(st.sampled_from(every)).map(frozenset))) if every else None,
        ceph_clean=draw(st.sampled_from([True, False, None])),
    )
    return state, Reach(draw(st.sets(st.sampled_from(names), min_size=1).map(frozenset)))


@given(sites())
def test_nothing_that_would_cost_quorum_data_or_a_guest_is_allowed(case: tuple[State, Reach]) -> None:
    """Whatever the site and the wish: if nothing speaks against it, quorum, data, memory and bystanders survive."""
    state, reach = case
    if objections(state, reach):
        return
    left = state.online - reach.nodes
    held = sum(state.votes[name] for name in left) + (1 if state.qdevice_connected else 0)
    assert 2 * held > state.expected_votes
    assert state.ceph_clean is not False
    fallen = [sid for name in reach.nodes for sid in state.guest_memory[name]]
    assert state.permitted is None or set(fallen) <= state.permitted
    moved = sum(
        size for name in reach.nodes for sid, size in state.guest_memory[name].items() if sid in state.ha_guests
    )
    assert moved <= sum(state.free_memory[name] for name in left)
