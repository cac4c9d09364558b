"""What must not be broken is not broken: each rule of the interlock refuses, on a running site, with its arithmetic.

How a refusal is told at the end of a run of pytest's is shown by ``ha-disarmed`` in test_defects.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import refusing
import whole_run
from refusing import Meanwhile, Wish, by_hand, cut, nothing, partition, refused, typed, without_ssh

from pytest_pveha.faults.interlock import RULES
from pytest_pveha.handles.ceph.daemon import OsdDaemon
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.served import served
from pytest_pveha.handles.site import Site
from pytest_pveha.record.journal import Line
from pytest_pveha.scenario.breaking import Faults
from tests.mutants.test_defects import CAUGHT

POWER_LOSS = whole_run.ROOT / "suites" / "nodes" / "test_power_loss.py"
BACKED_UP: dict[str, Any] = {
    "backup": {"storage": "pbs1", "restore": {"ids": [9000, 9009], "storage": "local-lvm"}},
}
GUESTS = [{"id": f"vm:{100 + number}", "tier": "gold"} for number in range(1, 4)]


def consent(**more: Any) -> dict[str, Any]:
    """A consent block that grants everything, with these keys."""
    return {
        "consent": {
            "destructive": True,
            "cluster": "pveha-sim",
            "granted_by": "J. Doe",
            "ticket": "CHG-1",
            "not_before": "2020-01-01T00:00:00Z",
            "not_after": "2999-01-01T00:00:00Z",
            "faults": ["power"],
            "targets": "all",
            **more,
        }
    }


def many(count: int) -> dict[str, Any]:
    """That many nodes, in place of three."""
    return {
        "nodes": {f"pve{number}": {"room": "abc"[number % 3]} for number in range(1, count + 1)},
        "guests": GUESTS,
    }


# --- what is asked for ------------------------------------------------------------------------------------------------


def reboot(node: str) -> Wish:
    """That node, in good order."""
    return lambda faults, site: faults.clean_reboot(site.nodes[node])


def restart(node: str, unit: str) -> Wish:
    """That daemon."""
    return lambda faults, site: faults.service_restarted(site.nodes[node], unit)


def restored(sid: str) -> Wish:
    """That guest, beside itself."""
    return lambda faults, site: faults.guest_restored(next(one for one in site.guests if one.sid == sid))  # type: ignore[return-value]


def silence(storage: str) -> Wish:
    """The server of that storage."""
    return lambda faults, site: faults.storage_cut(served(site, storage, lambda: site.clock.deadline(10)))


def lost_osd(osd: int, node: str) -> Wish:
    """That OSD, for good."""
    return lambda faults, site: faults.osd_lost(OsdDaemon(osd, node))


def brief(node: str, seconds: float) -> Wish:
    """That node cut off, by somebody who lets the nodes undo it after so long."""

    def wish(faults: Faults, site: Site) -> AbstractContextManager[None]:
        one = Nodes([site.nodes[node]])
        return faults._cut(one, one, "30 s", brief=seconds)

    return wish


# --- what somebody does meanwhile -------------------------------------------------------------------------------------


def firewalled(*nodes: str) -> Meanwhile:
    """Somebody lets the nodes alone reach the API of these."""
    ruleset = (
        "table inet office {\n"
        "    chain in {\n"
        "        type filter hook input priority 0; policy accept;\n"
        "        ip saddr { 10.99.200.1 } tcp dport 8006 counter drop\n"
        "    }\n"
        "}\n"
    )

    @contextmanager
    def filtered(site: Site) -> Iterator[None]:
        for node in nodes:
            site.nodes[node].act(site.clock.deadline(10), "nft", "-f", "-", input=ruleset)
        site.cluster.membership(site.clock.deadline(30))  # somebody looked, and the run knows who answers
        yield
        for node in nodes:
            typed(site, node, "nft", "delete", "table", "inet", "office")

    return filtered


@contextmanager
def moving(site: Site) -> Iterator[None]:
    """Somebody balances the load, and thinks better of it."""
    typed(site, "pve1", "ha-manager", "migrate", "vm:105", "pve2")
    site.clock.sleep(15)
    yield
    site.clock.sleep(60)
    typed(site, "pve1", "ha-manager", "migrate", "vm:105", "pve3")
    site.clock.sleep(60)


@contextmanager
def given_up(site: Site) -> Iterator[None]:
    """A guest dies, cannot be started, and stays in error until somebody has repaired it."""
    pid = site.nodes["pve3"].command(site.clock.deadline(10), "cat", "/run/qemu-server/106.pid").strip()
    typed(site, "pve3", "kill", "-9", pid)
    site.clock.sleep(120)
    yield
    for state in ("disabled", "started"):
        site.cluster.request("vm:106", state, site.clock.deadline(10))
        site.clock.sleep(60)


# --- the sites, and what is refused there -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Unfit:
    """A site with nothing broken: the inventory's blocks, and how its simulator is set."""

    blocks: dict[str, Any] = field(default_factory=dict)
    simulator: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """A wish, and the rule that refuses it with these words (a regular expression)."""

    site: str
    rule: str
    wish: Wish
    words: str
    breaks: str = "power-cut"
    meanwhile: Meanwhile = nothing


