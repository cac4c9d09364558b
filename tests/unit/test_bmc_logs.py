"""What the entries of a BMC's event log mean, by IPMI and by Redfish."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pveha.wire.ipmi_sel import decoded
from pytest_pveha.wire.redfish import _event, _is_event_log, _moment


def record(sensor: int, direction: int = 0x6F, offset: int = 0, at: int = 1767340800, kind: int = 2) -> bytes:
    """One record as Get SEL Entry gives it."""
    return struct.pack("<HBIBBBBBB3B", 7, kind, at, 0x20, 0, 4, sensor, 0x71, direction, offset, 0xFF, 0xFF)


@pytest.mark.parametrize(
    ("raw", "event"),
    [
        (record(0x09), "power off"),
        (record(0x09, 0xEF), "power on"),
        (record(0x09, offset=4), "other"),  # AC lost
        (record(0x23, offset=1), "watchdog reset"),
        (record(0x23, offset=2), "watchdog power off"),
        (record(0x23, offset=3), "watchdog power cycle"),
        (record(0x23, offset=0), "other"),  # expired, and nothing done
        (record(0x23, 0xEF, offset=1), "other"),  # no longer so
        (record(0x09, 0x01), "other"),  # a threshold, not this sensor's own event
        (record(0x23, offset=0xC1), "watchdog reset"),  # the upper bits say what the other bytes hold
        (record(0x23, offset=1, kind=0xC0), "other"),  # the maker's own record
    ],
)
def test_what_a_record_says(raw: bytes, event: str) -> None:
    """An event is named only where type, offset and direction say it beyond doubt."""
    entry = decoded(raw)
    assert entry.event == event
    assert (entry.number, entry.at) == ("7", 1767340800.0)


@pytest.mark.parametrize("at", [0, 1680, 0x20000000, 0xFFFFFFFF])
def test_before_the_clock_was_set(at: int) -> None:
    """A time that counts from the BMC's own start, or is unspecified, is no time."""
    assert decoded(record(0x09, at=at)).at is None


def test_a_record_without_a_time() -> None:
    """The maker's records of the last types hold data where others have their time."""
    entry = decoded(record(0x09, kind=0xE0))
    assert entry.at is None
    assert entry.sensor == "OEM record"


@given(st.binary(min_size=16, max_size=16))
def test_every_record_can_be_read(raw: bytes) -> None:
    """Whatever sixteen bytes a BMC holds, they make one entry with a line for people."""
    entry = decoded(raw)
    assert entry.text
    assert entry.at is None or 0x20000000 < entry.at < 0xFFFFFFFF


@pytest.mark.parametrize(
    ("sensor", "text", "event"),
    [
        ("Watchdog2", "The watchdog timer reset the system.", "watchdog reset"),
        ("Watchdog 2", "Watchdog power cycle", "watchdog power cycle"),
        ("Watchdog", "The watchdog timer powered off the system.", "watchdog power off"),
        ("Watchdog2", "The watchdog timer expired.", "other"),
        ("PowerUnit", "The system board was powered off.", "power off"),
        ("Power Unit", "Power turned on", "power on"),
        ("PowerUnit", "Redundancy regained", "other"),
        ("Fan", "Fan 3 is off", "other"),
        ("", "The watchdog timer reset the system.", "other"),
    ],
)
def test_what_a_redfish_entry_says(sensor: str, text: str, event: str) -> None:
    """An event is named only where the kind of sensor and the words agree."""
    assert _event(sensor, text) == event


@pytest.mark.parametrize(
    ("created", "at"),
    [
        ("2026-01-02T08:00:00Z", 1767340800.0),
        ("2026-01-02T08:00:00", 1767340800.0),
        ("2026-01-02T02:00:00-06:00", 1767340800.0),
        ("2026-01-02T08:00:00.500+00:00", 1767340800.5),
        ("1970-01-01T00:01:00Z", None),
        ("0001-01-01T00:00:00-12:00", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_times_of_redfish(created: str | None, at: float | None) -> None:
    """A date with or without its zone is a moment; none, or one from before the clock was set, is no time."""
    assert _moment(created) == at


def test_which_log_is_the_event_log() -> None:
    """By its type where it says one, else by the names that makers give it; an audit or lifecycle log is not it."""
    assert _is_event_log({"Id": "x", "LogEntryType": "SEL"})
    assert _is_event_log({"Id": "IML"})
    assert _is_event_log({"Id": "Log1"})
    assert not _is_event_log({"Id": "Lclog"})
    assert not _is_event_log({"Id": "SEL", "LogEntryType": "Event"})
    assert not _is_event_log({"LogEntryType": 7})
