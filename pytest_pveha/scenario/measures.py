"""What a suite test can claim. A measure only names what is to be measured; the judge measures it from the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_pveha.handles.guest import Guest, Guests
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.audits import Audit


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of some subjects; an empty ``guests`` means the site as a whole."""

    name: str
    unit: str
    guests: tuple[Guest, ...] = ()
    subject: str = "cluster"
    params: dict[str, Any] = field(default_factory=dict)


def recovery_time(guests: Guests) -> Measure:
    """From the fault taking effect until each guest's application lastingly answers again."""
    return Measure("recovery_time", "s", tuple(guests))


def downtime(guests: Guests) -> Measure:
    """How long each guest was away in all."""
    return Measure("downtime", "s", tuple(guests))


def margin_over_death(guests: Guests, victim: Node) -> Measure:
    """How much later than safe each guest began elsewhere: its node may live, unseen, for 70 s after its last feed."""
    return Measure("not_before_death", "s", tuple(guests), params={"node": victim.name})


def collateral_resets(victim: Node) -> Measure:
    """How many nodes were reset that were not meant to be."""
    return Measure("collateral_resets", "count", params={"except": [victim.name]})


def violations(audits: Sequence[Audit]) -> Measure:
    """How many of these invariants did not hold after the scenario."""
    return Measure("violations", "count", params={"audits": [audit.name for audit in audits]})
