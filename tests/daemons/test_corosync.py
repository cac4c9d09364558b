"""Quorum and links against corosync itself: our faults bite and are undone, our readings are what it says.

Figures seen are corosync's with a token of 3.125 s. Ceilings are generous, for the machine may be busy; what must not
happen early, or at all, is checked exactly.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest
from clusters import CLOCK, TOKEN, Cluster, eventually
from lab import AMPLE, needs

from pytest_pveha.clock import SECOND, Deadline
from pytest_pveha.errors import PreflightRefused, ProtocolError, Unreachable
from pytest_pveha.faults import rules
from pytest_pveha.faults.fault import Fault
from pytest_pveha.faults.network import LinkLoss, Partition
from pytest_pveha.handles import corosync
from pytest_pveha.handles.corosync import Quorum, Ring
from pytest_pveha.handles.node import Node, Votes

pytestmark = [pytest.mark.daemons, needs("corosync", "sshd", "ssh-keygen")]

TAG = "pveha-lab-cut"
RING = Ring(TOKEN)
BUSY = 3.0
"""How many times as long as on an idle machine something may take."""
LEAST = 0.8 * (RING.token + RING.consensus)
"""Seconds that quorum lasts at least: the token may have been last seen a moment before the cut."""
ALL = (1, 2, 3)

Seen = dict[str, Quorum]


def partition(trio: Cluster, **how: object) -> Partition:
    """pve3 cut off the others, on all links."""
    return Partition(TAG, ("pve3",), ("pve1", "pve2"), trio.rings, **how)  # type: ignore[arg-type]


def now(trio: Cluster) -> Seen:
    """What each node says of quorum."""
    return {node.name: corosync.quorum(node, CLOCK.deadline(AMPLE)) for node in trio.site.nodes}


def watched(trio: Cluster, until: Callable[[Seen], bool], within: float) -> tuple[list[Seen], float]:
    """Everything that was seen until that was seen, and the seconds it took."""
    seen: list[Seen] = []

    def looked() -> bool:
        seen.append(now(trio))
        return until(seen[-1])

    return seen, eventually(looked, within)


def injected(trio: Cluster, fault: Fault) -> None:
    """The fault was allowed, and made."""
    fault.preflight(trio.observer)
    fault.inject(trio.observer)


def undone(trio: Cluster, fault: Fault) -> float:
    """The fault was taken back, which leaves no rule of it anywhere; seconds until all were one ring again."""
    fault.heal(trio.observer)
    assert fault.healed(trio.observer).verdict == "yes"
    for machine in trio.machines.values():
        assert machine.run("nft", "list", "ruleset") == ""
    return eventually(trio.whole, BUSY * 60)


def at(trio: Cluster, name: str, pattern: str) -> int:
    """Where in the node's log, since the mark, that is told."""
    found = re.search(pattern, trio.log(name)[trio.marks[name] :])
    assert found, f"{name} does not tell {pattern}"
    return found.start()


def test_readings_are_what_corosync_says(trio: Cluster) -> None:
    """Votes, members, flags and links of a whole cluster, by each of the commands that we ask."""
    for number, node in enumerate(trio.site.nodes, 1):
        whole = Quorum(True, 3, 3, 3, 2, frozenset({"Quorate"}), None)
        assert corosync.quorum(node, CLOCK.deadline(AMPLE)) == whole
        assert node.votes(CLOCK.deadline(AMPLE)) == Votes(True, 3, 3, 2, frozenset({"Quorate"}), 3)
        others = dict.fromkeys((each for each in ALL if each != number), True)
        assert corosync.links(node, CLOCK.deadline(AMPLE)) == {0: others, 1: others}


def test_the_ring_has_the_times_that_we_compute(trio: Cluster) -> None:
    """Corosync's own token and consensus, in force now, are those that follow from its configuration."""
    for key, seconds in (("token", RING.token), ("consensus", RING.consensus)):
        said = trio.node("pve1").command(CLOCK.deadline(AMPLE), "corosync-cmapctl", "-g", f"runtime.config.totem.{key}")
        assert said == f"runtime.config.totem.{key} (u32) = {seconds * 1000:.0f}\n"


