"""Every kind of fault this version knows, by the name it has in a journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_pveha.errors import UsageError
from pytest_pveha.faults.bonds import BondMemberLoss
from pytest_pveha.faults.ceph import CephNetworkCut, NooutSet, OsdKilled, OsdLost
from pytest_pveha.faults.copies import GuestRestored
from pytest_pveha.faults.cord import CordPulled
from pytest_pveha.faults.crash import DaemonKilled, DaemonsFrozen, KernelCrash
from pytest_pveha.faults.fault import Fault
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

FAULTS: Mapping[str, type[Fault]] = {
    each.__name__: each
    for each in (
        PowerCut,
        Partition,
        ServiceStopped,
        Maintenance,
        LinkLoss,
        BondMemberLoss,
        QdeviceLoss,
        KernelCrash,
        DaemonKilled,
        DaemonsFrozen,
        CleanReboot,
        CleanPowerOff,
        PowerCutByPeer,
        GuestKilled,
        GuestMoved,
        BridgeDown,
        MainsCut,
        CordPulled,
        ServiceRestarted,
        RoomPowerCut,
        FeedCut,
        RoomCut,
        SwitchLoss,
        SwitchPulled,
        GuestRestored,
        StorageCut,
        OsdKilled,
        OsdLost,
        CephNetworkCut,
        NooutSet,
    )
}


def from_plan(kind: str, values: Mapping[str, Any]) -> Fault:
    """The fault of a plan line, ready to be healed. JSON's lists are tuples again."""
    if kind not in FAULTS:
        raise UsageError(
            f"the journal plans a fault of kind {kind!r}; this version can heal {', '.join(FAULTS)}. "
            f"Heal with the version that made it"
        )
    try:
        return FAULTS[kind](**{name: _frozen(value) for name, value in values.items()})
    except TypeError as error:
        raise UsageError(
            f"the journal's plan of a {kind} cannot be used ({error}); heal with the version that made it"
        ) from None


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_frozen(each) for each in value)
    return value
