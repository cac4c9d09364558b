"""On a healthy site no test is red, whatever its shape: each is played as a whole run, as a person starts it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import whole_run
from variants import VARIANTS, Variant, keep, play, rows, share, suite_tests

OFTEN = ("5-nodes", "containers", "two-links", "backed-up-encrypted-and-live", "containers-backed-up")
"""Played in every run of the project's own tests; the others in the proof."""


@pytest.fixture
def here() -> Iterator[whole_run.Place]:
    """A user's own corner."""
    with whole_run.place() as place:
        yield place


def assert_green(here: whole_run.Place, variant: Variant, suite: str, **simulator: Any) -> None:
    """Each test of the suite is accepted there, or what the table says; and nothing is left to heal."""
    outcome, seconds = play(here.inventory(variant.blocks, **variant.simulator, **simulator), here, suite)
    found = rows(variant.name, suite, outcome, seconds, variant)
    keep("variants", found)
    assert [row for row in found if not row.allowed] == [], outcome.output
    assert here.open_runs() == []


def test_every_suite_of_the_table_exists() -> None:
    """No row speaks of a test that is not there."""
    tests = suite_tests()
    known = {*tests, *(test.partition("::")[0] for test in tests)}
    named = {variant.quick.partition("[")[0] for variant in VARIANTS} | {key for each in VARIANTS for key in each.may}
    assert named <= known
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)


@pytest.mark.parametrize(
    "variant",
    [pytest.param(each, id=each.name, marks=() if each.name in OFTEN else pytest.mark.proof) for each in VARIANTS],
)
def test_a_suite_is_green_on(variant: Variant, here: whole_run.Place) -> None:
    """The one test that the table names for a quick look at this site, whose nodes boot fast."""
    assert_green(here, variant, variant.quick, boot_seconds=40)


@pytest.mark.proof
@pytest.mark.parametrize(
    ("variant", "test"),
    [
        pytest.param(variant, test, id=f"{variant.name}-{test}")
        for variant, test in share([(variant, test) for variant in VARIANTS for test in suite_tests()])
    ],
)
def test_every_test_is_green_on(variant: Variant, test: str, here: whole_run.Place) -> None:
    """The whole table: variants × tests."""
    assert_green(here, variant, test)
