"""What the BMCs' own logs have of an incident: a further witness of a reset, never the only one.

Their clocks are often wrong, they log what they please, and a watchdog in the kernel is none of theirs: so only what
was added meanwhile counts, and what is not there says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_pveha.errors import SiteError
from pytest_pveha.handles.bmc import SelEntry
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.observer import Observer

WITHIN = 20.0
"""Seconds to read one log: some have thousands of entries, and give them out one by one."""


class BmcLogs:
    """The logs of some nodes' BMCs, as they were when this was made."""

    def __init__(self, observer: Observer, nodes: Iterable[Node]) -> None:
        self._observer = observer
        self._nodes = tuple(nodes)
        self._before = {node.name: self._read(node) for node in self._nodes}

    def note(self) -> None:
        """What each has that it had not, and is about power or the watchdog, is on record."""
        for node in self._nodes:
            before, asked = self._before[node.name], self._observer.site.clock.now()
            now = self._read(node) if before is not None else None
            if now is None or before is None:
                continue
            answered = self._observer.site.clock.now()
            for entry in now:
                if entry in before or entry.event == "other":
                    continue
                self._observer.write(
                    "seen",
                    {
                        "what": f"bmc_log/{node.name}",
                        "old": None,
                        "new": entry.event,
                        "low": asked.mono,
                        "high": answered.mono,
                        "source": f"BMC of {node.name}, entry {entry.number}: {entry.text}",
                    },
                )

    def _read(self, node: Node) -> tuple[SelEntry, ...] | None:
        """None where it has none, or does not give it out in time."""
        if node.bmc is None:
            return None
        try:
            return node.bmc.sel(self._observer.site.clock.deadline(WITHIN))
        except SiteError:
            return None
