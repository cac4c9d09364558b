"""A run that was killed in the midst of it leaves nothing of its storage: Ceph, and real NFS and iSCSI servers."""

from __future__ import annotations

import subprocess
import sys
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


@pytest.mark.parametrize(
    ("begun", "daemons"),
    [
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
        running = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids_of(name)}
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
