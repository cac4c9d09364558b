"""The journal's page says all that the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_pveha.judge.claims import MEASURES, RESET_AUDITS
from pytest_pveha.judge.phases import NAMES
from pytest_pveha.record.kinds import CONTROL, FIELDS
from pytest_pveha.record.volatile import VOLATILE_KEYS

DOCS = Path(__file__).parents[2] / "docs"
JOURNAL = (DOCS / "reference" / "journal.md").read_text(encoding="utf-8")
METHOD = (DOCS / "explanation" / "method.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", sorted(FIELDS))
def test_every_kind_and_field_is_documented(kind: str) -> None:
    """Each kind has a row that names each of its fields."""
    (row,) = (line for line in JOURNAL.splitlines() if line.startswith(f"| `{kind}` |"))
    assert FIELDS[kind] <= set(re.findall(r"`(\w+)`", row))


def test_control_kinds_and_volatile_keys_are_documented() -> None:
    """The lists in the page are the lists in the code."""
    said = JOURNAL[JOURNAL.index("*Control kinds*") : JOURNAL.index("One process writes")]
    assert set(re.findall(r"`([\w.]+)`", said)) == CONTROL
    said = JOURNAL[JOURNAL.index("at any depth of") : JOURNAL.index("in texts,")]
    assert set(re.findall(r"`(\w+)`", said)) - {"data"} == VOLATILE_KEYS


def test_measures_phases_and_audits_are_documented() -> None:
    """The method names every measure and phase; the journal's page the audits that count."""
    assert all(f"**`{measure}`**" in METHOD for measure in MEASURES)
    assert all(f"*{name}*" in METHOD for name in NAMES)
    assert all(f"`{audit}`" in JOURNAL for audit in RESET_AUDITS)
