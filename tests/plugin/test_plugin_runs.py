"""Whole runs on the embedded site: what they say, what they leave, with which code they end. Runs are shared."""

import json
import re
import stat
import subprocess
from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from plugin_kit import CALM, SITE, Bench, Result

OUTAGE = '''
@pytest.mark.destructive(blast="one node", expected="12 min")
@pytest.mark.roles("other")
def test_outage(victim, residents, nodes, guests, faults, run, objectives):
    """A node that loses power is survived."""
    run.watch(guests, nodes)
    with faults.power_cut(victim):
        run.expect(ha.membership_lost(victim), within="1 min")
        run.expect(ha.answering(residents), within="10 min")
    run.expect(ha.online(victim), within="15 min")
    run.claim(recovery_time(residents), at_most=objectives.rto)
    run.claim(violations(audits.CLUSTER), none=True)
'''

MIXED = '''
def test_claims_nothing(cluster):
    """Says nothing."""

def test_expects_in_vain(run, nodes):
    """Sees that it is not so."""
    run.expect(ha.membership_lost(list(nodes)[0]), within="5 s")

def test_skips(run):
    """Does not care."""
    pytest.skip("no reason at all")

def test_asserts(run):
    """Counts wrongly."""
    found = 3
    assert found == 4, "there must be four"

def test_has_a_bug(run):
    """Is wrong itself."""
    {}["no such key"]

@pytest.mark.needs(nodes=9)
def test_needs_more(run):
    """Wants nine nodes."""

@pytest.mark.readiness
def test_only_looks(run):
    """Looks."""
    run.check(CHECKS[0])

@pytest.fixture
def untidy():
    yield
    raise RuntimeError("left the door open")

def test_untidy(untidy, run):
    """Is well, and leaves badly."""
    run.check(CHECKS[0])
'''

MakeBench = Callable[[], Bench]


def key(bench: Bench) -> str:
    """A fresh signing key."""
    path = bench.root / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return str(path)


@pytest.fixture(scope="session")
def outage(new_bench: MakeBench) -> tuple[Bench, Result]:
    """An accepted outage, with everything that is installed loaded, signed, and reports of the user's own."""
    bench = new_bench()
    bench.suite(OUTAGE)
    return bench, bench.armed(
        "-q", f"--pveha-signing-key={key(bench)}", "--html=own.html", "--junitxml=own.xml", everything=True
    )


@pytest.fixture(scope="session")
def mixed(new_bench: MakeBench) -> tuple[Bench, Result]:
    """A run in which every way of not being accepted without a fault occurs."""
    bench = new_bench()
    bench.suite(MIXED)
    return bench, bench.armed()


def stuck(bench: Bench) -> None:
    """What is broken on that site cannot be undone."""
    bench.file("sim.yml", SITE.replace("settle: 20 min", "settle: 1 min"))
    bench.file(
        "conftest.py",
        "import pytest\n"
        "from pytest_pveha.errors import Unreachable\n"
        "from pytest_pveha.faults.power import PowerCut\n"
        "from pytest_pveha.observe.answer import cant_tell\n"
        "@pytest.fixture(autouse=True)\n"
        "def stuck(monkeypatch):\n"
        "    def heal(self, observer): raise Unreachable('the BMC burnt down')\n"
        "    monkeypatch.setattr(PowerCut, 'heal', heal)\n"
        "    monkeypatch.setattr(PowerCut, 'healed', lambda self, observer: cant_tell('no BMC'))\n",
    )


@pytest.fixture(scope="session")
def dirty(new_bench: MakeBench) -> tuple[Bench, Result]:
    """A run whose fault cannot be undone."""
    bench = new_bench()
    bench.suite(OUTAGE)
    stuck(bench)
    return bench, bench.armed()


# --- accepted ----------------------------------------------------------------------------------------------------


def test_accepted_is_0(outage: tuple[Bench, Result]) -> None:
    """An outage that is survived is accepted, as simulated, with exit code 0; nothing stays behind."""
    bench, result = outage
    assert result.code == 0, result.text
    assert result.verdict["verdict"] == "accepted (simulated)"
    assert result.verdict["not_proven"] == []
    assert result.verdict["gate"]["verdict"] == "accepted"
    assert bench.register == []
    assert bench.sites == []
    assert bench.litter == []


