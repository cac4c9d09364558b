"""What a BMC answers to IPMI commands, once a session (or none) has brought them in.

Command numbers, layouts and privileges: IPMI 2.0 rev. 1.1, chapters 20–33 and appendix G.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from pytest_pveha.sim.servers.bmc import BmcBackend
from pytest_pveha.sim.servers.ipmi_session import ADMINISTRATOR, OPERATOR, USER, Request, Session, Suite

CHASSIS, APPLICATION, STORAGE, TRANSPORT = 0x00, 0x06, 0x0A, 0x0C

BOOT_FLAGS = 5

OK = 0x00
PARAMETER_NOT_SUPPORTED = 0x80
INVALID_COMMAND = 0xC1
INVALID_LENGTH = 0xC7
PARAMETER_OUT_OF_RANGE = 0xC9
NOT_PRESENT = 0xCB
INVALID_FIELD = 0xCC
INSUFFICIENT_PRIVILEGE = 0xD4
NOT_IN_PRESENT_STATE = 0xD5

CONTROLS = {0: "off", 1: "on", 2: "cycle", 3: "reset", 4: "diag", 5: "soft"}
"""Chassis Control, table 28-4."""

CHANNEL = 1
FIRMWARE = (2, 0x41)
MANUFACTURER = 0
PRODUCT = 0x0001


Answer = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class _Command:
    privilege: int
    answer: Callable[[Session | None, bytes], Answer] | None


def _u16(value: int) -> bytes:
    return struct.pack("<H", value)


def _u32(value: float) -> bytes:
    return struct.pack("<I", int(value))


class Commands:
    """The command table of one BMC."""

    def __init__(
        self,
        backend: BmcBackend,
        user: str,
        *,
        suites: tuple[Suite, ...],
        privilege: int,
        close_session: Callable[[int], bool],
        session_count: Callable[[], int],
    ) -> None:
        self._backend = backend
        self._user = user.encode()
        self._suites = suites
        self._privilege = privilege
        self._close_session = close_session
        self._session_count = session_count
        self._restore_policy = 0
        self._table: dict[tuple[int, int], _Command] = {
            (CHASSIS, 0x00): _Command(USER, self._chassis_capabilities),
            (CHASSIS, 0x01): _Command(USER, self._chassis_status),
            (CHASSIS, 0x02): _Command(OPERATOR, self._chassis_control),
            (CHASSIS, 0x06): _Command(OPERATOR, self._set_restore_policy),
            (CHASSIS, 0x08): _Command(OPERATOR, None),  # set system boot options
            (CHASSIS, 0x09): _Command(OPERATOR, self._boot_option),
            (APPLICATION, 0x01): _Command(USER, self._device_id),
            (APPLICATION, 0x02): _Command(ADMINISTRATOR, None),  # cold reset
            (APPLICATION, 0x08): _Command(USER, self._guid),
            (APPLICATION, 0x25): _Command(USER, self._watchdog),
            (APPLICATION, 0x37): _Command(0, self._guid),
            (APPLICATION, 0x38): _Command(0, self._auth_capabilities),
            (APPLICATION, 0x3B): _Command(USER, self._set_privilege),
            (APPLICATION, 0x3C): _Command(0, self._close),
            (APPLICATION, 0x40): _Command(ADMINISTRATOR, None),  # set channel access
            (APPLICATION, 0x41): _Command(USER, self._channel_access),
            (APPLICATION, 0x42): _Command(USER, self._channel_info),
            (APPLICATION, 0x43): _Command(ADMINISTRATOR, None),  # set user access
            (APPLICATION, 0x44): _Command(OPERATOR, self._user_access),
            (APPLICATION, 0x45): _Command(ADMINISTRATOR, None),  # set user name
            (APPLICATION, 0x46): _Command(OPERATOR, self._user_name),
            (APPLICATION, 0x47): _Command(ADMINISTRATOR, None),  # set user password
            (APPLICATION, 0x54): _Command(0, self._cipher_suites),
            (STORAGE, 0x20): _Command(USER, self._sdr_info),
            (STORAGE, 0x22): _Command(USER, self._reserve),
            (STORAGE, 0x40): _Command(USER, self._sel_info),
            (STORAGE, 0x42): _Command(USER, self._reserve),
            (STORAGE, 0x43): _Command(USER, self._sel_entry),
            (STORAGE, 0x48): _Command(USER, self._sel_time),
            (TRANSPORT, 0x01): _Command(ADMINISTRATOR, None),  # set LAN configuration
            (TRANSPORT, 0x02): _Command(OPERATOR, self._lan_parameter),
        }

    def answer(self, request: Request, session: Session | None) -> bytes:
        """The response message; outside a session only what needs no privilege is done."""
        code, data = self._dispatch(request, session)
        return request.reply(code, data)

    def _dispatch(self, request: Request, session: Session | None) -> Answer:
        known = self._table.get((request.netfn, request.command))
        has = 0 if session is None else session.privilege
        # outside a session everything unknown is "not allowed", so that nobody can list commands without a password
        if (known is None and session is None) or (known is not None and has < known.privilege):
            return INSUFFICIENT_PRIVILEGE, b""
        if known is None or known.answer is None:
            return INVALID_COMMAND, b""
        try:
            return known.answer(session, request.data)
        except (IndexError, struct.error):
            return INVALID_LENGTH, b""

    # chassis

    def _chassis_capabilities(self, _: Session | None, __: bytes) -> Answer:
        return OK, bytes((0x00, 0x20, 0x20, 0x20, 0x20, 0x20))

    def _chassis_status(self, _: Session | None, __: bytes) -> Answer:
        power = self._restore_policy << 5 | (1 if self._backend.chassis_on() else 0)
        return OK, bytes((power, 0x10 if self._backend.chassis_on() else 0x00, 0x00))

    def _chassis_control(self, _: Session | None, data: bytes) -> Answer:
        command = CONTROLS.get(data[0] & 0x0F)
        if command is None:
            return INVALID_FIELD, b""
        if command in ("cycle", "reset", "diag", "soft") and not self._backend.chassis_on():
            return NOT_IN_PRESENT_STATE, b""
        self._backend.control(command)
        return OK, b""

    def _set_restore_policy(self, _: Session | None, data: bytes) -> Answer:
        policy = data[0] & 0x07
        if policy < 3:
            self._restore_policy = policy
        elif policy > 3:  # 3 only asks what is supported
            return INVALID_FIELD, b""
        return OK, b"\x07"

    def _boot_option(self, _: Session | None, data: bytes) -> Answer:
        flags, parameter, _set, _block = self._backend.boot_flags(), data[0] & 0x7F, data[1], data[2]
        if flags is None:
            return INVALID_COMMAND, b""
        if parameter != BOOT_FLAGS:
            return PARAMETER_NOT_SUPPORTED, b""
        return OK, bytes((0x01, parameter)) + flags

    # application

    def _device_id(self, _: Session | None, __: bytes) -> Answer:
        # device id, revision, firmware, IPMI 2.0, functions: chassis, SEL and sensor device
        return OK, bytes((0x20, 0x01, *FIRMWARE, 0x02, 0x85)) + struct.pack("<I", MANUFACTURER)[:3] + _u16(PRODUCT)

    def _guid(self, _: Session | None, __: bytes) -> Answer:
        return OK, guid_bytes(self._backend.guid)

    def _watchdog(self, _: Session | None, __: bytes) -> Answer:
        # nobody armed it: for SMS/OS, stopped, no action, no countdown
        return OK, bytes((0x04, 0x00, 0x00, 0x00)) + bytes(4)

    def _auth_capabilities(self, _: Session | None, data: bytes) -> Answer:
        extended = 0x80 if data[0] & 0x80 else 0x00
        return OK, bytes((CHANNEL, extended, 0x04, 0x02 if extended else 0x00, 0, 0, 0, 0))

    def _set_privilege(self, session: Session | None, data: bytes) -> Answer:
        wanted = data[0] & 0x0F
        if session is None or wanted > ADMINISTRATOR:
            return INVALID_FIELD, b""
        if wanted > session.privilege_limit:
            return 0x81, b""
        if wanted:  # 0 only asks
            session.privilege = wanted
        return OK, bytes((session.privilege,))

    def _close(self, session: Session | None, data: bytes) -> Answer:
        (bmc_id,) = struct.unpack_from("<I", data)
        if session is None or (bmc_id != session.bmc_id and session.privilege < ADMINISTRATOR):
            return INSUFFICIENT_PRIVILEGE, b""
        return (OK if self._close_session(bmc_id) else 0x87), b""

    def _channel_access(self, _: Session | None, __: bytes) -> Answer:
        return OK, bytes((0x02, ADMINISTRATOR))

    def _channel_info(self, _: Session | None, data: bytes) -> Answer:
        if data[0] & 0x0F not in (CHANNEL, 0x0E):
            return INVALID_FIELD, b""
        # 802.3 LAN, IPMB protocol, multi-session
        return OK, bytes((CHANNEL, 0x04, 0x01, 0x80 | self._session_count(), 0xF2, 0x1B, 0x00, 0x00, 0x00))

    def _user_access(self, _: Session | None, data: bytes) -> Answer:
        user = data[1] & 0x3F
        if not 1 <= user <= 3:
            return INVALID_FIELD, b""
        return OK, bytes((0x03, 0x41 if user == 2 else 0x81, 0x01, 0x30 | self._privilege if user == 2 else 0x0F))

    def _user_name(self, _: Session | None, data: bytes) -> Answer:
        return OK, (self._user if data[0] & 0x3F == 2 else b"").ljust(16, b"\x00")[:16]

    def _cipher_suites(self, _: Session | None, data: bytes) -> Answer:
        records = b"".join(suite.record() for suite in self._suites)
        start = 16 * (data[2] & 0x3F)
        return OK, bytes((CHANNEL,)) + records[start : start + 16]

    # storage

    def _sdr_info(self, _: Session | None, __: bytes) -> Answer:
        return OK, b"\x51" + _u16(0) + _u16(0xFFFF) + bytes(8) + b"\x22"

    def _reserve(self, _: Session | None, __: bytes) -> Answer:
        return OK, _u16(1)

    def _sel_info(self, _: Session | None, __: bytes) -> Answer:
        entries = self._backend.sel()
        last = entries[-1].at if entries else 0xFFFFFFFF
        return OK, b"\x51" + _u16(len(entries)) + _u16(0xFFFF) + _u32(last) + _u32(0xFFFFFFFF) + b"\x02"

    def _sel_entry(self, _: Session | None, data: bytes) -> Answer:
        _reservation, wanted, offset, count = struct.unpack_from("<HHBB", data)
        entries = self._backend.sel()
        number = {0x0000: 1, 0xFFFF: len(entries)}.get(wanted, wanted)
        if not 1 <= number <= len(entries):
            return NOT_PRESENT, b""
        entry = entries[number - 1]
        record = (
            _u16(number)
            + b"\x02"
            + _u32(entry.at)
            + bytes((0x20, 0x00, 0x04, entry.sensor_type, entry.sensor))
            + bytes((entry.event_type | (0x00 if entry.asserted else 0x80),))
            + entry.data[:3].ljust(3, b"\xff")
        )
        following = number + 1 if number < len(entries) else 0xFFFF
        return OK, _u16(following) + (record if count == 0xFF else record[offset : offset + count])

    def _sel_time(self, _: Session | None, __: bytes) -> Answer:
        return OK, _u32(self._backend.now())

    # transport

    def _lan_parameter(self, _: Session | None, data: bytes) -> Answer:
        if data[0] & 0x0F not in (CHANNEL, 0x0E):
            return INVALID_FIELD, b""
        if data[0] & 0x80:
            return OK, b"\x11"
        value = self._lan_value(data[1])
        return (0x80, b"") if value is None else (OK, b"\x11" + value)

    def _lan_value(self, parameter: int) -> bytes | None:
        match parameter:
            case 0:
                return b"\x00"  # set complete
            case 1:
                return b"\x00"  # no IPMI 1.5 authentication types
            case 2:
                return bytes(5)
            case 3:
                return ipaddress.IPv4Address(self._backend.ip).packed
            case 4:
                return b"\x01"  # static
            case 5:
                return bytes.fromhex(self._backend.mac.replace(":", ""))
            case 6:
                return bytes((255, 255, 255, 0))
            case 12:
                return bytes(4)
            case 13:
                return bytes(6)
            case 20:
                return bytes(2)  # no VLAN
            case 22:
                return bytes((len(self._suites),))
            case 23:
                return bytes((0, *(suite.number for suite in self._suites))).ljust(17, b"\x00")
            case 24:
                # a nibble a suite, by the suite's number; 17 has no place there
                numbers = {suite.number for suite in self._suites}
                nibbles = [ADMINISTRATOR if number in numbers else 0 for number in range(16)]
                return b"\x00" + bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))
        return None


def guid_bytes(guid: UUID) -> bytes:
    """The GUID in IPMI's order: least significant byte first (IPMI 2.0 §20.8)."""
    return guid.bytes[::-1]
