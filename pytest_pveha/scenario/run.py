"""The fixture ``run``: what a suite test says. Watch, break, expect, put back, claim."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import CantTell, HarmSeen, NotMet, SiteError, UsageError
from pytest_pveha.faults.fault import Fault, Reach
from pytest_pveha.faults.keeping import Keeping
from pytest_pveha.faults.maintenance import Maintenance
from pytest_pveha.faults.network import Partition
from pytest_pveha.faults.news import made_by
from pytest_pveha.faults.power import PowerCut
from pytest_pveha.faults.process import ServiceRestarted, ServiceStopped
from pytest_pveha.faults.restore import restore
from pytest_pveha.faults.session import Register, injected
from pytest_pveha.faults.shutdown import CleanPowerOff, CleanReboot
from pytest_pveha.handles.guest import Guest, Guests, Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import parse_duration
from pytest_pveha.judge import Measure, violations
from pytest_pveha.observe.answer import Condition, Met, ask, wait_until
from pytest_pveha.observe.audits import Scene, audit
from pytest_pveha.observe.ha import quorum_whole
from pytest_pveha.observe.news import Expected, expected, present
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.observe.sampler import Probe
from pytest_pveha.observe.sampling import sampler
from pytest_pveha.observe.snapshot import Snapshot
from pytest_pveha.readiness.checks import Check
from pytest_pveha.scenario.objectives import Objective

BEFORE_FAULT = 10.0
"""Seconds of fast sampling before a fault: what was there is known as well as what came."""

CUTS = frozenset({"network", "quorum"})
"""Families of fault that are tried for a moment first, where they take more than one node away."""

TRIAL = 15.0
"""Seconds the first, short cut lasts: a membership is lost within 8 s, and nobody is fenced before 57."""

TRIAL_LIMIT, TRIAL_GRACE = 20.0, 5.0
"""Every node concerned undoes the short cut by itself after 25 s."""

REJOIN = 60.0
"""Seconds in which everybody is one cluster again after the short cut."""

MILESTONES = (("acknowledged", "fencing: acknowledged - got agent lock for node '{node}'"),)
"""What the CRM's journal tells better than the API, by the phase it marks (wording: pve-ha-manager 5.2, Manager.pm)."""


