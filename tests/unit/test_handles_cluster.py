"""What the API tells of the cluster, read from captured replies (PVE 9.1.9) and from what other versions answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.ceph import Ceph
from pytest_pveha.handles.cluster import Cluster, GuestRow
from pytest_pveha.wire.pve_api import PveApi, Reply

MIGRATED = ProtocolError("n1 answered: 500 cannot index groups: ha groups have been migrated to rules", status=500)
ABSENT = ProtocolError("n1 answered: 501 Method 'GET /cluster/ha/rules' not implemented", status=501)
FENCING = {"type": "fencing", "status": "armed (CRM watchdog active)", "armed-state": "armed"}
LRM = {"type": "lrm", "status": "n1 (active, watchdog active, Sun Nov 22 07:49:56 2026)"}
OLD_LRM = {"type": "lrm", "status": "n1 (active, Sun Nov 22 07:49:56 2026)"}
RULE = {
    "digest": "0d158862ecec74a9e0d67f0da660f6b8b66cbd8a", "nodes": "n1:1,n2:2", "order": 1, "resources": "vm:101",
    "rule": "pin101", "type": "node-affinity",
}  # fmt: skip
RESOURCES = [{"digest": "8c7d", "max_relocate": 1, "sid": "vm:101", "state": "started", "type": "vm"}]


class Api:
    """Answers each path with what it was given; an error is raised."""

    def __init__(self, answers: Mapping[str, Any], endpoint: str = "n1") -> None:
        self._answers = answers
        self._endpoint = endpoint

    def get(self, path: str, /, **_: Any) -> Reply:
        now = LiveClock().now()
        value = self._answers[path]
        if isinstance(value, Exception):
            raise value
        return Reply(value, self._endpoint, now, now)


def cluster(**answers: Any) -> Cluster:
    return Cluster(cast("PveApi", Api({f"/cluster/{path.replace('__', '/')}": answers[path] for path in answers})))


def soon() -> Any:
    return LiveClock().deadline(5)


def rules(**answers: Any) -> Any:
    return cluster(**{"ha__resources": RESOURCES, "ha__rules": [], "ha__groups": MIGRATED, **answers}).ha_rules(soon())


def test_rules_and_groups_by_version() -> None:
    """PVE 9 has rules and no groups, PVE 8 the other way round; what is no configuration is left out."""
    nine = rules(ha__rules=[RULE])
    assert nine.groups is None
    assert nine.rules == {"pin101": {"nodes": "n1:1,n2:2", "resources": "vm:101", "type": "node-affinity"}}
    assert nine.resources == {"vm:101": {"max_relocate": "1", "state": "started", "type": "vm"}}
    eight = rules(ha__rules=ABSENT, ha__groups=[{"group": "g", "nodes": "n2", "type": "group"}])
    assert (eight.rules, eight.groups) == (None, {"g": {"nodes": "n2", "type": "group"}})


def test_another_error_is_not_taken_for_absence() -> None:
    """A server that fails has not said that there are no rules."""
    with pytest.raises(ProtocolError, match="got timeout"):
        rules(ha__rules=ProtocolError("n1 answered: 500 got timeout", status=500))


def test_only_strict_rules_bind() -> None:
    """A preference is no limit; a strict rule and a restricted group are, unless disabled."""
    assert rules(ha__rules=[RULE]).candidates() == {}
    assert rules(ha__rules=[{**RULE, "strict": 1}]).candidates() == {"vm:101": frozenset({"n1", "n2"})}
    assert rules(ha__rules=[{**RULE, "strict": 1, "disable": 1}]).candidates() == {}
    grouped = [{**RESOURCES[0], "group": "g"}]
    group = {"group": "g", "nodes": "n2:3", "restricted": 1}
    eight = rules(ha__rules=ABSENT, ha__groups=[group], ha__resources=grouped)
    assert eight.candidates() == {"vm:101": frozenset({"n2"})}


@pytest.mark.parametrize(
    ("rows", "armed"),
    [
        ([LRM, FENCING], True),
        ([LRM, {**FENCING, "armed-state": "standby"}], True),
        ([LRM, {**FENCING, "armed-state": "disarming"}], False),
        ([LRM, {**FENCING, "armed-state": "disarmed"}], False),
        ([LRM], None),  # no master, so nobody says
        ([OLD_LRM], True),  # before it could be disarmed
        ([], None),
    ],
)
def test_armed_disarmed_or_not_known(rows: list[dict[str, Any]], armed: bool | None) -> None:
    """Where the version should say it and does not, it is not known; older versions are always armed."""
    assert cluster(ha__status__current=rows).armed(soon()) is armed


def test_what_our_token_may() -> None:
    """A privilege that is not passed on is one all the same, and a path with none has none."""
    api = Api({"/access/permissions": {"/vms/101": {"VM.Audit": 1, "VM.PowerMgmt": 0, "VM.Clone": None}}})
    found = Cluster(cast("PveApi", api))
    assert found.privileges("/vms/101", soon()) == {"VM.Audit": True, "VM.PowerMgmt": False}
    assert found.privileges("/", soon()) == {}


def test_who_answers_and_who_is_in_maintenance() -> None:
    """The node that answered is the one it calls local; a request for maintenance counts before it is followed."""
    rows = [
        {"type": "cluster", "name": "c", "quorate": 1},
        {"type": "node", "name": "n1", "online": 1, "local": 0},
        {"type": "node", "name": "n2", "online": 1, "local": 1},
    ]
    api = Api({"/cluster/status": rows}, endpoint="n2")
    assert Cluster(cast("PveApi", api)).membership(soon()).local == "n2"
    status = {
        "quorum": {"node": "n1", "quorate": "1"},
        "manager_status": {
            "timestamp": 1795335000,
            "node_status": {"n1": "online", "n2": "maintenance"},
            "node_request": {"n3": {"maintenance": 1}},
        },
        "lrm_status": {"n4": {"mode": "maintenance", "state": "maintenance", "timestamp": 1}},
    }
    manager = cluster(ha__status__manager_status=status).manager(soon())
    assert manager.maintenance == {"n2", "n3", "n4"}


def test_locks_templates_and_identities() -> None:
    """What holds a guest, whether it is a template, and what its machine can be told by."""
    rows = [{"type": "qemu", "vmid": 101, "node": "n1", "status": "running", "lock": "backup", "template": 1}]
    row = cluster(resources=rows).guests(soon())["vm:101"]
    assert (row.lock, row.template) == ("backup", True)
    config = {
        "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
        "smbios1": "uuid=AABBCCDD-0000-4000-8000-000000000001,base64=1",
        "name": "net0=BC:24:11:00:00:02",
    }
    api = Cluster(cast("PveApi", Api({"/nodes/n1/qemu/101/config": config})))
    guests = {"vm:101": GuestRow("vm:101", "", "n1", "running", None, 1)}
    assert api.guest_identities(soon(), guests) == {
        "bc:24:11:00:00:01": "vm:101",
        "aabbccdd-0000-4000-8000-000000000001": "vm:101",
    }


def test_cephs_daemons_by_node() -> None:
    """OSDs are found below their host whatever lies between; a mon on its host, or where its name says."""
    osd = {"type": "osd", "name": "osd.0", "id": "0"}
    host = {"type": "host", "name": "n1", "children": [osd, {**osd, "id": 3}]}
    tree = {"root": {"children": [{"type": "root", "name": "default", "children": [
        {"type": "rack", "name": "r1", "children": [host]}, {"type": "host", "name": "n2", "children": []},
    ]}]}}  # fmt: skip
    mons = [{"name": "n1"}, {"name": "b", "host": "n2"}]
    answers = {"/nodes/n3/ceph/osd": tree, "/nodes/n3/ceph/mon": mons}
    found = Ceph(cast("PveApi", Api(answers))).daemons("n3", soon())
    assert (found.osds, found.mons) == ({"n1": (0, 3)}, {"n1": ("n1",), "n2": ("b",)})
    flags = [{"name": "noout", "value": 1}, {"name": "noin", "value": 0}]
    assert Ceph(cast("PveApi", Api({"/cluster/ceph/flags": flags}))).flags(soon()) == {"noout"}
    for path in ("/nodes/n3/ceph/osd", "/nodes/n3/ceph/mon"):
        with pytest.raises(ProtocolError, match=rf"^GET {path}.* expected "):
            Ceph(cast("PveApi", Api({**answers, path: None}))).daemons("n3", soon())
