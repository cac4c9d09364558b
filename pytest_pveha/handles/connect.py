"""From an inventory to the handles of its site. Nothing is contacted yet."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_pveha.clock import Clock
from pytest_pveha.errors import InventoryError, UsageError
from pytest_pveha.handles.agent import inside
from pytest_pveha.handles.backups import Backups
from pytest_pveha.handles.bare import BareCluster, NoApi
from pytest_pveha.handles.bmc import Bmc
from pytest_pveha.handles.ceph import Ceph
from pytest_pveha.handles.cluster import Cluster
from pytest_pveha.handles.copies import Copies
from pytest_pveha.handles.guest import Guest, Guests, Nodes, TcpProbe
from pytest_pveha.handles.hand import Hand
from pytest_pveha.handles.layout import Layout
from pytest_pveha.handles.node import BmcIdentity, Node
from pytest_pveha.handles.pbs import Pbs
from pytest_pveha.handles.pdu import FromNodes, Pdu
from pytest_pveha.handles.replication import Replication
from pytest_pveha.handles.site import Site
from pytest_pveha.handles.storages import Storages
from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.inventory.hardware import Bmc as BmcBlock
from pytest_pveha.inventory.hardware import Node as NodeBlock
from pytest_pveha.inventory.hardware import Operator as OperatorBlock
from pytest_pveha.inventory.hardware import Pdu as PduBlock
from pytest_pveha.wire import redaction
from pytest_pveha.wire.ipmi import IpmiBmc
from pytest_pveha.wire.pbs_api import pbs_api
from pytest_pveha.wire.pve_api import Endpoint, PveApi, Trust
from pytest_pveha.wire.ssh import Ssh, SshTarget

API_PORT = 8006

TELLING = 6
"""Letters from which on a word of a login's file is blanked wherever it shows: shorter ones are of any message."""


def connect(inventory: Inventory, clock: Clock) -> Site:
    """The site's handles, each with its own way to it."""
    proxmox = inventory.model.cluster.proxmox
    endpoints = _endpoints(inventory) if proxmox else []
    api: PveApi = _api(inventory, endpoints, clock) if proxmox else NoApi()
    nodes = Nodes(
        _node(inventory, name, block, clock, next((e for e in endpoints if e.name == name), None))
        for name, block in inventory.model.nodes.items()
    )
    return Site(
        name=inventory.name,
        simulated=inventory.simulated,
        clock=clock,
        cluster=BareCluster(nodes, api) if isinstance(api, NoApi) else Cluster(api),
        ceph=Ceph(api),
        nodes=nodes,
        inside=lambda sid, node: inside(sid, node, api, nodes),
        copies=Copies(api),
        backups=Backups(api, inventory.model.backup) if inventory.model.backup is not None else None,
        pbs=_pbs(inventory, clock),
        storages=Storages(api),
        replication=Replication(api),
        guests=Guests(_guests(inventory)),
        served={name: one.redundant for name, one in inventory.model.storages.items()},
        replica_age=inventory.model.replication.max_age if inventory.model.replication else None,
        replicated=frozenset(inventory.model.replication.guests if inventory.model.replication else ()),
        has_ceph=inventory.model.ceph is not None,
        ceph_networks={
            name.removeprefix("ceph_"): str(block.cidr)
            for name, block in inventory.model.networks.items()
            if name.startswith("ceph_") and block.cidr is not None
        },
        layout=layout_of(inventory),
        switch_hands={
            name: _hand(switch.operator) for name, switch in inventory.model.switches.items() if switch.operator
        },
    )


def layout_of(inventory: Inventory) -> Layout:
    """Where everything stands and what it hangs on, as the inventory tells."""
    model = inventory.model
    rooms: dict[str, tuple[str, ...]] = {}
    for name, node in model.nodes.items():
        if node.room:
            rooms[node.room] = (*rooms.get(node.room, ()), name)
    device, ceph = model.quorum_device, model.ceph
    return Layout(
        rooms=rooms,
        feeds={name: tuple(node.feed) for name, node in model.nodes.items()},
        ups={name: feed.ups for name, feed in model.feeds.items()},
        switches={name: tuple(network.switch) for name, network in model.networks.items()},
        cidrs={name: network.cidr for name, network in model.networks.items() if network.cidr},
        device=device.host if device else "",
        device_room=(device.room or "") if device else "",
        device_switch=(device.switch or "") if device else "",
        ceph_tiebreaker=(ceph.stretch_tiebreaker or "") if ceph else "",
        ceph_room=(ceph.tiebreaker_room or "") if ceph else "",
    )


