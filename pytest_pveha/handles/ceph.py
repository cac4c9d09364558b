"""Hyper-converged Ceph, as PVE's REST API tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_pveha.clock import Deadline
from pytest_pveha.handles.reading import an_object, once
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
