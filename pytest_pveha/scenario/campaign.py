"""One run against one site, from the lease to the last line of its journal."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_pveha import __version__
from pytest_pveha.clock import Clock, Deadline, LiveClock
from pytest_pveha.embedded import Embedded, start_or_attach
from pytest_pveha.errors import PreflightRefused, PvehaError, SiteBusy, SiteDirty, SiteError, UnsafeTarget
from pytest_pveha.faults.fault import Fault, Reach
from pytest_pveha.faults.interlock import interlock, losses
from pytest_pveha.faults.keeping import STOP, STORE, Keeping, remembered
from pytest_pveha.faults.session import tell_fired
from pytest_pveha.faults.storage import StorageCut
from pytest_pveha.faults.survey import Terms, look
from pytest_pveha.handles.cluster_lease import RUNS_FOR, ClusterLease
from pytest_pveha.handles.connect import connect
from pytest_pveha.handles.site import Site
from pytest_pveha.history import History
from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.inventory import consent_refusal
from pytest_pveha.judge.verdict import Verdict, judge
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.observe.people import People, Terminal
from pytest_pveha.observe.snapshot import differences, surroundings, take, with_settings
from pytest_pveha.readiness.checks import Finding, run_checks
from pytest_pveha.record.journal import Journal, Line, read
from pytest_pveha.record.lease import Lease
from pytest_pveha.record.openings import OpenRuns, open_runs
from pytest_pveha.record.questions import Desk, Question, Said
from pytest_pveha.scenario.declared import Declared
from pytest_pveha.scenario.objectives import as_json
from pytest_pveha.scenario.run import Run

ASK_NODES = 5.0
"""Seconds between two looks for somebody's wish, left on a node, that the run end."""

RENEW = 120.0
"""Seconds between two renewals of the cluster's lease."""

GLANCE = 3.0
"""Seconds a node may take to say whether somebody wants the run to end; the next one is asked next time."""

WINDOW_END = 300.0
"""Seconds before the consent's window closes at which what is broken is healed."""


