"""From the journal to the sealed page: what the judge gives, whatever it gives, can be shown, sealed and verified."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from journal_builder import Entry, accepted_run, chained, changed, without
from test_judge_verdict import any_entry
from test_report_html import Page

from pytest_pveha.evidence import sshsig
from pytest_pveha.evidence.seal import seal
from pytest_pveha.evidence.verify import verify_run
from pytest_pveha.judge.timeline import timelines
from pytest_pveha.judge.verdict import dump, judge
from pytest_pveha.record.journal import read
from pytest_pveha.report import junit
from pytest_pveha.report.html import render
from pytest_pveha.report.terminal import summary_lines


def shown(entries: list[Entry]) -> tuple[dict[str, Any], str]:
    """verdict.json of the entries, and their page, which is well formed."""
    lines = chained(entries)
    verdict = json.loads(dump(judge(lines)))
    page = render(verdict, timelines(lines), {})
    assert page == render(verdict, timelines(lines), {})
    Page(page).words()
    assert all(line.isprintable() for line in summary_lines(verdict))
    for test in verdict["tests"]:
        assert junit.message(test).startswith(test["verdict"])
        junit.properties(test, simulated=verdict["simulated"])
    return verdict, page


def test_an_accepted_run_is_shown_with_its_figures() -> None:
    """The page of a whole run shows its claims, phases, lanes, expectations and gate."""
    _, page = shown(accepted_run())
    text = Page(page).words()
    assert "Proven on the simulated site" in text
    assert "vm:101 recovery time 147" in text
    assert "other nodes reset 0" in text
    assert page.count("<svg") == 5  # three measures in seconds, the phases, the lanes
    assert "quorum is whole from every node's view 900 s ✓ met" in text
    assert "crm-master: pve1" in text
    assert "The cluster is quorate ✓ yes 3 of 3" in text


def test_a_floor_is_not_shown_as_a_ceiling() -> None:
    """A claim that demands at least something says so, though verdict.json does not name the comparison."""
    _, page = shown(accepted_run())
    row = next(part for part in page.split("<tr>") if "start after the victim&#39;s death" in part)
    assert "at least 0 s" in row


def test_a_run_that_was_cut_off_says_so_for_the_whole() -> None:
    """What keeps the run as a whole from being proven is listed as such, before everything else."""
    verdict, page = shown(without(accepted_run(), "run.close"))
    assert verdict["verdict"] == "not proven"
    text = Page(page).words()
    assert "The run as a whole the run was cut off" in text
    assert "✓ Proven" in text


def test_a_gate_that_refused_is_told_at_the_top() -> None:
    """When the gate refuses, the page says at the top that the site was not fit, and shows the advice below."""
    checks = [{"id": "q", "title": "Quorate", "answer": "no", "saw": "1 of 3", "advice": "mend corosync"}]
    entries = [entry for entry in changed(accepted_run(), "gate", checks=checks) if entry.test is None]
    _, page = shown(entries)
    text = Page(page).words()
    assert text.index("not found fit to be tested") < text.index("About this run")
    assert "Quorate ✗ no 1 of 3 mend corosync" in text


@settings(max_examples=80, deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 40), any_entry()), max_size=8), keep=st.booleans())
def test_every_verdict_the_judge_can_give_can_be_shown(places: list[tuple[int, Entry]], keep: bool) -> None:
    """Any well-formed journal, whatever its lines say, has a well-formed page, summary and JUnit words."""
    entries = accepted_run() if keep else []
    for place, entry in places:
        entries.insert(place, entry)
    shown(entries)


def test_a_run_folder_is_sealed_and_judged_again(tmp_path: Path) -> None:
    """Journal, verdict and page are sealed; verify judges the journal again; an edited verdict is found."""
    run = tmp_path / "run"
    run.mkdir()
    lines = chained(accepted_run())
    (run / "journal.jsonl").write_bytes(b"".join(line.encode() + b"\n" for line in lines))
    (run / "verdict.json").write_bytes(dump(judge(lines)))
    (run / "report.html").write_text(shown(accepted_run())[1])
    sshsig.throwaway_key(tmp_path / "id", "made for one test")
    assert seal(run, tmp_path / "id", "ha-team@example.org").simulated
    shutil.copy(run / "allowed_signers", tmp_path / "allowed")

    def rejudge(folder: Path) -> bytes:
        return dump(judge(read(folder / "journal.jsonl")))

    report = verify_run(run, allowed_signers=tmp_path / "allowed", rejudge=rejudge)
    assert report.ok, report.lines
    assert report.simulated
    verdict = (run / "verdict.json").read_text()
    (run / "verdict.json").write_text(verdict.replace('"simulated": true', '"simulated": false'))
    report = verify_run(run, allowed_signers=tmp_path / "allowed", rejudge=rejudge)
    assert {finding.kind for finding in report.findings} == {"changed", "verdict"}
