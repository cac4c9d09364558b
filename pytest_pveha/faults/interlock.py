"""The last look before a fault: what the site would have left, with the arithmetic in the message.

The gate asks once whether the site is healthy. The interlock asks before each fault whether this site, as it is now,
survives this loss: votes, memory, data, and nothing else under way. What it cannot tell it refuses. Pure; the look
itself is in ``survey``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults.fault import Reach
from pytest_pveha.handles import corosync
from pytest_pveha.handles.ceph.status import whole
from pytest_pveha.handles.cluster import GuestRow, RunningTask, Totem
from pytest_pveha.handles.node import ClockOffset, Votes
from pytest_pveha.observe.what_if import Prediction

MEMBERSHIP_LIMIT = 50.0
"""Seconds within which a new membership must stand: watchdogs bite at 60 (pve-ha-manager watchdog-mux.c), and
losing one node has reset a whole cluster whose token took longer (corosync issue 705)."""

MEMBERSHIP_EXTRA = 10.0
"""Seconds besides token and consensus."""
QDEVICE_WAIT = 30.0
"""Seconds that votequorum waits for a qdevice that does not answer (corosync-qdevice, sync_timeout)."""

MEMORY_SHARE = 0.9
"""Share of a survivor's memory that may be in use afterwards: the rest is the hypervisor's own."""

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

WHAT_FOR = {
    "Sys.Audit": "to see the cluster",
    "VM.Audit": "to see every guest",
    "Sys.Console": "to have HA bring its services back",
    "VM.PowerMgmt": "to start a guest again that ran",
    "Sys.PowerMgmt": "to have a node go down in good order",
    "VM.Allocate": "to make a guest from a backup, and to take it away",
    "VM.Backup": "to read a guest's backup",
    "VM.Config.Network": "to keep a copy's links down",
    "VM.Config.Options": "to keep a copy from starting by itself",
    "Datastore.AllocateSpace": "to make a copy's disks",
    "VM.GuestAgent.Unrestricted": "to count a canary's writes",
    "VM.Monitor": "to count a canary's writes",
}
"""Privileges of our API token, as the REST schema wants them for the calls we make (PVE 8.4 and 9)."""

STOPPING_FLAGS = frozenset(
    {"noout", "noin", "nodown", "noup", "norecover", "nobackfill", "norebalance", "pause", "pauserd", "pausewr"}
)
"""Ceph's flags that keep it from healing, or from noticing (ceph(8), osd set)."""


@dataclass(frozen=True, slots=True)
class CephState:
    """Ceph as the interlock needs it."""

    clean: bool
    """Whether all placement groups are active+clean, and that was told since its OSD map changed last."""
    pgs: Mapping[str, int]
    flags: frozenset[str]
    ok_to_stop: bool | None
    """What Ceph says of the OSDs on the nodes reached, all together; None: could not be asked."""
    said: str
    osds: tuple[int, ...]
    """Those OSDs."""
    mons: Mapping[str, tuple[str, ...]]
    """node → its mons."""
    in_quorum: frozenset[str]
    """Mons that are in quorum now."""
    prediction: Prediction | None = None
    """What would be left without those OSDs, by Ceph's maps; None: they could not be read."""
    backfillfull: float = 0.0
    """Part of an OSD above which nothing is rebuilt onto it."""
    unsure: str = ""
    """Why it cannot be told whether it is clean; empty where it can."""


@dataclass(frozen=True, slots=True)
class Source:
    """A backup that is to be restored, and what it would be restored to. None: that cannot be told."""

    verification: str | None
    """``ok``, ``failed``, empty for never verified; None: it is not there any more."""
    key_there: bool | None
    """Whether the cluster has the key that it is encrypted with; True where it is not encrypted."""
    total: int | None
    used: int | None
    """Bytes of the storage that it is restored to; None: that storage is not active there."""