UNFIT = {
    # three hosts with three copies: what one OSD held must go onto its only neighbour
    "full disks": Unfit({"ceph": {}}, {"ceph": {"fill": 0.55}}),
    # small machines, and guests that are not ours
    "crowded": Unfit(
        consent(never_touch={"guests": ["vm:102"]}),
        {
            "node_memory": "16 GiB",
            "guests": [{"id": "vm:101", "memory": "18 GiB"}, {"id": "vm:108", "node": "pve1", "ha": False}],
        },
    ),
    # somebody raised it against a shaky network; 650 on 26 nodes comes to as much
    "slow ring": Unfit(many(6), {"token_coefficient": 4000, "guests": []}),
    "two nodes": Unfit(many(2), {"guests": []}),
    # somebody wrote two_node: 1 into corosync.conf, so that one node goes on without the other
    "two-node mode": Unfit(many(2), {"guests": [], "two_node": True}),
    "many hands": Unfit(
        {"ceph": {}},
        {
            # `pvecm qdevice setup` was typed after the inventory had been written
            "quorum_device": "ffsplit",
            # min_size was raised to be safe, and two mons were thought to be better than one
            "ceph": {"min_size": 3, "mons": 2},
            # each is within a second of ours, and they are not within one of each other
            "nodes": [{"name": "pve2", "clock": 0.8}, {"name": "pve3", "clock": -0.8}],
            # the token was made to look
            "token_lacks": ["Sys.PowerMgmt", "Sys.Console", "VM.PowerMgmt"],
            # an ssh_config with a ProxyJump, or a port forwarder on a node
            "way_through": "pve3",
        },
    ),
    # a storage as small as its only guest, small machines, and a verify job whose mail nobody reads
    "backups nobody can use": Unfit(
        BACKED_UP,
        {
            "node_memory": "16 GiB",
            "guests": [{"id": "vm:101", "memory": "18 GiB"}],
            "backup": {"space": "9 GiB"},
            "defects": ["backup-verification-failed"],
        },
    ),
    "sound": Unfit(
        {},
        {
            "nodes": [{"name": "pve3", "missing_tools": ["test"]}],
            "guests": [
                {"id": "vm:106", "max_restart": 0, "max_relocate": 0, "start_failures": 1},
                {"id": "vm:107", "name": "build-box", "node": "pve3", "ha": False},
            ],
        },
    ),
}

