"""What Ceph loses when OSDs go, from maps alone: recorded ones of a real Ceph, and ones made up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pveha.handles.ceph.maps import (
    Osd,
    OsdMap,
    Pg,
    Place,
    Pool,
    Room,
    Rule,
    Step,
    osd_map_of,
    pgs_of,
    places_of,
    rooms_of,
    rules_of,
    stored_of,
)
from pytest_pveha.handles.reading import an_object, some_rows
from pytest_pveha.observe.what_if import CephMap, room_for, without

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "ceph-16.2.15.json").read_text("utf-8"))
GIB = 2**30


def recorded(state: str) -> CephMap:
    told = RECORDED[state]
    return CephMap(
        osd_map_of(an_object(told["osd dump"], "dump")),
        places_of(an_object(told["osd tree"], "tree")),
        rules_of(some_rows(told["osd crush rule dump"], "rules")),
        pgs_of(an_object(told["pg dump pgs_brief"], "pgs").rows("pg_stats")),
        rooms_of(an_object(told["osd df"], "df").rows("nodes")),
        stored_of(an_object(told["df"], "df")),
    )


def made(
    hosts: int,
    per_host: int,
    *,
    size: int = 3,
    min_size: int = 2,
    domain: str = "host",
    used: float = 0.4,
    pgs: int = 60,
) -> CephMap:
    """Hosts with OSDs of 100 GiB, two of them in a room; placement groups on the OSDs in turn."""
    count, used = hosts * per_host, 0.4
    places = {
        osd: Place({"root": "default", "room": f"r{osd // per_host // 2}", "host": f"h{osd // per_host}"}, "ssd", 0.1)
        for osd in range(count)
    }
    groups = []
    for number in range(pgs):
        if domain == "host":
            acting = [((number + copy) % hosts) * per_host + number % per_host for copy in range(min(size, hosts))]
        else:
            acting = [(number + copy) % count for copy in range(min(size, count))]
        groups.append(Pg(f"1.{number:x}", "active+clean", tuple(acting), tuple(acting)))
    rule = Rule(0, "replicated_rule", "default", "", (Step(0, domain),))
    return CephMap(
        OsdMap(
            {osd: Osd(osd, True, True, 1.0) for osd in range(count)},
            {1: Pool(1, "vmdata", size, min_size, 0, pgs)},
            frozenset(),
            0.85,
            0.9,
            0.95,
        ),
        places,
        {0: rule},
        tuple(groups),
        {osd: Room(100 * GIB, round(used * 100 * GIB)) for osd in range(count)},
        {1: round(used * 100 * GIB * count / size)},
    )


def test_what_really_happened_was_to_be_foreseen() -> None:
    """From the maps of a real Ceph before: who is undersized once an OSD is down, and once a host is."""
    whole, one, host = (recorded(name) for name in ("whole", "one down", "host down"))
    short = {pg.id for pg in one.pgs if len(pg.acting) < 3}
    assert short
    told = without(whole, [0])
    assert (set(told.undersized), told.inactive, told.clean_again, told.receivers) == (short, (), True, 1)
    told = without(whole, [4, 5])
    assert {pg.id for pg in whole.pgs} == set(told.undersized)
    assert told.no_place == (
        "pool vmdata: rule replicated_rule finds 2 of 3 places, one in a host: it stays undersized",
        "pool device_health_metrics: rule replicated_rule finds 2 of 3 places, one in a host: it stays undersized",
    )
    # then osd.0 had been marked out, and of the host's two only one followed it: three quarters must stay in
    assert without(host, []).osds == frozenset()
    assert [osd.id for osd in host.osd_map.osds.values() if osd.up] == [1, 2, 3]


def test_degraded_groups_can_be_counted_on_unless_they_are_being_rebuilt() -> None:
    """An acting OSD has all of a group that is only undersized; of one that recovers, that cannot be told."""
    one = recorded("one down")
    told = without(one, [2])
    assert told.unsure == ()
    assert told.inactive  # those that had 0 and 2
    pgs = tuple(replace(pg, state=pg.state.replace("degraded", "recovering+degraded")) for pg in one.pgs)
    told = without(replace(one, pgs=pgs), [2])
    assert told.unsure
    assert told.serves is (False if told.inactive else None)
    assert not told.clean_again


@pytest.mark.parametrize(
    ("hosts", "per_host", "lost", "undersized", "inactive", "clean"),
    [
        (3, 2, 1, 60, 0, False),
        (4, 2, 1, 45, 0, True),
        (4, 1, 1, 45, 0, True),
        (5, 4, 1, 36, 0, True),
        (3, 1, 2, 0, 60, False),
        (4, 2, 2, 30, 30, False),
    ],
)  # fmt: skip
def test_hosts_that_go(hosts: int, per_host: int, lost: int, undersized: int, inactive: int, clean: bool) -> None:
    """By size, min_size and what the rule still finds: three hosts with size 3 cannot become clean on two."""
    ceph = made(hosts, per_host)
    told = without(ceph, ceph.osds_of("host", *(f"h{n}" for n in range(lost))))
    assert (len(told.undersized), len(told.inactive), told.clean_again) == (undersized, inactive, clean)
    assert told.unreadable == ()
    assert told.serves is (inactive == 0)


def test_a_room_is_not_marked_out() -> None:
    """Mons leave in what is down as a whole rack or more, so nothing of it is rebuilt."""
    ceph = made(10, 1)
    told = without(ceph, ceph.osds_of("room", "r0"))
    assert told.stays_in == {0, 1}
    assert told.rebuild_bytes == 0
    assert not told.clean_again


def test_a_quarter_at_most_is_marked_out() -> None:
    """Mons stop when less than three quarters are in."""
    ceph = made(3, 4)
    assert len(without(ceph, ceph.osds_of("host", "h0")).stays_in) == 0
    ceph = made(3, 6)
    assert len(without(ceph, ceph.osds_of("host", "h0")).stays_in) == 1


def test_noout_keeps_everything_where_it_is() -> None:
    """Nothing is rebuilt, and nothing becomes clean again by itself."""
    told = without(made(4, 2), [0], noout=True)
    assert (told.rebuild_bytes, told.clean_again, told.stays_in) == (0, False, {0})


def test_unreadable() -> None:
    """Without any copy nothing can be read; of an erasure-coded pool, with fewer pieces than k."""
    ceph = made(3, 1)
    told = without(ceph, [0, 1, 2])
    assert len(told.unreadable) == len(told.inactive) == 60
    pool = replace(ceph.osd_map.pools[1], size=3, min_size=3, needed=2, erasure=True)
    ceph = replace(ceph, osd_map=replace(ceph.osd_map, pools={1: pool}))
    assert without(ceph, [0]).unreadable == ()
    assert len(without(ceph, [0]).inactive) == 60
    assert len(without(ceph, [0, 1]).unreadable) == 60


def test_bytes_and_fill() -> None:
    """What an OSD held is rebuilt; where there are as many hosts as copies, its host's others take all of it."""
    tight, wide = made(3, 2), made(6, 2)
    one = without(tight, [0])
    assert one.rebuild_bytes == pytest.approx(40 * GIB, rel=0.01)
    assert one.receivers == 1
    assert one.fill == pytest.approx(0.8, rel=0.01)
    assert one.seconds(20 * 2**20) == pytest.approx(2048, rel=0.01)
    many = without(wide, [0])
    assert many.receivers == 11
    assert 0.42 < many.fill < 0.5
    host = without(made(4, 2), [0, 1])
    assert host.fill == pytest.approx(0.4 * 4 / 3, rel=0.01)