@dataclass(frozen=True, slots=True)
class State:
    """The site as it is now, as far as the interlock needs it. None, or absence from a mapping: not known."""

    votes: Mapping[str, int]
    """As configured."""
    counted: Mapping[str, Votes]
    """What each node's own corosync counts now."""
    online: frozenset[str]
    quorate: bool
    armed: bool | None
    totem: Totem
    device_votes: int = 0
    """What the quorum device has to cast by the configuration; 0 where there is none in scope."""
    qdevice_connected: bool | None = None
    configs: Mapping[str, str] = field(default_factory=dict)
    """node → the corosync.conf that its daemon reads."""
    shared_config: str | None = None
    """The cluster's copy of it."""
    maintenance: frozenset[str] = frozenset()
    free_memory: Mapping[str, int] = field(default_factory=dict)
    """Bytes each node could still give to guests."""
    guests: Mapping[str, GuestRow] = field(default_factory=dict)
    moving: frozenset[str] = frozenset()
    """Guests that HA starts elsewhere when their node is lost."""
    candidates: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The only nodes a service may run on, where a rule says so."""
    permitted: frozenset[str] | None = frozenset()
    """Guests that may go down; None: all."""
    never_touch: frozenset[str] = frozenset()
    """Guests and nodes that no fault may reach, whatever is permitted."""
    tasks: tuple[RunningTask, ...] = ()
    unsettled: Mapping[str, str] = field(default_factory=dict)
    """HA services that are in the middle of something, or were given up → their state."""
    clocks: Mapping[str, ClockOffset] = field(default_factory=dict)
    ceph: CephState | None = None
    ceph_without: Mapping[frozenset[str], CephState] = field(default_factory=dict)
    """The same for each side that may be the one that is lost."""
    """None where the site has no Ceph in scope."""
    controller_guest: str | None = None
    """The guest of this very cluster in which we run."""
    api_answered: frozenset[str] = frozenset()
    """Nodes whose own API answered just now."""
    ssh_answered: frozenset[str] = frozenset()
    seen_from: Mapping[str, str] = field(default_factory=dict)
    """node → the address from which it sees us come over SSH."""
    addresses: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """node → addresses of its own, loopback not among them."""
    privileges: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    """Path of the API's access control → what our token may there, and whether also on all below it."""
    source: Source | None = None
    """What would be restored, where something is to be."""
    proxmox: bool = True
    """Whether there is an HA manager, and an API that asks for rights."""
    watchdog_clients: Mapping[str, bool] = field(default_factory=dict)
    """Whether somebody holds the node's watchdog open; only of nodes whose watchdog-mux is to be touched."""

    def without(self, nodes: frozenset[str]) -> State:
        """The same, with Ceph as it is asked about the loss of these nodes, where it was."""
        return replace(self, ceph=self.ceph_without[nodes]) if nodes in self.ceph_without else self


# --- votes and membership ---------------------------------------------------------------------------------------------


def _votes(state: State, reach: Reach) -> str | None:
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
        f"votes: {present} present − {lost} of {_list(reach.nodes)} = {present - lost}, "
        f"and {needed} of {_expected(state)} are needed: the rest would lose quorum and reset itself"
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


def _two_halves(state: State, reach: Reach) -> str | None:
    if not (_two_node(state) and reach.splits):
        return None
    return (
        "votes: in two-node mode each half stays quorate by itself when they are cut from each other, and both would "
        "run the guests; give the cluster a quorum device instead"
    )


def _override(state: State, reach: Reach) -> str | None:
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


def _undescribed_device(state: State) -> bool:
    """Whether a device votes of which the inventory says nothing: what is left cannot be counted without it."""
    return not state.device_votes and any("Qdevice" in votes.flags for votes in state.counted.values())


def _config(state: State, reach: Reach) -> str | None:
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


def _membership_time(state: State, reach: Reach) -> str | None:
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


def _brief(state: State, reach: Reach) -> str | None:
    """A cut that is to reset nobody must be over before the first watchdog minds, even if nobody comes."""
    ring = corosync.Ring.of(state.totem)
    if not reach.brief or ring.harmless(reach.brief):
        return None
    return (
        f"watchdogs: the nodes undo this cut after {reach.brief:.1f} s, and are one ring again up to "
        f"{ring.consensus + corosync.REJOIN:.1f} s later; a watchdog may bite {corosync.PATIENCE:g} s after the cut"
    )


# --- the HA manager ---------------------------------------------------------------------------------------------------


def _armed(state: State, reach: Reach) -> str | None:
    if not state.proxmox:
        return None
    if state.armed is None:
        return "HA: whether it is armed cannot be told; is there a CRM master? `ha-manager status`"
    if not state.armed:
        return "HA is disarmed: nothing would be fenced or recovered; type `ha-manager crm-command arm-ha`"
    return None


def _maintenance(state: State, reach: Reach) -> str | None:
    # one that is itself what falls was emptied for that; one that we emptied is known to take nothing
    standing = state.maintenance - reach.nodes - reach.emptied
    if not standing:
        return None
    return (
        f"maintenance: {_list(standing)} is in it, so nothing would be recovered there; "
        f"type `ha-manager crm-command node-maintenance disable NODE`"
    )


