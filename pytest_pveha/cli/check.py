"""``pveha check``: is the inventory right, and is the site as it says, and fit to be tested? Nothing is changed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pveha.cli.output import row, say

if TYPE_CHECKING:
    from pytest_pveha.cli.asked import Asked
    from pytest_pveha.inventory import Site

READY, NOT_READY, CANT_TELL = 0, 1, 6


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``pveha check INVENTORY [--no-connect]``."""
    parser = commands.add_parser(
        "check",
        help="check an inventory, and whether its site is ready",
        description="Checks the inventory, then asks every API endpoint, node, BMC and the backup server once, "
        "read-only, says what the API token lacks, and runs the readiness checks. A simulated site that is not running "
        "is started for that and ended again. Exit code 0: ready; 1: not ready; 4: the inventory is wrong; 6: it "
        "cannot be told.",
    )
    parser.add_argument("inventory", metavar="INVENTORY", type=Path, help="the site's inventory")
    parser.add_argument(
        "--no-connect",
        action="store_true",
        help="only the inventory: no other file is opened, no secret is resolved, nobody is contacted",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """What was found is told, line by line."""
    from pytest_pveha.inventory import load, node_digest

    site = load(options.inventory)
    model = site.model
    row("inventory", f"{options.inventory}: valid, sha256 {site.sha256}")
    kind = "SIMULATED: nothing real is touched" if site.simulated else "real"
    row("site", f"{site.name} ({kind}), cluster {model.cluster.name}")
    row("nodes", ", ".join(model.nodes))
    row("node_digest", node_digest(list(model.nodes)))
    row("guests", ", ".join(guest.id for guest in model.guests) or "none")
    row("consent", consent(site))
    for warning in warnings(site):
        row("warning", warning)
    if options.no_connect:
        return READY
    from pytest_pveha.cli.asking import ask_site

    say()
    answers: list[Asked] = []
    with closing(ask_site(site)) as asking:  # whatever ends us, the site that was started ends too
        for asked in asking:
            answers.append(asked)
            row(WORDS[asked.verdict], str(asked))
    say()
    return _conclude(answers)


WORDS = {"yes": "OK", "no": "NO", "cant_tell": "CAN'T TELL", "not_there": "NOT PROVEN"}


def _conclude(answers: list[Asked]) -> int:
    count = len(answers)
    wrong = [each for each in answers if each.verdict == "no"]
    unknown = [each for each in answers if each.verdict == "cant_tell"]
    refused = any(each.blocks for each in (*wrong, *unknown))
    then = (
        "destructive tests will be refused"
        if refused
        else "no test is refused for it, but those that need it will not pass"
    )
    if wrong:
        say(f"NOT READY: {len(wrong)} of {count} answers are NO; {then}")
        return NOT_READY
    if unknown:
        say(f"CAN'T TELL: {len(unknown)} of {count} questions have no answer; {then}")
        return CANT_TELL
    apart = sum(each.verdict == "not_there" for each in answers)
    rest = f"; {apart} questions are about Proxmox, which it does not have" if apart else ""
    say(f"READY: all {count - apart} answers are OK{rest}")
    return READY


def consent(site: Site) -> str:
    """What may be broken here, now, as far as the inventory alone tells."""
    from pytest_pveha.clock import LiveClock
    from pytest_pveha.inventory import consent_refusal

    if site.simulated:
        return "not needed, the site is simulated"
    given = site.model.consent
    refusal = consent_refusal(site, now=LiveClock().utc(), cluster_name=None, node_names=None, fault=None, target=None)
    if given is None or refusal is not None:
        return f"REFUSED: {refusal}"
    return (
        f"by {given.granted_by}, ticket {given.ticket}, until {given.not_after.isoformat()}, "
        f"for {', '.join(given.faults)} on {', '.join(given.targets)}"
        f"{', with a second signature (consent.approval)' if given.approval else ''}"
    )


def warnings(site: Site) -> Iterator[str]:
    """What is valid, and will leave something unproven with this version."""
    for name, node in site.model.nodes.items():
        supplied = site.simulated and not (node.pdu or node.operator)
        if node.bmc is None and not supplied:
            other = next((way for way in ("pdu", "operator") if getattr(node, way) is not None), None)
            what = f"power by {other} only: what cuts it at the BMC" if other else "no BMC: power tests on it"
            yield f"nodes.{name}: {what} will be not proven; add nodes.{name}.bmc"
        if node.operator is not None and site.model.simulator is not None and site.model.simulator.operator is None:
            yield f"nodes.{name}.operator: nobody plays them, so nobody will answer; add simulator.operator"
        if node.bmc is not None and node.bmc.driver == "redfish" and find_spec("sushy") is None:
            yield (
                f"nodes.{name}.bmc.driver: redfish needs the package sushy, which is not installed here; "
                "type: pip install 'pytest-pveha[redfish]'"
            )
    if site.model.backup is not None and site.model.backup.pbs is None and not site.simulated:
        yield "backup.pbs: not there, so the backup server itself is not asked; add it, with a token that may only look"
    for index, guest in enumerate(site.model.guests):
        lacking = [probe.kind for probe in guest.probes if probe.kind not in ("tcp", "agent")]
        if lacking and not site.simulated:
            enough = (
                "" if len(lacking) < len(guest.probes) else "; it has no other, so nothing can be told of its outage"
            )
            what = f"this version cannot ask {', '.join(lacking)}, only tcp and agent{enough}"
            yield f"guests[{index}].probes: {guest.id}: {what}"