class Run:
    """One scenario on the site: everything it sees, does and claims goes into the journal."""

    def __init__(
        self,
        observer: Observer,
        *,
        found: Snapshot,
        before: Snapshot,
        register: Register,
        keeping: Keeping,
        allow: Callable[[Fault, str], None],
        interlock: Callable[[Reach], object],
        settle: float,
        seed: int,
    ) -> None:
        """``allow(fault, target)`` raises UnsafeTarget where consent does not reach that far, ``interlock(reach)``
        PreflightRefused where the site would not survive it."""
        self.seed = seed
        self.before = before
        """The site when this test began."""
        self._allow = allow
        self._interlock = interlock
        self._observer = observer
        self._site = observer.site
        self._clock = observer.site.clock
        self._found = found
        self._register = register
        self._keeping = keeping
        self._settle = settle
        self._sampler = sampler(observer.site.clock, observer.write)
        self._faults = 0
        self._open = 0
        self._victims: set[str] = set()
        self._since = present(observer)
        self._declared_news: list[Expected] = []
        observer.sampler = self._sampler

    @property
    def site(self) -> Site:
        """What it runs on."""
        return self._site

    def watch(self, *subjects: Guests | Guest | Nodes | Node) -> None:
        """These are sampled from now on, until the test is over.

        UsageError when a guest has no probe that can be asked: it would be claimed about without being seen.
        """
        probes: list[Probe] = []
        for subject in subjects:
            if isinstance(subject, Guest):
                probes += _guest_probes(subject)
            elif isinstance(subject, Guests):
                probes += [probe for guest in subject for probe in _guest_probes(guest)]
            else:
                nodes = [subject] if isinstance(subject, Node) else list(subject)
                probes += [probe for node in nodes for probe in _node_probes(node)]
        self._sampler.watch(probes)

    def expect(self, condition: Condition, *, within: str) -> None:
        """The condition holds within that time; NotMet when it was seen not to, CantTell when nothing was seen."""
        seconds = parse_duration(within)
        data: dict[str, Any] = {"condition": condition.name, "within": seconds, "low": None, "high": None}
        try:
            met: Met = wait_until(condition, seconds, self._observer)
        except NotMet as error:
            self._observer.write("expect", {**data, "outcome": "not_met", "saw": error.last_seen})
            raise
        except CantTell as error:
            self._observer.write("expect", {**data, "outcome": "cant_tell", "saw": error.last_seen})
            raise
        self._observer.write("expect", {**data, "outcome": "met", "saw": met.saw, "low": met.low, "high": met.high})

    def in_turn(self, nodes: Nodes, step: Callable[[Node], None]) -> None:
        """The step was taken for one node after the other, the CRM master last: mastership changes hands once.

        SiteError when nobody says who the master is: the order would be chance.
        """
        view = self._observer.look()
        if view.manager is None:
            raise SiteError(f"who the CRM master is cannot be told, so no order can be chosen: {view.trouble}")
        master = view.manager.master
        order = sorted(nodes, key=lambda node: node.name == master)
        self._observer.write("note", {"text": f"in turn: {', '.join(node.name for node in order)}"})
        self._sampler.fast()
        self._clock.sleep(BEFORE_FAULT)
        self._open += 1  # one piece of work: sampled fast until its end, not anew before each of its faults
        try:
            for node in order:
                step(node)
        finally:
            self._open -= 1
            self._sampler.slow()

    def expect_news(self, *headlines: str, on: Iterable[Node] = ()) -> None:
        """Such lines in the journals of these nodes (none named: of any) are no harm; what a fault makes is known."""
        self._declared_news += expected(headlines, [node.name for node in on])

    def check(self, check: Check) -> None:
        """The readiness check's answer is on record, and claimed to be yes."""
        answer = ask(Condition(check.title, check.ask), self._observer)
        self._observer.write("audit", {"audit": check.name, "answer": answer.verdict, "saw": answer.saw})
        self.claim(violations([check]), none=True)

    def hold(self, duration: str) -> None:
        """That much time has passed, watched: what falls over only later is seen."""
        seconds = parse_duration(duration)
        begin = self._clock.now().mono
        end = begin + round(seconds * SECOND)
        while self._clock.now().mono < end:
            self._observer.tell(f"watching for {duration}", "")
            self._observer.look()
            self._clock.sleep_until(min(end, self._clock.now().mono + 5 * SECOND))
        self._observer.watched += self._clock.now().mono - begin

    def claim(
        self,
        measure: Measure,
        *,
        at_most: Objective | float | None = None,
        at_least: Objective | float | None = None,
        none: bool = False,
    ) -> None:
        """The measure, of each of its subjects, meets the objective; judged from the journal when the test ends."""
        objective, op = (0.0, "none") if none else (at_most, "at_most") if at_least is None else (at_least, "at_least")
        if objective is None:
            raise UsageError("a claim needs at_most, at_least or none=True")
        for guest in measure.guests or (None,):
            value = objective.of(guest) if isinstance(objective, Objective) and guest else objective
            if isinstance(value, Objective):
                raise UsageError(f"{measure.measure} is of no guest, so it has no tier's objective; give a number")
            self._observer.write(
                "claim",
                {
                    "measure": measure.measure,
                    "subject": guest.sid if guest else "cluster",
                    "params": measure.params,
                    "op": op,
                    "objective": value,
                    "unit": measure.unit,
                },
            )

    @contextmanager
    def break_with(
        self, make: Callable[[str], Fault], kind: str, victims: tuple[str, ...], at_most: float
    ) -> Iterator[None]:
        """While open the fault is in force; see ``faults.session``.

        Args:
            make: the fault, given the tag that what it leaves on nodes must carry.
            at_most: seconds it may be in force.
        """
        self._faults += 1
        name = f"{kind}-{self._faults}"
        fault = make(self._keeping.tag(name))
        for victim in victims:
            self._allow(fault, victim)
        self._interlock(fault.reach)
        outermost = self._open == 0
        self._sampler.fast()
        self._victims.update(victims)
        self._declared_news += made_by(kind, victims)
        self._open += 1
        try:
            if outermost:  # else everything has been sampled fast for long
                self._clock.sleep(BEFORE_FAULT)
            if fault.family in CUTS and len(fault.reach.nodes) > 1:
                self._try_first(make, f"{name}-trial", fault.reach)
            with injected(fault, name, self._observer, self._register, self._keeping, at_most=at_most):
                yield
                self._milestones(victims)
        finally:
            self._open -= 1
            if outermost:
                self._sampler.slow()

    def _try_first(self, make: Callable[[str], Fault], name: str, reach: Reach) -> None:
        """The same cut for a moment: quorum and storage do what was predicted, and all is whole again after it.

        Raises:
            HarmSeen: they do not; it was undone at once.
        """
        fault = make(self._keeping.tag(name))
        begin = self._clock.now().mono
        with injected(
            fault,
            name,
            self._observer,
            self._register,
            self._keeping,
            at_most=TRIAL_LIMIT,
            grace=TRIAL_GRACE,
            trial=True,
        ):
            while self._clock.now().mono < begin + TRIAL * SECOND:
                self._observer.look()
                self._clock.sleep(1)
        try:
            wait_until(quorum_whole(), REJOIN, self._observer)
        except (NotMet, CantTell) as error:
            raise HarmSeen(
                f"a cut of {TRIAL:g} s was undone, and the cluster is not whole again: {error.last_seen}; the longer "
                f"cut was not made, the campaign ends"
            ) from error

    def _milestones(self, victims: tuple[str, ...]) -> None:
        """What the survivors' CRM journals say of the incident, by our clock with the error of theirs."""
        for node in self._site.nodes:
            if node.name in victims:
                continue
            try:
                offset = node.clock_offset(self._clock.deadline(READ))
                lines = node.journal(self._observer.since, ("pve-ha-crm",), self._clock.deadline(READ))
            except SiteError:
                continue
            now = self._clock.now()
            for phase, wording in MILESTONES:
                for victim in victims:
                    for line in lines:
                        if wording.format(node=victim) not in line.text:
                            continue
                        ours = now.mono + round((line.at - offset.offset - now.utc / SECOND) * SECOND)
                        error = round((offset.error + 0.001) * SECOND)
                        self._observer.write(
                            "seen",
                            {
                                "what": f"{phase}/{victim}",
                                "old": None,
                                "new": wording.format(node=victim),
                                "low": max(0, ours - error),
                                "high": ours + error,
                                "source": f"journal {node.name}",
                            },
                        )

    def finish(self) -> None:
        """Everything is as it was found, the audits are asked, the samples are on record.

        HealFailed when the site is not as it was found within its settling time.
        """
        try:
            with self._clock.shielded():
                if self._faults:
                    restore(self._observer, self._found, self._settle)
                    self._register.closed()
                    for one, answer in audit(self._scene()):
                        self._observer.write("audit", {"audit": one.name, "answer": answer.verdict, "saw": answer.saw})
        finally:
            with self._clock.shielded():
                self._sampler.stop()
            self._observer.sampler = None

    def _scene(self) -> Scene:
        news = tuple(self._declared_news)
        return Scene(self._observer, self._found, self.before, frozenset(self._victims), self._since, news)


