"""Bad news in the journals: production's words are known, what was declared is none, and silence is not good news."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from pytest_pveha.clock import Deadline, LiveClock
from pytest_pveha.errors import ProtocolError, UsageError
from pytest_pveha.faults.catalogue import FAULTS
from pytest_pveha.faults.news import FENCED, MAKES, made_by
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.logs import whole_journal
from pytest_pveha.handles.node import JournalLine, Node
from pytest_pveha.observe.answer import Answer
from pytest_pveha.observe.news import HEADLINES, expected, scan, unexpected
from pytest_pveha.observe.observer import Observer
from pytest_pveha.wire.ssh import CommandResult, Ssh

LINES = {
    "watchdog-expired": ("watchdog-mux", "client (PID 1137) watchdog expired - disable watchdog updates"),
    "watchdog-near-miss": ("watchdog-mux", "client (PID 1137) watchdog was updated before expiring"),
    "watchdog-not-fed": ("pve-ha-lrm", "watchdog update failed - Broken pipe"),
    "lock-lost": ("pve-ha-lrm", "status change active => lost_agent_lock"),
    "manager-lock-lost": ("pve-ha-crm", "status change master => lost_manager_lock"),
    "fence-lock-lost": ("pve-ha-crm", "lost lock 'ha_agent_n3_lock - can't get cfs lock"),
    "fenced": ("pve-ha-crm", "node 'n3': state changed from 'unknown' => 'fence'"),
    "service-error": ("pve-ha-crm", "recovery policy for service vm:1 failed, entering error state. Failed nodes: n1"),
    "start-failed": ("pve-ha-lrm", "unable to start service vm:1"),
    "slow-round": ("pve-ha-lrm", "loop took too long (37 seconds)"),
    "quorum-lost": ("pmxcfs", "[status] notice: node lost quorum"),
    "member-lost": ("corosync", "  [TOTEM ] Failed to receive the leave message. failed: 3"),
    "token-late": ("corosync", "  [TOTEM ] Token has not been received in 2737 ms"),
    "link-down": ("corosync", "  [KNET  ] link: host: 2 link: 0 is down"),
    "retransmits": ("corosync", "  [TOTEM ] Retransmit List: 12 13"),
    "held-up": ("corosync", "  [MAIN  ] Process pause detected for 4012 ms, flushing membership messages."),
    "write-refused": ("pmxcfs", "[dcdb] crit: received write while not quorate - trigger resync"),
    "database-damaged": ("pmxcfs", "[database] crit: sqlite3_step failed: database disk image is malformed"),
    "out-of-memory": ("kernel", "Out of memory: Killed process 4242 (kvm) total-vm:9437184kB"),
    "hung": ("kernel", "INFO: task kworker/0:1:7 blocked for more than 122 seconds."),
    "crashed": ("kernel", "BUG: unable to handle page fault for address: ffffb1"),
    "disk-failed": ("kernel", "I/O error, dev sda, sector 2048 op 0x1:(WRITE)"),
    "daemon-failed": ("systemd", "pve-ha-lrm.service: Failed with result 'signal'."),
}
"""A line of each kind, as production writes it."""


def line(unit: str, text: str) -> JournalLine:
    """One at some moment."""
    return JournalLine(100.0, unit, text)


class Shell:
    """Answers ``date`` with our own clock, and journalctl with these texts in turn."""

    def __init__(self, *answers: str, stderr: str = "", status: int = 0) -> None:
        self._answers = list(answers)
        self._stderr, self._status = stderr, status

    def run(self, command: str, *, deadline: Deadline) -> CommandResult:
        now = LiveClock().now()
        if command.startswith("date"):
            return CommandResult(0, f"{now.utc / 1e9:.9f}".encode(), b"", now, now)
        text = self._answers.pop(0) if self._answers else ""
        return CommandResult(self._status, text.encode(), self._stderr.encode(), now, now)


def node(shell: Shell, name: str = "n1") -> Node:
    """A node with that shell."""
    return Node(name, cast("Ssh", shell), None, LiveClock(), ())


def scanned(*nodes: Node) -> Answer:
    """What a scan of these nodes since the beginning of time says."""
    site = SimpleNamespace(clock=LiveClock(), nodes=Nodes(nodes))
    return scan(cast("Observer", SimpleNamespace(site=site)), 0.0, [])


@pytest.mark.parametrize("name", HEADLINES)
def test_every_kind_of_news_is_known_by_production_s_words(name: str) -> None:
    """Each headline knows its line, and no other headline takes it."""
    unit, text = LINES[name]
    said = unexpected("n1", [line(unit, text)] * HEADLINES[name].at_least, [])
    assert len(said) == 1
    assert said[0].startswith(f"n1: {HEADLINES[name].meaning}: {unit}: {' '.join(text.split())}")


def test_who_wrote_it_counts() -> None:
    """The same words from a user's script are no news."""
    assert unexpected("n1", [line("backup.sh", text) for _, text in LINES.values()], []) == []


