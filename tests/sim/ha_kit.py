"""A world with everything that happened written down, for tests that say when what must happen."""

from __future__ import annotations

from typing import Any

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.spec import SiteSpec
from pytest_pveha.sim.timeline import Timeline
from pytest_pveha.sim.world import Node, World


def guest(vmid: int, node: str, **more: Any) -> dict[str, Any]:
    """An HA guest as the spec's JSON has it."""
    return {"vmid": vmid, "name": f"g{vmid}", "node": node, **more}


class Site:
    """A world that has been watched since it began: three nodes unless said."""

    def __init__(
        self,
        *guests: dict[str, Any],
        seed: int = 1,
        nodes: int = 3,
        boot_seconds: float = 20.0,
        prefix: str = "pve",
        described: list[dict[str, Any]] | None = None,
        **more: Any,
    ):
        self.truth: list[tuple[float, str, dict[str, Any]]] = []
        self.timeline = Timeline()
        spec = {
            "name": "lab",
            "cluster": "lab",
            "seed": seed,
            "nodes": described
            or [{"name": f"{prefix}{i}", "nodeid": i, "boot_seconds": boot_seconds} for i in range(1, nodes + 1)],
            "guests": list(guests),
            **more,
        }
        self.world = World(SiteSpec.from_json(spec), self.timeline, self.note)
        # faults come at any phase of the daemons' rounds
        self.play(60.0 + seed * 7.31 % 20)

    def note(self, kind: str, data: dict[str, Any]) -> None:
        self.truth.append((self.now, kind, dict(data)))

    @property
    def now(self) -> float:
        return self.timeline.now / SECOND

    @property
    def status(self) -> dict[str, Any]:
        """The manager's file."""
        return self.world.pmxcfs.store.manager

    @property
    def master(self) -> str:
        name: str = self.status["master_node"]
        return name

    def slaves(self) -> list[str]:
        return [name for name in self.world.nodes if name != self.master]

    def service(self, sid: str) -> dict[str, Any]:
        found: dict[str, Any] = self.status["service_status"][sid]
        return found

    def at(self, sid: str) -> str:
        """State and node of a service, such as ``started@pve1``."""
        return f"{self.service(sid)['state']}@{self.service(sid)['node']}"

    def running(self, vmid: int) -> list[str]:
        """The nodes on which the guest's process runs."""
        return sorted(self.world.guests[vmid].processes)

    def ask(self, sid: str, state: str) -> None:
        """The state that is asked for, as ``ha-manager set`` does."""
        self.world.pmxcfs.store.resources[sid]["state"] = state

    def command(self, text: str) -> None:
        """A CRM command, given at any node that is quorate."""
        node = next(node for node in self.world.nodes.values() if self.world.quorate(node))
        self.world.crm_command(node.name, text)

    def play(self, seconds: float) -> None:
        self.timeline.run_until(self.timeline.now + round(seconds * SECOND))

    def cut(self, node: str) -> float:
        """Cut the node's power; the moment it died."""
        self.world.chassis(node, "off")
        while self.world.nodes[node].running:
            self.timeline.run_next()
        return self.now

    def power_on(self, node: str) -> None:
        """Power is back; returns when the userland runs."""
        self.world.chassis(node, "on")
        while not self.world.nodes[node].running:
            self.timeline.run_next()

    def since(self, start: float, kind: str, **wanted: Any) -> float | None:
        """Seconds from ``start`` to the first such truth at or after it."""
        for moment, what, data in self.truth:
            if moment >= start and what == kind and wanted.items() <= data.items():
                return moment - start
        return None

    def during(self, start: float, kind: str, **wanted: Any) -> float:
        """The same, where it must have happened."""
        found = self.since(start, kind, **wanted)
        assert found is not None, f"{kind} {wanted} never happened"
        return found

    def became(self, start: float, sid: str, state: str, **more: Any) -> float:
        """Seconds from ``start`` until the service took that state."""
        return self.during(start, "service_state", sid=sid, new=state, **more)

    def states(self, start: float, sid: str) -> list[str]:
        """The states a service went through since ``start``."""
        return [d["new"] for at, kind, d in self.truth if kind == "service_state" and d["sid"] == sid and at >= start]

    def said(self, *words: str, since: float = 0.0, on: str | None = None) -> list[float]:
        """When the nodes' journals said that, in seconds of the site."""
        return sorted(
            line.t_ns / SECOND
            for node in self.world.nodes.values()
            for line in node.journal
            if on in (None, node.name) and line.t_ns >= since * SECOND and all(word in line.text for word in words)
        )

    def until(self, sid: str, state: str, within: float = 120.0) -> None:
        """Play until the service has that state."""
        end = self.now + within
        while self.service(sid)["state"] != state:
            assert self.now < end, f"{sid} is {self.at(sid)}, never {state}"
            self.timeline.run_next()

    def healthy(self) -> bool:
        """Everything is online and quorate, and every service that should run does, once."""
        nodes = self.world.nodes.values()
        return (
            all(self.world.quorate(node) for node in nodes)
            and set(self.status["node_status"].values()) == {"online"}
            and all(one["state"] == "started" and one.get("running") for one in self.status["service_status"].values())
            and all(len(one.processes) == 1 and one.answering for one in self.world.guests.values())
        )


def journal(node: Node, *words: str) -> list[str]:
    """The lines of a node's journal that have all these words."""
    return [line.text for line in node.journal if all(word in line.text for word in words)]
