"""report.html: one self-contained page that says what was proven, what was not, and how to check it.

The template only arranges; everything it shows is prepared here, from verdict.json, the timelines the judge draws from
the journal, and environment.json. Nothing is asked of clock, disk or network: the same input gives the same bytes.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pytest_pveha.evidence.sshsig import NAMESPACE
from pytest_pveha.judge.timeline import ProbeTimeline, TestTimeline
from pytest_pveha.report import coverage, svg, words
from pytest_pveha.report.paths import matrix
from pytest_pveha.report.timeline import Gap, gaps

_SIGNS = {"accepted": "✓", "rejected": "✗", "inconclusive": "?", "invalid": "∅", "not proven": "–", "dirty": "!"}
_ANSWERS = {"yes": "accepted", "no": "rejected", "met": "accepted", "not_met": "rejected"}


_FAILED = frozenset({"rejected", "dirty"})
_ANSWERING = "application"
"""The phase from which on everything watched answers again."""
_ANSWER_WORDS = {
    "yes": "yes",
    "no": "no",
    "cant_tell": "can't tell",
    "not_there": "not proven",
    "met": "met",
    "not_met": "not met",
}


def render(verdict: Mapping[str, Any], timelines: Sequence[TestTimeline], environment: Mapping[str, Any]) -> str:
    """The page for one run.

    Args:
        verdict: verdict.json.
        timelines: what the judge draws from the journal, for the charts; a test may lack one.
        environment: environment.json; shown where present: ``cluster`` (name), ``pve`` (node → version), ``pveha``,
            ``python``, ``operator``, ``approver``, ``signer`` (who seals it; absent when nobody signs),
            ``guests`` (subject → the name people use).
    """
    page = _Page(words.clean(verdict), timelines, words.clean(environment))
    loader = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        # whatever the template writes, from wherever in the journal it comes
        finalize=lambda value: words.clean(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return loader.get_template("report.html.j2").render(page.context())


@dataclass(frozen=True, slots=True)
class _Badge:
    """A verdict as the page shows it: a sign, a word and a class for the colour."""

    text: str
    sign: str
    css: str


def badge(verdict: str) -> _Badge:
    """The badge of a verdict; of one that is not known here, a neutral one."""
    word = words.word(verdict)
    return _Badge(verdict, _SIGNS.get(word, "·"), word.replace(" ", "-") if word in _SIGNS else "other")


class _Page:
    """Turns the three inputs into what the template names."""

    def __init__(self, verdict: dict[str, Any], timelines: Sequence[TestTimeline], environment: dict[str, Any]) -> None:
        self._verdict = verdict
        self._timelines = {words.clean(timeline.test): timeline for timeline in timelines}
        self._environment = environment
        self._names: dict[str, str] = dict(environment.get("guests") or {})

    def context(self) -> dict[str, Any]:
        verdict = self._verdict
        tests = [self._test(number, test) for number, test in enumerate(self._told(), start=1)]
        counted = [test for test in tests if test["verdict"].text not in words.UNCOUNTED]
        shown = {test["id"] for test in tests}
        return {
            "verdict": badge(verdict["verdict"]),
            "meaning": words.MEANING.get(words.word(verdict["verdict"]), ""),
            "simulated": verdict["simulated"],
            "site": verdict["site"] or "unknown site",
            "run": verdict["run"],
            "summary": self._summary(counted),
            "proven": [test for test in counted if test["verdict"].css == "accepted"],
            "failed": [test for test in counted if test["verdict"].css in _FAILED],
            "open": [test for test in counted if test["verdict"].css not in {"accepted", *_FAILED}],
            "not_proven": [item for item in verdict["not_proven"] if item["id"] not in shown],
            "out_of_scope": [test for test in tests if test["verdict"].text in words.UNCOUNTED],
            "requirements": self._requirements(tests),
            "coverage": self._coverage(),
            "facts": self._facts(),
            "tests": [test for test in tests if test["detailed"]],
            "gate": self._gate(),
            "left": self._left(),
            "signer": self._environment.get("signer"),
            "commands": verification_commands(self._environment.get("signer")),
        }

    def _told(self) -> list[dict[str, Any]]:
        """The tests but for the gate, which has a section of its own."""
        return [test for test in self._verdict["tests"] if test["id"] != words.GATE]

    # --- the top of the page

    def _summary(self, tests: Sequence[Mapping[str, Any]]) -> str:
        verdict = self._verdict
        took = words.between(verdict["started"], verdict["finished"])
        site = f"the {'simulated ' if verdict['simulated'] else ''}site {verdict['site']}"
        when = words.moment(verdict["started"]) + (f", for {words.length(took)}" if took is not None else "")
        ran = [test for test in tests if test["detailed"]]
        parts = [_sentence(f"{_spelled(len(ran))} test{'' if len(ran) == 1 else 's'} ran on {site} on {when}")]
        kinds = [kind for kind in _SIGNS if any(test["verdict"].css == badge(kind).css for test in ran)]
        counts = [(sum(test["verdict"].css == badge(kind).css for test in ran), kind) for kind in kinds]
        if counts:
            parts.append(_sentence(_listed([f"{_spelled(number)} {_was(number)} {kind}" for number, kind in counts])))
        gate = self._verdict["gate"]["verdict"]
        if gate not in {"accepted", "not applicable"}:
            parts.append("The site was not found fit to be tested; see the gate below.")
        return " ".join(parts)

    def _facts(self) -> list[tuple[str, str]]:
        verdict, known = self._verdict, self._environment
        versions: dict[str, list[str]] = {}
        for node, version in sorted((known.get("pve") or {}).items()):
            versions.setdefault(str(version), []).append(node)
        took = words.between(verdict["started"], verdict["finished"])
        facts = [
            ("Site", verdict["site"] + (" (simulated)" if verdict["simulated"] else "")),
            ("Cluster", known.get("cluster")),
            ("Proxmox VE", "; ".join(f"{version} on {', '.join(nodes)}" for version, nodes in versions.items())),
            ("Started", words.moment(verdict["started"])),
            ("Finished", words.moment(verdict["finished"])),
            ("Took", words.length(took) if took is not None else None),
            ("Scope", str(verdict["scope"])),
            ("Campaign", _drawn(verdict.get("campaign"))),
            ("Run", verdict["run"]),
            ("Operator", known.get("operator")),
            ("Approver", known.get("approver")),
            ("Second signature", _second(verdict.get("approval"))),
            ("Signed as", known.get("signer") or "not signed"),
            ("Made by", f"pytest-pveha {known['pveha']}" if known.get("pveha") else "pytest-pveha"),
        ]
        return [(name, str(value)) for name, value in facts if value]

    def _requirements(self, tests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The questions of the site's owner, each with the tests that answer it."""
        told = {test["id"]: test for test in tests}
        return [
            {
                **row,
                "badge": badge(row["verdict"]),
                "tests": [
                    {"badge": badge(each["verdict"]), "test": told[each["id"]]}
                    for each in row["tests"]
                    if each["id"] in told
                ],
            }
            for row in self._verdict.get("requirements") or []
        ]

    def _coverage(self) -> dict[str, Any] | None:
        """The map of what was ever proven of whom; None where there is nothing to prove."""
        found = self._verdict.get("coverage")
        if not found or not found["cells"]:
            return None
        return {"told": coverage.told(found), "rows": coverage.rows(found), "uncounted": found["uncounted"]}

    def _gate(self) -> dict[str, Any]:
        gate = self._verdict["gate"]
        return {
            "verdict": badge(gate["verdict"]),
            "checks": [
                {
                    "title": check.get("title", check.get("id", "")),
                    "badge": _answer(str(check.get("answer", ""))),
                    "saw": check.get("saw", ""),
                    "advice": check.get("advice", "") if check.get("answer") != "yes" else "",
                }
                for check in gate["checks"]
            ],
        }

    def _left(self) -> dict[str, Any]:
        """How the site was left; of a verdict made before that was told, that it was not compared."""
        left = self._verdict.get("left") or {"compared": False, "differences": [], "surroundings": []}
        return {**left, "badge": _answer(("no" if left["differences"] else "yes") if left["compared"] else "cant_tell")}

    # --- one test

    def _test(self, number: int, test: Mapping[str, Any]) -> dict[str, Any]:
        ident = f"test-{number}"
        claims = [self._claim(claim) for claim in test["claims"]]
        timeline = self._timelines.get(test["id"])
        return {
            "anchor": ident,
            "id": test["id"],
            "title": test["title"],
            "role": words.role(test["id"]),
            "verdict": badge(test["verdict"]),
            "reason": test["reason"] or "",
            "detailed": bool(test["claims"] or test["phases"] or (timeline and (timeline.probes or timeline.paths))),
            "roles": words.clean(timeline.roles) if timeline else [],
            "has_fault": timeline is None or timeline.has_fault,
            "zero": _zero(timeline),
            "headlines": self._headlines(test["claims"]),
            "claims": claims,
            "claims_charts": self._claims_charts(ident, test),
            "phases": _phases(test["phases"]),
            "phases_chart": _phases_chart(ident, test),
            "lanes_chart": self._lanes_chart(ident, test, timeline) if timeline else None,
            "outages": self._outages(timeline) if timeline else [],
            "watched": sum(bool(probe.segments) for probe in timeline.probes) if timeline else 0,
            "expectations": _expectations(timeline) if timeline else [],
            "paths": matrix(timeline.paths) if timeline else None,
        }

    def _name(self, subject: str) -> str:
        return str(self._names.get(subject, subject))

    def _claim(self, claim: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "measure": words.measure(claim["measure"]),
            "subject": self._name(claim["subject"]),
            "figure": words.figure(claim).replace("more than", ">").replace("at least", "≥"),
            "bounds": words.bounds(claim),
            "objective": words.objective(claim),
            "verdict": badge(claim["verdict"]),
        }

    def _headlines(self, claims: Sequence[Mapping[str, Any]]) -> list[str]:
        return [
            f"{words.measure(claim['measure'])} {words.figure(claim)}, objective {words.objective(claim)}"
            + (f" ({self._name(claim['subject'])}, the worst of {count})" if count > 1 else "")
            for claim, count in words.worst(claims)
            if claim["unit"] != "count"
        ]

    def _claims_charts(self, ident: str, test: Mapping[str, Any]) -> list[dict[str, Any]]:
        """One chart for each measure in seconds: different things do not share an axis."""
        drawn = [claim for claim in test["claims"] if claim["unit"] == "s" and claim["low"] is not None]
        charts = []
        for number, name in enumerate(dict.fromkeys(claim["measure"] for claim in drawn), start=1):
            claims = [claim for claim in drawn if claim["measure"] == name]
            described = "; ".join(
                f"{self._name(claim['subject'])}: {words.statement(claim)}, {claim['verdict']}" for claim in claims
            )
            rows = [
                svg.Bar(
                    self._name(claim["subject"]),
                    claim["value"],
                    claim["low"],
                    claim["high"],
                    claim["objective"],
                    claim["verdict"],
                )
                for claim in claims
            ]
            title = f"{words.measure(name).capitalize()} against its objective"
            drawing = svg.bars(f"{ident}-claims-{number}", title, f"{described}.", rows)
            charts.append({"name": title, "drawing": drawing})
        return charts

    def _lanes_chart(self, ident: str, test: Mapping[str, Any], timeline: TestTimeline) -> Markup | None:
        rows = [
            svg.Lane(
                self._lane_name(probe, timeline),
                tuple(svg.Segment(part.start, part.end, part.answer) for part in probe.segments),
            )
            for probe in timeline.probes
        ]
        if not any(row.segments for row in rows):
            return None
        marks = [
            svg.Mark(number, phase["start"], phase["name"])
            for number, phase in enumerate(_in_order(test["phases"]), start=1)
        ]
        described = "; ".join(f"{outage['subject']}: {outage['text']}" for outage in self._outages(timeline))
        return svg.lanes(
            f"{ident}-lanes",
            f"Who answered when: {test['title']}",
            f"{described or 'Every probe answered throughout'}. Seconds are counted from {_zero(timeline)}.",
            rows,
            marks,
            fault=timeline.has_fault,
        )

    def _lane_name(self, probe: ProbeTimeline, timeline: TestTimeline) -> str:
        several = sum(other.subject == probe.subject for other in timeline.probes) > 1
        name = self._name(words.clean(probe.subject))
        return f"{name} {words.clean(probe.what or probe.probe)}" if several else name

    def _outages(self, timeline: TestTimeline) -> list[dict[str, str]]:
        return [
            {
                "subject": self._lane_name(probe, timeline),
                "from": words.seconds(gap.start),
                "to": words.seconds(gap.end) if gap.end is not None else f"not by {words.seconds(gap.last)}",
                "text": _gap_text(gap),
                "kind": ("" if gap.known else "nobody can tell: ") + (words.clean(gap.saw) or "no good answer"),
            }
            for probe in timeline.probes
            for gap in gaps(probe)
        ]


