"""What a pip install gets: the wheel holds all that a run needs, and the locks all that the wheel needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENT = re.compile(r"^([a-z0-9-]+)==(\S+)(.*?) \\$((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+)$", re.M)


def bare(requirement: str) -> str:
    """The normalised name in a requirement."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


def locked(file: str) -> dict[str, set[str]]:
    """Name → versions in a lock; a version may hold for some Pythons only."""
    found: dict[str, set[str]] = {}
    for name, version, *_ in REQUIREMENT.findall((ROOT / file).read_text(encoding="utf-8")):
        found.setdefault(name, set()).add(version)
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """The wheel, built from here without a network."""
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        *(sys.executable, "-c", "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"),
        str(folder),
    ]
    subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": ""})
    (file,) = folder.glob("*.whl")
    return ZipFile(file)


def test_wheel_holds_every_file_of_the_package(wheel: ZipFile) -> None:
    """Code, templates, suites and inventories are in it, and nothing else is."""
    here = {
        f"{prefix}{path.relative_to(folder)}"
        for prefix, folder in (
            ("pytest_pveha/", ROOT / "pytest_pveha"),
            ("pytest_pveha/suites/", ROOT / "suites"),
            ("pytest_pveha/inventories/", ROOT / "inventories"),
        )
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in {".py", ".typed", ".css", ".j2", ".yml"}
    }
    there = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert there == here
    assert {
        "pytest_pveha/py.typed",
        "pytest_pveha/report/templates/report.html.j2",
        "pytest_pveha/suites/nodes/test_power_loss.py",
        "pytest_pveha/inventories/sim-3node.yml",
    } <= there


def test_wheel_says_what_it_is(wheel: ZipFile) -> None:
    """Its metadata name the licence, the plugin, the command, and no upper bound on pytest."""
    (info,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert re.search(r"^Requires-Dist: pytest>=[\d.]+$", metadata, re.M)
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    entries = wheel.read(f"{info}/entry_points.txt").decode()
    assert "pveha = pytest_pveha.plugin" in entries
    assert "pveha = pytest_pveha.cli:main" in entries


def test_every_suite_folder_is_a_package() -> None:
    """So that `pytest --pyargs pytest_pveha.suites` finds them in an installation."""
    folders = {path.parent for path in (ROOT / "suites").rglob("*.py")} | {ROOT / "suites"}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("file", ["requirements.lock", "requirements-dev.lock"])
def test_locks_are_hashed_and_name_no_host(file: str) -> None:
    """Every line belongs to a pinned requirement with its hashes: no URL, no index, no path."""
    text = (ROOT / file).read_text(encoding="utf-8")
    assert REQUIREMENT.sub("", text).strip() == ""
    assert len(locked(file)) > 20


def test_locks_cover_what_is_declared() -> None:
    """Runtime and build requirements are in the one lock, these and the developers' in the other, alike."""
    runtime, everything = locked("requirements.lock"), locked("requirements-dev.lock")
    assert {bare(each) for each in PROJECT["dependencies"]} | {"hatchling"} <= runtime.keys()
    assert {bare(each) for each in PROJECT["optional-dependencies"]["dev"]} <= everything.keys()
    assert runtime.items() <= everything.items()


def test_version_is_one() -> None:
    """The package, its metadata and the newest entry of the changelog name the same version."""
    from pytest_pveha import __version__

    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert __version__ == PROJECT["version"]
    assert re.findall(r"^## (\d\S*)", changes, re.M)[0] == __version__


def test_installed_entry_point_is_the_plugin() -> None:
    """An installed pytest finds the plugin by itself."""
    found = [entry for entry in entry_points(group="pytest11") if entry.name == "pveha"]
    if not found:
        pytest.skip("not installed here, only on the path")
    assert {entry.value for entry in found} == {"pytest_pveha.plugin"}
