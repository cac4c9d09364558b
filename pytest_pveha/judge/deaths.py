"""When a node died, by what was seen of it: silent from then on, and later there with another boot id.

Method: docs/explanation/method.md, "Deaths".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge.durations import effect_of
from pytest_pveha.judge.facts import SECOND, Fault, TestFacts, strings, text
from pytest_pveha.judge.measured import Measured, between, counted
from pytest_pveha.judge.phases import first_start

STAMP_AFTER_FEED: Final = round(0.3 * SECOND)
"""How long after an LRM fed its watchdog its status is in the cluster's file system (LRM.pm: lock, feed, status)."""


SOFTDOG: Final = "Software Watchdog"
"""What softdog calls itself (softdog.c)."""


@dataclass(frozen=True, slots=True)
class Death:
    """A node lived until ``low`` at least, and was dead by ``high`` (mono ns)."""

    low: int
    high: int


def death(test: TestFacts, node: str, begin: int) -> Death | None:
    """The node's first death since ``begin``; None when no new boot id was seen, which alone proves it."""
    what = f"boot_id/{node}"
    boots = [
        seen for seen in test.seen if seen.what == what and seen.old not in (None, seen.new) and seen.high >= begin
    ]
    if not boots:
        return None
    boot = min(boots, key=lambda seen: seen.high)
    silences = [
        seen
        for seen in test.seen
        if seen.what == f"answering/{node}" and (seen.old, seen.new) == ("yes", "no")
        # it was alive at boot.low, with its old boot id: an earlier silence was no death
        if seen.high >= max(begin, boot.low) and seen.high <= boot.high
    ]
    if not silences:
        return Death(boot.low, boot.high)
    # the last: an earlier one may have been a lost packet, and a death must not be put too early
    silence = max(silences, key=lambda seen: seen.high)
    return Death(max(silence.low, min(boot.low, silence.high)), silence.high)


def reset_after(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """Seconds from the fault taking effect to the node's death."""
    del subject
    _, low, high, node = _victim(test, params)
    return _since(test, node, low, high)


def reset_after_last_feed(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """Seconds from the LRM's last feed to the node's death.

    The feed comes right before the LRM writes its status, which was watched until the moment of the fault.
    """
    del subject
    fault, low, high, node = _victim(test, params)
    begin = low if fault.before is None else fault.before
    feeds = [
        seen
        for seen in test.seen
        if seen.what == f"lrm_stamp/{node}" and seen.old is not None and begin <= seen.high <= high
    ]
    if not feeds:
        raise Inconclusive(f"when the LRM of {node} fed its watchdog last was not seen")
    last = max(feeds, key=lambda seen: seen.high)
    return _since(test, node, last.low - STAMP_AFTER_FEED, last.high)


def which_watchdog(test: TestFacts, params: Mapping[str, Any]) -> str:
    """Which watchdog the node had, in words: a software one ends with the kernel that it watches."""
    node = text(params.get("node"))
    told = [seen.new for seen in test.seen if seen.what == f"watchdog/{node}"]
    if not told:
        return "which watchdog it has was not seen"
    kind = "the kernel's own timer" if told[-1] == SOFTDOG else "hardware"
    return f"watchdog: {told[-1]}, {kind}{bmc_says(test, [node])}"


def bmc_says(test: TestFacts, nodes: Sequence[str]) -> str:
    """What the BMCs' own logs have of the nodes' end, for the end of a sentence: it supports, and decides nothing."""
    told = {node: [seen.new for seen in test.seen if seen.what == f"bmc_log/{node}"] for node in nodes}
    words = [f"{node} {', '.join(dict.fromkeys(events))}" for node, events in told.items() if events]
    return f"; in its BMC's log: {'; '.join(words)}" if words else ""


def half_alive(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many of the guests were started on another node before the victim's death."""
    del subject
    fault, low, _, node = _victim(test, params)
    begin = low if fault.before is None else fault.before
    guests = strings(params.get("guests"))
    if not guests:
        raise Inconclusive("the claim names no guest")
    died, lived = death(test, node, begin), _lived(test, node)
    surely = maybe = 0
    for sid in guests:
        start = first_start(test, sid, begin, node)
        if start is None:
            continue  # it came back where it was
        start_low = begin if start[0] is None else start[0]
        if died is None and lived < start[1]:
            raise Inconclusive(f"whether {node} was reset was not seen, and {sid} runs elsewhere")
        surely += start[1] <= max(lived, died.low if died else 0)
        maybe += died is None or start_low < died.high
    return counted(surely, max(surely, maybe))


def _lived(test: TestFacts, node: str) -> int:
    """The last moment (mono ns) at which the node was looked at and had its old boot id; 0 if it was not."""
    told = [seen.new for seen in test.seen if seen.what == f"lives/{node}" and seen.new.isdigit()]
    return max(map(int, told), default=0)


def _victim(test: TestFacts, params: Mapping[str, Any]) -> tuple[Fault, int, int, str]:
    fault, low, high = effect_of(test)
    node = text(params.get("node")) or fault.node
    if not node:
        raise Inconclusive("the claim names no node that died")
    return fault, low, high, node


def _since(test: TestFacts, node: str, low: int, high: int) -> Measured:
    died = death(test, node, low)
    if died is None:
        raise Inconclusive(f"{node} was not seen to be reset: nobody saw another boot id there")
    return between(max(0, died.low - high), max(0, died.high - low))


def power_spread(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """From the first to the last of the nodes losing power, by what their BMCs say of the chassis, in seconds.

    Raises:
        Inconclusive: no node was to, or of one nobody saw it.
    """
    del subject
    nodes = strings(params.get("nodes"))
    fault, low, _ = effect_of(test)
    begin = low if fault.before is None else fault.before
    spans = []
    for node in nodes:
        off = [
            each for each in test.seen if each.what == f"chassis/{node}" and each.new == "off" and each.high >= begin
        ]
        if not off:
            raise Inconclusive(f"the BMC of {node} was not seen to say off")
        first = min(off, key=lambda each: each.high)
        spans.append((max(begin, first.low), first.high))
    if not spans:
        raise Inconclusive("the claim names no node that was to lose power")
    least = max(0, max(low for low, _ in spans) - min(high for _, high in spans))
    return between(least, max(high for _, high in spans) - min(low for low, _ in spans))
