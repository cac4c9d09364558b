"""What nodes say of their storages, drives and replicas, read as it is meant; and what is judged from it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import Inconclusive, PreflightRefused, ProtocolError
from pytest_pveha.faults.fault import Reach
from pytest_pveha.faults.interlock import objections
from pytest_pveha.faults.objections.state import State
from pytest_pveha.faults.storage import StorageCut
from pytest_pveha.handles import replication, storages
from pytest_pveha.handles.cluster import Totem
from pytest_pveha.handles.drives import hardware
from pytest_pveha.handles.storages import Mount, Storages
from pytest_pveha.judge.facts import Fault, Run, Seen, TestFacts
from pytest_pveha.judge.storage import failed_requests, ha_acts, lost_span, older_than_told, restarts

S = 1_000_000_000
NFS = (
    "10.9.7.7:/export/vm\\040disks /mnt/pve/vault nfs4 "
    "rw,relatime,vers=4.2,{how},proto=tcp,timeo={timeo},retrans={retrans},sec=sys,addr=10.9.7.7 0 0"
)


def mount(**options: object) -> Mount:
    """The one mount of a /proc/mounts."""
    (found,) = storages.mounts(NFS.format(**{"how": "hard", "timeo": 600, "retrans": 2, **options}) + "\n")
    return found


def test_a_mount_is_read_whole() -> None:
    """Source, target and options, blanks in names too."""
    found = mount()
    assert (found.source, found.target, found.type) == ("10.9.7.7:/export/vm disks", "/mnt/pve/vault", "nfs4")
    assert (found.option("addr"), found.option("rw"), found.option("port")) == ("10.9.7.7", "", None)


@pytest.mark.parametrize(
    ("how", "timeo", "retrans", "seconds"),
    [("hard", 600, 2, None), ("soft", 600, 2, 180.0), ("softerr", 50, 0, 5.0), ("softreval", 10, 1, None)],
)
def test_how_long_a_mount_waits(how: str, timeo: int, retrans: int, seconds: float | None) -> None:
    """A hard mount never fails; a soft one after a major timeout."""
    assert storages.nfs_patience(mount(how=how, timeo=timeo, retrans=retrans))[0] == seconds


def test_a_soft_mount_that_does_not_say_is_no_answer() -> None:
    """Without its numbers it cannot be told when it fails, so nothing is cut."""
    with pytest.raises(ProtocolError, match="says no timeo and retrans"):
        storages.nfs_patience(mount(how="soft", timeo="x"))


def test_sessions_are_read() -> None:
    """As iscsiadm lists them, with addresses of both families."""
    text = (
        "tcp: [1] 192.168.122.252:3260,1 iqn.2003-01.org.linux-iscsi:sn.1 (non-flash)\n"
        "tcp: [12] [fd00::7]:3261,2 iqn.2003-01.org.linux-iscsi:sn.2 (non-flash)\n"
    )
    assert storages.sessions(text) == [
        (1, "192.168.122.252", 3260, "iqn.2003-01.org.linux-iscsi:sn.1"),
        (12, "fd00::7", 3261, "iqn.2003-01.org.linux-iscsi:sn.2"),
    ]
    assert storages.sessions("iscsiadm: No active sessions.\n") == []


@pytest.mark.parametrize(("text", "seconds"), [("120", 120.0), ("0", 0.0), ("-1", None), ("off", None)])
def test_how_long_a_session_waits(text: str, seconds: float | None) -> None:
    """0 fails at once; less waits for ever."""
    assert storages.iscsi_patience(text, "here")[0] == seconds


def test_a_session_that_says_nonsense_is_no_answer() -> None:
    """Neither is an empty file."""
    for text in ("", "soon", "12.5"):
        with pytest.raises(ProtocolError, match="expected a number of seconds"):
            storages.iscsi_patience(text, "here")


class Api:
    """Answers whatever is asked with one value."""

    endpoints = ()

    def __init__(self, value: Any) -> None:
        self._value = value

    def get(self, path: str, **_: Any) -> Any:
        return type("Reply", (), {"value": self._value})


def test_storages_as_configured() -> None:
    """Lists are sets, absent keys are plain, and LVM says what it lies on."""
    rows = [
        {"storage": "san", "type": "iscsi", "portal": "10.9.7.8", "target": "iqn.x", "content": "none", "shared": 1},
        {"storage": "lun", "type": "lvm", "base": "san:0.0.0.scsi-1", "content": "rootdir,images", "nodes": "a,b"},
    ]
    found = Storages(cast("Any", Api(rows))).defined(LiveClock().deadline(5))
    assert (found["san"].server, found["san"].shared) == ("10.9.7.8", True)
    assert (found["lun"].base, found["lun"].on("a"), found["lun"].on("c")) == ("san", True, False)


LISTED = """\
Volid                        Format  Type            Size VMID
shared:102/vm-102-disk-0.raw raw     images    1073741824 102
"""
"""``pvesm list shared`` on PVE 9.2; without anything on it the first line alone, cut to shorter columns."""


class Node:
    """Answers every command with one text."""

    def __init__(self, said: str) -> None:
        self._said = said

    def command(self, deadline: Any, *words: str) -> str:
        return self._said


@pytest.mark.parametrize(
    ("said", "found"), [(LISTED, {"shared:102/vm-102-disk-0.raw"}), ("Volid Format  Type      Size VMID\n", set())]
)
def test_what_a_node_finds_on_a_storage(said: str, found: set[str]) -> None:
    """The volumes' names; of a directory that is another one there, none."""
    storage = storages.Defined("shared", "dir", True, frozenset({"images"}))
    assert storage.shared_by_word
    assert storages.volumes(cast("Any", Node(said)), storage, LiveClock().deadline(5)) == found


