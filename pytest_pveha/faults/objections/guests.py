"""Guests that would go down, and whether the others have room for them."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_pveha.faults.fault import Reach
from pytest_pveha.faults.objections.state import State
from pytest_pveha.faults.objections.words import gib, listed
from pytest_pveha.handles.cluster import GuestRow

MEMORY_SHARE = 0.9
"""Share of a survivor's memory that may be in use afterwards: the rest is the hypervisor's own."""


def hit(guests: Mapping[str, GuestRow], reach: Reach) -> list[GuestRow]:
    """The guests that would go down: all that run, or may run, where it hits."""
    return [
        guest
        for sid, guest in sorted(guests.items())
        if not guest.template and guest.status != "stopped" and (guest.node in reach.nodes or sid in reach.guests)
    ]


def memory(state: State, reach: Reach) -> str | None:
    """Largest first, each where most room is left: what that cannot place nobody should have to."""
    if reach.about_quorum:
        return None  # without quorum nothing is taken over; each node starts its own again
    room = {node: state.free_memory.get(node, 0) for node in sorted(state.online - reach.nodes - reach.emptied)}
    moving = [guest for guest in hit(state.guests, reach) if guest.sid in state.moving]
    for guest in sorted(moving, key=lambda guest: (-guest.memory, guest.sid)):
        allowed = None if reach.by_hand else state.candidates.get(guest.sid)
        open_to = [node for node in room if allowed is None or node in allowed]
        if not open_to:
            return (
                f"rules: {guest.sid} of {guest.node} may run on none of the survivors ({listed(room)}), so HA could "
                f"not recover it; `ha-manager rules config`"
            )
        best = max(open_to, key=lambda node: room[node])
        if guest.memory > room[best]:
            left = ", ".join(f"{node} {gib(room[node])}" for node in open_to)
            return (
                f"memory: the HA guests of {listed(reach.nodes)} need {gib(sum(one.memory for one in moving))}; "
                f"largest first, {guest.sid} ({gib(guest.memory)}) fits nowhere any more: {left} left "
                f"({MEMORY_SHARE:.0%} of a node's memory less what is used and placed)"
            )
        room[best] -= guest.memory
    return None


def never_touch(state: State, reach: Reach) -> str | None:
    falling = {guest.sid for guest in hit(state.guests, reach)}
    found = sorted(state.never_touch & {*reach.nodes, *reach.guests, *reach.hung, *falling})
    if not found:
        return None
    return f"never_touch: {', '.join(found)} would be reached, and `consent.never_touch` names it; move it away"


def bystanders(state: State, reach: Reach) -> str | None:
    if state.permitted is None:
        return None
    found = [guest.sid for guest in hit(state.guests, reach) if guest.sid not in state.permitted]
    if not found:
        return None
    return (
        f"guests: {', '.join(found)} on {listed(reach.nodes)} would go down, and neither `guests:` names "
        f"{'them' if len(found) > 1 else 'it'} nor does `consent.bystanders`; move, name or permit them"
    )


def hung(state: State, reach: Reach) -> str | None:
    """A guest that is nobody's business may not be kept waiting either."""
    if state.permitted is None:
        return None
    found = sorted(reach.hung - state.permitted)
    if not found:
        return None
    return (
        f"guests: the writes of {', '.join(found)} would hang, and neither `guests:` names "
        f"{'them' if len(found) > 1 else 'it'} nor does `consent.bystanders`; move, name or permit them"
    )


def paused(state: State, reach: Reach) -> str | None:
    """A guest that is neither running nor stopped cannot be put back as it was found: its memory would be lost."""
    odd = [f"{guest.sid} {guest.status}" for guest in hit(state.guests, reach) if guest.status != "running"]
    if not odd:
        return None
    return f"guests: {', '.join(odd)} on {listed(reach.nodes)}: that cannot be put back; resume, stop or move it"
