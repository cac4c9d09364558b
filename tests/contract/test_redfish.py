"""The Redfish client against services that err, stall and lie, and against one service with several machines."""

from __future__ import annotations

import base64
import json
import logging
import socket
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import AuthRefused, ProtocolError, SiteError, Unreachable, UsageError
from pytest_pveha.wire import redfish
from pytest_pveha.wire.redfish import RedfishBmc
from pytest_pveha.wire.tls import Trust
from tests.contract.https_kit import Answer, Server, Site, drip, reply, reset, stall
from tests.sim.bmc_bench import PASSWORD, USER
from tests.sim.bmc_bench import redfish as service

ROOT = {"Systems": {"@odata.id": "/redfish/v1/Systems"}, "Managers": {"@odata.id": "/redfish/v1/Managers"}}
SYSTEMS = {"Members": [{"@odata.id": "/redfish/v1/Systems/1"}]}
RESET = "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset"
AMPLE = 60.0


def system(**changes: Any) -> dict[str, Any]:
    """A system that is on and takes On and ForceOff."""
    reset_action = {"target": RESET, "ResetType@Redfish.AllowableValues": ["On", "ForceOff"]}
    whole = {"Id": "1", "PowerState": "On", "Actions": {"#ComputerSystem.Reset": reset_action}}
    return {key: value for key, value in {**whole, **changes}.items() if value is not ...}


def ok(document: Any, kind: str = "application/json") -> bytes:
    return reply("200 OK", document if isinstance(document, bytes) else json.dumps(document).encode(), kind)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Certificates, made once."""
    return Site(tmp_path_factory.mktemp("tls"))


class Bench:
    """Scripted services and clients of one test."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.clock = LiveClock()
        self.servers: list[Server] = []

    def server(self, *answers: Answer) -> Server:
        self.servers.append(Server(self.site, *answers))
        return self.servers[-1]

    def bmc(self, server: Server, trust: Trust | None = None, **more: Any) -> RedfishBmc:
        pinned = Trust(fingerprints=(self.site.fingerprint,), shown_by="its web page")
        return RedfishBmc("127.0.0.1", server.port, USER, lambda: PASSWORD, trust or pinned, self.clock, **more)


@pytest.fixture
def bench(site: Site) -> Iterator[Bench]:
    """A workplace that closes its services."""
    bench = Bench(site)
    yield bench
    for server in bench.servers:
        server.close()


def posts(server: Server) -> list[str]:
    return [line for line, _, _ in server.requests if line.startswith("POST")]


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "on"),
    [("On", True), ("Off", False), ("PoweringOn", True), ("PoweringOff", True), ("Paused", True), ("OFF", False)],
)
def test_only_off_is_off(bench: Bench, state: str, on: bool) -> None:
    """Each power state that Redfish knows, in any case; only Off counts as off."""
    server = bench.server(ok(ROOT), ok(SYSTEMS), ok(system(PowerState=state)))
    assert bench.bmc(server).power_state(bench.clock.deadline(AMPLE)).on is on


@pytest.mark.parametrize("state", ["Broken", "", None, 1, True, ["On"], {"On": 1}, ...])
def test_a_strange_power_state_is_no_answer(bench: Bench, state: object) -> None:
    """A power state that Redfish does not know, of another type or missing is a ProtocolError, never on or off."""
    server = bench.server(ok(ROOT), ok(SYSTEMS), ok(system(PowerState=state)))
    with pytest.raises(ProtocolError, match=r"PowerState is .*, which Redfish does not allow"):
        bench.bmc(server).power_state(bench.clock.deadline(AMPLE))


def test_the_machine_is_looked_for_once(bench: Bench) -> None:
    """Reading again asks one document; a fresh reading begins at the service root, and so does one after a failure."""
    server = bench.server(ok(ROOT), ok(SYSTEMS), ok(system()), ok(system()), ok(ROOT), ok(SYSTEMS), ok(system()))
    bmc = bench.bmc(server)
    bmc.power_state(bench.clock.deadline(AMPLE))
    assert len(server.requests) == 3
    bmc.power_state(bench.clock.deadline(AMPLE))
    assert len(server.requests) == 4
    bmc.fresh_power_state(bench.clock.deadline(AMPLE))
    assert [line.split()[1] for line, _, _ in server.requests[4:]] == [
        "/redfish/v1/",
        "/redfish/v1/Systems",
        "/redfish/v1/Systems/1",
    ]