def test_a_storage_that_a_node_is_not_given_is_listed_and_not_active() -> None:
    """As PVE 9.2 tells it on such a node, enabled 0 beside it."""
    row = {"active": 0, "avail": 0, "content": "images", "enabled": 0, "shared": 1, "storage": "shared", "total": 0}
    found = Storages(cast("Any", Api([{**row, "type": "dir", "used": 0}]))).found("n3", LiveClock().deadline(5))
    assert (found["shared"].active, found["shared"].enabled) == (False, False)


def test_a_storage_that_does_not_say_is_not_active() -> None:
    """PVE leaves out what it could not find out."""
    found = Storages(cast("Any", Api([{"storage": "x", "type": "nfs"}]))).found("n", LiveClock().deadline(5))
    assert not found["x"].active


def test_what_a_guest_needs_of_its_node() -> None:
    """Disks, media and devices; an empty drive, a mapped device and a network card are none."""
    found = hardware(
        {
            "scsi0": "vault:101/vm-101-disk-0.qcow2,size=8G",
            "scsi1": "local-zfs:vm-101-disk-1,replicate=0,size=4G",
            "ide2": "local:iso/debian.iso,media=cdrom,size=783M",
            "ide3": "none,media=cdrom",
            "efidisk0": "file=vault:101/vm-101-disk-2.raw,size=1M",
            "virtio0": "/dev/disk/by-id/ata-1",
            "hostpci0": "0000:3b:00.0,pcie=1",
            "hostpci1": "mapping=gpu,pcie=1",
            "usb0": "spice",
            "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
            "scsihw": "virtio-scsi-single",
        }
    )
    told = {one.key: (one.storage, one.medium, one.replicated) for one in found.drives}
    assert told == {
        "scsi0": ("vault", False, True),
        "scsi1": ("local-zfs", False, False),
        "ide2": ("local", True, True),
        "efidisk0": ("vault", False, True),
        "virtio0": ("", False, True),
    }
    assert found.devices == ("hostpci0: 0000:3b:00.0",)


def test_snapshots_of_replication_are_read() -> None:
    """By guest, job and moment; other snapshots are nobody's business. Of each volume the newest counts."""
    text = (
        "rpool/data/vm-101-disk-0@__replicate_101-0_1767340800__\t1767340801\n"
        "rpool/data/vm-101-disk-0@__replicate_101-0_1767341700__\t1767341701\n"
        "rpool/data/vm-101-disk-0@before-update\t1767341702\n"
        "rpool/data/subvol-1101-disk-0@__replicate_1101-0_1767340800__\t1767340800\n"
    )
    found = replication.parsed(text)
    assert [(one.vmid, one.job, one.epoch) for one in found][2] == (1101, "1101-0", 1767340800)
    assert [one.created for one in replication.newest(found, 101).values()] == [1767341701]
    assert replication.newest(found, 1) == {}


def cut(gives_up: float | None, undone_by: float = 47.0) -> StorageCut:
    """A cut of half a minute."""
    return StorageCut(
        "t", ("n1",), "vault", (("10.9.7.7", 2049),), ("vm:1",), 30.0, undone_by, gives_up, "n1 fails requests"
    )


def test_a_cut_ends_before_the_first_request_fails() -> None:
    """With its margin; and a node that never fails may be kept waiting."""
    for patience in (None, 52.1, 120.0):
        cut(patience)._check_patience()
    with pytest.raises(PreflightRefused, match=r"after 47 s \+ 5 s of margin = 52 s is not below 52 s"):
        cut(52.0)._check_patience()


