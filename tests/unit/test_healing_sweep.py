"""Healing clears away what a killed run wrote in canaries, and nowhere else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pytest_pveha.clock import Deadline, LiveClock
from pytest_pveha.errors import Unreachable
from pytest_pveha.handles.agent import Ran
from pytest_pveha.handles.guest import Guest, Guests
from pytest_pveha.healing import _sweep

CLOCK = LiveClock()
TOLD = "00000000-0000-0000-0000-000000000000:1 5.00 0 gone\n"


def test_each_canary_is_cleared_and_who_does_not_answer_is_told() -> None:
    """Every run's folder goes from each canary; a guest that is no canary is not asked, one that is silent is named."""
    asked: list[tuple[str, str, tuple[str, ...]]] = []
    told: list[str] = []

    class Inside:
        def __init__(self, sid: str, node: str) -> None:
            self.sid, self.node = sid, node

        def run(self, deadline: Deadline, *words: str, input: str = "") -> Ran:
            if self.sid == "vm:102":
                raise Unreachable("pve2 does not answer")
            asked.append((self.sid, self.node, words[3:]))
            return Ran(0, TOLD, "", CLOCK.now(), CLOCK.now())

    guests = Guests(
        Guest(sid, "gold", None, (), (), canary, "/srv")
        for sid, canary in (("vm:101", True), ("vm:102", True), ("vm:103", False), ("vm:104", True))
    )
    rows = {sid: SimpleNamespace(node="pve1") for sid in ("vm:101", "vm:102", "vm:103")}
    cluster = SimpleNamespace(guests=lambda deadline: rows)
    site: Any = SimpleNamespace(clock=CLOCK, guests=guests, cluster=cluster, inside=Inside)
    _sweep(site, told.append)
    assert asked == [("vm:101", "pve1", ("stop", "/srv", "pveha-ledger-all"))]
    assert [line.partition(":")[2].partition(":")[0] for line in told] == ["102", "104"]
    assert "pve2 does not answer" in told[0]
