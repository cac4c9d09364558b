"""A small real site as its inventory describes it: three nodes with corosync, sshd and a BMC each.

Nobody serves Proxmox's API there, and without it no run opens (who is a member, what HA manages, whose the cluster is).
So the commands are typed as a user types them, and must refuse; what needs no API is played by the faults and
surveys that the suites are made of.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from boards import Board
from clusters import CLOCK, Cluster, eventually
from lab import AMPLE, DEAF, needs, tool

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import AuthRefused, PreflightRefused, SiteError, Unreachable
from pytest_pveha.faults.fault import Fault
from pytest_pveha.faults.peer import PowerCutByPeer
from pytest_pveha.faults.power import PowerCut
from pytest_pveha.handles import corosync
from pytest_pveha.handles.bmc import PowerCommand
from pytest_pveha.handles.connect import connect
from pytest_pveha.inventory import load
from pytest_pveha.observe import fence_paths
from pytest_pveha.observe.identity import own_bmc
from pytest_pveha.observe.observer import Observer
from pytest_pveha.observe.reachable import answering

pytestmark = [pytest.mark.daemons, needs("corosync", "sshd", "ssh-keygen", "ipmi_sim", "ipmitool")]

ROOT = Path(__file__).parents[2]
WITHIN = 10.0
"""Seconds a BMC is given to answer a peer."""
PATHS = [(peer, bmc) for peer in ("pve1", "pve2", "pve3") for bmc in ("pve1", "pve2", "pve3") if peer != bmc]


def surveyed(trio: Cluster) -> dict[tuple[str, str], dict[str, Any]]:
    """Every fence path as the journal has it."""
    lines: list[dict[str, Any]] = []
    observer = Observer(trio.site, lambda kind, data: lines.append(data) if kind == "path" else None)
    fence_paths.survey(observer, WITHIN)
    return {(line["peer"], line["bmc"]): line for line in lines}


def answers(paths: dict[tuple[str, str], dict[str, Any]], what: str) -> dict[tuple[str, str], str]:
    """That answer of each path."""
    return {path: line[what] for path, line in paths.items()}


def members(trio: Cluster, *names: str) -> list[int]:
    """How many nodes each of these counts."""
    return [corosync.quorum(trio.node(name), CLOCK.deadline(AMPLE)).nodes for name in names]


@pytest.fixture
def board(trio: Cluster) -> Any:
    """The BMC of pve2, its own again afterwards."""
    board = trio.boards["pve2"]
    yield board
    board.restart()
    eventually(lambda: _on(board), AMPLE)


def _on(board: Board) -> bool:
    client = board.client()
    try:
        return client.power_state(CLOCK.deadline(2)).on
    except SiteError:
        return False
    finally:
        client.close()


def test_every_node_reaches_every_bmc(trio: Cluster) -> None:
    """Typed on each node, by ipmitool: each BMC answers in time, is that node's own, and lets us switch power."""
    paths = surveyed(trio)
    assert list(paths) == PATHS
    for what in ("answer", "own", "may"):
        assert set(answers(paths, what).values()) == {"yes"}, paths
    for line in paths.values():
        assert 0 < line["least"] <= (line["after"] - line["before"]) / SECOND
    for machine in trio.machines.values():  # nothing of the password is left there
        assert "a-pass-word" not in tool("grep", "-r", "a-pass-word", str(machine.path("/srv")), check=False)


def test_a_dead_bmc_is_a_broken_path(trio: Cluster, board: Board) -> None:
    """The paths to a BMC without power are no paths, those to the others are, and nobody is held up for long."""
    board.machine.cut_power()
    begin = CLOCK.now().mono
    paths = surveyed(trio)
    took = (CLOCK.now().mono - begin) / SECOND
    broken = {path for path, answer in answers(paths, "answer").items() if answer != "yes"}
    assert broken == {("pve1", "pve2"), ("pve3", "pve2")}
    assert took < 12 * WITHIN


def test_a_hanging_bmc_holds_up_nobody(trio: Cluster, board: Board) -> None:
    """One that takes packets and answers none is Unreachable at the deadline, by each call; then it answers again."""
    client = board.client()
    client.power_state(CLOCK.deadline(AMPLE))
    board.machine.run("pkill", "-STOP", "-x", "ipmi_sim")
    for call in (client.power_state, client.fresh_power_state, lambda deadline: client.set_power("off", deadline)):
        begin = CLOCK.now().mono
        with pytest.raises(Unreachable):
            call(CLOCK.deadline(1))
        assert (CLOCK.now().mono - begin) / SECOND < AMPLE / 2
    client.close()
    assert trio.machines["pve2"].running
    board.machine.run("pkill", "-KILL", "-x", "ipmi_sim")  # with what it had not read


