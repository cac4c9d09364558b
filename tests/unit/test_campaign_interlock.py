"""A loss of quorum that lasts must be declared and agreed to; one that is over before a watchdog minds need not be."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_pveha.errors import PreflightRefused, UnsafeTarget
from pytest_pveha.faults.fault import Reach
from pytest_pveha.faults.process import ServiceStopped
from pytest_pveha.faults.storage import StorageCut
from pytest_pveha.scenario import campaign
from pytest_pveha.scenario.campaign import Campaign
from pytest_pveha.scenario.declared import Declared
from tests.unit.test_interlock import HEALTHY

SITE = Reach(frozenset({"n1", "n2", "n3"}), about_quorum=True)


def asked(reach: Reach, *, site_reset: bool, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is on record of a fault that is let pass on a real site, by a test that says so or does not."""
    told: list[Any] = []
    monkeypatch.setattr(campaign, "interlock", lambda look, reach, standing: HEALTHY)
    model = SimpleNamespace(quorum_device=None)
    fake = SimpleNamespace(
        terms=None,
        declared=SimpleNamespace(simulated=False, permitted=None, never_touch=frozenset(), model=model),
        observer=SimpleNamespace(write=lambda kind, data: told.append(data["text"]), tell=lambda what, saw: None),
        _declared=Declared(site_reset=site_reset),
    )
    Campaign.interlock(cast("Campaign", fake), reach, ())
    return told


def test_a_lasting_loss_of_quorum_must_be_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the mark it is refused; with it what goes with the nodes is told first."""
    with pytest.raises(PreflightRefused, match="add site_reset=True to its mark"):
        asked(SITE, site_reset=False, monkeypatch=monkeypatch)
    (told,) = asked(SITE, site_reset=True, monkeypatch=monkeypatch)
    assert told.startswith("expected losses: quorum is taken from all nodes: n1, n2, n3 may be reset")


def test_a_brief_one_need_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """It resets nobody, and loses nothing."""
    assert asked(replace(SITE, brief=38.0), site_reset=False, monkeypatch=monkeypatch) == []


def test_a_fault_of_a_whole_room_needs_a_word_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one node at once, or what could be that, is refused on a real site unless the test says so."""
    room = Reach(frozenset({"n1"}), site_wide=True)
    with pytest.raises(PreflightRefused, match="takes more than one node away, or could, and the test does not say so"):
        asked(room, site_reset=False, monkeypatch=monkeypatch)
    assert asked(room, site_reset=True, monkeypatch=monkeypatch) == []


def test_a_storage_is_cut_no_longer_than_was_agreed() -> None:
    """Half a minute was agreed to: not a second more, and without a consent to go by nothing is asked here."""

    def cut(lasting: float, consent: object) -> None:
        fault = StorageCut("t", ("n1",), "nfs", (("192.0.2.5", 2049),), (), lasting, lasting + 15, None)
        declared = SimpleNamespace(path="prod.yml", model=SimpleNamespace(consent=consent))
        Campaign._not_too_long(cast("Campaign", SimpleNamespace(declared=declared)), fault)

    agreed = SimpleNamespace(storage_cut=30.0)
    cut(30.0, agreed)
    cut(90.0, None)
    with pytest.raises(UnsafeTarget, match=r"consent\.storage_cut: is 30 s, and the test cuts nfs off for 31 s"):
        cut(31.0, agreed)


@pytest.mark.parametrize(
    ("granted", "may", "told"),
    [
        ({"power", "process"}, ("service-stopped",), ""),
        ({"power"}, ("service-stopped",), "process is not granted"),
        ({"power", "process"}, (), "asks for a service-stopped, which nobody agreed to"),
    ],
)
def test_what_a_test_may_do_besides_needs_consent_of_its_own(
    granted: set[str], may: tuple[str, ...], told: str
) -> None:
    """It is let through only where its family is granted; and nothing that the test did not say."""

    def consented(family: str, target: str) -> None:
        if family not in granted:
            raise UnsafeTarget(f"{family} is not granted")

    fake = SimpleNamespace(
        _declared=Declared(breaks=("power-cut",), may=may),
        _said_something=lambda: None,
        _consented=consented,
        _not_too_long=lambda fault: None,
    )
    fault = ServiceStopped("n1", "pve-ha-crm", 812)
    if not told:
        Campaign.allow(cast("Campaign", fake), fault, "n1")
        return
    with pytest.raises(UnsafeTarget, match=told):
        Campaign.allow(cast("Campaign", fake), fault, "n1")
