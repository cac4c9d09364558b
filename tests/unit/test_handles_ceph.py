"""Ceph's status, read from the shapes of its JSON (built after the documentation of Pacific and later)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_pveha.clock import Clock, LiveClock
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.ceph import Ceph, serves, shell
from pytest_pveha.handles.ceph.maps import Mons, Osd, Pg, Pool, Step
from pytest_pveha.handles.node import Node
from pytest_pveha.wire.pve_api import PveApi, Reply
from pytest_pveha.wire.ssh import CommandResult, Ssh

DEGRADED: dict[str, Any] = {
    "health": {"status": "HEALTH_WARN", "checks": {"OSD_DOWN": {"severity": "HEALTH_WARN"}}},
    "quorum_names": ["n1", "n2", "n3"],
    "monmap": {"mons": [{"name": "n1"}, {"name": "n2"}, {"name": "n3"}]},
    "osdmap": {"epoch": 12, "num_osds": 6, "num_up_osds": 5, "num_in_osds": 6},
    "pgmap": {
        "pgs_by_state": [
            {"state_name": "active+clean", "count": 96},
            {"state_name": "active+undersized+degraded", "count": 32},
            {"state_name": "undersized+degraded+peered", "count": 1},
        ]
    },
}


class Api:
    """Answers every GET with the same value."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def get(self, path: str, **_: Any) -> Reply:
        now = LiveClock().now()
        return Reply(self._value, "n1", now, now)


def status(value: Any) -> Any:
    return Ceph(cast("PveApi", Api(value))).status(LiveClock().deadline(5))


def test_counts_come_from_pg_states() -> None:
    """Inactive is counted by state, not by health; a lost copy that still serves is not inactive."""
    found = status(DEGRADED)
    assert (found.health, found.checks, found.mons, found.osds_up, found.osds_in) == (
        "HEALTH_WARN", ("OSD_DOWN",), 3, 5, 6,
    )  # fmt: skip
    assert (found.inactive, found.clean) == (1, False)


def test_what_is_muted_is_known() -> None:
    """By the list of mutes, whether the check complains now or not, and by what a check says of itself."""
    health = {
        "status": "HEALTH_OK",
        "checks": {
            "OSD_DOWN": {"severity": "HEALTH_WARN", "muted": True},
            "PG_DEGRADED": {"severity": "HEALTH_WARN", "muted": False},
        },
        "mutes": [{"code": "MON_DOWN", "sticky": True, "summary": "1/3 mons down", "count": 1}],
    }
    assert status({**DEGRADED, "health": health}).muted == ("MON_DOWN", "OSD_DOWN")
    assert status(DEGRADED).muted == ()


def test_no_placement_groups_are_not_called_clean() -> None:
    """A status without any PG state says nothing about cleanness, so it is not clean."""
    assert status({**DEGRADED, "pgmap": {}}).clean is False
    assert status({**DEGRADED, "pgmap": {"pgs_by_state": [{"state_name": "active+clean", "count": 1}]}}).clean is True


@pytest.mark.parametrize("spoilt", [None, [], {}, {**DEGRADED, "osdmap": {}}, {**DEGRADED, "monmap": None}])
def test_another_shape_is_refused(spoilt: Any) -> None:
    """What is no Ceph status is a ProtocolError that names the request."""
    with pytest.raises(ProtocolError, match="/cluster/ceph/status"):
        status(spoilt)


# --- Ceph's own tool -------------------------------------------------------------------------------------------------

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "ceph-16.2.15.json").read_text("utf-8"))


class Shell:
    """A node on which ``ceph`` says what was recorded, or what it was told to."""

    def __init__(self, state: str = "whole", status: int = 0, out: str | None = None, err: str = "") -> None:
        self._told = RECORDED[state]
        self._ends = status
        self._out = out
        self._err = err
        self.typed: list[str] = []

    def run(self, command: str, **_: Any) -> CommandResult:
        self.typed.append(command)
        now = LiveClock().now()
        asked = command.partition(" --connect-timeout ")[2].partition(" ")[2].removesuffix(" -f json")
        out = json.dumps(self._told[asked]) if self._out is None else self._out
        return CommandResult(self._ends, out.encode(), self._err.encode(), now, now)


