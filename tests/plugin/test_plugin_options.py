"""Naming the inventory, and every way of naming it wrongly: one line, exit 4, nothing run."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from plugin_kit import CALM, HEAD, INI, SITE

import pytest_pveha.hooks  # noqa: F401  here, as pytester forgets after each run what that run imported

Inside = Callable[..., pytest.RunResult]


@pytest.fixture
def inside(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Inside:
    """pytest in this very process, in a project with a suite and two sites; nothing here gets as far as a site."""
    for name, text in {"pytest.ini": INI, "a.yml": SITE, "b.yml": SITE.replace("bench", "other")}.items():
        (pytester.path / name).write_text(text)
    (pytester.path / "suites").mkdir()
    (pytester.path / "suites" / "test_it.py").write_text(HEAD + CALM.format("one"))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PVEHA_INVENTORY", raising=False)
    monkeypatch.setenv("PVEHA_STATE", str(pytester.path / "state"))
    monkeypatch.setenv("PVEHA_RUNTIME", str(pytester.path / "runtime"))

    def run(*args: str) -> pytest.RunResult:
        return pytester.runpytest_inprocess("-p", "pytest_pveha.plugin", *args)

    return run


SHOW = """
import pytest

@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session):
    hooks = session.config.pluginmanager.get_plugin("pveha-hooks")
    print("INVENTORY", hooks._inventory and hooks._inventory.path)
"""


def used(result: pytest.RunResult) -> Path:
    """The inventory that such a run took."""
    found = re.search(r"^INVENTORY (.*)$", result.stdout.str(), re.MULTILINE)
    assert found, result.stdout.str() + result.stderr.str()
    return Path(found[1])


def refusal(result: pytest.RunResult) -> str:
    """The one line such a run ends with; nothing was collected, run or left."""
    text = result.stdout.str() + "\n" + result.stderr.str()
    assert result.ret == pytest.ExitCode.USAGE_ERROR, text
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    assert " passed" not in text
    assert not Path("reports").exists()
    lines = [line for line in text.splitlines() if line.startswith("ERROR:")]
    assert len(lines) == 1, text
    return lines[0]


@pytest.mark.parametrize(
    ("args", "environment", "expected"),
    [
        (["--inventory", "a.yml"], None, "a.yml"),
        (["--inventory=a.yml"], None, "a.yml"),
        (["--pveha-inventory", "a.yml"], None, "a.yml"),
        (["--pveha-inventory=a.yml"], None, "a.yml"),
        ([], "a.yml", "a.yml"),
        (["--inventory", "a.yml"], "b.yml", "a.yml"),
        (["--inventory", "b.yml", "--pveha-inventory", "a.yml"], None, "a.yml"),
        (["--inventory", "b.yml", "--inventory", "a.yml"], None, "a.yml"),
        (["--inventory", "./suites/../a.yml"], None, "a.yml"),
    ],
)
def test_every_way_of_naming_it(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, args: list[str], environment: str | None, expected: str
) -> None:
    """The inventory is found by each option and the environment; the more particular wins."""
    Path("conftest.py").write_text(SHOW)
    if environment:
        monkeypatch.setenv("PVEHA_INVENTORY", environment)
    assert used(inside("--collect-only", *args)).resolve() == Path(expected).resolve()


@pytest.mark.parametrize("form", ["--inventory={}", "--pveha-inventory={}", "--pveha-inventory {}"])
def test_inventory_outside_of_the_project(inside: Inside, tmp_path_factory: pytest.TempPathFactory, form: str) -> None:
    """An inventory that lies elsewhere is used, and the project's settings stay in force."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "x.yml"
    elsewhere.write_text(SITE)
    Path("conftest.py").write_text(SHOW)
    # that last form would lose the settings too, were the tests not named
    result = inside("--collect-only", *form.format(elsewhere).split(), "suites")
    assert used(result) == elsewhere


def test_a_space_instead_of_an_equals_sign(inside: Inside, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where the path after --inventory costs pytest its settings, the line says what to type, and that works."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "x.yml"
    elsewhere.write_text(SITE)
    line = refusal(inside("--inventory", str(elsewhere), "-m", "destructive", "--collect-only"))
    assert "pytest.ini" in line
    words = shlex.split(line.partition("Type instead: pytest ")[2])
    assert f"--inventory={elsewhere}" in words
    assert words[-3:] == ["-m", "destructive", "--collect-only"]
    Path("conftest.py").write_text(SHOW)
    again = inside(*[word for word in words if word not in ("-p", "pytest_pveha.plugin")])
    assert used(again) == elsewhere


def test_settings_in_pyproject_are_missed_too(inside: Inside, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same where the settings lie in pyproject.toml, and from a folder below it."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "x.yml"
    elsewhere.write_text(SITE)
    Path("pytest.ini").unlink()
    Path("pyproject.toml").write_text('[tool.pytest.ini_options]\npveha = "true"\n')
    assert "pyproject.toml" in refusal(inside("--inventory", str(elsewhere)))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "--inventory inventories/sim-3node.yml"),
        (["--inventory", "no.yml"], "no.yml: there is no such file"),
        (["--inventory", "suites"], "suites"),
        (["--inventory", "broken.yml"], "broken.yml:3"),
        (["--inventory", "typo.yml"], "typo.yml:"),
        (["--inventory", "defect.yml"], "never-fence"),
        (["--inventory", "a.yml", "--pveha-real-only"], "--pveha-real-only refuses"),
    ],
)
def test_wrong_inventories(inside: Inside, args: list[str], said: str) -> None:
    """No, or no usable, inventory: one line that says what and where."""
    Path("broken.yml").write_text("site: {name: x}\ncluster: [\n")
    Path("typo.yml").write_text(SITE.replace("objectives:", "objektives:"))
    Path("defect.yml").write_text(SITE.replace("seed: 1", "seed: 1, defects: [never-fence]"))
    assert said in refusal(inside(*args))


