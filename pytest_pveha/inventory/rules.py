"""What the blocks must say about each other; each rule yields what it finds wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from pytest_pveha.inventory.document import Finding, Where, shown
from pytest_pveha.inventory.findings import meant
from pytest_pveha.inventory.hardware import Bmc, Node
from pytest_pveha.inventory.model import Inventory
from pytest_pveha.inventory.simulated import Simulator

Rule = Callable[[Inventory], Iterator[Finding]]


def broken_rules(inventory: Inventory) -> Iterator[Finding]:
    """Everything that is wrong between the blocks."""
    for rule in RULES:
        yield from rule(inventory)


def _twice(entries: Iterator[tuple[Where, str, str]]) -> Iterator[Finding]:
    """A finding for each entry (where, value to compare, how to say it) whose value came before."""
    first: dict[str, str] = {}
    for where, value, words in entries:
        if value in first:
            yield Finding(where, f"{words}, first by {first[value]}; expected each only once")
        else:
            first[value] = ".".join(str(key) for key in where[:2]) if where[0] == "nodes" else _entry(where)


def _entry(where: Where) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in where).removeprefix(".")


def unique_names(inventory: Inventory) -> Iterator[Finding]:
    """Nodes and guests, their ids, names and addresses, exist once."""
    yield from _twice(
        (("nodes", name), name.lower(), "is the same name but for upper and lower case") for name in inventory.nodes
    )
    yield from _twice(
        (("nodes", name, "address"), f"{node.address} {node.ssh.port}", f"{node.address} is used twice")
        for name, node in inventory.nodes.items()
        if node.address
    )
    yield from _twice(
        (
            ("nodes", name, "bmc", "address"),
            f"{bmc.address.lower().rstrip('.')} {bmc.effective_port} {bmc.system or ''}",
            f"BMC address {bmc.address} is used twice",
        )
        for name, bmc in _bmcs(inventory)
        if bmc.address
    )
    for key in ("mac", "guid"):
        yield from _twice(
            (
                ("nodes", name, "bmc", "identity", key),
                str(value).lower().replace("-", ":"),
                f"BMC {key} {value} is used twice",
            )
            for name, bmc in _bmcs(inventory)
            if bmc.identity and (value := getattr(bmc.identity, key))
        )
    yield from _twice(
        (("guests", index, "id"), guest.id.split(":")[1], f"guest number {guest.id.split(':')[1]} is used twice")
        for index, guest in enumerate(inventory.guests)
    )
    yield from _twice(
        (("guests", index, "name"), guest.name, f'name "{shown(guest.name)}" is used twice')
        for index, guest in enumerate(inventory.guests)
        if guest.name
    )
    if inventory.cluster.api:
        yield from _twice(
            (("cluster", "api", "endpoints", index), endpoint, f"endpoint {endpoint} is listed twice")
            for index, endpoint in enumerate(inventory.cluster.api.endpoints)
        )


def _bmcs(inventory: Inventory) -> Iterator[tuple[str, Bmc]]:
    return ((name, node.bmc) for name, node in inventory.nodes.items() if node.bmc)


def known_names(inventory: Inventory) -> Iterator[Finding]:
    """Every node, guest and tier that is named exists."""
    nodes, guests = list(inventory.nodes), [guest.id for guest in inventory.guests]
    tiers = list(inventory.objectives.tiers)
    for index, guest in enumerate(inventory.guests):
        yield from _known(("guests", index, "tier"), guest.tier, tiers, "tier", "objectives.tiers")
        yield from _known(("guests", index, "preferred_node"), guest.preferred_node, nodes, "node", "nodes")
    for scenario, overrides in inventory.objectives.scenarios.items():
        for tier in overrides:
            where = ("objectives", "scenarios", scenario, tier)
            yield from _known(where, tier, tiers, "tier", "objectives.tiers")
    if inventory.backup:
        for index, tier in enumerate(inventory.backup.tiers):
            yield from _known(("backup", "tiers", index), tier, tiers, "tier", "objectives.tiers")
        if inventory.backup.restore:
            yield from _known(("backup", "restore", "node"), inventory.backup.restore.node, nodes, "node", "nodes")
    if inventory.replication:
        for index, guest_id in enumerate(inventory.replication.guests):
            yield from _known(("replication", "guests", index), guest_id, guests, "guest", "guests")
    if inventory.feeds:
        for name, node in inventory.nodes.items():
            for feed in node.feed:
                yield from _known(("nodes", name, "feed"), feed, list(inventory.feeds), "feed", "feeds")
    for name in inventory.switches:
        yield from _known(("switches", name), name, named_switches(inventory), "switch", "networks or quorum_device")
    if inventory.simulator:
        for index, played in enumerate(inventory.simulator.guests):
            yield from _known(("simulator", "guests", index, "node"), played.node, nodes, "node", "nodes")
        yield from _simulated_storages(inventory.simulator, nodes, guests)
        for index, special in enumerate(inventory.simulator.nodes):
            yield from _known(("simulator", "nodes", index, "name"), special.name, nodes, "node", "nodes")
        yield from _known(("simulator", "way_through"), inventory.simulator.way_through, nodes, "node", "nodes")
        for index, bmc in enumerate(inventory.simulator.bmcs):
            yield from _known(("simulator", "bmcs", index, "node"), bmc.node, nodes, "node", "nodes")
        yield from _rooms_of_paths(inventory, inventory.simulator)
        yield from _simulated_affinities(inventory.simulator, nodes, guests)


def named_switches(inventory: Inventory) -> list[str]:
    """Every switch that something goes over, in the inventory's order."""
    over = [switch for network in inventory.networks.values() for switch in network.switch]
    device = inventory.quorum_device
    return list(dict.fromkeys([*over, *([device.switch] if device and device.switch else [])]))


