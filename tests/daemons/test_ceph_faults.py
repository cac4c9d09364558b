"""Our faults of Ceph on a real one: made, seen to bite by another path, undone; and undone by what a node would do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from ceph_lab import DOWN_OUT, POOL, SETTLES, TOOLS, CephCluster
from clusters import CLOCK, eventually
from lab import AMPLE, needs

from pytest_pveha.errors import PreflightRefused
from pytest_pveha.faults import rules
from pytest_pveha.faults.ceph import CephNetworkCut, NooutSet, OsdKilled, OsdLost
from pytest_pveha.faults.fault import Fault
from pytest_pveha.handles.ceph import shell
from pytest_pveha.handles.ceph.maps import OsdMap
from pytest_pveha.handles.shell import each_of
from pytest_pveha.observe import ceph_map

pytestmark = [pytest.mark.daemons, needs(*TOOLS)]

TAG = "pveha-lab-ceph-cut"


def osd_map(ceph: CephCluster) -> OsdMap:
    return shell.osd_map(ceph.node("ceph2"), CLOCK.deadline(AMPLE))


def made(ceph: CephCluster, fault: Fault, *, allowed: bool = True) -> None:
    """It was allowed, made, and seen to bite."""
    if allowed:
        fault.preflight(ceph.observer)
    ceph.observer.broken_at = CLOCK.now().mono
    fault.inject(ceph.observer)
    eventually(lambda: fault.took_effect(ceph.observer).verdict == "yes", within=SETTLES, what="it bites")


def undone(ceph: CephCluster, fault: Fault) -> None:
    """It was undone, as often as it takes, and seen to be."""

    def healed() -> bool:
        fault.heal(ceph.observer)
        return fault.healed(ceph.observer).verdict == "yes"

    eventually(healed, within=SETTLES, what="it is healed")


def left_alone(ceph: CephCluster, fault: Fault) -> None:
    """What the nodes do when nobody comes was done on them."""
    for undo in fault.dead_man(ceph.observer, "/srv/none").undos:
        ceph.node(undo.node).act(CLOCK.deadline(AMPLE), "sh", "-c", each_of(*undo.script))
    eventually(lambda: fault.healed(ceph.observer).verdict == "yes", within=SETTLES, what="the nodes undid it")


def pid(ceph: CephCluster, osd: int) -> int:
    return ceph.node(ceph.host_of(osd).name).units.main_pid(f"ceph-osd@{osd}", CLOCK.deadline(AMPLE))


def lost(ceph: CephCluster, osd: int, weight: float = 1.0) -> OsdLost:
    return OsdLost(ceph.host_of(osd).name, osd, pid(ceph, osd), weight)


def cut(ceph: CephCluster, name: str, network: str) -> CephNetworkCut:
    kind = {"cluster": "back", "public": "public"}[network]
    addresses = tuple((each, (machine.addresses[kind],)) for each, machine in ceph.machines.items())
    return CephNetworkCut(TAG, name, network, addresses, tuple((osd, 1.0) for osd in ceph.osds_of(name)), mon=True)


def test_a_killed_osd(real_ceph: CephCluster) -> None:
    """Its process is gone at once, and its unit starts it again without us, up and in as it was."""
    fault = OsdKilled("ceph1", 0, pid(real_ceph, 0))
    made(real_ceph, fault)
    eventually(lambda: not osd_map(real_ceph).osds[0].up, what="Ceph calls it down")
    eventually(lambda: fault.healed(real_ceph.observer).verdict == "yes", within=SETTLES, what="it is back by itself")
    assert pid(real_ceph, 0) != fault.pid
    undone(real_ceph, fault)  # which finds nothing to do
    with pytest.raises(PreflightRefused, match="does not run; there is nothing to break"):
        fault.preflight(real_ceph.observer)


def test_an_osd_killed_too_often(real_ceph: CephCluster) -> None:
    """Its unit gives up after some starts; healed, it runs all the same."""
    unit, machine = "ceph-osd@0", real_ceph.host_of(0)
    real_ceph.unit(machine, "reset-failed", unit)
    for _ in range(3):
        real_ceph.unit(machine, "restart", unit)
    eventually(lambda: osd_map(real_ceph).osds[0].up, what="it is up")
    fault = OsdKilled("ceph1", 0, pid(real_ceph, 0))
    made(real_ceph, fault)
    eventually(lambda: real_ceph.unit(machine, "is-active", unit) == "failed\n", what="systemd gives it up")
    undone(real_ceph, fault)


def test_a_lost_osd(real_ceph: CephCluster) -> None:
    """It stays away and is marked out; healed, it is in with the weight that it had."""
    real_ceph.ceph("osd", "reweight", "2", "0.85")
    eventually(lambda: set(real_ceph.states()) == {"active+clean"}, within=SETTLES, what="it is clean, reweighted")
    fault = lost(real_ceph, 2, osd_map(real_ceph).osds[2].weight)
    assert 0.84 < fault.weight < 0.86
    made(real_ceph, fault)
    eventually(lambda: not osd_map(real_ceph).osds[2].in_, within=SETTLES, what="it is marked out")
    CLOCK.sleep(DOWN_OUT)
    assert not osd_map(real_ceph).osds[2].up
    undone(real_ceph, fault)
    assert osd_map(real_ceph).osds[2].weight == fault.weight
    real_ceph.ceph("osd", "reweight", "2", "1")


def test_a_lost_osd_that_nobody_heals(real_ceph: CephCluster) -> None:
    """What lies on its node, and on another, brings it back."""
    fault = lost(real_ceph, 5)
    made(real_ceph, fault)
    real_ceph.ceph("osd", "out", "5")
    left_alone(real_ceph, fault)


def test_a_node_of_a_lost_osd_that_restarts(real_ceph: CephCluster) -> None:
    """A boot takes the mask away, and the OSD is back; what was marked out by hand, the persistent undo takes in."""
    fault = lost(real_ceph, 5)
    made(real_ceph, fault)
    real_ceph.ceph("osd", "out", "5")
    machine = real_ceph.machines["ceph3"]
    machine.cut_power()
    real_ceph.boot(machine)
    eventually(lambda: osd_map(real_ceph).osds[5].up, within=SETTLES, what="it is up")
    assert fault.healed(real_ceph.observer).verdict == "no"
    left_alone(real_ceph, fault)


def test_noout(real_ceph: CephCluster) -> None:
    """It is set, keeps an OSD in that is lost, and is taken away: by us, or by a node."""
    fault = NooutSet("ceph1")
    made(real_ceph, fault)
    with pytest.raises(PreflightRefused, match="noout is set already"):
        fault.preflight(real_ceph.observer)
    inner = lost(real_ceph, 0)
    made(real_ceph, inner)
    CLOCK.sleep(2 * DOWN_OUT)
    assert osd_map(real_ceph).osds[0].in_
    undone(real_ceph, inner)
    undone(real_ceph, fault)
    made(real_ceph, fault)
    left_alone(real_ceph, fault)


WRITER = """echo $$ > /srv/writer
n=0
while :; do
  timeout 100 rados -p "$1" put "stall$((n % 24))" /etc/hostname && date +%s.%N >> /srv/written
  n=$((n + 1))
