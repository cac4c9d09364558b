"""What pytest's selection would do to the site: the plan of its items, what allows it, and who approved it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_pveha.approval import Approved, approved, needed
from pytest_pveha.clock import LiveClock
from pytest_pveha.closing import signing_key
from pytest_pveha.errors import PvehaError, SiteError, UnsafeTarget, UsageError
from pytest_pveha.history import plain
from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.inventory import consent_refusal
from pytest_pveha.judge.coverage import SAME, plain_role
from pytest_pveha.report.plan import plan_lines
from pytest_pveha.report.words import length
from pytest_pveha.scenario.campaign import Plan
from pytest_pveha.scenario.declared import Declared
from pytest_pveha.scenario.planning import (
    GUEST_FAMILIES,
    Document,
    Scene,
    Subject,
    canonical,
    declared_scene,
    digest,
    live_scene,
    plan,
    refusals,
)
from pytest_pveha.scenario.visit import visited
from pytest_pveha.selection import switches, title

USUAL_WORKERS = 4
"""How many guests a node starts at a time where nobody set it (pvesh get /cluster/options, max_workers)."""

TARGETS = {
    "victim": "role",
    "minority": "role",
    "room": "role",
    "node": "node",
    "guest": "guest",
    "feed": "feed",
    "switch": "switch",
    "served": "storage",
}
"""The fixtures that name a target, and what they name."""


NO_NODES = {"storage-cut": "storages", "switch-loss": "switches", "switch-pulled": "switches"}
"""Faults of which it is not proven node by node, and what they are proven of."""


def declared_by(item: pytest.Item) -> Declared | None:
    """What a destructive test says that it breaks; None for one that only looks.

    Raises:
        pytest.UsageError: its mark cannot be understood.
    """
    if item.get_closest_marker("readiness") is not None:
        return None
    marker = item.get_closest_marker("destructive")
    try:
        return Declared.of(marker.kwargs if marker is not None else {})
    except UsageError as error:
        raise pytest.UsageError(f"{item.nodeid}: {error}") from None


def to_prove(items: Iterable[pytest.Item], inventory: Inventory) -> list[dict[str, Any]]:
    """Whatever these tests could prove of whom: a row for each fault and role, with whom or what it is about."""
    subjects = {
        "nodes": list(inventory.model.nodes),
        "guests": [guest.id for guest in inventory.model.guests],
        "storages": list(inventory.model.storages),
        "switches": switches(inventory),
    }
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for item in items:
        declared, params = declared_by(item), params_of(item)
        kinds = sorted({SAME.get(kind, kind) for kind in declared.breaks}) if declared else []
        role = plain_role(str(params.get("victim") or params.get("minority") or "")) if len(kinds) == 1 else ""
        of = "guests" if declared and GUEST_FAMILIES.issuperset(declared.families) else "nodes"
        for kind in kinds:
            what = NO_NODES.get(kind, of)
            rows[kind, role] = {"fault": kind, "role": role, "of": what, "subjects": subjects[what]}
    return [rows[key] for key in sorted(rows)]


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long a run will take, of the site's time."""

    seconds: float = 0.0
    tests: int = 0
    learned: int = 0
    """Of how many of them an earlier run of the site is known."""
    silent: int = 0
    """How many say nothing of it."""

    def __str__(self) -> str:
        if not self.tests:
            return "nothing that takes time"
        sources = [f"{self.learned} as they took here before"] * bool(self.learned)
        rest = self.tests - self.learned - self.silent
        sources += [f"{rest} as declared"] * bool(rest) + [f"{self.silent} not known"] * bool(self.silent)
        return f"about {length(self.seconds)} for {self.tests} test{'s' * (self.tests > 1)} ({', '.join(sources)})"


def estimate(items: Iterable[pytest.Item], known: Mapping[str, float], scene: Scene | None = None) -> Estimate:
    """How long these tests will take: as long as before on this site, else as they say of themselves.

    Args:
        known: test → seconds, by earlier runs.
        scene: where the guests are, if that is known: a test that will find nothing to do takes no time.
    """
    total = Estimate()
    for item in items:
        declared = declared_by(item)
        if declared is None or (scene is not None and not _has_its_scene(item, scene)):
            continue
        before = known.get(plain(item.nodeid))
        total = Estimate(
            total.seconds + (declared.expected if before is None else before),
            total.tests + 1,
            total.learned + (before is not None),
            total.silent + (before is None and not declared.expected),
        )
    return total


