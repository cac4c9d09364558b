"""Whether the nodes' bonds notice a lost link before the cluster does: asked, not tried.

A link that goes down is seen within the MII interval. A partner that dies silently, its light still on, is only missed
by LACP, after three periods (IEEE 802.1AX, 6.4.4): until then the bond goes on sending over that member.
"""

from __future__ import annotations

from pytest_pveha.errors import SiteError
from pytest_pveha.handles import bonds, corosync
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.readiness.check import Check

FENCED = 60.0
"""Seconds without quorum after which a node's watchdog resets it (pve-ha-manager, watchdog-mux.c)."""


def _partners(observer: Observer) -> Answer:
    """Each bond that negotiates notices a silent partner before corosync forms a membership without the node."""
    clock = observer.site.clock
    ring = corosync.ring(observer.site.cluster, clock.deadline(READ))
    limit = ring.token + ring.consensus
    late, negotiated, others = [], [], []
    for node in observer.site.nodes:
        try:
            found = bonds.bonds(node, clock.deadline(READ))
        except SiteError as error:
            return cant_tell(str(error))
        for bond in found:
            noticed = bonds.NOTICED.get(bond.rate)
            if not bond.lacp:
                others.append(f"{node.name}: {bond.name}")
            elif noticed is None:
                return cant_tell(f"{node.name}: {bond.name} asks at rate {bond.rate!r}, which we do not know")
            elif noticed >= limit:
                late.append(f"{node.name}: {bond.name} ({bond.rate})")
            else:
                negotiated.append(f"{node.name}: {bond.name}")
    if late:
        slow = bonds.NOTICED["slow"]
        return no(
            f"{'; '.join(late)}: a partner that dies silently is missed after 3 × {slow / 3:g} s = {slow:g} s, and all "
            f"that the bond sends over that member until then is lost; without a node corosync forms its membership "
            f"after token {ring.token:g} s + consensus {ring.consensus:g} s = {limit:.1f} s, and a node without quorum "
            f"is reset after {FENCED:g} s, so it would be fenced {slow - FENCED:g} s before its bond moves over"
        )
    if not negotiated:
        return yes(f"no bond negotiates ({bonds.LACP}); others: {', '.join(others) or 'none'}")
    fast = bonds.NOTICED["fast"]
    return yes(f"{'; '.join(negotiated)}: missed after {fast:g} s, and corosync waits {limit:.1f} s")


def _lost_links(observer: Observer) -> Answer:
    """Each bond looks for lost links, and every member has one."""
    wrong, there = [], []
    for node in observer.site.nodes:
        try:
            found = bonds.bonds(node, observer.site.clock.deadline(READ))
        except SiteError as error:
            return cant_tell(str(error))
        for bond in found:
            there.append(f"{node.name}: {bond.name} ({', '.join(member.name for member in bond.members)})")
            if not bond.watched:
                wrong.append(f"{node.name}: {bond.name} never looks for lost links (MII and ARP intervals are 0)")
            if not bond.partner:
                wrong.append(f"{node.name}: {bond.name} negotiates, and nobody answers")
            wrong += [
                f"{node.name}: {member.name} of {bond.name} has {'an aggregator alone' if member.up else 'no link'}"
                for member in bond.members
                if not bond.carries(member)
            ]
            if len(bond.members) < 2:
                wrong.append(f"{node.name}: {bond.name} has one member alone")
    if wrong:
        return no("; ".join(wrong))
    return yes("; ".join(there) or "no node has a bond")


BONDS = (
    Check("bond-members", "Every bond has all its members", "plug in what is out; bond-miimon 100", _lost_links),
    Check("lacp-rate", "A silent partner is missed in time", "set bond-lacp-rate fast, on the switch too", _partners),
)
"""What a node's bonds must be. No part of the gate: a site that lacks it may still be tested for all else."""
