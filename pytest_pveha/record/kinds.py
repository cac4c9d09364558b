"""The kinds of journal line and the fields each must carry: one table for writer, judge, tests and docs.

Times named ``low``, ``high``, ``before``, ``after``, ``first``, ``last``, ``first_end`` and ``last_end`` are monotonic
nanoseconds of the journal's own clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "run.open": frozenset({
        "run", "site", "simulated", "cluster", "pveha", "pve", "inventory_sha256", "scope", "partial", "selected",
        "not_selected", "not_applicable", "waived", "objectives",
    }),
    "snapshot": frozenset({"as", "site"}),
    "history": frozenset({"earlier", "wanted"}),
    "gate": frozenset({"checks"}),
    "test.open": frozenset({"id", "title", "roles", "expected_seconds"}),
    "watch": frozenset({"probe", "subject", "what", "period_ms"}),
    "samples": frozenset({
        "probe", "subject", "answer", "saw", "first", "last", "first_end", "last_end", "count", "worst_gap",
        "worst_late",
    }),
    "took": frozenset({"probe", "subject", "since", "until", "took"}),
    "ledger": frozenset({"guest", "event", "asked", "answered"}),
    "seen": frozenset({"what", "old", "new", "low", "high", "source"}),
    "fault.plan": frozenset({"fault", "type", "params", "undo"}),
    "fault.arm": frozenset({"fault", "nodes", "seconds", "outlives_reboot"}),
    "fault.inject": frozenset({"fault", "before", "after"}),
    "fault.effect": frozenset({"fault", "answer", "saw", "low", "high"}),
    "fault.heal": frozenset({"fault"}),
    "fault.healed": frozenset({"fault", "answer", "saw"}),
    "fault.fired": frozenset({"fault", "nodes", "low", "high"}),
    "fault.close": frozenset({"fault", "outcome"}),
    "expect": frozenset({"condition", "within", "outcome", "saw", "low", "high"}),
    "path": frozenset({
        "peer", "bmc", "answer", "saw", "before", "after", "least", "own", "own_saw", "may", "may_saw",
    }),
    "echo": frozenset({
        "source", "target", "address", "rooms", "sent", "times", "before", "after", "ring_average", "ring_longest",
        "saw",
    }),
    "backup": frozenset({"guest", "volume", "taken", "least", "most"}),
    "claim": frozenset({"measure", "subject", "params", "op", "objective", "unit"}),
    "audit": frozenset({"audit", "answer", "saw"}),
    "test.close": frozenset({"outcome", "error", "reason"}),
    "run.close": frozenset({"exit_reason", "not_run"}),
    "ask": frozenset({"step", "text", "who", "within"}),
    "answer": frozenset({"step", "answer", "user", "way", "low", "high"}),
    "note": frozenset({"text"}),
}  # fmt: skip
"""Every kind, with the fields its data must carry; more are allowed."""

CONTROL: Final = frozenset({
    "fault.plan", "fault.arm", "fault.inject", "fault.effect", "fault.heal", "fault.healed", "fault.fired",
    "fault.close", "run.open", "run.close",
})  # fmt: skip
"""Kinds that are on the disk (fsync) before the writer goes on."""


def missing(kind: str, data: Mapping[str, Any]) -> list[str]:
    """The fields that a line of this kind should carry and does not, sorted.

    The writer does not refuse for these: a run that has broken something must be able to go on to the heal.
    The judge treats what is missing as not observed.
    """
    return sorted(FIELDS.get(kind, frozenset()) - data.keys())
