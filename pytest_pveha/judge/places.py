"""Where guests were while their node was away, when and how often they moved. Method: docs/explanation/method.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge import durations
from pytest_pveha.judge.facts import Fault, Seen, TestFacts, mapping, strings, text
from pytest_pveha.judge.measured import Measured, at_least, between, counted

Params = Mapping[str, Any]


def not_moved(test: TestFacts, subject: str, params: Params) -> Measured:
    """1 unless the guest surely was elsewhere before its node surely was still a member; up to 1 where that is open.

    A VM ran there by then. A container, which cannot move live, was handed over by then, and was started there since.
    """
    victim = _node(params)
    left = _left(test, victim)
    if not _seen_of(test, f"service/{subject}"):
        raise Inconclusive(f"where {subject} was nobody asked")
    reached = _handed_over if subject.startswith("ct:") else _came
    came = reached(test, subject, _begin(test), lambda node: node != victim)
    if came is None or came[0] >= left.high:
        return counted(1, 1)
    return counted(0, 0) if came[1] <= left.low else counted(0, 1)


def time_after_return(test: TestFacts, subject: str, params: Params) -> Measured:
    """From the node's return to the membership to the guest's first lasting good answer."""
    victim = _node(params)
    left = _left(test, victim)
    back = next((each for each in _changes(test, f"membership/{victim}", "online") if each.low >= left.low), None)
    if back is None:
        raise Inconclusive(f"{victim} was not seen to come back")
    found = durations.recovery(test, subject)
    low = max(0, found.low - back.high)
    return at_least(low) if found.high is None else between(low, max(0, found.high - back.low))


def time_away(test: TestFacts, subject: str, params: Params) -> Measured:
    """From the fault taking effect to the guest running elsewhere."""
    _, low, high = durations.effect_of(test)
    victim = _node(params)
    came = _came(test, subject, low, lambda node: node != victim)
    if came is None:
        raise Inconclusive(f"{subject} was not seen to run elsewhere")
    return between(max(0, came[0] - high), max(0, came[1] - low))


def time_home(test: TestFacts, subject: str, params: Params) -> Measured:
    """From the heal to the guest running on that node again."""
    home, heal = _node(params), _heal(test)
    came = _came(test, subject, heal, lambda node: node == home)
    if came is None:
        raise Inconclusive(f"{subject} was not seen to run on {home} after the heal")
    return between(max(0, came[0] - heal), max(0, came[1] - heal))


def time_to_leave(test: TestFacts, subject: str, params: Params) -> Measured:
    """From the heal until HA calls the node online."""
    del subject
    node, heal = _node(params), _heal(test)
    back = next((each for each in _changes(test, f"node_status/{node}", "online") if each.high >= heal), None)
    if back is None:
        raise Inconclusive(f"HA was not seen to call {node} online after the heal")
    return between(max(0, back.low - heal), back.high - heal)


def moves(test: TestFacts, subject: str, params: Params) -> Measured:
    """How often the service's node changed since the heal. What never changed has no line of its own: a look at the
    HA manager after the heal says as much, for it sees every service."""
    del params
    heal = _heal(test)
    if not any(each.high >= heal for what in ("node_status/", "service/") for each in _under(test, what)):
        raise Inconclusive(f"where {subject} was after the heal nobody asked")
    seen = _seen_of(test, f"service/{subject}")
    nodes = [each.new.partition("@")[2] for each in seen if each.high < heal][-1:]
    nodes += [each.new.partition("@")[2] for each in seen if each.high >= heal]
    count = sum(before != after for before, after in pairwise(nodes))
    return counted(count, count)


def misplaced(test: TestFacts, subject: str, params: Params) -> Measured:
    """0 where the guest is at last on one of its homes, or never moved after the heal if it has none; else 1."""
    homes = strings(mapping(params.get("homes")).get(subject))
    if not homes:
        left = int(moves(test, subject, params).low > 0)
        return counted(left, left)
    seen = _seen_of(test, f"service/{subject}")
    if not seen:
        raise Inconclusive(f"where {subject} was nobody asked")
    wrong = int(seen[-1].new.partition("@")[2] not in homes)
    return counted(wrong, wrong)


def parted(test: TestFacts, subject: str, params: Params) -> Measured:
    """How many of the groups of guests that are kept on one node were, at last, on several.

    One that never moved has no line of its own: it is where the others of its group came from.
    """
    del subject
    groups = [strings(each) for each in params.get("together") or ()]
    if not groups:
        return counted(0, 0)
    heal, count = _heal(test), 0
    if not any(each.high >= heal for what in ("node_status/", "service/") for each in _under(test, what)):
        raise Inconclusive("where the guests were after the heal nobody asked")
    for group in groups:
        rows = [seen for sid in group if (seen := _seen_of(test, f"service/{sid}"))]
        places = {seen[-1].new.partition("@")[2] for seen in rows}
        if rows and len(rows) < len(group):
            places |= {(seen[0].old or "").partition("@")[2] for seen in rows}
            if "" in places:
                raise Inconclusive(f"where {' and '.join(group)} were nobody asked")
        count += len(places) > 1
    return counted(count, count)


def _came(test: TestFacts, subject: str, begin: int, fits: Callable[[str], bool]) -> tuple[int, int] | None:
    """Between which moments the guest first was on such a node: HA calls it started there, and its process was seen.

    A process alone is not enough: while a VM moves live, one waits at the other end.
    """
    for row in _seen_of(test, f"service/{subject}"):
        state, _, node = row.new.partition("@")
        if row.old is None or row.high < begin or state != "started" or not fits(node):
            continue
        there = [each for each in _seen_of(test, f"process_start/{subject}@{node}") if each.high >= begin]
        if there:
            first = there[0]
            return max(row.low, first.low), max(row.high, first.high)
    return None


def _handed_over(test: TestFacts, subject: str, begin: int, fits: Callable[[str], bool]) -> tuple[int, int] | None:
    """Between which moments HA first called the guest started on such a node, if its process was seen there then."""
    for row in _seen_of(test, f"service/{subject}"):
        state, _, node = row.new.partition("@")
        if row.old is None or row.high < begin or state != "started" or not fits(node):
            continue
        if any(each.high >= row.low for each in _seen_of(test, f"process_start/{subject}@{node}")):
            return row.low, row.high
    return None


def _node(params: Params) -> str:
    if not (node := text(params.get("node"))):
        raise Inconclusive("the claim names no node")
    return node


def _fault(test: TestFacts) -> Fault:
    fault = test.fault()
    if fault is None:
        raise Inconclusive("the test broke nothing, so there is nothing to measure from")
    return fault


def _begin(test: TestFacts) -> int:
    begin = _fault(test).before
    if begin is None:
        raise Inconclusive("the fault was not injected, so there is nothing to measure from")
    return begin


def _heal(test: TestFacts) -> int:
    heal = _fault(test).heal_at
    if heal is None:
        raise Inconclusive("the fault was not healed, so there is nothing to measure from")
    return heal


def _seen_of(test: TestFacts, what: str) -> list[Seen]:
    return [each for each in _under(test, what) if each.what == what]


def _under(test: TestFacts, prefix: str) -> list[Seen]:
    """What was seen of these until the test claimed something: later guests move because we put them back."""
    end = test.claimed_at
    found = (each for each in test.seen if each.what.startswith(prefix) and (end is None or each.high <= end))
    return sorted(found, key=lambda each: (each.high, each.low))


def _changes(test: TestFacts, what: str, new: str) -> list[Seen]:
    return [each for each in _seen_of(test, what) if each.old is not None and each.new == new]


def _left(test: TestFacts, node: str) -> Seen:
    begin = _begin(test)
    left = next((each for each in _changes(test, f"membership/{node}", "offline") if each.high >= begin), None)
    if left is None:
        raise Inconclusive(f"{node} was not seen to leave")
    return left


MEASURES: Final[Mapping[str, Callable[[TestFacts, str, Params], Measured]]] = {
    "not_moved": not_moved,
    "time_after_return": time_after_return,
    "time_away": time_away,
    "time_home": time_home,
    "time_to_leave": time_to_leave,
    "moves": moves,
    "misplaced": misplaced,
    "parted": parted,
}

CAUSES: Final[Mapping[str, str]] = {
    "not_moved": "not met by policy {policy}, it did not move before its node went down",
    "time_after_return": "its node was back, and its application answered too late",
    "time_away": "its node was not emptied in time",
    "time_home": "it came home too late",
    "time_to_leave": "maintenance was over, and HA kept the node in it",
    "moves": "it went to and fro",
    "misplaced": "it is not where its HA rule wants it",
    "parted": "guests that an HA rule keeps on one node are on several",
}
