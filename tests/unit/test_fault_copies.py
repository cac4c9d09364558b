"""A copy of a guest: what is refused, what keeps it apart, what is ours to take away, and what a node is told to do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import PreflightRefused, Unreachable
from pytest_pveha.faults.copies import GuestRestored
from pytest_pveha.handles.copies import TaskState, dead_man
from pytest_pveha.handles.isolation import addresses, hazards, isolated, open_links
from pytest_pveha.observe.observer import Observer

TAG = "pveha-0a1b2c3d-guest-restored-1"
FAULT = GuestRestored(
    "vm:101",
    "vm:9000",
    "n1",
    "lvm",
    "pbs1:backup/vm/101/2026-01-02T02:00:00Z",
    1 << 33,
    1 << 31,
    TAG,
    "u@pve!t",
    100,
    (),
)
RUNNING, ENDED = TaskState("UPID:n1:1", 120, ""), TaskState("UPID:n1:1", 120, "OK")
STUB = {"memory": "128", "lock": "create", "digest": "0"}
OURS = {"memory": "2048", "name": "shop", "tags": f"old;{TAG}", "net0": "virtio=BC:24:11:00:00:01,link_down=1"}
FOREIGN = {"memory": "2048", "name": "mail", "tags": "gold"}


@dataclass
class Copies:
    """What the API says of the number, and what it was told to do."""

    there: dict[str, str] | None = None
    tasks: tuple[TaskState, ...] = ()
    number_free: bool = True
    silent: bool = False
    told: list[str] = field(default_factory=list)

    def settings(self, *_: Any) -> dict[str, str] | None:
        if self.silent:
            raise Unreachable("no API endpoint answered")
        return self.there

    def restores(self, *_: Any) -> tuple[TaskState, ...]:
        return self.tasks

    def free(self, *_: Any) -> bool:
        return self.number_free

    def stop_task(self, *_: Any) -> None:
        self.told.append("stop task")
        self.tasks = tuple(replace(task, ended="interrupted by signal") for task in self.tasks)

    def unlock(self, *_: Any) -> None:
        self.told.append("unlock")
        assert self.there is not None
        self.there = {key: value for key, value in self.there.items() if key != "lock"}

    def destroy(self, *_: Any) -> None:
        self.told.append("destroy")
        self.there = None


def observer(copies: Copies, disks: dict[str, int] | None = None) -> Observer:
    """Eyes on a site of one node, on which no guest runs."""
    clock = LiveClock()
    node = SimpleNamespace(processes=lambda deadline: SimpleNamespace(ages={}))
    backups = SimpleNamespace(disks=lambda *_: disks or {})
    quick = SimpleNamespace(deadline=clock.deadline, sleep=lambda seconds: None)
    return cast(
        "Observer",
        SimpleNamespace(site=SimpleNamespace(clock=quick, copies=copies, backups=backups, nodes={"n1": node})),
    )


@pytest.mark.parametrize(
    ("copies", "said"),
    [
        (Copies(there=FOREIGN), "vm:9000 is there by now; look again"),
        (Copies(number_free=False), "vm:9000 is there by now; look again"),
        (Copies(silent=True), "whether vm:9000 is free cannot be told.*no API endpoint"),
    ],
)
def test_a_number_that_is_taken_is_refused(copies: Copies, said: str) -> None:
    """Also where that cannot be told; a free one is not."""
    with pytest.raises(PreflightRefused, match=said):
        FAULT.preflight(observer(copies))
    FAULT.preflight(observer(Copies()))


@pytest.mark.parametrize(
    ("there", "restored", "ours"),
    [
        (OURS, True, True),
        (OURS, False, False),  # our tag, and no restore of ours: somebody else's clone of it
        (STUB, True, True),
        (STUB, False, False),  # somebody else's restore
        ({"memory": "128", "digest": "0"}, True, True),  # what a failed restore of ours left
        (FOREIGN, True, False),
        ({**FOREIGN, "tags": f"{TAG}0"}, True, False),
    ],
)
def test_only_what_is_ours_is_taken_away(there: dict[str, str], restored: bool, ours: bool) -> None:
    """Our tag, or a mere stub, and the restore's task: both, or it is left alone."""
    copies = Copies(dict(there), (ENDED,) if restored else ())
    assert FAULT.owns(there, restored=restored) is ours
    FAULT.heal(observer(copies))
    assert ("destroy" in copies.told) is ours
    assert FAULT.healed(observer(copies)).verdict == "yes"


