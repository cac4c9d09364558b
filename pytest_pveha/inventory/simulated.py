"""The block `simulator`, and the description of the site it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from pytest_pveha.inventory.base import Block
from pytest_pveha.inventory.simulated_backup import SimulatedBackup, backup_spec
from pytest_pveha.inventory.simulated_ceph import SimulatedCeph, ceph_spec
from pytest_pveha.inventory.simulated_ha import SimulatedGroup, SimulatedRule, groups_spec, rules_spec
from pytest_pveha.inventory.simulated_storage import (
    SimulatedReplication,
    SimulatedStorage,
    replication_spec,
    storages_spec,
)
from pytest_pveha.inventory.values import (
    Duration,
    GuestId,
    Interface,
    Label,
    Moment,
    NetworkName,
    NodeName,
    Size,
    Slug,
    StorageId,
    Version,
    Word,
    kind,
)

if TYPE_CHECKING:
    from pytest_pveha.inventory.model import Inventory


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 86400:
        what = (
            f"is {kind(value)}" if not isinstance(value, int | float) or isinstance(value, bool) else "is out of range"
        )
        raise ValueError(f"{what}; expected a number of seconds greater than 0, at most 86400")
    return float(value)


Seconds = Annotated[
    float, BeforeValidator(_seconds), WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 86400})
]


class SimulatedGuest(Block):
    """How the simulator plays one guest. Guests listed here alone exist on the site, and no test is about them."""

    id: GuestId
    """vm:NUMBER or ct:NUMBER."""
    name: Label | None = None
    """Its name, if `guests` does not say it."""
    node: NodeName | None = None
    """Node it starts on; none = its preferred node, else in turn."""
    ha: bool = True
    """false = not under HA."""
    onboot: bool = True
    """false = its node's boot does not start it (without HA)."""
    boot_seconds: Seconds | None = None
    """From the start of its process until the application answers."""
    start_seconds: Annotated[float, Field(ge=0, le=600)] = 0.0
    """From the request to start it until its process runs: reserving its memory, opening its disks."""
    memory: Size | None = None
    """Its memory."""
    state: Literal["started", "stopped", "disabled", "ignored"] = "started"
    """What the HA manager is asked for."""
    max_restart: Annotated[int, Field(ge=0, le=1000)] | None = None
    """How often a failed start is tried again on its node; 1 unless said."""
    max_relocate: Annotated[int, Field(ge=0, le=1000)] | None = None
    """On how many other nodes it is tried then; 1 unless said."""
    failback: bool | None = None
    """false = it does not move to a better node by itself (since PVE 9)."""
    group: Slug | None = None
    """Its HA group, on PVE 8."""
    acpi: bool = True
    """false = it ignores a request to shut down, and is stopped when the timeout is over."""
    agent: bool = True
    """false = no guest agent runs in it."""
    storage: StorageId | None = None
    """Storage its disk lies on; none = the shared one. On local or zfs it lies on the node it starts on."""
    start_failures: Annotated[int, Field(ge=0, le=1000)] = 0
    """So many of its first starts fail."""


class SimulatedNode(Block):
    """What the simulator plays differently on one node."""

    name: NodeName
    """One of `nodes`."""
    missing_tools: tuple[Label, ...] = ()
    """Commands that are not installed on it, besides those that no node has."""
    watchdog: Literal["softdog", "iTCO_wdt"] | None = None
    """Its watchdog's driver, unless its BMC owns the watchdog; none = as the others'."""
    kernel_panic: Annotated[int, Field(ge=0, le=3600)] | None = None
    """Its kernel.panic; none = as the others'."""
    clock: Annotated[float, Field(ge=-3600, le=3600)] = 0.0
    """Seconds by which its clock is ahead."""


