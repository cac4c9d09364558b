"""The root shell of a simulated node: parses command lines, runs them against the world.

Understood: words and quotes, ``;`` ``&&`` ``||`` ``|``, redirection of output to /dev/null or each other, leading
assignments, ``sh -c`` and the like. There is no expansion, no background, no substitution. What the commands say is
in shell_commands.py.
"""

from __future__ import annotations

import re
import shlex
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pytest_pveha.sim.gate import Gate, Gone
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.servers.ports import Silence
from pytest_pveha.sim.world.world import World


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left behind. ``wait``: site seconds it takes after it has had its effect."""

    status: int = 0
    out: str = ""
    err: str = ""
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class Invocation:
    """One command with its arguments, at the node's present moment."""

    facts: Facts
    args: list[str]
    input: str = ""
    names: Mapping[str, Command] | frozenset[str] = frozenset()
    """What else this shell knows, for ``command -v``."""


Command = Callable[[Invocation], Result]

_SEPARATORS = frozenset({";", "&&", "||", "|", "\n"})
_REDIRECTION = re.compile(r"(>>?|>&|&>>?)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_SHELLS = frozenset({"sh", "bash", "/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash"})
_SILENT_OPTIONS_OF_SUDO = frozenset({"-n", "-H", "-E", "-S", "--"})


@dataclass(frozen=True, slots=True)
class Simple:
    """A simple command: the separator before it, its words, and where its output goes."""

    before: str
    words: tuple[str, ...]
    drop_out: bool = False
    drop_err: bool = False
    merge: bool = False


class SyntaxFailure(Exception):
    """The shell does not understand the line."""


def parse(line: str) -> list[Simple]:
    """The simple commands of a line, in order."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        tokens = list(lexer)
    except ValueError as error:
        raise SyntaxFailure(f"syntax error: {error}") from None
    commands: list[Simple] = []
    words: list[str] = []
    before, current = ";", Simple(";", ())
    position = 0
    while position < len(tokens):
        token = tokens[position]
        position += 1
        if token in _SEPARATORS:
            if words:
                commands.append(replace(current, before=before, words=tuple(words)))
            elif token not in (";", "\n"):
                raise SyntaxFailure(f"syntax error near unexpected token `{token}'")
            before, words, current = token, [], Simple(";", ())
        elif _REDIRECTION.fullmatch(token):
            target = tokens[position] if position < len(tokens) else ""
            position += 1
            stream = words.pop() if words and words[-1] in ("1", "2") else ""
            current = _redirected(current, token, stream, target)
        elif token in ("&", "<", "<<", "&&&"):
            raise SyntaxFailure(f"syntax error near unexpected token `{token}'")
        else:
            words.append(token)
    if words:
        commands.append(replace(current, before=before, words=tuple(words)))
    return commands


def _redirected(command: Simple, operator: str, stream: str, target: str) -> Simple:
    if operator == ">&" and target in ("1", "2"):
        return replace(command, merge=True)
    if target != "/dev/null":
        raise SyntaxFailure(f"{target}: Read-only file system")
    both = operator.startswith("&")
    return replace(
        command,
        drop_out=command.drop_out or both or stream != "2",
        drop_err=command.drop_err or both or stream == "2",
    )


class Shell:
    """Runs command lines on one node for one requester.

    Args:
        sock: the requester's connection; a command of one that is gone changes nothing.
    """

    def __init__(self, gate: Gate, node_name: str, commands: Mapping[str, Command], sock: socket.socket | None) -> None:
        self._gate = gate
        self._node_name = node_name
        self._commands = commands
        self._sock = sock
        self._boot = ""

    def run(self, line: str) -> Result:
        """What the line left behind; Silence if the node died meanwhile."""
        with self._gate.acting(self._sock) as world:
            self._boot = self._alive(world)
        return self._line(line, 0)

    def _line(self, line: str, depth: int) -> Result:
        try:
            commands = parse(line)
        except SyntaxFailure as failure:
            return Result(2, err=f"bash: line 1: {failure}\n")
        done = Result()
        out, err, piped = "", "", ""
        for number, command in enumerate(commands):
            if (command.before == "&&" and done.status) or (command.before == "||" and not done.status):
                continue
            done = self._simple(list(command.words), piped if command.before == "|" else "", depth)
            into_pipe = number + 1 < len(commands) and commands[number + 1].before == "|"
            text = "" if command.drop_out else done.out
            text += done.err if command.merge and not command.drop_out else ""
            err += "" if command.drop_err or command.merge else done.err
            piped, out = (text, out) if into_pipe else ("", out + text)
        return Result(done.status, out, err)

    def _simple(self, words: list[str], piped: str, depth: int) -> Result:
        while words and _ASSIGNMENT.match(words[0]):
            words = words[1:]
        if not words:
            return Result()
        name, args = words[0], words[1:]
        if name in ("exec", "nohup", "command") and args and not args[0].startswith("-"):
            return self._simple(args, piped, depth)
        if name == "sudo":
            return self._simple(_without_options(args), piped, depth)
        if name == "env":
            return self._simple(args, piped, depth)
        if name == "timeout" and len(args) > 1:
            return self._simple(args[1:], piped, depth)
        if name in _SHELLS:
            return self._inner(args, depth)
        return self._command(name, args, piped)

    def _inner(self, args: list[str], depth: int) -> Result:
        script = next((args[at + 1] for at, arg in enumerate(args[:-1]) if re.fullmatch(r"-[a-z]*c", arg)), None)
        if script is None or depth > 8:
            return Result(2, err="bash: only -c is understood\n")
        return self._line(script, depth + 1)

    def _command(self, name: str, args: list[str], piped: str) -> Result:
        command = self._commands.get(name.rpartition("/")[2] if name.startswith("/") else name)
        if command is None:
            missing = "No such file or directory" if "/" in name else "command not found"
            return Result(127, err=f"bash: line 1: {name}: {missing}\n")
        with self._gate.acting(self._sock) as world:
            self._still(world)
            node = world.nodes[self._node_name]
            result = command(Invocation(Facts(world, node), args, piped, self._commands))
        if result.wait:
            self._wait(result.wait)
        return result

    def _wait(self, seconds: float) -> None:
        try:
            self._gate.park(seconds)
        except Gone:
            with self._gate.acting() as world:
                self._still(world)
            raise
        with self._gate.acting(self._sock) as world:
            self._still(world)

    def _alive(self, world: World) -> str:
        node = world.nodes[self._node_name]
        if not node.running:
            raise Silence
        return node.boot_id

    def _still(self, world: World) -> None:
        if self._alive(world) != self._boot:
            raise Silence


def _without_options(args: list[str]) -> list[str]:
    """What sudo is to run."""
    rest = list(args)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option not in _SILENT_OPTIONS_OF_SUDO and rest:
            rest.pop(0)  # -u USER, -g GROUP
    return rest
