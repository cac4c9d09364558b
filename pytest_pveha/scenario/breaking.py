"""The fixture ``faults``: what a suite test can break, each for as long as its ``with`` is open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

from pytest_pveha.errors import (
    PreflightRefused,
)
from pytest_pveha.faults.bonds import BondMemberLoss
from pytest_pveha.faults.copies import GuestRestored
from pytest_pveha.faults.cord import CordPulled
from pytest_pveha.faults.crash import HA_USERLAND, DaemonKilled, DaemonsFrozen, KernelCrash
from pytest_pveha.faults.guest import BridgeDown, GuestKilled, GuestMoved
from pytest_pveha.faults.keeping import GRACE
from pytest_pveha.faults.mains import MainsCut
from pytest_pveha.faults.maintenance import Maintenance
from pytest_pveha.faults.network import BOTH, LinkLoss, Partition, QdeviceLoss
from pytest_pveha.faults.peer import PowerCutByPeer
from pytest_pveha.faults.power import PowerCut
from pytest_pveha.faults.process import ServiceRestarted, ServiceStopped
from pytest_pveha.faults.rooms import FeedCut, RoomCut, RoomPowerCut, SwitchLoss
from pytest_pveha.faults.shutdown import CleanPowerOff, CleanReboot
from pytest_pveha.faults.storage import StorageCut
from pytest_pveha.faults.switches import SwitchPulled
from pytest_pveha.handles import corosync, guest_process
from pytest_pveha.handles.bonds import Card
from pytest_pveha.handles.guest import Guest, Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.served import Served
from pytest_pveha.handles.watchdog import SOFTWARE, identity, restarts_after_panic
from pytest_pveha.inventory import parse_duration
from pytest_pveha.observe.copies import Copy
from pytest_pveha.observe.observer import READ
from pytest_pveha.observe.reachable import answering
from pytest_pveha.scenario.ceph import CephFaults
from pytest_pveha.scenario.restoring import chosen, planned
from pytest_pveha.scenario.run import TRIAL_GRACE, TRIAL_LIMIT, Run

LOOKED_AT = 4.0
"""Seconds for which each node may be asked whether it still reaches a server."""

SOON = 2.0
"""Seconds between the longest time of a short cut and the nodes undoing it by themselves."""


class Faults(CephFaults):
    """The fixture ``faults``: each verb is a fault in force while its ``with`` is open."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._run = run
        self._site = run.site

    @contextmanager
    def power_cut(self, victim: Node, *, at_most: str = "45 min") -> Iterator[None]:
        """The node has no power while open; afterwards it is powered on again."""
        with self._run.break_with(
            lambda tag: PowerCut(victim.name), PowerCut.kind, (victim.name,), parse_duration(at_most)
        ):
            yield

    @contextmanager
    def power_cut_by_peer(self, victim: Node, *, at_most: str = "45 min") -> Iterator[None]:
        """The node has no power while open, cut by a command typed on another node, in another room where there is one.

        NotMet when that node's BMC refuses the command.
        """
        peer = min(self._site.nodes - {victim}, key=lambda node: node.room == victim.room)
        with self._run.break_with(
            lambda tag: PowerCutByPeer(victim.name, peer.name),
            PowerCutByPeer.kind,
            (victim.name,),
            parse_duration(at_most),
        ):
            yield

    @contextmanager
    def mains_cut(self, victim: Node, *, at_most: str = "45 min") -> Iterator[None]:
        """The node has no mains while open, and its BMC is as dead as it is: by its PDU, or else by a person's hand."""
        if victim.pdu is None and victim.operator is not None:
            with self.cord_pulled(victim, at_most=at_most):
                yield
            return
        with self._run.break_with(
            lambda tag: MainsCut(victim.name), MainsCut.kind, (victim.name,), parse_duration(at_most)
        ):
            yield

    @contextmanager
    def cord_pulled(self, victim: Node, *, at_most: str = "45 min") -> Iterator[None]:
        """All power cords of the node are out while open, pulled by the person whom the inventory names.

        Args:
            at_most: counted without the time that they have to pull.
        """
        walk = victim.operator.answer_within if victim.operator is not None else 0.0
        others = self._site.nodes - {victim}
        silent = tuple(node.name for node in others if not answering(self._site.clock, node.addresses))
        with self._run.break_with(
            lambda tag: CordPulled(victim.name, tag.split("-", 2)[2], silent),
            CordPulled.kind,
            (victim.name,),
            parse_duration(at_most) + walk,
        ):
            yield

    @contextmanager
    def room_power_cut(self, room: Nodes, *, by_hand: bool = False, at_most: str = "60 min") -> Iterator[None]:
        """No node of that room has power while open; afterwards all are powered on again.

        Args:
            by_hand: people bring its guests elsewhere, past HA's rules that keep them in it.
        """
        with self._run.break_with(
            lambda tag: RoomPowerCut(room.names, by_hand), RoomPowerCut.kind, room.names, parse_duration(at_most)
        ):
            yield

    @contextmanager
    def feed_cut(self, feed: str, *, at_most: str = "60 min") -> Iterator[None]:
        """That power feed carries nothing while open: the nodes that hang on it alone have no mains.

        Where one of them has no PDU, all of them lose their power at their BMCs, which live on.
        """
        nodes = self._site.layout.only_feed(feed)
        if any(self._site.nodes[name].pdu is None for name in nodes):
            with self.room_power_cut(Nodes(self._site.nodes[name] for name in nodes), at_most=at_most):
                yield
            return
        with self._run.break_with(lambda tag: FeedCut(feed, nodes), FeedCut.kind, nodes, parse_duration(at_most)):
            yield

    @contextmanager
    def room_cut(self, room: Nodes, *, blind: bool = False, at_most: str = "20 min") -> Iterator[None]:
        """That room and the other nodes do not hear each other by any protocol while open.

        Args:
            blind: it does not reach the quorum device either, so that it is the one that loses; where a node is the
                tiebreaker it reaches that as little as any other.
        """
        deadline, every = self._site.clock.deadline, self._everybody("a room")
        blind = blind and bool(self._site.layout.device)
        rest = every - room
        lesser, larger = (room, rest) if blind or len(room) <= len(rest) else (rest, room)
        halves = not blind and len(lesser) == len(larger)
        addresses = unshared({node.name: node.own_addresses(deadline(READ)) for node in every})
        host, port = corosync.device_host(next(iter(every)), deadline(READ)) if blind else ("", 0)

        def cut(tag: str, brief: float = 0.0) -> RoomCut:
            return RoomCut(
                tag, lesser.names, larger.names, addresses, host, port, blind=blind, halves=halves, brief=brief
            )

        victims = every if halves else lesser
        with self._run.break_with(
            cut,
            RoomCut.kind,
            victims.names,
            parse_duration(at_most),
            trial=lambda tag: cut(tag, TRIAL_LIMIT + TRIAL_GRACE),
        ):
            yield

    @contextmanager
    def switch_loss(self, switch: str, *, at_most: str = "15 min") -> Iterator[None]:
        """Nothing passes between nodes over the networks that the inventory has on that switch alone while open."""
        make = self._filtered(switch)
        with self._run.break_with(make, SwitchLoss.kind, self._site.nodes.names, parse_duration(at_most), dies=False):
            yield

    @contextmanager
    def switch_pulled(self, switch: str, *, at_most: str = "20 min") -> Iterator[None]:
        """That switch is off the network while open, taken off by the person whom the inventory names.

        What goes over it alone between the nodes is cut for a moment first, by filters on the nodes.

        Args:
            at_most: counted without the time that they have to do it.
        """
        site, gone = self._site, self._site.layout.on_switch(switch)
        hand = site.switch_hands.get(switch)
        every = range(len(next(iter(site.cluster.ring_addresses(site.clock.deadline(READ)).values()), ())))
        links = _links_of(gone)
        pulled = SwitchPulled(
            switch,
            "",
            site.nodes.names,
            links,
            tuple(link for link in every if link not in links),
            site.layout.device_switch == switch,
            tuple(node.name for node in site.nodes if node.bmc is not None) if "bmc" in gone else (),
        )
        with self._run.break_with(
            lambda tag: replace(pulled, name=tag.split("-", 2)[2]),
            SwitchPulled.kind,
            site.nodes.names,
            parse_duration(at_most) + (hand.answer_within if hand is not None else 0.0),
            dies=False,
            trial=self._filtered(switch),
        ):
            yield

    def _filtered(self, switch: str) -> Callable[[str], SwitchLoss]:
        """The loss of that switch as the nodes can play it by themselves, by the fault's tag."""
        site, layout, deadline = self._site, self._site.layout, self._site.clock.deadline
        self._everybody("a switch")
        gone = layout.on_switch(switch)
        ring = tuple(sorted(site.cluster.ring_addresses(deadline(READ)).items()))
        inside = [ip_network(layout.cidrs[name]) for name in gone if name in layout.cidrs and name != "bmc"]
        known = {address for _, each in ring for address in each}
        own = unshared({node.name: node.own_addresses(deadline(READ)) - known for node in site.nodes})
        others = tuple(
            (name, tuple(one for one in each if any(ip_address(one) in net for net in inside))) for name, each in own
        )
        device, port = ("", 0)
        if layout.device_switch == switch:
            device, port = corosync.device_host(next(iter(site.nodes)), deadline(READ))
        bmcs = {node.bmc_address[0] for node in site.nodes if node.bmc_address} if "bmc" in gone else set()
        links = _links_of(gone)
        return lambda tag: SwitchLoss(
            tag, switch, site.nodes.names, links, ring, others, outward_only(bmcs), device, port
        )

    @contextmanager
    def guest_killed(self, guest: Guest, *, at_most: str = "20 min") -> Iterator[None]:
        """The guest's process has been killed hard; HA is to start it again."""
        node = self._home(guest)
        pid = guest_process.pid(node, guest.sid, self._site.clock.deadline(READ))
        with self._run.break_with(
            lambda tag: GuestKilled(guest.sid, node.name, pid, _places(guest)),
            GuestKilled.kind,
            (guest.sid,),
            parse_duration(at_most),
        ):
            yield

    @contextmanager
    def guest_moved(self, guest: Guest, to: Node, *, alive: bool = True, at_most: str = "45 min") -> Iterator[None]:
        """HA moves the guest there: alive, or stopped here and started there; afterwards it is moved home."""
        node = self._home(guest)
        with self._run.break_with(
            lambda tag: GuestMoved(guest.sid, node.name, to.name, alive),
            GuestMoved.kind,
            (guest.sid,),
            parse_duration(at_most),
        ):
            yield

    @contextmanager
    def guest_restored(self, guest: Guest, *, live: bool = False, at_most: str = "12 h") -> Iterator[Copy]:
        """A copy of the guest is there while open, made from its newest backup: links down, and not started.

        Args:
            live: it is started at once, and its disk is read meanwhile.
        """
        choice = chosen(self._run.observer, guest)
        made: list[GuestRestored] = []

        def make(tag: str) -> GuestRestored:
            made.append(planned(self._run.observer, choice, tag, live=live))
            return made[-1]

        with self._run.break_with(make, GuestRestored.kind, (guest.sid,), parse_duration(at_most), dies=False):
            yield choice.copy(made[-1])

    @contextmanager
    def bridge_down(self, guest: Guest, *, at_most: str = "20 min") -> Iterator[None]:
        """The guest has no network while open."""
        node = self._home(guest)
        cards = tuple(sorted(guest_process.cards(node, guest.sid, self._site.clock.deadline(READ))))
        with self._run.break_with(
            lambda tag: BridgeDown(guest.sid, node.name, cards, _places(guest)),
            BridgeDown.kind,
            (guest.sid,),
            parse_duration(at_most),
        ):
            yield

    def _everybody(self, what: str) -> Nodes:
        """All nodes, none of which a fault in force has silenced: what lies between each two of them is cut."""
        if silent := self._site.nodes - self._run.reached:
            raise PreflightRefused(
                f"{', '.join(silent.names)} is silent by a fault that is in force: {what} is cut off on every node, "
                f"and where rules cannot be put they would be missing as soon as it is back; end that fault first"
            )
        return self._site.nodes

    def _home(self, guest: Guest) -> Node:
        """Where HA has the guest now."""
        services = self._site.cluster.manager(self._site.clock.deadline(READ)).services
        if guest.sid not in services:
            raise PreflightRefused(f"{guest.sid} is no HA service, so nothing was broken; add it to HA")
        return self._site.nodes[services[guest.sid].node]

    @contextmanager
    def partition(
        self, cut_off: Nodes, *, about_quorum: bool = False, direction: str = BOTH, at_most: str = "20 min"
    ) -> Iterator[None]:
        """These nodes and the others do not hear each other on any corosync link while open.

        Args:
            direction: ``in``: they do not hear the others and are heard; ``out``: the other way round.
        """
        with self._cut(cut_off, cut_off, at_most, about_quorum=about_quorum, direction=direction):
            yield

    @contextmanager
    def even_split(self, one: Nodes, *, at_most: str = "20 min") -> Iterator[None]:
        """These nodes, half of all, and the others do not hear each other; the quorum device decides who goes on."""
        with self._cut(one, self._site.nodes, at_most, halves=True):
            yield

    def blip(self, cut_off: Nodes, *, lasting: str) -> None:
        """These nodes and the others did not hear each other for so long, and do again.

        The nodes undo it by themselves if we do not, before a watchdog minds.
        """
        with self._brief_cut(cut_off):
            self._run.hold_broken(lasting)

    def blip_of_quorum(self, apart: Nodes, *, lasting: str) -> None:
        """Each of these nodes heard nobody for so long, nobody had quorum, and all hear each other again."""
        with self._brief_cut(apart, about_quorum=True, apart=True):
            self._run.hold_broken(lasting)

    @contextmanager
    def site_without_quorum(self, apart: Nodes, *, at_most: str = "20 min") -> Iterator[None]:
        """The same for so long that every node that guards guests resets itself: all guests go down."""
        with self._cut(apart, self._site.nodes, at_most, about_quorum=True, apart=True, site=True):
            yield

    @contextmanager
    def _brief_cut(self, cut_off: Nodes, **how: Any) -> Iterator[None]:
        """A cut that is over, whoever dies, before a watchdog minds."""
        ring = corosync.ring(self._site.cluster, self._site.clock.deadline(READ))
        at_most = f"{ring.undone_by - SOON:.1f} s"
        with self._cut(cut_off, cut_off, at_most, grace=SOON, brief=ring.undone_by, **how):
            yield

    @contextmanager
    def _cut(self, cut_off: Nodes, victims: Nodes, at_most: str, grace: float = GRACE, **how: Any) -> Iterator[None]:
        reached = self._run.reached
        rest, silent = reached - cut_off, (self._site.nodes - reached - cut_off).names
        found = self._site.cluster.ring_addresses(self._site.clock.deadline(READ))
        addresses = tuple(sorted(found.items()))
        with self._run.break_with(
            lambda tag: Partition(tag, cut_off.names, rest.names, addresses, silent=silent, **how),
            Partition.kind,
            victims.names,
            parse_duration(at_most),
            grace=grace,
            trial=lambda tag: Partition(
                tag,
                cut_off.names,
                rest.names,
                addresses,
                silent=silent,
                **{**how, "brief": TRIAL_LIMIT + TRIAL_GRACE},
            ),
        ):
            yield

    @contextmanager
    def link_loss(self, nodes: Nodes, link: int, *, at_most: str = "10 min") -> Iterator[None]:
        """That corosync link of these nodes carries nothing while open; their other links do."""
        found = self._site.cluster.ring_addresses(self._site.clock.deadline(READ))
        addresses = tuple((name, one[link]) for name, one in sorted(found.items()) if len(one) > link)
        silent = self._site.nodes - self._run.reached
        there = nodes - silent
        with self._run.break_with(
            lambda tag: LinkLoss(tag, there.names, link, addresses, silent.names),
            LinkLoss.kind,
            there.names,
            parse_duration(at_most),
            dies=False,
        ):
            yield

    @contextmanager
    def bond_member_loss(self, node: Node, card: Card, *, at_most: str = "3 min") -> Iterator[None]:
        """That card of a bond of the node has no link while open."""
        with self._run.break_with(
            lambda tag: BondMemberLoss(node.name, card.bond, card.name),
            BondMemberLoss.kind,
            (node.name,),
            parse_duration(at_most),
            dies=False,
        ):
            yield

    @contextmanager
    def qdevice_loss(self, *, at_most: str = "10 min") -> Iterator[None]:
        """No node reaches the quorum device while open."""
        there = self._run.reached
        host, port = corosync.device_host(next(iter(there)), self._site.clock.deadline(READ))
        with self._run.break_with(
            lambda tag: QdeviceLoss(tag, there.names, host, port),
            QdeviceLoss.kind,
            there.names,
            parse_duration(at_most),
            dies=False,
        ):
            yield

    @contextmanager
    def storage_cut(self, storage: Served, *, lasting: str = "30 s") -> Iterator[None]:
        """No node reaches the server of that storage while open, which is to be for that long.

        The nodes undo it by themselves soon after, before the first of them fails a request.
        """
        nodes = self._everybody("a storage").names
        seconds = parse_duration(lasting)
        at_most = seconds + LOOKED_AT * len(nodes) * len(storage.servers)
        undone_by = at_most + TRIAL_GRACE
        with self._run.break_with(
            lambda tag: StorageCut(
                tag,
                nodes,
                storage.name,
                storage.servers,
                storage.guests,
                seconds,
                undone_by,
                storage.gives_up,
                storage.gives_up_by,
            ),
            StorageCut.kind,
            (storage.name,),
            at_most,
            dies=False,
            grace=TRIAL_GRACE,
        ):
            yield

    @contextmanager
    def service_stopped(self, node: Node, unit: str, *, at_most: str = "20 min") -> Iterator[None]:
        """The daemon does not run on that node while open."""
        pid = node.units.main_pid(unit, self._site.clock.deadline(READ))
        with self._run.break_with(
            lambda tag: ServiceStopped(node.name, unit, pid),
            ServiceStopped.kind,
            (node.name,),
            parse_duration(at_most),
        ):
            yield

    @contextmanager
    def service_restarted(self, node: Node, unit: str, *, at_most: str = "20 min") -> Iterator[None]:
        """The daemon was restarted on that node."""
        pid = node.units.main_pid(unit, self._site.clock.deadline(READ))
        with self._run.break_with(
            lambda tag: ServiceRestarted(node.name, unit, pid),
            ServiceRestarted.kind,
            (node.name,),
            parse_duration(at_most),
        ):
            yield

    @contextmanager
    def maintenance(self, node: Node, *, at_most: str = "45 min") -> Iterator[None]:
        """The HA manager keeps the node empty while open."""
        services = self._site.cluster.manager(self._site.clock.deadline(READ)).services
        falling = tuple(sorted(sid for sid, row in services.items() if row.node == node.name and sid.startswith("ct:")))
        with self._run.break_with(
            lambda tag: Maintenance(node.name, falling), Maintenance.kind, (node.name,), parse_duration(at_most)
        ):
            yield

    @contextmanager
    def clean_reboot(self, victim: Node, *, at_most: str = "45 min") -> Iterator[None]:
        """The node has been told to reboot in good order; at the end it is waited for."""
        boot_id = victim.boot_id(self._site.clock.deadline(READ))
        with self._run.break_with(
            lambda tag: CleanReboot(victim.name, boot_id), CleanReboot.kind, (victim.name,), parse_duration(at_most)
        ):
            yield

    @contextmanager
    def clean_power_off(self, victim: Node, *, at_most: str = "45 min") -> Iterator[None]:
        """The node has been told to power off in good order; afterwards it is powered on again."""
        boot_id = victim.boot_id(self._site.clock.deadline(READ))
        with self._run.break_with(
            lambda tag: CleanPowerOff(victim.name, boot_id), CleanPowerOff.kind, (victim.name,), parse_duration(at_most)
        ):
            yield

    @contextmanager
    def kernel_crash(self, victim: Node, *, at_most: str = "45 min") -> Iterator[None]:
        """The node's kernel has panicked when this opens; afterwards the node is up again."""
        deadline = self._site.clock.deadline
        restarts = restarts_after_panic(victim, deadline(READ)) != 0
        returns = restarts or identity(victim, deadline(READ)) != SOFTWARE
        with self._run.break_with(
            lambda tag: KernelCrash(victim.name, returns), KernelCrash.kind, (victim.name,), parse_duration(at_most)
        ):
            yield

    @contextmanager
    def daemon_killed(self, victim: Node, unit: str, *, at_most: str = "45 min") -> Iterator[None]:
        """The daemon has been killed when this opens; afterwards the node has been reset, and the daemon runs."""
        boot_id = victim.boot_id(self._site.clock.deadline(READ))
        pid = victim.units.main_pid(unit, self._site.clock.deadline(READ))
        with self._run.break_with(
            lambda tag: DaemonKilled(victim.name, unit, pid, boot_id),
            DaemonKilled.kind,
            (victim.name,),
            parse_duration(at_most),
        ):
            yield

    @contextmanager
    def daemon_frozen(self, victim: Node, unit: str, *, at_most: str = "45 min") -> Iterator[None]:
        """The daemon stands still while open, unless its node is reset."""
        with self._frozen(victim, (unit,), at_most):
            yield

    @contextmanager
    def hang(self, victim: Node, *, at_most: str = "45 min") -> Iterator[None]:
        """All by which the cluster hears of the node stands still while open, unless it is reset; its guests run on."""
        deadline = self._site.clock.deadline
        running = tuple(unit for unit in HA_USERLAND if victim.units.active(unit, deadline(READ)))
        with self._frozen(victim, running, at_most):
            yield

    @contextmanager
    def _frozen(self, victim: Node, units: tuple[str, ...], at_most: str) -> Iterator[None]:
        pids = tuple(victim.units.main_pid(unit, self._site.clock.deadline(READ)) for unit in units)
        with self._run.break_with(
            lambda tag: DaemonsFrozen(victim.name, units, pids),
            DaemonsFrozen.kind,
            (victim.name,),
            parse_duration(at_most),
        ):
            yield


def unshared(own: Mapping[str, frozenset[str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each node's addresses that no other node has: a rule about one that it has itself would cut a node off itself."""
    held = Counter(address for each in own.values() for address in each)
    return tuple((name, tuple(sorted(one for one in each if held[one] == 1))) for name, each in own.items())


def outward_only(hosts: Iterable[str]) -> tuple[str, ...]:
    """Those that are IP addresses and no loopback: rules can name them, and nobody loses itself."""
    found = []
    for host in sorted(hosts):
        with suppress(ValueError):
            found += [host] * (not ip_address(host).is_loopback)
    return tuple(found)


def _links_of(networks: Iterable[str]) -> tuple[int, ...]:
    """The numbers of those that are corosync links."""
    return tuple(sorted(int(name.removeprefix("corosync")) for name in networks if name.startswith("corosync")))


def _places(guest: Guest) -> tuple[tuple[str, int], ...]:
    """Where the guest answers."""
    return tuple((probe.host, probe.port) for probe in guest.probes)
