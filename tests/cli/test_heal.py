"""``pveha heal``: what a run left broken is put right, or it is said that it is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_kit import SIMULATED, Shell

from pytest_pveha.clock import LiveClock
from pytest_pveha.embedded import attach, start
from pytest_pveha.faults.power import PowerCut
from pytest_pveha.handles.connect import connect
from pytest_pveha.inventory import load
from pytest_pveha.observe.observer import Observer
from pytest_pveha.observe.snapshot import take
from pytest_pveha.record.journal import Journal, read
from pytest_pveha.record.openings import open_runs


@dataclass(frozen=True)
class Broken:
    """A site whose first node lies without power, as a run that died left it."""

    inventory: Path
    run: Path
    shell: Shell
    truth: Path

    def powered_on(self) -> bool:
        """Whether the node has been given power again, by the site's own record."""
        return '"command": "on"' in self.truth.read_text(encoding="utf-8")

    def open(self) -> list[Path]:
        """The runs that are on the register."""
        return open_runs(load(self.inventory).name, self.shell.environment).list()

    def heal(self) -> tuple[int, str, str]:
        """``pveha heal``."""
        done = self.shell.pveha("heal", "--inventory", self.inventory)
        return done.code, done.out, done.err


@pytest.fixture
def broken(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broken]:
    """Planned, injected, and then nobody there any more."""
    for name in ("PVEHA_RUNTIME", "PVEHA_STATE"):
        monkeypatch.setenv(name, shell.environment[name])
    inventory, run = shell.place / "sim.yml", shell.place / "run"
    inventory.write_bytes(SIMULATED.read_bytes())
    run.mkdir()
    embedded = start(load(inventory))
    try:
        clock = embedded.clock()
        site = connect(embedded.inventory, clock)
        with Journal(run / "journal.jsonl", clock) as journal:
            observer = Observer(site, lambda kind, data: journal.write(kind, data))
            journal.write("snapshot", {"as": "found", "site": take(observer).to_json()})
            plan = {"fault": "f1", "type": "PowerCut", "params": {"node": "pve1"}, "undo": {"text": PowerCut.undo}}
            journal.write("fault.plan", plan)
            open_runs(load(inventory).name, shell.environment).add(run)
            PowerCut("pve1").inject(observer)
            journal.write("fault.inject", {"fault": "f1"})
        site.close()
        clock.close()
        yield Broken(inventory, run, shell, embedded.runtime / "truth.jsonl")
    finally:
        embedded.stop()


def test_nothing_to_heal(shell: Shell) -> None:
    """A site that nobody left broken is not even started; exit code 0."""
    done = shell.pveha("heal", "--inventory", SIMULATED)
    assert (done.code, done.out) == (0, "nothing to heal\n")
    assert not list(Path(shell.environment["PVEHA_RUNTIME"]).glob("pveha-*/*/site.json"))


def test_a_dead_runs_fault_is_healed(broken: Broken) -> None:
    """The node has power, the site is as it was found, the register is empty; again there is nothing to heal."""
    code, out, err = broken.heal()
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("healing f1 (PowerCut of {'node': 'pve1'})")
    assert lines[-1] == "healed: 1 run"
    assert len(lines) == len(set(lines))
    assert broken.powered_on()
    assert broken.open() == []
    assert broken.heal() == (0, "nothing to heal\n", "")


def test_not_as_found_in_time_is_not_healed(broken: Broken) -> None:
    """Without the time to settle the site stays DIRTY and on the register, exit code 7; with it, it is healed."""
    text = broken.inventory.read_text(encoding="utf-8")
    broken.inventory.write_text(text.replace("settle: 20 min", "settle: 1 s"), encoding="utf-8")
    code, _, err = broken.heal()
    assert code == 7
    assert "the site is DIRTY" in err
    assert broken.open() == [broken.run]
    broken.inventory.write_text(text, encoding="utf-8")
    assert broken.heal()[0] == 0
    assert broken.open() == []


