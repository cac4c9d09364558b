"""Hyper-converged Ceph, as PVE's REST API tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.wire.pve_api import PveApi


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
        body = self._api.get(path, deadline=deadline).value
        try:
            health = body["health"]
            osdmap = body["osdmap"].get("osdmap", body["osdmap"])
            monmap = body["monmap"]
            return CephStatus(
                health=str(health["status"]),
                checks=tuple(sorted(health.get("checks", {}))),
                quorum=tuple(body["quorum_names"]),
                mons=_mons(monmap),
                osds=int(osdmap["num_osds"]),
                osds_up=int(osdmap["num_up_osds"]),
                osds_in=int(osdmap["num_in_osds"]),
                pgs={row["state_name"]: int(row["count"]) for row in body["pgmap"].get("pgs_by_state", [])},
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ProtocolError(f"GET {path}: not the shape of a Ceph status: {error!r}") from error

    def flags(self, deadline: Deadline) -> frozenset[str]:
        """The flags that are set on the whole cluster: GET /cluster/ceph/flags."""
        path = "/cluster/ceph/flags"
        rows = self._api.get(path, deadline=deadline).value
        try:
            return frozenset(str(row["name"]) for row in rows if str(row.get("value")) in ("1", "True", "true"))
        except (KeyError, TypeError, AttributeError) as error:
            raise ProtocolError(f"GET {path}: not the shape of Ceph's flags: {error!r}") from error

    def daemons(self, node: str, deadline: Deadline) -> CephDaemons:
        """What stands where, as that node tells it: GET /nodes/{n}/ceph/osd (a CRUSH tree) and …/mon."""
        path = f"/nodes/{node}/ceph"
        tree = self._api.get(f"{path}/osd", deadline=deadline).value
        mons = self._api.get(f"{path}/mon", deadline=deadline).value
        try:
            placed: dict[str, tuple[str, ...]] = {}
            for row in mons:
                host = str(row.get("host") or row["name"])
                placed[host] = (*placed.get(host, ()), str(row["name"]))
            return CephDaemons(_osds(tree["root"]), placed)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ProtocolError(f"GET {path}/osd, …/mon: not the shape of Ceph's daemons: {error!r}") from error


def _osds(bucket: Mapping[str, Any], host: str = "") -> dict[str, tuple[int, ...]]:
    """The OSDs below a bucket by host, whatever lies between."""
    found: dict[str, tuple[int, ...]] = {}
    for child in bucket.get("children", []):
        if child.get("type") == "osd":
            found[host] = (*found.get(host, ()), int(child["id"]))
            continue
        for name, osds in _osds(child, str(child["name"]) if child.get("type") == "host" else host).items():
            found[name] = (*found.get(name, ()), *osds)
    return found


def _mons(monmap: Mapping[str, Any]) -> int:
    """PVE gives the full monmap, ``ceph -s`` only a count."""
    return len(monmap["mons"]) if "mons" in monmap else int(monmap["num_mons"])
