"""Network faults, by packet filter rules on both sides of the cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import ClassVar

from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults import rules
from pytest_pveha.faults.crash import given_up, on_guard, reset_given_up
from pytest_pveha.faults.fault import Danger, DeadMan, Reach, Undo
from pytest_pveha.handles import corosync
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer

BOTH = "both"

KNET = (5405, 5412)
"""UDP ports of corosync's links 0 to 7: mcastport + link number, corosync.conf(5)."""


@dataclass(frozen=True, slots=True)
class Partition:
    """Cut some nodes off the others on every corosync link, in both directions.

    Blast radius: the minority's nodes lose quorum, and those with an active LRM reset themselves. Undo: the rules are
    taken back; they are also gone after a reboot.
    """

    kind: ClassVar[str] = "partition"
    family: ClassVar[str] = "network"
    danger: ClassVar[Danger] = Danger.NETWORK
    undo: ClassVar[str] = (
        "on every node: nft delete table inet TAG (with _ for -), or iptables -D INPUT -j TAG; "
        "iptables -D OUTPUT -j TAG; iptables -F TAG; iptables -X TAG"
    )

    tag: str
    cut_off: tuple[str, ...]
    rest: tuple[str, ...]
    addresses: tuple[tuple[str, tuple[str, ...]], ...]
    """Each node's addresses on the corosync links."""
    about_quorum: bool = False
    """Whether the rest is meant to lose quorum, too."""
    apart: bool = False
    """Whether those cut off do not hear each other, either."""
    direction: str = BOTH
    """``in`` or ``out``: those cut off only hear nothing, or are not heard."""
    halves: bool = False
    """Whether the quorum device decides which side is lost."""
    site: bool = False
    """Whether it lasts until every node that guards guests has reset itself."""
    brief: float = 0.0
    """Seconds after which it is over, where no watchdog is to mind it: then the links alone show that it bit."""
    silent: tuple[str, ...] = ()
    """Nodes that a fault around it has taken: nothing can be put on them; if they come back they are with the rest."""

    @property
    def reach(self) -> Reach:
        everybody = frozenset((*self.cut_off, *self.rest))
        if self.halves:
            sides = frozenset(self.cut_off), frozenset(self.rest)
            return Reach(everybody, sides=sides, splits=True, brief=self.brief)
        hit = everybody if self.site else frozenset(self.cut_off)
        return Reach(hit, about_quorum=self.about_quorum, splits=True, brief=self.brief)

    def preflight(self, observer: Observer) -> None:
        known = dict(self.addresses)
        for name in (*self.cut_off, *self.rest):
            check_addresses(name, known.get(name, ()))
        check_free(observer, self.tag, (*self.cut_off, *self.rest))

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """Every node takes its own rules back: what resets meanwhile has lost them, and its timer, together."""
        script = rules.undo_script(self.tag)
        return DeadMan.on_every(*(Undo(name, script) for name in (*self.cut_off, *self.rest)))

    def inject(self, observer: Observer) -> None:
        for name in (*self.cut_off, *(self.rest if self.direction == BOTH else ())):
            rules.put(
                observer.site.nodes[name], self.tag, self._traffic(name), deadline=observer.site.clock.deadline(READ)
            )

    def _traffic(self, name: str) -> rules.Traffic:
        others = {*self.rest, *self.silent, *(self.cut_off if self.apart else ())}
        unheard = others if name in self.cut_off else set(self.cut_off)
        addresses = tuple(one for node, known in self.addresses if node in unheard - {name} for one in known)
        return rules.Traffic(addresses, KNET, incoming=self.direction != "out", outgoing=self.direction != "in")

    def took_effect(self, observer: Observer) -> Answer:
        """Corosync itself counts no node of another side, as every node says; or no link goes there, in a brief cut."""
        if self.brief:
            return self._links_down(observer)
        votes = {name: observer.votes(observer.site.nodes[name]) for name in (*self.rest, *self.cut_off)}
        for name, told in votes.items():
            size = 1 if self.apart and name in self.cut_off else len(self._side(name))
            if told.nodes is None:
                return cant_tell(f"{name} does not say how many nodes it counts")
            if told.nodes > size:
                return no(f"{name} still counts {told.nodes} nodes, and its side has {size}")
        if self.halves:  # from now on the side that goes on is asked
            observer.site.cluster.shun(self.tag, frozenset(name for name, told in votes.items() if not told.quorate))
        observer.look()
        return yes(f"{', '.join(self.cut_off)} and {', '.join(self.rest)} no longer count each other")

    def _links_down(self, observer: Observer) -> Answer:
        for name in self.cut_off:
            links = corosync.links(observer.site.nodes[name], observer.site.clock.deadline(READ))
            gone = {peer for peer in set().union(*links.values()) if not any(up[peer] for up in links.values())}
            unheard = len(self.rest) + len(self.silent) + (len(self.cut_off) - 1 if self.apart else 0)
            if len(gone) < unheard:
                return no(f"{name} has no link to {len(gone)} nodes, and {unheard} are to be cut off it")
        return yes(f"{', '.join(self.cut_off)} has no link to {', '.join(self.rest)}")

    def _side(self, name: str) -> tuple[str, ...]:
        return self.cut_off if name in self.cut_off else self.rest

    def heal(self, observer: Observer) -> None:
        observer.site.cluster.shun(self.tag, frozenset())
        take_back(observer, self.tag, self._lasting, self._may_reset)
        for name in self._may_reset:
            reset_given_up(observer, name)

    def healed(self, observer: Observer) -> Answer:
        """No rule is left, and no node goes on whose watchdog was to reset it and did not."""
        answer = none_left(observer, self.tag, self._lasting, self._may_reset)
        if answer.verdict != "yes":
            return answer
        if left := [name for name in self._may_reset if given_up(observer, name)]:
            return no(f"{', '.join(left)} goes on, given up by its watchdog-mux: it must be reset")
        late = [name for name in self._may_reset if not on_guard(observer, name)]
        return no(f"{', '.join(late)} was reset, and its LRM does not guard its guests again") if late else answer

    @property
    def _lasting(self) -> tuple[str, ...]:
        """Those that are there all the time."""
        return () if self.halves or self.site else self.rest

    @property
    def _may_reset(self) -> tuple[str, ...]:
        return (*self.rest, *self.cut_off) if self.halves or self.site else self.cut_off


