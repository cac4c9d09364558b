"""Healthy sites of many shapes, on none of which a test may be red; and a test played on one of them as a whole run."""

from __future__ import annotations

import ast
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import whole_run
from stretched_site import (
    BLOCKS,
    BY_HAND,
    PLAYED,
    PLAYED_BY_HAND,
    PLAYED_WITH_A_NODE,
    PLAYED_WITH_CEPH,
    WITH_A_NODE,
    WITH_CEPH,
    rooms_of,
)
from warm_start import LIMIT
from whole_run import ROOT, Outcome

from tests.storage_sites import ISCSI, NFS, PLAIN_ZFS, REPLICATED, STORAGES

SUITES = ROOT / "suites"
EVERY = ""
"""In the place of one suite: all of them in one run, as whoever accepts a site plays them."""
ALL_SUITES_LIMIT = 3600
"""Real seconds after which a run of all suites hangs."""
GOOD = frozenset({"accepted"})
POWER_LOSS = "nodes/test_power_loss.py"
ROLLING = "upgrade/test_rolling.py"
ONE_LOSS = f"{POWER_LOSS}::test_power_loss_of_one_node[other-1]"
IN_TURN = "guests/test_each_guest.py::test_in_its_turn_after_others"
RESTORE = "backup/test_restore.py::test_restored_beside_itself"
LIVE = "backup/test_restore.py::test_live_restored_beside_itself"
SILENT = "storage/test_shared_storage.py::test_guests_outlast_a_silent_server"
FAILOVER = "storage/test_replication_failover.py::test_failover_to_a_replica"
RESTARTS = f"{ROLLING}::test_rolling_restart_of_ha"


OUT_OF_SCOPE = re.compile(r"^not applicable: (suites/\S+): (.*)$", re.MULTILINE)
"""What a run says of each test that does not apply, where none is left to run."""
PROMISES_NO_MOVE = {"nodes/test_clean_reboot.py::test_guests_move_before_a_reboot": "rejected"}
"""What is claimed there, policy ``migrate`` alone promises: under another one a site is right to miss it."""


SAID_ON_SITE = {
    "_stranded": "guests are on some nodes",
    "idle": "guests are on some nodes",
    "bond_members": "bonds",
    "elsewhere": "rules",
    "max_workers": "a full host",
    "osds": "ceph",
    "protected": "backup.tiers",
    "protected_vm": "containers",
    "blip": "the token",
    "blip_of_quorum": "the token",
}
"""What says only when it is asked on the site that a test does not apply → what of a variant decides it."""
PARTS_OF_THE_CLUSTER = tuple(
    f"quorum/test_partition.py::{name}"
    for name in ("test_minority_stops_before_majority_starts", "test_idle_minority_is_left_alone")
)
TWO_LOST = (
    "nodes/test_maintenance.py::test_loss_while_another_node_is_off",
    "combined/test_during_recovery.py::test_a_second_node_is_lost_meanwhile",
)
MOVED = tuple(f"guests/test_each_guest.py::{name}" for name in ("test_migrated_there_and_back", "test_relocated"))
"""Where a rule ranks the nodes, HA takes the guest back at once, and there is nothing to prove."""
IDLE = dict.fromkeys((POWER_LOSS, "nodes/test_clean_reboot.py", "nodes/test_maintenance.py"), "not proven")
"""What the CRM master's own fate proves where it may run no guest."""
MINORITY = (
    "test_idle_minority_is_left_alone",
    "test_minority_stops_before_majority_starts",
    "test_short_cut_resets_nobody",
    "test_one_way_cut_is_a_cut",
)