def test_several_machines(bench: Bench) -> None:
    """Behind one service with several systems the inventory's is taken; without it, or with a wrong one, none is."""
    blades = {"Members": [{"@odata.id": f"/redfish/v1/Systems/blade{n}"} for n in (1, 2)]}
    whole = (ok(ROOT), ok(blades), ok(system()))
    right = bench.server(*whole)
    assert bench.bmc(right, system="blade2").power_state(bench.clock.deadline(AMPLE)).on
    assert right.requests[-1][0] == "GET /redfish/v1/Systems/blade2"
    with pytest.raises(ProtocolError, match=r"has 2 systems \(blade1, blade2\).*write its id as bmc.system"):
        bench.bmc(bench.server(*whole)).power_state(bench.clock.deadline(AMPLE))
    with pytest.raises(ProtocolError, match=r"has no system 'blade3'; it has: blade1, blade2"):
        bench.bmc(bench.server(*whole), system="blade3").set_power("off", bench.clock.deadline(AMPLE))
    with pytest.raises(ProtocolError, match=r"has 0 systems \(none\)"):
        bench.bmc(bench.server(ok(ROOT), ok({"Members": []}))).power_state(bench.clock.deadline(AMPLE))


def test_a_collection_may_have_pages(bench: Bench) -> None:
    """The machine is found on a later page too, and a collection that never ends is a ProtocolError."""
    first = {"Members": [], "Members@odata.nextLink": "/redfish/v1/Systems?$skip=1"}
    server = bench.server(ok(ROOT), ok(first), ok(SYSTEMS), ok(system()))
    assert bench.bmc(server).power_state(bench.clock.deadline(AMPLE)).on
    with pytest.raises(ProtocolError, match="more than 32 pages"):
        bench.bmc(bench.server(ok(ROOT), ok(first))).power_state(bench.clock.deadline(AMPLE))


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"<html>Welcome</html>", "text/html"),
        ok(b"", "application/json"),
        ok(b"[" * 100_000),
        ok([1, 2]),
        ok("text"),
        ok({}),
        ok({"Systems": "relative/path"}),
        ok({"Systems": {"@odata.id": "https://elsewhere.invalid/redfish/v1/Systems"}}),
        ok({"Systems": {"@odata.id": "//elsewhere.invalid/Systems"}}),
        ok({"Systems": {"@odata.id": 7}}),
        reply("302 Found\r\nLocation: https://elsewhere.invalid/", b""),
        reply("404 Not Found", b"<html>no</html>", "text/html"),
        reply("500 Internal Server Error", {"error": "a string"}),
        reply("503 Service Unavailable", [1]),
        reply("400 Bad Request", {"error": {"@Message.ExtendedInfo": ["words"]}}),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b" " * (redfish.LARGEST_REPLY + 2),
    ],
    ids=lambda answer: answer[9:60].decode("latin-1").split("\r\n")[0] + f"-{len(answer)}",
)
def test_what_is_no_redfish_is_a_protocol_error(bench: Bench, answer: bytes) -> None:
    """Pages, wrong types, links elsewhere, redirects, errors, other protocols, cut off, endless; asked once."""
    server = bench.server(lambda sock: (sock.sendall(answer), sock.close())[0])
    for call in (bench.bmc(server).power_state, bench.bmc(server).identity):
        with pytest.raises(ProtocolError, match=f"BMC 127.0.0.1:{server.port}"):
            call(bench.clock.deadline(AMPLE))
    assert len(server.requests) == 2


@pytest.mark.parametrize("silence", [stall, drip])
def test_the_deadline_is_total(bench: Bench, silence: Answer) -> None:
    """A service that stalls, or feeds byte by byte, is left at the deadline."""
    server = bench.server(silence)
    begun = time.monotonic()
    with pytest.raises(Unreachable, match="gave no answer before the deadline"):
        bench.bmc(server).power_state(bench.clock.deadline(0.4))
    assert 0.35 < time.monotonic() - begun < 5


