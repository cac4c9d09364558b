"""The journal's lines, grouped by test and typed; what a line does not say properly is named, never guessed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pytest_pveha.record.journal import Line
from pytest_pveha.record.kinds import missing

SECOND: Final = 1_000_000_000
MOST: Final = 1 << 40
"""More of anything was not counted by us."""
SLOWEST_PERIOD: Final = SECOND
"""The sampler's pace when nothing is due (ns)."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run of equal answers of one probe. Each answer was true at some moment between its sending and its end."""

    probe: str
    subject: str
    answer: str
    saw: str
    first: int
    last: int
    first_end: int
    last_end: int
    count: int
    worst_gap: int
    first_out: int | None = None
    """By when the first question had left; only where nobody answered it."""


@dataclass(frozen=True, slots=True)
class Took:
    """How long the good answers of one probe took that were asked for and came between two moments."""

    probe: str
    since: int
    until: int
    took: dict[int, int]
    """Step, as ``record.took`` has them → how many."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Something became ``new`` after ``low`` and by ``high``. With ``old`` None it was so at the first look."""

    what: str
    old: str | None
    new: str
    low: int
    high: int
    source: str


@dataclass(frozen=True, slots=True)
class Path:
    """What a node's BMC answered another node's shell. Answers: yes, no, cant_tell."""

    peer: str
    bmc: str
    answer: str
    saw: str
    seconds: tuple[float, float]
    """At least, by the peer's clock, and at most, by ours."""
    own: str
    """Whether it is that node's own BMC."""
    own_saw: str
    may: str
    """Whether our user may switch its power."""
    may_saw: str


@dataclass(frozen=True, slots=True)
class Echo:
    """Echoes from a node to one address of another machine; times in ms, in the order of sending."""

    source: str
    target: str
    address: str
    sent: int
    """0 where it could not be asked."""
    times: tuple[float, ...]
    ring_average: float | None
    """What corosync measured itself, in ms."""
    ring_longest: float | None
    saw: str


@dataclass(frozen=True, slots=True)
class Fired:
    """Nodes that undid a fault by themselves, between those moments (mono ns). None: that could not be told."""

    nodes: tuple[str, ...]
    low: int | None
    high: int | None


@dataclass(slots=True)
class Fault:
    """Everything the journal says of one fault."""

    fault: str
    type: str
    params: dict[str, Any]
    test: str | None
    before: int | None = None
    after: int | None = None
    effect: str | None = None
    effect_saw: str = ""
    effect_low: int | None = None
    effect_high: int | None = None
    healed: str | None = None
    healed_saw: str = ""
    outcome: str | None = None
    heal_at: int | None = None
    trial: bool = False
    """Made for a moment, before the fault that the test is about."""
    healed_at: int | None = None
    """When the undo had been seen (mono ns)."""
    fired: list[Fired] = field(default_factory=list)
    """Dead-men that undid it by themselves, and were not to."""
    unattended: bool = False
    """The nodes were meant to undo it by themselves."""
    kinds: set[str] = field(default_factory=set)

    @property
    def node(self) -> str | None:
        """The node it was aimed at."""
        node = self.params.get("node")
        return node if isinstance(node, str) else None

    @property
    def bounds(self) -> tuple[int, int] | None:
        """Between which moments it took effect; None when that was not seen."""
        if self.effect != "yes" or self.before is None or self.effect_high is None:
            return None
        low = self.before if self.effect_low is None else max(self.before, self.effect_low)
        return min(low, self.effect_high), self.effect_high