class SimulatedPath(Block):
    """What packets meet between two rooms, in both directions unless said."""

    rooms: tuple[Label, Label]
    """Two rooms, as `nodes` and `quorum_device` name them."""
    one_way: bool = False
    """true = from the first to the second alone."""
    delay: Duration = 0.0
    """How long a packet takes, one way."""
    jitter: Duration = 0.0
    """Standard deviation of what comes on top."""
    loss: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Packets in a hundred that are lost, one way."""


class SimulatedBond(Block):
    """A bond that every node has."""

    members: Annotated[tuple[Interface, ...], Field(min_length=2, max_length=8)]
    """Its cards."""
    mode: Literal["802.3ad", "active-backup"] = "802.3ad"
    """How they work together."""
    lacp_rate: Literal["slow", "fast"] = "fast"
    """How often the switch is asked to speak, with 802.3ad."""
    carries: tuple[NetworkName, ...] = ()
    """What goes over it, as `networks` calls it; guest and corosyncN are cut with it."""


class SimulatedBmc(Block):
    """How the simulator plays the BMC of one node, or of all nodes that have no entry of their own."""

    node: NodeName | None = None
    """Node whose BMC it is; none = every other node's."""
    vendor: Literal["generic", "idrac", "ilo", "supermicro"] = "generic"
    """Redfish: whose ways it has: names, allowed commands, spelling, content types, log."""
    power_seconds: Annotated[float, Field(ge=3, le=10)] = 3.0
    """The longest from a power command to its effect; the command is answered before."""
    answer_seconds: Annotated[float, Field(ge=0, le=60)] = 0.0
    """From a request until its answer."""
    privilege: Literal["USER", "OPERATOR", "ADMINISTRATOR"] = "ADMINISTRATOR"
    """The highest privilege of its user."""
    sessions: Annotated[int, Field(ge=1, le=64)] = 4
    """Sessions that it keeps at one time."""
    cipher_zero: bool = False
    """IPMI: true = cipher suite 0 lets anybody in without a password."""
    state: Literal["answering", "hung", "unreachable"] = "answering"
    """hung = takes what is sent to it and never answers."""
    identity: Literal["own", "wrong", "blank"] = "own"
    """Whose MAC address and UUID it shows."""
    owns_watchdog: bool = False
    """true = the watchdog that resets the node is the BMC's own, and its resets stand in the BMC's log."""
    boot_options: bool = True
    """false = it knows no boot options, so that it cannot be told what the next boot will do."""


class SimulatedOperator(Block):
    """The person at the rack whom the simulator plays: answers by `pveha answer`, as everybody."""

    reaction_seconds: Seconds = 60.0
    """From what they are asked to what they do."""
    answer_seconds: Seconds = 20.0
    """From there to what they answer."""