# --- guests -----------------------------------------------------------------------------------------------------------


def _memory(state: State, reach: Reach) -> str | None:
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
                f"rules: {guest.sid} of {guest.node} may run on none of the survivors ({_list(room)}), so HA could not "
                f"recover it; `ha-manager rules config`"
            )
        best = max(open_to, key=lambda node: room[node])
        if guest.memory > room[best]:
            left = ", ".join(f"{node} {_gib(room[node])}" for node in open_to)
            return (
                f"memory: the HA guests of {_list(reach.nodes)} need {_gib(sum(one.memory for one in moving))}; "
                f"largest first, {guest.sid} ({_gib(guest.memory)}) fits nowhere any more: {left} left "
                f"({MEMORY_SHARE:.0%} of a node's memory less what is used and placed)"
            )
        room[best] -= guest.memory
    return None


def hit(guests: Mapping[str, GuestRow], reach: Reach) -> list[GuestRow]:
    """The guests that would go down: all that run, or may run, where it hits."""
    return [
        guest
        for sid, guest in sorted(guests.items())
        if not guest.template and guest.status != "stopped" and (guest.node in reach.nodes or sid in reach.guests)
    ]


def _never_touch(state: State, reach: Reach) -> str | None:
    falling = {guest.sid for guest in hit(state.guests, reach)}
    found = sorted(state.never_touch & {*reach.nodes, *reach.guests, *reach.hung, *falling})
    if not found:
        return None
    return f"never_touch: {', '.join(found)} would be reached, and `consent.never_touch` names it; move it away"


def _bystanders(state: State, reach: Reach) -> str | None:
    if state.permitted is None:
        return None
    found = [guest.sid for guest in hit(state.guests, reach) if guest.sid not in state.permitted]
    if not found:
        return None
    return (
        f"guests: {', '.join(found)} on {_list(reach.nodes)} would go down, and neither `guests:` names "
        f"{'them' if len(found) > 1 else 'it'} nor does `consent.bystanders`; move, name or permit them"
    )


def _hung(state: State, reach: Reach) -> str | None:
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


def _paused(state: State, reach: Reach) -> str | None:
    """A guest that is neither running nor stopped cannot be put back as it was found: its memory would be lost."""
    odd = [f"{guest.sid} {guest.status}" for guest in hit(state.guests, reach) if guest.status != "running"]
    if not odd:
        return None
    return f"guests: {', '.join(odd)} on {_list(reach.nodes)}: that cannot be put back; resume, stop or move it"


# --- what is under way ------------------------------------------------------------------------------------------------


def _busy(state: State, reach: Reach) -> str | None:
    busy = [f"{task.type} {task.id} on {task.node}".replace("  ", " ") for task in state.tasks if task.type in BUSY]
    busy += [f"{sid} is locked ({guest.lock})" for sid, guest in state.guests.items() if guest.lock not in IDLE_LOCKS]
    busy += [f"{sid} is in HA state {word}" for sid, word in state.unsettled.items() if word != GIVEN_UP]
    return f"under way: {', '.join(sorted(busy))}; wait until that has ended" if busy else None


def _given_up(state: State, reach: Reach) -> str | None:
    found = sorted(sid for sid, word in state.unsettled.items() if word == GIVEN_UP)
    if not found:
        return None
    return (
        f"HA: it gave up {', '.join(found)} (state {GIVEN_UP}) and would do nothing more for it; repair it, then "
        f"`ha-manager set SID --state disabled`, and `--state started`"
    )


def _clocks(state: State, reach: Reach) -> str | None:
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


# --- data -------------------------------------------------------------------------------------------------------------


def _data(state: State, reach: Reach) -> str | None:
    if state.ceph is None or state.ceph.clean:
        return None
    pgs = ", ".join(f"{count} {name}" for name, count in sorted(state.ceph.pgs.items()) if not whole(name))
    if not reach.degraded:
        why = state.ceph.unsure or pgs or "none is told of"
        return f"Ceph: not all placement groups are active+clean ({why}); wait until they are"
    if state.ceph.prediction is not None and state.ceph.prediction.serves:
        return None  # copies are lacking because of us, and by its maps those that are left suffice
    told = state.ceph.prediction.in_words if state.ceph.prediction else "its maps could not be read"
    return f"Ceph: with what is broken already ({pgs}), what would be left does not suffice: {told}"


