"""Replies that lie: whatever an endpoint answers, a handle gives a value of its type or a ProtocolError, never less."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from fuzzing import budget, deep, spoilt, tries
from hypothesis import given
from hypothesis import strategies as st

from pytest_pveha.clock import Instant, LiveClock
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.backups import Backups
from pytest_pveha.handles.ceph import Ceph
from pytest_pveha.handles.cluster import Cluster, GuestRow, Manager
from pytest_pveha.handles.copies import Copies
from pytest_pveha.handles.pbs import Pbs
from pytest_pveha.inventory.storage import Backup as BackupBlock
from pytest_pveha.wire.pve_api import PveApi, Reply

CLOCK = LiveClock()
NOW = CLOCK.now()
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "pve-9.1.9.json").read_text("utf-8"))
CEPH: dict[str, Any] = {
    "health": {"status": "HEALTH_WARN", "checks": {"OSD_DOWN": {"severity": "HEALTH_WARN"}}},
    "quorum_names": ["n1", "n2"],
    "monmap": {"mons": [{"name": "n1"}, {"name": "n2"}]},
    "osdmap": {"epoch": 12, "num_osds": 2, "num_up_osds": 1, "num_in_osds": 2},
    "pgmap": {"pgs_by_state": [{"state_name": "active+clean", "count": 96}]},
}
GUEST = GuestRow("vm:101", "svc1", "n1", "running", "started", 1)


RULES: list[dict[str, Any]] = [
    {
        "digest": "0d158862ecec74a9e0d67f0da660f6b8b66cbd8a", "nodes": "n1:1,n2:2", "order": 1, "resources": "vm:101",
        "rule": "pin101", "strict": 1, "type": "node-affinity", "errors": {"nodes": ["no such node"]},
    },
    {"affinity": "negative", "resources": "vm:101,vm:103", "rule": "apart", "type": "resource-affinity"},
]  # fmt: skip
GROUPS: list[dict[str, Any]] = [{"group": "g", "nodes": "n2:3,n1", "restricted": 1, "nofailback": 0, "type": "group"}]
OPTIONS: dict[str, Any] = {"ha": {"shutdown_policy": "migrate"}, "crs": "ha=static", "max_workers": 4, "keyboard": "de"}
FLAGS: list[dict[str, Any]] = [{"name": "noout", "value": 1}, {"name": "noin", "value": 0}, {"name": "pause"}]
OSDS: dict[str, Any] = {
    "root": {
        "children": [
            {
                "type": "root", "name": "default", "id": "-1",
                "children": [
                    {"type": "host", "name": "n1", "id": -3, "children": [{"type": "osd", "name": "osd.0", "id": "0"}]},
                    {"type": "host", "name": "n2", "id": -5, "children": []},
                ],
            }
        ]
    }
}  # fmt: skip
SNAPSHOTS: list[dict[str, Any]] = [
    {
        "backup-type": "vm", "backup-id": "101", "backup-time": 1767319200, "size": 8589934592,
        "owner": "pve@pbs!c",
        "protected": False, "files": [{"filename": "drive-scsi0.img.fidx", "crypt-mode": "none", "size": 85899346}],
        "verification": {"state": "ok", "upid": "UPID:pbs:00000A10:0000B000:00000000:69570F20:v:m:root@pam:"},
    },
    {"backup-type": "host", "backup-id": "nas", "backup-time": 1767319200, "files": []},
    {"backup-type": "ct", "backup-id": "102", "backup-time": 1767232800, "files": [], "fingerprint": "e9:04:5c"},
]  # fmt: skip
CONTENT: list[dict[str, Any]] = [
    {
        "volid": "pbs1:backup/vm/101/2026-01-02T02:00:00Z", "content": "backup", "ctime": 1767319200,
        "size": 8589934592, "vmid": 101, "verification": {"state": "ok", "upid": "UPID:pbs:0:0:0:0:verify::root@pam:"},
    },
    {"volid": "pbs1:backup/ct/102/2026-01-01T02:00:00Z", "ctime": "1767232800", "size": 1, "encrypted": "1"},
]  # fmt: skip
DISKS: list[dict[str, Any]] = [
    {"volid": "local-lvm:vm-9000-disk-0", "content": "images", "size": 8589934592, "vmid": 9000}
]
ROOM: dict[str, Any] = {"active": 1, "total": 536870912000, "used": "8589934592", "type": "lvmthin"}
STORAGES: list[dict[str, Any]] = [
    {"storage": "pbs1", "type": "pbs", "server": "192.0.2.7", "username": "pve@pbs!cluster"}
]
TASKS: list[dict[str, Any]] = [
    {"upid": "UPID:n1:0:0:0:qmrestore:9000:u@pve!t:", "type": "qmrestore", "id": "9000", "user": "u@pve!t",
     "starttime": 1767340900, "endtime": 1767341000, "status": "OK"},
    {"upid": "UPID:n1:0:0:1:qmrestore:9000:u@pve!t:", "type": "qmrestore", "id": 9000, "user": "u@pve!t",
     "starttime": 1767340950},
]  # fmt: skip
MONS: list[dict[str, Any]] = [{"name": "n1"}, {"name": "b", "host": "n2"}]


class Api:
    """Answers everything with the same value, but for paths that are given; remembers what was asked."""

    def __init__(self, value: Any, endpoint: str = "n2", **others: Any) -> None:
        self.value = value
        self.endpoint = endpoint
        self.others = others
        self.asked: list[str] = []

    def get(self, path: str, /, **_: Any) -> Reply:
        self.asked.append(path)
        value = self.others.get(path.rpartition("/")[2], self.value)
        return Reply(value, self.endpoint, NOW, NOW)

    post = get
    delete = get
    user = "u@pve!t"


def cluster(value: Any, endpoint: str = "n2") -> Cluster:
    return Cluster(cast("PveApi", Api(value, endpoint)))


def status(value: Any) -> Any:
    return Ceph(cast("PveApi", Api(value))).status(CLOCK.deadline(5))


def ruled(which: str) -> Callable[[Any], Any]:
    """Reads HA's configuration, one table of which is the value."""
    told = {"rules": RULES, "groups": GROUPS, "resources": RECORDED["cluster_ha_resources"]}
    del told[which]

    def read(value: Any) -> Any:
        rules = Cluster(cast("PveApi", Api(value, **told))).ha_rules(CLOCK.deadline(5))
        return rules, rules.candidates()

    return read


