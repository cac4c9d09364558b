"""What stands before a fault beside the interlock: each refusal in the code has a run, or a test, that shows it."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import refusing
import whole_run
from refusing import Meanwhile, Wish, by_hand, cut, nothing, partition, raised_in, refused, typed, without_ssh

from pytest_pveha.embedded import start
from pytest_pveha.errors import PreflightRefused, SiteDirty, UnsafeTarget
from pytest_pveha.faults.crash import KernelCrash
from pytest_pveha.faults.fault import Fault
from pytest_pveha.faults.guest import BridgeDown, GuestKilled, GuestMoved
from pytest_pveha.faults.keeping import Keeping
from pytest_pveha.faults.maintenance import Maintenance
from pytest_pveha.faults.network import Partition, QdeviceLoss
from pytest_pveha.faults.peer import PowerCutByPeer
from pytest_pveha.faults.process import ServiceStopped
from pytest_pveha.faults.rooms import FeedCut, RoomCut, SwitchLoss
from pytest_pveha.faults.shutdown import CleanReboot
from pytest_pveha.faults.storage import StorageCut
from pytest_pveha.handles.guest import Guest, Nodes
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import load
from pytest_pveha.record.openings import open_runs

PACKAGE = whole_run.ROOT / "pytest_pveha"


def guest(site: Site, sid: str) -> Guest:
    """That guest of the inventory."""
    return next(each for each in site.guests if each.sid == sid)


# --- what somebody does meanwhile -------------------------------------------------------------------------------------


def stopped_unit(unit: str, *nodes: str) -> Meanwhile:
    """That daemon does not run on these nodes."""

    @contextmanager
    def stopped(site: Site) -> Iterator[None]:
        for node in nodes:
            typed(site, node, "systemctl", "stop", unit)
        yield
        for node in nodes:
            typed(site, node, "systemctl", "start", unit)

    return stopped


@contextmanager
def stopped_guest(site: Site) -> Iterator[None]:
    """Somebody has HA stop a guest, and start it again."""
    for state in ("stopped", "started"):
        site.cluster.request("vm:101", state, site.clock.deadline(10))
        site.clock.sleep(60)
        if state == "stopped":
            yield


@contextmanager
def switched_off(site: Site) -> Iterator[None]:
    """Somebody has switched an idle node off at its BMC, and switches it on again."""
    bmc = site.nodes["pve4"].bmc
    assert bmc is not None
    bmc.set_power("off", site.clock.deadline(20))
    site.clock.sleep(300)
    yield
    bmc.set_power("on", site.clock.deadline(20))
    site.clock.sleep(400)


@contextmanager
def another_controller(site: Site) -> Iterator[None]:
    """A run of another machine left something on the nodes; somebody heals it."""
    left = Keeping(site, "0a1b2c3d")
    left.begin({"site": "sim-3node", "host": "ops2"})
    yield
    left.clear()


# --- refused in a run -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A wish, and its refusal in words; ``*`` for what differs from run to run."""

    site: str
    where: str
    """The file that refuses."""
    wish: Wish
    words: str
    breaks: str = "power-cut"
    meanwhile: Meanwhile = nothing


@dataclass(frozen=True)
class Played:
    """A site, as far as it differs from the shipped one."""

    blocks: dict[str, Any] = field(default_factory=dict)
    simulator: dict[str, Any] = field(default_factory=dict)


