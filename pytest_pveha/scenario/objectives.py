"""The site's promises, by tier, as a suite test names them."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.judge.measures import HasSid


@dataclass(frozen=True, slots=True)
class Objective:
    """One promise, which may differ by the guest's tier (seconds)."""

    name: str
    by_tier: dict[str, float]

    def of(self, guest: HasSid) -> float:
        """What this guest is promised."""
        return self.by_tier[guest.tier]


LIVE = 10.0
"""Seconds a VM may be away when it moves live: 0.03 to 0.15 were measured, and a restart takes longer than a boot."""


class Live(Objective):
    """A VM that moves live is not away; a container restarts, and has its tier's time for it."""

    __slots__ = ()

    def of(self, guest: HasSid) -> float:
        """What this guest is promised."""
        return LIVE if guest.sid.startswith("vm:") else self.by_tier[guest.tier]


class Objectives:
    """What is promised in one scenario."""

    def __init__(self, inventory: Inventory, scenario: str) -> None:
        block = inventory.model.objectives
        tiers = {name: block.tier(name, scenario) for name in block.tiers}
        self.rto = Objective("rto", {name: tier.rto for name, tier in tiers.items()})
        self.live = Live("live", self.rto.by_tier)
        self.rpo = Objective("rpo", {name: tier.rpo for name, tier in tiers.items()})
        self.write_stall = Objective("write_stall", {name: tier.write_stall for name, tier in tiers.items()})
        self.slowdown, self.rebuild_slowdown = block.slowdown, block.rebuild_slowdown
        self.fence_margin = block.fence_margin
        self.fence_path = block.fence_path
        self.rtt, self.jitter = block.rtt * 1000, block.jitter * 1000
        """Milliseconds: the ways between rooms."""
        self.rtt_tiebreaker = block.rtt_tiebreaker * 1000
        """Milliseconds: to the quorum device's machine."""
        self.packet_loss = block.packet_loss
        """Echoes in a hundred."""
        self.settle = block.settle
        self.restore_rto = block.restore_rto
        oldest = inventory.model.backup.max_age if inventory.model.backup is not None else 0.0
        self.restore_rpo = Objective("restore_rpo", {name: tier.restore_rpo or oldest for name, tier in tiers.items()})


def as_json(inventory: Inventory) -> dict[str, object]:
    """The promises as the record keeps them, in seconds."""
    block = inventory.model.objectives
    return {
        "tiers": {
            name: {"rto": tier.rto, "rpo": tier.rpo, "write_stall": tier.write_stall}
            for name, tier in block.tiers.items()
        },
        "settle": block.settle,
    }
