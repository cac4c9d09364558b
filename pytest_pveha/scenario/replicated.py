"""The replicated guests of a node, before anything is broken."""

from __future__ import annotations

import pytest

from pytest_pveha.handles.guest import Guests
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.replicas import Replicas, Told
from pytest_pveha.handles.site import Site
from pytest_pveha.observe.observer import READ


def replicas_of(site: Site, residents: Guests, victim: Node) -> Replicas:
    """Those of the guests on that node that have replication jobs which are switched on. Skips where there are none."""
    deadline = site.clock.deadline
    jobs = site.replication.on(victim.name, deadline(READ)).values()
    clock, now = victim.clock_offset(deadline(READ)), site.clock.now()
    told = {}
    for guest in residents:
        mine = tuple(job for job in jobs if f"{job.vmid}" == guest.sid.partition(":")[2] and not job.disabled)
        if mine:
            told[guest.sid] = Told(victim.name, mine, clock)
    found = Replicas((guest for guest in residents if guest.sid in told), told, now)
    if not found:
        pytest.skip(f"not proven: no HA guest on {victim.name} has a replication job that is switched on")
    return found
