"""Every way between the rooms of a stretched site, measured from each node's own shell.

All nodes ask at once, each one machine after the other: so each way carries a few packets a second beside its load.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pytest_pveha.clock import Instant
from pytest_pveha.errors import SiteError
from pytest_pveha.handles.echo import PATIENCE, Echoes, LinkLatency, echoes, latencies
from pytest_pveha.handles.layout import DEVICE, Ways
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.observer import READ, Observer

COUNT = 400
"""Echoes on each way: with 368 or more the 99th of a hundred has an upper bound, at 95 in 100 (order statistics)."""

INTERVAL = 0.05
"""Seconds from one to the next."""

_SSH = 20.0
"""Seconds that SSH and a slow ping may add."""

LOOK = 1.0
"""Seconds between two looks at how far it is."""


@dataclass(slots=True)
class _Asked:
    """One way to one address, asked."""

    source: str
    target: str
    host: str
    echoes: Echoes | None = None
    trouble: str = ""


@dataclass(slots=True)
class _Survey:
    """One pass over all ways."""

    observer: Observer
    addresses: Mapping[str, tuple[str, ...]]
    """Each machine's addresses on which it is asked."""
    asked: list[_Asked] = field(default_factory=list)
    ring: dict[str, dict[int, LinkLatency]] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, ways: Iterable[tuple[str, str]]) -> None:
        """Every way has been asked, the nodes beside each other."""
        clock = self.observer.site.clock
        targets: dict[str, list[str]] = {}
        for source, target in ways:
            targets.setdefault(source, []).append(target)
        wanted = sum(len(self.addresses.get(target, ())) or 1 for each in targets.values() for target in each)
        tasks = []
        for source, each in targets.items():
            node = self.observer.site.nodes[source]
            tasks.append(clock.spawn(f"echo-{source}", lambda node=node, each=each: self._ask_all(node, each)))  # type: ignore[misc]
        try:
            while len(self.asked) < wanted:
                self.observer.tell("measuring the ways between the rooms", f"{len(self.asked)} of {wanted}")
                clock.sleep(LOOK)
        except BaseException:
            self.stop.set()  # each ends after its present question
            raise
        finally:
            for task in tasks:
                task.join()
        self.asked.sort(key=lambda one: (one.source, one.target, one.host))

    def _ask_all(self, node: Node, targets: list[str]) -> None:
        deadline = self.observer.site.clock.deadline
        try:
            self.ring[node.name] = latencies(node, deadline(READ))
        except SiteError:  # an instrument less: what it would have said is not measured
            self.ring[node.name] = {}
        for target in targets:
            hosts = self.addresses.get(target, ())
            if not hosts:
                self.asked.append(_Asked(node.name, target, "", trouble=f"no address of {target} is known"))
            for host in hosts:
                if self.stop.is_set():
                    return
                asked = _Asked(node.name, target, host)
                try:
                    within = COUNT * INTERVAL + PATIENCE + _SSH
                    asked.echoes = echoes(node, host, COUNT, INTERVAL, deadline(within))
                except SiteError as error:
                    asked.trouble = str(error)
                self.asked.append(asked)


def measure(observer: Observer, ways: Ways) -> None:
    """What came of every way is in the journal, each a line ``echo``: to each address of a node on the corosync links,
    and to the quorum device's machine."""
    site = observer.site
    begin = site.clock.now()
    addresses = {**site.cluster.ring_addresses(site.clock.deadline(READ)), DEVICE: (site.layout.device,)}
    ids = site.cluster.node_ids(site.clock.deadline(READ))
    found = _Survey(observer, addresses)
    found.run([*ways.between, *ways.to_device])
    for asked in found.asked:
        own = found.ring.get(asked.source, {}).get(ids.get(asked.target, 0))
        _write(observer, asked, own, begin)


def _write(observer: Observer, asked: _Asked, own: LinkLatency | None, begin: Instant) -> None:
    layout, told = observer.site.layout, asked.echoes
    there = layout.device_room if asked.target == DEVICE else layout.room_of(asked.target)
    observer.write(
        "echo",
        {
            "source": asked.source,
            "target": asked.target,
            "address": asked.host,
            "rooms": [layout.room_of(asked.source), there],
            "sent": told.sent if told else 0,
            "times": list(told.times) if told else [],
            "before": (told.asked_at if told else begin).mono,
            "after": (told.answered_at if told else begin).mono,
            "ring_average": own.average if own else None,
            "ring_longest": own.longest if own else None,
            "saw": asked.trouble,
        },
    )
