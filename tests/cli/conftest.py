"""A terminal for each test, and one running site that looks real for all that only read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Done, Shell, new_shell
from real_style import describe, paced_site, write

from pytest_pveha.clock import LiveClock
from pytest_pveha.embedded import Embedded
from pytest_pveha.record.journal import Journal


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A terminal of this test's own."""
    with new_shell(tmp_path) as found:
        yield found


@dataclass(frozen=True)
class Realish:
    """A paced site at the speed of real time, and terminals to look at it from, as at somebody's cluster."""

    site: Embedded
    shell: Shell

    def describe(self, **wishes: Any) -> dict[str, Any]:
        """Its inventory, as if it were real."""
        return describe(self.site, **wishes)

    def check(self, described: dict[str, Any], place: Path) -> Done:
        """``pveha check`` of that inventory."""
        return self.shell.pveha("check", write(described, place / "real.yml"))

    def touched(self) -> list[str]:
        """What was done to the site, by its own record: power commands, deaths, moves of guests."""
        truth = (self.site.runtime / "truth.jsonl").read_text(encoding="utf-8")
        kinds = ('"bmc_command"', '"dead"', '"power_off"', '"watchdog_reset"', '"guest_migrated"', '"network_cut"')
        return [line for line in truth.splitlines() if any(kind in line for kind in kinds)]


@pytest.fixture(scope="session")
def realish(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realish]:
    """One for all tests that only read; they may not break it."""
    place = tmp_path_factory.mktemp("realish")
    with new_shell(place) as shell, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PVEHA_RUNTIME", shell.environment["PVEHA_RUNTIME"])
        with paced_site(place) as site:
            patch.undo()
            yield Realish(site, shell)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """The folder of a run that ended at once: a whole journal and nothing else."""
    folder = tmp_path / "reports" / "lab" / "20260102T080000Z-r1"
    folder.mkdir(parents=True)
    opened = {
        "run": "r1",
        "site": "lab",
        "simulated": False,
        "cluster": "lab",
        "pveha": "0.1.0",
        "pve": {"pve1": "9.1.9"},
        "inventory_sha256": "0" * 64,
        "scope": "all",
        "partial": False,
        "selected": [],
        "not_selected": [],
        "not_applicable": [],
        "waived": [],
        "objectives": {},
    }
    with Journal(folder / "journal.jsonl", LiveClock()) as journal:
        journal.write("run.open", opened)
        journal.write("note", {"text": "nothing happened"})
        journal.write("run.close", {"exit_reason": "finished", "not_run": []})
    return folder