@pytest.mark.parametrize("direction", ["both", "in", "out"])
def test_a_minority_loses_quorum_in_its_time(trio: Cluster, direction: str) -> None:
    """Cut off, also one way only, a node is without quorum after token and consensus, and the others never are."""
    cut = partition(trio, direction=direction)
    trio.mark()
    injected(trio, cut)
    seen, took = watched(
        trio, lambda said: not said["pve3"].quorate and said["pve1"].nodes == said["pve2"].nodes == 2, AMPLE
    )
    print(f"{direction}: lost after {took:.2f} s, at most {RING.settles:.2f} expected")
    assert LEAST < took < BUSY * RING.settles
    assert all(said[name].quorate for said in seen for name in ("pve1", "pve2"))
    assert seen[-1]["pve3"] == Quorum(False, 1, 3, 1, 2, frozenset(), None)
    assert seen[-1]["pve1"] == Quorum(True, 2, 3, 2, 2, frozenset({"Quorate"}), None)
    assert cut.took_effect(trio.observer).verdict == "yes"
    assert partition(trio, direction=direction, brief=True).took_effect(trio.observer).verdict == "yes"
    assert not any(trio.node("pve3").votes(CLOCK.deadline(AMPLE)).flags)
    for link in corosync.links(trio.node("pve3"), CLOCK.deadline(AMPLE)).values():
        assert link == {1: False, 2: False}
    at(trio, "pve3", "has no active links")  # mostly first, and not always
    steps = ["Token has not been received", "A processor failed, forming new", "A new membership", "non-primary"]
    where = [at(trio, "pve3", step) for step in steps]
    assert where == sorted(where)
    with pytest.raises(PreflightRefused, match=TAG):
        cut.preflight(trio.observer)
    print(f"one ring again after {undone(trio, cut):.2f} s, {corosync.REJOIN} expected")


def test_a_cut_is_only_of_what_was_asked(trio: Cluster) -> None:
    """While a node is cut off corosync's links everything else goes to and fro, and the rules carry the tag."""
    cut = partition(trio)
    injected(trio, cut)
    for network in ("mgmt", "ring0"):
        trio.machines["pve3"].run("ping", "-c", "1", "-W", "5", trio.machines["pve1"].addresses[network])
    for name, machine in trio.machines.items():
        assert machine.run("nft", "list", "tables") == f"table inet {TAG.replace('-', '_')}\n"
        assert rules.there(trio.node(name), TAG, CLOCK.deadline(AMPLE))
    eventually(lambda: bool(re.search(r"packets [1-9]", trio.machines["pve3"].run("nft", "list", "ruleset"))), AMPLE)
    undone(trio, cut)


def test_a_short_cut_costs_nobody_quorum(trio: Cluster) -> None:
    """After a cut that ends well before the token is given up for lost the ring has the members it had, throughout."""
    cut = partition(trio)
    trio.mark()
    begin = CLOCK.now().mono
    injected(trio, cut)
    CLOCK.sleep(0.5)
    cut.heal(trio.observer)
    lasted = (CLOCK.now().mono - begin) / SECOND
    if lasted > 0.6 * RING.token:
        pytest.skip(f"this machine is too busy for a short cut: it lasted {lasted:.1f} s")
    undone(trio, cut)
    seen = [now(trio) for _ in range(10)]
    assert all(said.nodes == 3 and said.quorate for each in seen for said in each.values())
    # the ring may be formed anew where knet lost its links meanwhile, and everybody is in it (seen)
    assert not re.search(r"Members (?:joined|left)|non-primary", trio.log("pve3")[trio.marks["pve3"] :])


@pytest.mark.parametrize(
    ("link", "nodes"), [(0, ("pve1", "pve2", "pve3")), (1, ("pve2",))], ids=["everywhere", "one-node"]
)
def test_a_lost_link_changes_no_membership(trio: Cluster, link: int, nodes: tuple[str, ...]) -> None:
    """The other link carries on: nobody leaves, quorum stays, and the link is back after the heal."""
    addresses = tuple((name, both[link]) for name, both in trio.rings)
    loss = LinkLoss(TAG, nodes, link, addresses)
    trio.mark()
    injected(trio, loss)
    seen, took = watched(trio, lambda said: loss.took_effect(trio.observer).verdict == "yes", AMPLE)
    print(f"link {link} down after {took:.2f} s")
    seen += [now(trio) for _ in range(5)]
    hurt = [each for each in seen if any(said.nodes != 3 or not said.quorate for said in each.values())]
    # where knet misses the dead link later than totem the token, the ring is formed anew (seen on a busy machine)
    late = any("A processor failed" in trio.log(name)[trio.marks[name] :] for name in trio.machines)
    assert late or not hurt
    eventually(lambda: all(said.nodes == 3 and said.quorate for said in now(trio).values()), AMPLE)
    told = corosync.links(trio.node("pve2"), CLOCK.deadline(AMPLE))
    assert told == {link: {1: False, 3: False}, 1 - link: {1: True, 3: True}}
    one, there = trio.node("pve1"), {2: False, 3: len(nodes) == 1}
    eventually(lambda: corosync.links(one, CLOCK.deadline(AMPLE))[link] == there, AMPLE)
    other = LinkLoss("pveha-lab-other", nodes, 1 - link, tuple((name, both[1 - link]) for name, both in trio.rings))
    with pytest.raises(PreflightRefused, match="would be cut off"):
        other.preflight(trio.observer)
    undone(trio, loss)
    for name in trio.machines:
        assert late or not re.search(r"Members (?:joined|left)|non-primary", trio.log(name)[trio.marks[name] :])
    assert at(trio, "pve2", rf"link: host: 1 link: {link} is down") < at(trio, "pve2", rf"host: 1 link: {link} is up")