def test_another_machines_bmc_is_never_used(trio: Cluster, board: Board) -> None:
    """Where another board answers at the address, paths say so, and power is not touched: the node runs on."""
    board.restart(guid="ffeeddccbbaa99887766554433221100")
    eventually(lambda: _on(board), AMPLE)
    trio.node("pve2").bmc.close()  # type: ignore[union-attr]
    paths = surveyed(trio)
    assert {path for path, own in answers(paths, "own").items() if own == "no"} == {("pve1", "pve2"), ("pve3", "pve2")}
    assert own_bmc(trio.observer, trio.node("pve2")).verdict == "no"
    for fault in (PowerCut("pve2"), PowerCutByPeer("pve2", "pve1")):
        with pytest.raises(PreflightRefused, match="power is not touched: the BMC reached is not pve2's own"):
            fault.preflight(trio.observer)
    assert trio.machines["pve2"].running
    trio.node("pve2").bmc.close()  # type: ignore[union-attr]


def test_a_wrong_password_and_the_hole(trio: Cluster, board: Board) -> None:
    """A wrong password is refused and switches nothing; ipmi_sim's cipher 0 lets anybody in, and that is found."""
    client = board.client("wrong")
    with pytest.raises(AuthRefused):
        client.set_power("off", CLOCK.deadline(AMPLE))
    assert client.cipher_zero(CLOCK.deadline(AMPLE)) is True
    client.close()
    assert trio.machines["pve2"].running


@pytest.mark.parametrize("by", ["us", "a peer"])
def test_a_power_cut_kills_the_node(trio: Cluster, by: str) -> None:
    """Its processes end, it is silent, the others go on without it; power on boots it, as another boot, with nothing
    of ours on it."""
    name, machine = "pve3", trio.machines["pve3"]
    node = trio.node(name)
    before = trio.observer.boot_id(node)
    fault: Fault = PowerCut(name) if by == "us" else PowerCutByPeer(name, "pve1")
    fault.preflight(trio.observer)
    trio.site.cluster.shun(fault.kind, fault.reach.nodes)
    fault.inject(trio.observer)
    eventually(lambda: not machine.running and not tool("ip", "netns", "pids", machine.namespace), AMPLE)
    assert answering(CLOCK, node.addresses) == []
    eventually(lambda: members(trio, "pve1", "pve2") == [2, 2], AMPLE)
    saw = fault.took_effect(trio.observer)
    # off twice and silent; who is a member the API would say, and there is none: never a yes
    assert saw.verdict == "cant_tell", saw
    assert trio.observer.last(f"chassis/{name}") == "off"
    with pytest.raises(PreflightRefused, match="off already"):
        fault.preflight(trio.observer)
    fault.heal(trio.observer)
    eventually(lambda: fault.healed(trio.observer).verdict == "yes", 2 * AMPLE)
    trio.site.cluster.shun(fault.kind, frozenset())
    eventually(trio.whole, 3 * AMPLE)
    assert trio.observer.boot_id(node) != before
    assert machine.run("nft", "list", "ruleset") == ""


def test_a_cycle_is_another_boot(trio: Cluster) -> None:
    """One command takes the power and gives it again."""
    name = "pve3"
    before = trio.observer.boot_id(trio.node(name))
    client = trio.boards[name].client()
    client.set_power("cycle", CLOCK.deadline(AMPLE))
    client.close()

    def another() -> bool:
        try:
            return trio.observer.boot_id(trio.node(name), 2) != before
        except SiteError:
            return False

    eventually(another, 2 * AMPLE)


@pytest.fixture
def bare(trio: Cluster) -> Iterator[Observer]:
    """Who knows of a site that is a cluster of corosync alone, and so can tell its members."""
    told = json.loads(trio.file.read_text())
    told["cluster"] = {"name": "lab", "proxmox": False}
    file = trio.file.with_name("bare.yml")  # beside the secrets that it refers to
    file.write_text(json.dumps(told))
    site = connect(load(file), CLOCK)
    yield Observer(site, lambda kind, data: None)
    site.close()


def confirmed(bare: Observer, name: str) -> None:
    """It is dead: off twice, silent and no member; and it comes back as another boot when its power is switched on."""
    cut = PowerCut(name)
    bare.site.cluster.shun(cut.kind, cut.reach.nodes)
    eventually(lambda: cut.took_effect(bare).verdict == "yes", 2 * AMPLE)
    cut.heal(bare)
    eventually(lambda: answering(CLOCK, bare.site.nodes[name].addresses) != [], 2 * AMPLE)
    bare.site.cluster.shun(cut.kind, frozenset())


def switched(trio: Cluster, name: str, command: PowerCommand) -> None:
    """Its BMC has accepted that command."""
    client = trio.boards[name].client()
    client.set_power(command, CLOCK.deadline(AMPLE))
    client.close()


