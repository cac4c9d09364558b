"""The embedded site: started for a run, or found where an earlier run left it.

The site is a process of its own and is reached like a real one; nothing of it is imported here. Its runtime directory
is found again by the inventory's path, so that ``pveha heal`` and the next run attach to the site a killed run left.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_pveha.errors import SiteError, UsageError
from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.inventory import simulator_spec
from pytest_pveha.inventory.hardware import Operator, Switch
from pytest_pveha.inventory.rules import named_switches
from pytest_pveha.simclock import SiteClock, stop_site

_started: list[subprocess.Popen[bytes]] = []
"""The sites' processes that this one started. They may outlive it; those that end before are buried by it."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A running simulated site: where it lies, and the inventory completed with its addresses."""

    runtime: Path
    inventory: Inventory
    pid: int
    """Its process."""
    epoch_utc: int
    found: bool
    """Whether it was already there."""
    paced: bool
    """Whether it goes on by real time: somebody is looking around in it, and ends it himself."""

    def clock(self, name: str = "main") -> SiteClock:
        """Its time; the calling thread becomes the main participant. SiteBusy while another run is there."""
        return SiteClock(self.runtime / "baton", self.epoch_utc, name=name)

    def stop(self) -> None:
        """Its process has been told to end."""
        stop_site(self.runtime / "baton")


