"""Ceph's status, read from the shapes of its JSON (built after the documentation of Pacific and later)."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.ceph import Ceph
from pytest_pveha.wire.pve_api import PveApi, Reply

DEGRADED: dict[str, Any] = {
    "health": {"status": "HEALTH_WARN", "checks": {"OSD_DOWN": {"severity": "HEALTH_WARN"}}},
    "quorum_names": ["n1", "n2", "n3"],
    "monmap": {"mons": [{"name": "n1"}, {"name": "n2"}, {"name": "n3"}]},
    "osdmap": {"num_osds": 6, "num_up_osds": 5, "num_in_osds": 6},
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


def test_no_placement_groups_are_not_called_clean() -> None:
    """A status without any PG state says nothing about cleanness, so it is not clean."""
    assert status({**DEGRADED, "pgmap": {}}).clean is False
    assert status({**DEGRADED, "pgmap": {"pgs_by_state": [{"state_name": "active+clean", "count": 1}]}}).clean is True


@pytest.mark.parametrize("spoilt", [None, [], {}, {**DEGRADED, "osdmap": {}}, {**DEGRADED, "monmap": None}])
def test_another_shape_is_refused(spoilt: Any) -> None:
    """What is no Ceph status is a ProtocolError that names the request."""
    with pytest.raises(ProtocolError, match="/cluster/ceph/status"):
        status(spoilt)
