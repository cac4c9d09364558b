"""What a readiness check is."""

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
