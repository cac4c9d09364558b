"""What the site's shutdown policy promises for a node that goes down in good order, as a suite test asks and claims it.

The policy is read from the live site. A test says when each thing is to be seen; what that is, the promise knows.
Source: PVE Administration Guide, "Shutdown Policy"; pve-ha-manager 5.2, LRM.pm; times measured on PVE 9.1.9.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_pveha.errors import SiteError
from pytest_pveha.faults.news import FENCED
from pytest_pveha.handles.guest import Guests, Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.site import Site
from pytest_pveha.judge import Measure, downtime, time_after_return
from pytest_pveha.observe import ha, nodes
from pytest_pveha.observe.answer import Condition
from pytest_pveha.observe.observer import READ
from pytest_pveha.scenario.homes import homes_of
from pytest_pveha.scenario.objectives import Objective, Objectives

DEFAULT = "conditional"


@dataclass(frozen=True, slots=True)
class Promise:
    """What becomes of a node's guests."""

    going: Condition
    """What is seen before the node has left, or as it leaves."""
    away: Condition
    """What is seen while it is away."""
    back: Condition
    """What is seen some time after its return."""
    fence: Condition
    """Whether it was fenced, as it should be or should not."""
    outage: Measure
    """What the guests' absence is measured by."""
    limit: Objective
    """How long that may be."""
    news: tuple[str, ...] = ()
    """What journals may say about the node, and the fault alone does not make them say."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The live shutdown policy, and what it promises some guests of one node."""

    name: str
    on_reboot: Promise
    on_power_off: Promise


def policy_of(site: Site, guests: Guests, victim: Node, objectives: Objectives) -> Policy:
    """What the site as it is set now promises.

    Raises:
        SiteError: it is set to a policy that this version does not know.
    """
    set_to = site.cluster.options(site.clock.deadline(READ), "ha").get("ha", {})
    name = set_to.get("shutdown_policy", DEFAULT) if isinstance(set_to, dict) else DEFAULT
    others, home = site.nodes - {victim}, Nodes([victim])
    unfenced, lost = nodes.not_fenced(victim), ha.membership_lost(victim)
    at_home, elsewhere = ha.started(guests, on=home), ha.started(guests, on=others)
    anywhere = ha.started(guests, on=site.nodes)
    returned = homes_of(site).returned(guests, victim)
    moved = Promise(elsewhere, elsewhere, returned, unfenced, downtime(guests), objectives.live)
    frozen_there = nodes.frozen(guests, victim)
    frozen = Promise(frozen_there, frozen_there, at_home, unfenced, time_after_return(guests, victim), objectives.rto)
    recovered = Promise(lost, elsewhere, anywhere, ha.fenced(victim), downtime(guests), objectives.rto)
    unless_back = Promise(
        lost, lost, anywhere, nodes.recovered_or_home(guests, victim), downtime(guests), objectives.rto, FENCED
    )
    table = {
        "migrate": (moved, moved),
        "conditional": (frozen, recovered),
        "freeze": (frozen, frozen),
        "failover": (unless_back, recovered),
    }
    if name not in table:
        raise SiteError(f"the shutdown policy is {name!r}; this version knows {', '.join(table)}")
    return Policy(name, *table[name])
