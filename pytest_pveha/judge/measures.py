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


class HasCanary(HasSid, Protocol):
    """A guest that may be one to write in."""

    @property
    def canary(self) -> bool: ...


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
    subject: str = "cluster"
    """What it is of, where it is of no guest."""
    applies: bool = True
    """Whether what it is about is in the inventory's scope; else nothing is claimed."""


def recovery_time(guests: Iterable[HasSid]) -> Measure:
    """From the fault taking effect to each guest's first lasting good answer, in seconds."""
    return Measure("recovery_time", "s", tuple(guests))


def downtime(guests: Iterable[HasSid]) -> Measure:
    """How long each guest was away in all since the fault, in seconds."""
    return Measure("downtime", "s", tuple(guests))


def not_before_death(guests: Iterable[HasSid], victim: HasName) -> Measure:
    """Seconds from when the victim's watchdog has surely reset it to each guest's start elsewhere."""
    return Measure("not_before_death", "s", tuple(guests), {"node": victim.name})


def reset_after(victim: HasName) -> Measure:
    """From the fault taking effect to the victim's reset, in seconds."""
    return Measure("reset_after", "s", params={"node": victim.name}, subject=victim.name)


def recovery_in_turn(guests: Iterable[HasSid], *victims: HasName) -> Measure:
    """As ``recovery_time``, and its words tell behind how many others each guest waited to be started."""
    guests = tuple(guests)
    nodes = sorted(victim.name for victim in victims)
    return Measure("recovery_in_turn", "s", guests, {"nodes": nodes, "guests": sorted(one.sid for one in guests)})


def unconfirmed_steps(steps: Iterable[str]) -> Measure:
    """How many of these steps of a runbook nobody said to have done; its words tell how long each took."""
    return Measure("unconfirmed_steps", "count", params={"steps": list(steps)})


def power_spread(nodes: Iterable[HasName]) -> Measure:
    """From the first to the last of these nodes losing power, in seconds."""
    return Measure("power_spread", "s", params=_nodes(nodes))


def reset_after_last_feed(victim: HasName) -> Measure:
    """From the victim's LRM feeding its watchdog for the last time to the victim's reset, in seconds."""
    return Measure("reset_after_last_feed", "s", params={"node": victim.name}, subject=victim.name)


def half_alive(guests: Iterable[HasSid], victim: HasName) -> Measure:
    """How many of the victim's guests were started elsewhere while the victim, not reset yet, still lived."""
    params = {"node": victim.name, "guests": sorted(guest.sid for guest in guests)}
    return Measure("half_alive", "count", params=params, subject=victim.name)


def collateral_resets(*expected: HasName) -> Measure:
    """How many nodes besides the fault's own and the expected ones were reset."""
    return Measure("collateral_resets", "count", params={"except": sorted(node.name for node in expected)})


class HasHomes(Protocol):
    """Guests whose nodes were noted before the fault: service id → node."""

    @property
    def homes(self) -> Mapping[str, str]: ...


def start_after_death(guests: Iterable[HasSid], at: HasHomes) -> Measure:
    """Seconds from the observed death of each guest's node to the guest's start elsewhere."""
    return Measure("start_after_death", "s", tuple(guests), {"homes": dict(sorted(at.homes.items()))})


def fence_margin(at: HasHomes) -> Measure:
    """Seconds left from the death of those guests' nodes until they could be taken over; of the worst node."""
    return Measure("fence_margin", "s", params={"nodes": sorted(set(at.homes.values()))})


def starved_for(nodes: Iterable[HasName]) -> Measure:
    """Seconds from the last feed of a node's watchdog to its death; the shortest of these nodes."""
    return Measure("starved_for", "s", params=_nodes(nodes))


def time_to_quorum(nodes: Iterable[HasName]) -> Measure:
    """Seconds from the last death among these nodes, or the heal if none died, until all of them are quorate again."""
    return Measure("time_to_quorum", "s", params=_nodes(nodes))


def overlaps(guests: Iterable[HasSid], nodes: Iterable[HasName]) -> Measure:
    """How many pairs of these nodes ran each guest at the same time."""
    return Measure("overlaps", "count", tuple(guests), _nodes(nodes))


def both_quorate(one: Iterable[HasName], other: Iterable[HasName]) -> Measure:
    """Seconds in which nodes of both sides of a cut called themselves quorate."""
    return Measure("both_quorate", "s", params=_sides(one, other))


def arbiters_apart(one: Iterable[HasName], other: Iterable[HasName], mons: Iterable[HasName]) -> Measure:
    """Seconds in which the side of a cut that goes on by corosync had none of these mons in quorum.

    Without a mon Ceph is out of scope, and nothing is claimed.
    """
    found = sorted(node.name for node in mons)
    return Measure("arbiters_apart", "s", params={**_sides(one, other), "mons": found}, applies=bool(found))


