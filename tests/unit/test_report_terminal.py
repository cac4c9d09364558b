"""The words people read in a terminal and in JUnit."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_pveha.report import junit, words
from pytest_pveha.report.terminal import summary_lines
import report_samples as samples


def test_the_summary_of_an_accepted_run() -> None:
    """One line a test, its worst figures, what was not proven, the verdict, and where the report is."""
    verdict, _, _ = samples.run()
    lines = summary_lines(verdict, Path("reports/latest/report.html"))
    assert lines[0] == "pveha: sim-3node (SIMULATED), run 7f3a90c2d1, 41 min 12 s"
    assert lines[1].split(maxsplit=1) == ["ACCEPTED", f"{samples.TITLE} [crm-master]"]
    assert lines[2].strip().endswith("191.8 s (190.7 to 193.0 s), objective at most 240 s; the worst of 6")
    assert "  suites/storage/test_osd_loss.py: not applicable: the inventory has no ceph block" in lines
    assert lines[-2].startswith("verdict: ACCEPTED (SIMULATED). ")
    assert lines[-1] == "report:  reports/latest/report.html"


def test_the_summary_of_a_rejected_run_shows_each_miss() -> None:
    """A rejected test shows its reason and every claim that missed, before those that met."""
    verdict, _, _ = samples.run(rejected=True)
    text = "\n".join(summary_lines(verdict))
    assert "REJECTED" in text
    assert "rejected: recovery time of vm:105 more than 600.0 s, objective at most 240 s" in text
    assert text.splitlines()[-1].startswith("verdict: REJECTED (SIMULATED). ")


def test_a_gate_that_is_not_accepted_is_shown_with_its_advice() -> None:
    """When the gate blocks, the summary says which check, what was seen and what to do."""
    verdict, _, _ = samples.run()
    verdict["gate"]["verdict"] = "inconclusive"
    text = "\n".join(summary_lines(verdict))
    assert "Every node has an armed watchdog: no answer from pve3. Look at systemctl" in text


def test_many_misses_are_counted_not_listed() -> None:
    """Five misses are shown, the others counted."""
    verdict, _, _ = samples.run()
    verdict["tests"][0]["claims"] = [samples.claim(f"vm:{n}", 300, 299, 301, "rejected") for n in range(9)]
    assert any("and 4 more, see the report" in line for line in summary_lines(verdict))


def test_no_line_can_move_the_cursor() -> None:
    """Escapes and line ends in names and reasons stay text, one line a line."""
    verdict, _, _ = samples.run()
    verdict["tests"][0] |= {"verdict": "rejected", "reason": "first\nsecond\x1b[2J"}
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
        (None, 600.0, None, {}, "more than 600.0 s, objective at most 240 s"),
        (None, 600.0, None, {"censored": False}, "at least 600.0 s, objective at most 240 s"),
        (None, 0, 2, {"censored": False, "unit": "count", "op": "none"}, "0 to 2, objective none"),
        (0, 0, 0, {"unit": "count", "objective": 0}, "0, objective at most 0"),
        (None, None, None, {"objective": None}, "unknown, objective not set"),
        (12.0, 12.0, 12.0, {"op": "at_least"}, "12.0 s, objective at least 240 s"),
    ],
)
def test_a_claim_in_words(
    value: float | None, low: float, high: float | None, more: dict[str, object], said: str
) -> None:
    """Figures are said with what is known of them, and never with more."""
    assert words.statement(samples.claim("x", value, low, high, "accepted", **more)) == said


def test_the_worst_claim_is_the_one_that_presses_hardest() -> None:
    """Among claims of one measure, one not accepted comes first, then the one nearest to its own limit."""
    near = samples.claim("near", 200, 199, 201, "accepted")
    wide = samples.claim("wide", 300, 299, 301, "accepted", objective=900.0)
    lost = samples.claim("lost", None, 10, None, "rejected")
    assert words.worst([near, wide]) == [(near, 2)]
    assert words.worst([near, lost, wide]) == [(lost, 3)]


@pytest.mark.parametrize(
    ("text", "said"),
    [("2026-01-02T08:00:00.5Z", "2 January 2026, 08:00:00 UTC"), ("", ""), ("soon", "soon")],
)
def test_moments_in_words(text: str, said: str) -> None:
    """A moment is said in words, the same in every locale; what is none stays as it is."""
    assert words.moment(text) == said


def test_lengths_in_words() -> None:
    """Long durations are said in hours, minutes and seconds."""
    assert [words.length(value) for value in (0, 59.6, 61, 7200)] == ["0 s", "1 min", "1 min 1 s", "2 h"]
