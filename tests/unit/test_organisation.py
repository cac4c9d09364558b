"""What people promise, asked of the inventory and of earlier runs: yes, no, or not to be told."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from inventory_texts import SIMULATED

from pytest_pveha.clock import SECOND, Instant
from pytest_pveha.inventory import Site, load
from pytest_pveha.observe.observer import Observer
from pytest_pveha.readiness import organisation
from pytest_pveha.readiness.check import Check

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = 86400.0


def at(moment: datetime) -> Observer:
    """Eyes of which only the clock is asked."""
    now = Instant(0, round(moment.timestamp()) * SECOND)
    return cast("Observer", SimpleNamespace(site=SimpleNamespace(clock=SimpleNamespace(now=lambda: now))))


def site(tmp_path: Path, more: str = "") -> Site:
    path = tmp_path / "site.yml"
    path.write_text(SIMULATED + more)
    return load(path)


def answer(check: Check | str, moment: datetime = NOW) -> tuple[str, str]:
    assert isinstance(check, Check), check
    found = check.ask(at(moment))
    return found.verdict, found.saw


@pytest.mark.parametrize(
    ("networks", "verdict", "saw"),
    [
        ({"bmc": "oob", "corosync0": "ring", "guest": "[sw1, sw2]"}, "yes", "use none of these"),
        ({"bmc": "oob", "corosync0": "oob"}, "no", "corosync0 over oob"),
        ({"bmc": "[oob, sw2]", "guest": "[sw1, sw2]"}, "no", "guest over sw2"),
    ],
)
def test_fencing_has_switches_of_its_own(tmp_path: Path, networks: dict[str, str], verdict: str, saw: str) -> None:
    """One switch that both use is one too many."""
    found = answer(organisation.fence_network(site(tmp_path, _networks(networks))))
    assert found[0] == verdict
    assert saw in found[1]


@pytest.mark.parametrize(
    ("networks", "why"),
    [
        ({}, "networks.bmc.switch"),
        ({"bmc": "", "guest": "sw1"}, "networks.bmc.switch"),
        ({"bmc": "oob", "guest": "", "corosync0": "ring"}, "which switch guest uses"),
        ({"bmc": "oob"}, "no network but the BMCs'"),
    ],
)
def test_what_the_inventory_does_not_say_is_no_answer(tmp_path: Path, networks: dict[str, str], why: str) -> None:
    """No network is taken to be apart because nobody wrote down where it goes."""
    found = organisation.fence_network(site(tmp_path, _networks(networks)))
    assert isinstance(found, str)
    assert why in found


def _networks(networks: dict[str, str]) -> str:
    rows = [
        f"  {name}: {{interface: vmbr{number}{f', switch: {switch}' if switch else ''}}}\n"
        for number, (name, switch) in enumerate(networks.items())
    ]
    return "networks:\n" + "".join(rows) if rows else ""


ORGANISATION = """
organisation:
  runbook: runbook.md
  acknowledged_by: Platform team
  acknowledged_on: 2026-02-01
  on_call: team@example.org
  revalidate_every: 90 days
"""


def test_the_runbook_is_there_and_known(tmp_path: Path) -> None:
    """Yes with its checksum; no without the file, with an empty one, and when the acknowledgement is too old."""
    assert isinstance(organisation.runbook(site(tmp_path)), str)
    check = organisation.runbook(site(tmp_path, ORGANISATION))
    assert answer(check)[0] == "no"
    (tmp_path / "runbook.md").write_text("\n")
    assert answer(check) == ("no", "runbook.md is empty")
    (tmp_path / "runbook.md").write_text("Call the team.\n")
    verdict, saw = answer(check)
    assert verdict == "yes"
    assert "acknowledged by Platform team on 2026-02-01, 28 days ago; SHA-256 " in saw
    late = datetime(2026, 5, 10, tzinfo=UTC)
    assert answer(check, late) == (
        "no",
        "runbook.md, acknowledged by Platform team on 2026-02-01, 98 days ago; it is to be every 90 days",
    )


def test_an_acknowledgement_to_come_is_none(tmp_path: Path) -> None:
    """A day in the future is a slip of the pen, or a lie."""
    (tmp_path / "r").write_text("x")
    found = organisation.known(tmp_path / "r", "me", date(2026, 3, 2), 90 * DAY, date(2026, 3, 1))
    assert found.verdict == "no"


@pytest.mark.parametrize(
    ("days", "then", "now", "repeats", "verdict", "saw"),
    [
        (20, "9.1.8", "9.1.8", False, "yes", "run r1 proved all of it 20 days ago, with the versions of now"),
        (91, "9.1.8", "9.1.8", True, "no", "it is to be proven every 90 days"),
        (20, "9.1.8", "9.1.9", False, "no", "pve1 9.1.8 → 9.1.9, and nobody has proven it again"),
        (20, "9.1.8", "9.1.9", True, "yes", "this run is the repetition"),
        (20, "9.1.8", "unknown", True, "cant_tell", "which version runs on pve1 is not known"),
        (20, "unknown", "9.1.9", False, "cant_tell", "pve1"),
    ],
)
def test_all_is_repeated(tmp_path: Path, days: int, then: str, now: str, repeats: bool, verdict: str, saw: str) -> None:
    """In time, and after each update; a run that breaks everything again is that repetition."""
    last = ("r1", datetime.fromtimestamp(NOW.timestamp() - days * DAY, UTC).isoformat(), {"pve1": then})
    versions: Any = lambda: {"pve1": now}  # noqa: E731
    check = organisation.repeated(site(tmp_path, ORGANISATION), last, versions, repeats=repeats)
    found = answer(check)
    assert found[0] == verdict
    assert saw in found[1]


def test_a_node_that_was_not_there_then_is_a_change(tmp_path: Path) -> None:
    """What holds for three nodes was not proven of four."""
    last = ("r1", NOW.isoformat(), {"pve1": "9.1.9"})
    two: Any = lambda: {"pve1": "9.1.9", "pve2": "9.1.9"}  # noqa: E731
    verdict, saw = answer(organisation.repeated(site(tmp_path, ORGANISATION), last, two, repeats=False))
    assert verdict == "no"
    assert "pve2 absent → 9.1.9" in saw


def test_nothing_is_repeated_where_nothing_was(tmp_path: Path) -> None:
    """The first run repeats nothing, and without an interval nobody knows what would be late."""
    none: Any = dict
    assert "no earlier run" in str(organisation.repeated(site(tmp_path, ORGANISATION), None, none, repeats=True))
    assert "no organisation block" in str(organisation.repeated(site(tmp_path), None, none, repeats=True))
