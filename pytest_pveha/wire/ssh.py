"""Commands on a node over SSH (paramiko): host keys as the inventory says, a deadline for every command.

Nothing runs twice: a command goes out at most once, and when the link dies after that, Unreachable says so.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import select
import shlex
import socket
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NewType

import paramiko
from paramiko.hostkeys import HostKeyEntry, HostKeys, InvalidHostKey
from paramiko.ssh_exception import IncompatiblePeer

from pytest_pveha.clock import Clock, Deadline, Instant
from pytest_pveha.errors import AuthRefused, ProtocolError, SiteError, TimedOut, Unreachable, UsageError
from pytest_pveha.wire import redaction
from pytest_pveha.wire.tcp import BACKSTOP, Address, Hold, reason

LARGEST_OUTPUT = 64 * 1024 * 1024
"""Bytes of one stream of one command that we are ready to hold."""

KEEPALIVE_SECONDS = 15
"""So that firewalls between us and a node do not forget an idle connection. Live clocks only: it runs in real time."""

KEPT_OFF = (
    ' before a greeting; if its log says "penalty", it keeps this machine off after bare connections or failed logins '
    "(PerSourcePenalties in its sshd_config): wait ten minutes, or exempt this machine there"
)
"""Since OpenSSH 9.8: sshd says "Not allowed at this time" and hangs up (captured from OpenSSH 10.0p2, Debian 13)."""
ShellLine = NewType("ShellLine", str)
"""A shell command in which every value was quoted: made by ``quote``, and by what joins such lines (handles/shell.py).
"""

_LOG = "pytest_pveha.wire.ssh.transport"
_CHUNK = 256 * 1024
_INPUT_POLL_MS = 20


@dataclass(frozen=True, slots=True)
class SshTarget:
    """Where and as whom to log in, and which host key to expect.

    Args:
        key: private key file; without a passphrase, or loaded in the agent instead.
        known_hosts: an OpenSSH known_hosts file (plain or hashed names). Other files are never read.
        host_keys: ``TYPE BASE64`` as ``ssh-keyscan`` prints them, instead of or beside ``known_hosts``.
        agent: whether the running ssh-agent's keys may be offered, after ``key``.
        jump: the host to go through.
    """

    name: str
    host: str
    port: int = 22
    user: str = "root"
    key: Path | None = None
    known_hosts: Path | None = None
    host_keys: tuple[str, ...] = ()
    agent: bool = False
    jump: SshTarget | None = None

    @property
    def who(self) -> str:
        """How messages call it."""
        return f"{self.name} ({self.user}@{self.host}:{self.port})"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended, and between which moments it ran.

    ``exit_status`` is -1 when a signal ended it (the SSH server then names none).
    """

    exit_status: int
    stdout: bytes
    stderr: bytes
    asked_at: Instant
    answered_at: Instant


def quote(*words: str | int | Path) -> ShellLine:
    """The shell command of these words, each quoted. The one place where a value becomes part of a command."""
    return ShellLine(" ".join(shlex.quote(str(word)) for word in words))


