"""``pveha verify``: is a run folder what was sealed, and by whom?"""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_pveha.cli.judge import folder_of, judged
from pytest_pveha.cli.output import complain, say
from pytest_pveha.errors import EvidenceError, UsageError

HOLDS, DOES_NOT_HOLD = 0, 1


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``pveha verify RUN [--allowed-signers FILE] [--identity ID] [--approvers FILE] [--signed]``."""
    parser = commands.add_parser(
        "verify",
        help="check a run's seal, and judge it again",
        description="Checks that every file of a run folder is as it was sealed, who sealed it, and that its journal "
        "gives its verdict. Exit code 0: VERIFIED or INTACT; 1: anything else. docs/how-to/verify-evidence.md does the "
        "same with ssh-keygen and sha256sum alone.",
    )
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="a run folder, as reports/latest")
    parser.add_argument(
        "--allowed-signers",
        metavar="FILE",
        type=Path,
        help="who may sign, in ssh-keygen's form, got by another way than with the run",
    )
    parser.add_argument("--identity", metavar="ID", help="who must have signed; without it, any of the allowed signers")
    parser.add_argument(
        "--approvers",
        metavar="FILE",
        type=Path,
        help="who may approve, in the same form and got as well; then a run that nobody approved does not hold",
    )
    parser.add_argument("--signed", action="store_true", help="exit code 1 too when the run is not signed at all")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """What holds and what does not has been told."""
    from pytest_pveha.evidence.verify import verify_run
    from pytest_pveha.judge.verdict import dump

    given: Path = options.run_folder
    # a folder that has lost its journal is a finding, not a wrong word
    folder = given if given.is_dir() else folder_of(given)
    for option, path in (("--allowed-signers", options.allowed_signers), ("--approvers", options.approvers)):
        if path is not None and not path.is_file():
            raise UsageError(f"{option} {path}: there is no such file")
    try:
        report = verify_run(
            folder,
            allowed_signers=options.allowed_signers,
            identity=options.identity,
            approvers=options.approvers,
            rejudge=lambda each: dump(judged(each)),
        )
    except EvidenceError as error:
        raise UsageError(str(error)) from None
    for line in report.lines:
        say(line)
    if report.ok and options.signed and not report.signed:
        complain("--signed: this run is not signed")
        return DOES_NOT_HOLD
    return HOLDS if report.ok else DOES_NOT_HOLD