class Simulator(Block):
    """Present = the site is simulated by us, behind real protocols on this machine. Nothing real is touched."""

    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 1
    """Same seed, same history."""
    speed: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Times real time, for `pveha sim` only; runs use virtual time."""
    version: Version = "9.1.9"
    """Proxmox VE version to play, in quotes."""
    starts_at: Moment | None = None
    """What the nodes' clocks say when the site starts; 2026-01-02T08:00:00Z unless said."""
    token_coefficient: Annotated[int, Field(ge=0, le=5000)] = 125
    """corosync's token_coefficient in ms: 125 on clusters made with pve-cluster 9.1 or later, 650 on older ones."""
    links: Annotated[int, Field(ge=1, le=8)] = 1
    """corosync links between the nodes, numbered from 0."""
    two_node: bool = False
    """true = corosync's two_node mode: of two nodes each is quorate alone."""
    quorum_device: Literal["ffsplit", "lms"] | None = None
    """Algorithm of a quorum device that is there though no block `quorum_device` describes it."""
    paths: tuple[SimulatedPath, ...] = ()
    """The ways between rooms; those not named take 0.08 ms, as a switch does."""
    way_through: NodeName | None = None
    """Node by which the run reaches the others: a jump host or a port forwarder."""
    ceph: SimulatedCeph = SimulatedCeph()
    """How Ceph is set, where there is a block `ceph`."""
    backup: SimulatedBackup = SimulatedBackup()
    """How the backup server is set, where there is a block `backup`."""
    missing_tools: tuple[Label, ...] = ()
    """Commands that are not installed on any node, such as nft or ipmitool."""
    boot_seconds: Seconds = 210.0
    """From power on until a node's userland is up."""
    guest_boot_seconds: Seconds = 20.0
    """From the start of a guest's process until its application answers."""
    watchdog: Literal["softdog", "iTCO_wdt"] = "softdog"
    """The driver of the nodes' watchdogs: the kernel's own timer, or the board's hardware."""
    kernel_panic: Annotated[int, Field(ge=0, le=3600)] = 0
    """sysctl kernel.panic of the nodes: seconds from a panic to a restart; 0 = never, as Debian has it."""
    node_memory: Size = 64 * 2**30
    """Memory of each node."""
    guest_memory: Size = 4 * 2**30
    """Memory of each guest."""
    shutdown_policy: Literal["conditional", "freeze", "failover", "migrate"] = "conditional"
    """What becomes of a node's HA guests when it reboots or powers off in good order."""
    crs: Literal["basic", "static"] = "basic"
    """How nodes are chosen: by the number of guests, or by their memory and processors."""
    rules: dict[Slug, SimulatedRule] = Field(default_factory=dict)
    """Rules of the HA manager, by name (PVE 9)."""
    groups: dict[Slug, SimulatedGroup] = Field(default_factory=dict)
    """HA groups, by name (PVE 8)."""
    storages: dict[StorageId, SimulatedStorage] = Field(default_factory=dict)
    """Storages besides `local` (dir) and `local-lvm`; without a shared one there is `shared`, or `ceph-vm`, too."""
    replication: tuple[SimulatedReplication, ...] = ()
    """Replication jobs of guests on a storage of kind zfs."""
    bonds: dict[Interface, SimulatedBond] = Field(default_factory=dict)
    """Bonds of network cards, by name."""
    migration_bandwidth: Size = 1000 * 2**20
    """What the migration network carries in a second."""
    pdus: bool = False
    """true = every node hangs on a PDU that the run can switch; its commands are supplied."""
    operator: SimulatedOperator | None = None
    """Present = somebody stands at the rack and pulls cords when the run asks; how they are called is supplied."""
    token_lacks: tuple[Word, ...] = ()
    """Privileges the API token has not, such as Sys.PowerMgmt: what needs them is refused with 403."""
    defects: tuple[Slug, ...] = ()
    """Planted defects, by name; `pveha sim defects` lists them."""
    nodes: tuple[SimulatedNode, ...] = ()
    """Nodes that differ from the others."""
    guests: tuple[SimulatedGuest, ...] = ()
    """Guests that need more than the above."""
    bmcs: tuple[SimulatedBmc, ...] = ()
    """BMCs that need more than to obey within three seconds."""


DEFAULT_EPOCH = 1_767_340_800
"""2026-01-02T08:00:00Z."""


