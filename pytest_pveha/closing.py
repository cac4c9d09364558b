"""The run folder's papers: verdict, reports, environment, and the seal over all of them."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from pytest_pveha import __version__
from pytest_pveha.approval import Approved
from pytest_pveha.errors import PvehaError
from pytest_pveha.evidence.seal import seal
from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.judge.timeline import timelines
from pytest_pveha.judge.verdict import Verdict, dump
from pytest_pveha.record.journal import read
from pytest_pveha.record.private import private_file
from pytest_pveha.report.html import render
from pytest_pveha.scenario.campaign import Campaign
from pytest_pveha.scenario.planning import canonical

_PACKAGES = ("pytest", "pytest-html", "proxmoxer", "paramiko", "pyghmi", "pytest-testinfra", "requests", "cryptography")


class Papers:
    """What a run leaves. pytest-html and JUnit write to a place of ours until the run folder exists."""

    def __init__(self, config: pytest.Config, inventory: Inventory) -> None:
        self._config = config
        self._inventory = inventory
        self._withdrawn: list[tuple[str | None, object]] = []
        self.plan: dict[str, Any] = {}
        """What was to be done."""
        self.approved: Approved | None = None
        """Whose second signature allowed it."""
        self.root = reports(config)
        self._waiting = Path(tempfile.mkdtemp(prefix="pveha-"))
        config.add_cleanup(lambda: shutil.rmtree(self._waiting, ignore_errors=True))
        self._reports = {
            name: path
            for name, option in (("pytest.html", "htmlpath"), ("junit.xml", "xmlpath"))
            if (path := self._claim(option, self._waiting / name)) is not None
        }
        if "pytest.html" in self._unclaimed():
            config.option.self_contained_html = True

    def _claim(self, option: str, ours: Path) -> Path | None:
        """The path of that report: the user's own if he named one, else ours."""
        if not hasattr(self._config.option, option):
            return None
        given = getattr(self._config.option, option)
        if given:
            return self._config.invocation_params.dir / Path(os.path.expandvars(str(given))).expanduser()
        setattr(self._config.option, option, str(ours))
        return ours

    def _unclaimed(self) -> list[str]:
        """The reports that nobody but us asked for."""
        return [name for name, path in self._reports.items() if path.parent == self._waiting]

    def _reporters(self) -> Iterator[tuple[str, object, str]]:
        """Who writes those, and the attribute that says where to."""
        for plugin in list(self._config.pluginmanager.get_plugins()):
            for attribute in ("logfile", "_report_path"):
                where = Path(str(getattr(plugin, attribute, "") or ""))
                if where.parent == self._waiting:
                    yield where.name, plugin, attribute

    def withdraw(self) -> None:
        """There was no run: reports that only we asked for are not written, nor told of."""
        for _, plugin, _ in self._reporters():
            name = self._config.pluginmanager.get_name(plugin)
            self._config.pluginmanager.unregister(plugin)
            self._withdrawn.append((name, plugin))

    @property
    def approval(self) -> dict[str, str] | None:
        """That second signature as it goes on record."""
        return None if self.approved is None else self.approved.to_json()

    def restore(self) -> None:
        """They are there again for their own farewell."""
        for name, plugin in self._withdrawn:
            self._config.pluginmanager.register(plugin, name)
        self._withdrawn.clear()

    def _direct(self, folder: Path) -> None:
        """Now that there is a run folder, reporters write there; where one will not, its report is copied."""
        for name, plugin, attribute in self._reporters():
            setattr(plugin, attribute, type(getattr(plugin, attribute))(folder / name))
            self._reports[name] = folder / name

    def write(self, campaign: Campaign, verdict: Verdict, finished: str) -> None:
        """verdict.json, environment.json, plan.json and report.html are in the run folder."""
        folder = campaign.folder
        self._direct(folder)
        lines = read(folder / "journal.jsonl")
        _write(folder / "verdict.json", dump(verdict))
        environment = self._environment(campaign, finished)
        _write_json(folder / "environment.json", environment)
        (folder / "plan.json").write_bytes(canonical(self.plan))
        page = render(verdict.to_json(), timelines(lines), environment)
        _write(folder / "report.html", page.encode("utf-8", "replace"))
        if self._inventory.simulated:
            _write(folder / "SIMULATED", b"This run was made on a simulated site; it proves nothing of a real one.\n")

    def _environment(self, campaign: Campaign, finished: str) -> dict[str, Any]:
        evidence = self._inventory.model.evidence
        found = campaign.found
        return {
            "pveha": __version__,
            "python": platform.python_version(),
            "system": platform.platform(),
            "controller": platform.node(),
            "packages": {name: _version(name) for name in _PACKAGES},
            "inventory": self._inventory.path.name,
            "inventory_sha256": self._inventory.sha256,
            "cluster": found.cluster,
            "nodes": sorted(found.nodes),
            "versions": campaign.versions,
            "operator": evidence.operator,
            "approver": evidence.approver,
            "signer": evidence.signer,
            "approval": self.approval,
            "written": finished,
            "command": " ".join(["pytest", *map(str, self._config.invocation_params.args)]),
        }

    def seal(self, campaign: Campaign) -> list[str]:
        """Everything is in the folder and sealed; what to tell the person."""
        folder = campaign.folder
        for name, path in self._reports.items():
            if path.is_file() and path != folder / name:
                shutil.copyfile(path, folder / name)
                if (style := path.parent / "assets" / "style.css").is_file() and name == "pytest.html":
                    (folder / "assets").mkdir(exist_ok=True)
                    shutil.copyfile(style, folder / "assets" / "style.css")
        _close_to_others(folder)
        told = self._seal(folder)
        _close_to_others(folder)
        _point_latest(self.root, folder)
        return told

    def _seal(self, folder: Path) -> list[str]:
        identity, check = self._inventory.model.evidence.signer, f"check with: pveha verify {folder}"
        try:
            key, trouble = signing_key(self._config, self._inventory, self._waiting), ""
        except (PvehaError, OSError) as error:
            key, trouble = None, str(error)
        try:
            if key is not None:
                return [f"sealed: signed by {seal(folder, key, identity).identity}; {check}"]
        except PvehaError as error:
            trouble = str(error)
        try:
            seal(folder, None, None)
        except (PvehaError, OSError) as error:
            return [f"NOT SEALED: {error}"]
        why = trouble or "the inventory names no evidence.signing_key, and there is no --pveha-signing-key"
        return [f"NOT SIGNED: {why}", f"the MANIFEST alone stands for the folder; {check}"]


