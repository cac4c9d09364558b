"""The HA part of the REST API: what it takes, what it refuses and in which words, on PVE 9 and on PVE 8.4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_pveha.sim.servers import api_routes
from pytest_pveha.sim.servers.api_routes import ApiError, Call, find
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.world import World
from tests.sim.ha_kit import Site, guest


class Api:
    """The functions behind the API of one node, without sockets."""

    def __init__(self, site: Site, node: str = "pve1") -> None:
        self.site = site
        self.node = node

    @property
    def world(self) -> World:
        return self.site.world

    def __call__(self, method: str, path: str, **params: str) -> Any:
        route, parts = find(method, path, self.world.spec.version)
        if refusal := route.refused(self.world.spec.token_lacks, parts):
            raise refusal
        call = Call(Facts(self.world, self.world.nodes[self.node]), "root@pam!t", _named(params))
        return route.function(call, **parts)

    def refusal(self, method: str, path: str, **params: str) -> tuple[int, str]:
        """Status and words of a refusal."""
        with pytest.raises(ApiError) as caught:
            self(method, path, **params)
        return caught.value.status, caught.value.message


def _named(params: dict[str, str]) -> dict[str, str]:
    return {name.replace("__", "-"): value for name, value in params.items()}


GROUPS = [{"name": "east", "nodes": ["pve1:2", "pve2"], "nofailback": True}]


@pytest.fixture
def nine() -> Api:
    """A site of PVE 9."""
    return Api(Site(guest(101, "pve1"), guest(102, "pve2"), guest(103, "pve3", ha=False)))


@pytest.fixture
def eight() -> Api:
    """A site of PVE 8.4."""
    return Api(Site(guest(101, "pve1", group="east"), guest(102, "pve2"), groups=GROUPS, version="8.4.14"))


def test_families_are_entered() -> None:
    """Each family of paths has been imported, so that its routes are there."""
    files = {file.stem for file in Path(api_routes.__file__).parent.glob("api_*.py")} - {"api_registry", "api_routes"}
    assert {family.__name__.rpartition(".")[2] for family in api_routes.FAMILIES} == files


def test_a_resource_comes_changes_and_goes(nine: Api) -> None:
    """A guest put under HA is taken by the master, its settings are shown, and out of HA it runs on."""
    assert nine("POST", "/cluster/ha/resources", sid="vm:103", max_restart="3", comment="mine") is None
    nine.site.play(30)
    assert nine.site.at("vm:103") == "started@pve3"
    shown = nine("GET", "/cluster/ha/resources/103")
    assert {key: shown[key] for key in shown.keys() - {"digest"}} == {
        "sid": "vm:103",
        "state": "started",
        "type": "vm",
        "max_restart": 3,
        "comment": "mine",
    }
    nine("PUT", "/cluster/ha/resources/vm:103", state="stopped", failback="0", delete="comment")
    nine.site.play(60)
    assert nine.site.at("vm:103") == "stopped@pve3"
    assert "comment" not in nine("GET", "/cluster/ha/resources/vm:103")
    nine("DELETE", "/cluster/ha/resources/vm:103")
    nine.site.play(20)
    assert "vm:103" not in nine.site.status["service_status"]


@pytest.mark.parametrize(
    ("method", "path", "params", "status", "text"),
    [
        ("POST", "/cluster/ha/resources", {"sid": "vm:101"}, 500, "resource ID 'vm:101' already defined"),
        ("POST", "/cluster/ha/resources", {"sid": "vm:999"}, 500, "resource 'vm:999' does not exist in cluster"),
        (
            "POST",
            "/cluster/ha/resources",
            {"sid": "ct:103"},
            500,
            "resource 'ct:103' - guest with ID 103 is not a CT",
        ),
        (
            "POST",
            "/cluster/ha/resources",
            {"sid": "vm:103", "group": "east"},
            500,
            "invalid parameter 'group': ha groups have been migrated to rules",
        ),
        ("GET", "/cluster/ha/resources/vm:103", {}, 500, "no such resource 'vm:103'"),
        ("DELETE", "/cluster/ha/resources/vm:103", {}, 500, "cannot delete service 'vm:103', not HA managed!"),
        ("PUT", "/cluster/ha/resources/vm:101", {"state": "gone"}, 400, "Parameter verification failed."),
        ("PUT", "/cluster/ha/resources/vm:101", {"colour": "red"}, 400, "Parameter verification failed."),
        ("POST", "/cluster/ha/resources/vm:103/migrate", {"node": "pve1"}, 500, "resource 'vm:103' is not HA managed"),
        ("POST", "/cluster/ha/resources/vm:101/migrate", {}, 400, "Parameter verification failed."),
        ("GET", "/cluster/ha/rules/none", {}, 500, "no such ha rule 'none'"),
        (
            "POST",
            "/cluster/ha/rules",
            {"rule": "a", "type": "node-affinity", "resources": "vm:103", "nodes": "pve1"},
            500,
            "cannot use unmanaged resource(s) vm:103.",
        ),
        (
            "POST",
            "/cluster/ha/rules",
            {"rule": "a", "type": "node-affinity", "resources": "vm:101", "nodes": "pve9"},
            500,
            "cannot use non-existent node(s) pve9.",
        ),
        (
            "POST",
            "/cluster/ha/rules",
            {"rule": "a", "type": "resource-affinity", "resources": "vm:101", "affinity": "positive"},
            400,
            "Rule 'a' is invalid.",
        ),
        (
            "POST",
            "/cluster/ha/groups",
            {"group": "a", "nodes": "pve1"},
            500,
            "cannot create group: ha groups have been",
        ),
        ("POST", "/nodes/pve1/status", {"command": "halt"}, 400, "Parameter verification failed."),
        ("POST", "/nodes/pve3/qemu/103/migrate", {"target": "pve1"}, 500, "can't migrate running VM without --online"),
        ("POST", "/nodes/pve3/qemu/103/migrate", {"target": "pve3"}, 500, "can't migrate to local node"),
    ],
)
def test_what_pve_9_refuses(nine: Api, method: str, path: str, params: dict[str, str], status: int, text: str) -> None:
    """Each refusal has PVE's status and words."""
    nine.node = path.split("/")[2] if path.startswith("/nodes") else "pve1"
    said = nine.refusal(method, path, **params)
    assert said[0] == status
    assert said[1].startswith(text)


