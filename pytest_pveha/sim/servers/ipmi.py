"""A BMC of the simulated site: IPMI 2.0 over RMCP+ on a UDP socket, with the session limit real ones have.

The socket is the caller's: whoever makes the port silent or alive again does so beneath this server. A machine
without power still has a talking BMC; only ``BmcBackend.acting`` decides whether a datagram may act at all.
"""

from __future__ import annotations

import logging
import select
import socket
import threading

from pytest_pveha.sim.gate import Gone
from pytest_pveha.sim.servers import ipmi_session as wire
from pytest_pveha.sim.servers.bmc import BmcBackend, SelEntry
from pytest_pveha.sim.servers.ipmi_commands import Commands, guid_bytes

__all__ = ["BmcBackend", "BmcServer", "SelEntry"]

_log = logging.getLogger(__name__)


class BmcServer:
    """One BMC answering on one UDP socket, in one thread.

    Args:
        sock: bound UDP socket; stays the caller's to close, after ``stop``.
        max_sessions: established sessions at one time; one more is refused with "insufficient resources".
        privilege: the highest level of the one user (USER, OPERATOR or ADMINISTRATOR).
        cipher_zero: also offer suite 0, with which anybody logs in without a password.
        answer_seconds: from a datagram until its answer, in the site's time.
    """

    def __init__(
        self,
        backend: BmcBackend,
        user: str,
        password: str,
        sock: socket.socket,
        max_sessions: int = 4,
        *,
        privilege: str = "ADMINISTRATOR",
        cipher_zero: bool = False,
        answer_seconds: float = 0.0,
    ) -> None:
        suites = (*((wire.SUITE_0,) if cipher_zero else ()), wire.SUITE_3, wire.SUITE_17)
        level = wire.PRIVILEGES[privilege]
        self._backend = backend
        self._answer_seconds = answer_seconds
        self._sock = sock
        # how often everything was dropped: asked for, and done by the serving thread. A counter and no lock, because
        # drop_sessions is called with the world held, and the serving thread waits for the world
        self._drops_asked = 0
        self._drops_done = 0
        self._sessions = wire.SessionTable(
            user, password, guid_bytes(backend.guid), suites=suites, limit=max_sessions, privilege=level
        )
        self._commands = Commands(
            backend,
            user,
            suites=suites,
            privilege=level,
            close_session=self._sessions.close,
            session_count=self._sessions.count,
        )
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name=f"bmc-{backend.mac}", daemon=True)

    def start(self) -> None:
        """Datagrams are answered from now on."""
        self._thread.start()

    def stop(self) -> None:
        """No datagram is answered any more, and the thread has ended."""
        self._wake_write.send(b".")
        self._thread.join()
        self._wake_read.close()
        self._wake_write.close()

    def drop_sessions(self) -> None:
        """No session is left, and no datagram sent before now will act: a dead run's commands must not strike later.

        Never waits; may be called with the world held.
        """
        self._drops_asked += 1
        while True:
            try:
                self._sock.recv(4096, socket.MSG_DONTWAIT)
            except OSError:
                return

    def sessions(self) -> int:
        """How many sessions are established."""
        return self._sessions.count() if self._drops_asked == self._drops_done else 0

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._sock, self._wake_read], [], [])
            if self._wake_read in ready:
                return
            drops = self._drops_asked
            try:
                data, peer = self._sock.recvfrom(4096, socket.MSG_DONTWAIT)
            except OSError:  # thrown away meanwhile
                continue
            reply = self._handle(data, drops)
            if reply is not None and self._still_wanted():
                self._reply(reply, peer)

    def _still_wanted(self) -> bool:
        """Whether somebody waits for the answer once this BMC has got round to it."""
        if self._answer_seconds:
            try:
                self._backend.pause(self._answer_seconds)
            except Gone:
                return False
        return True

    def _reply(self, reply: bytes, peer: tuple[str, int]) -> None:
        try:
            self._sock.sendto(reply, peer)
        except OSError as error:
            _log.debug("reply to %s not sent: %s", peer, error)

    def _handle(self, data: bytes, drops: int) -> bytes | None:
        """The answer to one datagram; None when there is none to give."""
        if data[:4] == wire.RMCP_ASF:
            return wire.pong(data)
        if data[:4] != wire.RMCP_IPMI or len(data) < 5:
            return None
        try:
            with self._backend.acting():
                if self._drops_done != self._drops_asked:
                    self._drops_done = self._drops_asked
                    self._sessions.drop_all()
                if drops != self._drops_done:  # it came before the drop
                    return None
                now = self._backend.now()
                self._sessions.expire(now)
                return self._ipmi(data[4:], now)
        except (wire.Malformed, Gone):
            return None
        except Exception:  # one bad datagram must not silence the BMC for good
            _log.exception("datagram not understood")
            return None

    def _ipmi(self, data: bytes, now: float) -> bytes | None:
        if data[0] == wire.AUTH_NONE:
            request = wire.Request.parse(wire.plain_parse(data))
            return wire.plain_build(self._commands.answer(request, None))
        if data[0] != wire.AUTH_RMCPP:
            return None
        datagram = wire.rmcpp_parse(data)
        if datagram.payload_type == wire.PAYLOAD_IPMI and datagram.session_id:
            return self._in_session(datagram, now)
        if datagram.session_id or datagram.encrypted or datagram.authenticated:
            return None
        if datagram.payload_type == wire.PAYLOAD_IPMI:
            # ipmitool asks for the cipher suites so, before it opens a session
            request = wire.Request.parse(datagram.payload)
            return wire.rmcpp_build(wire.PAYLOAD_IPMI, self._commands.answer(request, None))
        if datagram.payload_type == wire.PAYLOAD_OPEN_REQUEST:
            answer: bytes | None = self._sessions.open(datagram.payload, now)
        elif datagram.payload_type == wire.PAYLOAD_RAKP1:
            answer = self._sessions.rakp1(datagram.payload, now)
        elif datagram.payload_type == wire.PAYLOAD_RAKP3:
            answer = self._sessions.rakp3(datagram.payload, now)
        else:
            return None
        # each answer's payload type is its request's plus one (table 13-16)
        return None if answer is None else wire.rmcpp_build(datagram.payload_type + 1, answer)

    def _in_session(self, datagram: wire.Datagram, now: float) -> bytes | None:
        session, message = self._sessions.receive(datagram, now)
        # the same message again means that our answer was lost: answer again, act once (IPMI 2.0 §6.13)
        if message != session.last_request:
            request = wire.Request.parse(message)
            session.last_reply = self._commands.answer(request, session)
            session.last_request = message
        return wire.rmcpp_build(wire.PAYLOAD_IPMI, session.last_reply, session)
