"""The same seed gives the same journal, byte for byte but for what is declared volatile."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import unified_diff
from pathlib import Path

import pytest
import whole_run
from whole_run import Outcome

from pytest_pveha.record.volatile import canonical

SHORT = Path(__file__).with_name("short_suite.py")


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
    """A whole run of the scenario in short, in a corner of its own."""
    with whole_run.place() as here:
        return whole_run.run(here.inventory(boot_seconds=40, **simulator), here, suites=SHORT)


def assert_same(one: Outcome, other: Outcome) -> None:
    """Both journals say the same; else the first lines that differ are shown."""
    left, right = (canonical(each.journal).decode().splitlines() for each in (one, other))
    assert left == right, "\n".join(list(unified_diff(left, right, lineterm="", n=0))[:12])


def test_the_same_seed_gives_the_same_journal() -> None:
    """Two runs of one inventory, the second on a busy machine, differ in nothing that counts; another seed does."""
    first = again()
    with busy():
        second = again()
    assert_same(first, second)
    said = [json.dumps(each.verdict).replace(each.verdict["run"], "this run") for each in (first, second)]
    assert said[0] == said[1]

    other = again(seed=2)
    assert_other(first, other)


def assert_other(first: Outcome, other: Outcome) -> None:
    """The seed decides: what is compared is not empty, and not the same whatever happens."""
    assert len(first.journal) > 100
    times = [[line.mono for line in each.journal] for each in (first, other)]
    assert times[0] != times[1]
    with pytest.raises(AssertionError):
        assert_same(first, other)
