"""The site as it is before a fault, as far as anybody objects to one for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pytest_pveha.handles.cluster import GuestRow, RunningTask, Totem
from pytest_pveha.handles.node import ClockOffset, Votes
from pytest_pveha.observe.what_if import Prediction


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
