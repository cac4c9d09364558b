"""The terminal that a run was started from, where a person is asked and types an answer, past pytest's capturing."""

from __future__ import annotations

import contextlib
import os
import select
import termios
from collections.abc import Callable


class Prompt:
    """Asks on the terminal. Without one, or in the background, nobody types, and what is asked is only printed."""

    def __init__(self, line: Callable[[str], None], device: str = "/dev/tty") -> None:
        """``line`` prints one. Not standard input: pytest has put nothing in its place long before we come."""
        self._line = line
        self._fd: int | None = None
        with contextlib.suppress(OSError):
            self._fd = os.open(device, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def listens(self) -> bool:
        """Whether a person can type here."""
        return self._ours() is not None

    def show(self, text: str) -> None:
        """It stands on the terminal, and what was typed before is no answer to it."""
        if (here := self._ours()) is not None:
            with contextlib.suppress(termios.error):
                termios.tcflush(here, termios.TCIFLUSH)
        for each in text.splitlines():
            self._line(each)

    def typed(self) -> str | None:
        """A whole line that was typed since; None if there is none."""
        here = self._ours()
        if here is None or not select.select([here], [], [], 0)[0]:
            return None
        try:
            line = os.read(here, 1000).decode(errors="replace").strip()
        except OSError:
            return None
        return line or None

    def close(self) -> None:
        """The terminal is left alone."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _ours(self) -> int | None:
        """The terminal where it is ours to read: a process in the background that did would be stopped by it."""
        try:
            return self._fd if self._fd is not None and os.tcgetpgrp(self._fd) == os.getpgrp() else None
        except OSError:
            return None
