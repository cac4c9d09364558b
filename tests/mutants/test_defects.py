"""The tool can fail: every planted defect is caught by the suite, with its verdict and with its cause in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import whole_run
from whole_run import Outcome

from pytest_pveha.sim.defects import DEFECTS

MASTER, OTHER = "crm-master", "other-1"
EXIT = {"rejected": 1, "invalid": 6, "not proven": 6}
"""Exit code by the run's verdict."""
DURATION = r"-?\d+(\.\d)? s \(-?\d+(\.\d)? to -?\d+(\.\d)?\)"


@dataclass(frozen=True)
class Caught:
    """How a defect shows: the roles whose power loss brings it out, the verdict, and the cause that is named."""

    roles: tuple[str, ...]
    verdict: str
    cause: str
    """A regular expression; what is not in the reason was not said to the person on call."""


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
    "other-node-reboots-too": Caught(
        (MASTER,),
        "rejected",
        r"(pve\d) was lost too, while only pve\d was to be: .*reset although not meant to be: \1",
    ),
    # two ways to it: the old master hurries, or a slave seizes the dead master's lock
    "recovers-before-death": Caught(
        (MASTER, OTHER),
        "rejected",
        rf"not_before_death of vm:\d+ is {DURATION}, objective at least 0 s: it was started elsewhere before its dead "
        r"node's watchdog could have fired",
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
}

PATIENT = [{"id": f"vm:{vmid}", "max_restart": 1000} for vmid in range(101, 107)]
"""Guests whose start is tried again and again: in error, which is where they end else, they need an administrator."""
OUTSIDE = {"id": "vm:107", "name": "build-box", "node": "pve3", "ha": False}
PLAYED = {"guest-does-not-restart": {"guests": [*PATIENT, OUTSIDE]}}
"""What else the simulated site of a defect has."""


@pytest.fixture
def here() -> Iterator[whole_run.Place]:
    """A user's own corner."""
    with whole_run.place() as place:
        yield place


def test_every_defect_is_in_the_table() -> None:
    """No defect can be planted that nothing is expected of, and what is expected is what the registry promises."""
    assert {name: caught.verdict for name, caught in CAUGHT.items()} == {
        name: defect.verdict for name, defect in DEFECTS.items() if defect.caught_by.startswith("suites/")
    }
    assert {defect.caught_by for defect in DEFECTS.values() if defect.name in CAUGHT} == {
        "suites/nodes/test_power_loss.py"
    }


@pytest.mark.parametrize("name", CAUGHT)
def test_the_defect_is_caught_and_named(name: str, here: whole_run.Place) -> None:
    """With that defect the run fails with the promised verdict, names the cause everywhere, and leaves a whole site."""
    caught = CAUGHT[name]
    outcome = whole_run.run(
        here.inventory(defects=[name], boot_seconds=40, **PLAYED.get(name, {})), here, *chosen(caught.roles)
    )
    assert (outcome.verdict["verdict"], outcome.exit_code) == (caught.verdict, EXIT[caught.verdict]), outcome.output
    for role in caught.roles:
        test = outcome.test(role)
        assert test["verdict"] == caught.verdict, test["reason"]
        assert re.search(caught.cause, test["reason"]), test["reason"]
        assert_said_everywhere(outcome, test)
    assert_left_whole(outcome, here)


def chosen(roles: tuple[str, ...]) -> tuple[str, ...]:
    """What is typed to choose those roles alone."""
    return ("-k", " or ".join(roles))


def assert_said_everywhere(outcome: Outcome, test: dict[str, str]) -> None:
    """Terminal and JUnit tell the same verdict and cause."""
    case = outcome.junit[test["id"].rpartition("::")[2]]
    told = {each.get("name"): each.get("value") for each in case.iter("property")}
    assert told["pveha.verdict"] == test["verdict"]
    (failure,) = case.findall("failure")
    assert str(failure.get("message")).removeprefix("Failed: ") == f"{test['verdict']}: {test['reason']}"
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
    """Without a defect both roles are accepted: it is the defects that make the others fail."""
    outcome, place = whole_run.healthy()
    assert (outcome.verdict["verdict"], outcome.exit_code) == ("accepted (simulated)", 0), outcome.output
    assert [outcome.test(role)["verdict"] for role in (MASTER, OTHER)] == ["accepted", "accepted"]
    for role in (MASTER, OTHER):
        case = outcome.junit[f"test_power_loss_of_one_node[{role}]"]
        assert case.findall("failure") == []
        assert {each.get("name"): each.get("value") for each in case.iter("property")}["pveha.verdict"] == "accepted"
    assert_left_whole(outcome, place)
