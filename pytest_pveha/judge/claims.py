"""Claims held against what was measured. Each measure is a function of the test's facts alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge import (
    ceph,
    deaths,
    durations,
    echoes,
    paths,
    places,
    restores,
    sides,
    slowness,
    steps,
    storage,
    turns,
    writes,
)
from pytest_pveha.judge.facts import SECOND, TestFacts, known, mapping, real, strings, text
from pytest_pveha.judge.measured import Comparison, Measured, compare, counted, seconds_down, seconds_up
from pytest_pveha.judge.phases import first_start

MUX_TIMEOUT: Final = 60 * SECOND
"""watchdog-mux stops feeding the hardware this long after a client's last update (pve-ha-manager watchdog-mux.c)."""
HARDWARE_TIMEOUT: Final = 10 * SECOND
"""The hardware watchdog resets the node this long after the mux stops feeding (pve-ha-manager watchdog-mux.c)."""
LRM_ROUND: Final = 10 * SECOND
"""An active LRM feeds its watchdog at least once in a round of this length (pve-ha-manager LRM.pm)."""

DIES_AT_EFFECT: Final = frozenset({"PowerCut", "PowerCutByPeer", "MainsCut", "CordPulled", "KernelCrash"})
"""Faults whose victim feeds no watchdog any more once they have taken effect."""

UNWATCHED: Final = "unwatched"
"""The parameter by which a claim says why the site has nothing that could be measured: it is listed, and decides
nothing."""

RESET_AUDITS: Final = ("boot_ids", "collateral_resets")
"""Audits that compare every other node's boot_id with the one it had when found."""


@dataclass(frozen=True, slots=True)
class ClaimVerdict:
    """One claim, what was measured for it, and how it stands."""

    measure: str
    subject: str
    measured: Measured | None
    unit: str
    op: str
    objective: float | None
    verdict: Comparison
    reason: str

    def to_json(self) -> dict[str, Any]:
        """The claim as verdict.json has it."""
        measured = self.measured
        return {
            "measure": self.measure,
            "subject": self.subject,
            "value": None if measured is None else measured.value,
            "low": None if measured is None else measured.low,
            "high": None if measured is None else measured.high,
            "unit": self.unit,
            "censored": measured is not None and measured.censored,
            "op": self.op,
            "objective": self.objective,
            "verdict": self.verdict,
        }


CAUSES: Final[Mapping[str, str]] = {
    "not_before_death": "it was started elsewhere before its dead node's watchdog could have fired, so both could run",
    "collateral_resets": "a node that was not meant to die was reset",
    "recovery_time": "its application answered too late",
    "recovery_in_turn": "its application answered too late: it was recovered, and had to wait for its turn to start",
    "downtime": "its application was away too long",
    "start_after_death": "it was started elsewhere while its node still lived",
    "fence_margin": "a node that was cut off died too close to the moment at which others take over its guests",
    "overlaps": "it ran on two nodes at the same time",
    "both_quorate": "both sides of the cut called themselves quorate for longer than a membership takes",
    "arbiters_apart": "corosync and Ceph chose different rooms: guests ran, for so long, where they had no data",
    "sides_reset": "nodes were reset on both sides of the cut",
    "rejoins": "a node came back and was lost again",
    "last_reset": "a node without quorum went on for too long",
    "starved_for": "a node was reset sooner than its watchdog allows, by something that does not wait for quorum",
    "time_to_quorum": "the nodes were reset, or could hear each other again, and were without quorum for too long",
    "fences": "a node was fenced that was not to be",
    "membership_changes": "the cluster lost members that it was to keep",
    "quorum_losses": "nodes lost quorum that were to keep it",
    "unconfirmed_steps": "the runbook was not followed to its end",
    "power_spread": "the nodes did not lose power at once, so it was no loss of a room",
    "reset_after": "its watchdog was later than it may be, and what guests do meanwhile nobody guards",
    "reset_after_last_feed": "its watchdog was later than it may be, and what guests do meanwhile nobody guards",
    "half_alive": "a guest was started elsewhere while its old node still lived, so it may have run twice",
    **places.CAUSES,
    **echoes.CAUSES,
    **writes.CAUSES,
    **slowness.CAUSES,
    **storage.CAUSES,
    **ceph.CAUSES,
    "fence_path_time": "a node that must be fenced is not fenced in time from there",
    "restore_time": "whoever needs this guest back waits too long",
    "backup_age": "what was done since is lost if this guest must be restored",
    "broken_paths": "from there that node could not be fenced",
    "wrong_machines": "fencing from there would hit another machine",
}
"""What a missed claim says of the site, for whoever is called at night."""


