"""Guests asked by their agents: who does not answer, and who only cannot be asked."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_pveha.errors import AuthRefused, ProtocolError, SiteError, Unreachable
from pytest_pveha.handles.agent import AgentAway
from pytest_pveha.handles.guest import Guest
from pytest_pveha.observe.agents import EVERY, AgentProbes

SECOND = 1_000_000_000


class Task:
    """One that is over when its body is."""

    def join(self) -> None:
        """It is."""


class Clock:
    """Time that passes when somebody sleeps; ``rounds`` sleeps end the probes."""

    def __init__(self, rounds: int) -> None:
        self.mono = 0
        self.left = rounds
        self.bodies: list[Callable[[], None]] = []
        self.over: Callable[[], None] = lambda: None

    def now(self) -> Any:
        return SimpleNamespace(mono=self.mono)

    def deadline(self, seconds: float) -> float:
        return seconds

    def spawn(self, name: str, body: Callable[[], None]) -> Task:
        self.bodies.append(body)
        return Task()

    def sleep_until(self, mono: int) -> None:
        self.mono = mono
        self.left -= 1
        if not self.left:
            self.over()


class Site:
    """Agents that answer as they are told, in order; a cluster that may have lost a node."""

    def __init__(self, *answers: SiteError | None, lost: bool = False, mute: bool = False) -> None:
        self.clock = Clock(len(answers))
        self._answers = list(answers)
        self.asked: list[str] = []
        self._lost = lost
        self._mute = mute
        self.cluster = SimpleNamespace(guests=self._guests, membership=self._membership)
        self.home = "n1"

    def _guests(self, deadline: float) -> dict[str, Any]:
        return {"vm:101": SimpleNamespace(node=self.home)}

    def _membership(self, deadline: float) -> Any:
        if self._mute:
            raise Unreachable("nobody answers")
        return SimpleNamespace(online={"n1": not self._lost, "n2": True})

    def inside(self, sid: str, node: str) -> Any:
        self.asked.append(node)
        return SimpleNamespace(ping=self._ping)

    def _ping(self, deadline: float) -> None:
        if (error := self._answers.pop(0)) is not None:
            raise error


def heard(site: Site, *, agent: bool = True) -> tuple[list[dict[str, Any]], AgentProbes]:
    """What is on record of them."""
    lines: list[dict[str, Any]] = []
    probes = AgentProbes(SimpleNamespace(site=site, write=lambda kind, data: lines.append({"kind": kind, **data})))  # type: ignore[arg-type]
    probes.watch([Guest("vm:101", "gold", None, (), agent=agent)])
    site.clock.over = lambda: setattr(probes, "_over", True)
    for body in site.clock.bodies:
        body()
    since = probes.good_since("vm:101")
    probes.stop()
    lines.append({"kind": "good_since", "since": since})
    return lines, probes


def answers(site: Site) -> list[str]:
    """The runs of answers."""
    return [line["answer"] for line in heard(site)[0] if line["kind"] == "samples"]


def test_an_agent_that_answers_is_good() -> None:
    """Every few seconds, by a probe of its own, and since when."""
    lines, _ = heard(Site(None, None, None))
    watch, samples, since = lines
    assert (watch["probe"], watch["subject"], watch["what"]) == ("agent:vm:101", "vm:101", "agent")
    assert watch["period_ms"] == EVERY * 1000
    assert (samples["answer"], samples["count"], samples["worst_gap"]) == ("good", 3, EVERY * SECOND)
    assert since["since"] == 0


@pytest.mark.parametrize(
    ("error", "lost", "answer"),
    [
        (AgentAway("QEMU guest agent is not running"), False, "bad"),
        (Unreachable("595"), True, "bad"),
        (Unreachable("595"), False, "unknown"),
        (ProtocolError("Configuration file does not exist"), False, "unknown"),
        (AuthRefused("403"), False, "unknown"),
    ],
    ids=["away", "node-lost", "no-way", "moved", "refused"],
)
def test_who_cannot_be_asked_is_not_silent(error: SiteError, lost: bool, answer: str) -> None:
    """Bad is what the guest did not answer, or a node that the cluster has lost; all else is not known."""
    assert answers(Site(None, error, lost=lost)) == ["good", answer]


def test_a_cluster_that_does_not_answer_tells_nothing() -> None:
    """Then it is not known whether the node is lost either."""
    assert answers(Site(Unreachable("595"), lost=True, mute=True)) == ["unknown"]


def test_a_guest_that_moved_is_asked_where_it_is() -> None:
    """After an answer that was not good it is looked for anew."""
    site = Site(None, AgentAway("not running"), None)
    site.clock.spawn("move", lambda: None)
    first = site.inside

    def moving(sid: str, node: str) -> Any:
        if len(site.asked) == 1:
            site.home = "n2"
        return first(sid, node)

    site.inside = moving  # type: ignore[method-assign]
    assert answers(site) == ["good", "bad", "good"]
    assert site.asked == ["n1", "n1", "n2"]


def test_who_has_no_such_probe_is_not_asked() -> None:
    """Nothing of it is on record."""
    lines, probes = heard(Site(None), agent=False)
    assert [line["kind"] for line in lines] == ["good_since"]
    assert not probes.alive
