"""The fixture ``run``: what a suite test says. Watch, break, expect, put back, claim."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import (
    CantTell,
    HarmSeen,
    HealFailed,
    NoProxmox,
    NotMet,
    NotThere,
    SiteError,
    UsageError,
    WrongMachine,
)
from pytest_pveha.faults.cord import CordPulled
from pytest_pveha.faults.crash import DaemonKilled, DaemonsFrozen, KernelCrash
from pytest_pveha.faults.fault import Fault, Reach
from pytest_pveha.faults.keeping import GRACE, Keeping
from pytest_pveha.faults.network import Partition
from pytest_pveha.faults.news import made_by
from pytest_pveha.faults.process import ServiceStopped
from pytest_pveha.faults.restore import restore
from pytest_pveha.faults.rooms import RoomCut
from pytest_pveha.faults.session import Register, Session
from pytest_pveha.faults.switches import SwitchPulled
from pytest_pveha.handles import corosync
from pytest_pveha.handles.guest import Guest, Guests, Nodes
from pytest_pveha.handles.layout import Ways
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import parse_duration
from pytest_pveha.judge import Measure, violations
from pytest_pveha.judge.claims import UNWATCHED
from pytest_pveha.observe.agents import AgentProbes
from pytest_pveha.observe.answer import Condition, Met, ask, wait_until
from pytest_pveha.observe.arbiters import MonWitness
from pytest_pveha.observe.audits import CLUSTER, Audit, Scene, asked, audit
from pytest_pveha.observe.bmc_log import BmcLogs
from pytest_pveha.observe.ceph_witness import CephWitness
from pytest_pveha.observe.copies import Copy, keep_apart
from pytest_pveha.observe.echoes import measure
from pytest_pveha.observe.fence_paths import survey
from pytest_pveha.observe.ha import guarding, led_by, quorum_whole
from pytest_pveha.observe.ledger import Ledger
from pytest_pveha.observe.news import Expected, expected, present
from pytest_pveha.observe.observer import READ, Observer, View
from pytest_pveha.observe.reachable import answering
from pytest_pveha.observe.sampler import Probe
from pytest_pveha.observe.sampling import sampler
from pytest_pveha.observe.snapshot import Snapshot
from pytest_pveha.observe.witness import Witness
from pytest_pveha.readiness.check import Check
from pytest_pveha.scenario.objectives import Objective

BEFORE_FAULT = 10.0
"""Seconds of fast sampling before a fault: what was there is known as well as what came."""

CUTS = frozenset({"network", "quorum"})
"""Families of fault that are tried for a moment first, where they take more than one node away."""

TRIAL = 15.0
"""Seconds the first, short cut lasts: a membership is lost within 8 s, and nobody is fenced before 57."""

TRIAL_LIMIT, TRIAL_GRACE = 20.0, 5.0
"""Every node concerned undoes the short cut by itself after 25 s."""

TRIED = TRIAL_LIMIT + TRIAL_GRACE

MAY_RESET = frozenset({KernelCrash.kind, DaemonKilled.kind, DaemonsFrozen.kind, Partition.kind, RoomCut.kind})
"""Faults that end with a node resetting itself: its BMC's log may have that, too."""

DIES_LATER = 100.0
"""Seconds after such a fault by which its victim has been reset, if it ever is: until then writes are read closely."""

CALMLY, CLOSELY = 5.0, 2.0
"""Seconds between looks while time passes, and while it does so in a cut whose first seconds count."""

TAKES_OVER = 180.0
"""Seconds in which another CRM is master: one that releases the lock is followed within 15 s, else after 120."""

REJOIN = 60.0
"""Seconds in which everybody is one cluster again after the short cut."""

WITHOUT_PROXMOX = frozenset(
    {
        "both_quorate", "broken_paths", "collateral_resets", "downtime", "fence_path_time", "membership_changes",
        "overlaps", "quorum_losses", "rejoins", "violations", "wrong_machines",
    }
)  # fmt: skip
"""Measures that rest on nothing that Proxmox says: on nodes, their corosync, BMCs, processes and probes alone."""

Thing = TypeVar("Thing")

MILESTONES = (("acknowledged", "fencing: acknowledged - got agent lock for node '{node}'"),)
"""What the CRM's journal tells better than the API, by the phase it marks (wording: pve-ha-manager 5.2, Manager.pm)."""


