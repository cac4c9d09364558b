"""What counts as "as it was found"."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_pveha.observe.snapshot import Snapshot, differences, surroundings

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
        (
            {"guarded": {"pve1": False, "pve2": False}},
            "the LRM of pve1: active → not active, or without its watchdog-mux",
        ),
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


SET = {
    "HA rules": "read",
    "HA rule pin": "nodes=n1 type=node-affinity",
    "HA resource vm:101": "state=started",
    "Ceph flags": "nothing",
    "ours on pve1, unit": "nothing",
    "ours on pve2, unit": "unknown",
}


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"Ceph flags": "noout"}, "Ceph flags: nothing → noout"),
        ({"HA rule pin": "nodes=n2 type=node-affinity"}, "HA rule pin: nodes=n1 type=node-affinity → nodes=n2 type=n"),
        ({"HA rule new": "type=resource-affinity"}, "HA rule new: absent → type=resource-affinity"),
        ({"ours on pve1, unit": "unit pveha-x.timer"}, "ours on pve1, unit: nothing → unit pveha-x.timer"),
        ({"Ceph flags": "unknown"}, "Ceph flags: nothing → unknown"),
    ],
)
def test_how_it_is_set_is_compared(now: dict[str, str], told: str) -> None:
    """A rule, a flag or something of ours that is not as it was is told, and so is what can no longer be read."""
    found = replace(FOUND, settings=SET)
    (row,) = differences(found, replace(found, settings={**SET, **now}))
    assert row.startswith(told)


def test_what_was_never_known_is_not_compared() -> None:
    """What could not be read as it was found cannot differ; nor can what was not asked."""
    found = replace(FOUND, settings=SET)
    assert differences(found, replace(found, settings={**SET, "ours on pve2, unit": "nothing"})) == []
    assert differences(found, FOUND) == []
    unread = {key: text for key, text in SET.items() if not key.startswith("HA r")} | {"HA rules": "unknown"}
    assert differences(replace(found, settings=unread), found) == []
    assert differences(found, replace(found, settings=unread)) == ["HA rules: read → unknown"]


def test_surroundings_are_told_and_not_waited_for() -> None:
    """A table of somebody's that a reboot took away is told apart from what must be as it was."""
    found = replace(FOUND, settings=SET, surroundings={"nft tables of pve1": "ip mangle"})
    now = replace(found, surroundings={"nft tables of pve1": "nothing"})
    assert differences(found, now) == []
    assert surroundings(found, now) == ["nft tables of pve1: ip mangle → nothing"]
    unread = replace(found, surroundings={**found.surroundings, "boot override of pve1": "unknown"})
    read = replace(now, surroundings={**now.surroundings, "boot override of pve1": "none"})
    assert surroundings(unread, read) == [
        "nft tables of pve1: ip mangle → nothing",
        "not compared, since it could not be read at first: boot override of pve1",
    ]