def _flags(state: State, reach: Reach) -> str | None:
    if state.ceph is None or not (found := sorted((state.ceph.flags & STOPPING_FLAGS) - reach.flags)):
        return None
    return f"Ceph: {', '.join(found)} is set, so it would not heal itself; `ceph osd unset {found[0]}`, if it is yours"


def _stoppable(state: State, reach: Reach) -> str | None:
    if state.ceph is None or not state.ceph.osds or reach.about_quorum:
        return None  # a cut of corosync leaves Ceph alone; if nodes are to be reset, that is what was agreed to: losses
    osds = " ".join(str(osd) for osd in state.ceph.osds)
    of = f"of {_list(reach.nodes)}" if reach.nodes else "together"
    if state.ceph.ok_to_stop is None:
        return f"Ceph: whether OSDs {osds} {of} may stop cannot be told: {state.ceph.said}"
    if not state.ceph.ok_to_stop:
        return f"Ceph: `ceph osd ok-to-stop {osds}` (all {of}) says no: {state.ceph.said}"
    return None


def _room(state: State, reach: Reach) -> str | None:
    """What is rebuilt must not fill the OSDs that are left: at the full ratio nobody can write any more."""
    if state.ceph is None or not state.ceph.osds or reach.about_quorum:
        return None
    found, limit = state.ceph.prediction, state.ceph.backfillfull
    if found is None:
        return "Ceph: its maps could not be read, so it cannot be told what would be left; `ceph osd dump` on a node"
    if not found.rebuild_bytes or found.fullest < limit:
        return None
    return (
        f"Ceph: rebuilding {_gib(found.rebuild_bytes)} of OSDs {' '.join(map(str, state.ceph.osds))} would fill the "
        f"fullest of the others to {found.fullest:.0%}, and at {limit:.0%} the rebuild stops; make room first"
    )


def _mons(state: State, reach: Reach) -> str | None:
    if state.ceph is None or reach.about_quorum:
        return None
    lost = reach.nodes | reach.mons
    every = {mon for mons in state.ceph.mons.values() for mon in mons}
    hit = {mon for node, mons in state.ceph.mons.items() if node in lost for mon in mons}
    left, needed = len(state.ceph.in_quorum - hit), max(len(every), len(state.ceph.in_quorum)) // 2 + 1
    if not hit or left >= needed:
        return None
    return (
        f"Ceph: {len(state.ceph.in_quorum)} mons in quorum − {len(hit & state.ceph.in_quorum)} of {_list(lost)} "
        f"= {left}, and {needed} of {len(every)} are needed: no data would be served"
    )


# --- us ---------------------------------------------------------------------------------------------------------------


def _space(state: State, reach: Reach) -> str | None:
    """What is used and what comes together stay below where storages begin to refuse (Ceph: nearfull)."""
    if (copy := reach.restoring) is None:
        return None
    source = state.source
    if source is None or not source.total or source.used is None:
        return f"space: how full storage {copy.storage} is cannot be told on {copy.node}; is it active there?"
    if source.used + copy.size < NEARFULL * source.total:
        return None
    return (
        f"space: {_gib(source.used)} used + {_gib(copy.size)} to restore is not below {NEARFULL:.0%} of the "
        f"{_gib(source.total)} of storage {copy.storage} (nearfull); name another in backup.restore.storage"
    )


def _copy_memory(state: State, reach: Reach) -> str | None:
    if (copy := reach.restoring) is None:
        return None
    left = state.free_memory.get(copy.node, 0)
    if copy.memory <= left:
        return None
    return f"memory: the copy needs {_gib(copy.memory)}, and {copy.node} has {_gib(left)} left; name another node"


def _restorable(state: State, reach: Reach) -> str | None:
    if (copy := reach.restoring) is None:
        return None
    source = state.source
    if source is None or source.verification is None:
        return f"backup: {copy.volume} is not to be seen any more"
    if source.verification == "failed":
        return f"backup: {copy.volume} was verified and is broken, so nothing is proven by restoring it; back up again"
    if source.key_there is None:
        return f"key: whether the cluster has the key of {copy.volume} cannot be told; repair SSH to {copy.node}"
    if not source.key_there:
        return (
            f"key: {copy.volume} is encrypted, and {copy.node} has no key (/etc/pve/priv/storage): without it no "
            f"backup can be read; bring the one that was kept elsewhere"
        )
    return None


