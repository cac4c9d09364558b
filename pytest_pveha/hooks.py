"""The pytest side of a run: selection, the gate, verdicts as outcomes, reports and seal in their order."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Generator, Mapping
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from pytest_pveha import fixtures
from pytest_pveha.clock import LiveClock
from pytest_pveha.closing import Papers, reports
from pytest_pveha.draw import Draw, step_of
from pytest_pveha.errors import HealFailed, Interrupted, PvehaError, SiteError, WaitTimeout, printable
from pytest_pveha.foresight import Estimate, Foresight, declared_by, estimate, to_prove, unconsented
from pytest_pveha.history import history, plain
from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.inventory import load
from pytest_pveha.judge.verdict import Verdict
from pytest_pveha.prompt import Prompt
from pytest_pveha.record.journal import read
from pytest_pveha.report.junit import message, properties
from pytest_pveha.report.terminal import by_hand, summary_lines
from pytest_pveha.report.words import clean, length, role
from pytest_pveha.scenario.campaign import Campaign, Plan
from pytest_pveha.scenario.planning import found_scene
from pytest_pveha.scenario.run import Run
from pytest_pveha.selection import (
    ROLES,
    asks_for,
    every_test,
    left_out,
    not_applicable,
    ours,
    row,
    targets,
    title,
    waived,
)

NO_INVENTORY = (
    "these tests need a site. Name one with --inventory FILE, "
    "or try the embedded one: pytest --inventory inventories/sim-3node.yml -m destructive"
)
ONE_BY_ONE = "tests that break a site go one at a time, once, in order"
LOOKS = "it only looks, and was not selected; -m 'destructive or readiness' takes it too"
FAILED = 1
KEPT = (2, 3, 4)
"""Exit codes that stay pytest's: interrupted, internal error, usage."""


def activate(config: pytest.Config, inventory: Path | None) -> None:
    """Fixtures and hooks are registered, for this inventory if there is one.

    Raises:
        pytest.UsageError: the inventory cannot be used.
    """
    loaded = None
    if inventory is not None:
        try:
            loaded = load(config.invocation_params.dir / inventory)
        except PvehaError as error:
            raise pytest.UsageError(str(error)) from None
        if loaded.simulated and config.getoption("--pveha-real-only"):
            raise pytest.UsageError(f"{loaded.path}: the site is simulated, and --pveha-real-only refuses such sites")
        if not config.option.collectonly or planning(config):
            _refuse_company(config)
    for plugin, name in ((fixtures, "pveha-fixtures"), (Hooks(config, loaded), "pveha-hooks")):
        if config.pluginmanager.register(plugin, name) is None:
            raise pytest.UsageError(f"-p no:{name} takes away what keeps a site safe; leave it out, or use -p no:pveha")


def planning(config: pytest.Config) -> bool:
    """Whether the run is only to be planned."""
    return bool(config.getoption("--pveha-plan"))


class Progress:
    """Tells the person at the terminal what is on: which step, for how long, of how long."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._told = ""
        self._when = 0.0
        self._start = 0.0
        self._expected = 0.0

    def begin(self, now: float, expected: float, scenario: str) -> None:
        """A scenario begins that is expected to take so many seconds."""
        self.line(scenario)
        self._start, self._expected, self._told = now, expected, ""

    def tell(self, now: float, waiting_for: str, saw: str) -> None:
        """What is waited for, and what was last seen: printed when it changes, and once a minute."""
        if waiting_for == self._told and now - self._when < 60:
            return
        self._told, self._when = waiting_for, now
        elapsed = now - self._start
        of = f" of about {self._expected / 60:.0f} min" if self._expected else ""
        self.line(f"  [{elapsed / 60:4.1f} min{of}] {waiting_for}{f': {saw}' if saw else ''}")

    def line(self, text: str, **markup: bool) -> None:
        """One line on the terminal, past pytest's capturing; what a site says in it moves no cursor."""
        reporter, text = self._reporter, printable(text).replace("\n", " ")
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        if reporter is None:
            return
        if capture is None:
            reporter.ensure_newline()
            reporter.write_line(text, **markup)
            return
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(text, **markup)

    def section(self, text: str) -> None:
        """A heading."""
        if self._reporter is not None:
            self._reporter.section(text)

    @property
    def _reporter(self) -> Any:
        return self._config.pluginmanager.get_plugin("terminalreporter")