@dataclass(frozen=True, slots=True)
class LinkLoss:
    """Take one corosync link from some nodes, in both directions.

    Blast radius: nothing, where another link carries the cluster. Undo: the rules are taken back, as by a reboot.
    """

    kind: ClassVar[str] = "link-loss"
    family: ClassVar[str] = "network"
    danger: ClassVar[Danger] = Danger.NETWORK
    undo: ClassVar[str] = Partition.undo

    tag: str
    nodes: tuple[str, ...]
    link: int
    addresses: tuple[tuple[str, str], ...]
    """Each node's address on that link."""
    silent: tuple[str, ...] = ()
    """Nodes that a fault around it has taken: no link is up to them."""

    @property
    def reach(self) -> Reach:
        return Reach(frozenset(), costs_membership=False)

    def preflight(self, observer: Observer) -> None:
        for name, address in self.addresses:
            check_addresses(name, (address,))
        check_free(observer, self.tag, self.nodes)
        for name in self.nodes:
            links = corosync.links(observer.site.nodes[name], observer.site.clock.deadline(READ))
            if self.link not in links or not spare(links, (self.link,), len(self.silent)):
                raise PreflightRefused(
                    f"node {name} has {len(links)} corosync links, and none but link {self.link} is up to every node: "
                    f"without it the node would be cut off"
                )

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """Each of the nodes takes its own rules back."""
        return DeadMan.on_every(*(Undo(name, rules.undo_script(self.tag)) for name in self.nodes))

    def inject(self, observer: Observer) -> None:
        for name in self.nodes:
            others = tuple(address for node, address in self.addresses if node != name)
            traffic = rules.Traffic(others, (KNET[0] + self.link, KNET[0] + self.link))
            rules.put(observer.site.nodes[name], self.tag, traffic, deadline=observer.site.clock.deadline(READ))

    def took_effect(self, observer: Observer) -> Answer:
        """Corosync calls the link of each of the nodes disconnected to every other node."""
        for name in self.nodes:
            links = corosync.links(observer.site.nodes[name], observer.site.clock.deadline(READ))
            if self.link not in links:
                return cant_tell(f"{name} tells of no link {self.link}")
            if up := [str(peer) for peer, there in links[self.link].items() if there]:
                return no(f"{name} calls link {self.link} to node {', '.join(up)} connected")
        observer.look()
        return yes(f"link {self.link} of {', '.join(self.nodes)} is down")

    def heal(self, observer: Observer) -> None:
        take_back(observer, self.tag, self.nodes, ())

    def healed(self, observer: Observer) -> Answer:
        return none_left(observer, self.tag, self.nodes, ())


