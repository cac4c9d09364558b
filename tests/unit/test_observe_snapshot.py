"""What counts as "as it was found"."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_pveha.observe.snapshot import Snapshot, differences

FOUND = Snapshot(
    cluster="c",
    quorate=True,
    nodes={"pve1": "online", "pve2": "online"},
    services={"vm:101": "started@pve1"},
    guests={"vm:101": "running@pve1"},
    boot_ids={"pve1": "a", "pve2": "b"},
    guarded={"pve1": True, "pve2": False},
)


def test_nothing_differs_from_itself() -> None:
    """The same site is as it was found, on either side of a journal."""
    assert differences(FOUND, Snapshot.from_json(FOUND.to_json())) == []


def test_a_new_boot_id_is_no_difference() -> None:
    """A healed node has a new boot id."""
    assert differences(FOUND, replace(FOUND, boot_ids={"pve1": "x", "pve2": "b"})) == []


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"quorate": False}, "quorate: True → False"),
        ({"nodes": {"pve1": "online", "pve2": "offline"}}, "node pve2: online → offline"),
        ({"services": {"vm:101": "started@pve2"}}, "service vm:101: started@pve1 → started@pve2"),
        ({"guests": {}}, "guest vm:101: running@pve1 → absent"),
        ({"guarded": {"pve1": False, "pve2": False}}, "the LRM of pve1: active → not active"),
    ],
)
def test_what_differs_is_told(now: dict[str, object], told: str) -> None:
    """Each part of the site that is not as it was is told, alone."""
    assert differences(FOUND, replace(FOUND, **now)) == [told]


def test_an_lrm_that_woke_up_is_no_difference() -> None:
    """A node that had no services and has had some since goes idle by itself, much later."""
    assert differences(FOUND, replace(FOUND, guarded={"pve1": True, "pve2": True})) == []


def test_a_snapshot_without_what_came_later_can_be_read() -> None:
    """A journal of before can still be healed."""
    old = {key: value for key, value in FOUND.to_json().items() if key != "guarded"}
    assert differences(Snapshot.from_json(old), FOUND) == []