def _pbs(inventory: Inventory, clock: Clock) -> Pbs | None:
    """The backup server, where the inventory says how it is asked."""
    block = inventory.model.backup.pbs if inventory.model.backup is not None else None
    if block is None:
        return None
    trust = Trust(
        ca_file=inventory.file(block.ca_file) if block.ca_file else None,
        fingerprints=(block.fingerprint,) if block.fingerprint else (),
        shown_by="`proxmox-backup-manager cert info` there",
    )
    secret = block.token_secret
    api = pbs_api(block.server, block.port, block.token_id, lambda: secret.resolve(inventory.base), trust, clock)
    return Pbs(api, block.server, block.datastore, block.namespace or "", block.fingerprint or "")


def _endpoints(inventory: Inventory) -> list[Endpoint]:
    """The API endpoints in their order, each named after the node it is; then the nodes that are none of them."""
    api = inventory.model.cluster.api
    if api is None:
        raise InventoryError(f"{inventory.path}: cluster.api: missing, and the site is not simulated")
    found: list[Endpoint] = []
    for text in api.endpoints:
        host, port = split(text, API_PORT)
        left = {name: node for name, node in inventory.model.nodes.items() if name not in {e.name for e in found}}
        # several nodes at one address, told apart by port (behind a forwarder, or simulated), come in their order
        by_address = next((name for name, node in left.items() if node.address == host), None)
        by_name = next((name for name in left if host == name or host.startswith(f"{name}.")), None)
        found.append(Endpoint(by_address or by_name or text, host, port))
    if api.ca_file is not None:  # with pinned fingerprints only the endpoints named can be trusted
        there = {endpoint.name for endpoint in found}
        addresses = [node.address for node in inventory.model.nodes.values()]
        found += [
            Endpoint(name, node.address, API_PORT)
            for name, node in inventory.model.nodes.items()
            # behind a forwarder nothing says which port is this node's
            if name not in there and node.address and addresses.count(node.address) == 1
        ]
    return found


def _api(inventory: Inventory, endpoints: list[Endpoint], clock: Clock) -> PveApi:
    api = inventory.model.cluster.api
    assert api is not None
    secret, token = api.token_secret, api.token_id
    if secret is None or token is None:
        raise InventoryError(f"{inventory.path}: cluster.api: token_id and token_secret are needed")
    trust = Trust(
        ca_file=inventory.file(api.ca_file) if api.ca_file else None, fingerprints=tuple(api.fingerprints.values())
    )
    return PveApi(endpoints, token, lambda: secret.resolve(inventory.base), trust, clock)


def _node(inventory: Inventory, name: str, block: NodeBlock, clock: Clock, endpoint: Endpoint | None) -> Node:
    ssh = _ssh(inventory, name, block, clock)
    ports = [(endpoint.host, endpoint.port)] if endpoint else []
    if block.address:
        if endpoint is None:
            # only knocked at, once a second: whoever does that at sshd's port is kept off by it (PVE 9, seen)
            ports.append((split(block.address, API_PORT)[0], API_PORT))
        ports.append((split(block.address, 22)[0], block.ssh.port))
    declared = block.bmc.identity if block.bmc else None
    identity = BmcIdentity(declared.mac, declared.guid, declared.confirmed_by) if declared else None
    at = (block.bmc.address, block.bmc.effective_port) if block.bmc and block.bmc.address else None
    bmc = _bmc(inventory, name, block, clock)
    system = (block.bmc.system if block.bmc else None) or ""
    node = Node(name, ssh, bmc, clock, tuple(ports), identity, block.room or "", at, system)
    if (pdu := block.pdu) is not None:
        node.pdu = Pdu(name, pdu.off, pdu.on, pdu.status, pdu.timeout, clock, _from_nodes(inventory, pdu))
    if block.operator is not None:
        node.operator = _hand(block.operator)
    return node