def sides_reset(one: Iterable[HasName], other: Iterable[HasName]) -> Measure:
    """On how many sides of a cut a node was reset."""
    return Measure("sides_reset", "count", params=_sides(one, other))


def last_reset(nodes: Iterable[HasName]) -> Measure:
    """Seconds from the cut to the death of the last of these nodes."""
    return Measure("last_reset", "s", params=_nodes(nodes))


def membership_changes(nodes: Iterable[HasName]) -> Measure:
    """How many of these nodes counted other members than before, or were missed."""
    return Measure("membership_changes", "count", params=_nodes(nodes))


def quorum_losses(nodes: Iterable[HasName]) -> Measure:
    """How many of these nodes said that they are not quorate."""
    return Measure("quorum_losses", "count", params=_nodes(nodes))


def rejoins(nodes: Iterable[HasName]) -> Measure:
    """How often, at the most, one of these nodes regained quorum."""
    return Measure("rejoins", "count", params=_nodes(nodes))


def _nodes(nodes: Iterable[HasName]) -> dict[str, Any]:
    return {"nodes": sorted(node.name for node in nodes)}


def _sides(one: Iterable[HasName], other: Iterable[HasName]) -> dict[str, Any]:
    return {"one": sorted(node.name for node in one), "other": sorted(node.name for node in other)}


def fences() -> Measure:
    """How many nodes were seen fenced, or waited for to be; none counts only if no journal tells of one either."""
    return Measure("fences", "count")


def violations(audits: Iterable[HasName]) -> Measure:
    """How many of these audits found harm."""
    return Measure("violations", "count", params={"audits": sorted(audit.name for audit in audits)})


class HasConditionName(Protocol):
    """Anything that was waited for by a name."""

    @property
    def name(self) -> str: ...


def restore_time(guest: HasSid, until: Iterable[HasConditionName]) -> Measure:
    """From asking for a guest's restore to the last of these marks, in seconds; the others are told with it."""
    return Measure("restore_time", "s", (guest,), {"marks": [mark.name for mark in until]})


def backup_age(guests: Iterable[HasSid]) -> Measure:
    """How old each guest's newest backup was when it was restored, in seconds."""
    return Measure("backup_age", "s", tuple(guests))


def fence_path_time(nodes: Iterable[HasName]) -> Measure:
    """In which every node's BMC has answered every other node's shell, in seconds."""
    return Measure("fence_path_time", "s", params={"nodes": [node.name for node in nodes]})


def broken_paths(nodes: Iterable[HasName]) -> Measure:
    """From how many nodes to how many others' BMCs there is no answer, or no right to switch power."""
    return Measure("broken_paths", "count", params={"nodes": [node.name for node in nodes]})


def wrong_machines(nodes: Iterable[HasName]) -> Measure:
    """How many paths to a BMC lead to another machine's."""
    return Measure("wrong_machines", "count", params={"nodes": [node.name for node in nodes]})


Way = tuple[str, str]
"""From a node to another machine, by their names."""


def round_trip(ways: Iterable[Way]) -> Measure:
    """In which 99 of 100 echoes came back on the slowest of these ways, in ms."""
    return Measure("round_trip", "ms", params=_ways(ways))


def jitter(ways: Iterable[Way]) -> Measure:
    """How much, on average, a round trip differs from the one before it on the most uneven of these ways, in ms."""
    return Measure("jitter", "ms", params=_ways(ways))


def packet_loss(ways: Iterable[Way]) -> Measure:
    """How many of a hundred echoes did not come back on the worst of these ways."""
    return Measure("packet_loss", "%", params=_ways(ways))


def ring_latency(ways: Iterable[Way]) -> Measure:
    """The average round trip that corosync itself measured on the slowest of these ways, in ms."""
    return Measure("ring_latency", "ms", params=_ways(ways))


def _ways(ways: Iterable[Way]) -> dict[str, Any]:
    return {"ways": [list(way) for way in ways]}


def lost_writes(guests: Iterable[HasCanary]) -> Measure:
    """How many writes that were seen durable in each canary are gone."""
    return _of_canaries("lost_writes", "count", guests)


def data_loss(guests: Iterable[HasCanary], copy: str | None = None) -> Measure:
    """Up to how long before the fault the writes of each canary are there again, in seconds.

    Args:
        copy: of this guest, which was restored or started from a replica, and looked into with ``run.ledger``.
    """
    return _of_canaries("data_loss", "s", guests, {"copy": copy} if copy else {})


def write_stall(guests: Iterable[HasCanary]) -> Measure:
    """The longest time without an acknowledged write since the fault while each canary lived, in seconds."""
    return _of_canaries("write_stall", "s", guests)


