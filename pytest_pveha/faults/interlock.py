"""The last look before a fault: what the site would have left, with the arithmetic in the message.

The gate asks once whether the site is healthy. The interlock asks before each fault whether this site, as it is now,
survives this loss: votes, memory, data, and nothing else under way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults.fault import Reach
from pytest_pveha.handles.cluster import RunningTask, Totem
from pytest_pveha.observe.observer import READ, Observer

MEMBERSHIP_LIMIT = 50.0
"""Seconds within which a new membership must stand: watchdogs bite at 60 (pve-ha-manager watchdog-mux.c), and
losing one node has reset a whole cluster whose token took longer (corosync issue 705)."""

MEMBERSHIP_ROUNDS = 2.2
"""Token + consensus (1.2 × token), corosync.conf(5)."""

MEMBERSHIP_EXTRA = 10.0
QDEVICE_WAIT = 30.0
"""Seconds that votequorum waits for a qdevice that does not answer (corosync-qdevice, sync_timeout)."""

MEMORY_SHARE = 0.9
"""Share of the survivors' memory that may be in use afterwards: the rest is the hypervisor's own."""

BUSY = frozenset(
    {
        "vzdump", "qmigrate", "vzmigrate", "qmrestore", "vzrestore", "imgcopy", "move_volume", "resize",
        "cephdestroyosd", "cephcreateosd", "qmclone", "vzclone", "qmsnapshot", "qmrollback", "qmdelsnapshot",
    }
)  # fmt: skip
"""Types of task that a fault would harm, or that would harm the measurement."""


@dataclass(frozen=True, slots=True)
class State:
    """The site as it is now, as far as the interlock needs it. None: not known."""

    votes: Mapping[str, int]
    expected_votes: int
    online: frozenset[str]
    quorate: bool
    armed: bool | None
    totem: Totem
    qdevice_configured: bool = False
    qdevice_connected: bool | None = None
    free_memory: Mapping[str, int] = field(default_factory=dict)
    """Bytes each node could still give to guests."""
    guest_memory: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """node → running guest → bytes it was promised."""
    ha_guests: frozenset[str] = frozenset()
    permitted: frozenset[str] | None = frozenset()
    """Guests that may go down; None: all."""
    tasks: tuple[RunningTask, ...] = ()
    ceph_clean: bool | None = None
    """None where the site has no Ceph in scope."""
    controller_guest: str | None = None
    """The guest of this very cluster in which we run."""


def objections(state: State, reach: Reach) -> list[str]:
    """Why this fault may not be injected into this site now; none means it may."""
    rules: tuple[Callable[[State, Reach], str | None], ...] = (
        _votes, _membership_time, _armed, _memory, _bystanders, _busy, _data, _controller,
    )  # fmt: skip
    return [text for rule in rules if (text := rule(state, reach)) is not None]


def _votes(state: State, reach: Reach) -> str | None:
    if reach.about_quorum:
        return None
    quorum = state.expected_votes // 2 + 1
    present = sum(votes for node, votes in state.votes.items() if node in state.online)
    if state.qdevice_connected:
        present += state.expected_votes - sum(state.votes.values())
    lost = sum(votes for node, votes in state.votes.items() if node in reach.nodes and node in state.online)
    if not state.quorate:
        return f"the cluster is not quorate now ({present} of {state.expected_votes} votes)"
    if present - lost < quorum:
        return (
            f"votes: {present} present − {lost} of {_list(reach.nodes)} = {present - lost}, "
            f"and {quorum} of {state.expected_votes} are needed: the rest would lose quorum and reset itself"
        )
    return None


def _membership_time(state: State, reach: Reach) -> str | None:
    if not reach.costs_membership:
        return None
    token = state.totem.token
    waits = QDEVICE_WAIT if state.qdevice_configured and not state.qdevice_connected else 0.0
    needed = MEMBERSHIP_ROUNDS * token + MEMBERSHIP_EXTRA + waits
    if needed < MEMBERSHIP_LIMIT:
        return None
    qdevice = f" + {waits:g} s (a qdevice is configured and not connected)" if waits else ""
    return (
        f"membership: {MEMBERSHIP_ROUNDS:g} × token {token:g} s + {MEMBERSHIP_EXTRA:g} s{qdevice} = {needed:.1f} s, "
        f"not below {MEMBERSHIP_LIMIT:g} s: one node's loss could let every watchdog expire; "
        f"lower totem.token_coefficient"
    )


def _armed(state: State, reach: Reach) -> str | None:
    if state.armed is False:
        return "HA is disarmed: nothing would be fenced or recovered; type `ha-manager crm-command arm-ha`"
    return None


def _memory(state: State, reach: Reach) -> str | None:
    moving = sum(
        size for node in reach.nodes for sid, size in state.guest_memory.get(node, {}).items() if sid in state.ha_guests
    )
    survivors = [node for node in state.online if node not in reach.nodes]
    room = sum(state.free_memory.get(node, 0) for node in survivors)
    if moving <= room:
        return None
    return (
        f"memory: the HA guests of {_list(reach.nodes)} need {_gib(moving)}, and {_list(survivors)} have "
        f"{_gib(room)} to give ({MEMORY_SHARE:.0%} of their memory less what is used)"
    )


def _bystanders(state: State, reach: Reach) -> str | None:
    if state.permitted is None:
        return None
    hit = sorted(sid for node in reach.nodes for sid in state.guest_memory.get(node, {}) if sid not in state.permitted)
    if not hit:
        return None
    return (
        f"guests: {', '.join(hit)} on {_list(reach.nodes)} would go down, and neither `guests:` names "
        f"{'them' if len(hit) > 1 else 'it'} nor does `consent.bystanders`; move, name or permit them"
    )


def _busy(state: State, reach: Reach) -> str | None:
    busy = [f"{task.type} {task.id} on {task.node}".replace("  ", " ") for task in state.tasks if task.type in BUSY]
    return f"under way: {', '.join(sorted(busy))}; wait until that has ended" if busy else None


def _data(state: State, reach: Reach) -> str | None:
    if state.ceph_clean is False:
        return "Ceph: not all placement groups are active+clean; wait until they are"
    return None


def _controller(state: State, reach: Reach) -> str | None:
    if state.controller_guest is None:
        return None
    return f"this machine is {state.controller_guest}, a guest of the cluster under test; run from outside it"


def _list(names: frozenset[str] | list[str]) -> str:
    return ", ".join(sorted(names)) or "nobody"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def look(observer: Observer, permitted: frozenset[str] | None, *, ceph: bool, qdevice: bool) -> State:
    """The site as it is now. SiteError when it cannot be seen whole: then nothing may be broken."""
    site, deadline = observer.site, observer.site.clock.deadline
    membership = site.cluster.membership(deadline(READ))
    guests = site.cluster.guests(deadline(READ))
    resources = site.cluster.resources(deadline(READ))
    memory = site.cluster.memory(deadline(READ))
    votes = site.cluster.votes(deadline(READ))
    running: dict[str, dict[str, int]] = {}
    for sid, guest in guests.items():
        if guest.status == "running":
            running.setdefault(guest.node, {})[sid] = guest.memory
    return State(
        votes=votes,
        expected_votes=sum(votes.values()) + (1 if qdevice else 0),
        online=frozenset(name for name, online in membership.online.items() if online),
        quorate=membership.quorate,
        armed=site.cluster.armed(deadline(READ)),
        totem=site.cluster.totem(deadline(READ), len(votes)),
        qdevice_configured=qdevice,
        qdevice_connected=site.cluster.qdevice_connected(deadline(READ)) if qdevice else None,
        free_memory={name: max(0, round(total * MEMORY_SHARE) - used) for name, (total, used) in memory.items()},
        guest_memory=running,
        ha_guests=frozenset(resources),
        permitted=permitted,
        tasks=site.cluster.running_tasks(deadline(READ)),
        ceph_clean=site.ceph.status(deadline(READ)).clean if ceph else None,
        controller_guest=_ourselves(site.cluster.guest_macs(deadline(READ), guests)),
    )


def _ourselves(macs: Mapping[str, str], sys: Path = Path("/sys/class/net")) -> str | None:
    """The guest whose network card this machine has."""
    mine = {path.read_text().strip().lower() for path in sys.glob("*/address")}
    return next((sid for mac, sid in sorted(macs.items()) if mac.lower() in mine), None)


def interlock(
    observer: Observer, reach: Reach, permitted: frozenset[str] | None, *, ceph: bool, qdevice: bool
) -> State:
    """Return only if the site survives the fault as it is now.

    Raises:
        PreflightRefused: it would not, or that cannot be told; nothing was touched.
    """
    try:
        state = look(observer, permitted, ceph=ceph, qdevice=qdevice)
    except SiteError as error:
        raise PreflightRefused(
            f"whether the site survives this cannot be told, so nothing was broken: {error}"
        ) from error
    found = objections(state, reach)
    if found:
        raise PreflightRefused(f"the interlock refuses to break {_list(reach.nodes)}: {'; '.join(found)}")
    return state