@dataclass(frozen=True)
class Variant:
    """One healthy site: what its inventory says differently from ``inventories/sim-3node.yml``."""

    name: str
    blocks: Mapping[str, Any] = field(default_factory=dict)
    """Whole blocks of the inventory."""
    simulator: Mapping[str, Any] = field(default_factory=dict)
    """Keys of its simulator block."""
    quick: str = ONE_LOSS
    """The one test that every run of the project's own tests plays on it; ``make proof`` plays them all."""
    may: Mapping[str, str] = field(default_factory=dict)
    """Suite, or suite::test → the one other verdict that is right there, such as ``not applicable``."""

    @property
    def lacks(self) -> set[str]:
        """The tests that are about what this site has not."""
        count, device = len(self.blocks.get("nodes", "123")), "quorum_device" in self.blocks
        absent = set() if self.simulator.get("pdus") else {"nodes/test_physical_power_cut.py"}
        if not self.simulator.get("bonds"):
            absent.add("quorum/test_bond_member.py")
        if "feeds" not in self.blocks:
            absent |= set(STRETCHED_SUITES)
        if not self.blocks.get("replication", {}).get("manual_failover"):
            absent.add("stretched/test_dr_procedure.py")
        if self.name == "stretched-2-2-1-nodes":
            absent |= {f"stretched/{name}" for name in ("test_intersite_cut.py", DEVICE_LOSS)}
        else:
            absent.add("stretched/test_tiebreaker_loss.py::test_tiebreaker_node_loss")
        if self.simulator.get("links", 1) < 2:
            absent.add("quorum/test_link_loss.py")
        if self.name != "a-full-host":
            absent.add(IN_TURN)
        if not device:
            absent.add("quorum/test_qdevice_loss.py")
        if not device or count % 2:
            absent.add("quorum/test_partition.py::test_even_split_has_one_winner")
        restore = self.blocks.get("backup", {}).get("restore")
        if restore is None:
            absent.add("backup/test_restore.py")
        elif not restore.get("live"):
            absent.add(LIVE)
        if "ceph" not in self.blocks:
            absent |= set(CEPH_SUITES)
        if "storages" not in self.blocks:
            absent.add(SILENT)
        if "replication" not in self.blocks:
            absent.add(FAILOVER)
        votes = count + device
        if count < 3 or votes - 2 <= votes // 2:  # two lost leave no quorum
            absent |= {*TWO_LOST, BESIDE_WORK}
        if count < 3:  # a side of such a cut would be no minority
            absent |= {f"quorum/test_partition.py::{name}" for name in MINORITY}
            absent.add("quorum/test_quorum_loss.py")
        return absent

    def allowed(self, test: str) -> frozenset[str]:
        """The verdicts that the test, ``suites/…::name[role]``, may have here."""
        plain = test.removeprefix("suites/").partition("[")[0]
        if {plain, plain.partition("::")[0]} & self.lacks:
            return frozenset({"not applicable"})
        policy = self.simulator.get("shutdown_policy", "migrate")
        may = {**(PROMISES_NO_MOVE if policy != "migrate" else {}), **self.may}
        other = may.get(plain) or may.get(plain.partition("::")[0])
        if plain in MOVED and {"rules", "groups"} & self.simulator.keys():
            return GOOD | {"not applicable"}
        if plain in PARTS_OF_THE_CLUSTER:  # each of its sides is either idle or not
            return GOOD | {"not applicable"}
        if other == "not applicable":
            return frozenset({other})
        return GOOD | {other} if other else GOOD


def nodes(count: int) -> dict[str, Any]:
    """So many nodes, each in a room of its own."""
    return {f"pve{number}": {"room": f"room-{number}"} for number in range(1, count + 1)}


def guests(*homes: str, kind: str = "vm") -> list[dict[str, Any]]:
    """One guest on each of these nodes, in order, gold and silver in turn."""
    return [
        {
            "id": f"{kind}:{number}",
            "name": f"guest-{number}",
            "tier": tier,
            "preferred_node": home,
        }
        for number, (home, tier) in enumerate(zip(homes, cycle(("gold", "silver"))), 101)
    ]


