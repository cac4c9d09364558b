"""What a suite test may claim: each function names a measure of some subjects, for ``run.claim``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


class HasSid(Protocol):
    """Anything known by an HA service id, such as a guest, in some tier of objectives."""

    @property
    def sid(self) -> str: ...

    @property
    def tier(self) -> str: ...


class HasName(Protocol):
    """Anything known by a name, such as a node or an audit."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Measure:
    """What is to be measured, as ``claim`` lines have it: no value yet, the judge finds that in the journal.

    Each of the guests is a subject of its own; without guests the cluster is.
    """

    measure: str
    unit: str
    guests: tuple[HasSid, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)


def recovery_time(guests: Iterable[HasSid]) -> Measure:
    """From the fault taking effect to each guest's first lasting good answer, in seconds."""
    return Measure("recovery_time", "s", tuple(guests))


def downtime(guests: Iterable[HasSid]) -> Measure:
    """How long each guest was away in all since the fault, in seconds."""
    return Measure("downtime", "s", tuple(guests))


def not_before_death(guests: Iterable[HasSid], victim: HasName) -> Measure:
    """Seconds from when the victim's watchdog has surely reset it to each guest's start elsewhere."""
    return Measure("not_before_death", "s", tuple(guests), {"node": victim.name})


def collateral_resets(*expected: HasName) -> Measure:
    """How many nodes besides the fault's own and the expected ones were reset."""
    return Measure("collateral_resets", "count", params={"except": sorted(node.name for node in expected)})


def fences() -> Measure:
    """How many nodes were seen fenced, or waited for to be; none counts only if no journal tells of one either."""
    return Measure("fences", "count")


def violations(audits: Iterable[HasName]) -> Measure:
    """How many of these audits found harm."""
    return Measure("violations", "count", params={"audits": sorted(audit.name for audit in audits)})


def lost_writes(guests: Iterable[HasSid]) -> Measure:
    """How many acknowledged writes are gone; not measured by this version, so inconclusive."""
    return Measure("lost_writes", "count", tuple(guests))


def not_moved(guests: Iterable[HasSid], victim: HasName, policy: str) -> Measure:
    """Whether each guest was not seen running elsewhere before its node left: 1, or 0 where it moved in time."""
    return Measure("not_moved", "count", tuple(guests), {"node": victim.name, "policy": policy})


def time_after_return(guests: Iterable[HasSid], victim: HasName) -> Measure:
    """From the node's return to the membership to each guest's first lasting good answer, in seconds."""
    return Measure("time_after_return", "s", tuple(guests), {"node": victim.name})


def time_away(guests: Iterable[HasSid], node: HasName) -> Measure:
    """From the fault to each guest running on another node than this, in seconds."""
    return Measure("time_away", "s", tuple(guests), {"node": node.name})


def time_home(guests: Iterable[HasSid], node: HasName) -> Measure:
    """From the heal to each guest running on this node, in seconds."""
    return Measure("time_home", "s", tuple(guests), {"node": node.name})


def time_to_leave(node: HasName) -> Measure:
    """From the heal until HA calls the node online, in seconds."""
    return Measure("time_to_leave", "s", params={"node": node.name})


def moves(guests: Iterable[HasSid]) -> Measure:
    """How often HA had each guest on another node than before since the heal."""
    return Measure("moves", "count", tuple(guests))


def misplaced(guests: Iterable[HasSid], homes: Mapping[str, Sequence[str]]) -> Measure:
    """Whether each guest is at last not on one of its homes, or left where it was if it has none: 1, else 0."""
    return Measure("misplaced", "count", tuple(guests), {"homes": {sid: sorted(each) for sid, each in homes.items()}})
