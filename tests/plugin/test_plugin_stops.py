"""Runs that are cut short, and sites that are not fit: healed first, sealed always, and never a fault too many."""

import subprocess
import sys
from pathlib import Path

import pytest
from plugin_kit import CALM, SITE, Bench, Result

CUT_SHORT = '''
from pytest_pveha.faults.power import PowerCut

@pytest.mark.roles("other")
def test_outage(victim, nodes, faults, run, monkeypatch):
    """A node loses power, and then somebody sends a signal."""
    if "AGAIN" in os.environ:
        heal = PowerCut.heal
        def disturbed(self, observer):
            signal.raise_signal(signal.Signals[os.environ["AGAIN"]])
            heal(self, observer)
        monkeypatch.setattr(PowerCut, "heal", disturbed)
    run.watch(nodes)
    with faults.power_cut(victim):
        signal.raise_signal(signal.Signals[os.environ["SIGNAL"]])
        run.expect(ha.fenced(victim), within="10 min")
    run.claim(violations(audits.CLUSTER), none=True)
'''


def healed(bench: Bench, result: Result) -> None:
    """The site is as it was found, and so says the sealed record."""
    kinds = result.kinds()
    assert kinds.index("fault.inject") < kinds.index("fault.healed") < kinds.index("fault.close")
    assert kinds[-1] == "run.close"
    _, left = (line for line in lines(result) if '"kind":"snapshot"' in line)
    assert '"as":"left"' in left
    assert '"differences":[]' in left
    assert bench.register == []
    assert bench.sites == []
    assert bench.litter == []
    complete(result)


def lines(result: Result) -> list[str]:
    """The journal's lines."""
    return (result.folder / "journal.jsonl").read_text().splitlines()


def complete(result: Result) -> None:
    """Every paper is there, and the MANIFEST is right for each."""
    for name in ("verdict.json", "report.html", "pytest.html", "junit.xml", "environment.json", "plan.json"):
        assert (result.folder / name).is_file(), name
    subprocess.run(["sha256sum", "-c", "--quiet", "--strict", "MANIFEST"], cwd=result.folder, check=True)


@pytest.mark.parametrize(
    ("name", "more"), [("SIGINT", {}), ("SIGTERM", {"AGAIN": "SIGTERM"})], ids=["interrupt", "terminate twice"]
)
def test_signals_heal_first(bench: Bench, name: str, more: dict[str, str]) -> None:
    """A signal amid an outage ends the run with code 2 once all is healed; another while healing only says so."""
    bench.suite(CUT_SHORT + CALM.format("later"))
    result = bench.armed(SIGNAL=name, **more)
    assert result.code == pytest.ExitCode.INTERRUPTED, result.text
    assert result.verdict["verdict"] == "not proven"
    assert f"interrupted: {name}" in result.test("test_outage")["reason"]
    assert result.test("test_later")["reason"] == "did not run: the run was interrupted"
    assert result.err.count(f"{name}: ending the scenario; what is broken is being healed first. Please wait.") == (
        2 if more else 1
    )
    assert "Traceback" not in result.text
    healed(bench, result)


STOPPED = '''
from pytest_pveha.record.lease import Lease

@pytest.mark.roles("other")
def test_outage(victim, nodes, faults, run, site):
    """A node loses power, and then somebody types pveha stop."""
    run.watch(nodes)
    with faults.power_cut(victim):
        Lease(site.name).ask_to_stop("enough for tonight")
        run.expect(ha.fenced(victim), within="10 min")
    run.claim(violations(audits.CLUSTER), none=True)
'''


def test_a_request_to_stop_heals_and_ends_the_campaign(bench: Bench) -> None:
    """Asked to stop amid an outage the run heals, proves nothing by that test, and begins no other."""
    bench.suite(STOPPED + CALM.format("later"))
    result = bench.armed()
    assert result.verdict["verdict"] == "not proven", result.text
    assert "enough for tonight" in result.test("test_outage")["reason"]
    assert "the campaign has ended before this test" in result.test("test_later")["reason"]
    assert "Traceback" not in result.text
    healed(bench, result)


