"""Which LRMs and which CRM master are fit for a test: states captured on a control plane of three nodes (PVE 9.2)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from pytest_pveha.clock import SECOND, Instant
from pytest_pveha.handles.cluster import Asked, Lrm, Manager, Service
from pytest_pveha.observe.observer import Observer
from pytest_pveha.readiness.checks import CHECKS

STAMP = 1795811098


def verdict(lrm: Lrm, *, busy: bool, master_silent: int = 5) -> str:
    services = {"vm:103": Service("started", "n3", True)} if busy else {}
    now = Instant(0, (STAMP + master_silent) * SECOND)
    manager = Manager("n1", STAMP, {"n3": "online"}, services, {"n3": lrm}, True, Asked(now, now, "n1"))
    view = SimpleNamespace(manager=manager, trouble="")
    site = SimpleNamespace(nodes=SimpleNamespace(names=("n3",)))
    check = next(check for check in CHECKS if check.name == "lrms")
    return check.ask(cast("Observer", SimpleNamespace(site=site, look=lambda: view))).verdict


@pytest.mark.parametrize(
    ("state", "mode", "busy", "answer"),
    [
        ("active", "active", True, "yes"),
        ("wait_for_agent_lock", "active", False, "yes"),
        ("wait_for_agent_lock", "active", True, "no"),
        # called back from maintenance before its guest had left: it keeps lock and watchdog, and this state
        ("maintenance", "active", True, "yes"),
        ("maintenance", "maintenance", True, "no"),
        ("maintenance", "maintenance", False, "no"),
        ("wait_for_agent_lock", "disarm", True, "no"),
    ],
)
def test_an_lrm_that_guards_its_guests_is_fit(state: str, mode: str, busy: bool, answer: str) -> None:
    """An LRM is fit that serves, and that holds its watchdog where it has guests, whatever it calls its state."""
    assert verdict(Lrm(state, mode, STAMP), busy=busy) == answer


@pytest.mark.parametrize(
    ("state", "mode", "answer"),
    [("wait_for_agent_lock", "active", "cant_tell"), ("maintenance", "maintenance", "no")],
)
def test_beside_a_master_that_does_not_write_no_stamp_is_fresh_or_old(state: str, mode: str, answer: str) -> None:
    """After a cold start the LRMs write for two minutes while the master's last stamp is of before."""
    assert verdict(Lrm(state, mode, STAMP + 7000), busy=False, master_silent=7005) == answer


@pytest.mark.parametrize(("age", "answer"), [(5, "yes"), (30, "yes"), (31, "no"), (17446, "no")])
def test_a_master_that_does_not_write_is_no_live_one(age: int, answer: str) -> None:
    """After a cold start of all nodes the last master stays named for two minutes, and its node is called online."""
    now = Instant(0, (STAMP + age) * SECOND)
    manager = Manager("n2", STAMP, {"n2": "online"}, {}, {}, True, Asked(now, now, "n1"))
    check = next(check for check in CHECKS if check.name == "master")
    said = check.ask(cast("Observer", SimpleNamespace(look=lambda: SimpleNamespace(manager=manager, trouble=""))))
    assert said.verdict == answer
    assert "n2" in said.saw
