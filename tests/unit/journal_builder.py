"""Handmade journals: a whole accepted run, from which tests change or take away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pytest_pveha.record.journal import FIRST, Line, digest

S = 1_000_000_000
FAULT_AT = 1_000.0
"""Journal seconds at which the builder's fault takes effect, give or take half a second."""
TEST = "suites/nodes/test_power_loss.py::test_power_loss[crm-master]"


@dataclass(frozen=True)
class Entry:
    """A line before it has its place: kind, data and test."""

    kind: str
    data: dict[str, Any]
    test: str | None = None


def chained(entries: Iterable[Entry]) -> list[Line]:
    """The entries as lines of one journal, a second apart, with a true chain."""
    lines: list[Line] = []
    prev = FIRST
    for seq, entry in enumerate(entries):
        utc = f"2026-01-02T08:{seq // 60:02d}:{seq % 60:02d}.000000Z"
        line = Line(1, seq, prev, seq * S, utc, entry.kind, entry.test, dict(entry.data))
        lines.append(line)
        prev = digest(line.encode())
    return lines


def ns(seconds: float) -> int:
    """Journal nanoseconds of a moment relative to the fault."""
    return round((FAULT_AT + seconds) * S)


def run_open(**changes: Any) -> Entry:
    """The opening of a run of one test on a simulated site, as a whole."""
    data: dict[str, Any] = {
        "run": "r1",
        "site": "lab",
        "simulated": True,
        "cluster": "lab",
        "pveha": "0.1.0",
        "pve": {"pve1": "9.1.9"},
        "inventory_sha256": "0" * 64,
        "scope": "all",
        "partial": False,
        "selected": [{"id": TEST, "title": "A node that loses power is fenced"}],
        "not_selected": [],
        "not_applicable": [],
        "waived": [],
        "objectives": {},
    }
    return Entry("run.open", data | changes)


def gate(answer: str = "yes", **changes: Any) -> Entry:
    """A gate of one check."""
    check = {"id": "quorum", "title": "The cluster is quorate", "answer": answer, "saw": "3 of 3", "advice": "wait"}
    return Entry("gate", {"checks": [check | changes]})


def samples(probe: str, answer: str, first: float, last: float, **changes: Any) -> Entry:
    """Ten answers a second from ``first`` to ``last``, seconds relative to the fault, each taking 2 ms."""
    data = {
        "probe": probe,
        "subject": ":".join(probe.split(":")[1:3]),
        "answer": answer,
        "saw": {"good": "connected", "bad": "no answer"}.get(answer, "this machine: EMFILE"),
        "first": ns(first),
        "last": ns(last),
        "first_end": ns(first) + 2_000_000,
        "last_end": ns(last) + 2_000_000,
        "count": round((last - first) * 10) + 1,
        "worst_gap": S // 10,
        "worst_late": 0,
    }
    return Entry("samples", data | changes, TEST)


def seen(what: str, old: str | None, new: str, low: float, high: float, source: str = "api") -> Entry:
    """Something changed between two moments relative to the fault."""
    return Entry(
        "seen", {"what": what, "old": old, "new": new, "low": ns(low), "high": ns(high), "source": source}, TEST
    )


def fault(kind: str, **data: Any) -> Entry:
    """A line of the builder's power cut."""
    return Entry(f"fault.{kind}", {"fault": "power-cut-1", **data}, TEST)


def claim(measure: str, subject: str, op: str, objective: float | None, unit: str = "s", **params: Any) -> Entry:
    """A claim."""
    data = {"measure": measure, "subject": subject, "params": params, "op": op, "objective": objective, "unit": unit}
    return Entry("claim", data, TEST)


def accepted_run() -> list[Entry]:
    """A run in which pve1 loses power, vm:101 comes back on pve2 after 147 s, and everything is proven."""
    undo = {"verb": "power_on", "params": {"node": "pve1"}}
    return [
        run_open(),
        Entry("snapshot", {"as": "found", "site": {}}),
        gate(),
        Entry(
            "test.open",
            {
                "id": TEST,
                "title": "A node that loses power is fenced",
                "roles": {"crm-master": "pve1"},
                "expected_seconds": 600,
            },
            TEST,
        ),
        Entry("watch", {"probe": "tcp:vm:101", "subject": "vm:101", "what": "tcp", "period_ms": 1000}, TEST),
        seen("membership/pve1", None, "online", -20, -19.9),
        seen("node_status/pve1", None, "online", -20, -19.9),
        seen("service/vm:101", None, "started@pve1", -20, -19.9),
        fault("plan", type="PowerCut", params={"node": "pve1"}, undo=undo),
        fault("inject", before=ns(-2), after=ns(-1.9)),
        fault("effect", answer="yes", saw="BMC off twice, silent", low=ns(-0.5), high=ns(0.5)),
        samples("tcp:vm:101", "good", -30, -0.1),
        seen("membership/pve1", "online", "offline", 6, 7),
        seen("node_status/pve1", "online", "unknown", 16, 17),
        seen("node_status/pve1", "unknown", "fence", 66, 67),
        seen("service/vm:101", "started@pve1", "fence@pve1", 66, 67),
        seen("node_status/pve1", "fence", "unknown", 126, 127),
        seen("service/vm:101", "fence@pve1", "started@pve2", 126, 127),
        seen("process_start/vm:101@pve2", None, "started", 126.5, 128, "ps on pve2"),
        Entry(
            "expect",
            {
                "condition": "node pve1 is fenced",
                "within": 240,
                "outcome": "met",
                "saw": "yes",
                "low": ns(126),
                "high": ns(127),
            },
            TEST,
        ),
        samples("tcp:vm:101", "bad", 0.0, 147.0),
        fault("heal"),
        fault("healed", answer="yes", saw="chassis on"),
        fault("close", outcome="healed"),
        seen("membership/pve1", "offline", "online", 400, 401),
        Entry(
            "expect",
            {
                "condition": "quorum is whole from every node's view",
                "within": 900,
                "outcome": "met",
                "saw": "yes",
                "low": ns(405),
                "high": ns(406),
            },
            TEST,
        ),
        claim("recovery_time", "vm:101", "at_most", 300),
        claim("downtime", "vm:101", "at_most", 300),
        claim("not_before_death", "vm:101", "at_least", 0, node="pve1"),
        claim("collateral_resets", "cluster", "none", None, "count"),
        claim("violations", "cluster", "none", None, "count"),
        samples("tcp:vm:101", "good", 147.1, 500),
        Entry("audit", {"audit": "boot_ids", "answer": "yes", "saw": "pve2, pve3 as before"}, TEST),
        Entry("test.close", {"outcome": "passed", "error": None, "reason": ""}, TEST),
        Entry("snapshot", {"as": "left", "site": {}}),
        Entry("run.close", {"exit_reason": "finished", "not_run": []}),
    ]


def without(entries: Iterable[Entry], kind: str) -> list[Entry]:
    """The entries without those of a kind."""
    return [entry for entry in entries if entry.kind != kind]


def changed(entries: Iterable[Entry], kind: str, **changes: Any) -> list[Entry]:
    """The entries, with other data in those of a kind."""
    return replaced(entries, kind, lambda entry: Entry(kind, entry.data | changes, entry.test))


def replaced(entries: Iterable[Entry], kind: str, by: Callable[[Entry], Entry]) -> list[Entry]:
    """The entries, with those of a kind made anew."""
    return [by(entry) if entry.kind == kind else entry for entry in entries]
