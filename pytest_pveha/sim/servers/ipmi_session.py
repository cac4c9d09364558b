"""IPMI 2.0 on the wire as a BMC speaks it: RMCP framing, RMCP+ session set-up (RAKP), integrity and encryption.

Pure: bytes in, bytes out; no socket, no time of its own. Written from the IPMI 2.0 specification rev. 1.1, chapter 13,
and shares nothing with the client under test.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from collections import deque
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

RMCP_IPMI = b"\x06\x00\xff\x07"
RMCP_ASF = b"\x06\x00\xff\x06"
ASF_IANA = b"\x00\x00\x11\xbe"

AUTH_NONE = 0x00
AUTH_RMCPP = 0x06

PAYLOAD_IPMI = 0x00
PAYLOAD_OPEN_REQUEST, PAYLOAD_OPEN_RESPONSE = 0x10, 0x11
PAYLOAD_RAKP1, PAYLOAD_RAKP2, PAYLOAD_RAKP3, PAYLOAD_RAKP4 = 0x12, 0x13, 0x14, 0x15

# IPMI 2.0 table 13-15, RMCP+ and RAKP message status codes
STATUS_OK = 0x00
STATUS_NO_RESOURCES = 0x01
STATUS_INVALID_SESSION = 0x02
STATUS_INVALID_AUTH = 0x04
STATUS_INVALID_INTEGRITY = 0x05
STATUS_UNAUTHORIZED_ROLE = 0x0A
STATUS_INVALID_NAME_LENGTH = 0x0C
STATUS_UNAUTHORIZED_NAME = 0x0D
STATUS_INVALID_CHECK_VALUE = 0x0F
STATUS_INVALID_CONFIDENTIALITY = 0x10
STATUS_NO_SUITE = 0x11
STATUS_ILLEGAL_PARAMETER = 0x12

USER, OPERATOR, ADMINISTRATOR = 2, 3, 4
PRIVILEGES = {"USER": USER, "OPERATOR": OPERATOR, "ADMINISTRATOR": ADMINISTRATOR}

IDLE_SECONDS = 60.0
"""A session without traffic ends after this long (IPMI 2.0 §6.12.15: 60 s ± 3 s)."""

MAX_PENDING = 8
"""Logins under way at one time; an older one that never went on makes room."""


class Malformed(Exception):
    """The datagram is not what the specification allows; a BMC drops it silently."""


@dataclass(frozen=True, slots=True)
class Suite:
    """One cipher suite (IPMI 2.0 table 22-20): algorithm numbers, hash, and length of the integrity code."""

    number: int
    auth: int
    integrity: int
    confidentiality: int
    hash: str
    code_length: int

    def record(self) -> bytes:
        """The suite as Get Channel Cipher Suites lists it (table 22-18)."""
        return bytes((0xC0, self.number, self.auth, 0x40 | self.integrity, 0x80 | self.confidentiality))


SUITE_0 = Suite(0, 0, 0, 0, "", 0)
SUITE_3 = Suite(3, 1, 1, 1, "sha1", 12)
SUITE_17 = Suite(17, 3, 4, 1, "sha256", 16)


@dataclass(slots=True)
class Session:
    """One session, from the Open Session Request until it is closed."""

    console_id: int
    bmc_id: int
    suite: Suite
    last_active: float
    established: bool = False
    console_random: bytes = b""
    bmc_random: bytes = b""
    role: int = 0
    name: bytes = b""
    integrity_key: bytes = b""
    privilege: int = USER
    privilege_limit: int = USER
    cipher_key: bytes = b""
    sent: int = 0
    received: deque[int] = field(default_factory=lambda: deque(maxlen=32))
    last_request: bytes = b""
    last_reply: bytes = b""

    def digest(self, key: bytes, *parts: bytes) -> bytes:
        """The keyed hash of this session's authentication algorithm; empty for RAKP-none."""
        if not self.suite.hash:
            return b""
        return hmac.new(key, b"".join(parts), self.suite.hash).digest()

    def fresh(self, sequence: int) -> bool:
        """Whether this session sequence number was not seen before and is not too old (IPMI 2.0 §6.12.13)."""
        if sequence == 0 or sequence in self.received or (self.received and sequence < max(self.received) - 32):
            return False
        self.received.append(sequence)
        return True


