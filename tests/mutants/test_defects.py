"""The tool can fail: every planted defect is caught by the suite, with its verdict and with its cause in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import refusing
import whole_run
from refusing import cut, refused
from whole_run import Outcome

from pytest_pveha.record.journal import read
from pytest_pveha.sim.defects import DEFECTS

MASTER, OTHER = "crm-master", "other-1"
POWER_LOSS = "suites/nodes/test_power_loss.py"
"""What this table is about; every other suite has its own."""
EXIT = {"rejected": 1, "invalid": 6, "inconclusive": 6, "not proven": 6}
"""Exit code by the run's verdict."""
LOST = r"lost_writes of vm:\d+ is \d+, objective none: writes that the guest had been told are on the disk are gone"
DURATION = r"-?\d+(\.\d)? s \(-?\d+(\.\d)? to -?\d+(\.\d)?\)"


@dataclass(frozen=True)
class Caught:
    """How a defect shows: the roles whose power loss brings it out, the verdict, and the cause that is named."""

    roles: tuple[str, ...]
    verdict: str
    cause: str
    """A regular expression; what is not in the reason was not said to the person on call."""
    blocks: dict[str, Any] = field(default_factory=dict)
    """What the inventory needs to have for it to show."""
    of_the_run: str = ""
    """The run's verdict, where the gate's own is worse."""
    rule: str = ""
    """The rule of the interlock that refuses because of it."""


CEPH: dict[str, Any] = {"ceph": {}}
CONTAINERS = {
    "guests": [
        {"id": f"ct:{101 + number}", "tier": "silver", "preferred_node": f"pve{number // 2 + 1}"} for number in range(6)
    ]
}
"""Started whatever memory is left: theirs is a limit only."""
REFUSED = r"the interlock refuses to break pve\d: (?:.*; )?"
STOPPED = r": healed at once, the campaign ends"


