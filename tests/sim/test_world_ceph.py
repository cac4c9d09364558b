"""The simulated Ceph as it is asked over REST: what it says follows from which OSDs, mons and managers are there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_pveha.sim.servers.api_routes import ApiError, Call, find
from pytest_pveha.sim.servers.commands import COMMANDS
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.servers.shell import Invocation
from pytest_pveha.sim.world.world import World
from tests.sim.ceph_kit import ceph_of
from tests.sim.servers_kit import PlayingGate, small_site


def ask(world: World, path: str, node: str = "pve2") -> Any:
    """What GET of that path says on that node."""
    route, parts = find("GET", path, world.spec.version)
    return route.function(Call(Facts(world, world.nodes[node]), "u@pve!t"), **parts)


def states(world: World) -> dict[str, int]:
    """The placement groups by state."""
    rows = ask(world, "/cluster/ceph/status")["pgmap"]["pgs_by_state"]
    return {row["state_name"]: row["count"] for row in rows}


def test_a_lost_node_degrades_and_a_second_would_stop_it() -> None:
    """Its OSDs are called down after the heartbeats' grace, data is served on, and all is clean after its boot."""
    gate = PlayingGate(small_site(ceph={}))
    world = gate.world
    assert states(world) == {"active+clean": 129}
    assert ask(world, "/cluster/ceph/status")["health"]["status"] == "HEALTH_OK"
    world.chassis("pve1", "off")
    gate.play(18)
    assert states(world) == {"active+clean": 129}
    gate.play(32)  # down, peered, and told of by a manager that may have had to take over
    assert states(world) == {"active+undersized+degraded": 129}
    status = ask(world, "/cluster/ceph/status")
    assert (status["osdmap"]["num_up_osds"], status["quorum_names"]) == (4, ["pve2", "pve3"])
    assert typed(world, "osd", "ok-to-stop", "4", "5").status == 16
    world.chassis("pve1", "on")
    gate.play(180)
    assert states(world) == {"active+clean": 129}


def typed(world: World, *words: str) -> Any:
    """What ``ceph`` with these words leaves behind on the second node."""
    return COMMANDS["ceph"](Invocation(Facts(world, world.nodes["pve2"]), list(words)))


def test_what_the_shell_and_the_api_say_of_daemons() -> None:
    """Each node has two OSDs and a mon; ok-to-stop answers for several at once, with status 16 for no."""
    world = small_site(ceph={})
    tree = ask(world, "/nodes/pve1/ceph/osd")["root"]["children"][0]["children"]
    assert {host["name"]: sorted(osd["id"] for osd in host["children"]) for host in tree} == {
        "pve1": ["0", "1"], "pve2": ["2", "3"], "pve3": ["4", "5"],
    }  # fmt: skip
    assert [mon["host"] for mon in ask(world, "/nodes/pve1/ceph/mon")] == ["pve1", "pve2", "pve3"]
    assert [row["name"] for row in ask(world, "/cluster/ceph/flags") if row["value"]] == []
    assert json.loads(typed(world, "osd", "ok-to-stop", "0", "1").out)["ok_to_stop"] is True
    both = typed(world, "osd", "ok-to-stop", "0", "1", "2", "3")
    said = "unsafe to stop osd(s) at this time (129 PGs are or would become offline)"
    assert (both.status, both.err) == (16, f"Error EBUSY: {said}\n")
    assert typed(world, "osd", "purge", "0").status == 22


def test_a_pool_may_be_set_otherwise() -> None:
    """With min_size 3 of three hosts none may stop, and only as many mons stand as were made."""
    world = small_site(ceph={"min_size": 3, "mons": 2})
    assert json.loads(typed(world, "osd", "ok-to-stop", "0", "1").out)["num_not_ok_pgs"] == 129
    assert list(ceph_of(world).mons.all) == ["pve1", "pve2"]


def test_a_site_without_ceph_has_none() -> None:
    """Neither the API nor the shell knows of it."""
    world = small_site()
    with pytest.raises(ApiError, match="binary not installed"):
        ask(world, "/cluster/ceph/status")
    assert COMMANDS["ceph"](Invocation(Facts(world, world.nodes["pve1"]), ["osd", "ok-to-stop", "0"])).status == 1
