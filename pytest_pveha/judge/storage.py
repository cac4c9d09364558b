"""What a failover from a replica has lost, and whether a storage's silence made requests fail.

Method: docs/explanation/method.md, "Replicas".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge import durations
from pytest_pveha.judge.facts import SECOND, Seen, TestFacts, strings
from pytest_pveha.judge.measured import Measured, between, counted

Params = Mapping[str, Any]


def lost_span(test: TestFacts, subject: str, params: Params) -> Measured:
    """From the data that the guest started from until the fault: what it wrote meanwhile is gone."""
    del params
    _, low, high = durations.effect_of(test)
    copy = _replica(test, subject)
    return between(max(0, low - copy.high), max(0, high - copy.low))


def older_than_told(test: TestFacts, subject: str, params: Params) -> Measured:
    """How much older the copy is than its job said before the fault, in seconds; 0 where it is as told, or newer."""
    del params
    copy = _replica(test, subject)
    told, lies = copy.old or "", copy.new
    if not (told.isdigit() and lies.isdigit()) or told == "0":
        raise Inconclusive(f"when {subject} was replicated last its job did not say")
    late = float(max(0, int(told) - int(lies)))
    return Measured(late, late, late, "s")


def _replica(test: TestFacts, subject: str) -> Seen:
    found = [one for one in test.seen if one.what.startswith(f"replica/{subject}@")]
    if not found:
        raise Inconclusive(f"what {subject} started from was not seen")
    return found[0]  # what it started from, before any later sync


def failed_requests(test: TestFacts, subject: str, params: Params) -> Measured:
    """How many requests to its disks failed since the fault, by QEMU's own count."""
    del params
    fault = test.fault()
    begin = fault.before if fault is not None else None
    if begin is None:
        raise Inconclusive("the test broke nothing, so there is nothing to count from")
    rows = sorted((one for one in test.seen if one.what == f"failed_requests/{subject}"), key=lambda one: one.high)
    before = [int(one.new) for one in rows if one.high <= begin and one.new.isdigit()]
    after = [int(one.new) for one in rows if one.low > begin and one.new.isdigit()]
    if not before or not after:
        raise Inconclusive(f"how many requests of {subject} had failed was not read before and after")
    if after[-1] < before[-1]:
        raise Inconclusive(f"the count of {subject} began anew: its process is another one")
    return counted(after[-1] - before[-1], after[-1] - before[-1])


def restarts(test: TestFacts, subject: str, params: Params) -> Measured:
    """How often the guest's process was seen to begin since the fault."""
    begin = _watched(test, params)
    begun = {
        (one.what, one.low)
        for one in test.seen
        if one.what.startswith(f"process_start/{subject}@") and one.high > begin and one.low > begin - SECOND
    }
    return counted(len(begun), len(begun))


def ha_acts(test: TestFacts, subject: str, params: Params) -> Measured:
    """How often the HA manager called the guest's state or node something else than before, since the fault."""
    begin = _watched(test, params)
    acts = [one for one in test.seen if one.what == f"service/{subject}" and one.old is not None and one.high > begin]
    return counted(len(acts), len(acts))


def _watched(test: TestFacts, params: Params) -> int:
    """When the fault was injected (mono ns). Inconclusive where the nodes were not asked until the test claimed this:
    what never changed has no line of its own."""
    fault = test.fault()
    if fault is None or fault.before is None or fault.healed_at is None:
        raise Inconclusive("no fault was injected and healed, so there is nothing to count from")
    for node in strings(params.get("nodes")):
        runs = [run for run in test.runs if run.subject == f"node:{node}:inside" and run.answer == "good"]
        if not any(run.last_end > fault.healed_at for run in runs):
            raise Inconclusive(f"{node} was not asked itself after the heal")
    return fault.before


MEASURES: Final[Mapping[str, Callable[[TestFacts, str, Params], Measured]]] = {
    "lost_span": lost_span,
    "older_than_told": older_than_told,
    "failed_requests": failed_requests,
    "restarts": restarts,
    "ha_acts": ha_acts,
}

CAUSES: Final[Mapping[str, str]] = {
    "lost_span": "what it wrote since its last replication is gone, and that is more than its tier allows",
    "older_than_told": "the copy it started from is older than its replication job said",
    "failed_requests": "its disk gave it errors, so it may have gone read-only",
    "restarts": "it was started anew, though its node lived",
    "ha_acts": "HA acted on it, though nothing was wrong with its node",
}
