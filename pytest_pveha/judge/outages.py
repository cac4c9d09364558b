"""When a probe's subject was away, with bounds on both ends. Method: docs/explanation/method.md, "Outages"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_pveha.judge.facts import Run, known


@dataclass(frozen=True, slots=True)
class Outage:
    """A time without a good answer, from the first bad one on (monotonic ns).

    It began between ``start_low`` (None: it was already so at the first sample) and ``start_high``, and ended
    between ``end_low`` and ``end_high`` (None: its end was never seen). ``low`` ns of it are certain: between bad
    answers no two of which are further apart than the limit.
    """

    start_low: int | None
    start_high: int
    end_low: int
    end_high: int | None
    low: int
    covered_start: bool
    covered_end: bool

    @property
    def high(self) -> int | None:
        """The longest it can have been; None without both ends."""
        if self.start_low is None or self.end_high is None:
            return None
        return self.end_high - self.start_low


def outages(runs: Sequence[Run], limit: int) -> list[Outage]:
    """One probe's outages, in order; separate ones stay separate.

    Args:
        runs: one probe's runs of answers, in order of sending.
        limit: the longest gap (ns) that still counts as watching.
    """
    found: list[Outage] = []
    group: list[Run] = []
    before: Run | None = None
    for run in known(runs):
        if run.answer == "bad":
            group.append(run)
            continue
        if group:
            found.append(_outage(before, group, run, runs, limit))
            group = []
        before = run
    if group:
        found.append(_outage(before, group, None, runs, limit))
    return found


def _outage(before: Run | None, bad: list[Run], after: Run | None, runs: Sequence[Run], limit: int) -> Outage:
    first, last = bad[0], bad[-1]
    return Outage(
        start_low=None if before is None else before.last,
        start_high=_away_by(before, first),
        end_low=last.last,
        end_high=None if after is None else after.first_end,
        low=_certain(bad, runs, limit, _away_by(before, first)),
        covered_start=before is not None and first.first - before.last_end <= limit,
        covered_end=after is None or after.first - last.last_end <= limit,
    )


def _away_by(before: Run | None, first: Run) -> int:
    """By when the first bad question had found nobody.

    That is the end of its answer. Where none came, it is when it had arrived: its way takes no longer than the last
    good one took there and back.
    """
    if before is None or first.first_out is None:
        return first.first_end
    return min(first.first_end, first.first_out + before.last_end - before.last)


def _certain(bad: Sequence[Run], runs: Sequence[Run], limit: int, away_by: int) -> int:
    """How long the subject was away for certain: the stretches of bad answers without a blind spot."""
    unknown = [run for run in runs if run.answer == "unknown"]
    total = 0
    begin: int | None = None
    previous: Run | None = None
    for run in bad:
        broken = previous is not None and (
            run.first - previous.last > limit or any(previous.last <= each.first <= run.first for each in unknown)
        )
        if begin is None or broken or _blind(run, limit):
            total += _stretch(begin, previous)
            begin = None if _blind(run, limit) else away_by if run is bad[0] else run.first_end
        previous = run
    return total + _stretch(begin, previous)


def _stretch(begin: int | None, end: Run | None) -> int:
    return 0 if begin is None or end is None else max(0, end.last - begin)


def _blind(run: Run, limit: int) -> bool:
    return run.worst_gap > limit


def hidden(runs: Sequence[Run], limit: int) -> list[tuple[int, int]]:
    """Where an outage could hide among good answers: spans (ns) longer than the limit without any answer.

    A run whose own worst gap is longer than the limit does not say where: it counts whole.
    """
    spans = []
    good = known(runs)
    for run in good:
        if run.answer == "good" and _blind(run, limit):
            spans.append((run.first, run.last_end))
    for left, right in pairwise(good):
        if left.answer == right.answer == "good" and right.first - left.last_end > limit:
            spans.append((left.last, right.first_end))
    return sorted(spans)