def test_a_few_retransmits_are_none() -> None:
    """Healthy networks lose a packet now and then."""
    assert unexpected("n1", [line(*LINES["retransmits"])] * 9, []) == []


@pytest.mark.parametrize("kind", MAKES)
def test_what_was_lost_on_a_dead_link_is_sent_again(kind: str) -> None:
    """A burst of it is no harm where a link, or what carries it, is taken away and the ring goes on; else it is."""
    burst = [line(*LINES["retransmits"])] * 59
    harm = unexpected("n2", burst, made_by(kind, ["n1"], majority=True))
    assert bool(harm) is (kind not in {"link-loss", "switch-loss", "switch-pulled", "feed-cut"})


def test_what_was_declared_for_a_node_is_none_there_alone() -> None:
    """A partition's victim may say that its watchdog expired; another node may not."""
    lines = [line(*LINES["watchdog-expired"])]
    assert unexpected("n1", lines, made_by("partition", ["n1"], majority=True)) == []
    assert len(unexpected("n2", lines, made_by("partition", ["n1"], majority=True))) == 1
    assert unexpected("n2", lines, made_by("partition", ["n1"], majority=False)) == [], "who is left has no quorum"
    assert unexpected("n2", lines, expected(["watchdog-expired"])) == []


def fenced(*names: str) -> list[JournalLine]:
    """What a CRM says when it fences these nodes, not for the first time, as production writes it."""
    texts = ["service 'vm:101': state changed from 'started' to 'fence'"]
    for name in names:
        texts += [f"node '{name}': state changed from 'unknown' => 'fence'"]
        texts += [f"lost lock 'ha_agent_{name}_lock - can't get cfs lock"]
        texts += [f"fencing: acknowledged - got agent lock for node '{name}'"]
    return [line("pve-ha-crm", text) for text in texts]


def test_half_of_the_nodes_is_not_quorate_until_the_device_has_voted() -> None:
    """Of two nodes one is lost: the other may lose its lock for a moment. Where a majority is left nobody may."""
    lost = [line("pve-ha-lrm", "lost lock 'ha_agent_n2_lock - cfs lock update failed - Permission denied")]
    for kind in ("power-cut", "clean-reboot", "kernel-crash"):
        assert unexpected("n2", lost, made_by(kind, ["n1"], majority=False)) == []
        assert len(unexpected("n2", lost, made_by(kind, ["n1"], majority=True))) == 1
    assert len(unexpected("n2", lost, made_by("link-loss", ["n1"], majority=False))) == 1


