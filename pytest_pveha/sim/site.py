"""The simulated site as one process: it owns the world, its time and its servers, and outlives the runs against it.

Everything a client needs lies in the runtime directory (0700): ``site.json`` with addresses, credentials' files and the
process id, and the socket of the baton. ``truth.jsonl`` says what really happened; only tests and benchmarks read it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pytest_pveha.sim.baton import Baton
from pytest_pveha.sim.servers.bmc import NodeBmc
from pytest_pveha.sim.servers.certs import Authority
from pytest_pveha.sim.servers.guests import GuestPort
from pytest_pveha.sim.servers.https_api import ApiServer
from pytest_pveha.sim.servers.ipmi import BmcServer
from pytest_pveha.sim.servers.pbs_api import PbsServer
from pytest_pveha.sim.servers.ports import State, TcpPort, UdpPort
from pytest_pveha.sim.servers.programs import run_program
from pytest_pveha.sim.servers.redfish import RedfishServer
from pytest_pveha.sim.servers.redfish_vendors import VENDORS
from pytest_pveha.sim.servers.ssh import SshServers
from pytest_pveha.sim.spec import SiteSpec
from pytest_pveha.sim.timeline import Timeline
from pytest_pveha.sim.world.bmcs import BmcLogin
from pytest_pveha.sim.world.hand import OperatorAtWork
from pytest_pveha.sim.world.network import API_PORT
from pytest_pveha.sim.world.world import World

TOKEN_ID = "pveha@pve!run"
PBS_TOKEN_ID = "pveha@pbs!run"
BMC_USER = "pveha"
TYPING = 60.0
"""Real seconds a typed command may take; no result depends on it."""
IDLE_LIMIT = 3600.0
"""Real seconds after which a site that nobody attends ends by itself."""


class Truth:
    """The site's own record of what really happened, with its times."""

    def __init__(self, path: Path, timeline: Timeline) -> None:
        self._timeline = timeline
        self._file = path.open("w", encoding="utf-8")

    def __call__(self, kind: str, data: dict[str, Any]) -> None:
        self._file.write(json.dumps({"at": self._timeline.now, "kind": kind, **data}, sort_keys=True) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class SiteGate:
    """The world and time as servers have them; see ``gate.Gate``."""

    def __init__(self, world: World, baton: Baton) -> None:
        self.world = world
        self._baton = baton

    @contextmanager
    def acting(self, sock: socket.socket | None = None) -> Iterator[World]:
        with self._baton.acting(sock):
            yield self.world

    def park(self, seconds: float) -> None:
        self._baton.park(seconds)


@dataclass(slots=True)
class _Watched:
    """A port, and what the world says its state should be."""

    port: TcpPort | UdpPort
    wanted: Callable[[], State]
    keep: bool = False
    """Whether connections outlive their listener: sshd's sessions do."""

    def refresh(self) -> None:
        wanted = self.wanted()
        if wanted is self.port.state:
            return
        if wanted is State.SILENT:
            self.port.silence()
        elif wanted is State.REFUSING and isinstance(self.port, TcpPort):
            self.port.refuse(keep=self.keep)
        else:
            self.port.revive()


class SimulatedSite:
    """Every part of the site, built and listening."""

    def __init__(self, spec: SiteSpec, runtime: Path, *, speed: float | None = None, began: int | None = None) -> None:
        self.spec = spec
        self.runtime = runtime
        timeline = Timeline()
        self._truth = Truth(runtime / "truth.jsonl", timeline)
        self._controllers: list[NodeBmc] = []
        self.world = World(spec, timeline, self._happened, run=run_program)
        self._unplugged = False
        self._watched: dict[int, _Watched] = {}
        self._bmcs: list[BmcServer | RedfishServer] = []
        self.baton = Baton(
            timeline,
            runtime / "baton",
            silent=self._silent,
            late=self._late,
            changed=self._refresh,
            buried=self._buried,
            plugged=self._plugged,
            mains=self._mains,
            paged=OperatorAtWork(self.world, _typed, self._shell).paged,
            speed=speed,
            began=began,
            idle_limit=None if speed else IDLE_LIMIT,
        )
        self._gate = SiteGate(self.world, self.baton)
        self._token = secrets.token_hex(16)
        self._bmc_password = secrets.token_hex(8)
        self._pbs_secret = secrets.token_hex(16)
        self._paced = speed is not None
        self._described: dict[str, Any] = {}
        self._build()

    # --- building ----------------------------------------------------------------------------------------------

    def _build(self) -> None:
        authority = Authority(self.spec.cluster)
        certificates = {node: authority.issue(node) for node in self.world.nodes}
        fingerprints = {node: certificate.fingerprint for node, certificate in certificates.items()}
        login, host_keys = Ed25519PrivateKey.generate(), {}
        nodes: dict[str, Any] = {}
        ssh_ports = {}
        for name in self.world.nodes:
            api_port, ssh_ports[name] = TcpPort(), TcpPort()
            host_keys[name] = Ed25519PrivateKey.generate()
            ApiServer(
                name,
                self._gate,
                certificates[name].server_context(self.runtime),
                TOKEN_ID,
                self._token,
                port=api_port,
                fingerprints=fingerprints,
            ).start()
            bmc_port, pin = self._bmc(name, authority)
            self._watch(api_port, self._api_state(name))
            self.world.bmcs[bmc_port.address] = BmcLogin(name, BMC_USER, self._bmc_password, pin)
            self._watch(ssh_ports[name], self._ssh_state(name), keep=True)
            self._watch(bmc_port, self._bmc_state(name))
            nodes[name] = {"api": api_port.port, "ssh": ssh_ports[name].port, "bmc": bmc_port.port}
        SshServers(self._gate, ssh_ports, host_keys, login.public_key()).start()
        guests = {}
        for vmid, guest in self.world.guests.items():
            ports = [GuestPort(vmid) for _ in range(guest.spec.probes)]
            for port in ports:
                self._watch(port, self._open_or_silent(lambda vmid=vmid: self.world.guest_answering(vmid)))  # type: ignore[misc]
            guests[guest.sid] = [port.port for port in ports]
        pbs = self._pbs() if self.world.pbs.there else None
        self._refresh()
        self._write_secret("ca.pem", authority.pem)
        self._write_secret("token", self._token.encode())
        self._write_secret("bmc-password", self._bmc_password.encode())
        self.world.pdu_login = f"{BMC_USER}:{secrets.token_hex(8)}"
        self._write_secret("pdu-curl", f'user = "{self.world.pdu_login}"\n'.encode())
        self._write_secret("id_ed25519", _openssh(login))
        self._described = {
            "pid": os.getpid(),
            "name": self.spec.name,
            "epoch_utc": self.spec.epoch_utc,
            "paced": self._paced,
            "token_id": TOKEN_ID,
            "bmc_user": BMC_USER,
            "host_keys": {name: _public(key) for name, key in host_keys.items()},
            "nodes": nodes,
            "guests": guests,
            "pbs": pbs,
        }

    def _pbs(self) -> dict[str, Any]:
        """Where the backup server answers, and as whom it is asked; its certificate is its own authority's."""
        spec, authority, port = self.spec.backup, Authority("backup"), TcpPort()
        assert spec is not None
        context = authority.issue("pbs").server_context(self.runtime)
        PbsServer(self._gate, context, PBS_TOKEN_ID, self._pbs_secret, port=port).start()
        self._watch(port, self._open_or_silent(lambda: self.world.pbs.answering))
        self._write_secret("pbs-ca.pem", authority.pem)
        self._write_secret("pbs-token", self._pbs_secret.encode())
        return {
            "port": port.port,
            "datastore": spec.datastore,
            "namespace": spec.namespace,
            "token_id": PBS_TOKEN_ID,
        }

    def _bmc(self, name: str, authority: Authority) -> tuple[TcpPort | UdpPort, str]:
        """The port of that node's management controller, served, and the pin of its TLS key where it has one."""
        controller = NodeBmc(name, self._gate)
        self._controllers.append(controller)
        spec = controller.spec
        if spec.driver == "redfish":
            tcp, certificate = TcpPort(), authority.issue(f"{name}-bmc")
            service = RedfishServer(
                controller,
                BMC_USER,
                self._bmc_password,
                certificate.server_context(self.runtime),
                VENDORS[spec.vendor],
                port=tcp,
                privilege=spec.privilege,
                sessions=spec.sessions,
                answer_seconds=spec.answer_seconds,
                hung=spec.state == "hung",
            )
            service.start()
            self._bmcs.append(service)
            return tcp, certificate.pin
        udp = UdpPort()
        bmc = BmcServer(
            controller,
            BMC_USER,
            self._bmc_password,
            udp.sock,
            spec.sessions,
            privilege=spec.privilege,
            cipher_zero=spec.cipher_zero,
            answer_seconds=spec.answer_seconds,
        )
        bmc.start()
        self._bmcs.append(bmc)
        return udp, ""

    def _write_secret(self, name: str, content: bytes) -> None:
        path = self.runtime / name
        path.touch(mode=0o600)
        path.write_bytes(content)

    def _watch(self, port: TcpPort | UdpPort, wanted: Callable[[], State], *, keep: bool = False) -> None:
        self._watched[port.port] = _Watched(port, lambda: State.SILENT if self._unplugged else wanted(), keep)

    def _open_or_silent(self, reachable: Callable[[], bool]) -> Callable[[], State]:
        return lambda: State.OPEN if reachable() else State.SILENT

    def _api_state(self, node: str) -> Callable[[], State]:
        def wanted() -> State:
            if not self.world.network.lets_in(self.world.nodes[node], API_PORT):
                return State.SILENT
            if self.world.api_reachable(node):
                return State.OPEN
            # a booting machine refuses until its proxy is up
            return State.REFUSING if self.world.nodes[node].running else State.SILENT

        return wanted

    def _ssh_state(self, node: str) -> Callable[[], State]:
        def wanted() -> State:
            if self.world.ssh_reachable(node):
                return State.OPEN
            return State.REFUSING if self.world.nodes[node].running else State.SILENT

        return wanted

    def _bmc_state(self, node: str) -> Callable[[], State]:
        spec = self.world.bmc_spec(node)
        # over UDP nobody can tell a controller that hangs from one that is not there
        mute = spec.state == "unreachable" or (spec.state == "hung" and spec.driver == "ipmi")
        return self._open_or_silent(lambda: not mute and self.world.bmc_reachable(node))

    # --- living ------------------------------------------------------------------------------------------------

    def _happened(self, kind: str, data: dict[str, Any]) -> None:
        self._truth(kind, data)
        for controller in self._controllers:
            controller.hear(kind, data)

    def _silent(self, port: int) -> bool:
        watched = self._watched.get(port)
        return watched is not None and watched.port.state is State.SILENT

    def _late(self, port: int) -> int:
        """How long after its question (ns) whoever is behind that port answers: slow guests alone are late."""
        watched = self._watched.get(port)
        guest = watched.port if watched is not None else None
        return self.world.guest_late(guest.vmid) if isinstance(guest, GuestPort) else 0

    def _refresh(self) -> None:
        for watched in self._watched.values():
            watched.refresh()

    def _shell(self, node: str, line: str) -> None:
        """The line has been typed on that node, and has begun; what takes time is not waited for."""
        for _ in run_program(self.world, self.world.nodes[node], shlex.split(line)):
            return

    def _plugged(self, plugged: bool) -> None:
        self._unplugged = not plugged
        self._truth("controller_network", {"plugged": plugged})

    def _mains(self, node: str, on: bool | None) -> bool:
        """What the PDU's outlet of that node is now; switched first unless only asked for."""
        if on is not None:
            self.world.mains(node, on)
        return self.world.outlets.get(node, True)

    def _buried(self) -> None:
        for bmc in self._bmcs:
            bmc.drop_sessions()

    def announce(self) -> None:
        """``site.json`` is there, whole: whoever sees it can connect."""
        draft = self.runtime / "site.json.new"
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(self._described, indent=1))
        draft.rename(self.runtime / "site.json")

    def run(self) -> None:
        """Play until somebody says stop."""
        try:
            self.baton.serve()
        finally:
            self.baton.close()
            for bmc in self._bmcs:
                if isinstance(bmc, BmcServer):
                    bmc.stop()
            for watched in self._watched.values():
                watched.port.close()
            self._truth.close()
            for name in ("site.json", "baton"):
                with contextlib.suppress(FileNotFoundError):
                    (self.runtime / name).unlink()


def _typed(words: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """The line was typed as ``pveha …`` in a terminal of its own; time stands meanwhile."""
    line = [sys.executable, "-m", "pytest_pveha", *words, "--by", "the simulated operator"]
    subprocess.run(line, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, timeout=TYPING, check=False)


def _openssh(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
