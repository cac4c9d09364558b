"""What a fault is: data, with one act, an undo that can be repeated, and eyes for both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from itertools import product
from typing import Any, ClassVar, Protocol

from pytest_pveha.handles.shell import ShellLine
from pytest_pveha.observe.answer import Answer
from pytest_pveha.observe.observer import Observer


@dataclass(frozen=True, slots=True)
class Restoring:
    """A copy that is made from a backup: of whom, as which guest, where, and how large it will be."""

    sid: str
    copy: str
    node: str
    storage: str
    volume: str
    size: int
    """Bytes of its disks, as the backup has them."""
    memory: int
    """Bytes that it has when it runs."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What a fault takes away."""

    nodes: frozenset[str]
    costs_membership: bool = True
    about_quorum: bool = False
    """Whether losing quorum is what the scenario is for."""
    brief: float = 0.0
    """Seconds after which the nodes undo it by themselves, where that is before any watchdog minds; 0: it may last."""
    units: frozenset[tuple[str, str]] = frozenset()
    """Units that are stopped or restarted: (node, unit)."""
    splits: bool = False
    """Whether those nodes go on, and the others too, without hearing each other."""
    privileges: frozenset[tuple[str, str]] = frozenset()
    """What our API token must be allowed for the act itself: (path, privilege)."""
    resets: frozenset[str] = frozenset()
    """Nodes that are to be reset by their own watchdogs: there alone may watchdog-mux end though it has clients."""
    guests: frozenset[str] = frozenset()
    """Guests that are to fall though their node does not."""
    sides: tuple[frozenset[str], ...] = ()
    """Where the cluster itself decides which of several sides is lost: the sides; ``nodes`` are all of them."""
    device: bool = False
    """Whether the quorum device's votes are lost."""
    hung: frozenset[str] = frozenset()
    """Guests that go on running, and whose writes hang."""
    emptied: frozenset[str] = frozenset()
    """Nodes that are members still and take nothing over."""
    by_hand: bool = False
    """Whether people bring its guests elsewhere: HA's rules, which keep them where they are, do not bind those."""
    site_wide: bool = False
    """Whether it takes a whole room, or could: consent must reach as far as a reset of the site."""
    restoring: Restoring | None = None
    """A copy that takes space and memory, and nothing away."""
    osds: frozenset[int] = frozenset()
    """OSDs that are lost though their node is not."""
    mons: frozenset[str] = frozenset()
    """Nodes whose Ceph mons are lost though they are not."""
    flags: frozenset[str] = frozenset()
    """Flags of Ceph that are set."""
    degraded: bool = False
    """Whether what is in force already costs Ceph copies."""

    def beside(self, others: Iterable[Reach]) -> Reach:
        """What it takes away together with those others, which are in force already.

        Units and privileges are its own alone.
        """
        whole = self
        for other in others:
            sides: tuple[frozenset[str], ...] = ()
            if whole.sides or other.sides:
                pairs = product(whole.sides or (whole.nodes,), other.sides or (other.nodes,))
                sides = tuple(one | another for one, another in pairs)
            whole = Reach(
                whole.nodes | other.nodes,
                costs_membership=whole.costs_membership or other.costs_membership,
                about_quorum=whole.about_quorum or other.about_quorum,
                units=whole.units,
                splits=whole.splits or other.splits,
                privileges=whole.privileges,
                resets=whole.resets | other.resets,
                guests=whole.guests | other.guests,
                sides=sides,
                device=whole.device or other.device,
                hung=whole.hung | other.hung,
                emptied=whole.emptied | other.emptied,
                by_hand=whole.by_hand or other.by_hand,
                site_wide=whole.site_wide or other.site_wide,
                restoring=whole.restoring or other.restoring,
                osds=whole.osds | other.osds,
                mons=whole.mons | other.mons,
                flags=whole.flags | other.flags,
                degraded=whole.degraded or other.degraded or bool(other.nodes or other.osds),
            )
        return whole


class Danger(IntEnum):
    """What is undone first when several things are broken: the more it can cost meanwhile, the earlier."""

    POWER = 0
    NETWORK = 1
    ARMED = 2
    MAINTENANCE = 3
    CEPH_FLAGS = 4
    GUESTS = 5
    STORAGE = 6
    FILES = 7


@dataclass(frozen=True, slots=True)
class Undo:
    """What a node does by itself when nobody comes."""

    node: str
    script: tuple[ShellLine, ...]
    """Shell commands, one a line, right whatever state they meet."""
    outlives_reboot: bool = False
    """Whether the fault does; then this must, too."""
    secret: str = field(default="", repr=False)
    """Written beside the script, for root alone, where the script finds it."""
    more: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Further secrets: the ending of the file that each lies in, and what is in it."""
    checks: tuple[tuple[tuple[str, ...], ...], ...] = ()
    """Commands that only read: of each of these groups one must succeed there, else this node could not do it."""


@dataclass(frozen=True, slots=True)
class DeadMan:
    """The undos that must be armed before the fault: the first ``needed`` of them that can be."""

    undos: tuple[Undo, ...]
    needed: int

    @classmethod
    def on_every(cls, *undos: Undo) -> DeadMan:
        """All of them are needed."""
        return cls(undos, len(undos))


class Fault(Protocol):
    """A way to break something. Frozen dataclasses; their fields are all that is needed to heal from the journal."""

    kind: ClassVar[str]
    """What one of it is called in the journal and to people, such as ``power-cut``."""

    family: ClassVar[str]
    """What consent must grant for it, such as ``power``."""

    danger: ClassVar[Danger]
    """When it is undone, where several are open."""

    undo: ClassVar[str]
    """What heals it, for the person who must do it by hand."""

    @property
    def reach(self) -> Reach:
        """What it takes away; the interlock asks whether the site can spare that."""

    def preflight(self, observer: Observer) -> None:
        """Refuse (PreflightRefused) while nothing is broken yet."""

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """What the nodes do by themselves when nobody comes; ``kept`` + ``.secret`` is where the secret lies there."""

    def inject(self, observer: Observer) -> None:
        """One act, no waiting."""

    def took_effect(self, observer: Observer) -> Answer:
        """Whether it bit, asked by another path than ``inject`` used."""

    def heal(self, observer: Observer) -> None:
        """Undo. Idempotent; right even if ``inject`` never ran."""

    def healed(self, observer: Observer) -> Answer:
        """Whether the undo is seen, not assumed."""


def params(fault: Fault) -> dict[str, Any]:
    """The fault's fields as they go into the plan."""
    return asdict(fault)  # type: ignore[call-overload, no-any-return]