@dataclass(slots=True)
class TestFacts:
    """What the journal says of one test."""

    __test__ = False

    id: str
    title: str = ""
    roles: dict[str, Any] = field(default_factory=dict)
    opened: bool = False
    opened_at: int | None = None
    runs: list[Run] = field(default_factory=list)
    watched: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    """probe → (subject, what, period ns)"""
    took: list[Took] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    expects: list[dict[str, Any]] = field(default_factory=list)
    claims: list[dict[str, Any]] = field(default_factory=list)
    claimed_at: int | None = None
    """When the first claim was made (mono ns): what the site does later is asked of it by us, to put it back."""
    audits: list[dict[str, Any]] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    echoes: list[Echo] = field(default_factory=list)
    asks: dict[str, int] = field(default_factory=dict)
    """What people were asked, by step, and when (mono ns)."""
    answers: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    """What they answered, and between which moments."""
    ledger: list[dict[str, Any]] = field(default_factory=list)
    """What was read of canaries' numbered writes, in order; see ``judge.writes``."""
    backups: list[dict[str, Any]] = field(default_factory=list)
    """The newest backup of a guest, as it was looked for."""
    closes: list[dict[str, Any]] = field(default_factory=list)
    spoilt: list[str] = field(default_factory=list)

    def probes(self, subject: str) -> dict[str, list[Run]]:
        """Each probe of that subject that was watched or sampled, with its runs in order of sending."""
        names = {probe for probe, (of, _, _) in self.watched.items() if of == subject}
        names |= {run.probe for run in self.runs if run.subject == subject}
        return {name: [run for run in self.runs if run.probe == name] for name in sorted(names)}

    def limit(self, probe: str) -> int:
        """The longest gap that still counts as watching: two periods at the sampler's slowest pace (ns)."""
        _, _, period = self.watched.get(probe, ("", "", 0))
        return 2 * max(period, SLOWEST_PERIOD)

    def fault(self) -> Fault | None:
        """The first fault that was injected, or else planned: the incident the test is about."""
        meant = [fault for fault in self.faults if not fault.trial]
        injected = [fault for fault in meant if fault.before is not None or fault.effect == "yes"]
        return next(iter(injected or meant or self.faults), None)


@dataclass(slots=True)
class Facts:
    """What the journal says of the whole run."""

    open: Line | None = None
    close: Line | None = None
    first: Line | None = None
    last: Line | None = None
    gates: list[dict[str, Any]] = field(default_factory=list)
    tests: dict[str, TestFacts] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    found: dict[str, Any] | None = None
    """The site as it was found."""
    history: dict[str, Any] | None = None
    """What earlier runs proved, and what there is to prove."""
    left: dict[str, Any] | None = None
    """What the comparison of the site as left with the site as found said; None: there was none."""


def gather(lines: Sequence[Line]) -> Facts:
    """The journal's lines in groups. Total: whatever the data, nothing is raised."""
    facts = Facts(first=lines[0] if lines else None, last=lines[-1] if lines else None)
    by_name: dict[str, Fault] = {}
    for line in lines:
        if line.kind == "run.open":
            facts.open = facts.open or line
        elif line.kind == "run.close":
            facts.close = line
        elif line.kind == "snapshot" and line.data.get("as") == "left":
            facts.left = line.data
        elif line.kind == "snapshot" and line.data.get("as") == "found":
            facts.found = mapping(line.data.get("site"))
        elif line.kind == "history":
            facts.history = facts.history or line.data
        elif line.kind == "gate":
            facts.gates += dicts(line.data.get("checks")) or [{"id": "?", "title": "an empty gate", "answer": "?"}]
        elif line.kind.startswith("fault."):
            _fault(facts, by_name, line)
        elif line.kind in _TAKERS:
            _test_line(facts, line)
    for test in facts.tests.values():
        test.runs.sort(key=lambda run: (run.first, run.last, run.probe))
    return facts


def _test(facts: Facts, name: str) -> TestFacts:
    return facts.tests.setdefault(name, TestFacts(name))


def _test_line(facts: Facts, line: Line) -> None:
    name = line.test
    if line.kind == "test.open" and name is None:
        name = text(line.data.get("id"))
    if not name:
        return
    test = _test(facts, name)
    lacking = missing(line.kind, line.data)
    if lacking or not _TAKERS[line.kind](test, line):
        what = f"lacks {', '.join(lacking)}" if lacking else "cannot be used"
        test.spoilt.append(f"line {line.seq + 1} ({line.kind}) {what}")


