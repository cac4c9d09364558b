"""Values become parts of commands in one place, ``wire.ssh.quote``: nobody builds a command by hand."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzing import NASTY_TEXTS

from pytest_pveha.wire.ssh import quote

PACKAGE = Path(__file__).parents[2] / "pytest_pveha"

FOREIGN = {"wire/facts.py"}
"""Hands on what testinfra made, which quotes by itself and only reads."""


def _quoted(value: ast.expr, assigned: dict[str, list[ast.expr]]) -> bool:
    """Whether a command is words put together by ``quote``, at once or by way of a name."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return value.func.id == "quote"
    if isinstance(value, ast.Name):
        return bool(assigned.get(value.id)) and all(_quoted(each, {}) for each in assigned[value.id])
    return False


def handmade(path: Path, name: str) -> Iterator[str]:
    """``file:line`` of each command that was put together otherwise, and of each local shell."""
    for scope in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(scope, ast.FunctionDef):
            continue
        assigned: dict[str, list[ast.expr]] = {}
        for node in ast.walk(scope):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        assigned.setdefault(target.id, []).append(node.value)
        for node in ast.walk(scope):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            keys = {each.arg: each.value for each in node.keywords}
            where = f"{name}:{node.lineno}"
            if node.func.attr == "run" and "deadline" in keys and not (node.args and _quoted(node.args[0], assigned)):
                yield f"{where}: a command that is not made by quote()"
            if isinstance(shell := keys.get("shell"), ast.Constant) and shell.value:
                yield f"{where}: shell=True"
            if node.func.attr in ("system", "popen", "getoutput", "create_subprocess_shell"):
                yield f"{where}: {node.func.attr}"


def test_every_command_is_made_by_quote() -> None:
    """No command of a node holds a value that was not quoted, and no local shell is started; the simulator apart."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        if name not in FOREIGN and not name.startswith("sim/"):
            found += handmade(path, name)
    assert found == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('ssh.run(f"rm {name}", deadline=d)', "not made by quote"),
        ('ssh.run("rm " + name, deadline=d)', "not made by quote"),
        ("ssh.run(line, deadline=d)", "not made by quote"),
        ('line = f"rm {name}"; ssh.run(line, deadline=d)', "not made by quote"),
        ('ssh.run(quote("rm", name), deadline=d)', ""),
        ('line = quote("rm", name); ssh.run(line, deadline=d)', ""),
        ('subprocess.run("x", shell=True)', "shell=True"),
        ("os.system(name)", "system"),
    ],
)
def test_a_handmade_command_is_found(tmp_path: Path, line: str, found: str) -> None:
    """Each way to put a command together by hand is seen, and only those."""
    path = tmp_path / "x.py"
    path.write_text(f"def act(ssh, name, d):\n    {line}\n")
    told = "".join(handmade(path, "x.py"))
    assert (found in told) if found else not told


@pytest.mark.parametrize("text", [text for text in NASTY_TEXTS if "\x00" not in text and "\ud800" not in text])
def test_a_shell_reads_back_what_was_quoted(text: str) -> None:
    """Whatever a site calls its things, a shell takes it for one word and runs nothing of it."""
    line = quote("printf", "%s", text)
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=True)
    assert done.stdout == text.encode()
