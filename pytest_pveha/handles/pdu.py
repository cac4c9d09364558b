"""The outlets of a node, switched by commands that this machine runs. No shell: words as the inventory has them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from pytest_pveha.clock import Clock
from pytest_pveha.errors import ProtocolError, PvehaError, TimedOut, Unreachable
from pytest_pveha.wire import redaction

SECRET = "{secret}"
"""Stands, in a word of those commands, for the path of the secret's file."""


@dataclass(frozen=True, slots=True)
class FromNodes:
    """How another node switches the outlets on, and what it needs for that."""

    on: tuple[str, ...]
    status: tuple[str, ...]
    secret: Callable[[], str]

    def at(self, path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The commands to switch on and to look, with the secret's file at that path."""
        on, status = (tuple(word.replace(SECRET, path) for word in words) for words in (self.on, self.status))
        return on, status


class Pdu:
    """One node's outlets. Raises Unreachable (no end in time) or ProtocolError (the command failed)."""

    def __init__(
        self,
        node: str,
        off: Sequence[str],
        on: Sequence[str],
        status: Sequence[str] | None,
        timeout: float,
        clock: Clock,
        from_nodes: FromNodes | None = None,
    ) -> None:
        self.from_nodes = from_nodes
        self._node = node
        self._words = {"off": off, "on": on, "status": status}
        self._timeout = timeout
        self._clock = clock

    def switch(self, to: Literal["on", "off"]) -> None:
        """The command has ended well; what became of the outlets must be seen."""
        self._run(to)

    def state(self) -> str:
        """``on`` or ``off``, as the PDU says; empty where the inventory names no status command."""
        if self._words["status"] is None:
            return ""
        said = self._run("status").split()
        return said[-1].lower() if said and said[-1].lower() in ("on", "off") else ""

    def _run(self, verb: str) -> str:
        words = self._words[verb]
        assert words is not None
        who = f"the PDU command {verb} of {self._node}"
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        except OSError as error:
            raise ProtocolError(f"{who} cannot be run: {error.strerror}; look at nodes.{self._node}.pdu") from None
        with process:
            try:
                with self._clock.guard(self._clock.deadline(self._timeout), process.kill):
                    out, err = process.communicate()
                    if process.returncode < 0:
                        raise ProtocolError(f"{who} was killed")
            except TimedOut:
                raise Unreachable(f"{who} did not end in {self._timeout:g} s; it may have been carried out") from None
        if process.returncode != 0:
            raise ProtocolError(f"{who} ended with status {process.returncode}: {self._clean(err)[:200]}")
        return out

    def _clean(self, said: str) -> str:
        """What it said, without the login that it may repeat."""
        if self.from_nodes is not None:
            with suppress(PvehaError):
                self.from_nodes.secret()  # known from here on, and blanked
        return " ".join(redaction.scrub(said).split())