def test_rules_come_change_and_go(nine: Api) -> None:
    """A rule is shown as recorded, sorted by node; a conflict is refused with its reason; then it is gone."""
    nine("POST", "/cluster/ha/rules", rule="pin101", type="node-affinity", resources="vm:101", nodes="pve2:2,pve1:1")
    (shown,) = nine("GET", "/cluster/ha/rules")
    assert {key: shown[key] for key in shown.keys() - {"digest"}} == {
        "rule": "pin101",
        "type": "node-affinity",
        "resources": "vm:101",
        "nodes": "pve1:1,pve2:2",
        "order": 1,
    }
    with pytest.raises(ApiError) as caught:
        nine("POST", "/cluster/ha/rules", rule="b", type="node-affinity", resources="vm:101", nodes="pve3")
    assert caught.value.errors == {"resources": "resource 'vm:101' is already used in another node affinity rule"}
    nine("PUT", "/cluster/ha/rules/pin101", type="node-affinity", strict="1", disable="1")
    assert nine("GET", "/cluster/ha/rules/pin101")["strict"] == 1
    nine("DELETE", "/cluster/ha/rules/pin101")
    assert nine("GET", "/cluster/ha/rules") == []


def test_a_removed_resource_leaves_its_rules(nine: Api) -> None:
    """Taken out of HA, a guest is in no rule any more, unless it is asked to stay there."""
    nine(
        "POST", "/cluster/ha/rules", rule="a", type="resource-affinity", resources="vm:101,vm:102", affinity="negative"
    )
    nine("DELETE", "/cluster/ha/resources/vm:101", purge="0")
    assert nine("GET", "/cluster/ha/rules")[0]["resources"] == "vm:101,vm:102"
    nine("DELETE", "/cluster/ha/resources/vm:102")
    assert nine("GET", "/cluster/ha/rules")[0]["resources"] == "vm:101"


def test_a_move_names_its_company(nine: Api) -> None:
    """Whoever is asked to move is told who comes along and who stands in the way."""
    nine(
        "POST", "/cluster/ha/rules", rule="a", type="resource-affinity", resources="vm:101,vm:102", affinity="negative"
    )
    nine.site.play(15)
    assert nine("POST", "/cluster/ha/resources/vm:101/migrate", node="pve2") == {
        "sid": "vm:101",
        "requested-node": "pve2",
        "blocking-resources": [{"sid": "vm:102", "cause": "resource-affinity"}],
    }
    nine("DELETE", "/cluster/ha/rules/a")
    nine(
        "POST", "/cluster/ha/rules", rule="a", type="resource-affinity", resources="vm:101,vm:102", affinity="positive"
    )
    moved = nine("POST", "/cluster/ha/resources/vm:101/relocate", node="pve3")
    assert moved["comigrated-resources"] == ["vm:102"]