class Ssh:
    """Commands on one target. Connects when first needed, and anew when the connection is gone.

    Fit for several threads: each has a connection of its own, so that a deadline in one breaks nobody else's command.
    """

    def __init__(self, target: SshTarget, clock: Clock) -> None:
        redaction.install()
        _quieten()
        self.target = target
        self._clock = clock
        self._route = _route(target)
        self._addresses = Address(self._route[0].host, self._route[0].port)
        self._lock = threading.Lock()
        self._links: dict[threading.Thread, _Link] = {}

    def run(self, command: str, *, deadline: Deadline, acts: bool = False, input: bytes | None = None) -> CommandResult:
        """``command`` ran under the user's shell, once, and ended.

        Args:
            command: words and values put together by ``quote``.
            acts: it changes something. Then a lost link is reported as "unknown whether it ran".
            input: its standard input; otherwise that is empty.

        Raises:
            Unreachable: nobody answered, or the link died, within the deadline.
            AuthRefused: host key, user or key; nothing was run.
            ProtocolError: no SSH server, or one that will not run commands.
        """
        for fresh in (False, True):
            if deadline.expired():
                raise Unreachable(f"{self.target.who}: the deadline had passed before {_short(command)} was sent")
            link = self._link()
            reused = link.up
            try:
                return self._once(link, command, deadline, acts, input)
            except _Stale as told:
                # Nothing was sent: a kept connection had died since its last use (the node rebooted, say).
                if fresh or not reused:
                    raise Unreachable(str(told)) from None
        raise AssertionError("unreachable")

    def close(self) -> None:
        """No connection is left open. The next command opens one again."""
        with self._lock:
            links, self._links = self._links, {}
        for link in links.values():
            link.close()

    def _once(self, link: _Link, command: str, deadline: Deadline, acts: bool, input: bytes | None) -> CommandResult:
        failure: SiteError
        try:
            if not link.up:  # apart, so that asked_at is the command's and not the connection's
                with self._clock.guard(deadline, link.begin(), peers=[self._addresses.port]):
                    link.open()
                link.end()
            asked_at = self._clock.now()
            with self._clock.guard(deadline, link.begin(), peers=[self._addresses.port]):
                status, stdout, stderr = link.execute(command, input)
        except Exception as error:
            link.close()
            failure = self._meaning(error, link, command, acts)
        else:
            return CommandResult(status, stdout, stderr, asked_at, self._clock.now())
        finally:
            link.end()
        raise failure

    def _link(self) -> _Link:
        """This thread's link: its own, or one whose thread has ended, or a new one."""
        me = threading.current_thread()
        with self._lock:
            if me not in self._links:
                ended = next((thread for thread in self._links if not thread.is_alive()), None)
                keepalive = not self._clock.simulated
                self._links[me] = (
                    self._links.pop(ended) if ended else _Link(self._route, self._addresses, keepalive=keepalive)
                )
            return self._links[me]

    def _meaning(self, error: Exception, link: _Link, command: str, acts: bool) -> SiteError:
        """What ``error`` says about the node; programming errors are raised as they are."""
        who = self.target.who
        if isinstance(error, SiteError):
            return error
        if isinstance(error, paramiko.ChannelException):
            return ProtocolError(f"{who} opens no session: {error.text} (MaxSessions in its sshd_config?)")
        late = isinstance(error, TimedOut)
        if not late and not isinstance(error, EOFError | OSError | paramiko.SSHException):
            raise error
        what = "did not answer within the deadline" if late else f"cannot be reached: {_why(error)}"
        if link.sent:
            after = (
                f"{_short(command)} had gone out: it is unknown whether it ran, and it is not repeated"
                if acts
                else f"{_short(command)} had gone out, and its result is lost"
            )
            return Unreachable(f"{who} {what}. {after}")
        return Unreachable(f"{who} {what}; {_short(command)} was not sent") if late else _Stale(f"{who} {what}")


class _Stale(Unreachable):
    """The link died before the command was sent."""