SITES = {
    "plain": Played(
        {},
        {
            "bmcs": [{"node": "pve2", "state": "unreachable"}, {"node": "pve3", "identity": "wrong"}],
            "nodes": [{"name": "pve3", "missing_tools": ["nft", "iptables", "ip6tables"]}],
            "pdus": True,
        },
    ),
    "four": Played(
        {
            "nodes": {
                "pve1": {"room": "a"},
                "pve2": {"room": "b", "operator": {"who": "J. Doe"}},
                "pve3": {"room": "c"},
                "pve4": {"room": "d"},
            },
        },
        {"defects": ["bmc-unreachable-from-one-node"], "boot_seconds": 40, "pdus": True},
    ),
    "address taken": Played({}, {"defects": ["bmc-address-taken"]}),
    "late": Played({}, {"nodes": [{"name": "pve3", "clock": 5}]}),
    "no number": Played(
        {"backup": {"storage": "pbs1", "restore": {"ids": [107, 107], "storage": "local-lvm"}}},
        {"backup": {"guest": "vm:106"}},
    ),
    "a device": Played(
        {"backup": {"storage": "pbs1", "restore": {"ids": [9000, 9000], "storage": "local-lvm"}}},
        {"backup": {"config": {"hostpci0": "0000:01:00.0"}}, "token_lacks": ["Datastore.Allocate"]},
    ),
    "no leave": Played(
        {"backup": {"storage": "pbs1", "restore": {"ids": [9000, 9000], "storage": "local-lvm"}}},
        {"token_lacks": ["VM.Backup"]},
    ),
}


def crash(node: str) -> Wish:
    """That node's kernel."""
    return lambda faults, site: faults.kernel_crash(site.nodes[node])


def stop(node: str, unit: str) -> Wish:
    """That daemon."""
    return lambda faults, site: faults.service_stopped(site.nodes[node], unit)


def peer_cuts(node: str) -> Wish:
    """That node's power, by another node."""
    return lambda faults, site: faults.power_cut_by_peer(site.nodes[node])


def mains(node: str) -> Wish:
    """That node's outlets."""
    return lambda faults, site: faults.mains_cut(site.nodes[node])


def kill(sid: str) -> Wish:
    """That guest."""
    return lambda faults, site: faults.guest_killed(guest(site, sid))


def restored(sid: str, *, live: bool = False) -> Wish:
    """That guest, beside itself."""
    return lambda faults, site: faults.guest_restored(guest(site, sid), live=live)  # type: ignore[return-value]


def move(sid: str, node: str) -> Wish:
    """That guest, there."""
    return lambda faults, site: faults.guest_moved(guest(site, sid), site.nodes[node])


