"""Faults of a whole room: all its nodes without power at once, a power feed that fails, or the way to it cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults import rules
from pytest_pveha.faults.fault import Danger, DeadMan, Reach, Undo
from pytest_pveha.faults.mains import BMC_BOOTS, MainsCut, has_mains, switch_on, without_mains
from pytest_pveha.faults.network import (
    KNET,
    Partition,
    check_addresses,
    check_free,
    is_address,
    none_left,
    take_back,
)
from pytest_pveha.faults.power import BMC, LINGERING, TRIES, TWICE, PowerCut, bmc_of, note_chassis, rescuers
from pytest_pveha.handles import corosync
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.shell import ShellLine, one_of, quote
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.observe.reachable import answering


@dataclass(frozen=True, slots=True)
class RoomPowerCut:
    """Cut the power of all nodes of a room at their BMCs, all at once, as a failed mains supply would.

    Blast radius: those nodes and their guests. Undo: power on.
    """

    kind: ClassVar[str] = "room-power-cut"
    family: ClassVar[str] = "power"
    danger: ClassVar[Danger] = Danger.POWER
    undo: ClassVar[str] = "power each of the nodes on at its BMC: ipmitool … chassis power on"

    nodes: tuple[str, ...]
    by_hand: bool = False
    """Whether people bring their guests elsewhere, and not HA."""

    @property
    def reach(self) -> Reach:
        return Reach(frozenset(self.nodes), site_wide=len(self.nodes) > 1, by_hand=self.by_hand)

    def preflight(self, observer: Observer) -> None:
        for name in self.nodes:
            PowerCut(name).preflight(observer)

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """Two nodes that are left, in other rooms, can switch each of them on again."""
        site = observer.site
        script: list[ShellLine] = []
        secrets: list[tuple[str, str]] = []
        checks: list[tuple[tuple[str, ...], ...]] = []
        for name in self.nodes:
            command = bmc_of(site.nodes[name]).from_a_node(f"{kept}.{name}", site.clock.deadline(BMC))
            script.append(one_of(*[quote(*words) for words in command.on] * TRIES))
            secrets.append((name, command.secret))
            checks += [command.status] * bool(command.status)
        return _by_others(observer, self.nodes, script, secrets, checks)

    def inject(self, observer: Observer) -> None:
        _beside(observer, self.nodes, lambda node: bmc_of(node).set_power("off", observer.site.clock.deadline(BMC)))

    def took_effect(self, observer: Observer) -> Answer:
        """Each is dead: its BMC says off twice, 2 s apart, it is silent on all its addresses, and it is no member."""
        site, clock = observer.site, observer.site.clock
        for _ in range(2):
            if on := self._on(observer):
                return no(f"the BMC of {', '.join(on)} still says the chassis is on")
            observer.look()
            clock.sleep(TWICE)
        for name in self.nodes:
            if there := answering(clock, site.nodes[name].addresses):
                return no(f"{name} still answers at {', '.join(f'{host}:{port}' for host, port in there)}")
        view = observer.look()
        if view.membership is None:
            return view.unseen()
        if members := [name for name in self.nodes if view.membership.online.get(name)]:
            return no(f"{', '.join(members)} is off and silent, and still a member")
        changes = [change for name in self.nodes if (change := observer.change(f"chassis/{name}")) is not None]
        bounds = (min(low for low, _ in changes), max(high for _, high in changes)) if changes else None
        return yes(f"{', '.join(self.nodes)}: BMCs say off twice, silent on all addresses, left the membership", bounds)

    def heal(self, observer: Observer) -> None:
        # always sent, as for one node: an off may be under way
        _beside(observer, self.nodes, lambda node: bmc_of(node).set_power("on", observer.site.clock.deadline(BMC)))

    def healed(self, observer: Observer) -> Answer:
        """All on, and on again after any command still under way has had its effect."""
        for pause in (0.0, LINGERING):
            observer.site.clock.sleep(pause)
            on = self._on(observer)
            if off := [name for name in self.nodes if name not in on]:
                return no(f"the BMC of {', '.join(off)} says off")
        return yes(f"the BMCs of {', '.join(self.nodes)} say on, twice")

    def _on(self, observer: Observer) -> list[str]:
        """Those whose BMC says on, asked beside each other, and each on record."""
        clock = observer.site.clock
        found = {}

        def ask(node: Node) -> None:
            found[node.name] = bmc_of(node).fresh_power_state(clock.deadline(BMC))

        _beside(observer, self.nodes, ask)
        for name in self.nodes:
            note_chassis(observer, name, found[name])
        return [name for name in self.nodes if found[name].on]


@dataclass(frozen=True, slots=True)
class FeedCut:
    """A power feed fails: the outlets of all nodes that hang on it alone are switched off at their PDUs.

    Blast radius: those nodes and their guests. Undo: the outlets on, and a node by its BMC if it stays off.
    """

    kind: ClassVar[str] = "feed-cut"
    family: ClassVar[str] = "power"
    danger: ClassVar[Danger] = Danger.POWER
    undo: ClassVar[str] = "switch the nodes' outlets on at the PDU, then each node itself if it stays off"

    feed: str
    nodes: tuple[str, ...]
    """Those that hang on it alone."""

    @property
    def reach(self) -> Reach:
        return Reach(frozenset(self.nodes), site_wide=len(self.nodes) > 1)

    def preflight(self, observer: Observer) -> None:
        if not self.nodes:
            raise PreflightRefused(f"no node hangs on feed {self.feed} alone: nothing of it can be switched off")
        for name in self.nodes:
            MainsCut(name).preflight(observer)

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """Two nodes on another feed switch the outlets on, and each node by its BMC if it stays off, where the
        inventory says how; without that there is none."""
        site = observer.site
        on: list[ShellLine] = []
        later: list[ShellLine] = []
        secrets: list[tuple[str, str]] = []
        checks: list[tuple[tuple[str, ...], ...]] = []
        for name in self.nodes:
            node = site.nodes[name]
            way = node.pdu.from_nodes if node.pdu is not None else None
            if way is None:
                return DeadMan.on_every()
            words, status = way.at(f"{kept}.{name}-outlets")
            on.append(one_of(*[quote(*words)] * TRIES))
            secrets.append((f"{name}-outlets", way.secret()))
            checks.append((status,))
            if node.bmc is not None:
                command = node.bmc.from_a_node(f"{kept}.{name}", site.clock.deadline(BMC))
                later.append(one_of(*[quote(*each) for each in command.on] * TRIES))
                secrets.append((name, command.secret))
        pause = [quote("sleep", f"{BMC_BOOTS:.0f}")] if later else []
        return _by_others(observer, self.nodes, [*on, *pause, *later], secrets, checks)

    def inject(self, observer: Observer) -> None:
        for name in self.nodes:
            self._switch(observer, name, "off")

    def took_effect(self, observer: Observer) -> Answer:
        """Each is silent on all its addresses, its BMC is silent too, and it left the membership."""
        view = observer.look()
        for name in self.nodes:
            answer = without_mains(observer, observer.site.nodes[name], view)
            if answer.verdict != "yes":
                return answer
        missed = [change[1] for name in self.nodes if (change := observer.change(f"membership/{name}")) is not None]
        return yes(f"{', '.join(self.nodes)} have no mains, nor their BMCs", (0, max(missed)) if missed else None)

    def heal(self, observer: Observer) -> None:
        _all(partial(self._switch, observer, name, "on") for name in self.nodes)
        _all(partial(switch_on, observer, observer.site.nodes[name]) for name in self.nodes)

    def healed(self, observer: Observer) -> Answer:
        answers = [has_mains(observer, observer.site.nodes[name]) for name in self.nodes]
        return next((answer for answer in answers if answer.verdict != "yes"), answers[0])

    def _switch(self, observer: Observer, name: str, word: Literal["on", "off"]) -> None:
        pdu = observer.site.nodes[name].pdu
        if pdu is None:
            raise SiteError(f"node {name} has no PDU in the inventory; add nodes.{name}.pdu")
        pdu.switch(word)


@dataclass(frozen=True, slots=True)
class RoomCut:
    """Cut two rooms from each other: no packet of any protocol between their nodes, on any of their addresses.

    Blast radius: one of the rooms loses quorum, and its nodes with an active LRM reset themselves. Undo: the rules are
    taken back; they are also gone after a reboot.
    """

    kind: ClassVar[str] = "room-cut"
    family: ClassVar[str] = "network"
    danger: ClassVar[Danger] = Danger.NETWORK
    undo: ClassVar[str] = Partition.undo

    tag: str
    cut_off: tuple[str, ...]
    """The room that is to lose: the smaller one, or the one that the quorum device does not see."""
    rest: tuple[str, ...]
    addresses: tuple[tuple[str, tuple[str, ...]], ...]
    """Each node's addresses, all of them."""
    device: str = ""
    """The quorum device's machine."""
    port: int = 0
    blind: bool = False
    """Whether the room that is to lose reaches the quorum device neither."""
    halves: bool = False
    """Whether the quorum device decides which room is lost."""
    brief: float = 0.0
    """As ``Partition``'s."""

    @property
    def _cut(self) -> Partition:
        """The same, as corosync sees it."""
        return Partition(self.tag, self.cut_off, self.rest, self.addresses, halves=self.halves, brief=self.brief)

    @property
    def reach(self) -> Reach:
        everybody, room = frozenset((*self.cut_off, *self.rest)), frozenset(self.cut_off)
        sides = (room, frozenset(self.rest)) if self.halves else ()
        hit = everybody if self.halves else room
        return Reach(hit, sides=sides, splits=True, brief=self.brief, site_wide=True)

    def preflight(self, observer: Observer) -> None:
        known = dict(self.addresses)
        for name in (*self.cut_off, *self.rest):
            check_addresses(name, known.get(name, ()))
        if self.blind and not is_address(self.device):
            raise PreflightRefused(
                f"corosync calls the quorum device's machine {self.device!r}, which is no IP address"
            )
        check_free(observer, self.tag, (*self.cut_off, *self.rest))

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """Every node takes its own rules back."""
        return self._cut.dead_man(observer, kept)

    def inject(self, observer: Observer) -> None:
        for name in (*self.cut_off, *self.rest):
            away = set(self.rest if name in self.cut_off else self.cut_off)
            others = tuple(one for node, known in self.addresses if node in away for one in known)
            traffic = [rules.Traffic(others)]
            if self.blind and name in self.cut_off:
                traffic.append(rules.Traffic((self.device,), tcp=self.port))
            rules.put(observer.site.nodes[name], self.tag, *traffic, deadline=observer.site.clock.deadline(READ))

    def took_effect(self, observer: Observer) -> Answer:
        """Corosync counts no node of the other room, as every node says; or no link goes there, in a brief cut."""
        return self._cut.took_effect(observer)

    def heal(self, observer: Observer) -> None:
        self._cut.heal(observer)

    def healed(self, observer: Observer) -> Answer:
        return self._cut.healed(observer)