def test_progress_is_told_when_piped_and_quiet(outage: tuple[Bench, Result]) -> None:
    """With -q and no terminal too, scenario, step, elapsed and expected time are told while it runs."""
    _, result = outage
    told = [line for line in result.out.splitlines() if re.match(r" *\[ *\d+\.\d min of about 12 min\] ", line)]
    assert any("power-cut-1 took effect" in line for line in told)
    assert any("answer again" in line for line in told)
    assert result.out.index("A node that loses power is survived.") < result.out.index(told[0])


def test_verdict_is_the_last_word(outage: tuple[Bench, Result]) -> None:
    """The summary comes after pytest's own, and its last line is the verdict."""
    _, result = outage
    assert result.last_line().startswith("verdict: ACCEPTED (SIMULATED).")
    assert result.out.index("1 passed") < result.out.index("proven and not proven") < result.out.index("sealed: ")
    assert str(result.folder / "report.html") in result.out


def test_files_of_a_run(outage: tuple[Bench, Result]) -> None:
    """The run folder has all its papers, is nobody else's, and reports/latest points to it."""
    bench, result = outage
    names = {path.name for path in result.folder.iterdir()}
    papers = {"journal.jsonl", "plan.json", "environment.json", "verdict.json", "report.html", "pytest.html"}
    assert papers | {"junit.xml", "raw", "MANIFEST", "MANIFEST.sig", "allowed_signers", "SIMULATED"} <= names
    assert stat.S_IMODE(result.folder.stat().st_mode) == 0o700
    assert (bench.project / "reports" / "latest").readlink() == result.folder.relative_to(bench.project / "reports")
    assert result.folder.parent.name == "bench"
    assert json.loads((result.folder / "plan.json").read_text())["tests"][0]["id"].endswith("test_outage[other-1]")


def test_reports_of_the_users_own(outage: tuple[Bench, Result]) -> None:
    """The user's --html and --junitxml are where he wants them, and copied into the run folder."""
    bench, result = outage
    assert (bench.project / "own.html").read_bytes() == (result.folder / "pytest.html").read_bytes()
    assert (bench.project / "own.xml").read_bytes() == (result.folder / "junit.xml").read_bytes()
    assert "test_outage" in (bench.project / "own.html").read_text()
    # that page is not self-contained unless asked for: its style is beside it in both places
    assert (result.folder / "assets" / "style.css").is_file()


def test_junit_carries_the_verdict(outage: tuple[Bench, Result]) -> None:
    """JUnit XML has the verdict and the figures as properties."""
    _, result = outage
    properties = {
        each.get("name"): each.get("value") for each in ElementTree.parse(result.folder / "junit.xml").iter("property")
    }
    assert properties["pveha.verdict"] == "accepted"
    assert properties["pveha.simulated"] == "true"
    assert any(str(name).startswith("pveha.recovery_time") for name in properties)


def test_seal_holds_with_stock_tools(outage: tuple[Bench, Result]) -> None:
    """ssh-keygen and sha256sum alone verify the folder."""
    _, result = outage
    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed_signers", "-I", "tests@pveha.invalid", "-n"]
    namespace = re.search(rb'namespaces="([^"]+)"', (result.folder / "allowed_signers").read_bytes())
    assert namespace
    with (result.folder / "MANIFEST").open("rb") as manifest:
        subprocess.run(
            [*command, namespace[1].decode(), "-s", "MANIFEST.sig"], cwd=result.folder, stdin=manifest, check=True
        )
    subprocess.run(["sha256sum", "-c", "--quiet", "--strict", "MANIFEST"], cwd=result.folder, check=True)


# --- not accepted ------------------------------------------------------------------------------------------------


def test_rejected_is_1(mixed: tuple[Bench, Result]) -> None:
    """The worst verdict decides the exit code, and is the last line."""
    _, result = mixed
    assert result.code == 1
    assert result.verdict["verdict"] == "rejected"
    assert result.last_line().startswith("verdict: REJECTED (SIMULATED).")


