"""IPMI 2.0 over LAN, as the run uses it: power state, power commands, identity, event log, privilege.

The session lives in a helper process (``ipmi_child``); every call is bounded by ``clock.guard``, whose abort kills
that helper. ipmitool stands in when pyghmi cannot agree with a BMC.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import logging
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from pytest_pveha.clock import SECOND, Clock, Deadline, Instant
from pytest_pveha.errors import AuthRefused, ProtocolError, SiteError, TimedOut, Unreachable
from pytest_pveha.wire.bmc import BmcAccess, NodeCommands, PowerCommand, PowerReading, SelEntry, boot_flags
from pytest_pveha.wire.ipmi_cipher import cipher_zero_opens
from pytest_pveha.wire.ipmi_sel import FIRST, LAST, MOST_ENTRIES, RECORD_LENGTH, decoded
from pytest_pveha.wire.redaction import Hidden

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

SESSION, NEW_SESSION, IPMITOOL = "IPMI session", "new IPMI session", "ipmitool"

RENEW_AFTER = 30 * SECOND
"""A session idle for this long is not trusted: BMCs end idle sessions after 60 s ± 3 s (IPMI 2.0 §6.12.15)."""

FAREWELL_SECONDS = 5.0

STARTED_WITHIN = 30.0
"""Real seconds for a helper to be started, pyghmi being loaded; a backstop."""

_CONTROL: dict[PowerCommand, int] = {"off": 0, "on": 1, "cycle": 2, "reset": 3, "soft": 5}
_PRIVILEGES = {"USER": 2, "OPERATOR": 3, "ADMINISTRATOR": 4}
_CHASSIS, _APPLICATION, _STORAGE, _TRANSPORT = 0x00, 0x06, 0x0A, 0x0C
_BOOT_FLAGS = 5
_NOT_PRESENT, _LACKING = 0xCB, 0xD4
_DISABLED, _NO_ACCESS, _MESSAGING = 2, 0x0F, 0x10
_Ask = Callable[..., list[int]]
"""Gives the data of one command: network function, command, data bytes."""
_PYGHMI_SUITES = (None, 3, 17)
_ATTEMPTS = 3
"""Helper processes that may end by themselves before a call gives up."""

_COMPLETION = {
    0xC0: "node busy",
    0xC1: "invalid command",
    0xC3: "timed out inside the BMC",
    0xC9: "parameter out of range",
    0xCB: "requested sensor, data or record not present",
    0xCC: "invalid data field",
    0xD4: "insufficient privilege level",
    0xD5: "command not supported in the present state",
    0xFF: "unspecified error",
}


class _Died(Exception):
    """The helper process ended: killed by the abort of its call, or by itself."""


class _Refused(Exception):
    """The helper answered that it could not be done."""

    def __init__(self, kind: str, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.code = code


class _Child:
    """One helper process, which holds at most one session. OSError when none can be started."""

    def __init__(self, nursery: _Nursery) -> None:
        self._channel, theirs = socket.socketpair()
        try:
            with theirs:
                self.pid, self._ended = nursery.fork(theirs)
        except BaseException:
            self._channel.close()
            raise
        self._lock = threading.Lock()
        self._pending = b""
        self.last_used = 0

    def ask(self, **message: Any) -> dict[str, Any]:
        """Its answer to one message. Raises _Died or _Refused."""
        try:
            self._channel.sendall(json.dumps(message).encode() + b"\n")
            while b"\n" not in self._pending:
                chunk = self._channel.recv(65536)
                if not chunk:
                    raise _Died
                self._pending += chunk
        except OSError as error:
            raise _Died from error
        line, _, self._pending = self._pending.partition(b"\n")
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:  # somebody else wrote into its channel
            raise _Died from None
        if not answer["ok"]:
            raise _Refused(answer["kind"], answer["text"])
        return answer

    def kill(self) -> None:
        """It runs no more. Safe from any thread, any number of times."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._ended >= 0:
                signal.pidfd_send_signal(self._ended, signal.SIGKILL)

    def farewell(self) -> None:
        """Its session is closed at the BMC, if that still listens, and it is gone."""
        with contextlib.suppress(OSError):
            self._channel.sendall(b'{"op": "close"}\n')
            # it sends one datagram and ends; the backstop is for a helper that hangs, and decides nothing
            select.select([self._ended], [], [], FAREWELL_SECONDS)
        self.reap()

    def reap(self) -> None:
        """It is gone, and so is its channel. Only by the thread that used it."""
        self.kill()
        with self._lock:
            if self._ended >= 0:
                select.select([self._ended], [], [])
                os.close(self._ended)
                self._ended = -1
        self._channel.close()


