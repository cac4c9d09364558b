"""The prompt reads whole lines from the terminal that a process has, and only while it is its own."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path

import pytest

from pytest_pveha.prompt import Prompt

ROOT = Path(__file__).parents[2]

PERSON = """
import select, sys
from pytest_pveha.prompt import Prompt
prompt = Prompt(lambda line: print(line, flush=True))
assert prompt.listens
sys.stdin.readline() if "early" in sys.argv else None
prompt.show("asked")
while (line := prompt.typed()) is None:
    select.select([prompt._fd], [], [])
print("heard", repr(line), flush=True)
prompt.close()
assert not prompt.listens and prompt.typed() is None
print("closed", flush=True)
"""


def said(person: int, until: str) -> str:
    """What the terminal shows up to that word."""
    text = ""
    while until not in text:
        text += os.read(person, 1000).decode()
    return text


def at_a_terminal(*words: str) -> tuple[int, int]:
    """A process with a terminal of its own, and our end of that."""
    pid, person = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", PERSON, *words], {**os.environ, "PYTHONPATH": str(ROOT)})
    return pid, person


def test_a_line_is_heard() -> None:
    """What was typed after the question, without its end."""
    pid, person = at_a_terminal()
    said(person, "asked")
    os.write(person, b" done \n")
    assert "heard 'done'" in said(person, "closed")
    assert os.waitpid(pid, 0)[1] == 0
    os.close(person)


def test_what_was_typed_before_is_no_answer() -> None:
    """An Enter too many, or a word for an earlier question, is thrown away when the next one is shown."""
    pid, person = at_a_terminal("early")
    os.write(person, b"go\nrefuse\n")
    said(person, "asked")
    os.write(person, b"done\n")
    assert "heard 'done'" in said(person, "closed")
    assert os.waitpid(pid, 0)[1] == 0
    os.close(person)


def test_without_a_terminal_nobody_types(tmp_path: Path) -> None:
    """What is asked is printed all the same, line by line."""
    shown: list[str] = []
    prompt = Prompt(shown.append, str(tmp_path / "no-such-device"))
    assert not prompt.listens
    prompt.show("one\ntwo")
    assert shown == ["one", "two"]
    assert prompt.typed() is None
    prompt.close()


@pytest.mark.parametrize("ours", [False])
def test_somebody_elses_terminal_is_not_read(ours: bool) -> None:
    """A terminal that is not this process's own, as in the background, is left alone: reading would stop us."""
    master, slave = pty.openpty()
    prompt = Prompt(lambda line: None, os.ttyname(slave))
    os.write(master, b"done\n")
    assert prompt.listens is ours
    assert prompt.typed() is None
    prompt.close()
    os.close(master)
    os.close(slave)
