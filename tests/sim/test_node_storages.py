"""What a person types on a node about storages and replication, and what is printed: the formats of the real tools."""

from __future__ import annotations

import re

from pytest_pveha.handles import replication, storages
from pytest_pveha.sim.servers.commands import COMMANDS
from pytest_pveha.sim.servers.shell import Process, Result, Stdin
from tests.sim.ha_kit import Site, guest

SITE = {
    "storages": [
        {"name": "vault", "kind": "nfs", "server": "10.99.7.7", "soft": True, "timeo": 100},
        {"name": "san", "kind": "iscsi", "server": "10.99.7.8"},
        {"name": "local-zfs", "kind": "zfs"},
    ],
    "replication": [{"guest": "vm:101", "target": "pve2"}],
}


def typed(site: Site, line: str, node: str = "pve1") -> str:
    """What the line prints there."""
    steps = Process(site.world, site.world.nodes[node], COMMANDS, Stdin()).line(line)
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            result: Result = ended.value
            return result.out


def test_the_tools_print_what_is() -> None:
    """pvesm, pvesr and the kernel's files tell of every storage and job, and our own readers understand them."""
    site = Site(guest(101, "pve1", storage="local-zfs"), guest(102, "pve2", storage="vault"), **SITE)
    assert re.search(r"^vault +nfs +active +\d+ +\d+ +\d+ +25\.00%$", typed(site, "pvesm status"), re.M)
    assert re.search(r"^101-0 +local/pve2 +\*/15 +- +yes$", typed(site, "pvesr list"), re.M)
    assert re.search(
        r"^101-0 +local/pve2 +2026-01-02_\S+ +2026-01-02_\S+ +4\.0 +0 OK$", typed(site, "pvesr status"), re.M
    )
    (mount,) = (one for one in storages.mounts(typed(site, "cat /proc/mounts")) if one.type == "nfs4")
    assert storages.nfs_patience(mount)[0] == 30.0
    assert storages.sessions(typed(site, "iscsiadm -m session"))[0][1:3] == ("10.99.7.8", 3260)
    assert "replacement_timeout = 120\n" in typed(site, "iscsiadm -m node -o show")
    assert "/mnt/pve/vault" in typed(site, "findmnt -t nfs,nfs4")
    (copy,) = replication.parsed(typed(site, "zfs list -H -p -t snapshot -o name,creation", "pve2"))
    assert (copy.vmid, copy.epoch) == (101, site.world.replication.copies[101, "pve2"].epoch)


def test_a_silent_server_is_inactive_there() -> None:
    """What a node cannot reach it calls inactive, without figures; its session has failed."""
    site = Site(guest(101, "pve1"), storages=SITE["storages"])
    for name in ("vault", "san"):
        site.world.storages.server_dies(name)
    found = typed(site, "pvesm status")
    assert re.search(r"^vault +nfs +inactive +0 +0 +0 +0\.00%$", found, re.M)
    assert re.search(r"^san +iscsi +inactive", found, re.M)
    assert typed(site, "cat /sys/class/iscsi_session/session1/state") == "FAILED\n"