class _Nursery:
    """A process that has loaded pyghmi and forks the helpers: starting each anew costs 0.1 s. Shared by all clients."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None
        self._users = 0

    def enter(self) -> None:
        """One more client."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """One client less; the last one takes the process with it."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._end()

    def fork(self, channel: socket.socket) -> tuple[int, int]:
        """The process id of a new helper, which serves that channel, and its pidfd. OSError when there can be none."""
        with self._lock:
            try:
                if self._orders is not None:
                    with contextlib.suppress(OSError):
                        return self._forked(self._orders, channel)
                    self._end()  # killed, or stuck: another one may fare better
                return self._forked(self._begin(), channel)
            except BaseException:
                self._end()  # interrupted in mid-answer, it would give the next one this one's
                raise

    def end(self) -> None:
        """It is not left behind when the interpreter ends."""
        with self._lock:
            self._end()

    def _forked(self, orders: socket.socket, channel: socket.socket) -> tuple[int, int]:
        socket.send_fds(orders, [b"fork"], [channel.fileno()])
        told, descriptors, _, _ = socket.recv_fds(orders, 64, 1)
        if not descriptors:
            raise OSError(int(told or errno.EPIPE), os.strerror(int(told or errno.EPIPE)))
        return int(told), descriptors[0]

    def _begin(self) -> socket.socket:
        package = str(Path(__file__).resolve().parents[2])
        # only what Python needs: no secret of the user's environment, no mark by which a CI server hunts processes
        kept = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
        env = {name: os.environ[name] for name in kept if name in os.environ}
        paths = (package, *os.environ.get("PYTHONPATH", "").split(os.pathsep))
        env["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._orders.settimeout(STARTED_WITHIN)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pytest_pveha.wire.ipmi_child", str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=env,
            )
        return self._orders

    def _end(self) -> None:
        orders, process = self._orders, self._process
        self._orders = self._process = None
        if orders is not None:
            orders.close()
        if process is not None:
            process.kill()
            process.wait()


_nursery = _Nursery()
atexit.register(_nursery.end)


