"""Whole runs of the tool, as a person starts them: pytest in a process of its own, on a simulated site of its own."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ruamel.yaml import YAML
from warm_start import LIMIT, Ended, run_pytest

from pytest_pveha.record.journal import Line, read

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "inventories" / "sim-3node.yml"


@dataclass(frozen=True)
class Place:
    """A user's own corner: state, runtime and reports, so that runs neither meet each other nor the real user."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def reports(self) -> Path:
        return self.folder / "reports"

    @property
    def latest(self) -> Path:
        """The newest finished run's folder."""
        return (self.reports / "latest").resolve()

    @property
    def environment(self) -> dict[str, str]:
        """Of processes that work here. What pytest, coverage or Jenkins set for the tests themselves is left out."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST_", "PVEHA_", "COV_", "JENKINS_", "HUDSON_", "BUILD_", "PYTHONDONTWRITE"))
        }
        kept.update(PVEHA_STATE=str(self.state), PVEHA_RUNTIME=str(self.folder / "run"), PYTHONPATH=str(ROOT))
        return kept

    def inventory(self, blocks: Mapping[str, Any] | None = None, **simulator: Any) -> Path:
        """A copy of the embedded default's inventory with these blocks, and these keys in its simulator block."""
        yaml = YAML()
        content = yaml.load(TEMPLATE.read_text())
        content.update(blocks or {})
        content["simulator"].update(simulator)
        content["simulator"] = dict(content["simulator"])  # without the comments, which a changed key would misplace
        path = self.folder / "site.yml"
        with path.open("w") as file:
            yaml.dump(content, file)
        return path

    def open_runs(self) -> list[Path]:
        """The register of runs that may have left something."""
        return sorted((self.state / "open").rglob("*.json"))

    @property
    def truth(self) -> list[dict[str, Any]]:
        """What really happened on the last site that ran here."""
        (path,) = self.folder.glob("run/*/*/truth.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]

    def site_process(self) -> int | None:
        """The process of the site that runs here."""
        for path in self.folder.glob("run/*/*/site.json"):
            return int(json.loads(path.read_text())["pid"])
        return None


@contextmanager
def place() -> Iterator[Place]:
    """A corner that is gone afterwards, its site ended. Its path is short: a Unix socket's may have 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="pv-", dir="/tmp"))
    here = Place(folder)
    try:
        yield here
    finally:
        if (process := here.site_process()) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, 15)
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Outcome:
    """What a run ended with."""

    exit_code: int
    output: str
    folder: Path
    verdict: dict[str, Any] = field(repr=False)
    journal: list[Line] = field(repr=False)
    """Every line verified."""
    truth: list[dict[str, Any]] = field(repr=False)
    """What really happened on the site."""

    def test(self, role: str) -> dict[str, Any]:
        """The verdict of the only test with that role."""
        (found,) = (test for test in self.verdict["tests"] if test["id"].endswith(f"[{role}]"))
        return dict(found)

    @property
    def junit(self) -> dict[str, ElementTree.Element]:
        """The cases of junit.xml by name."""
        cases = ElementTree.parse(self.folder / "junit.xml").iter("testcase")
        return {str(case.get("name")): case for case in cases}


def typed(inventory: Path, place: Place, *words: str, suites: Path = ROOT / "suites") -> list[str]:
    """What is typed after ``pytest`` to run the suites against that inventory."""
    given = [f"--pveha-inventory={inventory}", f"--pveha-reports={place.reports}", "-m", "destructive", str(suites)]
    ours = [] if metadata.entry_points(group="pytest11", name="pveha") else ["-p", "pytest_pveha.plugin"]
    plain = [*ours, "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    return [*plain, *given, *words]


def command(inventory: Path, place: Place, *words: str, suites: Path = ROOT / "suites") -> list[str]:
    """The whole command line of that."""
    return [sys.executable, "-m", "pytest", *typed(inventory, place, *words, suites=suites)]


def run(inventory: Path, place: Place, *words: str, suites: Path = ROOT / "suites") -> Outcome:
    """The end of a run that leaves a verdict."""
    return outcome_of(ended(inventory, place, *words, suites=suites), place)


def ended(inventory: Path, place: Place, *words: str, suites: Path = ROOT / "suites", limit: float = LIMIT) -> Ended:
    """A run that has ended, with whatever it says."""
    return run_pytest(typed(inventory, place, *words, suites=suites), env=place.environment, cwd=ROOT, limit=limit)


def outcome_of(done: Ended, place: Place) -> Outcome:
    """What that run left."""
    verdict = place.latest / "verdict.json"
    assert verdict.is_file(), f"the run left no verdict:\n{done.output}"
    journal = read(place.latest / "journal.jsonl")
    return Outcome(done.returncode, done.output, place.latest, json.loads(verdict.read_text()), journal, place.truth)


@cache
def healthy() -> tuple[Outcome, Place]:
    """A whole run of the power loss on a healthy site, and where it was made: once for all tests that look at it."""
    here = _KEPT.enter_context(place())
    return run(here.inventory(), here, suites=ROOT / "suites" / "nodes" / "test_power_loss.py"), here


_KEPT = contextlib.ExitStack()
atexit.register(_KEPT.close)