@dataclass(slots=True)
class _Noting:
    """The campaign's register, and whether this scenario has had anything put on it: else nothing is to put back."""

    register: Register
    touched: bool = False

    def opened(self) -> None:
        self.touched = True
        self.register.opened()

    def closed(self) -> None:
        self.register.closed()

    def stop_asked(self) -> str | None:
        return self.register.stop_asked()


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
        interlock: Callable[[Reach, Sequence[Reach]], object],
        settle: float,
        seed: int,
    ) -> None:
        """``allow(fault, target)`` raises UnsafeTarget where consent does not reach that far, ``interlock(reach,
        standing)`` PreflightRefused where the site would not survive it beside what is broken already."""
        self.seed = seed
        self.before = before
        """The site when this test began."""
        self._allow = allow
        self._interlock = interlock
        self._observer = observer
        self._site = observer.site
        self._clock = observer.site.clock
        self._found = found
        self._register = _Noting(register)
        self._keeping = keeping
        self._session = Session(observer, self._register, keeping)
        self._settle = settle
        self._sampler = sampler(observer.site.clock, observer.write)
        self._ledger = Ledger(observer, keeping.run)
        self._agents = AgentProbes(observer)
        self._faults = 0
        self._claims = False
        self._open = 0
        self._victims: set[str] = set()
        self._whole_ceph = False
        self._witnesses: list[Witness | CephWitness | MonWitness] = []
        self._since = present(observer)
        self._declared_news: list[Expected] = []
        observer.sampler, observer.agents = self._sampler, self._agents

    @property
    def site(self) -> Site:
        """What it runs on."""
        return self._site

    @property
    def reached(self) -> Nodes:
        """The nodes without those that a fault in force has taken and that are silent: on them nothing can be put."""
        taken = frozenset().union(*(reach.nodes for reach in self._session.standing))
        nodes = self._site.nodes
        return Nodes(node for node in nodes if node.name not in taken or answering(self._clock, node.addresses))

    @property
    def ledger(self) -> Ledger:
        """What the guests that are made for tests write."""
        return self._ledger

    @property
    def observer(self) -> Observer:
        """Its eyes."""
        return self._observer

    def watch(self, *subjects: Guests | Guest | Nodes | Node) -> None:
        """These are sampled from now on, until the test is over; canaries among them are written in, and read back.

        UsageError when a guest has no probe that can be asked: it would be claimed about without being seen.
        """
        probes: list[Probe] = []
        watched: list[Guest] = []
        for subject in subjects:
            if isinstance(subject, Guest | Guests):
                watched += [subject] if isinstance(subject, Guest) else subject
            else:
                nodes = [subject] if isinstance(subject, Node) else list(subject)
                probes += [probe for node in nodes for probe in _node_probes(node)]
        self._sampler.watch([*(probe for guest in watched for probe in _guest_probes(guest)), *probes])
        self._ledger.start(watched)
        self._agents.watch(watched)

    def witness(self, nodes: Nodes) -> None:
        """From now on, until the test is over, each of these nodes is asked itself: its quorum, processes, boot id."""
        self._testify(Witness(self._observer, nodes))

    def watch_ceph(self) -> None:
        """From now on, until the test is over, Ceph itself is asked what its placement groups, mons and OSDs do.

        Every canary is read closely around a fault: the disks of all guests lie on all of Ceph.
        """
        self._whole_ceph = True
        self._testify(CephWitness(self._observer))

    def witness_mons(self, nodes: Nodes) -> None:
        """From now on, until the test is over, the mon on each of these nodes is asked itself; none: nobody is."""
        if nodes:
            self._testify(MonWitness(self._observer, nodes))

    def _testify(self, witness: Witness | CephWitness | MonWitness) -> None:
        self._witnesses.append(witness)
        self._observer.witness = self._ask_witnesses
        self._observer.look()

    def _ask_witnesses(self, view: View) -> None:
        for witness in self._witnesses:
            witness(view)

    def expect(self, condition: Condition, *, within: str) -> None:
        """The condition holds within that time; NotMet when it was seen not to, CantTell when nothing was seen.

        What is about Proxmox is not waited for where there is none, and is on record as not proven.
        """
        seconds = parse_duration(within)
        data: dict[str, Any] = {"condition": condition.name, "within": seconds, "low": None, "high": None}
        try:
            met: Met = wait_until(condition, seconds, self._observer)
        except NotMet as error:
            self._observer.write("expect", {**data, "outcome": "not_met", "saw": error.last_seen})
            raise
        except NotThere as error:
            self._observer.write("expect", {**data, "outcome": "not_there", "saw": error.last_seen})
            return
        except CantTell as error:
            self._observer.write("expect", {**data, "outcome": "cant_tell", "saw": error.last_seen})
            raise
        self._observer.write("expect", {**data, "outcome": "met", "saw": met.saw, "low": met.low, "high": met.high})

    def try_fence_paths(self, *, within: float) -> None:
        """From each node every other node's BMC was asked, and each answer is on record; nothing was switched.

        Args:
            within: seconds in which a BMC is to answer, such as ``objectives.fence_path``.
        """
        survey(self._observer, within)

    def measure(self, ways: Ways) -> None:
        """Each of these ways was measured from the node's own shell, and what came of it is on record."""
        measure(self._observer, ways)

    def audit(self, one: Audit) -> None:
        """That audit's answer, about the time since the test began, is on record."""
        answer = asked(one, self._scene())
        self._observer.write("audit", {"audit": one.name, "answer": answer.verdict, "saw": answer.saw})

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
        self.one_by_one(order, step)

    def one_by_one(self, things: Iterable[Thing], step: Callable[[Thing], None]) -> None:
        """The step was taken for one after the other."""
        self._sampler.fast()
        self._clock.sleep(BEFORE_FAULT)
        self._open += 1  # one piece of work: sampled fast until its end, not anew before each of its faults
        try:
            for thing in things:
                step(thing)
        finally:
            self._open -= 1
            self._sampler.slow()

    def hand_over(self, master: Node) -> None:
        """Another node is CRM master: that one's CRM was stopped until it let go, and runs again.

        One that ends in good order releases the manager's lock (pve-ha-manager, CRM.pm).

        Raises:
            UnsafeTarget: the test does not say that it may, or that is not consented to.
            PreflightRefused: it cannot be done now.
            NotMet, CantTell: nobody took over.
        """
        unit, name = "pve-ha-crm", f"{ServiceStopped.kind}-0"
        fault = ServiceStopped(master.name, unit, master.units.main_pid(unit, self._clock.deadline(READ)))
        self._allow(fault, master.name)
        self._interlock(fault.reach, self._session.standing)
        with self._session.injected(fault, name, at_most=2 * TAKES_OVER, trial=True):
            wait_until(led_by(self._site.nodes - {master}), TAKES_OVER, self._observer)

    def expect_news(self, *headlines: str, on: Iterable[Node] = (), about: Iterable[Node] = ()) -> None:
        """Such lines in the journals of these nodes (none named: of any) are no harm; what a fault makes is known.

        Args:
            about: the nodes that the lines may be about, where they are about one (none named: any).
        """
        self._declared_news += expected(headlines, [node.name for node in on], [node.name for node in about])

    def check(self, check: Check) -> None:
        """The readiness check's answer is on record, and claimed to be yes."""
        answer = ask(Condition(check.title, check.ask), self._observer)
        self._observer.write("audit", {"audit": check.name, "answer": answer.verdict, "saw": answer.saw})
        self.claim(violations([check]), none=True)

    def start(self, copy: Copy) -> None:
        """The copy was seen to be kept apart, and its start was asked for."""
        keep_apart(self._observer, copy)
        self._site.copies.start(copy.sid, copy.node, self._clock.deadline(READ))

    def hold(self, duration: str) -> None:
        """That much time has passed, watched: what falls over only later is seen."""
        self._hold(self._clock.now().mono + round(parse_duration(duration) * SECOND), duration)

    def hold_broken(self, duration: str) -> None:
        """That much time has passed since the present fault was injected, watched."""
        self._hold(self._observer.broken_at + round(parse_duration(duration) * SECOND), duration, CLOSELY)

    def _hold(self, end: int, duration: str, every: float = CALMLY) -> None:
        begin = self._clock.now().mono
        while self._clock.now().mono < end:
            self._observer.tell(f"watching for {duration}", "")
            self._observer.look()
            self._clock.sleep_until(min(end, self._clock.now().mono + round(every * SECOND)))
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
        if not self._claims:
            self._sampler.mark()  # what the site does from here on is asked of it by us
        self._claims = True
        if objective is None:
            raise UsageError("a claim needs at_most, at_least or none=True")
        if not measure.applies:
            self._observer.write("note", {"text": f"{measure.measure} is not claimed: out of the inventory's scope"})
            return
        if not self._site.cluster.proxmox:
            measure = self._without_proxmox(measure)
        for guest in measure.guests or (None,):
            value: Objective | float | None = objective
            if isinstance(objective, Objective) and guest:
                value = objective.of(guest)
            if isinstance(value, Objective) and "unwatched" in measure.params:
                value = None  # nobody is promised what nobody watches
            if isinstance(value, Objective):
                raise UsageError(f"{measure.measure} is of no guest, so it has no tier's objective; give a number")
            self._observer.write(
                "claim",
                {
                    "measure": measure.measure,
                    "subject": guest.sid if guest else measure.subject,
                    "params": measure.params,
                    "op": op,
                    "objective": value,
                    "unit": measure.unit,
                },
            )

    def _without_proxmox(self, measure: Measure) -> Measure:
        """The measure as a site without Proxmox has it: what is about HA is not proven, and said so."""
        if UNWATCHED in measure.params:
            return measure
        why = {UNWATCHED: str(NoProxmox())}
        if measure.measure not in WITHOUT_PROXMOX:
            return replace(measure, params={**measure.params, **why})
        lacking = [one.name for one in CLUSTER if one.of_proxmox]
        if measure.measure == "violations" and (gone := [name for name in measure.params["audits"] if name in lacking]):
            left = [name for name in measure.params["audits"] if name not in lacking]
            self.claim(replace(measure, subject=", ".join(gone), params={"audits": gone, **why}), none=True)
            return replace(measure, params={**measure.params, "audits": left})
        return measure

    @contextmanager
    def break_with(
        self,
        make: Callable[[str], Fault],
        kind: str,
        victims: tuple[str, ...],
        at_most: float,
        *,
        dies: bool = True,
        grace: float = GRACE,
        trial: Callable[[str], Fault] | None = None,
    ) -> Iterator[None]:
        """While open the fault is in force; see ``faults.session``.

        Args:
            make: the fault, given the tag that what it leaves on nodes must carry.
            at_most: seconds it may be in force.
            grace: seconds after that the nodes undo it by themselves.
            trial: the same for a moment, where that takes a cut of another kind.
            dies: whether a victim may be reset; else it is asked like everybody whether it was.
        """
        self._faults += 1
        name = f"{kind}-{self._faults}"
        fault = make(self._keeping.tag(name))
        for victim in victims:
            self._allow(fault, victim)
        resets = victims if kind in MAY_RESET and not fault.reach.brief else ()
        logs = BmcLogs(self._observer, (self._site.nodes[name] for name in resets))
        if isinstance(fault, CordPulled | SwitchPulled):
            fault.summon(self._observer)  # before the interlock, whose look must be fresh when they pull
        self._interlock(fault.reach, self._session.standing)
        whole = fault.reach.beside(self._session.standing)
        outermost = self._open == 0
        self._sampler.fast()
        self._ledger.closely(() if self._whole_ceph else victims)
        self._victims.update(victims if dies else ())
        majority = 2 * len(whole.nodes) < len(self._site.nodes)
        self._declared_news += made_by(kind, victims, majority=majority)
        self._open += 1
        try:
            if outermost:  # else everything has been sampled fast for long
                self._clock.sleep(BEFORE_FAULT)
                self._sampler.mark()
            if fault.family in CUTS and (len(fault.reach.nodes) > 1 or fault.reach.site_wide):
                self._try_first(trial or make, f"{name}-trial", unattended=fault.reach.about_quorum)
            with self._session.injected(fault, name, at_most=at_most, grace=grace):
                self._ledger.calmly(after=DIES_LATER if kind in MAY_RESET else 0)
                yield
                self._milestones(victims)
                logs.note()
        except WrongMachine as hit:  # it fell by that hand, and not by the cluster's doing
            self._victims.update(hit.nodes)
            self._declared_news += made_by(kind, hit.nodes, majority=majority)
            raise
        finally:
            self._open -= 1
            self._ledger.calmly()
            if outermost:
                self._sampler.slow()
                self._sampler.mark()

    def _try_first(self, make: Callable[[str], Fault], name: str, *, unattended: bool) -> None:
        """The same cut for a moment: quorum and storage do what was predicted, and all is whole again after it.

        Args:
            unattended: each node is seen to undo it by itself, before a cut is made from which none is left quorate.

        Raises:
            HarmSeen: they do not; it was undone at once.
            PreflightRefused: a node did not undo it by itself.
        """
        fault = make(self._keeping.tag(name))
        begin = self._clock.now().mono
        gone = frozenset().union(*(one.nodes for one in self._session.standing))
        manager = self._site.cluster.manager(self._clock.deadline(READ))
        guarded = [node for node, lrm in manager.lrms.items() if lrm.guarded and node not in gone]
        with self._session.injected(
            fault, name, at_most=TRIAL_LIMIT, grace=TRIAL_GRACE, trial=True, unattended=unattended
        ):
            while self._clock.now().mono < begin + TRIAL * SECOND:
                self._observer.look()
                self._clock.sleep(1)
            if unattended:
                by_themselves = self._observer.broken_at + round((TRIED + corosync.LATE) * SECOND)
                self._clock.sleep_until(max(by_themselves, self._clock.now().mono))
        try:
            wait_until(quorum_whole(but=gone), REJOIN, self._observer)
            # else the watchdogs would count through both cuts, and reset their nodes in the second
            wait_until(guarding(guarded, self._clock.now().utc / SECOND), REJOIN, self._observer)
        except (NotMet, CantTell) as error:
            raise HarmSeen(
                f"a cut of {TRIAL:g} s was undone, and the cluster is not whole again: {error.last_seen}; the longer "
                f"cut was not made, the campaign ends. Type `pvecm status` and `ha-manager status`; where an LRM's "
                f"stamp is old, `journalctl -u watchdog-mux -u pve-ha-lrm` there says why it is not fed; then, once "
                f"repaired, `pytest -m readiness` says whether the site is fit again"
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

        HealFailed when the site is not as it was found within its settling time, or a fault was not seen undone.
        """
        try:
            self._finish()
        finally:
            with self._clock.shielded():
                if left := self._ledger.clear():
                    self._observer.write("audit", {"audit": "canaries", "answer": "cant_tell", "saw": "; ".join(left)})

    def _finish(self) -> None:
        try:
            with self._clock.shielded():
                self._ledger.stop()
                if self._register.touched:  # a refused fault gives no leave to undo what others did meanwhile
                    restore(self._observer, self._found, self._settle)
                    if unhealed := self._observer.unhealed:
                        raise HealFailed(
                            f"the site is DIRTY: it looks as it was found, but {', '.join(unhealed)} was not seen "
                            f"undone; see what was told of it, then type `pveha heal`"
                        )
                    self._register.closed()
                    for one, answer in audit(self._scene()):
                        self._observer.write("audit", {"audit": one.name, "answer": answer.verdict, "saw": answer.saw})
        finally:
            with self._clock.shielded():
                self._agents.stop()
                self._sampler.stop()
                for witness in self._witnesses:
                    witness.stop()
            self._observer.sampler = self._observer.agents = None
            self._observer.witness = _nobody_asks

    def _scene(self) -> Scene:
        news = tuple(self._declared_news)
        return Scene(self._observer, self._found, self.before, frozenset(self._victims), self._since, news)


def _nobody_asks(view: View) -> None:
    """No node is asked beside what the conditions ask."""


def _guest_probes(guest: Guest) -> list[Probe]:
    if not guest.probes and guest.agent:
        return []
    if not guest.probes:
        kinds = f" (only {', '.join(guest.unprobed)}, which this version cannot ask)" if guest.unprobed else ""
        raise UsageError(
            f"guest {guest.sid} has no tcp or agent probe in the inventory{kinds}; add one under guests.probes"
        )
    if len(guest.probes) == 1:
        return [Probe(f"tcp:{guest.sid}", guest.sid, guest.probes[0].host, guest.probes[0].port)]
    return [
        Probe(f"tcp:{guest.sid}:{number}", guest.sid, probe.host, probe.port)
        for number, probe in enumerate(guest.probes, 1)
    ]


def _node_probes(node: Node) -> list[Probe]:
    """A node's API port, once a second: its death is seen, and nobody's log is filled."""
    return [Probe(f"node:{node.name}", f"node:{node.name}", host, port, slow=True) for host, port in node.addresses[:1]]
