"""Whether a backup can be restored, and where it goes there is room."""

from __future__ import annotations

from pytest_pveha.faults.fault import Reach
from pytest_pveha.faults.objections.state import State
from pytest_pveha.faults.objections.words import gib

NEARFULL = 0.85
"""Share of a storage above which Ceph calls it nearly full (mon_osd_nearfull_ratio), and others are no better off."""


def space(state: State, reach: Reach) -> str | None:
    """What is used and what comes together stay below where storages begin to refuse (Ceph: nearfull)."""
    if (copy := reach.restoring) is None:
        return None
    source = state.source
    if source is None or not source.total or source.used is None:
        return f"space: how full storage {copy.storage} is cannot be told on {copy.node}; is it active there?"
    if source.used + copy.size < NEARFULL * source.total:
        return None
    return (
        f"space: {gib(source.used)} used + {gib(copy.size)} to restore is not below {NEARFULL:.0%} of the "
        f"{gib(source.total)} of storage {copy.storage} (nearfull); name another in backup.restore.storage"
    )


def copy_memory(state: State, reach: Reach) -> str | None:
    if (copy := reach.restoring) is None:
        return None
    left = state.free_memory.get(copy.node, 0)
    if copy.memory <= left:
        return None
    return f"memory: the copy needs {gib(copy.memory)}, and {copy.node} has {gib(left)} left; name another node"


def restorable(state: State, reach: Reach) -> str | None:
    if (copy := reach.restoring) is None:
        return None
    source = state.source
    if source is None or source.verification is None:
        return f"backup: {copy.volume} is not to be seen any more"
    if source.verification == "failed":
        return f"backup: {copy.volume} was verified and is broken, so nothing is proven by restoring it; back up again"
    if source.key_there is None:
        return f"key: whether the cluster has the key of {copy.volume} cannot be told; repair SSH to {copy.node}"
    if not source.key_there:
        return (
            f"key: {copy.volume} is encrypted, and {copy.node} has no key (/etc/pve/priv/storage): without it no "
            f"backup can be read; bring the one that was kept elsewhere"
        )
    return None
