"""Which tests are ours, which targets they get, and what the person left out. No network, no site: inventory only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.inventory.rooms import third_room

FIXTURES = "pytest_pveha.fixtures"
"""The module of our fixtures: a test that uses one of them is ours."""

ROLES = ("other", "crm-master")
"""The master last: who fell as the master is another one afterwards, and would be struck once more as such."""
ROOM_ROLES = ("other-room", "room-with-master")


def ours(item: pytest.Item) -> bool:
    """Whether the test uses a fixture of ours; somebody else's ``site`` or ``cluster`` is none."""
    info = getattr(item, "_fixtureinfo", None)
    definitions = info.name2fixturedefs.values() if info is not None else ()
    return any(each and each[-1].func.__module__ == FIXTURES for each in definitions)


def asks_for(metafunc: pytest.Metafunc, name: str) -> bool:
    """Whether a test wants our fixture of that name: not somebody else's, and no parameter of its own."""
    if name not in metafunc.fixturenames:
        return False
    for mark in metafunc.definition.iter_markers("parametrize"):
        given = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
        names = given.split(",") if isinstance(given, str) else given
        if name in (each.strip() for each in names):
            return False
    definitions = metafunc.definition._fixtureinfo.name2fixturedefs.get(name) or ()
    return bool(definitions) and definitions[-1].func.__module__ == FIXTURES


def title(item: pytest.Item) -> str:
    """The claim a test makes: the first line of its docstring."""
    text = (getattr(getattr(item, "function", None), "__doc__", None) or item.name).strip()
    return str(text.splitlines()[0])


def targets(inventory: Inventory, scope: str, roles: Sequence[str]) -> dict[str, list[str]]:
    """For each fixture that names a target, the ids it takes in that scope. Without HA nobody is its master."""
    if not inventory.model.cluster.proxmox:
        roles = tuple(role for role in roles if role != "crm-master")
    nodes = list(inventory.model.nodes)
    guests = [guest.id for guest in inventory.model.guests]
    links = [str(link) for link in range(_links(inventory))]
    alike = {
        "link": links,
        "room": [role for role in ROOM_ROLES if role.startswith(tuple(roles)) or set(roles) == set(ROLES)],
        "feed": feeds(inventory),
        "switch": switches(inventory),
        "served": list(inventory.model.storages),
    }
    if scope == "all":
        others = [f"other-{number}" for number in range(1, len(nodes))]
        sides = minorities(len(nodes), others, roles)
        return {"victim": _roles(roles, others), "minority": sides, "node": nodes, "guest": guests, **alike}
    rooms: dict[str, str] = {}
    for name, block in inventory.model.nodes.items():
        rooms.setdefault(block.room or name, name)
    by_room = list(rooms.values())
    tiers: dict[str, str] = {}
    for guest in inventory.model.guests:
        tiers.setdefault(guest.tier, guest.id)
    if scope == "one-per-room":
        others = [f"other-{number}" for number in range(1, len(by_room))]
        sides = minorities(len(nodes), others[:1], roles)
        return {
            "victim": _roles(roles, others),
            "minority": sides,
            "node": by_room,
            "guest": list(tiers.values()),
            **alike,
        }
    return {
        "victim": _roles(roles, ["other-1"] if len(nodes) > 1 else []),
        "minority": minorities(len(nodes), ["other-1"], roles),
        "node": nodes[:1],
        "guest": list(tiers.values()),
        **alike,
    }


def _roles(wanted: Iterable[str], others: list[str]) -> list[str]:
    found: list[str] = []
    for role in sorted(wanted, key=lambda role: role == "crm-master"):
        found += others if role == "other" else [role]
    return found


def minorities(nodes: int, others: list[str], roles: Sequence[str]) -> list[str]:
    """The sides that a cut can take off and leave quorum to the rest: single nodes, and one of each larger size."""
    largest = (nodes - 1) // 2
    larger = [side for size in range(2, largest + 1) for side in (f"crm-master+{size - 1}", f"others-{size}")]
    every = [*others, "crm-master", *larger] if largest else []
    return [side for side in every if side.startswith(tuple(roles))]


def feeds(inventory: Inventory) -> list[str]:
    """The power feeds on which some nodes hang alone, and others do not: their loss can be played and survived."""
    nodes = inventory.model.nodes.values()
    named = dict.fromkeys(feed for node in nodes for feed in node.feed)
    return [feed for feed in named if 0 < sum(node.feed == (feed,) for node in nodes) < len(nodes)]


