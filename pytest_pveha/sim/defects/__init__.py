"""Planted defects: the ways a site can be wrong that a suite claims to catch.

Each is an entry here and one small hook in the world, found by searching for ``planted("name")``. Each says which test
must catch it, and with which verdict: that is how the tool proves that it can fail.
"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_pveha.sim.defects.backup import BACKUP
from pytest_pveha.sim.defects.ceph import CEPH
from pytest_pveha.sim.defects.defect import Defect
from pytest_pveha.sim.defects.storage import STORAGE

_HANG = "suites/nodes/test_hang.py"
_KERNEL_CRASH = "suites/nodes/test_kernel_crash.py"
_LEFT = "tests/mutants/test_left_as_found.py"
_NODE_FILES = "tests/sim/test_node_files.py"
_NODE_UNITS = "tests/sim/test_node_units.py"
_POWER_LOSS = "suites/nodes/test_power_loss.py"
_PARTITION = "suites/quorum/test_partition.py"
_LINK_LOSS = "suites/quorum/test_link_loss.py"
_QDEVICE_LOSS = "suites/quorum/test_qdevice_loss.py"
_QUORUM_LOSS = "suites/quorum/test_quorum_loss.py"
_WATCHDOG = "suites/nodes/test_watchdog.py"
_ROLLING = "suites/upgrade/test_rolling.py"
_CLEAN_REBOOT = "suites/nodes/test_clean_reboot.py"
_MAINTENANCE = "suites/nodes/test_maintenance.py"
_FAILBACK = "suites/nodes/test_failback.py"
_HAND = "tests/sim/test_hand.py"
_MAINS = "suites/nodes/test_physical_power_cut.py"
_EACH_GUEST = "suites/guests/test_each_guest.py"
_FENCE_PATHS = "suites/fencing/test_fence_paths.py"
_LATENCY = "suites/stretched/test_latency.py"
_ROOM_LOSS = "suites/stretched/test_site_loss.py"
_ROOM_CUT = "suites/stretched/test_intersite_cut.py"
_DR = "suites/stretched/test_dr_procedure.py"
_SWITCH = "suites/stretched/test_switch_loss.py"


_ALL = (
    Defect(
        "never-fences",
        "the HA manager sees the dead node as unknown and never fences it, so nothing is recovered",
        "the manager's loop hangs before fencing, or somebody disarmed it and forgot",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "guest-does-not-restart",
        "a recovered guest cannot start anywhere but on its home node; the start fails again and again",
        "its disk, an ISO image or a passed-through device exists on that node only",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "slow-recovery",
        "after a recovery the application answers ten minutes later than after a normal boot",
        "a file system check or a database replay after the hard stop",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "guest-relapses",
        "a recovered application answers for a minute, and then not for five",
        "its caches are cold, or what it depends on was not recovered: it is restarted until that has passed",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "writes-acknowledged-too-early",
        "what a guest was told is on the disk is lost with the power, as far as the last eight seconds go",
        "the disk's cache mode is unsafe, or an SSD or RAID controller keeps writes in a memory without a battery",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "disk-of-a-minute-ago",
        "a recovered guest's disk is as it was a minute before its node died",
        "a replica or a snapshot took the place of the disk that all nodes should share",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "storage-hangs-after-recovery",
        "half a minute after its recovery a guest's writes hang for two minutes, though it answers",
        "the storage rebuilds what the dead node kept, and serves nothing meanwhile",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "writes-slower-after-recovery",
        "a recovered guest's writes take twice as long as before, for good",
        "it came back on a node with a slower path to its storage, or the storage lost a part of its disks",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "answers-slower-after-recovery",
        "a recovered guest takes 60 ms for an answer that took less than one before, for good",
        "it came back on a node that is full or an older one, and waits for its turn on a processor",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "agent-hangs-after-recovery",
        "the guest agent of a recovered guest does not answer any more",
        "the agent's service is not enabled at boot, or waits for a device that is gone",
        _POWER_LOSS,
        "inconclusive",
    ),
    Defect(
        "other-node-reboots-too",
        "when one node loses power another one, not the CRM master, resets and is back within half a minute",
        "both hang on one overloaded power feed, or a corosync bug takes others down (corosync issue 705)",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "another-is-fenced-too",
        "when a node is fenced, the CRM fences another one in the same breath, which is back before anybody misses it",
        "its LRM lost its lock on a slow cluster file system, and got it back just before its watchdog fired",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "recovers-before-death",
        "the manager recovers guests seconds after the membership loss, without waiting for the dead node's lock",
        "somebody shortened the lock's lifetime, or added a script that 'helps' the recovery",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "rules-not-obeyed",
        "HA acts as if it had no rules",
        "the manager drops a rule that it cannot keep, and says so in its journal alone",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "recovery-piles-up",
        "all guests of a lost node are recovered to the first node that is there",
        "the scheduler cannot read the nodes' load and takes what comes first",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "bmc-ignores-power-off",
        "the BMC accepts the command to power off, and the machine keeps running",
        "a firmware bug, or a BMC user whose privilege suffices for the session but not for the act",
        _POWER_LOSS,
        "invalid",
    ),
    Defect(
        "bmc-unreachable",
        "no BMC answers: their ports are silent",
        "the management network is down or filtered from where the run stands",
        _POWER_LOSS,
        "not proven",
    ),
    Defect(
        "bmc-cables-swapped",
        "the BMC at each node's address is the next node's: a power cut would hit the wrong machine",
        "two patch cables or two DHCP reservations were exchanged in the rack",
        _POWER_LOSS,
        "not proven",
    ),
    Defect(
        "undo-store-read-only",
        "on the last node nothing can be written below /var, so that no undo can be left there",
        "its root file system is full, or was remounted read-only after an error",
        _NODE_FILES,
        "not proven",
    ),
    Defect(
        "timers-never-fire",
        "a node's timer is armed, says so, and never elapses: a dead-man that would not save anybody",
        "systemd hangs, or somebody masked what the timer starts",
        _NODE_UNITS,
        "dirty",
    ),
    Defect(
        "ha-guest-paused",
        "the first HA guest is paused: HA calls it started, its process is there, and nobody gets an answer",
        "its storage ran full, or somebody paused it for a snapshot and forgot",
        _POWER_LOSS,
        "not proven",
    ),
    Defect(
        "lrm-not-enabled",
        "the last node's LRM runs, and is not enabled: after a reset the node guards and starts nothing",
        "it was disabled and stopped for work, and only started again",
        _POWER_LOSS,
        "not proven",
    ),
    Defect(
        "ring-link-dead",
        "the last node's second corosync link is down, which nobody notices while the first one is up",
        "a cable was pulled or a switch port shut, and no alarm hangs on it",
        _POWER_LOSS,
        "not proven",
    ),
    Defect(
        "ring-token-differs",
        "the last node's corosync runs with a token of a minute: cut off, it would be quorate for longer than the rest",
        "the token was raised in a file and reloaded on that node alone, or set by hand in its running daemon",
        _POWER_LOSS,
        "not proven",
    ),
    Defect(
        "backup-running",
        "a backup is under way on the last node, and its first guest is locked for it",
        "the nightly backup runs late, into the maintenance window",
        _POWER_LOSS,
        "not proven",
    ),
    Defect(
        "ha-disarmed",
        "the HA manager is disarmed: nothing would be fenced",
        "somebody disarmed it for work on the network and forgot to arm it again",
        _POWER_LOSS,
        "not proven",
    ),
    Defect(
        "maintenance-forgotten",
        "the last node is asked to stay in maintenance",
        "somebody serviced it and forgot to give it back",
        _POWER_LOSS,
        "not proven",
    ),
    Defect(
        "clock-off",
        "the last node's clock is five seconds ahead",
        "its time server is unreachable, or virtual machines' clocks were trusted",
        _POWER_LOSS,
        "not proven",
    ),
    Defect(
        "expected-votes-lowered",
        "corosync expects one vote less than is configured",
        "somebody typed `pvecm expected` in an emergency",
        _POWER_LOSS,
        "not proven",
    ),
    Defect(
        "corosync-config-differs",
        "the last node's daemon reads an older corosync.conf than the cluster's",
        "it was down, or its disk was full, while the configuration was changed",
        _POWER_LOSS,
        "not proven",
    ),
    Defect(
        "controller-is-a-guest",
        "the first guest has the network card of the machine that runs the tests",
        "the tests run in a VM of the very cluster",
        _POWER_LOSS,
        "not proven",
    ),
    Defect(
        "guest-paused",
        "the guests without HA of the last node are paused",
        "their storage was full, or somebody looked into them with a debugger",
        _POWER_LOSS,
        "not proven",
    ),
    Defect(
        "ceph-degraded",
        "one OSD is down, so placement groups lack a copy (with a `ceph` block)",
        "a disk died and waits for its replacement",
        _POWER_LOSS,
        "not proven",
    ),
    Defect(
        "ceph-flag-forgotten",
        "the flag noout is set (with a `ceph` block)",
        "somebody set it before a reboot and forgot it",
        _POWER_LOSS,
        "not proven",
    ),
    Defect(
        "protected-guest-dies",
        "when a node is lost, a guest without HA on another one dies and is not started again",
        "it used a service on the lost node, or ran out of memory when others came",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "guest-given-up",
        "when a node is lost, a guest under HA on another one dies and cannot be started: its service goes to error",
        "its storage was reached through the lost node, or its disk is damaged",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "osd-fails-too",
        "when a node is lost, another node's OSDs crash for five minutes: data is not served (with a `ceph` block)",
        "they ran out of memory in recovery, and start again much later",
        _POWER_LOSS,
        "rejected",
    ),
    Defect(
        "minority-keeps-quorum",
        "whoever is cut off goes on calling itself quorate",
        "`last_man_standing` without `wait_for_all`, or a script that types `pvecm expected 1` when nodes are missing",
        _PARTITION,
        "rejected",
    ),
    Defect(
        "starts-without-quorum",
        "a node that boots without quorum starts the HA guests that it believes to be its own",
        "a script in rc.local that 'helps' after a power failure",
        _PARTITION,
        "rejected",
    ),
    Defect(
        "writable-without-quorum",
        "the cluster's file system can be written on a node without quorum",
        "pmxcfs was started with -l (local mode) and forgotten",
        _PARTITION,
        "rejected",
    ),
    Defect(
        "cut-takes-more",
        "when nodes are cut off, another node, not the CRM master, loses the others for half a minute",
        "its corosync hangs on the switch of those cut off, or a broadcast storm drowns it",
        _PARTITION,
        "rejected",
    ),
    Defect(
        "rejoin-flaps",
        "a node that was cut off comes back, and is lost twice more",
        "a bond or a spanning tree that needs half a minute to settle",
        _PARTITION,
        "rejected",
    ),
    Defect(
        "token-of-a-large-cluster",
        "corosync's token takes 22.5 s, as on thirty-two nodes with the coefficient of older clusters",
        "a cluster made before pve-cluster 9.1 has grown, and its token_coefficient is still 650",
        _PARTITION,
        "not proven",
    ),
    Defect(
        "idle-master-resets",
        "a CRM master that loses quorum keeps its watchdog and does not feed it: its node resets, guests or not",
        "a version of the HA manager that forgets to close it, or a wrapper of the site's own around the daemon",
        _PARTITION,
        "rejected",
    ),
    Defect(
        "qnetd-decides-late",
        "the quorum device decides 38 s after a membership has formed",
        "qnetd is overloaded or far away, and somebody raised sync_timeout",
        _PARTITION,
        "rejected",
    ),
    Defect(
        "second-link-on-same-cable",
        "when corosync's first link is lost, the others are too",
        "both links are VLANs of one cable or one switch",
        _LINK_LOSS,
        "rejected",
    ),
    Defect(
        "qdevice-not-voting",
        "the quorum device is connected and casts no vote",
        "the nodes' qdevice and qnetd disagree on the algorithm after an upgrade",
        _QDEVICE_LOSS,
        "rejected",
    ),
    Defect(
        "reset-before-its-time",
        "a node resets itself 30 s after it lost quorum, long before its watchdog would",
        "a script of the site's own, or a vendor's cluster agent, that has its own idea of quorum",
        _QUORUM_LOSS,
        "rejected",
    ),
    Defect(
        "short-loss-resets",
        "a node resets itself 10 s after it lost quorum",
        "a script of the site's own that 'fences' faster than the watchdog",
        _QUORUM_LOSS,
        "rejected",
    ),
    Defect(
        "watchdog-never-bites",
        "no hardware watchdog ever resets a node, though it is armed and not fed any more",
        "the board's no-reboot strap is set, an agent of the vendor feeds it, or the driver knows another chip",
        _WATCHDOG,
        "rejected",
    ),
    Defect(
        "watchdog-bites-late",
        "hardware watchdogs bite 40 s late, just before others take over a node that is cut off",
        "a BMC's watchdog firmware counts in its own, coarser steps, or somebody raised the timeout",
        _WATCHDOG,
        "rejected",
    ),
    Defect(
        "watchdog-device-taken",
        "on the last node another program holds /dev/watchdog: the multiplexer cannot run, and the LRM stays passive",
        "a vendor's server recovery tool, or systemd's RuntimeWatchdogSec, opened it first",
        _WATCHDOG,
        "not proven",
    ),
    Defect(
        "mux-restarts-itself",
        "a killed watchdog multiplexer is started again within a second and feeds the hardware for nobody",
        "somebody gave its unit Restart=always and let it remove the mark of its earlier clients",
        _WATCHDOG,
        "rejected",
    ),
    Defect(
        "kernel-panic-hangs",
        "a node whose kernel has panicked stays dark, whatever kernel.panic or its watchdog are set to",
        "the crash kernel of kdump hangs, or the panic came in a place from which the firmware is not reached",
        _KERNEL_CRASH,
        "rejected",
    ),
    Defect(
        "panic-takes-others",
        "when one node's kernel panics another one, not the CRM master, resets",
        "both share a driver's bug that a storm of fencing traffic brings out",
        _KERNEL_CRASH,
        "rejected",
    ),
    Defect(
        "half-alive-node",
        "a node whose userland stands still is not reset, and its guests run on while they start elsewhere",
        "a kernel thread or the BMC's agent goes on feeding the hardware watchdog",
        _HANG,
        "rejected",
    ),
    Defect(
        "node-left-behind",
        "the last node runs an older Proxmox VE than the others",
        "its update failed half-way, or its repository is not the others'",
        _ROLLING,
        "rejected",
    ),
    Defect(
        "restart-kills-guests",
        "when a node's LRM is restarted, the processes of its guests die with it",
        "somebody changed how the unit is killed, and systemd takes its whole control group",
        _ROLLING,
        "rejected",
    ),
    Defect(
        "watchdog-nearly-fires",
        "when a node's LRM is restarted, its new process feeds the watchdog a moment before it would have fired",
        "the disk is so slow that the daemon takes most of a minute to start",
        _ROLLING,
        "rejected",
    ),
    Defect(
        "stays-frozen",
        "a node is back from a clean reboot, and for a quarter of an hour HA leaves its guests frozen and stopped",
        "its LRM came up with the old status file, or waits for storage that is slow to appear",
        _CLEAN_REBOOT,
        "rejected",
    ),
    Defect(
        "guest-cannot-migrate",
        "the first VM under HA of each node cannot move while it runs: under `migrate` its node never goes down",
        "a passed-through device, a local ISO image or a CPU type that the other nodes lack",
        _CLEAN_REBOOT,
        "rejected",
    ),
    Defect(
        "guest-lost-on-shutdown",
        "when a node goes down in good order, its first guest is asked to be stopped, and nobody asks to start it",
        "a script for the UPS or the backup shuts guests down through PVE, which remembers it as a wish",
        _CLEAN_REBOOT,
        "rejected",
    ),
    Defect(
        "shutdown-hangs",
        "a node that goes down in good order hangs for twelve minutes before it leaves the cluster",
        "a network file system whose server is gone cannot be unmounted, and systemd waits",
        _CLEAN_REBOOT,
        "rejected",
    ),
    Defect(
        "reboot-trips-watchdog",
        "the LRM is killed two seconds after it was asked to stop: its watchdog resets the node on its way down",
        "somebody shortened the unit's stop timeout in a drop-in, to make reboots faster",
        _CLEAN_REBOOT,
        "rejected",
    ),
    Defect(
        "policy-not-obeyed",
        "whatever the shutdown policy says, LRMs act as under `conditional`: guests stop and do not move",
        "the LRMs run a version that does not know the policy; the package was updated and they were not restarted",
        _CLEAN_REBOOT,
        "rejected",
    ),
    Defect(
        "maintenance-blocks-fencing",
        "while a node is in maintenance no lost node is fenced",
        "whoever patched the manager for planned work forgot that others may fail meanwhile",
        _MAINTENANCE,
        "rejected",
    ),
    Defect(
        "maintenance-not-left",
        "a node that is called back from maintenance stays in it for five minutes",
        "its LRM hangs on something else and reads its requests late",
        _MAINTENANCE,
        "rejected",
    ),
    Defect(
        "max-workers-one",
        "each node starts one guest at a time, so that a full host's last ones come back late",
        "somebody set max_workers to 1 in datacenter.cfg, to spare a slow storage or migration network",
        _EACH_GUEST,
        "rejected",
    ),
    Defect(
        "pair-parted",
        "guests that a rule keeps on one node are recovered to different ones",
        "the manager dropped the rule as one that it cannot keep, which it says once and nobody reads",
        _FAILBACK,
        "rejected",
    ),
    Defect(
        "nofailback-ignored",
        "guests go back to a better node though failback is off for them",
        "the flag was lost when groups were migrated to rules",
        _FAILBACK,
        "rejected",
    ),
    Defect(
        "guest-to-and-fro",
        "after a node is back its first guest is sent away again, once a minute, four times, and HA brings it back",
        "somebody's balancing script and an HA rule want different things",
        _FAILBACK,
        "rejected",
    ),
    Defect(
        "bmc-unreachable-from-one-node",
        "the first node cannot reach the last node's BMC; everybody else can",
        "a switch port in another VLAN, or a firewall rule of the node itself",
        _FENCE_PATHS,
        "rejected",
    ),
    Defect(
        "bmc-user-may-not-switch",
        "the last node's BMC lets our user in and gives it no right to switch power",
        "the user was made by hand with the privilege USER, or as ReadOnly",
        _FENCE_PATHS,
        "rejected",
    ),
    Defect(
        "bmc-slow",
        "the last node's BMC answers half a minute late",
        "its firmware is busy: a web page left open, or a memory leak since its last restart",
        _FENCE_PATHS,
        "rejected",
    ),
    Defect(
        "bmc-address-taken",
        "where the first node stands, the last node's BMC address is another machine's: fencing would hit that",
        "an address was given twice in two VLANs, or a cable goes to the wrong patch panel",
        _FENCE_PATHS,
        "rejected",
    ),
    Defect(
        "bmc-refuses-peers",
        "every BMC grants a session from another node and then refuses the command to power off",
        "firmware that allows power commands from one management address only, or takes a session's word for a right",
        _FENCE_PATHS,
        "rejected",
    ),
    Defect(
        "guest-not-restarted-after-kill",
        "a guest whose process died is not started again: its LRM goes on calling it started",
        "a stale pid file, or a process table entry of the dead guest, is taken for the guest",
        _EACH_GUEST,
        "rejected",
    ),
    Defect(
        "guest-migration-fails",
        "no guest can be moved to another node: each try ends with an error, and it stays where it is",
        "an ISO image from a storage that the other nodes lack is still in its drive, or a device is passed through",
        _EACH_GUEST,
        "rejected",
    ),
    Defect(
        "pdu-switches-wrong-outlet",
        "the PDU's outlets of each node are another node's",
        "two power cords were exchanged, or the PDU's labels were",
        _MAINS,
        "rejected",
    ),
    Defect(
        "power-cycle-sets-pxe",
        "a BMC that was told to switch its machine on makes every later boot ask the network first",
        "a provisioning profile of the firmware, or a management server that installs whatever powers on",
        _LEFT,
        "accepted",
    ),
    Defect(
        "operator-pulls-wrong-cord",
        "asked to pull the power cords of one node the person at the rack pulls those of the next one",
        "the cords are not labelled, or the rack's plan is of last year",
        _MAINS,
        "invalid",
    ),
    Defect(
        "operator-leaves-second-cord",
        "the person at the rack pulls one power cord and says done; the second power supply carries the node on",
        "nobody counted the cords",
        _MAINS,
        "invalid",
    ),
    Defect(
        "operator-never-answers",
        "the person at the rack neither answers nor does anything",
        "the pager is in the other jacket, or the number in the inventory is old",
        _MAINS,
        "not proven",
    ),
    Defect(
        "operator-vanishes",
        "the person at the rack is ready, and from then on neither answers nor does anything",
        "somebody else called them away; nobody knows whether they will still pull the cord",
        _HAND,
        "dirty",
    ),
    Defect(
        "fence-tool-missing",
        "on the last node neither ipmitool nor curl is installed, so it could fence nobody",
        "the node was installed anew, and what had been added by hand was forgotten",
        _FENCE_PATHS,
        "inconclusive",
    ),
    Defect(
        "rooms-far-apart",
        "a packet takes 6 ms from any room to another, 12 ms there and back",
        "the provider took the fibre's long way round, or the second site is in another town than planned",
        _LATENCY,
        "rejected",
    ),
    Defect(
        "one-direction-slow",
        "packets from the last room to the others take 12 ms; those the other way are fast",
        "the two directions are routed over different paths since a failure that nobody repaired",
        _LATENCY,
        "rejected",
    ),
    Defect(
        "uneven-way",
        "the ways between rooms jitter by 4 ms",
        "backups or replication share the link without a priority",
        _LATENCY,
        "rejected",
    ),
    Defect(
        "lossy-way",
        "one packet of a hundred is lost between rooms",
        "a dirty connector, or a policer that drops bursts",
        _LATENCY,
        "rejected",
    ),
    Defect(
        "tiebreaker-far-away",
        "a packet takes 80 ms from any node to the quorum device's machine",
        "it is a virtual machine in a cloud on another continent",
        _LATENCY,
        "rejected",
    ),
    Defect(
        "tiebreaker-behind-one-room",
        "the other rooms reach the quorum device only through the first node's room",
        "the third site's line ends in one of the two, though the plan shows it between them",
        _ROOM_LOSS,
        "rejected",
    ),
    Defect(
        "tiebreaker-loses-room",
        "the quorum device is gone when all nodes of the first node's room are",
        "it is a virtual machine that was moved into that room, or hangs on its UPS",
        _ROOM_LOSS,
        "rejected",
    ),
    Defect(
        "room-cut-starts-both",
        "when the rooms are cut from each other, each calls itself quorate",
        "the quorum device votes for whoever asks: two of them run with one name",
        _ROOM_CUT,
        "rejected",
    ),
    Defect(
        "arbiters-disagree",
        "when the rooms are cut from each other, corosync goes on in one and Ceph in the other",
        "each has an arbiter of its own, and the mons of the other room score better, or are of lower ranks",
        _ROOM_CUT,
        "rejected",
    ),
    Defect(
        "operator-skips-a-step",
        "people say done to each step of a runbook, and have done none",
        "the runbook's command was typed into the wrong window, and its error was not read",
        _DR,
        "rejected",
    ),
    Defect(
        "bmcs-on-production-switch",
        "a node that has lost its first corosync link reaches no BMC either",
        "the BMCs' network is a VLAN of the switch that carries production",
        _SWITCH,
        "rejected",
    ),
    Defect(
        "rooms-meet-at-the-tiebreaker",
        "without the node that is the tiebreaker the two rooms do not hear each other",
        "the tiebreaker's site routes between the rooms: the direct line is down, or was never taken",
        "suites/stretched/test_tiebreaker_loss.py",
        "rejected",
    ),
    Defect(
        "bond-member-in-wrong-vlan",
        "the last card of every bond has a link, and nothing passes over it",
        "its port of the switch was never put into the networks' VLANs, or hangs on another switch without them",
        "suites/quorum/test_bond_member.py",
        "rejected",
    ),
    Defect(
        "lacp-slow",
        "bonds ask their switch to speak every 30 s: one that dies with its lights on is missed after 90 s",
        "it is the default of Linux and of most switches",
        "suites/readiness/test_bonds.py",
        "rejected",
    ),
    Defect(
        "guests-on-one-switch",
        "the guests' network, said to go over several switches, has all its cables in the first of them",
        "the bond's second cable was plugged in where there was a free port",
        _SWITCH,
        "rejected",
    ),
    Defect(
        "operator-takes-wrong-switch",
        "asked to take one switch off the network the person takes the next one",
        "two switches of one type stand above each other, and the labels are at the back",
        _SWITCH,
        "invalid",
    ),
    *BACKUP,
    *STORAGE,
    *CEPH,
)

DEFECTS: dict[str, Defect] = {defect.name: defect for defect in _ALL}


def check_known(names: Iterable[str]) -> frozenset[str]:
    """Those names, if all are defects we know; else a ValueError that lists the known ones."""
    wanted = frozenset(names)
    if unknown := sorted(wanted - DEFECTS.keys()):
        raise ValueError(f"unknown defect {', '.join(unknown)}; known: {', '.join(DEFECTS)}")
    return wanted
