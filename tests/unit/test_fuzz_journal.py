"""Journals that were changed: nothing is accepted from one that is not, byte for byte, what was written."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from fuzzing import NASTY, NASTY_TEXTS, budget, spoilt, spoilt_bytes, tries
from hypothesis import given
from hypothesis import strategies as st
from journal_builder import Entry, accepted_run, chained

from pytest_pveha.cli.judge import judged
from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import EvidenceError
from pytest_pveha.evidence.seal import seal
from pytest_pveha.evidence.verify import verify_run
from pytest_pveha.judge.timeline import timelines
from pytest_pveha.judge.verdict import dump, judge
from pytest_pveha.record.journal import Journal, read
from pytest_pveha.record.openings import open_faults
from pytest_pveha.report.html import render


def content(entries: list[Entry] | None = None) -> bytes:
    """A whole accepted run, as it lies on the disk."""
    return b"".join(line.encode() + b"\n" for line in chained(entries or accepted_run()))


def verdict_of(folder: Path) -> str:
    """What ``pveha judge`` makes of the folder; "refused" where it judges nothing."""
    try:
        return judged(folder).verdict
    except EvidenceError as error:
        assert str(error).replace("\n", "").isprintable()  # noqa: PT017
        return "refused"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of an accepted run."""
    (tmp_path / "journal.jsonl").write_bytes(content())
    assert verdict_of(tmp_path) == "accepted (simulated)"
    return tmp_path


@budget(300, 4000)
def test_a_changed_journal_is_never_accepted(run: Path, examples: int) -> None:
    """Cut, flipped, doubled, or with rubbish in it: refused, or without its end and then not accepted."""
    truth = content()

    @tries(examples)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        changed = spoilt_bytes(truth, data.draw)
        (run / "journal.jsonl").write_bytes(changed)
        assert "accepted" not in verdict_of(run) or changed == truth

    holds()


@pytest.mark.parametrize(
    "step", [pytest.param(97, id="quick"), pytest.param(13, id="thorough", marks=pytest.mark.proof)]
)
def test_every_bit_counts(run: Path, step: int) -> None:
    """Each bit of the file, turned over, is noticed; ``make test`` turns over one in 97, ``make proof`` one in 13."""
    truth = bytearray(content())
    for place in range(0, len(truth) * 8, step):
        changed = bytearray(truth)
        changed[place // 8] ^= 1 << place % 8
        (run / "journal.jsonl").write_bytes(changed)
        assert verdict_of(run) == "refused", place


def test_a_journal_cut_anywhere_is_not_accepted(run: Path) -> None:
    """Without its last lines a run is cut off; within a line it is torn."""
    truth = content()
    ends = [place + 1 for place, byte in enumerate(truth) if byte == 10]
    for size in sorted({*ends, *(end - 1 for end in ends), *range(0, len(truth), 61)}):
        if size < len(truth):
            (run / "journal.jsonl").write_bytes(truth[:size])
            assert "accepted" not in verdict_of(run), size


def test_lines_taken_out_swapped_or_said_twice_are_refused(run: Path) -> None:
    """The chain names every line's place."""
    lines = content().splitlines(keepends=True)
    for here in range(len(lines) - 1):
        swapped = [*lines[:here], lines[here + 1], lines[here], *lines[here + 2 :]]
        for changed in (swapped, lines[:here] + lines[here + 1 :], [*lines[: here + 1], *lines[here:]]):
            (run / "journal.jsonl").write_bytes(b"".join(changed))
            assert verdict_of(run) == "refused", here


@budget(60, 1000)
def test_a_sealed_run_notices_what_the_chain_cannot(run: Path, examples: int) -> None:
    """Somebody who forges the whole chain anew, so that it is sound, is found out by the manifest."""
    (run / "verdict.json").write_bytes(dump(judge(read(run / "journal.jsonl"))))
    seal(run, None, None)
    whole = accepted_run()

    def rejudge(folder: Path) -> bytes:
        return dump(judged(folder))

    assert verify_run(run, rejudge=rejudge).ok

    @tries(examples)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        here = data.draw(st.integers(0, len(whole) - 1))
        entry = whole[here]
        changed = spoilt(entry.data, data.draw)
        if changed == entry.data or not isinstance(changed, dict):
            return
        try:
            forged = content([*whole[:here], Entry(entry.kind, changed, entry.test), *whole[here + 1 :]])
        except (TypeError, ValueError):
            return  # no journal can say that
        (run / "journal.jsonl").write_bytes(forged)
        assert not verify_run(run, rejudge=rejudge).ok

    holds()


def hostile(entries: list[Entry], dice: random.Random) -> list[Entry]:
    """The run with some of its data replaced by what nobody expects, in a chain that is sound."""
    found = []
    for entry in entries:
        data: dict[str, Any] = dict(entry.data)
        if data and dice.random() < 0.3:
            data[dice.choice(sorted(data))] = dice.choice(NASTY + NASTY_TEXTS)
        found.append(Entry(entry.kind, data, entry.test))
    return found


@budget(100, 2000)
def test_a_sound_chain_of_nonsense_is_judged_and_shown(tmp_path: Path, examples: int) -> None:
    """Whatever the lines hold, judge, healer's look and report give an answer, and never a traceback."""
    dice = random.Random(1)
    path = tmp_path / "journal.jsonl"
    for _ in range(examples):
        try:
            path.write_bytes(content(hostile(accepted_run(), dice)))
        except (TypeError, ValueError):
            continue  # no journal can say that
        lines = read(path)
        said = judge(lines)
        json.loads(dump(said))
        open_faults(lines)
        page = render(said.to_json(), timelines(lines), {})
        assert "<script>alert" not in page
        assert "\x1b" not in page


@budget(80, 1500)
def test_a_healer_goes_on_only_where_the_record_is_sound(tmp_path: Path, examples: int) -> None:
    """A journal reopened to heal is as it was but for a torn end, or is refused untouched."""
    truth = content()
    path = tmp_path / "journal.jsonl"
    whole = truth.splitlines()

    @tries(examples)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        changed = spoilt_bytes(truth, data.draw)
        path.write_bytes(changed)
        try:
            Journal.reopen(path, LiveClock()).close()
        except EvidenceError:
            assert path.read_bytes() == changed
            return
        finally:
            for torn in tmp_path.glob("*.torn-*"):
                torn.unlink()
        kept = [line for line in path.read_bytes().splitlines() if b'"kind":"note"' not in line]
        assert kept == whole[: len(kept)]

    holds()