def test_signal_before_anything_is_broken(bench: Bench) -> None:
    """A signal while the gate is asked ends the run with code 2, nothing broken, and the record says so."""
    bench.suite(CALM.format("one") + CALM.format("two"))
    bench.file(
        "conftest.py",
        "import signal\n"
        "from pytest_pveha.readiness import checks\n"
        "real = checks.run_checks\n"
        "def asked(observer):\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    return real(observer)\n"
        "import pytest_pveha.scenario.campaign as campaign\n"
        "campaign.run_checks = asked\n",
    )
    result = bench.armed()
    assert result.code == pytest.ExitCode.INTERRUPTED, result.text
    assert result.verdict["verdict"] == "not proven"
    assert "fault.plan" not in result.kinds()
    assert bench.sites == []
    complete(result)


def test_first_failure_stops_with_x(bench: Bench) -> None:
    """With -x the run ends at the first test not accepted; the rest is listed as not run, the record sealed."""
    bench.suite('def test_wrong(run):\n    """Is wrong."""\n    assert 1 == 2\n' + CALM.format("later"))
    result = bench.armed("-x")
    assert result.code == 1
    assert result.verdict["verdict"] == "rejected"
    assert "did not run" in result.test("test_later")["reason"]
    complete(result)


def test_another_plugins_bug(bench: Bench) -> None:
    """An internal error from somebody's hook, amid a run, leaves a sealed record and pytest's own exit code."""
    bench.suite(CALM.format("one") + CALM.format("two"))
    bench.file(
        "conftest.py",
        "def pytest_runtest_logfinish(nodeid):\n    raise ZeroDivisionError('a bug of theirs')\n"
        "def pytest_sessionfinish():\n    raise ZeroDivisionError('and another')\n",
    )
    result = bench.armed()
    assert result.code == pytest.ExitCode.INTERNAL_ERROR, result.text
    assert "and another" in result.text
    assert "a bug of theirs" in result.text
    assert result.verdict["verdict"] == "not proven"
    assert {row["id"] for row in result.verdict["not_proven"]} == {"run", "suites/test_it.py::test_two"}
    assert (result.folder / "MANIFEST").is_file()
    assert bench.sites == []
    assert bench.litter == []


def test_alarm_of_pytest_timeout(bench: Bench) -> None:
    """pytest-timeout's alarm amid an outage heals first, makes that test inconclusive, and the next one runs."""
    bench.suite(CUT_SHORT + CALM.format("later"))
    result = bench.armed("-p", "pytest_timeout", "--timeout=300", SIGNAL="SIGALRM")
    assert result.code == 6, result.text
    assert result.test("test_outage")["verdict"] == "inconclusive"
    assert "pytest-timeout" in result.test("test_outage")["reason"]
    assert result.test("test_later")["verdict"] == "accepted"
    healed(bench, result)


# --- sites that are not fit --------------------------------------------------------------------------------------

BEFORE = """
import sys
from pathlib import Path
from pytest_pveha.embedded import start
from pytest_pveha.handles.connect import connect
from pytest_pveha.inventory import load

embedded = start(load(Path(sys.argv[1])))
clock = embedded.clock()
site = connect(embedded.inventory, clock)
site.nodes["pve2"].bmc.set_power("off", clock.deadline(20))
clock.sleep(15)
site.close()
clock.close()
"""


@pytest.fixture
def unfit(bench: Bench) -> Bench:
    """A site, already running, on which a node has lost its power before anybody of ours came."""
    bench.suite(CUT_SHORT + CALM.format("later"))
    subprocess.run(
        [sys.executable, "-c", BEFORE, str(bench.project / "sim.yml")], env=bench.env, cwd=bench.project, check=True
    )
    assert len(bench.sites) == 1
    return bench


