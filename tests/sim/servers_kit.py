"""What the servers' tests share: a small site, a gate over it, and patience played in the world's own time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.gate import Gone
from pytest_pveha.sim.servers.commands import COMMANDS
from pytest_pveha.sim.servers.programs import run_program
from pytest_pveha.sim.servers.shell import Result, Shell
from pytest_pveha.sim.spec import SiteSpec
from pytest_pveha.sim.timeline import Timeline
from pytest_pveha.sim.world.model import Node
from pytest_pveha.sim.world.world import World


def small_site(**changes: Any) -> World:
    """Three nodes, two HA guests and one without, up for days."""
    spec = {
        "name": "unit",
        "cluster": "orcl",
        "nodes": [{"name": f"pve{n}", "nodeid": n, "boot_seconds": 60.0} for n in (1, 2, 3)],
        "guests": [
            {"vmid": 101, "name": "svc1", "node": "pve1"},
            {"vmid": 102, "name": "plain2", "node": "pve2", "ha": False},
            {"vmid": 103, "name": "svc3", "node": "pve3"},
        ],
        **changes,
    }
    return World(SiteSpec.from_json(spec), Timeline(), lambda kind, data: None, run=run_program)


def shell(gate: PlayingGate, line: str, node: str = "pve1", given: str = "") -> Result:
    """What the line says on that node, with that standard input."""
    return Shell(gate, node, COMMANDS, None, lambda: given).run(line)


def told(gate: PlayingGate, line: str, node: str = "pve1", given: str = "") -> str:
    """What the line prints on that node; it must succeed."""
    done = shell(gate, line, node, given)
    assert (done.status, done.err) == (0, ""), done
    return done.out


class PlayingGate:
    """A gate whose ``park`` plays the world on and returns at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lock = threading.RLock()
        self.parked: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None
        """Called within every park: what others do while the server waits."""
        self.gone = False
        self.turned_away = threading.Event()

    @contextmanager
    def acting(self, sock: socket.socket | None = None) -> Iterator[World]:
        """The world, or Gone when the test says that the requester left."""
        with self.lock:
            if self.gone and sock is not None:
                self.turned_away.set()
                raise Gone
            yield self.world

    def park(self, seconds: float) -> None:
        """That much later in the world."""
        with self.lock:
            self.parked.append(seconds)
            self.play(seconds)
            self.meanwhile()

    def play(self, seconds: float) -> None:
        """The world goes on for that long."""
        timeline = self.world.timeline
        timeline.run_until(timeline.now + round(seconds * SECOND))

    def until(self, condition: Callable[[], bool], within: float = 600.0) -> None:
        """The world goes on until the condition holds."""
        for _ in range(round(within * 4)):
            if condition():
                return
            self.play(0.25)
        raise AssertionError("it never came true")

    def revive(self, name: str) -> Node:
        """That node has power again and has booted."""
        node = self.world.nodes[name]
        self.play(5.0)
        self.world.chassis(name, "on")
        self.until(lambda: node.running)
        return node

    def kill(self, name: str) -> Node:
        """That node has lost its power, and the others have not yet noticed."""
        node = self.world.nodes[name]
        self.world.chassis(name, "off")
        self.until(lambda: not node.running, 10)
        return node
