"""The ways between rooms, switches and power feeds of the simulated site, and what its nodes' tools say of them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ha_kit import Site, guest, journal
from servers_kit import PlayingGate, shell, told

HOST = "10.99.9.9"
ROOMS = {"pve1": "a", "pve2": "a", "pve3": "b", "pve4": "b"}


def stretched(
    *, delay: float = 0.5, back: float | None = None, jitter: float = 0.05, loss: float = 0.0, **more: Any
) -> Site:
    """Two rooms of two nodes, and a third with the quorum device."""
    way = {"jitter_ms": jitter, "loss_percent": loss}
    nodes = [
        {"name": name, "nodeid": number, "room": room, "boot_seconds": 20.0, "feeds": [f"feed-{room}"]}
        for number, (name, room) in enumerate(ROOMS.items(), 1)
    ]
    paths = [
        {"source": "a", "target": "b", "delay_ms": delay, **way},
        {"source": "b", "target": "a", "delay_ms": delay if back is None else back, **way},
    ]
    site = {"qdevice": "ffsplit", "qdevice_host": HOST, "qdevice_room": "c", "paths": paths, "described": nodes}
    return Site(guest(101, "pve1"), guest(103, "pve3"), **{**site, **more})


def round_trips(site: Site, source: str, target: str, count: int = 200) -> tuple[list[float], str]:
    """What ping says on that node of that address: the times of the answers, and its last lines."""
    done = shell(PlayingGate(site.world), f"ping -n -c {count} -i 0.2 -W 2 {target}", source)
    return [float(time) for time in re.findall(r"time=([\d.]+) ms", done.out)], done.out.partition("--- ")[2]


def test_ping_says_what_the_way_takes() -> None:
    """There and back, with jitter; within a room it is a tenth of that."""
    far, told_far = round_trips(stretched(delay=2.0), "pve1", "10.99.0.13")
    near, _ = round_trips(stretched(delay=2.0), "pve1", "10.99.0.12")
    assert len(far) == len(near) == 200
    assert 4.0 <= min(far) <= max(far) < 4.6
    assert max(near) < 0.3
    assert re.fullmatch(
        r"10\.99\.0\.13 ping statistics ---\n200 packets transmitted, 200 received, 0% packet loss, time 39800ms\n"
        r"rtt min/avg/max/mdev = 4\.\d{3}/4\.\d{3}/4\.\d{3}/0\.\d{3} ms\n",
        told_far,
    )


def test_a_slow_direction_slows_both_round_trips() -> None:
    """An echo goes there and comes back, from whichever side it is asked."""
    site = stretched(delay=0.5, back=11.0)
    for source, target in (("pve1", "10.99.0.13"), ("pve3", "10.99.0.11")):
        assert min(round_trips(site, source, target)[0]) >= 11.5


def test_a_lossy_way_loses_both_directions() -> None:
    """5 percent each way: about one echo of ten."""
    heard, tail = round_trips(stretched(loss=5.0), "pve1", "10.99.0.13", 1000)
    assert 860 <= len(heard) <= 940
    assert f"1000 packets transmitted, {len(heard)} received, {(1000 - len(heard)) / 10:g}% packet loss" in tail


def test_who_is_dead_or_cut_off_answers_no_echo() -> None:
    """Status 1, and no times."""
    site = stretched()
    site.world.mains("pve3", False)
    site.play(5)
    done = shell(PlayingGate(site.world), "ping -n -c 3 -i 0.2 -W 1 10.99.0.13")
    assert done.status == 1
    assert "3 packets transmitted, 0 received, 100% packet loss, time 400ms" in done.out
    assert "rtt" not in done.out


def test_the_stats_map_knows_each_links_latency() -> None:
    """In microseconds, there and back, by the real names of the keys."""
    gate = PlayingGate(stretched(delay=2.0).world)
    text = told(gate, "corosync-cmapctl -m stats stats.knet.")
    found = dict(re.findall(r"^stats\.knet\.(\S+) \(u\d+\) = (\d+)$", text, re.M))
    assert found["node3.link0.connected"] == "1"
    assert 4000 <= int(found["node3.link0.latency_min"]) <= int(found["node3.link0.latency_ave"]) <= 4200
    assert int(found["node3.link0.latency_ave"]) < int(found["node3.link0.latency_max"]) < 5000
    assert found["node1.link0.latency_samples"] == "0"
    assert told(gate, "corosync-cmapctl -g runtime.config.totem.token") == "runtime.config.totem.token (u32) = 3250\n"


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ({"delay": 6.0}, ["Token has not been received in 2438 ms"]),
        ({"delay": 0.5, "back": 11.0}, ["Token has not been received in 2438 ms"]),
        ({"jitter": 4.0}, ["Token has not been received in 2438 ms"]),
        ({"loss": 1.0}, ["Retransmit List: ", r"link: host: \d link: 0 is down", r"link: host: \d link: 0 is up"]),
        ({"delay": 2.0}, []),
    ],
)
def test_a_strained_ring_complains_in_the_journals(way: dict[str, Any], words: list[str]) -> None:
    """Late tokens, retransmits and flaps where the documented limits are passed; nothing where they are not."""
    site = stretched(**way)
    site.play(120)
    lines = [line for name in ROOMS for line in journal(site.world.nodes[name])]
    lines = [line for line in lines if "TOTEM" in line or "KNET" in line]
    for word in words:
        assert any(re.search(word, line) for line in lines), word
    assert bool(words) == bool(lines)
    assert all(len(node.members) == 4 for node in site.world.nodes.values())


def test_a_switch_takes_its_networks_with_it() -> None:
    """The link that goes over it alone, the BMCs and the quorum device; what goes over another one stays."""
    switches = [["corosync0", ["sw-1"]], ["corosync1", ["sw-2"]], ["bmc", ["sw-1"]], ["guest", ["sw-1", "sw-2"]]]
    site = stretched(links=2, switches=switches, qdevice_switch="sw-1")
    world = site.world
    world.switches.set("sw-1", up=False)
    site.play(30)
    one, three = world.nodes["pve1"], world.nodes["pve3"]
    assert [world.network.link_up(one, three, link) for link in (0, 1)] == [False, True]
    assert not world.bmc_reachable("pve3", "pve1")
    assert world.corosync.device.state(one) == "Connecting"
    assert world.guest_answering(101)
    assert all(world.quorate(node) for node in world.nodes.values())
    world.switches.set("sw-1", up=True)
    site.play(30)
    assert world.network.link_up(one, three, 0)
    assert world.bmc_reachable("pve3", "pve1")
    assert world.corosync.device.state(one) == "Connected"


def test_a_feed_takes_the_nodes_that_hang_on_it_alone() -> None:
    """With their BMCs; a node with a second feed lives on."""
    nodes = [
        {"name": name, "nodeid": number, "room": room, "boot_seconds": 20.0, "feeds": feeds}
        for number, (name, room, feeds) in enumerate(
            [("pve1", "a", ["f1"]), ("pve2", "a", ["f1", "f2"]), ("pve3", "b", ["f2"]), ("pve4", "b", ["f2"])], 1
        )
    ]
    site = stretched(described=nodes)
    site.world.feeds.set("f1", on=False)
    site.play(5)
    assert {name: node.running for name, node in site.world.nodes.items()} == {
        "pve1": False, "pve2": True, "pve3": True, "pve4": True,
    }  # fmt: skip
    assert not site.world.bmc_reachable("pve1")
    site.world.feeds.set("f1", on=True)
    site.play(120)
    assert site.world.nodes["pve1"].running
