"""Imports go one way, so that each part can be read, tested and replaced without those above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pytest_pveha"

EVERYBODY = {"errors", "clock"}
"""What every part may import; ``clock`` itself needs errors alone."""

FIELD = {"inventory", "handles", "observe", "record"}
"""What acts on a site and remembers it. The wire is reached through handles alone."""

ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "clock": set(),
    "simclock": set(),
    "inventory": set(),
    "wire": {"inventory"},
    "handles": {"inventory", "wire"},
    "record": set(),
    "observe": {"inventory", "handles", "record"},
    "readiness": FIELD,
    "faults": FIELD,
    "judge": {"record"},
    "evidence": set(),
    "report": {"record", "judge", "evidence"},
    "history": {"record", "judge", "evidence"},
    "embedded": {"inventory", "simclock"},
    "healing": {"embedded", "faults", "handles", "inventory", "record"},
    "supervisor": {"faults", "healing", "record"},
    "scenario": {*FIELD, "readiness", "faults", "judge", "history", "embedded", "supervisor", "__init__"},
    "approval": {"inventory", "evidence", "scenario"},
    "selection": {"inventory"},
    "draw": set(),
    "prompt": set(),
    "closing": {"inventory", "record", "judge", "evidence", "report", "scenario", "approval", "__init__"},
    "foresight": {"inventory", "history", "judge", "report", "scenario", "approval", "closing", "selection"},
    "fixtures": {"inventory", "handles", "readiness", "scenario", "selection", "hooks"},
    "hooks": {
        "inventory",
        "judge",
        "record",
        "report",
        "scenario",
        "selection",
        "draw",
        "foresight",
        "history",
        "closing",
        "fixtures",
        "prompt",
    },
    "plugin": {"hooks"},
    "sim": set(),
}
"""Who may import whom, beside itself and EVERYBODY. ``cli`` and ``__main__`` are the top, and may import all."""

TOP = {"cli", "__main__"}
NOT_IMPORTED = {"sim": TOP, "cli": {"__main__"}, "plugin": {"hooks"}}
"""Who alone may import these: the simulator shares no code with what it tests."""


def part(path: Path, package: Path) -> str:
    """The part a file belongs to: ``wire`` for ``wire/ssh.py``, ``clock`` for ``clock.py``."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def imported(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """The parts that a file imports, wherever in it, with the line."""
    here = ["pytest_pveha", *path.relative_to(package).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*here[: len(here) - node.level + 1], *([node.module] if node.module else [])])
            start = base if node.level else node.module or ""
            names = [f"{start}.{alias.name}" for alias in node.names] if start == "pytest_pveha" else [start]
        for name in names:
            words = name.split(".")
            if words[0] == "pytest_pveha":
                target = words[1] if len(words) > 1 else "__init__"
                known = (package / target).is_dir() or (package / f"{target}.py").is_file()
                yield node.lineno, target if known else "__init__"  # an attribute of the package itself


def broken(package: Path) -> list[str]:
    """One line for each import that goes the wrong way: ``file:line: who imports whom``."""
    found = []
    for path in sorted(package.rglob("*.py")):
        own = part(path, package)
        for line, target in imported(path, package):
            if target == own:
                continue
            wanted = own in TOP or (target in EVERYBODY and own != "errors") or target in ALLOWED.get(own, set())
            if not wanted or own not in NOT_IMPORTED.get(target, {own}):
                found.append(f"{path.relative_to(package)}:{line}: {own} imports {target}")
    return found


def test_imports_go_one_way() -> None:
    """No part imports one that stands above it."""
    assert broken(PACKAGE) == []


def test_every_part_has_a_rule() -> None:
    """A new part says where it stands, and no rule outlives its part."""
    parts = {part(path, PACKAGE) for path in PACKAGE.rglob("*.py")}
    assert parts - ALLOWED.keys() - TOP == set()
    assert ALLOWED.keys() - parts == set()


def test_rules_have_no_circles() -> None:
    """Below a part stands nothing that stands on it; only the plugin's own three modules know each other."""
    friends = {"plugin", "hooks", "fixtures"}
    for start in ALLOWED:
        seen: set[str] = set()
        front = {start}
        while front:
            front = {low for each in front for low in ALLOWED[each] if not (each in friends and low in friends)} - seen
            assert start not in front, start
            seen |= front


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("judge/verdict.py", "from pytest_pveha.wire.ssh import Ssh\n", "judge/verdict.py:1: judge imports wire"),
        ("wire/ssh.py", "def late():\n    import pytest_pveha.handles\n", "wire/ssh.py:2: wire imports handles"),
        ("sim/site.py", "from ..inventory import load\n", "sim/site.py:1: sim imports inventory"),
        ("embedded.py", "from pytest_pveha import sim\n", "embedded.py:1: embedded imports sim"),
        ("errors.py", "from . import record\n", "errors.py:1: errors imports record"),
        ("hooks.py", "from pytest_pveha.cli import main\n", "hooks.py:1: hooks imports cli"),
        ("strange.py", "from pytest_pveha import record\n", "strange.py:1: strange imports record"),
        ("wire/tls.py", "from pytest_pveha.errors import UsageError\nfrom pytest_pveha.wire import tcp\n", None),
        ("cli/sim.py", "from pytest_pveha.sim.defects import DEFECTS\n", None),
    ],
)
def test_planted_import_is_found(tmp_path: Path, file: str, text: str, found: str | None) -> None:
    """Each kind of import, at any depth of a file, is seen when it breaks a rule, and only then."""
    for each in ("wire", "handles", "judge", "sim", "cli", "inventory", "record"):
        (tmp_path / each).mkdir()
    for name in ("errors.py", file):
        (tmp_path / name).write_text("")
    (tmp_path / file).write_text(text)
    assert broken(tmp_path) == ([found] if found else [])
