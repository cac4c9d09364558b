"""``pveha check`` on inventories that are right: what it says, and that it leaves everything alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_kit import EXAMPLE, SIMULATED, Realish, Shell

from pytest_pveha.cli import check
from pytest_pveha.inventory import load, node_digest


def test_the_example_is_accepted_without_connecting(shell: Shell) -> None:
    """The shipped example is valid, though its secrets and keys exist nowhere and its consent has expired."""
    done = shell.pveha("check", "--no-connect", EXAMPLE)
    assert done.code == 0
    assert done.err == ""
    assert node_digest(["pve1", "pve2", "pve3"]) in done.out
    assert "consent     REFUSED" in done.out
    assert "it expired 2026-03-08" in done.out


def test_what_this_version_cannot_ask_is_named(shell: Shell) -> None:
    """Probes that are valid and not used yet are warnings, never silence."""
    warnings = "\n".join(shell.pveha("check", "--no-connect", EXAMPLE).starting("warning"))
    assert "vm:101: this version cannot ask http, icmp" in warnings
    assert "agent, only" not in warnings
    assert "ct:103" not in warnings


def test_redfish_without_its_package_is_a_warning(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """An inventory that asks for Redfish where sushy is not installed says what to type; where it is, nothing."""
    said = "nodes.pve3.bmc.driver: redfish needs the package sushy"
    assert said not in shell.pveha("check", "--no-connect", EXAMPLE).out
    monkeypatch.setattr("pytest_pveha.cli.check.find_spec", lambda name: None)
    text = "\n".join(check.warnings(load(EXAMPLE)))
    assert said in text
    assert "pip install 'pytest-pveha[redfish]'" in text


def test_a_node_without_power_switch_is_a_warning(shell: Shell) -> None:
    """A missing BMC is no error: its power tests are announced as not proven."""
    text = EXAMPLE.read_text(encoding="utf-8")
    before, _, after = text.partition("    bmc:\n      driver: redfish\n")
    path = shell.place / "site.yml"
    path.write_text(before + after[after.index("    # a hand on the cord") :], encoding="utf-8")
    done = shell.pveha("check", "--no-connect", path)
    assert done.code == 0, done.err
    assert "nodes.pve3: power by operator only" in done.out


def test_every_error_of_an_inventory_is_listed(shell: Shell) -> None:
    """Two mistakes are two lines that begin with file and line; exit code 4."""
    path = shell.place / "site.yml"
    text = SIMULATED.read_text(encoding="utf-8").replace("seed: 1 ", "sed: 1 ").replace("rto: 5 min", "rto: 5")
    path.write_text(text, encoding="utf-8")
    done = shell.pveha("check", path)
    assert done.code == 4
    assert done.out == ""
    lines = [line for line in done.err.splitlines() if line.startswith(f"{path}:")]
    assert any("simulator.sed: unknown key; did you mean `seed`?" in line for line in lines)
    assert any("objectives.tiers.gold.rto" in line for line in lines)


@pytest.mark.parametrize("given", ["missing.yml", ".", "broken.yml"])
def test_what_is_no_inventory_is_one_message(shell: Shell, given: str) -> None:
    """No file, a folder, broken YAML: each one line, exit code 4."""
    (shell.place / "broken.yml").write_text("site: [\n", encoding="utf-8")
    done = shell.pveha("check", given)
    assert done.code == 4
    assert done.out == ""
    assert len(done.err.splitlines()) == 1, done.err


def test_a_simulated_site_is_started_asked_and_ended(shell: Shell) -> None:
    """Every way in and every readiness check is a line; nothing of the site is left running."""
    done = shell.pveha("check", SIMULATED)
    assert done.code == 0, done.out
    assert "READY: all " in done.lines[-1]
    for node in ("pve1", "pve2", "pve3"):
        for way in ("API at", "SSH to", "BMC of"):
            assert any(line.startswith(f"OK          {way} {node}: ") for line in done.lines)
    assert "There is a live CRM master: master" in done.out
    assert not list(Path(shell.environment["PVEHA_RUNTIME"]).glob("pveha-*/*/site.json"))


def test_a_site_that_is_not_ready_says_so(shell: Shell) -> None:
    """A silent BMC is CAN'T TELL, with the node and what to do; exit code 6."""
    path = shell.place / "sim.yml"
    text = SIMULATED.read_text(encoding="utf-8").replace("defects: []", "defects: [bmc-unreachable]")
    path.write_text(text, encoding="utf-8")
    done = shell.pveha("check", path)
    assert done.code == 6
    silent = done.starting("CAN'T TELL")
    assert len(silent) == 3
    assert all("BMC of pve" in line and "check its cable" in line for line in silent)
    assert "CAN'T TELL: 3 of " in done.lines[-1]