class _Link:
    """One thread's connection, through the jump hosts to the target. One command at a time."""

    def __init__(self, route: tuple[SshTarget, ...], address: Address, *, keepalive: bool) -> None:
        self._route = route
        self._address = address
        self._keepalive = keepalive
        self._transports: list[paramiko.Transport] = []
        self._socket: socket.socket | None = None
        self._channel: paramiko.Channel | None = None
        self._hold = Hold()
        self.sent = False

    @property
    def up(self) -> bool:
        """Whether a connection stands, as far as this end knows."""
        return len(self._transports) == len(self._route) and all(each.is_authenticated() for each in self._transports)

    def begin(self) -> Callable[[], None]:
        """A new command has begun; returns what breaks it."""
        hold = self._hold = Hold()
        self.sent = False

        def sever() -> None:
            hold.sever()
            channel = self._channel
            if hold.severed and channel is not None:
                channel.event.set()  # paramiko waits for it without looking at the transport

        return sever

    def end(self) -> None:
        """The command has ended."""
        self._hold.let_go()
        self._channel = None
        if self._hold.severed:
            self.close()

    def open(self) -> None:
        """A new, logged-in connection stands."""
        self.close()
        sock: paramiko.Channel | socket.socket
        sock = self._socket = self._address.connect(self._hold)
        for here, target in enumerate(self._route):
            transport = _transport(sock)
            self._transports.append(transport)
            _log_in(transport, target)
            if self._keepalive:
                transport.set_keepalive(KEEPALIVE_SECONDS)
            if here + 1 < len(self._route):
                sock = _through(transport, target, self._route[here + 1])

    def execute(self, command: str, input: bytes | None) -> tuple[int, bytes, bytes]:
        """Exit status, stdout and stderr of ``command``."""
        if self._socket is not None:
            self._hold.take(self._socket)
        transport = self._transports[-1]
        channel = self._channel = transport.open_session(timeout=BACKSTOP)
        try:
            self.sent = True
            try:
                channel.exec_command(command)
            except paramiko.SSHException as error:
                if not transport.is_active():
                    raise
                raise ProtocolError(f"{self._route[-1].who} runs no commands for us: {error}") from None
            out, err = _Stream("stdout"), _Stream("stderr")
            _converse(channel, input or b"", out, err)
            status = channel.recv_exit_status()
            if status == -1:
                # A signal ended the command, or the link died: paramiko says the same of both. A link that opens
                # another session has not died; one that has raises here.
                transport.open_session(timeout=BACKSTOP).close()
            return status, bytes(out.data), bytes(err.data)
        finally:
            channel.close()

    def close(self) -> None:
        """No connection stands."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # wakes paramiko's reader, which would look again only after 0.1 s
                self._socket.shutdown(socket.SHUT_RDWR)
        transports, self._transports = self._transports, []
        for transport in reversed(transports):
            # through a jump host paramiko says goodbye over a link that is gone already, and complains of that
            with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
                transport.close()
        if self._socket is not None:
            self._socket.close()  # last: the reader is gone, and its descriptor's number may be given away
            self._socket = None


class _Stream:
    """One output stream, bounded."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.data = bytearray()

    def add(self, chunk: bytes) -> None:
        self.data += chunk
        if len(self.data) > LARGEST_OUTPUT:
            raise ProtocolError(f"a command wrote more than {LARGEST_OUTPUT >> 20} MiB to {self._name}")


def _converse(channel: paramiko.Channel, input: bytes, out: _Stream, err: _Stream) -> None:
    """Input is written and both streams are read as they come: draining one before the other deadlocks at 2 MiB."""
    waiting = select.poll()
    waiting.register(channel.fileno(), select.POLLIN)
    rest = memoryview(input)
    if not rest:
        channel.shutdown_write()
    while True:
        moved = False
        while channel.recv_ready():
            out.add(channel.recv(_CHUNK))
            moved = True
        while channel.recv_stderr_ready():
            err.add(channel.recv_stderr(_CHUNK))
            moved = True
        if channel.eof_received or channel.closed:
            if not (channel.recv_ready() or channel.recv_stderr_ready()):
                return
            continue
        if rest and channel.send_ready():
            rest = rest[channel.send(bytes(rest[:_CHUNK])) :]
            moved = True
            if not rest:
                channel.shutdown_write()
        if not moved:
            # output and end wake the poll; room for more input does not, so then it looks again by itself
            waiting.poll(_INPUT_POLL_MS if rest else None)


def _transport(sock: paramiko.Channel | socket.socket) -> paramiko.Transport:
    """A started transport over ``sock``; its own timeouts are backstops."""
    transport = paramiko.Transport(sock)
    transport.set_log_channel(_LOG)
    transport.banner_timeout = transport.handshake_timeout = BACKSTOP
    transport.auth_timeout = transport.channel_timeout = BACKSTOP
    return transport