def _rooms_of_paths(inventory: Inventory, simulator: Simulator) -> Iterator[Finding]:
    """Simulated paths are between rooms that something stands in."""
    rooms = [node.room for node in inventory.nodes.values() if node.room]
    if inventory.quorum_device and inventory.quorum_device.room:
        rooms.append(inventory.quorum_device.room)
    for index, path in enumerate(simulator.paths):
        for room in path.rooms:
            where = ("simulator", "paths", index, "rooms")
            yield from _known(where, room, list(dict.fromkeys(rooms)), "room", "nodes or quorum_device")


def _simulated_storages(simulator: Simulator, nodes: list[str], guests: list[str]) -> Iterator[Finding]:
    """Guests lie on storages that are there, and are replicated from one of type zfs to a node."""
    every = list(dict.fromkeys([*guests, *(played.id for played in simulator.guests)]))
    storages = {"local": "dir", "local-lvm": "lvm", **{name: one.type for name, one in simulator.storages.items()}}
    lies_on = {played.id: played.storage for played in simulator.guests}
    for index, played in enumerate(simulator.guests):
        where = ("simulator", "guests", index, "storage")
        yield from _known(where, played.storage, list(storages), "storage", "simulator.storages")
    for index, job in enumerate(simulator.replication):
        here: Where = ("simulator", "replication", index)
        yield from _known((*here, "guest"), job.guest, every, "guest", "guests")
        yield from _known((*here, "target"), job.target, nodes, "node", "nodes")
        if job.guest in every and storages.get(lies_on.get(job.guest) or "") != "zfs":
            yield Finding(
                (*here, "guest"), f"{job.guest} lies on no storage of type zfs; expected one that can be replicated"
            )


