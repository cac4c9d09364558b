"""The quorum device: who gets its vote, and when. Times and letters as measured on corosync 3.1.7 with ffsplit."""

from __future__ import annotations

from typing import Any

import pytest
from ha_kit import Site, guest, journal

from pytest_pveha.sim.world import Node
from pytest_pveha.sim.world.network import IN, OUT, Chain, Rule, Table

HOST = "10.99.9.9"


def two(**more: Any) -> Site:
    """Two nodes and the vote of a device."""
    return Site(guest(101, "pve1"), guest(102, "pve2"), nodes=2, qdevice="ffsplit", qdevice_host=HOST, **more)


def cut(site: Site, one: str, *others: str) -> None:
    """That node neither hears nor reaches those addresses any more."""
    addresses = frozenset(others)
    chains = {
        "from": Chain("from", IN, rules=[Rule("", "drop", sources=addresses)]),
        "to": Chain("to", OUT, rules=[Rule("", "drop", destinations=addresses)]),
    }
    node = site.world.nodes[one]
    site.world.network.tables(node)["inet cut"] = Table("inet cut", chains=chains)
    site.world.network.changed(node)


def heal(site: Site, one: str) -> None:
    node = site.world.nodes[one]
    site.world.network.tables(node).clear()
    site.world.network.changed(node)


def until(site: Site, name: str, *, quorate: bool) -> float:
    """Seconds until that node is, or is no longer, quorate."""
    begin = site.now
    while site.world.quorate(site.world.nodes[name]) is not quorate:
        assert site.now < begin + 60, f"{name} never became quorate={quorate}"
        site.timeline.run_next()
    return site.now - begin


def votes(site: Site) -> dict[str, int]:
    return {name: site.world.corosync.total_votes(node) for name, node in site.world.nodes.items()}


def quorate(site: Site) -> list[str]:
    return [name for name, node in site.world.nodes.items() if site.world.quorate(node)]


def address(site: Site, name: str) -> str:
    return site.world.network.address(site.world.nodes[name])


def members(node: Node) -> int:
    return len(node.members)


def test_a_split_that_both_tell_qnetd_of_is_decided_at_once() -> None:
    """A: the lowest node id stays, the other loses as soon as the ring is formed, and nobody waits."""
    site = two()
    cut(site, "pve2", address(site, "pve1"))
    lost = until(site, "pve2", quorate=False)
    site.play(1)
    assert lost == pytest.approx(site.world.corosync.token + site.world.corosync.consensus, abs=0.5)
    assert quorate(site) == ["pve1"]
    assert votes(site) == {"pve1": 2, "pve2": 1}


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_node_cut_off_qnetd_too_is_late_to_know(seed: int) -> None:
    """B: the other goes on when qnetd has missed it, this one gives up 8 to 16 s after the cut: until then both say
    quorate, and this one still counts both nodes."""
    site = two(seed=seed)
    begin = site.now
    cut(site, "pve2", address(site, "pve1"), HOST)
    ring = site.world.corosync.token + site.world.corosync.consensus
    one, other = site.world.nodes["pve1"], site.world.nodes["pve2"]
    while members(one) == 2:
        assert quorate(site) == ["pve1", "pve2"]
        site.timeline.run_next()
    assert ring - 0.5 < site.now - begin < 9.7
    while site.world.quorate(other):
        assert members(other) == 2
        assert other.syncing or site.now < begin + ring  # it says so, and writes nothing
        site.timeline.run_next()
    assert 8 <= site.now - begin <= 16.1
    assert quorate(site) == ["pve1"]
    assert journal(other, "waiting for quorum device Qdevice poll (but maximum for 30000 ms)")


def test_without_qnetd_both_go_on_until_one_is_lost() -> None:
    """C, D, E: two of three votes suffice, one does not; back again, the vote counts after 5.9 to 6.6 s."""
    site = two()
    site.world.corosync.device.switch(up=False)
    site.play(16.5)
    assert votes(site) == {"pve1": 2, "pve2": 2}
    assert quorate(site) == ["pve1", "pve2"]
    assert not site.said("non-primary component")
    cut(site, "pve2", address(site, "pve1"))
    assert until(site, "pve1", quorate=False) < 9
    site.world.corosync.device.switch(up=True)
    assert 5.9 <= until(site, "pve1", quorate=True) <= 6.6
    heal(site, "pve2")
    site.play(5)
    assert quorate(site) == ["pve1", "pve2"]


def test_healed_while_the_device_decides_is_as_if_nothing_had_been() -> None:
    """A cut that ends while both wait for qnetd leaves nobody waiting."""
    site = two()
    cut(site, "pve2", address(site, "pve1"), HOST)
    site.play(site.world.corosync.token + site.world.corosync.consensus + 2)
    heal(site, "pve2")
    site.play(4)
    assert quorate(site) == ["pve1", "pve2"]
    assert not any(node.syncing for node in site.world.nodes.values())
    site.play(8)  # a line that was given up meanwhile stands again
    assert votes(site) == {"pve1": 3, "pve2": 3}


def test_the_last_man_stands_with_lms() -> None:
    """With lms one of three nodes goes on alone, as long as it reaches qnetd."""
    site = Site(guest(101, "pve1"), qdevice="lms", qdevice_host=HOST)
    assert votes(site) == {"pve1": 5, "pve2": 5, "pve3": 5}
    site.cut("pve2")
    site.cut("pve3")
    site.play(40)
    assert quorate(site) == ["pve1"]
    assert votes(site)["pve1"] == 3


def test_in_two_node_mode_each_goes_on_alone_but_after_a_start() -> None:
    """Cut from each other both are quorate; one that was started waits until it has met the other (votequorum(5))."""
    site = Site(guest(101, "pve1"), guest(102, "pve2"), nodes=2, two_node=True)
    cut(site, "pve2", address(site, "pve1"))
    site.play(30)
    assert [members(node) for node in site.world.nodes.values()] == [1, 1]
    assert quorate(site) == ["pve1", "pve2"]
    site.world.systemd.daemons.stop(site.world.nodes["pve2"], "corosync")
    site.world.systemd.daemons.start(site.world.nodes["pve2"], "corosync")
    site.play(30)
    assert quorate(site) == ["pve1"]
    heal(site, "pve2")
    site.play(30)
    assert quorate(site) == ["pve1", "pve2"]


def test_without_a_device_nothing_is_waited_for() -> None:
    """A cluster that has none counts its nodes' votes."""
    site = Site(guest(101, "pve1"))
    assert votes(site) == {"pve1": 3, "pve2": 3, "pve3": 3}
    assert site.world.corosync.quorum == 2
