"""What a planted defect is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Defect:
    """One way to be wrong: what it is, how a site comes to it, and the test and verdict that must name it."""

    name: str
    meaning: str
    how_it_comes_about: str
    caught_by: str
    verdict: str