def _hand(block: OperatorBlock) -> Hand:
    return Hand(block.who, block.contact or "", block.answer_within, block.page or ())


def _from_nodes(inventory: Inventory, block: PduBlock) -> FromNodes | None:
    """How another node switches the outlets on, where the inventory says it."""
    way = block.from_nodes
    if way is None:
        return None
    secret = way.secret
    return FromNodes(way.on, way.status, lambda: "" if secret is None else _login(secret.resolve_text(inventory.base)))


def _login(text: str) -> str:
    """The text of a login's file: neither it nor a word of it is ever shown."""
    for word in {text.strip(), *re.split(r"[\s\"'=:,;@]+", text)}:
        if len(word) >= TELLING:
            redaction.hide(word)
    return redaction.Hidden(text)


def _ssh(inventory: Inventory, name: str, block: NodeBlock, clock: Clock) -> Ssh | None:
    if block.address is None:
        return None
    key: Path | None = inventory.file(block.ssh.key_file) if block.ssh.key_file else None
    jump = None
    if block.ssh.jump:
        user, _, rest = block.ssh.jump.rpartition("@")
        host, port = split(rest, 22)
        jump = SshTarget(
            name=f"{name}'s jump host",
            host=host,
            port=port,
            user=user or block.ssh.user,
            key=key,
            known_hosts=inventory.file(block.ssh.known_hosts) if block.ssh.known_hosts else None,
            agent=key is None,
        )
    return Ssh(
        SshTarget(
            name=name,
            host=block.address,
            port=block.ssh.port,
            user=block.ssh.user,
            key=key,
            known_hosts=inventory.file(block.ssh.known_hosts) if block.ssh.known_hosts else None,
            host_keys=(block.ssh.host_key,) if block.ssh.host_key else (),
            agent=key is None,
            jump=jump,
        ),
        clock,
    )


def _bmc(inventory: Inventory, name: str, block: NodeBlock, clock: Clock) -> Bmc | None:
    bmc = block.bmc
    if bmc is None or bmc.address is None or bmc.password is None:
        return None
    if bmc.driver == "redfish":
        return _redfish(inventory, name, bmc, clock)
    password = bmc.password
    return IpmiBmc(
        bmc.address,
        bmc.effective_port,
        bmc.user or "",
        lambda: password.resolve(inventory.base),
        clock,
        cipher=bmc.cipher,
        privilege=bmc.privilege,
    )


def _redfish(inventory: Inventory, name: str, bmc: BmcBlock, clock: Clock) -> Bmc:
    try:
        from pytest_pveha.wire.redfish import RedfishBmc
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{inventory.path}: nodes.{name}.bmc.driver: redfish needs the package {error.name}, which is not "
            "installed here; type: pip install 'pytest-pveha[redfish]'"
        ) from None
    assert bmc.address is not None
    assert bmc.password is not None
    trust = Trust(
        ca_file=inventory.file(bmc.ca_file) if bmc.ca_file else None,
        fingerprints=(bmc.fingerprint,) if bmc.fingerprint else (),
        shown_by="what the BMC's own web page shows",
    )
    password = bmc.password
    return RedfishBmc(
        bmc.address,
        bmc.effective_port,
        bmc.user or "",
        lambda: password.resolve(inventory.base),
        trust,
        clock,
        system=bmc.system,
    )


def _guests(inventory: Inventory) -> list[Guest]:
    found = []
    for guest in inventory.model.guests:
        probes = tuple(
            TcpProbe(probe.tcp.host, probe.tcp.port) for probe in guest.probes if probe.tcp and probe.tcp.host
        )
        kinds = [probe.kind for probe in guest.probes]
        others = tuple(kind for kind in kinds if kind not in ("tcp", "agent"))
        found.append(
            Guest(
                guest.id,
                guest.tier,
                guest.preferred_node,
                probes,
                others,
                agent="agent" in kinds,
                canary=guest.canary,
                canary_folder=guest.canary_folder,
            )
        )
    return found


def split(text: str, port: int) -> tuple[str, int]:
    """``host:port`` or ``host`` or ``[v6]:port``; the port defaults to ``port``."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, int(rest.removeprefix(":") or port)
    host, colon, number = text.rpartition(":")
    if colon and ":" not in host:
        return host, int(number)
    return text, port
