"""Healing goes on where it cannot be written down, and in the order of what it costs to wait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import EvidenceError
from pytest_pveha.faults.mend import by_danger
from pytest_pveha.handles.site import Site
from pytest_pveha.observe.observer import Observer
from pytest_pveha.record.openings import OpenFault


class FakeSite:
    """Only its clock is asked."""

    clock = LiveClock()


def observer(write: Any) -> Observer:
    return Observer(cast("Site", FakeSite()), write)


def test_a_full_disk_stops_nothing_and_is_told_at_the_end() -> None:
    """Every line is tried; what came after the first that failed was done all the same."""
    tried = []

    def full(kind: str, data: Mapping[str, Any]) -> None:
        tried.append(kind)
        raise EvidenceError(f"cannot write {kind}")

    watching = observer(full)

    def heal() -> None:
        with watching.undeterred():
            watching.write("fault.heal", {})
            watching.write("fault.healed", {})

    with pytest.raises(EvidenceError, match=r"cannot write fault\.heal"):
        heal()
    assert tried == ["fault.heal", "fault.healed"]
    with pytest.raises(EvidenceError):
        watching.write("note", {})  # it is the usual one again


def test_what_went_wrong_meanwhile_is_not_hidden() -> None:
    """Another error than the record's passes through as it is."""
    watching = observer(lambda kind, data: None)
    with pytest.raises(KeyError), watching.undeterred():
        raise KeyError


def test_the_most_dangerous_is_undone_first() -> None:
    """Power, then network, then daemons, then maintenance; what nobody knows comes last."""
    kinds = ("Maintenance", "Earthquake", "ServiceStopped", "Partition", "PowerCut")
    faults = [OpenFault(kind, kind, {}, {}, "effective") for kind in kinds]
    assert [fault.type for fault in by_danger(faults)] == [
        "PowerCut", "Partition", "ServiceStopped", "Maintenance", "Earthquake",
    ]  # fmt: skip
