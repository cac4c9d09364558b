"""What a real control plane did after a fault or a command, second by second, and what the site does.

``recorded/timelines-pve-9.1.9.json`` holds, for each, the command, the states before, every change that the API showed
(asked once a second), and lines of the HA daemons' journals. The daemons' rounds are set to the recorded phases; then
the same things must happen, in the same order, each within ten seconds of its time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_pveha.clock import SECOND
from tests.sim.ha_kit import Site, guest

RECORDED = json.loads((Path(__file__).parent / "recorded" / "timelines-pve-9.1.9.json").read_text(encoding="utf-8"))
WITHIN = 10.0
APART = 1.5
"""What was seen closer together may have happened in either order."""


@dataclass(frozen=True)
class Replay:
    """How a recording is played again."""

    guests: tuple[dict[str, Any], ...]
    phases: dict[str, float]
    """Seconds from the command until the next round of a daemon, such as ``crm n2``."""
    act: Callable[[Site], object]
    later: tuple[tuple[float, Callable[[Site], object]], ...] = ()
    before: Callable[[Site], object] = field(default=lambda site: None)
    boot_seconds: float = 0.2
    policy: str = "conditional"


ONE, THREE = guest(101, "n1", memory_bytes=32 << 20), guest(103, "n3", memory_bytes=32 << 20)
FOUR = (ONE, THREE, guest(104, "n2", memory_bytes=32 << 20))
"""With a service everywhere, no LRM is idle."""


def pin(site: Site) -> None:
    rule = {"rule": "pin101", "type": "node-affinity", "resources": "vm:101", "nodes": "n1:1,n2:2", "order": 1}
    site.world.pmxcfs.store.rules["pin101"] = rule


def in_maintenance(site: Site) -> None:
    site.command("enable-node-maintenance n3")
    site.play(120)


REPLAYS = {
    "affinity-rule": Replay((ONE, THREE), {"crm n2": 7.3, "lrm n1": 1.7, "lrm n2": 3.5}, pin),
    "maintenance-on-n3": Replay(
        FOUR,
        {"crm n2": 6.3, "lrm n3": 0.7, "lrm n1": 0.4},
        lambda site: site.command("enable-node-maintenance n3"),
    ),
    "maintenance-off-n3": Replay(
        FOUR,
        {"crm n2": 3.8, "lrm n3": 4.0, "lrm n1": 9.0},
        lambda site: site.command("disable-node-maintenance n3"),
        before=in_maintenance,
    ),
    # a running guest without HA counts: n1 and n2 carry one each, and the first by name is taken
    "power-n3": Replay(
        (ONE, THREE, guest(102, "n2", ha=False)),
        {"crm n1": 6.6, "lrm n1": 6.9, "lrm n3": 6.0, "lrm n2": 2.0},
        lambda site: site.cut("n3"),
        later=((224.0, lambda site: site.world.chassis("n3", "on")),),
    ),
    "power-off-2": Replay(
        (ONE, THREE),
        {"crm n3": 6.9, "lrm n3": 6.0, "lrm n1": 6.0, "lrm n2": 2.9},
        lambda site: site.cut("n1"),
        later=((276.5, lambda site: site.world.chassis("n1", "on")),),
    ),
    "poweron-n3": Replay(
        (ONE, THREE),
        {"crm n1": 2.9},
        lambda site: site.world.chassis("n3", "on"),
        before=lambda site: (site.cut("n3"), site.play(260)),
    ),
    "reboot-n3-policy-migrate": Replay(
        FOUR,
        {"crm n2": 7.1, "lrm n3": 6.7, "lrm n1": 5.4},
        lambda site: site.world.shutdown("n3", reboot=True),
        policy="migrate",
        boot_seconds=2.0,
    ),
    "vmcrash-101": Replay(FOUR, {"lrm n1": 0.9}, lambda site: site.world.kill_guest(101, "n1")),
}


def lab(name: str) -> Site:
    """The recorded control plane as it stood when the command was given, its master the same."""
    replay, master = REPLAYS[name], RECORDED[name]["start"]["ms master"]
    for seed in range(1, 60):
        site = Site(
            *replay.guests, seed=seed, prefix="n", shutdown_policy=replay.policy, boot_seconds=replay.boot_seconds
        )
        if site.master == master:
            replay.before(site)
            for daemon, phase in replay.phases.items():
                kind, node = daemon.split()
                found = getattr(site.world.nodes[node], kind)
                found.schedule(phase)
            return site
    raise AssertionError(f"no seed makes {master} master")


def seen(site: Site) -> dict[str, Any]:
    """What the recorder asked for: the members, the manager's states, the LRMs'."""
    observer = next(node for node in site.world.nodes.values() if site.world.quorate(node) and node.running)
    members = site.world.members(observer)
    status = site.status
    found: dict[str, Any] = {"ms master": status["master_node"]}
    found |= {f"cluster/status node/{name}": int(name in members) for name in site.world.nodes}
    found |= {f"ms node {name}": state for name, state in status["node_status"].items()}
    services = status["service_status"].items()
    found |= {f"ms service {sid}": f"{one['state']}@{one['node']}" for sid, one in services}
    lrms = site.world.pmxcfs.store.lrm.items()
    found |= {f"lrm {name}": f"{lrm['state']}/{lrm['mode']}" for name, lrm in lrms}
    return found


def played(site: Site, name: str, until: float) -> tuple[float, list[tuple[float, str, Any]]]:
    """When the command was given, and every change seen in a look a second."""
    replay, start = REPLAYS[name], site.now
    changes = []
    before = seen(site)
    replay.act(site)
    waiting = list(replay.later)
    while site.now - start < until:
        site.play(1.0)
        while waiting and site.now - start >= waiting[0][0]:
            waiting.pop(0)[1](site)
        now = seen(site)
        changes += [
            (site.now - start, what, value)
            for what, value in now.items()
            if before.get(what) != value and "vm:104" not in what
        ]
        before = now
    return start, changes


def matched(there: list[tuple[float, Any]], here: list[tuple[float, Any]]) -> list[str]:
    """What is missing, too many, too early, too late, or in another order."""
    times: dict[Any, list[float]] = defaultdict(list)
    for at, what in here:
        times[what].append(at)
    wrong, pairs = [], []
    for at, what in there:
        if not times[what]:
            wrong.append(f"{what} at {at} s never happened")
            continue
        mine = times[what].pop(0)
        pairs.append((at, mine, what))
        if abs(mine - at) > WITHIN:
            wrong.append(f"{what} at {at} s happened at {mine:.1f} s")
    end = max((at for at, _ in there), default=WITHIN)
    wrong += [f"{what} at {rest[0]:.1f} s was not recorded" for what, rest in times.items() if rest and rest[0] < end]
    for index, (at, mine, what) in enumerate(pairs):
        for later, after, then in pairs[index + 1 :]:
            if later - at > APART and after < mine - APART:
                wrong.append(f"{what} came before {then} and now comes after it")
    return wrong


@pytest.mark.parametrize("name", RECORDED)
def test_the_same_happens_in_the_same_order(name: str) -> None:
    """Each change that the API showed comes within ten seconds of its recorded time, in order, and no other does."""
    site = lab(name)
    recorded = [(at, (what, value)) for at, what, value in RECORDED[name]["changes"]]
    last = max([at for at, _ in recorded], default=20.0)
    _, changes = played(site, name, last + 11)
    assert matched(recorded, [(at, (what, value)) for at, what, value in changes]) == []


@pytest.mark.parametrize("name", RECORDED)
def test_the_journals_say_the_same(name: str) -> None:
    """Each recorded line of the HA daemons is said by the same node within ten seconds, in the same words and order."""
    site = lab(name)
    lines = [(at, (node, ident, text)) for at, node, ident, text in RECORDED[name]["lines"]]
    known = {what for _, what in lines}
    start, _ = played(site, name, max(at for at, _ in lines) + 12)
    said = sorted(
        (line.t_ns / SECOND - start, (node.name, line.ident, line.text))
        for node in site.world.nodes.values()
        for line in node.journal
        if line.t_ns / SECOND >= start and (node.name, line.ident, line.text) in known
    )
    assert matched(lines, said) == []
