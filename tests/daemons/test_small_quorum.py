"""The quorum suites that need no Proxmox, as a user plays them on a small real site: each takes three minutes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import Cluster
from lab import needs
from small_site import SmallSite, Typed, tidy

pytestmark = [
    pytest.mark.daemons,
    needs("corosync", "sshd", "ssh-keygen", "ipmi_sim", "ipmitool", "qemu-system-x86_64"),
]

PARTITION = "suites/quorum/test_partition.py"
DEVICE = "suites/quorum/test_qdevice_loss.py"


@pytest.fixture
def three(trio: Cluster, tmp_path: Path) -> Iterator[SmallSite]:
    """Three nodes with two links and a BMC each."""
    site = SmallSite(trio, tmp_path)
    yield site
    site.close()


@pytest.fixture
def two(pair: Cluster, tmp_path: Path) -> Iterator[SmallSite]:
    """Two nodes and their quorum device."""
    site = SmallSite(pair, tmp_path)
    yield site
    site.close()


def accepted(site: SmallSite, said: Typed, name: str, *measures: str) -> None:
    """That test was accepted, with each of these claims; what the HA manager did is not proven, and said so."""
    assert said.test(name)["verdict"] == "accepted", said.out
    claims = said.claims(name)
    assert {measure: claims[measure] for measure in measures} == dict.fromkeys(measures, "accepted"), said.out
    assert claims.get("fences", "not proven") == "not proven"
    assert said.verdict["verdict"] == "accepted (partial, without Proxmox)", said.out
    tidy(site)


def test_a_short_cut(three: SmallSite) -> None:
    """A cut that is over within seconds resets nobody, and no guest notices it."""
    test = "test_short_cut_resets_nobody[other-1]"
    said = three.play(three.inventory(), f"{PARTITION}::{test}", more=("-m", "destructive"))
    accepted(three, said, test, "rejoins", "downtime", "collateral_resets", "violations")


@pytest.mark.proof
@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_one_way_cut(three: SmallSite, direction: str) -> None:
    """A node that is heard and does not hear, or the other way round, loses quorum, and the others keep it."""
    test = f"test_one_way_cut_is_a_cut[other-1-{direction}]"
    said = three.play(three.inventory(), f"{PARTITION}::{test}", more=("-m", "destructive"))
    accepted(three, said, test, "both_quorate", "collateral_resets", "violations")


def test_a_quorum_device_that_is_lost(two: SmallSite) -> None:
    """Two nodes go on with their own votes, and the device's is counted again later."""
    test = "test_cluster_spares_the_quorum_device"
    said = two.play(two.inventory(), f"{DEVICE}::{test}", more=("-m", "destructive"))
    accepted(two, said, test, "quorum_losses", "membership_changes", "downtime", "collateral_resets", "violations")
