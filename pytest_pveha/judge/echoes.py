"""The ways between the rooms of a stretched site: how long, how even, how lossy; all of them or no verdict.

Method: docs/explanation/method.md, "The ways between rooms".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge.facts import Echo, TestFacts, strings, text
from pytest_pveha.judge.measured import Measured, number

NAMED: Final = 3
"""So many ways are named in a sentence; the journal has all."""

SURE: Final = 0.95
"""How sure the bounds are of a value that is drawn from a sample."""

CAUSES: Final = {
    "round_trip": "the rooms are too far apart for corosync, or their link is busy",
    "jitter": "the way between the rooms is uneven, which corosync bears worse than a long one",
    "packet_loss": "the way between the rooms loses packets, and each loss delays the ring",
    "ring_latency": "corosync itself measures a way that is too long for it",
}


def round_trip(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """The time within which 99 of 100 echoes came back, in ms, of the slowest way; bounds by order statistics.

    Raises:
        Inconclusive: a way was not measured, or nothing came back on it.
    """
    del subject
    found = {}
    for echo in _all(test, params):
        if not echo.times:
            raise Inconclusive(f"{_name(echo)}: none of {echo.sent} echoes came back")
        found[_name(echo)] = _percentile(sorted(echo.times), 0.99), _middle(echo.times)
    name = max(found, key=lambda each: found[each][0][1])
    low, value = max(each[0][0] for each in found.values()), max(each[0][1] for each in found.values())
    highs = [each[0][2] for each in found.values()]
    high = None if None in highs else max(each for each in highs if each is not None)
    about = f"{name}, half of them within {number(found[name][1])} ms; the slowest of {len(found)} ways"
    return Measured(value if high is not None else None, low, high, "ms", about=about)


def jitter(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """The mean difference between one round trip and the next, in ms, of the most uneven way; ± two standard errors.

    Raises:
        Inconclusive: a way was not measured, or too little came back on it.
    """
    del subject
    found = {}
    for echo in _all(test, params):
        steps = [abs(one - other) for one, other in zip(echo.times, echo.times[1:], strict=False)]
        if len(steps) < 2:
            raise Inconclusive(f"{_name(echo)}: {len(echo.times)} of {echo.sent} echoes came back, too few to compare")
        mean = sum(steps) / len(steps)
        error = 2 * math.sqrt(sum((step - mean) ** 2 for step in steps) / (len(steps) - 1) / len(steps))
        found[_name(echo)] = max(0.0, mean - error), mean, mean + error
    name = max(found, key=lambda each: found[each][1])
    low, value, high = (max(each[at] for each in found.values()) for at in range(3))
    return Measured(value, low, high, "ms", about=f"{name}, the most uneven of {len(found)} ways")


def packet_loss(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """Of a hundred echoes those that did not come back, of the worst way: of those that were sent, so exact.

    Raises:
        Inconclusive: a way was not measured.
    """
    del subject
    every = _all(test, params)
    worst = max(every, key=lambda echo: (echo.sent - len(echo.times)) / echo.sent)
    percent = 100 * (worst.sent - len(worst.times)) / worst.sent
    about = f"{_name(worst)}, {worst.sent - len(worst.times)} of {worst.sent}; the worst of {len(every)} ways"
    return Measured(percent, percent, percent, "%", about=about)


def ring_latency(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """The average round trip that corosync itself measured since it started, in ms, of the slowest way.

    Raises:
        Inconclusive: a node's corosync did not say it of another one.
    """
    del subject
    found: dict[str, Echo] = {}
    for echo in _all(test, params):
        if echo.ring_average is None:
            raise Inconclusive(f"corosync on {echo.source} does not say how far {echo.target} is")
        found[f"{echo.source} → {echo.target}"] = echo
    name = max(found, key=lambda each: found[each].ring_average or 0.0)
    value, longest = found[name].ring_average or 0.0, found[name].ring_longest
    about = name if longest is None else f"{name}, the longest ever {number(longest)} ms"
    return Measured(value, value, value, "ms", about=f"{about}; the slowest of {len(found)} ways")


def _all(test: TestFacts, params: Mapping[str, Any]) -> list[Echo]:
    """What was measured on each of the ways that the claim names; Inconclusive where one lacks."""
    given = params.get("ways")
    pairs = given if isinstance(given, list) else []
    ways = [(text(way[0]), text(way[1])) for way in pairs if len(strings(way)) == 2]
    if not ways:
        raise Inconclusive("the claim names no way between rooms")
    asked: dict[tuple[str, str], list[Echo]] = {}
    for echo in test.echoes:
        asked.setdefault((echo.source, echo.target), []).append(echo)
    absent = [f"{source} → {target}: was not asked" for source, target in ways if (source, target) not in asked]
    found = [echo for way in ways for echo in asked.get(way, ())]
    absent += [f"{_name(echo)}: {echo.saw or 'nothing was sent'}" for echo in found if not echo.sent]
    if absent:
        more = f"; and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
        raise Inconclusive("; ".join(absent[:NAMED]) + more)
    return found


def _name(echo: Echo) -> str:
    return f"{echo.source} → {echo.target} ({echo.address})"


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _percentile(ordered: Sequence[float], share: float) -> tuple[float, float, float | None]:
    """The value below which that share lies, and its bounds: the two ranks that enclose it in 95 of 100 samples.

    Without an upper bound where the sample is too small for one: 368 values are enough for 99 in 100.
    """
    count, outside = len(ordered), (1 - SURE) / 2
    low, high, below = 0, None, 0.0
    for rank in range(count):
        # the chance that exactly so many of them lie below it
        below += _binomial(count, rank, share)
        if below <= outside:
            low = rank + 1
        if high is None and below >= 1 - outside:
            high = rank
    value = ordered[min(count - 1, math.ceil(share * count) - 1)]
    return ordered[min(low, count - 1)], value, None if high is None else ordered[min(high, count - 1)]


def _binomial(count: int, hits: int, share: float) -> float:
    logs = math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
    return math.exp(logs + hits * math.log(share) + (count - hits) * math.log(1 - share))


MEASURES: Final[Mapping[str, Callable[[TestFacts, str, Mapping[str, Any]], Measured]]] = {
    "round_trip": round_trip,
    "jitter": jitter,
    "packet_loss": packet_loss,
    "ring_latency": ring_latency,
}
