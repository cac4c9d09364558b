"""Where the commands of a simulated node are entered, and how their options are read."""

from __future__ import annotations

from collections.abc import Callable

from pytest_pveha.sim.servers.shell import Command

COMMANDS: dict[str, Command] = {}


def command(*names: str) -> Callable[[Command], Command]:
    """The function is the command of those names."""

    def enter(function: Command) -> Command:
        COMMANDS.update(dict.fromkeys(names, function))
        return function

    return enter


def option(args: list[str], *names: str) -> str | None:
    """The value of the last of these options, as ``-o x``, ``-ox`` or ``--option=x``."""
    values = options(args, *names)
    return values[-1] if values else None


def options(args: list[str], *names: str) -> list[str]:
    """The values of all of these options."""
    values = []
    for at, arg in enumerate(args):
        for name in names:
            if arg == name and at + 1 < len(args):
                values.append(args[at + 1])
            elif name.startswith("--") and arg.startswith(name + "="):
                values.append(arg[len(name) + 1 :])
            elif not name.startswith("--") and arg.startswith(name) and len(arg) > len(name):
                values.append(arg[len(name) :])
    return values
