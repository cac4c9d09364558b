"""Planted defects of Ceph: each is caught by its suite, with its verdict and its cause in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import whole_run

from pytest_pveha.sim.defects import DEFECTS
from tests.mutants.test_defects import EXIT, assert_left_whole, assert_said_everywhere

SUITES = tuple(
    f"suites/storage/test_{name}.py"
    for name in ("osd_failure", "ceph_host_loss", "ceph_network", "maintenance_plus_loss")
)
GUESTS = [
    {"id": f"vm:{100 + number}", "tier": "gold", "preferred_node": f"pve{number}", "canary": True}
    for number in (1, 2, 3)
]
SITE: dict[str, Any] = {"ceph": {}, "guests": GUESTS}
PATIENT = {
    **SITE,
    "objectives": {"tiers": {"gold": {"rto": "5 min"}}, "settle": "6 h"},
}


FIVE: dict[str, Any] = {
    "ceph": {},
    "nodes": {f"pve{number}": {"room": f"room-{number}"} for number in range(1, 6)},
    "guests": GUESTS,
}
FOUR_COPIES = {"ceph": {"size": 4}, "guests": []}
"""Of which two are enough: two hosts may be lost."""


@dataclass(frozen=True)
class Caught:
    """How a defect shows: the test that brings it out, the verdict, and the cause that is named."""

    test: str
    verdict: str
    cause: str
    site: dict[str, Any] = field(default_factory=dict)
    """How the simulated site is set for it to show."""
    blocks: dict[str, Any] = field(default_factory=lambda: SITE)
    role: str = "other-1"
    """Which of the test's cases is played."""
    of_the_run: str = ""
    """The run's verdict, where the gate's own is worse."""


CAUGHT = {
    "recovery-never-ends": Caught(
        "lost_osd",
        "rejected",
        r"it is rebuilt for 10 min: not within 720 s; last seen: (\d+) copies lacking, \1 at first",
    ),
    "rebuild-too-slow": Caught(
        "lost_osd",
        "rejected",
        r"all placement groups are active\+clean: not within 1920 s; last seen: .*backfill_wait.*copies lacking",
        {"ceph": {"fill": 0.005}},
        PATIENT,
    ),
    "survivor-nearly-full": Caught(
        "lost_osd",
        "not proven",
        r"refuses to break osd\.0: Ceph: rebuilding \S+ GiB of OSDs 0 would fill the fullest of the others"
        r" to \d+%, and at 90% the rebuild stops; make room first",
    ),
    "osd-flaps": Caught(
        "lost_osd", "rejected", r"flaps of Ceph is [1-9]\d*, objective none: an OSD was lost again and"
    ),
    "pool-min-size-one": Caught(
        "loss_of_a_host",
        "not proven",
        r"No pool takes writes with its last copy: .*ceph-vm: size 3, min_size 1 \(`ceph osd pool set POOL min_size",
        of_the_run="rejected",
    ),
    "copies-share-a-host": Caught(
        "loss_of_a_host",
        "not proven",
        r"the interlock refuses to break pve\d: Ceph: `ceph osd ok-to-stop \d \d` \(all of pve\d\) says no: ",
    ),
    "ceph-cluster-network-dead": Caught(
        "network_of_one_host",
        "not proven",
        r"Ceph is whole: .*4 up and 6 in of 6 OSDs; OSD_DOWN: 2 osds down",
        role="other-1-cluster",
        of_the_run="rejected",
    ),
    "cut-osds-flap": Caught(
        "network_of_one_host",
        "rejected",
        r"flaps of Ceph is [2-9]\d*, objective none: an OSD was lost again and again",
        role="other-1-cluster",
    ),
    "osd-grace-too-long": Caught(
        "network_of_one_host",
        "rejected",
        r"Ceph calls osd\.\d, osd\.\d down: not within 60 s; last seen: Ceph calls osd\.\d, osd\.\d up",
        role="other-1-cluster",
    ),
    "health-muted": Caught(
        "network_of_one_host",
        "rejected",
        r"silent_health of Ceph is 1\d\d(\.\d)? s .*, objective at most 30 s: whoever watches its health alone",
        role="other-1-public",
    ),
    "rebuild-starves-clients": Caught(
        "lost_osd",
        "rejected",
        r"rebuild_slowdown of vm:\d+ is 10\.\d times .*, objective at most 3 times: its writes wait for the rebuild",
    ),
    "second-loss-hangs": Caught(
        "loss_while_a_node_is_off",
        "rejected",
        r"\d+ of 129 placement groups have served no data for 30 s: healed at once",
        FOUR_COPIES,
        FIVE,
    ),
    "two-mons-only": Caught(
        "loss_of_a_host",
        "not proven",
        r"Ceph: 2 mons in quorum − 1 of pve\d = 1, and 2 of 2 are needed: no data would be served",
    ),
}


@pytest.fixture
def here() -> Iterator[whole_run.Place]:
    """A user's own corner."""
    with whole_run.place() as place:
        yield place


def test_every_defect_is_in_the_table() -> None:
    """What these suites are promised to catch is what is expected of them here, verdict by verdict."""
    promised = {name: defect.verdict for name, defect in DEFECTS.items() if defect.caught_by in SUITES}
    assert {name: caught.verdict for name, caught in CAUGHT.items()} == promised


@pytest.mark.parametrize("name", CAUGHT)
def test_the_defect_is_caught_and_named(name: str, here: whole_run.Place) -> None:
    """With that defect its test gives the promised verdict, names the cause everywhere, and leaves a whole site."""
    caught = CAUGHT[name]
    role = caught.role
    inventory = here.inventory(caught.blocks, defects=[name], boot_seconds=40, **caught.site)
    suite = whole_run.ROOT / DEFECTS[name].caught_by
    outcome = whole_run.run(inventory, here, "-k", f"{caught.test} and {role}", suites=suite)
    test = next(
        each for each in outcome.verdict["tests"] if each["id"].endswith(f"[{role}]") and caught.test in each["id"]
    )
    assert test["verdict"] == caught.verdict, test["reason"]
    assert re.search(caught.cause, test["reason"]), test["reason"]
    overall = caught.of_the_run or caught.verdict
    assert (outcome.verdict["verdict"], outcome.exit_code) == (overall, EXIT[overall]), outcome.output
    assert_said_everywhere(outcome, test)
    assert_left_whole(outcome, here)
