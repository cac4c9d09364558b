"""A node's own files, as far as we leave any there: written whole, on the disk before anybody relies on them."""

from __future__ import annotations

from typing import Protocol

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.shell import ShellLine, all_of, into, quote
from pytest_pveha.wire.ssh import CommandResult


class Run(Protocol):
    """Runs one command line on the node."""

    def __call__(self, deadline: Deadline, line: ShellLine, input: bytes | None = None) -> CommandResult:
        """It ran, once, with that as its standard input."""


class Disk:
    """Files of one node, by SSH. ``ask`` runs a command whatever its status, ``act`` expects 0."""

    def __init__(self, name: str, ask: Run, act: Run) -> None:
        self._name = name
        self._ask = ask
        self._act = act

    def write(self, path: str, content: str, deadline: Deadline) -> None:
        """The file has this content, for root alone, and survives a power cut: renamed into place once it is synced."""
        folder, _, name = path.rpartition("/")
        draft = f"{folder}/.{name}.new"
        line = all_of(
            quote("umask", "077"),
            quote("mkdir", "-p", folder),
            into(quote("cat"), draft),
            quote("sync", draft),
            quote("mv", "-f", draft, path),
            quote("sync", folder),
        )
        self._act(deadline, line, content.encode())

    def overwrite(self, path: str, content: str, deadline: Deadline) -> None:
        """The file has this content: in place, for file systems that neither sync nor rename as disks do (pmxcfs)."""
        self._act(deadline, into(quote("cat"), path), content.encode())

    def read(self, path: str, deadline: Deadline) -> str:
        """The file's content. ProtocolError where there is none."""
        return self._act(deadline, quote("cat", path)).stdout.decode(errors="replace")

    def names(self, folder: str, deadline: Deadline) -> list[str]:
        """What lies in that folder, sorted; nothing where there is no such folder.

        ProtocolError where what is listed are no names: they become parts of paths.
        """
        line = quote("ls", "-1", folder)
        result = self._ask(deadline, line)
        if result.exit_status != 0 and b"No such file or directory" in result.stderr:
            return []
        if result.exit_status != 0:
            said = result.stderr.decode(errors="replace").strip()[:200]
            raise ProtocolError(f"node {self._name}: `{line}` ended with status {result.exit_status}: {said}")
        names = [name for name in result.stdout.decode(errors="replace").split("\n") if name]
        if strange := [name for name in names if "/" in name or "\0" in name or name in (".", "..")]:
            raise ProtocolError(f"node {self._name}: `{line}` lists {strange[0][:100]!r}, which is no name of a file")
        return sorted(names)

    def remove(self, deadline: Deadline, *paths: str) -> None:
        """None of these files or folders is there any more, nor comes back with a power cut."""
        folders = dict.fromkeys(path.rpartition("/")[0] for path in paths)
        self._act(deadline, all_of(quote("rm", "-rf", "--", *paths), quote("sync", *folders)))

    def discard(self, path: str, deadline: Deadline) -> None:
        """It is not there any more, in file systems that do not sync as disks do (pmxcfs)."""
        self._act(deadline, quote("rm", "-rf", "--", path))
