"""What a run's time went into: the site's own, what the tests watched, and what the tool added. Method: method.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytest_pveha.judge.facts import SECOND, Facts, integer


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of the site's clock, from the journal's first line to its last."""

    whole: float
    waited: float
    """In waits for something that the site had to do: boots, timers, recoveries."""
    watched: float
    """In time that the tests let pass on purpose, to see what falls over late."""

    @property
    def added(self) -> float:
        """All the rest: asking, arming, sampling before a fault, auditing."""
        return max(0.0, self.whole - self.waited - self.watched)

    @property
    def percent(self) -> float | None:
        """What the tool added, against the rest; None where the rest is nothing."""
        needed = self.waited + self.watched
        return None if needed <= 0 else 100 * self.added / needed

    def to_json(self) -> dict[str, Any]:
        """As verdict.json has it."""
        return {
            "seconds": round(self.whole, 3),
            "waited_for_site": round(self.waited, 3),
            "watched": round(self.watched, 3),
            "tool_added": round(self.added, 3),
            "tool_added_percent": None if self.percent is None else round(self.percent, 1),
        }


def spent(facts: Facts) -> Spent | None:
    """Where the time went; None where the journal does not say, or the run broke nothing."""
    if facts.first is None or facts.close is None or not facts.faults:
        return None
    waited, watched = integer(facts.close.data.get("waited")), integer(facts.close.data.get("watched"))
    if waited is None or watched is None or min(waited, watched) < 0:
        return None
    return Spent((facts.close.mono - facts.first.mono) / SECOND, waited / SECOND, watched / SECOND)
