"""Redfish over sushy, as the run uses it: power state, power commands, identity, event log, privilege.

Each call logs in with HTTP Basic and leaves nothing behind: a Redfish session of a killed run would hold one of the few
that a BMC has, for half an hour, and keep the healing out (services take both: DSP0266, "Authentication"). Each call
has connections of its own, for some BMCs choke on lasting ones. sushy's connector repeats what failed, commands too,
and sleeps by itself; ``_Once`` takes both away.

Source: DSP0266 (the protocol), DSP2046 (ComputerSystem, Manager, LogEntry, AccountService).
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from io import BytesIO
from typing import Any, TypeVar

import requests
from requests.auth import AuthBase
from sushy import exceptions
from sushy.connector import Connector

from pytest_pveha.clock import Clock, Deadline
from pytest_pveha.errors import AuthRefused, ProtocolError, PvehaError, SiteError, TimedOut, Unreachable, UsageError
from pytest_pveha.wire import redaction
from pytest_pveha.wire.bmc import (
    NO_OVERRIDE,
    BmcAccess,
    Event,
    NodeCommands,
    PowerCommand,
    PowerReading,
    SelEntry,
    override,
)
from pytest_pveha.wire.https import Adapter, Line, bracketed, protocol_error, root
from pytest_pveha.wire.tcp import BACKSTOP, Address, reason
from pytest_pveha.wire.tls import Trust, public_key_pin

SERVICE_ROOT = "/redfish/v1/"

LARGEST_REPLY = 8 * 1024 * 1024
"""Bytes of one reply that we are ready to hold; a whole event log is below 1 MiB."""

MOST_PAGES = 32
"""Pages of one collection that we are ready to turn."""

MOST_ENTRIES = 4096
"""Entries of an event log that we are ready to hold."""

MOST_VISITS = 64
"""Members of a collection that are looked at one by one."""

REDFISH, NEW_REDFISH = "Redfish", "Redfish, asked from the root"

_RESETS: dict[PowerCommand, tuple[str, ...]] = {
    "on": ("On", "ForceOn"),
    "off": ("ForceOff",),
    "cycle": ("PowerCycle",),
    "reset": ("ForceRestart",),
    "soft": ("GracefulShutdown", "PushPowerButton"),
}
"""The ResetType of each command (DSP2046, Resource.ResetType), the best first. A cycle is replaced by nothing: a
restart keeps the power on."""

_STATES = {"on", "off", "poweringon", "poweringoff", "paused"}
"""DSP2046, Resource.PowerState. Some firmware writes them in another case."""

_NEEDS_POWER = ("cycle", "reset", "soft")
_GOAL: dict[PowerCommand, str] = {"on": "on", "off": "off"}

_MAY_LACK = (403, 404, 405, 501)
"""What a service answers for a resource that it does not have, or that this user may not see."""

_SWITCHING = "ConfigureComponents"
"""The privilege that a power command needs (DMTF's privilege registry, ComputerSystem)."""
_SWITCHING_TOO = {_SWITCHING, "OperateSystems", "AdministrateSystems"}
"""Newer registries know narrower ones that suffice (DSP2046 2022.2, Privileges)."""
_ROLES = {"administrator": True, "operator": True, "readonly": False}
"""The roles that every service has (DSP0266, "Roles"), and whether they have that privilege."""

_AFTER = "; the power command may have been carried out: read the power state before anything else"

_T = TypeVar("_T")
_Document = dict[str, Any]


class RedfishBmc:
    """One machine behind a Redfish service.

    Every method raises Unreachable (nobody answered by the deadline), AuthRefused (certificate, user, password or
    privilege) or ProtocolError (an answer that does not serve; ``status`` is HTTP's where there is one).
    Calls from several threads do not wait for each other.

    Args:
        password: asked for once, and again after it was refused.
        system: the id of the machine, where the service has several.
    """

    def __init__(
        self,
        address: str,
        port: int,
        user: str,
        password: Callable[[], str],
        trust: Trust,
        clock: Clock,
        *,
        system: str | None = None,
    ) -> None:
        redaction.install()
        self.who = f"BMC {address}:{port}"
        self.url = f"https://{bracketed(address)}:{port}"
        self.address = Address(address, port)
        self.trust = trust
        self.context = trust.context()
        self.login = _Login(user, password)
        self.system = system
        self.system_path: str | None = None
        """Where the machine was found; forgotten at the first failure."""
        self._clock = clock

    def __repr__(self) -> str:
        return f"RedfishBmc({self.address.host}:{self.address.port})"

    def power_state(self, deadline: Deadline) -> PowerReading:
        """The power state. On its way on or off counts as on: power flows, and nothing is proven dead."""
        return self._reading(deadline, fresh=False)

    def fresh_power_state(self, deadline: Deadline) -> PowerReading:
        """The power state, with nothing that an earlier call found out: the machine is looked for from the root."""
        return self._reading(deadline, fresh=True)

    def set_power(self, command: PowerCommand, deadline: Deadline) -> None:
        """The BMC has accepted the command; its effect comes later. Sent at most once, whatever happens.

        Any error that says "may have been carried out" comes after the sending; after every other one nothing was done.
        A BMC that refuses on or off because it is so already has been obeyed.
        """
        self._call(deadline, lambda service: service.reset(command))

    def from_a_node(self, secret: str, deadline: Deadline) -> NodeCommands:
        """The commands for another machine's shell: curl, with the key pinned that we trust, and the login in a file.

        Source: curl(1), --pinnedpubkey, --config; DSP0266 §9.7, actions.
        """
        target, words, path, pin = self._call(deadline, lambda service: service.switching())
        trusted = ("--insecure", "--pinnedpubkey", f"sha256//{pin}")  # the pin replaces the check of the chain
        typed = ("curl", "--silent", "--show-error", "--fail", "--max-time", "20", *trusted, "--config", secret)

        def switch(command: PowerCommand) -> tuple[tuple[str, ...], ...]:
            body = json.dumps({"ResetType": words[command]})
            data = ("--header", "Content-Type: application/json", "--data", body)
            return ((*typed, *data, f"{self.url}{target}"),)

        status = ((*typed, f"{self.url}{path}"),)
        return NodeCommands(
            on=switch("on"),
            reset=switch("reset") if "reset" in words else (),
            status=status,
            off=switch("off"),
            tells=(status,),
            secret=self.login.as_configuration(),
        )

    def identity(self, deadline: Deadline) -> dict[str, str]:
        """Who it says it is: uuid (the system's), manufacturer, product, firmware, mac, ip; what it does not tell is
        left out."""
        return self._call(deadline, lambda service: service.identity())

    def sel(self, deadline: Deadline) -> tuple[SelEntry, ...]:
        """The system event log, oldest first."""
        return self._call(deadline, lambda service: service.sel())

    def access(self, deadline: Deadline) -> BmcAccess:
        """What our user may do here, and who else may log in."""
        return self._call(deadline, lambda service: service.access())

    def boot_override(self, deadline: Deadline) -> str | None:
        """What the BMC will make the next boot do, ``none`` for nothing; None where it does not tell."""
        return self._call(deadline, lambda service: service.boot_override())

    def close(self) -> None:
        """Nothing is open between two calls."""

    def _reading(self, deadline: Deadline, *, fresh: bool) -> PowerReading:
        asked = self._clock.now()
        on = self._call(deadline, lambda service: service.power(fresh=fresh)) != "off"
        return PowerReading(on, asked, self._clock.now(), NEW_REDFISH if fresh else REDFISH)

    def _call(self, deadline: Deadline, use: Callable[[_Service], _T]) -> _T:
        """What ``use`` makes of a service, by the deadline, or a SiteError that carries nothing of our requests."""
        self.login.resolve()
        service = _Service(self)
        failure: SiteError
        try:
            with self._clock.guard(deadline, service.line.begin(), peers=[self.address.port]):
                return use(service)
        except Exception as error:
            self.system_path = None
            failure = service.meaning(error)
        finally:
            service.close()
        raise failure  # outside of the handler: no library frame, hence no password, hangs on to it


class _Login(AuthBase):
    """User and password as HTTP Basic; shows the user only."""

    def __init__(self, user: str, password: Callable[[], str]) -> None:
        if ":" in user:
            raise UsageError(f"BMC user {user!r}: HTTP Basic knows no user with a colon; choose another user")
        self.user = user
        self._password = password
        self._basic: str | None = None

    def resolve(self) -> None:
        """The password is known, and hidden from everything we write."""
        if self._basic is None:
            # never in a local variable: tracebacks may show those
            self._basic = base64.b64encode(f"{self.user}:{self._password()}".encode()).decode()
            redaction.hide(self._basic)
            redaction.hide(base64.b64decode(self._basic).decode().removeprefix(f"{self.user}:"))

    def forget(self) -> None:
        """It was refused: the next call asks for it anew."""
        self._basic = None

    def as_configuration(self) -> str:
        """The line of a curl configuration file that logs in so."""
        assert self._basic is not None
        both = base64.b64decode(self._basic).decode().replace("\\", "\\\\").replace('"', '\\"')
        return redaction.Hidden(f'user = "{both}"\n')

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        # the frames of requests, urllib3 and http.client hold the headers, and pytest may show those with -l
        r.headers["Authorization"] = redaction.Hidden(f"Basic {self._basic}")
        return r

    def __repr__(self) -> str:
        return f"<login {self.user}>"


class _Once(Connector):  # type: ignore[misc]
    """sushy's connector, which sends each request once."""

    def __init__(self, bmc: RedfishBmc, line: Line) -> None:
        super().__init__(bmc.url)
        self._server_side_retries = 1  # sushy's name for attempts
        self._session.auth = bmc.login
        self._session.trust_env = False  # no proxy, no .netrc, no REQUESTS_CA_BUNDLE
        self._session.adapters.clear()  # https alone
        self._session.mount(
            "https://", _Tidy(line, who=bmc.who, largest=LARGEST_REPLY, what="no Redfish service as we know it")
        )

    def _op(self, method: str, path: str = "", data: Any = None, headers: Any = None, **_: Any) -> requests.Response:
        answer: requests.Response = super()._op(
            method, path, data, headers, timeout=BACKSTOP, server_side_retries_left=0, allow_reauth=False
        )
        return answer

    def fresh(self) -> None:
        """No connection is kept."""
        self._session.close()


class _Tidy(Adapter):
    """Error bodies that are no Redfish error are left out, as sushy stumbles over them."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = super().build_response(req, resp)
        if response.status_code >= 400:
            body = response.raw.read()
            response.raw = BytesIO(body if _is_error(body) else b"")
        return response


def _is_error(body: bytes) -> bool:
    """Whether it has the shape of an error response (DSP0266, "Error responses")."""
    try:
        error = json.loads(body)["error"]
        told = error.get("@Message.ExtendedInfo", [])
        return isinstance(told, list) and all(isinstance(each, dict) for each in told)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


class _Service:
    """A Redfish service during one call."""

    def __init__(self, bmc: RedfishBmc) -> None:
        self._bmc = bmc
        self.line = Line(bmc.address, bmc.trust, bmc.context)
        self._connector = _Once(bmc, self.line)
        self._sent = False
        """Whether a power command may have left us."""

    def close(self) -> None:
        """No connection is open."""
        self.line.end()
        self._connector.close()
        self.line.close()

    # --- the machine -----------------------------------------------------------------------------------------------

    def power(self, *, fresh: bool) -> str:
        """Its power state, in lower case."""
        return self._state(self._system(fresh=fresh))

    def reset(self, command: PowerCommand) -> None:
        """The command was accepted."""
        system = self._system(fresh=False)
        state = self._state(system)
        if command in _NEEDS_POWER and state == "off":
            raise ProtocolError(
                f"{self._bmc.who} did not carry out the command: {command} is not supported in the present state, for "
                "the machine is off; nothing was sent"
            )
        action = self._part(self._part(system, "Actions"), "#ComputerSystem.Reset")
        target = self._path(action.get("target"), "Actions/#ComputerSystem.Reset/target")
        value = self._reset_type(command, action)
        # a connection of its own: a kept one may have died unnoticed, and a request in it could not be told from one
        # that arrived
        self._connector.fresh()
        self.line.reopen()
        self._sent = True
        try:
            answer = self._connector.post(target, data={"ResetType": value})
        except exceptions.HTTPError as refusal:
            if refusal.status_code in (400, 409) and _GOAL.get(command) == state:
                return
            raise
        if answer.content.strip():
            self._document(answer, target)

    def switching(self) -> tuple[str, dict[PowerCommand, str], str, str]:
        """Where and by which words it is switched and reset, where it is read, and the pin of the key it showed."""
        system = self._system(fresh=False)
        action = self._part(self._part(system, "Actions"), "#ComputerSystem.Reset")
        target = self._path(action.get("target"), "Actions/#ComputerSystem.Reset/target")
        words: dict[PowerCommand, str] = {
            "on": self._reset_type("on", action),
            "off": self._reset_type("off", action),
        }
        with contextlib.suppress(ProtocolError):  # it may know no reset, and then only who needs one is refused
            words["reset"] = self._reset_type("reset", action)
        self.line.reopen()
        shown = self.line.connection()
        certificate = shown.getpeercert(binary_form=True)
        shown.close()
        assert certificate is not None
        assert self._bmc.system_path is not None
        return target, words, self._bmc.system_path, public_key_pin(certificate)

    def _reset_type(self, command: PowerCommand, action: _Document) -> str:
        """How this BMC spells the command."""
        allowed = action.get("ResetType@Redfish.AllowableValues")
        if allowed is None and action.get("@Redfish.ActionInfo") is not None:
            info = self._get(self._path(action["@Redfish.ActionInfo"], "@Redfish.ActionInfo"))
            for parameter in self._list(info, "Parameters"):
                if isinstance(parameter, dict) and parameter.get("Name") == "ResetType":
                    allowed = parameter.get("AllowableValues")
        if allowed is None:  # it does not say what it knows; it will refuse what it does not
            return _RESETS[command][0]
        if not isinstance(allowed, list) or not all(isinstance(each, str) for each in allowed):
            raise self._strange("ResetType@Redfish.AllowableValues", allowed)
        spelt = {each.casefold(): each for each in allowed}
        for wanted in _RESETS[command]:
            if wanted.casefold() in spelt:
                return str(spelt[wanted.casefold()])
        raise ProtocolError(
            f"{self._bmc.who} has no {' or '.join(_RESETS[command])} ({command}); it knows "
            f"{', '.join(allowed) or 'nothing'}. Nothing was sent"
        )

    def _state(self, system: _Document) -> str:
        state = (self._text(system, "PowerState") or "").casefold()
        if state not in _STATES:
            raise self._strange("PowerState", system.get("PowerState"))
        return state

    def _system(self, *, fresh: bool) -> _Document:
        path = None if fresh else self._bmc.system_path
        if path is None:
            path = self._find()
        system = self._get(path)
        self._bmc.system_path = path
        return system

    def _find(self) -> str:
        """Where the one machine lies, or the one that the inventory names."""
        top = self._get(SERVICE_ROOT)
        paths = list(self._members(self._link(top, "Systems", needed=True)))
        wanted = self._bmc.system
        found = [path for path in paths if wanted is None or path.rstrip("/").rpartition("/")[2] == wanted]
        if len(found) == 1:
            return found[0]
        there = ", ".join(path.rstrip("/").rpartition("/")[2] for path in paths[:16]) or "none"
        if wanted is not None:
            raise ProtocolError(f"{self._bmc.who} has no system {wanted!r}; it has: {there}. Check bmc.system")
        raise ProtocolError(
            f"{self._bmc.who} has {len(paths)} systems ({there}), and which of them is this node cannot be guessed: "
            "write its id as bmc.system in the inventory"
        )

    # --- who it is -------------------------------------------------------------------------------------------------

    def identity(self) -> dict[str, str]:
        """See RedfishBmc.identity."""
        system = self._system(fresh=False)
        found = {
            "uuid": (self._text(system, "UUID") or "").lower(),
            "manufacturer": self._text(system, "Manufacturer") or "",
            "product": self._text(system, "Model") or "",
        }
        for manager in self._managers(system)[:1]:
            found["firmware"] = self._text(manager, "FirmwareVersion") or ""
            found |= self._network(manager)
        return {key: value for key, value in found.items() if value}

    def _managers(self, system: _Document) -> list[_Document]:
        """The controllers of this machine; none where it does not tell, or the service's are somebody else's too."""
        links = self._part(system, "Links")
        paths = [self._path(each, "Links/ManagedBy") for each in self._list(links, "ManagedBy")]
        if not paths:
            top = self._get(SERVICE_ROOT)
            paths = list(self._members(self._link(top, "Managers"))) if "Managers" in top else []
            paths = paths if len(paths) == 1 else []
        found = (self._optional(path) for path in paths[:MOST_VISITS])
        return [manager for manager in found if manager is not None]

    def _network(self, manager: _Document) -> dict[str, str]:
        """MAC and IP of the controller's own port: the one at the address we reached, else the only one it has."""
        ports = []
        if (path := self._link(manager, "EthernetInterfaces")) and (collection := self._optional(path)) is not None:
            for member in self._listed(collection)[:MOST_VISITS]:
                port = self._optional(member)
                if port and (mac := self._text(port, "MACAddress") or self._text(port, "PermanentMACAddress")):
                    told = [each for each in self._list(port, "IPv4Addresses") if isinstance(each, dict)]
                    ports.append((mac.lower(), [str(each.get("Address")) for each in told if each.get("Address")]))
        here = [port for port in ports if self._bmc.address.host in port[1]]
        chosen = here or ports
        if len(chosen) != 1:
            return {}
        mac, addresses = chosen[0]
        return {"mac": mac, "ip": self._bmc.address.host if here else next(iter(addresses), "")}

    # --- what it remembers -----------------------------------------------------------------------------------------

    def sel(self) -> tuple[SelEntry, ...]:
        """See RedfishBmc.sel."""
        system = self._system(fresh=False)
        for owner in (system, *self._managers(system)):
            path = self._link(owner, "LogServices")
            collection = self._optional(path) if path else None
            for member in self._listed(collection or {})[:MOST_VISITS]:
                log = self._optional(member)
                if log is not None and _is_event_log(log) and (entries := self._link(log, "Entries")):
                    return self._entries(entries)
        raise ProtocolError(f"{self._bmc.who} has no system event log among its LogServices, or this user may not read")

    def _entries(self, path: str) -> tuple[SelEntry, ...]:
        found: list[SelEntry] = []
        for page in self._pages(path):
            for member in self._list(page, "Members"):
                if not isinstance(member, dict):
                    raise self._strange("Members", member)
                document = member if "Message" in member or "Created" in member else None
                found.append(self._entry(document or self._get(self._path(member, "Members"))))
                if len(found) > MOST_ENTRIES:
                    raise ProtocolError(f"{self._bmc.who} has more than {MOST_ENTRIES} log entries: clear its log")
        # some list the newest first; those without a time came before the clock was set
        return tuple(sorted(found, key=lambda entry: (entry.at or 0.0, _number(entry.number))))

    def _entry(self, entry: _Document) -> SelEntry:
        sensor, text = self._text(entry, "SensorType") or "", self._text(entry, "Message") or ""
        created = self._text(entry, "EventTimestamp") or self._text(entry, "Created")
        return SelEntry(self._text(entry, "Id") or "", _moment(created), _event(sensor, text), sensor, text)

    # --- what it will boot -----------------------------------------------------------------------------------------

    def boot_override(self) -> str | None:
        """See RedfishBmc.boot_override. Source: DSP0268, ComputerSystem, Boot."""
        boot = self._part(self._system(fresh=False), "Boot")
        enabled, target = (self._text(boot, f"BootSourceOverride{key}") for key in ("Enabled", "Target"))
        if enabled == "Disabled" or target == "None":
            return NO_OVERRIDE
        if enabled not in ("Once", "Continuous") or target is None:
            return None
        mode = self._text(boot, "BootSourceOverrideMode") or "in no mode that it names"
        return override(target.lower(), lasting=enabled == "Continuous", more=f"Redfish {enabled}, {mode}")

    # --- who may ---------------------------------------------------------------------------------------------------

    def access(self) -> BmcAccess:
        """See RedfishBmc.access."""
        user = self._bmc.login.user
        self._system(fresh=False)  # the login works
        top = self._get(SERVICE_ROOT)
        path = self._link(top, "AccountService")
        service = self._optional(path) if path else None
        accounts = self._optional(self._link(service, "Accounts") or "") if service else None
        if accounts is None:
            return BmcAccess(user, "", None, None)
        others, level, may = [], "", None
        for member in self._listed(accounts)[:MOST_VISITS]:
            account = self._optional(member)
            if account is None:
                continue
            name = self._text(account, "UserName") or ""
            if name == user:
                level = self._text(account, "RoleId") or ""
                may = self._may_switch(account, level)
            elif account.get("Enabled") is True:
                others.append(name)
        return BmcAccess(user, level, may, tuple(others))

    def _may_switch(self, account: _Document, level: str) -> bool | None:
        link = self._link(self._part(account, "Links"), "Role")
        role = self._optional(link) if link else None
        if role is not None and "AssignedPrivileges" in role:
            return any(each in _SWITCHING_TOO for each in self._list(role, "AssignedPrivileges"))
        return _ROLES.get(level.casefold())

    # --- documents -------------------------------------------------------------------------------------------------

    def _get(self, path: str) -> _Document:
        return self._document(self._connector.get(path), path)

    def _optional(self, path: str) -> _Document | None:
        """The document, or None where the service has none there for this user."""
        try:
            return self._get(path) if path else None
        except exceptions.HTTPError as error:
            if error.status_code not in _MAY_LACK:
                raise
            return None

    def _document(self, answer: requests.Response, path: str) -> _Document:
        """The JSON object in an answer, whatever it calls its content."""
        try:
            document = json.loads(answer.content)
        except (ValueError, RecursionError):
            kind = answer.headers.get("Content-Type", "no content type")
            begins = redaction.scrub(answer.content[:80].decode("utf-8", "replace"))
            raise ProtocolError(
                f"{self._bmc.who} answered {path} with {answer.status_code} and something that is no JSON ({kind}): "
                f"{begins!r}. Is another web server listening there, or Redfish switched off in it?",
                status=answer.status_code,
            ) from None
        if not isinstance(document, dict):
            raise self._strange(path, document)
        return document

    def _pages(self, path: str) -> Iterator[_Document]:
        """A collection, page after page (DSP0266, "Partial resource results")."""
        following: str | None = path
        for _ in range(MOST_PAGES):
            if following is None:
                return
            page = self._get(following)
            yield page
            link = page.get("Members@odata.nextLink")
            following = None if link is None else self._path(link, "Members@odata.nextLink")
        raise ProtocolError(f"{self._bmc.who}: {path} has more than {MOST_PAGES} pages")

    def _members(self, path: str | None) -> Iterator[str]:
        for page in self._pages(path) if path else ():
            yield from self._listed(page)

    def _listed(self, collection: _Document) -> list[str]:
        return [self._path(each, "Members") for each in self._list(collection, "Members")]

    def _link(self, document: _Document, key: str, *, needed: bool = False) -> str | None:
        value = document.get(key)
        if value is None:
            if needed:
                raise ProtocolError(f"{self._bmc.who} names no {key}: that is no Redfish service as we know it")
            return None
        return self._path(value, key)

    def _path(self, value: Any, where: str) -> str:
        """The path in a link. Of this service: our password goes nowhere else."""
        path = value.get("@odata.id") if isinstance(value, dict) else value
        if not isinstance(path, str) or not path.startswith("/") or path.startswith("//"):
            raise self._strange(where, value)
        return str(path)

    def _part(self, document: _Document, key: str) -> _Document:
        value = document.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._strange(key, value)
        return value

    def _list(self, document: _Document, key: str) -> list[Any]:
        value = document.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._strange(key, value)
        return value

    def _text(self, document: _Document, key: str) -> str | None:
        value = document.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self._strange(key, value)
        return str(value)

    def _strange(self, where: str, value: Any) -> ProtocolError:
        shown = redaction.scrub(repr(value))[:80]
        return ProtocolError(f"{self._bmc.who}: {where} is {shown}, which Redfish does not allow there")

    # --- what went wrong, for people -------------------------------------------------------------------------------

    def meaning(self, error: Exception) -> SiteError:
        """What ``error`` says about the BMC, in our words; what it says about us is raised as it is."""
        who, after = self._bmc.who, _AFTER if self._sent else ""
        if isinstance(error, exceptions.HTTPError):
            return self._refusal(error)
        if isinstance(error, TimedOut):
            return Unreachable(
                f"{who} gave no answer before the deadline: it has no power or network, hangs, or HTTPS is switched "
                f"off in it; check its cable, address and port{after}"
            )
        if isinstance(error, ProtocolError):
            return ProtocolError(f"{error}{after}", status=error.status)
        if isinstance(error, SiteError):
            error.__context__ = None
            return error.with_traceback(None)
        if isinstance(error, PvehaError):
            raise error
        # sushy keeps the cause of its own ConnectionError as context only
        wrapped = error.__context__ if isinstance(error, exceptions.ConnectionError) else None
        if told := protocol_error(who, "the request", wrapped or error):
            return ProtocolError(f"{told}{after}")
        cause = root(wrapped or error)
        if isinstance(cause, OSError):
            return Unreachable(f"{who}: {reason(cause)}; is Redfish (HTTPS) switched on in it?{after}")
        raise error

    def _refusal(self, error: exceptions.HTTPError) -> SiteError:
        status = int(error.status_code)
        who, user = self._bmc.who, self._bmc.login.user
        listed = [str(each["Message"]) for each in error.extended_info or () if each.get("Message")]
        words = " ".join(listed) or str(error.detail or "without a reason in Redfish's form")
        told = redaction.scrub(words)[:300]
        if status == 401:
            self._bmc.login.forget()
            return AuthRefused(
                f"{who} refused user {user!r} (401: {told}): check user and password in the inventory, that the user "
                "may use Redfish, and that HTTP Basic is not switched off in the BMC (AccountService, HTTPBasicAuth)"
            )
        if status == 403:
            return AuthRefused(
                f"{who} refused this to user {user!r} (403: {told}): give the user the role Operator "
                f"(privilege {_SWITCHING})"
            )
        after = _AFTER if self._sent and (status >= 500 or status == 408) else ""
        what = "did not carry out the command" if self._sent and not after else "answered with an error"
        return ProtocolError(f"{who} {what}: {status}: {told}{after}", status=status)


def _is_event_log(log: _Document) -> bool:
    """Whether it is the machine's event log; older services name no LogEntryType (DSP2046, LogService)."""
    if log.get("LogEntryType") is not None:
        return log["LogEntryType"] == "SEL" or str(log.get("Id", "")).upper() == "IML"
    return str(log.get("Id", "")).upper() in {"SEL", "IML", "LOG1"}


def _event(sensor: str, text: str) -> Event:
    """What happened, by LogEntry.SensorType and the words; "other" unless both say so."""
    kind, words = sensor.casefold().replace(" ", ""), text.casefold()
    if kind.startswith("watchdog"):
        if "reset" in words or "reboot" in words:
            return "watchdog reset"
        if "cycle" in words:
            return "watchdog power cycle"
        if "power" in words and ("off" in words or "down" in words):
            return "watchdog power off"
    if kind in ("powerunit", "systemacpipowerstate"):
        if "off" in words or "down" in words:
            return "power off"
        if words.rstrip(".").endswith(" on"):
            return "power on"
    return "other"


def _moment(created: str | None) -> float | None:
    """Epoch seconds of a Redfish date; without a zone it is UTC to us. None: no date, or before the clock was set."""
    if created is None:
        return None
    with contextlib.suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(created)
        if moment.tzinfo is None:
            moment = datetime.fromisoformat(f"{created}+00:00")
        return moment.timestamp() if moment.year > 2000 else None
    return None


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


__all__ = ["NEW_REDFISH", "REDFISH", "RedfishBmc"]
