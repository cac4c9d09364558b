"""Nothing is armed by accident: however pytest is started, a real site is left alone where its consent does not say so.

The site is a simulated one in real time, described as if it were somebody's. What was done to it is read from its own
log of the truth, which no run can write.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import real_style
from plugin_kit import CALM, INI, ROOT, SITE, Bench, Result

from pytest_pveha.embedded import Embedded, start
from pytest_pveha.evidence import sshsig
from pytest_pveha.evidence.verify import verify_run
from pytest_pveha.inventory import load
from pytest_pveha.judge.verdict import dump, judge
from pytest_pveha.record.journal import read

Described = dict[str, Any]

QUIET = frozenset({"lock", "master", "node_state", "joined", "membership", "guest_answers"})
"""What a site does that nobody touches."""

SUITE = '''
CUT = pytest.mark.destructive(blast="one node", expected="2 min", breaks=("power-cut",))


@CUT
def test_cut(nodes, faults, run):
    """A node loses power."""
    run.watch(nodes)
    with faults.power_cut(nodes["pve2"]):
        pass
    run.claim(violations(audits.CLUSTER), none=True)


@CUT
def test_cut_a_role(victim, faults, run):
    """Whoever plays that role loses power."""
    with faults.power_cut(victim):
        pass


def test_unmarked(victim, faults, run):
    """Does not say that it breaks anything, and does."""
    with faults.power_cut(victim):
        pass


@pytest.mark.readiness
def test_liar(nodes, faults, run):
    """Says that it only looks, and does not."""
    with faults.power_cut(nodes["pve3"]):
        pass


@pytest.mark.destructive(breaks=("power-cut",), site_reset=True)
def test_wide(victim, faults, run):
    """May reset more than its victim."""
    with faults.power_cut(victim):
        pass


@pytest.mark.readiness
def test_looks(run):
    """Only looks."""
    run.check(CHECKS[0])
'''


@dataclass(frozen=True)
class House:
    """A site of somebody's, and what really happened on it."""

    site: Embedded

    def lines(self) -> list[dict[str, Any]]:
        """The truth so far."""
        text = (self.site.runtime / "truth.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def since(self, count: int) -> list[dict[str, Any]]:
        """What was done to it after so many lines: commands and what follows from them."""
        return [line for line in self.lines()[count:] if line["kind"] not in QUIET]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """One site for all that must leave it alone. Nodes and guests are quick to boot."""
    with tempfile.TemporaryDirectory(prefix="pv", dir="/tmp") as name, pytest.MonkeyPatch.context() as patched:
        patched.setenv("PVEHA_RUNTIME", name)
        (Path(name) / "sim.yml").write_text(SITE)
        site = start(load(Path(name) / "sim.yml"), speed=1)
        try:
            yield House(site)
        finally:
            site.stop()


@pytest.fixture
def project(bench: Bench) -> Bench:
    """Somebody's project with a suite that would break things at every opportunity."""
    bench.suite(SUITE)
    return bench


def real(house: House, bench: Bench, **consent: Any) -> Described:
    """The site's inventory, in the project; with consent when something is said of it."""
    described = real_style.describe(house.site, consent=bool(consent))
    if consent:
        described["consent"].update(consent)
    real_style.write(described, bench.project / "real.yml")
    return described


GIVEN = ("--pveha-inventory", "real.yml")
ARMED = (*GIVEN, "-m", "destructive or readiness")

WAYS: dict[str, tuple[str, ...]] = {
    "inventory alone": GIVEN,
    "everything": (*ARMED, "--pveha-scope", "all"),
    "-m destructive": (*GIVEN, "-m", "destructive"),
    "-m not destructive": (*GIVEN, "-m", "not destructive"),
    "-m readiness": (*GIVEN, "-m", "readiness"),
    "-m not readiness": (*GIVEN, "-m", "not readiness"),
    "-m of nothing": (*GIVEN, "-m", "proof"),
    "-k": (*ARMED, "-k", "cut"),
    "-k not": (*ARMED, "-k", "not looks"),
    "id": (*ARMED, "suites/test_it.py::test_cut"),
    "last failed": (*ARMED, "--lf"),
    "stepwise": (*ARMED, "--sw"),
    "deselect": (*ARMED, "--deselect", "suites/test_it.py::test_looks"),
    "without our plug-in": ("-p", "no:pveha"),
    "without our hooks": (*GIVEN, "-p", "no:pveha-hooks"),
    "without our fixtures": (*GIVEN, "-p", "no:pveha-fixtures"),
    "without a terminal": (*ARMED, "-p", "no:terminal"),
    "without strictness": (*ARMED, "-o", "strict_markers=false", "-o", "addopts="),
    "switched off": (*ARMED, "-o", "pveha=false"),
    "foreign root": (*ARMED, "--rootdir", ".."),
    "foreign settings": (*ARMED, "-c", "other.ini", "suites"),
    "no settings": ("--inventory", "real.yml", "-c", "other.ini", "suites"),
    "no conftest": (*ARMED, "--noconftest"),
    "collect only": (*GIVEN, "--collect-only"),
    "set-up only": (*ARMED, "--setup-only"),
    "plan": (*GIVEN, "--pveha-plan"),
    "plan without hooks": (*GIVEN, "--pveha-plan", "-p", "no:pveha-hooks"),
    "plan with a wrong -m": (*GIVEN, "--pveha-plan", "-m", "not readiness"),
}


OTHERWISE = {
    "inventory alone": 4,
    "-m not readiness": 4,
    "-m of nothing": 4,
    "stepwise": 2,
    "without our plug-in": 2,
    "without our hooks": 4,
    "without our fixtures": 4,
    "no settings": 4,
    "collect only": 0,
    "plan": 1,
    "plan without hooks": 4,
    "plan with a wrong -m": 1,
}
"""Exit codes that are not 6: nothing was selected, known, or to be run."""


@pytest.mark.parametrize("way", WAYS)
def test_without_consent(house: House, project: Bench, way: str) -> None:
    """No way of starting pytest does anything to a real site whose inventory has no consent."""
    project.file("other.ini", "[pytest]\n")
    real(house, project)
    if way in ("last failed", "stepwise"):  # they go by what an earlier run left
        project.pytest(*ARMED, "-k", "unmarked")
    before = len(house.lines())
    result = project.pytest(*WAYS[way])
    assert result.code == OTHERWISE.get(way, 6), result.text
    assert house.since(before) == [], result.text
    if result.code == 6:  # so the run did come to its tests
        journals = [path.read_text() for path in project.root.rglob("journal.jsonl")]
        assert any('"kind":"test.close"' in journal for journal in journals)
        assert not any('"kind":"fault.plan"' in journal for journal in journals)
    assert project.register == []


def test_bare(house: House, project: Bench) -> None:
    """pytest alone, in a project full of such tests, asks for an inventory, and runs none."""
    real(house, project, destructive=True)
    before = len(house.lines())
    result = project.pytest()
    assert result.code == pytest.ExitCode.USAGE_ERROR
    assert "these tests need a site. Name one with --inventory FILE" in result.text
    assert house.since(before) == []


def test_an_inventory_in_the_environment(house: House, project: Bench) -> None:
    """Without consent an exported inventory arms nothing either."""
    real(house, project)
    before = len(house.lines())
    result = project.pytest("-m", "destructive", PVEHA_INVENTORY="real.yml")
    assert result.code == 6, result.text
    assert house.since(before) == []


@pytest.mark.parametrize(
    "words",
    [
        (),
        GIVEN,
        (*GIVEN, "--pveha-scope", "all"),
        (*GIVEN, "-m", "not readiness"),
        (*GIVEN, "-k", "cut"),
        (*GIVEN, "suites/test_it.py::test_cut"),
        (*GIVEN, "--lf"),
        (*GIVEN, "-o", "addopts=-m destructive"),
        (*GIVEN, "--deselect", "suites/test_it.py::test_looks"),
    ],
    ids=" ".join,
)
def test_what_nobody_asked_for_by_its_name(house: House, project: Bench, words: tuple[str, ...]) -> None:
    """With every consent, tests that break a real site are refused before it is touched unless -m names them."""
    real(house, project, bystanders="all", site_reset=True)
    before = len(house.lines())
    result = project.pytest(*words, PVEHA_INVENTORY="real.yml")
    assert result.code == pytest.ExitCode.USAGE_ERROR, result.text
    assert "tests that break things are selected without being asked for; nothing was touched" in result.text
    assert house.since(before) == []
    assert list(project.root.rglob("journal.jsonl")) == []


HARMLESS: dict[str, tuple[str, ...]] = {
    "-m readiness": (*GIVEN, "-m", "readiness"),
    "-m not destructive": (*GIVEN, "-m", "not destructive"),
    "-k": (*GIVEN, "-k", "looks or liar"),
    "id": (*GIVEN, "suites/test_it.py::test_looks"),
    "deselect": (*ARMED, *(f"--deselect=suites/test_it.py::test_{name}" for name in ("cut", "unmarked", "wide"))),
    "without our hooks": (*GIVEN, "-p", "no:pveha-hooks"),
    "without our fixtures": (*GIVEN, "-p", "no:pveha-fixtures"),
    "without our plug-in": ("-p", "no:pveha"),
    "switched off": ("--inventory", "real.yml", "-o", "pveha=false"),
    "no settings": ("--inventory", "real.yml", "-c", "other.ini", "suites"),
    "collect only": (*GIVEN, "--collect-only"),
    "set-up only": (*ARMED, "--setup-only"),
    "plan": (*GIVEN, "--pveha-plan"),
    "plan without hooks": (*GIVEN, "--pveha-plan", "-p", "no:pveha-hooks"),
    "plan without a terminal": (*GIVEN, "--pveha-plan", "-p", "no:terminal"),
    "plan in a foreign root": (*GIVEN, "--pveha-plan", "-c", "other.ini", "suites"),
    "side by side": (*GIVEN, "-n", "2"),
}


CODES = {
    "-m readiness": 6,  # because of the liar
    "-m not destructive": 6,
    "-k": 6,
    "id": 0,
    "deselect": 6,
    "without our hooks": 4,
    "without our fixtures": 4,
    "without our plug-in": 2,
    "switched off": 2,
    "no settings": 4,
    "collect only": 0,
    "set-up only": 6,
    "plan": 1,  # the test that does not say what it breaks
    "plan without hooks": 4,
    "plan without a terminal": 1,
    "plan in a foreign root": 1,
    "side by side": 4,
}


@pytest.mark.parametrize("way", HARMLESS)
def test_with_consent_nothing_but_what_was_selected(house: House, project: Bench, way: str) -> None:
    """Consent for everything breaks nothing where no test that breaks something was selected, or is to run."""
    project.file("other.ini", "[pytest]\n")
    real(house, project, bystanders="all", site_reset=True)
    before = len(house.lines())
    result = project.pytest(*HARMLESS[way])
    assert result.code == CODES[way], result.text
    assert house.since(before) == [], result.text
    assert project.register == []


def refused(result: Result, part: str) -> str:
    """Why that test was not proven; nothing was injected in the whole run."""
    assert "fault.plan" not in result.kinds()
    row = result.test(part)
    assert row["verdict"] == "not proven", row
    return str(row["reason"])


def test_each_refusal_of_the_consent(house: House, project: Bench) -> None:
    """Undeclared, too wide, or a liar: each says why, and what to do."""
    real(house, project, faults=["network"])
    before = len(house.lines())
    result = project.pytest(*ARMED, "--pveha-scope", "one-per-role")
    assert result.code == 6, result.text
    assert "consent.faults: power (a node's power, by BMC, PDU or hand) is not granted" in refused(result, "test_cut")
    assert refused(result, "test_unmarked").endswith(
        "consent: the test does not say what it breaks, so nobody can have agreed to it; add breaks=(…) to its mark "
        "destructive (docs/reference/fixtures.md)"
    )
    assert "the test only looks, by its mark readiness, so it may not inject a power-cut" in refused(result, "liar")
    assert house.since(before) == []


def test_more_than_the_victim_needs_a_leave_of_its_own(house: House, project: Bench) -> None:
    """site_reset in the mark and not in the consent: refused."""
    real(house, project, bystanders="all")
    before = len(house.lines())
    result = project.pytest(*ARMED, "-k", "wide", "--pveha-scope", "one-per-role")
    assert result.code == 6, result.text
    assert "consent.site_reset: is false, and this test may reset more than its victim" in refused(result, "wide")
    assert house.since(before) == []


def test_a_fault_about_quorum_needs_a_word_of_its_own(house: House, bench: Bench) -> None:
    """What takes the quorum away from all is refused where the mark does not say that more may be reset."""
    bench.suite(
        "@pytest.mark.destructive(breaks='partition')\n"
        "def test_it(nodes, faults, run):\n"
        '    """Nobody hears anybody."""\n'
        "    with faults.site_without_quorum(nodes):\n"
        "        pass\n"
    )
    real(house, bench, bystanders="all", faults=["network"], site_reset=True)
    before = len(house.lines())
    result = bench.pytest(*ARMED)
    assert "and the test does not say so; add site_reset=True to its mark destructive" in refused(result, "test_it"), (
        result.text
    )
    assert house.since(before) == []


def test_a_guest_never_to_be_touched_keeps_its_node(house: House, project: Bench) -> None:
    """It would go down with its node, so the node's power stays on, although bystanders are permitted."""
    real(house, project, bystanders="all", never_touch={"guests": ["vm:102"]})
    before = len(house.lines())
    result = project.pytest(*ARMED, "suites/test_it.py::test_cut")
    assert "never_touch: vm:102 would be reached, and `consent.never_touch` names it" in refused(result, "test_cut"), (
        result.text
    )
    assert house.since(before) == []


def test_a_fault_that_was_not_declared(bench: Bench) -> None:
    """A test that asks for another fault than it said is refused, on a simulated site too."""
    bench.suite(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "from pytest_pveha.faults.power import PowerCut\n"
        "@dataclass(frozen=True, slots=True)\n"
        "class Other(PowerCut):\n"
        "    kind: ClassVar[str] = 'power-surge'\n"
        "@pytest.mark.destructive(breaks='power-cut')\n"
        "@pytest.mark.roles('other')\n"
        "def test_it(victim, run):\n"
        '    """Breaks more than it says."""\n'
        "    with run.break_with(lambda tag: Other(victim.name), Other.kind, (victim.name,), 60.0):\n"
        "        pass\n"
    )
    result = bench.armed()
    assert "the test says that it breaks power-cut, and asks for a power-surge, which nobody agreed to" in refused(
        result, "test_it"
    )


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ('breaks=("powercut",)', "breaks=powercut: no such fault; known are "),
        ("brakes=()", "the mark destructive has no brakes"),
    ],
)
def test_a_slip_in_the_mark(bench: Bench, mark: str, message: str) -> None:
    """It stops the run before the site is looked at."""
    bench.suite(f'@pytest.mark.destructive({mark})\ndef test_it(run):\n    """Slips."""\n')
    result = bench.armed()
    assert result.code == pytest.ExitCode.USAGE_ERROR, result.text
    assert f"suites/test_it.py::test_it: {message}" in result.text
    assert bench.sites == []


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("-k", "one or looks"),
        ("-m", "destructive"),
        ("suites/test_it.py::test_two",),
        ("--deselect=suites/test_it.py::test_one",),
    ],
    ids=lambda words: " ".join(words) or "bare",
)
def test_the_plan_is_of_what_would_run(bench: Bench, words: tuple[str, ...]) -> None:
    """The same words select the same tests, in the same order; the plan runs none of them."""
    looks = '@pytest.mark.readiness\ndef test_looks(run):\n    """Only looks."""\n    run.check(CHECKS[0])\n'
    bench.suite(CALM.format("two") + CALM.format("one") + looks)
    told = bench.armed("--pveha-plan", "--pveha-plan-json", "plan.json", *words)
    assert told.code == 0, told.text
    assert "does not say what it breaks" in told.out or "1 more only looks" in told.out
    assert not told.reports.exists()
    result = bench.armed(*words)
    planned = json.loads((bench.project / "plan.json").read_text())
    ran = json.loads((result.folder / "plan.json").read_text())
    ids = [test["id"] for test in planned["tests"]]
    assert ids == [test["id"] for test in ran["tests"]]
    assert sorted(ids) == sorted(
        row["id"] for row in result.verdict["tests"] if row["id"] not in ("gate", *result.left_out)
    )
    assert planned["not_selected"] == ran["not_selected"]


