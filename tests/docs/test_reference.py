"""The reference pages list exactly what the code has: options, settings, fixtures, markers, faults, verdicts, codes."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_pveha import faults, fixtures
from pytest_pveha.faults.catalogue import FAULTS
from pytest_pveha.inventory import FAULT_KINDS
from pytest_pveha.judge.verdict import UNCOUNTED, WORST_FIRST, exit_code
from pytest_pveha.observe.news import HEADLINES
from pytest_pveha.plugin import SCOPES
from pytest_pveha.scenario.breaking import Faults
from pytest_pveha.scenario.run import Run

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def section(page: str, heading: str) -> str:
    """What stands under a heading of a reference page, up to the next of its kind or higher."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    level, _, _ = heading.partition(" ")
    _, found, after = text.partition(f"\n{heading}\n")
    assert found, f"{page} has no heading {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", after, maxsplit=1, flags=re.M)[0]


def rows(text: str) -> dict[str, list[str]]:
    """The tables in a text: the first cell without backticks, up to what stands in parentheses → the row's cells."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    found = {}
    for line in lines[2:]:  # below the head and its rule
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        found[cells[0].strip("`").partition("(")[0].strip()] = cells
    return found


def test_every_option_is_documented(pytestconfig: pytest.Config) -> None:
    """The table of options has each of ours, with its choices, and no other."""
    group = pytestconfig._parser.getgroup("pveha")
    there = {name for option in group.options for name in option.names()}
    assert "--pveha-inventory" in there
    table = rows(section("options.md", "## Options"))
    assert {cell.split()[0] for cell in table} == there | {"--inventory"}
    assert re.findall(r"`([a-z-]+)`", table["--pveha-scope SCOPE"][1])[:3] == list(SCOPES)


def test_every_setting_and_variable_is_documented() -> None:
    """The ini key, and each environment variable that the code reads."""
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "pytest_pveha").rglob("*.py"))
    assert rows(section("options.md", "## Settings")).keys() == set(re.findall(r'addini\("(\w+)"', source))
    read = set(re.findall(r'environ(?:\.get\(|\[)"(PVEHA_\w+)"', source))
    assert "PVEHA_STATE" in read
    assert rows(section("options.md", "## Environment")).keys() == read


def test_every_fixture_is_documented() -> None:
    """The table of fixtures has each of ours, with its scope, and no other."""
    table = rows(section("fixtures.md", "## Fixtures").partition("### ")[0])
    there = {
        name: "test" if found._fixture_function_marker.scope == "function" else found._fixture_function_marker.scope
        for name, found in vars(fixtures).items()
        if hasattr(found, "_fixture_function_marker")
    }
    assert {"run", "faults", "victim"} <= there.keys()
    assert {name: row[1] for name, row in table.items()} == there


def test_every_verb_of_run_is_documented() -> None:
    """What a suite test may say of `run`."""
    text = section("fixtures.md", "### `run`")
    inner = {"break_with", "finish"}  # for the faults, and for the plugin
    verbs = {name for name, _ in inspect.getmembers(Run, inspect.isfunction) if not name.startswith("_")} - inner
    assert set(re.findall(r"`run\.(\w+)", text)) == verbs | {"seed", "before", "ledger"}


def test_every_marker_is_documented(pytestconfig: pytest.Config) -> None:
    """The table of markers has each of ours, and no other."""
    source = (ROOT / "pytest_pveha" / "plugin.py").read_text(encoding="utf-8")
    there = {re.split(r"[(:]", line)[0] for line in pytestconfig.getini("markers") if line in source}
    assert "destructive" in there
    assert rows(section("fixtures.md", "## Markers")).keys() == there


@dataclass(frozen=True)
class Known:
    """A fault as the code has it."""

    name: str
    kind: str
    family: str


def all_faults() -> list[Known]:
    """Every dataclass of a fault under faults/."""
    found = []
    for path in sorted(Path(faults.__file__).parent.glob("*.py")):
        for name in re.findall(r"^class (\w+):$", path.read_text(encoding="utf-8"), re.M):
            module = __import__(f"pytest_pveha.faults.{path.stem}", fromlist=[name])
            fault = getattr(module, name)
            if hasattr(fault, "inject") and hasattr(fault, "family"):
                found.append(Known(name, fault.kind, fault.family))
    return found


def test_every_fault_is_documented_and_can_be_healed_from_a_journal() -> None:
    """Each fault has its section with name, verb and family; the family is one that consent knows."""
    known = all_faults()
    assert known
    text = (REFERENCE / "faults.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^## ([A-Z][a-z]+[A-Z]?\w*)$", text, re.M)) == sorted(fault.name for fault in known)
    for fault in known:
        own = section("faults.md", f"## {fault.name}")
        assert f"`{fault.kind}`" in own
        assert f"Family: `{fault.family}`" in own
        assert fault.family in FAULT_KINDS
        assert FAULTS[fault.name].kind == fault.kind
    verbs = {name for name, _ in inspect.getmembers(Faults, inspect.isfunction) if not name.startswith("_")}
    assert set(re.findall(r"faults\.(\w+)\(", text)) == verbs


def test_every_verdict_is_documented() -> None:
    """The table of a test's verdicts has each, with its exit code, and no other."""
    table = rows(section("verdicts.md", "## Of a test"))
    assert table.keys() == {*WORST_FIRST, *UNCOUNTED}
    for verdict in WORST_FIRST:
        assert table[verdict][2] == (f"exit code {exit_code(verdict)}" if exit_code(verdict) else "0"), verdict


def test_every_exit_code_is_documented() -> None:
    """Ours and pytest's: each has a row."""
    table = rows(section("verdicts.md", "## Exit codes of pytest"))
    codes = {int(code) for code in pytest.ExitCode if int(code) <= 5} | {exit_code(verdict) for verdict in WORST_FIRST}
    assert {int(code) for code in table} == codes
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for verdict in WORST_FIRST:
        (row,) = (line for line in readme.splitlines() if line.startswith("| `") and f"`{verdict}`" in line)
        assert row.rstrip(" |").endswith(f" {exit_code(verdict)}")


def test_every_headline_is_documented() -> None:
    """The table of bad news has each kind, with its meaning, and no other."""
    table = rows(section("faults.md", "## What the journals may say"))
    assert table.keys() == HEADLINES.keys()
    for name, row in table.items():
        assert row[1].startswith(HEADLINES[name].meaning.partition(":")[0])
