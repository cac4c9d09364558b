"""A BMC's Redfish service on a TcpPort: service root, one system, its manager and chassis, sessions, accounts, log.

Written from DSP0266 (protocol) and DSP2046 (properties); shares nothing with the client under test. Reading needs a
login, the service root does not (DSP0266, "Authentication"); a power command needs ConfigureComponents.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import json
import secrets
import ssl
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from pytest_pveha.sim.gate import Gone
from pytest_pveha.sim.servers.bmc import POWER_UNIT, WATCHDOG_2, BmcBackend, SelEntry
from pytest_pveha.sim.servers.https_server import HttpsServer, Reply, Request
from pytest_pveha.sim.servers.ports import TcpPort
from pytest_pveha.sim.servers.redfish_vendors import Vendor

ROOT = "/redfish/v1"
FOR_EVER = 1_000_000.0
"""Seconds that nobody waits."""
IDLE_SECONDS = 1800.0
"""A session without a request ends after this long."""

_ROLES = {"ADMINISTRATOR": "Administrator", "OPERATOR": "Operator", "USER": "ReadOnly"}
_PRIVILEGES = {
    "Administrator": ["Login", "ConfigureManager", "ConfigureUsers", "ConfigureSelf", "ConfigureComponents"],
    "Operator": ["Login", "ConfigureSelf", "ConfigureComponents"],
    "ReadOnly": ["Login", "ConfigureSelf"],
}
_CONTROLS = {
    "On": "on",
    "ForceOn": "on",
    "ForceOff": "off",
    "GracefulShutdown": "soft",
    "PowerCycle": "cycle",
    "ForceRestart": "reset",
    "GracefulRestart": "reset",
}
_SENSOR_TYPES = {POWER_UNIT: "PowerUnit", WATCHDOG_2: "Watchdog2"}
_WORDS = {
    (POWER_UNIT, 0, True): "The system board was powered off.",
    (POWER_UNIT, 0, False): "The system board was turned on",
    (WATCHDOG_2, 1, True): "The watchdog timer reset the system.",
}

_TARGETS = {0b0001: "Pxe", 0b0010: "Hdd", 0b0101: "Cd", 0b0110: "BiosSetup"}
"""By IPMI's boot device selector."""


