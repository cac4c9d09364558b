"""The simulated site's side of tests that play the same cases on real daemons: our handles, straight on its world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from pytest_pveha.clock import SECOND, Clock, Deadline, Instant
from pytest_pveha.errors import Unreachable
from pytest_pveha.handles import cluster as cluster_handle
from pytest_pveha.handles.ceph import Ceph
from pytest_pveha.handles.copies import Copies
from pytest_pveha.handles.guest import Guests, Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.replication import Replication
from pytest_pveha.handles.site import Site
from pytest_pveha.handles.storages import Storages
from pytest_pveha.sim.servers.commands import COMMANDS
from pytest_pveha.sim.servers.shell import Shell
from pytest_pveha.wire.pve_api import PveApi
from pytest_pveha.wire.ssh import CommandResult, ShellLine, Ssh
from tests.sim.servers_kit import PlayingGate


def world_site(gate: PlayingGate, name: str) -> Site:
    """Our handles of that world's site: its nodes by their shells, and nobody who serves an API."""
    clock = cast("Clock", WorldClock(gate))
    api = cast("PveApi", NoApi())
    nodes = Nodes(Node(each, cast("Ssh", WorldShell(gate, each, clock)), None, clock, ()) for each in gate.world.nodes)
    data = (Ceph(api), Storages(api), Replication(api))
    return Site(name, True, clock, cluster_handle.Cluster(api), *data, nodes, Guests(()), _no_agent, Copies(api))


@dataclass
class WorldClock:
    """The simulated site's time, which passes while somebody waits."""

    gate: PlayingGate
    simulated = True

    def now(self) -> Instant:
        now = self.gate.world.timeline.now
        return Instant(now, now)

    def sleep(self, seconds: float) -> None:
        self.gate.play(seconds)

    def deadline(self, seconds: float) -> Deadline:
        return Deadline(cast("Clock", self), self.now().mono + round(seconds * SECOND))


@dataclass
class WorldShell:
    """A node's shell, without a network between."""

    gate: PlayingGate
    name: str
    clock: Clock

    def run(
        self, command: ShellLine, *, deadline: Deadline, acts: bool = False, input: bytes | None = None
    ) -> CommandResult:
        asked = self.clock.now()
        done = Shell(self.gate, self.name, COMMANDS, None, lambda: (input or b"").decode()).run(command)
        return CommandResult(done.status, done.out.encode(), done.err.encode(), asked, self.clock.now())


class NoApi:
    """Nobody serves an API, as in the laboratory."""

    def shun(self, because: str, nodes: frozenset[str]) -> None:
        """Nobody is asked anyway."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def refuse(*args: Any, **named: Any) -> Any:
            raise Unreachable("nobody serves an API here")

        return refuse


def _no_agent(sid: str, node: str) -> Any:
    raise Unreachable("no guest is here")
