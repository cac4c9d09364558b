"""A project of somebody's with suites of its own, and pytest run in it as a person would, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jsonschema
from warm_start import run_pytest

from pytest_pveha.judge.schema import verdict_schema

ROOT = Path(__file__).resolve().parents[2]

SITE = """\
site: {name: bench}
cluster: {name: bench}
nodes:
  pve1: {room: a}
  pve2: {room: b}
  pve3: {room: c}
guests:
  - {id: "vm:101", name: web, tier: gold, preferred_node: pve1}
  - {id: "vm:102", name: db, tier: gold, preferred_node: pve2}
  - {id: "vm:103", name: mail, tier: gold, preferred_node: pve3}
objectives: {tiers: {gold: {rto: 8 min}}, settle: 20 min}
evidence: {operator: tests, signer: tests@pveha.invalid}
simulator: {seed: 1, boot_seconds: 20, guest_boot_seconds: 5}
"""

INI = """\
[pytest]
pveha = true
testpaths = suites
strict_markers = true
strict_config = true
addopts = -p no:pytest11.testinfra
"""

HEAD = """\
import os, signal
import pytest
from pytest_pveha.judge import recovery_time, violations
from pytest_pveha.observe import audits, ha
from pytest_pveha.readiness.checks import CHECKS
"""

CALM = '''
def test_{0}(run):
    """All is well with {0}."""
    run.check(CHECKS[0])
'''
"""A test of ours that breaks nothing, and claims what holds; destructive all the same, as it does not say otherwise."""


def installed(folder: Path) -> Path:
    """A directory that, on the import path, makes the plug-in load by its entry point as if it were installed.

    pytest finds entry points by the ``*.dist-info`` directories on ``sys.path``; two small files are all it needs. So
    these tests hold whether or not the package is installed in the interpreter they run in.
    """
    info = folder / "pytest_pveha-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest-pveha\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[pytest11]\npveha = pytest_pveha.plugin\n")
    return folder


@dataclass(frozen=True)
class Result:
    """What one run of pytest said and left."""

    code: int
    out: str
    err: str
    reports: Path

    @property
    def text(self) -> str:
        """All that a person reads."""
        return self.out + self.err

    @cached_property
    def folder(self) -> Path:
        """The run folder."""
        return (self.reports / "latest").resolve(strict=True)

    @cached_property
    def verdict(self) -> dict[str, Any]:
        """verdict.json, which holds to its schema in every kind of run."""
        found: dict[str, Any] = json.loads((self.folder / "verdict.json").read_text())
        jsonschema.validate(found, verdict_schema())
        return found

    def test(self, part: str) -> dict[str, Any]:
        """The verdict of the test whose id has that part."""
        return next(row for row in self.verdict["tests"] if part in row["id"])

    @property
    def left_out(self) -> dict[str, str]:
        """Ids of what was not selected, with the reason."""
        rows = self.verdict["not_proven"]
        return {row["id"]: row["reason"] for row in rows if row["reason"].startswith("not selected")}

    def kinds(self) -> list[str]:
        """The kinds of the journal's lines, in order."""
        lines = (self.folder / "journal.jsonl").read_text().splitlines()
        return [json.loads(line)["kind"] for line in lines]

    def last_line(self) -> str:
        """The last line of standard output."""
        return self.out.strip().splitlines()[-1]


@dataclass
class Bench:
    """A project directory, and state and runtime directories that nobody else uses."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.project = self.root / "p"
        (self.project / "suites").mkdir(parents=True)
        (self.project / "pytest.ini").write_text(INI)
        (self.project / "sim.yml").write_text(SITE)
        (self.root / "tmp").mkdir()
        path = os.pathsep.join([str(installed(self.root / "dist")), str(ROOT)])
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PVEHA_", "PYTEST_", "COV_", "ANSIBLE_"))}
        self.env = {
            **kept,
            "PYTHONPATH": path,
            "PVEHA_STATE": str(self.root / "s"),
            "PVEHA_RUNTIME": str(self.root / "r"),
            "TMPDIR": str(self.root / "tmp"),
            "COLUMNS": "120",
        }

    def suite(self, text: str, name: str = "test_it.py") -> Path:
        """A suite file of the project."""
        path = self.project / "suites" / name
        path.write_text(HEAD + text)
        return path

    def file(self, name: str, text: str) -> Path:
        """Any other file of the project."""
        path = self.project / name
        path.write_text(text)
        return path

    def pytest(
        self, *args: str, everything: bool = False, cold: bool = False, cwd: Path | None = None, **env: str
    ) -> Result:
        """Run it. ``everything``: with all plug-ins that are installed. ``cold``: nothing was imported before."""
        few = () if everything else ("-p", "pveha", "-p", "pytest_metadata.plugin", "-p", "pytest_html.plugin")
        environment = {**self.env, **({} if everything else {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}), **env}
        if not everything and not cold:
            ended = run_pytest([*few, *args], cwd=cwd or self.project, env=environment)
            return Result(ended.returncode, ended.out, ended.err, self.project / "reports")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *few, *args],
            cwd=cwd or self.project,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr, self.project / "reports")

    def armed(self, *args: str, everything: bool = False, **env: str) -> Result:
        """Run it on the embedded site."""
        return self.pytest("--inventory", "sim.yml", *args, everything=everything, **env)

    @property
    def register(self) -> list[Path]:
        """Runs that have something to heal."""
        return [path for path in (self.root / "s" / "open").rglob("*") if path.is_file()]

    @property
    def sites(self) -> list[Path]:
        """Simulated sites that still run."""
        found = []
        for path in (self.root / "r").rglob("site.json"):
            try:
                os.kill(json.loads(path.read_text())["pid"], 0)
            except ProcessLookupError:
                continue
            found.append(path)
        return found

    @property
    def litter(self) -> list[Path]:
        """What is left in the directory for temporary files."""
        return list((self.root / "tmp").iterdir())