CARD = by_hand("pve1", ("ip", "link", "set", "dev", "tap101i0", "down"), ("ip", "link", "set", "dev", "tap101i0", "up"))
CRM = stopped_unit("pve-ha-crm", "pve1")
CASES = (
    Case("plain", "power.py", cut("pve2"), "the BMC of pve2 cannot be used, so nothing was broken: *gave no answer*"),
    Case("plain", "power.py", cut("pve3"), "power is not touched: the BMC reached is not pve3's own: *"),
    Case("plain", "crash.py", crash("pve2"), "pve2 is not broken: *gave no answer*", "kernel-crash"),
    Case("plain", "crash.py", crash("pve3"), "pve3 could not be reset: the BMC reached is not*", "kernel-crash"),
    Case(
        "plain",
        "crash.py",
        lambda faults, site: faults.daemon_frozen(site.nodes["pve1"], "pve-ha-crm"),
        "not all of pve-ha-crm run on pve1; nothing was stopped",
        "daemons-frozen",
        CRM,
    ),
    Case("plain", "mains.py", mains("pve2"), "the mains of pve2 are not touched: *gave no answer*", "mains-cut"),
    Case("plain", "network.py", partition("pve3"), "node pve3 cannot be cut off by rules: *", "partition"),
    Case(
        "plain",
        "network.py",
        lambda faults, site: faults.link_loss(Nodes([site.nodes["pve1"]]), 0),
        "node pve1 has 1 corosync links, and none but link 0 is up to every node: without it the node would be cut off",
        "link-loss",
    ),
    Case(
        "plain",
        "process.py",
        stop("pve1", "watchdog-mux"),
        "watchdog-mux is never stopped: while it has clients that resets the machine",
        "service-stopped",
    ),
    Case(
        "plain",
        "process.py",
        stop("pve1", "pve-ha-crm"),
        "pve-ha-crm on pve1 does not run; nothing to stop",
        "service-stopped",
        CRM,
    ),
    Case("plain", "guest.py", kill("vm:101"), "vm:101 does not answer at 127.0.0.1:* now, so nothing was broken",
         "guest-killed", CARD),
    Case(
        "plain",
        "guest.py",
        lambda faults, site: faults.bridge_down(guest(site, "vm:101")),
        "tap101i0 of vm:101 is down already",
        "bridge-down",
        CARD,
    ),
    Case("plain", "restoring.py", restored("vm:101"),
         "the inventory has no block backup.restore, so nothing is restored", "guest-restored"),
    Case("no number", "restoring.py", restored("vm:101"), "no number from 107 to 107 is free; widen backup.restore.ids",
         "guest-restored"),
    Case("no number", "restoring.py", restored("vm:106"),
         "there is no backup of vm:106 on pbs1; nothing can be restored", "guest-restored"),
    Case("a device", "restoring.py", restored("vm:101", live=True),
         "the backup of vm:101 has hostpci0: a live restore would start it with them; it is not made",
         "guest-restored"),
    Case("no leave", "restoring.py", restored("vm:101"),
         "what would be restored cannot be told, so nothing was made: *VM.Backup*", "guest-restored"),
    Case("plain", "guest.py", move("vm:101", "pve1"), "vm:101 runs on pve1 already: that is no move", "guest-moved"),
    Case("plain", "guest.py", move("vm:101", "pve2"), "vm:101 is stopped on pve1; it must be started on pve1",
         "guest-moved", stopped_guest),
    Case(
        "plain",
        "breaking.py",
        lambda faults, site: faults.guest_killed(Guest("vm:107", "gold", None, ())),
        "vm:107 is no HA service, so nothing was broken; add it to HA",
        "guest-killed",
    ),
    Case(
        "plain",
        "campaign.py",
        partition("pve1"),
        "the test says that it breaks power-cut, and asks for a partition, which nobody agreed to; add it to "
        "breaks=(…) in its mark destructive",
    ),
    Case(
        "plain",
        "interlock.py",
        cut("pve1"),
        "whether the site survives this cannot be told, so nothing was broken: node pve2 is unreachable: *",
        meanwhile=stopped_unit("pveproxy", "pve2"),
    ),
    Case("four", "power.py", cut("pve2"),
         "node pve2 has no BMC in the inventory: its power cannot be cut; add nodes.pve2.bmc"),
    Case(
        "four",
        "crash.py",
        crash("pve2"),
        "node pve2 has no BMC in the inventory: if it did not come back by itself nobody could reset it; add "
        "nodes.pve2.bmc",
        "kernel-crash",
    ),
    Case(
        "four",
        "crash.py",
        crash("pve4"),
        "the LRM of pve4 is wait_for_agent_lock, so its watchdog guards nothing and would not reset it; a node's LRM "
        "is active while HA guests are on it",
        "kernel-crash",
    ),
    Case("four", "peer.py", peer_cuts("pve4"), "from pve1 the BMC of pve4 is out of reach: *", "power-cut-by-peer"),
    Case("four", "power.py", cut("pve4"), "the BMC of pve4 says its chassis is off already; nothing to cut",
         meanwhile=switched_off),
    Case("four", "mains.py", mains("pve4"), "pve4 is without power already; nothing to cut", "mains-cut", switched_off),
    Case("late", "campaign.py", cut("pve1"), "the gate is shut, the site is not fit to be broken: *pve3 differs by 5*"),
    Case("address taken", "mains.py", mains("pve1"),
         "pve1 has no PDU in the inventory; add nodes.pve1.pdu, or operator", "mains-cut"),
    Case("address taken", "peer.py", peer_cuts("pve3"), "power is not touched from pve1: *", "power-cut-by-peer"),
)  # fmt: skip