def test_unknown_scope(inside: Inside) -> None:
    """A scope that there is not is told with those that there are."""
    result = inside("--inventory", "a.yml", "--pveha-scope", "most")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--pveha-scope*one-per-role*all*"])


REFUSED = """
def pytest_addoption(parser):
    parser.addoption("--reruns", type=int)
    parser.addoption("--count", type=int, default=1)
    parser.addoption("--random-order", action="store_true", dest="random_order_enabled")
    parser.addoption("--random-order-bucket", default=type("default", (str,), {})("module"))
    parser.addoption("--timeout-method")
    parser.addoption("--tx", action="append")
"""


@pytest.mark.parametrize(
    "args",
    [
        ["--reruns", "2"],
        ["--count", "3"],
        ["--random-order"],
        ["--random-order-bucket=global"],
        ["--timeout-method=thread"],
        ["--tx=2*popen"],
    ],
)
def test_company_that_would_break_the_site_again(inside: Inside, args: list[str]) -> None:
    """Options of other plug-ins that repeat, shuffle or run tests at once are refused by name."""
    Path("conftest.py").write_text(REFUSED)
    line = refusal(inside("--inventory", "a.yml", *args))
    assert args[0].partition("=")[0].removesuffix("-bucket").replace("--tx", "-n") in line


def test_company_that_does_nothing(inside: Inside) -> None:
    """The same plug-ins, merely there, are no reason to refuse."""
    Path("conftest.py").write_text(REFUSED)
    result = inside("--inventory", "a.yml", "--collect-only", "-q")
    assert result.ret == 0
    assert inside("-o", "pveha=false", "--reruns", "2", "-k", "nothing").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_mark_flaky_is_refused(inside: Inside) -> None:
    """A test of ours that asks to be run again when it fails is not run at all."""
    Path("pytest.ini").write_text(INI + "markers = flaky\n")
    Path("suites/test_it.py").write_text(HEAD + "@pytest.mark.flaky\n" + CALM.format("one").lstrip())
    assert "flaky" in refusal(inside("--inventory", "a.yml"))


# --- what is collected -------------------------------------------------------------------------------------------

TARGETS = '''
def test_victim(victim, run):
    """A victim each."""

def test_node(node, run):
    """A node each."""

def test_guest(guest, run):
    """A guest each."""

@pytest.mark.readiness
def test_looks(cluster, run):
    """Only looks."""

@pytest.mark.needs(nodes=9)
def test_many(run):
    """Needs more nodes."""

def test_ceph(ceph, run):
    """Needs Ceph."""

def test_foreign():
    """Is none of ours."""
'''


def collected(result: pytest.RunResult) -> list[str]:
    """Names of the collected tests."""
    assert result.ret == 0, result.stdout.str() + result.stderr.str()
    return [line.partition("::")[2] for line in result.outlines if "::" in line]


def test_scopes(inside: Inside) -> None:
    """A wider scope takes more targets; what does not apply is not among the tests."""
    Path("suites/test_it.py").write_text(HEAD + TARGETS)
    few = collected(inside("--inventory", "a.yml", "--collect-only", "-q"))
    many = collected(inside("--inventory", "a.yml", "--collect-only", "-q", "--pveha-scope", "all"))
    assert few == [
        "test_victim[other-1]",
        "test_victim[crm-master]",
        "test_node[pve1]",
        "test_guest[vm:101]",
        "test_looks",
        "test_foreign",
    ]
    assert set(few) < set(many)
    assert {"test_victim[other-2]", "test_node[pve3]", "test_guest[vm:103]"} <= set(many)


def test_a_run_that_has_nothing_left_says_why(inside: Inside) -> None:
    """What does not apply is told with its reason, though nothing runs and there is no report: pytest's exit code 5."""
    Path("suites/test_it.py").write_text(HEAD + TARGETS)
    result = inside("--inventory", "a.yml", "-k", "many or ceph")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(
        [
            "*not applicable: suites/test_it.py::test_many: it needs 9 nodes, the inventory has 3",
            "*not applicable: suites/test_it.py::test_ceph: the inventory has no ceph block",
            "*no test is left to run (2 not applicable, *left out): nothing was broken, and nothing is proven",
        ]
    )


def test_unmarked_tests_are_destructive(inside: Inside) -> None:
    """A test of ours without a mark is chosen by -m destructive; one that only looks, and foreign ones, are not."""
    Path("suites/test_it.py").write_text(HEAD + TARGETS)
    chosen = collected(inside("--inventory", "a.yml", "--collect-only", "-q", "-m", "destructive"))
    assert chosen
    assert not {"test_looks", "test_foreign"} & set(chosen)
    assert collected(inside("--inventory", "a.yml", "--collect-only", "-q", "-m", "readiness")) == ["test_looks"]
    rest = collected(inside("--inventory", "a.yml", "--collect-only", "-q", "-m", "not destructive"))
    assert rest == ["test_looks", "test_foreign"]


def test_collecting_touches_nothing(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """--collect-only opens no connection, starts no site, takes no lease and leaves no folder."""

    def connect(*args: object) -> None:
        raise AssertionError(f"a connection was opened: {args}")

    monkeypatch.setattr("socket.socket.connect", connect)
    monkeypatch.setattr("subprocess.Popen.__init__", connect)
    assert collected(inside("--inventory", "a.yml", "--collect-only", "-q", "--pveha-scope", "all"))
    assert not [each for each in ("reports", "state", "runtime") if Path(each).exists()]
