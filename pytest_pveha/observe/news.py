"""Bad news in the nodes' journals: lines that tell of harm, or how near it came, whatever else was seen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import SiteError, UsageError
from pytest_pveha.handles.logs import whole_journal
from pytest_pveha.handles.node import JournalLine, Node
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.observer import Observer

READ = 60.0
"""Seconds one node's journal may take: it may be of hours, and is read whole."""

SHOWN = 2
"""How many headlines an answer quotes: a reason is read on a terminal, and JUnit cuts long messages off."""

QUOTED = 80
"""Characters of a line that are quoted."""


@dataclass(frozen=True, slots=True)
class Headline:
    """A kind of bad news, by the words that production writes."""

    name: str
    meaning: str
    units: tuple[str, ...]
    """The identifiers of who writes it."""
    words: str
    """A regular expression."""
    at_least: int = 1
    """How many lines make it news: some come one at a time on a healthy cluster."""
    about: str = ""
    """A regular expression whose group is the node that a line is about, where lines are about one."""

    def told_by(self, line: JournalLine) -> bool:
        """Whether the line is of this kind."""
        return line.unit in self.units and re.search(self.words, line.text) is not None

    def subject(self, line: JournalLine) -> str | None:
        """The node that the line is about, if it names one."""
        found = re.search(self.about, line.text) if self.about else None
        return None if found is None else found[1]


HEADLINES = {
    each.name: each
    for each in (
        Headline(
            "watchdog-expired", "a watchdog fires: the node is about to reset itself", ("watchdog-mux",),
            r"watchdog expired - disable|did not stop watchdog - disable|exit watchdog-mux with active connections",
        ),
        Headline(
            "watchdog-near-miss", "a watchdog had nearly fired", ("watchdog-mux",),
            r"watchdog is about to expire|watchdog was updated before expiring",
        ),
        Headline(
            "watchdog-not-fed", "a daemon could not feed its watchdog", ("pve-ha-lrm", "pve-ha-crm"),
            r"watchdog update failed",
        ),
        Headline(
            "lock-lost", "an LRM lost the lock under which it acts", ("pve-ha-lrm",),
            r"lost lock 'ha_|=> lost_agent_lock",
        ),
        Headline(
            "manager-lock-lost", "a CRM lost the lock under which it leads", ("pve-ha-crm",),
            r"lost lock 'ha_manager_|=> lost_manager_lock",
        ),
        Headline(  # seen on PVE 9.2 where a CRM that had fenced a node before fences it again, and its LRM has the lock
            "fence-lock-lost", "a CRM lost a node's lock that it had taken", ("pve-ha-crm",),
            r"lost lock 'ha_agent_", about=r"lost lock 'ha_agent_(.+)_lock",
        ),
        Headline(
            "fenced", "a node was fenced, or guests waited for that", ("pve-ha-crm",),
            r"(=>|to) 'fence'|fencing: |node needs to be fenced", about=r"\bnode '([^']+)'",
        ),
        Headline(
            "service-error", "HA gave a guest up", ("pve-ha-crm", "pve-ha-lrm"),
            r"recovery policy for service \S+ failed|is in an error state|to 'error'",
        ),
        Headline(
            "start-failed", "a guest could not be started where HA had put it", ("pve-ha-lrm",),
            r"unable to start service",
        ),
        Headline("slow-round", "a round of HA took too long", ("pve-ha-lrm", "pve-ha-crm"), r"loop took too long"),
        Headline(
            "quorum-lost", "a node lost quorum", ("pmxcfs", "corosync"),
            r"node lost quorum|within the non-primary component",
        ),
        Headline(
            "member-lost", "a member was lost without having said goodbye", ("corosync",),
            r"A processor failed, forming new|Failed to receive the leave message",
        ),
        Headline(
            "token-late", "corosync's token was late", ("corosync",), r"Token has not been received in"
        ),
        Headline(
            "link-down", "a corosync link went down", ("corosync",), r"link: host: \d+ link: \d+ is down"
        ),
        Headline(
            "retransmits", "corosync sends again and again: the network loses packets", ("corosync",),
            r"Retransmit List:", at_least=10,
        ),
        Headline(
            "held-up", "corosync was not scheduled for seconds", ("corosync",), r"Process pause detected"
        ),
        Headline(
            "write-refused", "a node wrote to the cluster file system without quorum", ("pmxcfs",),
            r"received write while not quorate",
        ),
        Headline("database-damaged", "the cluster file system's database is damaged", ("pmxcfs",), r"malformed"),
        Headline(
            "out-of-memory", "the kernel killed a process to have memory", ("kernel", "systemd"),
            r"Out of memory|invoked oom-killer|oom-kill|OOM killer",
        ),
        Headline(
            "hung", "the kernel saw a task or a processor hang", ("kernel",),
            r"blocked for more than \d+ seconds|soft lockup|hard LOCKUP|rcu.* detected (expedited )?stalls",
        ),
        Headline("crashed", "the kernel failed", ("kernel",), r"Kernel panic|BUG: |Oops: |general protection fault"),
        Headline(
            "disk-failed", "a disk failed, or went read-only", ("kernel",),
            r"I/O error, dev |Remounting filesystem read-only|forced readonly",
        ),
        Headline(
            "daemon-failed", "a daemon of the cluster died", ("systemd",),
            r"^(pve-ha-[cl]rm|pve-cluster|corosync|watchdog-mux)\.service: Failed with result",
        ),
    )
}  # fmt: skip
"""Every kind, by its name. Wording: pve-ha-manager 5.2, pve-cluster 9.1, corosync 3.1, Linux 6.17, systemd 257; as PVE
9.1.9 wrote it where it could be made to."""


