"""A campaign on the command line: what it draws from, what it refuses, and where it stops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from plugin_kit import HEAD, Bench
from test_plugin_options import Inside, collected, inside, refusal  # noqa: F401
from test_plugin_runs import OUTAGE, stuck

from pytest_pveha.draw import Draw

SUITE = '''
def test_victim(victim, run):
    """A victim each."""

def test_guest(guest, run):
    """A guest each."""

def test_nobody(run):
    """Of nobody."""

@pytest.mark.readiness
def test_looks(cluster, run):
    """Only looks."""
'''

LISTED = ("--inventory", "a.yml", "--collect-only", "-q")


def drawn(inside: Inside, *words: str) -> list[str]:  # noqa: F811
    return collected(inside(*LISTED, *words))


def test_a_campaign_draws_from_what_is_selected(inside: Inside) -> None:  # noqa: F811
    """So many scenarios by their steps, the same for the same seed, of all targets, and of nothing left out."""
    Path("suites/test_it.py").write_text(HEAD + SUITE)
    one = drawn(inside, "-m", "destructive", "--pveha-campaign", "30", "--pveha-seed", "5")
    assert [name.rpartition("step-")[2] for name in one] == [f"{step}]" for step in range(1, 31)]
    assert {name.partition("step-")[0] for name in one} == {
        *(f"test_victim[{role}-" for role in ("crm-master", "other-1", "other-2")),
        *(f"test_guest[vm:10{number}-" for number in (1, 2, 3)),
        "test_nobody[",
    }
    assert drawn(inside, "-m", "destructive", "--pveha-campaign", "30", "--pveha-seed", "5") == one
    assert drawn(inside, "-m", "destructive", "--pveha-campaign", "30", "--pveha-seed", "6") != one
    alone = drawn(inside, "-m", "destructive", "--pveha-campaign", "30", "--pveha-seed", "5", "--pveha-step", "17")
    assert alone == [one[16]]
    few = drawn(inside, "-m", "destructive", "-k", "nobody", "--pveha-campaign", "2")
    assert few == ["test_nobody[step-1]", "test_nobody[step-2]"]
    looks = drawn(inside, "--pveha-campaign", "1", "-k", "looks or nobody")
    assert looks == ["test_looks", "test_nobody[step-1]"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--pveha-seed", "3"], "--pveha-seed is about a campaign"),
        (["--pveha-step", "3"], "--pveha-step is about a campaign"),
        (["--pveha-campaign", "0"], "one scenario or more"),
        (["--pveha-campaign", "3", "--pveha-step", "4"], "steps 1 to 3"),
        (["--pveha-campaign", "3", "--pveha-step", "0"], "steps 1 to 3"),
    ],
)
def test_a_campaign_that_cannot_be_is_refused(inside: Inside, words: list[str], told: str) -> None:  # noqa: F811
    """In one line, and nothing is run."""
    assert told in refusal(inside("--inventory", "a.yml", *words))


def test_the_order_of_the_items_changes_no_draw() -> None:
    """Files may be collected in any order."""
    names = [f"suites/a.py::test_{letter}" for letter in "abcdefg"]
    items = [cast("pytest.Item", SimpleNamespace(nodeid=name)) for name in names]

    def order(of: list[Any]) -> list[str]:
        return [item.nodeid for _, item in Draw(20, 3).of(of)]

    assert order(items) == order(items[::-1])
    assert len(set(order(items))) > 3
    assert Draw(20, 3).of([]) == []


def test_a_campaign_stops_at_the_first_dirty_site(new_bench: Callable[[], Bench]) -> None:
    """The steps after it are not played, and are listed as not proven."""
    bench = new_bench()
    bench.suite(OUTAGE)
    stuck(bench)
    result = bench.armed("--pveha-campaign", "3")
    assert result.code == 7
    assert [row["verdict"] for row in result.verdict["tests"]] == ["accepted", "dirty", "not proven", "not proven"]
    assert "the campaign ends at step 1: the site is dirty" in result.text
    assert result.kinds().count("test.open") == 2  # said again when its role is known
    assert [row["step"] for row in result.verdict["campaign"]["steps"]] == [1, 2, 3]