REMARKS: Final[Mapping[str, Callable[[TestFacts, Mapping[str, Any]], str]]] = {
    "reset_after": deaths.which_watchdog,
    "reset_after_last_feed": deaths.which_watchdog,
}
"""What belongs to a measured value without being part of it, for the claim's reason."""


def evaluate(test: TestFacts, claim: Mapping[str, Any]) -> ClaimVerdict:
    """The claim judged; what cannot be measured is inconclusive, with the reason. Never raises."""
    measure, subject = text(claim.get("measure")), text(claim.get("subject"))
    op, objective = text(claim.get("op")), real(claim.get("objective"))
    named = f"{measure or 'a claim'} of {subject}" if subject else measure or "a claim"
    measured: Measured | None = None
    if nobody := text(mapping(claim.get("params")).get(UNWATCHED)):
        return ClaimVerdict(measure, subject, None, text(claim.get("unit")), op, objective, "not proven", nobody)
    try:
        if measure not in MEASURES:
            raise Inconclusive(f"{measure!r} is no measure this version knows")
        measured = MEASURES[measure](test, subject, mapping(claim.get("params")))
    except Inconclusive as error:
        verdict: Comparison = "inconclusive"
        reason = f"{named} could not be measured: {error}"
    else:
        verdict, against = compare(measured, op, objective)
        reason = f"{named} is {measured}, {against}"
        if measure in REMARKS:
            reason += f" ({REMARKS[measure](test, mapping(claim.get('params')))})"
        if verdict == "rejected" and measure in CAUSES:
            reason += f": {CAUSES[measure].format_map({'policy': '?', **mapping(claim.get('params'))})}"
        if measured.about:
            reason += f" ({measured.about})"
    return ClaimVerdict(
        measure=measure,
        subject=subject,
        measured=measured,
        unit=text(claim.get("unit")) if measured is None else measured.unit,
        op=op,
        objective=0 if op == "none" and objective is None else objective,
        verdict=verdict,
        reason=reason,
    )


