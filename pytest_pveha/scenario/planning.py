"""The plan of a run, made without running it: what would be broken, in what order, on what, and who goes down.

A plan is one JSON document. Its bytes are canonical, so that a digest names it and a signature can approve it; what
the inventory consents to is no part of it, for that changes with the clock.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pytest_pveha.errors import UsageError
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.inventory import consent_refusal, node_digest
from pytest_pveha.observe.observer import READ
from pytest_pveha.observe.snapshot import Snapshot
from pytest_pveha.scenario.campaign import UNSAID
from pytest_pveha.scenario.declared import Declared
from pytest_pveha.scenario.roles import cast_side

SCHEMA = 1

GUEST_FAMILIES = frozenset({"guest", "restore"})
"""Kinds of fault that reach one guest and not its node."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """A test as it would run: its id and claim, and the target that its parameters name."""

    id: str
    title: str
    declared: Declared | None
    """None = it only looks."""
    role: str | None = None
    node: str | None = None
    guest: str | None = None
    feed: str | None = None
    switch: str | None = None
    storage: str | None = None


@dataclass(frozen=True, slots=True)
class Resident:
    """A guest where it runs; the node is None where the inventory does not say."""

    id: str
    name: str
    node: str | None
    ha: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """The site as a plan needs it."""

    cluster: str
    nodes: tuple[str, ...]
    guests: tuple[Resident, ...]
    """Those that run."""
    connected: bool
    master: str | None = None
    busy: Mapping[str, int] = field(default_factory=dict)
    """How many HA services each node runs."""


def declared_scene(inventory: Inventory) -> Scene:
    """The site as the inventory alone tells it: guests on their preferred nodes, roles unknown."""
    model = inventory.model
    guests = tuple(Resident(guest.id, guest.name or "", guest.preferred_node, ha=True) for guest in model.guests)
    return Scene(model.cluster.name, tuple(model.nodes), guests, connected=False)


def live_scene(site: Site) -> Scene:
    """The site as it is now. Reads only.

    Raises:
        SiteError: it does not answer, or only in part.
    """
    deadline = site.clock.deadline
    membership = site.cluster.membership(deadline(READ))
    manager = site.cluster.leading(deadline(READ))
    resources = site.cluster.ha_rules(deadline(READ)).resources if site.cluster.proxmox else ()
    rows = site.cluster.guests(deadline(READ))
    guests = tuple(
        Resident(sid, row.name, row.node, ha=sid in resources)
        for sid, row in sorted(rows.items())
        if row.status == "running"
    )
    return Scene(
        membership.cluster,
        tuple(sorted(membership.online)),
        guests,
        connected=True,
        master=manager.master,
        busy=Counter(service.node for service in manager.services.values()),
    )


def found_scene(inventory: Inventory, found: Snapshot) -> Scene:
    """The site as a run found it; roles are bound when each test begins, and are not known here."""
    names = {guest.id: guest.name or "" for guest in inventory.model.guests}
    placed = {sid: status.partition("@") for sid, status in found.guests.items()}
    guests = tuple(
        Resident(sid, names.get(sid, ""), node, ha=sid in found.services)
        for sid, (status, _, node) in sorted(placed.items())
        if status == "running"
    )
    return Scene(found.cluster, tuple(sorted(found.nodes)), guests, connected=True)


def plan(inventory: Inventory, scene: Scene, scope: str, subjects: Sequence[Subject], **rest: object) -> Document:
    """The plan of these tests, in their order.

    Args:
        rest: lists of what would not run: ``not_selected``, ``not_applicable``, ``waived``.
    """
    consent = inventory.model.consent
    tests = list(_tests(inventory, scene, subjects))
    return {
        "schema": SCHEMA,
        "site": inventory.name,
        "simulated": inventory.simulated,
        "inventory": inventory.path.name,
        "inventory_sha256": inventory.sha256,
        "cluster": scene.cluster,
        "nodes": sorted(scene.nodes),
        "node_digest": node_digest(scene.nodes),
        "connected": scene.connected,
        "window": None
        if consent is None
        else {"not_before": consent.not_before.isoformat(), "not_after": consent.not_after.isoformat()},
        "scope": scope,
        "tests": tests,
        "expected_seconds": sum(test["expected_seconds"] for test in tests),
        "unplaced": sorted(guest.id for guest in scene.guests if guest.node is None),
        **rest,
    }


def _tests(inventory: Inventory, scene: Scene, subjects: Sequence[Subject]) -> Iterator[Document]:
    settled = scene.master  # the master that is known; it moves when it is lost
    for subject in subjects:
        declared = subject.declared
        targets = [] if declared is None else _targets(inventory, scene, settled, subject)
        if settled in targets:
            settled = None
        said = declared or Declared()
        falls = set(said.families) != {"restore"}  # a copy is made beside the guest, which goes on
        yield {
            "id": subject.id,
            "title": subject.title,
            "role": subject.role or subject.node or subject.guest or subject.storage or subject.feed or subject.switch,
            "destructive": declared is not None,
            "blast": said.blast,
            "breaks": list(said.breaks),
            "may": list(said.may),
            "families": list(said.families),
            "expected_seconds": said.expected,
            "site_reset": said.site_reset,
            "combined": said.combined,
            "targets": [{"name": name, "guests": _down(inventory, scene, name) if falls else []} for name in targets],
        }


def _targets(inventory: Inventory, scene: Scene, master: str | None, subject: Subject) -> list[str]:
    """What may be hit: one where it is known, else each that it may be."""
    nodes = list(inventory.model.nodes)
    if subject.role is not None and master is not None:
        found = cast_side(subject.role, nodes, master, scene.busy, _rooms(inventory))
        return list(found) if found is not None else nodes
    if subject.node is not None:
        return [subject.node]
    if subject.feed is not None:
        return [name for name, node in inventory.model.nodes.items() if node.feed == (subject.feed,)]
    if subject.storage is not None:
        return [subject.storage]
    if subject.guest is not None and subject.declared is not None:
        if subject.declared.breaks and GUEST_FAMILIES.issuperset(subject.declared.families):
            return [subject.guest]
        where = next((guest.node for guest in scene.guests if guest.id == subject.guest), None)
        return [where] if where is not None else nodes
    return nodes


def _rooms(inventory: Inventory) -> dict[str, list[str]]:
    """The nodes of each room that the inventory names."""
    rooms: dict[str, list[str]] = {}
    for name, node in inventory.model.nodes.items():
        if node.room:
            rooms.setdefault(node.room, []).append(name)
    return rooms


def _down(inventory: Inventory, scene: Scene, target: str) -> list[Document]:
    """Every guest that goes down with that node, or is that guest."""
    permitted, consent = inventory.permitted, inventory.model.consent
    never = consent.never_touch.guests if consent is not None else ()
    return [
        {
            "id": guest.id,
            "name": guest.name,
            "ha": guest.ha,
            "listed": inventory.model.guest(guest.id) is not None,
            "permitted": (permitted is None or guest.id in permitted) and guest.id not in never,
        }
        for guest in scene.guests
        if target in (guest.node, guest.id)
    ]


def refusals(document: Document, inventory: Inventory, now: datetime) -> dict[str, list[str]]:
    """For each destructive test what the inventory's consent refuses of it now; an empty list = granted."""
    return {
        test["id"]: list(dict.fromkeys(_refused(document, inventory, test, now)))
        for test in document["tests"]
        if test["destructive"]
    }


