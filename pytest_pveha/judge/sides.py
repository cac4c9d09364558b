"""What happened on the two sides of a cut: who was quorate, who died when, and what ran where. From the journal alone.

Method: docs/explanation/method.md, "The two sides of a cut".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge.deaths import bmc_says
from pytest_pveha.judge.durations import effect_of
from pytest_pveha.judge.facts import SECOND, Fault, Run, Seen, TestFacts, known, mapping, strings, text
from pytest_pveha.judge.measured import Measured, between, counted, seconds_up
from pytest_pveha.judge.phases import first_start

LOCK_LIFETIME: Final = 120 * SECOND
"""The survivors may take over a node's guests this long after it last renewed its lock (pve-cluster, pmxcfs)."""

FEED_AGE: Final = 10 * SECOND
"""An active LRM renews its lock and feeds its watchdog once in a round of this length (pve-ha-manager LRM.pm)."""

WARNS_AFTER: Final = (50 * SECOND, 52 * SECOND)
"""The multiplexer warns of a client that did not feed it for so long: by whole seconds, once a second
(pve-ha-manager watchdog-mux.c)."""

BLIND: Final = 25 * SECOND
"""Longer than this (ns) without an answer of a node that lives, and what it did meanwhile was not seen."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Spell:
    """A time in which something was so: from between two moments, until between two moments (mono ns)."""

    begin: Span
    end: Span

    @property
    def surely(self) -> Span:
        """Throughout this it was so; empty where the first is not before the second."""
        return self.begin[1], self.end[0]

    @property
    def possibly(self) -> Span:
        """Outside of this it was not so."""
        return self.begin[0], self.end[1]


# what each side said of its quorum


def both_quorate(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """Seconds, while the cut was in force, in which nodes of both sides called themselves quorate.

    Raises:
        Inconclusive: a node was not asked often enough before it lost quorum.
    """
    del subject
    fault, low, high = _window(test)
    del low
    sides = [strings(params.get("one")), strings(params.get("other"))]
    if not all(sides):
        raise Inconclusive("the claim names no two sides")
    spells = [[spell for node in side for spell in _quorate(test, node, fault, high)] for side in sides]
    return between(_shared(spells, surely=True), _shared(spells, surely=False))


def _window(test: TestFacts) -> tuple[Fault, int, int]:
    """The cut, from its begin until its heal."""
    fault, low, _ = effect_of(test)
    if fault.heal_at is None:
        raise Inconclusive("when the cut was undone is not on record")
    return fault, low if fault.before is None else fault.before, fault.heal_at


def _quorate(test: TestFacts, node: str, fault: Fault, until: int) -> list[Spell]:
    """When the node said yes between the cut and its heal."""
    begin = 0 if fault.before is None else fault.before
    spells = spells_of(test, f"quorate@{node}", "yes", until)
    if not _asked(test, node, begin):
        raise Inconclusive(f"{node} was not asked whether it is quorate")
    clipped = []
    for spell in spells:
        last = max(spell.begin[0], _dead_until(test, node, spell.begin[1]))
        if spell.begin[0] <= until <= spell.begin[1] and until - last <= BLIND:
            continue  # it was not so at the last look before the heal, or it was still booting then
        starts = max(begin, spell.begin[0]), max(begin, spell.begin[1])
        ends = min(until, spell.end[0]), min(until, spell.end[1])
        if ends[1] > starts[0]:
            clipped.append(Spell(starts, ends))
    return clipped


def _dead_until(test: TestFacts, node: str, moment: int) -> int:
    """The last of the unanswered questions before that moment, if the node died before it; else 0."""
    died = _death(test, node)
    silent = [
        run
        for run in inside(test, node)
        if died is not None and run.answer == "bad" and run.last >= died[1] and run.last_end <= moment
    ]
    return max((run.last for run in silent), default=0)


def _asked(test: TestFacts, node: str, begin: int) -> bool:
    return any(run.answer == "good" and run.last_end >= begin for run in inside(test, node))


def inside(test: TestFacts, node: str) -> list[Run]:
    """When the node itself was asked, and whether it answered."""
    return [run for runs in test.probes(f"node:{node}:inside").values() for run in runs]


def spells_of(test: TestFacts, what: str, value: str, until: int) -> list[Spell]:
    """When it had that value; an end that was not seen is ``until``."""
    return spells_among(test, what, {value}, until)


def spells_among(test: TestFacts, what: str, values: Collection[str], until: int) -> list[Spell]:
    """When it had one of these values."""
    found = []
    begin: Span | None = None
    for each in _changes(test, what):
        if each.new in values and begin is None:
            # at the first look it was so already, since whenever
            begin = (0, each.high) if each.old is None else (each.low, each.high)
        elif each.new not in values and begin is not None:
            found.append(Spell(begin, (each.low, each.high)))
            begin = None
    if begin is not None:
        found.append(Spell(begin, (until, until)))
    return found


def _changes(test: TestFacts, what: str) -> list[Seen]:
    return sorted((each for each in test.seen if each.what == what), key=lambda each: (each.high, each.low))


def _shared(sides: Sequence[Sequence[Spell]], *, surely: bool) -> int:
    """How long there was a spell on every side, in ns."""
    spans = [_union([spell.surely if surely else spell.possibly for spell in side]) for side in sides]
    return sum(max(0, min(a[1], b[1]) - max(a[0], b[0])) for a in spans[0] for b in spans[1])


def _union(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for begin, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


# who died, and when


def death_of(test: TestFacts, node: str) -> Span:
    """Between which moments the node died, by its silence and by the new boot id it came back with.

    Raises:
        Inconclusive: no new boot id was seen, or the silence before it was not watched.
    """
    fault, _, _ = effect_of(test)
    begin = 0 if fault.before is None else fault.before
    boots = [
        each
        for each in test.seen
        if each.what == f"boot_id/{node}" and each.old not in (None, each.new) and each.high >= begin
    ]
    if not boots:
        raise Inconclusive(f"{node} was not seen to be reset: nobody saw a new boot id of it")
    boot = min(boots, key=lambda each: each.high)
    runs = known(test.probes(f"node:{node}").get(f"node:{node}", []))
    silence: list[Run] = []
    stretch: list[Run] = []
    for run in runs:
        stretch = [*stretch, run] if run.answer == "bad" and run.last_end >= max(begin, boot.low) else []
        if run.first <= boot.high and stretch and _length(stretch) >= _length(silence):
            silence = stretch
    if not silence:
        raise Inconclusive(f"{node} was reset, and no probe saw it silent")
    before = [run for run in runs if run.answer == "good" and run.last < silence[0].first]
    last = before[-1].last if before else begin
    if silence[0].first - last > test.limit(f"node:{node}"):
        raise Inconclusive(f"{node} was not asked for {seconds_up(silence[0].first - last):.1f} s around its death")
    return max(last, begin), silence[0].first_end


def _length(stretch: Sequence[Run]) -> int:
    return stretch[-1].last_end - stretch[0].first if stretch else -1


def fence_margin(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """Seconds that were left from a cut-off node's death until its guests could be taken over; of the worst node.

    The survivors take over 120 s after its last lock renewal that they saw: that came before the cut, and at most one
    LRM round before it. Feeds that the node makes later renew nothing for them.

    Raises:
        Inconclusive: no node was to die, or the death of one was not seen.
    """
    del subject
    nodes = _dying(params)
    fault, low, high = effect_of(test)
    begin = low if fault.before is None else fault.before
    end = high if fault.after is None else fault.after
    found = {}
    for node in nodes:
        died = death_of(test, node)
        found[node] = begin - FEED_AGE + LOCK_LIFETIME - died[1], end + LOCK_LIFETIME - died[0]
    return _worst(found)


def starved_for(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """Seconds from the last feed of a node's watchdog to its death; of the node that was given the shortest time.

    The multiplexer warns 50 s after the last feed, and says so in the node's journal, which was read while it lived. A
    node that died before that was fed at most one LRM round before the cut, or later.

    Raises:
        Inconclusive: no node was to die, or the death of one was not seen.
    """
    del subject
    fault, low, _ = effect_of(test)
    begin = low if fault.before is None else fault.before
    found = {}
    for node in _dying(params):
        died = death_of(test, node)
        warned = _starving(test, node, begin, died[0])
        if warned is None:
            found[node] = 0, died[1] - (begin - FEED_AGE)
        else:
            found[node] = died[0] - warned[1] + WARNS_AFTER[0], died[1] - warned[0] + WARNS_AFTER[1]
    measured = _worst(found)
    return replace(measured, about=measured.about + bmc_says(test, sorted(found)))


def _starving(test: TestFacts, node: str, begin: int, died: int) -> Span | None:
    """When the multiplexer warned first of a client that then fed it no more."""
    told = [
        each for each in test.seen if each.what in (f"starving/{node}", f"fed/{node}") and begin <= each.low <= died
    ]
    clients: dict[str, Span] = {}
    for each in sorted(told, key=lambda seen: seen.high):
        clients.pop(each.new, None)
        if each.what.startswith("starving/"):
            clients[each.new] = each.low, each.high
    return min(clients.values(), default=None)


def _dying(params: Mapping[str, Any]) -> list[str]:
    nodes = strings(params.get("nodes"))
    if not nodes:
        raise Inconclusive("the claim names no node that was to die")
    return nodes


def _worst(found: Mapping[str, Span]) -> Measured:
    """The least of the nodes' values, and in words each node's own."""
    least = between(min(low for low, _ in found.values()), min(high for _, high in found.values()))
    told = "; ".join(f"{node} {between(*span)}" for node, span in sorted(found.items()))
    return replace(least, about=told)


def last_reset(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """Seconds from the cut to the death of the last of the nodes.

    Raises:
        Inconclusive: no node was to die, or the death of one was not seen.
    """
    del subject
    nodes = _dying(params)
    fault, low, high = effect_of(test)
    deaths = [death_of(test, node) for node in nodes]
    begin = low if fault.before is None else fault.before
    end = high if fault.after is None else fault.after
    return between(max(0, max(each[0] for each in deaths) - end), max(each[1] for each in deaths) - begin)


def time_to_quorum(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """Seconds from the death of the last of the nodes, or from the heal where none died, until all were quorate again.

    Rules go with a node that is reset, so that they may find each other before the heal.

    Raises:
        Inconclusive: a node was not seen to be quorate again.
    """
    del subject
    _, _, heal = _window(test)
    nodes = strings(params.get("nodes"))
    if not nodes:
        raise Inconclusive("the claim names no nodes")
    deaths = [span for node in nodes if (span := _death(test, node)) is not None]
    begin = max((span[0] for span in deaths), default=heal), max((span[1] for span in deaths), default=heal)
    back = [_quorate_again(test, node, begin[0]) for node in nodes]
    return between(max(0, max(low for low, _ in back) - begin[1]), max(high for _, high in back) - begin[0])


def _quorate_again(test: TestFacts, node: str, begin: int) -> Span:
    seen = _changes(test, f"quorate@{node}")[-1:]
    if not seen or (seen[0].old, seen[0].new) != ("no", "yes"):
        raise Inconclusive(f"{node} was not seen to be quorate again")
    if seen[0].high < begin and not _asked(test, node, begin):  # it found others before the last of them had died
        raise Inconclusive(f"{node} was not asked whether it stayed quorate")
    return seen[0].low, seen[0].high


def _death(test: TestFacts, node: str) -> Span | None:
    try:
        return death_of(test, node)
    except Inconclusive:
        return None


def start_after_death(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """Seconds from the observed death of the guest's node to the guest's start elsewhere.

    Raises:
        Inconclusive: the death was not seen, or since when the guest runs elsewhere was not.
    """
    home = text(mapping(params.get("homes")).get(subject))
    if not home:
        raise Inconclusive(f"on which node {subject} ran before is not on record")
    fault, low, _ = effect_of(test)
    start = first_start(test, subject, low if fault.before is None else fault.before, home)
    if start is None or start[0] is None:
        raise Inconclusive(f"where and since when {subject} runs was not seen on the nodes themselves")
    died = death_of(test, home)
    return between(start[0] - died[1], start[1] - died[0])


# what ran where


def overlaps(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many pairs of nodes ran the guest at the same time during the cut, by their own process tables.

    Pairs of which that could be, as far as was seen, are counted as possible. After the heal guests are moved back, and
    a live migration has two processes.

    Raises:
        Inconclusive: a node's processes were not looked at.
    """
    _, begin, end = _window(test)
    nodes = strings(params.get("nodes"))
    if not nodes:
        raise Inconclusive("the claim names no nodes")
    for node in nodes:
        if not _asked(test, node, begin):
            raise Inconclusive(f"nobody looked at the processes of {node}")
    ran = {node: _ran(test, subject, node, begin, end) for node in nodes}
    if not any(ran.values()):
        raise Inconclusive(f"{subject} was not seen running anywhere")
    surely = maybe = 0
    for index, one in enumerate(nodes):
        for other in nodes[index + 1 :]:
            pairs = [(a, b) for a in ran[one] for b in ran[other]]
            if any(_meet(a.surely, b.surely) for a, b in pairs):
                surely += 1
            elif any(_meet(a.possibly, b.possibly) for a, b in pairs):
                maybe += 1
    return counted(surely, surely + maybe)