def _controller(state: State, reach: Reach) -> str | None:
    if state.controller_guest is None:
        return None
    return f"this machine is {state.controller_guest}, a guest of the cluster under test; run from outside it"


def _sight(state: State, reach: Reach) -> str | None:
    if not state.online - reach.nodes:
        return None  # everything goes: the votes speak to that, and the BMCs remain
    for what, answered in (("API", state.api_answered), ("SSH", state.ssh_answered)):
        if not answered - reach.nodes:
            return (
                f"sight: only {_list(answered)} answered over {what}, and nobody outside of {_list(reach.nodes)}: what "
                f"would happen could be neither seen nor undone; add a way to the others"
            )
    return None


def _way(state: State, reach: Reach) -> str | None:
    """Of a jump host, a forwarder, or this machine being a node: the others see us come from an address of it."""
    others = (state.ssh_answered & state.online) - reach.nodes
    if untold := sorted(others - state.seen_from.keys()):
        return f"way: {', '.join(untold)} did not tell from where it sees us come, so what is on our way is not known"
    for node in sorted(others):
        for lost in sorted(reach.nodes):
            if state.seen_from[node] in state.addresses.get(lost, ()):
                return (
                    f"way: {node} sees us come from {state.seen_from[node]}, which is {lost}: with {lost} our way to "
                    f"{node} is lost, and what happens could be neither seen nor undone; run from outside the cluster"
                )
    return None


def needs(guests: Mapping[str, GuestRow], reach: Reach) -> frozenset[tuple[str, str]]:
    """What our API token must be allowed, as (path, privilege): to look, for the fault itself, and to undo it all."""
    falling = {f"/vms/{guest.sid.partition(':')[2]}" for guest in hit(guests, reach)}
    always = {("/", "Sys.Audit"), ("/vms", "VM.Audit"), ("/", "Sys.Console")}
    return reach.privileges | always | {(path, "VM.PowerMgmt") for path in falling}


def lacking(held: Mapping[str, Mapping[str, bool]], needed: frozenset[tuple[str, str]]) -> str:
    """What our API token lacks of that (path, privilege), by what it has on each path: what for, and what to type.

    Empty if it lacks nothing.
    """
    missing: dict[str, list[str]] = {}
    for path, privilege in sorted(needed):
        below = held.get(path, {}).get(privilege)
        if below is None or (path == "/vms" and not below):  # a guest that we are not shown would fall unnoticed
            missing.setdefault(privilege, []).append(path)
    if not missing:
        return ""
    told = "; ".join(f"{name} on {', '.join(paths)} ({WHAT_FOR[name]})" for name, paths in sorted(missing.items()))
    return f"our API token has not {told}; `pveum acl modify`, for the token and for its user"


def _privileges(state: State, reach: Reach) -> str | None:
    found = lacking(state.privileges, needs(state.guests, reach)) if state.proxmox else ""
    return f"token: {found}" if found else None


def _watchdog(state: State, reach: Reach) -> str | None:
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


def _list(names: frozenset[str] | Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "nobody"


def _target(reach: Reach) -> str:
    """What would be hit, for people."""
    osds = [f"osd.{osd}" for osd in sorted(reach.osds)]
    return ", ".join([*sorted(reach.nodes), *osds]) or "nobody"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


NEARFULL = 0.85
"""Share of a storage above which Ceph calls it nearly full (mon_osd_nearfull_ratio), and others are no better off."""

Rule = Callable[[State, Reach], str | None]

LEFT: tuple[Rule, ...] = (
    _votes, _membership_time, _maintenance, _memory, _data, _flags, _stoppable, _room, _mons, _sight, _way,
)  # fmt: skip
"""Those that ask what is left: by this fault and all that are in force already, together."""

NOW: tuple[Rule, ...] = (
    _two_halves, _override, _config, _brief, _armed, _never_touch, _bystanders, _hung, _paused, _busy, _given_up,
    _clocks, _controller, _privileges, _watchdog, _space, _copy_memory, _restorable,
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
    guests = ", ".join(guest.sid for guest in hit(state.guests, reach)) or "no guest"
    told = f"quorum is taken from all nodes: {_list(reach.nodes)} may be reset, and with them {guests}"
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
        what = f"restore to {reach.restoring.copy}" if reach.restoring else f"break {_target(reach)}"
        raise PreflightRefused(f"the interlock refuses to {what}: {'; '.join(found)}")
    return state