def _has_its_scene(item: pytest.Item, scene: Scene) -> bool:
    """Whether there is what the test is about: a node without HA guests, one with them, one with too many."""
    names = getattr(item, "fixturenames", ())
    busy = Counter(guest.node for guest in scene.guests if guest.ha)
    if "idle" in names:
        return any(not busy[node] for node in scene.nodes)
    if "max_workers" in names:
        return max(busy.values(), default=0) > USUAL_WORKERS * (len(scene.nodes) - 1)
    return bool(busy) or not {"residents", "stranded"} & set(names)


def unconsented(item: pytest.Item, inventory: Inventory) -> str | None:
    """Why the consent does not reach this test, whatever the site is like; None where it may."""
    declared, params = declared_by(item), params_of(item)
    if declared is None:
        return None
    target = next((str(params[name]) for name in ("node", "guest") if name in params), None)
    for family in declared.families or (None,):
        refused = consent_refusal(
            inventory,
            now=LiveClock().utc(),
            cluster_name=None,
            node_names=None,
            fault=family,
            target=target,
            site_reset=declared.site_reset,
            combined=declared.combined,
        )
        if refused is not None:
            return refused
    return None


class Foresight:
    """Looks ahead of one run."""

    def __init__(self, config: pytest.Config, inventory: Inventory) -> None:
        self._config = config
        self._inventory = inventory

    def document(self, asked: Plan, items: Sequence[pytest.Item], scene: Scene) -> Document:
        """The plan of these items on that scene."""
        return plan(
            self._inventory,
            scene,
            asked.scope,
            [_subject(item) for item in items],
            not_selected=asked.not_selected,
            not_applicable=asked.not_applicable,
            waived=asked.waived,
        )

    def approval(self, asked: Plan, items: Sequence[pytest.Item]) -> Approved | None:
        """The second signature under what these items break; None where none is needed.

        Raises:
            UnsafeTarget: it is needed, and does not hold.
        """
        if not needed(self._inventory) or all(declared_by(item) is None for item in items):
            return None
        return self._approval(self.document(asked, items, declared_scene(self._inventory)))

    def _approval(self, document: Document) -> Approved:
        with tempfile.TemporaryDirectory(prefix="pveha-") as place:
            return approved(
                self._inventory,
                document["tests"],
                now=LiveClock().utc(),
                sealing_key=lambda: signing_key(self._config, self._inventory, Path(place)),
            )

    def tell(self, asked: Plan, items: Sequence[pytest.Item]) -> tuple[list[str], bool]:
        """The plan in words, and whether all of it is granted now; it is in its file where one was asked for.

        Raises:
            pytest.UsageError, pytest.exit.Exception: it cannot be made, or not be written.
        """
        try:
            scene = self._scene()
            document = self.document(asked, items, scene)
        except SiteError as error:
            pytest.exit(f"not planned: {error}; --pveha-no-connect plans from the inventory alone", returncode=6)
        except PvehaError as error:
            raise pytest.UsageError(str(error)) from None
        raw = canonical(document)
        if given := self._config.getoption("--pveha-plan-json"):
            path = self._config.invocation_params.dir / str(given)
            try:
                path.write_bytes(raw)
            except OSError as error:
                raise pytest.UsageError(f"--pveha-plan-json {path}: {error.strerror}") from None
        refused = refusals(document, self._inventory, LiveClock().utc())
        missing = self._missing(document)
        expected = str(estimate(items, asked.history.seconds, scene))
        lines = plan_lines(document, refused, digest(raw), approval=missing, expected=expected)
        return lines, not (missing or any(refused.values()))

    def _missing(self, document: Document) -> str | None:
        """Why the second signature does not hold; empty where it does, None where none is needed."""
        if not needed(self._inventory):
            return None
        try:
            self._approval(document)
        except UnsafeTarget as error:
            return str(error)
        return ""

    def _scene(self) -> Scene:
        if self._config.getoption("--pveha-no-connect"):
            return declared_scene(self._inventory)
        with visited(self._inventory) as site:
            scene = live_scene(site)
        declared = self._inventory.model.cluster.name
        if scene.cluster != declared:
            raise UnsafeTarget(
                f"the site answers for cluster {scene.cluster!r}, the inventory is for {declared!r}: "
                "wrong endpoint, or wrong inventory"
            )
        return scene


def params_of(item: pytest.Item) -> Mapping[str, Any]:
    """What the test is parametrised with."""
    return item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}


def _subject(item: pytest.Item) -> Subject:
    """The test as a plan has it."""
    params = params_of(item)
    named = {name: str(params[key]) for key, name in TARGETS.items() if key in params}
    return Subject(item.nodeid, title(item), declared_by(item), **named)
