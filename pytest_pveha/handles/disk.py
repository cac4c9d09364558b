"""A node's own files, as far as we leave any there: written whole, on the disk before anybody relies on them."""

from __future__ import annotations

from collections.abc import Callable

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.wire.ssh import CommandResult, quote

Run = Callable[..., CommandResult]
"""Runs one command line on the node: (deadline, line, input)."""


class Disk:
    """Files of one node, by SSH. ``ask`` runs a command whatever its status, ``run`` expects 0."""

    def __init__(self, ask: Run, run: Run) -> None:
        self._ask = ask
        self._run = run

    def write(self, path: str, content: str, deadline: Deadline) -> None:
        """The file has this content, for root alone, and survives a power cut: renamed into place once it is synced."""
        folder, _, name = path.rpartition("/")
        draft = f"{folder}/.{name}.new"
        steps = (
            quote("umask", "077"),
            quote("mkdir", "-p", folder),
            f"{quote('cat')} > {quote(draft)}",
            quote("sync", draft),
            quote("mv", "-f", draft, path),
            quote("sync", folder),
        )
        self._run(deadline, " && ".join(steps), content.encode())

    def overwrite(self, path: str, content: str, deadline: Deadline) -> None:
        """The file has this content: in place, for file systems that neither sync nor rename as disks do (pmxcfs)."""
        self._run(deadline, f"{quote('cat')} > {quote(path)}", content.encode())

    def read(self, path: str, deadline: Deadline) -> str:
        """The file's content. ProtocolError where there is none."""
        return self._run(deadline, quote("cat", path)).stdout.decode(errors="replace")

    def names(self, folder: str, deadline: Deadline) -> list[str]:
        """What lies in that folder, sorted; nothing where there is no such folder."""
        line = quote("ls", "-1", folder)
        result = self._ask(deadline, line)
        if result.exit_status != 0 and b"No such file or directory" in result.stderr:
            return []
        if result.exit_status != 0:
            said = result.stderr.decode(errors="replace").strip()[:200]
            raise ProtocolError(f"`{line}` ended with status {result.exit_status}: {said}")
        return sorted(name for name in result.stdout.decode(errors="replace").split("\n") if name)

    def remove(self, deadline: Deadline, *paths: str) -> None:
        """None of these files or folders is there any more."""
        self._run(deadline, quote("rm", "-rf", "--", *paths))
