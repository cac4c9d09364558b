"""Placement: which node a service should be on, by the rules and by what the nodes carry. Pure.

``basic`` counts services a node. ``static`` weighs the configured memory and processors: TOPSIS over the mean and the
highest use that the cluster would have, memory before processors and peaks before means, so the weights 10, 5, 2, 1.
Sources: pve-ha-manager 5.2 (Manager.pm, Usage/*.pm); PVE Administration Guide, "Cluster Resource Scheduling".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import sqrt

from pytest_pveha.sim.world.model import Facts
from pytest_pveha.sim.world.rules import Compiled
from pytest_pveha.sim.world.service import used_nodes

STAY, BEST, NEXT = "stay", "best", "next"
"""What is wanted: where it is if that will do; the best node; the best node on which it has not failed yet."""
_WEIGHTS = (1.0, 2.0, 5.0, 10.0)
"""Mean and highest processor use, mean and highest memory use."""


@dataclass(frozen=True, slots=True)
class Size:
    """Processors and memory (bytes): what a node has, or what a service asks for."""

    cpus: float
    memory: float


@dataclass(slots=True)
class Load:
    """What the online nodes carry. ``static``: sizes count, not numbers."""

    nodes: Mapping[str, Size]
    sizes: Mapping[str, Size]
    static: bool = False
    carried: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.carried = {node: set() for node in self.nodes}

    def add(self, sid: str, *nodes: str | None) -> None:
        """Those nodes carry the service."""
        for node in nodes:
            if node in self.carried:
                self.carried[node].add(sid)

    def change(self, sid: str, service: Facts) -> None:
        """The service is where its status says, and nowhere else."""
        for sids in self.carried.values():
            sids.discard(sid)
        self.add(sid, *used_nodes(service, self.nodes))

    def scores(self, sid: str) -> dict[str, float]:
        """For every node, how bad a place it is for the service to start on."""
        return self._weighed(sid) if self.static else {node: float(len(sids)) for node, sids in self.carried.items()}

    def _weighed(self, sid: str) -> dict[str, float]:
        rows = {node: self._figures(sid, node) for node in self.nodes}
        if not rows:
            return {}
        columns = list(zip(*rows.values(), strict=True))
        norms = [sqrt(sum(value * value for value in column)) or 1.0 for column in columns]
        scale = [weight / sum(_WEIGHTS) / norm for weight, norm in zip(_WEIGHTS, norms, strict=True)]
        best, worst = [min(column) for column in columns], [max(column) for column in columns]
        return {node: 1.0 - _closeness(row, best, worst, scale) for node, row in rows.items()}

    def _figures(self, sid: str, target: str) -> tuple[float, ...]:
        """Mean (of squares) and highest use of processors and of memory, were the service on the target."""
        cpu, memory = [], []
        for node, size in self.nodes.items():
            carried = self.carried[node] | ({sid} if node == target else set())
            cpu.append(sum(self.sizes[one].cpus for one in carried) / size.cpus)
            memory.append(sum(self.sizes[one].memory for one in carried) / size.memory)
        return _mean(cpu), max(cpu), _mean(memory), max(memory)


def _mean(values: list[float]) -> float:
    return sqrt(sum(value * value for value in values) / len(values))


def _closeness(row: Iterable[float], best: list[float], worst: list[float], scale: list[float]) -> float:
    def distance(to: list[float]) -> float:
        return sqrt(sum(((a - b) * f) ** 2 for a, b, f in zip(row, to, scale, strict=True)))

    row = tuple(row)
    far = distance(worst)
    total = far + distance(best)
    # nodes that are all alike are all equally good
    return far / total if total else 0.5


def choose(
    sid: str, services: Mapping[str, Facts], rules: Compiled, load: Load, *, failback: bool, wanted: str = STAY
) -> str | None:
    """The node that service should be on; None if no online node will do."""
    service, online = services[sid], load.nodes
    here: str = service["node"]
    preferred = rules.preferred(sid, online)
    if not preferred:
        return None
    together, apart = _partners(sid, services, rules, online)
    if (
        wanted == STAY
        and not failback
        and here in rules.allowed(sid, online)
        and (here in together or here not in apart)
    ):
        return here
    if wanted == NEXT:
        preferred -= set(service.get("failed_nodes", ()))
    preferred -= apart
    if common := [node for node in together if node in preferred]:
        preferred = {max(sorted(common), key=lambda node: together[node])}
    home = service.get("maintenance_node")
    if home in preferred:
        return str(home)
    if wanted == STAY and here in preferred:
        return here
    scores = load.scores(sid)
    ranked = sorted(preferred, key=lambda node: (scores[node], node))
    if wanted == NEXT and here in ranked[:-1]:
        return ranked[ranked.index(here) + 1]
    return ranked[0] if ranked else None


def _partners(
    sid: str, services: Mapping[str, Facts], rules: Compiled, online: Mapping[str, Size]
) -> tuple[dict[str, int], set[str]]:
    """Where those it belongs with are (or go), and how many; where those are that it must not meet."""
    together: dict[str, int] = {}
    apart: set[str] = set()
    for partner in rules.together.get(sid, ()):
        if partner in services:
            here, target = used_nodes(services[partner], online)
            if node := target or here:
                together[node] = together.get(node, 0) + 1
    for rival in rules.apart.get(sid, ()):
        if rival in services:
            apart |= {node for node in used_nodes(services[rival], online) if node}
    return together, apart