@pytest.mark.parametrize("kind", [kind for kind, makes in MAKES.items() if makes.about_victims])
def test_a_fence_is_declared_for_the_victims_alone(kind: str) -> None:
    """Whoever says it: that a victim was fenced is none, that another node was is bad news."""
    declared = made_by(kind, ["n1"], majority=True)
    assert unexpected("n2", fenced("n1"), declared) == []
    lost, told = sorted(unexpected("n2", fenced("n1", "n3"), declared))
    assert lost == (
        "n2: a CRM lost a node's lock that it had taken: pve-ha-crm: lost lock 'ha_agent_n3_lock - can't get cfs lock"
    )
    assert told.startswith("n2: a node was fenced, or guests waited for that: pve-ha-crm: node 'n3': state changed")
    assert "(2 such lines)" in told
    assert unexpected("n2", fenced("n3"), made_by(kind, ["n1"], majority=False)) == [], "everybody is a victim"
    assert unexpected("n2", fenced("n1", "n3"), [*declared, *made_by(kind, ["n3"], majority=True)]) == []


def test_a_scenario_declares_a_fence_of_its_victim_alone() -> None:
    """A clean reboot makes no fence; where the shutdown policy has one, the test says of whom."""
    declared = [*made_by("clean-reboot", ["n1"], majority=True), *expected(FENCED, about=["n1"])]
    assert unexpected("n2", fenced("n1"), made_by("clean-reboot", ["n1"], majority=True)) != []
    assert unexpected("n2", fenced("n1"), declared) == []
    assert unexpected("n2", fenced("n1", "n3"), declared) != []


def test_a_guest_that_waits_for_a_fence_follows_from_the_node() -> None:
    """Its line names no node: it is as good as what some journal says of nodes, and bad where none says anything."""
    declared = made_by("power-cut", ["n1"], majority=True)
    waiting, others = fenced(), fenced("n1")
    assert len(unexpected("n2", waiting, declared)) == 1
    assert unexpected("n2", waiting, declared, {"fenced": frozenset({"n1"})}) == []
    crashed = "\n".join(f"1795807645.5 n2 {each.unit}[9]: {each.text}" for each in waiting)
    master = "\n".join(f"1795807646.5 n3 {each.unit}[9]: {each.text}" for each in others)
    site = SimpleNamespace(clock=LiveClock(), nodes=Nodes([node(Shell(crashed), "n2"), node(Shell(master), "n3")]))
    answer = scan(cast("Observer", SimpleNamespace(site=site)), 0.0, declared)
    assert answer.verdict == "yes", answer


def test_an_unknown_kind_is_refused() -> None:
    """A misspelt declaration would let everything through, or nothing."""
    with pytest.raises(UsageError, match="no news is called watchdog-expird; known are watchdog-expired, "):
        expected(["watchdog-expird"])


def test_what_faults_make_is_of_faults_that_exist() -> None:
    """Each entry is of a fault of the catalogue, and each headline of it exists."""
    assert MAKES.keys() <= {fault.kind for fault in FAULTS.values()}
    for kind in MAKES:
        made_by(kind, ["n1"], majority=True)


def test_bad_news_is_told_with_its_node() -> None:
    """One such line on any node is a no, which quotes it."""
    bad = "1795807645.5 n2 watchdog-mux[7]: client (PID 9) watchdog is about to expire\n"
    answer = scanned(node(Shell("1795807645.5 n1 systemd[1]: Started x.\n")), node(Shell(bad), "n2"))
    assert answer.verdict == "no"
    assert answer.saw == "n2: a watchdog had nearly fired: watchdog-mux: client (PID 9) watchdog is about to expire"


def test_a_journal_that_cannot_be_read_is_no_good_news() -> None:
    """Not shown to our user, failed, or keeping nothing: it cannot be told; lines from before the test are enough."""
    hint = "Hint: You are currently not seeing messages from other users and the system.\n"
    for shell in (Shell("", stderr=hint), Shell("", status=1), Shell("-- No entries --\n", "-- No entries --\n")):
        assert scanned(node(shell)).verdict == "cant_tell"
    quiet = Shell("-- No entries --\n", "1795807645.5 n1 systemd[1]: Started x.\n")
    assert scanned(node(quiet)).verdict == "yes"
    with pytest.raises(ProtocolError, match="group systemd-journal"):
        whole_journal(node(Shell("", stderr=hint)), 0, LiveClock().deadline(1))