def _fault(facts: Facts, by_name: dict[str, Fault], line: Line) -> None:
    data = line.data
    name = text(data.get("fault"))
    if line.kind == "fault.plan" or name not in by_name:
        # A line of a fault that was never planned is kept too: it can only make things worse, as it must.
        fault = Fault(name, text(data.get("type")) or "fault", mapping(data.get("params")), line.test)
        by_name[name] = fault
        facts.faults.append(fault)
        if line.test:
            _test(facts, line.test).faults.append(fault)
    fault = by_name[name]
    fault.kinds.add(line.kind)
    if line.kind == "fault.plan":
        fault.trial = data.get("trial") is True
        fault.unattended = data.get("unattended") is True
    if line.kind == "fault.inject":
        fault.before, fault.after = integer(data.get("before")), integer(data.get("after"))
    elif line.kind == "fault.effect":
        fault.effect, fault.effect_saw = text(data.get("answer")), text(data.get("saw"))
        fault.effect_low, fault.effect_high = integer(data.get("low")), integer(data.get("high"))
    elif line.kind == "fault.heal":
        fault.heal_at = line.mono if fault.heal_at is None else fault.heal_at
    elif line.kind == "fault.healed":
        fault.healed, fault.healed_saw = text(data.get("answer")), text(data.get("saw"))
        if fault.healed == "yes" and fault.healed_at is None:
            fault.healed_at = line.mono
    elif line.kind == "fault.fired":
        bounds = integer(data.get("low")), integer(data.get("high"))
        if not fault.unattended:
            fault.fired.append(Fired(tuple(strings(data.get("nodes")) or ["?"]), *bounds))
    elif line.kind == "fault.close":
        fault.outcome = text(data.get("outcome"))


def _take_open(test: TestFacts, line: Line) -> bool:
    test.opened = True
    test.opened_at = line.mono if test.opened_at is None else test.opened_at
    test.title = text(line.data.get("title")) or test.title
    test.roles = mapping(line.data.get("roles"))
    return True


def _take_watch(test: TestFacts, line: Line) -> bool:
    probe, subject = text(line.data.get("probe")), text(line.data.get("subject"))
    period = integer(line.data.get("period_ms"))
    if not probe or not subject:
        return False
    known = test.watched.get(probe, ("", "", 0))[2]
    test.watched[probe] = (subject, text(line.data.get("what")), max(known, (period or 0) * 1_000_000))
    return period is not None


def _take_samples(test: TestFacts, line: Line) -> bool:
    data = line.data
    keys = ("first", "last", "first_end", "last_end", "count", "worst_gap")
    numbers = [integer(data.get(key)) for key in keys]
    words = [text(data.get(key)) for key in ("probe", "subject", "answer")]
    if any(each is None for each in numbers) or not all(words) or words[2] not in ("good", "bad", "unknown"):
        return False
    first, last, first_end, last_end, count, worst_gap = (each for each in numbers if each is not None)
    if not (first <= last <= last_end and first <= first_end <= last_end and count >= 1):
        return False
    out = integer(data.get("first_out"))
    if "first_out" in data and (out is None or not first <= out <= first_end):
        return False
    probe, subject, answer = words
    test.runs.append(
        Run(probe, subject, answer, text(data.get("saw")), first, last, first_end, last_end, count, worst_gap, out)
    )
    return True


def _take_took(test: TestFacts, line: Line) -> bool:
    data = line.data
    probe, since, until = text(data["probe"]), integer(data["since"]), integer(data["until"])
    rows = data["took"] if isinstance(data["took"], list) else [None]
    pairs = [row for row in rows if isinstance(row, list) and len(row) == 2]
    counts = {steps: count for row in pairs if (steps := integer(row[0])) is not None and (count := integer(row[1]))}
    if not probe or since is None or until is None or not since <= until or len(counts) < len(rows):
        return False
    if any(not (0 <= steps < MOST and 0 < count < MOST) for steps, count in counts.items()):
        return False
    test.took.append(Took(probe, since, until, counts))
    return True


def _take_seen(test: TestFacts, line: Line) -> bool:
    data = line.data
    low, high, what = integer(data.get("low")), integer(data.get("high")), text(data.get("what"))
    if low is None or high is None or low > high or not what:
        return False
    old = None if data.get("old") is None else _word(data["old"])
    test.seen.append(Seen(what, old, _word(data.get("new")), low, high, text(data.get("source"))))
    return True


