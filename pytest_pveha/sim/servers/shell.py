"""The root shell of a simulated node: runs command lines and scripts against the world.

What it understands is in shell_syntax.py, what the commands say in ``commands/``. A running line is a generator that
yields whenever time has to pass: over SSH a thread sleeps meanwhile, in a systemd unit the world's timeline goes on.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pytest_pveha.sim.gate import Gate, Gone
from pytest_pveha.sim.servers import given
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.servers.ports import Silence
from pytest_pveha.sim.servers.shell_syntax import Redirection, Simple, SyntaxFailure, parse
from pytest_pveha.sim.world.files import FileTrouble, Stalled
from pytest_pveha.sim.world.model import Node
from pytest_pveha.sim.world.world import World

_ASK_AGAIN = 0.25
"""How often (s) a waiting command looks whether it can go on."""
_PATIENCE = 4800
"""How often it looks at most: time need not pass where nobody takes part in the site's time."""
_FOREVER = 86400.0
_SHELLS = frozenset({"sh", "bash", "/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash"})
_SILENT_OPTIONS_OF_SUDO = frozenset({"-n", "-H", "-E", "-S", "--"})
_DEEPEST = 8
NOWHERE = "/dev/null"
STDIN = "/dev/stdin"


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left behind.

    ``wait``: site seconds it takes after it has had its effect. ``until``: it ends when that is true. ``then``: what it
    does after that.
    """

    status: int = 0
    out: str = ""
    err: str = ""
    wait: float = 0.0
    until: Callable[[], bool] | None = None
    then: Callable[[], Result] | None = None


class NeedsInput(Exception):
    """A command wants standard input that has not been read yet."""


class Stdin:
    """Standard input: read when somebody first wants it, and then empty."""

    def __init__(self, text: str | None = "") -> None:
        self._text = text

    def take(self) -> str:
        """All that is left."""
        if self._text is None:
            raise NeedsInput
        text, self._text = self._text, ""
        return text

    def fill(self, text: str) -> None:
        """It has been read."""
        self._text = text


@dataclass(frozen=True, slots=True)
class Invocation:
    """One command with its arguments, at the node's present moment."""

    facts: Facts
    args: list[str]
    stdin: Stdin = field(default_factory=Stdin)
    names: Mapping[str, Command] | frozenset[str] = frozenset()
    """What else this shell knows, for ``command -v``."""
    env: Mapping[str, str] = field(default_factory=dict)
    umask: int = 0o022

    @property
    def input(self) -> str:
        """Standard input, read to its end."""
        return self.stdin.take()


Command = Callable[[Invocation], Result]
Steps = Generator[float | None, str, Result]
"""A running command: yields the seconds to let pass, or None to be sent its input."""