@dataclass(frozen=True, slots=True)
class Datagram:
    """One RMCP+ packet, taken apart."""

    payload_type: int
    encrypted: bool
    authenticated: bool
    session_id: int
    sequence: int
    payload: bytes
    signed: bytes
    code: bytes


def rmcpp_parse(data: bytes) -> Datagram:
    """The packet after the RMCP header, taken apart; nothing is verified yet."""
    if len(data) < 12:
        raise Malformed
    kind, session_id, sequence, length = struct.unpack_from("<BIIH", data, 1)
    if len(data) < 12 + length:
        raise Malformed
    end = 12 + length
    signed, code = data, b""
    if kind & 0x40:
        # the pad brings everything from the auth type to the "next header" to a multiple of four
        trailer = end + (-(length + 12 + 2)) % 4
        signed, code = data[: trailer + 2], data[trailer + 2 :]
    return Datagram(kind & 0x3F, bool(kind & 0x80), bool(kind & 0x40), session_id, sequence, data[12:end], signed, code)


def rmcpp_build(payload_type: int, payload: bytes, session: Session | None = None) -> bytes:
    """A whole datagram; with a session it is encrypted and signed as that session's suite asks."""
    kind, session_id, sequence = payload_type, 0, 0
    if session is not None:
        session.sent += 1
        session_id, sequence = session.console_id, session.sent
        if session.suite.confidentiality:
            kind |= 0x80
            payload = _encrypt(session.cipher_key, payload)
        if session.suite.integrity:
            kind |= 0x40
    body = struct.pack("<BBIIH", AUTH_RMCPP, kind, session_id, sequence, len(payload)) + payload
    if session is not None and session.suite.integrity:
        pad = (-(len(body) + 2)) % 4
        body += b"\xff" * pad + bytes((pad, 0x07))
        body += session.digest(session.integrity_key, body)[: session.suite.code_length]
    return RMCP_IPMI + body


def _encrypt(key: bytes, plain: bytes) -> bytes:
    """AES-CBC-128 with the pad of IPMI 2.0 table 13-20 (1, 2, 3 … and its length)."""
    pad = (-(len(plain) + 1)) % 16
    plain += bytes(range(1, pad + 1)) + bytes((pad,))
    iv = secrets.token_bytes(16)
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return iv + encryptor.update(plain) + encryptor.finalize()


def _decrypt(key: bytes, payload: bytes) -> bytes:
    if len(payload) < 32 or len(payload) % 16:
        raise Malformed
    decryptor = Cipher(algorithms.AES(key), modes.CBC(payload[:16])).decryptor()
    plain = decryptor.update(payload[16:]) + decryptor.finalize()
    pad = plain[-1]
    if pad > 15 or plain[-1 - pad : -1] != bytes(range(1, pad + 1)):
        raise Malformed
    return plain[: -1 - pad]


def checksum(data: bytes) -> int:
    """The byte that brings the sum to zero modulo 256 (IPMI 2.0 §13.8)."""
    return -sum(data) & 0xFF


@dataclass(frozen=True, slots=True)
class Request:
    """One IPMI message from a console."""

    target: int
    netfn: int
    target_lun: int
    source: int
    sequence: int
    source_lun: int
    command: int
    data: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Request:
        """The message with both checksums verified."""
        if len(raw) < 7 or checksum(raw[:2]) != raw[2] or checksum(raw[3:-1]) != raw[-1]:
            raise Malformed
        return cls(raw[0], raw[1] >> 2, raw[1] & 3, raw[3], raw[4] >> 2, raw[4] & 3, raw[5], raw[6:-1])

    def reply(self, code: int, data: bytes = b"") -> bytes:
        """The response message with that completion code."""
        head = bytes((self.source, (self.netfn | 1) << 2 | self.source_lun))
        body = bytes((self.target, self.sequence << 2 | self.target_lun, self.command, code)) + data
        return head + bytes((checksum(head),)) + body + bytes((checksum(body),))


def plain_parse(data: bytes) -> bytes:
    """The IPMI message of an unauthenticated v1.5 packet outside any session."""
    if len(data) < 10:
        raise Malformed
    session_id, length = struct.unpack_from("<IB", data, 5)
    if session_id or len(data) < 10 + length:
        raise Malformed
    return data[10 : 10 + length]


