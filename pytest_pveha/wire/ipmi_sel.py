"""The system event log as IPMI has it: sixteen bytes an entry.

Source: IPMI 2.0 rev. 1.1, §31.6 (Get SEL Entry), table 32-1 (the record), §37.1 (timestamps),
table 42-3 (sensor types).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pytest_pveha.wire.bmc import Event, SelEntry

RECORD_LENGTH: Final = 16
FIRST, LAST = 0x0000, 0xFFFF
"""As a record's number in Get SEL Entry: the first one; and as the one after: there is none."""

MOST_ENTRIES: Final = 65535

_UNTIMED = range(0xE0, 0x100)
"""OEM record types without a timestamp."""
_SYSTEM_EVENT = 0x02
_SET_CLOCK = 0x20000000
"""Up to here a timestamp counts from the start of the BMC, whose clock had not been set (§37.1)."""
_UNSPECIFIED = 0xFFFFFFFF

_SENSORS = {
    0x01: "Temperature",
    0x02: "Voltage",
    0x04: "Fan",
    0x05: "Physical Security",
    0x07: "Processor",
    0x08: "Power Supply",
    0x09: "Power Unit",
    0x0C: "Memory",
    0x0D: "Drive Slot",
    0x0F: "System Firmware Progress",
    0x10: "Event Logging Disabled",
    0x12: "System Event",
    0x13: "Critical Interrupt",
    0x14: "Button",
    0x1D: "System Boot Initiated",
    0x20: "OS Stop",
    0x22: "System ACPI Power State",
    0x23: "Watchdog 2",
    0x28: "Management Subsystem Health",
    0x29: "Battery",
}
_SENSOR_SPECIFIC = 0x6F

_EVENTS: dict[tuple[int, int, bool], Event] = {
    (0x09, 0x00, True): "power off",
    (0x09, 0x00, False): "power on",
    (0x23, 0x01, True): "watchdog reset",
    (0x23, 0x02, True): "watchdog power off",
    (0x23, 0x03, True): "watchdog power cycle",
}
"""By sensor type, offset and whether it came or went."""


def decoded(record: Sequence[int]) -> SelEntry:
    """The entry in a record of sixteen bytes."""
    raw = bytes(record)
    number = str(int.from_bytes(raw[0:2], "little"))
    kind = raw[2]
    stamp = int.from_bytes(raw[3:7], "little")
    at = float(stamp) if _SET_CLOCK < stamp < _UNSPECIFIED and kind not in _UNTIMED else None
    if kind != _SYSTEM_EVENT:
        return SelEntry(number, at, "other", "OEM record", f"record of type {kind:#04x}: {raw[3:].hex()}")
    sensor_type, sensor, direction, data = raw[10], raw[11], raw[12], raw[13:16]
    asserted = not direction & 0x80
    offset = data[0] & 0x0F
    event: Event = "other"
    if direction & 0x7F == _SENSOR_SPECIFIC:
        event = _EVENTS.get((sensor_type, offset, asserted), "other")
    name = _SENSORS.get(sensor_type, f"sensor type {sensor_type:#04x}")
    what = event if event != "other" else f"event {offset}, data {data.hex()}"
    return SelEntry(
        number, at, event, name, f"{name} #{sensor:#04x}: {what}, {'asserted' if asserted else 'deasserted'}"
    )
