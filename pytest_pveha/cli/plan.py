"""``pveha plan``: what a run would break, told by pytest's own selection, and nothing touched."""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib import metadata
from pathlib import Path

SCOPES = ("one-per-role", "one-per-room", "all")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``pveha plan INVENTORY [TEST …]``."""
    parser = commands.add_parser(
        "plan",
        help="say what a run would break, and touch nothing",
        description="Says what pytest would break with the same words in the same folder: in what order, on what, for "
        "how long, which guests go down, which consent each test needs and whether it is granted now. No test is run; "
        "the site is only read, and a simulated one that is not running is started for that and ended again. Exit code "
        "0: all of it is granted; 1: some of it is refused; 4: the inventory or a test cannot be used; 5: no test is "
        "selected; 6: the site does not answer.",
    )
    parser.add_argument("inventory", metavar="INVENTORY", type=Path, help="the site's inventory")
    parser.add_argument(
        "tests", metavar="TEST", nargs="*", help="paths or ids as pytest takes them; after -- any word of pytest's"
    )
    parser.add_argument("-m", metavar="MARKS", default="destructive", help="as pytest's -m; default: destructive")
    parser.add_argument("-k", metavar="NAMES", help="as pytest's -k")
    parser.add_argument("--scope", metavar="SCOPE", choices=SCOPES, help="as pytest's --pveha-scope")
    parser.add_argument("--json", metavar="FILE", help="write the plan there, for pveha approve and for programs")
    parser.add_argument(
        "--no-connect",
        action="store_true",
        help="from the inventory alone: roles are not bound, guests on their preferred nodes",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The plan has been told; what pytest says of it is the exit code."""
    sys.stdout.flush()
    return subprocess.run(command(options), check=False).returncode


def command(options: argparse.Namespace) -> list[str]:
    """pytest, with the words of the run to come."""
    loaded = [] if metadata.entry_points(group="pytest11", name="pveha") else ["-p", "pytest_pveha.plugin"]
    words = ["--pveha-plan", f"--pveha-inventory={options.inventory.absolute()}", "-m", options.m]
    words += [f"-k={options.k}"] if options.k else []
    words += [f"--pveha-scope={options.scope}"] if options.scope else []
    words += [f"--pveha-plan-json={options.json}"] if options.json else []
    words += ["--pveha-no-connect"] if options.no_connect else []
    return [sys.executable, "-m", "pytest", "-qq", "--no-header", *loaded, *words, *options.tests]
