"""A campaign is reproducible: same seed and site, same journal; one step of it can be played alone."""

from __future__ import annotations

import os
import subprocess

import pytest
import whole_run
from test_same_seed import assert_same
from warm_start import Ended
from whole_run import Outcome

SUITES = whole_run.ROOT / "suites"


def campaign(scenarios: int, seed: int, *words: str, **simulator: object) -> Outcome:
    """A campaign over the guests' suite, in a corner of its own."""
    drawn = ("--pveha-campaign", str(scenarios), "--pveha-seed", str(seed))
    with whole_run.place() as here:
        return whole_run.run(
            here.inventory(boot_seconds=40, **simulator), here, *drawn, *words, suites=SUITES / "guests"
        )


def steps(outcome: Outcome) -> dict[int, str]:
    """Step → test, as the verdict lists them."""
    return {row["step"]: row["id"] for row in outcome.verdict["campaign"]["steps"]}


def test_the_same_seed_draws_and_plays_the_same() -> None:
    """Two campaigns of one seed differ in nothing that counts; each scenario is judged, and what was not drawn told."""
    first, second = campaign(4, 11), campaign(4, 11)
    assert_same(first, second)
    assert first.verdict["verdict"] == "accepted (partial, simulated)", first.output
    assert list(steps(first)) == [1, 2, 3, 4]
    assert [test["id"] for test in first.verdict["tests"][1:5]] == list(steps(first).values())
    assert all(name.endswith(f"step-{step}]") for step, name in steps(first).items())
    assert any(row["reason"] == "not selected: not drawn" for row in first.verdict["not_proven"])
    assert first.verdict["campaign"]["seed"] == 11


def test_one_step_is_repeated_alone() -> None:
    """The third step of that campaign is the same test of the same target, by its number."""
    whole, alone = campaign(3, 11), campaign(3, 11, "--pveha-step", "3")
    assert steps(alone) == {3: steps(whole)[3]}
    assert alone.verdict["verdict"] == "accepted (partial, simulated)", alone.output


LONG = int(os.environ.get("SCENARIOS", "200"))


@pytest.mark.proof
def test_a_long_campaign_gives_the_same_journal_twice() -> None:
    """Two hundred scenarios of all suites, or SCENARIOS of them, one after the other on one site, and once more."""

    def played() -> Outcome:
        with whole_run.place() as here:
            words = ("--pveha-campaign", str(LONG), "--pveha-seed", "2026")
            typed = whole_run.command(here.inventory(), here, *words, suites=SUITES)
            # not from a warm start: that waits for some minutes, and this takes a quarter of an hour
            done = subprocess.run(typed, env=here.environment, cwd=whole_run.ROOT, capture_output=True, text=True)
            return whole_run.outcome_of(Ended(done.returncode, done.stdout, done.stderr), here)

    first, second = played(), played()
    assert len(steps(first)) == LONG
    assert_same(first, second)
    assert first.verdict["verdict"] == "accepted (partial, simulated)", first.output[-4000:]
