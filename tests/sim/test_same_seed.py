"""The same seed gives the same journal, byte for byte but for what is declared volatile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import unified_diff

import pytest
import whole_run
from whole_run import Outcome

from pytest_pveha.record.volatile import canonical


@contextmanager
def busy() -> Iterator[None]:
    """The machine has something else to do: what depends on real time comes out another way."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def again(**simulator: object) -> Outcome:
    """Another whole run, in another corner."""
    with whole_run.place() as here:
        return whole_run.run(here.inventory(**simulator), here)


def assert_same(one: Outcome, other: Outcome) -> None:
    """Both journals say the same; else the first lines that differ are shown."""
    left, right = (canonical(each.journal).decode().splitlines() for each in (one, other))
    assert left == right, "\n".join(list(unified_diff(left, right, lineterm="", n=0))[:12])


def test_the_same_seed_gives_the_same_journal() -> None:
    """Two whole runs of one inventory, the second on a machine with other work, differ in nothing that counts."""
    first, _ = whole_run.healthy()
    with busy():
        second = again()
    assert_same(first, second)
    assert {key: first.verdict[key] for key in first.verdict if key != "run"} == {
        key: second.verdict[key] for key in second.verdict if key != "run"
    }


def test_another_seed_gives_another_journal() -> None:
    """The seed decides: what is compared is not empty, and not the same whatever happens."""
    first, _ = whole_run.healthy()
    other = again(seed=2)
    assert len(first.journal) > 100
    times = [[line.mono for line in each.journal] for each in (first, other)]
    assert times[0] != times[1]
    with pytest.raises(AssertionError):
        assert_same(first, other)