def _log_in(transport: paramiko.Transport, target: SshTarget) -> None:
    """The host key is the one we expect, and we are logged in."""
    expected = _expected(target)
    known_types = {key.get_name() for key, _ in expected}
    options = transport.get_security_options()
    # ask for a key of a type we know: a host has one of each, and another type would look like a change
    options.key_types = sorted(options.key_types, key=lambda offered: _family(offered) not in known_types)
    try:
        transport.start_client(timeout=BACKSTOP)
    except IncompatiblePeer as error:
        raise ProtocolError(f"{target.who} has no algorithm in common with us: {error}") from None
    except paramiko.SSHException as error:
        if isinstance(_cause(error), EOFError | OSError):
            raise EOFError(f"{_why(error)}{'' if transport.remote_version else KEPT_OFF}") from None
        raise ProtocolError(f"{target.who} speaks no SSH that we understand: {error}") from None
    _check_host_key(transport.get_remote_server_key(), expected, target)
    _authenticate(transport, target)


def _authenticate(transport: paramiko.Transport, target: SshTarget) -> None:
    keys = [(f"key file {target.key}", _private_key(target.key))] if target.key is not None else []
    if target.agent:
        keys += [("a key of the agent", key) for key in paramiko.Agent().get_keys()]
    refused: list[str] = []
    for named, key in keys:
        try:
            if not transport.auth_publickey(target.user, key):
                return
            refused.append(f"{named}: it wants another factor too")
        except paramiko.AuthenticationException as error:
            if not refused and "transport shut down" in str(error):  # paramiko says that of a lost link too
                raise EOFError("closed during authentication") from None
            refused.append(f"{named} ({_fingerprint(key)}): {reason(error)}")
    tried = "; ".join(refused) or "the inventory names no key file, and the agent has none"
    # on a Proxmox VE node root's authorized_keys is a link into /etc/pve (seen on 9.2): no pmxcfs, no login
    raise AuthRefused(
        f"{target.who} refused us: {tried}. Is the public key in its authorized_keys? On a PVE node those lie in "
        "/etc/pve, which is there only while pve-cluster runs."
    )


def _private_key(path: Path) -> paramiko.PKey:
    try:
        mode = stat.S_IMODE(path.expanduser().stat().st_mode)
    except OSError as error:
        raise UsageError(f"{path}: the SSH key cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise UsageError(
            f"{path}: the SSH key may be read by others (mode {mode:04o}), who could log in to the nodes with it; "
            f"type: chmod 600 {quote(path)}, or make a new key if anyone may have copied it"
        )
    try:
        return paramiko.PKey.from_path(path.expanduser())
    except OSError as error:
        raise UsageError(f"{path}: the SSH key cannot be read: {error.strerror}") from None
    except (paramiko.PasswordRequiredException, TypeError):  # the latter is how the crypto library asks for one
        raise UsageError(f"{path}: the SSH key has a passphrase; load it in the agent, and name no key_file") from None
    except Exception as error:  # paramiko lets its parsers' own errors through
        raise UsageError(f"{path}: no SSH private key that we understand ({type(error).__name__})") from None


def _expected(target: SshTarget) -> list[tuple[paramiko.PKey, str]]:
    """The host keys that may be shown, each with where it is written."""
    keys = [(_public_key(line), "the inventory's host_keys") for line in target.host_keys]
    if target.known_hosts is not None:
        keys += _known(target.known_hosts, target)
    return keys


