"""The replicated guests of a node, before anything is broken."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pytest_pveha.handles.guest import Guests
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.replicas import Replicas, Told
from pytest_pveha.handles.site import Site
from pytest_pveha.observe.observer import READ


def replicas_of(site: Site, residents: Guests, victim: Node) -> Replicas:
    """Those of the guests on that node that have replication jobs which are switched on. Skips where there are none."""
    found = replicas_on(site, residents, [victim])
    if not found:
        pytest.skip(f"not proven: no HA guest on {victim.name} has a replication job that is switched on")
    return found


def replicas_on(site: Site, guests: Guests, nodes: Iterable[Node]) -> Replicas:
    """Those of the guests that the replication jobs which are switched on on these nodes are about; maybe none."""
    deadline = site.clock.deadline
    told = {}
    for node in nodes:
        jobs = site.replication.on(node.name, deadline(READ)).values()
        clock = node.clock_offset(deadline(READ))
        for guest in guests:
            mine = tuple(job for job in jobs if f"{job.vmid}" == guest.sid.partition(":")[2] and not job.disabled)
            if mine:
                told[guest.sid] = Told(node.name, mine, clock)
    return Replicas((guest for guest in guests if guest.sid in told), told, site.clock.now())
