"""What a ledger's program writes in simulated guests, asked by API and by pct, read as the product reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from servers_kit import PlayingGate, shell, small_site

from pytest_pveha.clock import SECOND, Instant
from pytest_pveha.handles.agent import Ran
from pytest_pveha.handles.canary import MARK as OURS
from pytest_pveha.handles.canary import PROGRAM, TAG, Write, parse
from pytest_pveha.handles.guest import Guest as Canary
from pytest_pveha.judge import writes
from pytest_pveha.judge.facts import Fault, TestFacts
from pytest_pveha.observe.ledger import Pace, Reader
from pytest_pveha.sim.servers.api_routes import ApiError, Call, find
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.world.canaries import FORGOTTEN, MARK
from pytest_pveha.sim.world.world import World

FOLDER, RUN = "/var/tmp", f"{TAG}0a1b2c3d"


class Guest:
    """One VM by the API of the node it is on."""

    def __init__(self, world: World, vmid: int = 101) -> None:
        self.world, self.gate, self.vmid = world, PlayingGate(world), vmid

    def api(self, method: str, what: str, **params: str) -> Any:
        """What the API answers there."""
        node = self.world.guests[self.vmid].config_node
        path = f"/nodes/{node}/qemu/{self.vmid}/agent/{what}"
        route, parts = find(method, path, self.world.spec.version)
        if refusal := route.refused(self.world.spec.token_lacks, parts):
            raise refusal
        return route.function(Call(Facts(self.world, self.world.nodes[node]), "t", params), **parts)

    def run(self, verb: str, *words: str) -> str:
        """What the program prints."""
        command = "\0".join(["/bin/sh", "-s", "--", verb, FOLDER, RUN, *words])
        pid = self.api("POST", "exec", command=command, **{"input-data": PROGRAM})["pid"]
        ended = self.api("GET", "exec-status", pid=str(pid))
        assert (ended["exited"], ended["exitcode"]) == (1, 0)
        return str(ended.get("out-data", ""))

    def start(self) -> str:
        return self.run("start", "900", "0.15")

    def lines(self) -> list[Write]:
        """Everything that is written there."""
        told = self.run("tail", "0", "1000000", "900")
        return parse(told.partition("\n")[2])

    def play(self, seconds: float) -> None:
        self.gate.play(seconds)

    def incarnation(self) -> str:
        return self.run("tail", "0", "1", "900").split()[0]


@pytest.fixture
def guest() -> Guest:
    """A guest in which somebody writes."""
    made = Guest(small_site())
    made.start()
    return made


def test_the_contract_is_the_products_own() -> None:
    """The program is known by the line that the product's begins with."""
    assert MARK == OURS


def test_the_guest_writes_as_the_real_program_does(guest: Guest) -> None:
    """Numbered, chained, each acknowledged before the next begins, about six a second."""
    guest.play(10)
    lines = guest.lines()
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert 50 <= len(lines) <= 65
    assert all(line.linked for line in lines)
    assert all(line.begun < (after.before or 0) < after.begun for line, after in pairwise(lines))


def test_the_same_is_read_again(guest: Guest) -> None:
    """Reading changes nothing: what was read in parts is what is read whole."""
    guest.play(5)
    first = guest.lines()
    guest.play(5)
    assert guest.lines()[: len(first)] == first
    size = int(guest.run("tail", "0", "1", "900").split()[2])
    parts = [guest.run("tail", str(at), "1000", "900").partition("\n")[2] for at in range(0, size, 1000)]
    assert parse("".join(parts)) == guest.lines()


def test_a_killed_guest_keeps_what_was_acknowledged(guest: Guest) -> None:
    """After a kill the acknowledged writes are there, the one under way is not, and a new life goes on from them."""
    guest.play(10)
    before = guest.lines()
    acknowledged = before[:-1]
    old = guest.incarnation()
    _restart(guest)
    assert guest.incarnation() != old
    kept = guest.lines()
    assert kept[: len(acknowledged)] == acknowledged
    guest.start()
    guest.play(3)
    lines = guest.lines()
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert all(line.linked for line in lines)
    assert len({line.incarnation for line in lines}) == 2


