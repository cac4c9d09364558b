"""Planted defects of storages and of replication."""

from __future__ import annotations

from pytest_pveha.sim.defects.defect import Defect

_SHARED = "suites/storage/test_shared_storage.py"
_FAILOVER = "suites/storage/test_replication_failover.py"

STORAGE = (
    Defect(
        "guest-on-local-disk",
        "the first HA guest has a second disk on a local storage, which no other node has",
        "a disk was added in a hurry, and the dialog proposed local-lvm",
        _SHARED,
        "not proven",
    ),
    Defect(
        "guest-with-local-iso",
        "the first HA guest's CD drive holds an image on a local storage: it cannot start elsewhere",
        "the installation medium was never taken out",
        _SHARED,
        "not proven",
    ),
    Defect(
        "guest-with-passthrough",
        "the first HA guest has a PCI device of its node",
        "a card was passed through for a test, without a mapping for the other nodes",
        _SHARED,
        "not proven",
    ),
    Defect(
        "storage-not-everywhere",
        "the storage that guests lie on is not given to the last node, where HA may start them",
        "the node was added later, and `nodes` of the storage was not",
        _SHARED,
        "not proven",
    ),
    Defect(
        "shared-in-name-only",
        "the first HA guest has a disk in a directory that is called shared, and is another one on each node",
        "somebody ticked `shared` to make a migration start, or one node's /etc/fstab lacks the mount",
        _SHARED,
        "not proven",
    ),
    Defect(
        "replication-never-ran",
        "a replication job is configured, and has never run",
        "its schedule never comes, or pvescheduler does not run",
        _FAILOVER,
        "not proven",
    ),
    Defect(
        "replication-failing",
        "a replication job has failed for hours",
        "source and target have no snapshot in common any more",
        _FAILOVER,
        "not proven",
    ),
    Defect(
        "replica-on-wrong-node",
        "a replica lies on another node than those on which HA may start the guest",
        "the rule was changed and the job was not",
        _FAILOVER,
        "not proven",
    ),
    Defect(
        "replica-older-than-told",
        "what lies on the target is six hours older than the job says",
        "the target's pool was rolled back, or restored from a backup",
        _FAILOVER,
        "rejected",
    ),
    Defect(
        "disk-not-replicated",
        "the first replicated guest has a disk that is left out of its replication, so it cannot start elsewhere",
        "the disk was made for scratch data, with replicate=0, and now the system needs it",
        _FAILOVER,
        "not proven",
    ),
    Defect(
        "job-does-not-turn-round",
        "after a failover the job goes on meaning the node on which the guest now runs, and replicates nothing",
        "somebody's script writes replication.cfg from a template",
        _FAILOVER,
        "rejected",
    ),
    Defect(
        "nfs-stale-after-return",
        "when the NFS server is back the nodes' mounts are stale: every request fails",
        "it serves a restored file system, with another file system id",
        _SHARED,
        "rejected",
    ),
    Defect(
        "guests-give-up-on-stall",
        "guests whose disk hangs for 15 s get errors, and go on read-only, though the kernel's session would wait",
        "multipath above it fails without a path (no_path_retry fail)",
        _SHARED,
        "rejected",
    ),
    Defect(
        "ha-thrashes-in-stall",
        "guests whose disk hangs are taken for dead and killed, and started again as soon as that can be",
        "a script that watches the guests and 'helps'",
        _SHARED,
        "rejected",
    ),
    Defect(
        "iscsi-path-timeout-short",
        "the nodes fail an iSCSI request after 5 s without a path, so a short cut would make guests read-only",
        "somebody copied replacement_timeout = 5 from a guide for multipath",
        _SHARED,
        "not proven",
    ),
)