def daemons(value: Any, **other: Any) -> Any:
    return Ceph(cast("PveApi", Api(value, **other))).daemons("n3", CLOCK.deadline(5))


def backups(value: Any) -> Backups:
    return Backups(cast("PveApi", Api(value)), BackupBlock(storage="pbs1"))


def copies(value: Any) -> Copies:
    return Copies(cast("PveApi", Api(value)))


def pbs(value: Any) -> Pbs:
    return Pbs(cast("PveApi", Api(value)), "192.0.2.7", "main", "prod")


READS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "membership": (RECORDED["cluster_status"], lambda value: cluster(value).membership(CLOCK.deadline(5))),
    "manager": (RECORDED["cluster_ha_status_manager_status"], lambda value: cluster(value).manager(CLOCK.deadline(5))),
    "guests": (RECORDED["cluster_resources_type-vm"], lambda value: cluster(value).guests(CLOCK.deadline(5))),
    "resources": (RECORDED["cluster_ha_resources"], ruled("resources")),
    "rules": (RULES, ruled("rules")),
    "groups": (GROUPS, ruled("groups")),
    "options": (OPTIONS, lambda value: cluster(value).options(CLOCK.deadline(5), "ha", "crs", "max_workers", "none")),
    "guest_status": (
        {"status": "running", "qmpstatus": "paused"},
        lambda value: cluster(value).guest_status("vm:101", "n1", CLOCK.deadline(5)),
    ),
    "ring_addresses": (
        RECORDED["cluster_config_nodes"],
        lambda value: cluster(value).ring_addresses(CLOCK.deadline(5)),
    ),
    "memory": (RECORDED["cluster_resources_type-node"], lambda value: cluster(value).memory(CLOCK.deadline(5))),
    "votes": (RECORDED["cluster_config_nodes"], lambda value: cluster(value).votes(CLOCK.deadline(5))),
    "totem": (RECORDED["cluster_config_totem"], lambda value: cluster(value).totem(CLOCK.deadline(5), 3)),
    "armed": (RECORDED["cluster_ha_status_current"], lambda value: cluster(value).armed(CLOCK.deadline(5))),
    "qdevice": ({"State": "Connected"}, lambda value: cluster(value).qdevice_connected(CLOCK.deadline(5))),
    "tasks": (RECORDED["cluster_tasks"], lambda value: cluster(value).running_tasks(CLOCK.deadline(5))),
    "identities": (
        RECORDED["qemu_config"],
        lambda value: cluster(value).guest_identities(CLOCK.deadline(5), {GUEST.sid: GUEST}),
    ),
    "versions": (RECORDED["nodes_n1_version"], lambda value: cluster(value).versions(CLOCK.deadline(5), "n1")),
    "privileges": (
        {"/vms": {"VM.Audit": 1, "VM.PowerMgmt": 0}},
        lambda value: cluster(value).privileges("/vms", CLOCK.deadline(5)),
    ),
    "start": (
        "UPID:n1:0:0:0:qmstart:101:root@pam:",
        lambda value: cluster(value).start("vm:101", "n1", CLOCK.deadline(5)),
    ),
    "ceph": (CEPH, status),
    "flags": (FLAGS, lambda value: Ceph(cast("PveApi", Api(value))).flags(CLOCK.deadline(5))),
    "osds": (OSDS, lambda value: daemons(value, mon=MONS)),
    "mons": (MONS, lambda value: daemons(value, osd=OSDS)),
    "snapshots": (SNAPSHOTS, lambda value: pbs(value).snapshots(CLOCK.deadline(5), "vm:101")),
    "usage": ({"total": 4, "used": 1, "avail": 3}, lambda value: pbs(value).usage(CLOCK.deadline(5))),
    "pbs version": ({"version": "3.2", "release": "4"}, lambda value: pbs(value).version(CLOCK.deadline(5))),
    "content": (CONTENT, lambda value: backups(value).every("n1", CLOCK.deadline(5))),
    "disks": (DISKS, lambda value: backups(value).disks("local-lvm", "vm:9000", "n1", CLOCK.deadline(5))),
    "room": (ROOM, lambda value: backups(value).room("local-lvm", "n1", CLOCK.deadline(5))),
    "storage": (STORAGES, lambda value: backups(value).storage(CLOCK.deadline(5))),
    "config": (RECORDED["qemu_config"], lambda value: copies(value).settings("vm:9000", "n1", CLOCK.deadline(5))),
    "restores": (TASKS, lambda value: copies(value).restores("vm:9000", "n1", 1767340800.0, CLOCK.deadline(5))),
    "log": ([{"n": 1, "t": "progress 5%"}], lambda value: copies(value).log("UPID:x", "n1", CLOCK.deadline(5))),
    "destroy": (
        "UPID:n1:0:0:0:qmdestroy:9000:u@pve!t:",
        lambda value: copies(value).destroy("vm:9000", "n1", CLOCK.deadline(5)),
    ),
}


