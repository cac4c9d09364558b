"""The tool can fail: what is wrong between two rooms, or with the way a site is laid out, is caught by its suite."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
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
from whole_run import ROOT

from pytest_pveha.sim.defects import DEFECTS

SUITES = "suites/stretched/"
EXIT = {"rejected": 1, "inconclusive": 6, "not proven": 6, "invalid": 6}
WAYS, TO_TIEBREAKER = "test_ways_between_the_rooms", "test_ways_to_the_tiebreaker"


@dataclass(frozen=True)
class Caught:
    """How a defect shows: the test that finds it, the verdict, and the cause that is named."""

    test: str
    verdict: str
    cause: str
    """A regular expression."""
    blocks: dict[str, Any] = field(default_factory=lambda: BLOCKS)
    played: dict[str, Any] = field(default_factory=lambda: PLAYED)


CAUGHT = {
    "rooms-far-apart": Caught(
        WAYS,
        "rejected",
        r"audit ring_quiet found harm: pve\d: corosync's token was late: .*Token has not been received in 2438 .*"
        r"round_trip of cluster is 12(\.\d)? ms .*, objective at most 5 ms: the rooms are too far apart for corosync, "
        r"or their link is busy \(pve\d → pve\d \(10\.99\.\d\.1\d\), half of them within 12(\.\d)? ms; the slowest "
        r"of 16 ways\); ring_latency of cluster is 12(\.\d)? ms",
    ),
    "one-direction-slow": Caught(WAYS, "rejected", r"round_trip of cluster is 12\.\d ms .*the slowest of 16 ways\)"),
    "uneven-way": Caught(
        WAYS,
        "rejected",
        r"token was late: .*round_trip of cluster is 1\d(\.\d)? ms .*ring_latency of cluster is \d(\.\d)? ms, .*the "
        r"longest ever 29\.2 ms.*; and 2 more",
    ),
    "lossy-way": Caught(
        WAYS,
        "rejected",
        r"packet_loss of cluster is \d(\.\d)? %, objective at most 0 %: the way between the rooms loses packets, and "
        r"each loss delays the ring \(pve\d → pve\d \(10\.99\.\d\.1\d\), \d+ of 400; the worst of 16 ways\)",
    ),
    "tiebreaker-far-away": Caught(
        TO_TIEBREAKER,
        "rejected",
        r"round_trip of cluster is 16\d(\.\d)? ms .*, objective at most 100 ms: .*pve\d → quorum device \(192\.0",
    ),
    "tiebreaker-behind-one-room": Caught(
        "test_site_loss[other-room]",
        "rejected",
        r"the cluster lost quorum, which was not to happen: healed at once, the campaign ends",
    ),
    "tiebreaker-loses-room": Caught(
        "test_site_loss[other-room]",
        "rejected",
        r"the cluster lost quorum, which was not to happen: healed at once, the campaign ends",
    ),
    "room-cut-starts-both": Caught(
        "test_intersite_cut",
        "rejected",
        r"one side of pve1, pve2 and pve3, pve4 goes on: not within 45 s; last seen: quorate: pve1, pve2 of pve1, "
        r"pve2; pve3, pve4 of pve3, pve4",
    ),
    "rooms-meet-at-the-tiebreaker": Caught(
        "test_tiebreaker_node_loss",
        "rejected",
        r"pve\d, pve\d was lost too, while only pve5 was to be, and with it quorum: healed at once, the campaign ends",
        WITH_A_NODE,
        PLAYED_WITH_A_NODE,
    ),
    "arbiters-disagree": Caught(
        "test_intersite_cut",
        "rejected",
        r"corosync and Ceph go on in one and the same room: not within 30 s; last seen: corosync: pve1, pve2 quorate; "
        r"Ceph: the mons of pve3, pve4 in quorum",
        WITH_CEPH,
        PLAYED_WITH_CEPH,
    ),
    "operator-skips-a-step": Caught(
        "test_dr_procedure[other-room]",
        "rejected",
        r"2 guests are started on pve3, pve4: not within 900 s; last seen: vm:101 is recovery on pve1",
        BY_HAND,
        PLAYED_BY_HAND,
    ),
    "bmcs-on-production-switch": Caught(
        "test_switch_loss[sw-ring]",
        "rejected",
        r"broken_paths of cluster is 12, objective none: from there that node could not be fenced "
        r"\(pve1 → pve2: no answer in 11 s",
    ),
    "guests-on-one-switch": Caught(
        "test_switch_pulled[sw-prod]",
        "rejected",
        r"downtime of vm:101 is \d+(\.\d)? s .*, objective at most 5 s",
    ),
    "operator-takes-wrong-switch": Caught(
        "test_switch_pulled[sw-ring]",
        "invalid",
        r"switch-pulled-1 did not bite, .*: pve1 calls link 0 to node 2 connected; link 1 is down instead: is it the "
        r"wrong switch\?",
    ),
}
"""What is planted in the simulated site."""

LAID_OUT = {
    "votes": Caught(
        "test_laid_out_for_the_loss[votes]",
        "rejected",
        r"without east 5 − 3 = 2 votes are left, and 3 of 5 are needed \(east 3, west 2, quorum device 0\)",
        {
            **{name: block for name, block in BLOCKS.items() if name != "quorum_device"},
            "nodes": {
                f"pve{number}": {"room": "east" if number < 4 else "west", "feed": "feed-east"}
                for number in range(1, 6)
            },
        },
        {**PLAYED, "paths": PLAYED["paths"][:1]},
    ),
    "tiebreaker": Caught(
        "test_laid_out_for_the_loss[tiebreaker]",
        "rejected",
        r"the quorum device stands in east: with that room its 2 nodes and the device are lost together",
        {**BLOCKS, "quorum_device": {"host": "192.0.2.9", "room": "east"}},
        {**PLAYED, "paths": PLAYED["paths"][:1]},
    ),
    "arbiters": Caught(
        "test_laid_out_for_the_loss[arbiters]",
        "rejected",
        r"mon tie stands in west, the quorum device in tie: when one of the two ways is cut as well, Ceph goes on in "
        r"one room and corosync in the other",
        {**BLOCKS, "ceph": {"stretch_tiebreaker": "tie", "tiebreaker_room": "west"}},
    ),
    "bmc-switch": Caught(
        "test_laid_out_for_the_loss[bmc-switch]",
        "rejected",
        r"the BMCs go over sw-prod, 1 of 1 of which production uses too \(sw-prod carries corosync1, guest\): when it "
        r"fails no node can be fenced by its BMC",
        {**BLOCKS, "networks": {**BLOCKS["networks"], "bmc": {"cidr": "198.51.100.0/24", "switch": "sw-prod"}}},
    ),
    "ring-switch": Caught(
        "test_laid_out_for_the_loss[ring-switch]",
        "rejected",
        r"2 of 2 corosync links go over sw-prod alone: without it all nodes lose each other",
        {**BLOCKS, "networks": {**BLOCKS["networks"], "corosync0": {"interface": "eno1", "switch": "sw-prod"}}},
    ),
    "power": Caught(
        "test_laid_out_for_the_loss[power]",
        "rejected",
        r"ups-east alone carries 4 of 4 nodes, in 2 rooms: pve1 \(east\), pve2 \(east\), pve3 \(west\), pve4 \(west\)",
        {**BLOCKS, "feeds": {"feed-east": {"ups": "ups-east"}, "feed-west": {"ups": "ups-east"}}},
    ),
    "room-fits": Caught(
        "test_laid_out_for_the_loss[room-fits]",
        "rejected",
        r"without east its 2 HA guests need 120\.0 GiB, and \d+\.\d GiB are free \(90% of pve3, pve4 less what is "
        r"used\): largest first, vm:101 \(60\.0 GiB\) fits nowhere any more: pve3 \d+\.\d GiB, pve4 \d+\.\d GiB left",
        played={**PLAYED, "guest_memory": "60 GiB"},
    ),
    "unsaid": Caught(
        "test_laid_out_for_the_loss[power]",
        "inconclusive",
        r"what is behind feed-east, feed-west is not said; add feeds\.feed-east\.ups",
        {name: block for name, block in BLOCKS.items() if name != "feeds"},
    ),
}
"""What is wrong on paper, or with the memory: by the name of the check that finds it."""

ALSO = {
    "replica-older-than-told": Caught(
        "test_dr_procedure[other-room]",
        "rejected",
        r"lost_span of vm:101 is 2\d{4}(\.\d)? s .*, objective at most 1200 s",
        BY_HAND,
        PLAYED_BY_HAND,
    ),
    "answers-slower-after-recovery": Caught(
        "test_site_loss[other-room]",
        "rejected",
        r"answer_slowdown of vm:10\d is \d+(\.\d)? times .*, objective at most ",
    ),
}
"""What another suite promises to catch, and these do too."""

QUICK = ("rooms-far-apart", "tiebreaker-behind-one-room", "bmcs-on-production-switch", "votes", "power", "room-fits")
"""Those of every test run."""


@pytest.fixture
def here() -> Iterator[whole_run.Place]:
    """A user's own corner."""
    with whole_run.place() as place:
        yield place


