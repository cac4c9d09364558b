"""Planted defects of backups and restores."""

from __future__ import annotations

from pytest_pveha.sim.defects.defect import Defect

_RESTORE = "suites/backup/test_restore.py"

BACKUP = (
    Defect(
        "backup-unverified",
        "the newest backup of every guest was never verified",
        "the verify job runs on Sundays, or was never made",
        _RESTORE,
        "rejected",
    ),
    Defect(
        "backup-verification-failed",
        "the newest backup of every guest was verified, and is broken",
        "a disk of the backup server forgets bits, and nobody reads its mail",
        _RESTORE,
        "rejected",
    ),
    Defect(
        "backup-corrupt",
        "a chunk of the newest backups has rotted since they were verified: no restore of them ends",
        "a disk of the backup server forgets bits",
        _RESTORE,
        "rejected",
    ),
    Defect(
        "backup-too-old",
        "the newest backup of every guest is two and a half days old",
        "the backup job is disabled, or has been failing since Friday",
        _RESTORE,
        "rejected",
    ),
    Defect(
        "backup-owner-wrong",
        "the newest backups belong to another user of the backup server than the cluster's, who may not read them",
        "somebody made them by hand as root, or the storage was given another token",
        _RESTORE,
        "rejected",
    ),
    Defect(
        "restore-key-missing",
        "the backups are encrypted, and the cluster has not got the key",
        "the key lay on the cluster alone, which was installed anew",
        _RESTORE,
        "not proven",
    ),
    Defect(
        "pbs-on-same-ceph",
        "the backup server is a guest of this very cluster",
        "there was room for it",
        "suites/readiness/test_readiness.py",
        "rejected",
    ),
    Defect(
        "pbs-gone-in-mid-restore",
        "the backup server is gone when a restore is half way",
        "it has one power supply, or its network card hangs under load",
        _RESTORE,
        "rejected",
    ),
    Defect(
        "restore-leaves-lock",
        "a restore ends well, and what it made stays locked",
        "its worker was killed after its last step, or a version forgot it",
        _RESTORE,
        "rejected",
    ),
    Defect(
        "restore-slow",
        "a restore takes forty times as long as it should",
        "the backup server's disks turn, or its network is the one for management",
        _RESTORE,
        "rejected",
    ),
    Defect(
        "restored-guest-does-not-boot",
        "what was restored runs, and nothing in it answers",
        "its boot order names a disk that the backup leaves out",
        _RESTORE,
        "rejected",
    ),
    Defect(
        "restored-content-differs",
        "what was restored has another guest's data",
        "two clusters back up to one namespace, and use the same numbers",
        _RESTORE,
        "rejected",
    ),
)