NAMED = [
    "membership", "guests", "resources", "rules", "groups", "memory", "votes", "ring_addresses", "flags", "ceph",
]  # fmt: skip
"""Replies whose rows are told apart by a name."""


def plain(value: Any) -> bool:
    """Whether a reading is made of what readings are made of: texts, yes and no, and numbers that count something."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type | Instant):
        return all(plain(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and plain(each) for key, each in value.items())
    if isinstance(value, tuple | frozenset):
        return all(plain(each) for each in value)
    if type(value) in (int, float):
        return bool(0 <= value < 1 << 63)
    return value is None or type(value) in (str, bool, Instant)


@pytest.mark.parametrize("name", READS)
def test_a_recorded_reply_is_read(name: str) -> None:
    """What a real control plane answered is read whole."""
    recorded, read = READS[name]
    assert plain(read(recorded))


@budget(150, 2500)
@pytest.mark.parametrize("name", READS)
def test_a_spoilt_reply_is_read_or_refused(name: str, examples: int) -> None:
    """A changed reply gives a value of its type, or a ProtocolError that names the request; nothing else."""
    recorded, read = READS[name]

    @tries(examples)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        value = spoilt(recorded, data.draw)
        try:
            good = plain(read(value))
        except ProtocolError as error:
            good = str(error).startswith(("GET /", "POST /", "DELETE /")) and len(str(error)) < 400
        assert good

    holds()


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize(
    "value", [None, "", "text", 7, -1, True, float("nan"), float("inf"), 10**400, [7], [[]], [None], deep(100_000)]
)
def test_another_type_is_refused(name: str, value: Any) -> None:
    """A list for an object, a number for a list, nothing at all, or nesting without end: a short ProtocolError."""
    _, read = READS[name]
    if name in ("start", "destroy") and isinstance(value, str):
        return
    with pytest.raises(ProtocolError, match=r"^(GET|POST|DELETE) /.*(expected|names no cluster)") as refused:
        read(value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("key", "value"),
    [("online", "yes"), ("online", None), ("online", 2), ("online", [1]), ("online", -1), ("name", None), ("name", {})],
)
def test_a_member_is_never_guessed(key: str, value: Any) -> None:
    """Whether a node is a member is 0 or 1; anything else is neither."""
    rows = [{**row, key: value} if row["id"] == "node/n3" else row for row in RECORDED["cluster_status"]]
    with pytest.raises(ProtocolError, match=rf"\[1\]: {key} is "):
        cluster(rows).membership(CLOCK.deadline(5))


@pytest.mark.parametrize(("said", "read"), [("1", True), ("", False), (0, False), ("true", True), ("false", False)])
def test_every_spelling_of_a_truth_is_read(said: Any, read: bool) -> None:
    """Numbers, texts and Perl's empty false mean what they mean."""
    value = {**RECORDED["cluster_ha_status_manager_status"], "quorum": {"quorate": said, "node": "n1"}}
    assert cluster(value).manager(CLOCK.deadline(5)).quorate is read


