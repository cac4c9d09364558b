"""One run per site on this machine, and the door that stays shut until what is broken is healed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from urllib.parse import quote

from pytest_pveha.errors import SiteBusy, UsageError
from pytest_pveha.record.openings import state_home
from pytest_pveha.record.private import private_directory


class Lease:
    """Held while this process may touch the site; the kernel gives it back when the process dies."""

    def __init__(self, site: str, environ: Mapping[str, str] = os.environ) -> None:
        self._path = state_home(environ) / "lease" / f"{quote(site, safe='')}.lock"
        self._stop = self._path.with_suffix(".stop")
        self._descriptor: int | None = None

    def take(self, *, wait: bool = False) -> None:
        """The site is ours. SiteBusy (at once, unless ``wait``) while another process holds it."""
        try:
            private_directory(self._path.parent)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"{self._path}: cannot be made ({error.strerror}); set PVEHA_STATE") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.read(descriptor, 100).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise SiteBusy(f"process {holder} is using this site; wait until it has ended, or end it") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._stop.unlink(missing_ok=True)  # it was meant for whoever was here before
        self._descriptor = descriptor

    def ask_to_stop(self, why: str) -> None:
        """Whoever holds the site ends its campaign, healing first."""
        private_directory(self._stop.parent)
        self._stop.write_text(f"{why}\n")

    def stop_asked(self) -> str | None:
        """Why somebody wants the holder to end; None if nobody does."""
        try:
            return self._stop.read_text(errors="replace").strip() or "no reason given"
        except FileNotFoundError:
            return None

    def give_back(self) -> None:
        """Others may use the site."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> str | None:
        """The process that holds the site, None if nobody does."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.read(descriptor, 100).decode(errors="replace").strip() or "unknown"
        finally:
            os.close(descriptor)
        return None
