"""A campaign: scenarios drawn at random from what was selected, the same ones for the same seed.

Each drawn scenario is a test of its own, whose id ends with the number of its step; the draw knows nothing of the site.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class Draw:
    """So many scenarios, by that seed; of them all, or one alone."""

    scenarios: int
    seed: int
    only: int | None = None
    """The one step that is wanted."""

    @classmethod
    def asked_for(cls, config: pytest.Config) -> Draw | None:
        """What the command line says; None where it asks for no campaign.

        Raises:
            pytest.UsageError: it contradicts itself.
        """
        scenarios, seed, only = (config.getoption(f"--pveha-{name}") for name in ("campaign", "seed", "step"))
        if scenarios is None:
            if given := [name for name, value in (("seed", seed), ("step", only)) if value is not None]:
                raise pytest.UsageError(f"--pveha-{given[0]} is about a campaign; give --pveha-campaign N too")
            return None
        if scenarios < 1:
            raise pytest.UsageError(f"--pveha-campaign {scenarios}: a campaign has one scenario or more")
        if only is not None and not 1 <= only <= scenarios:
            raise pytest.UsageError(f"--pveha-step {only}: the campaign has steps 1 to {scenarios}")
        return cls(scenarios, 1 if seed is None else seed, only)

    def of(self, items: Sequence[pytest.Item]) -> list[tuple[int, pytest.Item]]:
        """Step and scenario, in the order of the campaign; the order of the items changes nothing."""
        if not items:
            return []
        by_name = sorted(items, key=lambda item: item.nodeid)
        chance = random.Random(self.seed)
        drawn = [(step, chance.choice(by_name)) for step in range(1, self.scenarios + 1)]
        return [(step, item) for step, item in drawn if self.only in (None, step)]

    def to_json(self, steps: Sequence[tuple[int, str]]) -> dict[str, Any]:
        """As the record has it."""
        return {
            "seed": self.seed,
            "scenarios": self.scenarios,
            "steps": [{"step": step, "id": name} for step, name in steps],
        }


def step_of(item: pytest.Item, step: int) -> pytest.Item:
    """The same test once more, as that step."""
    assert isinstance(item, pytest.Function)
    inner = item.name.partition("[")[2].removesuffix("]")
    name = f"{item.originalname}[{f'{inner}-' if inner else ''}step-{step}]"
    clone: pytest.Function = type(item).from_parent(
        item.parent, name=name, callobj=item.obj, fixtureinfo=item._fixtureinfo
    )
    clone.originalname = item.originalname
    if (callspec := getattr(item, "callspec", None)) is not None:  # given later: pytest would name the item after it
        clone.callspec = callspec
    had = {mark.name for mark in clone.own_markers}
    for mark in item.own_markers:  # what was added to the item and is not at the function
        if mark.name not in had:
            clone.add_marker(getattr(pytest.mark, mark.name)(*mark.args, **mark.kwargs))
    return clone
