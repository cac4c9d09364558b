"""``pveha answer``: the question of a run that lives is answered, or listed; anything else is told plainly."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_kit import Realish, Shell
from real_style import write

from pytest_pveha.clock import LiveClock
from pytest_pveha.faults.keeping import Keeping
from pytest_pveha.handles.connect import connect
from pytest_pveha.inventory import load
from pytest_pveha.record.questions import Desk, Question, Said, login

RUN = "0a1b2c3d"


@pytest.fixture
def desk(shell: Shell) -> Desk:
    """A run, this process, that asks something."""
    desk = Desk(RUN, shell.environment)
    desk.ask("cord-pulled-1-pull", "pull ALL power cords of pve2", "J. Doe")
    return desk


def test_what_is_asked_is_listed(shell: Shell, desk: Desk) -> None:
    """Each line begins with what to type; answered, it is gone."""
    done = shell.pveha("answer", RUN)
    assert done.code == 0
    assert done.lines == [f"pveha answer {RUN} cord-pulled-1-pull done|refuse: pull ALL power cords of pve2"]
    desk.say("cord-pulled-1-pull", "done", "jdoe")
    done = shell.pveha("answer", RUN)
    assert (done.code, done.lines) == (
        1,
        [f"run {RUN} asks nothing of anybody, or is not one of this user on this machine"],
    )


@pytest.mark.parametrize("word", ["done", "refuse"])
def test_an_answer_reaches_the_run(shell: Shell, desk: Desk, word: str) -> None:
    """By the run's id or its folder, under the login name or another."""
    done = shell.pveha("answer", f"reports/site/20261127T224616Z-{RUN}", "cord-pulled-1-pull", word, "--by", "J. Doe")
    assert (done.code, done.out) == (0, f"J. Doe says {word}: pull ALL power cords of pve2\n")
    assert desk.answer("cord-pulled-1-pull") == Said(word, "J. Doe")  # type: ignore[arg-type]


def test_done_is_what_nobody_has_to_type(shell: Shell, desk: Desk) -> None:
    """The step alone says done, by whoever is logged in."""
    assert shell.pveha("answer", RUN, "cord-pulled-1-pull").code == 0
    assert desk.answer("cord-pulled-1-pull") == Said("done", login())


def test_the_second_answer_is_told_of_the_first(shell: Shell, desk: Desk) -> None:
    """It does not count, and the exit code says so."""
    shell.pveha("answer", RUN, "cord-pulled-1-pull", "refuse", "--by", "J. Doe")
    done = shell.pveha("answer", RUN, "cord-pulled-1-pull", "done")
    assert (done.code, done.out) == (1, "J. Doe has said refuse before; the first answer counts\n")


def test_a_question_that_is_over_says_what_to_do(shell: Shell, desk: Desk) -> None:
    """Whoever pulled too late is told to put it in again: nobody else would."""
    desk.settle("cord-pulled-1-pull")
    for run, step in ((RUN, "cord-pulled-1-pull"), (RUN, "cord-pulled-1-plug"), ("ffffffff", "cord-pulled-1-pull")):
        done = shell.pveha("answer", run, step)
        assert done.code == 1
        assert f"run {run} does not wait for {step}" in done.out
        assert "Leave all cords in, or put them in again" in done.out


def test_what_a_run_of_another_machine_asked_is_listed_from_the_nodes(realish: Realish, tmp_path: Path) -> None:
    """Each question with who was asked and what is known of the answer, and where it can be answered; nothing of a run
    that the nodes do not know; and a STEP is refused, for only the machine that asks hears an answer."""
    inventory = write(realish.describe(), tmp_path / "real.yml")
    site = connect(load(inventory), LiveClock())
    try:
        keeping = Keeping(site, RUN)
        keeping.begin({"host": "the-other-machine"})
        pull = Question(RUN, "cord-pulled-1-pull", "pull ALL power cords of pve2", "J. Doe", 4711)
        ready = Question(RUN, "cord-pulled-1-ready", "go to pve2", "J. Doe", 4711, settled=True)
        assert keeping.asked(ready, Said("done", "jdoe"))
        assert keeping.asked(pull, None)
        shown = realish.shell.pveha("answer", RUN, "--inventory", inventory)
        assert (shown.code, shown.lines) == (
            0,
            [
                "cord-pulled-1-pull (J. Doe): pull ALL power cords of pve2 no answer is known",
                "cord-pulled-1-ready (J. Doe, over): go to pve2 jdoe said done",
                f"answer on the-other-machine; if it is dead, type here: pveha heal --inventory {inventory}",
            ],
        )
        assert keeping.asked(pull, Said("refuse", "jdoe"))
        shown = realish.shell.pveha("answer", RUN, "--inventory", inventory)
        assert shown.lines[0] == "cord-pulled-1-pull (J. Doe): pull ALL power cords of pve2 jdoe said refuse"
        refused = realish.shell.pveha("answer", RUN, "cord-pulled-1-pull", "--inventory", inventory)
        assert refused.code == 4
        assert "with --inventory there is no STEP: an answer is heard on the machine that asks alone" in refused.err
    finally:
        keeping.clear()
        site.close()
    gone = realish.shell.pveha("answer", RUN, "--inventory", inventory)
    assert (gone.code, gone.out) == (1, f"the nodes remember nothing that run {RUN} asked of anybody\n")