def _refused(document: Document, inventory: Inventory, test: Document, now: datetime) -> Iterator[str]:
    if not test["breaks"] and not inventory.simulated:
        yield f"{inventory.path}: {UNSAID}"
    for target in test["targets"]:
        for family in test["families"] or [None]:
            refused = consent_refusal(
                inventory,
                now=now,
                cluster_name=document["cluster"] if document["connected"] else None,
                node_names=document["nodes"] if document["connected"] else None,
                fault=family,
                target=target["name"],
                site_reset=test["site_reset"],
                combined=test.get("combined", False),
            )
            if refused:
                yield refused
        if hit := [guest["id"] for guest in target["guests"] if not guest["permitted"]]:
            yield (
                f"{', '.join(hit)} on {target['name']} would go down, and may not: neither `guests:` nor "
                "`consent.bystanders` names it, or `consent.never_touch` does"
            )


def canonical(document: Mapping[str, Any]) -> bytes:
    """The one spelling of a plan: sorted keys, two spaces, UTF-8, a line end."""
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def digest(raw: bytes) -> str:
    """What names a plan: what ``sha256sum`` says of its file."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def parse(raw: bytes, name: str) -> Document:
    """The plan in these bytes.

    Raises:
        UsageError: it is none, of another version, or not spelled as it was written.
    """
    try:
        document = json.loads(raw)
        if not isinstance(document, dict) or document["schema"] != SCHEMA:
            raise ValueError("not a plan of this version")
        rows = [(test["id"], test["breaks"], test["targets"]) for test in document["tests"]]
        known = all(isinstance(each, str) and isinstance(kinds, list) for each, kinds, _ in rows)
        if not known or canonical(document) != raw:
            raise ValueError("it was changed after it was written")
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{name}: is no plan that can be approved ({error}); make it with: pveha plan INVENTORY --json FILE"
        ) from None
    return document