done
"""


@contextmanager
def writing(ceph: CephCluster) -> Iterator[dict[str, float]]:
    """Somebody writes one small object after the other; afterwards it is known for how long none came through."""
    told: dict[str, float] = {}
    written = ceph.client.path("/srv/written")
    written.unlink(missing_ok=True)
    ceph.client.daemon("sh", "-c", WRITER, "sh", POOL)
    eventually(lambda: written.exists() and len(written.read_text().splitlines()) > 8, what="it writes")
    yield told
    times = [float(line) for line in written.read_text().splitlines()]
    told["stall"] = max(later - earlier for earlier, later in pairwise(times))
    writer = ceph.client.path("/srv/writer").read_text().strip()
    ceph.client.run("kill", "-KILL", "--", f"-{writer}", check=False)


@pytest.mark.parametrize("network", ["cluster", "public"])
def test_a_network_of_one_host(real_ceph: CephCluster, network: str) -> None:
    """Its OSDs are called down, nothing else is; nothing is written for a while, whatever health says."""
    fault = cut(real_ceph, "ceph3", network)
    health: list[str] = []
    with writing(real_ceph) as told:
        begin = CLOCK.now().mono
        fault.inject(real_ceph.observer)
        real_ceph.observer.broken_at = begin

        def bitten() -> bool:
            health.append(ceph_map.status(real_ceph.observer, ["ceph3"]).health)
            return fault.took_effect(real_ceph.observer).verdict == "yes"

        took = eventually(bitten, within=SETTLES, what="its OSDs are called down")
        CLOCK.sleep(20)
        down = [osd for osd, one in osd_map(real_ceph).osds.items() if not one.up]
    print(f"{network}: bit after {took:.1f} s; nothing was written for {told['stall']:.1f} s; down {down}")
    print(f"health meanwhile: {dict.fromkeys(health)} in {len(health)} looks")
    assert set(down) <= {4, 5}
    assert told["stall"] > 5
    undone(real_ceph, fault)
    for name in real_ceph.machines:
        assert not rules.there(real_ceph.node(name), TAG, CLOCK.deadline(AMPLE))


def test_a_cut_network_that_nobody_heals(real_ceph: CephCluster) -> None:
    """The nodes take their rules back, and start what gave up meanwhile."""
    fault = cut(real_ceph, "ceph2", "cluster")
    fault.inject(real_ceph.observer)
    real_ceph.unit(real_ceph.machines["ceph2"], "stop", "ceph-osd@3")
    left_alone(real_ceph, fault)
