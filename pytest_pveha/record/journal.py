"""What happened, line by line: an append-only file whose every line names the digest of the line before.

A line is one JSON object in canonical form (sorted keys, no spaces, UTF-8)::

    {"data":{…},"kind":"…","mono":ns,"prev":"…","schema":1,"seq":0,"sum":"…","test":null,"utc":"…Z"}

``prev`` is the SHA-256 of the whole previous line without its newline (64 zeros in the first line). ``sum`` is the
SHA-256 of this line as it would be without ``sum``: it guards the last line, which no later line does yet.
Fields and kinds: docs/reference/journal.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn

from pytest_pveha.clock import Clock
from pytest_pveha.errors import EvidenceError, SiteBusy
from pytest_pveha.record.kinds import CONTROL, FIELDS

log = logging.getLogger(__name__)

SCHEMA: Final = 1
FIRST: Final = "0" * 64
"""What ``prev`` says in the first line."""

_KEYS: Final = frozenset({"data", "kind", "mono", "prev", "schema", "seq", "sum", "test", "utc"})
_HEX: Final = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)
_UTC: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the journal."""

    schema: int
    seq: int
    prev: str
    mono: int
    utc: str
    kind: str
    test: str | None
    data: dict[str, Any]

    def encode(self) -> bytes:
        """This line as it stands in the file, without the newline."""
        plain = {
            "data": self.data,
            "kind": self.kind,
            "mono": self.mono,
            "prev": self.prev,
            "schema": self.schema,
            "seq": self.seq,
            "test": self.test,
            "utc": self.utc,
        }
        return canonical_json(plain | {"sum": digest(canonical_json(plain))})


def canonical_json(value: object) -> bytes:
    """The one spelling of a JSON value: sorted keys, no spaces, UTF-8; NaN and infinities are a ValueError.

    A lone surrogate (bytes of a node's output that were no UTF-8) becomes ``?``: the file is always readable.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace")


def digest(line: bytes) -> str:
    """The SHA-256 of a line without its newline, in hexadecimal."""
    return hashlib.sha256(line).hexdigest()


class Journal:
    """The writer. Thread-safe; one writer a file at a time (a lock on the file says so).

    Control kinds are on the disk when ``write`` returns.
    """

    def __init__(self, path: Path, clock: Clock, *, by: str | None = None) -> None:
        """Begin a new journal; the file must not exist yet."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise EvidenceError(f"{path}: a journal lies here already; a run never writes over another's") from None
        except OSError as error:
            raise EvidenceError(f"{path}: cannot create the journal: {error.strerror}") from error
        self._begin(path, clock, by, descriptor)
        _sync_directory(path.parent)

    def _begin(self, path: Path, clock: Clock, by: str | None, descriptor: int) -> None:
        self.path = path
        self.by = by
        self._clock = clock
        self._lock = threading.RLock()
        self._descriptor: int | None = descriptor
        self._size = 0
        self._last: Line | None = None
        self._prev = FIRST
        self._shift = 0
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise SiteBusy(f"{path}: another process is writing this journal; wait until it has ended") from None
        except OSError as error:  # a file system without locks: the site's own lease still holds
            log.warning("%s: cannot be locked here (%s)", path, error.strerror)

    @classmethod
    def reopen(cls, path: Path, clock: Clock, *, by: str | None = None) -> Journal:
        """The journal of an earlier process, verified, ready to go on where it ended.

        A torn last line (its writer was killed) is moved to ``<name>.torn-N`` beside it, and a note says so.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise EvidenceError(f"{path}: cannot open the journal: {error.strerror}") from error
        journal = cls.__new__(cls)
        journal._begin(path, clock, by, descriptor)
        try:
            journal._resume()
        except BaseException:
            journal.close()
            raise
        return journal

    def _resume(self) -> None:
        assert self._descriptor is not None
        content = _content(self.path)
        whole, torn = _split_tail(content)
        lines = _parse(self.path, whole)
        self._size = len(whole)
        if lines:
            self._last = lines[-1]
            self._prev = digest(whole[:-1].rpartition(b"\n")[2])
        told = []
        if torn:
            try:
                kept = self._set_aside(torn)
                os.ftruncate(self._descriptor, self._size)
                os.fsync(self._descriptor)
            except OSError as error:
                raise EvidenceError(f"{self.path}: its torn last line cannot be set aside: {error.strerror}") from error
            told.append(f"the last line was torn ({len(torn)} bytes); it was moved to {kept}")
        told += self._carry_on_time()
        for text in told:
            self.write("note", {"text": text})

    def _carry_on_time(self) -> list[str]:
        # A reboot of this machine sets its monotonic clock back; the journal's goes on, by the difference in UTC.
        if self._last is None:
            return []
        now = self._clock.now()
        if now.mono >= self._last.mono:
            return []
        passed = max(0, now.utc - _utc_ns(self._last.utc))
        self._shift = self._last.mono + passed - now.mono
        return ["the monotonic clock began anew (this machine was restarted); times go on by the UTC clock"]

    def _set_aside(self, torn: bytes) -> str:
        number = 1
        while True:
            aside = self.path.with_name(f"{self.path.name}.torn-{number}")
            try:
                descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                number += 1
                continue
            with os.fdopen(descriptor, "wb") as file:
                file.write(torn)
                file.flush()
                os.fsync(file.fileno())
            _sync_directory(self.path.parent)
            return aside.name

    def write(self, kind: str, data: Mapping[str, Any], test: str | None = None) -> Line:
        """One more line is in the file; on the disk, if its kind is a control kind."""
        if kind not in FIELDS:
            raise EvidenceError(f"{self.path}: {kind!r} is no kind of journal line")
        with self._lock:
            if self._descriptor is None:
                raise EvidenceError(f"{self.path}: the journal is closed; {kind} cannot be written")
            now = self._clock.now()
            line = Line(
                schema=SCHEMA,
                seq=0 if self._last is None else self._last.seq + 1,
                prev=self._prev,
                mono=max(now.mono + self._shift, 0 if self._last is None else self._last.mono),
                utc=now.iso(),
                kind=kind,
                test=test,
                data=self._plain(kind, data),
            )
            encoded = line.encode()
            self._append(encoded + b"\n", sync=kind in CONTROL)
            self._last = line
            self._prev = digest(encoded)
            return line

    def _plain(self, kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
        # There and back through JSON: what the caller changes later does not change the line, and tuples are lists.
        marked = dict(data) if self.by is None else {**data, "by": self.by}
        try:
            plain = json.loads(canonical_json(marked))
        except (TypeError, ValueError, RecursionError) as error:
            raise EvidenceError(f"{self.path}: {kind} carries what JSON cannot say: {error}") from None
        assert isinstance(plain, dict)
        return plain

    def _append(self, content: bytes, *, sync: bool) -> None:
        assert self._descriptor is not None
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(self._descriptor, left) :]
            if sync:
                os.fsync(self._descriptor)
        except OSError as error:
            # half a line would spoil all that follows
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise EvidenceError(f"{self.path}: cannot write: {error.strerror}; nothing is done unrecorded") from error
        self._size += len(content)

    def close(self) -> None:
        """Everything written is on the disk, and nothing more can be written. Idempotent."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is None:
                return
            try:
                with contextlib.suppress(OSError):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: Path, *, tolerant_tail: bool = False) -> list[Line]:
    """All lines, each verified: form, schema, sequence, chain, and time that never runs back.

    Args:
        path: the journal.
        tolerant_tail: leave out a last line without its newline: a writer may be at it, or was killed at it.

    Raises:
        EvidenceError: ``file:line: what is wrong``; there is nothing, or something that no Journal wrote.
    """
    whole, torn = _split_tail(_content(path))
    lines = _parse(path, whole)
    if torn and not tolerant_tail:
        _refuse(path, len(lines) + 1, "the line is torn: its end is missing")
    if not lines and not tolerant_tail:
        _refuse(path, 1, "the journal is empty")
    return lines


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EvidenceError(f"{path}: cannot read the journal: {error.strerror}") from error


