"""Faults are data: what a journal or a node remembers of one is enough to have it again."""

from __future__ import annotations

import json

import pytest

from pytest_pveha.errors import UsageError
from pytest_pveha.faults.bonds import BondMemberLoss
from pytest_pveha.faults.catalogue import FAULTS, from_plan
from pytest_pveha.faults.ceph import CephNetworkCut, NooutSet, OsdKilled, OsdLost
from pytest_pveha.faults.copies import GuestRestored
from pytest_pveha.faults.cord import CordPulled
from pytest_pveha.faults.crash import DaemonKilled, DaemonsFrozen, KernelCrash
from pytest_pveha.faults.fault import Danger, Fault, params
from pytest_pveha.faults.guest import BridgeDown, GuestKilled, GuestMoved
from pytest_pveha.faults.mains import MainsCut
from pytest_pveha.faults.maintenance import Maintenance
from pytest_pveha.faults.network import LinkLoss, Partition, QdeviceLoss
from pytest_pveha.faults.peer import PowerCutByPeer
from pytest_pveha.faults.power import PowerCut
from pytest_pveha.faults.process import ServiceRestarted, ServiceStopped
from pytest_pveha.faults.rooms import FeedCut, RoomCut, RoomPowerCut, SwitchLoss
from pytest_pveha.faults.shutdown import CleanPowerOff, CleanReboot
from pytest_pveha.faults.storage import StorageCut
from pytest_pveha.faults.switches import SwitchPulled
from pytest_pveha.inventory import FAULT_KINDS

SAMPLES: tuple[Fault, ...] = (
    PowerCut("n1"),
    Partition(
        "pveha-0a1b2c3d-partition-1", ("n1",), ("n2", "n3"), (("n1", ("10.0.0.1",)), ("n2", ("10.0.0.2", "fd00::2")))
    ),
    Partition("pveha-0a1b2c3d-partition-2", ("n1", "n2"), ("n3",), (), about_quorum=True, apart=True, brief=39.6),
    ServiceStopped("n1", "corosync", 812),
    LinkLoss("pveha-0a1b2c3d-link-loss-1", ("n1",), 1, (("n1", "10.1.0.1"), ("n2", "fd01::2"))),
    BondMemberLoss("n1", "bond0", "eno1"),
    QdeviceLoss("pveha-0a1b2c3d-qdevice-loss-1", ("n1", "n2"), "10.0.9.9", 5403),
    KernelCrash("n1", returns=True),
    DaemonKilled("n1", "watchdog-mux", 640, "5f76b90a"),
    DaemonsFrozen("n1", ("pve-ha-lrm", "corosync"), (990, 812)),
    Maintenance("n1", ("ct:104",)),
    CleanReboot("n1", "3f1c"),
    CleanPowerOff("n1", "3f1c"),
    Maintenance("n1"),
    PowerCutByPeer("n1", "n2"),
    GuestKilled("vm:101", "n1", 812, (("192.0.2.101", 80),)),
    GuestMoved("vm:101", "n1", "n2", alive=False),
    MainsCut("n1"),
    CordPulled("n1", "cord-pulled-2", ("n3",)),
    BridgeDown("vm:101", "n1", ("tap101i0", "tap101i1"), (("192.0.2.101", 80),)),
    ServiceRestarted("n1", "pve-ha-lrm", 1074),
    RoomPowerCut(("n1", "n2")),
    FeedCut("feed-a", ("n1", "n2")),
    RoomCut(
        "pveha-0a1b2c3d-room-cut-1",
        ("n1",),
        ("n2",),
        (("n1", ("10.0.0.1",)),),
        "10.0.9.9",
        5403,
        blind=True,
        brief=25.0,
    ),
    SwitchLoss("pveha-0a1b2c3d-switch-loss-1", "sw-1", ("n1",), (0,), (("n1", ("10.0.0.1", "10.1.0.1")),)),
    SwitchPulled("sw-1", "switch-pulled-1", ("n1", "n2"), (0,), (1,), True, ("n2",)),
    GuestRestored(
        "vm:101",
        "vm:9000",
        "n1",
        "local-lvm",
        "pbs1:backup/vm/101/2026-01-02T02:00:00Z",
        1 << 33,
        1 << 31,
        "pveha-0a1b2c3d-guest-restored-1",
        "pveha@pve!run",
        1767340800,
        (("net0", "virtio,link_down=1"), ("onboot", "0")),
    ),
    OsdKilled("n1", 3, 2114),
    OsdLost("n1", 3, 2114, 0.85),
    CephNetworkCut(
        "pveha-0a1b2c3d-ceph-network-cut-1", "n1", "public", (("n1", ("10.2.0.1",)), ("n2", ("10.2.0.2",))),
        ((0, 1.0), (1, 0.5)), mon=True, cidr="10.2.0.0/24", guests=("vm:101",),
    ),
    NooutSet("n1"),
    StorageCut("pveha-0a1b2c3d-storage-cut-1", ("n1", "n2"), "nfs", (("10.0.7.7", 2049),), ("vm:1",), 30.0, 43.0, None),
)  # fmt: skip


def test_there_is_a_sample_of_every_fault() -> None:
    """What follows is asked of each kind."""
    assert {type(sample).__name__ for sample in SAMPLES} == set(FAULTS)


@pytest.mark.parametrize("fault", SAMPLES, ids=lambda fault: fault.kind)
def test_a_fault_comes_back_from_its_plan(fault: Fault) -> None:
    """Written as JSON and read again it is the same, tuples and all."""
    told = json.loads(json.dumps(params(fault)))
    assert from_plan(type(fault).__name__, told) == fault


@pytest.mark.parametrize("fault", SAMPLES, ids=lambda fault: fault.kind)
def test_consent_knows_every_family(fault: Fault) -> None:
    """Its family can be granted, and by hand it can be undone."""
    assert fault.family in FAULT_KINDS
    assert isinstance(fault.danger, Danger)
    assert fault.undo


def test_a_fault_of_another_version_says_so() -> None:
    """An unknown kind, or other fields, name the way out."""
    with pytest.raises(UsageError, match=r"'Earthquake'; this version can heal PowerCut, .*version that made it"):
        from_plan("Earthquake", {})
    with pytest.raises(UsageError, match=r"plan of a PowerCut cannot be used .*version that made it"):
        from_plan("PowerCut", {"hosts": ["n1"]})