def _recovery_time(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    del params
    return durations.recovery_time(test, subject)


def _downtime(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    del params
    return durations.downtime(test, subject)


def _not_before_death(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """Seconds between the moment by which the victim must be dead by its own watchdog and the guest's new start.

    The survivors cannot see a death; they may start the guest only when the victim's watchdog has surely reset it:
    60 s + 10 s after its last feed. The last feed came at most one LRM round before the fault took effect.
    """
    fault, low, high = durations.effect_of(test)
    if fault.type not in DIES_AT_EFFECT:
        raise Inconclusive(f"when the victim of a {fault.type} fed its watchdog last is not known")
    victim = text(params.get("node")) or fault.node
    if not victim:
        raise Inconclusive("the claim names no node that died")
    dead_low = low - LRM_ROUND + MUX_TIMEOUT + HARDWARE_TIMEOUT
    dead_high = high + MUX_TIMEOUT + HARDWARE_TIMEOUT
    begin = low if fault.before is None else fault.before
    start_low, start_high = _new_start(test, subject, begin, victim)
    if start_low is None:
        if start_high < dead_low:
            return Measured(None, seconds_down(low - dead_high), seconds_up(start_high - dead_low), "s")
        raise Inconclusive(f"where and since when {subject} runs was not seen on the nodes themselves")
    margin_low, margin_high = start_low - dead_high, start_high - dead_low
    middle = seconds_down((margin_low + margin_high) // 2)
    return Measured(middle, seconds_down(margin_low), seconds_up(margin_high), "s")


def _new_start(test: TestFacts, subject: str, begin: int, victim: str) -> tuple[int | None, int]:
    """Between which moments the guest first ran elsewhere. An answer proves that it ran, not since when."""
    start = first_start(test, subject, begin, victim)
    answered = _first_answer(test, subject, begin)
    if start is None and answered is None:
        raise Inconclusive(f"{subject} was not seen running elsewhere")
    highs = [each for each in (None if start is None else start[1], answered) if each is not None]
    low = None if start is None else start[0]
    high = min(highs)
    return (low if low is not None and low <= high else None), high


def _first_answer(test: TestFacts, subject: str, begin: int) -> int | None:
    """The end of the first good answer after the first bad one since the fault."""
    ends = []
    for runs in test.probes(subject).values():
        away = False
        for run in known(runs):
            away = away or (run.answer == "bad" and run.last >= begin)
            if away and run.answer == "good":
                ends.append(run.first_end)
                break
    return min(ends, default=None)


def _collateral_resets(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many nodes besides the victims have another boot_id than before."""
    del subject
    victims = {node for fault in test.faults if (node := fault.node)} | set(strings(params.get("except")))
    reset = {
        name
        for seen in test.seen
        for kind, _, name in [seen.what.partition("/")]
        if kind == "boot_id" and name not in victims and seen.old is not None and seen.old != seen.new
    }
    answers = {text(audit.get("answer")) for audit in test.audits if text(audit.get("audit")) in RESET_AUDITS}
    if not reset and not answers:
        raise Inconclusive("nobody compared the other nodes' boot_ids with those they had before")
    if not reset and "no" in answers:
        return counted(1, None)
    complete = answers == {"yes"} or (reset and answers == {"no"})
    return counted(len(reset), len(reset) if complete else None)


def _violations(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many audits found harm; those that could not tell, or are missing, may have."""
    del subject
    wanted = strings(params.get("audits"))
    audits = [audit for audit in test.audits if not wanted or text(audit.get("audit")) in wanted]
    names = {text(audit.get("audit")) for audit in audits}
    if not audits:
        raise Inconclusive("no audit was made")
    harm = sum(audit.get("answer") == "no" for audit in audits)
    open_questions = sum(audit.get("answer") not in ("yes", "no") for audit in audits) + len(set(wanted) - names)
    return counted(harm, harm + open_questions)


MEASURES: Final[Mapping[str, Callable[[TestFacts, str, Mapping[str, Any]], Measured]]] = {
    "recovery_time": _recovery_time,
    "downtime": _downtime,
    "recovery_in_turn": turns.recovery_in_turn,
    "not_before_death": _not_before_death,
    "collateral_resets": _collateral_resets,
    "reset_after": deaths.reset_after,
    "reset_after_last_feed": deaths.reset_after_last_feed,
    "half_alive": deaths.half_alive,
    "power_spread": deaths.power_spread,
    "unconfirmed_steps": steps.unconfirmed,
    "violations": _violations,
    "both_quorate": sides.both_quorate,
    "arbiters_apart": sides.arbiters_apart,
    "fence_margin": sides.fence_margin,
    "fences": sides.fences,
    "membership_changes": sides.membership_changes,
    "overlaps": sides.overlaps,
    "quorum_losses": sides.quorum_losses,
    "rejoins": sides.rejoins,
    "last_reset": sides.last_reset,
    "sides_reset": sides.sides_reset,
    "start_after_death": sides.start_after_death,
    "starved_for": sides.starved_for,
    "time_to_quorum": sides.time_to_quorum,
    **places.MEASURES,
    **echoes.MEASURES,
    **writes.MEASURES,
    **slowness.MEASURES,
    "restore_time": restores.restore_time,
    "backup_age": restores.backup_age,
    **storage.MEASURES,
    **ceph.MEASURES,
    "fence_path_time": paths.slowest,
    "broken_paths": paths.broken,
    "wrong_machines": paths.strangers,
}
"""Every measure by its name in the claim."""