def _ran(test: TestFacts, subject: str, node: str, begin: int, end: int) -> list[Spell]:
    """When the guest's process was on that node between those moments; a node's death ends it."""
    born = [each for each in test.seen if each.what == f"process_start/{subject}@{node}"]
    spells = []
    for spell in spells_of(test, f"process/{subject}@{node}", "running", end):
        if spell.end[1] < begin or spell.begin[0] >= end:
            continue
        starts = [(each.low, each.high) for each in born if each.low <= spell.begin[1] and each.high >= spell.begin[0]]
        first = max(starts, default=spell.begin)
        last = spell.end
        died = _death(test, node)
        if died is not None and last[0] <= died[1] <= last[1]:
            last = last[0], died[1]
        last = min(end, last[0]), min(end, last[1])
        spells.append(Spell((max(first[0], spell.begin[0]), min(first[1], spell.begin[1])), last))
    return spells


def _meet(one: Span, other: Span) -> bool:
    return max(one[0], other[0]) < min(one[1], other[1])


# what was not to happen at all


def fences(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many nodes the HA manager fenced since the fault, or has services waiting for it to.

    Between two looks a fence may pass, so zero counts only where the journals tell of none either.
    """
    del subject, params
    fault = test.fault()
    begin = fault.before if fault is not None and fault.before is not None else 0
    if inside(test, "api"):  # a fault that excuses such lines in the journals is watched by a witness as well
        begin = _looked(test, "api")
    fenced: set[str] = set()
    for each in test.seen:
        if each.high < begin:
            continue
        if each.what.startswith("acknowledged/") or (each.what.startswith("node_status/") and each.new == "fence"):
            fenced.add(each.what.partition("/")[2])
        if each.what.startswith("service/") and each.new.partition("@")[0] == "fence":
            fenced.add(each.new.partition("@")[2])
    answers = {text(audit.get("answer")) for audit in test.audits if text(audit.get("audit")) == "bad_news"}
    return counted(len(fenced), len(fenced) if answers == {"yes"} else None)


def membership_changes(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many nodes counted other members than before, or were missed by the cluster, since the fault."""
    del subject
    nodes = strings(params.get("nodes"))
    begin = _looked(test, *nodes)
    moved = {
        node
        for each in test.seen
        for kind, node in (("members", each.what.partition("@")[2]), ("membership", each.what.partition("/")[2]))
        if each.high >= begin and each.what.startswith(kind) and node in nodes and each.old not in (None, each.new)
    }
    return counted(len(moved), len(moved))


def quorum_losses(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many nodes said, since the fault, that they are not quorate."""
    del subject
    nodes = strings(params.get("nodes"))
    begin = _looked(test, *nodes)
    said = {each.what.partition("@")[2] for each in test.seen if each.high >= begin and _is_loss(each)}
    return counted(len(said & set(nodes)), len(said & set(nodes)))


def _is_loss(each: Seen) -> bool:
    return each.what.startswith("quorate@") and each.new == "no"


def rejoins(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How often since the fault, at the most, one of the nodes regained quorum: once is how a cut ends."""
    del subject
    nodes = strings(params.get("nodes"))
    begin = _looked(test, *nodes)
    # last seen without it since the fault: what came back before, after a short cut that was made first, is none
    regained = [each for each in test.seen if each.low >= begin and (each.old, each.new) == ("no", "yes")]
    most = max(sum(each.what == f"quorate@{node}" for each in regained) for node in nodes)
    return counted(most, most)


def arbiters_apart(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """Seconds of the cut in which the side that corosync let go on until its heal had no Ceph mon in quorum.

    Each mon is asked itself, on its node: a tiebreaker mon that both sides reach would answer for either.

    Raises:
        Inconclusive: neither side, or both, went on; or a mon of it was not asked often enough.
    """
    del subject
    fault, begin, end = _window(test)
    sides = [strings(params.get("one")), strings(params.get("other"))]
    on = [
        side
        for side in sides
        if any(end in spell.possibly for node in side for spell in _quorate(test, node, fault, end))
    ]
    if len(on) != 1:
        raise Inconclusive(f"{'both sides were' if on else 'neither side was'} seen to go on until the heal")
    mons = [node for node in strings(params.get("mons")) if node in on[0]]
    if not mons:
        raise Inconclusive(f"no mon stands on the side that went on ({', '.join(on[0])})")
    _looked(test, *(f"mon:{node}" for node in mons))
    spells = [spell for node in mons for spell in spells_of(test, f"mon@{node}", "in quorum", end)]
    whole = [Spell((begin, begin), (end, end))]
    surely, possibly = _shared([spells, whole], surely=True), _shared([spells, whole], surely=False)
    measured = between(max(0, end - begin - possibly), end - begin - surely)
    return replace(measured, about=f"{', '.join(on[0])} went on; its mons: {', '.join(mons)}")


def sides_reset(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """On how many sides of the cut a node was reset."""
    del subject
    fault, low, _ = effect_of(test)
    begin = low if fault.before is None else fault.before
    sides = [strings(params.get("one")), strings(params.get("other"))]
    for node in [node for side in sides for node in side]:
        if not _asked(test, node, begin):
            raise Inconclusive(f"{node} was not asked for its boot id")
    reset = {
        each.what.partition("/")[2]
        for each in test.seen
        if each.what.startswith("boot_id/") and each.high >= begin and each.old not in (None, each.new)
    }
    hit = sum(bool(reset & set(side)) for side in sides)
    return counted(hit, hit)


def _looked(test: TestFacts, *names: str) -> int:
    """When the fault began; Inconclusive where one of those was not asked often enough from then on to its heal."""
    fault, low, _ = effect_of(test)
    begin = low if fault.before is None else fault.before
    end = fault.heal_at
    if not names:
        raise Inconclusive("the claim names no nodes")
    for name in names:
        good = sorted((run for run in inside(test, name) if run.answer == "good"), key=lambda run: run.first)
        if not good:
            raise Inconclusive(f"{name} was not asked")
        seen = min(begin, good[0].last_end) if good[0].first <= begin else begin
        for run in good:
            gap = max(run.first - seen if run.last_end > begin else 0, run.worst_gap if run.last_end > begin else 0)
            if gap > BLIND and seen < (end or seen):
                raise Inconclusive(f"{name} was not asked for {seconds_up(gap):.1f} s while the fault was in force")
            seen = max(seen, run.last_end)
        if end is not None and end - seen > BLIND:
            raise Inconclusive(f"{name} was not asked for {seconds_up(end - seen):.1f} s before the fault was healed")
    return begin
