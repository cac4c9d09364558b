"""What an LRM's own words say of the watchdog."""

from __future__ import annotations

import pytest

from pytest_pveha.handles.cluster import Lrm


@pytest.mark.parametrize(
    ("state", "mode", "guards"),
    [
        ("active", "active", True),
        ("active", "restart", True),
        ("maintenance", "active", True),
        ("maintenance", "maintenance", False),
        ("wait_for_agent_lock", "active", False),
        ("lost_agent_lock", "active", False),
    ],
)
def test_who_holds_the_watchdog(state: str, mode: str, guards: bool) -> None:
    """An active LRM, and one that was called back from maintenance before it was empty."""
    assert Lrm(state, mode, 0).guarded is guards
