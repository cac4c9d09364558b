"""What must be undone is kept on the nodes themselves, and undone by them when nobody comes.

A copy of each open fault's plan lies in ``/var/lib/pveha/RUN`` on a majority of nodes before anything is broken, so
that ``pveha heal`` finds it from any machine; never in /etc/pve, which nobody can write without quorum. A dead-man is a
systemd timer beside it. Everything carries the run's tag, and only that is ever removed.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pytest_pveha.clock import SECOND, Deadline
from pytest_pveha.errors import HealFailed, PreflightRefused, ProtocolError, SiteError
from pytest_pveha.faults.fault import DeadMan, Undo
from pytest_pveha.handles.node import UPTIME, Node, uptime_of
from pytest_pveha.handles.shell import into, quote
from pytest_pveha.handles.site import Site
from pytest_pveha.record.questions import WORDS, Question, Said, is_step

STORE = "/var/lib/pveha"
ABOUT = "run.json"
STOP = "stop"
"""Lies in the run's folder on a node when somebody, anywhere, wants the run to end."""

ASKED = ".asked"
"""How the name of a file ends that says what a person was asked, and what they answered."""

_RUN = re.compile(r"[0-9a-f]{8}")
"""What a run's id looks like; nothing else under the store is ours."""

ACT = 20.0
"""Seconds one act on one node may take; a node that is down is given up after that."""

TOLD = 5.0
"""Seconds within which a node takes down what a person was asked or has answered."""

GRACE = 60.0
"""Seconds after a fault's longest time at which its dead-man acts."""


UPTIME_STEP = 0.02
"""Seconds that two readings of an uptime may err by: each is cut off to hundredths (proc(5))."""

CLOCK_RATE = 0.001
"""By how much of itself a time may differ between two machines: a clock is slewed by 500 ppm at most (adjtimex(2))."""


@dataclass(frozen=True, slots=True)
class Armed:
    """Where a fault's dead-men are, and in how many seconds they act."""

    nodes: tuple[str, ...]
    seconds: float
    outlives_reboot: bool


@dataclass(frozen=True, slots=True)
class Fired:
    """A dead-man that has acted: where, and between which moments (mono ns). None: that cannot be told."""

    node: str
    low: int | None = None
    high: int | None = None

    def after(self, moment: int) -> bool:
        """Whether it is known to have acted later than that."""
        return self.low is not None and self.low > moment

    def to_json(self, fault: str) -> dict[str, Any]:
        """The data of its line in the journal."""
        return {"fault": fault, "nodes": [self.node], "low": self.low, "high": self.high}


