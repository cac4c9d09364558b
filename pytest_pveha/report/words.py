"""How the reports put verdicts, figures and moments into words; the same in HTML, terminal and JUnit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pytest_pveha.errors import printable

MEANING = {
    "accepted": "Everything that was selected and in scope met its objectives.",
    "rejected": "The cluster was seen to miss something it must do.",
    "inconclusive": "Nothing was seen to fail, but at least one result cannot be told either way.",
    "invalid": "A fault did not take effect, so what followed it proves nothing.",
    "not proven": "Something that was selected could not be put to the test.",
    "dirty": "The site could not be put back as it was found. Run “pveha heal” before anything else.",
}
"""What the verdict of a run says, in one sentence for people."""

GATE = "gate"
"""The id of the test that is the gate."""
RUN = "run"
"""The id under which not_proven speaks of the run as a whole."""
UNCOUNTED = frozenset({"not applicable", "waived"})
"""Verdicts that are listed and do not count."""

OPERATORS = {"at_most": "at most ", "at_least": "at least ", "": ""}


def clean(data: Any) -> Any:
    """The same data with every text safe to show: what is not printable (a NUL, an escape, a bidi override) is spelled.

    What a site calls its guests is data, and must not move a terminal's cursor or turn a line around.
    """
    if isinstance(data, str):
        return printable(data)
    if isinstance(data, Mapping):
        return {clean(key): clean(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [clean(value) for value in data]
    return data


def word(verdict: str) -> str:
    """The verdict without what stands in parentheses."""
    return verdict.split(" (", 1)[0]


def seconds(value: float) -> str:
    """A duration to a tenth of a second: ``137.2 s``."""
    return f"{_tenth(value)} s"


def length(value: float) -> str:
    """A long duration as people say it: ``41 min 12 s``."""
    whole = round(value)
    hours, minutes = whole // 3600, whole // 60 % 60
    parts = ((hours, "h"), (minutes, "min"), (whole % 60, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def figure(claim: Mapping[str, Any]) -> str:
    """A claim's measured value: ``137.2 s``, ``more than 600.0 s``, ``0``, ``0 to 2``, or ``unknown``."""
    low, high, unit = claim["low"], claim["high"], claim["unit"]
    if claim["value"] is not None:
        return quantity(claim["value"], unit)
    if low is None:
        return "unknown"
    if high is None:
        return f"{'more than' if claim['censored'] else 'at least'} {quantity(low, unit)}"
    return f"{_plain(low, unit)} to {quantity(high, unit)}"


def bounds(claim: Mapping[str, Any]) -> str:
    """Between what the true value lies: ``136.1 to 138.2 s``; empty when it is exact or nothing is known."""
    low, high = claim["low"], claim["high"]
    if claim["value"] is None or low is None or high is None or low == high:
        return ""
    return f"{_plain(low, claim['unit'])} to {quantity(high, claim['unit'])}"


def objective(claim: Mapping[str, Any]) -> str:
    """What was demanded: ``at most 240 s``, ``none``."""
    if claim.get("op") == "none":
        return "none"
    if claim["objective"] is None:
        return "not set"
    operator = OPERATORS[direction(claim)]
    unit = f" {claim['unit']}" if claim["unit"] != "count" else ""
    return f"{operator}{claim['objective']:g}{unit}"


def statement(claim: Mapping[str, Any]) -> str:
    """A claim's figures in one breath: ``137.2 s (136.1 to 138.2 s), objective at most 240 s``."""
    span = bounds(claim)
    return f"{figure(claim)}{f' ({span})' if span else ''}, objective {objective(claim)}"


def direction(claim: Mapping[str, Any]) -> str:
    """Whether the objective is a ceiling (``at_most``) or a floor (``at_least``); empty when that cannot be told.

    verdict.json need not say it: an accepted or rejected interval nearly always implies it.
    """
    low, high, limit = claim["low"], claim["high"], claim["objective"]
    if claim.get("op"):
        return "at_most" if claim["op"] == "none" else str(claim["op"]) if claim["op"] in OPERATORS else ""
    if limit is None or low is None or claim["verdict"] not in {"accepted", "rejected"}:
        return ""
    if claim["verdict"] == "accepted":
        ceiling, floor = high is not None and high <= limit, low >= limit
    else:
        ceiling, floor = low > limit, high is not None and high < limit
    if ceiling == floor:
        return ""
    return "at_most" if ceiling else "at_least"