# --- refused by the fault itself, where a run is refused before it ----------------------------------------------------


@dataclass(frozen=True)
class Direct:
    """A fault whose own look is asked on a running site: in a run others would have refused it first."""

    where: str
    fault: Fault
    words: str
    meanwhile: Meanwhile = nothing


PROXIES = stopped_unit("pveproxy", "pve1", "pve2", "pve3")
CANNOT_BE_ASKED = "the HA manager cannot be asked, so nothing was broken: *"
KEPT_OFF = without_ssh("pve1")
RESTING = by_hand(
    "pve1",
    ("ha-manager", "crm-command", "node-maintenance", "enable", "pve3"),
    ("ha-manager", "crm-command", "node-maintenance", "disable", "pve3"),
    wait=180,
)
HERE = (("127.0.0.1", 1),)


def split(*addresses: str, tag: str = "pveha-00000000-cut-1") -> Partition:
    """One node from another, whose addresses are these."""
    return Partition(tag, ("pve1",), ("pve2",), (("pve1", addresses), ("pve2", ("10.99.0.12",))))


def silent(server: str, gives_up: float | None = None) -> StorageCut:
    """The server of a storage, for half a minute."""
    servers = ((server, 2049),)
    return StorageCut("pveha-0", ("pve1",), "shared", servers, ("vm:101",), 30.0, 45.0, gives_up, "pve1 fails requests")


TWO = (("pve1", ("10.99.0.11", "10.99.1.11")), ("pve2", ("10.99.0.12", "10.99.1.12")))
"""Addresses on two links, of which the site has one."""