def test_gate_refuses_a_site_that_is_not_fit(unfit: Bench) -> None:
    """Where a node is off already nothing is broken: each destructive test is refused, with what is wrong."""
    result = unfit.armed(SIGNAL="SIGINT")
    assert result.code not in (0, 2), result.text
    assert result.verdict["gate"]["verdict"] == "rejected"
    assert not result.verdict["verdict"].startswith("accepted")
    for name in ("test_outage", "test_later"):
        assert result.test(name)["verdict"] == "not proven"
        assert "pve2" in result.test(name)["reason"]
    assert "fault.plan" not in result.kinds()
    assert "Traceback" not in result.text
    assert "KeyError" not in result.text
    complete(result)


REAL = """\
site: {name: real}
cluster:
  name: prod1
  api:
    endpoints: ["127.0.0.1:1", "127.0.0.1:2"]
    token_id: pveha@pve!run
    token_secret: env:TOKEN
    fingerprints:
      "127.0.0.1:1": "PRINT"
      "127.0.0.1:2": "PRINT"
nodes:
  pve1:
    address: 127.0.0.1
    ssh: {user: root, key_file: key, known_hosts: known_hosts}
    bmc: {address: 127.0.0.1, port: 1, user: root, password: env:BMC}
guests:
  - {id: "vm:101", name: shop, tier: gold, probes: [{tcp: {host: 127.0.0.1, port: 1}}]}
objectives: {tiers: {gold: {rto: 5 min}}}
""".replace("PRINT", ":".join(["0F"] * 32))


def test_unreachable_site(bench: Bench) -> None:
    """A real site of which nobody answers: one line, exit code 6, no folder, no traceback."""
    bench.suite(CALM.format("one"))
    bench.file("real.yml", REAL)
    result = bench.pytest("--inventory", "real.yml", "-m", "destructive", TOKEN="x" * 36, BMC="y")
    assert result.code == 6, result.text
    assert "not proven: " in result.text
    assert "Traceback" not in result.text
    assert not (bench.project / "reports" / "real").exists()
    assert bench.litter == []
    assert Path(bench.root / "s" / "open").exists() is False or bench.register == []


def test_defect_that_is_not_known(bench: Bench) -> None:
    """A defect that the simulator does not know is an error of the inventory; no site stays behind."""
    bench.suite(CALM.format("one"))
    bench.file("sim.yml", SITE.replace("seed: 1", "seed: 1, defects: [never-fence]"))
    result = bench.armed()
    assert result.code == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.text.splitlines() if line.startswith("ERROR:")]
    assert len(errors) == 1
    assert "sim.yml: simulator:" in errors[0]
    assert "never-fence" in errors[0]
    assert bench.sites == []


# --- waivers -----------------------------------------------------------------------------------------------------

WAIVED = """
waivers:
  - {{test: "suites/test_it.py::test_known", reason: "the switch is on order", owner: "J. Doe", expires: {}}}
"""
FAILING = 'def test_known(run):\n    """Is known to fail."""\n    assert 1 == 2\n'


@pytest.mark.parametrize(("last_day", "verdict", "code"), [("2999-12-31", "waived", 0), ("2020-01-01", "rejected", 1)])
def test_a_waiver_counts_until_its_last_day(bench: Bench, last_day: str, verdict: str, code: int) -> None:
    """A waived test is not run, and listed with reason, owner and last day; after that day it counts again."""
    bench.suite(FAILING + CALM.format("fine"))
    bench.file("sim.yml", SITE + WAIVED.format(last_day))
    result = bench.armed()
    assert result.code == code, result.text
    assert result.test("test_known")["verdict"] == verdict
    assert result.test("test_fine")["verdict"] == "accepted"
    if verdict == "waived":
        assert result.verdict["verdict"] == "accepted (simulated)"
        assert result.test("test_known")["reason"] == "the switch is on order (J. Doe, until 2999-12-31)"