def _simulated_affinities(simulator: Simulator, nodes: list[str], guests: list[str]) -> Iterator[Finding]:
    """Rules and groups of a simulated site name nodes, HA guests and groups that are there."""
    outside = {played.id for played in simulator.guests if not played.ha}
    every = dict.fromkeys([*guests, *(played.id for played in simulator.guests)])
    under_ha = [guest for guest in every if guest not in outside]
    for index, played in enumerate(simulator.guests):
        where = ("simulator", "guests", index, "group")
        yield from _known(where, played.group, list(simulator.groups), "group", "simulator.groups")
    for name, rule in simulator.rules.items():
        for index, guest in enumerate(rule.guests):
            yield from _known(("simulator", "rules", name, "guests", index), guest, under_ha, "guest", "HA guests")
        for node in rule.nodes:
            yield from _known(("simulator", "rules", name, "nodes", node), node, nodes, "node", "nodes")
        if (rule.affinity == "node") != bool(rule.nodes):
            text = "names nodes" if rule.nodes else "names no nodes"
            yield Finding(("simulator", "rules", name), f"{text}; expected nodes for affinity node, and for it alone")
    for name, group in simulator.groups.items():
        for node in group.nodes:
            yield from _known(("simulator", "groups", name, "nodes", node), node, nodes, "node", "nodes")


def _known(where: Where, name: str | None, known: list[str], kind: str, block: str) -> Iterator[Finding]:
    if name is not None and name not in known:
        hint = meant(name, known)
        listed = ", ".join(known[:8]) + (", …" if len(known) > 8 else "") if known else "none yet"
        yield Finding(where, f"{kind} {shown(name)} is not in {block};{hint} expected one of: {listed}")


def one_of_each(inventory: Inventory) -> Iterator[Finding]:
    """Alternatives are not mixed, and choices are made."""
    for index, guest in enumerate(inventory.guests):
        for number, probe in enumerate(guest.probes):
            given = [name for name in type(probe).model_fields if getattr(probe, name) is not None]
            if len(given) != 1:
                saw = f"has {' and '.join(given)}" if given else "is empty"
                yield Finding(
                    ("guests", index, "probes", number), f"{saw}; expected exactly one of tcp, http, icmp, agent"
                )
    for name, network in inventory.networks.items():
        if (network.cidr is None) == (network.interface is None):
            saw = "has neither cidr nor interface" if network.cidr is None else "has both cidr and interface"
            yield Finding(("networks", name), f"{saw}; expected one of them")
    for name, node in inventory.nodes.items():
        if node.ssh.known_hosts and node.ssh.host_key:
            yield Finding(("nodes", name, "ssh"), "has both known_hosts and host_key; expected one of them")
    for name, bmc in _bmcs(inventory):
        foreign = ("ca_file", "fingerprint", "system") if bmc.driver == "ipmi" else ("cipher",)
        other = "redfish" if bmc.driver == "ipmi" else "ipmi"
        for key in foreign:
            if getattr(bmc, key) is not None:
                yield Finding(
                    ("nodes", name, "bmc", key), f"is for driver {other}, and the driver is {bmc.driver}; remove it"
                )
        if bmc.driver == "redfish" and bmc.ca_file and bmc.fingerprint:
            yield Finding(("nodes", name, "bmc"), "has both ca_file and fingerprint; expected one of them")
    if inventory.evidence.signing_key and not inventory.evidence.signer:
        yield Finding(
            ("evidence",), "has a signing_key and no signer; expected signer: who signs, usually an e-mail address"
        )


def backup_server_is_known(inventory: Inventory) -> Iterator[Finding]:
    """Its certificate is known, by one means."""
    pbs = inventory.backup.pbs if inventory.backup is not None else None
    if pbs is not None and (pbs.ca_file is None) == (pbs.fingerprint is None):
        has = "has neither ca_file nor fingerprint" if pbs.ca_file is None else "has both ca_file and fingerprint"
        yield Finding(("backup", "pbs"), f"{has}; expected one of them")


def without_proxmox(inventory: Inventory) -> Iterator[Finding]:
    """A site without Proxmox has nothing that only Proxmox has."""
    if inventory.cluster.proxmox:
        return
    named = {
        ("cluster", "api"): inventory.cluster.api,
        ("simulator",): inventory.simulator,
        ("ceph",): inventory.ceph,
        ("backup",): inventory.backup,
        ("storages",): inventory.storages or None,
        ("replication",): inventory.replication,
    }
    for where, block in named.items():
        if block is not None:
            yield Finding(where, "stands beside cluster.proxmox: false; expected one of the two")


