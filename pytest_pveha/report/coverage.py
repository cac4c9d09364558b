"""The coverage map in words: a row for each fault and role, with who was proven how long ago, and who never was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DAY = 86400


@dataclass(frozen=True, slots=True)
class Row:
    """One fault in one role."""

    fault: str
    role: str
    proven: tuple[str, ...]
    """Who, with the age of the last accepted proof."""
    never: tuple[str, ...]
    """Who never was; with what this run made of it, where it tried."""

    @property
    def name(self) -> str:
        """The fault, and the role where it matters."""
        return f"{self.fault} as {self.role}" if self.role else self.fault


def rows(coverage: Mapping[str, Any]) -> list[Row]:
    """The map, cell by cell, in its order."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cell in coverage["cells"]:
        groups.setdefault((cell["fault"], cell["role"]), []).append(cell)
    return [
        Row(
            fault,
            role,
            tuple(f"{cell['subject']} {age(cell)}" for cell in cells if cell["proven"] is not None),
            tuple(f"{cell['subject']}{_here(cell)}" for cell in cells if cell["proven"] is None),
        )
        for (fault, role), cells in groups.items()
    ]


def told(coverage: Mapping[str, Any]) -> str:
    """How much of the map is proven."""
    return f"{coverage['proven']} of {coverage['of']} proven"


def age(cell: Mapping[str, Any]) -> str:
    """How long ago a cell was proven: ``now``, ``3 days``; with what this run made of it, if that was worse."""
    days = int((cell["age"] or 0) // DAY)
    when = "now" if cell["here"] == "accepted" else f"{days} day{'' if days == 1 else 's'} ago"
    return f"{when}{_here(cell)}"


def _here(cell: Mapping[str, Any]) -> str:
    return f" ({cell['here']} in this run)" if cell["here"] not in (None, "accepted") else ""


def lines(coverage: Mapping[str, Any]) -> Sequence[str]:
    """The map for the terminal: gaps first in each row, for they are what it is for."""
    found = []
    for row in rows(coverage):
        parts = [f"NEVER {', '.join(row.never)}"] * bool(row.never) + [", ".join(row.proven)] * bool(row.proven)
        found.append(f"{row.name}: {'; '.join(parts)}")
    return found