@pytest.mark.parametrize(
    ("test", "verdict", "reason"),
    [
        ("test_claims_nothing", "not proven", "no claim"),
        ("test_expects_in_vain", "rejected", "not within 5 s"),
        ("test_skips", "not proven", "no reason at all"),
        ("test_asserts", "rejected", "there must be four"),
        ("test_has_a_bug", "inconclusive", "no such key"),
        ("test_needs_more", "not applicable", "it needs 9 nodes, the inventory has 3"),
        ("test_only_looks", "accepted", ""),
        ("test_untidy", "inconclusive", "left the door open"),
    ],
)
def test_verdict_of_each_ending(mixed: tuple[Bench, Result], test: str, verdict: str, reason: str) -> None:
    """Each way in which a test can end has its verdict, with the cause."""
    row = mixed[1].test(test)
    assert row["verdict"] == verdict
    assert reason in row["reason"]


def test_tracebacks_are_for_bugs_alone(mixed: tuple[Bench, Result]) -> None:
    """A bug of a test keeps its traceback; what we say ourselves is one line, an assertion shows its values."""
    _, result = mixed
    assert '>       {}["no such key"]' in result.out
    assert "rejected: the cluster notices" in result.out
    assert "3 == 4" in result.out
    assert "run.expect(" not in result.out
    assert "pytest_pveha/" not in result.out.replace("-p pytest_pveha", "")


def test_without_a_key_it_says_so_loudly(mixed: tuple[Bench, Result]) -> None:
    """Unsigned evidence has its MANIFEST, and the run says that nobody signed it."""
    _, result = mixed
    assert "\nNOT SIGNED: the inventory names no evidence.signing_key" in result.out
    assert (result.folder / "MANIFEST").is_file()
    assert not (result.folder / "MANIFEST.sig").exists()


def test_reports_nobody_asked_for_are_in_the_run_folder(mixed: tuple[Bench, Result]) -> None:
    """pytest.html and junit.xml are written straight there, self-contained, and told of there."""
    bench, result = mixed
    assert f"generated xml file: {result.folder / 'junit.xml'}" in result.out.replace("\n", "")
    assert "<style" in (result.folder / "pytest.html").read_text()
    assert not (result.folder / "assets").exists()
    assert bench.litter == []
    assert len(list((bench.project / "reports" / "bench").iterdir())) == 1


def test_junit_messages_begin_with_the_verdict(mixed: tuple[Bench, Result]) -> None:
    """Each failure in JUnit XML begins with its verdict's word."""
    root = ElementTree.parse(mixed[1].folder / "junit.xml")
    messages = {
        str(case.get("name")): str(child.get("message"))
        for case in root.iter("testcase")
        for child in case
        if child.tag in ("failure", "error")
    }
    assert messages["test_claims_nothing"].startswith("not proven:") or messages["test_claims_nothing"].startswith(
        "Failed: not proven:"
    )
    assert "rejected:" in messages["test_asserts"]


def test_not_proven_is_6(new_bench: MakeBench) -> None:
    """A node without BMC, a guest without a probe that can be asked: not proven, nothing broken, exit code 6."""
    bench = new_bench()
    bench.file("sim.yml", SITE.replace("{room: a}", "{room: a, operator: {who: hands}}"))
    bench.suite(
        OUTAGE
        + '''
def test_unseen(guests, run):
    """Watches a guest that cannot be asked."""
    from dataclasses import replace
    run.watch(replace(next(iter(guests)), probes=()))
'''
    )
    result = bench.armed()
    assert result.code == 6, result.text
    assert result.verdict["verdict"] == "not proven"
    assert "node pve1 has no BMC in the inventory" in result.test("test_outage")["reason"]
    assert "has no tcp or agent probe in the inventory" in result.test("test_unseen")["reason"]
    assert "fault.plan" not in result.kinds()
    assert result.last_line().startswith("verdict: NOT PROVEN (SIMULATED).")
    assert "Traceback" not in result.text
    assert bench.register == []