@dataclass(frozen=True, slots=True)
class Expected:
    """News that a scenario declares: of that kind, on these nodes (none named: on any)."""

    headline: str
    nodes: frozenset[str] = frozenset()
    about: frozenset[str] = frozenset()
    """The nodes that it may be about, whoever says it (none named: any)."""

    def covers(self, headline: Headline, node: str, about: str | None, named: frozenset[str]) -> bool:
        """Whether such a line on that node was to come.

        Args:
            about: the node that it is about. A line that names none, such as of a guest that waits for a fence, follows
                from the lines that do.
            named: the nodes that any such line is about.
        """
        if self.headline != headline.name or (self.nodes and node not in self.nodes):
            return False
        if not self.about or not headline.about:
            return True
        return bool(self.about & (named if about is None else {about}))


def expected(headlines: Iterable[str], nodes: Iterable[str] = (), about: Iterable[str] = ()) -> list[Expected]:
    """Those kinds of news, declared for these nodes, and about those. UsageError for a kind there is not."""
    names = list(headlines)
    if unknown := [name for name in names if name not in HEADLINES]:
        raise UsageError(f"no news is called {', '.join(unknown)}; known are {', '.join(HEADLINES)}")
    return [Expected(name, frozenset(nodes), frozenset(about)) for name in names]


def scan(observer: Observer, since: float, declared: Iterable[Expected]) -> Answer:
    """Whether no node's journal tells of bad news that was not declared.

    Args:
        since: when the scenario began, in epoch seconds of our clock; each node is asked by its own.
    """
    declared = list(declared)
    trouble: list[str] = []
    read: dict[str, list[JournalLine]] = {}
    for node in observer.site.nodes:
        try:
            read[node.name] = _journal(observer, node, since)
        except SiteError as error:
            trouble.append(str(error))
    lines = sum(map(len, read.values()))
    named = _named(line for told in read.values() for line in told)
    bad = [text for name, told in read.items() for text in unexpected(name, told, declared, named)]
    if bad:
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        return no("; ".join(bad[:SHOWN]) + more)
    if trouble:
        return cant_tell("; ".join(trouble))
    return yes(f"no bad news but what was declared in {lines} lines of {len(observer.site.nodes)} journals")


def unexpected(
    node: str,
    lines: Iterable[JournalLine],
    declared: Iterable[Expected],
    named: Mapping[str, frozenset[str]] | None = None,
) -> list[str]:
    """Each kind of bad news in these lines that was not declared for the node, in words.

    Args:
        named: for each kind the nodes that its lines in any journal are about; of these lines alone if not given.
    """
    declared, lines = list(declared), list(lines)
    named = _named(lines) if named is None else named
    found = []
    for headline in HEADLINES.values():
        others = named.get(headline.name, frozenset())
        told = [
            line
            for line in lines
            if headline.told_by(line)
            and not any(each.covers(headline, node, headline.subject(line), others) for each in declared)
        ]
        if told and len(told) >= headline.at_least:
            times = f" ({len(told)} such lines)" if len(told) > 1 else ""
            found.append(
                f"{node}: {headline.meaning}: {told[0].unit}: {' '.join(told[0].text.split())[:QUOTED]}{times}"
            )
    return found


def _named(lines: Iterable[JournalLine]) -> dict[str, frozenset[str]]:
    """For each kind whose lines are about nodes, those."""
    lines = list(lines)
    return {
        headline.name: frozenset(
            about for line in lines if headline.told_by(line) and (about := headline.subject(line)) is not None
        )
        for headline in HEADLINES.values()
        if headline.about
    }


def _journal(observer: Observer, node: Node, since: float) -> list[JournalLine]:
    clock = observer.site.clock
    offset = node.clock_offset(clock.deadline(READ))
    return whole_journal(node, since + offset.offset - offset.error, clock.deadline(READ))


def present(observer: Observer) -> float:
    """The present moment as ``scan`` wants it."""
    return observer.site.clock.now().utc / SECOND
