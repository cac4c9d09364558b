"""A run in this process, without a pytest around it: for what is refused, which is over before anything happens."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from whole_run import Place

from pytest_pveha import embedded
from pytest_pveha.errors import PvehaError
from pytest_pveha.faults.fault import Reach
from pytest_pveha.faults.interlock import RULES
from pytest_pveha.faults.survey import look
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import load
from pytest_pveha.record.journal import read
from pytest_pveha.scenario.breaking import Faults
from pytest_pveha.scenario.campaign import Campaign, Plan
from pytest_pveha.scenario.declared import Declared

Wish = Callable[[Faults, Site], AbstractContextManager[None]]
"""A fault that a test asks for."""
Meanwhile = Callable[[Site], AbstractContextManager[None]]
"""What somebody does when the gate has been passed, and takes back again."""


@dataclass(frozen=True)
class Answer:
    """How a wish was answered."""

    reason: str
    verdict: str
    said: Mapping[str, str]
    """The interlock's rules that speak against it now, each with its words, asked once more one by one."""
    where: str
    """The file that refused."""


def cut(node: str) -> Wish:
    """That node's power."""
    return lambda faults, site: faults.power_cut(site.nodes[node])


def partition(node: str) -> Wish:
    """That node, from the others."""
    return lambda faults, site: faults.partition(Nodes([site.nodes[node]]))


def typed(site: Site, node: str, *words: str) -> None:
    """Somebody types that on the node."""
    site.nodes[node].act(site.clock.deadline(60), *words)


def by_hand(node: str, there: tuple[str, ...], back: tuple[str, ...], wait: float = 0) -> Meanwhile:
    """Somebody types the one on that node, and the other when it was noticed."""

    @contextmanager
    def typing(site: Site) -> Iterator[None]:
        typed(site, node, *there)
        site.clock.sleep(wait)
        yield
        typed(site, node, *back)
        site.clock.sleep(wait)

    return typing


def without_ssh(*nodes: str) -> Meanwhile:
    """These nodes keep us off for a while, as PVE 9's sshd does with whoever failed to log in several times."""

    @contextmanager
    def kept_off(site: Site) -> Iterator[None]:
        for node in nodes:
            typed(site, node, "systemd-run", "--unit=again", "--on-active=300", "systemctl", "start", "sshd")
            typed(site, node, "systemctl", "stop", "sshd")
            site.nodes[node].ssh.close()
        yield
        site.clock.sleep(400)

    return kept_off


def nothing(site: Site) -> AbstractContextManager[None]:
    """Nobody does anything."""
    return nullcontext()


def at_home(here: Place) -> AbstractContextManager[Any]:
    """Runs that are made now keep there what they keep."""
    return mock.patch.dict(os.environ, PVEHA_STATE=str(here.state), PVEHA_RUNTIME=str(here.folder / "run"))


def bury(process: int | None) -> None:
    """That site's process, which was told to end, has ended."""
    for each in embedded._started:
        if each.pid == process:
            each.wait(30)


def opened(here: Place, inventory: Path) -> Campaign:
    """A run of that inventory, opened."""
    run = Campaign(load(inventory), here.reports, lambda waiting_for, saw: None)
    run.open(Plan("all", []))
    return run


@contextmanager
def campaign(here: Place, blocks: Mapping[str, Any] | None = None, **simulator: Any) -> Iterator[Campaign]:
    """A run that is open on a site of its own; when it is closed nothing was broken, and all is as it was found."""
    with at_home(here):
        run = opened(here, here.inventory(blocks, **simulator))
        process = here.site_process()
        try:
            yield run
        finally:
            verdict = run.close("finished", [])
            bury(process)
    journal = read(run.folder / "journal.jsonl")
    assert not any(line.kind.startswith("fault.") for line in journal)
    left = next(line.data for line in journal if line.kind == "snapshot" and line.data["as"] == "left")
    assert left["differences"] == []
    assert [each for each in left["surroundings"] if not each.startswith("not compared")] == []
    assert here.open_runs() == []
    assert verdict.exit_code


def refused(run: Campaign, test: str, wish: Wish, breaks: tuple[str, ...], meanwhile: Meanwhile = nothing) -> Answer:
    """How the run refuses that wish of a test which says that it breaks this."""
    error: PvehaError | None = None
    reaches: list[Reach] = []
    said: dict[str, str] = {}
    asked = run.interlock

    def noting(reach: Reach, standing: Sequence[Reach]) -> None:
        reaches.append(reach)
        asked(reach, standing)

    run.begin(test, test, 0)
    run.declare(Declared(breaks=breaks, site_reset=True))
    try:
        run.refuse_destructive()
        with mock.patch.object(run, "interlock", noting):
            scenario = run.run(600, 1)
        with meanwhile(run.site):
            try:
                with wish(Faults(scenario), run.site):
                    pass
            except PvehaError as refusal:
                error = refusal
            said = {name: text for reach in reaches for name, text in _against(run, reach).items()}
            scenario.finish()
    except PvehaError as refusal:
        error = error or refusal
    assert error is not None, f"{test}: it was not refused"
    run.end(test, "failed", type(error).__name__, str(error))
    row = run.verdict_of(test)
    assert row is not None
    assert row["reason"] == str(error)
    return Answer(str(error), row["verdict"], said, raised_in(error))


def raised_in(error: BaseException) -> str:
    """The file from which it was raised."""
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename).name


def _against(run: Campaign, reach: Reach) -> dict[str, str]:
    state = look(run.observer, run.terms, reach)
    return {rule.__name__: text for rule in RULES if (text := rule(state, reach)) is not None}
