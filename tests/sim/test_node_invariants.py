"""What holds in every history of nodes that are parted, whose daemons are stopped, killed and stood still."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_pveha.sim.world.network import IN, Chain, Rule, Table
from tests.sim.test_world_invariants import Checked

UNITS = ("corosync", "pve-cluster", "pve-ha-crm", "pve-ha-lrm", "watchdog-mux", "pveproxy")
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["drop", "clear", "start", "stop corosync", "KILL", "STOP", "CONT", "reset", "on"]),
        st.integers(0, 4),
        st.integers(0, 4),
        st.sampled_from(UNITS),
        st.floats(0.0, 150.0),
    ),
    max_size=10,
)


def act(checked: Checked, what: str, number: int, other: int, unit: str) -> None:
    """One thing done to one node, as its shell would do it."""
    world = checked.world
    names = sorted(world.nodes)
    node, peer = world.nodes[names[number % len(names)]], world.nodes[names[other % len(names)]]
    if what in ("reset", "on"):
        world.chassis(node.name, what)
    elif not node.running:
        return
    elif what == "drop":
        rule = Rule("", "drop", sources=frozenset({world.network.address(peer)}))
        table = world.network.tables(node).setdefault("inet x", Table("inet x", "", {"i": Chain("i", IN)}))
        table.chains["i"].rules.append(rule)
        world.network.changed(node)
    elif what == "clear":
        world.network.tables(node).clear()
        world.network.changed(node)
    elif what == "start":
        world.systemd.start(node, unit)
    elif what == "stop corosync":
        world.systemd.stop(node, "corosync")
    else:
        world.systemd.kill(node, unit, what)


def heal(checked: Checked) -> None:
    """Every filter is gone, every node on, every daemon running: the multiplexer's ones after a boot."""
    for node in checked.world.nodes.values():
        checked.world.network.tables(node).clear()
        checked.world.network.changed(node)
        if node.running:
            for unit in UNITS:
                checked.world.systemd.kill(node, unit, "CONT")
                checked.world.systemd.start(node, unit)
    checked.repair()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(1, 10_000), nodes=st.sampled_from([2, 3, 4, 5]), acts=ACTS)
@example(seed=1, nodes=3, acts=[("stop corosync", 0, 0, "corosync", 118.0), ("STOP", 0, 0, "corosync", 0.0)])
def test_no_guest_runs_twice_whatever_is_done_to_nodes(
    seed: int, nodes: int, acts: list[tuple[str, int, int, str, float]]
) -> None:
    """No guest ever runs on two nodes, no two rings have quorum, and with everything undone all is well."""
    site = {"nodes": nodes, "rules": "none", "shutdown_policy": "conditional", "crs": "basic", "acpi": True}
    checked = Checked(seed, site)
    checked.play(20)
    for what, number, other, unit, pause in acts:
        act(checked, what, number, other, unit)
        checked.play(pause)
    checked.play(100)
    heal(checked)
    checked.play(1500)
    world = checked.world
    assert {frozenset(node.members) for node in world.nodes.values()} == {frozenset(range(1, nodes + 1))}
    assert set(world.pmxcfs.store.manager["node_status"].values()) == {"online"}
    assert [node.crm_state for node in world.nodes.values()].count("master") == 1
    assert all(guest.answering for guest in world.guests.values())