class _Call:
    """One guarded call: the process it waits for dies when the call is aborted, even one not yet started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kill: Callable[[], None] | None = None
        self.aborted = False
        self.sent = False
        """Whether a power command may have left us."""

    def abort(self) -> None:
        """Whatever the call waits for is killed; it may wait for nothing else."""
        with self._lock:
            self.aborted = True
            if self._kill is not None:
                self._kill()

    def waits_for(self, kill: Callable[[], None]) -> None:
        """From now on an abort calls ``kill``. Raises _Died when the call is aborted already."""
        with self._lock:
            self._kill = kill
            if self.aborted:
                kill()
                raise _Died


class IpmiBmc:
    """One BMC, asked over IPMI 2.0 (RMCP+).

    Every method raises Unreachable (nobody answered by the deadline), AuthRefused (user, password or privilege) or
    ProtocolError (an answer that does not serve; ``status`` is the completion code where there is one).
    Calls from several threads do not wait for each other: each has a session of its own.

    Args:
        password: asked for at each login, kept nowhere, and handed to the helper over its stdin.
        cipher: a cipher suite number to insist on; by default 17, and 3 where the BMC refuses it.
        privilege: USER, OPERATOR or ADMINISTRATOR.
    """

    def __init__(
        self,
        address: str,
        port: int,
        user: str,
        password: Callable[[], str],
        clock: Clock,
        *,
        cipher: int | None = None,
        privilege: str = "ADMINISTRATOR",
    ) -> None:
        self._address = address
        self._port = port
        self._user = user
        self._password = password
        self._clock = clock
        self._cipher = cipher
        self._privilege = privilege
        self._lock = threading.Lock()
        self._idle: _Child | None = None
        self._by_tool = cipher not in _PYGHMI_SUITES
        self._closed = False
        _nursery.enter()

    def __repr__(self) -> str:
        return f"IpmiBmc({self._address}:{self._port})"

    def from_a_node(self, secret: str, deadline: Deadline) -> NodeCommands:
        """The commands for another machine's shell; ``secret`` is the file there that holds the password (``-f``)."""
        del deadline  # all of it is known
        ciphers = (17, 3) if self._cipher is None else (self._cipher,)

        def typed(*words: str) -> tuple[tuple[str, ...], ...]:
            where = ("-I", "lanplus", "-H", self._address, "-p", str(self._port), "-U", self._user, "-f", secret)
            how = ("-L", self._privilege, "-N", "2", "-R", "2")
            return tuple(("ipmitool", *where, *how, "-C", str(cipher), *words) for cipher in ciphers)

        return NodeCommands(
            on=typed("chassis", "power", "on"),
            reset=typed("chassis", "power", "reset"),
            status=typed("chassis", "power", "status"),
            off=typed("chassis", "power", "off"),
            tells=(typed("mc", "guid"), typed("lan", "print"), typed("session", "info", "active")),
            secret=Hidden(self._password()),
        )

    def power_state(self, deadline: Deadline) -> PowerReading:
        """The power state, read over the session kept open."""
        return self._read(deadline, fresh=False)

    def fresh_power_state(self, deadline: Deadline) -> PowerReading:
        """The power state, read by a new process over a new session: nothing an earlier one believes can colour it."""
        return self._read(deadline, fresh=True)

    def set_power(self, command: PowerCommand, deadline: Deadline) -> None:
        """The BMC has accepted the command; its effect comes later. Sent at most once, whatever happens.

        Any error that says "may have been carried out" comes after the sending; after every other one nothing was sent.
        """

        def control(child: _Child) -> None:
            # a session that still answers a question will also take the command
            _ask(child, _CHASSIS, 0x01)
            call.sent = True
            _ask(child, _CHASSIS, 0x02, _CONTROL[command], once=True)

        with self._bounded(deadline) as call:
            self._first_or_tool(
                lambda: self._on_session(call, control), lambda: self._tool_control(call, command), call
            )

    def identity(self, deadline: Deadline) -> dict[str, str]:
        """Who the BMC says it is: guid, manufacturer, product, firmware, mac, ip; what it does not tell is left out."""
        with self._bounded(deadline) as call:
            return self._first_or_tool(
                lambda: self._on_session(call, _identity), lambda: self._tool_identity(call), call
            )

    def sel(self, deadline: Deadline) -> tuple[SelEntry, ...]:
        """The system event log, oldest first."""
        return self._commands(deadline, _event_log)

    def access(self, deadline: Deadline) -> BmcAccess:
        """What our user may do here, and who else may log in."""
        return self._commands(deadline, lambda ask: _access(ask, self._user, self._privilege))

    def boot_override(self, deadline: Deadline) -> str | None:
        """What the BMC will make the next boot do, ``none`` for nothing; None where it does not tell our user."""
        return self._commands(deadline, _boot_override)

    def cipher_zero(self, deadline: Deadline) -> bool:
        """Whether anybody who knows our user's name can log in without a password, by cipher suite 0."""
        return cipher_zero_opens(self._address, self._port, self._user, self._clock, deadline)

    def close(self) -> None:
        """The session is closed at the BMC, if that still listens, and no process is left."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            child, self._idle = self._idle, None
        if child is not None:
            child.farewell()
        _nursery.leave()

    def _commands(self, deadline: Deadline, use: Callable[[_Ask], _T]) -> _T:
        """What ``use`` makes of commands that only read."""
        with self._bounded(deadline) as call:
            return self._first_or_tool(
                lambda: self._on_session(call, lambda child: use(partial(_ask, child))),
                lambda: use(partial(self._tool_ask, call)),
                call,
            )

    def _read(self, deadline: Deadline, *, fresh: bool) -> PowerReading:
        def chassis(child: _Child) -> tuple[bool, Instant, str]:
            asked = self._clock.now()
            return bool(_ask(child, _CHASSIS, 0x01)[0] & 1), asked, NEW_SESSION if fresh else SESSION

        with self._bounded(deadline) as call:
            on, asked, via = self._first_or_tool(
                lambda: self._on_session(call, chassis, fresh=fresh), lambda: self._tool_chassis(call), call
            )
        return PowerReading(on, asked, self._clock.now(), via)

    # sessions

    @contextmanager
    def _bounded(self, deadline: Deadline) -> Iterator[_Call]:
        """A call that ends at the deadline, with every failure in this package's own words.

        ``from None``: what is beneath carries the password in its frames.
        """
        call = _Call()
        try:
            with self._clock.guard(deadline, call.abort, peers=[self._port]):
                yield call
        except TimedOut:
            raise self._unreachable(call) from None
        except _Died:
            raise self._helper_died(call) from None
        except _Refused as refusal:
            raise self._refused(refusal, call) from None

    def _on_session(self, call: _Call, use: Callable[[_Child], _T], *, fresh: bool = False) -> _T:
        """What ``use`` makes of a session.

        Tried again when nobody answered, as the deadline alone decides how long that goes on, and when the helper
        ended by itself; never when a power command may have been sent.
        """
        deaths = 0
        while True:
            child = None if fresh else self._take_idle()
            opened = child is not None
            try:
                child = child or _start()
                call.waits_for(child.kill)
                if not opened:
                    self._open(child)
                result = use(child)
            except _Died:
                _reap(child)
                deaths += 1
                if call.aborted or call.sent or deaths == _ATTEMPTS:
                    raise
            except _Refused as refusal:
                if refusal.kind == "completion" and child is not None:
                    self._put_back(child, fresh)  # the BMC said no to the command; the session is sound
                    raise
                _reap(child)
                if refusal.kind != "timeout" or call.sent:
                    raise
            except BaseException:
                _reap(child)  # interrupted in mid-answer: the pipe is out of step
                raise
            else:
                self._put_back(child, fresh)
                return result

    def _open(self, child: _Child) -> None:
        child.ask(
            op="open",
            address=self._address,
            port=self._port,
            user=self._user,
            password=Hidden(self._password()),
            privilege=_PRIVILEGES[self._privilege],
            cipher=self._cipher,
        )

    def _take_idle(self) -> _Child | None:
        with self._lock:
            child, self._idle = self._idle, None
        if child is not None and self._clock.now().mono - child.last_used > RENEW_AFTER:
            child.farewell()
            return None
        return child

    def _put_back(self, child: _Child, fresh: bool) -> None:
        child.last_used = self._clock.now().mono
        with self._lock:
            if not fresh and self._idle is None and not self._closed:
                self._idle = child
                return
        child.farewell()

    def _first_or_tool(self, first: Callable[[], _T], tool: Callable[[], _T], call: _Call) -> _T:
        """What pyghmi answers, or ipmitool once pyghmi could not be brought to talk to this BMC at all."""
        if not self._by_tool:
            try:
                return first()
            except _Refused as refusal:
                if refusal.kind not in ("start", "suite", "protocol") or call.sent or shutil.which("ipmitool") is None:
                    raise
                _log.info("%r: pyghmi cannot be used (%s), ipmitool takes over", self, refusal.text)
                self._by_tool = True
        return tool()

    # ipmitool

    def _tool(self, call: _Call, *words: str) -> str:
        """What ipmitool prints; run again while the BMC gives no answer, unless a power command may have been sent."""
        argv = ["ipmitool", "-v", "-I", "lanplus", "-H", self._address, "-p", str(self._port), "-U", self._user]
        argv += ["-L", self._privilege, "-C", str(3 if self._cipher is None else self._cipher), "-N", "1", "-R", "1"]
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/", "LC_ALL": "C"}
        while True:
            if call.aborted:
                raise _Died
            try:
                with _in_memory(self._password()) as secret:
                    process = subprocess.Popen(
                        [*argv, "-f", f"/proc/self/fd/{secret}", *words],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        pass_fds=[secret],
                        env=env,
                        text=True,
                        errors="replace",
                    )
            except OSError as error:
                raise _Refused("start", f"ipmitool cannot be started ({error.strerror})") from None
            with process:
                try:
                    call.waits_for(process.kill)
                    out, err = process.communicate()
                except BaseException:
                    process.kill()
                    raise
            if call.aborted:
                raise _Died
            if process.returncode == 0:
                return out
            refusal = _tool_refusal(err)
            if refusal.kind != "timeout" or (call.sent and "Unable to establish" not in err):
                raise refusal

    def _tool_chassis(self, call: _Call) -> tuple[bool, Instant, str]:
        asked = self._clock.now()
        out = self._tool(call, "chassis", "power", "status")
        seen = re.search(r"Chassis Power is (on|off)", out)
        if seen is None:
            raise _Refused("protocol", "ipmitool's answer to 'chassis power status' has no power state")
        return seen[1] == "on", asked, IPMITOOL

    def _tool_control(self, call: _Call, command: PowerCommand) -> None:
        self._tool_chassis(call)  # the login and the way there work; what fails now fails after the sending
        call.sent = True
        self._tool(call, "chassis", "power", command)

    def _tool_ask(self, call: _Call, netfn: int, command: int, *data: int) -> list[int]:
        out = self._tool(call, "raw", *(f"{byte:#04x}" for byte in (netfn, command, *data)))
        try:
            return list(bytes.fromhex("".join(out.split())))
        except ValueError:
            raise _Refused("protocol", "ipmitool's answer to 'raw' is not hexadecimal") from None

    def _tool_identity(self, call: _Call) -> dict[str, str]:
        found: dict[str, str] = {}
        for words, key, pattern in (
            (("mc", "guid"), "guid", r"System GUID\s*:\s*(\S+)"),
            (("mc", "info"), "firmware", r"Firmware Revision\s*:\s*(\S+)"),
            (("lan", "print"), "mac", r"MAC Address\s*:\s*(\S+)"),
            (("lan", "print"), "ip", r"IP Address\s*:\s*(\S+)"),
        ):
            seen = re.search(pattern, self._tool(call, *words))
            if seen is not None:
                found[key] = seen[1].lower()
        return found

    # what went wrong, for people

    def _after(self, call: _Call) -> str:
        if not call.sent:
            return ""
        return "; the power command may have been carried out: read the power state before anything else"

    def _unreachable(self, call: _Call) -> Unreachable:
        return Unreachable(
            f"BMC {self._address}:{self._port} gave no answer before the deadline: it has no power or network, or IPMI "
            f"over LAN is switched off in it; check its cable, address and IPMI setting{self._after(call)}"
        )

    def _helper_died(self, call: _Call) -> ProtocolError:
        return ProtocolError(
            f"BMC {self._address}:{self._port}: the helper process that talks to it ended by itself; look for an "
            f"out-of-memory kill on this machine{self._after(call)}"
        )

    def _refused(self, refusal: _Refused, call: _Call) -> SiteError:
        where = f"BMC {self._address}:{self._port}"
        match refusal.kind:
            case "refused":
                return AuthRefused(
                    f"{where} refused user {self._user!r} as {self._privilege} ({refusal.text}): the BMC is there, but "
                    "will not take orders from this run; check user, password and privilege in the inventory and that "
                    "the user may use IPMI over LAN (IPMI passwords have at most 20 characters)"
                )
            case "completion" if refusal.code == 0xD4:
                return AuthRefused(
                    f"{where}: user {self._user!r} as {self._privilege} lacks the privilege for this command "
                    "(completion code 0xd4): give the user OPERATOR or more on the LAN channel"
                )
            case "completion":
                return ProtocolError(
                    f"{where} did not carry out the command: {refusal.text} (completion code {refusal.code:#04x})",
                    status=refusal.code,
                )
            case "full":
                return ProtocolError(
                    f"{where} has no free session ({refusal.text}): others are logged in, or sessions of killed "
                    "programs have not timed out yet; close them, or try again after a minute"
                )
            case "address":
                return Unreachable(f"{where}: the address cannot be used ({refusal.text}); check it in the inventory")
            case "suite":
                return ProtocolError(
                    f"{where} and this run have no cipher suite in common ({refusal.text}): allow suite 17 or 3 in the "
                    "BMC, or name one it has in the inventory"
                )
            case "start":
                return ProtocolError(
                    f"{where}: neither pyghmi nor ipmitool can be used here ({refusal.text}); install ipmitool"
                )
            case "timeout":
                return Unreachable(f"{where} did not answer ({refusal.text}){self._after(call)}")
            case _:
                return ProtocolError(
                    f"{where} gave an answer that is not IPMI 2.0 as we know it ({refusal.text}){self._after(call)}"
                )


@contextmanager
def _in_memory(secret: str) -> Iterator[int]:
    """A descriptor of a file that lies on no disk and has no name: neither arguments nor environment show it."""
    descriptor = os.memfd_create("pveha")
    try:
        os.write(descriptor, secret.encode() + b"\n")
        yield descriptor
    finally:
        os.close(descriptor)


def _start() -> _Child:
    try:
        return _Child(_nursery)
    except OSError as error:
        raise _Refused("start", f"no helper process can be started ({error.strerror})") from None


def _reap(child: _Child | None) -> None:
    if child is not None:
        child.reap()


def _ask(child: _Child, netfn: int, command: int, *data: int, once: bool = False) -> list[int]:
    """The data of one command that was completed; never empty where the command has data."""
    answer = child.ask(op="ask", netfn=netfn, command=command, data=list(data), once=once)
    code = answer["code"]
    if code:
        raise _Refused("completion", _COMPLETION.get(code, "completion code of the command or vendor"), code)
    found: list[int] = answer["data"]
    if not found and (netfn, command) != (_CHASSIS, 0x02):
        raise _Refused("protocol", "an answer without data")
    return found


def _identity(child: _Child) -> dict[str, str]:
    ask = partial(_ask, child)
    device = ask(_APPLICATION, 0x01)
    found = {}
    if len(device) >= 11:
        found["firmware"] = f"{device[2] & 0x7F}.{device[3]:02x}"
        found["manufacturer"] = str(int.from_bytes(device[6:9], "little"))
        found["product"] = str(int.from_bytes(device[9:11], "little"))
    guid = _optional(ask, _APPLICATION, 0x08) or _optional(ask, _APPLICATION, 0x37)
    if len(guid) == 16:
        found["guid"] = str(UUID(bytes=bytes(reversed(guid))))  # least significant byte first: IPMI 2.0 §20.8
    for channel in (0x0E, 0x01):  # this channel; not every BMC knows it by that name
        mac = _optional(ask, _TRANSPORT, 0x02, channel, 5, 0, 0)[1:]
        if len(mac) == 6:
            found["mac"] = ":".join(f"{byte:02x}" for byte in mac)
            found["ip"] = ".".join(str(byte) for byte in _optional(ask, _TRANSPORT, 0x02, channel, 3, 0, 0)[1:])
            break
    return found


def _optional(ask: _Ask, netfn: int, command: int, *data: int) -> list[int]:
    try:
        return ask(netfn, command, *data)
    except _Refused as refusal:
        if refusal.kind != "completion":
            raise
        return []


def _boot_override(ask: _Ask) -> str | None:
    """Get System Boot Options, parameter 5 (IPMI 2.0 §28.13): version, parameter with its top bit if invalid, flags."""
    told = _optional(ask, _CHASSIS, 0x09, _BOOT_FLAGS, 0, 0)
    if len(told) < 4 or told[1] != _BOOT_FLAGS:
        return None
    return boot_flags(bytes(told[2:]))


def _event_log(ask: _Ask) -> tuple[SelEntry, ...]:
    """Every entry, whole, each answer naming the next (IPMI 2.0 §31.6)."""
    found: list[SelEntry] = []
    number = FIRST
    while number != LAST and len(found) < MOST_ENTRIES:
        asked = number.to_bytes(2, "little")
        try:
            answer = ask(_STORAGE, 0x43, 0, 0, *asked, 0, 0xFF)
        except _Refused as refusal:
            if refusal.code == _NOT_PRESENT and not found:  # an empty log has no first entry
                return ()
            raise
        if len(answer) < 2 + RECORD_LENGTH:
            raise _Refused("protocol", f"a log entry of {len(answer)} bytes")
        found.append(decoded(answer[2 : 2 + RECORD_LENGTH]))
        number = answer[0] | answer[1] << 8
    return tuple(found)


def _access(ask: _Ask, user: str, privilege: str) -> BmcAccess:
    """Our user's limit on this channel and who else may log in (IPMI 2.0 §22.27, §22.29).

    Without the right to look, the session itself says that its privilege is granted.
    """
    granted = BmcAccess(user, privilege, _PRIVILEGES[privilege] >= _PRIVILEGES["OPERATOR"], None)
    names = {number: name for name, number in _PRIVILEGES.items()}
    others: list[str] = []
    own = None
    number, last = 1, 1
    while number <= last:
        try:
            told = ask(_APPLICATION, 0x44, 0x0E, number)
        except _Refused as refusal:
            if refusal.kind == "completion" and refusal.code == _LACKING:
                return granted
            if refusal.kind != "completion" or number == 1:
                raise
            break  # it has fewer than it says
        if len(told) < 4:
            raise _Refused("protocol", f"user access in {len(told)} bytes")
        last, limit = told[0] & 0x3F, told[3] & 0x0F
        if told[1] >> 6 != _DISABLED and told[3] & _MESSAGING and limit != _NO_ACCESS:
            name = bytes(_optional(ask, _APPLICATION, 0x46, number)).split(b"\x00")[0].decode("ascii", "replace")
            if name == user:
                own = limit
            else:
                others.append(name)
        number += 1
    if own is None:
        return BmcAccess(user, granted.level, granted.may_switch, tuple(others))
    return BmcAccess(user, names.get(own, f"level {own}"), own >= _PRIVILEGES["OPERATOR"], tuple(others))


_TOOL_WORDS = (
    ("HMAC is invalid", "refused", "wrong password", None),
    ("unauthorized name", "refused", "unknown user", None),
    ("unauthorized role", "refused", "privilege not granted", None),
    # also how a BMC ends that advertises a suite and fails at it (seen: ipmi_sim 2.0.33 with suites 7 and 8)
    ("Set Session Privilege Level", "refused", "privilege not granted, or the cipher suite does not work there", None),
    ("invalid integrity check", "refused", "wrong password", None),
    ("insufficient resources", "full", "insufficient resources for a session", None),
    ("no matching cipher suite", "suite", "no matching cipher suite", None),
    ("algorithm", "suite", "algorithm refused", None),
    ("ipmi_lanplus_build_v2x_msg: Assertion", "suite", "ipmitool itself cannot speak it and broke off", None),
    ("not supported in present state", "completion", _COMPLETION[0xD5], 0xD5),
    ("Insufficient privilege level", "completion", _COMPLETION[0xD4], 0xD4),
    ("Node busy", "completion", _COMPLETION[0xC0], 0xC0),
    ("Address lookup", "address", "the name does not resolve", None),
    ("Unable to establish", "timeout", "no session", None),
    ("Get Auth Capabilities error", "timeout", "no session", None),
    ("Unable to set Chassis Power Control", "timeout", "no answer to the power command", None),
    ("Unable to get Chassis Power Status", "timeout", "no answer", None),
)


def _tool_refusal(err: str) -> _Refused:
    """What ipmitool's words mean; its exit code says only that it failed."""
    if seen := re.search(r"\brsp=0x([0-9a-fA-F]{2})\b", err):  # of a raw command
        given = int(seen[1], 16)
        return _Refused("completion", _COMPLETION.get(given, "completion code of the command or vendor"), given)
    for words, kind, text, code in _TOOL_WORDS:
        if words in err:
            return _Refused(kind, text, code)
    return _Refused("protocol", "ipmitool failed for a reason it does not name")
