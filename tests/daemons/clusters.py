"""Clusters of real corosync daemons on the laboratory's machines, each with a real sshd, and our handles of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from boards import PASSWORD, USER, Board
from lab import AMPLE, Lab, Machine, tool

from pytest_pveha.clock import LiveClock
from pytest_pveha.handles import corosync
from pytest_pveha.handles.connect import connect
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import load
from pytest_pveha.observe.observer import Observer
from pytest_pveha.wire.ssh import SshTarget

TOKEN = 3.125
"""Seconds of the token of three nodes as PVE 9 configures them: 3 s and 125 ms for the third."""

CLOCK = LiveClock()

SSHD = """Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
"""
PVECM = """#!/bin/sh
# pve-cluster's `pvecm status` prints a head of its own, and then becomes this command (PVE::CLI::pvecm, status)
[ "$1" = status ] && exec corosync-quorumtool -siH
"""


def give_sshd(machine: Machine, keys: Path) -> None:
    """The machine's sshd will show a key of its own and let the laboratory's user in."""
    folder = machine.path("/etc/ssh")
    for old in folder.glob("ssh_host_*"):
        old.unlink()
    make_key(folder / "ssh_host_ed25519_key")
    (folder / "authorized_keys").write_text((keys.with_suffix(".pub")).read_text())
    (folder / "sshd_config").write_text(SSHD)


def make_key(path: Path) -> None:
    """A new key pair is in that file and its ``.pub``."""
    tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path))


def host_key(machine: Machine) -> str:
    """What its sshd shows, as ``ssh-keyscan`` would print it."""
    return " ".join(machine.path("/etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2])


def target(machine: Machine, network: str, key: Path, **changes: Any) -> SshTarget:
    """The way to its sshd, with the host key that it has now."""
    given = {"name": machine.name, "host": machine.addresses[network], "key": key, "host_keys": (host_key(machine),)}
    return SshTarget(**{**given, **changes})


def eventually(true: Callable[[], bool], within: float = AMPLE, what: str = "") -> float:
    """It is true; the seconds until it was. Who asks takes half of the time, and leaves half to those who are asked."""
    begin = asked = CLOCK.now().mono
    deadline = CLOCK.deadline(within)
    while not true():
        assert not deadline.expired(), f"not within {within:g} s: {what or true}"
        CLOCK.sleep(max(0.05, (CLOCK.now().mono - asked) / 1e9))
        asked = CLOCK.now().mono
    return (CLOCK.now().mono - begin) / 1e9


def hand(source: Machine, path: str, to: Machine) -> None:
    """That file of one machine is in another one's /srv."""
    shutil.copy(source.path(path), to.path(f"/srv/{Path(path).name}"))


def run_qnetd(machine: Machine) -> None:
    """The machine serves quorum devices."""
    machine.run("mkdir", "-p", "/run/corosync-qnetd")
    machine.daemon("corosync-qnetd", "-f")