def test_guests_that_nobody_named_are_not_kept_waiting() -> None:
    """The interlock refuses a cut that would hang the writes of a guest that is nobody's, or never to be touched."""
    state = State({}, {}, frozenset(), quorate=True, armed=True, totem=Totem(1.0), permitted=frozenset({"vm:1"}))
    said = objections(state, Reach(frozenset(), costs_membership=False, hung=frozenset({"vm:1", "vm:2"})))
    assert [text for text in said if "the writes of vm:2 would hang" in text]
    never = State({}, {}, frozenset(), quorate=True, armed=True, totem=Totem(1.0), never_touch=frozenset({"vm:1"}))
    said = objections(never, Reach(frozenset(), costs_membership=False, hung=frozenset({"vm:1"})))
    assert [text for text in said if "never_touch: vm:1 would be reached" in text]


# --- judged ----------------------------------------------------------------------------------------------------------


def facts(*seen: Seen, watched: bool = True) -> TestFacts:
    """A test whose fault took effect between 100 and 101 s, and was healed at 200 s."""
    fault = Fault("f", "PowerCut", {}, "t", before=100 * S, effect="yes", effect_low=100 * S, effect_high=101 * S)
    fault.healed_at = 200 * S
    test = TestFacts("t", faults=[fault], seen=list(seen))
    if watched:
        run = Run("inside:n1", "node:n1:inside", "good", "", 1, 300 * S, 2, 301 * S, 150, 2 * S)
        test.runs.append(run)
    return test


def seen(what: str, new: str, low: float, high: float, old: str | None = None) -> Seen:
    """A line of the journal."""
    return Seen(what, old, new, round(low * S), round(high * S), "test")


def test_the_lost_span_has_the_bounds_of_both_its_ends() -> None:
    """From the copy's data, whole seconds and a clock's error, until the fault; before the journal's begin, too."""
    found = lost_span(facts(seen("replica/vm:1@n2", "1000", -50.2, -48.8, "1000")), "vm:1", {})
    assert (found.low, found.high) == (148.8, 151.2)


def test_a_copy_that_nobody_saw_has_no_age() -> None:
    """No observation is no small loss."""
    with pytest.raises(Inconclusive, match="what vm:1 started from was not seen"):
        lost_span(facts(), "vm:1", {})


@pytest.mark.parametrize(
    ("told", "lies", "late"), [("1000", "1000", 0.0), ("1000", "400", 600.0), ("400", "1000", 0.0)]
)
def test_how_much_older_a_copy_is_than_its_job_said(told: str, lies: str, late: float) -> None:
    """A newer one is as good as told."""
    found = older_than_told(facts(seen("replica/vm:1@n2", lies, 1, 2, told)), "vm:1", {})
    assert (found.low, found.high) == (late, late)


def test_a_job_that_never_said_leaves_it_open() -> None:
    """0 is no moment."""
    with pytest.raises(Inconclusive, match="its job did not say"):
        older_than_told(facts(seen("replica/vm:1@n2", "1000", 1, 2, "0")), "vm:1", {})


def test_failed_requests_are_counted_from_before_to_after() -> None:
    """What failed before the fault is not its doing; a count that began anew says nothing."""
    before, after = seen("failed_requests/vm:1", "2", 90, 91), seen("failed_requests/vm:1", "5", 210, 211)
    found = failed_requests(facts(before, after), "vm:1", {})
    assert (found.low, found.high) == (3, 3)
    for rows in ([before], [after], [before, seen("failed_requests/vm:1", "0", 210, 211)]):
        with pytest.raises(Inconclusive):
            failed_requests(facts(*rows), "vm:1", {})


def test_what_nobody_watched_did_not_stay_still() -> None:
    """Restarts and acts of HA are counted since the fault, and only where every node was asked after the heal."""
    nodes = {"nodes": ["n1"]}
    began = seen("process_start/vm:1@n1", "started", 120, 121)
    early = seen("process_start/vm:1@n1", "started", 20, 21)
    moved = seen("service/vm:1", "started@n2", 120, 121, "started@n1")
    test = facts(began, early, moved)
    assert (restarts(test, "vm:1", nodes).low, ha_acts(test, "vm:1", nodes).low) == (1, 1)
    assert (restarts(facts(), "vm:1", nodes).high, ha_acts(facts(), "vm:1", nodes).high) == (0, 0)
    for measure in (restarts, ha_acts):
        with pytest.raises(Inconclusive, match="n1 was not asked itself after the heal"):
            measure(facts(watched=False), "vm:1", nodes)
