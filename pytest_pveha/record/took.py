"""How long answers took, as the journal keeps it: so many of each length, not each one by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

STEP: Final = 100_000
"""Nanoseconds of the finest step."""

_COARSER: Final = ((1000, 100), (100, 10), (0, 1))
"""From so many steps on, so many are one."""


def step(nanoseconds: int) -> int:
    """The length in steps of 0.1 ms, cut off; two digits of it from 10 ms on, in steps of 10 ms from 100 ms on."""
    steps = max(0, nanoseconds) // STEP
    return steps - steps % _width(steps)


def span(steps: int) -> tuple[int, int]:
    """Between which lengths (ns) that was."""
    return steps * STEP, (steps + _width(steps)) * STEP


def counts(took: Mapping[int, int]) -> list[list[int]]:
    """Each step and how often, in order, for the journal."""
    return [[steps, took[steps]] for steps in sorted(took)]


def _width(steps: int) -> int:
    return next(width for least, width in _COARSER if steps >= least)