class Process:
    """One shell on one node; to be advanced only while the world stands still."""

    def __init__(
        self,
        world: World,
        node: Node,
        commands: Mapping[str, Command],
        stdin: Stdin,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._world = world
        self._node = node
        missing = {*node.spec.missing_tools, *world.mishaps.missing_tools(node)}
        self._commands = {name: command for name, command in commands.items() if name not in missing}
        self._stdin = stdin
        self._umask = 0o022
        self._env = dict(env or {})

    def line(self, text: str, depth: int = 0) -> Steps:
        """The commands of a line or script, one after the other."""
        try:
            pipelines = parse(text)
        except SyntaxFailure as failure:
            return Result(2, err=f"bash: line 1: {failure}\n")
        done, out, err = Result(), "", ""
        for pipeline in pipelines:
            if (pipeline.before == "&&" and done.status) or (pipeline.before == "||" and not done.status):
                continue
            if pipeline.commands[0].words[:1] == ("exit",):
                status = pipeline.commands[0].words[1:2]
                return Result(int(status[0]) if status else done.status, out, err)
            stdin = self._stdin
            for number, command in enumerate(pipeline.commands):
                done = yield from self._redirected(command, stdin, depth)
                err += done.err
                if number + 1 < len(pipeline.commands):
                    stdin = Stdin(done.out)
                else:
                    out += done.out
        return Result(done.status, out, err)

    def words(self, words: Sequence[str]) -> Steps:
        """One command, as exec(3) gets it."""
        return self._words(list(words), self._stdin, {}, 0)

    # redirection

    def _redirected(self, command: Simple, stdin: Stdin, depth: int) -> Steps:
        """The command with its streams where they belong; what went elsewhere is not in the result."""
        targets: dict[int, str | int] = {1: 1, 2: 2}
        for one in command.redirections:
            if isinstance(one.target, int):
                targets[one.stream] = targets[one.target]
                continue
            try:
                if one.stream == 0:
                    stdin = Stdin("" if one.target == NOWHERE else self._read(one.target))
                else:
                    yield from self._open(one)
                    targets[one.stream] = one.target
            except FileTrouble as trouble:
                return Result(1, err=f"bash: line 1: {one.target}: {trouble}\n")
        env = dict(command.assignments)
        if not command.words:
            self._env |= env
            return Result()
        done = yield from self._words(list(command.words), stdin, env, depth)
        out = err = ""
        for stream, text in ((1, done.out), (2, done.err)):
            target = targets[stream]
            if target == 1:
                out += text
            elif target == 2:
                err += text
            elif isinstance(target, str) and target != NOWHERE and text:
                try:
                    yield from self._patiently(lambda path=target, text=text: self._append(path, text))  # type: ignore[misc]
                except FileTrouble as trouble:
                    done = replace(done, status=done.status or 1)
                    err += f"{command.words[0]}: write error: {trouble}\n"
        return replace(done, out=out, err=err)

    def _read(self, path: str) -> str:
        content = given.content(self._facts, path)
        if content is None:
            return self._world.files[self._node.name].read(path)
        return content

    def _open(self, one: Redirection) -> Generator[float | None, str, None]:
        path = str(one.target)
        if path in (NOWHERE, given.SYSRQ):
            return
        if given.content(self._facts, path) is not None:
            raise FileTrouble("Read-only file system")  # what the world itself says
        files, mode = self._world.files[self._node.name], 0o666 & ~self._umask
        yield from self._patiently(lambda: files.write(path, "", mode, append=one.append))

    def _append(self, path: str, text: str) -> None:
        if path == given.SYSRQ:
            if text[:1] == "c":
                self._world.power.panic(self._node, "kernel panic: sysrq triggered crash")
            return
        self._world.files[self._node.name].write(path, text, append=True)

    @staticmethod
    def _patiently(act: Callable[[], None]) -> Generator[float | None, str, None]:
        while True:
            try:
                act()
            except Stalled:
                yield _ASK_AGAIN
            else:
                return

    # commands

    @property
    def _facts(self) -> Facts:
        return Facts(self._world, self._node)

    def _words(self, words: list[str], stdin: Stdin, env: Mapping[str, str], depth: int) -> Steps:
        name, args = words[0], words[1:]
        if name in ("exec", "nohup", "command") and args and not args[0].startswith("-"):
            return (yield from self._words(args, stdin, env, depth))
        if name == "sudo" and (rest := _without_options(args)):
            return (yield from self._words(rest, stdin, env, depth))
        if name == "env":
            pairs = [arg.partition("=") for arg in args]
            count = next((at for at, (_, equals, _) in enumerate(pairs) if not equals), len(args))
            env = {**env, **{key: value for key, _, value in pairs[:count]}}
            return (yield from self._words(args[count:] or ["true"], stdin, env, depth))
        if name == "timeout" and len(args) > 1:
            return (yield from self._bounded(args, stdin, env, depth))
        if name == "export":
            self._env |= {key: value for key, equals, value in (arg.partition("=") for arg in args) if equals}
            return Result()
        if name == "umask" and len(args) == 1 and re.fullmatch(r"[0-7]{1,4}", args[0]):
            self._umask = int(args[0], 8)
            return Result()
        if name in _SHELLS:
            return (yield from self._inner(args, depth))
        return (yield from self._command(name, args, stdin, {**self._env, **env}))

    def _bounded(self, args: list[str], stdin: Stdin, env: Mapping[str, str], depth: int) -> Steps:
        """timeout(1): the command, ended when its seconds are over."""
        if args[1] not in self._commands and args[1] not in (*_SHELLS, "env", "sudo", "nice"):
            return Result(127, err=f"timeout: failed to run command ‘{args[1]}’: No such file or directory\n")
        left = float(args[0])
        steps = self._words(args[1:], stdin, env, depth)
        given: str | None = None
        while True:
            try:
                asked = next(steps) if given is None else steps.send(given)
            except StopIteration as ended:
                done: Result = ended.value
                return done
            given = None
            if asked is None:
                given = yield None
            elif asked > left:
                yield left
                return Result(124)
            else:
                left -= asked
                yield asked

    def _inner(self, args: list[str], depth: int) -> Steps:
        script = next((args[at + 1] for at, arg in enumerate(args[:-1]) if re.fullmatch(r"-[a-z]*c", arg)), None)
        if script is None and args and not args[0].startswith("-"):
            try:
                script = self._read(args[0])
            except FileTrouble as trouble:
                return Result(2 if args[0] else 127, err=f"sh: 0: cannot open {args[0]}: {trouble}\n")
        if script is None or depth > _DEEPEST:
            return Result(2, err="bash: only -c and a script's file are understood\n")
        return (yield from self.line(script, depth + 1))

    def _command(self, name: str, args: list[str], stdin: Stdin, env: Mapping[str, str]) -> Steps:
        command = self._commands.get(name.rpartition("/")[2] if name.startswith("/") else name)
        if command is None:
            missing = "No such file or directory" if "/" in name else "command not found"
            return Result(127, err=f"bash: line 1: {name}: {missing}\n")
        while True:
            call = Invocation(self._facts, args, stdin, self._commands, env, self._umask)
            try:
                result = command(call)
            except NeedsInput:
                stdin.fill((yield None))
            except Stalled:
                yield _ASK_AGAIN
            else:
                break
        while True:
            for _ in range(_PATIENCE):
                if result.until is None or result.until():
                    break
                yield _ASK_AGAIN
            if result.wait:
                yield result.wait
            if result.then is None:
                return result
            result = result.then()


class Shell:
    """Runs command lines on one node for one requester.

    Args:
        sock: the requester's connection; a command of one that is gone changes nothing.
        read: gives the whole of standard input, or None if it never ends.
    """

    def __init__(
        self,
        gate: Gate,
        node_name: str,
        commands: Mapping[str, Command],
        sock: socket.socket | None,
        read: Callable[[], str | None] = str,
    ) -> None:
        self._gate = gate
        self._node_name = node_name
        self._commands = commands
        self._sock = sock
        self._read = read
        self._boot = ""

    def run(self, line: str) -> Result:
        """What the line left behind; Silence if the node died meanwhile."""
        with self._gate.acting(self._sock) as world:
            self._boot = self._alive(world)
            node = world.nodes[self._node_name]
            steps = Process(world, node, self._commands, Stdin(None), _login(world, node)).line(line)
            asked = _advance(steps, None)
            died = self._died(world)
        while not died and not isinstance(asked, Result):
            answer = None
            if asked is not None:
                self._wait(asked)
            else:
                while (answer := self._read()) is None:
                    self._wait(_FOREVER)
            with self._gate.acting(self._sock) as world:
                self._still(world)
                asked = _advance(steps, answer)
                died = self._died(world)
        if died or not isinstance(asked, Result):
            raise Silence  # what was run was the machine's last act
        return asked

    def _wait(self, seconds: float) -> None:
        try:
            self._gate.park(seconds)
        except Gone:
            with self._gate.acting() as world:
                self._still(world)
            raise
        with self._gate.acting(self._sock) as world:
            self._still(world)

    def _died(self, world: World) -> bool:
        """Whether the machine is no longer the one that was asked. Not raised here: the site must hear of it first."""
        node = world.nodes[self._node_name]
        return not node.running or node.boot_id != self._boot

    def _alive(self, world: World) -> str:
        node = world.nodes[self._node_name]
        if not node.running:
            raise Silence
        return node.boot_id

    def _still(self, world: World) -> None:
        if self._alive(world) != self._boot:
            raise Silence


def _login(world: World, node: Node) -> dict[str, str]:
    """What sshd tells a session of its connection (ssh(1)), by the addresses that the site has in itself."""
    return {"SSH_CONNECTION": f"{world.network.seen_from} 50022 {world.network.management(node)} 22"}


def _advance(steps: Steps, answer: str | None) -> float | Result | None:
    """What the running line asks for next, or how it ended."""
    try:
        return next(steps) if answer is None else steps.send(answer)
    except StopIteration as ended:
        result: Result = ended.value
        return result


def _without_options(args: list[str]) -> list[str]:
    """What sudo is to run."""
    rest = list(args)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option not in _SILENT_OPTIONS_OF_SUDO and rest:
            rest.pop(0)  # -u USER, -g GROUP
    return rest