@dataclass(frozen=True, slots=True)
class SwitchLoss:
    """A switch fails: nothing passes between the nodes on the networks that go over it alone, nor to the BMCs or the
    quorum device behind it.

    Blast radius: nothing, where other switches carry the cluster. Undo: the rules are taken back, as by a reboot.
    """

    kind: ClassVar[str] = "switch-loss"
    family: ClassVar[str] = "network"
    danger: ClassVar[Danger] = Danger.NETWORK
    undo: ClassVar[str] = Partition.undo

    tag: str
    switch: str
    nodes: tuple[str, ...]
    links: tuple[int, ...]
    """The corosync links that go over it alone."""
    ring: tuple[tuple[str, tuple[str, ...]], ...]
    """Each node's addresses on all corosync links."""
    others: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Each node's addresses on the other networks that go over it alone, such as Ceph's."""
    bmcs: tuple[str, ...] = ()
    """The addresses of the BMCs behind it."""
    device: str = ""
    """The quorum device's machine, where it hangs on it."""
    port: int = 0

    @property
    def reach(self) -> Reach:
        return Reach(frozenset(), costs_membership=False, device=bool(self.device), site_wide=True)

    def preflight(self, observer: Observer) -> None:
        seen_to_fail(self.switch, self.links, device=bool(self.device))
        known = dict(self.ring)
        for name in self.nodes:
            if not known.get(name) or set(range(len(known[name]))) <= set(self.links):
                raise PreflightRefused(
                    f"{len(self.links)} of {len(known.get(name, ()))} corosync links of {name} go over {self.switch} "
                    f"alone: without it every node would be by itself, all would lose quorum, and the site would reset "
                    f"itself; give corosync a link over another switch"
                )
            check_addresses(name, known[name])
        if self.device and not is_address(self.device):
            raise PreflightRefused(f"the switch's quorum device is {self.device!r}, which is no IP address")
        check_free(observer, self.tag, self.nodes)
        carried_elsewhere(observer, self.switch, self.nodes, self.links)

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """Every node takes its own rules back."""
        return DeadMan.on_every(*(Undo(name, rules.undo_script(self.tag)) for name in self.nodes))

    def inject(self, observer: Observer) -> None:
        for name in self.nodes:
            deadline = observer.site.clock.deadline(READ)
            rules.put(observer.site.nodes[name], self.tag, *self._traffic(name), deadline=deadline)

    def _traffic(self, name: str) -> list[rules.Traffic]:
        """What the node hears and says no more."""
        peers = [known for node, known in self.ring if node != name]
        found = [
            rules.Traffic(tuple(each[link] for each in peers if link < len(each)), _port(link)) for link in self.links
        ]
        if away := tuple(one for node, known in self.others if node != name for one in known):
            found.append(rules.Traffic(away))
        if self.bmcs:
            found.append(rules.Traffic(self.bmcs))
        if self.device:
            found.append(rules.Traffic((self.device,), tcp=self.port))
        return found

    def took_effect(self, observer: Observer) -> Answer:
        """Corosync calls the links over it disconnected on every node; nobody is connected to a device behind it."""
        for name in self.nodes:
            node, deadline = observer.site.nodes[name], observer.site.clock.deadline
            links = corosync.links(node, deadline(READ)) if self.links else {}
            for link in self.links:
                if link not in links:
                    return cant_tell(f"{name} tells of no link {link}")
                if up := [str(peer) for peer, there in links[link].items() if there]:
                    return no(f"{name} calls link {link} to node {', '.join(up)} connected")
            if self.device and corosync.device_state(node, deadline(READ)) == "Connected":
                return no(f"{name} is still connected to the quorum device")
        observer.look()
        lost = [f"link {link}" for link in self.links] + ["the quorum device"] * bool(self.device)
        return yes(f"{', '.join(lost)} of {', '.join(self.nodes)} is down, as without {self.switch}")

    def heal(self, observer: Observer) -> None:
        take_back(observer, self.tag, self.nodes, ())

    def healed(self, observer: Observer) -> Answer:
        return none_left(observer, self.tag, self.nodes, ())


