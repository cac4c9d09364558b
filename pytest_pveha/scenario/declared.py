"""What a destructive test says of itself by its marker, before it runs: all that a plan and a consent can go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_pveha.errors import UsageError
from pytest_pveha.faults.catalogue import FAULTS
from pytest_pveha.inventory import parse_duration

WORDS = ("blast", "expected", "breaks", "may", "site_reset", "combined")


@dataclass(frozen=True, slots=True)
class Declared:
    """The marker ``destructive``, understood."""

    blast: str = ""
    """What may be hit, for people."""
    expected: float = 0.0
    """Seconds it takes; 0 = not said."""
    breaks: tuple[str, ...] = ()
    """Kinds of fault, such as ``power-cut``; none = not said."""
    may: tuple[str, ...] = ()
    """Kinds of fault that it makes besides, where they are consented to, and does without where not."""
    site_reset: bool = False
    """Whether more than the victim may be reset."""
    combined: bool = False
    """Whether a second fault comes while the site still recovers from the first."""

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> Declared:
        """What the marker's words mean.

        Raises:
            UsageError: a word or a kind of fault is not known, or a value is not of its kind.
        """
        strange = [name for name in words if name not in WORDS]
        if strange:
            raise UsageError(f"the mark destructive has no {', '.join(strange)}; it knows {', '.join(WORDS)}")
        kinds, may = (_kinds(name, words.get(name, ())) for name in ("breaks", "may"))
        flags = {name: words.get(name, False) for name in ("site_reset", "combined")}
        for name, value in flags.items():
            if not isinstance(value, bool):
                raise UsageError(f"{name}={value!r}: expected True or False")
        try:
            expected = parse_duration(words["expected"]) if "expected" in words else 0.0
        except ValueError as error:
            raise UsageError(f"expected={words['expected']!r}: {error}") from None
        return cls(str(words.get("blast", "")), expected, kinds, may, **flags)

    @property
    def families(self) -> tuple[str, ...]:
        """What consent must grant for it."""
        families = _families()
        return tuple(sorted({families[kind] for kind in self.breaks}))


def _kinds(name: str, said: Any) -> tuple[str, ...]:
    """The kinds of fault that such a word of the mark says."""
    if not isinstance(said, (str, tuple, list)):
        raise UsageError(f'{name}={said!r}: expected kinds of fault, as in {name}=("power-cut",)')
    kinds = (said,) if isinstance(said, str) else tuple(said)
    families = _families()
    if unknown := [str(kind) for kind in kinds if kind not in families]:
        raise UsageError(f"{name}={', '.join(unknown)}: no such fault; known are {', '.join(sorted(families))}")
    return kinds


def _families() -> dict[str, str]:
    return {fault.kind: fault.family for fault in FAULTS.values()}
