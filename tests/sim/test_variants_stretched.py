"""A site that fails over by hand, on which people follow the runbook: what they did is on record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import whole_run
from stretched_site import BLOCKS, BY_HAND, PLAYED, PLAYED_BY_HAND, PLAYED_WITH_A_NODE, WITH_A_NODE
from whole_run import ROOT

from pytest_pveha.clock import SECOND


@pytest.fixture
def here() -> Iterator[whole_run.Place]:
    """A user's own corner."""
    with whole_run.place() as place:
        yield place


def test_people_follow_the_runbook(here: whole_run.Place) -> None:
    """Each step was asked for when the one before was done, answered and timed; the guests came and went."""
    inventory = here.inventory(BY_HAND, **{**PLAYED_BY_HAND, "boot_seconds": 40})
    suite = ROOT / "suites" / "stretched" / "test_dr_procedure.py"
    outcome = whole_run.run(inventory, here, suites=suite)
    test = outcome.test("other-room")
    assert (test["verdict"], outcome.exit_code) == ("accepted", 0), outcome.output
    assert "unconfirmed_steps of cluster is 0, objective none (decide 79.5 s (79 to 80); release-101" in test["reason"]
    lost = {claim["subject"]: claim["high"] for claim in test["claims"] if claim["measure"] == "lost_span"}
    assert lost.keys() == {"vm:101", "vm:102"}
    assert all(0 < seconds < 15 * 60 + 30 for seconds in lost.values())  # the jobs run every quarter of an hour
    asked = [line for line in outcome.journal if line.kind == "ask"]
    said = [line.data for line in outcome.journal if line.kind == "answer"]
    steps = ["decide", "release-101", "release-102", "return-101", "return-102"]
    assert [line.data["step"] for line in asked] == [answer["step"] for answer in said] == steps
    assert {(answer["answer"], answer["way"], answer["user"]) for answer in said} == {
        ("done", "pveha answer", "the simulated operator")
    }
    assert "(from runbook.md)" in asked[0].data["text"]
    typed = [event["line"].partition(" --")[0] for event in outcome.truth if event["kind"] == "typed"]
    assert typed == [
        "ha-manager rules remove keep-101",
        "ha-manager rules remove keep-102",
        "ha-manager rules add node-affinity keep-101",
        "ha-manager rules add node-affinity keep-102",
    ]


def test_without_steps_nothing_is_proven(here: whole_run.Place) -> None:
    """A site that says it fails over by hand, and does not say how, is told so; nothing is broken."""
    blocks = {**BY_HAND, "replication": {**BY_HAND["replication"], "steps": []}}
    suite = ROOT / "suites" / "stretched" / "test_dr_procedure.py"
    outcome = whole_run.run(here.inventory(blocks, **PLAYED_BY_HAND), here, suites=suite)
    test = outcome.test("other-room")
    assert (test["verdict"], outcome.exit_code) == ("not proven", 6)
    assert "the inventory has no replication.steps" in test["reason"]
    assert not [line for line in outcome.journal if line.kind == "fault.plan"]


def test_the_tiebreaker_hands_over_first(here: whole_run.Place) -> None:
    """Where the CRM master is the tiebreaker another node takes over, and its room is the one that is lost."""
    suite = ROOT / "suites" / "stretched" / "test_site_loss.py"
    inventory = here.inventory(WITH_A_NODE, **{**PLAYED_WITH_A_NODE, "boot_seconds": 40})
    outcome = whole_run.run(inventory, here, "-k", "with-master", suites=suite)
    test = outcome.test("room-with-master")
    assert (test["verdict"], outcome.exit_code) == ("accepted", 0), outcome.output
    plans = [line.data for line in outcome.journal if line.kind == "fault.plan"]
    assert [(plan["type"], plan["trial"]) for plan in plans] == [("ServiceStopped", True), ("RoomPowerCut", False)]
    lost = plans[1]["params"]["nodes"]
    masters = [line.data["new"] for line in outcome.journal if line.kind == "seen" and line.data["what"] == "master"]
    assert masters[0] == "pve5"
    assert masters[1] in lost


@pytest.mark.proof
@pytest.mark.parametrize(
    ("blocks", "played", "suite"),
    [(BLOCKS, PLAYED, "stretched"), (BY_HAND, PLAYED_BY_HAND, "stretched/test_dr_procedure.py")],
    ids=["quorum-device", "by-hand"],
)
def test_the_estimate_is_what_follows(
    blocks: dict[str, Any], played: dict[str, Any], suite: str, here: whole_run.Place
) -> None:
    """What is printed first is within 15 % of the site's time that these suites then take."""
    outcome = whole_run.run(here.inventory(blocks, **played), here, suites=ROOT / "suites" / suite)
    expected: dict[str, float] = {}
    ends: dict[str, tuple[int, int]] = {}
    for line in outcome.journal:
        if line.kind == "test.open":
            expected[line.data["id"]] = line.data["expected_seconds"]
        if line.test is not None:
            ends[line.test] = ends.get(line.test, (line.mono, 0))[0], line.mono
    took = sum(last - first for first, last in ends.values()) / SECOND
    assert "estimate: about " in outcome.output
    assert abs(sum(expected.values()) / took - 1) <= 0.15, (expected, took)
