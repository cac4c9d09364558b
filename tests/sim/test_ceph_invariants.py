"""What must hold of the simulated Ceph whatever is done to it: Hypothesis breaks and mends it in any order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_pveha.sim.world.ceph import Group
from pytest_pveha.sim.world.ceph.wires import CLUSTER, PUBLIC
from tests.sim.ceph_kit import CephSite

ACTS = st.one_of(
    st.tuples(st.sampled_from(["kill", "stop", "start", "out", "in"]), st.integers(0, 7)),
    st.tuples(st.sampled_from(["off", "on"]), st.integers(1, 4)),
    st.tuples(st.sampled_from(["cut", "heal"]), st.integers(1, 4)),
    st.tuples(st.sampled_from(["noout", "nodown", "norecover", "none"]), st.just(0)),
)


def act(site: CephSite, what: str, which: int) -> None:
    """One thing somebody does to the site."""
    ceph = site.ceph
    name = f"pve{which}"
    if what in ("kill", "stop", "start"):
        if ceph.node(ceph.osds[which]).running:
            if what == "start":
                site.systemctl(which, "reset_failed")
            site.systemctl(which, what, *(["KILL"] if what == "kill" else []))
    elif what in ("out", "in"):
        ceph.osd_map.set_in([ceph.osds[which]], what == "in")
    elif what in ("off", "on"):
        site.world.chassis(name, what)
    elif what in ("cut", "heal"):
        for network in (PUBLIC, CLUSTER):
            ceph.network.set_link(name, network, what == "heal")
    else:
        for flag in ("noout", "nodown", "norecover"):
            ceph.set_flag(flag, flag == what)


def right(site: CephSite) -> None:
    """Sums are those of the parts, and every state follows from where its copies are."""
    ceph = site.ceph
    groups = list(ceph.groups)
    for group in groups:
        state_follows(group)
        assert all(0 <= lacking <= group.objects for lacking in group.held.values())
        assert group.fresh <= group.held.keys(), group.name  # nobody who has the last writes was ever dropped
        assert (group in group.pool.unserved) is not group.active
        assert not {*group.up} - {osd.number for osd in ceph.osds.values() if osd.up}
    assert ceph.groups.degraded == sum(group.degraded_objects() for group in groups)
    assert ceph.groups.misplaced == sum(group.misplaced_objects() for group in groups)
    assert sum(ceph.groups.states.values()) == len(groups)
    for osd in ceph.osds.values():
        copies = [
            (group.objects - group.held[osd.number]) * group.bytes / group.objects
            for group in groups
            if osd.number in group.held
        ]
        assert abs(osd.used - sum(copies)) <= 16 * len(groups)
        assert osd.sources in (0, 1)
        assert osd.sinks in (0, 1)
        assert osd.groups == {group for group in groups if osd.number in (*group.up, *group.acting)}


def state_follows(group: Group) -> None:
    """The words say what is."""
    words = set(group.state.split("+"))
    if not group.acting:
        assert "stale" in words
        return
    assert ("peering" in words) is group.peering
    if group.peering or group.stuck:
        return
    assert ("active" in words) is (len(group.acting) >= group.pool.min_size)
    assert ("undersized" in words) is (len(group.acting) < group.pool.size)
    assert ("degraded" in words) is (group.degraded_objects() > 0)
    if "clean" in words:
        assert len(set(group.acting)) == group.pool.size
        assert all(group.held[osd] == 0 for osd in group.acting)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(ACTS, st.integers(1, 90)), max_size=14), st.integers(1, 3))
def test_whatever_is_done_the_sums_are_right_and_it_heals(acts: list[tuple[Any, int]], seed: int) -> None:
    """After each act and a while all adds up; and mended everywhere it is clean again, with every copy where it was."""
    site = CephSite(nodes=4, seed=seed, ceph={"pgs": 16, "fill": 0.002, "mons": 3})
    before = {group: group.acting for group in site.ceph.groups}
    for (what, which), seconds in acts:
        act(site, what, which)
        right(site)
        site.play(seconds)
        right(site)
    act(site, "none", 0)
    for number in range(1, 5):
        site.world.chassis(f"pve{number}", "on")
        act(site, "heal", number)
    site.play(10)  # a BMC takes its time
    site.until(lambda: all(node.running for node in site.world.nodes.values()), 200)
    site.play(30)
    for number in range(8):
        act(site, "start", number)
        act(site, "in", number)
    site.until(lambda: site.clean() and all(osd.up for osd in site.ceph.osds.values()), 3600)
    right(site)
    assert {group: group.acting for group in site.ceph.groups} == before
    assert not site.ceph.io.blocked


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(ACTS, st.integers(1, 90)), max_size=10), st.integers(1, 4))
def test_what_was_acknowledged_survives_any_one_host(acts: list[tuple[Any, int]], lost: int) -> None:
    """With min_size 2, by hosts: whatever host is lost for good, another took part in each group's last writes."""
    site = CephSite(nodes=4, ceph={"pgs": 16, "fill": 0.002, "mons": 3})
    for (what, which), seconds in acts:
        act(site, what, which)
        site.play(seconds)
        for group in site.ceph.groups:
            if group.pool.min_size >= 2:
                hosts = {site.ceph.osds[osd].host for osd in group.fresh}
                assert hosts - {f"pve{lost}"}, group.name
