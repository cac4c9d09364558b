"""The words people read in a terminal and in JUnit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import report_samples as samples

from pytest_pveha.report import junit, words
from pytest_pveha.report.terminal import summary_lines


def test_the_summary_of_an_accepted_run() -> None:
    """One line a test, its worst figures, what was not proven, the verdict, and where the report is."""
    verdict, _, _ = samples.run()
    lines = summary_lines(verdict, Path("reports/latest/report.html"))
    assert lines[0] == "pveha: sim-3node (SIMULATED), run 7f3a90c2d1, 41 min 12 s"
    assert lines[1].split(maxsplit=1) == ["ACCEPTED", f"{samples.TITLE} [crm-master]"]
    assert lines[2].strip().endswith("191.8 s (190.7 to 193.0 s), objective at most 240 s; the worst of 6")
    assert "  not applicable: A lost OSD costs no acknowledged write.: the inventory has no ceph block" in lines
    assert not any("The site is healthy" in line for line in lines)
    assert lines[-2].startswith("verdict: ACCEPTED (SIMULATED). ")
    assert lines[-1] == "report:  reports/latest/report.html"


def test_the_summary_of_a_rejected_run_shows_each_miss() -> None:
    """A rejected test shows its reason and every claim that missed, before those that met."""
    verdict, _, _ = samples.run(rejected=True)
    text = "\n".join(summary_lines(verdict))
    assert "REJECTED" in text
    assert "rejected: recovery time of vm:105 more than 600.0 s, objective at most 240 s" in text
    assert text.splitlines()[-1].startswith("verdict: REJECTED (SIMULATED). ")


def test_what_was_asked_and_what_was_ever_proven() -> None:
    """Questions with their answers, those of which nothing was in the run in one line, and the map with its gaps."""
    verdict, _, _ = samples.run(rejected=True)
    lines = summary_lines(verdict)
    at = lines.index("what was asked (SIMULATED):")
    assert lines[at + 1 : at + 3] == [
        "  REJECTED      The hard failure of a node is survived: 2 tests accepted, none worse",
        "  NOT PROVEN    no test of it was in this run: A restore is whole, and its real RTO is known",
    ]
    assert lines[at + 3 : at + 6] == [
        "coverage by this run and earlier ones (SIMULATED): 1 of 2 proven",
        "  power-cut as crm-master: NEVER pve2 (rejected in this run); pve1 32 days ago",
        "  not counted: 20251101T080000Z-deadbeef: not as it was sealed",
    ]
    assert any(line.startswith("drawn by --pveha-campaign 2 --pveha-seed 7; ") for line in lines)


def test_a_gate_that_is_not_accepted_is_shown_with_its_advice() -> None:
    """When the gate blocks, the summary says which check, what was seen and what to do."""
    verdict, _, _ = samples.run()
    verdict["gate"]["verdict"] = "inconclusive"
    text = "\n".join(summary_lines(verdict))
    assert "Every node has an armed watchdog: no answer from pve3. Look at systemctl" in text


def test_what_did_not_run_is_said_once() -> None:
    """A selected test that did not run is in one line with its reason; so is what holds for the run as a whole."""
    verdict, _, _ = samples.run()
    verdict["tests"][1] |= {"verdict": "not proven", "reason": "skipped: no BMC", "claims": []}
    verdict["not_proven"] += [
        {"id": verdict["tests"][1]["id"], "reason": "skipped: no BMC"},
        {"id": "run", "reason": "the run was cut off"},
    ]
    lines = summary_lines(verdict)
    assert sum("no BMC" in line for line in lines) == 1
    assert "  the run as a whole: the run was cut off" in lines


def test_many_misses_are_counted_not_listed() -> None:
    """Five misses are shown, the others counted."""
    verdict, _, _ = samples.run()
    verdict["tests"][1]["claims"] = [samples.claim(f"vm:{n}", 300, 299, 301, "rejected") for n in range(9)]
    assert any("and 4 more, see the report" in line for line in summary_lines(verdict))


def test_no_line_can_move_the_cursor() -> None:
    """Escapes and line ends in names and reasons stay text, one line a line."""
    verdict, _, _ = samples.run()
    verdict["tests"][1] |= {"verdict": "rejected", "reason": "first\nsecond\x1b[2J"}
    assert all(line.isprintable() for line in summary_lines(verdict))


def test_junit_messages_begin_with_the_verdict() -> None:
    """A JUnit message is one line that begins with the verdict's word; the property carries it for machines."""
    test, _ = samples.one_test("other-1", slow="rejected")
    test["reason"] = "too slow\nby far\x00"
    assert junit.message(test) == "rejected: too slow by far\\x00"
    found = dict(junit.properties(test, simulated=True))
    assert found["pveha.verdict"] == "rejected"
    assert found["pveha.simulated"] == "true"
    assert found["pveha.recovery_time.vm:105"] == "more than 600.0 s, objective at most 240 s: rejected"
    assert junit.message(test | {"reason": None}) == "rejected"


