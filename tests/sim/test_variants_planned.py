"""Healthy sites of many kinds pass the suites of planned downtime and failback: each shutdown policy, rules, groups.

The default site, which migrates, is played whole in tests/mutants.
"""

from __future__ import annotations

from typing import Any

import pytest
import whole_run
from whole_run import ROOT, Outcome

NODES = ROOT / "suites" / "nodes"
MOVES = "suites/nodes/test_clean_reboot.py::test_guests_move_before_a_reboot"
CONTAINERS = [
    {"id": f"ct:{number}", "name": f"box{number}", "tier": "gold", "preferred_node": f"pve{(number - 101) // 2 + 1}"}
    for number in range(101, 107)
]
HOMES = {
    node: {"guests": [f"vm:{first}", f"vm:{first + 1}"], "nodes": {node: 2}}
    for node, first in {"pve1": 101, "pve2": 103, "pve3": 105}.items()
}
RULES = {f"of-{node}": {"affinity": "node", **rule} for node, rule in HOMES.items()}
GROUPS = {f"of-{node}": {"nodes": rule["nodes"]} for node, rule in HOMES.items()}
OTHERS = ("freeze", "failover")
OUTSIDE = {"id": "vm:107", "name": "build-box", "node": "pve3", "ha": False}


def in_groups() -> list[dict[str, Any]]:
    """Each guest in the group of its node."""
    members = [{"id": sid, "group": f"of-{node}"} for node, rule in HOMES.items() for sid in rule["guests"]]
    return [*members, OUTSIDE]


def green(suite: str, *words: str, blocks: dict[str, Any] | None = None, boot: int = 60, **simulator: Any) -> Outcome:
    """The run of that suite on a site of that kind, in which nothing is red."""
    with whole_run.place() as here:
        inventory = here.inventory(blocks, boot_seconds=boot, **simulator)
        outcome = whole_run.run(inventory, here, *words, suites=NODES / suite)
        assert outcome.exit_code == 0, outcome.output
        assert here.open_runs() == []
    return outcome


def verdicts(outcome: Outcome) -> dict[str, str]:
    """Each test's verdict by its name without the role."""
    return {each["id"].rpartition("::")[2].partition("[")[0]: each["verdict"] for each in outcome.verdict["tests"]}


@pytest.mark.parametrize("policy", ["conditional", *(pytest.param(p, marks=pytest.mark.proof) for p in OTHERS)])
def test_a_policy_without_migration_keeps_what_it_promises(policy: str) -> None:
    """Everything but the claim that guests move, which that site's owner has waived."""
    waiver = {"test": MOVES, "reason": f"the policy is {policy}", "owner": "ha-team", "expires": "2099-01-01"}
    outcome = green("test_clean_reboot.py", "-k", "other", blocks={"waivers": [waiver]}, shutdown_policy=policy)
    assert verdicts(outcome) == {
        "gate": "accepted",
        "test_clean_reboot": "accepted",
        "test_clean_power_off": "accepted",
        "test_guests_move_before_a_reboot": "waived",
    }


def test_a_slow_boot_under_failover_is_fenced() -> None:
    """A node that is back after minutes, as hardware is: its guests leave it by a fence, as that policy has it."""
    outcome = green("test_clean_reboot.py::test_clean_reboot[other-1]", shutdown_policy="failover", boot=150)
    assert verdicts(outcome)["test_clean_reboot"] == "accepted"
    assert "fencing: acknowledged - got agent lock" in outcome.output


@pytest.mark.proof
def test_a_policy_that_migrates_moves_every_guest() -> None:
    """Under `migrate` the node empties first, nobody is fenced, and the guests come home; nothing needs a waiver."""
    outcome = green("test_clean_reboot.py", "-k", "other", shutdown_policy="migrate")
    assert set(verdicts(outcome).values()) == {"accepted"}


@pytest.mark.proof
@pytest.mark.parametrize("policy", ["conditional", "migrate"])
def test_the_crm_master_reboots_too(policy: str) -> None:
    """The master's clean reboot keeps the same promises."""
    outcome = green("test_clean_reboot.py", "-k", "crm-master", shutdown_policy=policy)
    assert verdicts(outcome)["test_clean_reboot"] == "accepted"


@pytest.mark.proof
def test_maintenance_is_entered_and_left() -> None:
    """The default site: emptied, voting, full again."""
    assert verdicts(green("test_maintenance.py"))["test_maintenance_on_and_off"] == "accepted"


def test_guests_stay_where_no_rule_says_otherwise() -> None:
    """Without rules nobody goes home, and the record says which guests the inventory would rather have elsewhere."""
    outcome = green("test_failback.py")
    assert verdicts(outcome)["test_failback"] == "accepted"
    saw = " ".join(line.data["saw"] for line in outcome.journal if line.kind == "expect")
    assert "no HA rule brings it back to pve" in saw


@pytest.mark.proof
@pytest.mark.parametrize(
    "ha",
    [
        pytest.param({"rules": RULES}, id="rules-of-9"),
        pytest.param({"rules": RULES, "guests": [{"id": "vm:101", "failback": False}, OUTSIDE]}, id="one-stays"),
        pytest.param({"version": "8.4.14", "groups": GROUPS, "guests": in_groups()}, id="groups-of-8"),
        pytest.param(
            {
                "version": "8.4.14",
                "groups": {name: {**group, "nofailback": True} for name, group in GROUPS.items()},
                "guests": in_groups(),
            },
            id="nofailback-of-8",
        ),
    ],
)
def test_guests_go_where_their_rules_want_them(ha: dict[str, Any]) -> None:
    """Rules of PVE 9 and groups of PVE 8, with failback and without."""
    assert verdicts(green("test_failback.py", **ha))["test_failback"] == "accepted"


@pytest.mark.proof
@pytest.mark.parametrize("suite", ["test_clean_reboot.py", "test_maintenance.py", "test_failback.py"])
def test_containers_restart_where_vms_would_move(suite: str) -> None:
    """A site whose guests are containers: they are down for a moment, and nobody calls that harm."""
    outcome = green(suite, "-k", "other", blocks={"guests": CONTAINERS}, shutdown_policy="migrate")
    assert set(verdicts(outcome).values()) == {"accepted"}
