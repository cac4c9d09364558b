"""What any BMC says, whichever protocol brought it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pytest_pveha.clock import Instant

PowerCommand = Literal["off", "on", "cycle", "reset", "soft"]

Event = Literal["power off", "power on", "watchdog reset", "watchdog power off", "watchdog power cycle", "other"]
"""What happened to the machine, where a log says it beyond doubt."""


@dataclass(frozen=True, slots=True)
class PowerReading:
    """What a BMC said about its machine's power, and between which two moments it said so."""

    on: bool
    asked_at: Instant
    answered_at: Instant
    via: str


@dataclass(frozen=True, slots=True)
class NodeCommands:
    """What a machine of the cluster types to reach this BMC, each in the spellings that may be needed."""

    on: tuple[tuple[str, ...], ...]
    reset: tuple[tuple[str, ...], ...]
    """Nothing where the BMC knows no reset."""
    status: tuple[tuple[str, ...], ...]
    off: tuple[tuple[str, ...], ...]
    tells: tuple[tuple[tuple[str, ...], ...], ...]
    """What it says of itself and of our session, one question after the other."""
    secret: str = field(repr=False)
    """What must lie in the file that they read, for root alone."""


@dataclass(frozen=True, slots=True)
class SelEntry:
    """One line of a BMC's system event log."""

    number: str
    """How the BMC itself calls it."""
    at: float | None
    """Seconds since 1970 by the BMC's own clock, which is often wrong; None: written before that clock was set."""
    event: Event
    sensor: str
    """What it is about, such as ``Watchdog 2``."""
    text: str
    """The line for people."""


@dataclass(frozen=True, slots=True)
class BmcAccess:
    """What the user of this run may do at a BMC."""

    user: str
    level: str
    """The privilege or role the BMC grants, as it names it; empty where it does not say."""
    may_switch: bool | None
    """Whether that suffices for power commands; None: it does not say."""
    others: tuple[str, ...] | None
    """Other users that may log in, by name, an empty name included; None: it does not tell this user."""


NO_OVERRIDE = "none"
"""The word for a BMC that leaves the order of booting to the firmware."""

_VALID, _LASTING, _EFI = 0x80, 0x40, 0x20
_DEVICES = {
    0b0000: "no device", 0b0001: "pxe", 0b0010: "disk", 0b0011: "disk, safe mode", 0b0100: "diagnostics", 0b0101: "cd",
    0b0110: "bios setup", 0b0111: "remote floppy", 0b1000: "remote cd", 0b1001: "remote media", 0b1011: "remote disk",
    0b1111: "floppy",
}  # fmt: skip


def boot_flags(flags: bytes) -> str:
    """What an IPMI BMC will make the next boot do, in words with the bytes behind them.

    Source: IPMI 2.0 §28.13, table 28-14, parameter 5, boot flags.
    """
    if len(flags) < 2 or not flags[0] & _VALID:
        return NO_OVERRIDE
    device = _DEVICES.get(flags[1] >> 2 & 0x0F, "a reserved device")
    return override(device, lasting=bool(flags[0] & _LASTING), more=f"IPMI {flags.hex()}")


def override(target: str, *, lasting: bool, more: str) -> str:
    """An override in words."""
    return f"{target} at {'every' if lasting else 'the next'} boot ({more})"
