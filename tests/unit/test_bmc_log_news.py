"""What was added to a BMC's log meanwhile is on record: about power and the watchdog alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from pytest_pveha.clock import Deadline, Instant
from pytest_pveha.errors import Unreachable
from pytest_pveha.handles.bmc import SelEntry
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.bmc_log import BmcLogs
from pytest_pveha.observe.observer import Observer

OLD = SelEntry("1", 100.0, "watchdog reset", "Watchdog 2", "an earlier one")
RESET = SelEntry("2", 200.0, "watchdog reset", "Watchdog 2", "asserted")
FAN = SelEntry("3", 201.0, "other", "Fan", "slow")


@dataclass
class Log:
    """A BMC that gives out its log, or does not answer."""

    entries: tuple[SelEntry, ...] | None
    asked: int = 0

    def sel(self, deadline: Deadline) -> tuple[SelEntry, ...]:
        self.asked += 1
        if self.entries is None:
            raise Unreachable("no answer")
        return self.entries


@dataclass
class Eyes:
    """An observer that keeps what is written."""

    written: list[dict[str, Any]] = field(default_factory=list)
    site: Any = field(
        default_factory=lambda: SimpleNamespace(
            clock=SimpleNamespace(now=lambda: Instant(5, 5), deadline=lambda seconds: None)
        )
    )

    def write(self, kind: str, data: dict[str, Any]) -> None:
        assert kind == "seen"
        self.written.append(data)


def told(before: tuple[SelEntry, ...] | None, after: tuple[SelEntry, ...] | None, *, bmc: bool = True) -> list[str]:
    """What is on record of a node whose BMC had that log before, and this one after."""
    eyes, log = Eyes(), Log(before)
    node = cast("Node", SimpleNamespace(name="n1", bmc=log if bmc else None))
    logs = BmcLogs(cast("Observer", eyes), [node])
    log.entries = after
    logs.note()
    assert all(each["what"] == "bmc_log/n1" for each in eyes.written)
    return [each["new"] for each in eyes.written]


def test_what_was_added_is_told() -> None:
    """Not what was there, nor what is about something else; a log that was cleared meanwhile tells what it has."""
    assert told((OLD,), (OLD, RESET, FAN)) == ["watchdog reset"]
    assert told((OLD,), (OLD,)) == []
    assert told((OLD,), (RESET,)) == ["watchdog reset"]


def test_a_log_that_was_not_read_before_or_after_says_nothing() -> None:
    """Whatever it has may be old; and a node without a BMC has none."""
    assert told(None, (OLD, RESET)) == []
    assert told((OLD,), None) == []
    assert told((), (RESET,), bmc=False) == []
