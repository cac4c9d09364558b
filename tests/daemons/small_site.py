"""A site without Proxmox as a user has it: nodes with corosync, sshd, a BMC and a QEMU each, and its inventory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from clusters import Cluster
from lab import Machine

from pytest_pveha.inventory import node_digest

ROOT = Path(__file__).parents[2]
TOOLS = ("systemctl", "systemd-run", "journalctl")
PORT = 7100
LONG = 840.0
"""Seconds that a command of a user may take."""


@dataclass(frozen=True)
class Typed:
    """What a command that a user typed on the controller came to."""

    code: int
    out: str
    verdict: dict[str, Any]
    """What verdict.json says; empty where there is none."""

    def test(self, name: str) -> dict[str, Any]:
        """The row of the test whose id ends so."""
        (row,) = [row for row in self.verdict["tests"] if row["id"].endswith(name)]
        return row

    def claims(self, name: str) -> dict[str, str]:
        """The verdict of each of its claims; of two of one measure that of the one that was looked at."""
        rows = sorted(self.test(name)["claims"], key=lambda row: row["verdict"] != "not proven")
        return {row["measure"]: row["verdict"] for row in rows}


class SmallSite:
    """The cluster with what else its nodes need, and the inventory by which a user plays the suites on it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        for machine in cluster.machines.values():
            for name in TOOLS:
                tool = machine.path(f"/usr/local/bin/{name}")
                shutil.copy(Path(__file__).parent / "played_node.py", tool)
                tool.chmod(0o755)
        cluster.at_boot.append(self._boot)
        for machine in cluster.machines.values():
            self._boot(machine)

    def _boot(self, machine: Machine) -> None:
        machine.run("/usr/local/bin/systemctl", "--boot")
        number = self._number(machine.name)
        # PVE's own QEMU is told its guest's number by an option -id, which Debian's does not have
        machine.daemon(
            "qemu-system-x86_64", "-name", f"guest -id {number} ", "-accel", "tcg", "-m", "16", "-nodefaults",
            "-display", "none", "-S", "-serial", f"tcp:{machine.addresses['mgmt']}:{PORT},server=on,wait=off",
        )  # fmt: skip

    def _number(self, name: str) -> int:
        return 101 + list(self.cluster.machines).index(name)

    def close(self) -> None:
        """The nodes have no guests, and what they boot is what they were."""
        self.cluster.at_boot.remove(self._boot)
        for machine in self.cluster.machines.values():
            if machine.running:
                machine.run("pkill", "-f", "^qemu-system", check=False)

    def inventory(self, **changes: Any) -> Path:
        """The site as its engineer describes it, with these changes to its blocks."""
        told: dict[str, Any] = json.loads(self.cluster.file.read_text())
        names = list(self.cluster.machines)
        now = datetime.now(UTC)
        told["site"] = {"name": "small"}
        told["cluster"] = {"name": "lab", "proxmox": False}
        told["networks"] = {f"corosync{link}": {"cidr": f"10.77.{link + 1}.0/24"} for link in (0, 1)}
        told["guests"] = [
            {
                "id": f"vm:{self._number(name)}",
                "tier": "gold",
                "probes": [{"tcp": {"host": machine.addresses["mgmt"], "port": PORT}}],
            }
            for name, machine in self.cluster.machines.items()
        ]
        told["consent"] = {
            "destructive": True,
            "cluster": "lab",
            "node_digest": node_digest(names),
            "granted_by": "the laboratory",
            "ticket": "LAB-1",
            "not_before": (now - timedelta(hours=1)).isoformat(timespec="seconds"),
            "not_after": (now + timedelta(hours=3)).isoformat(timespec="seconds"),
            "faults": ["power", "network"],
            "targets": "all",
        }
        if self.cluster.device is not None:
            told["quorum_device"] = {"host": self.cluster.device.addresses["mgmt"]}
        path = self.cluster.file.with_name(f"small-{names[0]}.yml")  # beside the secrets that it refers to
        told = {key: value for key, value in {**told, **changes}.items() if value is not None}
        path.write_text(json.dumps(told, indent=1))
        return path

    def type(self, *words: str) -> Typed:
        """The command of ours was typed on the controller, in a corner of its own."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PVEHA_", "COV_"))}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "PVEHA_STATE": str(self.folder / "state"),
            "PVEHA_RUNTIME": str(self.folder / "run"),
        }
        line = [sys.executable, "-m", *words]
        done = subprocess.run(
            line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONG, check=False
        )
        (path,) = [*self.folder.glob("reports/small/2*/verdict.json")] or [None]
        return Typed(done.returncode, done.stdout + done.stderr, json.loads(path.read_text()) if path else {})

    def play(self, inventory: Path, *tests: str, more: Sequence[str] = ()) -> Typed:
        """``pytest --inventory FILE TESTS``, as it is typed."""
        ours = ("-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider")
        folder = f"--pveha-reports={self.folder / 'reports'}"
        return self.type("pytest", *ours, f"--inventory={inventory}", folder, *more, *tests)


def tidy(site: SmallSite) -> None:
    """No rule, timer, file or lease of a run is on any node."""
    for machine in site.cluster.machines.values():
        assert machine.run("nft", "list", "ruleset") == ""
        assert machine.run("find", "/var/lib/pveha", "-mindepth", "1") == ""
        assert machine.run("/usr/local/bin/systemctl", "list-units", "pveha-*") == ""
        assert "pveha" not in machine.run("ls", "/var/lib/corosync", "/etc/systemd/system")
