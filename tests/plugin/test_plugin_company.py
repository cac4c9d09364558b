"""Beside other plug-ins, and in projects that have nothing to do with us."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from plugin_kit import CALM, SITE, Bench

FOREIGN_CONFTEST = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--site", default="theirs")

@pytest.fixture
def site(request):
    return request.config.getoption("--site")

@pytest.fixture(params=["a", "b"])
def node(request):
    return request.param

@pytest.fixture
def cluster(site):
    return site + " cluster"

@pytest.fixture
def run():
    return len

@pytest.fixture
def guests():
    return []
"""

FOREIGN = """
def test_theirs(site, cluster, node, run, guests):
    assert cluster == "theirs cluster"
    assert run([node, *guests]) == 1

def test_plain():
    pass
"""


@pytest.fixture
def foreign(bench: Bench) -> Bench:
    """A project of somebody else's, whose names happen to be ours."""
    bench.file("pytest.ini", "[pytest]\n")
    bench.file("conftest.py", FOREIGN_CONFTEST)
    bench.file("test_theirs.py", FOREIGN)
    return bench


def plain(text: str) -> str:
    """Output without what differs from run to run."""
    return re.sub(r" in \d+\.\d+s", "", re.sub(r"=+", "=", text)).replace("pveha-0, ", "")


def test_a_foreign_project_sees_nothing_of_us(foreign: Bench) -> None:
    """Fixtures with our names, options and output of a foreign project are as without us; no folder appears."""
    ours = foreign.pytest("-v", "-p", "no:cacheprovider", PVEHA_INVENTORY="sim.yml")
    theirs = foreign.pytest("-v", "-p", "no:cacheprovider", "-p", "no:pveha")
    assert ours.code == 0, ours.text
    assert "3 passed" in ours.out
    assert plain(ours.out) == plain(theirs.out)
    assert ours.err == theirs.err
    assert not ours.reports.exists()
    assert foreign.sites == []
    assert foreign.litter == []
    assert not (foreign.root / "s").exists()


def test_a_foreign_inventory_is_none_of_ours(foreign: Bench) -> None:
    """In a project that is not ours, pytest-ansible's --inventory is not read by us, whatever is in it."""
    foreign.file("hosts.ini", "[all]\nlocalhost ansible_connection=local\n")
    result = foreign.pytest("-p", "pytest_ansible.plugin", "--inventory", "hosts.ini", "-q")
    assert result.code == 0, result.text
    assert not result.reports.exists()
    again = foreign.pytest("-p", "pytest_ansible.plugin", "-q")
    assert again.code == 0, again.text


IMPORTS = """
import json, sys
import pytest, _pytest.config, argparse, shlex
from time import perf_counter_ns
before = set(sys.modules)
start = perf_counter_ns()
import pytest_pveha.plugin
took = perf_counter_ns() - start
print(json.dumps([took / 1e6, sorted(set(sys.modules) - before)]))
"""


def test_loading_costs_next_to_nothing(bench: Bench, record_property: Callable[[str, object], None]) -> None:
    """The entry point loads two small modules of ours beyond pytest, and no library; the cost is printed."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], env=bench.env, capture_output=True, text=True, check=True)
    took, modules = json.loads(done.stdout)
    record_property("import_ms", took)
    print(f"importing the plug-in took {took:.2f} ms")
    assert set(modules) == {"pytest_pveha", "pytest_pveha.plugin"}


LOADED = """
import sys
def pytest_unconfigure(config):
    heavy = {"pydantic", "ruamel", "paramiko", "requests", "proxmoxer", "pyghmi", "testinfra", "jinja2", "tenacity"}
    print("LOADED", sorted(heavy & set(sys.modules)), sorted(n for n in sys.modules if n.startswith("pytest_pveha")))
"""


def test_a_foreign_run_loads_no_library_of_ours(foreign: Bench) -> None:
    """Nor does a whole foreign run load more of us."""
    (foreign.project / "conftest.py").write_text(FOREIGN_CONFTEST + LOADED)
    result = foreign.pytest("-q", "-p", "no:metadata", cold=True)
    loaded = next(line for line in result.out.splitlines() if line.startswith("LOADED"))
    assert "['pytest_pveha', 'pytest_pveha.plugin']" in loaded
    assert not {"pydantic", "ruamel", "paramiko", "requests", "proxmoxer"} & set(re.findall(r"\w+", loaded))


# --- beside others, on our own project ---------------------------------------------------------------------------


def needs(module: str) -> None:
    """Skips where that plug-in is not installed."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