class Keeping:
    """One run's things on the nodes."""

    def __init__(self, site: Site, run: str) -> None:
        self._site = site
        self.run = run
        self._root = f"{STORE}/{run}"
        self._astray: dict[str, set[str]] = {}

    def tag(self, fault: str) -> str:
        """The name that everything of this fault carries: units, tables, chains."""
        return f"pveha-{self.run}-{fault}"

    def kept(self, fault: str) -> str:
        """The path, without its ending, of this fault's files on every node."""
        return f"{self._root}/{fault}"

    # --- copies ------------------------------------------------------------------------------------------------------

    def write(self, name: str, content: Mapping[str, Any]) -> list[str]:
        """The nodes on whose disks that now lies.

        Raises:
            PreflightRefused: they are no majority; what must be undone could not be found again from elsewhere.
        """
        text = json.dumps(content, sort_keys=True) + "\n"
        done, trouble = [], []
        for node in self._site.nodes:
            try:
                node.disk.write(f"{self._root}/{name}", text, self._deadline())
                done.append(node.name)
            except SiteError as error:
                trouble.append(str(error))
        if len(done) <= len(self._site.nodes) // 2:
            raise PreflightRefused(
                f"a copy of what must be undone lies on {len(done)} of {len(self._site.nodes)} nodes, which is no "
                f"majority, so nothing was broken: {'; '.join(trouble)}"
            )
        return done

    def begin(self, about: Mapping[str, Any]) -> None:
        """The nodes know that this run may have something to undo, and how the site was found."""
        self.write(ABOUT, about)

    def plan(self, fault: str, plan: Mapping[str, Any]) -> list[str]:
        """The nodes know this fault, and how it is undone."""
        return self.write(f"{fault}.json", plan)

    def asked(self, question: Question, said: Said | None) -> bool:
        """Whether a majority of the nodes knows what a person was asked and has answered; others take it down, too.

        For who heals from another machine: whether somebody may be on the way to pull a cord. Nodes that may be down
        because of us are not waited for.
        """
        step, nodes = question.step, list(self._site.nodes)
        answer = {} if said is None else {"word": said.word, "user": said.user}
        at = self._site.clock.now().utc
        told = {"text": question.text, "who": question.who, "settled": question.settled, "at": at, **answer}
        shunned = self._site.cluster.shunned
        known = 0
        for node in (each for each in nodes if each.name not in shunned):
            with contextlib.suppress(SiteError):
                text = json.dumps(told, sort_keys=True) + "\n"
                node.disk.write(f"{self._root}/{step}{ASKED}", text, self._site.clock.deadline(TOLD))
                known += 1
        return known > len(nodes) // 2

    # --- dead-men ----------------------------------------------------------------------------------------------------

    def arm(self, fault: str, dead_man: DeadMan, seconds: float) -> Armed:
        """Enough nodes undo this fault by themselves in so many seconds, and were seen to be ready to.

        Each that undoes it for itself at the same time: on a large site the first would act before the last is ready.
        A node that a fault in force keeps away is not waited for: one that lives is enough then, for what lasts.

        Raises:
            PreflightRefused: they are not; nothing was broken.
        """
        armed: list[str] = []
        trouble: list[str] = []
        lasting = any(undo.outlives_reboot for undo in dead_man.undos)
        needed = dead_man.needed
        if lasting:
            shunned = self._site.cluster.shunned
            needed = max(1, min(needed, sum(undo.node not in shunned for undo in dead_man.undos)))
        left = list(dead_man.undos)
        one_by_one = any(undo.checks for undo in left)  # they ask the same BMC, which may have few sessions
        while left and len(armed) < needed:
            count = 1 if one_by_one else needed - len(armed)
            now, left = left[:count], left[count:]
            tasks = [
                (undo.node, self._site.clock.spawn(f"arm-{undo.node}", partial(self._arm, fault, undo, seconds)))
                for undo in now
            ]
            for node, task in tasks:
                try:
                    task.join()
                    armed.append(node)
                except SiteError as error:
                    trouble.append(str(error))
        if needed and not armed:
            raise PreflightRefused(
                f"no dead-man would undo {fault} if we died, so nothing was broken: "
                f"{'; '.join(trouble) or 'there is no other node that could'}"
            )
        if len(armed) < needed:
            raise PreflightRefused(
                f"{needed} nodes must be able to undo {fault} if we died, and only {', '.join(armed)} would, so "
                f"nothing was broken: {'; '.join(trouble)}"
            )
        return Armed(tuple(armed), seconds, lasting)

    def _arm(self, fault: str, undo: Undo, seconds: float) -> None:
        node, kept, tag = self._site.nodes[undo.node], self.kept(fault), self.tag(fault)
        deadline = self._deadline()
        for ending, secret in (("secret", undo.secret), *undo.more):
            if secret:
                node.disk.write(f"{kept}.{ending}", secret, deadline)
        fired = into(quote(*UPTIME), f"{kept}.fired")
        lines = ("#!/bin/sh", fired, *undo.script, quote("sync", f"{kept}.fired"), "")
        node.disk.write(f"{kept}.sh", "\n".join(lines), deadline)
        for ways in undo.checks:
            self._check(node, ways)
        (node.units.arm_for_good if undo.outlives_reboot else node.units.arm)(tag, seconds, f"{kept}.sh", deadline)
        if not node.units.active(f"{tag}.timer", deadline):
            raise SiteError(f"node {node.name}: {tag}.timer was started and is not active")

    def _check(self, node: Node, ways: tuple[tuple[str, ...], ...]) -> None:
        """One of the commands succeeds there; else what the last one said."""
        *others, last = ways
        for words in others:
            try:
                node.act(self._deadline(), *words)
            except SiteError:
                continue
            return
        node.act(self._deadline(), *last)

    def disarm(self, fault: str, nodes: tuple[str, ...] | None = None) -> list[Fired]:
        """The fault's dead-men are disarmed wherever a node answers; those that had acted already.

        One on a node that does not answer is found by ``chase``, and by ``clear`` at the latest.
        """
        fired, astray = [], set()
        for node in self._site.nodes:
            try:
                if nodes is not None and node.name not in nodes:
                    astray.add(node.name)
                else:
                    fired += self._disarm(node, fault)
            except SiteError:
                astray.add(node.name)
        if astray:
            self._astray[fault] = astray
        else:
            self._astray.pop(fault, None)
        return fired

    @property
    def astray(self) -> frozenset[str]:
        """Nodes that could not be asked when a fault was over, and may still undo it."""
        return frozenset().union(*self._astray.values())

    def chase(self, nodes: Iterable[str]) -> dict[str, list[Fired]]:
        """What those nodes still keep of faults that are over is gone; for each fault the dead-men that had acted."""
        found: dict[str, list[Fired]] = {}
        for name in self.astray.intersection(nodes):
            for fault in [fault for fault, names in self._astray.items() if name in names]:
                try:
                    found.setdefault(fault, []).extend(self._disarm(self._site.nodes[name], fault))
                except SiteError:
                    break
                self._astray[fault].discard(name)
                if not self._astray[fault]:
                    del self._astray[fault]
        return {fault: fired for fault, fired in found.items() if fired}

    def _disarm(self, node: Node, fault: str) -> list[Fired]:
        deadline = self._deadline()
        names = node.disk.names(self._root, deadline)
        node.units.disarm(self.tag(fault), deadline)
        mine = [name for name in names if name.rpartition(".")[0] == fault]
        fired = [self._fired(node, fault)] if f"{fault}.fired" in mine else []
        if mine:
            node.disk.remove(deadline, *(f"{self._root}/{name}" for name in mine))
        return fired

    def _fired(self, node: Node, fault: str) -> Fired:
        """When it acted, by the clock of the node's kernel, which nobody sets: not to be told once that has ended."""
        try:
            then = uptime_of(node.disk.read(f"{self.kept(fault)}.fired", self._deadline()))
            now, asked, answered = node.uptime(self._deadline())
        except ProtocolError:  # it answers, and cannot say
            return Fired(node.name)
        if then is None or then.boot_id != now.boot_id or now.seconds < then.seconds:
            return Fired(node.name)
        ago = now.seconds - then.seconds
        error = UPTIME_STEP + ago * CLOCK_RATE
        low, high = asked.mono - round((ago + error) * SECOND), answered.mono - round((ago - error) * SECOND)
        return Fired(node.name, max(0, low), max(0, high))

    # --- the end -----------------------------------------------------------------------------------------------------

    def clear(self) -> dict[str, list[Fired]]:
        """Nothing of this run is left on any node; for each fault the dead-men that had acted unseen.

        Raises:
            HealFailed: something is; the message says what and what to type.
        """
        fired: dict[str, list[Fired]] = {}
        left = []
        for node in self._site.nodes:
            try:
                for fault, one in self._clear(node):
                    fired.setdefault(fault, []).append(one)
            except SiteError as error:
                left.append(str(error))
        if left:
            raise HealFailed(
                f"the site is DIRTY: what this run left on the nodes could not be removed: {'; '.join(left)}. By hand, "
                f"there: systemctl stop 'pveha-{self.run}-*'; rm -rf {self._root} "
                f"/etc/systemd/system/pveha-{self.run}-*; then `pveha heal`."
            )
        self._astray.clear()
        return fired

    def _clear(self, node: Node) -> list[tuple[str, Fired]]:
        deadline = self._deadline()
        names = node.disk.names(self._root, deadline)
        units = node.units.listed(f"pveha-{self.run}-*", deadline)
        for tag in sorted({unit.rpartition(".")[0] for unit in units}):
            node.units.disarm(tag, deadline)
        acted = [name.removesuffix(".fired") for name in names if name.endswith(".fired")]
        fired = [(fault, self._fired(node, fault)) for fault in acted]
        if names:
            node.disk.remove(deadline, self._root)
        return fired

    def _deadline(self) -> Deadline:
        return self._site.clock.deadline(ACT)


