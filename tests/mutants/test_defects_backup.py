"""Planted defects of backups and restores: each is caught by its suite, cause and all, and no copy is left."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest
import whole_run
from whole_run import ROOT, Outcome, Place

from pytest_pveha.sim.defects import DEFECTS
from tests.mutants.test_defects import DURATION, assert_said_everywhere

SUITE = "suites/backup/test_restore.py"
READINESS = "suites/readiness/test_readiness.py"
TEST = "test_restored_beside_itself[vm:101]"
BLOCKS: dict[str, Any] = {
    "backup": {
        "storage": "pbs1",
        "restore": {"ids": [9000, 9009], "storage": "local-lvm", "checksum_file": "/srv/fixed.bin"},
    },
    "objectives": {"tiers": {"gold": {"rto": "5 min"}, "silver": {"rto": "8 min"}}, "restore_rto": "15 min"},
}
"""A site whose guests are backed up, and may be restored."""


@dataclass(frozen=True)
class Caught:
    """How a defect shows: the cause that is named, as a regular expression."""

    cause: str
    blocks: dict[str, Any] = field(default_factory=lambda: dict(BLOCKS))


REFUSED = ("backup-verification-failed", "restore-key-missing")
"""Nothing is restored then, and the interlock says why (test_refusals.py)."""
FAILED = r"the restore to vm:9000 failed: .*: "
CAUGHT = {
    "backup-unverified": Caught(r"audit backup-verified found harm: pbs1:backup/vm/101/\S+: never verified"),
    "backup-verification-failed": Caught(r"audit backup-verified found harm: pbs1:backup/vm/101/\S+: failed"),
    "backup-corrupt": Caught(FAILED + r"restore failed: Data blob has wrong CRC checksum"),
    "backup-too-old": Caught(rf"backup_age of vm:101 is {DURATION}, objective at most 93600 s: what was done since is"),
    "backup-owner-wrong": Caught(FAILED + r"backup owner check failed \(pve@pbs!cluster != root@pam\)"),
    "restore-key-missing": Caught(
        r"the interlock refuses to restore to vm:9000: .*is encrypted, and pve\d has no key \(/etc/pve/priv/storage\)"
    ),
    "pbs-gone-in-mid-restore": Caught(FAILED + r"restore failed: connection reset by peer"),
    "restore-leaves-lock": Caught(r"the copy of vm:101 is not locked: not within 60 s; .*vm:9000 is locked \(create\)"),
    "restore-slow": Caught(rf"restore_time of vm:101 is {DURATION}, objective at most 900 s: whoever needs this guest"),
    "restored-guest-does-not-boot": Caught(r"the copy of vm:101 answers inside: not within 1200 s; .*not running"),
    "restored-content-differs": Caught(
        r"audit same-content found harm: /srv/fixed.bin: [0-9a-f]{16}… in vm:101, [0-9a-f]{16}… in its copy"
    ),
}


def test_every_defect_of_the_suite_is_in_the_table() -> None:
    """No defect can be planted that nothing is expected of."""
    assert CAUGHT.keys() == {name for name, defect in DEFECTS.items() if defect.caught_by == SUITE}


def played(here: Place, suite: str, *words: str, **simulator: Any) -> Outcome:
    """A whole run of that suite on a site whose guests are backed up."""
    return whole_run.run(here.inventory(BLOCKS, **simulator), here, *words, suites=ROOT / suite)


@pytest.mark.parametrize("name", CAUGHT)
def test_the_defect_is_caught_and_named(name: str) -> None:
    """With that defect the restore fails with the promised verdict, says why, and leaves no copy."""
    with whole_run.place() as here:
        outcome = played(here, SUITE, "-k", "restored_beside_itself and 101 and not live", defects=[name])
        (test,) = (each for each in outcome.verdict["tests"] if each["id"].endswith(TEST))
        assert test["verdict"] == DEFECTS[name].verdict, test["reason"]
        assert re.search(CAUGHT[name].cause, test["reason"]), test["reason"]
        assert_said_everywhere(outcome, test)
        assert here.open_runs() == []
        assert outcome.verdict["left"]["differences"] == []
        begun = [event["vmid"] for event in outcome.truth if event["kind"] == "restore_begins"]
        gone = [event["vmid"] for event in outcome.truth if event["kind"] == "guest_destroyed"]
        assert begun == gone
        assert begun == ([] if name in REFUSED else [9000])


FINDINGS = {
    "pbs-on-same-ceph": ("backup-server-outside", "is vm:107, a guest of this cluster"),
    "backup-too-old": ("backups-recent", "vm:101 60.0 h"),
    "backup-unverified": ("backups-verified", "never verified"),
    "backup-verification-failed": ("backups-verified", "vm:101 failed"),
    "restore-key-missing": ("restore-key", "there is no key on pve1, pve2, pve3"),
    "backup-owner-wrong": ("test_backup_server_agrees", "belongs to root@pam, and the cluster asks as pve@pbs!cluster"),
}
"""Defect → the finding of those who only look, and a part of its words."""


@pytest.mark.parametrize("name", FINDINGS)
def test_who_only_looks_finds_it(name: str) -> None:
    """The readiness check of that is red, and says what it saw."""
    check, words = FINDINGS[name]
    with whole_run.place() as here:
        outcome = played(here, READINESS, "-m", "readiness", "-k", "backup", defects=[name])
        red = {test["id"]: test["reason"] for test in outcome.verdict["tests"] if test["verdict"] == "rejected"}
        assert any(check in test and words in reason for test, reason in red.items()), outcome.output


def test_a_site_without_backups_is_told() -> None:
    """An HA guest that was never backed up is found, in the inventory or not."""
    with whole_run.place() as here:
        outcome = played(here, READINESS, "-m", "readiness", "-k", "backup", backup={"guest": "vm:106"})
        (test,) = (one for one in outcome.verdict["tests"] if "ha-guests-backed-up" in one["id"])
        assert test["verdict"] == "rejected"
        assert "no backup at all of vm:106" in test["reason"]
