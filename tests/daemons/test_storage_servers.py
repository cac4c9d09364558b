"""The fault storage-cut against real NFS and iSCSI servers: requests of real clients hang, none fails, all go on after.

The clients are QEMU's own, libnfs and libiscsi, for a kernel's mount needs modules that a laboratory has not. What a
kernel waits for a lost server is its own; what the cut does to the connection is the same.
"""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from lab import AMPLE, Lab, Machine, needs

from pytest_pveha.clock import Deadline, LiveClock
from pytest_pveha.errors import PreflightRefused
from pytest_pveha.faults.storage import StorageCut
from pytest_pveha.handles import storages
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.observer import Observer
from pytest_pveha.wire.ssh import CommandResult, Ssh

pytestmark = [
    pytest.mark.daemons,
    needs("ganesha.nfsd", "rpcbind", "tgtd", "qemu-io", "curl", "nft"),
]

SERVER = "10.79.0.9"
RPCBIND, NFS, ISCSI, CLOSED = 111, 2049, 3260, 3261
TARGET = "iqn.2003-01.example:vault"
TAG = "pveha-lab-storage-cut-1"
SIZE = 64 << 20
CUT = 6.0
"""Seconds for which the server is silent."""
GANESHA = """
NFS_Core_Param {{ Protocols = 3, 4; Enable_UDP = false; }}
NFSv4 {{ Graceless = true; }}
EXPORT {{ Export_Id = 1; Path = {path}; Pseudo = /vault; Access_Type = RW; Squash = No_Root_Squash;
  SecType = sys; FSAL {{ Name = VFS; }} }}
"""


class Inside:
    """A shell on a machine of the lab, as an SSH connection to a node is one."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def run(self, command: str, *, deadline: Deadline, acts: bool = False, input: bytes | None = None) -> CommandResult:
        words = [*self._machine._entering(), "sh", "-c", command]
        asked = LiveClock().now()
        done = subprocess.run(words, input=input or b"", capture_output=True, timeout=AMPLE, check=False)
        return CommandResult(done.returncode, done.stdout, done.stderr, asked, LiveClock().now())


class Bench:
    """A server and two nodes, with the fault that makes the one silent for the others."""

    def __init__(self, lab: Lab) -> None:
        lab.network("storage")
        self.server = lab.machine("server", {"storage": f"{SERVER}/24"})
        self.machines = [
            lab.machine(name, {"storage": f"10.79.0.{at}/24"}) for at, name in enumerate(("pve1", "pve2"), 1)
        ]
        for machine in (self.server, *self.machines):
            machine.start()
        self.clock = LiveClock()
        self.nodes = Nodes(Node(one.name, cast("Ssh", Inside(one)), None, self.clock, ()) for one in self.machines)
        site = SimpleNamespace(nodes=self.nodes, clock=self.clock)
        self.observer = cast("Observer", SimpleNamespace(site=site, look=lambda: None))

    def soon(self) -> Deadline:
        return self.clock.deadline(AMPLE)

    def cut(self, port: int, gives_up: float | None = None) -> StorageCut:
        """The server of that port, silent for every node."""
        known = ((SERVER, port),)
        return StorageCut(TAG, self.nodes.names, "vault", known, (), CUT, CUT + 10, gives_up, "pve1 fails requests")

    def until_open(self, port: int) -> None:
        """The server listens there."""
        deadline = self.soon()
        while not storages.reaches(self.nodes["pve1"], SERVER, port, self.soon()):
            assert not deadline.expired(), f"nothing listens at {SERVER}:{port}"
            self.clock.sleep(0.2)

    @cached_property
    def nfs(self) -> str:
        """The URL of a disk on its export, which is served from now on."""
        self.server.run("mkdir", "-p", "/run/vault", "/run/ganesha", "/run/rpcbind", "/var/lib/corosync/nfs")
        self.server.run("truncate", "-s", str(SIZE), "/run/vault/disk")
        self.server.path("/etc/ganesha.conf").write_text(GANESHA.format(path="/run/vault"))
        self.server.daemon("rpcbind", "-f", "-w")
        self.until_open(RPCBIND)  # where it does not answer yet, ganesha ends at once
        self.server.daemon(
            "ganesha.nfsd", "-F", "-f", "/etc/ganesha.conf", "-L", "/var/log/corosync/ganesha.log", "-p", "/run/g.pid"
        )
        self.until_open(NFS)
        return f"nfs://{SERVER}/run/vault/disk"

    @cached_property
    def iscsi(self) -> str:
        """The URL of a target's one LUN, which is served from now on."""
        self.server.run("truncate", "-s", str(SIZE), "/run/lun")
        self.server.daemon("tgtd", "-f", "--iscsi", f"portal={SERVER}:{ISCSI}")
        self.until_open(ISCSI)
        admin = ("tgtadm", "--lld", "iscsi", "--op")
        self.server.run(*admin, "new", "--mode", "target", "--tid", "1", "-T", TARGET)
        self.server.run(*admin, "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", "/run/lun")
        self.server.run(*admin, "bind", "--mode", "target", "--tid", "1", "-I", "ALL")
        return f"iscsi://{SERVER}:{ISCSI}/{TARGET}/1"