def _zero(timeline: TestTimeline | None) -> str:
    return "the fault" if timeline is None or timeline.has_fault else "the beginning of the test"


def _expectations(timeline: TestTimeline) -> list[dict[str, Any]]:
    return [
        {
            "condition": words.clean(expected.condition),
            "within": f"{expected.within:g} s" if expected.within is not None else "",
            "badge": _answer(expected.outcome),
            "at": _span(expected.low, expected.high),
            "saw": words.clean(expected.saw),
        }
        for expected in timeline.expectations
    ]


def _gap_text(gap: Gap) -> str:
    kind = "no good answer" if gap.known else "nobody can tell"
    end = f"to {words.seconds(gap.end)}" if gap.end is not None else "and not back while watched"
    return f"{kind} from {words.seconds(gap.start)} {end}"


def _phases(phases: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "number": str(number),
            "name": phase["name"],
            "start": words.seconds(phase["start"]),
            "bounds": _span(phase["low"], phase["high"]),
            "source": str(phase["source"] or ""),
        }
        for number, phase in enumerate(_in_order(phases), start=1)
    ]


def _in_order(phases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """As they began; what began together stays as the judge has it."""
    return sorted((phase for phase in phases if phase["start"] is not None), key=lambda phase: phase["start"])


def _phases_chart(ident: str, test: Mapping[str, Any]) -> Markup | None:
    phases = _in_order(test["phases"])
    if len(phases) < 2:
        return None
    ends = [*(phase["start"] for phase in phases[1:]), None]
    names = [phase["name"] for phase in phases]
    answering = names.index(_ANSWERING) if _ANSWERING in names else len(names)
    rows = [
        svg.Step(index + 1, phase["name"], phase["start"], end, calm=index >= answering)
        for index, (phase, end) in enumerate(zip(phases, ends, strict=True))
    ]
    described = "; ".join(f"{phase['name']} at {words.seconds(phase['start'])}" for phase in phases)
    return svg.steps(f"{ident}-phases", f"Phases of recovery: {test['title']}", described + " after the fault.", rows)


def _second(approval: Mapping[str, Any] | None) -> str | None:
    """Who else signed, with which key, under which plan."""
    if not approval:
        return None
    return f"{approval['approved_by']}, key {approval['key']}, under the plan {approval['plan_digest']}"


def _drawn(campaign: Mapping[str, Any] | None) -> str | None:
    """How the tests were drawn."""
    if not campaign:
        return None
    alone = [row["step"] for row in campaign["steps"]] if len(campaign["steps"]) < campaign["scenarios"] else []
    return words.drawn(campaign) + (f", of which only step {', '.join(map(str, alone))}" if alone else "")


def _answer(answer: str) -> _Badge:
    known = badge(_ANSWERS.get(answer, "inconclusive"))
    return _Badge(_ANSWER_WORDS.get(answer, answer or "unknown"), known.sign, known.css)


def _span(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    return words.seconds(low) if low == high else f"{low:.1f} to {words.seconds(high)}"


def verification_commands(signer: str | None) -> list[tuple[str, str]]:
    """What an auditor types, with what it shows; the first two need nothing of ours."""
    commands = []
    if signer is not None:
        commands.append(
            (
                "Who sealed this folder, and that the list of files is theirs:",
                f"ssh-keygen -Y verify -f allowed_signers -I {shlex.quote(signer)} -n {NAMESPACE} "
                "-s MANIFEST.sig < MANIFEST",
            )
        )
    return [
        *commands,
        ("That every listed file is as sealed:", "sha256sum --strict --quiet -c MANIFEST"),
        (
            "That no other file is there (prints nothing):",
            "find . ! -type d ! -path ./MANIFEST ! -path ./MANIFEST.sig ! -path ./allowed_signers | cut -c3- "
            "| LC_ALL=C sort | diff - <(cut -c67- MANIFEST)",
        ),
        ("All of it, and that the journal gives this verdict again:", "pveha verify ."),
    ]


def _spelled(number: int) -> str:
    words_for = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return words_for[number] if number < len(words_for) else str(number)


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + f" and {parts[-1]}" if parts else ""


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
