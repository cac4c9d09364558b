"""Questions and answers are small private files: the first answer counts, and a new question takes the old one away."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_pveha.errors import EvidenceError, UsageError
from pytest_pveha.record.questions import Desk, Said

RUN = "0a1b2c3d"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """The desk of a run, in a state directory of its own."""
    return Desk(RUN, {"PVEHA_STATE": str(tmp_path)})


def test_a_question_is_open_until_it_is_answered(desk: Desk) -> None:
    """It is listed with what answers it, by whoever looks, until somebody has."""
    asked = desk.ask("pull", "pull it", "J. Doe")
    assert asked.command == "pveha answer 0a1b2c3d pull"
    assert desk.open() == [asked] == [desk.question("pull")]
    assert asked.heard
    assert desk.answer("pull") is None
    assert desk.say("pull", "done", "jdoe") == Said("done", "jdoe") == desk.answer("pull")
    assert desk.open() == []
    assert desk.question("pull") == asked


def test_the_first_answer_counts(desk: Desk) -> None:
    """Who comes second is told what was said before."""
    desk.ask("pull", "pull it", "J. Doe")
    desk.say("pull", "refuse", "jdoe")
    assert desk.say("pull", "done", "root") == Said("refuse", "jdoe")


def test_an_old_answer_is_none_to_a_new_question(desk: Desk) -> None:
    """Asked again, it waits again."""
    desk.ask("pull", "pull it", "J. Doe")
    desk.say("pull", "done", "jdoe")
    desk.ask("pull", "pull it", "J. Doe")
    assert desk.answer("pull") is None


def test_what_was_seen_to_be_done_is_no_longer_open(desk: Desk) -> None:
    """It is settled without an answer; and cleared, nothing is left."""
    desk.ask("pull", "pull it", "J. Doe")
    desk.settle("pull")
    assert desk.open() == []
    assert (question := desk.question("pull")) is not None
    assert question.settled
    desk.settle("never-asked")
    desk.clear()
    desk.clear()
    assert desk.question("pull") is None


def test_they_are_for_their_owner_alone(desk: Desk, tmp_path: Path) -> None:
    """Nobody else reads or writes them, and no draft stays behind."""
    desk.ask("pull", "pull it", "J. Doe")
    desk.say("pull", "done", "jdoe")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["pull.answer", "pull.json"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "questions" / RUN).stat().st_mode) == 0o700


@pytest.mark.parametrize("step", ["", "../x", "Pull", "a/b", "-x", "a" * 81])
def test_a_step_is_a_file_name(desk: Desk, step: str) -> None:
    """What could name another file is refused, asked or answered."""
    with pytest.raises(UsageError, match="cannot be a step's name"):
        desk.ask(step, "x", "y")
    with pytest.raises(UsageError, match="cannot be a step's name"):
        desk.say(step, "done", "jdoe")


def test_a_run_is_one_folder(tmp_path: Path) -> None:
    """Whatever a journal calls its run, its questions lie below the user's own, and no other folder is cleared."""
    (tmp_path / "open").mkdir()
    desk = Desk("../open", {"PVEHA_STATE": str(tmp_path)})
    desk.ask("pull", "pull it", "J. Doe")
    desk.clear()
    assert (tmp_path / "open").is_dir()


def test_a_dead_run_hears_nobody(desk: Desk, tmp_path: Path) -> None:
    """A question of a process that has ended waits for nothing."""
    desk.ask("pull", "pull it", "J. Doe")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = tmp_path / "questions" / RUN / "pull.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": ended.pid}))
    assert (question := desk.question("pull")) is not None
    assert not question.heard


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": "x"}', '{"word": "maybe", "user": "x"}'])
def test_a_spoilt_file_says_nothing(desk: Desk, tmp_path: Path, text: str) -> None:
    """Neither a question nor an answer is made of it."""
    desk.ask("pull", "pull it", "J. Doe")
    for name in ("pull.json", "pull.answer"):
        (tmp_path / "questions" / RUN / name).write_text(text)
    assert desk.question("pull") is None
    assert desk.answer("pull") is None
    assert desk.open() == []


def test_a_disk_that_takes_nothing_is_said(tmp_path: Path) -> None:
    """Where nothing can be written nobody can be asked, and nobody is heard."""
    (tmp_path / "questions").write_text("")
    desk = Desk(RUN, {"PVEHA_STATE": str(tmp_path)})
    with pytest.raises(EvidenceError, match="nobody can be asked; set PVEHA_STATE"):
        desk.ask("pull", "pull it", "J. Doe")
    with pytest.raises(EvidenceError, match="nobody hears this answer"):
        desk.say("pull", "done", "jdoe")


def test_what_was_asked_elsewhere_counts_as_asked_here(tmp_path: Path) -> None:
    """With its answer, whatever was said to it here before."""
    desk = Desk(RUN, {"PVEHA_STATE": str(tmp_path)})
    desk.ask("cord-pulled-1-pull", "pull", "J. Doe")
    desk.say("cord-pulled-1-pull", "done", "old")
    desk.recall("cord-pulled-1-pull", "pull", "J. Doe", False, None)
    assert [each.step for each in desk.open()] == ["cord-pulled-1-pull"]
    desk.recall("cord-pulled-1-pull", "pull", "J. Doe", False, Said("refuse", "jdoe"))
    assert desk.answer("cord-pulled-1-pull") == Said("refuse", "jdoe")
