"""Faults of planned downtime against the simulated site: what they undo by themselves, and what they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import whole_run

from pytest_pveha.embedded import start
from pytest_pveha.errors import PreflightRefused
from pytest_pveha.faults.shutdown import CleanPowerOff, CleanReboot
from pytest_pveha.handles import system
from pytest_pveha.handles.connect import connect
from pytest_pveha.handles.guest import Guests
from pytest_pveha.inventory import load
from pytest_pveha.observe import ha, nodes
from pytest_pveha.observe.answer import Condition
from pytest_pveha.observe.observer import Observer


@contextmanager
def site(monkeypatch: pytest.MonkeyPatch, **simulator: Any) -> Iterator[Observer]:
    """Eyes and hands on a simulated site of that kind."""
    with whole_run.place() as here:
        for name in ("PVEHA_STATE", "PVEHA_RUNTIME"):
            monkeypatch.setenv(name, here.environment[name])
        embedded = start(load(here.inventory(boot_seconds=40, **simulator)))
        clock = embedded.clock("looking")
        found = connect(embedded.inventory, clock)
        try:
            yield Observer(found, lambda kind, data: None)
        finally:
            found.close()
            clock.close()
            embedded.stop()


def test_a_guest_that_holds_a_shutdown_up_is_stopped_after_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before: it may still leave. Then the node goes down, and comes back."""
    with site(monkeypatch, shutdown_policy="migrate", defects=["guest-cannot-migrate"]) as observer:
        clock, cluster = observer.site.clock, observer.site.cluster
        node = observer.site.nodes["pve2"]
        fault = CleanReboot("pve2", node.boot_id(clock.deadline(10)))
        fault.inject(observer)
        clock.sleep(240)
        fault.heal(observer)
        assert system.state(node, clock.deadline(10)) == system.STOPPING
        clock.sleep(30)
        assert cluster.manager(clock.deadline(10)).services["vm:103"].state != "stopped"
        clock.sleep(60)
        fault.heal(observer)
        clock.sleep(150)
        assert cluster.manager(clock.deadline(10)).services["vm:103"].state == "stopped"
        assert node.boot_id(clock.deadline(10)) != fault.boot_id
        assert fault.healed(observer).verdict == "yes"


def test_nobody_is_stopped_where_nothing_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Healing is right even if the fault never came: the node stays up, and so do its guests."""
    with site(monkeypatch) as observer:
        clock = observer.site.clock
        fault = CleanReboot("pve2", observer.site.nodes["pve2"].boot_id(clock.deadline(10)))
        fault.heal(observer)
        assert fault.healed(observer).verdict == "yes"
        assert fault.took_effect(observer).verdict == "no"
        assert observer.site.nodes["pve2"].boot_id(clock.deadline(10)) == fault.boot_id


def test_a_node_that_goes_down_already_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else is at work there; and healing waits until it is really back."""
    with site(monkeypatch) as observer:
        clock = observer.site.clock
        fault = CleanPowerOff("pve2", observer.site.nodes["pve2"].boot_id(clock.deadline(10)))
        fault.inject(observer)
        clock.sleep(5)
        with pytest.raises(PreflightRefused, match="going down already"):
            CleanReboot("pve2", "").preflight(observer)
        fault.heal(observer)  # the chassis is still on: it does nothing yet
        assert fault.healed(observer).verdict == "no"
        clock.sleep(120)
        fault.heal(observer)
        clock.sleep(120)
        assert fault.healed(observer).verdict == "yes"


def test_conditions_of_planned_downtime_can_say_no(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that powers off under `conditional` is fenced, and its guests leave it; before that nothing is so."""
    with site(monkeypatch, shutdown_policy="conditional") as observer:
        clock, victim = observer.site.clock, observer.site.nodes["pve2"]
        guests = Guests(guest for guest in observer.site.guests if guest.preferred_node == "pve2")

        def said(condition: Condition) -> str:
            return condition.ask(observer).verdict

        assert said(nodes.not_fenced(victim)) == "yes"
        assert said(nodes.recovered_or_home(guests, victim)) == "yes"
        assert said(nodes.votes(victim)) == "yes"
        assert said(nodes.empty(victim)) == "no"
        assert said(nodes.frozen(guests, victim)) == "no"
        assert said(nodes.closed_its_watchdog(victim)) == "cant_tell"
        CleanPowerOff("pve2", victim.boot_id(clock.deadline(10))).inject(observer)
        clock.sleep(150)
        assert said(ha.fenced(victim)) == "yes"
        assert said(nodes.not_fenced(victim)) == "no"
        assert said(nodes.recovered_or_home(guests, victim)) == "yes"


def test_a_guest_that_left_without_a_fence_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved by hand, it is elsewhere though no CRM took its node's lock."""
    with site(monkeypatch) as observer:
        clock, victim = observer.site.clock, observer.site.nodes["pve2"]
        observer.site.cluster.migrate("vm:103", "pve3", clock.deadline(10))
        clock.sleep(90)
        guests = Guests(guest for guest in observer.site.guests if guest.sid == "vm:103")
        assert nodes.recovered_or_home(guests, victim).ask(observer).verdict == "no"
