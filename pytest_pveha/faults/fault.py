"""What a fault is: data, with one act, an undo that can be repeated, and eyes for both."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

from pytest_pveha.errors import UsageError
from pytest_pveha.observe.answer import Answer
from pytest_pveha.observe.observer import Observer


@dataclass(frozen=True, slots=True)
class Reach:
    """What a fault takes away."""

    nodes: frozenset[str]
    costs_membership: bool = True
    about_quorum: bool = False
    """Whether losing quorum is what the scenario is for."""


class Fault(Protocol):
    """A way to break something. Frozen dataclasses; their fields are all that is needed to heal from the journal."""

    kind: ClassVar[str]
    """What one of it is called in the journal and to people, such as ``power-cut``."""

    family: ClassVar[str]
    """What consent must grant for it, such as ``power``."""

    undo: ClassVar[str]
    """What heals it, for the person who must do it by hand."""

    @property
    def reach(self) -> Reach:
        """What it takes away; the interlock asks whether the site can spare that."""

    def preflight(self, observer: Observer) -> None:
        """Refuse (PreflightRefused) while nothing is broken yet."""

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


def known_faults() -> dict[str, type[Fault]]:
    """Every fault, by the name that a plan line gives it."""
    from pytest_pveha.faults.power import PowerCut

    return {PowerCut.__name__: PowerCut}


def from_plan(kind: str, values: dict[str, Any]) -> Fault:
    """The fault of a plan line, ready to be healed."""
    known = known_faults()
    if kind not in known:
        raise UsageError(
            f"the journal plans a fault of kind {kind!r}; this version can heal {', '.join(known)}. "
            f"Heal with the version that made it"
        )
    return known[kind](**values)