@pytest.fixture
def calm(bench: Bench) -> Bench:
    """A project of ours with one test that breaks nothing."""
    bench.suite(CALM.format("one"))
    return bench


def test_ansible_owns_inventory_and_we_read_it(calm: Bench) -> None:
    """With pytest-ansible, whose --inventory it is, ours is found by the same option and the run is accepted."""
    needs("pytest_ansible")
    result = calm.armed("-p", "pytest_ansible.plugin")
    assert result.code == 0, result.text
    assert result.verdict["verdict"] == "accepted (simulated)"
    assert result.verdict["site"] == "bench"


def test_ansible_without_an_inventory(calm: Bench) -> None:
    """pytest-ansible's default inventory is not taken for ours: the hint is what the person reads."""
    needs("pytest_ansible")
    result = calm.pytest("-p", "pytest_ansible.plugin")
    assert result.code == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: these tests need a site. Name one with --inventory FILE" in result.text
    assert "Traceback" not in result.text
    assert "INTERNALERROR" not in result.text


def test_testinfra_beside_us(calm: Bench) -> None:
    """pytest-testinfra's own plug-in may be there too, and its host fixture is its own."""
    needs("testinfra")
    calm.file("pytest.ini", "[pytest]\npveha = true\ntestpaths = suites\n")
    calm.suite("def test_local(host):\n    assert host.backend.get_connection_type() == 'local'\n", "test_host.py")
    result = calm.armed("-p", "testinfra.plugin", "--hosts=local://")
    assert result.code == 0, result.text
    assert "2 passed" in result.out


def test_xdist_is_refused_by_name(calm: Bench) -> None:
    """Tests at the same time on one site: one line, before any worker is started."""
    needs("xdist")
    result = calm.armed("-p", "xdist", "-nauto")
    assert result.code == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.text.splitlines() if line.startswith("ERROR:")]
    assert len(errors) == 1
    assert "-n (tests at the same time on one site)" in errors[0]
    assert "gw0" not in result.text
    assert not result.reports.exists()


def test_collection_error_opens_no_site(calm: Bench) -> None:
    """A suite that cannot be imported stops the run before the site is touched, as pytest does."""
    calm.suite("import no_such_module\n", "test_broken.py")
    result = calm.armed()
    assert result.code == pytest.ExitCode.INTERRUPTED
    assert not result.reports.exists()
    assert calm.litter == []


def test_a_key_that_cannot_sign(calm: Bench) -> None:
    """It costs the signature, not the run, and is told loudly with the reason; the folder is where it was sent."""
    elsewhere = calm.root / "evidence"
    result = calm.armed("--pveha-signing-key=no/such/key", f"--pveha-reports={elsewhere}")
    assert result.code == 0, result.text
    line = next(line for line in result.out.splitlines() if line.startswith("NOT SIGNED: "))
    assert "no/such/key" in line
    assert not (calm.project / "reports").exists()
    folder = (elsewhere / "latest").resolve()
    assert folder.parent == elsewhere / "bench"
    assert not (folder / "MANIFEST.sig").exists()
    subprocess.run(["sha256sum", "-c", "--quiet", "--strict", "MANIFEST"], cwd=folder, check=True)


def test_a_missing_guest_of_the_cluster_shuts_the_gate(bench: Bench) -> None:
    """A guest that the inventory promises to HA and HA does not manage: refused with that reason, nothing broken."""
    bench.suite(CALM.format("one"))
    bench.file(
        "sim.yml",
        SITE.replace("simulator: {seed: 1, boot_seconds: 20, guest_boot_seconds: 5}", "")
        + 'simulator:\n  seed: 1\n  guests: [{id: "vm:103", ha: false}]\n',
    )
    result = bench.armed()
    assert result.code not in (0, 2, 3, 4), result.text
    assert result.verdict["gate"]["verdict"] == "rejected"
    assert "vm:103 is not managed by HA" in result.test("test_one")["reason"]
    assert result.test("test_one")["verdict"] == "not proven"


def test_parameters_with_our_names_stay_theirs(foreign: Bench) -> None:
    """With an inventory named, a test that parametrizes `node` itself, or has a fixture of that name, is left alone."""
    foreign.file(
        "test_named.py",
        'import pytest\n\n@pytest.mark.parametrize(("node", "guest"), [(1, 2)])\n'
        "def test_mine(node, guest):\n    assert node\n",
    )
    foreign.file("sim.yml", SITE)
    done = foreign.pytest("-q", "--pveha-inventory=sim.yml", "test_named.py", "test_theirs.py")
    assert done.code == 0, done.text
    assert "4 passed" in done.out
