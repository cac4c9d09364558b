"""Hyper-converged Ceph, as PVE's REST API tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_pveha.clock import Deadline
from pytest_pveha.handles.ceph.status import CephStatus, status_of
from pytest_pveha.handles.reading import Said, an_object, once, some_rows
from pytest_pveha.wire.pve_api import PveApi, api_path


@dataclass(frozen=True, slots=True)
class CephDaemons:
    """Which OSDs and mons stand on which node."""

    osds: Mapping[str, tuple[int, ...]]
    mons: Mapping[str, tuple[str, ...]]


class Ceph:
    """The Ceph cluster by the API. Keeps no state."""

    def __init__(self, api: PveApi) -> None:
        self._api = api

    def status(self, deadline: Deadline) -> CephStatus:
        """GET /cluster/ceph/status, of Octopus or later (earlier ones nest the osdmap once more)."""
        path = "/cluster/ceph/status"
        return status_of(an_object(self._api.get(path, deadline=deadline).value, f"GET {path}"))

    def flags(self, deadline: Deadline) -> frozenset[str]:
        """The flags that are set on the whole cluster: GET /cluster/ceph/flags."""
        path = "/cluster/ceph/flags"
        rows = some_rows(self._api.get(path, deadline=deadline).value, f"GET {path}")
        flags = once(((row.word("name"), row.truth("value", False)) for row in rows), f"GET {path}")
        return frozenset(name for name, is_set in flags.items() if is_set)

    def daemons(self, node: str, deadline: Deadline) -> CephDaemons:
        """What stands where, as that node tells it: GET /nodes/{n}/ceph/osd (a CRUSH tree) and …/mon."""
        tree, mons = (api_path("nodes", node, "ceph", kind) for kind in ("osd", "mon"))
        root = an_object(self._api.get(tree, deadline=deadline).value, f"GET {tree}").part("root", needed=True)
        placed: dict[str, tuple[str, ...]] = {}
        for row in some_rows(self._api.get(mons, deadline=deadline).value, f"GET {mons}"):
            name = row.word("name")
            host = row.word("host", "") or name
            placed[host] = (*placed.get(host, ()), name)
        return CephDaemons(_osds(root), placed)


def _osds(root: Said) -> dict[str, tuple[int, ...]]:
    """The OSDs below a bucket by host, whatever lies between, and however deep it is."""
    found: dict[str, tuple[int, ...]] = {}
    left = [("", root)]
    while left:
        host, bucket = left.pop()
        if bucket.values.get("type") == "osd":
            found[host] = (*found.get(host, ()), bucket.count("id"))
            continue
        below = bucket.word("name") if bucket.values.get("type") == "host" else host
        left += [(below, child) for child in reversed(bucket.rows("children"))]
    return found
