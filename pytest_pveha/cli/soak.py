"""``pveha soak``: one ordinary run after the other until the time is up, and what they add up to."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_pveha.cli.output import complain, row, say
from pytest_pveha.errors import UsageError

DIRTY, REJECTED, UNPROVEN = 7, 1, 6
GOES_ON = frozenset({0, REJECTED, UNPROVEN})
"""Exit codes of a run after which there may be another."""


@dataclass(frozen=True, slots=True)
class Played:
    """One run that has ended."""

    folder: Path | None
    """None: it left no verdict."""
    code: int
    verdict: dict[str, Any]

    @property
    def seconds(self) -> float:
        """How long it took, of the site's time."""
        from pytest_pveha.report.words import between

        return between(self.verdict.get("started"), self.verdict.get("finished")) or 0.0


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``pveha soak DURATION INVENTORY [TEST …]``."""
    parser = commands.add_parser(
        "soak",
        help="run again and again until the time is up",
        description="Runs pytest on the site again and again, and says at the end what the runs add up to. Time is the "
        "site's own: a simulated one plays hours in seconds. A run that would not end in time, as long as the longest "
        "so far, is not begun. It ends early when a site is dirty, or a run could not be made. Exit code: the worst of "
        "the runs', 7, 1 or 6; 0: all were accepted; else pytest's.",
    )
    parser.add_argument("duration", metavar="DURATION", help='as in an inventory: "8 h", "90 min"')
    parser.add_argument("inventory", metavar="INVENTORY", type=Path, help="the site's inventory")
    parser.add_argument(
        "tests", metavar="TEST", nargs="*", help="paths or ids as pytest takes them; after -- any word of pytest's"
    )
    parser.add_argument("-m", metavar="MARKS", default="destructive", help="as pytest's -m; default: destructive")
    parser.add_argument("-k", metavar="NAMES", help="as pytest's -k")
    parser.add_argument("--reports", metavar="DIR", type=Path, default=Path("reports"), help="where run folders go")
    parser.add_argument("--campaign", metavar="N", type=int, help="each run is a campaign of N scenarios")
    parser.add_argument("--seed", metavar="S", type=int, default=1, help="the first seed; then S+1, and so on")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the sum there too")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The runs have been made, and their sum was told."""
    from pytest_pveha.inventory import load, parse_duration

    try:
        seconds = parse_duration(options.duration)
    except ValueError as error:
        raise UsageError(f"DURATION {options.duration}: {error}") from None
    reports = options.reports.absolute() / load(options.inventory).name
    played: list[Played] = []
    while not played or _may_go_on(played, seconds):
        played.append(_play(command(options, len(played)), reports))
        last = played[-1]
        row(f"run {len(played)}", f"{last.verdict.get('verdict') or f'exit code {last.code}'}  {last.folder or ''}")
    total = summed(played)
    for line in told(total):
        say(line)
    if options.json is not None:
        _write(options.json, total)
    return exit_code([each.code for each in played])


def command(options: argparse.Namespace, number: int) -> list[str]:
    """pytest, with the words of that run."""
    loaded = [] if metadata.entry_points(group="pytest11", name="pveha") else ["-p", "pytest_pveha.plugin"]
    words = [f"--pveha-inventory={options.inventory.absolute()}", f"--pveha-reports={options.reports.absolute()}"]
    words += ["-m", options.m] + ([f"-k={options.k}"] if options.k else [])
    if options.campaign is not None:
        words += [f"--pveha-campaign={options.campaign}", f"--pveha-seed={options.seed + number}"]
    return [sys.executable, "-m", "pytest", *loaded, *words, *options.tests]


def _may_go_on(played: Sequence[Played], seconds: float) -> bool:
    last = played[-1]
    if last.code not in GOES_ON or last.folder is None or not last.seconds:
        return False
    return sum(each.seconds for each in played) + max(each.seconds for each in played) <= seconds


def _play(words: Sequence[str], reports: Path) -> Played:
    """The run has ended: by itself, or since it was told to, when it has healed."""
    before = set(_folders(reports))
    process = subprocess.Popen(words)
    while True:
        try:
            code = process.wait()
            break
        except KeyboardInterrupt as end:  # on a terminal the run has heard of it as well; it heals, and ends
            if type(end) is not KeyboardInterrupt:
                process.send_signal(signal.SIGTERM)
    new = [folder for folder in _folders(reports) if folder not in before]
    if not new:
        return Played(None, code, {})
    folder = max(new, key=lambda path: path.name)
    return Played(folder, code, json.loads((folder / "verdict.json").read_text(encoding="utf-8")))


def _folders(reports: Path) -> list[Path]:
    return [path.parent for path in reports.glob("*/verdict.json") if not path.parent.is_symlink()]


def summed(played: Sequence[Played]) -> dict[str, Any]:
    """What the runs add up to: their verdicts, and those of each test."""
    tests: dict[str, Counter[str]] = {}
    titles: dict[str, str] = {}
    worst: dict[str, dict[str, str]] = {}
    for each in played:
        for test in each.verdict.get("tests", []):
            name = test["id"]
            titles[name] = test["title"]
            tests.setdefault(name, Counter())[test["verdict"]] += 1
            if test["verdict"] not in ("accepted", "not applicable", "waived"):
                worst.setdefault(name, {"run": each.folder.name if each.folder else "", "reason": test["reason"]})
    return {
        "runs": [
            {"folder": str(each.folder or ""), "code": each.code, "verdict": each.verdict.get("verdict", "")}
            for each in played
        ],
        "seconds": round(sum(each.seconds for each in played), 3),
        "tests": [
            {"id": name, "title": titles[name], "verdicts": dict(counts), "first": worst.get(name)}
            for name, counts in tests.items()
        ],
    }


def told(total: dict[str, Any]) -> list[str]:
    """The sum in words: each test that was not accepted every time, with the first run that shows it."""
    from pytest_pveha.report.words import length

    runs = Counter(each["verdict"] or f"exit code {each['code']}" for each in total["runs"])
    many = len(total["runs"])
    lines = [f"{many} run{'s' if many > 1 else ''} in {length(total['seconds'])} of the site's time: {_counted(runs)}"]
    bad = [test for test in total["tests"] if test["first"] is not None]
    for test in bad:
        lines.append(f"  {_counted(test['verdicts'])}: {test['title'] or test['id']}")
        lines.append(f"    {test['id']}; first in {test['first']['run']}: {test['first']['reason']}")
    good = sum(test["verdicts"].keys() == {"accepted"} for test in total["tests"])
    return [*lines, f"{good} of {len(total['tests'])} tests were accepted each time"]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in counts.items()) or "nothing"


def exit_code(codes: Sequence[int]) -> int:
    """The worst of the runs: dirty, then what pytest itself could not do, then rejected, then not proven."""
    odd = [code for code in codes if code not in (*GOES_ON, DIRTY)]
    for code in (DIRTY, *odd, REJECTED, UNPROVEN):
        if code in codes:
            return code
    return 0


def _write(path: Path, total: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(total, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        complain(f"--json {path}: {error.strerror}")
