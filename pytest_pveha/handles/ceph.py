"""Hyper-converged Ceph, as PVE's REST API tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_pveha.clock import Deadline
from pytest_pveha.handles.reading import Said, an_object, once, some_rows
from pytest_pveha.wire.pve_api import PveApi, api_path


@dataclass(frozen=True, slots=True)
class CephStatus:
    """What ``ceph -s`` says. Judge availability by PG states: health lags by tens of seconds (seen on Pacific)."""

    health: str
    checks: tuple[str, ...]
    quorum: tuple[str, ...]
    mons: int
    osds: int
    osds_up: int
    osds_in: int
    pgs: Mapping[str, int]
    """Number of placement groups by state, such as ``active+clean``."""

    @property
    def inactive(self) -> int:
        """Placement groups that serve no IO."""
        return sum(count for state, count in self.pgs.items() if "active" not in state.split("+"))

    @property
    def clean(self) -> bool:
        """Whether every placement group is active+clean; without any that is not known, and so not said."""
        return bool(self.pgs) and set(self.pgs) == {"active+clean"}


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
        body = an_object(self._api.get(path, deadline=deadline).value, f"GET {path}")
        health, osdmap, monmap = (body.part(name, needed=True) for name in ("health", "osdmap", "monmap"))
        if "osdmap" in osdmap.values:
            osdmap = osdmap.part("osdmap", needed=True)
        states = body.part("pgmap", needed=True).rows("pgs_by_state")
        return CephStatus(
            health=health.word("status"),
            checks=tuple(sorted(health.part("checks").values)),
            quorum=body.words("quorum_names"),
            # PVE gives the full monmap, `ceph -s` only a count
            mons=len(monmap.rows("mons")) if "mons" in monmap.values else monmap.count("num_mons"),
            osds=osdmap.count("num_osds"),
            osds_up=osdmap.count("num_up_osds"),
            osds_in=osdmap.count("num_in_osds"),
            pgs=once(((row.word("state_name"), row.count("count")) for row in states), f"GET {path}"),
        )

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
