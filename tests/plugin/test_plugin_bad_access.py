"""A destructive run on a site described as real, with one thing wrong: one clear line, and nothing is broken."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import real_style
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pytest_pveha.embedded import Embedded

Described = dict[str, Any]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site() -> Iterator[Embedded]:
    """One running site for all of them: nothing is to happen to it."""
    with tempfile.TemporaryDirectory(prefix="pv") as name, pytest.MonkeyPatch.context() as patched:
        patched.setenv("PVEHA_RUNTIME", name)
        with real_style.paced_site(Path(name)) as running:
            yield running


def other_key() -> str:
    """A host key that no node has."""
    public = Ed25519PrivateKey.generate().public_key()
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def wrong_token(described: Described, place: Path) -> None:
    (place / "secret").write_text("0" * 32)
    (place / "secret").chmod(0o600)
    described["cluster"]["api"]["token_secret"] = f"file:{place / 'secret'}"


def nobody_there(described: Described, place: Path) -> None:
    described["cluster"]["api"]["endpoints"] = ["127.0.0.1:1", "127.0.0.1:2"]


def changed_host_key(described: Described, place: Path) -> None:
    described["nodes"]["pve2"]["ssh"]["host_key"] = other_key()


def wrong_bmc_password(described: Described, place: Path) -> None:
    (place / "secret").write_text("wrong")
    (place / "secret").chmod(0o600)
    for node in described["nodes"].values():
        node["bmc"]["password"] = f"file:{place / 'secret'}"


def no_bmc(described: Described, place: Path) -> None:
    for node in described["nodes"].values():
        del node["bmc"]


def endpoints_exchanged(described: Described, place: Path) -> None:
    described["cluster"]["api"]["endpoints"].reverse()


def ssh_exchanged(described: Described, place: Path) -> None:
    nodes = described["nodes"]
    nodes["pve1"]["ssh"], nodes["pve2"]["ssh"] = nodes["pve2"]["ssh"], nodes["pve1"]["ssh"]


def one_bmc_by_two_names(described: Described, place: Path) -> None:
    nodes = described["nodes"]
    for node in nodes.values():
        node["bmc"] = {**nodes["pve1"]["bmc"]}
    nodes["pve2"]["bmc"]["address"] = "localhost"
    del nodes["pve3"]["bmc"]


def other_certificate(described: Described, place: Path) -> None:
    api = described["cluster"]["api"]
    del api["ca_file"]
    api["fingerprints"] = dict.fromkeys(api["endpoints"], ":".join(["AB"] * 32))


def expired(described: Described, place: Path) -> None:
    day = datetime.now(UTC) - timedelta(days=1)
    described["consent"]["not_before"] = (day - timedelta(days=1)).isoformat()
    described["consent"]["not_after"] = day.isoformat()


def other_nodes(described: Described, place: Path) -> None:
    described["consent"]["node_digest"] = "sha256:" + "0" * 64


def no_consent(described: Described, place: Path) -> None:
    del described["consent"]


def unlisted_guest(described: Described, place: Path) -> None:
    described["guests"] = [guest for guest in described["guests"] if guest["id"] not in ("vm:102", "vm:104", "vm:106")]


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (wrong_token, 6, "token"),
        (nobody_there, 6, "no API endpoint answered"),
        (changed_host_key, 6, "host key"),
        (wrong_bmc_password, 6, "password"),
        (no_bmc, 6, "has no BMC in the inventory"),
        (endpoints_exchanged, 6, "another node answers"),
        (ssh_exchanged, 6, "is a machine that calls itself pve"),
        (one_bmc_by_two_names, 6, "one and the same BMC, by two names"),
        (other_certificate, 6, "is not the one in the inventory"),
        (expired, 6, "it expired"),
        (other_nodes, 6, "node_digest"),
        (no_consent, 6, "consent"),
        (unlisted_guest, 6, "would go down, and neither `guests:` names it nor does `consent.bystanders`"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_nothing_is_broken(
    site: Embedded, tmp_path: Path, spoil: Callable[[Described, Path], None], code: int, words: str
) -> None:
    """The message names what is wrong, there is no traceback, and no fault was injected."""
    described = real_style.describe(site)
    spoil(described, tmp_path)
    inventory = real_style.write(described, tmp_path / "real.yml")
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", "pytest_pveha.plugin", "-p", "no:cacheprovider",
            "-c", str(ROOT / "pyproject.toml"), f"--pveha-inventory={inventory}", f"--pveha-reports={tmp_path / 'r'}",
            "-m", "destructive", "--pveha-scope=one-per-role", "-k", "other-1",
            str(ROOT / "suites" / "nodes" / "test_power_loss.py"),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PVEHA_STATE": str(tmp_path / "state"),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "COLUMNS": "400",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )  # fmt: skip
    told = done.stdout + done.stderr
    assert done.returncode == code, told
    assert words in told
    assert "Traceback" not in told
    assert "accepted" not in told.lower().replace("not accepted", "")
    journals = list((tmp_path / "r").rglob("journal.jsonl"))
    assert not any('"fault.inject"' in journal.read_text() for journal in journals)
    assert '"command": "off"' not in (site.runtime / "truth.jsonl").read_text()
