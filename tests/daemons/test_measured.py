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


@pytest.mark.parametrize("seed", [1, 2])
def test_every_interval_holds_the_truth(seed: int) -> None:
    """Begin, end and duration of each outage of many targets, silent or refusing, however busy the machine is."""
    found = measured(30, 8, seed)
    assert found.outages > 20
    assert found.outside == []
    assert found.tools["ours"].missed == 0
    # two periods; a machine on which even a sleeper is late can do no better than that
    _, held_up = found.held_up
    widest = {name: width for name, width in found.widths.items() if width > 2 * PERIOD + SLACK + 4 * held_up}
    assert widest == {}, f"held up by {held_up:.3f} s at worst"
    assert found.tools["ours"].cores < 1


@pytest.mark.skipif(not may_come_first(), reason="we may not run before everything else here (CAP_SYS_NICE)")
def test_undisturbed_the_intervals_are_tight() -> None:
    """Two periods and 50 ms, and questions are in time, with little processor time."""
    found = measured(100, 8, first_of_all=True)
    assert found.outside == []
    assert found.tools["ours"].missed == 0
    assert max(found.widths.values()) <= 2 * PERIOD + SLACK
    assert found.tools["ours"].late < SLACK
    assert found.tools["ours"].cores < 0.5