@dataclass(frozen=True, slots=True)
class QdeviceLoss:
    """Make the quorum device unreachable for every node, as if its machine were gone.

    Blast radius: its votes. Undo: the rules are taken back; a reboot does the same.
    """

    kind: ClassVar[str] = "qdevice-loss"
    family: ClassVar[str] = "network"
    danger: ClassVar[Danger] = Danger.NETWORK
    undo: ClassVar[str] = Partition.undo

    tag: str
    nodes: tuple[str, ...]
    host: str
    port: int

    @property
    def reach(self) -> Reach:
        return Reach(frozenset(), costs_membership=False, device=True)

    def preflight(self, observer: Observer) -> None:
        if not is_address(self.host):
            raise PreflightRefused(f"corosync calls the quorum device's machine {self.host!r}, which is no IP address")
        check_free(observer, self.tag, self.nodes)

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """Every node takes its own rules back."""
        return DeadMan.on_every(*(Undo(name, rules.undo_script(self.tag)) for name in self.nodes))

    def inject(self, observer: Observer) -> None:
        traffic = rules.Traffic((self.host,), tcp=self.port)
        for name in self.nodes:
            rules.put(observer.site.nodes[name], self.tag, traffic, deadline=observer.site.clock.deadline(READ))

    def took_effect(self, observer: Observer) -> Answer:
        """The daemon of the quorum device on every node says that it is not connected."""
        for name in self.nodes:
            state = corosync.device_state(observer.site.nodes[name], observer.site.clock.deadline(READ))
            if state == "Connected":
                return no(f"{name} is still connected to the quorum device")
        observer.look()
        return yes(f"{', '.join(self.nodes)} are not connected to {self.host}")

    def heal(self, observer: Observer) -> None:
        take_back(observer, self.tag, self.nodes, ())

    def healed(self, observer: Observer) -> Answer:
        return none_left(observer, self.tag, self.nodes, ())


def check_addresses(name: str, addresses: Iterable[str], network: str = "a corosync link") -> None:
    """Rules can name every one of them; PreflightRefused otherwise."""
    addresses = tuple(addresses)
    if not addresses:
        raise PreflightRefused(f"node {name} has no address on {network}: its links cannot be cut")
    for address in addresses:
        if not is_address(address):
            raise PreflightRefused(
                f"corosync calls a link of {name} {address!r}, which is no IP address: rules cannot name it; "
                f"write addresses into corosync.conf"
            )


def spare(links: Mapping[int, Mapping[int, bool]], lost: Iterable[int], silent: int = 0) -> list[int]:
    """The links besides those that are up to every node but so many that are known to be silent: on no link at all."""
    peers = set().union(*links.values())
    there = {peer for peer in peers if any(each.get(peer) for each in links.values())}
    if len(peers - there) > silent:
        return []
    return [number for number, each in links.items() if number not in lost and all(each.get(peer) for peer in there)]


def check_free(observer: Observer, tag: str, names: Iterable[str]) -> None:
    """Nobody has rules of that tag, and everybody could have; PreflightRefused otherwise."""
    for name in names:
        try:
            if rules.there(observer.site.nodes[name], tag, observer.site.clock.deadline(READ)):
                raise PreflightRefused(f"node {name} has rules called {tag} already; type `pveha heal`")
        except SiteError as error:
            raise PreflightRefused(f"node {name} cannot be cut off by rules: {error}") from error


def take_back(observer: Observer, tag: str, lasting: Iterable[str], others: Iterable[str]) -> None:
    """No node that answers has rules of that tag; SiteError where one does not that should.

    Of the others each may be resetting itself, and its rules with it; ``none_left`` looks.
    """
    for name in lasting:
        rules.take_back(observer.site.nodes[name], tag, observer.site.clock.deadline(READ))
    for name in others:
        with suppress(SiteError):
            rules.take_back(observer.site.nodes[name], tag, observer.site.clock.deadline(READ))


def none_left(observer: Observer, tag: str, lasting: tuple[str, ...], others: Iterable[str]) -> Answer:
    """Whether no node has rules of that tag; one of the others that is silent restarts, and has none."""
    silent = []
    for name in (*lasting, *others):
        try:
            if rules.there(observer.site.nodes[name], tag, observer.site.clock.deadline(READ)):
                return no(f"{name} still has rules called {tag}")
        except SiteError as error:
            if name in lasting:
                return cant_tell(str(error))
            silent.append(name)
    if silent:
        return yes(f"no rules are left; {', '.join(silent)} restarts, which takes its rules with it")
    return yes("no rules are left on either side")


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
