"""The guests that matter, and sets of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pytest_pveha.handles.node import Node


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """A TCP port of the guest that accepts connections while its application lives."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest by its HA service id, as the inventory names it."""

    sid: str
    tier: str
    preferred_node: str | None
    probes: tuple[TcpProbe, ...]
    unprobed: tuple[str, ...] = ()
    """Kinds of probe the inventory names that this version cannot ask; they are reported, never assumed good."""
    canary: bool = False
    """Whether the run may write in it."""
    canary_folder: str = "/var/tmp"
    """Where in it."""
    agent: bool = False
    """Whether what answers inside of it is asked, too."""


class Guests(tuple[Guest, ...]):
    """Some guests, in the order of the inventory."""

    __slots__ = ()

    def __new__(cls, members: Iterable[Guest]) -> Guests:
        return super().__new__(cls, tuple(members))

    @property
    def sids(self) -> tuple[str, ...]:
        """Their service ids."""
        return tuple(guest.sid for guest in self)

    @property
    def canaries(self) -> Guests:
        """Those of them that the run may write in."""
        return Guests(guest for guest in self if guest.canary)


class Stranded(Guests):
    """Guests on one side of a cut, with the nodes they ran on before it."""

    homes: Mapping[str, str]
    """Service id → node."""
    guarding: frozenset[str]
    """The nodes of that side whose LRM was active, whether they run any of these guests or not."""

    def __new__(
        cls,
        members: Iterable[Guest],
        homes: Mapping[str, str] = MappingProxyType({}),
        guarding: Iterable[str] = (),
    ) -> Stranded:
        found = super().__new__(cls, members)
        assert isinstance(found, Stranded)
        found.homes = {sid: homes[sid] for sid in found.sids}
        found.guarding = frozenset(guarding)
        return found

    def nodes(self, every: Nodes) -> Nodes:
        """The nodes that ran them, which are fenced when they are lost."""
        return Nodes(node for node in every if node.name in self.homes.values())

    def resetting(self, every: Nodes) -> Nodes:
        """The nodes that hold a lock, and with it a watchdog: without quorum they reset themselves. No other does."""
        return Nodes(node for node in every if node.name in self.guarding | {*self.homes.values()})


class Nodes:
    """Some nodes, in the order of the inventory; ``nodes - {victim}`` are the others."""

    def __init__(self, members: Iterable[Node]) -> None:
        self._members = {node.name: node for node in members}

    def __iter__(self) -> Iterator[Node]:
        return iter(self._members.values())

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, name: str) -> Node:
        return self._members[name]

    def __contains__(self, node: object) -> bool:
        return (node.name if isinstance(node, Node) else node) in self._members

    def __sub__(self, others: Iterable[Node]) -> Nodes:
        gone = {node.name for node in others}
        return Nodes(node for node in self if node.name not in gone)

    def only(self, *members: Node) -> Nodes:
        """Those of them alone."""
        return Nodes(node for node in self if node in members)

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._members)
