"""What the simulated Ceph's tests share: a site, what happened on it, and when."""

from __future__ import annotations

from typing import Any

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.servers.programs import run_program
from pytest_pveha.sim.spec import SiteSpec
from pytest_pveha.sim.timeline import Timeline
from pytest_pveha.sim.world.ceph import Ceph
from pytest_pveha.sim.world.ceph.health import Health
from pytest_pveha.sim.world.world import World


def ceph_of(world: World) -> Ceph:
    """The world's Ceph, which must be there."""
    assert world.ceph is not None
    return world.ceph


class CephSite:
    """Nodes pve1 to pveN with a Ceph, and what truly happened."""

    def __init__(self, nodes: int = 3, *, rooms: tuple[str, ...] = ("",), **changes: Any) -> None:
        site = {"ceph": {}, **changes}
        spec = {
            "name": "unit",
            "cluster": "orcl",
            "nodes": [
                {"name": f"pve{n}", "nodeid": n, "boot_seconds": 60.0, "room": rooms[(n - 1) % len(rooms)]}
                for n in range(1, nodes + 1)
            ],
            **site,
        }
        self.happened: list[tuple[float, str, dict[str, Any]]] = []
        self.world = World(SiteSpec.from_json(spec), Timeline(), self._note, run=run_program)
        self.ceph = ceph_of(self.world)

    def _note(self, kind: str, data: dict[str, Any]) -> None:
        self.happened.append((self.now if hasattr(self, "world") else 0.0, kind, data))

    @property
    def now(self) -> float:
        """Seconds since the site started."""
        return self.world.timeline.now / SECOND

    def play(self, seconds: float) -> None:
        """The world goes on for that long."""
        timeline = self.world.timeline
        timeline.run_until(timeline.now + round(seconds * SECOND))

    def until(self, condition: Any, within: float = 600.0) -> float:
        """The world goes on until the condition holds; how long that took."""
        begun = self.now
        while not condition():
            assert self.now - begun < within, "it never came true"
            self.play(0.1)
        return self.now - begun

    def power_off(self, node: str) -> float:
        """That node has lost its power; when."""
        self.world.chassis(node, "off")
        self.until(lambda: not self.world.nodes[node].running, 10)
        return self.now

    def systemctl(self, osd: int, verb: str, *signal: str) -> None:
        """What systemctl does to that OSD's daemon on its node."""
        node = self.ceph.node(self.ceph.osds[osd])
        getattr(self.world.systemd, verb)(node, f"ceph-osd@{osd}.service", *signal)

    def stalls(self) -> list[tuple[float, float]]:
        """When writes to the guests' storage hung, seconds."""
        end = self.world.timeline.now
        found = self.world.storages[self.world.spec.default_storage].stalls
        return [(since / SECOND, (end if until is None else until) / SECOND) for since, until in found]

    def stalled(self) -> list[float]:
        """How long each hang was."""
        return [until - since for since, until in self.stalls()]

    def when(self, kind: str, **data: Any) -> float:
        """When that last happened."""
        times = [at for at, one, told in self.happened if one == kind and data.items() <= told.items()]
        assert times, (kind, data)
        return times[-1]

    def health(self) -> dict[str, str]:
        """The complaints, by code."""
        return {check.code: check.message for check in Health(self.ceph).checks()}

    def clean(self) -> bool:
        """Whether every placement group is active+clean."""
        return set(self.ceph.groups.states) == {"active+clean"}
