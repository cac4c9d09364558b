"""On a healthy site no test is red, whatever its shape: each is played as a whole run, as a person starts it."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import whole_run
from variants import EVERY, SAID_ON_SITE, VARIANTS, Variant, keep, play, rows, share, suite_tests

from pytest_pveha import fixtures
from pytest_pveha.inventory.load import load
from pytest_pveha.selection import not_applicable

OFTEN = ("5-nodes", "containers", "two-links", "backed-up-encrypted-and-live", "containers-backed-up")
"""Played in every run of the project's own tests; the others in the proof."""


@pytest.fixture
def here() -> Iterator[whole_run.Place]:
    """A user's own corner."""
    with whole_run.place() as place:
        yield place


def _breaks(test: str) -> bool:
    """Whether it is the gate, or a test of the table: not one that only looks."""
    return test == "gate" or test.removeprefix("suites/").partition("[")[0] in suite_tests()


def assert_green(here: whole_run.Place, variant: Variant, suite: str, **simulator: Any) -> None:
    """Each test of the suite is accepted there, or what the table says; and nothing is left to heal."""
    outcome, seconds = play(here.inventory(variant.blocks, **variant.simulator, **simulator), here, suite)
    found = [row for row in rows(variant.name, suite, outcome, seconds, variant) if _breaks(row.test)]
    keep("variants", found)
    assert [row for row in found if not row.allowed] == [], outcome.output
    assert {row.test.removeprefix("suites/").partition("[")[0] for row in found} >= (
        set(suite_tests()) if suite == EVERY else {suite.partition("[")[0]} & set(suite_tests())
    )
    assert here.open_runs() == []


def test_every_suite_of_the_table_exists() -> None:
    """No row speaks of a test that is not there."""
    tests = suite_tests()
    known = {*tests, *(test.partition("::")[0] for test in tests)}
    named = {variant.quick.partition("[")[0] for variant in VARIANTS} | {key for each in VARIANTS for key in each.may}
    assert named <= known
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)


def out_of_scope(test: str, inventory: Any) -> bool:
    """Whether that inventory alone puts the test out of scope."""
    path, _, name = test.partition("::")
    function = getattr(importlib.import_module(f"suites.{path.removesuffix('.py').replace('/', '.')}"), name)
    marks = [mark for mark in function.pytestmark if mark.name == "needs"]
    wanted = list(inspect.signature(function).parameters)
    item: Any = SimpleNamespace(iter_markers=lambda name: marks if name == "needs" else [], fixturenames=wanted)
    return not_applicable(item, inventory) is not None


def test_the_table_knows_what_each_site_lacks(here: whole_run.Place) -> None:
    """What an inventory puts out of scope, and nothing else that it can decide, the table calls not applicable."""
    applied: set[str] = set()
    for variant in VARIANTS:
        inventory = load(here.inventory(variant.blocks, **variant.simulator))
        applies = {test for test in suite_tests() if not out_of_scope(test, inventory)}
        may_be_accepted = {test for test in suite_tests() if "accepted" in variant.allowed(test)}
        assert may_be_accepted <= applies, variant.name
        on_site = applies - may_be_accepted
        assert {test.partition("::")[2] for test in on_site} <= {
            "test_bond_member_loss",
            "test_in_its_turn_after_others",
            "test_live_restored_beside_itself",
        }, variant.name
        applied |= may_be_accepted
    assert applied == set(suite_tests()), "for each test there is a site on which it must be accepted"


def test_the_table_knows_what_is_said_on_site_alone() -> None:
    """Each fixture that may call a test not applicable is known to whoever writes the table."""
    functions = [item for item in ast.parse(inspect.getsource(fixtures)).body if isinstance(item, ast.FunctionDef)]
    saying = {
        item.name
        for item in functions
        for text in ast.walk(item)
        if isinstance(text, ast.Constant) and str(text.value).startswith("not applicable: ")
    }
    assert saying == SAID_ON_SITE.keys()


@pytest.mark.parametrize(
    "variant",
    [pytest.param(each, id=each.name, marks=() if each.name in OFTEN else pytest.mark.proof) for each in VARIANTS],
)
def test_a_suite_is_green_on(variant: Variant, here: whole_run.Place) -> None:
    """The one test that the table names for a quick look at this site, whose nodes boot fast."""
    assert_green(here, variant, variant.quick, boot_seconds=40)


@pytest.mark.proof
@pytest.mark.parametrize("variant", [pytest.param(each, id=each.name) for each in share(VARIANTS)])
def test_every_test_is_green_on(variant: Variant, here: whole_run.Place) -> None:
    """The whole table, a row in each run: none of its tests finds what an earlier one left behind, either."""
    assert_green(here, variant, EVERY)