DIRECT = (
    Direct("crash.py", KernelCrash("pve1", True), CANNOT_BE_ASKED, PROXIES),
    Direct("maintenance.py", Maintenance("pve1"), CANNOT_BE_ASKED, PROXIES),
    Direct("guest.py", GuestMoved("vm:101", "pve1", "pve2", True), CANNOT_BE_ASKED, PROXIES),
    Direct("shutdown.py", CleanReboot("pve1", "x"), CANNOT_BE_ASKED, PROXIES),
    Direct("maintenance.py", Maintenance("pve3"), "HA calls pve3 maintenance; maintenance begins with a node online",
           RESTING),
    Direct("shutdown.py", CleanReboot("pve9", "x"),
           "HA calls pve9 unknown; what its policy does begins with a node online"),
    Direct("shutdown.py", CleanReboot("pve1", "x"),
           "whether pve1 goes down could not be told, so nothing was broken: *", KEPT_OFF),
    Direct("peer.py", PowerCutByPeer("pve2", "pve1"), "pve1 cannot cut the power of pve2: *", KEPT_OFF),
    Direct("process.py", ServiceStopped("pve1", "cron", 1), "cron on pve1 cannot be stopped: *", KEPT_OFF),
    Direct("guest.py", GuestKilled("vm:101", "pve1", 1, HERE), "the process of vm:101 is not to be seen: *", KEPT_OFF),
    Direct("guest.py", GuestKilled("vm:101", "pve1", 1, HERE), "vm:101 was process 1 on pve1 and is *; look again"),
    Direct("guest.py", BridgeDown("vm:101", "pve1", ("tap101i7",), HERE),
           "vm:101 has no network card on pve1 that could be set down"),
    Direct("guest.py", BridgeDown("vm:101", "pve1", ("tap101i0",), ()),
           "vm:101 has no probe in the inventory that could see it go; add guests.probes"),
    Direct("network.py", split(), "node pve1 has no address on a corosync link: its links cannot be cut"),
    Direct(
        "network.py",
        split("pve1.lan"),
        "corosync calls a link of pve1 'pve1.lan', which is no IP address: rules cannot name it; write addresses into "
        "corosync.conf",
    ),
    Direct("network.py", QdeviceLoss("pveha-0", ("pve1",), "qnetd.lan", 5403),
           "corosync calls the quorum device's machine 'qnetd.lan', which is no IP address"),
    Direct("storage.py", silent("192.0.2.77"),
           "pve1 does not reach 192.0.2.77, port 2049, the server of storage shared, before anything is broken"),
    Direct("storage.py", silent("192.0.2.77", gives_up=48.0),
           "storage shared: a cut that the nodes undo by themselves after 45 s + 5 s of margin = 50 s is not below "
           "48 s, after which pve1 fails requests: guests would get errors and go read-only; cut it for less long, or "
           "have the nodes wait longer"),
    Direct("storage.py", silent("10.99.0.12"),
           "the server of storage shared is at 10.99.0.12, which is also pve2 on a corosync link*: cutting it would "
           "take more than the storage"),
    Direct("rooms.py", FeedCut("feed-x", ()),
           "no node hangs on feed feed-x alone: nothing of it can be switched off"),
    Direct("rooms.py", RoomCut("pveha-0", ("pve1",), ("pve2",), TWO, "qnetd.lan", 5403, blind=True),
           "corosync calls the quorum device's machine 'qnetd.lan', which is no IP address"),
    Direct("rooms.py", SwitchLoss("pveha-0", "sw-1", ("pve1",), (), TWO),
           "nothing of the cluster goes over sw-1 alone: neither a corosync link nor the quorum device, so it could "
           "not be seen to fail"),
    Direct("rooms.py", SwitchLoss("pveha-0", "sw-1", ("pve1",), (0, 1), TWO),
           "2 of 2 corosync links of pve1 go over sw-1 alone: without it every node would be by itself, all would lose "
           "quorum, and the site would reset itself; give corosync a link over another switch"),
    Direct("rooms.py", SwitchLoss("pveha-0", "sw-1", ("pve1",), (), TWO, device="qnetd.lan", port=5403),
           "the switch's quorum device is 'qnetd.lan', which is no IP address"),
    Direct("rooms.py", SwitchLoss("pveha-0", "sw-1", ("pve1",), (0,), TWO),
           "no corosync link of pve1 but those over sw-1 is up to every node: without it the node would be cut off"),
    Direct(
        "network.py",
        split("10.99.0.11"),
        "node pve1 has rules called pveha-00000000-cut-1 already; type `pveha heal`",
        by_hand(
            "pve1",
            ("nft", "add", "table", "inet", "pveha_00000000_cut_1"),
            ("nft", "delete", "table", "inet", "pveha_00000000_cut_1"),
        ),
    ),
)  # fmt: skip


# --- shown by other tests ---------------------------------------------------------------------------------------------