def reports(config: pytest.Config) -> Path:
    """Where run folders go."""
    given = config.getoption("--pveha-reports")
    return config.invocation_params.dir / given if given else config.rootpath / "reports"


def signing_key(config: pytest.Config, inventory: Inventory, place: Path) -> Path | None:
    """Where the key that seals the evidence lies, in ``place`` if it lies in no file; None where nobody signs.

    Raises:
        PvehaError, OSError: it cannot be had.
    """
    given = config.getoption("--pveha-signing-key")
    if given:
        return config.invocation_params.dir / str(given)
    reference = inventory.model.evidence.signing_key
    if reference is None or reference.kind == "file":
        return None if reference is None else reference.path(inventory.base)
    key = place / "key"  # removed with the folder, a moment later
    key.touch(mode=0o600)
    key.write_text(reference.resolve_text(inventory.base))
    return key


def _write_json(path: Path, value: Any) -> None:
    _write(path, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8", "replace"))


def _write(path: Path, content: bytes) -> None:
    with private_file(path) as file:
        file.write(content)


def _close_to_others(folder: Path) -> None:
    """No file of the folder is for others: reporters write as they like, and a copy may lie in an open place."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o700 if path.is_dir() else 0o600)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _point_latest(root: Path, folder: Path) -> None:
    """``reports/latest`` points to the newest run; a platform without links goes without."""
    draft = root / f".latest-{os.getpid()}"
    with contextlib.suppress(OSError):
        draft.symlink_to(folder.relative_to(root))
        draft.replace(root / "latest")