class Faults:
    """The fixture ``faults``: each verb is a fault in force while its ``with`` is open."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._site = run.site

    @contextmanager
    def power_cut(self, victim: Node, *, at_most: str = "45 min") -> Iterator[None]:
        """The node has no power while open; afterwards it is powered on again."""
        with self._run.break_with(
            lambda tag: PowerCut(victim.name), PowerCut.kind, (victim.name,), parse_duration(at_most)
        ):
            yield

    @contextmanager
    def partition(self, cut_off: Nodes, *, about_quorum: bool = False, at_most: str = "20 min") -> Iterator[None]:
        """These nodes and the others do not hear each other on any corosync link while open."""
        rest = self._site.nodes - cut_off
        found = self._site.cluster.ring_addresses(self._site.clock.deadline(READ))
        addresses = tuple(sorted(found.items()))
        with self._run.break_with(
            lambda tag: Partition(tag, cut_off.names, rest.names, addresses, about_quorum),
            Partition.kind,
            cut_off.names,
            parse_duration(at_most),
        ):
            yield

    @contextmanager
    def service_stopped(self, node: Node, unit: str, *, at_most: str = "20 min") -> Iterator[None]:
        """The daemon does not run on that node while open."""
        pid = node.units.main_pid(unit, self._site.clock.deadline(READ))
        with self._run.break_with(
            lambda tag: ServiceStopped(node.name, unit, pid),
            ServiceStopped.kind,
            (node.name,),
            parse_duration(at_most),
        ):
            yield

    @contextmanager
    def service_restarted(self, node: Node, unit: str, *, at_most: str = "20 min") -> Iterator[None]:
        """The daemon was restarted on that node."""
        pid = node.units.main_pid(unit, self._site.clock.deadline(READ))
        with self._run.break_with(
            lambda tag: ServiceRestarted(node.name, unit, pid),
            ServiceRestarted.kind,
            (node.name,),
            parse_duration(at_most),
        ):
            yield

    @contextmanager
    def maintenance(self, node: Node, *, at_most: str = "45 min") -> Iterator[None]:
        """The HA manager keeps the node empty while open."""
        services = self._site.cluster.manager(self._site.clock.deadline(READ)).services
        falling = tuple(sorted(sid for sid, row in services.items() if row.node == node.name and sid.startswith("ct:")))
        with self._run.break_with(
            lambda tag: Maintenance(node.name, falling), Maintenance.kind, (node.name,), parse_duration(at_most)
        ):
            yield

    @contextmanager
    def clean_reboot(self, victim: Node, *, at_most: str = "45 min") -> Iterator[None]:
        """The node has been told to reboot in good order; at the end it is waited for."""
        boot_id = victim.boot_id(self._site.clock.deadline(READ))
        with self._run.break_with(
            lambda tag: CleanReboot(victim.name, boot_id), CleanReboot.kind, (victim.name,), parse_duration(at_most)
        ):
            yield

    @contextmanager
    def clean_power_off(self, victim: Node, *, at_most: str = "45 min") -> Iterator[None]:
        """The node has been told to power off in good order; afterwards it is powered on again."""
        boot_id = victim.boot_id(self._site.clock.deadline(READ))
        with self._run.break_with(
            lambda tag: CleanPowerOff(victim.name, boot_id), CleanPowerOff.kind, (victim.name,), parse_duration(at_most)
        ):
            yield


def _guest_probes(guest: Guest) -> list[Probe]:
    if not guest.probes:
        kinds = f" (only {', '.join(guest.unprobed)}, which this version cannot ask)" if guest.unprobed else ""
        raise UsageError(f"guest {guest.sid} has no tcp probe in the inventory{kinds}; add one under guests.probes")
    if len(guest.probes) == 1:
        return [Probe(f"tcp:{guest.sid}", guest.sid, guest.probes[0].host, guest.probes[0].port)]
    return [
        Probe(f"tcp:{guest.sid}:{number}", guest.sid, probe.host, probe.port)
        for number, probe in enumerate(guest.probes, 1)
    ]


def _node_probes(node: Node) -> list[Probe]:
    """A node's API port, once a second: its death is seen, and nobody's log is filled."""
    return [Probe(f"node:{node.name}", f"node:{node.name}", host, port, slow=True) for host, port in node.addresses[:1]]
