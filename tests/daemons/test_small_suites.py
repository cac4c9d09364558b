"""The suites as a user plays them on a small real site without Proxmox: by its inventory, with pytest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import Cluster
from lab import needs
from small_site import SmallSite, tidy

pytestmark = [
    pytest.mark.daemons,
    needs("corosync", "sshd", "ssh-keygen", "ipmi_sim", "ipmitool", "qemu-system-x86_64"),
]


@pytest.fixture
def small(trio: Cluster, tmp_path: Path) -> Iterator[SmallSite]:
    """Three nodes with two links and a BMC each; what a run left on them is asked for after every test."""
    site = SmallSite(trio, tmp_path)
    yield site
    site.close()


FENCE = "suites/fencing/test_fence_paths.py"
LINKS = "suites/quorum/test_link_loss.py"


def test_every_fence_path(small: SmallSite) -> None:
    """Paths are tried from every node, accepted, and what needs Proxmox is said to be not proven."""
    said = small.play(small.inventory(), f"{FENCE}::test_every_node_reaches_every_bmc", more=("-m", "readiness"))
    print(said.out)
    assert said.test("reaches_every_bmc")["verdict"] == "accepted", said.out
    assert said.verdict["verdict"] == "accepted (partial, without Proxmox)"
    tidy(small)


def test_links(small: SmallSite) -> None:
    """Links"""
    said = small.play(small.inventory(), LINKS, more=("-m", "destructive"))
    print(said.out)
    print(said.verdict)
    tidy(small)
    assert 0


def test_cut(small: SmallSite) -> None:
    """Cut"""
    said = small.play(small.inventory(), FENCE, more=("-m", "destructive"))
    print(said.out)
    print(said.verdict)
    tidy(small)
    assert 0