READINGS: list[Callable[[Node, Deadline], object]] = [corosync.quorum, corosync.links, Node.votes]


def test_a_stopped_corosync_holds_up_nobody(trio: Cluster) -> None:
    """Its tools hang for ever, and our readings end at their deadlines; the others lose it as one that died."""
    node = trio.node("pve3")
    trio.signal("pve3", "corosync", signal.SIGSTOP)
    begin = CLOCK.now().mono
    for read in READINGS:
        with pytest.raises(Unreachable, match="did not answer within the deadline"):
            read(node, CLOCK.deadline(1))
    assert (CLOCK.now().mono - begin) / SECOND < BUSY * len(READINGS)
    others = [trio.node(name) for name in ("pve1", "pve2")]
    eventually(lambda: all(corosync.quorum(each, CLOCK.deadline(AMPLE)).nodes == 2 for each in others), AMPLE)
    assert all(corosync.quorum(each, CLOCK.deadline(AMPLE)).quorate for each in others)
    assert node.boot_id(CLOCK.deadline(AMPLE))  # the node itself lives
    # what hung there has ended, though corosync is still stopped
    eventually(lambda: not trio.machines["pve3"].run("pgrep", "corosync-(quor|cfg|cmap)", check=False), AMPLE)
    trio.signal("pve3", "corosync", signal.SIGCONT)
    eventually(trio.whole, BUSY * 60)


def test_a_dead_corosync_is_told_as_that(trio: Cluster) -> None:
    """Where it does not run each reading says so at once, and does not call it a loss of quorum."""
    trio.signal("pve3", "corosync", signal.SIGKILL)
    for read in READINGS:
        with pytest.raises(ProtocolError, match=r"Cannot initialize CMAP|Could not initialize corosync configuration"):
            read(trio.node("pve3"), CLOCK.deadline(AMPLE))
    others = [trio.node(name) for name in ("pve1", "pve2")]
    eventually(lambda: all(corosync.quorum(each, CLOCK.deadline(AMPLE)).nodes == 2 for each in others), AMPLE)
    assert all(corosync.quorum(each, CLOCK.deadline(AMPLE)).quorate for each in others)


def test_a_node_without_power_is_missed_and_comes_back_as_another_boot(trio: Cluster) -> None:
    """Its readings end at their deadline, the others go on without it, and its new boot id tells of the reset."""
    node, machine = trio.node("pve3"), trio.machines["pve3"]
    before = trio.observer.boot_id(node)
    cut = partition(trio)
    injected(trio, cut)
    machine.cut_power()
    for read in READINGS:
        with pytest.raises(Unreachable):
            read(node, CLOCK.deadline(1))
    others = [trio.node(name) for name in ("pve1", "pve2")]
    eventually(lambda: all(corosync.quorum(each, CLOCK.deadline(AMPLE)).nodes == 2 for each in others), AMPLE)
    trio.boot(machine)
    eventually(lambda: "pve3" in _answering(trio), AMPLE)
    assert node.boot_id(CLOCK.deadline(AMPLE)) != before
    assert not rules.there(node, TAG, CLOCK.deadline(AMPLE))  # a reboot takes them
    undone(trio, cut)


def _answering(trio: Cluster) -> list[str]:
    found = []
    for node in trio.site.nodes:
        try:
            node.boot_id(CLOCK.deadline(1))
        except Unreachable:
            continue
        found.append(node.name)
    return found
