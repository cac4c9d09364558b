"""The laboratory in which the real daemons run: one for all tests of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab import Lab, lacking


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A laboratory without machines yet, gone at the end; what killed runs left is cleared away first."""
    if reason := lacking():
        pytest.skip(reason)
    lab = Lab()
    yield lab
    lab.close()