REFUSED = {
    "HA that somebody has disarmed since": Refused(
        "full disks",
        "armed",
        cut("pve2"),
        r"HA is disarmed: nothing would be fenced or recovered; type `ha-manager crm-command arm-ha`",
        meanwhile=by_hand(
            "pve1",
            ("ha-manager", "crm-command", "disarm-ha", "freeze"),
            ("ha-manager", "crm-command", "arm-ha"),
            wait=60,
        ),
    ),
    "a flag that somebody has set since": Refused(
        "full disks",
        "flags",
        cut("pve2"),
        r"Ceph: noout is set, so it would not heal itself; `ceph osd unset noout`",
        meanwhile=by_hand("pve1", ("ceph", "osd", "set", "noout"), ("ceph", "osd", "unset", "noout")),
    ),
    "copies that are lacking since": Refused(
        "full disks",
        "clean",
        cut("pve2"),
        r"Ceph: not all placement groups are active\+clean \(\d+ active\+undersized(\+degraded)?",
        meanwhile=by_hand("pve1", ("systemctl", "stop", "ceph-osd@0"), ("systemctl", "start", "ceph-osd@0"), wait=60),
    ),
    "a rebuild that does not fit": Refused(
        "full disks",
        "room",
        lost_osd(0, "pve1"),
        r"Ceph: rebuilding \S+ GiB of OSDs 0 would fill the fullest of the others to \d+%, and at 90% the rebuild",
        "osd-lost",
    ),
    # 90 % of 16 GiB less what is used leaves each survivor 11.2 GiB: enough together, and not for the one of 18 GiB
    "memory too small": Refused(
        "crowded",
        "memory",
        cut("pve1"),
        r"memory: the HA guests of pve1 need 22\.0 GiB; largest first, vm:101 \(18\.0 GiB\) fits nowhere any more: "
        r"pve2 11\.2 GiB, pve3 11\.2 GiB left",
    ),
    "a token that is given up late": Refused(
        "slow ring",
        "membership_time",
        cut("pve2"),
        r"membership: 2\.2 × token 19 s \+ 10 s = 51\.8 s, not below 50 s: .*lower totem\.token_coefficient",
    ),
    "one of two": Refused(
        "two nodes",
        "enough",
        cut("pve2"),
        r"votes: 2 present − 1 of pve2 = 1, and 2 of 2 are needed: the rest would lose quorum and reset itself",
    ),
    "two halves": Refused(
        "two-node mode",
        "two_halves",
        partition("pve2"),
        r"votes: in two-node mode each half stays quorate by itself when they are cut from each other",
        "partition",
    ),
    "guest never to be touched": Refused(
        "crowded",
        "never_touch",
        cut("pve1"),
        r"never_touch: vm:102 would be reached, and `consent\.never_touch` names it",
    ),
    "guest that nobody named": Refused(
        "crowded",
        "bystanders",
        cut("pve1"),
        r"guests: vm:108 on pve1 would go down, and neither `guests:` names it nor does `consent\.bystanders`",
    ),
    "writes of a guest that nobody named": Refused(
        "crowded",
        "hung",
        silence("shared"),
        r"guests: the writes of vm:108 would hang, and neither `guests:` names it nor does `consent\.bystanders`",
        "storage-cut",
    ),
    "quorum device that nobody described": Refused(
        "many hands",
        "override",
        cut("pve2"),
        r"votes: a quorum device votes on this cluster, and the inventory has no `quorum_device`; describe it",
    ),
    "OSDs that may not stop": Refused(
        "many hands",
        "stoppable",
        cut("pve1"),
        r"Ceph: `ceph osd ok-to-stop 0 1` \(all of pve1\) says no: .*unsafe to stop osd\(s\) at this time \(129 PGs",
    ),
    "one mon of two": Refused(
        "many hands",
        "mons",
        cut("pve1"),
        r"Ceph: 2 mons in quorum − 1 of pve1 = 1, and 2 of 2 are needed: no data would be served",
    ),
    "clocks that differ": Refused(
        "many hands",
        "clocks",
        cut("pve1"),
        r"clocks: pve2 is ahead of pve3 by 1\.[56] s, more than 1 s; `chronyc tracking`",
    ),
    "a token that may not put it back": Refused(
        "many hands",
        "privileges",
        cut("pve2"),
        r"token: our API token has not Sys\.Console on / \(to have HA bring its services back\); VM\.PowerMgmt on "
        r"/vms/103, /vms/104 \(to start a guest again that ran\); `pveum acl modify`",
    ),
    "a token that may not reboot": Refused(
        "many hands",
        "privileges",
        reboot("pve2"),
        r"; Sys\.PowerMgmt on /nodes/pve2 \(to have a node go down in good order\); VM\.PowerMgmt",
        "clean-reboot",
    ),
    "the way to the others": Refused(
        "many hands",
        "way",
        cut("pve3"),
        r"way: pve1 sees us come from 10\.99\.0\.13, which is pve3: with pve3 our way to pve1 is lost",
    ),
    "nobody else answers": Refused(
        "sound",
        "sight",
        cut("pve1"),
        r"sight: only pve1 answered over SSH, and nobody outside of pve1: what would happen could be neither seen nor",
        meanwhile=without_ssh("pve2", "pve3"),
    ),
    "nobody else lets us ask": Refused(
        "sound",
        "sight",
        cut("pve1"),
        r"sight: only pve1 answered over API, and nobody outside of pve1: what would happen could be neither seen nor",
        meanwhile=firewalled("pve2", "pve3"),
    ),
    "watchdog with clients": Refused(
        "sound",
        "watchdog",
        restart("pve2", "watchdog-mux"),
        r"watchdog: that of pve2 is held open by the HA daemons \(/run/watchdog-mux\.active\), so ending watchdog-mux",
        "service-restarted",
    ),
    "watchdog whose clients are not seen": Refused(
        "sound",
        "watchdog",
        restart("pve3", "watchdog-mux"),
        r"watchdog: that of pve3 may be held open \(/run/watchdog-mux\.active\), so ending watchdog-mux resets the",
        "service-restarted",
    ),
    "cut that outlasts a watchdog": Refused(
        "sound",
        "brief",
        brief("pve2", 45),
        r"watchdogs: the nodes undo this cut after 45\.0 s, and are one ring again up to \d\.\d s later; a watchdog",
        "partition",
    ),
    "no room for a copy": Refused(
        "backups nobody can use",
        "space",
        restored("vm:101"),
        r"space: 0\.0 GiB used \+ 8\.0 GiB to restore is not below 85% of the 9\.0 GiB of storage local-lvm",
        "guest-restored",
    ),
    "no memory for a copy": Refused(
        "backups nobody can use",
        "copy_memory",
        restored("vm:101"),
        r"memory: the copy needs 18\.0 GiB, and pve\d has \d+\.\d GiB left; name another node",
        "guest-restored",
    ),
    "a backup that is known to be broken": Refused(
        "backups nobody can use",
        "restorable",
        restored("vm:103"),
        r"backup: pbs1:backup/vm/103/\S+ was verified and is broken, so nothing is proven by restoring it",
        "guest-restored",
    ),
    "guest on its way": Refused(
        "sound",
        "busy",
        cut("pve1"),
        r"under way: .*vm:105 is in HA state migrate; wait until that has ended",
        meanwhile=moving,
    ),
    "guest that HA gave up": Refused(
        "sound",
        "given_up",
        cut("pve1"),
        r"HA: it gave up vm:106 \(state error\) and would do nothing more for it; repair it, then `ha-manager set SID",
        meanwhile=given_up,
    ),
}