def test_rules() -> None:
    """Two copies in each of two rooms need two rooms with two hosts; another root or class has no place for them."""
    ceph = made(4, 1)
    stretched = Rule(1, "stretch", "default", "", (Step(2, "room"), Step(2, "host")))
    assert stretched.failure_domain == "host"
    assert Rule(2, "racks", "default", "", (Step(0, "room"), Step(1, "host"))).failure_domain == "room"
    assert room_for(stretched, 4, ceph.places, range(4)) == 4
    assert room_for(stretched, 4, ceph.places, range(3)) == 3
    assert room_for(stretched, 4, ceph.places, range(2)) == 2
    assert room_for(replace(stretched, root="other"), 4, ceph.places, range(4)) == 0
    assert room_for(replace(stretched, device_class="hdd"), 4, ceph.places, range(4)) == 0
    assert room_for(replace(stretched, device_class="ssd"), 4, ceph.places, range(4)) == 4
    assert room_for(Rule(3, "all but one", "default", "", (Step(-1, "host"),)), 3, ceph.places, range(4)) == 2


@given(
    hosts=st.integers(1, 6),
    per_host=st.integers(1, 3),
    size=st.integers(1, 4),
    less=st.integers(0, 3),
    lost=st.sets(st.integers(0, 17)),
    domain=st.sampled_from(["host", "osd"]),
)
def test_each_group_is_counted_once_and_by_its_copies(
    hosts: int, per_host: int, size: int, less: int, lost: set[int], domain: str
) -> None:
    """Undersized or inactive by the copies that are left; and losing more never leaves more."""
    ceph = made(hosts, per_host, size=size, min_size=max(1, size - less), domain=domain, pgs=24)
    gone = {osd for osd in lost if osd < hosts * per_host}
    told = without(ceph, gone)
    pool = ceph.osd_map.pools[1]
    for pg in ceph.pgs:
        left = len(set(pg.acting) - gone)
        assert (pg.id in told.inactive) == (left < pool.min_size)
        assert (pg.id in told.undersized) == (pool.min_size <= left < size)
        assert (pg.id in told.unreadable) == (left == 0)
    assert 0 <= told.fill <= told.fullest
    more = without(ceph, {*gone, 0})
    assert set(told.inactive) <= set(more.inactive)
    assert told.stays_in <= gone


@pytest.mark.parametrize("state", ["whole", "one down", "host down"])
def test_recorded_maps_fit_together(state: str) -> None:
    """A real Ceph's answers speak of the same OSDs, pools and placement groups, whatever is down."""
    assert recorded(state).gaps == ()


def test_maps_that_do_not_fit_together_are_told() -> None:
    """An answer in which an OSD, a pool or placement groups are missing is no ground for saying what would be left."""
    whole = recorded("whole")
    assert replace(whole, rooms={}).gaps[0] == "osd.0 is not in `osd df`"
    assert replace(whole, places={}).gaps[0] == "osd.0 is not in `osd tree`"
    assert replace(whole, stored={}).gaps[0].startswith("pool ")
    assert "31 of 32 placement groups of pool vmdata are told" in replace(whole, pgs=whole.pgs[1:]).gaps
