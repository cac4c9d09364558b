"""Lines for a node's shell: quoted words, and lines of them joined. Nobody puts one together by hand."""

from __future__ import annotations

import math

from pytest_pveha.clock import Deadline
from pytest_pveha.wire.ssh import ShellLine, quote


def into(line: ShellLine, path: str) -> ShellLine:
    """The line, with what it prints going to that file."""
    return ShellLine(f"{line} > {quote(path)}")


def piped(*lines: ShellLine) -> ShellLine:
    """What each line prints is what the next one reads; it ends as the last one does."""
    return ShellLine(" | ".join(lines))


def all_of(*lines: ShellLine) -> ShellLine:
    """One line after the other, up to the first that fails."""
    return ShellLine(" && ".join(lines))


def one_of(*lines: ShellLine) -> ShellLine:
    """One line after the other, up to the first that succeeds."""
    return ShellLine(" || ".join(lines))


def each_of(*lines: ShellLine) -> ShellLine:
    """One line after the other, whatever comes of each."""
    return ShellLine("; ".join(lines))


def whatever_comes(line: ShellLine) -> ShellLine:
    """The line, silent and good even where it fails."""
    return ShellLine(f"{line} 2>/dev/null || true")


def ending_by(deadline: Deadline) -> tuple[str, str]:
    """Words before a command that may wait for ever, as those of a hung corosync do: it ends, on the node itself."""
    return "timeout", str(math.ceil(deadline.remaining()) + 1)


__all__ = ["ShellLine", "all_of", "each_of", "ending_by", "into", "one_of", "piped", "quote", "whatever_comes"]