# --- from elsewhere --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person was asked by a run of another machine, as a node took it down."""

    text: str
    who: str
    settled: bool
    """Whether it was seen to be done, or nobody waited for it any more."""
    said: Said | None
    at: int
    """When it was taken down (epoch ns, by the clock of who asked)."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A run as the nodes remember it."""

    run: str
    about: dict[str, Any]
    plans: dict[str, dict[str, Any]]
    """The plan of every fault that was not closed everywhere, by its name."""
    unreadable: set[str] = field(default_factory=set)
    """Faults of which no copy of the plan could be understood."""
    asked: dict[str, Asked] = field(default_factory=dict)
    """What people were asked, by its step: the newest copy of each."""


def remembered(site: Site) -> dict[str, Kept]:
    """The runs that have left something on the nodes, by id: what any node that answers remembers.

    Raises:
        SiteError: no node answers.
    """
    found: dict[str, Kept] = {}
    trouble = []
    for node in site.nodes:
        try:
            _remember(node, site, found)
        except SiteError as error:
            trouble.append(str(error))
    if len(trouble) == len(site.nodes):
        raise SiteError(f"no node could be asked what earlier runs left: {trouble[0]}")
    return found


def _remember(node: Node, site: Site, found: dict[str, Kept]) -> None:
    for run in filter(_RUN.fullmatch, node.disk.names(STORE, site.clock.deadline(ACT))):
        deadline = site.clock.deadline(ACT)
        kept = found.setdefault(run, Kept(run, {}, {}))
        for name in node.disk.names(f"{STORE}/{run}", deadline):
            if name.endswith(ASKED) and is_step(step := name.removesuffix(ASKED)):
                asked = _asked(_json(node.disk.read(f"{STORE}/{run}/{name}", deadline)))
                if step not in kept.asked or asked.at > kept.asked[step].at:
                    kept.asked[step] = asked
                continue
            fault = name.removesuffix(".json")
            if fault == name or name.startswith(".") or (name == ABOUT and kept.about) or fault in kept.plans:
                continue
            content = _json(node.disk.read(f"{STORE}/{run}/{name}", deadline))
            if name == ABOUT:
                kept.about.update(content)
            elif isinstance(content.get("type"), str) and isinstance(content.get("params"), dict):
                kept.plans[fault] = content
                kept.unreadable.discard(fault)
            else:
                kept.unreadable.add(fault)


def _asked(content: dict[str, Any]) -> Asked:
    """What it says. What cannot be read was asked, was answered by nobody, and counts as done for none."""
    word, at = content.get("word"), content.get("at")
    return Asked(
        text=str(content.get("text") or "(what exactly cannot be read any more)"),
        who=str(content.get("who") or "somebody"),
        settled=content.get("settled") is True,
        said=Said(word, str(content.get("user") or "nobody knows who")) if word in WORDS else None,
        at=at if isinstance(at, int) and not isinstance(at, bool) else 0,
    )


def ask_to_stop(site: Site, run: str, why: str) -> list[str]:
    """The nodes on which that run, wherever it is, finds the wish that it end.

    Raises:
        SiteError: on none.
    """
    if not _RUN.fullmatch(run):
        raise SiteError(f"the cluster's lease names run {run!r}, which is no run of ours; look at it on a node")
    asked, trouble = [], []
    for node in site.nodes:
        try:
            node.disk.write(f"{STORE}/{run}/{STOP}", f"{why}\n", site.clock.deadline(ACT))
            asked.append(node.name)
        except SiteError as error:
            trouble.append(str(error))
    if not asked:
        raise SiteError(f"no node could be told that run {run} is to end: {'; '.join(trouble)}")
    return asked


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