def runtime_directory(inventory: Inventory, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the site of this inventory lies while it runs."""
    base = environ.get("PVEHA_RUNTIME") or environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    digest = hashlib.sha256(os.fsencode(inventory.path)).hexdigest()[:12]
    # short: a Unix socket's path may have 107 bytes
    return Path(base) / f"pveha-{os.getuid()}" / f"{inventory.name[:24]}-{digest}"


def attach(inventory: Inventory) -> Embedded | None:
    """The site of this inventory if it runs, else None."""
    runtime = runtime_directory(inventory)
    try:
        described = json.loads((runtime / "site.json").read_text())
        os.kill(described["pid"], 0)
    except (OSError, ValueError, KeyError):
        return None
    return _completed(inventory, runtime, described, found=True)


def start_or_attach(inventory: Inventory, *, speed: float | None = None) -> Embedded:
    """The site of this inventory, running."""
    return attach(inventory) or start(inventory, speed=speed)


def start(inventory: Inventory, *, speed: float | None = None) -> Embedded:
    """A fresh site of this inventory, every port listening.

    Raises:
        UsageError: the simulator block asks for what the simulator does not know.
        SiteError: it did not come up; its log says why.
    """
    runtime = runtime_directory(inventory)
    _fresh(runtime)
    command = [sys.executable, "-m", "pytest_pveha.sim", str(runtime)]
    if speed:
        command += ["--speed", str(speed)]
        # for people and live clocks: its nodes tell the right time, unless the inventory wants another
        if inventory.model.simulator is not None and inventory.model.simulator.starts_at is None:
            command.append("--present")
    _started[:] = [each for each in _started if each.poll() is None]
    with (runtime / "site.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
    _started.append(process)
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(json.dumps(simulator_spec(inventory.model)).encode())
    with process.stdout:
        first = process.stdout.readline().decode().strip()
    if first.startswith("refused "):
        raise UsageError(f"{inventory.path}: simulator: {first.removeprefix('refused ')}")
    if first != "ready":
        tail = (runtime / "site.log").read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise SiteError(f"the simulated site did not start: {tail[0]} (log: {runtime / 'site.log'})")
    return _completed(inventory, runtime, json.loads((runtime / "site.json").read_text()), found=False)


def _fresh(runtime: Path) -> None:
    base = runtime.parent
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = base.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise UsageError(f"{base} is not ours alone; remove it, or set PVEHA_RUNTIME to a directory of yours")
        shutil.rmtree(runtime, ignore_errors=True)
        runtime.mkdir(mode=0o700)
    except OSError as error:
        raise UsageError(f"{runtime}: cannot be made ({error.strerror}); set PVEHA_RUNTIME") from error


def _completed(inventory: Inventory, runtime: Path, described: dict[str, Any], *, found: bool) -> Embedded:
    """The inventory with the site's addresses and credentials filled in."""
    host = "127.0.0.1"
    nodes = {
        name: {
            "address": host,
            "ssh": {
                "user": "root",
                "port": ports["ssh"],
                "key_file": str(runtime / "id_ed25519"),
                "host_key": described["host_keys"][name],
            },
            **({"bmc": _bmc(inventory, name, ports["bmc"], described, runtime)} if _has_bmc(inventory, name) else {}),
            **({"pdu": _pdu(name, runtime)} if inventory.model.simulator and inventory.model.simulator.pdus else {}),
            **_operator(inventory, inventory.model.nodes[name].operator, name, runtime),
        }
        for name, ports in described["nodes"].items()
    }
    extra: dict[str, Any] = {
        "cluster": {
            "api": {
                "endpoints": [f"{host}:{ports['api']}" for ports in described["nodes"].values()],
                "token_id": described["token_id"],
                "token_secret": f"file:{runtime / 'token'}",
                "ca_file": str(runtime / "ca.pem"),
            }
        },
        "nodes": nodes,
        "switches": {
            name: _operator(inventory, inventory.model.switches.get(name, Switch()).operator, name, runtime)
            for name in named_switches(inventory.model)
        },
        "guests": [
            {
                "id": guest.id,
                "probes": [
                    *({"tcp": {"host": host, "port": port}} for port in described["guests"][guest.id]),
                    *({"agent": True} for probe in guest.probes if probe.agent),
                ],
            }
            for guest in inventory.model.guests
        ],
    }
    if inventory.model.backup is not None and described.get("pbs"):
        extra["backup"] = {"pbs": _pbs(described["pbs"], runtime)}
    supplied = inventory.supplied(extra)
    return Embedded(runtime, supplied, described["pid"], described["epoch_utc"], found, described["paced"])


def _pbs(described: Mapping[str, Any], runtime: Path) -> dict[str, Any]:
    """How the backup server is reached."""
    return {
        "server": "127.0.0.1",
        "port": described["port"],
        "datastore": described["datastore"],
        **({"namespace": described["namespace"]} if described["namespace"] else {}),
        "token_id": described["token_id"],
        "token_secret": f"file:{runtime / 'pbs-token'}",
        "ca_file": str(runtime / "pbs-ca.pem"),
    }


def _pdu(node: str, runtime: Path) -> dict[str, Any]:
    """The commands that switch the outlets of that node."""
    asked = ["curl", "--silent", "--show-error", "--fail", "--max-time", "10", "--config", "{secret}"]
    outlets = f"http://pdu.pveha.invalid/outlets/{node}"
    from_nodes = {
        "on": [*asked, "--request", "PUT", "--data", "on", outlets],
        "status": [*asked, outlets],
        "secret": f"file:{runtime / 'pdu-curl'}",
    }
    verbs = {verb: [*_program("pdu", runtime, node), verb] for verb in ("off", "on", "status")}
    return {**verbs, "from_nodes": from_nodes}


def _operator(inventory: Inventory, named: Operator | None, place: str, runtime: Path) -> dict[str, Any]:
    """Who stands at that node or switch, and how they are called, where the simulator plays somebody."""
    if inventory.model.simulator is None or inventory.model.simulator.operator is None:
        return {}
    who = named.who if named is not None else "the simulated operator"
    return {"operator": {"who": who, "page": _program("page", runtime, place)}}


def _program(name: str, runtime: Path, node: str) -> list[str]:
    """A command of the simulated site, as the inventory of a real one would name it."""
    package = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-m", f"pytest_pveha.sim.{name}", str(runtime / "baton"), node]
    return ["env", f"PYTHONPATH={package}", *command]


def _has_bmc(inventory: Inventory, node: str) -> bool:
    block = inventory.model.nodes[node]
    return block.bmc is not None or not (block.pdu or block.operator)


def _bmc(inventory: Inventory, node: str, port: int, described: Mapping[str, Any], runtime: Path) -> dict[str, Any]:
    """How that node's BMC is reached, by the protocol that the inventory names."""
    block = inventory.model.nodes[node].bmc
    redfish = block is not None and block.driver == "redfish"
    return {
        "address": "127.0.0.1",
        "port": port,
        "user": described["bmc_user"],
        "password": f"file:{runtime / 'bmc-password'}",
        **({"ca_file": str(runtime / "ca.pem")} if redfish else {"cipher": 3}),
    }
