"""Invariants asked after every scenario: whatever was tested, these must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_pveha.observe import settings
from pytest_pveha.observe.answer import Answer, Condition, ask, cant_tell, no, yes
from pytest_pveha.observe.ha import quorum_whole
from pytest_pveha.observe.news import HEADLINES, Expected, scan
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.observe.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Scene:
    """What an audit compares with."""

    observer: Observer
    found: Snapshot
    """The site before the run, with how it is set."""
    before: Snapshot
    """The site before this test."""
    victims: frozenset[str]
    """Nodes that were meant to die."""
    since: float
    """When the test began (epoch seconds of our clock)."""
    news: tuple[Expected, ...] = ()
    """What the journals were to say."""


@dataclass(frozen=True, slots=True)
class Audit:
    """An invariant; the judge knows it by its name."""

    name: str
    title: str
    ask: Callable[[Scene], Answer]
    of_proxmox: bool = False
    """Whether it is about what a site without Proxmox does not have."""


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


def _wanted(scene: Scene) -> dict[str, str]:
    """The state that is asked for of each HA service; PVE leaves out the default."""
    site = scene.observer.site
    if not site.cluster.proxmox:
        return {}
    resources = site.cluster.ha_rules(site.clock.deadline(READ)).resources
    states = {sid: row.get("state", "started") for sid, row in resources.items()}
    return {sid: "started" if state == "enabled" else state for sid, state in states.items()}


def _once(scene: Scene) -> Answer:
    wanted = _wanted(scene)
    where: dict[str, list[str]] = {}
    for node in scene.observer.site.nodes:
        for sid in scene.observer.processes(node).ages:
            where.setdefault(sid, []).append(node.name)
    wrong = [f"{sid} on {' and '.join(nodes)}" for sid, nodes in sorted(where.items()) if len(nodes) > 1]
    for sid in scene.observer.site.guests.sids:
        state = wanted.get(sid, "not under HA")
        if sid not in where and state not in ("stopped", "disabled", "ignored"):
            wrong.append(f"{sid} nowhere")
        if sid in where and state in ("stopped", "disabled"):
            wrong.append(f"{sid} on {where[sid][0]}, though {state} is asked for")
    return no("; ".join(wrong)) if wrong else yes("each guest's process exactly once, where it is to run")


def _services(scene: Scene) -> Answer:
    """The HA manager has every service in the state that is asked for; a disabled one is stopped."""
    manager = scene.observer.site.cluster.manager(scene.observer.site.clock.deadline(READ))
    asked = {sid: "stopped" if state == "disabled" else state for sid, state in _wanted(scene).items()}
    wrong = [
        f"{sid} {row.state}" + (f" instead of {asked[sid]}" if sid in asked else "")
        for sid, row in sorted(manager.services.items())
        if row.state in ("error", "fence", "recovery") or row.state != asked.get(sid, row.state)
    ]
    return no(", ".join(wrong)) if wrong else yes("every service in the state that is asked for, none in error")


def _settings(scene: Scene) -> Answer:
    return _compared(scene.found.settings, settings.of_the_cluster(scene.observer), "rules, options and flags as found")


def _leftovers(scene: Scene) -> Answer:
    """Nothing that carries our tag stands on a node that did not before."""
    ours, _ = settings.on_the_nodes(scene.observer, scene.observer.site.nodes.names)
    return _compared(scene.found.settings, ours, "nothing of ours on any node")


def _compared(found: dict[str, str], now: dict[str, str], good: str) -> Answer:
    if not found:
        return cant_tell("how the site was set was not recorded when the run began")
    rows = settings.changed({key: found[key] for key in now if key in found}, now)
    lost = [row for row in rows if row.endswith(f"→ {settings.UNKNOWN}")]
    if rows and len(lost) == len(rows):
        return cant_tell("; ".join(rows))
    return no("; ".join(rows)) if rows else yes(good)


def _news(scene: Scene) -> Answer:
    return scan(scene.observer, scene.since, scene.news)


def _ring(scene: Scene) -> Answer:
    """Of the kinds of bad news those that corosync writes when its network is not good enough."""
    others = [Expected(name) for name in HEADLINES if name not in RING_NEWS]
    return scan(scene.observer, scene.since, others)


RING_NEWS = ("token-late", "retransmits", "link-down", "member-lost", "held-up")
RING = Audit("ring_quiet", "No node's corosync complains of its network", _ring)
"""Asked where nothing is broken: then its journal has nothing to say."""

CLUSTER = (
    Audit("quorate", "Quorate from every node's view", _quorate),
    Audit("boot_ids", "No other node was reset", _boot_ids),
    Audit("runs_once", "Each guest runs exactly once", _once),
    Audit("services", "Every HA service is as asked for, none in error", _services, of_proxmox=True),
    Audit("settings", "Rules, options and flags are as found", _settings, of_proxmox=True),
    Audit("leftovers", "Nothing of ours is left on the nodes", _leftovers),
    Audit("bad_news", "No node's journal has bad news that was not declared", _news),
)


def audit(scene: Scene) -> list[tuple[Audit, Answer]]:
    """Every audit that the site has something for, asked once; one that cannot be answered is "can't tell"."""
    proxmox = scene.observer.site.cluster.proxmox
    return [(one, asked(one, scene)) for one in CLUSTER if proxmox or not one.of_proxmox]


def asked(one: Audit, scene: Scene) -> Answer:
    """That audit asked once."""
    return ask(Condition(one.title, lambda _: one.ask(scene)), scene.observer)