def node(told: Shell) -> Node:
    return Node("n1", cast("Ssh", told), None, cast("Clock", LiveClock()), ())


ASKS = (
    shell.status,
    shell.osd_map,
    shell.places,
    shell.rules,
    shell.pgs,
    shell.rooms,
    shell.stored,
    shell.mons,
)


def test_what_a_real_ceph_says() -> None:
    """Every question's answer, recorded on 16.2.15, in our types."""
    one, deadline = node(Shell()), LiveClock().deadline(20)
    found = shell.osd_map(one, deadline)
    assert found.osds[0] == Osd(0, True, True, 1.0, "10.77.5.31", "10.77.6.31", up_from=13)
    assert found.pools[1] == Pool(1, "vmdata", 3, 2, 0, 32)
    assert "noout" not in found.flags
    places = shell.places(one, deadline)
    assert places[5].where == {"root": "default", "host": "ceph3"}
    rule = shell.rules(one, deadline)[0]
    assert (rule.root, rule.device_class, rule.steps) == ("default", "", (Step(0, "host"),))
    assert shell.pgs(one, deadline)[0] == Pg("1.1f", "active+clean", (0, 3, 5), (0, 3, 5))
    assert shell.rooms(one, deadline)[0].total == 10 * 2**30
    assert shell.stored(one, deadline)[1] > 0
    told = shell.mons(one, deadline)
    assert isinstance(told, Mons)
    assert (told.quorum, told.leader) == (("ceph1", "ceph2", "ceph3"), "ceph1")
    assert shell.status(one, deadline).clean
    hurt = shell.status(node(Shell("one down")), deadline)
    assert (hurt.clean, hurt.inactive, hurt.osds_up, hurt.degraded) == (False, 0, 5, 970)
    assert hurt.messages["OSD_DOWN"] == "1 osds down"


def test_every_question_ends_by_itself() -> None:
    """Each is typed with a time after which it is over on the node, shorter than ours."""
    told = Shell()
    for ask in ASKS:
        ask(node(told), LiveClock().deadline(7))
    assert all(line.startswith(("timeout 6 ceph --connect-timeout 4 ", "timeout 7 ")) for line in told.typed), (
        told.typed
    )


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Shell(status=1, out="", err="timed out\n"), "is there a quorum of mons"),
        (Shell(status=124, out=""), "is there a quorum of mons"),
        (Shell(status=2, out="", err="Error ENOENT: unknown"), "ended with status 2: Error ENOENT"),
        (Shell(out="HEALTH_OK"), "did not answer in JSON"),
        (Shell(out="[1, 2]"), "expected"),
        (Shell(out="{}"), "ceph"),
    ],
)
def test_no_answer_is_no_answer(ask: Any, broken: Shell, words: str) -> None:
    """Whatever else it says is an error that names the question; never an empty cluster."""
    if words == "ceph" and ask in (shell.places, shell.rooms, shell.stored):
        assert ask(node(broken), LiveClock().deadline(20)) == {}  # which no rule and no check takes for a cluster
        return
    with pytest.raises(ProtocolError, match=words):
        ask(node(broken), LiveClock().deadline(20))


@pytest.mark.parametrize(
    ("state", "served"),
    [
        ("active+clean", True),
        ("active+clean+scrubbing+deep", True),
        ("active+undersized+degraded", True),
        ("stale+active+clean", False),
        ("undersized+degraded+peered", False),
        ("peering", False),
        ("down", False),
        ("incomplete", False),
        ("unknown", False),
        ("activating", False),
    ],
)
def test_who_serves(state: str, served: bool) -> None:
    """Only what is active, and was confirmed to be."""
    assert serves(state) is served


def test_scrubbing_is_clean() -> None:
    """Upkeep goes on in what is whole; a count that lacks some placement groups is not whole."""
    states = [{"state_name": "active+clean+scrubbing", "count": 1}, {"state_name": "active+clean", "count": 127}]
    assert status({**DEGRADED, "pgmap": {"pgs_by_state": states, "num_pgs": 128}}).clean
    assert not status({**DEGRADED, "pgmap": {"pgs_by_state": states, "num_pgs": 129}}).clean
