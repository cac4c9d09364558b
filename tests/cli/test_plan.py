"""``pveha plan`` and ``pveha approve``: what a run would do, said beforehand, and signed by a second person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_kit import ROOT, SIMULATED, Done, Realish, Shell
from real_style import write

from pytest_pveha.evidence import sshsig
from pytest_pveha.scenario.planning import canonical, digest

SUITES = str(ROOT / "suites" / "nodes" / "test_power_loss.py")
ONE = "test_power_loss_of_one_node[other-1]"


@pytest.fixture
def project(shell: Shell) -> Shell:
    """A folder of somebody's, with the configuration that an installation's page names."""
    (shell.place / "pytest.ini").write_text(
        "[pytest]\npveha = true\naddopts = -p no:pytest11.testinfra\n"
        f"testpaths = {SUITES} {ROOT / 'suites' / 'readiness'}\n"
    )
    return shell


def planned(shell: Shell, *words: object) -> tuple[Done, dict[str, Any]]:
    """The plan as told, and as written."""
    done = shell.pveha("plan", *words, "--json", "plan.json")
    raw = (shell.place / "plan.json").read_bytes()
    document: dict[str, Any] = json.loads(raw)
    assert raw == canonical(document)
    assert f"plan {digest(raw)}" in done.lines
    return done, document


def test_a_simulated_site_is_planned_for(project: Shell) -> None:
    """Order, targets, guests, time and consent are told; nothing ran, and no site stays."""
    done, document = planned(project, SIMULATED)
    assert done.code == 0, done.out + done.err
    assert [test["role"] for test in document["tests"]] == ["other-1", "crm-master"]
    assert document["connected"] is True
    (other,), (master,) = (test["targets"] for test in document["tests"])
    assert other["name"] != master["name"], "no node is struck twice"
    assert f"  1  power-cut, on {other['name']} (other-1): about 17 min" in done.lines
    assert "vm:107 build-box (bystander, not in HA, not in the inventory, permitted)" in done.out
    assert f"  2  power-cut, on {master['name']} (crm-master): about 17 min" in done.lines
    assert "2 tests would break something (scope one-per-role), about 34 min in all" in done.lines
    assert "GRANTED now: all 2, for the site is simulated; nothing was touched" in done.lines
    assert not (project.place / "reports").exists()
    assert not list(Path(project.environment["PVEHA_RUNTIME"]).glob("pveha-*/*/site.json"))


def test_it_is_the_selection_of_the_run(project: Shell) -> None:
    """Scope, -k, -m, paths and ids choose as they do for pytest, and what is left out is named."""
    done, document = planned(project, "--scope", "all", "-k", "other", "--no-connect", SIMULATED)
    assert [test["role"] for test in document["tests"]] == ["other-1", "other-2"]
    assert "left out, so the verdict will be partial: " in done.out
    assert "from the inventory alone: roles are not bound" in done.out
    _, document = planned(project, SIMULATED, f"{SUITES}::{ONE}", "--no-connect")
    assert [test["role"] for test in document["tests"]] == ["other-1"]
    done, document = planned(project, "-m", "readiness", "--no-connect", SIMULATED)
    assert not any(test["destructive"] for test in document["tests"])
    assert "NOTHING would be broken" in done.lines
    done = project.pveha("plan", "--no-connect", "-k", "nothing-of-that-name", SIMULATED)
    assert done.code == 5


def test_a_word_of_pytests_own(project: Shell) -> None:
    """What a run would refuse is refused here; what it would take is taken."""
    done = project.pveha("plan", SIMULATED, "--", "--pveha-real-only")
    assert done.code == 4
    assert "--pveha-real-only refuses such sites" in done.out + done.err


def test_a_real_site_is_only_read(realish: Realish, project: Shell) -> None:
    """Its consent is asked as a run would ask it, and nothing is touched."""
    described = realish.describe()
    described["guests"] = [guest for guest in described["guests"] if guest["id"] != "vm:101"]
    inventory = write(described, project.place / "real.yml")
    done, document = planned(project, inventory)
    assert done.code == 1, done.out + done.err
    assert document["simulated"] is False
    assert len(document["tests"]) == 3
    assert "vm:101 shop-web (bystander, not in the inventory, NOT PERMITTED)" in done.out
    assert "consent for power: REFUSED: vm:101 on pve1 would go down, and may not" in done.out
    assert "nothing was touched" in done.lines[-2] + done.lines[-1]
    assert realish.touched() == []


def test_what_a_real_sites_consent_refuses(realish: Realish, project: Shell) -> None:
    """The refusal of the run stands in the plan, word for word."""
    described = realish.describe()
    described["consent"]["faults"] = ["network"]
    described["consent"]["bystanders"] = "all"
    inventory = write(described, project.place / "real.yml")
    done, _ = planned(project, inventory)
    assert done.code == 1
    assert "consent.faults: power (a node's power, by BMC, PDU or hand) is not granted, only network" in done.out
    assert "REFUSED now: 3 of 3; nothing was touched" in done.lines


def test_another_cluster_is_not_planned_for(realish: Realish, project: Shell) -> None:
    """Endpoints of one cluster in the inventory of another: nothing that the plan said would be true."""
    described = realish.describe()
    described["cluster"]["name"] = described["consent"]["cluster"] = "another"
    done = project.pveha("plan", write(described, project.place / "real.yml"))
    assert done.code == 4, done.out + done.err
    assert "the inventory is for 'another': wrong endpoint, or wrong inventory" in done.out + done.err


def test_a_site_that_does_not_answer(realish: Realish, project: Shell) -> None:
    """It cannot be planned for, and what can be done is said; the inventory alone still gives a plan."""
    described = realish.describe()
    described["cluster"]["api"]["endpoints"] = ["127.0.0.1:1", "127.0.0.1:2"]
    inventory = write(described, project.place / "real.yml")
    done = project.pveha("plan", inventory)
    assert done.code == 6, done.out + done.err
    assert "--pveha-no-connect plans from the inventory alone" in done.out
    assert project.pveha("plan", inventory, "--no-connect").code == 0


def test_a_second_person_approves(realish: Realish, project: Shell) -> None:
    """Missing, then there: the plan says so either way."""
    described = realish.describe()
    described["consent"]["bystanders"] = "all"
    described["consent"]["approval"] = {"file": "plan.json.approval", "allowed_signers": "approvers"}
    inventory = write(described, project.place / "real.yml")
    done, _ = planned(project, inventory)
    assert done.code == 1
    assert "second signature: REFUSED: " in done.out
    assert "REFUSED now: the consent grants it, and the second signature is missing; nothing was touched" in done.lines
    sshsig.throwaway_key(project.place / "boss", "boss")
    signed = project.pveha("approve", "plan.json", "--key", "boss", "--identity", "boss@example.org")
    assert signed.code == 0, signed.err
    assert "consent for power: needed" in signed.out
    (line,) = signed.starting("allowed by")
    (project.place / "approvers").write_text(line.partition("allowed_signers: ")[2] + "\n")
    done, _ = planned(project, inventory)
    assert done.code == 0, done.out
    assert "second signature: it holds" in done.lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("approve", "pytest.ini", "--key", "k", "--identity", "a@b"), "pytest.ini: is no plan that can be approved"),
        (("approve", "nowhere", "--key", "k", "--identity", "a@b"), "the plan, nowhere, cannot be read"),
        (("plan", SIMULATED, "--no-connect", "--json", "no/such/folder"), "--pveha-plan-json"),
        (("plan", "nowhere.yml"), "nowhere.yml: there is no such file"),
    ],
    ids=lambda value: "",
)
def test_what_cannot_be_used(project: Shell, words: tuple[object, ...], message: str) -> None:
    """One line that says what is wrong, exit code 4."""
    done = project.pveha(*words)
    assert done.code == 4, done.out + done.err
    assert message in done.err + done.out


def test_a_key_that_cannot_sign(project: Shell) -> None:
    """It is named, with what to do."""
    planned(project, SIMULATED, "--no-connect")
    sshsig.throwaway_key(project.place / "open", "open")
    (project.place / "open").chmod(0o644)
    done = project.pveha("approve", "plan.json", "--key", "open", "--identity", "a@b")
    assert done.code == 4
    assert "others can read it" in done.err
    assert not (project.place / "plan.json.approval").exists()
