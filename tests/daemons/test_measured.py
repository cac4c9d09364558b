"""The sampler on a real clock: every interval that it reports holds what really happened."""

from __future__ import annotations

import os
import shutil

import pytest
from measured import may_come_first, measured

pytestmark = [
    pytest.mark.daemons,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a network namespace"),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed: apt-get install nftables"),
]

PERIOD = 0.1
SLACK = 0.05
BUSY = 2.0
"""Seconds within which a begin, an end and a duration are told on a machine that others use; 1.1 was seen there."""


@pytest.mark.parametrize("seed", [1, 2])
def test_every_interval_holds_the_truth(seed: int) -> None:
    """Begin, end and duration of each outage of many targets, silent or refusing, however busy the machine is."""
    found = measured(30, 8, seed)
    assert found.outages > 20
    assert found.outside == []
    assert found.tools["ours"].missed == 0
    # how tight they are an undisturbed machine shows; whoever gets no time is honest about it, and wide
    widest = {name: width for name, width in found.widths.items() if width > BUSY}
    assert widest == {}, f"who only sleeps was held up by {found.held_up[1]:.3f} s at worst"
    assert found.tools["ours"].cores < 1


FIRST = pytest.mark.skipif(not may_come_first(), reason="we may not run before everything else here (CAP_SYS_NICE)")


@FIRST
def test_undisturbed_the_intervals_are_tight() -> None:
    """Of 200 targets: two periods and 50 ms, questions in time, little processor time; what fping and ping make of the
    same outages stands beside it."""
    beside = [tool for tool in ("fping", "ping") if shutil.which(tool)]
    found = measured(200, 12, beside=beside, first_of_all=True)
    ours = found.tools["ours"]
    assert found.outages > 200
    assert found.outside == []
    assert ours.missed == 0
    assert max(found.widths.values()) <= 2 * PERIOD + SLACK
    assert ours.late < SLACK
    assert ours.cores < 1
    for name in beside:
        told = found.tools[name]
        print(
            f"{name}: bias {told.bias:+.3f} s (ours {ours.bias:+.3f}); 95 of 100 within {told.error:.3f} s "
            f"(x{told.error / ours.error:.2f}); {told.missed} of {found.outages} missed; late {told.late:.4f} s "
            f"(x{told.late / ours.late:.1f}); {told.cores:.3f} cores (x{told.cores / ours.cores:.2f})"
        )
    if "ping" in beside:  # once a second
        assert found.tools["ping"].error > 2 * ours.error


@FIRST
def test_five_hundred_targets() -> None:
    """Each outage of 500 targets is held by its interval, with less than one processor, and questions are in time."""
    found = measured(500, 8, first_of_all=True)
    assert found.outages > 200
    assert found.outside == []
    assert found.tools["ours"].missed == 0
    assert found.tools["ours"].late < SLACK
    assert found.tools["ours"].cores < 1