def test_a_disk_without_a_battery_forgets() -> None:
    """Where writes are acknowledged too early the last seconds of them are gone with the guest."""
    guest = Guest(small_site(defects=["writes-acknowledged-too-early"]))
    guest.start()
    guest.play(20)
    before = guest.lines()
    _restart(guest)
    kept = guest.lines()
    assert kept == before[: len(kept)]
    assert 0.8 * FORGOTTEN <= before[-1].begun - kept[-1].begun <= 1.2 * FORGOTTEN


def test_a_storage_that_hangs_is_one_long_gap(guest: Guest) -> None:
    """While its storage hangs a guest writes nothing, and then goes on where it was."""
    guest.play(5)
    storage = guest.world.storages.of(guest.world.guests[101])
    storage.stall("test")
    guest.play(30)
    during = len(guest.lines())
    guest.play(10)
    assert len(guest.lines()) == during
    storage.resume("test")
    guest.play(5)
    acks = [line.before for line in guest.lines() if line.before is not None]
    worst = max(after - before for before, after in pairwise(acks))
    assert 40 * SECOND <= worst <= 41 * SECOND


def test_a_guest_that_moves_lives_on(guest: Guest) -> None:
    """A live migration is one life: the writer goes on, on the other node."""
    guest.play(2)
    old = guest.incarnation()
    guest.world.migrate_guest(101, "pve2")
    guest.play(60)
    assert guest.world.guests[101].config_node == "pve2"
    assert guest.incarnation() == old
    assert all(line.linked for line in guest.lines())
    assert len(guest.lines()) > 200


def test_without_a_reader_nothing_stays(guest: Guest) -> None:
    """The writer's lease ends, and with it what it made."""
    guest.play(890)
    assert len(guest.lines()) > 4000  # and this renews it
    guest.play(901)
    assert guest.lines() == []


def test_a_stopped_ledger_leaves_nothing(guest: Guest) -> None:
    """Stopped, there is nothing to be read; a next one begins anew."""
    guest.play(5)
    guest.run("stop")
    assert guest.lines() == []
    guest.start()
    guest.play(1)
    assert guest.lines()[0].number == 1


def test_a_container_is_reached_by_its_node() -> None:
    """``pct exec`` runs the same program; one that does not run, and one that is elsewhere, is told as pct does."""
    guests = [{"vmid": 105, "name": "c", "node": "pve1", "kind": "ct"}]
    gate = PlayingGate(small_site(guests=guests))
    words = f"pct exec 105 -- /bin/sh -s -- {{}} {FOLDER} {RUN} {{}}"
    assert shell(gate, words.format("start", "900 0.15"), given=PROGRAM).status == 0
    gate.play(5)
    told = shell(gate, words.format("tail", "0 100000 900"), given=PROGRAM)
    assert len(parse(told.out.partition("\n")[2])) > 20
    assert "does not exist" in shell(gate, words.format("stop", ""), node="pve2", given=PROGRAM).err
    gate.world.kill_guest(105, "pve1")
    assert "not running" in shell(gate, words.format("stop", ""), given=PROGRAM).err


def _lacking(*privileges: str) -> Guest:
    return Guest(small_site(token_lacks=list(privileges)))


def _down(change: Callable[[Guest], None]) -> Guest:
    made = Guest(small_site())
    change(made)
    return made


def _agentless(guest: Guest) -> None:
    one = guest.world.guests[101]
    one.spec = replace(one.spec, agent=False)


def _silent(guest: Guest) -> None:
    guest.world.guests[101].processes["pve1"].agent_up = False


@pytest.mark.parametrize(
    ("guest", "status", "words"),
    [
        (_down(_agentless), 500, "No QEMU guest agent configured"),
        (_down(_silent), 500, "QEMU guest agent is not running"),
        (_down(lambda guest: guest.world.kill_guest(101, "pve1")), 500, "VM 101 is not running"),
        (_lacking("VM.GuestAgent.Unrestricted", "VM.Monitor"), 403, "Permission check failed (/vms/101, "),
    ],
)
def test_who_cannot_be_asked_is_told_as_pve_does(guest: Guest, status: int, words: str) -> None:
    """No agent, one that is silent, a guest that does not run, a token that may not: PVE's own words."""
    with pytest.raises(ApiError) as refused:
        guest.start()
    assert refused.value.status == status
    assert words in refused.value.message


