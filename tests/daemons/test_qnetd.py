"""The quorum device against corosync-qdevice and corosync-qnetd: lost, back, and deciding between two halves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from clusters import CLOCK, Cluster, eventually
from lab import AMPLE, needs

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import ProtocolError
from pytest_pveha.faults.network import Partition, QdeviceLoss
from pytest_pveha.handles import corosync
from pytest_pveha.handles.corosync import Quorum, Ring
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.judge import sides
from pytest_pveha.judge.facts import gather
from pytest_pveha.observe import quorum
from pytest_pveha.observe.observer import Observer, View
from pytest_pveha.observe.witness import Witness
from tests.unit.journal_builder import TEST, Entry, accepted_run, chained, fault

pytestmark = [
    pytest.mark.daemons,
    needs("corosync", "corosync-qdevice", "corosync-qnetd", "certutil", "sshd", "ssh-keygen"),
]

TAG, OTHER_TAG = "pveha-lab-cut", "pveha-lab-device"
RING = Ring(3.0, device=True)
BOTH = ("two1", "two2")
PORT = 5403

Seen = dict[str, Quorum]


def now(pair: Cluster) -> Seen:
    """What each node says of quorum."""
    return {node.name: corosync.quorum(node, CLOCK.deadline(AMPLE)) for node in pair.site.nodes}


def watched(pair: Cluster, until: Callable[[Seen], bool], within: float = 2 * AMPLE) -> tuple[list[Seen], float]:
    """Everything that was seen until that was seen, and the seconds it took."""
    seen: list[Seen] = []

    def looked() -> bool:
        seen.append(now(pair))
        return until(seen[-1])

    return seen, eventually(looked, within)


def device_loss(pair: Cluster, *nodes: str, tag: str = TAG) -> QdeviceLoss:
    """The quorum device out of reach of these nodes."""
    assert pair.device is not None
    return QdeviceLoss(tag, nodes, pair.device.addresses["mgmt"], PORT)


def split(pair: Cluster) -> Partition:
    """The two nodes parted on all links."""
    return Partition(TAG, ("two2",), ("two1",), pair.rings, halves=True)


def test_readings_are_what_its_tools_say(pair: Cluster) -> None:
    """The device's vote, state, host and port as they are, from both nodes."""
    assert pair.device is not None
    for node in pair.site.nodes:
        said = corosync.quorum(node, CLOCK.deadline(AMPLE))
        assert said == Quorum(True, 2, 3, 3, 2, frozenset({"Quorate", "Qdevice"}), 1)
        assert node.votes(CLOCK.deadline(AMPLE)).flags == {"Quorate", "Qdevice"}
        assert corosync.device_state(node, CLOCK.deadline(AMPLE)) == "Connected"
        assert corosync.device_host(node, CLOCK.deadline(AMPLE)) == (pair.device.addresses["mgmt"], PORT)


def test_a_lost_device_costs_its_vote_alone(pair: Cluster) -> None:
    """Our fault takes the device from both nodes: nobody loses quorum or a member, and the vote comes back."""
    loss = device_loss(pair, *BOTH)
    loss.preflight(pair.observer)
    loss.inject(pair.observer)
    assert loss.took_effect(pair.observer).verdict == "no"  # nobody has missed it yet
    nodes = Nodes(pair.site.nodes)
    gone = quorum.device_gone(nodes)
    seen, took = watched(pair, lambda said: gone.ask(pair.observer).verdict == "yes")
    print(f"the device was missed after {took:.1f} s")
    eventually(lambda: loss.took_effect(pair.observer).verdict == "yes")
    seen.append(now(pair))
    assert seen[-1]["two1"] == seen[-1]["two2"] == Quorum(True, 2, 3, 2, 2, frozenset({"Quorate", "Qdevice"}), 0)
    assert all(said.quorate and said.nodes == 2 for each in seen for said in each.values())
    loss.heal(pair.observer)
    assert loss.healed(pair.observer).verdict == "yes"
    back = quorum.device_votes(nodes)
    print(f"it votes again after {eventually(lambda: back.ask(pair.observer).verdict == 'yes', 2 * AMPLE):.1f} s")


