"""How long it takes to ask every BMC from every other node, in site time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import whole_run
from whole_run import Place

from pytest_pveha.clock import SECOND
from pytest_pveha.embedded import start
from pytest_pveha.handles.connect import connect
from pytest_pveha.inventory import load
from pytest_pveha.observe.fence_paths import Turns, survey
from pytest_pveha.observe.observer import Observer

NODES = [f"pve{number}" for number in range(1, 33)]
DEAD = ("pve7", "pve20")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A user's own corner, for this process and those it starts."""
    with whole_run.place() as place:
        for name in ("PVEHA_STATE", "PVEHA_RUNTIME"):
            monkeypatch.setenv(name, place.environment[name])
        yield place


def large(here: Place) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of site time for all paths of a site of 32 nodes whose BMCs take 200 ms, two of them dead; and each."""
    inventory = here.folder / "large.yml"
    bmcs = [{"answer_seconds": 0.2}, *({"node": name, "state": "unreachable"} for name in DEAD)]
    blocks = {
        "site": {"name": "large"},
        "cluster": {"name": "large"},
        "nodes": {name: {"room": "a"} for name in NODES},
        "guests": [{"id": "vm:101", "tier": "gold", "preferred_node": NODES[0]}],
        "objectives": {"tiers": {"gold": {"rto": "5 min"}}},
        "simulator": {"bmcs": bmcs},
    }
    inventory.write_text(json.dumps(blocks))  # which is YAML, too
    site = start(load(inventory))
    clock = site.clock()
    handles = connect(site.inventory, clock)
    lines: list[dict[str, Any]] = []
    try:
        survey(Observer(handles, lambda kind, data: lines.append(data)), within=10.0)
        return clock.now().mono / SECOND, lines
    finally:
        handles.close()
        clock.close()
        site.stop()


@pytest.mark.proof
def test_a_large_site_is_asked_in_a_tenth_of_the_sum(here: Place) -> None:
    """992 paths, two BMCs dead: at most a tenth of what they take one after the other, and each has its answer."""
    took, paths = large(here)
    assert len(paths) == len(NODES) * (len(NODES) - 1)
    assert {path["bmc"] for path in paths if path["answer"] == "no"} == set(DEAD)
    assert {path["answer"] for path in paths if path["bmc"] not in DEAD} == {"yes"}
    alone = sum(path["after"] - path["before"] for path in paths) / SECOND
    print(f"{len(paths)} paths: {took:.1f} s of site time, {alone:.1f} s one after the other")
    assert took <= alone / 10


def play(names: tuple[str, ...], dead: set[str]) -> tuple[int, dict[str, int]]:
    """Rounds until all are asked, each question one round and of a dead BMC ten; and the most at one time, by BMC."""
    turns = Turns(names)
    asking: dict[str, tuple[str, int]] = {}
    most = dict.fromkeys(names, 0)
    for now in range(10_000):
        for peer, (target, until) in [*asking.items()]:
            if until == now:
                del asking[peer]
                turns.ended(target, silent=target in dead)
        if not asking and not any(turns.left(name) for name in names):
            return now, most
        for peer in names:
            if peer not in asking and turns.left(peer) and (target := turns.take(peer)) is not None:
                asking[peer] = (target, now + (10 if target in dead else 1))
        for name in names:
            most[name] = max(most[name], sum(target == name for target, _ in asking.values()))
    raise AssertionError("it never ended")


@pytest.mark.parametrize("count", [2, 3, 8, 32])
def test_a_bmc_that_answers_is_asked_by_one_node_at_a_time(count: int) -> None:
    """In as many rounds as there are others, and never twice at once: with our own that is two sessions."""
    rounds, most = play(tuple(NODES[:count]), set())
    assert rounds == count - 1
    assert set(most.values()) == {1}


def test_the_dead_are_asked_by_more_and_more() -> None:
    """Nobody who answers is asked twice at once even so, and the dead do not cost a wait for each that asks."""
    rounds, most = play(tuple(NODES), set(DEAD))
    assert {name for name, count in most.items() if count > 1} == set(DEAD)
    assert rounds < 10 * 10
