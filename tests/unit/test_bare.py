"""A site without Proxmox: its inventory, what corosync's map says of the cluster, and what nobody can say."""

from __future__ import annotations

from pathlib import Path

import pytest
from inventory_texts import REAL

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import InventoryError, NoProxmox, ProtocolError
from pytest_pveha.handles.bare import BareCluster, NoApi, nodelist
from pytest_pveha.handles.cluster import Asked, GuestRow, Membership
from pytest_pveha.handles.connect import connect
from pytest_pveha.handles.reading import Said
from pytest_pveha.inventory import load
from pytest_pveha.judge.verdict import judge
from pytest_pveha.record.journal import Line
from pytest_pveha.scenario.planning import live_scene

API = REAL[REAL.index("  api:") : REAL.index("nodes:")]
BARE = REAL.replace(API, "  proxmox: false\n")
MAP = {
    "nodelist.node.0.name": "pve1",
    "nodelist.node.0.nodeid": "1",
    "nodelist.node.1.name": "pve2",
    "nodelist.node.1.nodeid": "2",
}


def written(folder: Path, text: str) -> Path:
    """An inventory of that text."""
    path = folder / "site.yml"
    path.write_text(text)
    return path


def test_it_needs_no_api(tmp_path: Path) -> None:
    """An inventory that says so is valid without an API; one that says nothing is not."""
    assert not load(written(tmp_path, BARE)).model.cluster.proxmox
    with pytest.raises(InventoryError, match=r"cluster.api: is missing"):
        load(written(tmp_path, REAL.replace(API, "")))


def test_it_has_nothing_of_proxmox(tmp_path: Path) -> None:
    """An API beside it is a contradiction."""
    with pytest.raises(InventoryError, match=r"stands beside cluster.proxmox: false"):
        load(written(tmp_path, REAL.replace("  api:", "  proxmox: false\n  api:")))


@pytest.mark.parametrize("ask", ["manager", "ha_rules", "memory", "armed", "running_tasks"])
def test_what_nobody_can_say(tmp_path: Path, ask: str) -> None:
    """Of HA and the API nothing is told, not even that nothing is there; and nobody is contacted for it."""
    site = connect(load(written(tmp_path, BARE)), LiveClock())
    with pytest.raises(NoProxmox):
        getattr(site.cluster, ask)(site.clock.deadline(1))
    with pytest.raises(NoProxmox):
        NoApi().put("/cluster", deadline=site.clock.deadline(1))
    assert site.lease_on.names == ("pve1",)


def test_it_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a plan needs is what corosync and the nodes tell: nobody is master, and no guest is in HA."""
    site = connect(load(written(tmp_path, BARE)), LiveClock())
    now = site.clock.now()
    told = Membership("lab", True, {"pve1": True}, Asked(now, now, "pve1"))
    rows = {"vm:101": GuestRow("vm:101", "", "pve1", "running", None, 0)}
    monkeypatch.setattr(BareCluster, "membership", lambda cluster, deadline, at=None: told)
    monkeypatch.setattr(BareCluster, "guests", lambda cluster, deadline: rows)
    scene = live_scene(site)
    assert (scene.cluster, scene.nodes, scene.master, dict(scene.busy)) == ("lab", ("pve1",), "", {})
    assert [(guest.id, guest.node, guest.ha) for guest in scene.guests] == [("vm:101", "pve1", False)]


def test_the_list_of_nodes() -> None:
    """Each node of the configuration by its name and id; two of one name are refused."""
    assert [(row.name("name"), row.count("nodeid")) for row in nodelist(Said("map", MAP))] == [("pve1", 1), ("pve2", 2)]
    with pytest.raises(ProtocolError):
        nodelist(Said("map", {**MAP, "nodelist.node.1.name": "pve1"}))


@pytest.mark.parametrize(("others", "gate"), [(["yes"], "accepted"), (["no"], "rejected"), ([], "inconclusive")])
def test_the_gate_is_said_to_be_open_only_by_what_was_asked(others: list[str], gate: str) -> None:
    """Checks about Proxmox are listed as not proven, and alone they open no gate."""
    checks = [{"id": "x", "title": "HA is armed", "answer": each, "saw": "."} for each in ("not_there", *others)]
    verdict = judge([Line(1, 0, "", 0, 0, "gate", None, {"checks": checks})])
    assert verdict.gate == gate
    assert ("HA is armed", ".") in verdict.not_proven
