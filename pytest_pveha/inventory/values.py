"""The small values of an inventory: durations, sizes, names, addresses, moments. Each says what it expects."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, WithJsonSchema

from pytest_pveha.inventory.document import Number, shown

_UNITS: Final = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_DURATION: Final = r"\d{1,9}(\.\d{1,6})? ?(ms|s|min|h|d|milliseconds?|sec|seconds?|minutes?|hours?|days?)"
_LONGEST: Final = 3660 * 86400.0
_SIZE: Final = r"\d{1,6} ?(MiB|GiB|TiB)"
_SIZES: Final = {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def parse_duration(value: object) -> float:
    """Seconds of a text like ``5 min``, ``30 s``, ``2 h``, ``500 ms``, ``90 days`` or ``1 h 30 min``.

    Raises:
        ValueError: it is no such text; a plain number has no unit, so it is refused.
    """
    expected = 'expected a number with its unit, like "500 ms", "30 s", "5 min", "2 h" or "90 days"'
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"{_number(value)} has no unit; {expected}")
    if not isinstance(value, str):
        raise ValueError(f"is {kind(value)}; {expected}")
    text = value.strip()
    if not re.fullmatch(rf"{_DURATION}( {_DURATION}){{0,4}}", text, re.ASCII):
        raise ValueError(f'"{shown(value)}" is no duration; {expected}')
    total = sum(float(amount) * _UNITS[unit] for amount, unit in re.findall(r"([\d.]+) ?([a-z]+)", text))
    if total > _LONGEST:
        raise ValueError(f'"{shown(value)}" is longer than ten years; {expected}')
    return total


def _positive(value: object) -> float:
    seconds = parse_duration(value)
    if seconds <= 0:
        raise ValueError("is zero; expected a duration greater than zero")
    return seconds


def _size(value: object) -> int:
    expected = 'expected a size with its unit, like "512 MiB" or "64 GiB"'
    if not isinstance(value, str) or not re.fullmatch(_SIZE, value.strip(), re.ASCII):
        what = f'"{shown(value)}" is no size' if isinstance(value, str) else f"is {kind(value)}"
        raise ValueError(f"{what}; {expected}")
    amount, unit = re.findall(r"(\d+) ?(\w+)", value)[0]
    return int(amount) * _SIZES[unit]


def kind(value: object) -> str:
    """What a YAML value is, in words."""
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return f"the number {_number(value)}"
        case str():
            return "text"
        case dict():
            return "a block"
        case list() | tuple():
            return "a list"
    return "something else"


def _number(value: float) -> str:
    return shown(value.text) if isinstance(value, Number) else shown(str(value))


def quoted(value: object) -> str:
    """How to write a number so that YAML keeps it as text."""
    return f'in quotes: "{_number(value)}"' if isinstance(value, int | float) else "in quotes"


def said(text: str) -> str:
    """A refused text for a message, unless it may carry a password, as an address or an API token may."""
    return "its value (not shown here)" if re.search(r"[=@]|://", text) else f'"{shown(text)}"'


def _text(value: object, expected: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"YAML reads {_number(value)} as a number; write it {quoted(value)}")
    if not isinstance(value, str):
        raise ValueError(f"is {kind(value)}; expected {expected}")
    return value


def _matching(pattern: str, expected: str) -> Callable[[object], str]:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: object) -> str:
        text = _text(value, expected)
        if not compiled.fullmatch(text) or not text.isprintable():
            raise ValueError(f"{said(text)} is not usable; expected {expected}")
        return text

    return check


def _pattern(pattern: str, expected: str) -> tuple[BeforeValidator, WithJsonSchema]:
    return BeforeValidator(_matching(pattern, expected)), WithJsonSchema(
        {"type": "string", "pattern": f"^({pattern})$"}
    )


_SLUG = r"[a-z0-9][a-z0-9._-]{0,62}"
_NODE = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_VERSION = r"\d{1,3}(\.\d{1,3}){0,2}"
_DIGEST = r"sha256:[0-9a-f]{64}"

_slug = _pattern(_SLUG, "lower-case letters, digits, dot, dash and underscore, beginning with a letter or digit")
_node = _pattern(_NODE, "a node's host name as PVE shows it: letters, digits and dashes")
_cluster = _pattern(
    r"[A-Za-z0-9][A-Za-z0-9-]{0,14}", "the name `pvecm status` shows: at most 15 letters, digits, dashes"
)
_guest = _pattern(r"(vm|ct):[1-9]\d{2,8}", 'a guest like "vm:101" or "ct:102", with a number from 100')
_version = _pattern(_VERSION, 'a version in quotes, like "9.1" or "9.1.9"')
_token = _pattern(r"[^\s@!/:]+@[^\s@!/:]+![A-Za-z][A-Za-z0-9._-]+", 'an API token\'s id, like "pveha@pve!run"')
_digest = _pattern(_DIGEST, "sha256: and 64 hex digits, as `pveha check` prints it")
_label = _pattern(r"\S(.{0,126}\S)?", "a short text on one line")
_storage = _pattern(r"[A-Za-z][A-Za-z0-9._-]{1,99}", "a storage id as in /etc/pve/storage.cfg")
_mac = _pattern(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}", 'a MAC address like "02:00:5e:10:00:01"')
_guid = _pattern(r"[0-9A-Fa-f]{8}-?([0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}", "a GUID as `ipmitool mc guid` prints it")
_network = _pattern(
    r"corosync[0-7]|ceph_public|ceph_cluster|guest|migration|bmc",
    "corosync0 to corosync7, ceph_public, ceph_cluster, guest, migration or bmc",
)
_interface = _pattern(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,14}", "a network interface of the nodes, like vmbr0 or eno1")
_url = _pattern(r"https?://[^\s/?#@]+(/\S*)?", "an http:// or https:// address without user and password")
_host_key = _pattern(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,3}( .*)?",
    "a public host key as ssh-keyscan prints it, without the host name: ssh-ed25519 AAAA…",
)
_user = _pattern(r"[A-Za-z0-9_][A-Za-z0-9._@\\-]{0,63}", "a user name")

_word = _pattern(r"[^\x00\r\n]{1,1024}", "one word of a command line, on one line")
_guest_folder = _pattern(r"(/[A-Za-z0-9._-]+){1,8}", "a folder of the guest, from its root, like /var/tmp or /srv/data")

Slug = Annotated[str, *_slug]
NodeName = Annotated[str, *_node]
ClusterName = Annotated[str, *_cluster]
GuestId = Annotated[str, *_guest]
Version = Annotated[str, *_version]
TokenId = Annotated[str, *_token]
NodeDigest = Annotated[str, *_digest]
Label = Annotated[str, *_label]
StorageId = Annotated[str, *_storage]
Mac = Annotated[str, *_mac]
Guid = Annotated[str, *_guid]
NetworkName = Annotated[str, *_network]
Interface = Annotated[str, *_interface]
Url = Annotated[str, *_url]
HostKey = Annotated[str, *_host_key]
User = Annotated[str, *_user]
Word = Annotated[str, *_word]
GuestFolder = Annotated[str, *_guest_folder]

_duration_schema = WithJsonSchema(
    {"type": "string", "pattern": f"^{_DURATION}( {_DURATION}){{0,4}}$", "examples": ["5 min"]}
)
Duration = Annotated[float, BeforeValidator(parse_duration), _duration_schema]
"""Seconds, written with a unit."""
PositiveDuration = Annotated[float, BeforeValidator(_positive), _duration_schema]
"""Seconds greater than zero, written with a unit."""
Size = Annotated[int, BeforeValidator(_size), WithJsonSchema({"type": "string", "pattern": f"^{_SIZE}$"})]
"""Bytes, written with a unit."""


def _address(value: object) -> str:
    expected = 'expected an IP address or a host name, without port, like "192.0.2.11" or "pve1.example"'
    text = _text(value, "an IP address or a host name")
    try:
        return str(ip_address(text))
    except ValueError:
        pass
    if re.fullmatch(r"[\d.]+", text) or not re.fullmatch(_HOST, text, re.ASCII):
        raise ValueError(f"{said(text)} is no address; {expected}")
    return text.lower()


_HOST = (
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"
)
Address = Annotated[str, BeforeValidator(_address), WithJsonSchema({"type": "string", "minLength": 1})]
"""An IP address or host name, normalised."""


def host_port(text: str, default: int) -> tuple[str, int]:
    """Host and port of ``host``, ``host:port`` or ``[v6]:port``.

    Raises:
        ValueError: it is none of these.
    """
    match = re.fullmatch(r"\[([^\]]+)\](?::(\d{1,5}))?|([^:\[\]]+)(?::(\d{1,5}))?", text)
    if match is None:
        return _address(text), default
    port = int(match[2] or match[4] or default)
    if not 0 < port < 65536:
        raise ValueError(f"{port} is no port; expected 1 to 65535")
    return _address(match[1] or match[3]), port


def joined(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _endpoint(default: int) -> BeforeValidator:
    return BeforeValidator(lambda value: joined(*host_port(_text(value, 'an address like "192.0.2.11:8006"'), default)))


Endpoint = Annotated[str, _endpoint(8006), WithJsonSchema({"type": "string", "minLength": 1})]
"""``host:port`` of a PVE API; the port is 8006 unless said."""


def _jump(value: object) -> str:
    text = _text(value, "user@host or user@host:port")
    user, at, host = text.rpartition("@")
    if not at or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,31}", user):
        raise ValueError(f"{said(text)} is no jump host; expected user@host or user@host:port")
    return f"{user}@{joined(*host_port(host, 22))}"


JumpHost = Annotated[str, BeforeValidator(_jump), WithJsonSchema({"type": "string", "pattern": "^[^@]+@.+$"})]
"""``user@host:port``; the port is 22 unless said."""


def _cidr(value: object) -> str:
    text = _text(value, "a network")
    try:
        if "/" not in text:
            raise ValueError
        return str(ip_network(text))
    except ValueError:
        raise ValueError(
            f'"{shown(text)}" is no network; expected its first address and length, like "192.0.2.0/24"'
        ) from None


Cidr = Annotated[str, BeforeValidator(_cidr), WithJsonSchema({"type": "string", "pattern": "^.+/\\d+$"})]


def _fingerprint(value: object) -> str:
    text = _text(value, "a certificate's SHA-256 fingerprint")
    plain = text.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise ValueError("is no SHA-256 fingerprint; expected 32 bytes in hex, as `pvenode cert info` prints them")
    return plain


Fingerprint = Annotated[
    str, BeforeValidator(_fingerprint), WithJsonSchema({"type": "string", "pattern": "^([0-9A-Fa-f]{2}:?){32}$"})
]
"""SHA-256 of a certificate: 64 hex digits in lower case, without colons."""


def _moment(value: object) -> datetime:
    expected = 'expected date, time and zone, like "2026-03-01T20:00:00+01:00"'
    if isinstance(value, datetime):
        return value
    text = _text(value, "date, time and zone")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f'"{shown(text)}" is no moment; {expected}') from None
    if moment.tzinfo is None:
        raise ValueError(f'"{shown(text)}" has no time zone; {expected}')
    return moment


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}.*(Z|[+-]\d{2}:?\d{2})$"}),
]
"""A moment with its time zone."""


def _day(value: object) -> date:
    if isinstance(value, date):
        return value
    text = _text(value, "a day")
    try:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f'"{shown(text)}" is no day; expected year, month, day, like "2026-03-01"') from None


Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"})]


def _path(value: object) -> Path:
    if isinstance(value, Path):
        return value
    text = _text(value, "a file name")
    if not text.strip() or not text.isprintable() or len(text) > 4096:
        raise ValueError("is no file name; expected a path, relative to the inventory or absolute")
    return Path(text)


FilePath = Annotated[Path, BeforeValidator(_path), WithJsonSchema({"type": "string", "minLength": 1})]
"""A file, relative to the inventory's folder unless absolute; ``~`` is the home folder. It is opened only at use."""


def _names(value: object) -> Any:
    return (value,) if isinstance(value, str) else value


OneOrMore = BeforeValidator(_names)
"""A single text stands for a list of one."""


def _port(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"is {kind(value)}; expected a port from 1 to 65535")
    if not 0 < value < 65536:
        raise ValueError(f"{_number(value)} is no port; expected 1 to 65535")
    return value


Port = Annotated[int, BeforeValidator(_port), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 65535})]
