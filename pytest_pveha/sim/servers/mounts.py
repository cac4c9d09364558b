"""A node's NFS mounts and iSCSI sessions, as its kernel shows them.

Sources: nfs(5) and the kernel's fs/nfs/super.c (order of the options in /proc/mounts); /sys/class/iscsi_session.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.servers.storage_facts import EXPORT


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/mounts."""

    source: str
    target: str
    kind: str
    options: str

    @property
    def line(self) -> str:
        return f"{self.source} {self.target} {self.kind} {self.options} 0 0\n"


@dataclass(frozen=True, slots=True)
class Session:
    """An iSCSI session; ``recovery``: seconds until a lost path's requests fail."""

    number: int
    target: str
    portal: str
    recovery: float
    logged_in: bool


def mounts(facts: Facts) -> list[Mount]:
    """What is mounted."""
    found = [Mount("/dev/mapper/pve-root", "/", "ext4", "rw,relatime,errors=remount-ro")]
    for one in facts.world.storages:
        if one.kind == "nfs":
            how = "soft" if one.spec.soft else "hard"
            options = (
                f"rw,relatime,vers=4.2,rsize=1048576,wsize=1048576,namlen=255,{how},proto=tcp,"
                f"timeo={one.spec.timeo},retrans={one.spec.retrans},sec=sys,clientaddr={facts.address(facts.node)},"
                f"local_lock=none,addr={one.spec.server}"
            )
            source = f"{one.spec.server}:{EXPORT.format(name=one.name)}"
            found.append(Mount(source, f"/mnt/pve/{one.name}", "nfs4", options))
    return found


def sessions(facts: Facts) -> list[Session]:
    """The iSCSI sessions, one a storage."""
    served = [one for one in facts.world.storages if one.kind == "iscsi"]
    return [
        Session(
            number,
            f"iqn.2003-01.example:{one.name}",
            f"{one.spec.server}:3260",
            one.gives_up or 0.0,
            facts.world.storages.reaches(facts.node, one),
        )
        for number, one in enumerate(served, 1)
    ]


def content(facts: Facts, path: str) -> str | None:
    """The files of the kernel that tell of them, or None."""
    if path in ("/proc/mounts", "/proc/self/mounts", "/etc/mtab"):
        return "".join(one.line for one in mounts(facts))
    if match := re.fullmatch(r"/sys/class/iscsi_session/session(\d+)/(recovery_tmo|state|targetname)", path):
        found = next((one for one in sessions(facts) if one.number == int(match[1])), None)
        if found is None:
            return None
        values = {
            "recovery_tmo": f"{found.recovery:g}",
            "state": "LOGGED_IN" if found.logged_in else "FAILED",
            "targetname": found.target,
        }
        return f"{values[match[2]]}\n"
    if re.fullmatch(r"/sys/block/sd[b-z]/device/timeout", path) and sessions(facts):
        return "30\n"
    return None