ARMING, SAFETY, BROKEN = (
    "tests/plugin/test_plugin_arming.py",
    "tests/crash/test_safety.py",
    "tests/mutants/test_refusals.py",
)
UNIT, DOOR = "tests/unit/test_fault_crash.py", "tests/mutants/test_preflights.py"
CORD, NESTED = "tests/unit/test_fault_cord.py", "tests/crash/test_nested.py"
SWITCH = "tests/unit/test_fault_switches.py"
BOND = "tests/unit/test_fault_bonds.py"
CEPH = "tests/unit/test_fault_ceph.py::test_what_could_go_wrong_is_not_begun"
ELSEWHERE = {
    **dict.fromkeys(
        (
            "ceph.py: does not run; there is nothing to break",
            "ceph.py: is not broken: ",
            "ceph.py: is not up and in; repair that first",
            "ceph.py: are up cannot be told: ",
            "ceph.py: what else that network carries cannot be told",
            "ceph.py: corosync calls a link of ",
            "ceph.py: no OSD stands on ",
            "ceph.py: network is not cut: it carries ",
            "ceph.py: correct `networks.ceph_",
            "ceph.py: noout is set already",
            "ceph.py: flags cannot be told, so none is set",
        ),
        CEPH,
    ),
    "breaking.py:_everybody": f"{NESTED}::test_what_lies_between_all_nodes_is_not_cut_while_one_is_silent",
    "ceph.py: Ceph knows no ": "tests/unit/test_fault_ceph.py::test_an_osd_that_nobody_knows_is_not_broken",
    "copies.py:preflight": "tests/unit/test_fault_copies.py::test_a_number_that_is_taken_is_refused",
    "interlock.py: the interlock refuses to": f"{BROKEN}::test_a_site_that_would_not_survive_is_not_broken",
    "approval.py:approved": f"{ARMING}::test_without_a_second_signature",
    "campaign.py:_consented": f"{ARMING}::test_each_refusal_of_the_consent",
    "campaign.py:_said_something": f"{ARMING}::test_each_refusal_of_the_consent",
    "campaign.py: consent.storage_cut: is ": "tests/unit/test_campaign_interlock.py"
    "::test_a_storage_is_cut_no_longer_than_was_agreed",
    "campaign.py: the test only looks, by its mark readiness": f"{ARMING}::test_each_refusal_of_the_consent",
    "campaign.py: this fault takes the quorum away": f"{ARMING}::test_a_fault_about_quorum_needs_a_word_of_its_own",
    "campaign.py: this fault takes more than one node away": "tests/unit/test_campaign_interlock.py"
    "::test_a_fault_of_a_whole_room_needs_a_word_of_its_own",
    "campaign.py: the campaign has ended before": "tests/plugin/test_plugin_stops.py"
    "::test_a_request_to_stop_heals_and_ends_the_campaign",
    "campaign.py: an earlier test left the site dirty": f"{DOOR}::test_after_one_that_left_something_none_begins",
    "campaign.py: its nodes remember run": f"{DOOR}::test_after_one_that_left_something_none_begins",
    "campaign.py: left something that is not healed": f"{DOOR}::test_a_run_is_refused_at_the_door",
    "campaign.py: wrong endpoint, or wrong inventory": f"{DOOR}::test_a_run_is_refused_at_the_door",
    "foresight.py: wrong endpoint, or wrong": "tests/cli/test_plan.py::test_another_cluster_is_not_planned_for",
    "cluster_lease.py: this cluster is held by": f"{SAFETY}::test_one_run_a_cluster",
    "cluster_lease.py: this cluster is no longer ours": f"{SAFETY}::test_one_run_a_cluster",
    "people.py: gave no answer in ": "tests/unit/test_people.py::test_no_answer_in_time_is_a_refusal",
    "people.py: refuses (": "tests/unit/test_people.py::test_a_refusal_is_one",
    "people.py: no majority of the nodes takes down": "tests/unit/test_people.py"
    "::test_what_breaks_something_is_asked_only_if_it_is_known_elsewhere",
    "healing.py: has this cluster for ": "tests/cli/test_lease.py::test_nobody_somebody_nobody",
    "copies.py: which no tool takes away": "tests/unit/test_observe_copies.py::test_what_can_be_taken_away_is",
    "copies.py: is not started, for it would not": "tests/unit/test_observe_copies.py::test_what_can_be_taken_away_is",
    "lease.py: is using this site": "tests/cli/test_heal.py::test_a_site_in_use_is_left_alone",
    "keeping.py: a copy of what must be undone": f"{SAFETY}"
    "::test_an_undo_that_cannot_be_kept_by_a_majority_refuses_the_fault",
    "keeping.py: no dead-man would undo": f"{SAFETY}::test_a_dead_man_that_cannot_be_relied_on_refuses_the_fault",
    "keeping.py: nodes must be able to undo ": "tests/unit/test_keeping.py"
    "::test_one_that_could_is_too_few_while_others_live",
    "crash.py: nobody holds the watchdog of": f"{UNIT}::test_an_unguarded_node_is_not_broken",
    "crash.py: takes no sysrq commands": f"{UNIT}::test_what_does_not_run_is_not_broken",
    "crash.py: does not run; nothing to kill": f"{UNIT}::test_what_does_not_run_is_not_broken",
    "crash.py: knows no reset": f"{UNIT}::test_a_bmc_without_a_reset_brings_nobody_back",
    "cord.py: nobody can pull the cord of": f"{CORD}::test_somebody_must_be_there_first",
    "cord.py: is silent already": f"{CORD}::test_what_is_dead_already_is_not_pulled",
    "cord.py: is to die with it": f"{CORD}::test_what_is_dead_already_is_not_pulled",
    "hands.py: refuses to ": f"{CORD}::test_who_does_not_pull_breaks_nothing",
    "hands.py: was asked to ": f"{CORD}::test_who_does_not_pull_breaks_nothing",
    "bonds.py: is not touched: ": f"{BOND}::test_what_cannot_be_read_is_not_touched",
    "bonds.py: looks for lost links neither by MII": f"{BOND}::test_what_could_not_be_missed_is_not_broken",
    "bonds.py: has no link already": f"{BOND}::test_what_could_not_be_missed_is_not_broken",
    "bonds.py:  negotiates (": f"{BOND}::test_what_could_not_be_missed_is_not_broken",
    "bonds.py: no other member of ": f"{BOND}::test_what_could_not_be_missed_is_not_broken",
    "switches.py: nobody can take switch ": f"{SWITCH}::test_somebody_must_be_there_first",
    "switches.py: we reach ": f"{SWITCH}::test_our_own_way_does_not_go_over_it",
    "switches.py: over which switch we reach ": f"{SWITCH}::test_our_own_way_does_not_go_over_it",
    "switches.py: is silent before; nobody": f"{SWITCH}::test_a_bmc_that_is_silent_already_refuses",
    "session.py: by itself, as it must if we die": "tests/mutants/test_defects_quorum.py"
    "::test_the_defect_is_caught_and_named",
    "shutdown.py: is going down already": "tests/sim/test_planned_downtime.py"
    "::test_a_node_that_goes_down_already_is_refused",
}
"""The file and words of a refusal, or the file and function where its words come from elsewhere, and who shows it."""