def switches(inventory: Inventory) -> list[str]:
    """The switches over which something of the cluster's own goes alone: a corosync link, or the quorum device."""
    found = [
        network.switch[0]
        for name, network in inventory.model.networks.items()
        if str(name).startswith("corosync") and len(network.switch) == 1
    ]
    device = inventory.model.quorum_device
    return list(dict.fromkeys([*found, *([device.switch] if device and device.switch else [])]))


def left_out(inventory: Inventory, scope: str) -> list[str]:
    """The targets that a scope passes over, in words."""
    whole, part = (targets(inventory, each, ROLES) for each in ("all", scope))
    return [
        f"{name} {one}"
        for name in ("victim", "minority", "node", "guest")
        for one in whole[name]
        if one not in part[name]
    ]


def not_applicable(item: pytest.Item, inventory: Inventory) -> str | None:
    """Why the inventory puts this test out of scope; None where it applies."""
    if not inventory.model.cluster.proxmox and not any(
        mark.kwargs.get("proxmox") is False for mark in item.iter_markers("needs")
    ):
        return "it needs a Proxmox API, and the inventory says that there is none (cluster.proxmox)"
    for marker in item.iter_markers("needs"):
        needs: dict[str, Any] = dict(marker.kwargs)
        count = needs.get("nodes")
        if count is not None and len(inventory.model.nodes) < count:
            return f"it needs {count} nodes, the inventory has {len(inventory.model.nodes)}"
        if (links := needs.get("links")) is not None and _links(inventory) < links:
            return f"it needs {links} corosync links, the inventory names {_links(inventory)}"
        if needs.get("switches") and not switches(inventory):
            return "no network of the inventory that carries corosync, nor its quorum device, names its one switch"
        if needs.get("switch_hand") and (unmanned := _unmanned(item, inventory)):
            return unmanned
        if needs.get("feeds") and not feeds(inventory):
            return "the inventory names no power feed on which a part of the nodes hangs alone"
        if needs.get("manual_failover") and not (
            inventory.model.replication is not None and inventory.model.replication.manual_failover
        ):
            return "the inventory has no replication with manual_failover"
        if (losses := needs.get("losses")) is not None and (short := _short(inventory, losses)):
            return short
        if needs.get("even") and len(inventory.model.nodes) % 2:
            return f"it needs an even number of nodes, the inventory has {len(inventory.model.nodes)}"
        if (rooms := needs.get("rooms")) is not None and (there := _rooms(inventory)) != rooms:
            have = f"the inventory has them in {there}" if there else "in the inventory each has its own, or none"
            return f"it needs nodes in {rooms} rooms, {have}"
        if needs.get("tiebreaker_node") and not _tiebreaker_node(inventory):
            return "no node of the inventory stands alone in a third room as the tiebreaker"
        if needs.get("tiebreaker") and inventory.model.quorum_device is None and not _tiebreaker_node(inventory):
            return "the inventory has no quorum_device block, nor a node in a third room"
        played = inventory.model.simulator
        supplied = played is not None and (played.pdus or played.operator is not None)
        if needs.get("mains") and not supplied:
            lacking = [name for name, node in inventory.model.nodes.items() if not (node.pdu or node.operator)]
            if lacking:
                return f"the inventory has neither pdu nor operator for {', '.join(lacking)}"
        if needs.get("pbs") and (inventory.model.backup is None or _no_pbs(inventory)):
            return "the inventory has no backup.pbs block"
        if needs.get("restore") and (inventory.model.backup is None or inventory.model.backup.restore is None):
            return "the inventory has no backup.restore block"
        if needs.get("live_restore"):
            restore = inventory.model.backup.restore if inventory.model.backup is not None else None
            if restore is None or not restore.live:
                return "the inventory does not ask for live restores (backup.restore.live)"
        for block in ("ceph", "backup", "quorum_device", "replication", "storages"):
            if needs.get(block) and getattr(inventory.model, block) in (None, {}):
                return f"the inventory has no {block} block"
    if "ceph" in getattr(item, "fixturenames", ()) and inventory.model.ceph is None:
        return "the inventory has no ceph block"
    return None


def _unmanned(item: pytest.Item, inventory: Inventory) -> str:
    """Why nobody takes the test's switch off the network; empty where somebody does."""
    callspec = getattr(item, "callspec", None)
    name = str(callspec.params.get("switch", "")) if callspec is not None else ""
    played, block = inventory.model.simulator, inventory.model.switches.get(name)
    if (played is not None and played.operator is not None) or (block is not None and block.operator is not None):
        return ""
    return f"the inventory names nobody who takes it off the network (switches.{name or 'NAME'}.operator)"


