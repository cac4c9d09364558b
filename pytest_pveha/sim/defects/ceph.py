"""Planted defects of Ceph; a site needs a `ceph` block for them."""

from __future__ import annotations

from pytest_pveha.sim.defects.defect import Defect

_OSD, _HOST = "suites/storage/test_osd_failure.py", "suites/storage/test_ceph_host_loss.py"
_NETWORK, _WORK = "suites/storage/test_ceph_network.py", "suites/storage/test_maintenance_plus_loss.py"

CEPH = (
    Defect(
        "pool-min-size-one",
        "every pool serves with a single copy left: what is acknowledged then is lost with it (with a `ceph` block)",
        "somebody set min_size to 1 to get through an outage, and left it",
        _HOST,
        "not proven",
    ),
    Defect(
        "copies-share-a-host",
        "copies of the same data lie on OSDs of one host: its loss stops them (with a `ceph` block)",
        "the CRUSH rule was made when there was one host, and keeps OSDs apart, not hosts",
        _HOST,
        "not proven",
    ),
    Defect(
        "ceph-cluster-network-dead",
        "the last node's card on Ceph's cluster network is down (with a `ceph` block)",
        "a cable that was pulled with another one; nothing but Ceph's OSDs uses it",
        _NETWORK,
        "not proven",
    ),
    Defect(
        "recovery-never-ends",
        "what was on a lost OSD is never rebuilt elsewhere: backfills wait for ever (with a `ceph` block)",
        "osd_max_backfills was set to 0 during a migration, or the mClock scheduler gives recovery nothing",
        _OSD,
        "rejected",
    ),
    Defect(
        "rebuild-too-slow",
        "a lost OSD is rebuilt at a fiftieth of the speed (with a `ceph` block)",
        "recovery was throttled for the clients' sake, or the cluster network fell back to 100 Mbit/s",
        _OSD,
        "rejected",
    ),
    Defect(
        "rebuild-starves-clients",
        "while copies are made again each write of a client takes a quarter of a second longer (with a `ceph` block)",
        "osd_max_backfills was raised, or the mClock profile set to high_recovery_ops, to get through a migration",
        _OSD,
        "rejected",
    ),
    Defect(
        "survivor-nearly-full",
        "the last OSD of each host is so full that it cannot take what its neighbour has (with a `ceph` block)",
        "a replacement disk that is smaller than the others, and no warning before 85 %",
        _OSD,
        "not proven",
    ),
    Defect(
        "osd-flaps",
        "an OSD that was started again dies 20 s later, five times (with a `ceph` block)",
        "a damaged disk that is read only after a while, or too little memory for its recovery",
        _OSD,
        "rejected",
    ),
    Defect(
        "cut-osds-flap",
        "OSDs that are cut off the cluster network say over the public one that they are there, again and again, and "
        "each time writes stall until they are missed (with a `ceph` block)",
        "osd_heartbeat_min_healthy_ratio was set to 0 to get OSDs up during an outage, and left so",
        _NETWORK,
        "rejected",
    ),
    Defect(
        "second-loss-hangs",
        "placement groups of which two copies are gone do not find themselves until one is back, though enough are "
        "left (with a `ceph` block)",
        "an OSD with a damaged log, which is asked only once the others are gone; one loss at a time is survived",
        _WORK,
        "rejected",
    ),
    Defect(
        "osd-grace-too-long",
        "OSDs that are silent are waited for ten times as long, and nothing is written meanwhile (with a `ceph` block)",
        "osd_heartbeat_grace was raised to quieten flapping OSDs",
        _NETWORK,
        "rejected",
    ),
    Defect(
        "two-mons-only",
        "there are two mons: the loss of either stops all changes of Ceph (with a `ceph` block)",
        "the third was removed with its node, and never made anew",
        _HOST,
        "not proven",
    ),
    Defect(
        "health-muted",
        "Ceph calls itself HEALTH_OK while placement groups are not served (with a `ceph` block)",
        "somebody muted the checks during an outage, with --sticky",
        _NETWORK,
        "rejected",
    ),
)
