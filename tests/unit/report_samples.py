"""A run as the reports get it: two tests, six guests, one of them too slow in the rejected variant."""

from __future__ import annotations

from typing import Any

from pytest_pveha.report.timeline import ProbeLane, Segment, TestTimeline

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
    subject: str, value: float | None, low: float, high: float | None, verdict: str, **more: Any
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
        "op": "at_most",
        **more,
    }


def one_test(role: str, *, slow: str = "accepted") -> tuple[dict[str, Any], TestTimeline]:
    """A test whose guests recover one after the other; with ``slow`` the fourth is too slow, the fifth lost."""
    times = PHASES[role]
    ident = f"suites/nodes/test_power_loss.py::test_power_loss[{role}]"
    claims, lanes = [], []
    for index, vmid in enumerate(GUESTS):
        back: float | None = times[7] - 8.5 + 1.7 * index
        if slow != "accepted":
            back = {3: 262.4, 4: None}.get(index, back)
        subject = f"vm:{vmid}"
        if back is None:
            claims.append(claim(subject, None, 600.0, None, "rejected"))
            last = (Segment(-9.9, 0.9, "good"), Segment(1.0, 600.0, "bad"))
        else:
            claims.append(claim(subject, back, back - 1.1, back + 1.2, "rejected" if back > 240 else "accepted"))
            last = (Segment(-9.9, 0.9, "good"), Segment(1.0, back - 0.1, "bad"), Segment(back, 390.0, "good"))
        lanes.append(ProbeLane(f"tcp:vm:{vmid}", subject, last))
    lanes.append(
        ProbeLane(
            "node:pve3",
            "node:pve3",
            (Segment(-9.9, 40.0, "good"), Segment(40.5, 46.0, "unknown"), Segment(46.5, 390.0, "good")),
        )
    )
    claims.append(claim("other nodes", 0, 0, 0, "accepted", measure="reboots_of_others", unit="count", objective=0))
    reason = {
        "accepted": "all 7 claims met their objectives",
        "rejected": "recovery time of db-2… was more than 600.0 s, objective at most 240 s (and 1 more)",
    }[slow]
    return (
        {
            "id": ident,
            "title": TITLE,
            "verdict": slow,
            "reason": reason,
            "claims": claims,
            "roles": {"victim": "pve1", "master": "pve2"},
            "phases": [
                {"name": name, "start": at, "low": at - 0.4, "high": at + 0.5, "source": source}
                for (name, source), at in zip(NAMES, times, strict=True)
            ],
        },
        TestTimeline(ident, tuple(lanes)),
    )


def run(
    *, rejected: bool = False, simulated: bool = True
) -> tuple[dict[str, Any], dict[str, TestTimeline], dict[str, Any]]:
    """verdict.json, timelines and environment.json of one run."""
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
                    "reason": "left out by the scope one-per-role",
                },
                {"id": "suites/storage/test_osd_loss.py", "reason": "not applicable: the inventory has no ceph block"},
            ],
            "tests": [test for test, _ in tests],
        },
        {timeline.test: timeline for _, timeline in tests},
        {
            "cluster": "sim3",
            "pve": {"pve1": "9.1.9", "pve2": "9.1.9", "pve3": "9.1.9"},
            "pveha": "0.1.0",
            "operator": "Jo Fischer",
            "signer": "ha-team@example.org",
            "guests": {f"vm:{vmid}": name for vmid, name in GUESTS.items()},
        },
    )
