"""Real Ceph, read by our handle, and what happens to it against what was predicted from its maps."""

from __future__ import annotations

import pytest
from ceph_lab import BACK, DOWN_OUT, PGS, POOL, PUBLIC, SETTLES, TOOLS, CephCluster
from clusters import CLOCK, eventually
from lab import Lab, needs

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import SiteError
from pytest_pveha.handles.ceph import serves, shell
from pytest_pveha.handles.ceph.maps import Step
from pytest_pveha.handles.node import Node
from pytest_pveha.observe import ceph_map
from pytest_pveha.observe.what_if import CephMap, Prediction, without

pytestmark = [pytest.mark.daemons, needs(*TOOLS)]

WRITTEN = 400 * 2**20
"""Bytes, at the least, that were put into the pool."""


@pytest.fixture(scope="module")
def filled(lab: Lab, ceph_started: CephCluster) -> CephCluster:
    """The pool has data in all of its placement groups."""
    with lab.inside("controller"):
        _fill(ceph_started)
    return ceph_started


def _fill(ceph: CephCluster) -> None:
    size = str(2**20)
    for part in range(2):
        words = ("-b", size, "-t", "4", "--no-cleanup", "--max-objects", "240", "--run-name", f"fill{part}")
        ceph.client.run("rados", "-p", POOL, "bench", "60", "write", *words, within=SETTLES)
    eventually(lambda: sum(look(ceph).stored.values()) > WRITTEN, within=SETTLES, what="it is counted")


def look(ceph: CephCluster) -> CephMap:
    return ceph_map.read(ceph.observer)


def short(ceph: CephCluster) -> tuple[set[str], set[str]]:
    """Placement groups that serve with too few OSDs, and those that do not serve: by themselves, now."""
    pgs = look(ceph).pgs
    return (
        {pg.id for pg in pgs if serves(pg.state) and len(pg.acting) < 3},
        {pg.id for pg in pgs if not serves(pg.state)},
    )


def agrees(ceph: CephCluster, told: Prediction) -> bool:
    return short(ceph) == (set(told.undersized), set(told.inactive))


def answers(node: Node) -> bool:
    try:
        shell.status(node, CLOCK.deadline(6))
    except SiteError:
        return False
    return True


def lose(ceph: CephCluster, *osds: int) -> None:
    """They are stopped and masked."""
    for osd in osds:
        ceph.unit(ceph.host_of(osd), "mask", "--runtime", f"ceph-osd@{osd}")
        ceph.unit(ceph.host_of(osd), "stop", f"ceph-osd@{osd}")


def test_everything_is_read(real_ceph: CephCluster) -> None:
    """Maps, rules, rooms, mons and states are in our types, and are what was built."""
    node, deadline = real_ceph.node("ceph2"), CLOCK.deadline(60)
    ceph = look(real_ceph)
    assert sorted(ceph.osd_map.osds) == [0, 1, 2, 3, 4, 5]
    assert all(osd.up and osd.in_ and osd.weight == 1 for osd in ceph.osd_map.osds.values())
    assert [ceph.osd_map.osds[osd].public for osd in (0, 2, 4)] == [f"{PUBLIC}.{n}" for n in (31, 32, 33)]
    assert [ceph.osd_map.osds[osd].back for osd in (1, 3, 5)] == [f"{BACK}.{n}" for n in (31, 32, 33)]
    assert {osd: place.host for osd, place in ceph.places.items()} == {n: f"ceph{n // 2 + 1}" for n in range(6)}
    (pool,) = (pool for pool in ceph.osd_map.pools.values() if pool.name == POOL)
    assert (pool.size, pool.min_size, pool.pg_num, pool.needed, pool.erasure) == (3, 2, PGS, 1, False)
    rule = ceph.rules[pool.rule]
    assert (rule.root, rule.failure_domain, rule.steps) == ("default", "host", (Step(0, "host"),))
    assert {round(ratio, 2) for ratio in (ceph.osd_map.nearfull, ceph.osd_map.full)} == {0.85, 0.95}
    assert "noout" not in ceph.osd_map.flags
    assert all(len(pg.acting) == 3 and pg.up == pg.acting and pg.state == "active+clean" for pg in ceph.pgs)
    assert sum(pg.pool == pool.id for pg in ceph.pgs) == PGS
    assert all(room.total > room.used > 0 for room in ceph.rooms.values())
    assert ceph.stored.keys() == ceph.osd_map.pools.keys()
    mons = shell.mons(node, deadline)
    assert mons.names == mons.quorum == ("ceph1", "ceph2", "ceph3")
    assert mons.leader == "ceph1"
    assert mons.addresses["ceph3"] == f"{PUBLIC}.33"
    status = shell.status(node, deadline)
    assert status.clean
    assert status.told_all
    assert (status.mons, status.osds, status.osds_up, status.osds_in, status.inactive) == (3, 6, 6, 6, 0)