CAUGHT = {
    # the old master lives and does not fence: with its own death a new one is the one who fails, in the same way
    "never-fences": Caught(
        (OTHER,),
        "rejected",
        r"node pve\d is fenced: not within 300 s; last seen: node pve\d is unknown; still there: vm:\d+ started",
    ),
    "guest-does-not-restart": Caught(
        (MASTER,),
        "rejected",
        r"no process of vm:\d+ on pve\d; its last try there: start failed: storage 'local-lvm' has no volume of this",
    ),
    "slow-recovery": Caught(
        (OTHER,),
        "rejected",
        rf"recovery_time of vm:\d+ is {DURATION}, objective at most \d+",
    ),
    "guest-relapses": Caught((OTHER,), "rejected", rf"downtime of vm:\d+ is {DURATION}, objective at most 300 s"),
    "writes-acknowledged-too-early": Caught((OTHER,), "rejected", rf"{LOST}.* \(of \d+ that were durable\)"),
    "disk-of-a-minute-ago": Caught((OTHER,), "rejected", LOST),
    "storage-hangs-after-recovery": Caught(
        (OTHER,), "rejected", rf"write_stall of vm:\d+ is {DURATION}, objective at most 60 s: its writes hung too long"
    ),
    "writes-slower-after-recovery": Caught(
        (OTHER,),
        "rejected",
        r"write_slowdown of vm:\d+ is 2(\.\d)? times \(.*\), objective at most 1\.5 times: after the recovery its",
    ),
    "answers-slower-after-recovery": Caught(
        (OTHER,),
        "rejected",
        r"answer_slowdown of vm:\d+ is 6(\.\d)? times \(.*\), objective at most 1\.5 times: it answers again, and takes"
        r" longer than before.* \(half of the answers within 0\.1 ms before, 60\.5 ms after\)",
    ),
    "agent-hangs-after-recovery": Caught(
        (OTHER,), "inconclusive", r"lost_writes of vm:\d+ could not be measured: .*QEMU guest agent is not running"
    ),
    "other-node-reboots-too": Caught(
        (MASTER,),
        "rejected",
        r"(pve\d) was lost too, while only pve\d was to be(, and with it quorum)?: .*although not meant to be: \1",
    ),
    # two ways to it: the old master hurries, or a slave seizes the dead master's lock
    "another-is-fenced-too": Caught(
        (MASTER, OTHER),
        "rejected",
        r"audit bad_news found harm: pve\d: a node was fenced.*node 'pve\d': state changed from 'unknown' => 'fence'",
    ),
    "recovers-before-death": Caught(
        (MASTER, OTHER),
        "rejected",
        rf"not_before_death of vm:\d+ is {DURATION}, objective at least 0 s: it was started elsewhere before its dead "
        r"node's watchdog could have fired",
    ),
    "rules-not-obeyed": Caught(
        (OTHER,),
        "rejected",
        r"not within 60 s; last seen: vm:10\d is on pve2, and by its rules belongs on pve3",
    ),
    "recovery-piles-up": Caught(
        (OTHER,),
        "rejected",
        r"not within 60 s; last seen: (pve\d) has 32\.0 GiB, and its guests were promised 36\.0 GiB",
        CONTAINERS,
    ),
    "bmc-ignores-power-off": Caught(
        (OTHER,),
        "invalid",
        r"power-cut-1 did not bite, so what followed proves nothing: the BMC of pve\d still says the chassis is on",
    ),
    "bmc-unreachable": Caught(
        (MASTER, OTHER),
        "not proven",
        r"the BMC of pve\d cannot be used, so nothing was broken: BMC [\d.:]+ gave no answer .* check its cable",
    ),
    "bmc-cables-swapped": Caught(
        (OTHER,),
        "not proven",
        r"power is not touched: the BMC reached is not (pve\d)'s own: MAC address: the BMC says [\d:]+, \1 has [\d:]+",
    ),
    "ha-guest-paused": Caught(
        (OTHER,),
        "not proven",
        r"Every HA guest that should run answers: vm:101 at [\d.]+ port \d+: no answer",
        of_the_run="rejected",
    ),
    "lrm-not-enabled": Caught(
        (OTHER,),
        "not proven",
        "HA and API daemons and the watchdog run: running, and not enabled, .*: pve-ha-lrm on pve3",
        of_the_run="rejected",
    ),
    "ring-link-dead": Caught(
        (OTHER,),
        "not proven",
        "Every corosync link is up: down: link 1 of pve1 to pve3; link 1 of pve2 to pve3; link 1 of pve3 to pve1, pve2",
        of_the_run="rejected",
    ),
    "ring-token-differs": Caught(
        (OTHER,),
        "not proven",
        "token and consensus: by the configuration it is .*: pve3 runs with token 50 s",
        of_the_run="rejected",
    ),
    "backup-running": Caught(
        (OTHER,),
        "not proven",
        REFUSED + r"under way: vm:105 is locked \(backup\), vzdump on pve3; wait until that has",
        rule="busy",
    ),
    "ha-disarmed": Caught(
        (OTHER,),
        "not proven",
        "HA is armed: it is disarmed, .*`ha-manager crm-command arm-ha`.*: vm:101 freeze",
        of_the_run="rejected",
    ),
    "maintenance-forgotten": Caught(
        (OTHER,), "not proven", "maintenance: pve3 is in it, .*node-maintenance disable", rule="maintenance"
    ),
    "clock-off": Caught(
        (OTHER,), "not proven", r"clocks agree with ours: pve3 differs by 5\.\d s", of_the_run="rejected"
    ),
    "expected-votes-lowered": Caught(
        (OTHER,),
        "not proven",
        REFUSED + "votes: pve1 expects 2, .*and 3 are configured: somebody typed `pvecm expected`",
        rule="override",
    ),
    "corosync-config-differs": Caught(
        (OTHER,), "not proven", REFUSED + "corosync.conf: that of pve3 is not the cluster's", rule="config"
    ),
    "controller-is-a-guest": Caught(
        (OTHER,), "not proven", REFUSED + "this machine is vm:101, a guest of the cluster", rule="controller"
    ),
    "guest-paused": Caught(
        (MASTER,), "not proven", REFUSED + "guests: vm:107 paused on pve3: that cannot be put back", rule="paused"
    ),
    "ceph-degraded": Caught(
        (OTHER,), "not proven", r"Ceph is whole: .*\d+ active\+undersized\+degraded", CEPH, of_the_run="rejected"
    ),
    "ceph-flag-forgotten": Caught(
        (OTHER,), "not proven", "No flag keeps Ceph from healing: noout is set", CEPH, of_the_run="rejected"
    ),
    "protected-guest-dies": Caught(
        (OTHER,), "rejected", f"vm:107 ran on pve3 and is stopped on pve3, while it was not to be touched{STOPPED}"
    ),
    "guest-given-up": Caught((OTHER,), "rejected", rf"HA gave up vm:103 \(state error\){STOPPED}"),
    "osd-fails-too": Caught(
        (OTHER,), "rejected", rf"\d+ of 129 placement groups have served no data for 3\d s{STOPPED}", CEPH
    ),
}