def test_a_closed_port(bench: Bench) -> None:
    """Nobody listening is Unreachable at once, and names what to look at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        bmc = RedfishBmc(
            "127.0.0.1", sock.getsockname()[1], USER, lambda: PASSWORD, Trust(fingerprints=("ab" * 32,)), bench.clock
        )
        with pytest.raises(Unreachable, match=r"Connection refused; is Redfish \(HTTPS\) switched on"):
            bmc.set_power("off", bench.clock.deadline(AMPLE))


# --- whom we trust ----------------------------------------------------------------------------------------------------


def test_a_changed_certificate_is_refused(bench: Bench) -> None:
    """Another certificate than the pinned one, or of another CA, is AuthRefused, and no password went out."""
    server = bench.server(ok(ROOT))
    for trust in (Trust(fingerprints=("00" * 32,), shown_by="its web page"), Trust(ca_file=bench.site.other_ca_file)):
        bmc = bench.bmc(server, trust)
        for call in (bmc.power_state, lambda deadline, bmc=bmc: bmc.set_power("off", deadline)):
            with pytest.raises(AuthRefused, match=r"is not the one in the inventory.*Nothing was sent") as refused:
                call(bench.clock.deadline(AMPLE))
            assert "pvenode" not in str(refused.value)
    assert server.requests == []


def test_a_ca_file_is_enough(bench: Bench) -> None:
    """A certificate signed by the CA in the inventory is accepted, for the host it names."""
    server = bench.server(ok(ROOT), ok(SYSTEMS), ok(system()))
    assert bench.bmc(server, Trust(ca_file=bench.site.ca_file)).power_state(bench.clock.deadline(AMPLE)).on


# --- commanding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (reset, Unreachable),
        (b"", Unreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", ProtocolError),
        (ok(b"<html>logged out</html>", "text/html"), ProtocolError),
        (reply("500 Internal Server Error", {"error": {"message": "out of memory"}}), ProtocolError),
        (reply("503 Service Unavailable", b"busy"), ProtocolError),
        (reply("307 Temporary Redirect\r\nLocation: /redfish/v1/other", b""), ProtocolError),
        (stall, Unreachable),
    ],
    ids=["reset", "hung up", "cut off", "page", "500", "503", "redirect", "stall"],
)
def test_a_command_is_never_sent_twice(bench: Bench, answer: Answer, says: type[SiteError]) -> None:
    """Whatever happens to its answer, one POST went out, and the error says that it may have been carried out."""
    ending = (lambda sock: (sock.sendall(answer), sock.close())[0]) if isinstance(answer, bytes) else answer
    server = bench.server(ok(ROOT), ok(SYSTEMS), ok(system()), ending)
    seconds = 1.0 if answer is stall else AMPLE
    with pytest.raises(says, match="may have been carried out"):
        bench.bmc(server).set_power("off", bench.clock.deadline(seconds))
    assert posts(server) == [f"POST {RESET}"]
    assert json.loads(server.requests[-1][2]) == {"ResetType": "ForceOff"}


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "409 Conflict", "412 Precondition Failed"])
def test_a_refused_command_was_not_carried_out(bench: Bench, status: str) -> None:
    """An error of the client's makes a ProtocolError with its status and the BMC's words, and says nothing of "may"."""
    told = {"error": {"message": "See below.", "@Message.ExtendedInfo": [{"Message": "The lid is open."}]}}
    server = bench.server(ok(ROOT), ok(SYSTEMS), ok(system()), reply(status, told))
    with pytest.raises(ProtocolError, match=r"did not carry out the command: \d+") as refused:
        bench.bmc(server).set_power("off", bench.clock.deadline(AMPLE))
    assert refused.value.status == int(status[:3])
    assert "The lid is open." in str(refused.value)
    assert "may have been carried out" not in str(refused.value)


@pytest.mark.parametrize("status", ["200 OK", "202 Accepted", "204 No Content"])
def test_every_way_to_say_yes(bench: Bench, status: str) -> None:
    """A command is accepted with 200, 202 or 204, with or without a body; nobody waits for a task."""
    server = bench.server(ok(ROOT), ok(SYSTEMS), ok(system()), reply(f"{status}\r\nLocation: /redfish/v1/Tasks/1", b""))
    bench.bmc(server).set_power("off", bench.clock.deadline(AMPLE))
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("allowed", "sent"),
    [
        (["on", "forceoff"], "forceoff"),
        (["On", "ForceOff", 7], None),
        ("ForceOff", None),
        (["On"], None),
        ([], None),
        (..., "ForceOff"),
    ],
)
def test_the_bmc_spells_the_command(bench: Bench, allowed: object, sent: str | None) -> None:
    """The command goes out as the BMC spells it; what it does not know, or tells in a wrong type, is never sent."""
    action = {"target": RESET, "ResetType@Redfish.AllowableValues": allowed}
    if allowed is ...:
        del action["ResetType@Redfish.AllowableValues"]
    document = system(Actions={"#ComputerSystem.Reset": action})
    server = bench.server(ok(ROOT), ok(SYSTEMS), ok(document), reply("204 No Content", b""))
    bmc = bench.bmc(server)
    if sent is None:
        with pytest.raises(ProtocolError):
            bmc.set_power("off", bench.clock.deadline(AMPLE))
        assert posts(server) == []
    else:
        bmc.set_power("off", bench.clock.deadline(AMPLE))
        assert json.loads(server.requests[-1][2]) == {"ResetType": sent}


@pytest.mark.parametrize("actions", [..., None, {}, [], {"#ComputerSystem.Reset": {}}, {"#ComputerSystem.Reset": []}])
def test_a_machine_without_a_reset_action(bench: Bench, actions: object) -> None:
    """Where the system names no place to send the command to, none is made up."""
    server = bench.server(ok(ROOT), ok(SYSTEMS), ok(system(Actions=actions)))
    with pytest.raises(ProtocolError, match="which Redfish does not allow there"):
        bench.bmc(server).set_power("off", bench.clock.deadline(AMPLE))
    assert posts(server) == []


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_the_password_is_nowhere(
    bench: Bench, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """It goes out in one header and is in no log, output, message, traceback or attribute shown."""
    caplog.set_level(logging.DEBUG)
    echo = json.dumps({"error": {"message": f"bad password {PASSWORD}", "@Message.ExtendedInfo": []}}).encode()
    server = bench.server(
        ok(ROOT), ok(SYSTEMS), ok(system()), reply("401 Unauthorized", echo), ok(PASSWORD.encode(), "text/plain"), reset
    )
    bmc = bench.bmc(server)
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    bmc.power_state(bench.clock.deadline(AMPLE))
    assert server.requests[0][1]["authorization"] == f"Basic {basic}"
    said = ""
    for _ in range(3):
        with pytest.raises(SiteError) as error:
            bmc.power_state(bench.clock.deadline(AMPLE))
        said += "".join(traceback.format_exception(error.value)) + repr(vars(error.value))
        assert error.value.__context__ is None
        assert error.value.__cause__ is None
    out, err = capfd.readouterr()
    for text in (said, caplog.text, out, err, repr(bmc) + repr(vars(bmc))):
        assert PASSWORD not in text
        assert basic not in text


def test_a_refused_password_is_asked_for_anew(bench: Bench) -> None:
    """A password that was refused is not kept: the next call asks where it comes from."""
    asked: list[int] = []
    server = bench.server(ok(ROOT), reply("401 Unauthorized", b""), ok(ROOT), ok(SYSTEMS), ok(system()))
    trust = Trust(fingerprints=(bench.site.fingerprint,))
    bmc = RedfishBmc("127.0.0.1", server.port, USER, lambda: asked.append(1) or PASSWORD, trust, bench.clock)
    with pytest.raises(AuthRefused, match="HTTP Basic is not switched off"):
        bmc.power_state(bench.clock.deadline(AMPLE))
    bmc.power_state(bench.clock.deadline(AMPLE))
    bmc.power_state(bench.clock.deadline(AMPLE))
    assert len(asked) == 2


def test_a_user_with_a_colon_is_refused(bench: Bench) -> None:
    """HTTP Basic could not carry it, and would log in as somebody else."""
    with pytest.raises(UsageError, match="colon"):
        RedfishBmc("127.0.0.1", 1, "a:b", lambda: PASSWORD, Trust(fingerprints=("ab" * 32,)), bench.clock)


# --- the simulated service --------------------------------------------------------------------------------------------


def test_no_session_is_left_behind(tmp_path: Path) -> None:
    """A BMC whose every session is taken is read and commanded all the same, any number of times."""
    with service(sessions=1) as simulated:
        simulated.server._sessions["taken"] = "1", simulated.machine.time
        bmc = RedfishBmc("127.0.0.1", simulated.port, USER, lambda: PASSWORD, Trust(ca_file=simulated.ca), LiveClock())
        for _ in range(5):
            assert bmc.fresh_power_state(LiveClock().deadline(AMPLE)).on
        bmc.set_power("off", LiveClock().deadline(AMPLE))
        assert list(simulated.server._sessions) == ["taken"]
        assert simulated.machine.commands == ["off"]


def test_who_else_may_log_in(bench: Bench) -> None:
    """Other accounts that are enabled are told by name, an empty one too; a role of the maker's own says nothing."""
    at = "/redfish/v1/AccountService"
    root = {**ROOT, "AccountService": {"@odata.id": at}}
    names = [(USER, True, "PowerUser"), ("", True, "Operator"), ("guest", False, "ReadOnly"), ("root", True, "x")]
    accounts = [ok({"UserName": name, "Enabled": enabled, "RoleId": role}) for name, enabled, role in names]
    members = {"Members": [{"@odata.id": f"{at}/Accounts/{n}"} for n in range(4)]}
    server = bench.server(
        ok(ROOT), ok(SYSTEMS), ok(system()), ok(root), ok({"Accounts": {"@odata.id": f"{at}/Accounts"}}), ok(members),
        *accounts,
    )  # fmt: skip
    access = bench.bmc(server).access(bench.clock.deadline(AMPLE))
    assert (access.level, access.may_switch, access.others) == ("PowerUser", None, ("", "root"))


