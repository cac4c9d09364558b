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
