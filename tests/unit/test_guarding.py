"""Whether watchdogs are fed again after quorum was lost and is back: by the LRMs' own word since then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from pytest_pveha.handles.cluster import Lrm
from pytest_pveha.observe.ha import guarding
from pytest_pveha.observe.observer import Observer

SINCE = 1000.5


def answer(**lrms: Lrm) -> str:
    """What is answered where the manager's status has these LRMs."""
    view = SimpleNamespace(manager=SimpleNamespace(lrms=lrms), trouble="")
    return guarding(["n1", "n2"], SINCE).ask(cast("Observer", SimpleNamespace(look=lambda: view))).verdict


def lrm(state: str, at: int) -> Lrm:
    """An LRM that wrote this state then."""
    return Lrm(state, "active", at)


@pytest.mark.parametrize(
    "other",
    [
        lrm("active", 1000),  # from before: it may not have had the quorum to write since
        lrm("lost_agent_lock", 1002),  # it writes, and cannot feed
        lrm("wait_for_agent_lock", 1002),
    ],
    ids=["stale", "lost its lock", "waits for it"],
)
def test_one_that_has_not_fed_since_is_waited_for(other: Lrm) -> None:
    """Each of them counts."""
    assert answer(n1=lrm("active", 1002), n2=other) == "no"


def test_all_that_wrote_since_have_fed() -> None:
    """With the lock in hand; a node that is not there has not."""
    assert answer(n1=lrm("active", 1002), n2=lrm("active", 1001)) == "yes"
    assert answer(n1=lrm("active", 1002)) == "no"
