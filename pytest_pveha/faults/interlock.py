"""The last look before a fault: what the site would have left, with the arithmetic in the message.

The gate asks once whether the site is healthy. The interlock asks before each fault whether this site, as it is now,
survives this loss: votes, memory, data, and nothing else under way. What it cannot tell it refuses. Pure; the look
itself is in ``survey``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults.fault import Reach
from pytest_pveha.faults.objections import backups, data, guests, manager, ourselves, votes
from pytest_pveha.faults.objections.state import State
from pytest_pveha.faults.objections.words import listed, target

Rule = Callable[[State, Reach], str | None]

LEFT: tuple[Rule, ...] = (
    votes.enough, votes.membership_time, manager.maintenance, guests.memory,
    data.clean, data.flags, data.stoppable, data.room, data.mons, ourselves.sight, ourselves.way,
)  # fmt: skip
"""Those that ask what is left: by this fault and all that are in force already, together."""

NOW: tuple[Rule, ...] = (
    votes.two_halves, votes.override, votes.config, votes.brief, manager.armed,
    guests.never_touch, guests.bystanders, guests.hung, guests.paused,
    manager.busy, manager.given_up, manager.clocks, ourselves.controller, ourselves.privileges, manager.watchdog,
    backups.space, backups.copy_memory, backups.restorable,
)  # fmt: skip

RULES = LEFT + NOW
"""Each says why not, or None. Each has a whole run that shows its words (tests/mutants/test_refusals.py)."""


def objections(state: State, reach: Reach, standing: Sequence[Reach] = ()) -> list[str]:
    """Why this fault may not be injected into this site now; none means it may.

    Args:
        standing: what faults that are in force already take away: what is left is left by all together.
    """
    found = [
        text
        for rules, whole in ((LEFT, reach.beside(standing)), (NOW, reach))
        for one in [replace(whole, nodes=side, sides=()) for side in whole.sides] or [whole]
        for rule in rules
        if (text := rule(state.without(one.nodes), one)) is not None
    ]
    return list(dict.fromkeys(found))


def losses(state: State, reach: Reach) -> str | None:
    """What a scenario that takes the quorum away for long is expected to cost, for who agreed to it; None: nothing."""
    if not reach.about_quorum or reach.brief:
        return None
    falling = ", ".join(guest.sid for guest in guests.hit(state.guests, reach)) or "no guest"
    told = f"quorum is taken from all nodes: {listed(reach.nodes)} may be reset, and with them {falling}"
    if state.ceph is None:
        return told
    mons = sorted(mon for node, names in state.ceph.mons.items() if node in reach.nodes for mon in names)
    osds = " ".join(str(osd) for osd in state.ceph.osds)
    return (
        f"{told}; Ceph: OSDs {osds or 'none'} and mons {', '.join(mons) or 'none'} go with them, so that no data is "
        f"served until they are back"
    )


def interlock(look: Callable[[Reach], State], reach: Reach, standing: Sequence[Reach] = ()) -> State:
    """Return only if the site survives the fault as it is now, with what is broken already.

    Raises:
        PreflightRefused: it would not, or that cannot be told; nothing was touched.
    """
    try:
        state = look(reach.beside(standing))
    except SiteError as error:
        raise PreflightRefused(
            f"whether the site survives this cannot be told, so nothing was broken: {error}"
        ) from error
    found = objections(state, reach, standing)
    if found:
        what = f"restore to {reach.restoring.copy}" if reach.restoring else f"break {target(reach)}"
        raise PreflightRefused(f"the interlock refuses to {what}: {'; '.join(found)}")
    return state