def test_another_node_at_the_address_is_told() -> None:
    """Where n2 answers at the address of n1 nothing is believed, for it would be taken for n1's own view."""
    with pytest.raises(ProtocolError, match="at the address of n1 another node answers, n2: addresses were exchanged"):
        cluster(RECORDED["cluster_status"], "n1").membership(CLOCK.deadline(5))
    assert cluster(RECORDED["cluster_status"], "192.0.2.9:8006").membership(CLOCK.deadline(5)).quorate


@pytest.mark.parametrize("name", NAMED)
def test_a_name_that_comes_twice_is_refused(name: str) -> None:
    """Of two rows for one name one would be lost unseen."""
    recorded, read = READS[name]
    doubled = [*recorded, recorded[-1]] if isinstance(recorded, list) else recorded
    if name == "ceph":
        doubled = {**CEPH, "pgmap": {"pgs_by_state": CEPH["pgmap"]["pgs_by_state"] * 2}}
    with pytest.raises(ProtocolError, match="is there twice"):
        read(doubled)


def test_two_clusters_or_none_are_refused() -> None:
    """A node that stands alone, or a reply of two clusters in one, is no membership."""
    nodes = [row for row in RECORDED["cluster_status"] if row["type"] == "node"]
    head = [row for row in RECORDED["cluster_status"] if row["type"] == "cluster"]
    for rows, said in ((nodes, "names no cluster"), (head * 2 + nodes, "names several clusters")):
        with pytest.raises(ProtocolError, match=said):
            cluster(rows).membership(CLOCK.deadline(5))


