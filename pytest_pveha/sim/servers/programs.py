"""What a node's systemd starts: programs run by the same shell and commands that answer over SSH."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_pveha.sim.servers.commands import COMMANDS
from pytest_pveha.sim.servers.shell import Process, Stdin, Steps
from pytest_pveha.sim.world.model import Node
from pytest_pveha.sim.world.world import World


def run_program(world: World, node: Node, words: Sequence[str]) -> Steps:
    """The command, not yet begun; see ``world.systemd.Exec``."""
    return Process(world, node, COMMANDS, Stdin()).words(words)
