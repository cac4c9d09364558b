"""pytest glue: the options, and the door to the rest.

This module is loaded in every pytest run on the interpreter, so it imports next to nothing. Hooks and fixtures are
registered only where an inventory is given or the ini key ``pveha`` is set.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

SCOPES = ("one-per-role", "one-per-room", "all")

MARKERS = (
    "destructive(blast=…, expected=…, breaks=…, site_reset=…, combined=…): breaks something on purpose, and heals it",
    "readiness: only looks; asks what the gate asks",
    "roles(*names): the parts that the victim of this test plays, one test each",
    "needs(**what): what the site must have for this test to apply",
)

_SETTINGS = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
_OURS = re.compile(r"""^\s*pveha\s*=\s*["']?(true|yes|on|1)\b""", re.IGNORECASE | re.MULTILINE)
"""The ini key that makes a configuration one for our suites."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options are ours by their prefix; the plain ``--inventory`` follows in pytest_load_initial_conftests."""
    group = parser.getgroup("pveha", "Proxmox VE high availability")
    group.addoption("--pveha-inventory", metavar="FILE", help="the site under test (also --inventory, PVEHA_INVENTORY)")
    group.addoption(
        "--pveha-scope",
        choices=SCOPES,
        default=None,
        help="which targets: one-per-role (default on simulated sites), one-per-room, or all",
    )
    group.addoption("--pveha-real-only", action="store_true", help="refuse simulated sites (for CI that must mean it)")
    group.addoption("--pveha-reports", metavar="DIR", help="where run folders go (default: reports/ beside the config)")
    group.addoption("--pveha-signing-key", metavar="FILE", help="OpenSSH private key that seals the evidence")
    group.addoption("--pveha-plan", action="store_true", help="say what would be broken, and run no test at all")
    group.addoption("--pveha-plan-json", metavar="FILE", help="with --pveha-plan: the plan goes to that file too")
    group.addoption("--pveha-no-connect", action="store_true", help="with --pveha-plan: from the inventory alone")
    group.addoption("--pveha-campaign", metavar="N", type=int, help="N scenarios, drawn at random from the selection")
    group.addoption("--pveha-seed", metavar="S", type=int, help="with --pveha-campaign: which draw; default: 1")
    group.addoption("--pveha-step", metavar="K", type=int, help="with --pveha-campaign: its K-th scenario alone")
    parser.addini("pveha", "this configuration is meant for pytest-pveha's suites", type="bool", default=False)


def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """``--inventory`` exists, whoever owns it: pytest-ansible has one of its own, and then we only read it."""
    del early_config, args
    try:
        parser.addoption("--inventory", metavar="FILE", dest="pveha_plain_inventory", help="as --pveha-inventory")
    except (argparse.ArgumentError, ValueError):  # somebody has it already
        return


@pytest.hookimpl(tryfirst=True)  # before the reporters are told where to write
def pytest_configure(config: pytest.Config) -> None:
    """Where our suites are wanted, markers, fixtures and hooks come in; elsewhere nothing does."""
    inventory = inventory_option(config)
    wanted = bool(config.getini("pveha"))
    planning = config.getoption("--pveha-plan")
    if planning:
        config.option.collectonly = True  # pytest's own word for it, whatever else is registered or blocked
    if not wanted:
        _refuse_lost_config(config)
    if planning and (inventory is None or not (wanted or config.getoption("--pveha-inventory"))):
        raise pytest.UsageError("--pveha-plan needs the site to plan for; name it with --pveha-inventory FILE")
    if wanted or config.getoption("--pveha-inventory"):
        for marker in MARKERS:
            config.addinivalue_line("markers", marker)
        from pytest_pveha.hooks import activate

        activate(config, Path(inventory) if inventory is not None else None)


def inventory_option(config: pytest.Config) -> str | None:
    """The inventory as given: ``--pveha-inventory``, ``--inventory`` (of whoever owns it), or PVEHA_INVENTORY."""
    own: str | None = config.getoption("--pveha-inventory") or getattr(config.option, "pveha_plain_inventory", None)
    return own or _foreign(config) or os.environ.get("PVEHA_INVENTORY") or None


def _foreign(config: pytest.Config) -> str | None:
    """What was typed after an ``--inventory`` that another plugin owns; its default is no answer."""
    if hasattr(config.option, "pveha_plain_inventory"):
        return None
    usual = [*config.getini("addopts"), *shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))]
    return typed([*usual, *config.invocation_params.args])


def typed(args: Sequence[str | os.PathLike[str]]) -> str | None:
    """The last ``--inventory`` among command line words."""
    found = None
    words = [str(word) for word in args]
    for place, word in enumerate(words):
        if word == "--inventory":
            found = "".join(words[place + 1 : place + 2])
        elif word.startswith("--inventory="):
            found = word.partition("=")[2]
    return found


def _refuse_lost_config(config: pytest.Config) -> None:
    """Stop where ``--inventory /elsewhere/x.yml`` made pytest look for its configuration beside that file.

    pytest settles its root before it knows our option, and takes the path after it for a test.
    """
    words = [str(word) for word in config.invocation_params.args]
    if "--inventory" not in words:
        return
    directory = config.invocation_params.dir
    for folder in (directory, *directory.parents):
        for settings in (folder / name for name in _SETTINGS):
            if not settings.is_file() or not _OURS.search(settings.read_text(encoding="utf-8", errors="replace")):
                continue
            if settings != config.inipath:
                instead = shlex.join(words).replace("--inventory ", "--inventory=")
                raise pytest.UsageError(
                    f"pytest took the path after --inventory for a test, looked for its settings there and so missed "
                    f"{settings}; nothing was run. Type instead: pytest {instead}"
                )
            return