def _split_tail(content: bytes) -> tuple[bytes, bytes]:
    end = content.rfind(b"\n") + 1
    return content[:end], content[end:]


def _parse(path: Path, whole: bytes) -> list[Line]:
    lines: list[Line] = []
    prev = FIRST
    for number, encoded in enumerate(whole.split(b"\n")[:-1], start=1):
        line = _line(path, number, encoded)
        if line.seq != number - 1:
            _refuse(path, number, f"seq is {line.seq}, expected {number - 1}: lines are missing or out of order")
        if line.prev != prev:
            _refuse(path, number, "the chain is broken: the line before is not the one that was written")
        if lines and line.mono < lines[-1].mono:
            _refuse(path, number, "time runs back")
        lines.append(line)
        prev = digest(encoded)
    return lines


def _line(path: Path, number: int, encoded: bytes) -> Line:
    try:
        value = json.loads(encoded.decode("utf-8"), parse_constant=_no_constant)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        _refuse(path, number, f"no JSON: {error}")
    if not isinstance(value, dict) or value.keys() != _KEYS:
        _refuse(path, number, "not the keys of a journal line")
    if value["schema"] != SCHEMA or type(value["schema"]) is not int:
        _refuse(path, number, f"schema {value['schema']!r} is not known here (this version reads {SCHEMA})")
    wrong = _wrong_type(value)
    if wrong:
        _refuse(path, number, f"{wrong}: not what a journal line carries")
    said = value.pop("sum")
    if said != digest(_again(path, number, value)):
        _refuse(path, number, "the line was changed: its sum does not fit")
    if encoded != _again(path, number, value | {"sum": said}):
        _refuse(path, number, "the line is not in canonical form")
    return Line(**value)


def _again(path: Path, number: int, value: object) -> bytes:
    try:
        return canonical_json(value)
    except (ValueError, RecursionError) as error:
        _refuse(path, number, f"no canonical form: {error}")


def _wrong_type(value: dict[str, Any]) -> str | None:
    """The first key whose value cannot be right."""
    for key in ("seq", "mono"):
        if type(value[key]) is not int or value[key] < 0:
            return key
    if not (isinstance(value["prev"], str) and _HEX.match(value["prev"])):
        return "prev"
    if not (isinstance(value["utc"], str) and _is_utc(value["utc"])):
        return "utc"
    if value["kind"] not in FIELDS if isinstance(value["kind"], str) else True:
        return "kind"
    if not (value["test"] is None or isinstance(value["test"], str)):
        return "test"
    if not isinstance(value["data"], dict):
        return "data"
    return None


def _is_utc(text: str) -> bool:
    try:
        _utc_ns(text)
    except ValueError:
        return False
    return _UTC.match(text) is not None


def _utc_ns(text: str) -> int:
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _refuse(path: Path, number: int, what: str) -> NoReturn:
    raise EvidenceError(f"{path}:{number}: {what}") from None


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