def simulator_spec(inventory: Inventory) -> dict[str, Any]:
    """The JSON description of the site that the simulator is started with.

    Nodes are numbered in the order of the file. A guest stands where the simulator block says, else on its preferred
    node, else on the nodes in turn.

    Raises:
        ValueError: the inventory has no simulator block.
    """
    simulator = inventory.simulator
    if simulator is None:
        raise ValueError("this inventory describes a real site")
    names = tuple(inventory.nodes)
    differing = {node.name: node for node in simulator.nodes}
    played = {guest.id: guest for guest in simulator.guests}
    declared = {guest.id: guest for guest in inventory.guests}
    guests = []
    for index, guest_id in enumerate([*declared, *(id_ for id_ in played if id_ not in declared)]):
        play = played.get(guest_id) or SimulatedGuest(id=guest_id)
        guest = declared.get(guest_id)
        kind_, number = guest_id.split(":")
        preferred = guest.preferred_node if guest else None
        guests.append(
            {
                "vmid": int(number),
                "kind": kind_,
                "name": (guest and guest.name) or play.name or f"{kind_}{number}",
                "node": play.node or preferred or names[index % len(names)],
                "ha": play.ha,
                "onboot": play.onboot,
                "boot_seconds": play.boot_seconds or simulator.guest_boot_seconds,
                "memory_bytes": play.memory or simulator.guest_memory,
                **_ha_of(play),
                "probes": max(1, sum(probe.kind in ("tcp", "http") for probe in guest.probes)) if guest else 1,
            }
        )
    return {
        "name": inventory.site.name,
        "cluster": inventory.cluster.name,
        "version": simulator.version,
        "seed": simulator.seed,
        "epoch_utc": round(simulator.starts_at.timestamp()) if simulator.starts_at else DEFAULT_EPOCH,
        "token_coefficient": simulator.token_coefficient,
        "links": simulator.links,
        "two_node": simulator.two_node,
        "way_through": simulator.way_through or "",
        "qdevice": inventory.quorum_device.algorithm if inventory.quorum_device else simulator.quorum_device or "",
        **_qdevice(inventory),
        "paths": [way for path in simulator.paths for way in _ways(path)],
        "switches": [[name, list(network.switch)] for name, network in inventory.networks.items()],
        "bonds": [{"name": name, **bond.model_dump()} for name, bond in simulator.bonds.items()],
        "shutdown_policy": simulator.shutdown_policy,
        "crs": simulator.crs,
        "rules": rules_spec(simulator.rules),
        "groups": groups_spec(simulator.groups),
        "storages": storages_spec(simulator.storages),
        "replication": replication_spec(simulator.replication),
        "migration_mib": simulator.migration_bandwidth / 2**20,
        "token_lacks": list(simulator.token_lacks),
        "defects": list(simulator.defects),
        "ceph": ceph_spec(simulator.ceph, inventory.ceph) if inventory.ceph is not None else None,
        "backup": backup_spec(inventory, simulator.backup),
        "operator": simulator.operator.model_dump() if simulator.operator else None,
        "nodes": [
            {
                "name": name,
                "nodeid": number,
                "room": node.room or "",
                "feeds": list(node.feed),
                "boot_seconds": simulator.boot_seconds,
                "memory_bytes": simulator.node_memory,
                **_node(simulator, differing.get(name) or SimulatedNode(name=name)),
                "bmc": {"driver": node.bmc.driver if node.bmc else "ipmi", **_bmc(simulator, name)},
            }
            for number, (name, node) in enumerate(inventory.nodes.items(), 1)
        ],
        "guests": guests,
    }


def _qdevice(inventory: Inventory) -> dict[str, Any]:
    """Where the quorum device's machine is, if there is one."""
    device = inventory.quorum_device
    if device is None:
        return {}
    return {"qdevice_host": device.host, "qdevice_room": device.room or "", "qdevice_switch": device.switch or ""}


def _ways(path: SimulatedPath) -> list[dict[str, Any]]:
    """That path in each of its directions."""
    meets = {"delay_ms": path.delay * 1000, "jitter_ms": path.jitter * 1000, "loss_percent": path.loss}
    one, other = path.rooms
    directions = [(one, other)] if path.one_way else [(one, other), (other, one)]
    return [{"source": source, "target": target, **meets} for source, target in directions]


def _node(simulator: Simulator, play: SimulatedNode) -> dict[str, Any]:
    return {
        "missing_tools": sorted({*simulator.missing_tools, *play.missing_tools}),
        "watchdog": play.watchdog or simulator.watchdog,
        "kernel_panic": simulator.kernel_panic if play.kernel_panic is None else play.kernel_panic,
        "clock": play.clock,
    }


def _bmc(simulator: Simulator, node: str) -> dict[str, Any]:
    """How that node's BMC behaves: its own entry, else the one for all."""
    entries = {entry.node: entry for entry in simulator.bmcs}
    entry = entries.get(node) or entries.get(None) or SimulatedBmc()
    return entry.model_dump(exclude={"node"})


def _ha_of(play: SimulatedGuest) -> dict[str, Any]:
    return {
        "state": play.state,
        "start_seconds": play.start_seconds,
        "max_restart": play.max_restart,
        "max_relocate": play.max_relocate,
        "failback": play.failback,
        "group": play.group or "",
        "acpi": play.acpi,
        "agent": play.agent,
        "storage": play.storage or "",
        "start_failures": play.start_failures,
    }
