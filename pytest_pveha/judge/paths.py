"""The fence paths of a site: from each node to every other node's BMC, all of them or no verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge.facts import Path, TestFacts, strings
from pytest_pveha.judge.measured import Measured, counted

NAMED = 3
"""So many paths are named in a sentence; the journal and the report have all."""


def slowest(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """The time of the slowest path, in seconds: at least by the asking node's own clock, at most by ours.

    A path that answered nobody was waited for so long at least. One that was refused at once has no time; it counts
    among the broken.
    """
    del subject
    there, absent = _all(test, params)
    timed = [path for path in there if path.answer == "yes" or (path.answer == "no" and path.seconds[0] > 0)]
    if not timed:
        raise Inconclusive(_why([*absent, *(f"{_name(path)}: {path.saw}" for path in there)]))
    worst = max(timed, key=lambda path: (path.answer == "no", path.seconds[0]))
    low = max(path.seconds[0] for path in timed)
    if worst.answer == "no":
        return Measured(None, low, None, "s", censored=True, about=_why([f"{_name(worst)}: {worst.saw}"]))
    untold = [*absent, *(f"{_name(path)}: {path.saw}" for path in there if path.answer == "cant_tell")]
    high = None if untold else max(path.seconds[1] for path in timed)
    return Measured(low if high is not None else None, low, high, "s", about=_why(untold) or _name(worst))


def broken(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many paths lead nowhere: no answer, a refusal, or a user that may not switch power."""
    del subject
    return _count(
        test,
        params,
        lambda path: "no" if "no" in (path.answer, path.may) else "cant_tell" if _open(path) else "yes",
        lambda path: path.saw if path.answer != "yes" else path.may_saw,
    )


def strangers(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many paths lead to a machine that is not the one meant."""
    del subject
    return _count(test, params, lambda path: path.own, lambda path: path.own_saw)


def _open(path: Path) -> bool:
    return "cant_tell" in (path.answer, path.may)


def _count(
    test: TestFacts, params: Mapping[str, Any], answer: Callable[[Path], str], told: Callable[[Path], str]
) -> Measured:
    there, absent = _all(test, params)
    harm = [f"{_name(path)}: {told(path)}" for path in there if answer(path) == "no"]
    untold = [*absent, *(f"{_name(path)}: {told(path)}" for path in there if answer(path) not in ("yes", "no"))]
    found = counted(len(harm), len(harm) + len(untold))
    return Measured(found.value, found.low, found.high, found.unit, about=_why(harm or untold))


def _all(test: TestFacts, params: Mapping[str, Any]) -> tuple[list[Path], list[str]]:
    """The paths that were asked, the last word of each, and those that were not though they should."""
    nodes = strings(params.get("nodes"))
    if len(set(nodes)) < 2:
        raise Inconclusive("the claim names no two nodes, so there is no path between any")
    asked = {(path.peer, path.bmc): path for path in test.paths}
    wanted = [(peer, bmc) for peer in nodes for bmc in nodes if peer != bmc]
    there = [asked[pair] for pair in wanted if pair in asked]
    return there, [f"{peer} → {bmc}: was not asked" for peer, bmc in wanted if (peer, bmc) not in asked]


def _name(path: Path) -> str:
    return f"{path.peer} → {path.bmc}"


def _why(told: Sequence[str]) -> str:
    shown = "; ".join(told[:NAMED])
    return shown + (f"; and {len(told) - NAMED} more" if len(told) > NAMED else "")
