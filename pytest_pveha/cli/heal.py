"""``pveha heal``: what a killed run left broken is put right."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_pveha.cli.output import complain, say
from pytest_pveha.errors import EvidenceError

HEALED, NOT_HEALED = 0, 7


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``pveha heal --inventory FILE``."""
    parser = commands.add_parser(
        "heal",
        help="finish what a killed run left broken",
        description="Undoes every fault that earlier runs left on this site, then waits until the site is as it was "
        "found. It may be repeated. Exit code 0: healed, or nothing to heal; 6: the site does not answer; 7: not "
        "healed.",
    )
    parser.add_argument("--inventory", metavar="FILE", type=Path, required=True, help="the site to heal")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The site is as it was found."""
    from pytest_pveha.healing import heal_site

    told = ""

    def tell(line: str) -> None:
        nonlocal told
        if line != told:  # a wait of minutes says the same thing every few seconds
            say(line)
        told = line

    try:
        healed = heal_site(options.inventory, by="pveha heal", tell=tell)
    except EvidenceError as error:
        complain(str(error))
        return NOT_HEALED
    say(f"healed: {healed} run{'s' if healed > 1 else ''}" if healed else "nothing to heal")
    return HEALED
