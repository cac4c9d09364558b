"""The blocks about what must stay available, and how well: guests, objectives, waivers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from pytest_pveha.inventory.base import Block
from pytest_pveha.inventory.values import (
    Address,
    Day,
    Duration,
    GuestFolder,
    GuestId,
    Label,
    NodeName,
    Port,
    PositiveDuration,
    Slug,
    Url,
)


class TcpProbe(Block):
    """Good when a TCP connection is accepted."""

    host: Address | None = None
    """Address of the guest."""
    port: Port
    """TCP port of its application."""


class HttpProbe(Block):
    """Good when a GET is answered with the expected status."""

    url: Url
    """What to get."""
    expect: Annotated[int, Field(ge=100, le=599)] = 200
    """HTTP status that counts as good."""


class IcmpProbe(Block):
    """Good when an echo is answered."""

    host: Address
    """Address of the guest."""


class Probe(Block):
    """One way to see from outside that a guest answers; exactly one of the keys."""

    tcp: TcpProbe | None = None
    """Connect to a TCP port."""
    http: HttpProbe | None = None
    """Get a page."""
    icmp: IcmpProbe | None = None
    """Ping."""
    agent: Literal[True] | None = None
    """Ask every 5 s the QEMU guest agent, through the API; in a container, run a command."""

    @property
    def kind(self) -> str:
        """``tcp``, ``http``, ``icmp`` or ``agent``."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)


class Guest(Block):
    """One VM or container under HA that matters."""

    id: GuestId
    """vm:NUMBER or ct:NUMBER, as in `ha-manager status`."""
    name: Label | None = None
    """Its name, for people."""
    tier: Slug
    """Tier of the objectives it must meet."""
    probes: tuple[Probe, ...] = ()
    """How to see that it answers; at least one on a real site."""
    preferred_node: NodeName | None = None
    """Node it should run on when all is well."""
    canary: bool = False
    """true = made for tests: it may be written into and restarted at will."""
    canary_folder: GuestFolder = "/var/tmp"
    """Where in it the run's numbered writes go, on the disk whose writes matter."""


class Tier(Block):
    """What guests of one tier are promised."""

    rto: PositiveDuration
    """Longest time without an answer after a failure."""
    rpo: Duration = 0.0
    """Longest span of acknowledged writes that may be lost; "0 s" on shared storage."""
    write_stall: PositiveDuration = 60.0
    """Longest time a write may hang while storage fails over."""
    restore_rpo: PositiveDuration | None = None
    """Longest span of work that may be lost when a guest must be restored; none = `backup.max_age`."""


class TierOverride(Block):
    """Another promise for one scenario; what it leaves out stays as the tier says."""

    rto: PositiveDuration | None = None
    """In place of the tier's rto."""
    rpo: Duration | None = None
    """In place of the tier's rpo."""
    write_stall: PositiveDuration | None = None
    """In place of the tier's write_stall."""


class Objectives(Block):
    """What is promised; the verdicts compare measurements with it."""

    tiers: Annotated[Mapping[Slug, Tier], Field(min_length=1)]
    """The promise of each tier."""
    scenarios: Mapping[Slug, Mapping[Slug, TierOverride]] = Field(default_factory=dict)
    """For a named scenario, tiers with another promise."""
    restore_rto: PositiveDuration | None = None
    """Longest time from asking for a restore until somebody answers inside of what was restored."""
    fence_margin: Duration = 20.0
    """Least time between a node's proven death and the earliest takeover of its guests."""
    slowdown: Annotated[float, Field(ge=1, le=1000)] = 1.5
    """After a recovery a write, or an answer, may take so many times as long as before."""
    rebuild_slowdown: Annotated[float, Field(ge=1, le=1000)] = 3.0
    """While Ceph makes lost copies again a write may take so many times as long as before."""
    fence_path: PositiveDuration = 10.0
    """Longest time in which a node's BMC answers another node's shell."""
    rtt: PositiveDuration = 0.005
    """Longest round trip between nodes of different rooms, of 99 in 100 echoes (pve-docs: below 5 ms)."""
    rtt_tiebreaker: PositiveDuration = 0.1
    """The same between a node and the quorum device's machine, which may be further away."""
    jitter: PositiveDuration = 0.002
    """Longest mean difference between one round trip and the next, between nodes of different rooms."""
    packet_loss: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Echoes in a hundred that may be lost on any of these ways."""
    settle: PositiveDuration = 1200.0
    """Longest time after healing until the site is as it was found."""

    def tier(self, name: str, scenario: str | None = None) -> Tier:
        """The promise for that tier, in that scenario.

        Raises:
            KeyError: no such tier; a loaded inventory's guests have only tiers that exist.
        """
        tier = self.tiers[name]
        override = self.scenarios.get(scenario, {}).get(name) if scenario else None
        return tier.model_copy(update=override.model_dump(exclude_none=True)) if override else tier


class Waiver(Block):
    """A test that may fail for now: known, owned, and not for ever."""

    test: Label
    """Id of the test, as the report prints it."""
    reason: Label
    """Why it cannot pass."""
    owner: Label
    """Who answers for it."""
    expires: Day
    """Last day on which it counts."""