def test_every_rule_refuses_on_a_running_site() -> None:
    """No rule of the interlock is without a run that shows its words, here or among the planted defects."""
    shown = {each.rule for each in REFUSED.values()} | {caught.rule for caught in CAUGHT.values() if caught.rule}
    assert shown == {rule.__name__ for rule in RULES}
    assert {each.site for each in REFUSED.values()} == UNFIT.keys()


@pytest.mark.parametrize("site", UNFIT)
def test_a_site_that_would_not_survive_is_not_broken(site: str) -> None:
    """Each wish is refused by the rule that is about it, with its figures; nothing was planned and nothing injected."""
    unfit = UNFIT[site]
    with whole_run.place() as here, refusing.campaign(here, unfit.blocks, **unfit.simulator) as run:
        for name, each in REFUSED.items():
            if each.site != site:
                continue
            answer = refused(run, name, each.wish, (each.breaks,), each.meanwhile)
            what = r"(break (pve\d+|osd\.\d+|nobody)|restore to vm:\d+): "
            assert re.match(f"the interlock refuses to {what}", answer.reason), answer.reason
            assert re.search(each.words, answer.reason), answer.reason
            assert re.search(each.words, answer.said.get(each.rule, "")), answer.said
            assert answer.verdict == "not proven"


def test_a_sound_site_with_ceph_is_not_refused() -> None:
    """Degraded placement groups stop nothing and are clean again; a container that no boot starts is started again."""
    extra = [{"id": "ct:109", "node": "pve1", "ha": False, "onboot": False}]
    with whole_run.place() as here:
        inventory = here.inventory({"ceph": {}}, boot_seconds=40, guests=extra)
        outcome = whole_run.run(inventory, here, "-k", "other-1", suites=POWER_LOSS)
        assert outcome.test("other-1")["verdict"] == "accepted", outcome.output
        settings = left(outcome.journal)["settings"]
        assert (settings["Ceph flags"], settings["Ceph placement groups"]) == ("nothing", "all active+clean")
        assert left(outcome.journal)["guests"]["ct:109"] == "running@pve1"
        starts = [row for row in outcome.truth if row["kind"] == "guest_process_start" and row["vmid"] == 109]
        assert len(starts) == 1


def left(journal: list[Line]) -> dict[str, Any]:
    """The site as it was left."""
    return dict(next(line.data["site"] for line in journal if line.kind == "snapshot" and line.data["as"] == "left"))