def test_an_unknown_defect_is_refused(shell: Shell) -> None:
    """The simulator's own refusal names the file and the known defects."""
    path = shell.place / "sim.yml"
    text = SIMULATED.read_text(encoding="utf-8").replace("defects: []", "defects: [never-fenses]")
    path.write_text(text, encoding="utf-8")
    done = shell.pveha("check", path)
    assert done.code == 4
    assert "unknown defect never-fenses; known: never-fences" in done.err


@pytest.mark.parametrize("pinned", [False, True])
def test_a_real_style_site_is_ready(realish: Realish, tmp_path: Path, pinned: bool) -> None:
    """By CA file or by fingerprints, over a live clock, with consent: everything is OK and nothing is touched."""
    done = realish.check(realish.describe(pinned=pinned), tmp_path)
    assert done.code == 0, done.out
    assert "(real), cluster pveha-sim" in done.out
    assert "Consent: valid, ticket CHG-1" in done.out
    assert "The nodes' clocks agree with ours: within 1 s" in done.out
    assert realish.touched() == []


def test_two_endpoints_are_enough(realish: Realish, tmp_path: Path) -> None:
    """A node without an endpoint of its own is asked for its view over SSH."""
    described = realish.describe(pinned=True)
    gone = described["cluster"]["api"]["endpoints"].pop()
    del described["cluster"]["api"]["fingerprints"][gone]
    done = realish.check(described, tmp_path)
    assert done.code == 0, done.out
    assert "quorate from every node's view" in done.out


def test_no_consent_is_no_obstacle_to_looking(realish: Realish, tmp_path: Path) -> None:
    """A real site without consent is ready to be looked at, and the line says that nothing will be broken."""
    done = realish.check(realish.describe(consent=False), tmp_path)
    assert done.code == 0, done.out
    assert "Consent: there is none, so nothing will be broken here" in done.out


def test_a_site_with_something_unhealed_is_not_ready(shell: Shell, tmp_path: Path) -> None:
    """The register of open runs is looked at, and the command that heals is named."""
    from pytest_pveha.record.openings import open_runs

    open_runs(load(SIMULATED).name, shell.environment).add(tmp_path / "run")
    done = shell.pveha("check", SIMULATED)
    assert done.code == 1
    assert len(done.starting("NO")) == 1
    assert f"pveha heal --inventory {SIMULATED}" in done.out


def test_an_operator_whom_nobody_plays_is_a_warning(shell: Shell) -> None:
    """On a simulated site a person answers only where the simulator has one."""
    text = SIMULATED.read_text(encoding="utf-8").replace("pve1: {room: a}", "pve1: {room: a, operator: {who: J. Doe}}")
    path = shell.place / "site.yml"
    said = "nodes.pve1.operator: nobody plays them"
    path.write_text(text, encoding="utf-8")
    assert said in shell.pveha("check", "--no-connect", path).out
    path.write_text(text.replace("  seed: 1 ", "  operator: {}\n  seed: 1 "), encoding="utf-8")
    assert said not in shell.pveha("check", "--no-connect", path).out