@pytest.mark.parametrize(
    ("ahead", "fresh"), [(0, True), (-30, True), (-31, False), (31, False), (3600 * 24 * 400, False)]
)
def test_a_stamp_from_the_future_is_not_fresh(ahead: int, fresh: bool) -> None:
    """A dead node whose clock was years ahead does not look alive."""
    value = json.loads(json.dumps(RECORDED["cluster_ha_status_manager_status"]))
    value["lrm_status"]["n1"]["timestamp"] = value["manager_status"]["timestamp"] + ahead
    found: Manager = cluster(value).manager(CLOCK.deadline(5))
    assert found.fresh("n1") is fresh
    assert not found.fresh("n9")


def test_a_status_without_an_age_is_refused() -> None:
    """A missing stamp is not the year 1970, in which every LRM would look fresh."""
    value = RECORDED["cluster_ha_status_manager_status"]
    for spoilt_value in (
        {**value, "manager_status": {**value["manager_status"], "timestamp": None}},
        {**value, "lrm_status": {"n1": {"state": "active", "mode": "active"}}},
    ):
        with pytest.raises(ProtocolError, match="timestamp is nothing"):
            cluster(spoilt_value).manager(CLOCK.deadline(5))


@pytest.mark.parametrize(
    "named", ["../../access/users", "n1/../n2", "n1?x=1", "n1#", "\x1b[31m", "..", "", "-n", "n1\n"]
)
def test_a_node_of_another_name_than_hosts_have_is_refused(named: str) -> None:
    """A node's name becomes part of a path, so it is a host name or nothing."""
    guests = [{**RECORDED["cluster_resources_type-vm"][0], "node": named}]
    members = [*RECORDED["cluster_status"], {"type": "node", "name": named, "online": 1}]
    for read in (
        lambda: cluster(guests).guests(CLOCK.deadline(5)),
        lambda: cluster(members).membership(CLOCK.deadline(5)),
    ):
        with pytest.raises(ProtocolError, match="expected a host name"):
            read()


def test_a_name_gets_no_further_than_its_segment() -> None:
    """Whoever names the node, a request stays where it belongs."""
    api = Api({})
    odd = dataclasses.replace(GUEST, node="../../access?x=1#")
    Cluster(cast("PveApi", api)).guest_identities(CLOCK.deadline(5), {odd.sid: odd})
    assert api.asked == ["/nodes/..%2F..%2Faccess%3Fx=1%23/qemu/101/config".replace("=", "%3D")]


def test_pves_own_mind_of_a_rule_is_no_setting() -> None:
    """What a rule is told to be is read; what PVE finds wrong in it, its digest and its place are not."""
    rules = ruled("rules")(RULES)[0].rules
    assert rules["pin101"] == {"nodes": "n1:1,n2:2", "resources": "vm:101", "strict": "1", "type": "node-affinity"}


def test_options_are_texts_or_parts() -> None:
    """Either of PVE's ways to write an option is read, and what is not set is left out."""
    read = READS["options"][1]
    assert read(OPTIONS) == {"ha": {"shutdown_policy": "migrate"}, "crs": "ha=static", "max_workers": "4"}
    with pytest.raises(ProtocolError, match="shutdown_policy is a list of 0, expected a text"):
        read({"ha": {"shutdown_policy": []}})


def test_a_tree_without_end_is_walked() -> None:
    """However deep a CRUSH tree is, an OSD in it is found."""
    tree: dict[str, Any] = {"type": "osd", "id": 7}
    for _ in range(5000):
        tree = {"type": "rack", "children": [tree]}
    assert daemons({"root": {"type": "host", "name": "n1", "children": [tree]}}, mon=[]).osds == {"n1": (7,)}


def test_a_message_is_fit_for_a_terminal() -> None:
    """What a reply says is spelled in the message, not let loose."""
    rows = [{"type": "cluster", "name": "c", "quorate": "\x1b[2J\u202e"}]
    with pytest.raises(ProtocolError) as refused:
        cluster(rows).membership(CLOCK.deadline(5))
    assert str(refused.value).isprintable()
