"""Planted defects of storages and of replication: each is caught by its suite, cause and all; the site stays whole."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest
import whole_run
from whole_run import ROOT, Outcome

from pytest_pveha.sim.defects import DEFECTS
from tests.mutants.test_defects import EXIT, assert_left_whole, assert_said_everywhere
from tests.storage_sites import ISCSI, NFS, REPLICATED, STORAGES, ZFS

SHARED = "suites/storage/test_shared_storage.py"
FAILOVER = "suites/storage/test_replication_failover.py"
OUTLAST, TO_A_REPLICA = "test_guests_outlast_a_silent_server[vault]", "test_failover_to_a_replica[other-1]"


@dataclass(frozen=True)
class Caught:
    """How a defect shows: the verdict, the cause that is named, and the site that brings it out."""

    verdict: str
    cause: str
    """A regular expression; what is not in the reason was not said to the person on call."""
    blocks: dict[str, Any] = field(default_factory=lambda: STORAGES)
    played: dict[str, Any] = field(default_factory=lambda: NFS)
    of_the_run: str = ""
    """The run's verdict, where the gate's own is worse."""


def shut(cause: str) -> Caught:
    """The gate is shut because of it, on a site with storages."""
    return Caught("not proven", cause, of_the_run="rejected")


def stale(cause: str) -> Caught:
    """The gate is shut because of it, on a site with replicated guests."""
    return Caught("not proven", cause, REPLICATED, ZFS, "rejected")


GATE = "the gate is shut, the site is not fit to be broken: "
DISKS = GATE + "HA guests can start on every node that may run them: "
FRESH = GATE + "Replicas are fresh, and wherever HA may start their guests: "

CAUGHT = {
    "guest-on-local-disk": shut(DISKS + r"vm:101 scsi1 is on local-lvm, which every node has for itself"),
    "guest-with-local-iso": shut(DISKS + r"vm:101 ide2 holds an image on local, which every node has for itself"),
    "guest-with-passthrough": shut(DISKS + r"vm:101 has a device of pve1 \(hostpci0: 0000:3b:00\.0\)"),
    "storage-not-everywhere": shut(DISKS + r"vm:101 scsi0 is on vault, which pve3 is not given, where HA may start it"),
    "shared-in-name-only": shut(
        DISKS
        + r"vm:101 scsi1 is on local, which is called shared, and pve2 has no local:101/vm-101-disk-1\.qcow2 there"
    ),
    "nfs-stale-after-return": Caught(
        "rejected", r"vault is active on every node: not within 60 s; last seen: pve1 calls vault inactive"
    ),
    "guests-give-up-on-stall": Caught(
        "rejected", r"failed_requests of vm:\d+ is 3, objective none: its disk gave it errors", played=ISCSI
    ),
    "ha-thrashes-in-stall": Caught(
        "rejected", r"vm:\d+ ran on (pve\d) and is stopped on \1, while it was not to be touched: healed at once"
    ),
    "iscsi-path-timeout-short": Caught(
        "not proven",
        r"after 47 s \+ 5 s of margin = 52 s is not below 5 s, after which pve1 fails requests "
        r"\(replacement_timeout = 5 s \(/sys/class/iscsi_session/session1/recovery_tmo\)\)",
        played=ISCSI,
    ),
    "replication-never-ran": stale(FRESH + r"job 101-0 has never run well"),
    "replication-failing": stale(FRESH + r"job 101-0 has failed 7 times: No common base snapshot on volume"),
    "replica-on-wrong-node": stale(FRESH + r"HA may start vm:101 on pve2, where no replica of it is"),
    "disk-not-replicated": stale(DISKS + r"vm:101 scsi1 is left out of its replication \(replicate=0\)"),
    "replica-older-than-told": Caught(
        "rejected",
        r"older_than_told of vm:\d+ is 21600 s, objective at most 0 s: the copy it started from is older than its",
        REPLICATED,
        ZFS,
    ),
    "job-does-not-turn-round": Caught(
        "rejected",
        r"the replication jobs turn round: not within 180 s; last seen: (pve\d) has no job that replicates vm:\d+ to",
        REPLICATED,
        ZFS,
    ),
}
TOGETHER = ("guest-on-local-disk", "guest-with-local-iso", "guest-with-passthrough")
"""Those that the gate names in one breath."""


def test_every_defect_of_the_suites_is_in_the_table() -> None:
    """No defect can be planted that nothing is expected of, and each has the verdict it promises."""
    promised = {name: defect.verdict for name, defect in DEFECTS.items() if defect.caught_by in (SHARED, FAILOVER)}
    assert {name: caught.verdict for name, caught in CAUGHT.items()} == promised


@pytest.mark.parametrize("name", [name for name in CAUGHT if name not in TOGETHER])
def test_the_defect_is_caught_and_named(name: str) -> None:
    """With that defect the run fails with the promised verdict, names the cause everywhere, and leaves a whole site."""
    with whole_run.place() as here:
        test, outcome = played(here, CAUGHT[name], [name], DEFECTS[name].caught_by)
        assert re.search(CAUGHT[name].cause, test["reason"]), test["reason"]
        assert_said_everywhere(outcome, test)
        assert_left_whole(outcome, here)


def test_what_ties_guests_to_a_node_is_named() -> None:
    """With a local disk, a local image and a device of its node in one guest the gate is shut, and names each."""
    with whole_run.place() as here:
        test, outcome = played(here, CAUGHT[TOGETHER[0]], list(TOGETHER), SHARED)
        for name in TOGETHER:
            assert re.search(CAUGHT[name].cause.removeprefix(DISKS), test["reason"]), (name, test["reason"])
        assert_left_whole(outcome, here)


def test_a_server_nobody_calls_redundant_is_named() -> None:
    """Unless somebody declares it redundant, a storage's server is named as a single point of failure."""
    with whole_run.place() as here:
        inventory = here.inventory({"storages": {"vault": {}}}, boot_seconds=40, **NFS)
        outcome = whole_run.run(inventory, here, "-m", "readiness", suites=ROOT / SHARED)
        (test,) = (one for one in outcome.verdict["tests"] if one["id"].endswith("no_single_point_of_failure"))
        assert test["verdict"] == "rejected"
        assert "vault: a single server, as far as anybody declared" in test["reason"]


def played(here: whole_run.Place, caught: Caught, defects: list[str], suite: str) -> tuple[dict[str, Any], Outcome]:
    """The destructive test of that suite on a site with these defects, and its run."""
    inventory = here.inventory(caught.blocks, defects=defects, boot_seconds=40, **caught.played)
    outcome = whole_run.run(inventory, here, suites=ROOT / suite)
    overall = caught.of_the_run or caught.verdict
    name = OUTLAST if suite == SHARED else TO_A_REPLICA
    (test,) = (one for one in outcome.verdict["tests"] if one["id"].endswith(name))
    assert test["verdict"] == caught.verdict, test["reason"]
    assert (outcome.verdict["verdict"], outcome.exit_code) == (overall, EXIT[overall]), outcome.output
    return test, outcome
