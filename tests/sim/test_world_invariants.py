"""What holds in every history of the world, whatever is done to it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.spec import POLICIES, SiteSpec
from pytest_pveha.sim.timeline import Timeline
from pytest_pveha.sim.world import Node, Refused, World

LIFETIME = 120

ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("off", "on", "cycle", "reset", "soft", "cut", "restore", "migrate", "stop", "start", "kill"),
                *(
                    "reboot",
                    "shutdown",
                    "maintain",
                    "serve",
                    "disarm-ha freeze",
                    "disarm-ha ignore",
                    "arm-ha",
                    "relocate",
                ),
                *("restart-lrm", "restart-crm", "guest-shutdown", "disabled", "ignored", "started"),
            ]
        ),
        st.integers(0, 4),
        st.floats(0.0, 250.0),
    ),
    max_size=10,
)
RULES: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "home": [{"name": "home", "affinity": "node", "guests": ["vm:100"], "nodes": ["n2:2", "n1:1"]}],
    "strict": [{"name": "home", "affinity": "node", "guests": ["vm:100", "vm:101"], "nodes": ["n2"], "strict": True}],
    "together": [{"name": "pair", "affinity": "positive", "guests": ["vm:100", "vm:101"]}],
    "apart": [{"name": "pair", "affinity": "negative", "guests": ["vm:100", "ct:103"]}],
}
SITES = st.fixed_dictionaries(
    {
        "nodes": st.sampled_from([2, 3, 4, 5]),
        "rules": st.sampled_from(sorted(RULES)),
        "shutdown_policy": st.sampled_from(POLICIES),
        "crs": st.sampled_from(["basic", "static"]),
        "acpi": st.booleans(),
    }
)


class Checked:
    """A world whose invariants are looked at after every event."""

    def __init__(self, seed: int, site: dict[str, Any]) -> None:
        nodes = site["nodes"]
        plain: dict[str, Any] = {
            "name": "lab",
            "cluster": "lab",
            "seed": seed,
            "nodes": [{"name": f"n{i}", "nodeid": i, "boot_seconds": 15.0 + 30 * i} for i in range(1, nodes + 1)],
            "guests": [
                {
                    "vmid": 100 + i,
                    "name": f"g{i}",
                    "node": f"n{i % nodes + 1}",
                    "kind": "ct" if i == 3 else "vm",
                    "acpi": site["acpi"],
                }
                for i in range(5)
            ],
            "rules": RULES[site["rules"]],
            "shutdown_policy": site["shutdown_policy"],
            "crs": site["crs"],
        }
        self.timeline = Timeline()
        self.last = 0
        self.history: list[Any] = []
        self.world = World(SiteSpec.from_json(plain), self.timeline, self.note)

    def note(self, kind: str, data: dict[str, Any]) -> None:
        now = self.timeline.now
        self.history.append((now, kind, dict(data)))
        if kind == "recovery":
            # after the node was last marked its lock was taken, and the guest runs there no more
            of_node = [what for _, what, one in self.history if one.get("node") == data["from"]]
            fenced = max(i for i, what in enumerate(of_node) if what == "fence")
            assert "acknowledged" in of_node[fenced:]
            assert data["from"] not in self.world.guests[data["vmid"]].processes
        if kind == "lock" and data["what"] == "expired":
            assert now - data["renewed"] > LIFETIME * SECOND
        if kind == "acknowledged":
            # the dead node's own claim is at least the lock's lifetime old, or was given up in good order
            assert not self.world.nodes[data["node"]].running or not self.holds(data["node"])

    def holds(self, node: str) -> bool:
        return any(node in guest.processes for guest in self.world.guests.values() if guest.spec.ha)

    @property
    def ignored(self) -> bool:
        """Whether HA is disarmed and tracks nothing, or about to be."""
        store = self.world.pmxcfs.store
        return store.manager.get("disarm", {}).get("mode") == "ignore" or "ignore" in str(store.commands)

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
            elif what in ("reboot", "shutdown"):
                world.shutdown(name, what == "reboot")
            elif what in ("maintain", "serve"):
                world.crm_command(name, f"{'enable' if what == 'maintain' else 'disable'}-node-maintenance {name}")
            elif what == "arm-ha" and self.ignored and not all(node.link_up for node in world.nodes.values()):
                # who was not tracking and arms while a node is cut off has its guests twice, in life too
                return
            elif what.endswith(("-ha", "freeze", "ignore")):
                world.crm_command(name, what)
            elif what in ("disabled", "ignored", "started"):
                world.pmxcfs.store.resources[world.guests[vmid].sid]["state"] = what
            elif what.startswith("restart-"):
                self.restart(world.nodes[name], what)
            elif what == "relocate":
                world.crm_command(name, f"relocate {world.guests[vmid].sid} {names[(number + 1) % len(names)]}")
            elif what == "guest-shutdown":
                world.requests.shut_down(vmid, "root@pam")
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

    def restart(self, node: Node, what: str) -> None:
        """The daemon ends in good order, and its unit is started again."""
        power = self.world.power
        if what == "restart-lrm" and node.lrm:
            node.lrm.stop(lambda: power._start_lrm(node))
        elif what == "restart-crm" and node.crm:
            node.crm.stop(lambda: power._start_crm(node))

    def play(self, seconds: float) -> None:
        until = self.timeline.now + round(seconds * SECOND)
        while (upcoming := self.timeline.next_time()) is not None and upcoming <= until:
            self.timeline.run_next()
            self.look()
        self.timeline.run_until(until)

    def look(self) -> None:
        world = self.world
        assert self.timeline.now >= self.last
        self.last = self.timeline.now
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
            for name, node in self.world.nodes.items():
                if self.world.shutdowns.of(node):
                    # it may wait for ever for a guest that can go nowhere
                    self.world.chassis(name, "off")
                self.world.chassis(name, "on")
            self.play(100)
        for name, node in self.world.nodes.items():
            if not node.link_up:
                self.world.restore_network(name)
        self.play(60)
        self.world.pmxcfs.store.commands.clear()
        for name in self.world.nodes:
            self.act("serve", int(name[1:]) - 1)
        self.act("arm-ha", 0)
        for guest in self.world.guests.values():
            self.world.pmxcfs.store.resources[guest.sid]["state"] = "started"


def broken(seed: int, site: dict[str, Any], acts: list[tuple[str, int, float]]) -> Checked:
    """A site on which all that has been done, one act after the other."""
    checked = Checked(seed, site)
    checked.play(20)
    for what, number, pause in acts:
        checked.act(what, number)
        checked.play(pause)
    return checked


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(1, 10_000), site=SITES, acts=ACTS)
def test_no_guest_runs_twice_and_every_site_heals(
    seed: int, site: dict[str, Any], acts: list[tuple[str, int, float]]
) -> None:
    """No guest ever runs on two nodes, quorum is exact, no lock is taken young, and with everything on all is well."""
    checked = broken(seed, site, acts)
    nodes = site["nodes"]
    checked.play(20)
    checked.repair()
    checked.play(1000)
    world = checked.world
    assert {frozenset(node.members) for node in world.nodes.values()} == {frozenset(range(1, nodes + 1))}
    assert set(world.pmxcfs.store.manager["node_status"].values()) == {"online"}
    assert [node.crm_state for node in world.nodes.values()].count("master") == 1
    assert all(guest.answering for guest in world.guests.values())
    states = [service["state"] for service in world.pmxcfs.store.manager["service_status"].values()]
    assert set(states) == {"started"}


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(1, 10_000), site=SITES, acts=ACTS)
def test_the_same_seed_plays_the_same_history(
    seed: int, site: dict[str, Any], acts: list[tuple[str, int, float]]
) -> None:
    """What is done to two worlds of one seed has the same truth and the same journals, line by line."""
    one, other = broken(seed, site, acts), broken(seed, site, acts)
    assert one.history == other.history
    for name, node in one.world.nodes.items():
        assert node.journal == other.world.nodes[name].journal
