"""What ``ceph ... -f json`` and PVE's API say of the simulated Ceph: shapes, what is left out at zero, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_pveha.sim.ceph_spec import RELEASES
from pytest_pveha.sim.servers.api_routes import ApiError, Call, find
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.world.ceph.wires import CLUSTER
from pytest_pveha.sim.world.world import World
from tests.sim.ceph_kit import CephSite, ceph_of
from tests.sim.servers_kit import PlayingGate, shell, small_site, told

SAMPLES = next(
    (
        path
        for folder in Path(__file__).resolve().parents
        if (path := folder / "shared" / "reference" / "recorded" / "ceph-samples.json").is_file()
    ),
    None,
)


def said(gate: PlayingGate, command: str, node: str = "pve1") -> Any:
    """The command's JSON."""
    done = shell(gate, f"ceph {command} -f json", node)
    assert done.status == 0, done
    return json.loads(done.out)


def degraded() -> PlayingGate:
    """A site of which one OSD was stopped a while ago."""
    gate = PlayingGate(small_site(ceph={}))
    told(gate, "systemctl stop ceph-osd@2", "pve2")
    gate.play(20)
    return gate


def shape(value: Any) -> Any:
    """Keys and kinds alone; of lists the first entry."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def lacking(wanted: Any, found: Any, where: str = "") -> list[str]:
    """What the sample has and the answer has not, or has as something else."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            text
            for key, inner in wanted.items()
            for text in (lacking(inner, found[key], f"{where} {key}") if key in found else [f"{where} {key}"])
        ]
    if isinstance(wanted, list) and isinstance(found, list):
        return lacking(wanted[0], found[0], f"{where}[]") if wanted and found else []
    return [] if shape(wanted) == shape(found) else [f"{where}: {shape(found)} instead of {shape(wanted)}"]


@pytest.mark.skipif(SAMPLES is None, reason="the samples do not lie beside this checkout (shared/reference/recorded)")
def test_answers_have_the_samples_shapes() -> None:
    """Every key of the samples is there, as what it is; checks and daemons are compared by kind."""
    assert SAMPLES is not None
    samples = json.loads(SAMPLES.read_text(encoding="utf-8"))
    gate = degraded()
    status = said(gate, "-s")
    assert lacking(samples["ceph -s -f json"], status) == []
    dump = said(gate, "osd dump")
    assert lacking(samples["ceph osd dump -f json (extract)"], {**dump, "pools": dump["pools"][1:]}) == []
    good = json.loads(told(gate, "ceph osd ok-to-stop 2", "pve1"))
    assert (
        lacking({**samples["ceph osd ok-to-stop 0 (ok)"], "ok_become_degraded": []}, {**good, "ok_become_degraded": []})
        == []
    )
    bad = json.loads(shell(gate, "ceph osd ok-to-stop 0 1 4 5").out)
    name = next(key for key in samples if "not ok" in key)
    assert lacking({key: value for key, value in samples[name].items() if value != []}, bad) == []
    assert [] not in bad.values()  # what is empty is not there (recorded on 16.2.15)


def test_what_is_zero_is_not_there() -> None:
    """A clean cluster has no degraded objects, no recovery and no inactive groups in its map."""
    gate = PlayingGate(small_site(ceph={}))
    clean = said(gate, "status")["pgmap"]
    assert not [key for key in clean if key.startswith(("degraded", "misplaced", "recovering", "inactive", "unknown"))]
    assert said(gate, "status")["progress_events"] == {}
    sick = said(degraded(), "status")["pgmap"]
    assert sick["degraded_objects"] / sick["degraded_total"] == sick["degraded_ratio"]
    assert "misplaced_objects" not in sick


@pytest.mark.parametrize("release", RELEASES)
def test_each_release_answers_in_its_own_way(release: str) -> None:
    """The version is told everywhere, and keys that came or went with a release are there or not."""
    gate = PlayingGate(small_site(ceph={"release": release}))
    assert list(said(gate, "versions")["osd"]) == [next(iter(said(gate, "versions")["mon"]))]
    assert release in next(iter(said(gate, "versions")["overall"]))
    assert said(gate, "mon dump")["min_mon_release_name"] == release
    order = list(RELEASES)
    assert ("mds" in said(gate, "versions")) is (order.index(release) < order.index("reef"))
    assert ("ruleset" in said(gate, "osd crush rule dump")[0]) is (release == "pacific")
    assert ("btime" in said(gate, "-s")["fsmap"]) is (order.index(release) >= order.index("squid"))


