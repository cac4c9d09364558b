"""The same cases against the simulated site and real daemons: a difference between the two fails here.

What the real ones print is recorded in ``recorded/corosync-3.1.7.json``; ``RECORD=1`` writes it anew. Addresses, dates
and ring ids differ from cluster to cluster and are compared by kind.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from clusters import TOKEN, Cluster
from lab import AMPLE, needs
from worlds import world_site

from pytest_pveha.clock import SECOND, Clock, Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.faults.fault import Fault
from pytest_pveha.faults.network import LinkLoss, Partition, QdeviceLoss
from pytest_pveha.handles import corosync
from pytest_pveha.handles.corosync import Quorum, Ring
from pytest_pveha.handles.node import Node, Votes
from pytest_pveha.handles.shell import quote
from pytest_pveha.handles.site import Site
from pytest_pveha.observe.observer import Observer
from pytest_pveha.sim.servers.programs import run_program
from pytest_pveha.sim.spec import SiteSpec
from pytest_pveha.sim.timeline import Timeline
from pytest_pveha.sim.world.world import World
from tests.sim.servers_kit import PlayingGate

FILE = Path(__file__).parent / "recorded" / "corosync-3.1.7.json"
RECORDED: dict[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
TAG = "pveha-lab-cut"
DEVICE, PORT = "10.77.0.50", 5403
BUSY = 3.0
"""How many times as long as on an idle machine something may take."""

TOOLS = ("corosync-quorumtool", "corosync-cfgtool", "corosync-qdevice-tool")


class Bench:
    """A cluster, simulated or real, by the handles and with the faults of a run."""

    site: Site
    rings: tuple[tuple[str, tuple[str, ...]], ...]

    def __init__(self, site: Site, rings: tuple[tuple[str, tuple[str, ...]], ...]) -> None:
        self.site = site
        self.rings = rings
        self.observer = Observer(site, lambda kind, data: None)

    def log(self, name: str) -> list[str]:
        """What that node's corosync has said since the last mark."""
        raise NotImplementedError

    def mark(self) -> None:
        """The logs are about what comes."""
        raise NotImplementedError

    def stop_corosync(self, name: str) -> None:
        """It does not run there."""
        raise NotImplementedError

    @property
    def clock(self) -> Clock:
        return self.site.clock

    def soon(self) -> Deadline:
        """A deadline that is ample."""
        return self.clock.deadline(AMPLE)

    def until(self, true: Callable[[], bool], within: float = 2 * AMPLE) -> float:
        """It is true; the seconds until it was."""
        begin = self.clock.now().mono
        while not true():
            assert self.clock.now().mono - begin < within * SECOND, true
            self.clock.sleep(0.05)
        return (self.clock.now().mono - begin) / SECOND

    def quorum(self, name: str) -> Quorum:
        """What that node says of it."""
        return corosync.quorum(self.site.nodes[name], self.soon())

    def make(self, fault: Fault) -> None:
        """The fault was allowed, made, and seen to bite."""
        fault.preflight(self.observer)
        fault.inject(self.observer)
        self.until(lambda: fault.took_effect(self.observer).verdict == "yes")

    def tell(self, name: str, tool: str) -> tuple[int, str, str]:
        """Status, output and complaint of that tool there, without what differs from cluster to cluster."""
        done = self.site.nodes[name].ssh.run(quote(tool, "-s"), deadline=self.soon())
        return done.exit_status, self.plain(done.stdout.decode()), self.plain(done.stderr.decode())

    def plain(self, text: str) -> str:
        """The text without addresses, dates, ring ids and figures of time."""
        for number, (name, addresses) in enumerate(self.rings, 1):
            for link, address in enumerate(addresses):
                text = re.sub(rf"{re.escape(address)}(?![\d.])", f"<{number}/{link}>", text)
            text = re.sub(rf"\b{name}\b", f"<name {number}>", text)
        text = text.replace(f"{DEVICE}:{PORT}", "<device>")
        text = re.sub(r"(?m)^(Date: +).*$", r"\1<date>", text)
        text = re.sub(r"(?m)^(Ring ID: +).*$", r"\1<ring>", text)
        text = re.sub(r"(?m)^((?:Cluster name|Configuration version):\t+).*$", r"\1<its own>", text)
        text = re.sub(r"\d+ ?ms", "<ms>", text)
        return re.sub(r"\([\da-f]+\.[\da-f]+\)", "<ring>", text)