def approvable(house: House, project: Bench) -> None:
    """An inventory that needs a second signature, and the second person's key."""
    described = real(house, project, bystanders="all")
    described["consent"]["approval"] = {"file": "plan.json.approval", "allowed_signers": "approvers"}
    described["evidence"] = {"signing_key": "seal", "signer": "seal@example.org"}
    real_style.write(described, project.project / "real.yml")
    sshsig.throwaway_key(project.project / "seal", "seal")
    sshsig.throwaway_key(project.project / "boss", "boss")


def approve(project: Bench, *selection: str, key: str = "boss") -> None:
    """That selection is planned and signed."""
    from pytest_pveha.approval import approve as sign

    plan = project.project / "plan.json"
    project.pytest(*ARMED, "--pveha-plan", "--pveha-plan-json", "plan.json", "--pveha-no-connect", *selection)
    _, line = sign(plan, project.project / key, "boss@example.org")
    (project.project / "approvers").write_text(line)


def unsigned(project: Bench) -> None:
    """Nobody signed."""


def signed_by_the_sealer(project: Bench) -> None:
    """Who seals the evidence signed."""
    approve(project, "-k", "test_cut", key="seal")


def signed_for_less(project: Bench) -> None:
    """Another test was approved."""
    approve(project, "-k", "wide")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (unsigned, "the plan, "),
        (signed_by_the_sealer, "with the key that also seals the evidence; a second person must approve"),
        (signed_for_less, "not in the approved plan, or it says now that it breaks something else"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_without_a_second_signature(
    house: House, project: Bench, prepare: Callable[[Bench], None], message: str
) -> None:
    """One message before the site is even contacted; no run folder, nothing done."""
    approvable(house, project)
    prepare(project)
    before = len(house.lines())
    result = project.pytest(*ARMED, "-k", "test_cut")
    assert result.code == pytest.ExitCode.USAGE_ERROR, result.text
    (told,) = [line for line in result.text.splitlines() if line.startswith("ERROR: ")]
    assert "real.yml: consent.approval: " in told
    assert message in told
    assert not (project.project / "reports").exists()
    assert house.since(before) == []


def test_looking_needs_no_second_signature(house: House, project: Bench) -> None:
    """Tests that only look run without it."""
    approvable(house, project)
    result = project.pytest(*ARMED, "-k", "looks")
    assert result.test("looks")["verdict"] == "accepted", result.text


@pytest.mark.proof
def test_what_was_approved_and_selected_is_all_that_is_broken(house: House, project: Bench) -> None:
    """Consent, a second signature, one node: that node loses power and nobody else; both papers are sealed with it.

    It comes last: the site of all the others is broken here, in real time.
    """
    approvable(house, project)
    approve(project, "-k", "test_cut")
    before = len(house.lines())
    result = project.pytest(*ARMED, "suites/test_it.py::test_cut")
    assert "fault.inject" in result.kinds(), result.text
    done = house.since(before)
    assert {line["node"] for line in done if line["kind"] in ("bmc_command", "dead", "power_off")} == {"pve2"}
    manifest = (result.folder / "MANIFEST").read_text()
    assert "approved-plan.json\n" in manifest
    assert "approved-plan.json.approval\n" in manifest
    environment = json.loads((result.folder / "environment.json").read_text())
    assert environment["approval"]["approved_by"] == "boss@example.org"
    assert result.verdict["approval"] == environment["approval"]
    told = verify_run(result.folder, rejudge=lambda each: dump(judge(read(each / "journal.jsonl"))))
    assert told.ok, told.lines
    assert any("approved by boss@example.org" in line for line in told.lines)
    plan = json.loads((result.folder / "plan.json").read_text())
    assert [test["id"] for test in plan["tests"]] == ["suites/test_it.py::test_cut"]
    assert project.register == []


def test_the_kit_is_what_it_says() -> None:
    """The suite that all of this plays with would arm everything: no test in it is harmless but one."""
    assert INI.startswith("[pytest]\npveha = true")
    assert SUITE.count("faults.power_cut(") == 5
    assert (ROOT / "suites").is_dir()
