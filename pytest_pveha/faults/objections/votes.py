"""Votes that would be left, and the membership that the loss costs."""

from __future__ import annotations

from pytest_pveha.faults.fault import Reach
from pytest_pveha.faults.objections.state import State
from pytest_pveha.faults.objections.words import listed
from pytest_pveha.handles import corosync

MEMBERSHIP_LIMIT = 50.0
"""Seconds within which a new membership must stand: watchdogs bite at 60 (pve-ha-manager watchdog-mux.c), and
losing one node has reset a whole cluster whose token took longer (corosync issue 705)."""

MEMBERSHIP_EXTRA = 10.0
"""Seconds besides token and consensus."""

QDEVICE_WAIT = 30.0
"""Seconds that votequorum waits for a qdevice that does not answer (corosync-qdevice, sync_timeout)."""


def enough(state: State, reach: Reach) -> str | None:
    if reach.about_quorum or _undescribed_device(state):
        return None
    if not state.counted:
        return "votes: no node says what it counts, so it cannot be told what would be left"
    if not state.quorate:
        return f"the cluster is not quorate now ({_present(state)} of {_expected(state)} votes)"
    held = [node for node in reach.nodes if node in state.online]
    lost = sum(state.votes.get(node, 0) for node in held)
    present, needed = _present(state), _needed(state)
    if reach.device:
        present -= state.device_votes if state.qdevice_connected else 0
        if present < needed:
            return f"votes: {present} are left without the quorum device's, and {needed} are needed"
    if present - lost >= needed:
        return None
    return (
        f"votes: {present} present − {lost} of {listed(reach.nodes)} = {present - lost}, "
        f"and {needed} of {_expected(state)} are needed: the rest would lose quorum and reset itself"
    )


def two_halves(state: State, reach: Reach) -> str | None:
    if not (_two_node(state) and reach.splits):
        return None
    return (
        "votes: in two-node mode each half stays quorate by itself when they are cut from each other, and both would "
        "run the guests; give the cluster a quorum device instead"
    )


def override(state: State, reach: Reach) -> str | None:
    wrong = {node: votes.expected for node, votes in state.counted.items() if votes.expected != _configured(state)}
    if not wrong:
        return None
    if _undescribed_device(state):
        return "votes: a quorum device votes on this cluster, and the inventory has no `quorum_device`; describe it"
    told = ", ".join(f"{node} expects {votes}" for node, votes in sorted(wrong.items()))
    return (
        f"votes: {told}, and {_configured(state)} are configured: somebody typed `pvecm expected`, or a change is not "
        f"finished; type `pvecm expected {_configured(state)}`"
    )


def config(state: State, reach: Reach) -> str | None:
    if state.shared_config is None:
        return "corosync.conf: the cluster's copy could not be read, so it cannot be told whether the nodes' are equal"
    unread = sorted(state.online - state.configs.keys())
    if unread:
        return f"corosync.conf: that of {', '.join(unread)} could not be read; repair SSH to it"
    other = sorted(node for node in state.online if state.configs[node] != state.shared_config)
    if not other:
        return None
    return (
        f"corosync.conf: that of {', '.join(other)} is not the cluster's (/etc/pve/corosync.conf): the rings may not "
        f"form again; copy it there and reload corosync"
    )


def membership_time(state: State, reach: Reach) -> str | None:
    if not reach.costs_membership:
        return None
    ring = corosync.Ring.of(state.totem)
    waits = QDEVICE_WAIT if state.device_votes and not state.qdevice_connected else 0.0
    needed = ring.token + ring.consensus + MEMBERSHIP_EXTRA + waits
    if needed < MEMBERSHIP_LIMIT:
        return None
    qdevice = f" + {waits:g} s (a qdevice is configured and not connected)" if waits else ""
    rounds, lower = f"{1 + corosync.CONSENSUS:g} × token {ring.token:g} s", "totem.token_coefficient"
    if ring.agreement is not None:
        rounds, lower = (
            f"token {ring.token:g} s + totem.consensus {ring.consensus:g} s",
            "totem.token or totem.consensus",
        )
    return (
        f"membership: {rounds} + {MEMBERSHIP_EXTRA:g} s{qdevice} = {needed:.1f} s, not below {MEMBERSHIP_LIMIT:g} s: "
        f"one node's loss could let every watchdog expire; lower {lower}"
    )


def brief(state: State, reach: Reach) -> str | None:
    """A cut that is to reset nobody must be over before the first watchdog minds, even if nobody comes."""
    ring = corosync.Ring.of(state.totem)
    if not reach.brief or ring.harmless(reach.brief):
        return None
    return (
        f"watchdogs: the nodes undo this cut after {reach.brief:.1f} s, and are one ring again up to "
        f"{ring.consensus + corosync.REJOIN:.1f} s later; a watchdog may bite {corosync.PATIENCE:g} s after the cut"
    )


def _present(state: State) -> int:
    here = sum(votes for node, votes in state.votes.items() if node in state.online)
    return here + (state.device_votes if state.qdevice_connected else 0)


def _expected(state: State) -> int:
    return max([_configured(state), *(votes.expected for votes in state.counted.values())])


def _configured(state: State) -> int:
    return sum(state.votes.values()) + state.device_votes


def _needed(state: State) -> int:
    """The quorum: half of what is expected and one more; in two-node mode, one (votequorum(5))."""
    if _two_node(state):
        return 1
    told = [votes.quorum for votes in state.counted.values() if votes.quorum is not None]
    return max([_expected(state) // 2 + 1, *told])


def _two_node(state: State) -> bool:
    return bool(state.counted) and all("2Node" in votes.flags for votes in state.counted.values())


def _undescribed_device(state: State) -> bool:
    """Whether a device votes of which the inventory says nothing: what is left cannot be counted without it."""
    return not state.device_votes and any("Qdevice" in votes.flags for votes in state.counted.values())
