"""Storages: as the cluster has them configured, as each node finds them, and how long a node waits for a lost one.

What a node's kernel does with a silent server is read from the kernel itself (/proc/mounts, /sys/class/iscsi_session):
a record that says another timeout counts from the next login on only (iscsiadm(8), -o update).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.reading import Said, once, some_rows
from pytest_pveha.handles.shell import quote
from pytest_pveha.wire.pve_api import PveApi, api_path

NFS, ISCSI = "nfs", "iscsi"
SERVED: Final = {NFS: 2049, ISCSI: 3260}
"""Types whose data one machine serves to all nodes, and the TCP port it listens on unless said."""

NO_SESSIONS: Final = 21
"""``iscsiadm``'s exit status where there is nothing to list (open-iscsi, iscsi_err.h: ISCSI_ERR_NO_OBJS_FOUND)."""

_SESSION = re.compile(r"^(?:tcp|iser): \[(\d+)\] (\S+):(\d+),\S+ (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Defined:
    """A storage of /etc/pve/storage.cfg."""

    name: str
    type: str
    shared: bool
    content: frozenset[str]
    nodes: frozenset[str] = frozenset()
    """The only nodes that have it; empty: all."""
    disabled: bool = False
    path: str = ""
    """nfs, cifs, cephfs, dir: where it is mounted, or lies."""
    target: str = ""
    """iscsi: the target's name."""
    server: str = ""
    """nfs: its server; iscsi: its portal; as configured."""
    base: str = ""
    """lvm: the storage that its volume group lies on, where the configuration says it."""

    def on(self, node: str) -> bool:
        """Whether that node has it."""
        return not self.disabled and (not self.nodes or node in self.nodes)

    @property
    def shared_by_word(self) -> bool:
        """Whether it is somebody's word alone that it is shared: PVE mounts nothing there (pvesm(1), shared)."""
        return self.shared and self.type in ("dir", "btrfs", "lvm")

    @property
    def replicable(self) -> bool:
        """Whether pvesr replicates what lies there (pve-storage: zfspool alone)."""
        return self.type == "zfspool"


@dataclass(frozen=True, slots=True)
class Found:
    """A storage as one node finds it."""

    active: bool
    enabled: bool
    total: int
    used: int


@dataclass(frozen=True, slots=True)
class Path:
    """How one node reaches a served storage, and what it does when the server is silent."""

    server: str
    port: int
    gives_up: float | None
    """Seconds after which requests fail; None: never."""
    why: str
    """Where that was read."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/mounts (proc_pid_mounts(5))."""

    source: str
    target: str
    type: str
    options: tuple[str, ...]

    def option(self, name: str) -> str | None:
        """The value of an option; empty for one without a value, None where it is not there."""
        for each in self.options:
            key, _, value = each.partition("=")
            if key == name:
                return value
        return None


class Storages:
    """The storages by the API. Keeps no state."""

    def __init__(self, api: PveApi) -> None:
        self._api = api

    def defined(self, deadline: Deadline) -> dict[str, Defined]:
        """Every storage as configured, by name: GET /storage. Without Datastore.Audit PVE shows none."""
        rows = some_rows(self._api.get("/storage", deadline=deadline).value, "GET /storage")
        return once(((row.word("storage"), _defined(row)) for row in rows), "GET /storage")

    def found(self, node: str, deadline: Deadline) -> dict[str, Found]:
        """Every storage as that node finds it now: GET /nodes/{node}/storage.

        With a silent NFS server the node answers after ten seconds and more (pve-storage NFSPlugin.pm): it is asked
        itself where it can be, for nobody else is waited for so long.
        """
        path = api_path("nodes", node, "storage")
        itself = node if any(endpoint.name == node for endpoint in self._api.endpoints) else None
        rows = some_rows(self._api.get(path, deadline=deadline, at=itself).value, f"GET {path}")
        return once(((row.word("storage"), _found(row)) for row in rows), f"GET {path}")


def volumes(node: Node, storage: Defined, deadline: Deadline) -> frozenset[str]:
    """The volumes on that storage as this node itself finds it; of a directory that is not mounted there, none."""
    told = node.command(deadline, "pvesm", "list", storage.name)
    return frozenset(line.split()[0] for line in told.split("\n")[1:] if line.strip())


def paths(node: Node, storage: Defined, deadline: Deadline) -> tuple[Path, ...]:
    """Every way by which the node reaches that storage's server, by its kernel.

    Raises:
        ProtocolError: it is of another type, not mounted or not logged in there, or its kernel says something else.
    """
    if storage.type == NFS:
        return (_nfs(node, storage, mounts(node.command(deadline, "cat", "/proc/mounts"))),)
    if storage.type != ISCSI:
        raise ProtocolError(f"storage {storage.name} is of type {storage.type}; its server is not one that can be cut")
    found = tuple(_iscsi(node, storage, deadline))
    if not found:
        raise ProtocolError(f"node {node.name} has no iSCSI session to {storage.target}, the target of {storage.name}")
    return found


def _nfs(node: Node, storage: Defined, there: list[Mount]) -> Path:
    mount = next((one for one in there if one.target == storage.path and one.type in ("nfs", "nfs4")), None)
    if mount is None:
        raise ProtocolError(f"node {node.name} has no NFS mounted at {storage.path}, the path of {storage.name}")
    server, port = mount.option("addr"), mount.option("port")
    if not server:
        raise ProtocolError(f"node {node.name}: /proc/mounts does not say the server's address of {storage.path}")
    seconds, words = nfs_patience(mount)
    return Path(server, int(port) if port and port.isdigit() else SERVED[NFS], seconds, words)


def nfs_patience(mount: Mount) -> tuple[float | None, str]:
    """After how many seconds without an answer requests fail, and in what words; None: never.

    A soft mount's requests fail with a major timeout, timeo tenths of a second times (retrans + 1) over TCP (nfs(5);
    the kernel's net/sunrpc/xprt.c, xprt_calc_majortimeo). A mount that does not say is a hard one.
    """
    soft = next((name for name in ("soft", "softerr", "softreval") if mount.option(name) is not None), None)
    if soft in (None, "softreval"):
        return None, "hard"
    timeo, retrans = mount.option("timeo") or "", mount.option("retrans") or ""
    if not (timeo.isdigit() and retrans.isdigit()):
        told = ",".join(mount.options)
        raise ProtocolError(f"the mount {mount.target} is {soft}, and says no timeo and retrans: {told}")
    return int(timeo) / 10 * (int(retrans) + 1), f"{soft}, timeo={timeo} × (retrans={retrans} + 1) / 10"


def mounts(text: str) -> list[Mount]:
    """The mounts in a /proc/mounts; blanks in names stand there as octal numbers."""
    found = []
    for line in text.split("\n"):
        fields = line.split(" ")
        if len(fields) >= 4:
            source, target = (re.sub(r"\\([0-7]{3})", lambda each: chr(int(each[1], 8)), one) for one in fields[:2])
            found.append(Mount(source, target, fields[2], tuple(fields[3].split(","))))
    return found


def _iscsi(node: Node, storage: Defined, deadline: Deadline) -> Iterator[Path]:
    line = quote("iscsiadm", "-m", "session")
    result = node.ssh.run(line, deadline=deadline)
    if result.exit_status not in (0, NO_SESSIONS):
        said = result.stderr.decode(errors="replace").strip()[:200]
        raise ProtocolError(f"node {node.name}: `{line}` ended with status {result.exit_status}: {said}")
    for number, server, port, target in sessions(result.stdout.decode(errors="replace")):
        if target == storage.target:
            where = f"/sys/class/iscsi_session/session{number}/recovery_tmo"
            seconds, words = iscsi_patience(node.command(deadline, "cat", where).strip(), where)
            yield Path(server, port, seconds, words)


def sessions(text: str) -> list[tuple[int, str, int, str]]:
    """Number, server, port and target of each session that ``iscsiadm -m session`` lists."""
    return [(int(one[1]), one[2].strip("[]"), int(one[3]), one[4]) for one in _SESSION.finditer(text)]


def iscsi_patience(text: str, where: str) -> tuple[float | None, str]:
    """After how many seconds without a path requests fail, by a session's recovery_tmo; None: never.

    It is node.session.timeo.replacement_timeout as of the login: 0 fails them at once, less waits for ever
    (iscsid.conf; drivers/scsi/scsi_transport_iscsi.c).
    """
    if text == "off" or text.startswith("-"):
        return None, f"{where} is {text}"
    if not text.isdigit():
        raise ProtocolError(f"{where} is {text[:40]!r}, expected a number of seconds")
    return float(text), f"replacement_timeout = {text} s ({where})"


def reaches(node: Node, server: str, port: int, deadline: Deadline) -> bool:
    """Whether a TCP connection from that node to that port comes about within two seconds.

    curl tells when it was connected, whatever came of it (curl(1), --write-out: time_connect is 0 where it was not).
    """
    host = f"[{server}]" if ":" in server else server
    words = ("curl", "--silent", "--connect-timeout", "2", "--max-time", "2", "--write-out", "%{time_connect}")
    result = node.ssh.run(quote(*words, f"telnet://{host}:{port}"), deadline=deadline, input=b"")
    said = result.stdout.decode(errors="replace").strip()
    try:
        return float(said) > 0
    except ValueError:
        told = result.stderr.decode(errors="replace").strip()[:200]
        raise ProtocolError(
            f"node {node.name}: curl could not try {host}:{port} (status {result.exit_status}): {told or said[:100]}"
        ) from None


def _defined(row: Said) -> Defined:
    return Defined(
        name=row.word("storage"),
        type=row.word("type"),
        shared=row.truth("shared", False),
        content=frozenset(row.word("content", "").split(",")) - {""},
        nodes=frozenset(row.word("nodes", "").split(",")) - {""},
        disabled=row.truth("disable", False),
        path=row.word("path", ""),
        target=row.word("target", ""),
        server=row.word("server", "") or row.word("portal", ""),
        base=row.word("base", "").partition(":")[0],
    )


def _found(row: Said) -> Found:
    return Found(row.truth("active", False), row.truth("enabled", True), row.count("total", 0), row.count("used", 0))