def _no_pbs(inventory: Inventory) -> bool:
    """Whether nothing says how the backup server is asked; of a simulated one that is supplied."""
    model = inventory.model
    return model.simulator is None and (model.backup is None or model.backup.pbs is None)


def _short(inventory: Inventory, losses: int) -> str:
    """Why quorum would not outlive the loss of so many nodes, by the votes; empty where it would.

    One vote a node, one of the device with ffsplit, one less than the nodes' with lms (corosync-qdevice(8)).
    """
    nodes, device = len(inventory.model.nodes), inventory.model.quorum_device
    votes = nodes + (0 if device is None else 1 if device.algorithm == "ffsplit" else nodes - 1)
    left, quorum = votes - losses, votes // 2 + 1
    if left >= quorum:
        return ""
    return f"of {votes} votes the loss of {losses} nodes leaves {left}, and quorum takes {quorum}: it would not survive"


def _rooms(inventory: Inventory) -> int:
    """In how many rooms the nodes stand; in none that count, where each has a room of its own or one has none.

    The room of a node that is the tiebreaker does not count.
    """
    rooms = _by_room(inventory)
    if None in rooms or all(len(nodes) == 1 for nodes in rooms.values()):
        return 0
    return len(rooms) - bool(_tiebreaker_node(inventory))


def _by_room(inventory: Inventory) -> dict[str | None, list[str]]:
    rooms: dict[str | None, list[str]] = {}
    for name, node in inventory.model.nodes.items():
        rooms.setdefault(node.room, []).append(name)
    return rooms


def _tiebreaker_node(inventory: Inventory) -> bool:
    """Whether a node in a third room is the tiebreaker."""
    named = {room: nodes for room, nodes in _by_room(inventory).items() if room is not None}
    return inventory.model.quorum_device is None and bool(third_room(named))


def _links(inventory: Inventory) -> int:
    """How many corosync links there are: the simulated site's, or those that ``networks`` names."""
    if inventory.model.simulator is not None:
        return inventory.model.simulator.links
    return sum(str(name).startswith("corosync") for name in inventory.model.networks)


def every_test(session: pytest.Session) -> Iterator[pytest.Item]:
    """All tests of the suites, whatever paths, node ids, --lf or --ignore left out: looked through a second time.

    pytest only tells what it deselects, not what it never collected. Plugins that skip files are passed over; nothing
    is reported, so that what the person asked for stays what the person sees. A file that cannot be imported has none.
    """
    config = session.config
    declared = [config.rootpath / each for each in config.getini("testpaths")]
    asked = [config.invocation_params.dir / str(each).partition("::")[0] for each in config.args]
    skipping = [config.pluginmanager.get_plugin(name) for name in ("lfplugin-collwrapper", "lfplugin-collskip")]
    report = config.pluginmanager.subset_hook_caller("pytest_make_collect_report", [each for each in skipping if each])
    kept = {name: getattr(config.option, name, None) for name in ("ignore", "ignore_glob")}
    try:
        for name in kept:
            setattr(config.option, name, None)
        for path in dict.fromkeys([*declared, *asked]):
            yield from _items(report, _collectors(session, path))
    finally:
        for name, value in kept.items():
            setattr(config.option, name, value)


def _collectors(session: pytest.Session, path: Path) -> Sequence[pytest.Item | pytest.Collector]:
    if path.is_dir():
        found = session.ihook.pytest_collect_directory(path=path, parent=session)
        return [found] if found is not None else []
    return session.ihook.pytest_collect_file(file_path=path, parent=session) if path.is_file() else []


def _items(report: Any, collectors: Iterable[pytest.Item | pytest.Collector]) -> Iterator[pytest.Item]:
    for each in collectors:
        if isinstance(each, pytest.Item):
            yield each
        else:
            yield from _items(report, report(collector=each).result)


def waived(item: pytest.Item, inventory: Inventory, today: date) -> str | None:
    """Why this test is waived today: who answers for it, and until when; None where it counts."""
    for waiver in inventory.model.waivers:
        if waives(waiver.test, item.nodeid) and today <= waiver.expires:
            return f"{waiver.reason} ({waiver.owner}, until {waiver.expires.isoformat()})"
    return None


def waives(test: str, nodeid: str) -> bool:
    """Whether a waiver's test is that one: its id as the report prints it, with or without the role in brackets."""
    return test in (nodeid, nodeid.partition("[")[0])


def row(item: pytest.Item, reason: str | None = None) -> dict[str, str]:
    """A test as the record lists it."""
    found = {"id": item.nodeid, "title": title(item)}
    if reason is not None:
        found["reason"] = reason
    return found