UNSAID = (
    "consent: the test does not say what it breaks, so nobody can have agreed to it; "
    "add breaks=(…) to its mark destructive (docs/reference/fixtures.md)"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for: tests by id and title, and what was left out, with the reason."""

    scope: str
    selected: list[dict[str, str]]
    not_selected: list[dict[str, str]] = field(default_factory=list)
    not_applicable: list[dict[str, str]] = field(default_factory=list)
    waived: list[dict[str, str]] = field(default_factory=list)
    not_asked: list[dict[str, str]] = field(default_factory=list)
    """Tests that only look and were not selected: no run is partial for it; questions stay open for it."""
    wanted: list[dict[str, Any]] = field(default_factory=list)
    """What there is to prove: by which fault, in which role, of whom."""
    history: History = field(default_factory=History)
    """What earlier runs proved."""
    destructive: bool = True
    """Whether anything that was selected breaks something."""

    draw: dict[str, Any] | None = None
    """Seed and steps, where the tests were drawn at random."""

    @property
    def whole(self) -> bool:
        """Whether nothing that there is to break was left out."""
        return self.destructive and not self.not_selected


class Campaign:
    """A run in progress: the site, its journal, and the gate before anything destructive."""

    def __init__(
        self,
        inventory: Inventory,
        reports: Path,
        tell: Callable[[str, str], None],
        terminal: Terminal | None = None,
    ) -> None:
        self.declared = inventory
        self.tell = tell
        """Hears, for the person at the terminal, what is waited for and what was last seen."""
        self._reports = reports
        self._terminal = terminal
        self._lease = Lease(inventory.name)
        self._runs: OpenRuns = open_runs(inventory.name, os.environ)
        self._embedded: Embedded | None = None
        self._journal: Journal | None = None
        self._gate: list[Finding] | None = None
        self._supervisor: Any = None
        self._test: str | None = None
        self._declared: Declared | None = Declared()
        self._early: list[tuple[str, dict[str, Any]]] = []
        self._open = False
        self._broken = False
        self._over = ""
        self._cluster: ClusterLease | None = None
        self._kept = False
        self._clear = False
        self._ask_again: Deadline | None = None
        self._renew_again: Deadline | None = None
        self._lease_ends: Deadline | None = None
        self._turn = 0
        self._written: list[Line] = []

    # --- opening -----------------------------------------------------------------------------------------------

    def open(self, plan: Plan, approval: Mapping[str, str] | None = None) -> None:
        """The site is ours, seen whole, and on record as it was found.

        Args:
            approval: who signed the plan as a second person, with which key: it goes on record as it is.

        Raises:
            SiteBusy, SiteDirty: another run is on it, or left it unhealed.
            SiteError: it does not answer.
        """
        self.asked = plan
        self._lease.take()
        try:
            self._refuse_dirty()
            self.clock, bound = self._enter()
            self.site: Site = connect(bound, self.clock)
            self._begin(plan, approval)
        except BaseException:
            self._leave(stop_site=True)
            self._withdraw()
            raise

    def _withdraw(self) -> None:
        """A run that never opened leaves no folder: there is nothing in it that a verdict could be made of."""
        if self._journal is not None:
            self._journal.close()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # others' runs are there
                self.folder.parent.rmdir()

    def _refuse_dirty(self) -> None:
        left = self._runs.list()
        if left:
            raise SiteDirty(
                f"site {self.declared.name}: the run {left[0]} left something that is not healed, so nothing new may "
                f"be broken. Type: pveha heal --inventory {self.declared.path}"
            )

    def _enter(self) -> tuple[Clock, Inventory]:
        if not self.declared.simulated:
            return LiveClock(), self.declared
        self._embedded = start_or_attach(self.declared)
        return self._embedded.clock(), self._embedded.inventory

    def _begin(self, plan: Plan, approval: Mapping[str, str] | None) -> None:
        real = LiveClock().now()
        self.id = secrets.token_hex(4)
        stamp = real.iso()[:19].replace("-", "").replace(":", "")
        self.folder = self._reports / self.declared.name / f"{stamp}Z-{self.id}"
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700)
        (self.folder / "raw").mkdir(mode=0o700)
        self._journal = Journal(self.folder / "journal.jsonl", self.clock)
        self.keeping = Keeping(self.site, self.id)
        self.observer = Observer(self.site, self._write, self.tell)
        self.observer.people = People(self.observer, Desk(self.id), self._terminal, self.stop_asked, self._keep_asked)
        self.tell("looking at the site", "")
        self.found = with_settings(self.observer, take(self.observer))
        if self.found.cluster != self.declared.model.cluster.name:
            raise UnsafeTarget(
                f"what answers is cluster {self.found.cluster!r}, the inventory is for "
                f"{self.declared.model.cluster.name!r}: wrong endpoint, or wrong inventory. Nothing was touched."
            )
        self.versions = self._ask_versions()
        self._open = True
        self._write(
            "run.open",
            {
                "run": self.id,
                "site": self.declared.name,
                "simulated": self.declared.simulated,
                "proxmox": self.site.cluster.proxmox,
                "cluster": self.found.cluster,
                "pveha": __version__,
                "pve": self.versions,
                "inventory_sha256": self.declared.sha256,
                "scope": plan.scope,
                "partial": bool(plan.not_selected),
                "selected": plan.selected,
                "not_selected": plan.not_selected,
                "not_applicable": plan.not_applicable,
                "waived": plan.waived,
                "not_asked": plan.not_asked,
                "objectives": as_json(self.declared),
                "approval": approval,
                "campaign": plan.draw,
            },
        )
        for kind, data in self._early:
            self._write(kind, data)
        self._write("history", {"earlier": plan.history.to_json(), "wanted": plan.wanted})
        self._write("snapshot", {"as": "found", "site": self.found.to_json()})

    def _ask_versions(self) -> dict[str, str]:
        found = {}
        for node in self.site.nodes:
            try:
                found[node.name] = self.site.cluster.versions(self.clock.deadline(READ), node.name)
            except SiteError:
                found[node.name] = "unknown"
        return found

    def _write(self, kind: str, data: dict[str, Any]) -> None:
        assert self._journal is not None
        if not self._open:  # what the first look saw is told after the line that opens the run
            self._early.append((kind, data))
            return
        self._written.append(self._journal.write(kind, data, self._test))

    @property
    def in_test(self) -> bool:
        """Whether a test is under way: then a signal ends its present wait instead of the process."""
        return self._test is not None

    # --- tests -------------------------------------------------------------------------------------------------

    def gate(self) -> list[Finding]:
        """The readiness checks, asked once a run, before the first destructive set-up."""
        if self._gate is None:
            test, self._test = self._test, None
            try:
                self._gate = run_checks(self.observer)
                self._write("gate", {"checks": [finding.to_json() for finding in self._gate]})
            finally:
                self._test = test
        return self._gate

    def allow(self, fault: Fault, target: str) -> None:
        """Return only if the test said that it breaks this, and the site's owner consents to it on that target.

        Raises:
            UnsafeTarget: not said, or not consented to; nothing was touched.
        """
        said = self._declared
        if said is None:
            raise UnsafeTarget(
                f"the test only looks, by its mark readiness, so it may not inject a {fault.kind}; "
                "take that mark away from it"
            )
        self._said_something()
        if said.breaks and fault.kind not in (*said.breaks, *said.may):
            raise UnsafeTarget(
                f"the test says that it breaks {', '.join(said.breaks)}, and asks for a {fault.kind}, which nobody "
                "agreed to; add it to breaks=(…) in its mark destructive"
            )
        self._consented(fault.family, target)
        self._not_too_long(fault)

    def _not_too_long(self, fault: Fault) -> None:
        """A storage is cut off for no longer than somebody agreed to."""
        consent = self.declared.model.consent
        if consent is None or not isinstance(fault, StorageCut) or fault.lasting <= consent.storage_cut:
            return
        raise UnsafeTarget(
            f"{self.declared.path}: consent.storage_cut: is {consent.storage_cut:g} s, and the test cuts "
            f"{fault.storage} off for {fault.lasting:g} s; have that granted, or cut it for less long"
        )

    def _said_something(self) -> None:
        if not (self._declared and self._declared.breaks) and not self.declared.simulated:
            raise UnsafeTarget(f"{self.declared.path}: {UNSAID}")

    def _consented(self, family: str | None, target: str | None) -> None:
        refusal = consent_refusal(
            self.declared,
            now=LiveClock().utc(),
            cluster_name=self.found.cluster,
            node_names=sorted(self.found.nodes),
            fault=family,
            target=target,
            site_reset=self._declared is not None and self._declared.site_reset,
            combined=self._declared is not None and self._declared.combined,
        )
        if refusal:
            raise UnsafeTarget(refusal)

    def interlock(self, reach: Reach, standing: Sequence[Reach]) -> None:
        """Return only if the site, as it is now, survives that loss beside what is lost; else PreflightRefused."""
        said = self.declared.simulated or (self._declared is not None and self._declared.site_reset)
        if not said and reach.about_quorum and not reach.brief:
            raise PreflightRefused(
                "this fault takes the quorum away, which can reset more than its victim, and the test does not say so; "
                "add site_reset=True to its mark destructive, and have consent.site_reset granted"
            )
        if not said and reach.site_wide:
            raise PreflightRefused(
                "this fault takes more than one node away, or could, and the test does not say so; "
                "add site_reset=True to its mark destructive, and have consent.site_reset granted"
            )
        state = interlock(lambda whole: look(self.observer, self.terms, whole), reach, standing)
        if (told := losses(state, reach)) is not None:
            self.observer.write("note", {"text": f"expected losses: {told}"})
            self.observer.tell("expected losses", told)

    @property
    def terms(self) -> Terms:
        """What the inventory says that the live site cannot."""
        device = self.declared.model.quorum_device
        return Terms(self.declared.permitted, self.declared.never_touch, device.algorithm if device else None)

    @property
    def over(self) -> str:
        """Why nothing more may be broken in this run; empty while it may."""
        return self._over or ("the site is dirty" if self._broken else "")

    def declare(self, declared: Declared | None) -> None:
        """Until it ends, the present test is held to what it says that it breaks; None: it only looks."""
        self._declared = declared

    def refuse_destructive(self) -> None:
        """Return only if a destructive test may begin.

        Raises:
            UnsafeTarget: no consent, or it does not say what for.
            SiteBusy, SiteDirty: another controller is on the cluster, or left something on its nodes.
            PreflightRefused: the gate is shut, or an earlier fault was not healed.
        """
        for family in (self._declared and self._declared.families) or (None,):
            self._consented(family, None)
        self._said_something()
        self._hold()
        if self._over:
            raise PreflightRefused(f"the campaign has ended before this test: {self._over}")
        if self._broken:
            raise PreflightRefused("an earlier test left the site dirty; type `pveha heal` first")
        shut = [finding for finding in self.gate() if finding.answer.verdict not in ("yes", "not_there")]
        if shut:
            what = "; ".join(f"{row.check.title}: {row.answer.saw} ({row.check.advice})" for row in shut)
            raise PreflightRefused(f"the gate is shut, the site is not fit to be broken: {what}")

    def _hold(self) -> None:
        """The cluster is ours, as every other controller sees, and nothing is left on its nodes by an earlier run."""
        if self._cluster is None:
            cluster = ClusterLease(
                self.site.lease_on, self.clock, self.id, socket.gethostname(), os.getpid(), self.site.lease_folder
            )
            cluster.take()
            self._cluster = cluster
            self._renewed()
        if self._clear:
            return
        left = sorted(set(remembered(self.site)) - {self.id})
        self._clear = not left
        if left:
            raise SiteDirty(
                f"site {self.declared.name}: its nodes remember run {', '.join(left)}, which left something "
                f"unhealed, so nothing new may be broken. Type: pveha heal --inventory {self.declared.path}"
            )

    def _renewed(self) -> None:
        self._renew_again, self._lease_ends = self.clock.deadline(RENEW), self.clock.deadline(RUNS_FOR)

    def begin(self, test: str, title: str, expected: float, roles: dict[str, str] | None = None) -> None:
        """Lines are this test's from now on; said again when its roles are known."""
        self._test = test
        self._write("test.open", {"id": test, "title": title, "roles": roles or {}, "expected_seconds": expected})

    def run(self, settle: float, seed: int) -> Run:
        """The scenario of the present test."""
        before = take(self.observer)
        return Run(
            self.observer,
            found=self.found,
            before=before,
            register=self,
            keeping=self.keeping,
            allow=self.allow,
            interlock=self.interlock,
            settle=settle,
            seed=seed,
        )

    def end(self, test: str, outcome: str, error: str | None, reason: str) -> None:
        """The test is over; nothing more belongs to it."""
        if self._test == test:
            self._write("test.close", {"outcome": outcome, "error": error, "reason": reason})
            self._test = None
        self._declared = Declared()
        if error == "HealFailed":
            self._broken = True
        if error in ("HarmSeen", "StopAsked", "WrongMachine"):
            self._over = reason

    def spoilt(self, test: str, error: str, reason: str) -> None:
        """The test was over, and its clearing away went wrong: what it proved is not to be relied on."""
        assert self._journal is not None
        line = self._journal.write("test.close", {"outcome": "error", "error": error, "reason": reason}, test)
        self._written.append(line)

    def verdict_of(self, test: str) -> dict[str, Any] | None:
        """What the judge makes of that test, from its lines in the journal."""
        lines = [line for line in self._written if line.kind == "run.open" or line.test == test]
        rows: list[dict[str, Any]] = judge(lines).to_json()["tests"]
        return next((row for row in rows if row["id"] == test), None)

    def judged(self) -> Verdict:
        """What the judge makes of the run so far."""
        return judge(read(self.folder / "journal.jsonl", tolerant_tail=True))

    # --- the register of what must be healed ---------------------------------------------------------------------

    def opened(self) -> None:
        """This run is on the register, here and on the nodes, and somebody will heal if we die."""
        self._runs.add(self.folder)
        if self._supervisor is None:
            from pytest_pveha.supervisor import Supervisor

            self._supervisor = Supervisor(self.folder, self.declared.path)
        if not self._kept:
            self._kept = True
            about = {"site": self.declared.name, "cluster": self.found.cluster, "host": socket.gethostname()}
            self.keeping.begin({**about, "pveha": __version__, "found": self.found.to_json()})

    def _keep_asked(self, question: Question, said: Said | None) -> bool:
        """The nodes know what people were asked, as long as they know of anything to undo; whether a majority does."""
        return self._kept and self.keeping.asked(question, said)

    def closed(self) -> None:
        """Nothing of this run is left to heal, here or on the nodes."""
        for fault, fired in self.keeping.clear().items():
            tell_fired(self._write, fault, fired)
        self._kept = False
        self.observer.people.clear()
        self._runs.remove(self.folder)

    def stop_asked(self) -> str | None:
        """Why the campaign is to end: somebody typed ``pveha stop``, here or elsewhere, the consent's window is about
        to close, or the cluster is no longer ours."""
        return self._lease.stop_asked() or self._window_ends() or self._asked_on_a_node() or self._lease_lost()

    def _window_ends(self) -> str | None:
        consent = self.declared.model.consent
        if consent is None or self.declared.simulated:
            return None
        if (consent.not_after - LiveClock().utc()).total_seconds() >= WINDOW_END:
            return None
        return f"the consent's window closes at {consent.not_after.isoformat()}"

    def _asked_on_a_node(self) -> str | None:
        """One node a time is asked, in turn, and none that may be down because of us."""
        names = [name for name in self.site.nodes.names if name not in self.site.cluster.shunned]
        if not names or (self._ask_again is not None and not self._ask_again.expired()):
            return None
        self._ask_again = self.clock.deadline(ASK_NODES)
        self._turn += 1
        node = self.site.nodes[names[self._turn % len(names)]]
        try:
            if STOP not in node.disk.names(f"{STORE}/{self.id}", self.clock.deadline(GLANCE)):
                return None
            why = node.disk.read(f"{STORE}/{self.id}/{STOP}", self.clock.deadline(GLANCE)).strip()
        except SiteError:
            return None
        return f"{why or 'no reason given'} (asked on {node.name})"

    def _lease_lost(self) -> str | None:
        if self._cluster is None or self._renew_again is None or not self._renew_again.expired():
            return None
        self._renew_again = self.clock.deadline(ASK_NODES)
        try:
            self._cluster.renew(self.site.cluster.shunned)
        except SiteBusy as lost:
            return str(lost)
        except SiteError as error:  # without quorum nobody can write; ours still runs
            ended = self._lease_ends is not None and self._lease_ends.expired()
            return f"the cluster's lease ran out and could not be renewed: {error}" if ended else None
        self._renewed()
        return None

    # --- closing -----------------------------------------------------------------------------------------------

    def close(self, exit_reason: str, not_run: list[str]) -> Verdict:
        """The journal is complete; the site is compared with how it was found, and left."""
        with contextlib.suppress(PvehaError), self.clock.shielded():
            left = with_settings(self.observer, take(self.observer))
            rows = {"differences": differences(self.found, left), "surroundings": surroundings(self.found, left)}
            self._write("snapshot", {"as": "left", "site": left.to_json(), **rows})
        times = {"waited": self.observer.waited, "watched": self.observer.watched}
        try:
            self._write("run.close", {"exit_reason": exit_reason, "not_run": not_run, **times})
            assert self._journal is not None
            self._journal.close()
            return self.judged()
        finally:  # the site is given back, too, where nothing more can be written
            self._leave(stop_site=not self._runs.list())

    def _leave(self, *, stop_site: bool) -> None:
        if self._supervisor is not None:
            self._supervisor.dismiss()
        if self._cluster is not None:
            with contextlib.suppress(PvehaError), self.clock.shielded():
                self._cluster.give_back()
        if hasattr(self, "site"):
            self.site.close()
        if self._embedded is not None:
            clock = getattr(self, "clock", None)
            with contextlib.suppress(PvehaError):
                if clock is not None:
                    clock.close()
            others = clock is None and self._embedded.found  # somebody else's run is on it
            if stop_site and not self._embedded.paced and not others:
                self._embedded.stop()
        self._lease.give_back()
