"""The person who pulls a node's cord: who that is, and how they are called: a command, without a shell."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_pveha.clock import Clock
from pytest_pveha.errors import ProtocolError, TimedOut, Unreachable

CALL = 30.0
"""Seconds the command that calls them may take."""


@dataclass(frozen=True, slots=True)
class Hand:
    """A person at the rack."""

    who: str
    contact: str
    answer_within: float
    """Seconds they have to answer, and to do what is asked."""
    page: Sequence[str] = ()
    """The command that calls them; none = what is asked stands on the terminal alone."""

    def __str__(self) -> str:
        return f"{self.who} ({self.contact})" if self.contact else self.who

    def call(self, text: str, clock: Clock) -> None:
        """The command has ended well, with the text on its standard input; whether they heard it is another thing.

        Raises:
            ProtocolError: it failed.
            Unreachable: it did not end in time.
        """
        if not self.page:
            return
        try:
            process = subprocess.Popen(
                list(self.page), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        except OSError as error:
            raise ProtocolError(
                f"{self.who} cannot be called: {self.page[0]}: {error.strerror}; look at operator.page"
            ) from None
        with process:
            try:
                with clock.guard(clock.deadline(CALL), process.kill):
                    _, err = process.communicate(text)
                    if process.returncode < 0:
                        raise ProtocolError(f"the command that calls {self.who} was killed")
            except TimedOut:
                raise Unreachable(f"the command that calls {self.who} did not end in {CALL:g} s") from None
        if process.returncode != 0:
            raise ProtocolError(
                f"the command that calls {self.who} ended with status {process.returncode}: "
                f"{' '.join(err.split())[:200]}"
            )