def quantity(value: float, unit: str) -> str:
    """A number with its unit; a count has none."""
    return _plain(value, unit) if unit == "count" else f"{_plain(value, unit)} {unit}"


def worst(claims: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], int]]:
    """For each measure the claim that says most, and how many there are: the one nearest to or furthest past its limit.

    One that never ended, or is unknown, comes before every number.
    """
    by_measure: dict[str, list[Mapping[str, Any]]] = {}
    for claim in claims:
        by_measure.setdefault(claim["measure"], []).append(claim)
    return [(max(group, key=_strain), len(group)) for group in by_measure.values()]


def _strain(claim: Mapping[str, Any]) -> tuple[int, float]:
    """How hard a claim presses on its objective; what is not accepted presses harder than all that is."""
    rank = ("accepted", "inconclusive", "rejected").index(claim["verdict"]) if claim["verdict"] in _RANKED else 1
    low, high, limit = claim["low"], claim["high"], claim["objective"]
    if low is None or (high is None and claim["verdict"] != "accepted"):
        return rank, float("inf")
    if direction(claim) == "at_least":
        return rank, (limit or 0.0) - low
    reach = low if high is None else high
    return rank, reach / limit if limit else reach


def measure(name: str) -> str:
    """A measure's name in words: ``recovery time``."""
    return _MEASURES.get(name, name.replace("_", " "))


def moment(text: str | None) -> str:
    """A UTC moment as people write it: ``2 January 2026, 08:41:07 UTC``; what is no such moment stays as it is."""
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return text or "an unknown day"
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}, {at:%H:%M:%S} UTC"


def between(started: str | None, finished: str | None) -> float | None:
    """Seconds from one UTC moment to another; None when one is none."""
    try:
        return (datetime.fromisoformat(finished or "") - datetime.fromisoformat(started or "")).total_seconds()
    except (ValueError, TypeError):  # TypeError: one with a zone, one without
        return None


def drawn(campaign: Mapping[str, Any]) -> str:
    """How a campaign can be drawn again: ``--pveha-campaign 50 --pveha-seed 7``."""
    return f"--pveha-campaign {campaign['scenarios']} --pveha-seed {campaign['seed']}"


def role(test_id: str) -> str:
    """What tells tests with the same title apart: ``crm-master`` of ``…::test_power_loss[crm-master]``."""
    return test_id.split("[", 1)[1].removesuffix("]") if "[" in test_id else ""


def _plain(value: float, unit: str) -> str:
    return f"{value:g}" if unit == "count" else _tenth(value)


def _tenth(value: float) -> str:
    text = f"{value:.1f}"
    return "0.0" if text == "-0.0" else text


_MEASURES = {
    "not_before_death": "start after the victim's death",
    "collateral_resets": "other nodes reset",
    "reset_after": "reset after the fault",
    "reset_after_last_feed": "reset after the last feed of its watchdog",
    "half_alive": "guests started elsewhere before its death",
    "violations": "harm found by audits",
    "not_moved": "guest that did not move",
    "moves": "moves after the return",
    "lost_span": "what was written since its replica, lost",
    "older_than_told": "replica older than its job said",
    "failed_requests": "failed requests to its disks",
    "restarts": "restarts of its process",
    "ha_acts": "acts of HA",
    "misplaced": "guest not where its rule wants it",
    "time_away": "time until away",
    "time_home": "time until home",
    "time_to_leave": "time to leave maintenance",
    "fences": "nodes fenced",
}
"""The measures whose own name does not say it."""

_RANKED = frozenset({"accepted", "inconclusive", "rejected"})

# not strftime: its month names follow the locale of whoever runs us
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
