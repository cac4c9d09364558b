"""Directories and files that only their owner may look into: what a run keeps speaks of a site's inside."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

from pytest_pveha.errors import UsageError


def private_directory(path: Path) -> Path:
    """The directory is there; it, and whatever had to be made above it, is for its owner alone (0700).

    Raises:
        OSError: it cannot be made.
        UsageError: it was there, and others may write into it: they could take a run's entry out, or put one in.
    """
    made = []
    here = path
    while not here.exists():
        made.append(here)
        here = here.parent
    for each in reversed(made):  # `mkdir(parents=True, mode=…)` gives the mode to the last one only
        with contextlib.suppress(FileExistsError):
            each.mkdir(mode=0o700)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o022 or path.stat().st_uid not in (os.geteuid(), 0):
        raise UsageError(
            f"{path}: others may write here (mode {mode:04o}), so what it says cannot be relied on; "
            f"type: chmod 700 {path}"
        )
    return path


def private_file(path: Path) -> BinaryIO:
    """A new, empty file that its owner alone may read (0600), open for writing; an old one, or a link, is replaced."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