def test_a_restore_under_way_is_ended_first() -> None:
    """Stopped, unlocked, destroyed, in this order; and again there is nothing to do."""
    copies = Copies(dict(STUB), (RUNNING,))
    assert FAULT.healed(observer(copies)).verdict == "no"
    FAULT.heal(observer(copies))
    assert copies.told == ["stop task", "unlock", "destroy"]
    FAULT.heal(observer(copies))
    assert copies.told == ["stop task", "unlock", "destroy"]


def test_a_heal_without_an_inject_touches_nothing() -> None:
    """Nothing there, nothing asked."""
    copies = Copies()
    FAULT.heal(observer(copies))
    assert copies.told == []
    assert FAULT.healed(observer(copies)).verdict == "yes"


def test_a_disk_that_stays_is_not_healed() -> None:
    """The number is gone, and a volume of it is not."""
    answer = FAULT.healed(observer(Copies(tasks=(ENDED,)), {"lvm:vm-9000-disk-0": 1}))
    assert (answer.verdict, "lvm:vm-9000-disk-0" in answer.saw) == ("no", True)


def test_a_copys_links_are_down_and_its_addresses_gone() -> None:
    """Bridge and VLAN stay; the address, rates and a link that was up do not; it starts with no boot, under our tag."""
    backed_up = {
        "name": "shop", "net0": "virtio=BC:24:11:00:00:65,bridge=vmbr0,firewall=1,tag=7", "onboot": "1",
        "net1": "e1000=BC:24:11:00:00:66,bridge=vmbr1,link_down=0,rate=5",
    }  # fmt: skip
    made = isolated(backed_up, TAG)
    assert made["net0"] == "virtio,bridge=vmbr0,tag=7,link_down=1"
    assert made["net1"] == "e1000,bridge=vmbr1,link_down=1"
    assert (made["onboot"], made["tags"], made["name"]) == ("0", TAG, TAG)
    container = isolated({"hostname": "wiki", "net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:67,ip=dhcp"}, TAG)
    assert container["net0"] == "name=eth0,bridge=vmbr0,ip=dhcp,link_down=1"
    assert container["hostname"] == TAG
    assert "name" not in container
    assert open_links({**backed_up, **made}) == []
    assert open_links(backed_up) == ["net0", "net1"]
    assert addresses(backed_up) == {"bc:24:11:00:00:65", "bc:24:11:00:00:66"}


def test_what_reaches_beyond_a_guest_is_known() -> None:
    """Devices, folders, scripts and sockets of the host; a volume of its own and its own serial socket are none."""
    settings = dict.fromkeys(
        ("args", "hookscript", "hostpci0", "usb1", "virtiofs0", "parallel0", "dev0", "lxc.cgroup2.devices.allow"), "x"
    )
    mounts = {"mp0": "/srv/data,mp=/data", "mp1": "lvm:vm-103-disk-1,mp=/var", "mp2": "/dev/sdb1,mp=/disk"}
    serials = {"serial0": "socket", "serial1": "/dev/ttyS0"}
    assert hazards({**settings, **mounts, **serials, "scsi0": "lvm:x", "net0": "virtio"}) == sorted(
        [*settings, "mp0", "mp2", "serial1"]
    )


@pytest.mark.parametrize(("sid", "tool", "restore"), [("vm:9000", "qm", "qmrestore"), ("ct:9000", "pct", "vzrestore")])
def test_a_node_asks_for_tag_and_task(sid: str, tool: str, restore: str) -> None:
    """No line destroys anything before it has seen our restore's task, and either its lock or our tag."""
    lines = dead_man(sid, "n1", TAG, "u@pve!t", 100)
    destroying = [line for line in lines if "destroy" in line]
    assert destroying
    for line in destroying:
        before = line.partition(f"{tool} destroy 9000")[0]
        assert f"grep -q {restore}" in before
        assert "--userfilter 'u@pve!t' --since 100" in before
        assert "lock: create" in before or TAG in before