def _take_expect(test: TestFacts, line: Line) -> bool:
    test.expects.append(line.data)
    return line.data.get("outcome") in ("met", "not_met", "cant_tell", "not_there")


def _take_claim(test: TestFacts, line: Line) -> bool:
    test.claims.append(line.data)
    test.claimed_at = line.mono if test.claimed_at is None else test.claimed_at
    return True


def _take_audit(test: TestFacts, line: Line) -> bool:
    test.audits.append(line.data)
    return line.data.get("answer") in ("yes", "no", "cant_tell")


def _take_path(test: TestFacts, line: Line) -> bool:
    data = line.data
    peer, bmc, before, after = text(data["peer"]), text(data["bmc"]), integer(data["before"]), integer(data["after"])
    answers = [data[key] for key in ("answer", "own", "may")]
    least = real(data["least"])
    if not (peer and bmc and all(each in ("yes", "no", "cant_tell") for each in answers)):
        return False
    if before is None or after is None or least is None or not after - before >= 0 or least < 0:
        return False
    most = -((before - after) // 1000) / 1_000_000
    told = [text(data[key]) for key in ("saw", "own_saw", "may_saw")]
    times = (min(least, most), most)
    answer, own, may = answers
    test.paths.append(Path(peer, bmc, answer, told[0], times, own, told[1], may, told[2]))
    return True


def _take_echo(test: TestFacts, line: Line) -> bool:
    data = line.data
    source, target, sent = text(data["source"]), text(data["target"]), integer(data["sent"])
    given = data["times"] if isinstance(data["times"], list) else [None]
    times = [real(each) for each in given]
    if (
        not (source and target)
        or sent is None
        or not len(times) <= sent
        or any(each is None or each < 0 for each in times)
    ):
        return False
    own = real(data["ring_average"]), real(data["ring_longest"])
    kept = tuple(each for each in times if each is not None)
    test.echoes.append(Echo(source, target, text(data["address"]), sent, kept, *own, text(data["saw"])))
    return True


def _take_ask(test: TestFacts, line: Line) -> bool:
    step = text(line.data["step"])
    test.asks.setdefault(step, line.mono)
    return bool(step)


def _take_answer(test: TestFacts, line: Line) -> bool:
    data = line.data
    step, word, low, high = text(data["step"]), text(data["answer"]), integer(data["low"]), integer(data["high"])
    if not step or not word or low is None or high is None or low > high:
        return False
    test.answers[step] = word, low, high
    return True


def _take_ledger(test: TestFacts, line: Line) -> bool:
    asked, answered = integer(line.data["asked"]), integer(line.data["answered"])
    if not text(line.data["guest"]) or not text(line.data["event"]) or asked is None or answered is None:
        return False
    test.ledger.append(line.data)
    return asked <= answered


def _take_backup(test: TestFacts, line: Line) -> bool:
    test.backups.append(line.data)
    return real(line.data["least"]) is not None and real(line.data["most"]) is not None


def _take_close(test: TestFacts, line: Line) -> bool:
    test.closes.append(line.data)
    return True


_TAKERS: Final = {
    "test.open": _take_open,
    "watch": _take_watch,
    "samples": _take_samples,
    "took": _take_took,
    "seen": _take_seen,
    "expect": _take_expect,
    "claim": _take_claim,
    "audit": _take_audit,
    "path": _take_path,
    "echo": _take_echo,
    "ask": _take_ask,
    "answer": _take_answer,
    "backup": _take_backup,
    "ledger": _take_ledger,
    "test.close": _take_close,
}


def integer(value: object) -> int | None:
    """The value if it is a whole number that can be a time or a count (64 bits)."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63 else None


def real(value: object) -> float | None:
    """The value if it is a number of a size that means something."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18 else None


def text(value: object) -> str:
    """The value if it is text, else nothing."""
    return value if isinstance(value, str) else ""


def mapping(value: object) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def dicts(value: object) -> list[dict[str, Any]]:
    """The objects in the value, if it is a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def strings(value: object) -> list[str]:
    """The texts in the value, if it is a list."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else str(value)


def known(runs: Iterable[Run]) -> list[Run]:
    """The runs that say something."""
    return [run for run in runs if run.answer != "unknown"]