def test_without_a_quorum_of_mons_every_question_ends(real_ceph: CephCluster) -> None:
    """With two of three mons gone, each question is over in its time, with an error that says so."""
    for name in ("ceph2", "ceph3"):
        real_ceph.unit(real_ceph.machines[name], "stop", f"ceph-mon@{name}")
    node = real_ceph.node("ceph1")
    eventually(lambda: not answers(node), what="the last mon has noticed")  # its lease lets it answer for a while
    for ask in (shell.status, shell.osd_map, shell.places, shell.rules, shell.pgs, shell.rooms, shell.stored):
        begin = CLOCK.now().mono
        with pytest.raises(SiteError, match="is there a quorum of mons"):
            ask(node, CLOCK.deadline(6))
        assert (CLOCK.now().mono - begin) / SECOND < 10


def test_without_a_mgr_the_placement_groups_cannot_be_told(real_ceph: CephCluster) -> None:
    """What only the mgr knows is "can't tell" without it, not an empty answer."""
    real_ceph.unit(real_ceph.first, "stop", "ceph-mgr@ceph1")
    with pytest.raises(SiteError, match="and a mgr"):
        shell.pgs(real_ceph.node("ceph1"), CLOCK.deadline(8))


def test_one_osd(filled: CephCluster, real_ceph: CephCluster) -> None:
    """Those predicted are undersized, the rebuild goes to the same host, and all is clean again on five OSDs."""
    before = look(real_ceph)
    told = without(before, [0])
    assert told.undersized
    assert (told.inactive, told.unreadable, told.unsure, told.clean_again) == ((), (), (), True)
    assert told.receivers == 1
    lose(real_ceph, 0)
    eventually(lambda: agrees(real_ceph, told), within=SETTLES, what="those that were predicted are undersized")
    eventually(lambda: set(real_ceph.states()) == {"active+clean"}, within=2 * SETTLES, what="it is clean on five")
    after = look(real_ceph)
    assert not after.osd_map.osds[0].in_
    assert {1} == {osd for pg in after.pgs for osd in pg.acting} - {2, 3, 4, 5}
    assert told.rebuild_bytes > WRITTEN // 6

    def moved() -> float:
        return (look(real_ceph).rooms[1].used - before.rooms[1].used) / told.rebuild_bytes

    eventually(lambda: 0.5 < moved() < 2, within=SETTLES, what="as much as was predicted is counted on osd.1")


def test_a_host(filled: CephCluster, real_ceph: CephCluster) -> None:
    """With one of three hosts every placement group serves on undersized, and none has a place to become whole."""
    told = without(look(real_ceph), real_ceph.osds_of("ceph3"))
    assert len(told.undersized) == PGS + 1
    assert (told.inactive, told.clean_again) == ((), False)
    assert "finds 2 of 3 places, one in a host" in told.in_words
    lose(real_ceph, *real_ceph.osds_of("ceph3"))
    eventually(lambda: agrees(real_ceph, told), within=SETTLES, what="all are undersized")
    eventually(lambda: look(real_ceph).osd_map.osds[4].in_ is False, within=SETTLES, what="they are marked out")
    CLOCK.sleep(DOWN_OUT)
    assert agrees(real_ceph, told)


def test_two_hosts(filled: CephCluster, real_ceph: CephCluster) -> None:
    """With two of three hosts nothing serves, as predicted, though everything could be read; and noout is heeded."""
    osds = (*real_ceph.osds_of("ceph2"), *real_ceph.osds_of("ceph3"))
    told = without(look(real_ceph), osds)
    assert len(told.inactive) == PGS + 1
    assert told.unreadable == ()
    # as the last of each group is told of by nobody, its state stays what it was: stale
    lose(real_ceph, *osds)
    eventually(lambda: agrees(real_ceph, told), within=SETTLES, what="none of them serves")


def test_one_osd_of_each_host(filled: CephCluster, real_ceph: CephCluster) -> None:
    """Three OSDs on three hosts: each placement group is hit as predicted, some of them beyond serving."""
    told = without(look(real_ceph), [1, 3, 5])
    assert told.undersized
    assert told.inactive
    real_ceph.ceph("osd", "set", "noout")
    lose(real_ceph, 1, 3, 5)
    eventually(lambda: agrees(real_ceph, told), within=SETTLES, what="each is hit as predicted")


def test_marking_out_stops(real_ceph: CephCluster) -> None:
    """Of four OSDs only so many are marked out as leave three quarters in."""
    told = without(look(real_ceph), [0, 1, 2])
    assert told.stays_in == {2}
    lose(real_ceph, 0, 1, 2)
    eventually(lambda: sum(not osd.in_ for osd in look(real_ceph).osd_map.osds.values()) == 2, within=SETTLES)
    CLOCK.sleep(DOWN_OUT)
    assert [osd.id for osd in look(real_ceph).osd_map.osds.values() if not osd.in_] == [0, 1]