def planned(broken: Broken, name: str, kind: str, **params: object) -> None:
    """That fault is in the journal, too, after the one that lies there."""
    journal = Journal.reopen(broken.run / "journal.jsonl", LiveClock(), by="test")
    journal.write("fault.plan", {"fault": name, "type": kind, "params": params, "undo": {"text": "by hand"}})
    journal.close()


def test_a_fault_that_cannot_be_undone_keeps_no_other_from_being(broken: Broken) -> None:
    """A node that is gone from the inventory, and a kind that nobody knows: each is told, and the power is on again."""
    planned(broken, "f2", "Earthquake")
    planned(broken, "f3", "PowerCut", node="pve9")
    code, out, err = broken.heal()
    assert code == 7
    assert broken.powered_on()
    assert "f3 is NOT healed: KeyError: 'pve9'" in out
    assert "f2 is NOT healed: the journal plans a fault of kind 'Earthquake'" in out
    assert "'pve9'" in err
    assert "Earthquake" in err
    assert broken.open() == [broken.run]


def test_another_cluster_is_not_touched(broken: Broken) -> None:
    """An inventory of the same name that reaches another cluster than the run's: nothing is done there."""
    lines = read(broken.run / "journal.jsonl", tolerant_tail=True)
    (broken.run / "journal.jsonl").unlink()
    with Journal(broken.run / "journal.jsonl", LiveClock()) as journal:
        for line in lines:
            site = {**line.data.get("site", {}), "cluster": "the-other-one"}
            journal.write(line.kind, {**line.data, "site": site} if line.kind == "snapshot" else line.data)
    code, _, err = broken.heal()
    assert code == 7
    assert "that run broke cluster the-other-one, and this inventory reaches cluster pveha-sim" in err
    assert not broken.powered_on()


def test_one_runs_lost_journal_keeps_no_other_run_from_being_healed(broken: Broken) -> None:
    """Both are on the register: the one that can be healed is, and the other one is named."""
    lost = broken.shell.place / "another"
    lost.mkdir()
    open_runs(load(broken.inventory).name, broken.shell.environment).add(lost)
    code, _, err = broken.heal()
    assert code == 7
    assert f"{lost}: the run's journal is gone" in err
    assert broken.powered_on()
    assert broken.open() == [lost]


def test_a_lost_journal_is_not_healed(broken: Broken) -> None:
    """What cannot be known cannot be undone: the run is named and stays on the register; exit code 7."""
    (broken.run / "journal.jsonl").unlink()
    code, _, err = broken.heal()
    assert code == 7
    assert str(broken.run) in err
    assert len(err.splitlines()) == 1
    assert broken.open() == [broken.run]


def test_a_simulated_site_that_is_gone_took_its_trouble_with_it(broken: Broken) -> None:
    """Its process has ended: nothing is left to heal, and the register is cleared."""
    embedded = attach(load(broken.inventory))
    assert embedded is not None
    embedded.stop()
    code, out, _ = broken.heal()
    assert code == 0
    assert "its simulated site is gone" in out
    assert broken.open() == []


def test_a_site_in_use_is_left_alone(broken: Broken) -> None:
    """While another process holds the site, nothing is healed under its feet; exit code 6."""
    from pytest_pveha.record.lease import Lease

    lease = Lease(load(broken.inventory).name, broken.shell.environment)
    lease.take()
    try:
        code, _, err = broken.heal()
    finally:
        lease.give_back()
    assert code == 6
    assert "is using this site" in err
    assert not broken.powered_on()


@pytest.mark.parametrize("words", [["heal"], ["heal", "--inventory"]])
def test_the_inventory_must_be_named(shell: Shell, words: list[str]) -> None:
    """argparse says what is missing; exit code 2."""
    assert shell.pveha(*words).code == 2


def test_a_wrong_inventory_is_exit_code_4(shell: Shell) -> None:
    """As for every command."""
    done = shell.pveha("heal", "--inventory", "nowhere.yml")
    assert done.code == 4
    assert len(done.err.splitlines()) == 1