def plain_build(message: bytes) -> bytes:
    """An IPMI message in a v1.5 packet outside any session."""
    return RMCP_IPMI + struct.pack("<BIIB", AUTH_NONE, 0, 0, len(message)) + message


def pong(ping: bytes) -> bytes | None:
    """The ASF presence pong to a ping (DSP0136 §3.2.4.3); None for any other ASF message."""
    if len(ping) < 12 or ping[4:8] != ASF_IANA or ping[8] != 0x80:
        return None
    return RMCP_ASF + ASF_IANA + bytes((0x40, ping[9], 0, 16)) + ASF_IANA + bytes((0, 0, 0, 0, 0x81, 0)) + bytes(6)


class SessionTable:
    """The BMC's sessions: who may log in, how many, and until when."""

    def __init__(
        self, user: str, password: str, guid: bytes, *, suites: tuple[Suite, ...], limit: int, privilege: int
    ) -> None:
        self._user = user.encode()
        self._key = password.encode()
        self._guid = guid
        self._suites = suites
        self._limit = limit
        self._privilege = privilege
        self._sessions: dict[int, Session] = {}
        self._next_id = 0x02000000

    def count(self) -> int:
        """How many sessions are established."""
        return sum(session.established for session in list(self._sessions.values()))

    def drop_all(self) -> None:
        """No session is left; their consoles get no answer any more."""
        self._sessions.clear()

    def close(self, bmc_id: int) -> bool:
        """The session with that id has ended; False when there is none."""
        return self._sessions.pop(bmc_id, None) is not None

    def expire(self, now: float) -> None:
        """Sessions idle for longer than the limit have ended."""
        for bmc_id, session in list(self._sessions.items()):
            if now - session.last_active > IDLE_SECONDS:
                del self._sessions[bmc_id]

    def open(self, payload: bytes, now: float) -> bytes:
        """The Open Session Response (table 13-10) to an Open Session Request."""
        if len(payload) < 32:
            raise Malformed
        tag, console_id = payload[0], payload[4:8]
        suite = self._choose(payload[8:32])
        if isinstance(suite, int):
            return bytes((tag, suite, 0, 0)) + console_id
        if self.count() >= self._limit:
            return bytes((tag, STATUS_NO_RESOURCES, 0, 0)) + console_id
        pending = [session for session in self._sessions.values() if not session.established]
        if len(pending) >= MAX_PENDING:
            del self._sessions[pending[0].bmc_id]
        self._next_id += 1
        session = Session(int.from_bytes(console_id, "little"), self._next_id, suite, now)
        self._sessions[session.bmc_id] = session
        algorithms_chosen = b"".join(
            bytes((kind, 0, 0, 8, number, 0, 0, 0))
            for kind, number in enumerate((suite.auth, suite.integrity, suite.confidentiality))
        )
        head = bytes((tag, STATUS_OK, self._privilege, 0))
        return head + console_id + session.bmc_id.to_bytes(4, "little") + algorithms_chosen

    def _choose(self, proposal: bytes) -> Suite | int:
        """The suite that the three proposals name, or the status that refuses them."""
        wanted: list[int | None] = []
        for kind in range(3):
            record = proposal[8 * kind : 8 * kind + 8]
            if record[0] != kind:
                return STATUS_ILLEGAL_PARAMETER
            wanted.append(record[4] & 0x3F if record[3] else None)  # length 0: the BMC may choose
        auth, integrity, confidentiality = wanted
        for number, known, status in (
            (auth, {s.auth for s in self._suites}, STATUS_INVALID_AUTH),
            (integrity, {s.integrity for s in self._suites}, STATUS_INVALID_INTEGRITY),
            (confidentiality, {s.confidentiality for s in self._suites}, STATUS_INVALID_CONFIDENTIALITY),
        ):
            if number is not None and number not in known:
                return status
        for suite in sorted(self._suites, key=lambda s: -s.number):
            if (
                auth in (None, suite.auth)
                and integrity in (None, suite.integrity)
                and confidentiality in (None, suite.confidentiality)
            ):
                return suite
        return STATUS_NO_SUITE

    def rakp1(self, payload: bytes, now: float) -> bytes:
        """RAKP message 2 (table 13-12) to RAKP message 1."""
        if len(payload) < 28 or len(payload) < 28 + payload[27]:
            raise Malformed
        tag, bmc_id = payload[0], int.from_bytes(payload[4:8], "little")
        session = self._pending(bmc_id)
        if session is None:
            return bytes((tag, STATUS_INVALID_SESSION, 0, 0)) + bytes(4)
        console_id = session.console_id.to_bytes(4, "little")
        name = payload[28 : 28 + payload[27]]
        role = payload[24]
        refused = self._refuse(name, role & 0x0F)
        if refused:
            self.close(bmc_id)
            return bytes((tag, refused, 0, 0)) + console_id
        session.last_active = now
        session.console_random, session.bmc_random = payload[8:24], secrets.token_bytes(16)
        session.role, session.name = role, name
        code = session.digest(
            self._key,
            console_id,
            bmc_id.to_bytes(4, "little"),
            session.console_random,
            session.bmc_random,
            self._guid,
            bytes((role, len(name))),
            name,
        )
        return bytes((tag, STATUS_OK, 0, 0)) + console_id + session.bmc_random + self._guid + code

    def _refuse(self, name: bytes, wanted: int) -> int:
        if len(name) > 16:
            return STATUS_INVALID_NAME_LENGTH
        if name != self._user:
            return STATUS_UNAUTHORIZED_NAME
        # 0 asks for the highest that the user has (table 13-11)
        return STATUS_UNAUTHORIZED_ROLE if wanted > self._privilege else STATUS_OK

    def rakp3(self, payload: bytes, now: float) -> bytes | None:
        """RAKP message 4 (table 13-14) to RAKP message 3; None when the console only says that it gives up."""
        if len(payload) < 8:
            raise Malformed
        tag, status, bmc_id = payload[0], payload[1], int.from_bytes(payload[4:8], "little")
        session = self._pending(bmc_id)
        if session is None or not session.console_random:
            return bytes((tag, STATUS_INVALID_SESSION, 0, 0)) + bytes(4)
        if status:
            self.close(bmc_id)
            return None
        console_id = session.console_id.to_bytes(4, "little")
        identity = bytes((session.role, len(session.name))) + session.name
        expected = session.digest(self._key, session.bmc_random, console_id, identity)
        if not hmac.compare_digest(expected, payload[8 : 8 + len(expected)]):
            self.close(bmc_id)
            return bytes((tag, STATUS_INVALID_CHECK_VALUE, 0, 0)) + console_id
        if self.count() >= self._limit:
            self.close(bmc_id)
            return bytes((tag, STATUS_NO_RESOURCES, 0, 0)) + console_id
        master = session.digest(self._key, session.console_random, session.bmc_random, identity)
        session.integrity_key = session.digest(master, b"\x01" * 20)
        session.cipher_key = session.digest(master, b"\x02" * 20)[:16]
        session.privilege_limit = min(session.role & 0x0F or self._privilege, self._privilege)
        session.privilege = min(USER, session.privilege_limit)
        session.established, session.last_active = True, now
        check = session.digest(master, session.console_random, bmc_id.to_bytes(4, "little"), self._guid)
        return bytes((tag, STATUS_OK, 0, 0)) + console_id + check[: session.suite.code_length]

    def _pending(self, bmc_id: int) -> Session | None:
        session = self._sessions.get(bmc_id)
        return None if session is None or session.established else session

    def receive(self, datagram: Datagram, now: float) -> tuple[Session, bytes]:
        """The session and the plain message of a packet inside a session.

        Raises Malformed: no such session, a wrong integrity code, a replay, a bad pad.
        """
        session = self._sessions.get(datagram.session_id)
        if session is None or not session.established:
            raise Malformed
        suite = session.suite
        if datagram.authenticated != bool(suite.integrity) or datagram.encrypted != bool(suite.confidentiality):
            raise Malformed
        if suite.integrity:
            expected = session.digest(session.integrity_key, datagram.signed)[: suite.code_length]
            if not hmac.compare_digest(expected, datagram.code):
                raise Malformed
            if not session.fresh(datagram.sequence):
                raise Malformed
        payload = _decrypt(session.cipher_key, datagram.payload) if suite.confidentiality else datagram.payload
        session.last_active = now
        return session, payload