def _known(path: Path, target: SshTarget) -> list[tuple[paramiko.PKey, str]]:
    wanted = target.host if target.port == 22 else f"[{target.host}]:{target.port}"
    found = []
    try:
        lines = path.expanduser().read_text("utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"{path}: known_hosts cannot be read: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(("#", "@")):  # neither comments nor certificates and revocations
            continue
        try:
            entry = HostKeyEntry.from_line(line.strip(), number)
        except (InvalidHostKey, paramiko.SSHException, ValueError):
            raise UsageError(f"{path}:{number}: no line of a known_hosts file") from None
        if entry is not None and any(_names(each, wanted) for each in entry.hostnames):
            found.append((entry.key, f"{path}:{number}"))
    return found


def _names(pattern: str, host: str) -> bool:
    return HostKeys.hash_host(host, pattern) == pattern if pattern.startswith("|1|") else pattern == host


def _public_key(line: str) -> paramiko.PKey:
    words = line.split()
    try:
        # a whole known_hosts line is fine too: the type is the word before the base64
        kind, blob = (
            (words[-2], words[-1])
            if len(words) == 2
            else next((words[i], words[i + 1]) for i in range(len(words) - 1) if words[i + 1].startswith("AAAA"))
        )
        return paramiko.PKey.from_type_string(kind, base64.b64decode(blob))
    except Exception:
        raise UsageError(f"SSH: {line!r} is no host key; write `TYPE BASE64`, as ssh-keyscan prints it") from None


def _check_host_key(shown: paramiko.PKey, expected: list[tuple[paramiko.PKey, str]], target: SshTarget) -> None:
    """The host shows a key that we expect.

    Raises:
        AuthRefused: it does not; the message shows the fingerprints and where to change what.
    """
    if any(shown == key for key, _ in expected):
        return
    shows = f"it shows {shown.get_name()} {_fingerprint(shown)}"
    if not expected:
        where = f"{target.known_hosts}" if target.known_hosts is not None else "the inventory's host_keys"
        raise AuthRefused(
            f"{target.who}: its host key is unknown: {shows}, and {where} has none for it. We did not log in. Compare "
            f"with `ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub` on its console, then add it there."
        )
    have = "; ".join(f"{where} has {key.get_name()} {_fingerprint(key)}" for key, where in expected)
    raise AuthRefused(
        f"{target.who}: its host key is another one: {shows}; {have}. We did not log in. If the host was reinstalled, "
        f"compare with `ssh-keygen -lf` on its console and change that line; otherwise somebody is in between."
    )


def _through(transport: paramiko.Transport, jump: SshTarget, target: SshTarget) -> paramiko.Channel:
    try:
        return transport.open_channel("direct-tcpip", (target.host, target.port), ("127.0.0.1", 0), timeout=BACKSTOP)
    except paramiko.ChannelException as error:
        raise Unreachable(f"{target.who}: the jump host {jump.who} cannot connect to it: {error.text}") from None


def _route(target: SshTarget) -> tuple[SshTarget, ...]:
    """The hosts to log in to, from us to the target."""
    return (*(_route(target.jump) if target.jump is not None else ()), target)


def _family(algorithm: str) -> str:
    """The key type that signs by ``algorithm``: an ssh-rsa key by rsa-sha2 (RFC 8332)."""
    return "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm


def _fingerprint(key: paramiko.PKey) -> str:
    """As ``ssh-keygen -l`` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def _cause(error: BaseException) -> BaseException:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _why(error: BaseException) -> str:
    root = _cause(error) if isinstance(error, paramiko.SSHException) else error
    return "the connection was closed" if isinstance(root, EOFError) and not str(root) else reason(root)


def _short(command: str) -> str:
    """The command, fit for a message."""
    line = redaction.scrub(command)
    return f"`{line if len(line) <= 80 else line[:77] + '...'}`"


def _demote(record: logging.LogRecord) -> bool:
    # paramiko logs tracebacks at ERROR for every lost link; what it means is in the exception we raise
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return logging.getLogger(_LOG).isEnabledFor(logging.DEBUG)


def _quieten() -> None:
    logging.getLogger(_LOG).addFilter(_demote)


__all__ = ["CommandResult", "ShellLine", "Ssh", "SshTarget", "quote"]
