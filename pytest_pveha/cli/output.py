"""Lines for people: what a site or a file calls itself must not move their cursor."""

from __future__ import annotations

import sys

from pytest_pveha.report.words import clean


def say(text: str = "") -> None:
    """One line, at once: somebody may be waiting at the other end of a pipe."""
    print(clean(text).replace("\n", " "), flush=True)


def row(word: str, text: str) -> None:
    """One line with a word in front, in a column."""
    say(f"{word:<12}{text}")


def complain(text: str, *, prefix: str = "pveha: ") -> None:
    """What went wrong, where nobody takes it for the answer."""
    sys.stdout.flush()
    print(f"{prefix}{clean(text)}", file=sys.stderr, flush=True)