def test_every_defect_of_these_suites_is_in_the_table() -> None:
    """No defect can be planted that nothing is expected of, and what is expected is what the registry promises."""
    assert {name: caught.verdict for name, caught in CAUGHT.items()} == {
        name: defect.verdict for name, defect in DEFECTS.items() if defect.caught_by.startswith(SUITES)
    }


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.proof) for name in (CAUGHT | LAID_OUT | ALSO)],
)
def test_the_defect_is_caught_and_named(name: str, here: whole_run.Place) -> None:
    """With that defect the test fails with the promised verdict, names the cause, and leaves a whole site."""
    caught = (CAUGHT | LAID_OUT | ALSO)[name]
    inventory = here.inventory(
        caught.blocks, **{**caught.played, "boot_seconds": 40, "defects": [] if name in LAID_OUT else [name]}
    )
    marks = "readiness" if caught.test.startswith(("test_ways", "test_laid_out")) else "destructive"
    outcome = whole_run.run(inventory, here, "-m", marks, "-k", caught.test, suites=ROOT / SUITES)
    (test,) = (test for test in outcome.verdict["tests"] if test["id"].endswith(f"::{caught.test}"))
    assert test["verdict"] == caught.verdict, test["reason"]
    assert re.search(caught.cause, test["reason"]), test["reason"]
    assert outcome.exit_code == EXIT[caught.verdict], outcome.output
    assert here.open_runs() == []
    left = next(line.data for line in outcome.journal if line.kind == "snapshot" and line.data["as"] == "left")
    assert left["differences"] == []


@pytest.mark.proof
def test_three_in_a_room_and_a_tiebreaker_far_away(here: whole_run.Place) -> None:
    """The same is said of a larger site: each of its ways is measured, and named."""
    played = {**PLAYED, "links": 1, "boot_seconds": 40, "defects": ["rooms-far-apart"]}
    outcome = whole_run.run(here.inventory(rooms_of(3), **played), here, "-m", "readiness", suites=ROOT / SUITES)
    (test,) = (test for test in outcome.verdict["tests"] if test["id"].endswith(WAYS))
    assert "the slowest of 18 ways" in test["reason"]
