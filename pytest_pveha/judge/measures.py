"""What a suite test may claim: each function names a measure of a subject, for ``run.claim``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


class HasSid(Protocol):
    """Anything known by an HA service id, such as a guest."""

    @property
    def sid(self) -> str: ...


class HasName(Protocol):
    """Anything known by a name, such as a node."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Measure:
    """What is to be measured, as a ``claim`` line has it: no value yet, the judge finds that in the journal."""

    measure: str
    subject: str
    unit: str
    params: dict[str, Any] = field(default_factory=dict)


def recovery_time(guest: HasSid | str) -> Measure:
    """From the fault taking effect to the guest's first lasting good answer, in seconds."""
    return Measure("recovery_time", _sid(guest), "s")


def downtime(guest: HasSid | str) -> Measure:
    """How long the guest was away in all since the fault, in seconds."""
    return Measure("downtime", _sid(guest), "s")


def not_before_death(guest: HasSid | str, victim: HasName | str) -> Measure:
    """Seconds between the moment by which the victim's watchdog has surely reset it and the guest's start elsewhere."""
    return Measure("not_before_death", _sid(guest), "s", {"node": _name(victim)})


def collateral_resets(*expected: HasName | str) -> Measure:
    """How many nodes besides the fault's own and the expected ones were reset."""
    return Measure("collateral_resets", "cluster", "count", {"except": sorted(_name(node) for node in expected)})


def violations(*audits: str) -> Measure:
    """How many of these audits (all of the test, if none is named) found harm."""
    return Measure("violations", "cluster", "count", {"audits": sorted(audits)})


def lost_writes(guest: HasSid | str) -> Measure:
    """How many acknowledged writes are gone; not measured by this version, so inconclusive."""
    return Measure("lost_writes", _sid(guest), "count")


def _sid(guest: HasSid | str) -> str:
    return guest if isinstance(guest, str) else guest.sid


def _name(node: HasName | str) -> str:
    return node if isinstance(node, str) else node.name