PATIENT = [{"id": f"vm:{vmid}", "max_restart": 1000} for vmid in range(101, 107)]
"""Guests whose start is tried again and again: in error, which is where they end else, they need an administrator."""
OUTSIDE = {"id": "vm:107", "name": "build-box", "node": "pve3", "ha": False}
SECOND_BEST = {"affinity": "node", "guests": ["vm:101", "vm:102"], "nodes": {"pve1": 2, "pve3": 1}}
PLAYED: dict[str, dict[str, Any]] = {
    "guest-does-not-restart": {"guests": [*PATIENT, OUTSIDE]},
    "ring-link-dead": {"links": 2},
    "rules-not-obeyed": {"rules": {"near": SECOND_BEST}},
    "recovery-piles-up": {"guest_memory": "9 GiB", "node_memory": "32 GiB"},
}
"""What else the simulated site of a defect has."""


@pytest.fixture
def here() -> Iterator[whole_run.Place]:
    """A user's own corner."""
    with whole_run.place() as place:
        yield place


def test_every_defect_is_in_the_table() -> None:
    """No defect can be planted that nothing is expected of, and what is expected is what the registry promises."""
    assert {name: caught.verdict for name, caught in CAUGHT.items()} == {
        name: defect.verdict for name, defect in DEFECTS.items() if defect.caught_by == POWER_LOSS
    }
    tables = [import_module(path.stem) for path in sorted(Path(__file__).parent.glob("test_defects*.py"))]
    told = [name for table in tables for name in table.CAUGHT if isinstance(name, str)]
    promised = {name: defect.caught_by for name, defect in DEFECTS.items() if defect.caught_by.startswith("suites/")}
    looked_for = [name for name, suite in promised.items() if suite == "suites/readiness/test_readiness.py"]
    assert sorted(told) == sorted(promised.keys() - set(looked_for))
    assert set(looked_for) <= import_module("test_defects_backup").FINDINGS.keys()


MOVING = "maintenance-forgotten"
"""Of this the cluster's guests move while it is looked at."""
TOGETHER = [name for name, caught in CAUGHT.items() if caught.rule and name != MOVING]
"""Those that the interlock refuses to add to."""
ALONE = [name for name, caught in CAUGHT.items() if not caught.rule]


@pytest.mark.parametrize("name", ALONE)
def test_the_defect_is_caught_and_named(name: str, here: whole_run.Place) -> None:
    """With that defect the run fails with the promised verdict, names the cause everywhere, and leaves a whole site."""
    caught = CAUGHT[name]
    inventory = here.inventory(caught.blocks, defects=[name], boot_seconds=40, **PLAYED.get(name, {}))
    outcome = whole_run.run(inventory, here, *chosen(caught.roles), suites=whole_run.ROOT / POWER_LOSS)
    overall = caught.of_the_run or caught.verdict
    assert (outcome.verdict["verdict"], outcome.exit_code) == (overall, EXIT[overall]), outcome.output
    for role in caught.roles:
        test = outcome.test(role)
        assert test["verdict"] == caught.verdict, test["reason"]
        assert re.search(caught.cause, test["reason"]), test["reason"]
        assert_said_everywhere(outcome, test)
    assert_left_whole(outcome, here)


