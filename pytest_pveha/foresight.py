"""What pytest's selection would do to the site: the plan of its items, what allows it, and who approved it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_pveha.approval import Approved, approved, needed
from pytest_pveha.clock import LiveClock
from pytest_pveha.closing import signing_key
from pytest_pveha.errors import PvehaError, SiteError, UnsafeTarget, UsageError
from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.report.plan import plan_lines
from pytest_pveha.scenario.campaign import Plan
from pytest_pveha.scenario.declared import Declared
from pytest_pveha.scenario.planning import (
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
from pytest_pveha.selection import title

TARGETS = {
    "victim": "role",
    "minority": "role",
    "room": "role",
    "node": "node",
    "guest": "guest",
    "feed": "feed",
    "switch": "switch",
}
"""The fixtures that name a target, and what they name."""


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
            document = self.document(asked, items, self._scene())
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
        return plan_lines(document, refused, digest(raw), approval=missing), not (missing or any(refused.values()))

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
                f"the API answers for cluster {scene.cluster!r}, the inventory is for {declared!r}: "
                "wrong endpoint, or wrong inventory"
            )
        return scene


def _subject(item: pytest.Item) -> Subject:
    """The test as a plan has it."""
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    named = {name: str(params[key]) for key, name in TARGETS.items() if key in params}
    return Subject(item.nodeid, title(item), declared_by(item), **named)
