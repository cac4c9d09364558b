"""In whose turn a lost node's guests were started elsewhere: a node starts only some at a time, and the rest wait.

Method: docs/explanation/method.md, "Measures". Source: pve-ha-manager LRM.pm, max_workers of datacenter.cfg(5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge import durations
from pytest_pveha.judge.facts import TestFacts, strings, text
from pytest_pveha.judge.measured import Measured, between

Start = tuple[str, int, int]
"""On which node a guest was started, between which moments (mono ns)."""


def recovery_in_turn(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """The guest's recovery time, and behind how many of the lost node's guests it was started.

    Raises:
        Inconclusive: it recovered, and when it was started and where was not seen.
    """
    found = durations.recovery_time(test, subject)
    fault, low, _ = durations.effect_of(test)
    begin = low if fault.before is None else fault.before
    victims = {text(params.get("node")), *strings(params.get("nodes"))}
    starts = {sid: _start(test, sid, begin, victims) for sid in {subject, *strings(params.get("guests"))}}
    own = starts[subject]
    if own is None:
        if found.high is not None:
            raise Inconclusive(f"when and where {subject} was started was not seen on the nodes themselves")
        return replace(found, about="it was not seen to be started elsewhere")
    others = [each for sid, each in starts.items() if sid != subject and each is not None and each[0] == own[0]]
    return replace(found, about=_turn(own, others))


def _start(test: TestFacts, sid: str, begin: int, victims: set[str]) -> Start | None:
    """The first start of the guest's process on another node, by the process's own age."""
    found = []
    for each in test.seen:
        kind, _, rest = each.what.partition("/")
        name, _, node = rest.partition("@")
        if kind == "process_start" and name == sid and node not in {"", *victims} and each.high >= begin:
            found.append((node, each.low, each.high))
    return min(found, key=lambda each: each[2], default=None)


def _turn(own: Start, others: list[Start]) -> str:
    node, low, high = own
    surely = sum(each[2] <= low for each in others)
    maybe = surely + sum(each[1] < high and each[2] > low for each in others)
    behind = f"{surely}" if surely == maybe else f"{surely} to {maybe}"
    if not others:
        return f"started on {node}, alone"
    first = min([*others, own], key=lambda each: each[2])
    after = between(max(0, low - first[2]), max(0, high - first[1]))
    return f"started on {node} behind {behind} of {len(others)} others, {after} after the first"
