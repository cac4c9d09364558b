"""A terminal for each test, and one running site that looks real for all that only read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import Realish, Shell, new_shell
from real_style import paced_site

from pytest_pveha.clock import LiveClock
from pytest_pveha.record.journal import Journal


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A terminal of this test's own."""
    with new_shell(tmp_path) as found:
        yield found


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
