"""The command line as a whole: version, schemas, exit codes, interruptions, and its page."""

from __future__ import annotations

import argparse
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from cli_kit import BACKSTOP, EXAMPLE, ROOT, SIMULATED, Realish, Shell
from jsonschema import Draft202012Validator
from real_style import write

from pytest_pveha import __version__, cli
from pytest_pveha.cli import parsed
from pytest_pveha.inventory import json_schema
from pytest_pveha.judge.schema import verdict_schema

PAGE = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")


def commands() -> dict[str, argparse.ArgumentParser]:
    """Each command's parser."""
    (found,) = (action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def arguments(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Each argument of a parser as the page's table names it, and its help."""
    for action in parser._actions:
        if action.dest == "help":
            continue
        if not action.option_strings:
            name = "|".join(action.choices) if action.choices else str(action.metavar)
        else:
            name = f"{action.option_strings[0]} {action.metavar or ''}".strip()
        yield name, str(action.help)


def section(name: str) -> str:
    """What the page says under that heading."""
    return PAGE.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> list[tuple[str, str]]:
    """The two columns of the section's table, without its head."""
    found = re.findall(r"^\| (.+?) \| (.+) \|$", text, re.MULTILINE)
    return [(left.replace("`", "").replace("\\|", "|"), right) for left, right in found[2:]]


@pytest.mark.parametrize("command", sorted(commands()))
def test_the_page_says_what_the_command_says(command: str) -> None:
    """Description and every argument, in their order, word for word."""
    parser = commands()[command]
    text = section(f"pveha {command}")
    assert " ".join(str(parser.description).split()) in " ".join(text.split())
    assert rows(text) == list(arguments(parser))


def test_the_page_has_all_commands_and_no_other() -> None:
    """A command that comes or goes changes the page."""
    assert re.findall(r"^## pveha (\w+)$", PAGE, re.MULTILINE) == list(commands())


def test_the_page_has_the_exit_codes() -> None:
    """The table is the one that ``pveha --help`` ends with."""
    said = [tuple(line.split(None, 1)) for line in cli.EXITS.splitlines()[1:]]
    assert rows(section("Exit codes")) == said


def test_version_and_help(shell: Shell) -> None:
    """Both are quick answers on standard output."""
    assert shell.pveha("--version").out == f"pveha {__version__}\n"
    text = shell.pveha("--help").out
    assert all(f"    {name} " in text for name in commands())
    assert cli.EXITS in text


@pytest.mark.parametrize("words", [[], ["chekc"], ["check"], ["schema", "report"], ["judge", "--wrong", "x"]])
def test_a_wrong_command_line_is_exit_code_2(shell: Shell, words: list[str]) -> None:
    """argparse's own answer: usage and what is wrong, on standard error."""
    done = shell.pveha(*words)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("usage: pveha")


def test_schemas(shell: Shell) -> None:
    """Both are valid JSON Schemas, the ones that the package checks itself with."""
    for what, schema in (("inventory", json_schema()), ("verdict", verdict_schema())):
        printed = json.loads(shell.pveha("schema", what).out)
        Draft202012Validator.check_schema(printed)
        assert printed == schema


def test_a_reader_who_goes_away_is_no_error(shell: Shell) -> None:
    """As in ``pveha schema inventory | head -1``: nothing on standard error."""
    process = shell.begin("schema", "inventory")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as stream:
        assert stream.read() == ""
    assert process.wait(BACKSTOP) == cli.NOBODY_READS


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_check_ends_quietly(realish: Realish, shell: Shell, number: signal.Signals, code: int) -> None:
    """While an endpoint lets us wait, a signal ends the command at once, with one word and no traceback."""
    described = realish.describe()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        described["cluster"]["api"]["endpoints"][0] = f"127.0.0.1:{mute.getsockname()[1]}"
        process = shell.begin("check", write(described, shell.place / "real.yml"))
        peer, _ = mute.accept()  # now it waits for the handshake
        with peer:
            process.send_signal(number)
            _, err = process.communicate(timeout=BACKSTOP)
    assert process.returncode == code
    assert err == "pveha: interrupted\n"


def test_an_interrupted_check_ends_the_site_it_started(shell: Shell) -> None:
    """SIGTERM in the middle: the simulated site that was started for the check does not outlive it."""
    from pathlib import Path

    process = shell.begin("check", SIMULATED)
    assert process.stdout is not None
    for line in process.stdout:
        if "API at pve1" in line:
            process.send_signal(signal.SIGTERM)
            break
    process.communicate(timeout=BACKSTOP)
    assert process.returncode in (0, 143)
    assert not list(Path(shell.environment["PVEHA_RUNTIME"]).glob("pveha-*/*/site.json"))


def test_help_does_not_import_the_heavy_libraries() -> None:
    """``pveha --help`` loads neither the inventory's nor the wire's libraries."""
    code = "import sys; from pytest_pveha.cli import parser; parser(); print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=BACKSTOP, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"pydantic", "ruamel.yaml", "paramiko", "requests", "proxmoxer", "asyncssh", "pytest"}


def test_what_a_file_says_cannot_move_the_cursor(shell: Shell) -> None:
    """Escape sequences in a path are spelled, not sent to the terminal."""
    done = shell.pveha("check", "--no-connect", "\x1b[2J.yml")
    assert done.code == 4
    assert "\x1b" not in done.err
    assert shell.pveha("check", "--no-connect", EXAMPLE).code == 0


@pytest.mark.parametrize(
    ("words", "tests"),
    [
        (["plan", "-k", "x", "site.yml", "suites/a", "suites/b"], ["suites/a", "suites/b"]),
        (["plan", "site.yml", "-k", "x", "suites/a"], ["suites/a"]),
        (["plan", "site.yml", "-k", "x", "--", "suites/a", "--lf"], ["suites/a", "--lf"]),
        (["plan", "site.yml", "suites/a", "-k", "x", "suites/b"], ["suites/a", "suites/b"]),
    ],
)
def test_tests_may_stand_behind_options(words: list[str], tests: list[str]) -> None:
    """As with pytest itself: argparse alone takes what stands before the first option only."""
    options = parsed(words)
    assert (options.k, options.tests) == ("x", tests)


@pytest.mark.parametrize("words", [["plan", "site.yml", "-k", "x", "--nosuch", "a"], ["check", "site.yml", "a"]])
def test_what_no_command_knows_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An option that is none, and a word too many, are one message."""
    with pytest.raises(SystemExit) as ended:
        parsed(words)
    assert ended.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err
