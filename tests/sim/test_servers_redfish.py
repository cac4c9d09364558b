"""The simulated Redfish service as any client meets it: paths, logins, sessions, refusals, makers' habits."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from typing import Any

import pytest

from pytest_pveha.sim.servers.redfish import IDLE_SECONDS
from pytest_pveha.sim.servers.redfish_vendors import VENDORS
from tests.sim.bmc_bench import PASSWORD, USER, RedfishBench, redfish

BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Answer:
    """Status, headers and document of one answer."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        body = response.read()
        self.json: Any = json.loads(body) if body else None


def ask(bench: RedfishBench, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """One request over a connection of its own; logged in by HTTP Basic unless headers say otherwise."""
    context = ssl.create_default_context(cafile=str(bench.ca))
    connection = http.client.HTTPSConnection("127.0.0.1", bench.port, context=context, timeout=60)
    given = {"Authorization": BASIC, **{name.replace("_", "-"): value for name, value in headers.items()}}
    given = {name: value for name, value in given.items() if value}
    data = None if body is None else json.dumps(body)
    connection.request(method, path, data, {"Content-Type": "application/json", **given})
    answer = Answer(connection.getresponse())
    connection.close()
    return answer


def links(value: Any) -> set[str]:
    """Every path that a document names."""
    if isinstance(value, dict):
        own = {value["@odata.id"]} if isinstance(value.get("@odata.id"), str) else set()
        return own.union(*(links(each) for each in value.values()))
    if isinstance(value, list):
        return set().union(*(links(each) for each in value))
    return set()


@pytest.mark.parametrize("vendor", sorted(VENDORS))
def test_every_link_leads_somewhere(vendor: str) -> None:
    """From the service root every path that is named can be read, whoever made it, and names itself."""
    with redfish(vendor) as bench:
        seen: dict[str, Any] = {}
        front = {"/redfish/v1/"}
        while front:
            path = front.pop()
            answer = ask(bench, "GET", path)
            assert answer.status == 200, path
            assert answer.json["@odata.id"] == path
            seen[path] = answer.json
            front |= links(answer.json) - seen.keys()
        assert any(path.endswith("/EthernetInterfaces") for path in seen)
        assert any(path.endswith("/Entries") for path in seen)
        assert any(path.endswith("/Roles/Administrator") for path in seen)


def test_only_the_root_is_for_everybody() -> None:
    """Without a login, or with a wrong one, there is the service root and 401 for the rest, commands too."""
    with redfish() as bench:
        assert ask(bench, "GET", "/redfish", Authorization="").json == {"v1": "/redfish/v1/"}
        assert ask(bench, "GET", "/redfish/v1", Authorization="").status == 200
        reset = "/redfish/v1/Systems/system/Actions/ComputerSystem.Reset"
        for wrong in ("", "Basic", "Basic x", "Basic " + base64.b64encode(b"pveha:no").decode(), "Bearer x"):
            for method, path in (("GET", "/redfish/v1/Systems"), ("GET", "/redfish/v1/nowhere"), ("POST", reset)):
                refused = ask(bench, method, path, {"ResetType": "ForceOff"}, Authorization=wrong)
                assert refused.status == 401
                assert refused.headers["WWW-Authenticate"]
                assert refused.json["error"]["@Message.ExtendedInfo"][0]["Message"]
        assert bench.machine.commands == []


def test_what_is_not_there() -> None:
    """A path that is nothing is 404, a method that is not for it 405, a command that it does not know 400."""
    with redfish("ilo") as bench:
        system = "/redfish/v1/Systems/1"
        assert ask(bench, "GET", "/redfish/v1/Systems/2").status == 404
        assert ask(bench, "PATCH", system, {}).status == 405
        assert ask(bench, "POST", system, {}).status == 405
        for body in ({"ResetType": "PowerCycle"}, {"ResetType": "forceoff"}, {}, []):
            assert ask(bench, "POST", f"{system}/Actions/ComputerSystem.Reset", body).status == 400
        assert bench.machine.commands == []


def test_sessions_are_few() -> None:
    """A session is opened, used, counted, ended by its owner or by idleness; one too many is refused."""
    sessions = "/redfish/v1/SessionService/Sessions"
    login = {"UserName": USER, "Password": PASSWORD}
    with redfish(sessions=1) as bench:
        assert ask(bench, "POST", sessions, {**login, "Password": "no"}, Authorization="").status == 401
        opened = ask(bench, "POST", sessions, login, Authorization="")
        assert opened.status == 201
        token, path = opened.headers["X-Auth-Token"], opened.headers["Location"]
        assert ask(bench, "GET", path.rpartition("/")[0], Authorization="", X_Auth_Token=token).status == 200
        assert ask(bench, "POST", sessions, login, Authorization="").status == 503
        assert ask(bench, "DELETE", path, Authorization="", X_Auth_Token=token).status == 204
        assert ask(bench, "GET", sessions, Authorization="", X_Auth_Token=token).status == 401
        again = ask(bench, "POST", sessions, login, Authorization="").headers["X-Auth-Token"]
        bench.machine.time += IDLE_SECONDS + 1
        assert ask(bench, "GET", sessions, Authorization="", X_Auth_Token=again).status == 401
        assert ask(bench, "POST", sessions, login, Authorization="").status == 201
        bench.server.drop_sessions()
        assert ask(bench, "POST", sessions, login, Authorization="").status == 201


def test_makers_differ() -> None:
    """Names, allowed commands, spelling, content type and ETag are the maker's own."""
    seen = {}
    for name in VENDORS:
        with redfish(name) as bench:
            path = ask(bench, "GET", "/redfish/v1/Systems").json["Members"][0]["@odata.id"]
            answer = ask(bench, "GET", path)
            action = answer.json["Actions"]["#ComputerSystem.Reset"]
            seen[name] = (
                path.rpartition("/")[2],
                answer.json["PowerState"],
                answer.headers["Content-Type"].partition(";")[0],
                "ETag" in answer.headers,
                "PowerCycle" in action.get("ResetType@Redfish.AllowableValues", ()),
                "@Redfish.ActionInfo" in action,
            )
    assert seen == {
        "generic": ("system", "On", "application/json", False, True, False),
        "idrac": ("System.Embedded.1", "On", "application/json", True, True, False),
        "ilo": ("1", "On", "application/json", True, False, False),
        "supermicro": ("1", "ON", "text/plain", False, False, True),
    }


def test_a_command_under_way_shows_where_the_maker_shows_it() -> None:
    """Between a command and its effect one maker says PoweringOff, and the others what the chassis is."""
    for name, said in (("ilo", "PoweringOff"), ("idrac", "On")):
        with redfish(name) as bench:
            bench.machine.going = "off"
            path = ask(bench, "GET", "/redfish/v1/Systems").json["Members"][0]["@odata.id"]
            assert ask(bench, "GET", path).json["PowerState"] == said


def test_a_mere_user_may_not_switch() -> None:
    """Without ConfigureComponents a command is 403, and reading goes on."""
    with redfish(privilege="USER") as bench:
        path = "/redfish/v1/Systems/system"
        assert ask(bench, "GET", path).status == 200
        refused = ask(bench, "POST", f"{path}/Actions/ComputerSystem.Reset", {"ResetType": "ForceOff"})
        assert refused.status == 403
        assert bench.machine.commands == []