@pytest.mark.parametrize(
    ("value", "low", "high", "more", "said"),
    [
        (137.24, 136.1, 138.2, {}, "137.2 s (136.1 to 138.2 s), objective at most 240 s"),
        (None, 600.0, None, {"verdict": "rejected"}, "more than 600.0 s, objective at most 240 s"),
        (None, 600.0, None, {"censored": False}, "at least 600.0 s, objective at least 240 s"),
        (None, 200.0, None, {"verdict": "inconclusive"}, "more than 200.0 s, objective 240 s"),
        (230.0, 220.0, 250.0, {"verdict": "inconclusive"}, "230.0 s (220.0 to 250.0 s), objective 240 s"),
        (90.0, 80.0, 99.0, {"verdict": "rejected"}, "90.0 s (80.0 to 99.0 s), objective at least 240 s"),
        (None, 0, 2, {"censored": False, "unit": "count", "op": "none"}, "0 to 2, objective none"),
        (0, 0, 0, {"unit": "count", "objective": 0}, "0, objective 0"),
        (None, None, None, {"objective": None}, "unknown, objective not set"),
        (12.0, 12.0, 12.0, {"op": "at_least"}, "12.0 s, objective at least 240 s"),
    ],
)
def test_a_claim_in_words(value: float | None, low: float, high: float | None, more: dict[str, Any], said: str) -> None:
    """Figures are said with what is known of them, and never with more."""
    assert words.statement(samples.claim("x", value, low, high, **{"verdict": "accepted", **more})) == said


def test_the_worst_claim_is_the_one_that_presses_hardest() -> None:
    """Among claims of one measure, one not accepted comes first, then the one nearest to its own limit."""
    near = samples.claim("near", 200, 199, 201, "accepted")
    wide = samples.claim("wide", 300, 299, 301, "accepted", objective=900.0)
    lost = samples.claim("lost", None, 10, None, "rejected")
    assert words.worst([near, wide]) == [(near, 2)]
    assert words.worst([near, lost, wide]) == [(lost, 3)]


@pytest.mark.parametrize(
    ("text", "said"),
    [("2026-01-02T08:00:00.5Z", "2 January 2026, 08:00:00 UTC"), (None, "an unknown day"), ("soon", "soon")],
)
def test_moments_in_words(text: str | None, said: str) -> None:
    """A moment is said in words, the same in every locale; what is none stays as it is."""
    assert words.moment(text) == said


def test_lengths_in_words() -> None:
    """Long durations are said in hours, minutes and seconds."""
    assert [words.length(value) for value in (0, 59.6, 61, 7200)] == ["0 s", "1 min", "1 min 1 s", "2 h"]


def test_what_was_not_left_as_found_is_shown() -> None:
    """Each difference has a row of its own; a verdict without the comparison has none."""
    verdict, _, _ = samples.run()
    assert any(
        line.split(maxsplit=2)[:2] == ["AS", "LEFT"] and "HA rule pin" in line for line in summary_lines(verdict)
    )
    assert not any("AS LEFT" in line for line in summary_lines({key: verdict[key] for key in verdict if key != "left"}))
