"""Rules, groups and placement: where services go, stay and return to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_pveha.sim.world.placement import BEST, Load, Size, choose
from pytest_pveha.sim.world.rules import Compiled, compiled, failback, groups_as_rules, problems
from tests.sim.ha_kit import Site, guest

NODES = ("pve1", "pve2", "pve3")


def pin(*nodes: str, strict: bool = False, guests: tuple[str, ...] = ("vm:101",)) -> dict[str, Any]:
    return {"name": "pin", "affinity": "node", "guests": guests, "nodes": nodes, "strict": strict}


def affinity(kind: str, *guests: str, name: str = "pair") -> dict[str, Any]:
    return {"name": name, "affinity": kind, "guests": guests}


@pytest.mark.parametrize("seed", range(1, 9))
def test_affinity_rule_added(seed: int) -> None:
    """A node affinity added while the service is elsewhere moves it in the next round: the measured steps."""
    site = Site(guest(101, "pve1"), guest(102, "pve2"), seed=seed)
    start = site.now
    rule = {"rule": "pin101", "type": "node-affinity", "resources": "vm:101", "nodes": "pve2:2,pve1:1", "order": 1}
    site.world.pmxcfs.store.rules["pin101"] = rule
    site.play(60)
    assert site.became(start, "vm:101", "migrate") <= 10.1
    moved = site.during(start, "guest_migrated", vmid=101, node="pve2")
    assert 8 <= moved - site.became(start, "vm:101", "migrate") <= 21
    assert site.became(start, "vm:101", "started") <= moved + 15
    assert site.healthy()


def test_manual_migration_away_from_the_best_node() -> None:
    """It is carried out and undone in the next round."""
    site = Site(guest(101, "pve2"), guest(102, "pve1"), rules=[pin("pve2:2", "pve1:1")])
    start = site.now
    site.command("migrate vm:101 pve1")
    site.play(90)
    nodes = [d["node"] for at, k, d in site.truth if k == "guest_migrated" and at >= start]
    assert nodes == ["pve1", "pve2"]
    assert site.states(start, "vm:101")[:3] == ["migrate", "started", "migrate"]


@pytest.mark.parametrize("strict", [True, False])
def test_node_affinity_without_failback(strict: bool) -> None:
    """Without failback a service stays where it was moved to; a strict rule brings it back all the same."""
    site = Site(guest(101, "pve2", failback=False), guest(102, "pve1"), rules=[pin("pve2", strict=strict)])
    site.command("migrate vm:101 pve1")
    site.play(90)
    assert site.at("vm:101") == ("started@pve2" if strict else "started@pve1")


@pytest.mark.parametrize("home", [True, False])
def test_failback_after_recovery(home: bool) -> None:
    """The returned node gets its service back, unless failback is off."""
    rule = pin("pve3:2", "pve1:1", "pve2:1")
    site = Site(guest(101, "pve3", failback=home), guest(102, "pve1"), guest(103, "pve2"), rules=[rule], seed=3)
    site.cut("pve3")
    site.play(240)
    assert site.service("vm:101")["node"] != "pve3"
    site.power_on("pve3")
    site.play(240)
    assert (site.running(101) == ["pve3"]) is home
    assert site.healthy()


def test_node_affinity_nonstrict4_member_even_if_busier() -> None:
    """Recovery takes a node that the rule names, though another has fewer services."""
    rule = pin("pve3", "pve1")
    others = [guest(110 + i, "pve1") for i in range(4)]
    site = Site(guest(101, "pve3"), guest(102, "pve2"), *others, rules=[rule], seed=3)
    site.cut("pve3")
    site.play(260)
    assert site.running(101) == ["pve1"]


def test_negative_affinity_in_recovery() -> None:
    """Recovery never lands beside a partner it must not meet; with no other node it waits in `recovery`."""
    rule = affinity("negative", "vm:101", "vm:102", "vm:103")
    site = Site(guest(101, "pve1"), guest(102, "pve2"), guest(103, "pve3"), rules=[rule], seed=3)
    site.cut("pve3")
    site.play(300)
    assert site.at("vm:103") == "recovery@pve3"
    site.power_on("pve3")
    site.play(240)
    assert site.healthy()
    site.command("migrate vm:103 pve1")
    site.play(30)
    assert site.said("crm command 'migrate vm:103 pve1' error - service 'vm:101' on node 'pve1' in negative affinity")
    assert site.running(103) == ["pve3"]


def test_positive_affinity_in_recovery_and_migration() -> None:
    """Partners are recovered to one node, and move together."""
    rule = affinity("positive", "vm:101", "vm:102", "vm:103")
    three = [guest(101, "pve3"), guest(102, "pve3"), guest(103, "pve3")]
    site = Site(*three, guest(104, "pve1"), guest(105, "pve2"), rules=[rule], seed=3)
    site.cut("pve3")
    site.play(260)
    (node,) = {site.service(f"vm:{vmid}")["node"] for vmid in (101, 102, 103)}
    assert node != "pve3"
    other = next(name for name in ("pve1", "pve2") if name != node)
    site.command(f"migrate vm:101 {other}")
    site.play(90)
    assert {site.running(vmid)[0] for vmid in (101, 102, 103)} == {other}


@pytest.mark.parametrize("how", ["maintenance", "reboot", "power"])
@pytest.mark.parametrize("home", [False, True])
def test_partners_stay_where_they_went(how: str, home: bool) -> None:
    """Each finds the other elsewhere, which counts more than the way back; with a node of their own they go home."""
    rules = [affinity("positive", "vm:103", "vm:104"), *([pin("pve3", guests=("vm:103",))] if home else [])]
    pair, alone = [guest(103, "pve3"), guest(104, "pve3")], guest(105, "pve3")
    site = Site(*pair, alone, guest(101, "pve1"), guest(102, "pve2"), rules=rules, seed=3, shutdown_policy="migrate")
    if how == "maintenance":
        site.command("enable-node-maintenance pve3")
        site.play(120)
        assert "pve3" not in {site.service(sid)["node"] for sid in ("vm:103", "vm:104", "vm:105")}
        site.command("disable-node-maintenance pve3")
    elif how == "reboot":
        site.world.shutdowns.begin(site.world.nodes["pve3"], reboot=True)
    else:
        site.cut("pve3")
        site.play(260)
        site.power_on("pve3")
    site.play(300)
    (node,) = {site.running(vmid)[0] for vmid in (103, 104)}
    assert (node == "pve3") is home
    assert (site.running(105) == ["pve3"]) is (how != "power")
    assert site.healthy()


def test_without_failback_nobody_comes_back_from_maintenance() -> None:
    """It stays where it went, while the others come home."""
    site = Site(guest(101, "pve3", failback=False), guest(102, "pve3"), guest(103, "pve1"), seed=3)
    site.command("enable-node-maintenance pve3")
    site.play(120)
    site.command("disable-node-maintenance pve3")
    site.play(120)
    assert site.running(101) != ["pve3"]
    assert site.running(102) == ["pve3"]
    assert site.healthy()


def test_static_placement_weighs_memory() -> None:
    """`static` puts a recovered guest where memory is free, `basic` where there are fewer services."""
    gib = 1 << 30
    guests = [
        guest(101, "pve3", memory_bytes=4 * gib),
        guest(102, "pve1", memory_bytes=40 * gib),
        guest(103, "pve2", memory_bytes=2 * gib),
        guest(104, "pve2", memory_bytes=2 * gib),
    ]
    for crs, node in (("basic", "pve1"), ("static", "pve2")):
        site = Site(*guests, crs=crs, seed=3)
        site.cut("pve3")
        site.play(260)
        assert site.running(101) == [node], crs


def test_rebalance_on_start() -> None:
    """With rebalance-on-start a service that starts anew starts where there is most room."""
    site = Site(guest(101, "pve1", state="stopped"), guest(102, "pve1"), guest(103, "pve2"))
    site.world.pmxcfs.store.options["crs"] = {"ha-rebalance-on-start": 1}
    start = site.now
    site.ask("vm:101", "started")
    site.play(90)
    assert site.states(start, "vm:101") == ["request_start", "request_start_balance", "started"]
    assert site.running(101) == ["pve3"]


def test_group_migrate1() -> None:
    """A master of PVE 9 makes rules of groups once every node is ready; before, the groups hold as rules do."""
    group = {"name": "east", "nodes": ["pve2:2", "pve1"], "restricted": True, "nofailback": True}
    site = Site(guest(101, "pve2", group="east"), guest(102, "pve1"), groups=[group])
    store = site.world.pmxcfs.store
    assert site.said("ha groups migration successful")
    assert store.groups == {}
    assert store.rules["ha-group-east"] == {
        "rule": "ha-group-east",
        "type": "node-affinity",
        "resources": "vm:101",
        "nodes": "pve2:2,pve1",
        "comment": "Generated from HA group 'east'.",
        "strict": 1,
        "order": 1,
    }
    assert store.resources["vm:101"]["failback"] == 0
    assert "group" not in store.resources["vm:101"]


def test_group_migrate4_waits_for_all_nodes() -> None:
    """While a node is off the groups stay, and the journal says when it is tried again."""
    group = {"name": "east", "nodes": ["pve2:2", "pve1"]}
    site = Site(guest(101, "pve2", group="east"), guest(102, "pve1"), groups=[group], version="8.4.1")
    site.cut(victim := site.slaves()[-1])
    site.play(40)
    site.world.spec = replace(site.world.spec, version="9.0.3")
    site.play(60)
    assert site.world.pmxcfs.store.groups
    assert site.said("retry ha groups migration in 6 rounds (~ 60 seconds)")
    site.power_on(victim)
    site.play(240)
    assert not site.world.pmxcfs.store.groups


@pytest.mark.parametrize("nofailback", [True, False])
def test_groups_of_pve_8(nofailback: bool) -> None:
    """On PVE 8 a group prefers its nodes, takes guests home unless `nofailback`, and stays a group."""
    group = {"name": "east", "nodes": ["pve3:2", "pve1:1"], "nofailback": nofailback}
    guests = [guest(101, "pve3", group="east"), guest(102, "pve1"), guest(103, "pve2"), guest(104, "pve1")]
    site = Site(*guests, groups=[group], version="8.4.14", seed=3)
    site.cut("pve3")
    site.play(260)
    assert site.running(101) == ["pve1"]
    site.power_on("pve3")
    site.play(240)
    assert site.running(101) == (["pve1"] if nofailback else ["pve3"])
    assert site.world.pmxcfs.store.groups


def test_a_restricted_group_leaves_no_other_node() -> None:
    """A service of a restricted group whose only node died waits in `recovery`."""
    group = {"name": "only", "nodes": ["pve3"], "restricted": True}
    site = Site(guest(101, "pve3", group="only"), guest(102, "pve1"), groups=[group], version="8.4.14", seed=3)
    site.cut("pve3")
    site.play(260)
    assert site.at("vm:101") == "recovery@pve3"


# the rules by themselves


def rule(kind: str, resources: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "resources": resources, **more}


def test_priorities_and_strictness() -> None:
    """The highest priority of the online nodes counts; nodes a rule does not name come last, or not at all."""
    loose = {"a": rule("node-affinity", "vm:1", nodes="pve1:2,pve2:1")}
    rules, said = compiled(loose, NODES)
    assert said == []
    assert rules.preferred("vm:1", NODES) == {"pve1"}
    assert rules.preferred("vm:1", {"pve2", "pve3"}) == {"pve2"}
    assert rules.preferred("vm:1", {"pve3"}) == {"pve3"}
    strict, _ = compiled({"a": {**loose["a"], "strict": 1}}, NODES)
    assert strict.preferred("vm:1", {"pve3"}) == set()
    assert rules.preferred("vm:2", NODES) == set(NODES)


def test_rules_that_share_services_are_joined() -> None:
    """Positive rules with a service in common are one: what one must not meet none may, and its nodes are all's."""
    rules, said = compiled(
        {
            "a": rule("resource-affinity", "vm:1,vm:2", affinity="positive"),
            "b": rule("resource-affinity", "vm:2,vm:3", affinity="positive"),
            "c": rule("resource-affinity", "vm:3,vm:9", affinity="negative"),
            "d": rule("node-affinity", "vm:1", nodes="pve2", strict=1),
        },
        NODES,
    )
    assert said == []
    assert rules.together["vm:1"] == {"vm:2", "vm:3"}
    assert rules.apart["vm:9"] == {"vm:1", "vm:2", "vm:3"}
    assert rules.allowed("vm:3", NODES) == {"pve2"}


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        (
            {"a": rule("node-affinity", "vm:1", nodes="pve1"), "b": rule("node-affinity", "vm:1", nodes="pve2")},
            "resource 'vm:1' is already used in another node affinity rule",
        ),
        (
            {"a": rule("resource-affinity", "vm:1", affinity="positive")},
            "rule is ineffective as there are less than two resources",
        ),
        (
            {"a": rule("resource-affinity", "vm:1,vm:2,vm:3,vm:4", affinity="negative")},
            "rule defines more resources than available nodes",
        ),
        (
            {
                "a": rule("resource-affinity", "vm:1,vm:2", affinity="positive"),
                "b": rule("resource-affinity", "vm:1,vm:2", affinity="negative"),
            },
            "rule shares two or more resources with a negative resource affinity rule",
        ),
        (
            {
                "a": rule("node-affinity", "vm:1", nodes="pve1:2,pve2:1"),
                "b": rule("resource-affinity", "vm:1,vm:2", affinity="positive"),
            },
            "resources are in a resource affinity rule and cannot be in a node affinity rule with multiple priorities",
        ),
    ],
)
def test_rules_that_cannot_be_kept_are_dropped(rules: dict[str, Any], text: str) -> None:
    """A conflict is named, and the rules in it are not in force; disabled ones are not looked at."""
    assert text in problems(rules, NODES)["a"]["resources"]
    held, said = compiled(rules, NODES)
    assert f"Drop rule 'a', because {text}." in said
    assert held == Compiled()
    assert problems({name: {**one, "disable": 1} for name, one in rules.items()}, NODES) == {}


def test_groups_mean_rules() -> None:
    """A group without members is no rule; `restricted` is strict, `nofailback` a matter of the service."""
    groups = {
        "a": {"nodes": "pve1:1,pve2", "restricted": 1, "nofailback": 1, "comment": "mine"},
        "b": {"nodes": "pve3"},
    }
    resources = {"vm:1": {"group": "a"}, "vm:2": {}, "vm:3": {"failback": 0}}
    (found,) = groups_as_rules(groups, resources).values()
    assert (found["rule"], found["nodes"], found["strict"], found["comment"]) == (
        "ha-group-a",
        "pve1:1,pve2",
        1,
        "mine",
    )
    assert [failback(sid, resources, groups) for sid in resources] == [False, True, False]


def test_equal_nodes_are_taken_by_name() -> None:
    """Of nodes that carry the same the first by name is taken, whichever way they are weighed."""
    for static in (False, True):
        load = Load(dict.fromkeys(NODES, Size(8, 64.0)), {"vm:1": Size(1, 4.0)}, static)
        services = {"vm:1": {"state": "recovery", "node": "gone", "uid": "x"}}
        assert choose("vm:1", services, Compiled(), load, failback=True, wanted=BEST) == "pve1"
