"""Network faults, by packet filter rules on both sides of the cut."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import ClassVar

from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults import rules
from pytest_pveha.faults.fault import Danger, DeadMan, Reach, Undo
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer

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

    @property
    def reach(self) -> Reach:
        return Reach(frozenset(self.cut_off), about_quorum=self.about_quorum)

    def preflight(self, observer: Observer) -> None:
        known = dict(self.addresses)
        for name in (*self.cut_off, *self.rest):
            if not known.get(name):
                raise PreflightRefused(f"node {name} has no address on a corosync link: its links cannot be cut")
            for address in known[name]:
                if not _is_address(address):
                    raise PreflightRefused(
                        f"corosync calls a link of {name} {address!r}, which is no IP address: rules cannot name it; "
                        f"write addresses into corosync.conf"
                    )
        for name in (*self.cut_off, *self.rest):
            try:
                if rules.there(observer.site.nodes[name], self.tag, observer.site.clock.deadline(READ)):
                    raise PreflightRefused(f"node {name} has rules called {self.tag} already; type `pveha heal`")
            except SiteError as error:
                raise PreflightRefused(f"node {name} cannot be cut off by rules: {error}") from error

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """Every node takes its own rules back: what resets meanwhile has lost them, and its timer, together."""
        script = rules.undo_script(self.tag)
        return DeadMan.on_every(*(Undo(name, script) for name in (*self.cut_off, *self.rest)))

    def inject(self, observer: Observer) -> None:
        known = dict(self.addresses)
        for here, others in ((self.cut_off, self.rest), (self.rest, self.cut_off)):
            traffic = rules.Traffic(tuple(address for name in others for address in known[name]), KNET)
            for name in here:
                node = observer.site.nodes[name]
                rules.put(node, self.tag, traffic, observer.site.clock.deadline(READ))

    def took_effect(self, observer: Observer) -> Answer:
        """Corosync itself counts no node of the other side, as every node says."""
        for side in (self.rest, self.cut_off):
            for name in side:
                votes = observer.votes(observer.site.nodes[name])
                if votes.nodes is None:
                    return cant_tell(f"{name} does not say how many nodes it counts")
                if votes.nodes > len(side):
                    return no(f"{name} still counts {votes.nodes} nodes, and its side has {len(side)}")
        observer.look()
        return yes(f"{', '.join(self.cut_off)} and {', '.join(self.rest)} no longer count each other")

    def heal(self, observer: Observer) -> None:
        for name in (*self.rest, *self.cut_off):
            try:
                rules.take_back(observer.site.nodes[name], self.tag, observer.site.clock.deadline(READ))
            except SiteError:
                if name in self.rest:
                    raise
                # of the others, it may be resetting itself, and its rules with it; `healed` looks

    def healed(self, observer: Observer) -> Answer:
        silent = []
        for name in (*self.rest, *self.cut_off):
            try:
                if rules.there(observer.site.nodes[name], self.tag, observer.site.clock.deadline(READ)):
                    return no(f"{name} still has rules called {self.tag}")
            except SiteError as error:
                if name in self.rest:
                    return cant_tell(str(error))
                silent.append(name)
        if silent:
            return yes(f"no rules are left; {', '.join(silent)} restarts, which takes its rules with it")
        return yes("no rules are left on either side")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