def test_a_service_in_error_is_not_moved() -> None:
    """Only disabling gets a service out of error: a move is refused, and the word for it is shown."""
    api = Api(Site(guest(101, "pve1", state="stopped", start_failures=9, max_restart=0, max_relocate=0)))
    api.site.ask("vm:101", "started")
    api.site.until("vm:101", "error")
    text = "service 'vm:101' in error state, must be disabled and fixed first"
    assert api.refusal("POST", "/cluster/ha/resources/vm:101/migrate", node="pve2") == (500, text)
    api("PUT", "/cluster/ha/resources/vm:101", state="disabled")
    (shown,) = (one for one in api("GET", "/cluster/ha/status/current") if one["type"] == "service")
    assert (shown["state"], shown["crm_state"]) == ("clearing error flag", "error")
    api.site.play(15)
    (shown,) = (one for one in api("GET", "/cluster/ha/status/current") if one["type"] == "service")
    assert (shown["state"], shown["crm_state"]) == ("disabled", "stopped")


def test_disarming_as_the_status_shows_it(nine: Api) -> None:
    """The entry `fencing`, the LRMs and the services say what is going on, from request to done and back."""

    def words() -> dict[str, str]:
        return {entry["id"]: entry["status"] for entry in nine("GET", "/cluster/ha/status/current")}

    assert words()["fencing"] == "armed (CRM watchdog active)"
    nine("POST", "/cluster/ha/status/disarm-ha", resource__mode="freeze")
    nine.site.until("vm:101", "freeze")
    assert words()["fencing"] == "disarming, resource mode: freeze (CRM watchdog active)"
    nine.site.play(40)
    shown = words()
    assert shown["fencing"] == "disarmed, resource mode: freeze (CRM watchdog released)"
    assert shown["lrm:pve1"].startswith("pve1 (disarm mode, watchdog released, ")
    assert shown["master"].endswith(") - disarmed, resource mode: freeze")
    assert shown["service:vm:101"] == "vm:101 (pve1, freeze)"
    nine("POST", "/cluster/ha/status/arm-ha")
    nine.site.play(60)
    assert words()["fencing"] == "armed (CRM watchdog active)"
    nine("POST", "/cluster/ha/status/disarm-ha", resource__mode="ignore")
    nine.site.play(20)
    assert words()["service:vm:101"] == "vm:101 (pve1, ignore)"


def test_reboot_and_power_off_by_the_api(nine: Api) -> None:
    """The call returns nothing; two seconds later the node goes down in good order."""
    nine.node = "pve3"
    start = nine.site.now
    assert nine("POST", "/nodes/pve3/status", command="reboot") is None
    nine.site.play(200)
    assert nine.site.during(start, "going_down", node="pve3", reboot=True) == pytest.approx(2.0)
    assert nine.site.during(start, "reboot", node="pve3") > 5
    assert nine.world.nodes["pve3"].running


def test_options_are_set_and_forgotten(nine: Api) -> None:
    """Property strings become objects, numbers numbers; what is deleted is not shown."""
    nine("PUT", "/cluster/options", ha="shutdown_policy=migrate", crs="ha=static,ha-rebalance-on-start=1")
    shown = nine("GET", "/cluster/options")
    assert shown["ha"] == {"shutdown_policy": "migrate"}
    assert shown["crs"] == {"ha": "static", "ha-rebalance-on-start": 1}
    nine("PUT", "/cluster/options", delete="ha,crs", max_workers="2")
    shown = nine("GET", "/cluster/options")
    assert "ha" not in shown
    assert shown["max_workers"] == 2


def test_the_agent(nine: Api) -> None:
    """A guest's agent answers, is not configured, or is not there yet."""
    assert nine("POST", "/nodes/pve1/qemu/101/agent/ping") == {"result": {}}
    nine.world.kill_guest(101, "pve1")
    assert nine.refusal("POST", "/nodes/pve1/qemu/101/agent/ping") == (500, "VM 101 is not running")
    nine.site.play(11)
    assert nine.refusal("POST", "/nodes/pve1/qemu/101/agent/ping") == (500, "QEMU guest agent is not running")
    without = Api(Site(guest(101, "pve1", agent=False)))
    assert without.refusal("POST", "/nodes/pve1/qemu/101/agent/ping") == (500, "No QEMU guest agent configured")
    assert "agent" not in without("GET", "/nodes/pve1/qemu/101/config")