def test_the_tree_the_map_and_the_groups_tell_the_same() -> None:
    """OSDs stand under their hosts, each group's OSDs are in the map, and addresses are on the two networks."""
    gate = PlayingGate(small_site(ceph={}))
    tree = said(gate, "osd tree")["nodes"]
    below = {node["name"]: node.get("children", []) for node in tree}
    assert sorted(below["pve2"]) == [2, 3]
    dump = {one["osd"]: one for one in said(gate, "osd dump")["osds"]}
    assert dump[2]["public_addr"].startswith("10.98.0.12:68")
    assert dump[2]["cluster_addr"].startswith("10.98.1.12:68")
    groups = said(gate, "pg dump pgs_brief")["pg_stats"]
    assert len(groups) == 129
    assert {osd for group in groups for osd in group["acting"]} == set(dump)
    host = {child: name for name, children in below.items() for child in children if child >= 0}
    assert all(len({host[osd] for osd in group["acting"]}) == 3 for group in groups)
    used = {row["id"]: row for row in said(gate, "osd df")["nodes"]}
    for osd, row in used.items():
        assert row["pgs"] == sum(osd in group["up"] for group in groups)
    assert said(gate, "osd find 3")["crush_location"] == {"host": "pve2", "root": "default"}
    assert said(gate, "osd metadata 3")["hostname"] == "pve2"
    pools = {pool["pool_name"]: pool for pool in said(gate, "osd pool ls detail")}
    assert (pools["ceph-vm"]["pg_num"], pools["ceph-vm"]["size"], pools["ceph-vm"]["min_size"]) == (128, 3, 2)
    assert said(gate, "pg stat")["pg_summary"]["num_pgs"] == 129
    assert told(gate, "ceph pg stat").startswith("129 pgs: 129 active+clean; ")
    assert [row["pgid"] for row in said(gate, "pg ls degraded")["pg_stats"]] == []


def test_flags_are_set_by_the_shell_and_over_rest() -> None:
    """Either way they are in the map, and in health; a strange one is refused."""
    gate = PlayingGate(small_site(ceph={}))
    world = gate.world
    assert shell(gate, "ceph osd set noout").err == "noout is set\n"
    assert "noout" in said(gate, "osd dump")["flags_set"]
    assert said(gate, "health")["checks"]["OSDMAP_FLAGS"]["summary"]["message"] == "noout flag(s) set"
    rest(world, "PUT", "/cluster/ceph/flags/noout", value="0")
    upid = rest(world, "PUT", "/cluster/ceph/flags", norebalance="1", noin="1")
    assert upid.startswith("UPID:pve1:")
    set_ = {row["name"] for row in rest(world, "GET", "/cluster/ceph/flags") if row["value"]}
    assert set_ == {"noin", "norebalance"}
    with pytest.raises(ApiError, match="Parameter verification failed"):
        rest(world, "PUT", "/cluster/ceph/flags/nosuch", value="1")
    assert shell(gate, "ceph osd set nosuch").status == 22


def rest(world: World, method: str, path: str, **params: str) -> Any:
    """What that call says on the first node."""
    route, parts = find(method, path, world.spec.version)
    return route.function(Call(Facts(world, world.nodes["pve1"]), "root@pam!t", params), **parts)


def test_an_osd_goes_out_and_comes_in_over_rest_and_by_the_shell() -> None:
    """Out it serves on while its data moves; the tree says so."""
    gate = PlayingGate(small_site(ceph={"fill": 0.01}))
    ceph = ceph_of(gate.world)
    rest(gate.world, "POST", "/nodes/pve1/ceph/osd/1/out")
    gate.play(3)
    assert not ceph.io.blocked
    assert set(ceph.groups.states) <= {"active+clean", "active+remapped+backfilling", "active+remapped+backfill_wait"}
    assert ceph.groups.misplaced > 0
    leaf = rest(gate.world, "GET", "/nodes/pve1/ceph/osd")["root"]["children"][0]["children"]
    assert {one["id"]: one["in"] for host in leaf for one in host["children"]}["1"] == 0
    gate.until(lambda: set(ceph.groups.states) == {"active+clean"}, 600)
    assert shell(gate, "ceph osd safe-to-destroy 1").status == 0
    assert shell(gate, "ceph osd in 1").err == "marked in osd.1. \n"
    assert shell(gate, "ceph osd in osd.1").err == "osd.1 is already in. \n"


def test_without_a_quorum_the_shell_waits_and_rest_gives_up() -> None:
    """``timeout`` ends the wait with 124, the tool's own patience with 1, and PVE's API says that it got a timeout."""
    gate = PlayingGate(small_site(ceph={}))
    for node in ("pve2", "pve3"):
        told(gate, f"systemctl stop ceph-mon@{node}", node)
    assert said(gate, "-s")["quorum_names"] == ["pve1", "pve2", "pve3"]  # nobody has noticed yet
    assert shell(gate, "timeout 3 ceph --connect-timeout 1 osd set noout").status == 124
    gate.play(10)
    begun = gate.world.timeline.now
    assert shell(gate, "timeout 10 ceph -s -f json").status == 124
    assert gate.world.timeline.now - begun == pytest.approx(10e9, abs=1e9)
    gone = shell(gate, "ceph --connect-timeout 5 -s")
    assert (gone.status, gone.err) == (1, "timed out\n")
    late = shell(gate, "ceph -s")
    assert (late.status, "timed out" in late.err) == (1, True)
    with pytest.raises(ApiError, match="got timeout"):
        rest(gate.world, "GET", "/cluster/ceph/status")
    assert {row["state"] for row in rest(gate.world, "GET", "/nodes/pve1/ceph/mon")} == {"unknown"}