class Real(Bench):
    """Machines of the laboratory."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.site, cluster.rings)
        self._cluster = cluster

    def log(self, name: str) -> list[str]:
        text = self._cluster.log(name)[self._cluster.marks[name] :]
        return [
            line.partition("[")[2].partition(" corosync ")[2].partition(" ")[2].strip() for line in text.split("\n")
        ]

    def mark(self) -> None:
        self._cluster.mark()

    def stop_corosync(self, name: str) -> None:
        self._cluster.machines[name].run("pkill", "-KILL", "-x", "corosync")


class Simulated(Bench):
    """The embedded site's world and commands."""

    def __init__(self, count: int, **more: Any) -> None:
        spec: Mapping[str, Any] = {
            "name": "lab",
            "cluster": "lab",
            "links": 2,
            "nodes": [{"name": f"pve{n}", "nodeid": n, "boot_seconds": 60.0} for n in range(1, count + 1)],
            **more,
        }
        self._world = World(SiteSpec.from_json(spec), Timeline(), lambda kind, data: None, run=run_program)
        self._gate = PlayingGate(self._world)
        site = world_site(self._gate, "lab")
        address = self._world.network.address
        super().__init__(site, tuple((n.name, (address(n, 0), address(n, 1))) for n in self._world.nodes.values()))
        self._gate.play(30)
        self._marks: dict[str, int] = {}

    def log(self, name: str) -> list[str]:
        lines = self._world.nodes[name].journal[self._marks[name] :]
        return [line.text.strip() for line in lines if line.text.startswith("  [")]

    def mark(self) -> None:
        self._marks = {name: len(node.journal) for name, node in self._world.nodes.items()}

    def stop_corosync(self, name: str) -> None:
        self.site.nodes[name].act(self.soon(), "systemctl", "stop", "corosync")


REAL3 = [pytest.mark.daemons, needs("corosync", "sshd", "ssh-keygen")]
REAL2 = [pytest.mark.daemons, needs("corosync", "corosync-qdevice", "corosync-qnetd", "certutil", "sshd", "ssh-keygen")]


