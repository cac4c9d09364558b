"""What really happened in a run's outages, from the site's own record, against what the run reported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from whole_run import Outcome

SECOND = 1_000_000_000


@dataclass(frozen=True)
class Reported:
    """One duration that a run reported, and how long it really was."""

    seed: int
    role: str
    measure: str
    subject: str
    low: float
    high: float | None
    truth: float

    @property
    def contained(self) -> bool:
        """Whether the truth lies within the stated bounds."""
        return self.high is not None and self.low <= self.truth <= self.high


def reported(outcome: Outcome, seed: int) -> list[Reported]:
    """Every recovery time and downtime that was claimed, with its truth."""
    found = []
    for test in outcome.verdict["tests"]:
        victim, begin, end = incident(outcome, test["id"])
        if victim is None:
            continue
        for claim in test["claims"]:
            if claim["measure"] in ("recovery_time", "downtime"):
                truth = away(outcome.truth, claim["subject"], victim, begin, end)
                role = test["id"].rpartition("[")[2].rstrip("]")
                found.append(
                    Reported(seed, role, claim["measure"], claim["subject"], claim["low"], claim["high"], truth)
                )
    return found


def incident(outcome: Outcome, test: str) -> tuple[str | None, int, int]:
    """The node that test's fault was aimed at, and from when to when (site time) the test was under way."""
    lines = [line for line in outcome.journal if line.test == test]
    victim = next((line.data["params"]["node"] for line in lines if line.kind == "fault.plan"), None)
    return victim, *((lines[0].mono, lines[-1].mono) if lines else (0, 0))


def away(truth: list[dict[str, Any]], subject: str, victim: str, begin: int, end: int) -> float:
    """Seconds from the victim's death until the guest's application answered for the first time again."""
    died = next(
        each["at"] for each in truth if each["kind"] == "dead" and each["node"] == victim and each["at"] > begin
    )
    number = int(subject.partition(":")[2])
    answers = [each["at"] for each in truth if each["kind"] == "guest_answers" and each["vmid"] == number]
    back = min(at for at in answers if died < at < end)
    return float((back - died) / SECOND)


def running(outcome: Outcome, role: str) -> float:
    """Seconds from the fault to the guests' processes running elsewhere, as reported in the phases."""
    (phase,) = (phase for phase in outcome.test(role)["phases"] if phase["name"] == "running")
    return float(phase["start"])