class Cluster:
    """A cluster of machines in the networks ``mgmt``, ``ring0`` and ``ring1``; its handles are ``site``."""

    def __init__(
        self,
        lab: Lab,
        names: Iterable[str],
        first: int,
        *,
        key: Path,
        device: Machine | None = None,
        boards: bool = False,
    ) -> None:
        self.lab = lab
        self.boards: dict[str, Board] = {}
        """Each node's BMC, where they have any."""
        self.device = device
        self._key = key
        self.machines: dict[str, Machine] = {}
        for number, name in enumerate(names, first):
            self.machines[name] = lab.machine(
                name, {net: f"10.77.{at}.{number}/24" for at, net in enumerate(("mgmt", "ring0", "ring1"))}
            )
        for machine in self.machines.values():
            give_sshd(machine, key)
            machine.path("/etc/corosync/corosync.conf").write_text(self._conf())
            pvecm = machine.path("/usr/local/bin/pvecm")
            pvecm.write_text(PVECM)
            pvecm.chmod(0o755)
        secret = os.urandom(128)
        for machine in self.machines.values():
            machine.path("/etc/corosync/authkey").write_bytes(secret)
        if boards:
            for number, (name, machine) in enumerate(self.machines.items(), first):
                self.boards[name] = Board(lab, machine, number, self.boot)
        self.at_boot: list[Callable[[Machine], None]] = []
        """What else runs on each machine when it has booted."""
        self.marks: dict[str, int] = {}
        """Where each node's log ended when it was last marked."""
        self.file = self._inventory()
        self.site: Site = connect(load(self.file), CLOCK)
        self.observer = Observer(self.site, lambda kind, data: None)
        lab.at_end.append(self.site.close)

    def _conf(self) -> str:
        nodes = "".join(
            f"  node {{\n    name: {machine.name}\n    nodeid: {number}\n    quorum_votes: 1\n"
            f"    ring0_addr: {machine.addresses['ring0']}\n    ring1_addr: {machine.addresses['ring1']}\n  }}\n"
            for number, machine in enumerate(self.machines.values(), 1)
        )
        quorum = "  provider: corosync_votequorum\n"
        if self.device is not None:
            quorum += (
                "  device {\n    model: net\n    votes: 1\n    net {\n      algorithm: ffsplit\n"
                f"      host: {self.device.addresses['mgmt']}\n      tls: on\n    }}\n  }}\n"
            )
        return (
            f"totem {{\n  cluster_name: lab\n  config_version: 1\n  interface {{\n    linknumber: 0\n  }}\n"
            "  interface {\n    linknumber: 1\n  }\n  ip_version: ipv4-6\n  link_mode: passive\n  secauth: on\n"
            "  token_coefficient: 125\n  version: 2\n}\n"
            f"nodelist {{\n{nodes}}}\nquorum {{\n{quorum}}}\n"
            "logging {\n  to_syslog: no\n  to_logfile: yes\n  timestamp: hires\n"
            "  logfile: /var/log/corosync/corosync.log\n}\n"
        )

    def _inventory(self) -> Path:
        """The site as its engineer would describe it. Nobody serves the API that it names."""
        folder = self.lab.folder
        (folder / "token").write_text("00000000-0000-4000-8000-000000000000\n")
        (folder / "token").chmod(0o600)
        at = {name: machine.addresses["mgmt"] for name, machine in self.machines.items()}
        told: dict[str, Any] = {
            "site": {"name": "lab"},
            "cluster": {
                "name": "lab",
                "api": {
                    "endpoints": list(at.values()),
                    "token_id": "pveha@pve!lab",
                    "token_secret": "file:token",
                    "fingerprints": {address: ":".join(["00"] * 32) for address in at.values()},
                },
            },
            "nodes": {name: {"address": at[name], "ssh": self._ssh(name), **self._bmc(name)} for name in self.machines},
            "objectives": {"tiers": {"gold": {"rto": "5 min"}}},
        }
        file = folder / f"{next(iter(self.machines))}.yml"
        file.write_text(json.dumps(told, indent=1))  # YAML, too
        return file

    def _ssh(self, name: str) -> Mapping[str, Any]:
        return {"user": "root", "key_file": str(self._key), "host_key": host_key(self.machines[name])}

    def _bmc(self, name: str) -> Mapping[str, Any]:
        if name not in self.boards:
            return {}
        password = self.lab.folder / "bmc-password"
        password.write_text(f"{PASSWORD}\n")
        password.chmod(0o600)
        board = self.boards[name]
        told = {"driver": "ipmi", "address": board.address, "user": USER, "password": "file:bmc-password", "cipher": 3}
        return {"bmc": {**told, "privilege": "OPERATOR", "identity": {"guid": board.uuid}}}

    def node(self, name: str) -> Node:
        """Our handle of that node."""
        return self.site.nodes[name]

    def start(self) -> None:
        """All are quorate, and every link is up."""
        for machine in self.machines.values():
            self._boot(machine)
        if self.device is not None:
            self._certify(self.device)
            run_qnetd(self.device)
        for machine in self.machines.values():
            self.run_corosync(machine)
        for board in self.boards.values():
            board.start()
        eventually(self.whole, what="the cluster is whole")

    def boot(self, machine: Machine) -> None:
        """The machine runs, with its sshd, its corosync and, where there is a quorum device, its line to that."""
        self._boot(machine)
        self.run_corosync(machine)

    def _boot(self, machine: Machine) -> None:
        machine.start()
        machine.daemon("/usr/sbin/sshd", "-D", "-e")
        for start in self.at_boot:
            start(machine)

    def run_corosync(self, machine: Machine) -> None:
        """Its corosync runs, and what needs that to answer."""
        machine.daemon("corosync", "-f")
        if self.device is not None:
            cmap = ("corosync-cmapctl", "-g", "totem.cluster_name")
            eventually(lambda: "lab" in machine.run(*cmap, check=False), what="corosync answers")
            self._run_qdevice(machine)

    def whole(self) -> bool:
        """Whether every node counts all of them, and calls every link up."""
        return all(self._counts_all(node) for node in self.site.nodes)

    def _counts_all(self, node: Node) -> bool:
        told = self.machines[node.name].run("corosync-quorumtool", "-s", check=False, within=AMPLE)
        if f"Nodes:            {len(self.machines)}\n" not in told or "Quorate:          Yes" not in told:
            return False
        if self.device is not None and f"Total votes:      {len(self.machines) + 1}\n" not in told:
            return False
        links = corosync.links(node, CLOCK.deadline(AMPLE))
        return len(links) == 2 and all(up for peers in links.values() for up in peers.values())

    def _run_qdevice(self, machine: Machine) -> None:
        machine.run("mkdir", "-p", "/run/corosync-qdevice")
        machine.daemon("corosync-qdevice", "-f")

    def mend(self) -> None:
        """Whatever a test did to it is undone."""
        for board in self.boards.values():
            board.force()
            eventually(lambda board=board: board.settled, what=f"the power of {board.node.name} has followed its BMC")
        for machine in self.machines.values():
            if not machine.running:
                self.boot(machine)
                continue
            machine.run("nft", "flush", "ruleset")
            machine.run("pkill", "-CONT", "-x", "corosync", check=False)
            for network in machine.addresses:
                self.lab.plug(machine.name, network, connected=True)
            if not machine.run("pgrep", "-x", "corosync", check=False):
                self.run_corosync(machine)
            elif self.device is not None and not machine.run("pgrep", "-f", "^corosync-qdevice", check=False):
                self._run_qdevice(machine)
        eventually(self.whole, what="the cluster is whole again")

    @property
    def rings(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each node's addresses on corosync's links."""
        return tuple((name, (each.addresses["ring0"], each.addresses["ring1"])) for name, each in self.machines.items())

    def signal(self, name: str, program: str, number: signal.Signals) -> None:
        """That program there gets that signal."""
        self.machines[name].run("pkill", f"-{number.name[3:]}", "-x", program)

    def log(self, name: str) -> str:
        """What that node's corosync has logged."""
        return self.machines[name].path("/var/log/corosync/corosync.log").read_text()

    def mark(self) -> None:
        """From here on the logs are about what comes."""
        self.marks = {name: len(self.log(name)) for name in self.machines}

    def _certify(self, device: Machine) -> None:
        """The nodes and qnetd trust each other, by the steps that corosync-qdevice-net-certutil(8) tells."""
        first, *others = self.machines.values()
        nodes, server = "/etc/corosync/qdevice/net/nssdb", "/etc/corosync/qnetd/nssdb"
        shutil.rmtree(device.path(server), ignore_errors=True)
        device.run("corosync-qnetd-certutil", "-i")
        for machine in self.machines.values():
            hand(device, f"{server}/qnetd-cacert.crt", machine)
            machine.run("corosync-qdevice-net-certutil", "-i", "-c", "/srv/qnetd-cacert.crt")
        first.run("corosync-qdevice-net-certutil", "-r", "-n", "lab")
        hand(first, f"{nodes}/qdevice-net-node.crq", device)
        device.run("corosync-qnetd-certutil", "-s", "-c", "/srv/qdevice-net-node.crq", "-n", "lab")
        hand(device, f"{server}/cluster-lab.crt", first)
        first.run("corosync-qdevice-net-certutil", "-M", "-c", "/srv/cluster-lab.crt")
        for machine in others:
            hand(first, f"{nodes}/qdevice-net-node.p12", machine)
            machine.run("corosync-qdevice-net-certutil", "-m", "-c", "/srv/qdevice-net-node.p12")
