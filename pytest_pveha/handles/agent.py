"""A way into a guest: the QEMU guest agent of a VM through the API, ``pct exec`` on a container's node.

Both run words as root inside of the guest, never a line of a shell: what is to be a program goes in as its input. Each
call has a deadline. A process that outlives its call goes on.

Sources: the REST schemas of PVE 8.4 and 9 (``…/qemu/{vmid}/agent/*``), qemu-server (src/PVE/API2/Qemu/Agent.pm,
src/PVE/QemuServer/Agent.pm), QEMU's qga/qapi-schema.json (guest-exec keeps 16 MiB of each output), pct(1).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pytest_pveha.clock import SECOND, Deadline, Instant
from pytest_pveha.errors import ProtocolError, Unreachable, UsageError
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.reading import an_object
from pytest_pveha.handles.shell import into, quote
from pytest_pveha.wire.pve_api import PveApi, Reply, api_path

LARGEST_WRITE: Final = 61440
"""Characters that ``file-write`` takes (its schema's maxLength), as base64: so that any byte passes."""
LARGEST_INPUT: Final = 65536
"""Characters of ``input-data``."""
LARGEST_READ: Final = 16 * 1024 * 1024
"""Bytes that ``file-read`` gives; what lies behind is cut off, and said to be."""

ASK_AGAIN: Final = 0.1
"""Seconds between two looks whether what runs in a guest has ended."""

NOT_RUNNING: Final = ("QEMU guest agent is not running", "is not running", "No QEMU guest agent configured")
"""How PVE says, with status 500, that nobody is there who could answer (qemu-server, QemuServer/Agent.pm)."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program in a guest ended with; between the two moments it ran."""

    status: int
    out: str
    err: str
    asked_at: Instant
    answered_at: Instant


class Inside(Protocol):
    """A guest, by what answers inside of it."""

    sid: str
    node: str
    """Where it is asked: the guest must be there."""

    def ping(self, deadline: Deadline) -> None:
        """Somebody answers inside."""

    def run(self, deadline: Deadline, *words: str, input: str = "") -> Ran:
        """The program ran, once, and ended.

        Raises:
            AgentAway: nobody answers inside; nothing ran.
            Unreachable: the node does not answer, or the program had not ended by the deadline; it may have run.
            AuthRefused: the token lacks VM.GuestAgent.Unrestricted (VM.Monitor before PVE 9) on that guest.
        """

    def read(self, path: str, deadline: Deadline) -> bytes:
        """That file of the guest's, whole. ProtocolError where it is larger than 16 MiB, or cannot be read."""

    def write(self, path: str, content: bytes, deadline: Deadline) -> None:
        """That file of the guest's has this content; it is not synced."""


class AgentAway(ProtocolError):
    """Nobody answers inside of the guest: it does not run, its agent does not, or it has none."""


def inside(sid: str, node: str, api: PveApi, nodes: Nodes) -> Inside:
    """The way into that guest as long as it is on that node."""
    return Agent(sid, node, api) if sid.startswith("vm:") else Container(sid, node, nodes)


class Agent:
    """A VM by its QEMU guest agent."""

    def __init__(self, sid: str, node: str, api: PveApi) -> None:
        self.sid = sid
        self.node = node
        self._api = api

    def ping(self, deadline: Deadline) -> None:
        """Its agent answers."""
        self._post("ping", deadline)

    def time(self, deadline: Deadline) -> tuple[int, Instant, Instant]:
        """The guest's wall clock (ns since 1970), and between which moments of ours it said so."""
        reply = self._get("get-time", deadline)
        said = an_object(reply.value, f"GET {self._path('get-time')}")
        return said.count("result"), reply.asked_at, reply.answered_at

    def system(self, deadline: Deadline) -> str:
        """What runs in it, such as ``Debian GNU/Linux 12 (bookworm)``."""
        found = an_object(self._get("get-osinfo", deadline).value, f"GET {self._path('get-osinfo')}").part("result")
        return found.word("pretty-name", found.word("id", "unknown"))

    def frozen(self, deadline: Deadline) -> bool:
        """Whether its file systems are frozen, as a backup does it for a moment."""
        found = an_object(self._post("fsfreeze-status", deadline).value, f"POST {self._path('fsfreeze-status')}")
        return found.word("result") == "frozen"

    def start(self, deadline: Deadline, *words: str, input: str = "") -> int:
        """The program was started in the guest; its process id there."""
        if len(input) > LARGEST_INPUT:
            raise UsageError(f"{self.sid}: {len(input)} characters of input, the API takes {LARGEST_INPUT}")
        more: dict[str, Any] = {"input-data": input} if input else {}
        reply = self._post("exec", deadline, command=list(words), **more)
        return an_object(reply.value, f"POST {self._path('exec')}").count("pid")

    def ended(self, pid: int, deadline: Deadline) -> tuple[int, str, str] | None:
        """Status, output and errors of what was started; None while it runs.

        ProtocolError where a part of its output is missing: it is asked for once, and then forgotten by the agent.
        """
        where = f"GET {self._path('exec-status')}"
        said = an_object(self._get("exec-status", deadline, pid=pid).value, where)
        if not said.truth("exited"):
            return None
        if said.truth("out-truncated", False) or said.truth("err-truncated", False):
            raise ProtocolError(f"{where}: the agent kept a part of the output only")
        signal = said.count("signal", 0)
        status = 128 + signal if signal else said.count("exitcode")
        return status, said.word("out-data", ""), said.word("err-data", "")

    def run(self, deadline: Deadline, *words: str, input: str = "") -> Ran:
        """The program ran in the guest, once, and ended; see ``Inside``."""
        clock = deadline.clock
        asked = clock.now()
        pid = self.start(deadline, *words, input=input)
        while (found := self.ended(pid, deadline)) is None:
            if deadline.expired():
                raise Unreachable(f"{self.sid}: `{words[0]}` had not ended in time; its process is {pid} there")
            clock.sleep_until(min(deadline.mono, clock.now().mono + round(ASK_AGAIN * SECOND)))
        return Ran(*found, asked, clock.now())

    def read(self, path: str, deadline: Deadline) -> bytes:
        """That file, whole.

        The API gives bytes as characters of the same number (Perl's strings), or, where they are UTF-8, may give them
        as such: only what is ASCII is told alike by all versions.
        """
        where = f"GET {self._path('file-read')}"
        said = an_object(self._get("file-read", deadline, file=path).value, where)
        if said.truth("truncated", False):
            raise ProtocolError(f"{where}: {path} is longer than the {LARGEST_READ} bytes that the API gives")
        content = said.word("content", "")
        try:
            return content.encode("latin-1")
        except UnicodeEncodeError:
            pass
        try:
            return content.encode()
        except UnicodeEncodeError as error:
            raise ProtocolError(f"{where}: {path} has what is no text: {error.reason}") from None

    def write(self, path: str, content: bytes, deadline: Deadline) -> None:
        """That file has this content; UsageError where it is longer than the API takes."""
        text = base64.b64encode(content).decode()
        if len(text) > LARGEST_WRITE:
            most = LARGEST_WRITE // 4 * 3
            raise UsageError(f"{self.sid}: {len(content)} bytes for {path}, the API takes {most} at a time")
        self._post("file-write", deadline, file=path, content=text, encode=False)

    def _path(self, *below: str) -> str:
        return api_path("nodes", self.node, "qemu", self.sid.partition(":")[2], "agent", *below)

    def _get(self, what: str, deadline: Deadline, **params: Any) -> Reply:
        try:
            return self._api.get(self._path(what), deadline=deadline, **params)
        except ProtocolError as error:
            raise _meant(error) from None

    def _post(self, what: str, deadline: Deadline, **params: Any) -> Reply:
        try:
            return self._api.post(self._path(what), deadline=deadline, **params)
        except ProtocolError as error:
            raise _meant(error) from None


def _meant(error: ProtocolError) -> ProtocolError:
    if error.status == 500 and any(text in str(error) for text in NOT_RUNNING):
        return AgentAway(str(error), status=error.status)
    return error


class Container:
    """A container by ``pct exec`` on its node. It has no agent, and needs none."""

    def __init__(self, sid: str, node: str, nodes: Nodes) -> None:
        self.sid = sid
        self.node = node
        self._nodes = nodes

    def ping(self, deadline: Deadline) -> None:
        """A program can run in it."""
        found = self.run(deadline, "true")
        if found.status != 0:
            raise AgentAway(f"{self.sid}: `true` ended with status {found.status} in it: {found.err.strip()[:200]}")

    def run(self, deadline: Deadline, *words: str, input: str = "") -> Ran:
        """The program ran in the container, once, and ended; see ``Inside``."""
        line = quote("pct", "exec", self.sid.partition(":")[2], "--", *words)
        ssh = self._nodes[self.node].ssh
        found = ssh.run(line, deadline=deadline, acts=True, input=input.encode())
        out, err = found.stdout.decode(errors="replace"), found.stderr.decode(errors="replace")
        if found.exit_status != 0 and ("not running" in err or "does not exist" in err):
            raise AgentAway(f"node {self.node}: {err.strip()[:200]}")
        return Ran(found.exit_status, out, err, found.asked_at, found.answered_at)

    def read(self, path: str, deadline: Deadline) -> bytes:
        """That file, whole."""
        found = self._good(self.run(deadline, "base64", path), f"{path} cannot be read")
        try:
            return base64.b64decode("".join(found.split()), validate=True)
        except ValueError as error:
            raise ProtocolError(f"{self.sid}: `base64 {path}` printed no base64: {error}") from None

    def write(self, path: str, content: bytes, deadline: Deadline) -> None:
        """That file has this content."""
        text = base64.b64encode(content).decode()
        line = into(quote("base64", "-d"), path)
        self._good(self.run(deadline, "/bin/sh", "-c", line, input=text), f"{path} cannot be written")

    def _good(self, ran: Ran, what: str) -> str:
        if ran.status != 0:
            raise ProtocolError(f"{self.sid}: {what}: {ran.err.strip()[:200]}")
        return ran.out


__all__ = ["Agent", "AgentAway", "Container", "Inside", "Ran", "inside"]
