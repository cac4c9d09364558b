"""A run that was killed in the midst of it leaves nothing of its network faults, its storage and its guests."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from ceph_lab import TOOLS
from lab import AMPLE, BULK, NAMESPACES, RUN, cleared_away, left_of, needs, nobody_clears_away, tool

from pytest_pveha.clock import LiveClock

pytestmark = pytest.mark.daemons

HEAD = """
import sys
sys.path[:0] = {paths!r}
from lab import Lab
lab = Lab()
"""
CEPH = """
from ceph_lab import CephCluster
from clusters import make_key
for name in ("mgmt", "public", "back"):
    lab.network(name)
make_key(lab.folder / "id_ed25519")
ceph = CephCluster(lab, lab.folder / "id_ed25519", hosts=2, per_host=1)
for machine in ceph.machines.values():
    ceph.boot(machine)
ceph.client.start()
ceph.make()
"""
SERVERS = """
from test_storage_servers import ISCSI, NFS, Bench, Writer
bench = Bench(lab)
urls = [bench.nfs, bench.iscsi]
writers = [Writer(machine, url) for machine, url in zip(bench.machines, urls)]
for writer in writers:
    writer.write(17, 0)
    assert writer.answered(1, 60)
bench.cut(ISCSI).inject(bench.observer)
"""
PARTITION = """
from pathlib import Path
from clusters import CLOCK, Cluster, make_key
from small_site import SmallSite
from pytest_pveha.faults.network import Partition
for name in ("mgmt", "ring0", "ring1"):
    lab.network(name)
lab.machine("controller", {"mgmt": "10.77.0.250/24"}).start()
key = lab.folder / "id_ed25519"
make_key(key)
trio = Cluster(lab, ("pve1", "pve2", "pve3"), 1, key=key, boards=True)
with lab.inside("controller"):
    trio.start()
    site = SmallSite(trio, lab.folder)
    cut = Partition("pveha-lab-cut", ("pve3",), ("pve1", "pve2"), trio.rings)
    cut.inject(trio.observer)
    for machine in trio.machines.values():
        assert "pveha_lab_cut" in machine.run("nft", "list", "tables")
    trio.boards["pve2"].client().set_power("cycle", CLOCK.deadline(60))
"""
TAIL = """
print(lab.name, flush=True)
sys.stdin.read()
"""


def around() -> list[str]:
    """What this host has of its own where a laboratory could leave something."""
    nft = tool("nft", "list", "ruleset")
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [nft, tool("ip", "-br", "link"), *sorted(each for each in mounts if not each.startswith(str(NAMESPACES)))]


def pids_of(name: str) -> list[str]:
    return [each for each in left_of(name) if each.isdigit()]


def name_of(pid: int) -> str:
    """What that process is called; empty where it has just ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("begun", "daemons"),
    [
        pytest.param(
            PARTITION,
            {"corosync", "sshd", "ipmi_sim", "qemu-system-x86"},
            id="partition",
            marks=needs("corosync", "sshd", "ssh-keygen", "ipmi_sim", "qemu-system-x86_64"),
        ),
        pytest.param(CEPH, {"ceph-mon", "ceph-mgr", "ceph-osd"}, id="ceph", marks=needs(*TOOLS)),
        pytest.param(
            SERVERS,
            {"ganesha.nfsd", "tgtd", "rpcbind", "qemu-io"},
            id="nfs-and-iscsi",
            marks=needs("ganesha.nfsd", "rpcbind", "tgtd", "qemu-io"),
        ),
    ],
)
def test_a_killed_run_leaves_nothing(begun: str, daemons: set[str]) -> None:
    """After kill -9 its daemons end by themselves; the next run clears namespaces, rules, files and disks away."""
    before = around()
    here = Path(__file__).parent
    script = HEAD.format(paths=[str(here), str(here.parents[1])]) + begun + TAIL
    clock = LiveClock()
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        name = owner.stdout.readline().strip()
        assert name, "it could not begin"
        running = {name_of(int(pid)) for pid in pids_of(name)}
        with nobody_clears_away():
            owner.kill()
            deadline = clock.deadline(AMPLE)
            while pids_of(name):
                assert not deadline.expired(), "its daemons live on"
                clock.sleep(0.05)
            assert (RUN / name).is_dir()
    assert daemons <= running
    assert cleared_away(name)
    assert not (BULK / name).exists()
    assert around() == before


ALONE = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
folder = Path({folder!r})
"""
CONTAINER = """
from container import Container
Container(folder / "machine", "pve1", "bookworm").start()
"""
BOARDS = """
from test_ipmi_sim import Real, up
for number in range(4):
    up(Real(folder / str(number)))
"""
CANARY = """
from canaries import Machine, disk, initramfs
(folder / "boots").mkdir()
Machine(folder / "boot", initramfs(folder / "boots"), f"file={disk(folder / 'disk')},format=raw,cache=writeback").up()
"""


def pids_about(folder: Path) -> dict[int, str]:
    """The processes that were told of that folder, or are in it, and their names."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes() + os.fsencode((process / "cwd").readlink())
            if os.fsencode(folder) in words:
                found[int(process.name)] = name_of(int(process.name))
    return found


@pytest.mark.parametrize(
    ("begun", "daemon"),
    [
        pytest.param(CONTAINER, "systemd-nspawn", id="systemd", marks=needs("systemd-nspawn", "debootstrap")),
        pytest.param(BOARDS, "ipmi_sim", id="ipmi_sim", marks=needs("ipmi_sim")),
        pytest.param(CANARY, "qemu-system-x86", id="guest", marks=needs("qemu-system-x86_64", "busybox", "mke2fs")),
    ],
)
def test_what_needs_no_laboratory_dies_with_its_run(begun: str, daemon: str, tmp_path: Path) -> None:
    """After kill -9 of who started it no process of it is left, and nothing is mounted or listed of this host's own."""
    before = around()
    here = Path(__file__).parent
    script = ALONE.format(paths=[str(here), str(here.parents[1])], folder=str(tmp_path)) + begun
    script += 'print("up", flush=True)\nsys.stdin.read()\n'
    words = [sys.executable, "-c", script]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        running = pids_about(tmp_path)
        owner.kill()
    clock = LiveClock()
    deadline = clock.deadline(AMPLE)
    while left := pids_about(tmp_path):
        assert not deadline.expired(), left
        clock.sleep(0.05)
    assert daemon in running.values(), running
    assert around() == before
