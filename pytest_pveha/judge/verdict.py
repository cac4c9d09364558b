"""Journal in, verdict out: pure, deterministic, total.

The rules are a table in docs/explanation/method.md, "Verdicts". Whatever a journal lacks makes its verdict worse, never
better: nothing is accepted that was not seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pytest_pveha.judge.claims import ClaimVerdict, evaluate
from pytest_pveha.judge.coverage import Coverage, coverage
from pytest_pveha.judge.facts import (
    SECOND,
    Facts,
    Fault,
    Fired,
    TestFacts,
    dicts,
    gather,
    integer,
    mapping,
    real,
    strings,
    text,
)
from pytest_pveha.judge.phases import Phase, phases
from pytest_pveha.judge.requirements import Answered, answers
from pytest_pveha.judge.spent import Spent, spent
from pytest_pveha.record.journal import Line

SCHEMA: Final = 1

WORST_FIRST: Final = ("dirty", "rejected", "invalid", "inconclusive", "not proven", "accepted")
UNCOUNTED: Final = ("not applicable", "waived")

GATE: Final = "gate"
RUN: Final = "run"
"""Id under which verdict.json says what kept the run as a whole from being proven."""

NOT_THERE: Final = "not_there"
"""The answer to what is about Proxmox, on a site that has none: not proven, and said so; it decides nothing."""

Finding = tuple[str, str]
"""A verdict and, in one sentence, why."""

_BY_ERROR: Final = {
    "HealFailed": "dirty",
    "NotMet": "rejected",
    "HarmSeen": "rejected",
    "AssertionError": "rejected",
    "Failed": "rejected",
    "NoEffect": "invalid",
    "WrongMachine": "invalid",
    "DeadManFired": "invalid",
    "PreflightRefused": "not proven",
    "UnsafeTarget": "not proven",
    "SiteDirty": "not proven",
    "SiteBusy": "not proven",
    "StopAsked": "not proven",
    "UsageError": "not proven",
    "InventoryError": "not proven",
    "Skipped": "not proven",
    "Interrupted": "not proven",
    "KeyboardInterrupt": "not proven",
}
"""What the class of a test's error says of its verdict; any other means that we could not tell."""

_SCOPE: Final = "not applicable: "
"""How a skip begins whose test is out of the site's scope, as is seen only on the live site."""

_ACTS: Final = 300 * SECOND
"""How long what a node does by itself may take (ns): it asks a BMC three times, each of which may be patient."""

_NOT_RUN: Final = ("Skipped", "Interrupted", "KeyboardInterrupt")


