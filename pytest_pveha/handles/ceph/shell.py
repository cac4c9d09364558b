"""Ceph as its own tool on a node tells it, for what REST does not have, and where no API endpoint answers.

Every question ends: without a quorum of mons ``ceph`` waits for ever, and so it does for a mgr that is gone;
``timeout`` ends it on the node, so that nothing of ours hangs there.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.ceph.maps import (
    Mons,
    OsdMap,
    Pg,
    Place,
    Room,
    Rule,
    mons_of,
    osd_map_of,
    pgs_of,
    places_of,
    rooms_of,
    rules_of,
    stored_of,
)
from pytest_pveha.handles.ceph.status import CephStatus, status_of
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.reading import Said, an_object, some_rows
from pytest_pveha.handles.shell import quote

PATIENCE: Final = 8
"""Seconds the tool may look for a quorum of mons, and for its answer."""
_TIMED_OUT: Final = 124
"""Status of ``timeout`` when it had to end the command (timeout(1))."""
_LARGEST: Final = 64 * 2**20
"""Bytes of an answer; ten thousand placement groups are two million."""


def words(*command: str, patience: int = PATIENCE) -> tuple[str, ...]:
    """``ceph`` with that command, as it is typed: it ends by itself."""
    return ("timeout", str(patience + 2), "ceph", "--connect-timeout", str(patience), *command)


def status(node: Node, deadline: Deadline) -> CephStatus:
    """Health, mons, OSDs and the states of placement groups."""
    return status_of(_object(node, deadline, "status"))


def osd_map(node: Node, deadline: Deadline) -> OsdMap:
    """OSDs, pools, flags and ratios."""
    return osd_map_of(_object(node, deadline, "osd", "dump"))


def places(node: Node, deadline: Deadline) -> dict[int, Place]:
    """Where each OSD stands in the CRUSH map."""
    return places_of(_object(node, deadline, "osd", "tree"))


def rules(node: Node, deadline: Deadline) -> dict[int, Rule]:
    """The CRUSH rules by their number."""
    command = ("osd", "crush", "rule", "dump")
    return rules_of(some_rows(_told(node, deadline, *command), _where(node, command)))


def pgs(node: Node, deadline: Deadline) -> tuple[Pg, ...]:
    """Every placement group, and who serves it."""
    command = ("pg", "dump", "pgs_brief")
    told = _told(node, deadline, *command)
    if isinstance(told, dict):  # since Nautilus; before it was the list alone
        told = told.get("pg_stats")
    return pgs_of(some_rows(told, _where(node, command)))


def rooms(node: Node, deadline: Deadline) -> dict[int, Room]:
    """What fits on each OSD, and what is on it."""
    return rooms_of(_object(node, deadline, "osd", "df").rows("nodes"))


def stored(node: Node, deadline: Deadline) -> dict[int, int]:
    """Bytes stored in each pool, by its number."""
    return stored_of(_object(node, deadline, "df"))


def mons(node: Node, deadline: Deadline) -> Mons:
    """The mons and their quorum."""
    return mons_of(_object(node, deadline, "quorum_status"))


def mon_in_quorum(node: Node, deadline: Deadline) -> bool:
    """Whether the mon on that node, called as it, says that it is in quorum.

    Asked through its socket there: ``quorum_status`` would be answered by any mon that can be reached, such as the
    tiebreaker, which both sides of a cut may reach (Ceph's documentation, "Troubleshooting Monitors").
    """
    command = ("daemon", f"mon.{node.name}", "mon_status")
    said = _object(node, deadline, *command)
    if said.word("name") != node.name:
        raise ProtocolError(f"{_where(node, command)} was answered by {said.word('name')[:60]!r}")
    return said.word("state") in ("leader", "peon")


def down_out_interval(node: Node, deadline: Deadline) -> float:
    """Seconds after which an OSD that is down is marked out; 0: never (mon_osd_down_out_interval).

    As the leading mon has it: ``ceph config get`` knows nothing of what a mon has from its ceph.conf (seen on 16.2.15).
    """
    key = "mon_osd_down_out_interval"
    command = ("tell", f"mon.{mons(node, deadline).leader}", "config", "get", key)
    said = _object(node, deadline, *command).word(key)
    if not said.isdigit() or len(said) > 9:
        raise ProtocolError(f"{_where(node, command)} said {said[:60]!r}, which is no time")
    return float(said)


def set_flag(node: Node, flag: str, deadline: Deadline) -> None:
    """The flag is set on the whole cluster."""
    node.act(deadline, *words("osd", "set", flag))


def unset_flag(node: Node, flag: str, deadline: Deadline) -> None:
    """The flag is not set; where it was not before, nothing is changed."""
    node.act(deadline, *words("osd", "unset", flag))


def take_in(node: Node, osd: int, weight: float, deadline: Deadline) -> None:
    """The OSD is in, and weighs what it did: ``in`` alone makes it whole (ceph(8), osd in and reweight)."""
    node.act(deadline, *words("osd", "in", str(osd)))
    if weight < 1:
        node.act(deadline, *words("osd", "reweight", str(osd), f"{weight:g}"))


def _object(node: Node, deadline: Deadline, *command: str) -> Said:
    return an_object(_told(node, deadline, *command), _where(node, command))


def _where(node: Node, command: tuple[str, ...]) -> str:
    return f"node {node.name}: `ceph {' '.join(command)}`"


def _told(node: Node, deadline: Deadline, *command: str) -> Any:
    """What it answered, as JSON.

    Raises:
        ProtocolError: it did not in time, as without a quorum of mons; or what it said is no JSON.
    """
    patience = max(1, min(PATIENCE, int(deadline.remaining()) - 2))
    result = node.ssh.run(quote(*words(*command, "-f", "json", patience=patience)), deadline=deadline)
    where = _where(node, command)
    said = " ".join(result.stderr.decode(errors="replace").split())[:200]
    if result.exit_status == _TIMED_OUT or (result.exit_status == 1 and "timed out" in said):
        raise ProtocolError(f"{where} has no answer within {patience} s: is there a quorum of mons, and a mgr?")
    if result.exit_status != 0:
        raise ProtocolError(f"{where} ended with status {result.exit_status}: {said}")
    if len(result.stdout) > _LARGEST:
        raise ProtocolError(f"{where} said {len(result.stdout)} bytes, more than is looked at")
    try:
        return json.loads(result.stdout)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{where} did not answer in JSON: {result.stdout[:60]!r}") from error