# --- the union --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raised:
    """A refusal in the code."""

    where: str
    function: str
    words: tuple[str, ...]
    """Its message, without what is filled in."""

    @property
    def pattern(self) -> str:
        return ".+".join(re.escape(part) for part in self.words)

    def shown_by(self, where: str, text: str) -> bool:
        return where == self.where and any(self.words) and re.fullmatch(self.pattern, text, re.DOTALL) is not None

    def is_named(self, key: str) -> bool:
        """Whether that entry of ELSEWHERE is about it."""
        file, _, words = key.partition(": ")
        if not words:
            return key == f"{self.where}:{self.function}"
        return file == self.where and any(words in part for part in self.words)


REFUSING = {"PreflightRefused", "UnsafeTarget", "SiteBusy", "SiteDirty"}
BEFORE = (
    "faults",
    "scenario",
    "observe",
    "healing.py",
    "approval.py",
    "foresight.py",
    "handles/cluster_lease.py",
    "record/lease.py",
)
"""Where a run, or a fault, is refused."""


def refusals() -> list[Raised]:
    """Every refusal in the code, with its words."""
    files = [file for each in BEFORE for file in ([PACKAGE / each] if ".py" in each else (PACKAGE / each).glob("*.py"))]
    found = []
    for file in sorted(files):
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
                    continue
                name = node.exc.func
                if isinstance(name, ast.Name) and name.id in REFUSING:
                    found.append(Raised(file.name, function.name, _words(node.exc.args[0])))
    return found


def _words(message: ast.expr) -> tuple[str, ...]:
    parts = message.values if isinstance(message, ast.JoinedStr) else [message]
    text = "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in parts)
    return tuple(text.split("\0"))


