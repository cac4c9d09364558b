"""The live clock: whoever sets this machine's calendar meanwhile changes no duration, and opens no window."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from pytest_pveha.clock import SECOND, LiveClock

HOUR = 3600


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch):
    """Sets the calendar of this machine forward, or back, by so many seconds."""
    real = time.time_ns

    def by(seconds: int) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: real() + seconds * SECOND)

    return by


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_a_jump_of_the_calendar_is_not_in_what_is_measured(jump, seconds: int) -> None:
    """Both sides of an instant go on together: an incident's beginning stays where it was."""
    clock = LiveClock()
    before = clock.now()
    jump(seconds)
    after = clock.now()
    assert after.utc - before.utc == after.mono - before.mono
    assert 0 <= after.utc - before.utc < 60 * SECOND


def test_a_window_that_closed_is_not_opened_by_setting_the_clock_back(jump) -> None:
    """The later of what the calendar says and what it would say untouched is what a consent is held to."""
    clock = LiveClock()
    before = clock.utc()
    jump(-HOUR)
    assert LiveClock().utc() >= before
    jump(HOUR)
    assert clock.utc() >= before + timedelta(seconds=HOUR - 1)


def test_it_tells_the_time_of_day() -> None:
    """Untouched, both are what the calendar says."""
    clock = LiveClock()
    assert abs((clock.utc() - datetime.now(UTC)).total_seconds()) < 1
    assert abs(clock.now().utc - time.time_ns()) < SECOND
