"""A node's whole journal, and whether it could be read at all."""

from __future__ import annotations

import re

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.node import JournalLine, Node
from pytest_pveha.wire.ssh import quote

_LINE = re.compile(r"^(?P<at>\d+\.\d+) \S+ (?P<unit>[^\s\[:]+)(?:\[\d+\])?: (?P<text>.*)$")
_HIDDEN = "not seeing messages from other users and the system"
"""What journalctl says, on its standard error, to a user who may not read the system's journal (systemd 252)."""


def whole_journal(node: Node, since: float, deadline: Deadline) -> list[JournalLine]:
    """Every line since that moment of the node's own clock, oldest first, whichever unit or kernel wrote it.

    ProtocolError where the journal keeps nothing, or is not shown to us: an empty answer would read as silence.
    """
    told = _ask(node, deadline, "--since", f"@{int(since)}")
    lines = [JournalLine(float(row["at"]), row["unit"], row["text"]) for row in map(_LINE.match, told) if row]
    if not lines and not any(map(_LINE.match, _ask(node, deadline, "-n", "1"))):
        raise ProtocolError(f"node {node.name}: its journal has no line at all, so it keeps none, or shows us none")
    return [line for line in lines if line.at >= since]


def _ask(node: Node, deadline: Deadline, *words: str) -> list[str]:
    line = quote("journalctl", "-o", "short-unix", "--no-pager", *words)
    result = node.ssh.run(line, deadline=deadline)
    said = result.stderr.decode(errors="replace")
    if result.exit_status != 0 or _HIDDEN in said:
        raise ProtocolError(
            f"node {node.name}: `{line}` ended with status {result.exit_status}: {said.strip()[:200]}; "
            f"the user of ssh must be root, or in the group systemd-journal"
        )
    # not splitlines: what stands behind a U+2028 in a message would pass for a line of its own
    return result.stdout.decode(errors="replace").split("\n")
