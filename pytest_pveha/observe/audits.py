"""Invariants asked after every scenario: whatever was tested, these must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_pveha.observe.answer import Answer, Condition, ask, no, yes
from pytest_pveha.observe.ha import quorum_whole
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.observe.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Scene:
    """What an audit compares with: the site before this test, and the nodes that were meant to die."""

    observer: Observer
    before: Snapshot
    victims: frozenset[str]


@dataclass(frozen=True, slots=True)
class Audit:
    """An invariant; the judge knows it by its name."""

    name: str
    title: str
    ask: Callable[[Scene], Answer]


def _quorate(scene: Scene) -> Answer:
    return quorum_whole().ask(scene.observer)


def _boot_ids(scene: Scene) -> Answer:
    """Nobody else was reset: a new boot id on a node that was not meant to die is collateral damage."""
    reset = []
    for node in scene.observer.site.nodes:
        now = scene.observer.boot_id(node)
        if node.name not in scene.victims and scene.before.boot_ids.get(node.name) not in (None, now):
            reset.append(node.name)
    return no(f"reset although not meant to be: {', '.join(reset)}") if reset else yes("no other node was reset")


def _once(scene: Scene) -> Answer:
    where: dict[str, list[str]] = {}
    for node in scene.observer.site.nodes:
        for sid in scene.observer.processes(node).ages:
            where.setdefault(sid, []).append(node.name)
    wrong = [f"{sid} on {' and '.join(nodes)}" for sid, nodes in sorted(where.items()) if len(nodes) > 1]
    lost = [sid for sid in scene.observer.site.guests.sids if sid not in where]
    if wrong or lost:
        return no("; ".join([*wrong, *(f"{sid} nowhere" for sid in lost)]))
    return yes("each guest's process exactly once")


def _services(scene: Scene) -> Answer:
    manager = scene.observer.site.cluster.manager(scene.observer.site.clock.deadline(READ))
    wrong = [
        f"{sid} {row.state}" for sid, row in sorted(manager.services.items()) if row.state in ("error", "recovery")
    ]
    return no(", ".join(wrong)) if wrong else yes("no service in error or recovery")


CLUSTER = (
    Audit("quorate", "Quorate from every node's view", _quorate),
    Audit("boot_ids", "No other node was reset", _boot_ids),
    Audit("runs_once", "Each guest runs exactly once", _once),
    Audit("services", "No HA service is in error", _services),
)


def audit(scene: Scene) -> list[tuple[Audit, Answer]]:
    """Every audit asked once; one that cannot be answered is "can't tell"."""
    return [(one, ask(Condition(one.title, lambda _, one=one: one.ask(scene)), scene.observer)) for one in CLUSTER]  # type: ignore[misc]