def test_what_the_interlock_refuses_is_named(here: whole_run.Place) -> None:
    """On a site with all of these at once each is named by the rule that is about it, and nothing is broken."""
    with refusing.campaign(here, CEPH, defects=TOGETHER) as run:
        answers = [refused(run, f"cut-{node}", cut(node), ("power-cut",)) for node in ("pve2", "pve3")]
    assert_named(TOGETHER, answers)


def test_a_node_that_is_being_emptied_is_named(here: whole_run.Place) -> None:
    """Where somebody's maintenance empties a node no other is broken."""
    with refusing.at_home(here):
        run = refusing.opened(here, here.inventory(defects=[MOVING]))
        answer = refused(run, "cut-pve2", cut("pve2"), ("power-cut",))
        run.close("finished", [])
    assert not any(line.kind.startswith("fault.") for line in read(run.folder / "journal.jsonl"))
    assert_named([MOVING], [answer])


def assert_named(names: list[str], answers: list[refusing.Answer]) -> None:
    """Each is named by the rule that is about it."""
    assert {answer.verdict for answer in answers} == {CAUGHT[name].verdict for name in names}
    for name in names:
        told = [answer for answer in answers if re.search(CAUGHT[name].cause, answer.reason)]
        assert told, (name, [answer.reason for answer in answers])
        assert told[0].said[CAUGHT[name].rule] in told[0].reason


def chosen(roles: tuple[str, ...]) -> tuple[str, ...]:
    """What is typed to choose those roles alone."""
    return ("-k", " or ".join(roles))


def assert_said_everywhere(outcome: Outcome, test: dict[str, str]) -> None:
    """Terminal and JUnit tell the same verdict and cause."""
    case = outcome.junit[test["id"].rpartition("::")[2]]
    told = {each.get("name"): each.get("value") for each in case.iter("property")}
    assert told["pveha.verdict"] == test["verdict"]
    (failure,) = case.findall("failure") or case.findall("error")
    assert f"{test['verdict']}: {test['reason']}"[:300] in str(failure.get("message"))  # pytest cuts long ones
    assert test["verdict"].upper() in outcome.output
    assert f"verdict: {outcome.verdict['verdict'].upper()}" in outcome.output


def assert_left_whole(outcome: Outcome, here: whole_run.Place) -> None:
    """The record says that every fault was healed and that the site was left as it was found."""
    assert here.open_runs() == []
    lines = outcome.journal
    closes = [line.data["outcome"] for line in lines if line.kind == "fault.close"]
    assert set(closes) <= {"healed"}
    assert len(closes) == sum(line.kind == "fault.plan" for line in lines)
    left = next(line.data for line in lines if line.kind == "snapshot" and line.data["as"] == "left")
    assert left["differences"] == []


def test_a_healthy_site_is_accepted() -> None:
    """Without a defect both roles are accepted, as a part of all there is: it is defects that make the others fail."""
    outcome, place = whole_run.healthy()
    assert (outcome.verdict["verdict"], outcome.exit_code) == ("accepted (partial, simulated)", 0), outcome.output
    assert [outcome.test(role)["verdict"] for role in (MASTER, OTHER)] == ["accepted", "accepted"]
    for role in (MASTER, OTHER):
        case = outcome.junit[f"test_power_loss_of_one_node[{role}]"]
        assert case.findall("failure") == []
        assert {each.get("name"): each.get("value") for each in case.iter("property")}["pveha.verdict"] == "accepted"
    assert_left_whole(outcome, place)
