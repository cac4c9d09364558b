"""``pveha stop``: the run that is on a site heals what it broke, and ends."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_pveha.cli.output import say


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``pveha stop INVENTORY``."""
    parser = commands.add_parser(
        "stop",
        help="ask the run that is on a site to heal and end",
        description="The run on this site, started by the same user on this machine, heals what it broke, lists what "
        "it did not come to as not proven, and ends. Exit code 0: it was asked; 1: no run is on the site.",
    )
    parser.add_argument("inventory", metavar="INVENTORY", type=Path, help="the site's inventory")
    parser.add_argument("--why", metavar="TEXT", default="pveha stop", help="the reason, for the record")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The run has been asked to end."""
    from pytest_pveha.inventory import load
    from pytest_pveha.record.lease import Lease

    lease = Lease(load(options.inventory).name)
    holder = lease.holder()
    if holder is None:
        say("no run is on this site")
        return 1
    lease.ask_to_stop(options.why)
    say(f"process {holder} was asked to heal and end; it does so at its next look at the site")
    return 0
