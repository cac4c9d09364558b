"""The suites as a user plays them on a small real site without Proxmox: by its inventory, with pytest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters import Cluster
from lab import needs
from small_site import SmallSite, Typed, tidy

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
PATHS = f"{FENCE}::test_every_node_reaches_every_bmc"
CUT = f"{FENCE}::test_a_peer_cuts_the_power[other-1]"
ONE_LINK = f"{LINKS}::test_loss_of_a_link_of_one_node[pve1-1]"
QUORUM = ("membership_changes", "quorum_losses", "downtime", "collateral_resets", "violations")


def test_every_fence_path(small: SmallSite) -> None:
    """Paths are tried from every node and accepted; the run's verdict says that the site has no Proxmox."""
    said = small.play(small.inventory(), PATHS, more=("-m", "readiness"))
    assert said.test("reaches_every_bmc")["verdict"] == "accepted", said.out
    assert said.verdict["verdict"] == "accepted (partial, without Proxmox)"
    tidy(small)


def test_one_wrong_password(small: SmallSite) -> None:
    """The inventory's password of one BMC is not that BMC's: the paths to it are broken, and the claim is rejected."""
    inventory = small.inventory()
    told = json.loads(inventory.read_text())
    wrong = inventory.with_name("wrong-password")
    wrong.write_text("not-that-word\n")
    wrong.chmod(0o600)
    told["nodes"]["pve2"]["bmc"]["password"] = "file:wrong-password"
    inventory.write_text(json.dumps(told))
    said = small.play(inventory, PATHS, more=("-m", "readiness"))
    assert said.test("reaches_every_bmc")["verdict"] == "rejected", said.out
    assert said.claims("reaches_every_bmc")["broken_paths"] == "rejected"
    assert "pve2" in said.test("reaches_every_bmc")["reason"]
    assert said.code == 1
    tidy(small)


def test_what_needs_proxmox_is_not_applicable(small: SmallSite) -> None:
    """A scenario that needs the API is listed as that, and nothing is touched or proven."""
    said = small.play(small.inventory(), "suites/nodes/test_power_loss.py", more=("-m", "destructive"))
    assert said.code != 0
    assert "needs a Proxmox API" in said.out
    assert not [row for row in said.verdict.get("tests", ()) if row["verdict"] == "accepted"]
    tidy(small)


def test_the_plan(small: SmallSite) -> None:
    """`pveha plan` says what would be broken, on which node, and what does not apply here; it breaks nothing."""

    def planned(**changes: Any) -> Typed:
        tests = (ONE_LINK, CUT, "suites/nodes/test_power_loss.py")
        return small.type("pytest_pveha", "plan", str(small.inventory(**changes)), *tests)

    nodes = [small.cluster.node(name) for name in small.cluster.machines]
    before = [small.cluster.observer.boot_id(node) for node in nodes]
    said = planned()
    assert said.code == 0, said.out
    for line in (
        "site small (real), cluster lab: pve1, pve2, pve3", "link-loss, on pve1",
        "power-cut-by-peer, on pve1 (other-1)", "vm:101 (bystander",
        "not applicable: suites/nodes/test_power_loss.py", "it needs a Proxmox API",
        "GRANTED now: all 2; nothing was touched",
    ):  # fmt: skip
        assert line in said.out, said.out
    refused = planned(consent=None)
    assert (refused.code, "GRANTED now" in refused.out) == (1, False), refused.out
    other = planned(cluster={"name": "another", "proxmox": False}, consent=None)
    assert other.code == 4, other.out
    assert "answers for cluster 'lab', the inventory is for 'another'" in other.out
    assert [small.cluster.observer.boot_id(node) for node in nodes] == before
    tidy(small)


def test_loss_of_a_link(small: SmallSite) -> None:
    """A node loses a link and nothing else; what the HA manager did meanwhile is not proven, and said so."""
    said = small.play(small.inventory(), ONE_LINK, more=("-m", "destructive"))
    claims = said.claims("of_one_node[pve1-1]")
    assert {name: claims[name] for name in QUORUM} == dict.fromkeys(QUORUM, "accepted"), said.out
    assert claims["fences"] == "not proven"
    assert said.test("of_one_node[pve1-1]")["verdict"] == "accepted"
    lacking = {row["id"] for row in said.verdict["not_proven"]}
    assert {"fences", "HA is armed", "Every LRM is alive"} <= lacking
    tidy(small)


def test_the_only_link(small: SmallSite) -> None:
    """The other link of a node hangs on a pulled cable: nothing is broken, and nothing is accepted."""
    small.cluster.lab.plug("pve1", "ring0", connected=False)
    try:
        said = small.play(small.inventory(), ONE_LINK, more=("-m", "destructive"))
    finally:
        small.cluster.lab.plug("pve1", "ring0", connected=True)
    assert said.test("of_one_node[pve1-1]")["verdict"] == "not proven", said.out
    assert "down: link 0 of pve1 to pve2, pve3" in said.test("of_one_node[pve1-1]")["reason"]
    tidy(small)


def test_a_peer_cuts_the_power(small: SmallSite) -> None:
    """A node dies by a command typed on another one, nobody else does, and it comes back as another boot."""
    said = small.play(small.inventory(), CUT, more=("-m", "destructive"))
    row = said.test("cuts_the_power[other-1]")
    assert row["verdict"] == "accepted", said.out
    assert said.claims("cuts_the_power[other-1]")["collateral_resets"] == "accepted"
    tidy(small)


def test_consent_is_asked_for(small: SmallSite) -> None:
    """Without Proxmox as with it nothing is broken without consent."""
    said = small.play(small.inventory(consent=None), CUT, more=("-m", "destructive"))
    assert said.code != 0
    assert "consent" in said.out, said.out
    assert "accepted" not in {row["verdict"] for row in said.verdict.get("tests", ()) if row["id"] != "gate"}
    tidy(small)
