"""What a readiness check is, and what it found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_pveha.observe.answer import Answer
from pytest_pveha.observe.observer import Observer


@dataclass(frozen=True, slots=True)
class Check:
    """A readiness check; a blocker refuses every destructive test."""

    name: str
    title: str
    advice: str
    ask: Callable[[Observer], Answer]


@dataclass(frozen=True, slots=True)
class Finding:
    """A check and its answer."""

    check: Check
    answer: Answer

    def to_json(self) -> dict[str, str]:
        return {
            "id": self.check.name,
            "title": self.check.title,
            "answer": self.answer.verdict,
            "saw": self.answer.saw,
            "advice": self.check.advice,
        }
