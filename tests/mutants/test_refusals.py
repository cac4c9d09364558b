"""Sites with nothing broken that must not be broken either: each is refused in a whole run, with its arithmetic."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import whole_run

from pytest_pveha.record.journal import Line

GUESTS = [{"id": f"vm:{100 + number}", "tier": "gold"} for number in range(1, 4)]


POWER_LOSS = whole_run.ROOT / "suites" / "nodes" / "test_power_loss.py"


@dataclass(frozen=True)
class Unfit:
    """A site, and what is said of it."""

    words: str
    blocks: dict[str, Any] = field(default_factory=dict)
    simulator: dict[str, Any] = field(default_factory=dict)
    suite: Path = POWER_LOSS


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


UNFIT = {
    # 90 % of 16 GiB less what is used leaves each survivor 11.2 GiB: enough together, and not for the one of 18 GiB
    "memory too small": Unfit(
        r"memory: the HA guests of pve1 need 22\.0 GiB; largest first, vm:101 \(18\.0 GiB\) fits nowhere any more: "
        r"pve2 11\.2 GiB, pve3 11\.2 GiB left",
        simulator={"node_memory": "16 GiB", "guests": [{"id": "vm:101", "memory": "18 GiB"}]},
    ),
    "old token coefficient on many nodes": Unfit(
        r"membership: 2\.2 × token 18\.6 s \+ 10 s = 50\.9 s, not below 50 s: .*lower totem\.token_coefficient",
        many(26),
        {"token_coefficient": 650, "guests": []},
    ),
    "two nodes": Unfit(
        r"votes: 2 present − 1 of pve\d = 1, and 2 of 2 are needed: the rest would lose quorum and reset itself",
        many(2),
        {"guests": []},
        whole_run.ROOT / "tests" / "sim" / "short_suite.py",  # ours are for three nodes and more
    ),
    "guest never to be touched": Unfit(
        r"never_touch: vm:102 would be reached, and `consent\.never_touch` names it",
        consent(bystanders="all", never_touch={"guests": ["vm:102"]}),
    ),
    "guest that nobody named": Unfit(
        r"guests: vm:108 on pve1 would go down, and neither `guests:` names it nor does `consent\.bystanders`",
        consent(),
        {"guests": [{"id": "vm:108", "node": "pve1", "ha": False}]},
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_site_that_would_not_survive_is_not_broken(name: str) -> None:
    """Nothing is planned and nothing injected; the reason has the figures, and the site is as it was found."""
    unfit = UNFIT[name]
    with whole_run.place() as here:
        inventory = here.inventory(unfit.blocks, **unfit.simulator)
        outcome = whole_run.run(inventory, here, "-k", "other-1", suites=unfit.suite)
        test = outcome.test("other-1")
        assert test["verdict"] == "not proven", outcome.output
        assert re.search(rf"the interlock refuses to break pve\d+: .*{unfit.words}", test["reason"]), test["reason"]
        assert outcome.exit_code == 6
        assert not any(line.kind.startswith("fault.") for line in outcome.journal)
        assert outcome.verdict["left"] == {"compared": True, "differences": [], "surroundings": []}
        assert here.open_runs() == []


def test_a_guest_that_its_node_does_not_start_is_started_again() -> None:
    """A container without HA that ran on the victim, and that no boot starts, runs again when the run is over."""
    extra = [{"id": "ct:109", "node": "pve1", "ha": False, "onboot": False}]
    with whole_run.place() as here:
        outcome = whole_run.run(
            here.inventory(None, boot_seconds=40, guests=extra), here, "-k", "other-1", suites=POWER_LOSS
        )
        assert outcome.test("other-1")["verdict"] == "accepted", outcome.output
        assert left(outcome.journal)["guests"]["ct:109"] == "running@pve1"
        starts = [row for row in outcome.truth if row["kind"] == "guest_process_start" and row["vmid"] == 109]
        assert len(starts) == 1


def test_a_healthy_site_with_ceph_is_accepted() -> None:
    """With Ceph in scope the fault is allowed, its degraded placement groups stop nothing, and all are clean again."""
    with whole_run.place() as here:
        outcome = whole_run.run(here.inventory({"ceph": {}}, boot_seconds=40), here, "-k", "other-1", suites=POWER_LOSS)
        assert outcome.test("other-1")["verdict"] == "accepted", outcome.output
        settings = left(outcome.journal)["settings"]
        assert (settings["Ceph flags"], settings["Ceph placement groups"]) == ("nothing", "all active+clean")


def left(journal: list[Line]) -> dict[str, Any]:
    """The site as it was left."""
    return dict(next(line.data["site"] for line in journal if line.kind == "snapshot" and line.data["as"] == "left"))
