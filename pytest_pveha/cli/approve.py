"""``pveha approve``: a second person signs a plan."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_pveha.cli.output import row, say
from pytest_pveha.errors import EvidenceError, UsageError


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``pveha approve PLAN --key FILE --identity ID``."""
    parser = commands.add_parser(
        "approve",
        help="sign a plan, as the second person",
        description="Shows the plan in short and signs it with another SSH key than the one that seals the evidence; "
        "the signature is PLAN.approval. Where the inventory has consent.approval, nothing is broken without it. Exit "
        "code 0: it is signed; 4: it is no plan, or the key cannot sign.",
    )
    parser.add_argument("plan", metavar="PLAN", type=Path, help="the file that pveha plan --json wrote")
    parser.add_argument(
        "--key", metavar="FILE", type=Path, required=True, help="OpenSSH private key of who approves, mode 0600"
    )
    parser.add_argument("--identity", metavar="ID", required=True, help="who approves, usually an e-mail address")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The approval lies beside the plan."""
    from pytest_pveha.approval import approve
    from pytest_pveha.report.plan import plan_lines
    from pytest_pveha.scenario.planning import digest, parse

    try:
        path, line = approve(options.plan, options.key, options.identity)
    except EvidenceError as error:
        raise UsageError(str(error)) from None
    raw = options.plan.read_bytes()
    for told in plan_lines(parse(raw, str(options.plan)), None, digest(raw)):
        say(told)
    say()
    row("approved", f"by {options.identity}: {path}")
    row("allowed by", f"this line in consent.approval.allowed_signers: {line.strip()}")
    return 0
