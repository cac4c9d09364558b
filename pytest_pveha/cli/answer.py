"""``pveha answer``: what a run asked of a person is answered from another terminal, or listed."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_pveha.cli.output import say
from pytest_pveha.errors import UsageError

ANSWERED, NOBODY_ASKS = 0, 1


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``pveha answer RUN [STEP [done|refuse]]``."""
    parser = commands.add_parser(
        "answer",
        help="answer what a run asks of a person",
        description="A run that needs a hand on a cord asks for it and waits. With RUN alone, what it waits for is "
        "listed. The first answer counts. Exit code 0: it is answered, or listed; 1: nobody waits for that answer.",
    )
    parser.add_argument("asks", metavar="RUN", help="the run's id, or its folder")
    parser.add_argument("step", metavar="STEP", nargs="?", help="which question")
    parser.add_argument(
        "word",
        metavar="done|refuse",
        nargs="?",
        choices=("done", "refuse"),
        default="done",
        help="the answer; done unless said",
    )
    parser.add_argument("--by", metavar="NAME", default="", help="who answers, for the record; default: the login name")
    parser.add_argument(
        "--inventory",
        metavar="FILE",
        type=Path,
        help="list what a run of another machine asked, as the nodes of this site remember it",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The answer lies where the run looks for it."""
    from pytest_pveha.record.questions import Desk, login

    desk = Desk(Path(options.asks).name.rpartition("-")[2])
    if options.inventory is not None:
        return _elsewhere(options.inventory, desk.run, options.step)
    if options.step is None:
        return _list(desk.run, [f"{each.command} done|refuse: {each.text}" for each in desk.open() if each.heard])
    question = desk.question(options.step)
    if question is None or question.settled or not question.heard:
        return _too_late(desk.run, options.step)
    user = options.by or login()
    said = desk.say(options.step, options.word, user)
    if (said.word, said.user) != (options.word, user):
        say(f"{said.user} has said {said.word} before; the first answer counts")
        return NOBODY_ASKS
    say(f"{said.user} says {said.word}: {question.text}")
    return ANSWERED


def _list(run: str, lines: list[str]) -> int:
    for line in lines or [f"run {run} asks nothing of anybody, or is not one of this user on this machine"]:
        say(line)
    return ANSWERED if lines else NOBODY_ASKS


def _elsewhere(inventory: Path, run: str, step: str | None) -> int:
    """What the nodes remember of it; an answer is heard by the process that asked alone."""
    from pytest_pveha.faults.keeping import remembered
    from pytest_pveha.inventory import load
    from pytest_pveha.scenario.visit import visited

    if step is not None:
        raise UsageError("with --inventory there is no STEP: an answer is heard on the machine that asks alone")
    with visited(load(inventory), begin=False) as site:
        kept = remembered(site).get(run)
    asked = sorted(kept.asked.items()) if kept is not None else []
    for name, each in asked:
        answer = f"{each.said.user} said {each.said.word}" if each.said is not None else "no answer is known"
        say(f"{name} ({each.who}{', over' if each.settled else ''}): {each.text} {answer}")
    if kept is None or not asked:
        say(f"the nodes remember nothing that run {run} asked of anybody")
        return NOBODY_ASKS
    host = kept.about.get("host", "the machine that asked")
    say(f"answer on {host}; if it is dead, type here: pveha heal --inventory {inventory}")
    return ANSWERED


def _too_late(run: str, step: str) -> int:
    say(
        f"run {run} does not wait for {step}: it was not asked, or is over. Leave all cords in, or put them in again; "
        f"what is asked now says: pveha answer {run}"
    )
    return NOBODY_ASKS