class Writer:
    """A client on a node with a connection to its disk that stays open."""

    def __init__(self, machine: Machine, url: str) -> None:
        words = [*machine._entering(), "qemu-io", "-f", "raw", "-t", "none", url]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        )
        self._said = b""

    def write(self, pattern: int, at: int) -> None:
        """A request goes out: 4 KiB of that byte, there, and a flush."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"write -f -P {pattern} {at} 4k\n".encode())

    def answered(self, number: int, within: float) -> bool:
        """Whether so many requests have been answered well, in that time; none has failed."""
        assert self._process.stdout is not None
        clock = LiveClock()
        deadline = clock.deadline(within)
        while self._said.count(b"wrote 4096/4096 bytes") < number:
            left = deadline.remaining()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                return False
            read = os.read(self._process.stdout.fileno(), 65536)
            assert read, f"the client has ended: {self._said!r}"
            self._said += read
            assert b"failed" not in self._said, self._said
            assert b"rror" not in self._said.replace(b"iSCSI: NOP timeout", b""), self._said
        return True

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """The machines, up: one set for all tests here."""
    lab = Lab()
    try:
        yield Bench(lab)
    finally:
        lab.close()


@contextmanager
def writers(bench: Bench, url: str) -> Iterator[list[Writer]]:
    """A client on each node, which has written once."""
    found = [Writer(machine, url) for machine in bench.machines]
    try:
        for number, writer in enumerate(found):
            writer.write(17, number << 20)
            assert writer.answered(1, AMPLE)
        yield found
    finally:
        for writer in found:
            writer.close()


@pytest.mark.parametrize(("kind", "port"), [("nfs", NFS), ("iscsi", ISCSI)])
def test_a_cut_stalls_every_client_and_fails_none(bench: Bench, kind: str, port: int) -> None:
    """While the server is cut off no request is answered; after it all are, and what was written is on the server."""
    url = bench.nfs if kind == "nfs" else bench.iscsi
    cut = bench.cut(port)
    with writers(bench, url) as clients:
        assert cut.took_effect(bench.observer).verdict == "no"
        cut.inject(bench.observer)
        try:
            for number, client in enumerate(clients):
                client.write(85, (number << 20) + 4096)
            assert cut.took_effect(bench.observer).verdict == "yes"
            assert not any(client.answered(2, CUT / 2) for client in clients)
        finally:
            cut.heal(bench.observer)
        assert cut.healed(bench.observer).verdict == "yes"
        assert [client.answered(2, AMPLE) for client in clients] == [True, True]
    where = "/run/vault/disk" if kind == "nfs" else "/run/lun"
    for number in range(2):
        words = ("dd", f"if={where}", "bs=4096", f"skip={(number << 8) + 1}", "count=1", "status=none")
        assert bench.server.run(*words) == "U" * 4096


def test_nodes_undo_the_cut_by_themselves(bench: Bench) -> None:
    """What a dead-man runs on a node takes the real rules back there, and is no error where there are none."""
    assert bench.iscsi
    cut = bench.cut(ISCSI)
    cut.inject(bench.observer)
    for undo in cut.dead_man(bench.observer, "/run/x").undos:
        for _ in range(2):
            bench.nodes[undo.node].act(bench.soon(), "sh", "-c", "\n".join(undo.script))
    assert cut.healed(bench.observer).verdict == "yes"
    assert storages.reaches(bench.nodes["pve2"], SERVER, ISCSI, bench.soon())


def test_a_silent_server_is_refused_before_it_is_cut(bench: Bench) -> None:
    """A closed port is no connection; and where a path gives up too soon nothing is broken, with the sum."""
    assert not storages.reaches(bench.nodes["pve1"], SERVER, CLOSED, bench.soon())
    with pytest.raises(PreflightRefused, match=r"after 16 s \+ 5 s of margin = 21 s is not below 21 s"):
        bench.cut(ISCSI, 21.0)._check_patience()


def test_a_real_mount_is_read() -> None:
    """What this machine's own kernel says of its mounts is understood, whatever is mounted."""
    found = storages.mounts(Path("/proc/mounts").read_text("utf-8"))
    assert {"/", "/proc"} <= {mount.target for mount in found}
    assert all(mount.options and mount.type for mount in found)