def test_the_limits_are_pves(guest: Guest) -> None:
    """Input is as long as the schema allows at most, and a process that nobody knows is an error."""
    with pytest.raises(ApiError) as refused:
        guest.api("POST", "exec", command="true", **{"input-data": "x" * 65537})
    assert refused.value.status == 400
    with pytest.raises(ApiError, match="does not exist"):
        guest.api("GET", "exec-status", pid="1")
    assert guest.api("GET", "get-osinfo")["result"]["id"] == "debian"


def _restart(guest: Guest) -> None:
    """The guest is killed, and HA starts it again."""
    node = guest.world.guests[101].config_node
    guest.world.kill_guest(101, node)
    guest.play(120)
    assert guest.world.guests[101].agent_up


# --- read by the run's own reader, and judged


class Read:
    """The run's reader of vm:101, in the world's own time, without a thread of its own."""

    def __init__(self, world: World) -> None:
        self.gate = PlayingGate(world)
        self.world = world
        self.node = "pve1"
        self.lines: list[dict[str, Any]] = []
        clock = SimpleNamespace(now=self.now, deadline=lambda seconds: None)
        site = SimpleNamespace(
            clock=clock,
            inside=lambda sid, node: self,
            cluster=SimpleNamespace(guests=lambda deadline: {"vm:101": SimpleNamespace(node=self.node)}),
        )
        observer: Any = SimpleNamespace(site=site, write=lambda kind, data: self.lines.append(data))
        self.sid = "vm:101"
        self.reader = Reader(observer, Canary("vm:101", "gold", None, (), (), True), "0a1b2c3d", Pace())

    def now(self) -> Instant:
        return Instant(self.world.timeline.now, self.world.timeline.now)

    def run(self, deadline: Any, *words: str, input: str) -> Ran:
        guest = self.world.guests[101]
        asked = self.now()
        return Ran(*self.world.canaries.run(guest, guest.processes[self.node], words, input), asked, self.now())

    def watch(self, seconds: int) -> None:
        """It is read once a second."""
        for _ in range(seconds):
            self.reader.look()
            self.gate.play(1)

    def facts(self, broken: int) -> TestFacts:
        """What the judge sees of it, with a fault at that moment."""
        fault = Fault("f-1", "F", {}, "t", before=broken, after=broken, effect="yes", effect_low=broken)
        fault.effect_high = fault.healed_at = broken
        return TestFacts("t", faults=[fault], ledger=self.lines)


def test_two_that_write_at_once_are_two_lives() -> None:
    """A guest that is started elsewhere while it lives on writes twice: seen, and so is what that does to the chain."""
    read = Read(small_site())
    guest = read.world.guests[101]
    read.watch(20)
    broken = read.now().mono
    read.world.guest_acts._run(guest, read.world.nodes["pve2"])
    read.gate.play(30)
    read.node = "pve2"
    read.reader.look()  # it finds another life, and lets it write
    read.watch(20)
    read.reader.look(finally_=True)
    facts = read.facts(broken)
    assert writes.double_runs(facts, "vm:101", {}).low == 1
    assert writes.lost_writes(facts, "vm:101", {}).low > 0


@pytest.mark.parametrize(("clean", "lost"), [(True, 0), (False, 1)])
def test_a_life_after_the_other_loses_what_the_disk_forgot(clean: bool, lost: int) -> None:
    """One life after the other is one at a time; what the disk had not kept is counted, and nothing else."""
    read = Read(small_site(defects=[] if clean else ["writes-acknowledged-too-early"]))
    read.watch(20)
    broken = read.now().mono
    read.world.kill_guest(101, "pve1")
    read.gate.play(120)
    read.node = read.world.guests[101].config_node
    read.watch(20)
    read.reader.look(finally_=True)
    facts = read.facts(broken)
    assert writes.double_runs(facts, "vm:101", {}).high == 0
    assert (writes.lost_writes(facts, "vm:101", {}).low > 0) is bool(lost)
    loss = writes.data_loss(facts, "vm:101", {})
    assert loss.low >= 6 * lost
    assert (loss.high or 99) < 2 + 9 * lost