class _Refused(Exception):
    """An error response (DSP0266, "Error responses")."""

    def __init__(self, status: int, message_id: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message_id = message_id


class RedfishServer:
    """One BMC's Redfish service.

    Args:
        privilege: the level of the one user (USER, OPERATOR or ADMINISTRATOR).
        sessions: Redfish sessions at one time; HTTP Basic needs none.
        answer_seconds: from a request until its answer, in the site's time.
        hung: connections are taken, and no request is ever answered.
    """

    def __init__(
        self,
        backend: BmcBackend,
        user: str,
        password: str,
        tls: ssl.SSLContext,
        vendor: Vendor,
        *,
        port: TcpPort | None = None,
        privilege: str = "ADMINISTRATOR",
        sessions: int = 4,
        answer_seconds: float = 0.0,
        hung: bool = False,
    ) -> None:
        self.port = port or TcpPort()
        self._backend = backend
        self._user = user
        self._password = password
        self._vendor = vendor
        self._role = _ROLES[privilege]
        self._limit = sessions
        self._answer_seconds = answer_seconds
        self._hung = hung
        self._sessions: dict[str, tuple[str, float]] = {}
        """Token → id and last use."""
        self._server = HttpsServer(f"bmc-{backend.mac}", self.port, tls, self.answer, server=vendor.manufacturer)

    def start(self) -> None:
        """Requests are answered from now on."""
        self._server.start()

    def drop_sessions(self) -> None:
        """No session is left; never waits."""
        self._sessions.clear()

    def answer(self, request: Request) -> Reply:
        """The reply to one request, after the time it takes."""
        if self._hung:
            self._pause(FOR_EVER, request)
            raise Gone
        with self._backend.acting(request.sock):
            try:
                reply = self._dispatch(request)
            except _Refused as refusal:
                reply = self._error(refusal)
        if self._answer_seconds:
            self._pause(self._answer_seconds, request)
        return reply

    def _pause(self, seconds: float, request: Request) -> None:
        try:
            self._backend.pause(seconds)
        except Gone:
            # the client gives up at this very moment: it must not see us hang up first
            with contextlib.suppress(OSError):
                while request.sock.recv(4096):
                    pass
            raise

    # --- who may ---------------------------------------------------------------------------------------------------

    def _dispatch(self, request: Request) -> Reply:
        path = request.path.rstrip("/")
        if request.method == "GET" and path in ("/redfish", ROOT):
            return self._json({"v1": f"{ROOT}/"} if path == "/redfish" else self._root())
        if request.method == "POST" and path == f"{ROOT}/SessionService/Sessions":
            return self._open_session(request)
        self._authenticate(request)
        if request.method == "GET":
            document = self._documents().get(path)
            if document is None:
                raise _Refused(404, "ResourceMissingAtURI", f"The resource at the URI '{request.path}' was not found.")
            return self._json(document(request) if callable(document) else document)
        if request.method == "POST" and path == f"{self._system}/Actions/ComputerSystem.Reset":
            return self._reset(request)
        if request.method == "DELETE" and path.startswith(f"{ROOT}/SessionService/Sessions/"):
            return self._close_session(path.rpartition("/")[2])
        raise _Refused(405, "ActionNotSupported", "The HTTP method is not allowed on this resource.")

    def _authenticate(self, request: Request) -> None:
        now = self._backend.now()
        self._expire(now)
        if request.token in self._sessions:
            self._sessions[request.token] = self._sessions[request.token][0], now
            return
        scheme, _, given = request.authorization.partition(" ")
        try:
            user, _, password = base64.b64decode(given).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user = password = ""
        if scheme != "Basic" or not self._is_ours(user, password):
            raise _Refused(401, "NoValidSession", "There is no valid session established with the implementation.")

    def _is_ours(self, user: str, password: str) -> bool:
        return user == self._user and hmac.compare_digest(password.encode(), self._password.encode())

    def _expire(self, now: float) -> None:
        self._sessions = {token: one for token, one in self._sessions.items() if now - one[1] <= IDLE_SECONDS}

    def _open_session(self, request: Request) -> Reply:
        now = self._backend.now()
        self._expire(now)
        if not self._is_ours(request.params.get("UserName", ""), request.params.get("Password", "")):
            raise _Refused(401, "NoValidSession", "The user name or password is wrong.")
        if len(self._sessions) >= self._limit:
            raise _Refused(503, "SessionLimitExceeded", "There are too many sessions to open one more.")
        token, identity = secrets.token_hex(16), secrets.token_hex(4)
        self._sessions[token] = identity, now
        path = f"{ROOT}/SessionService/Sessions/{identity}"
        reply = self._json({"@odata.id": path, "Id": identity, "UserName": self._user}, status=201)
        reply.headers.update({"X-Auth-Token": token, "Location": path})
        return reply

    def _close_session(self, identity: str) -> Reply:
        for token, (known, _) in list(self._sessions.items()):
            if known == identity:
                del self._sessions[token]
                return Reply(204)
        raise _Refused(404, "ResourceMissingAtURI", "There is no such session.")

    # --- the machine -----------------------------------------------------------------------------------------------

    @property
    def _system(self) -> str:
        return f"{ROOT}/Systems/{self._vendor.system}"

    @property
    def _manager(self) -> str:
        return f"{ROOT}/Managers/{self._vendor.manager}"

    @property
    def _chassis(self) -> str:
        return f"{ROOT}/Chassis/{self._vendor.chassis}"

    @property
    def _log(self) -> str:
        owner = self._system if self._vendor.log_at == "Systems" else self._manager
        return f"{owner}/LogServices"

    def _root(self) -> dict[str, Any]:
        document = {
            "@odata.id": f"{ROOT}/",
            "@odata.type": "#ServiceRoot.v1_11_0.ServiceRoot",
            "Id": "RootService",
            "Name": "Root Service",
            "RedfishVersion": "1.11.0",
            "UUID": str(self._backend.guid),
            "Vendor": self._vendor.manufacturer,
            "Links": {"Sessions": {"@odata.id": f"{ROOT}/SessionService/Sessions"}},
        }
        for name in ("Systems", "Managers", "Chassis", "SessionService", "AccountService"):
            document[name] = {"@odata.id": f"{ROOT}/{name}"}
        return document

    def _documents(self) -> dict[str, Any]:
        """Path → document, or what makes it."""
        vendor = self._vendor
        found: dict[str, Any] = {
            f"{ROOT}/Systems": _collection(f"{ROOT}/Systems", [vendor.system]),
            f"{ROOT}/Managers": _collection(f"{ROOT}/Managers", [vendor.manager]),
            f"{ROOT}/Chassis": _collection(f"{ROOT}/Chassis", [vendor.chassis]),
            f"{ROOT}/Chassis/{vendor.chassis}": self._named(
                f"{ROOT}/Chassis/{vendor.chassis}", PowerState=self._power()
            ),
            self._system: lambda _: self._system_document(),
            f"{self._system}/ResetActionInfo": self._named(
                f"{self._system}/ResetActionInfo",
                Parameters=[{"Name": "ResetType", "Required": True, "AllowableValues": list(vendor.resets)}],
            ),
            self._manager: self._named(
                self._manager,
                ManagerType="BMC",
                FirmwareVersion="2.65",
                EthernetInterfaces={"@odata.id": f"{self._manager}/EthernetInterfaces"},
                LogServices={"@odata.id": f"{self._manager}/LogServices"},
            ),
            f"{ROOT}/SessionService": self._named(
                f"{ROOT}/SessionService", Sessions={"@odata.id": f"{ROOT}/SessionService/Sessions"}
            ),
            f"{ROOT}/SessionService/Sessions": _collection(
                f"{ROOT}/SessionService/Sessions", [identity for identity, _ in self._sessions.values()]
            ),
        }
        return found | self._ports() | self._accounts() | self._logs()

    def _named(self, path: str, **more: Any) -> dict[str, Any]:
        return {"@odata.id": path, "Id": path.rpartition("/")[2], "Name": path.rpartition("/")[2], **more}

    def _power(self) -> str:
        going = self._backend.under_way() if self._vendor.tells_transitions else ""
        plain = {"on": "PoweringOn", "off": "PoweringOff"}.get(going) or ("On" if self._backend.chassis_on() else "Off")
        return self._vendor.spells.get(plain, plain)

    def _system_document(self) -> dict[str, Any]:
        vendor = self._vendor
        reset: dict[str, Any] = {"target": f"{self._system}/Actions/ComputerSystem.Reset"}
        if vendor.resets_in_action_info:
            reset["@Redfish.ActionInfo"] = f"{self._system}/ResetActionInfo"
        else:
            reset["ResetType@Redfish.AllowableValues"] = list(vendor.resets)
        guid = self._backend.guid
        flags = self._backend.boot_flags()
        return self._named(
            self._system,
            **({} if flags is None else {"Boot": _boot(flags)}),
            SystemType="Physical",
            Manufacturer=vendor.manufacturer,
            Model=vendor.model,
            UUID=str(UUID(bytes=guid.bytes_le) if vendor.swapped_uuid else guid).upper(),
            PowerState=self._power(),
            PowerRestorePolicy="LastState",
            Status={"State": "Enabled", "Health": "OK"},
            Links={
                "ManagedBy": [{"@odata.id": self._manager}],
                "Chassis": [{"@odata.id": self._chassis}],
            },
            LogServices={"@odata.id": f"{self._system}/LogServices"},
            Actions={"#ComputerSystem.Reset": reset},
        )

    def _reset(self, request: Request) -> Reply:
        if "ConfigureComponents" not in _PRIVILEGES[self._role]:
            raise _Refused(403, "InsufficientPrivilege", "There are insufficient privileges for the account.")
        wanted = request.params.get("ResetType", "")
        if wanted not in self._vendor.resets:
            text = f"The value '{wanted}' for the property ResetType is not in the list of acceptable values."
            raise _Refused(400, "PropertyValueNotInList", text)
        on = self._backend.chassis_on()
        if wanted == "PushPowerButton":
            command = "soft" if on else "on"
        elif wanted == "Nmi":
            raise _Refused(400, "ActionNotSupported", "This machine's operating system takes no NMI.")
        else:
            command = _CONTROLS[wanted]
        if command in ("cycle", "reset", "soft") and not on:
            raise _Refused(409, "ResourceInUse", "The operation is not allowed in the present power state: it is off.")
        if self._vendor.refuses_what_is_so and command == ("on" if on else "off"):
            raise _Refused(409, "NoOperation", f"The server is already powered {command.upper()}.")
        self._backend.control(command)
        if not self._vendor.accepted_body:
            return Reply(self._vendor.accepted)
        told = {"@Message.ExtendedInfo": [{"MessageId": "Base.1.8.Success"}], "code": "iLO.0.10.ExtendedInfo"}
        return self._json({"error": told}, status=self._vendor.accepted)

    def _ports(self) -> dict[str, Any]:
        """The manager's Ethernet interfaces."""
        at = f"{self._manager}/EthernetInterfaces"
        names = (self._vendor.port, *self._vendor.other_ports)
        found: dict[str, Any] = {at: _collection(at, list(names))}
        for index, name in enumerate(names):
            own = index == 0
            found[f"{at}/{name}"] = self._named(
                f"{at}/{name}",
                MACAddress=(self._backend.mac if own else "02:00:00:0f:0f:0f").upper(),
                IPv4Addresses=[{"Address": self._backend.ip if own else "169.254.1.1", "AddressOrigin": "Static"}],
            )
        return found

    def _accounts(self) -> dict[str, Any]:
        at = f"{ROOT}/AccountService"
        roles = {
            f"{at}/Roles/{role}": self._named(f"{at}/Roles/{role}", RoleId=role, AssignedPrivileges=privileges)
            for role, privileges in _PRIVILEGES.items()
        }
        accounts = {"1": ("", False, "ReadOnly"), "2": (self._user, True, self._role)}
        if self._role != "Administrator":  # others' accounts are not shown
            del accounts["1"]
        return {
            at: self._named(at, Accounts={"@odata.id": f"{at}/Accounts"}, HTTPBasicAuth="Enabled"),
            f"{at}/Accounts": _collection(f"{at}/Accounts", list(accounts)),
            **roles,
            **{
                f"{at}/Accounts/{number}": self._named(
                    f"{at}/Accounts/{number}",
                    UserName=name,
                    Enabled=enabled,
                    RoleId=role,
                    Links={"Role": {"@odata.id": f"{at}/Roles/{role}"}},
                )
                for number, (name, enabled, role) in accounts.items()
            },
        }

    # --- its log ---------------------------------------------------------------------------------------------------

    def _logs(self) -> dict[str, Any]:
        vendor, at = self._vendor, self._log
        other = self._manager if vendor.log_at == "Systems" else self._system
        found: dict[str, Any] = {
            f"{other}/LogServices": _collection(f"{other}/LogServices", []),
            at: _collection(at, [*vendor.other_logs, vendor.log]),
            f"{at}/{vendor.log}": self._log_service(vendor.log, vendor.log_type),
            f"{at}/{vendor.log}/Entries": self._entries,
        }
        for name in vendor.other_logs:
            found[f"{at}/{name}"] = self._log_service(name, typed=False)
            found[f"{at}/{name}/Entries"] = _collection(f"{at}/{name}/Entries", [])
        for entry in self._listed():
            found[entry["@odata.id"]] = entry
        return found

    def _log_service(self, name: str, typed: bool) -> dict[str, Any]:
        path = f"{self._log}/{name}"
        more = {"LogEntryType": "SEL"} if typed else {}
        return self._named(path, Entries={"@odata.id": f"{path}/Entries"}, ServiceEnabled=True, **more)

    def _listed(self) -> list[dict[str, Any]]:
        entries = [self._entry(number, entry) for number, entry in enumerate(self._backend.sel(), 1)]
        return entries[::-1] if self._vendor.newest_first else entries

    def _entry(self, number: int, entry: SelEntry) -> dict[str, Any]:
        offset = entry.data[0] & 0x0F
        words = _WORDS.get(
            (entry.sensor_type, offset, entry.asserted), f"Event {offset} of sensor {entry.sensor:#04x}."
        )
        return self._named(
            f"{self._log}/{self._vendor.log}/Entries/{number}",
            EntryType="SEL",
            Created=_created(entry.at, self._vendor.zone),
            SensorType=_SENSOR_TYPES.get(entry.sensor_type, "Other FRU"),
            SensorNumber=entry.sensor,
            EntryCode="Assert" if entry.asserted else "Deassert",
            Severity="Critical" if entry.sensor_type == WATCHDOG_2 else "OK",
            Message=words,
        )

    def _entries(self, request: Request) -> dict[str, Any]:
        at = f"{self._log}/{self._vendor.log}/Entries"
        everything = self._listed()
        skip = int(request.params.get("$skip", "0")) if request.params.get("$skip", "0").isdecimal() else 0
        shown = everything[skip : skip + self._vendor.page]
        document = self._named(at, **{"Members@odata.count": len(everything)})
        document["Members"] = (
            [{"@odata.id": entry["@odata.id"]} for entry in shown] if self._vendor.entries_as_links else shown
        )
        if skip + len(shown) < len(everything):
            document["Members@odata.nextLink"] = f"{at}?$skip={skip + len(shown)}"
        return document

    # --- answers ---------------------------------------------------------------------------------------------------

    def _json(self, document: Any, *, status: int = 200) -> Reply:
        body = json.dumps(document, indent=1).encode()
        headers = {"OData-Version": "4.0"}
        if self._vendor.etag:
            headers["ETag"] = self._vendor.etag.format(f"{binascii.crc32(body):08x}")
        return Reply(status, "OK", body, self._vendor.content_type, headers)

    def _error(self, refusal: _Refused) -> Reply:
        info = {"MessageId": f"Base.1.8.{refusal.message_id}", "Message": str(refusal), "Severity": "Critical"}
        error = {
            "code": "Base.1.8.GeneralError",
            "message": "See @Message.ExtendedInfo.",
            "@Message.ExtendedInfo": [info],
        }
        reply = self._json({"error": error}, status=refusal.status)
        if refusal.status == 401:
            reply.headers["WWW-Authenticate"] = 'Basic realm="RedfishService"'
        return reply


def _boot(flags: bytes) -> dict[str, Any]:
    """The same in Redfish's words (DSP0268, ComputerSystem, Boot)."""
    valid, lasting = bool(flags[0] & 0x80), bool(flags[0] & 0x40)
    return {
        "BootSourceOverrideEnabled": ("Continuous" if lasting else "Once") if valid else "Disabled",
        "BootSourceOverrideTarget": _TARGETS.get(flags[1] >> 2 & 0x0F, "None") if valid else "None",
        "BootSourceOverrideMode": "UEFI",
        "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", *_TARGETS.values()],
    }


def _collection(path: str, names: list[str]) -> dict[str, Any]:
    return {
        "@odata.id": path,
        "Name": path.rpartition("/")[2],
        "Members@odata.count": len(names),
        "Members": [{"@odata.id": f"{path}/{name}"} for name in names],
    }


def _created(at: float, zone: str) -> str:
    if zone in ("", "Z", "+00:00"):
        return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%S") + zone
    hours = int(zone[:3])
    return datetime.fromtimestamp(int(at), timezone(timedelta(hours=hours))).isoformat()