def seen_to_fail(switch: str, links: Sequence[int], *, device: bool) -> None:
    """Something of the cluster goes over that switch alone; PreflightRefused otherwise."""
    if not links and not device:
        raise PreflightRefused(
            f"nothing of the cluster goes over {switch} alone: neither a corosync link nor the quorum device, "
            f"so it could not be seen to fail"
        )


def carried_elsewhere(observer: Observer, switch: str, nodes: Sequence[str], links: Sequence[int]) -> None:
    """Each of the nodes has a corosync link to every other one but those over that switch; or PreflightRefused."""
    for name in nodes:
        there = corosync.links(observer.site.nodes[name], observer.site.clock.deadline(READ))
        if not any(number not in links and all(peers.values()) for number, peers in there.items()):
            raise PreflightRefused(
                f"no corosync link of {name} but those over {switch} is up to every node: without it the node "
                f"would be cut off"
            )


def _port(link: int) -> tuple[int, int]:
    """The UDP port of that corosync link, as a range."""
    return KNET[0] + link, KNET[0] + link


def _by_others(
    observer: Observer,
    lost: Sequence[str],
    script: Sequence[ShellLine],
    secrets: Sequence[tuple[str, str]],
    checks: Sequence[tuple[tuple[str, ...], ...]],
) -> DeadMan:
    """The nodes that are left run that script, other rooms first; two of them are needed, where there are two."""
    names = [name for name in rescuers(observer.site, lost[0]) if name not in lost]
    undos = tuple(
        Undo(name, tuple(script), outlives_reboot=True, more=tuple(secrets), checks=tuple(checks)) for name in names
    )
    return DeadMan(undos, min(2, len(undos)))


def _beside(observer: Observer, names: Sequence[str], act: Callable[[Node], None]) -> None:
    """That was done for each of these nodes, for all at once; the first that failed is raised when all have ended."""
    tasks = [observer.site.clock.spawn(f"room-{name}", partial(act, observer.site.nodes[name])) for name in names]
    _all(task.join for task in tasks)


def _all(acts: Iterable[Callable[[], None]]) -> None:
    """Each was done, whatever came of the others; the first SiteError is raised at the end."""
    failed: list[SiteError] = []
    for act in acts:
        try:
            act()
        except SiteError as error:
            failed.append(error)
    if failed:
        raise failed[0]
