"""Whether a node's system is going down, read from what systemd prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles import system
from pytest_pveha.handles.node import Node
from pytest_pveha.wire.ssh import CommandResult, Ssh


@dataclass
class Shell:
    """Answers every command with the same."""

    status: int
    out: str

    def run(self, line: str, *, deadline: Any) -> CommandResult:
        assert line == "systemctl is-system-running"
        now = LiveClock().now()
        return CommandResult(self.status, self.out.encode(), b"", now, now)


def told(status: int, out: str) -> str:
    """What a node that prints this is said to be."""
    node = Node("n1", cast("Ssh", Shell(status, out)), None, LiveClock(), ())
    return system.state(node, LiveClock().deadline(5))


@pytest.mark.parametrize(("status", "word"), [(0, "running"), (1, "degraded"), (1, "stopping"), (1, "starting")])
def test_the_word_counts_and_not_the_exit_status(status: int, word: str) -> None:
    """Whatever is not ``running`` ends with status 1, and is an answer all the same."""
    assert told(status, f"{word}\n") == word


def test_no_word_is_no_answer() -> None:
    """Without a manager to ask, nothing is known."""
    with pytest.raises(ProtocolError, match="which is no state"):
        told(1, "")
