"""Benches under short paths: a Unix socket's path may have 107 bytes."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from plugin_kit import Bench

from pytest_pveha.simclock import stop_site


@pytest.fixture(scope="session")
def new_bench() -> Iterator[Callable[[], Bench]]:
    """Makes benches; whatever site still runs on one is ended, and all is removed."""
    made: list[Bench] = []

    def make() -> Bench:
        made.append(Bench(Path(tempfile.mkdtemp(prefix="pv", dir="/tmp"))))
        return made[-1]

    yield make
    for each in made:
        for path in each.sites:
            with suppress(OSError):
                stop_site(path.parent / "baton")
        shutil.rmtree(each.root, ignore_errors=True)


@pytest.fixture
def bench(new_bench: Callable[[], Bench]) -> Bench:
    """A bench of this test's own."""
    return new_bench()
