"""A run as the reports get it: two tests, six guests, one of them too slow in the rejected variant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_pveha.judge.timeline import Expectation, ProbeTimeline, Segment, TestTimeline

GUESTS = {101: "db-1", 102: "db-2", 103: "web-1", 104: "web-2", 105: "mail", 106: "registry.internal.example.org"}
TITLE = "A node that loses power is fenced, and its guests answer again from a surviving node."
PHASES = {
    "other-1": (0.0, 2.3, 4.1, 17.9, 62.0, 121.4, 131.2, 141.6, 331.0, 335.2),
    "crm-master": (0.0, 2.1, 4.0, 17.2, 122.4, 171.2, 181.5, 191.8, 380.4, 384.0),
}
NAMES = (
    ("fault", "PowerCut took effect"),
    ("membership lost", "journal pve2"),
    ("node unknown", "api"),
    ("fence", "api"),
    ("acknowledged", "journal pve2"),
    ("start", "api"),
    ("running", "process age"),
    ("application", "samples"),
    ("node back", "api"),
    ("quorum whole", "every node's view"),
)


def claim(
    subject: str, value: float | None, low: float | None, high: float | None, verdict: str, **more: Any
) -> dict[str, Any]:
    return {
        "measure": "recovery_time",
        "subject": subject,
        "value": value,
        "low": low,
        "high": high,
        "unit": "s",
        "censored": value is None,
        "objective": 240.0,
        "verdict": verdict,
        **more,
    }


def segment(start: float, end: float, answer: str) -> Segment:
    """A stretch of equal answers."""
    return Segment(start, end, answer, {"good": "connected", "bad": "no answer in 1.0 s"}.get(answer, "sampler late"))


def one_test(role: str, *, slow: str = "accepted") -> tuple[dict[str, Any], TestTimeline]:
    """A test whose guests recover one after the other; with ``slow`` the fourth is too slow, the fifth lost."""
    times = PHASES[role]
    ident = f"suites/nodes/test_power_loss.py::test_power_loss[{role}]"
    claims, probes = [], []
    for index, vmid in enumerate(GUESTS):
        back: float | None = times[7] - 8.5 + 1.7 * index
        if slow != "accepted":
            back = {3: 262.4, 4: None}.get(index, back)
        subject = f"vm:{vmid}"
        if back is None:
            claims.append(claim(subject, None, 600.0, None, "rejected"))
            seen = [segment(-9.9, 1.0, "good"), segment(1.0, 600.0, "bad")]
        else:
            claims.append(claim(subject, back, back - 1.1, back + 1.2, "rejected" if back > 240 else "accepted"))
            seen = [segment(-9.9, 1.0, "good"), segment(1.0, back, "bad"), segment(back, 390.0, "good")]
        probes.append(ProbeTimeline(f"tcp:{subject}", subject, "tcp", tuple(seen)))
    blink = (segment(-9.9, 40.5, "good"), segment(40.5, 46.5, "unknown"), segment(46.5, 390.0, "good"))
    probes.append(ProbeTimeline("node:pve3", "node:pve3", "ssh", blink))
    claims.append(claim("cluster", 0, 0, 0, "accepted", measure="collateral_resets", unit="count", objective=0))
    reason = {
        "accepted": "every claim holds: recovery_time of vm:101 is 133.1 s (132 to 134.3), objective at most 240 s",
        "rejected": "recovery_time of vm:104 is 262.4 s (261.3 to 263.6), objective at most 240 s; recovery_time of "
        "vm:105 is more than 600 s (its end was not seen), objective at most 240 s",
    }[slow]
    test = {
        "id": ident,
        "title": TITLE,
        "verdict": slow,
        "reason": reason,
        "claims": claims,
        "phases": [
            {"name": name, "start": at, "low": at - 0.4, "high": at + 0.5, "source": source}
            for (name, source), at in zip(NAMES, times, strict=True)
        ],
    }
    expectations = (
        Expectation("pve1 is fenced", 240.0, "met", "pve1 is unknown, fenced", times[4] - 0.4, times[4] + 0.5),
        Expectation("quorum is whole", 900.0, "met", "3 of 3 votes", times[9] - 0.4, times[9] + 0.5),
    )
    roles = (("master", "pve2"), ("victim", "pve1"))
    return test, TestTimeline(ident, TITLE, roles, True, tuple(probes), (), expectations)


def renamed(timeline: TestTimeline, more: str) -> TestTimeline:
    """The same timeline with ``more`` behind every name in it."""
    return replace(
        timeline,
        test=timeline.test + more,
        roles=tuple((role + more, node + more) for role, node in timeline.roles),
        probes=tuple(
            replace(
                probe,
                subject=probe.subject + more,
                segments=tuple(replace(segment, saw=segment.saw + more) for segment in probe.segments),
            )
            for probe in timeline.probes
        ),
        expectations=tuple(replace(each, condition=each.condition + more) for each in timeline.expectations),
    )


def run(*, rejected: bool = False, simulated: bool = True) -> tuple[dict[str, Any], list[TestTimeline], dict[str, Any]]:
    """verdict.json, timelines and environment.json of one run."""
    gate = {
        "id": "gate",
        "title": "The site is healthy before anything is broken",
        "verdict": "accepted",
        "reason": "all 2 readiness checks found the site ready",
        "claims": [],
        "phases": [],
    }
    ceph = {
        "id": "suites/storage/test_osd_loss.py",
        "title": "A lost OSD costs no acknowledged write.",
        "verdict": "not applicable",
        "reason": "the inventory has no ceph block",
        "claims": [],
        "phases": [],
    }
    tests = [one_test("crm-master"), one_test("other-1", slow="rejected" if rejected else "accepted")]
    verdict = "rejected" if rejected else "accepted (simulated)" if simulated else "accepted"
    return (
        {
            "schema": 1,
            "run": "7f3a90c2d1",
            "site": "sim-3node",
            "simulated": simulated,
            "started": "2026-01-02T08:00:00.000000Z",
            "finished": "2026-01-02T08:41:12.400000Z",
            "verdict": verdict,
            "scope": "one-per-role",
            "gate": {
                "verdict": "accepted",
                "checks": [
                    {
                        "id": "quorate",
                        "title": "The cluster is quorate",
                        "answer": "yes",
                        "saw": "3 of 3 votes",
                        "advice": "",
                    },
                    {
                        "id": "watchdog",
                        "title": "Every node has an armed watchdog",
                        "answer": "cant_tell",
                        "saw": "no answer from pve3",
                        "advice": "Look at systemctl status watchdog-mux on pve3.",
                    },
                ],
            },
            "not_proven": [
                {
                    "id": "suites/nodes/test_power_loss.py::test_power_loss[other-2]",
                    "reason": "not selected: left out by the scope one-per-role",
                },
            ],
            "tests": [gate, *(test for test, _ in tests), ceph],
            "requirements": [
                {
                    "id": "hard-failure",
                    "question": "The hard failure of a node is survived",
                    "verdict": "rejected" if rejected else "accepted",
                    "reason": "2 tests accepted, none worse",
                    "tests": [{"id": test["id"], "verdict": test["verdict"]} for test, _ in tests],
                },
                {
                    "id": "restore",
                    "question": "A restore is whole, and its real RTO is known",
                    "verdict": "not proven",
                    "reason": "backup/test_restore.py was not part of this run",
                    "tests": [],
                },
            ],
            "coverage": {
                "proven": 1,
                "of": 2,
                "cells": [
                    {
                        "fault": "power-cut",
                        "role": "crm-master",
                        "subject": "pve1",
                        "proven": "2025-12-01T08:00:00.000000Z",
                        "run": "0c1d2e3f",
                        "age": 2764800.0,
                        "here": None,
                    },
                    {
                        "fault": "power-cut",
                        "role": "crm-master",
                        "subject": "pve2",
                        "proven": None,
                        "run": None,
                        "age": None,
                        "here": "rejected",
                    },
                ],
                "uncounted": [{"run": "20251101T080000Z-deadbeef", "reason": "not as it was sealed"}],
            },
            "campaign": {"seed": 7, "scenarios": 2, "steps": [{"step": 1, "id": tests[0][0]["id"]}]}
            if rejected
            else None,
            "left": {
                "compared": True,
                "differences": ["HA rule pin: nodes=pve1 → absent"],
                "surroundings": ["nft tables of pve1: ip mangle → nothing"],
            },
        },
        [timeline for _, timeline in tests],
        {
            "cluster": "sim3",
            "pve": {"pve1": "9.1.9", "pve2": "9.1.9", "pve3": "9.1.9"},
            "pveha": "0.1.0",
            "operator": "Jo Fischer",
            "signer": "ha-team@example.org",
            "guests": {f"vm:{vmid}": name for vmid, name in GUESTS.items()},
        },
    )
