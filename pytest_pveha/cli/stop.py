"""``pveha stop``: the run that is on a site heals what it broke, and ends."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pveha.cli.output import say

if TYPE_CHECKING:
    from pytest_pveha.inventory import Site as Inventory

ASKED, NOBODY = 0, 1


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``pveha stop INVENTORY``."""
    parser = commands.add_parser(
        "stop",
        help="ask the run that is on a site to heal and end",
        description="The run on this site, on this machine or on another, heals what it broke, lists what it did not "
        "come to as not proven, and ends. Exit code 0: it was asked; 1: no run is on the site.",
    )
    parser.add_argument("inventory", metavar="INVENTORY", type=Path, help="the site's inventory")
    parser.add_argument("--why", metavar="TEXT", default="pveha stop", help="the reason, for the record")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The run has been asked to end."""
    from pytest_pveha.inventory import load
    from pytest_pveha.record.lease import Lease

    inventory = load(options.inventory)
    lease = Lease(inventory.name)
    if (holder := lease.holder()) is not None:
        lease.ask_to_stop(options.why)
        say(f"process {holder} was asked to heal and end; it does so at its next look at the site")
        return ASKED
    if inventory.simulated:  # it lives on this machine, and so does whoever is on it
        say("no run is on this site")
        return NOBODY
    return _ask_elsewhere(inventory, options.why)


def _ask_elsewhere(inventory: Inventory, why: str) -> int:
    """The run of another machine finds the wish on the nodes."""
    from pytest_pveha.faults.keeping import ask_to_stop
    from pytest_pveha.handles.cluster_lease import lease_holder
    from pytest_pveha.scenario.visit import visited

    with visited(inventory) as site:
        holder = lease_holder(site.lease_on, site.clock, site.lease_folder)
        if holder is None:
            say("no run is on this site")
            return NOBODY
        asked = ask_to_stop(site, holder.run, why)
        say(f"{holder} was asked, on {', '.join(asked)}, to heal and end; it does so within seconds")
        return ASKED