def test_the_map_outlives_the_manager_and_its_groups_do_not() -> None:
    """Without a manager the mons answer, and what the manager answers waits."""
    gate = PlayingGate(small_site(ceph={}))
    for node in ("pve1", "pve2", "pve3"):
        told(gate, f"systemctl stop ceph-mgr@{node}", node)
    assert said(gate, "osd dump")["epoch"]
    assert said(gate, "-s")["mgrmap"]["available"] is False
    assert shell(gate, "timeout 5 ceph pg dump pgs_brief -f json").status == 124
    gate.play(60)
    assert "MGR_DOWN" in said(gate, "health")["checks"]


def test_filters_cut_cephs_networks() -> None:
    """Rules against the addresses of the cluster network alone make a node's OSDs missed, and nothing else."""
    gate = PlayingGate(small_site(ceph={}))
    ceph = ceph_of(gate.world)
    others = "10.98.1.11, 10.98.1.12"
    batch = (
        "table inet cut {\n chain in { type filter hook input priority -5; policy accept;\n"
        f" ip saddr {{ {others} }} drop\n }}\n}}\n"
    )
    told(gate, "nft -f -", "pve3", batch)
    assert ceph.io.blocked
    gate.play(40)
    assert [osd.number for osd in ceph.osds.values() if not osd.up] == [4, 5]
    assert len(ceph.mons.quorum) == 3
    assert shell(gate, "ceph -s", "pve3").status == 0
    told(gate, "nft delete table inet cut", "pve3")
    gate.until(lambda: all(osd.up for osd in ceph.osds.values()), 30)


def test_a_card_can_be_taken_down() -> None:
    """ip link set does it, and a reboot brings it up again."""
    gate = PlayingGate(small_site(ceph={}))
    ceph = ceph_of(gate.world)
    told(gate, "ip link set dev ceph1 down", "pve3")
    assert not ceph.network.up("pve3", CLUSTER)
    gate.kill("pve3")
    gate.revive("pve3")
    assert ceph.network.up("pve3", CLUSTER)


def test_echoes_on_cephs_networks() -> None:
    """Each is answered while both cards are up, and one network says nothing of the other."""
    site = CephSite()
    gate = PlayingGate(site.world)
    ping = "ping -n -c 3 -i 0.2 -W 1"
    assert shell(gate, f"{ping} 10.98.0.13").status == shell(gate, f"{ping} 10.98.1.13").status == 0
    site.ceph.network.set_link("pve3", CLUSTER, False)
    assert shell(gate, f"{ping} 10.98.0.13").status == 0
    done = shell(gate, f"{ping} 10.98.1.13")
    assert done.status == 1
    assert "3 packets transmitted, 0 received, 100% packet loss" in done.out
    assert shell(gate, f"{ping} 10.98.2.13").status == 2


def test_masked_until_the_next_boot_systemd_leaves_it() -> None:
    """A runtime mask keeps a killed OSD down, shows in its state, and is gone after a reboot."""
    gate = PlayingGate(small_site(ceph={}))
    ceph = ceph_of(gate.world)
    made = shell(gate, "systemctl mask --runtime ceph-osd@4", "pve3")
    assert "/run/systemd/system/ceph-osd@4.service" in made.err + made.out
    pid = int(told(gate, "systemctl show -p MainPID --value ceph-osd@4", "pve3"))
    assert str(pid) in told(gate, "pgrep -f ceph-osd", "pve3").split()
    told(gate, "systemctl kill -s KILL ceph-osd@4", "pve3")
    gate.play(30)
    assert not ceph.osds[4].up
    assert shell(gate, "systemctl is-active ceph-osd@4", "pve3").out == "failed\n"
    gate.kill("pve3")
    gate.revive("pve3")
    gate.until(lambda: ceph.osds[4].up, 60)


def test_pve_starts_and_stops_services() -> None:
    """By kind or one by one; an OSD that is stopped so stays down."""
    gate = PlayingGate(small_site(ceph={}))
    ceph = ceph_of(gate.world)
    rest(gate.world, "POST", "/nodes/pve1/ceph/stop", service="osd.0")
    gate.play(5)
    assert not ceph.osds[0].up
    assert ceph.osds[1].up
    rest(gate.world, "POST", "/nodes/pve1/ceph/start", service="osd")
    gate.until(lambda: ceph.osds[0].up, 20)
    safe = rest(gate.world, "GET", "/nodes/pve1/ceph/cmd-safety", service="mon", id="pve1", action="stop")
    assert safe["safe"] == 1


def test_a_node_that_goes_down_in_good_order_announces_its_osds() -> None:
    """A clean reboot costs no heartbeats' grace: the stalls are those of peering."""
    site = CephSite()
    site.world.shutdown("pve3", reboot=True)
    site.until(lambda: not site.world.nodes["pve3"].running, 120)
    site.until(lambda: site.world.nodes["pve3"].running and site.clean() and site.ceph.osds[4].up, 240)
    assert all(stall < 4 for stall in site.stalled())