def test_a_soft_power_off(trio: Cluster, bare: Observer) -> None:
    """A node that is asked to go down ends its processes, leaves as one that says so, and is dead only then."""
    name, machine = "pve3", trio.machines["pve3"]
    before = trio.observer.boot_id(trio.node(name))
    trio.mark()
    switched(trio, name, "soft")
    confirmed(bare, name)
    told = trio.log("pve1")[trio.marks["pve1"] :]
    assert "Members left: 3" in told
    assert (
        "A processor failed" not in told.partition("Members left: 3")[0]
    )  # as it is told of one that only fell silent
    eventually(trio.whole, 3 * AMPLE)
    assert trio.observer.boot_id(trio.node(name)) != before
    assert machine.running


def test_a_soft_power_off_that_nobody_hears(trio: Cluster, bare: Observer) -> None:
    """A node without anybody who listens to its power button runs on, a member, and is never called off."""
    name = "pve3"
    trio.machines[name].run("touch", DEAF)
    before = trio.observer.boot_id(trio.node(name))
    switched(trio, name, "soft")
    for _ in range(3):
        saw = PowerCut(name).took_effect(bare)
        assert (saw.verdict, "still says the chassis is on" in saw.saw) == ("no", True)
        CLOCK.sleep(1)
    assert trio.observer.boot_id(trio.node(name)) == before
    assert members(trio, *trio.machines) == [3, 3, 3]
    switched(trio, name, "off")
    confirmed(bare, name)


def test_a_soft_power_off_that_hangs(trio: Cluster, bare: Observer) -> None:
    """A node whose shutdown waits for a process for ever is no member, and nobody logs in: it is not dead all the same,
    and is not called so before its power is off."""
    name, machine = "pve3", trio.machines["pve3"]
    machine.daemon("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    switched(trio, name, "soft")
    bare.site.cluster.shun("power-cut", frozenset({name}))
    eventually(lambda: members(trio, "pve1", "pve2") == [2, 2], AMPLE)
    with pytest.raises(Unreachable):
        trio.node(name).boot_id(CLOCK.deadline(5))
    saw = PowerCut(name).took_effect(bare)
    assert (saw.verdict, "still says the chassis is on" in saw.saw) == ("no", True)
    assert machine.running
    switched(trio, name, "off")
    confirmed(bare, name)


@dataclass(frozen=True)
class Typed:
    """What a command that a user typed on the controller came to."""

    code: int
    out: str


@pytest.fixture
def type_there(trio: Cluster, tmp_path: Path) -> Callable[..., Typed]:
    """Types a command of ours on the controller, in a corner of its own."""

    def typed(*words: str) -> Typed:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PVEHA_", "COV_"))}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "PVEHA_STATE": str(tmp_path / "state"),
            "PVEHA_RUNTIME": str(tmp_path / "run"),
        }
        line = [sys.executable, "-m", *words]
        done = subprocess.run(
            line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=5 * AMPLE, check=False
        )
        return Typed(done.returncode, done.stdout + done.stderr)

    return typed


def test_check_tells_what_answers(trio: Cluster, type_there: Callable[..., Typed]) -> None:
    """`pveha check` sees every node by SSH and every BMC as that node's own, and does not pass for want of an API."""
    said = type_there("pytest_pveha", "check", str(trio.file))
    assert said.code not in (0, 1, 2), said.out
    for name in trio.machines:
        assert f"SSH to {name}: logged in, boot id " in said.out, said.out
        assert f"BMC of {name}: chassis power is on; {name}'s own BMC: GUID" in said.out, said.out
        assert f"API at {name}" in said.out
    assert "not asked, for no API endpoint answered" in said.out


@pytest.mark.parametrize("mark", ["destructive", "readiness"])
def test_a_run_without_an_api_refuses(
    trio: Cluster, type_there: Callable[..., Typed], tmp_path: Path, mark: str
) -> None:
    """Nothing is proven, passed or touched: no folder, file, rule or reset on any node."""
    before = {name: trio.observer.boot_id(trio.node(name)) for name in trio.machines}
    reports = tmp_path / "reports"
    words = ("-c", str(ROOT / "pyproject.toml"), f"--inventory={trio.file}", f"--pveha-reports={reports}", "-m", mark)
    said = type_there("pytest", "-p", "no:cacheprovider", *words, "suites/quorum", "suites/fencing", "suites/readiness")
    assert said.code not in (0, 1, 5), said.out
    assert "passed" not in said.out
    assert "API" in said.out or "api" in said.out, said.out
    assert not list(reports.glob("**/verdict.json"))
    for name, machine in trio.machines.items():
        assert trio.observer.boot_id(trio.node(name)) == before[name]
        assert machine.run("nft", "list", "ruleset") == ""
        assert machine.run("find", "/srv", "-type", "f") == ""
    print(said.out)
