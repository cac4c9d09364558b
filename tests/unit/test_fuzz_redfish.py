"""Redfish services that lie: whatever a document says, the client gives a value of its type or a SiteError."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import requests
from fuzzing import budget, spoilt, tries
from hypothesis import given
from hypothesis import strategies as st

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import SiteError
from pytest_pveha.wire import redfish
from pytest_pveha.wire.bmc import BmcAccess, PowerReading, SelEntry
from pytest_pveha.wire.redfish import RedfishBmc
from pytest_pveha.wire.tls import Trust

CLOCK = LiveClock()
V1 = "/redfish/v1"


def at(path: str) -> dict[str, str]:
    return {"@odata.id": f"{V1}/{path}"}


SERVICE: dict[str, Any] = {
    "": {"Systems": at("Systems"), "Managers": at("Managers"), "AccountService": at("AccountService")},
    "Systems": {"Members": [at("Systems/1")]},
    "Systems/1": {
        "Id": "1", "PowerState": "On", "UUID": "00112233-4455-6677-8899-aabbccddeeff", "Manufacturer": "Example",
        "Model": "S1", "Links": {"ManagedBy": [at("Managers/1")]}, "LogServices": at("Systems/1/LogServices"),
        "Actions": {
            "#ComputerSystem.Reset": {
                "target": f"{V1}/Systems/1/Actions/ComputerSystem.Reset",
                "ResetType@Redfish.AllowableValues": ["On", "ForceOff"],
            }
        },
    },
    "Systems/1/LogServices": {"Members": [at("Systems/1/LogServices/Sel")]},
    "Systems/1/LogServices/Sel": {"Id": "Sel", "LogEntryType": "SEL", "Entries": at("Systems/1/LogServices/Sel/E")},
    "Systems/1/LogServices/Sel/E": {
        "Members": [
            {"Id": "1", "Created": "2026-11-22T07:49:56Z", "SensorType": "Watchdog2", "Message": "Watchdog reset"},
            {"Id": "2", "Created": "2026-11-22T07:50:00+01:00", "SensorType": "Power Unit", "Message": "Power off"},
        ]
    },
    "Managers": {"Members": [at("Managers/1")]},
    "Managers/1": {"Id": "1", "FirmwareVersion": "1.2", "EthernetInterfaces": at("Managers/1/EthernetInterfaces")},
    "Managers/1/EthernetInterfaces": {"Members": [at("Managers/1/EthernetInterfaces/1")]},
    "Managers/1/EthernetInterfaces/1": {
        "MACAddress": "02:00:00:00:00:01", "IPv4Addresses": [{"Address": "192.0.2.11"}],
    },
    "AccountService": {"Accounts": at("AccountService/Accounts")},
    "AccountService/Accounts": {"Members": [at("AccountService/Accounts/1"), at("AccountService/Accounts/2")]},
    "AccountService/Accounts/1": {"UserName": "pveha", "RoleId": "Operator", "Enabled": True},
    "AccountService/Accounts/2": {"UserName": "root", "RoleId": "Administrator", "Enabled": True},
}  # fmt: skip


class Connector:
    """Answers from documents that lie in memory; what is not there is an empty object."""

    documents: dict[str, Any] = SERVICE

    def __init__(self, *_: Any) -> None:
        self.posts: list[str] = []

    def get(self, path: str) -> requests.Response:
        answer = requests.Response()
        answer.status_code = 200
        answer._content = json.dumps(self.documents.get(path.removeprefix(V1).strip("/"), {})).encode()
        return answer

    def close(self) -> None:
        """Nothing was open."""


READS: dict[str, Callable[[RedfishBmc], Any]] = {
    "power_state": lambda bmc: bmc.power_state(CLOCK.deadline(30)),
    "identity": lambda bmc: bmc.identity(CLOCK.deadline(30)),
    "sel": lambda bmc: bmc.sel(CLOCK.deadline(30)),
    "access": lambda bmc: bmc.access(CLOCK.deadline(30)),
}


def bmc() -> RedfishBmc:
    return RedfishBmc("192.0.2.1", 443, "pveha", lambda: "canary-77", Trust(fingerprints=("00" * 32,)), CLOCK)


def plausible(found: Any) -> bool:
    """Whether a reading is of the types it is said to be of."""
    if isinstance(found, PowerReading):
        return isinstance(found.on, bool)
    if isinstance(found, BmcAccess):
        others = found.others is None or all(isinstance(name, str) for name in found.others)
        return isinstance(found.level, str) and found.may_switch in (True, False, None) and others
    if isinstance(found, dict):
        return all(isinstance(each, str) for pair in found.items() for each in pair)
    return all(
        isinstance(entry, SelEntry)
        and (entry.at is None or math.isfinite(entry.at))
        and all(isinstance(text, str) for text in (entry.number, entry.sensor, entry.text))
        for entry in found
    )


def test_a_good_service_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The documents that are spoilt below are those that are read."""
    monkeypatch.setattr(redfish, "_Once", Connector)
    assert READS["power_state"](bmc()).on
    assert {"mac", "uuid", "firmware"} <= READS["identity"](bmc()).keys()
    assert [entry.event for entry in READS["sel"](bmc())] == ["power off", "watchdog reset"]
    assert READS["access"](bmc()) == BmcAccess("pveha", "Operator", True, ("root",))


@budget(200, 3000)
@pytest.mark.parametrize("name", READS)
def test_a_spoilt_document_is_read_or_refused(name: str, examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed document gives a value of its type, or a short SiteError that names the BMC and no password."""
    monkeypatch.setattr(redfish, "_Once", Connector)

    @tries(examples)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(SERVICE)))
        monkeypatch.setattr(Connector, "documents", {**SERVICE, path: spoilt(SERVICE[path], data.draw)})
        try:
            good = plausible(READS[name](bmc()))
        except SiteError as error:
            good = "192.0.2.1" in str(error) and len(str(error)) < 600 and "canary-77" not in str(error)
        assert good

    holds()
