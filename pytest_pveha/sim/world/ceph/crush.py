"""Where the copies of a placement group lie: a deterministic stand-in for CRUSH.

Buckets and the OSDs below them are ranked for each placement group by a hash, weighted as straw2 does (Ceph's CRUSH
documentation): losing one changes nobody else's rank. An OSD that is out is passed over, and its bucket with it as long
as there are others (``chooseleaf`` draws anew from the root: chooseleaf_descend_once); one that is down is not, and
leaves a hole until it is out. Only what follows from that is claimed, not the very numbers of a real map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import log

_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where an OSD stands."""

    host: str
    room: str


@dataclass(frozen=True, slots=True)
class CrushRule:
    """How copies are spread: one to a bucket of the domain; with ``per_room`` so many to each room."""

    number: int
    name: str
    domain: str = "host"
    per_room: int = 0


def _mixed(value: int) -> int:
    """A well mixed 64 bit number (the finalizer of splitmix64)."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
    return value ^ (value >> 31)


class Crush:
    """The map of one cluster."""

    def __init__(self, seed: int, places: Mapping[int, Place]) -> None:
        self.places = dict(places)
        self._seed = _mixed(seed & _MASK)
        self._below: dict[str, dict[str, list[int]]] = {"osd": {}, "host": {}, "room": {}}
        for osd, place in self.places.items():
            for kind, name in (("osd", f"osd.{osd}"), ("host", place.host), ("room", place.room)):
                self._below[kind].setdefault(name, []).append(osd)
        self._numbers = {
            (kind, name): number
            for kind, buckets in self._below.items()
            for number, name in enumerate(sorted(buckets), {"osd": 0, "host": 1 << 20, "room": 1 << 21}[kind])
        }
        self._ranked: dict[tuple[int, str], tuple[str, ...]] = {}
        self._leaf_ranks: dict[tuple[int, str], list[int]] = {}

    def hosts(self) -> dict[str, list[int]]:
        """The hosts, and the OSDs on each."""
        return self._below["host"]

    def rooms(self) -> dict[str, list[str]]:
        """The rooms, and the hosts in each."""
        found: dict[str, list[str]] = {}
        for host, osds in self._below["host"].items():
            found.setdefault(self.places[osds[0]].room, []).append(host)
        return found

    def chosen(self, group: int, rule: CrushRule, size: int, is_in: Callable[[int], bool]) -> tuple[int, ...]:
        """The OSDs for that placement group's copies, the first the primary, of those that are in."""
        if rule.per_room:
            return self._by_room(group, rule, size, is_in)
        found: list[int] = []
        passed: list[str] = []
        for bucket in self._ranks(group, rule.domain):
            if len(found) == size:
                break
            leaf = next(self._leaves(group, rule.domain, bucket, lambda osd: True))
            if is_in(leaf):
                found.append(leaf)
            else:
                passed.append(bucket)
        others = (next(self._leaves(group, rule.domain, bucket, is_in), None) for bucket in passed)
        return (*found, *(leaf for leaf in others if leaf is not None))[:size]

    def _by_room(self, group: int, rule: CrushRule, size: int, is_in: Callable[[int], bool]) -> tuple[int, ...]:
        taken: dict[str, list[int]] = {room: [] for room in self._ranks(group, "room")}
        for host in self._ranks(group, "host"):
            of_room = taken[self.places[self._below["host"][host][0]].room]
            if len(of_room) < rule.per_room:
                of_room += [leaf for leaf in [next(self._leaves(group, "host", host, is_in), None)] if leaf is not None]
        return tuple(osd for osds in taken.values() for osd in osds)[:size]

    def _leaves(self, group: int, kind: str, bucket: str, is_in: Callable[[int], bool]) -> Iterator[int]:
        below = self._below[kind][bucket]
        if len(below) == 1:
            yield from filter(is_in, below)
            return
        ranked = self._leaf_ranks.get((group, bucket))
        if ranked is None:
            ranked = self._leaf_ranks[group, bucket] = sorted(below, key=lambda osd: self._draw(group, osd, 1))
        yield from filter(is_in, ranked)

    def _ranks(self, group: int, kind: str) -> tuple[str, ...]:
        known = self._ranked.get((group, kind))
        if known is None:
            buckets = self._below[kind]
            draws = {name: self._draw(group, self._numbers[kind, name], len(osds)) for name, osds in buckets.items()}
            known = self._ranked[group, kind] = tuple(sorted(draws, key=lambda name: draws[name]))
        return known

    def _draw(self, group: int, item: int, weight: int) -> float:
        """The smaller, the earlier: exponentially distributed, so that a bucket is first as often as it weighs."""
        value = _mixed(_mixed(self._seed ^ group * 0x9E3779B97F4A7C15 & _MASK) ^ item * 0xD1B54A32D192ED03 & _MASK)
        return -log((value + 1) / (_MASK + 2)) / weight
