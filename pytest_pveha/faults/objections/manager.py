"""The HA manager is ready, no watchdog is touched that it holds, and nothing else is under way."""

from __future__ import annotations

from pytest_pveha.faults.fault import Reach
from pytest_pveha.faults.objections.state import State
from pytest_pveha.faults.objections.words import listed

CLOCKS = 1.0
"""Seconds that clocks may differ: the ages of locks and stamps are judged by the nodes' own."""

BUSY = frozenset(
    {
        "vzdump", "qmigrate", "vzmigrate", "migrateall", "qmrestore", "vzrestore", "imgcopy", "move_volume", "resize",
        "cephdestroyosd", "cephcreateosd", "qmclone", "vzclone", "qmsnapshot", "qmrollback", "qmdelsnapshot",
        "vzsnapshot", "vzrollback", "vzdelsnapshot", "qmmove", "startall", "stopall", "suspendall",
    }
)  # fmt: skip
"""Types of task that a fault would harm, or that would harm the measurement."""

IDLE_LOCKS = frozenset({"", "suspended"})
"""Locks of a guest that nothing is working on: a hibernated guest keeps its lock."""

SETTLED = frozenset({"started", "stopped", "ignored", "disabled"})
"""Service states in which the HA manager is in the middle of nothing; one that we do not know is none of them."""

GIVEN_UP = "error"
"""The state in which HA does nothing more for a service (pve-ha-manager, Manager.pm)."""


def armed(state: State, reach: Reach) -> str | None:
    if not state.proxmox:
        return None
    if state.armed is None:
        return "HA: whether it is armed cannot be told; is there a CRM master? `ha-manager status`"
    if not state.armed:
        return "HA is disarmed: nothing would be fenced or recovered; type `ha-manager crm-command arm-ha`"
    return None


def maintenance(state: State, reach: Reach) -> str | None:
    # one that is itself what falls was emptied for that; one that we emptied is known to take nothing
    standing = state.maintenance - reach.nodes - reach.emptied
    if not standing:
        return None
    return (
        f"maintenance: {listed(standing)} is in it, so nothing would be recovered there; "
        f"type `ha-manager crm-command node-maintenance disable NODE`"
    )


def watchdog(state: State, reach: Reach) -> str | None:
    for node, unit in sorted(reach.units):
        if node in reach.resets & reach.nodes:
            continue
        if unit.removesuffix(".service") == "watchdog-mux" and state.watchdog_clients.get(node) is not False:
            held = "is held open by the HA daemons" if node in state.watchdog_clients else "may be held open"
            return (
                f"watchdog: that of {node} {held} (/run/watchdog-mux.active), so ending watchdog-mux resets the "
                f"machine; it is never done"
            )
    return None


def busy(state: State, reach: Reach) -> str | None:
    busy = [f"{task.type} {task.id} on {task.node}".replace("  ", " ") for task in state.tasks if task.type in BUSY]
    busy += [f"{sid} is locked ({guest.lock})" for sid, guest in state.guests.items() if guest.lock not in IDLE_LOCKS]
    busy += [f"{sid} is in HA state {word}" for sid, word in state.unsettled.items() if word != GIVEN_UP]
    return f"under way: {', '.join(sorted(busy))}; wait until that has ended" if busy else None


def given_up(state: State, reach: Reach) -> str | None:
    found = sorted(sid for sid, word in state.unsettled.items() if word == GIVEN_UP)
    if not found:
        return None
    return (
        f"HA: it gave up {', '.join(found)} (state {GIVEN_UP}) and would do nothing more for it; repair it, then "
        f"`ha-manager set SID --state disabled`, and `--state started`"
    )


def clocks(state: State, reach: Reach) -> str | None:
    unread = sorted(state.online - state.clocks.keys())
    if unread:
        return f"clocks: that of {', '.join(unread)} could not be read; repair SSH to it"
    if vague := sorted(node for node, clock in state.clocks.items() if clock.error > CLOCKS):
        worst = max(state.clocks[node].error for node in vague)
        return f"clocks: that of {', '.join(vague)} is known to ± {worst:.1f} s only; SSH to it is too slow to tell"
    bounds = {"this machine": (0.0, 0.0)} | {
        node: (clock.offset - clock.error, clock.offset + clock.error) for node, clock in state.clocks.items()
    }
    first = min(bounds, key=lambda name: bounds[name][1])
    last = max(bounds, key=lambda name: bounds[name][0])
    apart = bounds[last][0] - bounds[first][1]  # what is left after the errors of asking is a real difference
    if apart <= CLOCKS:
        return None
    return f"clocks: {last} is ahead of {first} by {apart:.1f} s, more than {CLOCKS:g} s; `chronyc tracking` on both"