@pytest.mark.parametrize(
    ("privileges", "may"),
    [(["Login"], False), (["ConfigureComponents"], True), (["OperateSystems"], True), ([7, "x"], False), ([], False)],
)
def test_privileges_decide(bench: Bench, privileges: list[object], may: bool) -> None:
    """What a role's own list of privileges says wins over its name."""
    at = "/redfish/v1/AccountService"
    root = {**ROOT, "AccountService": {"@odata.id": at}}
    account = {"UserName": USER, "RoleId": "Operator", "Links": {"Role": {"@odata.id": f"{at}/Roles/1"}}}
    members = {"Members": [{"@odata.id": f"{at}/Accounts/1"}]}
    accounts = {"Accounts": {"@odata.id": f"{at}/Accounts"}}
    role = {"AssignedPrivileges": privileges}
    answers = (ROOT, SYSTEMS, system(), root, accounts, members, account, role)
    server = bench.server(*(ok(answer) for answer in answers))
    assert bench.bmc(server).access(bench.clock.deadline(AMPLE)).may_switch is may


def test_the_port_we_reached_is_the_identity(bench: Bench) -> None:
    """Of several network ports the one at our address tells the MAC; without it, a choice of several tells none."""
    manager = {"EthernetInterfaces": {"@odata.id": "/redfish/v1/Managers/1/EthernetInterfaces"}}
    ports = {"Members": [{"@odata.id": f"/redfish/v1/Managers/1/EthernetInterfaces/{n}"} for n in (1, 2)]}
    linked = system(UUID="AB", Links={"ManagedBy": [{"@odata.id": "/redfish/v1/Managers/1"}]})
    usb = {"MACAddress": "02:00:00:00:00:AA", "IPv4Addresses": [{"Address": "169.254.1.1"}]}
    for own, expected in (("127.0.0.1", "02:00:00:00:00:bb"), ("192.0.2.1", None)):
        lan = {"MACAddress": "02:00:00:00:00:BB", "IPv4Addresses": [{"Address": own}]}
        server = bench.server(ok(ROOT), ok(SYSTEMS), ok(linked), ok(manager), ok(ports), ok(usb), ok(lan))
        told = bench.bmc(server).identity(bench.clock.deadline(AMPLE))
        assert told.get("mac") == expected
        assert told["uuid"] == "ab"