THREE = ("pve1", "pve1", "pve2", "pve2", "pve3", "pve3")
CEPH_SUITES = tuple(
    f"storage/test_{name}.py" for name in ("ceph_host_loss", "ceph_network", "maintenance_plus_loss", "osd_failure")
)
REBUILT = "storage/test_osd_failure.py::test_lost_osd_is_rebuilt"
NETWORK = "storage/test_ceph_network.py::test_network_of_one_host[other-1-{}]"
BESIDE_WORK = "storage/test_maintenance_plus_loss.py"
STOPPED = {BESIDE_WORK: "not proven"}
"""Two hosts of three copies are one too many: that is foretold, and not tried."""
FIVE = tuple(f"pve{number}" for number in (1, 1, 2, 2, 3, 3, 4, 4, 5, 5))
STRETCHED_SUITES = tuple(
    f"stretched/test_{name}.py"
    for name in ("intersite_cut", "site_loss", "switch_loss", "tiebreaker_loss", "tiebreaker_sees_one_side")
)
DEVICE_LOSS = "test_tiebreaker_loss.py::test_tiebreaker_loss"
QDEVICE = {"quorum_device": {"host": "192.0.2.9", "algorithm": "ffsplit"}}


def backed_up(**restore: Any) -> dict[str, Any]:
    """A backup server, and a promise of how long a restore takes."""
    where = {"ids": [9000, 9009], "storage": "local-lvm", "checksum_file": "/srv/fixed.bin", **restore}
    tiers = {"gold": {"rto": "5 min"}, "silver": {"rto": "8 min", "restore_rpo": "8 h"}}
    return {
        "backup": {"storage": "pbs1", "restore": where},
        "objectives": {"tiers": tiers, "restore_rto": "15 min"},
    }


