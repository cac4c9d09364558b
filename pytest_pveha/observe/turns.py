"""Nodes that are asked one after the other, each every so often, and seldom while it does not answer."""

from __future__ import annotations

from collections.abc import Callable

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import SiteError
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.heard import Heard
from pytest_pveha.observe.observer import Observer

EVERY = 2 * SECOND
"""Nanoseconds between two questions to one node."""

SILENT = 10 * SECOND
"""Nanoseconds until a node that did not answer is asked again."""


class Turns:
    """Whose turn it is to be asked; when each was heard is told to ``heard``, under its name with ``prefix``."""

    def __init__(self, observer: Observer, nodes: Nodes, heard: Heard, prefix: str = "") -> None:
        self._clock = observer.site.clock
        self._nodes = nodes
        self._heard = heard
        self._prefix = prefix
        self._due = dict.fromkeys(nodes.names, 0)
        for name in nodes.names:
            heard.expect(f"{prefix}{name}")

    def take(self, ask: Callable[[Node], None]) -> None:
        """Each node whose turn it is was asked; a SiteError is "no answer"."""
        for node in self._nodes:
            asked = self._clock.now().mono
            if asked < self._due[node.name]:
                continue
            try:
                ask(node)
            except SiteError:
                ended = self._clock.now().mono
                self._due[node.name] = ended + SILENT
                self._heard.told(f"{self._prefix}{node.name}", "bad", asked, ended)
            else:
                self._due[node.name] = asked + EVERY
                self._heard.told(f"{self._prefix}{node.name}", "good", asked, self._clock.now().mono)