def test_the_device_decides_between_halves(pair: Cluster) -> None:
    """Of two halves that both reach it one goes on and the other does not, and never is nobody told of it."""
    cut = split(pair)
    cut.preflight(pair.observer)
    cut.inject(pair.observer)
    one, other = (Nodes([pair.node(name)]) for name in BOTH)
    decided = quorum.one_side(one, other)
    took = eventually(lambda: decided.ask(pair.observer).verdict == "yes", 2 * AMPLE)
    print(f"decided after {took:.1f} s")
    assert took > 0.8 * (RING.token + RING.consensus)
    eventually(lambda: [said.nodes for said in now(pair).values()] == [1, 1])  # quorate is said a moment earlier
    said = now(pair)
    assert said["two1"] == Quorum(True, 1, 3, 2, 2, frozenset({"Quorate", "Qdevice"}), 1)  # the lowest node id
    assert said["two2"] == Quorum(False, 1, 3, 1, 2, frozenset({"Qdevice"}), 0)
    assert cut.took_effect(pair.observer).verdict == "yes"
    assert corosync.device_state(pair.node("two2"), CLOCK.deadline(AMPLE)) == "Connected"
    cut.heal(pair.observer)
    eventually(pair.whole, 2 * AMPLE)


def test_the_seconds_in_which_both_halves_are_quorate(pair: Cluster) -> None:
    """A half cut off the device, too, calls itself quorate for seconds after the other's decision: seen, measured,
    within what the ring's times allow, and no split brain: it takes no part in any membership meanwhile."""
    entries: list[Entry] = []
    observer = Observer(pair.site, lambda kind, data: entries.append(Entry(kind, data, TEST)))
    witness = Witness(observer, Nodes(pair.site.nodes))
    nothing = View(None, None, "nobody serves an API here")
    witness(nothing)
    cut, loss = split(pair), device_loss(pair, "two2", tag=OTHER_TAG)
    before = CLOCK.now().mono
    loss.inject(observer)
    cut.inject(observer)
    after = CLOCK.now().mono
    one, other = (Nodes([pair.node(name)]) for name in BOTH)
    decided = quorum.one_side(one, other)
    answers: list[str] = []
    alone: list[Seen] = []

    def looked() -> bool:
        witness(nothing)
        said = now(pair)
        if said["two1"].nodes == 1 and said["two2"].quorate:
            alone.append(said)
        answers.append(decided.ask(observer).verdict)
        return answers[-1] == "yes"

    took = eventually(looked, 3 * AMPLE)
    CLOCK.sleep(2)
    witness(nothing)
    witness.stop()
    low = high = CLOCK.now().mono
    loss.heal(observer)
    cut.heal(observer)
    opened = [entry for entry in accepted_run() if entry.kind in ("run.open", "test.open")]
    made = [
        fault("plan", type="Partition", params={"cut_off": ["two2"]}, undo={}),
        fault("inject", before=before, after=after),
        fault("effect", answer="yes", saw="parted", low=before, high=high),
    ]
    test = gather(chained([*opened, *made, *entries, fault("heal")])).tests[TEST]
    test.faults[0].heal_at = low
    both = sides.both_quorate(test, "cluster", {"one": ["two1"], "other": ["two2"]})
    assert both.high is not None
    print(f"both said quorate for {both.low:.1f} to {both.high:.1f} s, decided after {took:.1f} s")
    assert set(answers) == {"no", "yes"}
    assert 0.5 * (RING.token + RING.consensus) < both.low
    assert both.high < RING.settles
    assert (low - before) / SECOND > both.low
    for said in alone:  # one has decided; the other is between two memberships: the new ring is not in force there
        assert said["two2"].nodes == 2
    assert "waiting for quorum device Qdevice poll" in pair.log("two2")
    eventually(pair.whole, 2 * AMPLE)


def test_a_dead_device_daemon_is_told_as_that(pair: Cluster) -> None:
    """Where corosync-qdevice does not run its vote is not counted, and its state cannot be told."""
    pair.machines["two1"].run("pkill", "-KILL", "-f", "^corosync-qdevice")
    with pytest.raises(ProtocolError, match="Can't connect to QDevice socket"):
        corosync.device_state(pair.node("two1"), CLOCK.deadline(AMPLE))
    eventually(lambda: not now(pair)["two1"].device, AMPLE)
    print(pair.machines["two1"].run("corosync-quorumtool", "-s", check=False))
    print(pair.machines["two2"].run("corosync-quorumtool", "-s", check=False))
    assert now(pair)["two2"].device == 1