@dataclass(frozen=True, slots=True)
class TestVerdict:
    """One test's verdict, with one sentence that names the cause."""

    __test__ = False

    id: str
    title: str
    verdict: str
    reason: str
    claims: tuple[ClaimVerdict, ...] = ()
    phases: tuple[Phase, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The test as verdict.json has it."""
        return {
            "id": self.id,
            "title": self.title,
            "verdict": self.verdict,
            "reason": self.reason,
            "claims": [claim.to_json() for claim in self.claims],
            "phases": [
                {"name": each.name, "start": each.start, "low": each.low, "high": each.high, "source": each.source}
                for each in self.phases
            ],
        }


@dataclass(frozen=True, slots=True)
class Left:
    """How the site was left, against how it was found. It decides nothing: what must be so again is waited for."""

    compared: bool
    differences: tuple[str, ...] = ()
    surroundings: tuple[str, ...] = ()
    """What else had changed on the nodes, which need not be our doing."""

    def to_json(self) -> dict[str, Any]:
        """The comparison as verdict.json has it."""
        return {
            "compared": self.compared,
            "differences": list(self.differences),
            "surroundings": list(self.surroundings),
        }


@dataclass(frozen=True, slots=True)
class Approval:
    """The second signature that armed the run, as it was checked then."""

    approved_by: str
    key: str
    """The key's fingerprint."""
    plan_digest: str

    def to_json(self) -> dict[str, str]:
        """The approval as verdict.json has it."""
        return {"approved_by": self.approved_by, "key": self.key, "plan_digest": self.plan_digest}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run proved."""

    run: str
    site: str
    simulated: bool
    started: str | None
    finished: str | None
    verdict: str
    scope: str
    gate: str
    checks: tuple[dict[str, Any], ...]
    not_proven: tuple[tuple[str, str], ...]
    tests: tuple[TestVerdict, ...]
    left: Left
    spent: Spent | None = None
    campaign: dict[str, Any] | None = None
    """Seed and steps, where the tests were drawn at random."""
    approval: Approval | None = None
    requirements: tuple[Answered, ...] = ()
    """What the site's owner asks, each with this run's answer."""
    coverage: Coverage = field(default_factory=Coverage)
    """What was ever proven of which node and guest, as this run leaves it."""

    def to_json(self) -> dict[str, Any]:
        """verdict.json, schema 1."""
        return {
            "schema": SCHEMA,
            "run": self.run,
            "site": self.site,
            "simulated": self.simulated,
            "started": self.started,
            "finished": self.finished,
            "verdict": self.verdict,
            "scope": self.scope,
            "gate": {"verdict": self.gate, "checks": list(self.checks)},
            "not_proven": [{"id": name, "reason": reason} for name, reason in self.not_proven],
            "tests": [test.to_json() for test in self.tests],
            "requirements": [each.to_json() for each in self.requirements],
            "coverage": self.coverage.to_json(),
            "left": self.left.to_json(),
            "time": None if self.spent is None else self.spent.to_json(),
            "campaign": self.campaign,
            "approval": None if self.approval is None else self.approval.to_json(),
        }

    @property
    def exit_code(self) -> int:
        """The run's exit code."""
        return exit_code(self.verdict)


def dump(verdict: Verdict) -> bytes:
    """The bytes of verdict.json: the same for the same journal, always."""
    content = json.dumps(verdict.to_json(), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return content.encode("utf-8", "replace") + b"\n"


def exit_code(verdict: str) -> int:
    """0 accepted, 1 rejected, 7 dirty, 6 anything else: not proven one way or the other."""
    if verdict == "accepted" or verdict.startswith("accepted ("):
        return 0
    return {"rejected": 1, "dirty": 7}.get(verdict, 6)


def judge(lines: Sequence[Line]) -> Verdict:
    """The verdict of these lines. Never raises, whatever the data of the lines."""
    facts = gather(lines)
    opened = {} if facts.open is None else facts.open.data
    gate, checks = _gate(facts)
    tests = _tests(facts, gate, checks)
    overall = _overall(facts, tests)
    counted = [test.verdict for test in tests if test.verdict not in UNCOUNTED]
    worst = min([*counted, *(verdict for verdict, _ in overall)], key=WORST_FIRST.index, default="not proven")
    left_out = [
        (text(each.get("id")), f"not selected: {text(each.get('reason')) or 'the person who ran it left it out'}")
        for each in dicts(opened.get("not_selected"))
    ]
    unwatched = {
        claim.measure: claim.reason for test in tests for claim in test.claims if claim.verdict == "not proven"
    }
    not_proven = [
        *((RUN, reason) for _, reason in overall),
        *((test.id, test.reason) for test in tests if test.verdict == "not proven"),
        *unwatched.items(),
        *_not_there(facts),
        *left_out,
    ]
    return Verdict(
        run=text(opened.get("run")),
        site=text(opened.get("site")),
        simulated=opened.get("simulated") is not False,
        started=None if facts.first is None else facts.first.utc,
        finished=None if facts.last is None else (facts.close or facts.last).utc,
        verdict=_spelled(worst, partial=bool(opened.get("partial") or left_out), opened=opened),
        scope=text(opened.get("scope")),
        gate=gate,
        checks=tuple(checks),
        not_proven=tuple(not_proven),
        tests=tuple(tests),
        left=_left(facts.left),
        spent=spent(facts),
        approval=_approval(opened.get("approval")),
        campaign=_campaign(opened.get("campaign")),
        requirements=answers(tests, facts, WORST_FIRST),
        coverage=coverage(tests, facts, WORST_FIRST),
    )


def _not_there(facts: Facts) -> list[tuple[str, str]]:
    """What was to be checked or waited for and is about what the site does not have, each once."""
    absent = [check for check in facts.gates if check.get("answer") == NOT_THERE]
    checks = [(text(each.get("title")), text(each.get("saw"))) for each in absent]
    waits = [
        (text(each.get("condition")), text(each.get("saw")))
        for test in facts.tests.values()
        for each in test.expects
        if each.get("outcome") == NOT_THERE
    ]
    return list(dict.fromkeys([*checks, *waits]))


def _approval(said: Any) -> Approval | None:
    """What the opening line says of it; half of it is none."""
    found = [text(mapping(said).get(key)) for key in ("approved_by", "key", "plan_digest")]
    return Approval(*found) if all(found) else None


def _campaign(said: Any) -> dict[str, Any] | None:
    """The draw as it was written down; None where there was none."""
    seed, scenarios = integer(mapping(said).get("seed")), integer(mapping(said).get("scenarios"))
    if seed is None or scenarios is None:
        return None
    steps = [{"step": integer(row.get("step")), "id": text(row.get("id"))} for row in dicts(mapping(said).get("steps"))]
    return {"seed": seed, "scenarios": scenarios, "steps": [row for row in steps if row["step"] is not None]}


def _left(data: dict[str, Any] | None) -> Left:
    if data is None or not isinstance(data.get("differences"), list):
        return Left(compared=False)
    return Left(True, tuple(strings(data["differences"])), tuple(strings(data.get("surroundings"))))


def _spelled(worst: str, *, partial: bool, opened: dict[str, Any]) -> str:
    if worst != "accepted":
        return worst
    words = ["partial"] * partial + ["simulated"] * (opened.get("simulated") is not False)
    words += ["without Proxmox"] * (opened.get("proxmox") is False)
    return f"accepted ({', '.join(words)})" if words else "accepted"


def _overall(facts: Facts, tests: Sequence[TestVerdict]) -> list[Finding]:
    """What keeps the run as a whole from being accepted."""
    found = []
    if facts.open is None:
        found.append(("not proven", "the journal does not begin with the opening of a run: nothing says what it is of"))
    if facts.close is None:
        found.append(("not proven", "the run was cut off: it was never closed, so what it still had to do is missing"))
    elif (how := text(facts.close.data.get("exit_reason"))) != "finished":
        found.append(("not proven", f"the run did not finish: {how or 'nobody knows why'}"))
    if not any(test.id != GATE and test.verdict not in UNCOUNTED for test in tests):
        found.append(("not proven", "no test was judged: an empty run proves nothing"))
    for fault in facts.faults:
        if fault.test is None:
            found += _heal_findings(fault)
    return found


# the gate


def _gate(facts: Facts) -> tuple[str, list[dict[str, Any]]]:
    checks = facts.gates
    if not checks:
        return ("not proven" if facts.faults else "not applicable"), []
    answers = {text(check.get("answer")) for check in checks}
    if "no" in answers:
        return "rejected", checks
    return ("accepted" if answers - {NOT_THERE} == {"yes"} else "inconclusive"), checks


def _gate_reason(verdict: str, checks: Sequence[dict[str, Any]]) -> str:
    if verdict == "not proven":
        return "faults were planned though nobody had checked that the site was healthy"
    if verdict == "accepted":
        asked = sum(check.get("answer") == "yes" for check in checks)
        rest = f"; {len(checks) - asked} are about what it does not have" if asked < len(checks) else ""
        return f"all {asked} readiness checks found the site ready{rest}"
    told = []
    for check in checks:
        if check.get("answer") == "yes" or (verdict == "rejected" and check.get("answer") != "no"):
            continue
        name = text(check.get("title")) or text(check.get("id")) or "a check"
        saw, advice = text(check.get("saw")), text(check.get("advice"))
        told.append(name + (f": {saw}" if saw else "") + (f" ({advice})" if advice else ""))
    start = "the site is not ready" if verdict == "rejected" else "whether the site is ready could not be told"
    return f"{start}: {'; '.join(told)}"


# tests


def _tests(facts: Facts, gate: str, checks: list[dict[str, Any]]) -> list[TestVerdict]:
    """The gate, what was opened in its order, what was selected and not opened, what is out of scope or waived."""
    opened = {} if facts.open is None else facts.open.data
    result = []
    if gate != "not applicable":
        title = "The site is healthy before anything is broken"
        result.append(TestVerdict(GATE, title, gate, _gate_reason(gate, checks)))
    result += [_judged(test) for test in facts.tests.values()]
    known = set(facts.tests)
    closed = {} if facts.close is None else facts.close.data
    why = _why_not_run(facts, gate, checks)
    selected = [(text(each.get("id")), text(each.get("title"))) for each in dicts(opened.get("selected"))]
    for name, title in [*selected, *((name, "") for name in strings(closed.get("not_run")))]:
        if name and name not in known:
            known.add(name)
            result.append(TestVerdict(name, title, "not proven", f"did not run: {why}"))
    for key, verdict in (("not_applicable", "not applicable"), ("waived", "waived")):
        for each in dicts(opened.get(key)):
            name = text(each.get("id"))
            if name not in known:
                known.add(name)
                result.append(TestVerdict(name, text(each.get("title")), verdict, text(each.get("reason"))))
    return result


def _why_not_run(facts: Facts, gate: str, checks: Sequence[dict[str, Any]]) -> str:
    if gate in ("rejected", "inconclusive"):
        return f"the gate refused it, because {_gate_reason(gate, checks)}"
    if facts.close is None:
        return "the run was cut off before it"
    how = text(facts.close.data.get("exit_reason"))
    return f"the run was {how}" if how == "interrupted" else f"the run ended before it ({how or 'nobody knows why'})"


def _judged(test: TestFacts) -> TestVerdict:
    if (why := _out_of_scope(test)) is not None:
        return TestVerdict(test.id, test.title, "not applicable", why)
    claims = tuple(evaluate(test, claim) for claim in test.claims)
    findings = [
        *_close_findings(test),
        *(finding for fault in test.faults for finding in _heal_findings(fault)),
        *(finding for fault in test.faults for finding in _bite_findings(test, fault)),
        *_expect_findings(test),
        *_audit_findings(test),
        *((claim.verdict, claim.reason) for claim in claims if claim.verdict not in ("accepted", "not proven")),
        *(("inconclusive", f"the journal's {each}; what it should say is not known") for each in test.spoilt),
    ]
    if fired := _fired_findings(test):  # what was not met was not put to the test for as long as it should
        harm = [*_audit_findings(test), *fired]
        findings = [each for each in findings if each[0] == "dirty"] + harm
    if _never_came_to_it(test):
        findings = [each for each in findings if each[0] not in ("inconclusive", "invalid")]
    nothing = all(claim.verdict == "not proven" for claim in claims)
    if nothing and not findings:  # what keeps a test from coming to its claims is the cause, where there is one
        findings.append(("not proven", "it makes no claim, so there is nothing that it proves"))
    verdict = min((verdict for verdict, _ in findings), key=WORST_FIRST.index, default="accepted")
    reasons = [reason for each, reason in findings if each == verdict]
    return TestVerdict(
        id=test.id,
        title=test.title,
        verdict=verdict,
        reason=_sentence(reasons) if verdict != "accepted" else _accepted(claims),
        claims=claims,
        phases=tuple(phases(test)),
    )


def _out_of_scope(test: TestFacts) -> str | None:
    """Why it does not apply to the site as it was found, where the test itself says so before it breaks anything."""
    reasons = [text(close.get("reason")) for close in test.closes if close.get("outcome") == "skipped"]
    told = [reason for reason in reasons if reason.startswith(_SCOPE)]
    return told[0].removeprefix(_SCOPE) if told and not test.faults and len(test.closes) == len(told) else None


def _sentence(reasons: Sequence[str]) -> str:
    shown = "; ".join(dict.fromkeys(reasons[:3]))
    return shown + (f"; and {len(reasons) - 3} more" if len(reasons) > 3 else "")


def _accepted(claims: Iterable[ClaimVerdict]) -> str:
    reasons = [claim.reason for claim in claims if claim.verdict == "accepted"]
    return f"every claim holds: {_sentence(reasons)}"


def _never_came_to_it(test: TestFacts) -> bool:
    """Skipped, refused, interrupted or cut off: what could not be told follows from that and is no cause of its own."""
    if not test.closes:
        return True
    for close in test.closes:
        if close.get("outcome") in ("skipped", "interrupted") or text(close.get("error")) in _NOT_RUN:
            return True
        refused = _BY_ERROR.get(text(close.get("error"))) == "not proven"
        if refused and not any("fault.inject" in fault.kinds for fault in test.faults):
            return True
    return False


def _close_findings(test: TestFacts) -> list[Finding]:
    found = []
    if not test.opened:
        found.append(("not proven", "the journal does not say that it was begun"))
    if not test.closes:
        found.append(("not proven", "the run was cut off while it ran"))
    for close in test.closes:
        found += _close_finding(test, close)
    return found


def _close_finding(test: TestFacts, close: dict[str, Any]) -> list[Finding]:
    outcome, error = text(close.get("outcome")), text(close.get("error"))
    reason = text(close.get("reason")) or "no reason was given"
    if error == "SiteDirty" and any("fault.inject" in fault.kinds for fault in test.faults):
        return [("dirty", reason)]
    if outcome == "interrupted":
        return [("not proven", f"interrupted: {reason}")]
    if error in _BY_ERROR:
        return [(_BY_ERROR[error], reason)]
    if outcome == "skipped":
        return [("not proven", f"skipped: {reason}")]
    if outcome == "passed" and not error:
        return []
    return [("inconclusive", f"{error or outcome or 'it ended'}: {reason}")]


def _heal_findings(fault: Fault) -> list[Finding]:
    name = fault.fault or "a fault"
    if fault.outcome == "not_injected" or (fault.outcome == "healed" and fault.healed == "yes"):
        return []
    if fault.outcome == "healed":
        return [("dirty", f"{name} was closed as healed though nobody saw it healed; look at the site")]
    what = f": {fault.healed_saw}" if fault.healed_saw else ""
    return [("dirty", f"{name} was not healed{what}; run `pveha heal`, then look at the site")]


def _fired_findings(test: TestFacts) -> list[Finding]:
    return [
        (
            "invalid",
            f"{', '.join(fired.nodes)} undid {fault.fault} unasked, and not known to be after it was over and while "
            "nothing else was broken: nothing is proven",
        )
        for fault in test.faults
        for fired in fault.fired
        if not _too_late_to_matter(test, fault, fired)
    ]


def _too_late_to_matter(test: TestFacts, fault: Fault, fired: Fired) -> bool:
    """Whether the node is known to have acted when its fault had been undone, and no other fault was in force.

    What it does it may go on doing for a while; a later fault that came within that while could be undone by it, too.
    """
    low, high = fired.low, fired.high
    if low is None or high is None or low > high or fault.healed_at is None or low <= fault.healed_at:
        return False
    others = [other for other in test.faults if other is not fault and "fault.inject" in other.kinds]
    return all(
        (other.healed_at is not None and other.healed_at < low)
        or (other.before is not None and other.before > high + _ACTS)
        for other in others
    )


def _bite_findings(test: TestFacts, fault: Fault) -> list[Finding]:
    name = fault.fault or "a fault"
    if "fault.plan" not in fault.kinds:
        return [("inconclusive", f"{name} was never planned in this journal: lines are missing")]
    if "fault.inject" not in fault.kinds or fault.outcome == "not_injected":
        if any(close.get("outcome") != "passed" for close in test.closes):
            return []  # the test's own error says why
        return [("invalid", f"{name} was planned and not injected: nothing was broken, so nothing is proven")]
    if fault.effect == "no":
        return [("invalid", f"{name} did not bite, so what followed proves nothing: {fault.effect_saw}")]
    if fault.effect == "yes" and fault.bounds is None:
        return [("inconclusive", f"{name} took effect at a time that was not seen")]
    if fault.effect != "yes":
        why = f": {fault.effect_saw}" if fault.effect_saw else ""
        return [("inconclusive", f"whether {name} took effect could not be told{why}")]
    return []


def _expect_findings(test: TestFacts) -> list[Finding]:
    found = []
    for each in test.expects:
        condition, saw = text(each.get("condition")) or "an expectation", text(each.get("saw")) or "nothing"
        within = real(each.get("within"))
        limit = "" if within is None else f" within {within:g} s"
        if each.get("outcome") == "not_met":
            found.append(("rejected", f"{condition}: not{limit}; last seen: {saw}"))
        elif each.get("outcome") not in ("met", NOT_THERE):
            found.append(("inconclusive", f"{condition}: could not be told{limit}; last seen: {saw}"))
    return found


def _audit_findings(test: TestFacts) -> list[Finding]:
    found = []
    for each in test.audits:
        name, saw = text(each.get("audit")) or "an audit", text(each.get("saw")) or "nothing"
        if each.get("answer") == "no":
            found.append(("rejected", f"audit {name} found harm: {saw}"))
        elif each.get("answer") != "yes":
            found.append(("inconclusive", f"audit {name} could not tell: {saw}"))
    return found