@pytest.fixture(params=["simulated", pytest.param("real", marks=REAL3)])
def three(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Three nodes with two links, whole."""
    if request.param == "simulated":
        yield Simulated(3)
    else:
        yield Real(request.getfixturevalue("trio"))


@pytest.fixture(params=["simulated", pytest.param("real", marks=REAL2)])
def two(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Two nodes with two links and a quorum device, whole."""
    if request.param == "simulated":
        yield Simulated(2, qdevice="ffsplit", qdevice_host=DEVICE)
    else:
        yield Real(request.getfixturevalue("pair"))


def same(bench: Bench, case: str, found: Any) -> None:
    """It is what was recorded of the real daemons in that case."""
    found = json.loads(json.dumps(found))
    if isinstance(bench, Real) and os.environ.get("RECORD"):
        RECORDED[case] = found
        FILE.write_text(json.dumps(RECORDED, indent=1, sort_keys=True) + "\n", "utf-8")
    assert found == RECORDED[case]


def names(bench: Bench) -> list[str]:
    return list(bench.site.nodes.names)


def cut_off(bench: Bench, **how: Any) -> Partition:
    """The last node cut off the others."""
    *rest, last = names(bench)
    return Partition(TAG, (last,), tuple(rest), bench.rings, **how)


def link_loss(bench: Bench, link: int) -> LinkLoss:
    """That link taken from all nodes."""
    return LinkLoss(TAG, tuple(names(bench)), link, tuple((name, both[link]) for name, both in bench.rings))


def test_a_whole_cluster(three: Bench) -> None:
    """Its tools print the same, and we read the same of it."""
    same(three, "whole", {f"{name} {tool}": three.tell(name, tool) for name in names(three)[:2] for tool in TOOLS})
    assert three.quorum("pve1") == Quorum(True, 3, 3, 3, 2, frozenset({"Quorate"}), None)
    assert three.site.nodes["pve1"].votes(three.soon()) == Votes(True, 3, 3, 2, frozenset({"Quorate"}), 3)
    assert corosync.links(three.site.nodes["pve2"], three.soon()) == {key: {1: True, 3: True} for key in (0, 1)}


def test_a_minority(three: Bench) -> None:
    """Cut off, a node loses quorum in the same order of events, in the times of its ring, and prints the same."""
    three.mark()
    begin = three.clock.now().mono
    cut = cut_off(three)
    cut.inject(three.observer)
    ring = Ring(TOKEN)
    three.until(lambda: not three.quorum("pve3").quorate)
    took = (three.clock.now().mono - begin) / SECOND
    assert 0.8 * (ring.token + ring.consensus) < took < BUSY * ring.settles
    three.until(lambda: all(three.quorum(name).nodes == 2 for name in ("pve1", "pve2")))
    three.until(lambda: cut.took_effect(three.observer).verdict == "yes")
    same(three, "minority", {f"{name} {tool}": three.tell(name, tool) for name in ("pve1", "pve3") for tool in TOOLS})
    assert three.quorum("pve3") == Quorum(False, 1, 3, 1, 2, frozenset(), None)
    assert three.quorum("pve1") == Quorum(True, 2, 3, 2, 2, frozenset({"Quorate"}), None)
    same(three, "minority, events on pve3", events(three, "pve3"))
    three.mark()
    cut.heal(three.observer)
    assert cut.healed(three.observer).verdict == "yes"
    three.until(lambda: three.quorum("pve3").nodes == 3)
    same(three, "one ring again, events on pve3", events(three, "pve3"))


def events(bench: Bench, name: str) -> list[str]:
    """What totem and votequorum told there, each kind of line once, in order."""
    told = [bench.plain(line) for line in bench.log(name)]
    return list(dict.fromkeys(line for line in told if line.startswith(("[TOTEM", "[QUORUM", "[MAIN"))))


@pytest.mark.parametrize("link", [0, 1])
def test_a_lost_link(three: Bench, link: int) -> None:
    """It is missed after a while, then down from every node's view, and nobody leaves."""
    loss = link_loss(three, link)
    begin = three.clock.now().mono
    three.make(loss)
    assert 0.5 < (three.clock.now().mono - begin) / SECOND < BUSY * 10
    found = {f"{name} {tool}": three.tell(name, tool) for name in ("pve1", "pve3") for tool in TOOLS[:2]}
    same(three, f"link {link} lost", found)
    assert all(three.quorum(name).nodes == 3 and three.quorum(name).quorate for name in names(three))
    loss.heal(three.observer)
    whole = {0: {2: True, 3: True}, 1: {2: True, 3: True}}
    three.until(lambda: corosync.links(three.site.nodes["pve1"], three.soon()) == whole)


def test_no_corosync(three: Bench) -> None:
    """Each tool says so in the same words, and no reading takes that for a lost quorum."""
    three.stop_corosync("pve3")
    same(three, "no corosync", {tool: three.tell("pve3", tool) for tool in TOOLS})
    node = three.site.nodes["pve3"]
    for read in (corosync.quorum, corosync.links, corosync.device_state, Node.votes):
        with pytest.raises(ProtocolError):
            read(node, three.soon())
    three.until(lambda: three.quorum("pve1").nodes == 2)
    assert three.quorum("pve1").quorate


def test_a_quorum_device(two: Bench) -> None:
    """Its tools print the same, and we read the same of it."""
    first = names(two)[0]
    same(two, "device", {f"{n} {tool}": two.tell(name, tool) for n, name in enumerate(names(two)) for tool in TOOLS})
    assert two.quorum(first) == Quorum(True, 2, 3, 3, 2, frozenset({"Quorate", "Qdevice"}), 1)
    assert corosync.device_state(two.site.nodes[first], two.soon()) == "Connected"
    assert corosync.device_host(two.site.nodes[first], two.soon()) == (DEVICE, PORT)


def test_a_lost_device(two: Bench) -> None:
    """It is missed after one to two heartbeats; then its vote is gone, and nothing else."""
    first = names(two)[0]
    loss = QdeviceLoss(TAG, tuple(names(two)), DEVICE, PORT)
    begin = two.clock.now().mono
    two.make(loss)
    took = (two.clock.now().mono - begin) / SECOND
    assert 4 < took < BUSY * 16
    two.until(lambda: all(two.quorum(name).device == 0 for name in names(two)))
    same(two, "device lost", {f"{n} {t}": two.tell(name, t) for n, name in enumerate(names(two)) for t in TOOLS})
    assert two.quorum(first) == Quorum(True, 2, 3, 2, 2, frozenset({"Quorate", "Qdevice"}), 0)
    loss.heal(two.observer)
    two.until(lambda: all(two.quorum(name).device == 1 for name in names(two)))


def test_two_halves(two: Bench) -> None:
    """Where both reach the device the lowest node id goes on."""
    cut = cut_off(two, halves=True)
    two.make(cut)
    two.until(lambda: [two.quorum(name).quorate for name in names(two)] == [True, False])
    two.until(lambda: [two.quorum(name).nodes for name in names(two)] == [1, 1])
    same(two, "two halves", {f"{n} {t}": two.tell(name, t) for n, name in enumerate(names(two)) for t in TOOLS})
    cut.heal(two.observer)
    two.until(lambda: all(two.quorum(name).nodes == 2 for name in names(two)))


def test_a_half_without_the_device(two: Bench) -> None:
    """A half that is cut off the device, too, is quorate to the last in the membership that was, and then not."""
    one, other = names(two)
    cut, loss = cut_off(two, halves=True), QdeviceLoss("pveha-lab-device", (other,), DEVICE, PORT)
    begin = two.clock.now().mono
    loss.inject(two.observer)
    cut.inject(two.observer)
    seen: list[tuple[Quorum, Quorum]] = []
    both = 0.0

    def decided() -> bool:
        nonlocal both
        seen.append((two.quorum(one), two.quorum(other)))
        if all(said.quorate for said in seen[-1]):
            both = (two.clock.now().mono - begin) / SECOND
        return not seen[-1][1].quorate

    two.until(decided)
    took = (two.clock.now().mono - begin) / SECOND
    assert 7 < took < BUSY * 16
    assert all(mine.quorate for mine, _ in seen)
    assert all(theirs.nodes == 2 for _, theirs in seen[:-1])
    assert both > 3.0 + 3.6  # both say so when the token and the consensus are over
    assert seen[-1][1] == Quorum(False, 1, 3, 1, 2, frozenset({"Qdevice"}), 0)
    loss.heal(two.observer)
    cut.heal(two.observer)
    two.until(lambda: all(two.quorum(name).nodes == 2 for name in names(two)))
