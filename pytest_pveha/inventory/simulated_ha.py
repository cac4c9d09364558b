"""How the HA manager of a simulated site is set: rules, groups, and what each guest adds to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from pytest_pveha.inventory.base import Block
from pytest_pveha.inventory.values import GuestId, NodeName, Slug

Priority = Annotated[int, Field(ge=0, le=1000)]


class SimulatedRule(Block):
    """A rule of the HA manager, since PVE 9."""

    affinity: Literal["node", "positive", "negative"]
    """node: where the guests belong; positive: on one node together; negative: never on one node."""
    guests: Annotated[tuple[GuestId, ...], Field(min_length=1)]
    """The HA guests it is about."""
    nodes: dict[NodeName, Priority] = Field(default_factory=dict)
    """For `node` alone: each node and its priority; the highest wins."""
    strict: bool = False
    """For `node` alone: true = no other node will do, ever."""


class SimulatedGroup(Block):
    """An HA group of PVE 8. On a PVE 9 that starts with groups, the master makes rules of them."""

    nodes: Annotated[dict[NodeName, Priority], Field(min_length=1)]
    """Each node and its priority; the highest wins."""
    restricted: bool = False
    """true = no other node will do, ever."""
    nofailback: bool = False
    """true = a guest does not move to a better node by itself."""


def rules_spec(rules: Mapping[Slug, SimulatedRule]) -> list[dict[str, Any]]:
    """The rules as the simulator is told them."""
    return [
        {
            "name": name,
            "affinity": rule.affinity,
            "guests": list(rule.guests),
            "nodes": _members(rule.nodes),
            "strict": rule.strict,
        }
        for name, rule in rules.items()
    ]


def groups_spec(groups: Mapping[Slug, SimulatedGroup]) -> list[dict[str, Any]]:
    """The groups as the simulator is told them."""
    return [
        {
            "name": name,
            "nodes": _members(group.nodes),
            "restricted": group.restricted,
            "nofailback": group.nofailback,
        }
        for name, group in groups.items()
    ]


def _members(nodes: Mapping[NodeName, int]) -> list[str]:
    return [f"{node}:{priority}" if priority else node for node, priority in nodes.items()]
