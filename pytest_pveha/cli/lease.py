"""``pveha lease``: who has a cluster, as the cluster itself remembers; and, deliberately, nobody any more."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_pveha.cli.output import say

FREE, HELD = 0, 1


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``pveha lease INVENTORY``."""
    parser = commands.add_parser(
        "lease",
        help="show, or break, the hold that a run has on a cluster",
        description="A run that breaks things holds its cluster by a directory in the cluster file system, which every "
        "controller sees. Exit code 0: nobody holds it; 1: somebody does; 6: the site does not answer.",
    )
    parser.add_argument("inventory", metavar="INVENTORY", type=Path, help="the site's inventory")
    parser.add_argument(
        "--break",
        dest="breaks",
        action="store_true",
        help="take it away from whoever holds it; only when that run is known to be dead. Then type `pveha heal`",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Who holds the cluster was said; with ``--break`` nobody does."""
    from pytest_pveha.handles.cluster_lease import break_lease, lease_holder, seconds_left
    from pytest_pveha.inventory import load
    from pytest_pveha.scenario.visit import visited

    with visited(load(options.inventory), begin=False) as site:
        holder = lease_holder(site.lease_on, site.clock, site.lease_folder)
        if holder is None:
            say("nobody holds this cluster")
            return FREE
        left = seconds_left(holder, site.lease_on, site.clock)
        say(f"held by {holder}, {f'for {left} s more' if left > 0 else 'and no longer renewed'}")
        if not options.breaks:
            return HELD
        break_lease(site.lease_on, site.clock, site.lease_folder)
        say("the lease was broken; look for what that run left: pveha heal")
        return FREE