def test_pve_8_has_groups_and_no_rules(eight: Api) -> None:
    """Rules and disarming are not implemented in 8.4; groups are shown, made and removed."""
    assert eight.refusal("GET", "/cluster/ha/rules")[0] == 501
    assert eight.refusal("POST", "/cluster/ha/status/arm-ha")[0] == 501
    (shown,) = eight("GET", "/cluster/ha/groups")
    assert {key: shown[key] for key in shown.keys() - {"digest"}} == {
        "group": "east",
        "type": "group",
        "nodes": "pve1:2,pve2",
        "nofailback": 1,
    }
    assert eight.refusal("DELETE", "/cluster/ha/groups/east") == (500, "ha group is used by service 'vm:101'")
    eight("POST", "/cluster/ha/groups", group="west", nodes="pve3", restricted="1")
    eight("PUT", "/cluster/ha/resources/vm:101", group="west")
    eight("DELETE", "/cluster/ha/groups/east")
    assert [group["group"] for group in eight("GET", "/cluster/ha/groups")] == ["west"]
    assert eight.refusal("PUT", "/cluster/ha/resources/vm:101", group="none")[1] == "HA group 'none' does not exist"
    assert eight("POST", "/cluster/ha/resources/vm:102/migrate", node="pve1") is None


def test_status_of_pve_8(eight: Api) -> None:
    """No entry `fencing`, no watchdog in an LRM's text, no failback; the group is shown."""
    entries = eight("GET", "/cluster/ha/status/current")
    assert [entry["type"] for entry in entries] == ["quorum", "master", *["lrm"] * 3, *["service"] * 2]
    assert entries[2]["status"].startswith("pve1 (active, Fri Jan")
    assert "failback" not in entries[5]
    assert entries[5]["group"] == "east"


def test_rules_wait_for_the_migration_of_groups() -> None:
    """Before a PVE 9 has made rules of its groups it takes no rules."""
    api = Api(Site(guest(101, "pve1", group="east"), groups=GROUPS))
    api.world.pmxcfs.store.groups["late"] = {"group": "late", "type": "group", "nodes": "pve1"}
    said = api.refusal("POST", "/cluster/ha/rules", rule="a", type="node-affinity", resources="vm:101", nodes="pve1")
    assert said == (500, "cannot create ha rule: ha groups have not been migrated yet")


@pytest.fixture
def poor() -> Api:
    """A site whose token may look, and hardly act."""
    lacks = ["Sys.Console", "Sys.PowerMgmt", "VM.PowerMgmt"]
    lacks += ["VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted", "VM.Monitor"]
    return Api(Site(guest(101, "pve1"), token_lacks=lacks))


@pytest.mark.parametrize(
    ("method", "path", "text"),
    [
        ("POST", "/cluster/ha/resources/vm:101/migrate", "/, Sys.Console"),
        ("POST", "/nodes/pve1/status", "/nodes/pve1, Sys.PowerMgmt"),
        ("POST", "/nodes/pve1/qemu/101/status/stop", "/vms/101, VM.PowerMgmt"),
        (
            "POST",
            "/nodes/pve1/qemu/101/agent/ping",
            "/vms/101, VM.GuestAgent.Audit|VM.GuestAgent.Unrestricted|VM.Monitor",
        ),
    ],
)
def test_a_token_without_the_privilege(poor: Api, method: str, path: str, text: str) -> None:
    """What needs a privilege that the token lacks is refused with 403, path and privilege named."""
    assert poor.refusal(method, path) == (403, f"Permission check failed ({text})")


def test_lists_shrink_without_the_privilege() -> None:
    """Without VM.Audit guests are not in the lists, without Sys.Audit the options are next to nothing."""
    api = Api(Site(guest(101, "pve1"), token_lacks=["VM.Audit", "Sys.Audit"]))
    assert api("GET", "/cluster/resources", type="vm") == []
    assert api("GET", "/nodes/pve1/qemu") == []
    assert api("GET", "/cluster/options") == {"allowed-tags": []}
    assert api.refusal("GET", "/cluster/status") == (403, "Permission check failed (/, Sys.Audit)")
