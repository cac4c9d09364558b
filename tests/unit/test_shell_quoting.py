"""Values become parts of commands in one place, ``wire.ssh.quote``: nobody builds a command by hand."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzing import NASTY_TEXTS

from pytest_pveha.handles.shell import all_of, each_of, into, one_of, quote, whatever_comes

PACKAGE = Path(__file__).parents[2] / "pytest_pveha"

FOREIGN = {"wire/facts.py"}
"""Hands on what testinfra made, which quotes by itself and only reads."""


MAKERS = {"quote", "into", "piped", "all_of", "one_of", "each_of", "whatever_comes"}
"""What makes a ShellLine of words, and of other such lines; that those are lines already is for the type checker."""

HOMES = {"wire/ssh.py", "handles/shell.py"}
"""Where a text is declared to be a ShellLine."""


def _quoted(value: ast.expr, assigned: dict[str, list[ast.expr]], handed: set[str]) -> bool:
    """Whether a command is words put together by ``quote``, at once, by way of a name, or handed in as a ShellLine."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return value.func.id in MAKERS
    if isinstance(value, ast.Name):
        made = assigned.get(value.id, [])
        return all(_quoted(each, {}, set()) for each in made) and (bool(made) or value.id in handed)
    return False


def _commands(call: ast.Call, attr: str, name: str) -> Iterator[ast.expr | None]:
    """What a call hands over as commands; None where it should and does not."""
    if attr == "run" and any(each.arg == "deadline" for each in call.keywords):
        yield call.args[0] if call.args else None
    if attr in ("_ask", "_act") and name.startswith("handles/"):
        yield call.args[1] if len(call.args) > 1 else None
    words = [each.value if isinstance(each, ast.Constant) else None for each in call.args]
    for place, word in enumerate(words):
        if word == "-c" and place and str(words[place - 1]).rpartition("/")[2] in ("sh", "bash"):
            yield call.args[place + 1] if place + 1 < len(words) else None


def _declares(call: ast.Call) -> bool:
    """Whether it makes a ShellLine of any text: ``ShellLine(…)``, ``cast("ShellLine", …)``."""
    names = [each for each in (call.func, *call.args[:1]) if isinstance(each, ast.Name | ast.Constant)]
    return any("ShellLine" in (each.id if isinstance(each, ast.Name) else str(each.value)) for each in names)


def handmade(text: str, name: str) -> Iterator[str]:
    """``file:line`` of each command that was put together otherwise, and of each local shell."""
    for scope in ast.walk(ast.parse(text)):
        if not isinstance(scope, ast.FunctionDef):
            continue
        assigned: dict[str, list[ast.expr]] = {}
        handed = {
            each.arg
            for each in (*scope.args.args, *scope.args.kwonlyargs)
            if isinstance(each.annotation, ast.Name) and each.annotation.id == "ShellLine"
        }
        for node in ast.walk(scope):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        assigned.setdefault(target.id, []).append(node.value)
        for node in ast.walk(scope):
            if not isinstance(node, ast.Call):
                continue
            where = f"{name}:{node.lineno}"
            if name not in HOMES and _declares(node):
                yield f"{where}: a text is declared to be a ShellLine"
            if not isinstance(node.func, ast.Attribute):
                continue
            keys = {each.arg: each.value for each in node.keywords}
            for command in _commands(node, node.func.attr, name):
                if command is None or not _quoted(command, assigned, handed):
                    yield f"{where}: a command that is not made by quote()"
            if isinstance(shell := keys.get("shell"), ast.Constant) and shell.value:
                yield f"{where}: shell=True"
            if node.func.attr in ("system", "popen", "getoutput", "create_subprocess_shell"):
                yield f"{where}: {node.func.attr}"


def handmade_text(parameter: str) -> Iterator[str]:
    """The same of one method that passes on what it was handed."""
    text = f"def act(self, d, {parameter}):\n    return self.ssh.run(line, deadline=d)\n"
    yield from handmade(text, "handles/x.py")


def test_every_command_is_made_by_quote() -> None:
    """No command of a node holds a value that was not quoted, and no local shell is started; the simulator apart."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        if name not in FOREIGN and not name.startswith("sim/"):
            found += handmade(path.read_text(encoding="utf-8"), name)
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
        ('self._act(d, f"cat > {name}")', "not made by quote"),
        ('self._ask(d, "; ".join([quote("a"), name]))', "not made by quote"),
        ('self._act(d, into(quote("cat"), name))', ""),
        ('node.act(d, "sh", "-c", f"rm {name}")', "not made by quote"),
        ('node.act(d, "/bin/sh", "-c", each_of(quote("rm", name)))', ""),
        ("self._act(d, ShellLine(name))", "declared to be"),
        ('self._act(d, quote(cast("ShellLine", name)))', "declared to be"),
        ('line = quote("rm"); line = name; self._act(d, line)', "not made by quote"),
        ('subprocess.run("x", shell=True)', "shell=True"),
        ("os.system(name)", "system"),
    ],
)
def test_a_handmade_command_is_found(line: str, found: str) -> None:
    """Each way to put a command together by hand is seen, and only those."""
    told = "".join(handmade(f"def act(self, ssh, node, name, d):\n    {line}\n", "handles/x.py"))
    assert (found in told) if found else not told


def test_a_line_that_was_handed_in_is_one() -> None:
    """Only what its type says was quoted may be passed on."""
    assert list(handmade_text("line: ShellLine")) == []
    assert list(handmade_text("line: str")) != []


def test_lines_are_joined_as_a_shell_reads_them(tmp_path: Path) -> None:
    """A file's name with blanks and quotes stays one; what fails ends a sequence, is followed by the other, or by
    nothing."""
    path = str(tmp_path / "a 'b'; $c")
    for line, left in (
        (all_of(into(quote("printf", "1"), path), quote("false"), into(quote("printf", "2"), path)), "1"),
        (one_of(quote("false"), into(quote("printf", "3"), path)), "3"),
        (each_of(quote("false"), into(quote("printf", "4"), path)), "4"),
        (all_of(whatever_comes(quote("false")), into(quote("printf", "5"), path)), "5"),
    ):
        subprocess.run(["/bin/sh", "-c", line], check=False, capture_output=True)
        assert Path(path).read_text() == left


@pytest.mark.parametrize("text", [text for text in NASTY_TEXTS if "\x00" not in text and "\ud800" not in text])
def test_a_shell_reads_back_what_was_quoted(text: str) -> None:
    """Whatever a site calls its things, a shell takes it for one word and runs nothing of it."""
    line = quote("printf", "%s", text)
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=True)
    assert done.stdout == text.encode()