def test_every_refusal_is_shown() -> None:
    """None stands in the code that no run and no test shows; and nothing is promised that is not there."""
    told = [(case.where, case.words) for case in (*CASES, *DIRECT)]
    found = refusals()
    unshown = [each for each in found if not any(each.shown_by(*example) for example in told)]
    assert [each for each in unshown if not any(map(each.is_named, ELSEWHERE))] == []
    assert [key for key in ELSEWHERE if not any(each.is_named(key) for each in found)] == []
    for test in ELSEWHERE.values():
        path, _, name = test.partition("::")
        assert f"def {name}(" in (whole_run.ROOT / path).read_text(encoding="utf-8"), test
    assert {case.site for case in CASES} == SITES.keys()


def expected(words: str) -> str:
    """The same as a regular expression."""
    return ".+".join(re.escape(part) for part in words.split("*"))


@pytest.mark.parametrize("site", SITES)
def test_a_fault_that_cannot_be_made_right_is_not_made(site: str) -> None:
    """Each wish is refused in its words by the file that is about it; nothing was planned and nothing injected."""
    played = SITES[site]
    with whole_run.place() as here, refusing.campaign(here, played.blocks, **played.simulator) as run:
        for number, case in enumerate(case for case in CASES if case.site == site):
            answer = refused(run, f"{site}-{number}", case.wish, (case.breaks,), case.meanwhile)
            assert re.fullmatch(expected(case.words) + ".*", answer.reason, re.DOTALL), (case.words, answer.reason)
            assert (answer.where, answer.verdict) == (case.where, "not proven")


def test_a_fault_refuses_by_itself() -> None:
    """What others would refuse first, or only an inventory of another kind shows, the fault's own look says, too."""
    with whole_run.place() as here, refusing.campaign(here) as run:
        for direct in DIRECT:
            with direct.meanwhile(run.site), pytest.raises(PreflightRefused) as told:
                direct.fault.preflight(run.observer)
            assert re.fullmatch(expected(direct.words) + ".*", str(told.value), re.DOTALL), (direct.words, told.value)
            assert raised_in(told.value) == direct.where


def test_after_one_that_left_something_none_begins() -> None:
    """What a run of another machine left refuses every destructive test until it is healed, and so does our own."""
    with whole_run.place() as here, refusing.campaign(here) as run:
        with another_controller(run.site):
            for name in ("first", "second"):
                answer = refused(run, name, cut("pve1"), ("power-cut",))
                assert answer.reason.startswith(
                    "site sim-3node: its nodes remember run 0a1b2c3d, which left something unhealed, so nothing new "
                    "may be broken. Type: pveha heal --inventory "
                )
        run.begin("third", "third", 0)
        run.end("third", "failed", "HealFailed", "the site is DIRTY")
        answer = refused(run, "fourth", cut("pve1"), ("power-cut",))
        assert answer.reason == "an earlier test left the site dirty; type `pveha heal` first"


def test_a_run_is_refused_at_the_door() -> None:
    """One that left something, here on the register, or an inventory of another cluster: no run is opened at all."""
    with whole_run.place() as here, refusing.at_home(here):
        path = here.inventory()
        runs = open_runs("sim-3node", os.environ)
        runs.add(here.folder)
        with pytest.raises(SiteDirty, match=r"the run /tmp/\S+ left something that is not healed, so"):
            refusing.opened(here, path)
        runs.remove(here.folder)
        embedded = start(load(path))
        path.write_text(path.read_text().replace("name: pveha-sim", "name: pveha-two"))
        try:
            with pytest.raises(UnsafeTarget, match="answers is cluster 'pveha-sim', the inventory is for 'pveha-two'"):
                refusing.opened(here, path)
        finally:
            embedded.stop()
            refusing.bury(embedded.pid)
        assert list(here.reports.rglob("*.jsonl")) == []