class Hooks:
    """Everything that happens around the tests of one run."""

    def __init__(self, config: pytest.Config, inventory: Inventory | None) -> None:
        self.campaign: Campaign | None = None
        self._config = config
        self._inventory = inventory
        self._progress = Progress(config)
        self._deselected: list[pytest.Item] = []
        self._not_applicable: list[dict[str, str]] = []
        self._waived: list[dict[str, str]] = []
        self._ran: set[str] = set()
        self._papers: Papers | None = None
        self._plan_code = 0
        self._estimate = Estimate()
        self._exit_reason = "finished"
        self._others_failed = False
        self._busy = False
        self._closing = False
        self._draw = Draw.asked_for(config)
        self._steps: dict[str, int] = {}
        self._refused: dict[str, str] = {}
        self._stop = ""
        self._overdue = 0.0
        self._alarm: Any = None
        self._prompt = Prompt(lambda text: self._progress.line(text, yellow=True, bold=True))
        self._stderr = os.dup(2)  # pytest's capturing is not on yet
        self._handlers: dict[int, Any] = {}
        if inventory is not None and not config.option.collectonly:
            self._papers = Papers(config, inventory)

    @property
    def scope(self) -> str:
        """Which targets are taken."""
        given: str | None = self._config.getoption("--pveha-scope")
        return given or self._default_scope

    @property
    def _default_scope(self) -> str:
        if self._draw is not None:  # whom it hits is drawn as well
            return "all"
        return "one-per-role" if self._inventory is not None and self._inventory.simulated else "all"

    # --- selection ---------------------------------------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Targets come from the inventory alone: nothing is contacted while collecting."""
        marker = metafunc.definition.get_closest_marker("roles")
        roles = marker.args if marker else ROLES
        found = targets(self._inventory, self.scope, roles) if self._inventory else {}
        for name in ("victim", "minority", "node", "guest", "link", "served"):
            if asks_for(metafunc, name):
                metafunc.parametrize(name, found.get(name, []), indirect=True)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        """Before ``-m`` it is settled what our tests are; after it, a campaign draws from what is left."""
        self._settle(config, items)
        result = yield
        if self._draw is not None and self._inventory is not None:
            self._draw_from(items, self._draw, self._inventory)
        return result

    def _draw_from(self, items: list[pytest.Item], draw: Draw, inventory: Inventory) -> None:
        """The scenarios of the campaign stand in the place of what they were drawn from."""
        breaking = [item for item in items if ours(item) and declared_by(item) is not None]
        self._refused = {item.nodeid: why for item in breaking if (why := unconsented(item, inventory)) is not None}
        drawn = [
            (step, step_of(item, step))
            for step, item in draw.of([item for item in breaking if item.nodeid not in self._refused])
        ]
        self._steps = {item.nodeid: step for step, item in drawn}
        items[:] = [item for item in items if item not in breaking] + [item for _, item in drawn]

    def _settle(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """A test of ours is destructive unless it says that it only looks; those that do not apply are put aside."""
        mine = [item for item in items if ours(item)]
        if not mine:
            return
        if self._inventory is None:
            raise pytest.UsageError(NO_INVENTORY)
        for item in mine:
            if item.get_closest_marker("readiness") is None and item.get_closest_marker("destructive") is None:
                item.add_marker(pytest.mark.destructive())
        today = LiveClock().utc().date()
        applying = []
        for item in items:
            if ours(item) and (reason := not_applicable(item, self._inventory)) is not None:
                self._not_applicable.append(row(item, reason))
            elif ours(item) and (reason := waived(item, self._inventory, today)) is not None:
                self._waived.append(row(item, reason))
            else:
                applying.append(item)
        items[:] = applying
        for item in items:
            if ours(item):
                declared_by(item)
        if (planning(config) or not config.option.collectonly) and any(
            item.get_closest_marker("flaky") for item in mine
        ):
            raise pytest.UsageError(f"{ONE_BY_ONE}; take away the mark flaky (it would break the site again)")

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """What the person left out is listed; readiness tests are not missed, the gate asks the same."""
        self._deselected += [item for item in items if ours(item)]

    # --- the plan ----------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_finish(self) -> Generator[None, None, None]:
        """A plan is told in its own words, without pytest's tree of what was collected."""
        option = self._config.option
        option.collectonly = option.collectonly and not planning(self._config)
        try:
            return (yield)
        finally:
            option.collectonly = option.collectonly or planning(self._config)

    def _foretell(self, session: pytest.Session, foresight: Foresight) -> None:
        mine = [item for item in session.items if ours(item)]
        lines, granted = foresight.tell(self._plan(session, mine), mine)
        self._progress.section("plan")
        for line in lines:
            self._progress.line(clean(line))
        self._plan_code = 0 if granted else FAILED

    # --- the run -----------------------------------------------------------------------------------------------

    def _tell_what_is_out(self) -> None:
        """Why nothing runs, though there are tests of ours: what ends with pytest's exit code 5 has no report."""
        out = {"not applicable": self._not_applicable, "waived": self._waived}
        for word, rows in out.items():
            for each in rows:
                self._progress.line(f"{word}: {each['id']}: {each['reason']}")
        counts = {**{word: len(rows) for word, rows in out.items()}, "left out": len(self._deselected)}
        if told := ", ".join(f"{count} {word}" for word, count in counts.items() if count):
            self._progress.line(f"no test is left to run ({told}): nothing was broken, and nothing is proven")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """The site is opened before the first test, if any of ours is selected."""
        mine = [item for item in session.items if ours(item)]
        broken = session.testsfailed and not session.config.option.continue_on_collection_errors
        if planning(session.config) and not broken and self._inventory is not None:
            self._foretell(session, Foresight(self._config, self._inventory))
            session.items.clear()  # nothing is left to run for whoever has a loop of his own
            return (yield)
        if not mine and not broken and not session.config.option.collectonly:
            self._tell_what_is_out()
        if not mine or broken or session.config.option.collectonly or self._inventory is None or self._papers is None:
            return (yield)
        self._refuse_unsaid(mine)
        asked = self._plan(session, mine)
        foresight = Foresight(self._config, self._inventory)
        campaign = Campaign(self._inventory, self._papers.root, self._tell, self._prompt)
        self._catch_signals()
        try:
            self._papers.approved = foresight.approval(asked, mine)
            campaign.open(asked, self._papers.approval)
        except SiteError as error:
            pytest.exit(f"not proven: {error}", returncode=6)
        except PvehaError as error:
            raise pytest.UsageError(str(error)) from None
        self.campaign = campaign
        scene = found_scene(self._inventory, campaign.found)
        self._papers.plan = foresight.document(asked, mine, scene)
        self._estimate = estimate(mine, asked.history.seconds, scene)
        if self._papers.approved is not None:
            self._papers.approved.store(campaign.folder)
        self._progress.line(f"site {self._inventory.name}: run {campaign.id}, evidence in {campaign.folder}")
        self._progress.line(f"estimate: {self._estimate}")
        if passed_over := left_out(self._inventory, self.scope):
            self._progress.line(f"scope {self.scope} leaves out: {', '.join(passed_over)}")
        return (yield)

    def _refuse_unsaid(self, mine: list[pytest.Item]) -> None:
        """On a real site nothing is broken unless ``-m`` says so, typed and not left to a setting or an accident.

        Raises:
            pytest.UsageError: destructive tests are selected, and nobody asked for them by that word.
        """
        assert self._inventory is not None
        words = [str(word) for word in self._config.invocation_params.args]
        typed = [after for word, after in pairwise([*words, ""]) if word == "-m"]
        typed += [word.removeprefix("-m") for word in words if word.startswith("-m")]
        if self._inventory.simulated or any("destructive" in each for each in typed):
            return
        if any(item.get_closest_marker("readiness") is None for item in mine):
            raise pytest.UsageError(
                f"{self._inventory.path}: this is a real site, and tests that break things are selected without being "
                f"asked for; nothing was touched. Type -m destructive to break things, or -m readiness only to look"
            )

    def _plan(self, session: pytest.Session, mine: list[pytest.Item]) -> Plan:
        assert self._inventory is not None
        destructive = any(item.get_closest_marker("readiness") is None for item in mine)
        chosen = {plain(item.nodeid) for item in mine} | {each["id"] for each in [*self._not_applicable, *self._waived]}
        absent = {item.nodeid: item for item in [*self._deselected, *every_test(session)] if ours(item)}
        missed = [
            row(item, self._why_missed(item))
            for item in absent.values()
            if item.nodeid not in chosen
            and not_applicable(item, self._inventory) is None
            and (item.get_closest_marker("readiness") is None or not destructive)
        ]
        widths = ("one-per-role", "one-per-room", "all")
        if widths.index(self.scope) < widths.index(self._default_scope):
            missed += [
                {"id": f"scope: {one}", "title": one, "reason": f"scope {self.scope}"}
                for one in left_out(self._inventory, self.scope)
            ]
        told = {each["id"] for each in missed}
        unasked = [
            row(item, LOOKS)
            for item in absent.values()
            if item.nodeid not in chosen | told and not_applicable(item, self._inventory) is None
        ]
        there = {**absent, **{item.nodeid: item for item in mine}}.values()
        model = self._inventory.model
        return Plan(
            scope=self.scope,
            selected=[row(item) for item in mine],
            not_selected=missed,
            not_applicable=self._not_applicable,
            waived=self._waived,
            not_asked=unasked,
            wanted=to_prove([item for item in there if not_applicable(item, self._inventory) is None], self._inventory),
            history=history(self._reports, model.site.name, model.cluster.name, simulated=self._inventory.simulated),
            destructive=destructive,
            draw=None
            if self._draw is None
            else self._draw.to_json([(step, name) for name, step in self._steps.items()]),
        )

    def _why_missed(self, item: pytest.Item) -> str:
        if item.nodeid in self._refused:
            return f"not drawn: {self._refused[item.nodeid]}"
        return "not drawn" if self._draw is not None else "left out on the command line"

    @property
    def _reports(self) -> Path:
        return reports(self._config)

    def _tell(self, waiting_for: str, saw: str) -> None:
        now = self.campaign.clock.now().mono / 1e9 if self.campaign is not None else 0.0
        if self.campaign is not None:
            self._progress.tell(now, waiting_for, saw)

    def _catch_signals(self) -> None:
        """SIGINT and SIGTERM end the present wait; while something is being healed or sealed they only say so."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._interrupted)

    def _release_signals(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        del frame
        name = signal.Signals(number).name
        if self._closing:
            self._say(f"{name}: the evidence is being sealed. Please wait.")
            return
        if self.campaign is None or not self._busy:
            raise KeyboardInterrupt(name)
        # never from here: it would tear a request in two, and the healing needs the same connection
        self._stop = self._stop or name
        self._say(f"{name}: ending the scenario; what is broken is being healed first. Please wait.")
        self.campaign.clock.interrupt()

    def _say(self, text: str) -> None:
        # not by the stream: its lock may be held by whom the signal interrupted
        os.write(self._stderr, f"\n{text}\n".encode())

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool | None:
        """pytest-timeout's alarm ends the present wait, as a signal does: at once it would tear a request in two."""
        if self.campaign is None or not ours(item) or threading.current_thread() is not threading.main_thread():
            return None
        clock = self.campaign.clock

        def ring(number: int, frame: FrameType | None) -> None:
            del number, frame
            self._overdue = float(settings.timeout)
            clock.interrupt()

        self._alarm = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, settings.timeout)
        return True

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_cancel_timer(self) -> bool | None:
        """The alarm is off."""
        if self._alarm is None:
            return None
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._alarm)
        self._alarm = None
        return True

    def _late(self, error: BaseException | None) -> BaseException | None:
        """An interruption that was pytest-timeout's is no interruption of the run."""
        if not isinstance(error, Interrupted) or not self._overdue or self._stop:
            return error
        return WaitTimeout("the test", self._overdue, "it was still on when pytest-timeout rang")

    # --- one test ----------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """While a test of ours is on, a signal is heeded at its next wait; before the next test at the latest."""
        self._busy = self.campaign is not None and ours(item)
        self._overdue = 0.0
        try:
            if self._stop:
                raise KeyboardInterrupt(self._stop)
            return (yield)
        finally:
            self._busy = False
            if self.campaign is not None and self._overdue and not self._stop:
                with contextlib.suppress(Interrupted):  # an alarm that nobody heard is not the next test's
                    self.campaign.clock.sleep(0)

    @pytest.hookimpl(wrapper=True, trylast=True)  # within pytest's own wrappers, which must see every set-up begin
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        """On record as begun; a destructive one only if the gate is open."""
        campaign = self.campaign
        if campaign is None or not ours(item):
            return (yield)
        declared = declared_by(item)
        said = declared.expected if declared else 0.0
        expected = campaign.asked.history.seconds.get(plain(item.nodeid), said)
        self._ran.add(item.nodeid)
        campaign.begin(item.nodeid, title(item), said)
        part = role(item.nodeid)
        self._progress.begin(campaign.clock.now().mono / 1e9, expected, f"{title(item)}{f' [{part}]' if part else ''}")
        try:
            campaign.declare(declared)
            if declared is not None:
                campaign.refuse_destructive()
            return (yield)
        except KeyboardInterrupt as error:  # pytest makes no report of it
            if (late := self._late(error)) is not None and late is not error:
                raise late from None
            self._end(campaign, item, error)
            raise

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """After the body: settled, audited, judged; the verdict is the outcome."""
        campaign = self.campaign
        if campaign is None or not ours(item):
            return (yield)
        error: BaseException | None = None
        try:
            yield
        except BaseException as caught:
            error = self._late(caught)
        run = getattr(item, "funcargs", {}).get("run")
        if isinstance(run, Run):
            try:
                run.finish()
            except HealFailed as dirty:
                if error is not None:
                    dirty.add_note(f"before that: {error}")
                error = dirty
            except PvehaError as trouble:
                error = error or trouble
        self._end(campaign, item, error)
        if isinstance(error, KeyboardInterrupt):
            raise error
        verdict = campaign.verdict_of(item.nodeid)
        self._end_campaign(item, verdict)
        if verdict is None:
            pytest.fail("inconclusive: the journal says nothing of this test", pytrace=False)
        item.user_properties += properties(verdict, simulated=campaign.declared.simulated)
        if error is not None and not isinstance(error, (PvehaError, AssertionError)) and _is_bug(error):
            raise error
        if verdict["verdict"] != "accepted":
            pytest.fail(message(verdict), pytrace=False)

    def _end_campaign(self, item: pytest.Item, verdict: Mapping[str, Any] | None) -> None:
        """A campaign goes no further than the first site that could not be put right, or was harmed."""
        assert self.campaign is not None
        over = self.campaign.over or (verdict is not None and verdict["verdict"] == "dirty" and "the site is dirty")
        if self._draw is not None and over:
            item.session.shouldstop = f"the campaign ends at step {self._steps.get(item.nodeid, 0)}: {over}"

    def _end(self, campaign: Campaign, item: pytest.Item, error: BaseException | None) -> None:
        if error is None:
            campaign.end(item.nodeid, "passed", None, "")
            return
        outcome = "failed"
        if isinstance(error, KeyboardInterrupt):
            outcome = "interrupted"
        elif isinstance(error, pytest.skip.Exception):
            outcome = "skipped"
        notes = "; ".join(getattr(error, "__notes__", []))
        why = (outcome == "interrupted" and self._stop) or str(error) or type(error).__name__
        reason = f"{why} ({notes})" if notes else why
        campaign.end(item.nodeid, outcome, _class_name(error), reason)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A test that never came to its body has its verdict too, and shows one line instead of a traceback."""
        campaign = self.campaign
        excinfo = call.excinfo
        if campaign is not None and ours(item) and call.when == "setup" and excinfo is not None:
            self._end(campaign, item, excinfo.value)
            verdict = campaign.verdict_of(item.nodeid)
            if verdict is not None:
                item.user_properties += properties(verdict, simulated=campaign.declared.simulated)
                report = yield
                if isinstance(excinfo.value, PvehaError):
                    report.longrepr = message(verdict)
                return report
        if campaign is not None and ours(item) and call.when == "teardown" and excinfo is not None:
            campaign.spoilt(item.nodeid, _class_name(excinfo.value), f"when it was over: {excinfo.value}")
        return (yield)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """What could not be collected is no less a failure where all that ran was accepted."""
        self._others_failed = self._others_failed or report.failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """What failed outside of our verdicts: somebody else's test, or a teardown."""
        if report.failed and (report.nodeid not in self._ran or report.when == "teardown"):
            self._others_failed = True

    # --- the end -----------------------------------------------------------------------------------------------

    def pytest_keyboard_interrupt(self) -> None:
        """The run was cut short by a person or a signal."""
        self._exit_reason = "interrupted"

    def pytest_internalerror(self) -> None:
        """The run was cut short by a bug."""
        self._exit_reason = "internal error"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Judged first; sealed last, when everybody else has written his report."""
        campaign, papers = self.campaign, self._papers
        if self._plan_code and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = self._plan_code
        if campaign is None or papers is None:
            self._release_signals()
            if papers is not None:
                papers.withdraw()
            return (yield)
        self._closing = True
        try:
            verdict = self._close(session, campaign, papers)
            try:
                yield
            except Exception:  # another plugin's report went wrong
                self._config.notify_exception(pytest.ExceptionInfo.from_current())
                session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
            sealed = papers.seal(campaign)
            self._conclude(verdict, campaign, sealed)
        finally:
            self._release_signals()
        return None

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self) -> None:
        """Reporters that were withdrawn take their leave like everybody."""
        os.close(self._stderr)
        self._prompt.close()
        if self._papers is not None:
            self._papers.restore()

    def _close(self, session: pytest.Session, campaign: Campaign, papers: Papers) -> Verdict:
        not_run = [item.nodeid for item in session.items if ours(item) and item.nodeid not in self._ran]
        reason = "stopped" if not_run and self._exit_reason == "finished" else self._exit_reason
        verdict = campaign.close(reason, not_run)
        papers.write(campaign, verdict, LiveClock().now().iso())
        code = verdict.exit_code
        if code == 7 or session.exitstatus not in KEPT:
            session.exitstatus = FAILED if self._others_failed and code != 7 else code
        return verdict

    def _conclude(self, verdict: Verdict, campaign: Campaign, sealed: list[str]) -> None:
        """What was proven, and what was not; the verdict is the last word."""
        *told, last = summary_lines(verdict.to_json())
        self._progress.section("proven and not proven")
        if self._estimate.seconds and verdict.spent is not None:
            told.append(f"estimated {length(self._estimate.seconds)}, took {length(verdict.spent.whole)}")
        for line in [*told, f"report:  {clean(str(campaign.folder / 'report.html'))}", *sealed]:
            self._progress.line(line)
        if verdict.verdict == "dirty":
            for line in by_hand(read(campaign.folder / "journal.jsonl"), str(campaign.declared.path)):
                self._progress.line(line, red=True, bold=True)
        self._progress.line(last, red=verdict.verdict == "dirty")


def _refuse_company(config: pytest.Config) -> None:
    """Plugins that run tests again, at once or in random order would break the site again."""
    options = config.option

    def given(name: str) -> Any:
        return getattr(options, name, None)

    refused = [
        text
        for wrong, text in (
            (given("numprocesses") or given("tx"), "-n (tests at the same time on one site)"),
            (given("looponfail"), "--looponfail (it would break the site again)"),
            (given("reruns"), "--reruns (it would break the site again)"),
            ((given("count") or 1) != 1, "--count (it would break the site again)"),
            # the plug-in marks its defaults by a type of their own
            (
                given("random_order_enabled") or type(given("random_order_bucket")) is str,
                "--random-order (from harmless to harsh)",
            ),
            (
                config.pluginmanager.hasplugin("randomly") and given("randomly_reorganize") is not False,
                "pytest-randomly (type -p no:randomly)",
            ),
            (
                given("timeout_method") == "thread" or "thread" in _ini(config, "timeout_method"),
                "--timeout-method=thread (it would end the process with the site still broken; type signal)",
            ),
        )
        if wrong
    ]
    if refused:
        raise pytest.UsageError(f"{ONE_BY_ONE}; leave out {'; '.join(refused)}")


def _ini(config: pytest.Config, name: str) -> str:
    """An ini key that another plugin may have; nothing where there is none."""
    try:
        return str(config.getini(name) or "")
    except ValueError:
        return ""


def _is_bug(error: BaseException) -> bool:
    """Whether pytest should show this error with its traceback: neither an outcome nor one of ours."""
    return not isinstance(error, (pytest.skip.Exception, pytest.fail.Exception))


def _class_name(error: BaseException) -> str:
    """The error's class as the record names it."""
    return "Skipped" if isinstance(error, pytest.skip.Exception) else type(error).__name__