def api_is_usable(inventory: Inventory) -> Iterator[Finding]:
    """The certificate check covers each endpoint, by one means."""
    api = inventory.cluster.api
    if api is None:
        return
    where: Where = ("cluster", "api")
    if api.ca_file and api.fingerprints:
        yield Finding(where, "has both ca_file and fingerprints; expected one of them")
    for endpoint in api.fingerprints:
        if endpoint not in api.endpoints:
            yield Finding((*where, "fingerprints"), f"{endpoint} is not in cluster.api.endpoints; expected only those")
    for index, endpoint in enumerate(api.endpoints):
        if api.fingerprints and endpoint not in api.fingerprints:
            yield Finding(
                (*where, "endpoints", index), f"{endpoint} has no entry in cluster.api.fingerprints; expected one"
            )


def jumps_come_from_outside(inventory: Inventory) -> Iterator[Finding]:
    """No jump host is a node of the cluster: its loss would take our way in with it."""
    own = {name.lower(): name for name in inventory.nodes}
    own |= {node.address: name for name, node in inventory.nodes.items() if node.address}
    for name, node in inventory.nodes.items():
        if node.ssh.jump is None:
            continue
        host = node.ssh.jump.rpartition("@")[2].rpartition(":")[0].strip("[]")
        if host in own:
            which = "this node itself" if own[host] == name else f"node {own[host]} of this cluster"
            yield Finding(("nodes", name, "ssh", "jump"), f"is {which}; expected a host outside the cluster")


def consent_holds_together(inventory: Inventory) -> Iterator[Finding]:
    """Consent is for this cluster, its window has an order, and the names in it exist."""
    consent = inventory.consent
    if consent is None:
        return
    if consent.cluster != inventory.cluster.name:
        yield Finding(
            ("consent", "cluster"),
            f"is for cluster {consent.cluster}, and this file is about cluster {inventory.cluster.name}; "
            "expected the same name in both",
        )
    if consent.not_before >= consent.not_after:
        yield Finding(
            ("consent", "not_after"),
            f"{consent.not_after.isoformat()} is not after not_before, {consent.not_before.isoformat()}; "
            "expected a window that begins before it ends",
        )
    if consent.approval is not None and consent.approval.file.suffix != ".approval":
        yield Finding(
            ("consent", "approval", "file"),
            f"{shown(consent.approval.file.name)} does not end in .approval; "
            "expected the file that pveha approve wrote beside the plan",
        )
    nodes, guests = list(inventory.nodes), [guest.id for guest in inventory.guests]
    for index, target in enumerate(consent.targets):
        if target == "all" and len(consent.targets) > 1:
            yield Finding(("consent", "targets", index), "all stands beside names; expected all alone, or names")
        elif target != "all":
            known = [*nodes, *guests, *inventory.storages]
            yield from _known(("consent", "targets", index), target, known, "target", "nodes, guests or storages")
    for index, name in enumerate(consent.never_touch.nodes):
        yield from _known(("consent", "never_touch", "nodes", index), name, nodes, "node", "nodes")


