"""Our faults of Ceph on a real one: made, seen to bite by another path, undone; and undone by what a node would do."""

from __future__ import annotations

import pytest
from ceph_lab import DOWN_OUT, SETTLES, TOOLS, CephCluster
from clusters import CLOCK, eventually
from lab import AMPLE, needs

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import PreflightRefused
from pytest_pveha.faults import ceph as faults
from pytest_pveha.faults.ceph import NooutSet, OsdKilled, OsdLost
from pytest_pveha.faults.fault import Fault
from pytest_pveha.handles.ceph import shell
from pytest_pveha.handles.ceph.maps import OsdMap
from pytest_pveha.handles.shell import each_of

pytestmark = [pytest.mark.daemons, pytest.mark.usefixtures("steady_soon"), needs(*TOOLS)]

AS_SHIPPED = faults.STEADY


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


def test_an_osd_killed_too_often(real_ceph: CephCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its unit gives up after some starts; healed, it runs all the same, and is called so when it has for a while."""
    monkeypatch.setattr(faults, "STEADY", AS_SHIPPED)
    unit, machine = "ceph-osd@0", real_ceph.host_of(0)
    real_ceph.unit(machine, "reset-failed", unit)
    for _ in range(3):
        real_ceph.unit(machine, "restart", unit)
    eventually(lambda: osd_map(real_ceph).osds[0].up, what="it is up")
    fault = OsdKilled("ceph1", 0, pid(real_ceph, 0))
    made(real_ceph, fault)
    eventually(lambda: real_ceph.unit(machine, "is-active", unit) == "failed\n", what="systemd gives it up")
    begin = CLOCK.now().mono
    undone(real_ceph, fault)
    assert (CLOCK.now().mono - begin) / SECOND > AS_SHIPPED


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
    CLOCK.sleep(DOWN_OUT + 8)  # the mons look every 5 s (mon_tick_interval)
    assert osd_map(real_ceph).osds[0].in_
    undone(real_ceph, inner)
    undone(real_ceph, fault)
    made(real_ceph, fault)
    left_alone(real_ceph, fault)
