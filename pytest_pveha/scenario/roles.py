"""Which node plays a role: pure, so that a plan and a run decide alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pytest_pveha.inventory.rooms import third_room

ROOM_ROLES = ("room-with-master", "other-room")


def cast(role: str, nodes: Sequence[str], master: str, busy: Mapping[str, int]) -> str | None:
    """The node that plays ``role`` now; None where nobody of the inventory does.

    Args:
        role: ``crm-master``, or ``other-1``, ``other-2``, …: the other nodes, those that run HA services first; or
            ``fullest``, the one that runs most of them.
        nodes: the inventory's nodes, in its order.
        busy: how many HA services each node runs.
    """
    if role == "fullest":
        return max(nodes, key=lambda name: busy.get(name, 0), default=None)
    if role == "crm-master":
        return master if master in nodes else None
    others = sorted((name for name in nodes if name != master), key=lambda name: name not in busy)
    place = int(role.removeprefix("other-"))
    return others[place - 1] if place <= len(others) else None


def cast_side(
    role: str,
    nodes: Sequence[str],
    master: str,
    busy: Mapping[str, int],
    rooms: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> tuple[str, ...] | None:
    """The nodes that play a side of a cut; None where nobody does.

    Args:
        role: one of ``cast``'s; ``crm-master+2``, the master and so many others; ``others-2``, so many without it;
            ``room-with-master`` or ``other-room``: all nodes of that room; the room of a single node that is the
            tiebreaker of two others is neither.
        rooms: the nodes of each room.
    """
    if role in ROOM_ROLES:
        rooms = {room: members for room, members in rooms.items() if room != third_room(rooms)}
        mine = next((room for room, members in rooms.items() if master in members), None)
        wanted = mine if role == "room-with-master" else next((room for room in rooms if room != mine), None)
        return None if wanted is None or master not in nodes else tuple(rooms[wanted])
    if role.startswith("others-"):
        parts = [f"other-{number}" for number in range(1, int(role.removeprefix("others-")) + 1)]
    elif "+" in role:
        first, _, more = role.partition("+")
        parts = [first, *(f"other-{number}" for number in range(1, int(more) + 1))]
    else:
        parts = [role]
    found = [cast(part, nodes, master, busy) for part in parts]
    return tuple(name for name in found if name is not None) if all(found) else None
