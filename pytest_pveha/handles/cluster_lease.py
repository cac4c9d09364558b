"""The site is ours, and every other controller can see it: a directory in the cluster file system.

``mkdir`` of one directory under /etc/pve from two nodes at once succeeds on exactly one (seen on PVE 9.1.9). Without
quorum nobody can write there, us included, so a renewal may fail for as long as the lease runs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pytest_pveha.clock import SECOND, Clock
from pytest_pveha.errors import ProtocolError, SiteBusy, SiteError
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.reading import an_object

FOLDER = "/etc/pve/priv/pveha-lease"
ON_ONE_NODE = "/var/lib/corosync/pveha-lease"
"""Where there is no cluster file system: on the first node of the inventory, which everybody asks."""

RUNS_FOR = 1800
"""Seconds a lease lasts from its last renewal."""

MOST_PID = 1 << 22
"""The largest process id there is (proc(5), pid_max)."""

ACT = 15.0
"""Seconds one command may take: without quorum a write hangs for ten."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has the site, and until when (epoch seconds by the nodes' clock, whatever the controllers' say)."""

    run: str
    host: str
    pid: int
    until: int

    def __str__(self) -> str:
        return f"run {self.run} of process {self.pid} on {self.host}"


UNKNOWN = Holder("unknown", "unknown", 0, 0)
"""Whoever made the directory and died before he could write his name."""


class ClusterLease:
    """One run's hold on the cluster. Any node that answers serves."""

    def __init__(self, nodes: Nodes, clock: Clock, run: str, host: str, pid: int, folder: str = FOLDER) -> None:
        self._nodes = nodes
        self._clock = clock
        self._run, self._host, self._pid = run, host, pid
        self._folder = folder

    def take(self) -> None:
        """The cluster is ours.

        Raises:
            SiteBusy: somebody else's; says whose, and what to type if he is dead.
            SiteError: no node could say.
        """
        for node in self._nodes:
            try:
                node.act(self._clock.deadline(ACT), "mkdir", self._folder)
            except ProtocolError as error:
                if "File exists" not in str(error):
                    raise
                self._refuse(node)
            except SiteError:
                continue
            self._write(node)
            return
        raise SiteError("no node answers, so nobody can tell whether another controller is on this site")

    def _refuse(self, node: Node) -> None:
        there = _read(node, self._clock, self._folder) or UNKNOWN
        if there.run == self._run:
            return
        left = there.until - _now(node, self._clock)
        how = (
            f"for {left} s more" if left > 0 else f"and ran out {-left} s ago" if there.until else "and never said more"
        )
        raise SiteBusy(
            f"this cluster is held by {there}, {how}: wait until that run has ended, or end it with `pveha stop`; if "
            f"it is dead, `pveha heal`, or as a last resort `pveha lease INVENTORY --break`"
        )

    def renew(self, without: frozenset[str] = frozenset()) -> None:
        """It runs on for its whole length; nodes that may be down, or without quorum, are not asked.

        Raises:
            SiteBusy: it is not ours any more.
            SiteError: that could not be written now; it may be tried again until it runs out.
        """
        trouble: SiteError | None = None
        for node in self._nodes:
            if node.name in without:
                continue
            try:
                there = _read(node, self._clock, self._folder)
                if there is not None and there.run == self._run:
                    self._write(node)
                    return
            except SiteError as error:
                trouble = error
                continue
            raise SiteBusy(f"this cluster is no longer ours: its lease is held by {there or 'nobody'}")
        raise trouble or SiteError("no node answers")

    def give_back(self) -> None:
        """Others may have it, if it was ours."""
        trouble: SiteError | None = None
        for node in self._nodes:
            try:
                there = _read(node, self._clock, self._folder)
                if there is not None and there.run == self._run:
                    node.disk.discard(self._folder, self._clock.deadline(ACT))
            except SiteError as error:
                trouble = error
                continue
            return
        if trouble is not None:
            raise trouble

    def _write(self, node: Node) -> None:
        until = _now(node, self._clock) + RUNS_FOR
        text = json.dumps(asdict(Holder(self._run, self._host, self._pid, until)))
        node.disk.overwrite(f"{self._folder}/holder", text + "\n", self._clock.deadline(ACT))


def lease_holder(nodes: Nodes, clock: Clock, folder: str = FOLDER) -> Holder | None:
    """Who holds the cluster, as the first node that answers says; None: nobody."""
    trouble: SiteError | None = None
    for node in nodes:
        try:
            return _read(node, clock, folder)
        except SiteError as error:
            trouble = error
    raise trouble or SiteError("the site has no nodes")


def seconds_left(holder: Holder, nodes: Nodes, clock: Clock) -> int:
    """For how long the lease still runs, as the first node that answers has the time; negative where it ran out."""
    trouble: SiteError | None = None
    for node in nodes:
        try:
            return holder.until - _now(node, clock)
        except SiteError as error:
            trouble = error
    raise trouble or SiteError("the site has no nodes")


def break_lease(nodes: Nodes, clock: Clock, folder: str = FOLDER) -> None:
    """Nobody holds the cluster, whoever did."""
    trouble: SiteError | None = None
    for node in nodes:
        try:
            node.disk.discard(folder, clock.deadline(ACT))
        except SiteError as error:
            trouble = error
            continue
        return
    raise trouble or SiteError("the site has no nodes")


def _now(node: Node, clock: Clock) -> int:
    """The time by that node's clock (epoch seconds): every controller asks the same one, however its own goes."""
    return int(clock.now().utc / SECOND + node.clock_offset(clock.deadline(ACT)).offset)


def _read(node: Node, clock: Clock, folder: str) -> Holder | None:
    names = node.disk.names(folder, clock.deadline(ACT))
    if not names and folder.rpartition("/")[2] not in node.disk.names(folder.rpartition("/")[0], clock.deadline(ACT)):
        return None
    if "holder" not in names:
        return UNKNOWN
    holder = f"{folder}/holder"
    text = node.disk.read(holder, clock.deadline(ACT))
    try:
        told = an_object(json.loads(text), holder)
        pid = told.count("pid")
        return Holder(told.word("run"), told.word("host"), pid, told.count("until")) if pid <= MOST_PID else UNKNOWN
    except (ValueError, RecursionError, ProtocolError):
        return UNKNOWN
