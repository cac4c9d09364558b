"""The command ``pveha``: everything but the run itself, which is ``pytest --inventory FILE``.

One module a command; each adds its own parser and says what runs. Heavy imports stay inside the commands that need
them, so that ``pveha --help`` is quick.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from pytest_pveha import __version__
from pytest_pveha.cli import answer, approve, check, heal, judge, lease, plan, schema, sim, soak, stop, verify
from pytest_pveha.cli.output import complain
from pytest_pveha.errors import HealFailed, InventoryError, PvehaError, SiteBusy, SiteDirty, UsageError

USAGE = 4
CANT_TELL = 6
DIRTY = 7
INTERRUPTED = 130
TERMINATED = 143
NOBODY_READS = 141
"""As the shell has it for a process that SIGPIPE ended."""

EXITS = """\
exit codes:
  0    yes: ready, same, intact, healed
  1    no: not ready, different, not intact
  2    the command line is wrong
  4    the inventory or a file named on the command line cannot be used
  6    it cannot be told: the site does not answer or is in use, the record cannot be read
  7    something is left that is not healed
  130  interrupted (143: by SIGTERM)
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(
        prog="pveha",
        description="Looks after what pytest-pveha needs and leaves: sites, runs, evidence. "
        "The run itself is: pytest --inventory FILE -m destructive",
        epilog=EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"pveha {__version__}", help="print the version and end")
    commands = root.add_subparsers(metavar="COMMAND", required=True)
    for module in (check, plan, approve, judge, verify, heal, stop, answer, lease, soak, sim, schema):
        module.add(commands)
    return root


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """What was typed; tests may stand behind options, too, where argparse takes those before them only."""
    root = parser()
    options, rest = root.parse_known_args(argv)
    end = rest.index("--") if "--" in rest else len(rest)
    if rest and (not hasattr(options, "tests") or any(word.startswith("-") for word in rest[:end])):
        root.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.tests = [*options.tests, *rest[:end], *rest[end + 1 :]]
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """What was typed has been done; the exit code."""
    options = parsed(argv)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # whoever read us has seen enough; nothing may be written at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    except KeyboardInterrupt as end:
        complain("interrupted")
        return TERMINATED if isinstance(end, _Terminated) else INTERRUPTED
    except InventoryError as error:
        complain(str(error), prefix="")  # FILE:LINE: first, as editors read it
        return USAGE
    except PvehaError as error:
        complain(str(error))
        return exit_code(error)
    return code


def exit_code(error: PvehaError) -> int:
    """What the shell is told about this error."""
    if isinstance(error, (SiteDirty, HealFailed)):
        return DIRTY
    return USAGE if isinstance(error, UsageError) and not isinstance(error, SiteBusy) else CANT_TELL


class _Terminated(KeyboardInterrupt):
    """SIGTERM: everything is closed on the way out, as after Ctrl-C."""


def _terminated(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise _Terminated
