"""Which of the rooms is a side of the site, and which is the tiebreaker's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def third_room(rooms: Mapping[str, Sequence[str]]) -> str:
    """The room of a single node that is the tiebreaker between two larger rooms; empty where there is none."""
    lone = [room for room, nodes in rooms.items() if len(nodes) == 1]
    return lone[0] if len(rooms) == 3 and len(lone) == 1 else ""