def on_ceph(count: int = 3, **ceph: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A Ceph on so many nodes, each with a guest that is written in: blocks, and keys of the simulator block."""
    written = [{**guest, "canary": True} for guest in guests(*(f"pve{number}" for number in range(1, count + 1)))]
    return {"nodes": nodes(count), "guests": written, "ceph": {}}, {"guests": [], "ceph": ceph}


def stretched_ceph() -> tuple[dict[str, Any], dict[str, Any]]:
    """The stretched site with a Ceph in stretch mode, whose tiebreaker stands where the quorum device does."""
    ceph = {"failure_domain": "room", "stretch_tiebreaker": "tie", "tiebreaker_room": "tie"}
    written = [{**guest, "canary": True} for guest in BLOCKS["guests"]]
    return {**BLOCKS, "guests": written, "ceph": ceph}, {**PLAYED, "ceph": {"size": 4, "failure_domain": "room"}}


VARIANTS: Sequence[Variant] = (
    Variant("3-nodes", quick=RESTARTS),
    Variant(
        "2-nodes-and-qdevice",
        {"nodes": nodes(2), "guests": guests("pve1", "pve2"), **QDEVICE},
        {"guests": []},
    ),
    Variant(
        "4-nodes-and-qdevice",
        {"nodes": nodes(4), "guests": guests(*FIVE[:8]), **QDEVICE},
        {"guests": []},
    ),
    Variant("5-nodes", {"nodes": nodes(5), "guests": guests(*FIVE)}, {"guests": []}),
    Variant(
        "pve-8-with-groups",
        simulator={
            "version": "8.4.14",
            "groups": {
                "first": {"nodes": {"pve1": 2, "pve2": 1, "pve3": 1}},
                "last": {"nodes": {"pve3": 2, "pve2": 1}, "restricted": True},
            },
            "guests": [{"id": "vm:101", "group": "first"}, {"id": "vm:105", "group": "last"}],
        },
    ),
    Variant(
        "pve-9-with-rules",
        simulator={
            "rules": {
                "home-101": {"affinity": "node", "guests": ["vm:101"], "nodes": {"pve1": 2, "pve2": 1}},
                "apart": {"affinity": "negative", "guests": ["vm:102", "vm:105"]},
            },
        },
    ),
    Variant(
        "pve-9-kept-together",
        simulator={"rules": {"together": {"affinity": "positive", "guests": ["vm:103", "vm:104"]}}},
    ),
    Variant("containers", {"guests": guests(*THREE, kind="ct")}, {"guests": []}),
    Variant(
        "containers-to-write-in",
        {"guests": [{**guest, "canary": True} for guest in guests(*THREE, kind="ct")]},
        {"guests": []},
    ),
    Variant(
        "a-node-without-guests",
        {"nodes": nodes(4), "guests": guests(*THREE)},
        {"guests": []},
        may=IDLE,
    ),
    Variant(
        "an-idle-lrm",
        {"guests": guests("pve1", "pve1", "pve2", "pve2")},
        {"guests": [{"id": "vm:107", "name": "build-box", "node": "pve3", "ha": False}]},
        may=IDLE,
    ),
    *(
        Variant(f"policy-{policy}", simulator={"shutdown_policy": policy}, quick=RESTARTS)
        for policy in ("conditional", "freeze", "failover", "migrate")
    ),
    Variant(
        "old-token-coefficient",
        {"nodes": nodes(5), "guests": guests(*FIVE)},
        {"guests": [], "token_coefficient": 650},
    ),
    Variant(
        "a-full-host",
        {"guests": guests("pve1", *["pve2"] * 18, "pve3")},
        {
            "guests": [{"id": f"vm:{number}", "start_seconds": 20} for number in range(101, 121)],
            "guest_memory": "2 GiB",
        },
        quick=IN_TURN,
    ),
    Variant("two-links", simulator={"links": 2}),
    Variant("stretched-2-2-1", BLOCKS, PLAYED, quick="stretched/test_intersite_cut.py::test_intersite_cut"),
    Variant(
        "stretched-2-2-1-on-ceph",
        WITH_CEPH,
        PLAYED_WITH_CEPH,
        quick="stretched/test_intersite_cut.py::test_intersite_cut",
    ),
    Variant(
        "stretched-2-2-1-nodes",
        WITH_A_NODE,
        PLAYED_WITH_A_NODE,
        quick="stretched/test_tiebreaker_loss.py::test_tiebreaker_node_loss",
    ),
    Variant("stretched-3-3-1", rooms_of(3), PLAYED, quick="stretched/test_site_loss.py::test_site_loss[other-room]"),
    Variant(  # by its rules HA may start some guests at home alone: what would lose their node is refused
        "stretched-by-hand",
        BY_HAND,
        PLAYED_BY_HAND,
        quick="stretched/test_dr_procedure.py::test_dr_procedure",
        may=dict.fromkeys((POWER_LOSS, "nodes/test_failback.py"), "not proven"),
    ),
    Variant("backed-up", backed_up(), quick=RESTORE),
    Variant(
        "backed-up-encrypted-and-live",
        backed_up(live=True),
        {"backup": {"encrypted": True, "namespace": "prod", "speed": "40 MiB"}},
        quick="backup/test_restore.py",
    ),
    Variant(
        "containers-backed-up",
        {**backed_up(live=True), "guests": guests(*THREE, kind="ct")},
        {"guests": []},
        quick="backup/test_restore.py",
        may={LIVE: "not applicable"},
    ),
    Variant(
        "backed-up-on-pve-8-with-a-device",
        backed_up(node="pve2"),
        {"version": "8.4.14", "backup": {"config": {"hostpci0": "0000:01:00.0", "usb0": "host=1-2"}}},
        quick=RESTORE,
    ),
    Variant("ceph-3-nodes", *on_ceph(), quick=NETWORK.format("cluster")),
    Variant("ceph-4-nodes", *on_ceph(4), quick=f"{REBUILT}[other-1]"),
    Variant("ceph-5-nodes", *on_ceph(5, fill=0.1), quick=NETWORK.format("public"), may=STOPPED),
    Variant("ceph-5-nodes-4-copies", *on_ceph(5, size=4, fill=0.1), quick=BESIDE_WORK),
    Variant("ceph-1-osd-a-host", *on_ceph(osds_per_node=1), quick=f"{REBUILT}[other-1]"),
    Variant("ceph-4-osds-a-host", *on_ceph(osds_per_node=4), quick=f"{REBUILT}[other-1]"),
    Variant("ceph-stretched", *stretched_ceph(), quick=NETWORK.format("cluster")),
    Variant("on-nfs", STORAGES, NFS, quick=SILENT),
    Variant("on-iscsi", STORAGES, ISCSI, quick=SILENT),
    Variant("replicated", REPLICATED, PLAIN_ZFS, quick=f"{FAILOVER}[other-1]"),
)  # fmt: skip


def suite_tests(suites: Path = SUITES) -> list[str]:
    """Every test of the suites that breaks something, as ``nodes/test_power_loss.py::test_…``, in order."""
    found = []
    for path in sorted(suites.rglob("test_*.py")):
        for item in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(item, ast.FunctionDef) and item.name.startswith("test_"):
                marks = {ast.unparse(mark).partition("(")[0] for mark in item.decorator_list}
                if "pytest.mark.readiness" not in marks:
                    found.append(f"{path.relative_to(suites).as_posix()}::{item.name}")
    return found


@dataclass(frozen=True)
class Row:
    """One cell of a table as it is kept."""

    site: str
    test: str
    verdict: str
    allowed: bool
    seconds: float
    """Of wall time."""
    reason: str


def play(inventory: Path, here: whole_run.Place, suite: str, *words: str) -> tuple[Outcome, float]:
    """Every suite, one, one test of it, or one of its roles, as a whole run on that site; and how long it took."""
    path, _, name = suite.partition("::")
    begin = time.monotonic()
    where, limit = SUITES / (f"{path}::{name}" if name else path), LIMIT if suite != EVERY else ALL_SUITES_LIMIT
    done = whole_run.ended(inventory, here, *words, suites=where, limit=limit)
    if done.returncode == 5 and (out := OUT_OF_SCOPE.findall(done.output)):
        tests = [{"id": test, "verdict": "not applicable", "reason": reason} for test, reason in out]
        outcome = Outcome(done.returncode, done.output, here.reports, {"tests": tests}, [], [])
    else:
        outcome = whole_run.outcome_of(done, here)
    return outcome, time.monotonic() - begin


def rows(site: str, suite: str, outcome: Outcome, seconds: float, allowed: Variant | None = None) -> list[Row]:
    """What the run says of the gate and of each test that was played; at least one."""
    path, _, name = suite.partition("::")
    of = [test for test in outcome.verdict["tests"] if _of(test["id"], path, name)]
    assert any(test["id"] != "gate" for test in of) or of[0]["verdict"] != "accepted", outcome.output
    return [
        Row(
            site,
            test["id"],
            test["verdict"],
            test["verdict"] in (GOOD if allowed is None or test["id"] == "gate" else allowed.allowed(test["id"])),
            round(seconds, 1),
            test["reason"][:300],
        )
        for test in of
    ]


def _of(test: str, path: str, name: str) -> bool:
    file, _, item = test.removeprefix("suites/").partition("::")
    return test == "gate" or path == EVERY or (file == path and name in ("", item, item.partition("[")[0]))


def keep(table: str, kept: Sequence[Row]) -> None:
    """The rows are in that table of the folder PROOF_TABLES, where it is named."""
    if folder := os.environ.get("PROOF_TABLES"):
        path = Path(folder) / f"{table}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(row), sort_keys=True) + "\n" for row in kept)


def share(cells: Sequence[Any]) -> Sequence[Any]:
    """Every N-th cell from the K-th on, where STRIKES=K/N says so; else all."""
    part, _, of = os.environ.get("STRIKES", "").partition("/")
    return cells[int(part) % int(of) :: int(of)] if part else cells
