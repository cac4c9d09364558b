"""When somebody who is asked again and again has answered: runs of equal answers, in the journal as samples."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_pveha.observe.observer import Observer


@dataclass(slots=True)
class _Streak:
    answer: str
    first: int
    first_end: int
    last: int
    last_end: int
    count: int = 1
    worst_gap: int = 0


class Heard:
    """The answers of some who are asked every so often, and are not asked by the sampler.

    Args:
        period: nanoseconds between two questions to one of them.
        probe: what asking one is called, with its name for the braces; ``subject`` whose answer it is, likewise.
        what: how it is asked.
    """

    def __init__(
        self,
        observer: Observer,
        period: int,
        *,
        probe: str = "inside:{}",
        subject: str = "node:{}:inside",
        what: str = "ssh",
    ) -> None:
        self._observer = observer
        self._period = period
        self._probe = probe
        self._subject = subject
        self._what = what
        self._streaks: dict[str, _Streak] = {}

    def expect(self, name: str) -> None:
        """That one will be asked: a claim may be about it."""
        data = {"probe": self._probe.format(name), "subject": self._subject.format(name), "what": self._what}
        self._observer.write("watch", {**data, "period_ms": self._period // 1_000_000})

    def told(self, name: str, answer: str, asked: int, ended: int) -> None:
        """It was asked and has answered, or has not, between those moments (mono ns)."""
        streak = self._streaks.get(name)
        if streak is not None and streak.answer == answer:
            streak.worst_gap = max(streak.worst_gap, asked - streak.last)
            streak.last, streak.last_end, streak.count = asked, ended, streak.count + 1
            return
        self._flush(name)
        self._streaks[name] = _Streak(answer, asked, ended, asked, ended)

    def stop(self) -> None:
        """All of it is in the journal."""
        for name in list(self._streaks):
            self._flush(name)

    def _flush(self, name: str) -> None:
        streak = self._streaks.pop(name, None)
        if streak is None:
            return
        self._observer.write(
            "samples",
            {
                "probe": self._probe.format(name),
                "subject": self._subject.format(name),
                "answer": streak.answer,
                "saw": {"good": "answered", "bad": "no answer"}.get(streak.answer, "it could not be asked"),
                "first": streak.first,
                "first_end": streak.first_end,
                "last": streak.last,
                "last_end": streak.last_end,
                "count": streak.count,
                "worst_gap": streak.worst_gap,
                "worst_late": 0,
            },
        )