def test_dirty_is_7(dirty: tuple[Bench, Result]) -> None:
    """What cannot be healed makes the run dirty, names what to do by hand, and is on the register."""
    bench, result = dirty
    assert result.code == 7, result.text
    assert result.verdict["verdict"] == "dirty"
    assert result.last_line().startswith("verdict: DIRTY (SIMULATED).")
    assert "the BMC burnt down" in result.test("test_outage")["reason"]
    assert "chassis power on" in result.test("test_outage")["reason"]
    assert len(bench.register) == 1
    assert (result.folder / "MANIFEST").is_file()


def test_dirty_blocks_the_next_run(dirty: tuple[Bench, Result]) -> None:
    """Until it is healed no further run begins; the line names the command, and nothing is written."""
    bench, before = dirty
    result = bench.armed("-m", "readiness or destructive")
    assert result.code == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.text.splitlines() if line.startswith("ERROR:")]
    assert len(errors) == 1
    assert str(before.folder) in errors[0]
    assert f"pveha heal --inventory {bench.project / 'sim.yml'}" in errors[0]
    assert "Traceback" not in result.text
    assert "generated" not in result.text.lower()
    assert result.folder == before.folder
    assert bench.litter == []


# --- parts -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def parts(new_bench: MakeBench) -> Bench:
    """A project with calm suites in three files, one of which looks only, and a foreign test."""
    bench = new_bench()
    bench.suite(CALM.format("one") + CALM.format("two") + CALM.format("three"), "test_a.py")
    bench.suite(CALM.format("four") + "\ndef test_foreign():\n    pass\n", "test_b.py")
    bench.suite("\n@pytest.mark.readiness" + CALM.format("five"), "test_c.py")
    return bench


def names(result: Result) -> set[str]:
    """The left-out tests' names."""
    return {name.partition("::test_")[2] for name in result.left_out}


def test_readiness_alone(parts: Bench) -> None:
    """-m readiness breaks nothing, and lists every destructive test as not selected."""
    result = parts.armed("-m", "readiness")
    assert result.code == 0, result.text
    assert result.verdict["verdict"] == "accepted (partial, simulated)"
    assert result.last_line().startswith("verdict: ACCEPTED (PARTIAL, SIMULATED).")
    assert names(result) == {"one", "two", "three", "four"}
    assert not {"fault.plan", "gate"} & set(result.kinds())


def test_left_out_by_options(parts: Bench) -> None:
    """What -k, --deselect and --ignore leave out is listed; the readiness tests, which the gate replaces, are not."""
    result = parts.armed(
        "-k", "not one", "--deselect", "suites/test_a.py::test_two", "--ignore", "suites/test_b.py", "-m", "destructive"
    )
    assert result.code == 0, result.text
    assert result.verdict["verdict"] == "accepted (partial, simulated)"
    assert names(result) == {"one", "two", "four"}


def test_left_out_by_node_id(parts: Bench) -> None:
    """What node ids pass over, in that file and in others, is listed; the gate was asked all the same."""
    result = parts.armed("suites/test_a.py::test_two")
    assert result.code == 0, result.text
    assert result.verdict["verdict"] == "accepted (partial, simulated)"
    assert names(result) == {"one", "three", "four"}
    assert "gate" in result.kinds()


def test_left_out_by_last_failed(parts: Bench) -> None:
    """What --lf skips, whole files too, is listed, and the run is partial though everything it ran is accepted."""
    cache = parts.project / ".pytest_cache" / "v" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "lastfailed").write_text('{"suites/test_a.py::test_three": true}')
    result = parts.armed("--lf")
    assert result.code == 0, result.text
    assert result.verdict["verdict"] == "accepted (partial, simulated)"
    assert names(result) == {"one", "two", "four"}


def test_somebody_elses_failure_is_not_swallowed(new_bench: MakeBench) -> None:
    """A failing test that is none of ours makes the exit code 1 though our verdict is accepted."""
    bench = new_bench()
    bench.suite(CALM.format("one") + "\ndef test_foreign():\n    assert False\n")
    result = bench.armed()
    assert result.verdict["verdict"] == "accepted (simulated)"
    assert result.code == 1
    assert "assert False" in result.out