def double_runs(guests: Iterable[HasCanary]) -> Measure:
    """How many pairs of lives of each canary wrote at the same time."""
    return _of_canaries("double_runs", "count", guests)


def write_slowdown(guests: Iterable[HasCanary]) -> Measure:
    """How many times as long a write of each canary takes after the recovery as before."""
    return _of_canaries("write_slowdown", "times", guests)


def rebuild_slowdown(guests: Iterable[HasCanary], why_not: str = "") -> Measure:
    """How many times as long a write of each canary takes while Ceph makes copies as before the fault.

    Args:
        why_not: why none are to be made; then it is listed as not proven.
    """
    if why_not:
        return Measure("rebuild_slowdown", "times", params={"unwatched": why_not})
    return _of_canaries("rebuild_slowdown", "times", guests)


class HasProbes(HasSid, Protocol):
    """A guest that may be asked from outside."""

    @property
    def probes(self) -> Sequence[object]: ...


def answer_slowdown(guests: Iterable[HasProbes]) -> Measure:
    """How many times as long each guest takes to answer after the recovery as before; 10 ms are quick enough."""
    chosen = tuple(guest for guest in guests if guest.probes)
    if chosen:
        return Measure("answer_slowdown", "times", chosen)
    return Measure("answer_slowdown", "times", params={"unwatched": "none of the guests it is about has a tcp probe"})


def _of_canaries(measure: str, unit: str, guests: Iterable[HasCanary], params: dict[str, Any] | None = None) -> Measure:
    guests = tuple(guests)
    chosen = tuple(guest for guest in guests if guest.canary)
    if chosen:
        return Measure(measure, unit, chosen, params or {})
    why = "none of the guests it is about is made for tests, so nobody writes in them (guests: canary: true)"
    return Measure(measure, unit, params={"unwatched": why})


def lost_span(guests: Iterable[HasSid]) -> Measure:
    """From the data of the replica that each guest started from until the fault, in seconds."""
    return Measure("lost_span", "s", tuple(guests))


def older_than_told(guests: Iterable[HasSid]) -> Measure:
    """By how many seconds the replica that each guest started from was older than its job said before the fault."""
    return Measure("older_than_told", "s", tuple(guests))


def failed_requests(guests: Iterable[HasSid]) -> Measure:
    """How many requests to each VM's disks failed since the fault, by QEMU's own count; containers have none."""
    return Measure("failed_requests", "count", tuple(guest for guest in guests if guest.sid.startswith("vm:")))


def restarts(guests: Iterable[HasSid], nodes: Iterable[HasName]) -> Measure:
    """How often each guest's process was seen to begin since the fault, on any of these nodes."""
    return Measure("restarts", "count", tuple(guests), _nodes(nodes))


def ha_acts(guests: Iterable[HasSid], nodes: Iterable[HasName]) -> Measure:
    """How often HA called each guest's state or node something else than before, while these nodes were watched."""
    return Measure("ha_acts", "count", tuple(guests), _nodes(nodes))


def unserved() -> Measure:
    """The longest time in which a placement group of Ceph served nothing since the fault, by its state, in seconds."""
    return Measure("unserved", "s", subject="Ceph")


def silent_health() -> Measure:
    """How long Ceph's health said nothing new while OSDs were down, or placement groups served nothing, in seconds."""
    return Measure("silent_health", "s", subject="Ceph")


def unreadable_data() -> Measure:
    """How many placement groups of Ceph were in a state in which data is lost, or not to be relied on."""
    return Measure("unreadable_data", "count", subject="Ceph")


def full_ratios() -> Measure:
    """How many of Ceph's ratios were passed at which it takes no writes, or stops its rebuild."""
    return Measure("full_ratios", "count", subject="Ceph")


class HasId(Protocol):
    """An OSD by its number."""

    @property
    def id(self) -> int: ...


def flaps(meant: Iterable[HasId] = ()) -> Measure:
    """How often OSDs were lost that were not meant to be, or were lost again after they had come back."""
    return Measure("flaps", "count", params={"osds": sorted(str(osd.id) for osd in meant)}, subject="Ceph")


def rebuilt(why_not: str) -> Measure:
    """How many placement groups still lack copies at the end; not proven where that is not waited for, and why."""
    return Measure("rebuilt", "count", params={"unwatched": why_not} if why_not else {}, subject="Ceph")


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


class HasGroups(Protocol):
    """Guests that HA keeps on one node each, by group."""

    @property
    def together(self) -> Iterable[Iterable[str]]: ...


def parted(homes: HasGroups) -> Measure:
    """How many groups of guests that an HA rule keeps on one node were, at last, on several."""
    return Measure("parted", "count", params={"together": sorted(sorted(group) for group in homes.together)})