def real_site_is_complete(inventory: Inventory) -> Iterator[Finding]:
    """A real site says itself what the simulator would supply."""
    if inventory.simulator is not None:
        return
    tail = "; it is needed on a real site (without a simulator block)"
    api = inventory.cluster.api
    if api is None and not inventory.cluster.proxmox:
        pass
    elif api is None:
        yield Finding(("cluster", "api"), f"is missing; expected endpoints, token_id, token_secret and ca_file{tail}")
    else:
        where: Where = ("cluster", "api")
        if len(api.endpoints) < 2:
            saw = f"{len(api.endpoints)} endpoint" if len(api.endpoints) == 1 else "no endpoints"
            yield Finding((*where, "endpoints"), f"{saw}; expected two or more, for a test takes one of them away")
        if api.token_id is None:
            yield Finding((*where, "token_id"), f"is missing; expected USER@REALM!NAME{tail}")
        if api.token_secret is None:
            yield Finding((*where, "token_secret"), f"is missing; expected a reference to a secret{tail}")
        if api.ca_file is None and not api.fingerprints:
            yield Finding(where, f"has neither ca_file nor fingerprints; expected one of them{tail}")
    for name, node in inventory.nodes.items():
        yield from _real_node(("nodes", name), node)
    for index, guest in enumerate(inventory.guests):
        if not guest.probes:
            yield Finding(("guests", index, "probes"), f"is missing; expected at least one way to see it answer{tail}")
        for number, probe in enumerate(guest.probes):
            if probe.tcp and probe.tcp.host is None:
                yield Finding(
                    ("guests", index, "probes", number, "tcp", "host"), f"is missing; expected its address{tail}"
                )


def _real_node(where: Where, node: Node) -> Iterator[Finding]:
    tail = "; it is needed on a real site (without a simulator block)"
    if node.address is None:
        yield Finding((*where, "address"), f"is missing; expected an IP address or host name{tail}")
    if node.ssh.known_hosts is None and node.ssh.host_key is None:
        yield Finding((*where, "ssh"), f"has neither known_hosts nor host_key; expected one of them{tail}")
    if node.bmc:
        for key in ("address", "user", "password"):
            if getattr(node.bmc, key) is None:
                yield Finding((*where, "bmc", key), f"is missing{tail}")
        if node.bmc.driver == "redfish" and node.bmc.ca_file is None and node.bmc.fingerprint is None:
            yield Finding((*where, "bmc"), f"has neither ca_file nor fingerprint; expected one of them{tail}")


def numbers_make_sense(inventory: Inventory) -> Iterator[Finding]:
    """Ranges have an order and reach nobody; repeated entries are slips."""
    restore = inventory.backup.restore if inventory.backup else None
    if restore:
        first, last = restore.ids
        if first > last:
            yield Finding(
                ("backup", "restore", "ids"),
                f"{first} is greater than {last}; expected the first number, then the last",
            )
        for guest in inventory.guests:
            if first <= int(guest.id.split(":")[1]) <= last:
                yield Finding(
                    ("backup", "restore", "ids"), f"includes guest {guest.id}; expected numbers that nobody has"
                )
    if inventory.replication:
        yield from _twice(
            (("replication", "steps", index, "name"), step.name, f"step {step.name} is listed twice")
            for index, step in enumerate(inventory.replication.steps)
        )
    if inventory.simulator:
        yield from _twice(
            (
                ("simulator", "guests", index, "id"),
                guest.id.split(":")[1],
                f"guest number {guest.id.split(':')[1]} is used twice",
            )
            for index, guest in enumerate(inventory.simulator.guests)
        )
        kinds = {guest.id.split(":")[1]: guest.id for guest in inventory.guests}
        for index, played in enumerate(inventory.simulator.guests):
            declared = kinds.get(played.id.split(":")[1], played.id)
            if declared != played.id:
                yield Finding(
                    ("simulator", "guests", index, "id"), f"{played.id} is {declared} in guests; expected the same kind"
                )
        yield from _twice(
            (("simulator", "bmcs", index), bmc.node or "", f"{bmc.node or 'every other node'} is listed twice")
            for index, bmc in enumerate(inventory.simulator.bmcs)
        )
        yield from _twice(
            (("simulator", "defects", index), name, f"{name} is listed twice")
            for index, name in enumerate(inventory.simulator.defects)
        )
        yield from _twice(
            (("simulator", "nodes", index, "name"), node.name, f"{node.name} is listed twice")
            for index, node in enumerate(inventory.simulator.nodes)
        )


RULES: Final[tuple[Rule, ...]] = (
    unique_names,
    known_names,
    one_of_each,
    without_proxmox,
    api_is_usable,
    backup_server_is_known,
    jumps_come_from_outside,
    consent_holds_together,
    real_site_is_complete,
    numbers_make_sense,
)
