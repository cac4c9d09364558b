"""``pveha judge``: does the record still give the verdict that was written?"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pveha.cli.output import complain, say
from pytest_pveha.errors import EvidenceError, UsageError

if TYPE_CHECKING:
    from pytest_pveha.judge.verdict import Verdict

SAME, DIFFERENT = 0, 1


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``pveha judge RUN [--print]``."""
    parser = commands.add_parser(
        "judge",
        help="judge a run again, from its journal alone",
        description="Judges a run again from its journal.jsonl alone and compares with its verdict.json, byte for "
        "byte. Exit code 0: the same; 1: different. A missing verdict.json is written. The verdict itself does not "
        "change the exit code.",
    )
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="a run folder, as reports/latest, or its journal")
    parser.add_argument(
        "--print",
        action="store_true",
        dest="print_json",
        help="print what verdict.json should be on standard output, and write nothing",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The comparison has been told."""
    from pytest_pveha.judge.verdict import dump
    from pytest_pveha.report.terminal import summary_lines

    folder = folder_of(options.run_folder)
    verdict = judged(folder)
    again, path = dump(verdict), folder / "verdict.json"
    written = _bytes(path)
    tell = partial(complain, prefix="") if options.print_json else say
    if options.print_json:
        sys.stdout.buffer.write(again)
    else:
        for line in summary_lines(verdict.to_json()):
            say(line)
    if written is None:
        if options.print_json:
            tell(f"{path}: there is none to compare with")
            return SAME
        _write(path, again)
        tell(f"{path}: there was none; written")
        return SAME
    if written == again:
        tell(f"same: the journal gives {path}, byte for byte")
        return SAME
    tell(
        f"different: the journal does not give {path}. It was changed, or judged by another version of pytest-pveha; "
        f"compare with: pveha judge --print {options.run_folder}"
    )
    return DIFFERENT


def folder_of(given: Path) -> Path:
    """The run folder that was named, by itself or by its journal.

    Raises:
        UsageError: there is none.
    """
    if given.is_dir():
        if not (given / "journal.jsonl").exists():
            raise UsageError(f"{given}: no run folder, there is no journal.jsonl in it; name one, as reports/latest")
        return given
    if not given.exists():
        raise UsageError(f"{given}: does not exist; name a run folder, as reports/latest")
    if given.name != "journal.jsonl":
        raise UsageError(f"{given}: neither a run folder nor its journal.jsonl; name one, as reports/latest")
    return given.parent


def judged(folder: Path) -> Verdict:
    """What the folder's journal gives.

    Raises:
        EvidenceError: the journal cannot be read, or was changed.
    """
    from pytest_pveha.judge.verdict import judge
    from pytest_pveha.record.journal import read

    try:
        return judge(read(folder / "journal.jsonl"))
    except EvidenceError as error:
        raise EvidenceError(
            f"{error}. Nothing can be judged from this journal. If the run was killed and is on a site's register, "
            "`pveha heal` mends its end; otherwise take the folder from where it was kept"
        ) from None


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None


def _write(path: Path, content: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        raise UsageError(
            f"{path}: is missing and cannot be written ({error.strerror}); try: pveha judge --print"
        ) from None
