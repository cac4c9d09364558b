"""What holds in every history of the world, whatever is done to it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.spec import SiteSpec
from pytest_pveha.sim.timeline import Timeline
from pytest_pveha.sim.world import Refused, World

LIFETIME = 120

ACTS = st.lists(
    st.tuples(
        st.sampled_from(["off", "on", "cycle", "reset", "soft", "cut", "restore", "migrate", "stop", "start", "kill"]),
        st.integers(0, 4),
        st.floats(0.0, 250.0),
    ),
    max_size=10,
)


class Checked:
    """A world whose invariants are looked at after every event."""

    def __init__(self, seed: int, nodes: int) -> None:
        plain: dict[str, Any] = {
            "name": "lab",
            "cluster": "lab",
            "seed": seed,
            "nodes": [{"name": f"n{i}", "nodeid": i, "boot_seconds": 15.0 + 30 * i} for i in range(1, nodes + 1)],
            "guests": [
                {"vmid": 100 + i, "name": f"g{i}", "node": f"n{i % nodes + 1}", "kind": "ct" if i == 3 else "vm"}
                for i in range(5)
            ],
        }
        self.timeline = Timeline()
        self.renewed: dict[str, int] = {}
        self.world = World(SiteSpec.from_json(plain), self.timeline, self.note)

    def note(self, kind: str, data: dict[str, Any]) -> None:
        now = self.timeline.now
        if kind == "lock" and data["what"] == "expired":
            assert now - data["renewed"] > LIFETIME * SECOND
        if kind == "acknowledged":
            # the dead node's own claim is at least the lock's lifetime old, or was given up in good order
            assert not self.world.nodes[data["node"]].running or not self.holds(data["node"])

    def holds(self, node: str) -> bool:
        return any(node in guest.processes for guest in self.world.guests.values() if guest.spec.ha)

    def act(self, what: str, number: int) -> None:
        world = self.world
        names = sorted(world.nodes)
        name = names[number % len(names)]
        vmid = 100 + number
        try:
            if what in ("off", "on", "cycle", "reset", "soft"):
                world.chassis(name, what)
            elif what == "cut":
                world.cut_network(name)
            elif what == "restore":
                world.restore_network(name)
            elif what == "migrate":
                world.migrate_guest(vmid, name)
            elif what == "stop":
                world.stop_guest(vmid)
            elif what == "start":
                world.start_guest(vmid)
            else:
                world.kill_guest(vmid, name)
        except Refused:
            pass

    def play(self, seconds: float) -> None:
        until = self.timeline.now + round(seconds * SECOND)
        while (upcoming := self.timeline.next_time()) is not None and upcoming <= until:
            self.timeline.run_next()
            self.look()
        self.timeline.run_until(until)

    def look(self) -> None:
        world = self.world
        for guest in world.guests.values():
            assert len(guest.processes) <= 1, f"{self.timeline.now / SECOND}: {guest.sid} on {list(guest.processes)}"
            assert all(world.nodes[name].running for name in guest.processes)
        settled = [node for node in world.nodes.values() if not node.syncing and world.quorate(node)]
        assert len({node.members for node in settled}) <= 1
        for node in world.nodes.values():
            assert world.quorate(node) == (node.cfs_joined and 2 * len(node.members) > len(world.nodes))
            assert node.corosync_up or not node.members
            assert node.chassis_on or not node.running

    def repair(self) -> None:
        # who is told to go down while he does so goes down all the same: the switch is pressed more than once
        for _ in range(3):
            for name in self.world.nodes:
                self.world.chassis(name, "on")
            self.play(100)
        for name, node in self.world.nodes.items():
            if not node.link_up:
                self.world.restore_network(name)
        self.world.pmxcfs.store.commands.clear()
        for guest in self.world.guests.values():
            self.world.pmxcfs.store.resources[guest.sid]["state"] = "started"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(1, 10_000), nodes=st.sampled_from([2, 3, 4, 5]), acts=ACTS)
def test_no_guest_runs_twice_and_every_site_heals(seed: int, nodes: int, acts: list[tuple[str, int, float]]) -> None:
    """No guest ever runs on two nodes, quorum is exact, no lock is taken young, and with everything on all is well."""
    checked = Checked(seed, nodes)
    checked.play(20)
    for what, number, pause in acts:
        checked.act(what, number)
        checked.play(pause)
    checked.play(20)
    checked.repair()
    checked.play(1500)
    world = checked.world
    assert {frozenset(node.members) for node in world.nodes.values()} == {frozenset(range(1, nodes + 1))}
    assert set(world.pmxcfs.store.manager["node_status"].values()) == {"online"}
    assert [node.crm_state for node in world.nodes.values()].count("master") == 1
    assert all(guest.answering for guest in world.guests.values())
    states = [service["state"] for service in world.pmxcfs.store.manager["service_status"].values()]
    assert set(states) == {"started"}
