"""What a reply says, in the type that it must have. A site under stress, a proxy or a newer version may say anything:
what is of another type is a ProtocolError that names the request and the place, and is never taken for an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pytest_pveha.errors import ProtocolError

_T = TypeVar("_T")

_NEEDED: Final = "\0needed"
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_LARGEST: Final = 1 << 63
_TRUTHS: Final = {"1": True, "true": True, "0": False, "": False, "false": False}
"""PVE's booleans: 0 and 1, now and then as text, and Perl's false as an empty text (``quorum.quorate`` "1" and "",
recorded on 9.1.9)."""


@dataclass(frozen=True, slots=True)
class Said:
    """An object of a reply, and where in it: ``GET /cluster/status [2]``."""

    where: str
    values: Mapping[str, Any]

    def word(self, key: str, default: str = _NEEDED) -> str:
        """The text under that key; a whole number is one too, for PVE writes ids as either."""
        value = self._value(key, default)
        if isinstance(value, str):
            return value
        if type(value) is int:
            return str(value)
        raise self._wrong(key, "a text", value)

    def name(self, key: str) -> str:
        """The host name under that key: node names become parts of paths and of sentences."""
        value = self.word(key)
        if not _NAME.fullmatch(value):
            raise self._wrong(key, "a host name", value)
        return value

    def count(self, key: str, default: int | None = None) -> int:
        """The whole number under that key, as a number or as its digits; never a negative one."""
        value = self._value(key, _NEEDED if default is None else default)
        digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19
        whole = type(value) is int or (isinstance(value, float) and value.is_integer())
        number = int(value) if digits or whole else None
        if number is None or not 0 <= number < _LARGEST:
            raise self._wrong(key, "a whole number, not negative", value)
        return number

    def number(self, key: str, default: float | None = None) -> float:
        """The number under that key, whole or not; never a negative one, and no infinity."""
        value = self._value(key, _NEEDED if default is None else default)
        if type(value) not in (int, float) or not 0 <= value < _LARGEST:
            raise self._wrong(key, "a number, not negative", value)
        return float(value)

    def id(self, key: str) -> int:
        """The whole number under that key, be it negative, as a bucket's is."""
        value = self._value(key, _NEEDED)
        if type(value) is not int or abs(value) >= _LARGEST:
            raise self._wrong(key, "a whole number", value)
        return value

    def ids(self, key: str) -> tuple[int, ...]:
        """The list of whole numbers under that key, such as a placement group's OSDs or a bucket's children."""
        value = self._value(key, _NEEDED)
        if not isinstance(value, list) or not all(type(each) is int and abs(each) < _LARGEST for each in value):
            raise self._wrong(key, "a list of whole numbers", value)
        return tuple(value)

    def truth(self, key: str, default: bool | None = None) -> bool:
        """Yes or no, as PVE writes them."""
        value = self._value(key, _NEEDED if default is None else default)
        if isinstance(value, bool):
            return value
        text = str(value).lower() if type(value) in (int, str) else "?"
        if text not in _TRUTHS:
            raise self._wrong(key, "0 or 1", value)
        return _TRUTHS[text]

    def part(self, key: str, *, needed: bool = False) -> Said:
        """The object under that key; an empty one where it is absent and not ``needed``."""
        value = self.values.get(key)
        if value is None and not needed:
            return Said(f"{self.where} {key}", {})
        return an_object(value, f"{self.where} {key}")

    def parts(self) -> Iterator[tuple[str, Said]]:
        """Every key with the object under it."""
        for key, value in self.values.items():
            yield key, an_object(value, f"{self.where} {key[:60]}")

    def rows(self, key: str) -> list[Said]:
        """The list of objects under that key; an empty one where it is absent."""
        value = self.values.get(key)
        return [] if value is None else some_rows(value, f"{self.where} {key}")

    def words(self, key: str) -> tuple[str, ...]:
        """The list of texts under that key."""
        value = self._value(key, _NEEDED)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._wrong(key, "a list of texts", value)
        return tuple(value)

    def texts(self, without: tuple[str, ...] = ()) -> dict[str, str]:
        """Every plain value as a text, by its key in order; yes and no are 1 and 0. What is null is left out."""
        return {
            key: str(int(value)) if isinstance(value, bool) else self.word(key)
            for key, value in sorted(self.values.items())
            if key not in without and value is not None
        }

    def _value(self, key: str, default: object) -> Any:
        value = self.values.get(key)
        if value is not None:
            return value
        if default == _NEEDED:
            raise self._wrong(key, "a value", value)
        return default

    def _wrong(self, key: str, expected: str, value: object) -> ProtocolError:
        return ProtocolError(f"{self.where}: {key[:60]} is {kind(value)}, expected {expected}")


def an_object(value: object, where: str) -> Said:
    """The object that the value is; Perl's empty hash may come as an empty list."""
    if value == []:
        return Said(where, {})
    if not isinstance(value, dict):
        raise ProtocolError(f"{where}: expected an object, got {kind(value)}")
    return Said(where, value)


def some_rows(value: object, where: str) -> list[Said]:
    """The list of objects that the value is."""
    if not isinstance(value, list):
        raise ProtocolError(f"{where}: expected a list of objects, got {kind(value)}")
    for index, each in enumerate(value):
        if not isinstance(each, dict):
            raise ProtocolError(f"{where} [{index}]: expected an object, got {kind(each)}")
    return [Said(f"{where} [{index}]", each) for index, each in enumerate(value)]


def once(pairs: Iterator[tuple[str, _T]], where: str) -> dict[str, _T]:
    """The pairs by their key. ProtocolError where a key comes twice: one of the two would be lost unseen."""
    found: dict[str, _T] = {}
    for key, value in pairs:
        if key in found:
            raise ProtocolError(f"{where}: {key[:60]!r} is there twice")
        found[key] = value
    return found


def kind(value: object) -> str:
    """What a wrong value is, for a message: short, and without anything that could move a cursor."""
    if value is None:
        return "nothing"
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    if type(value) is int and abs(value) >= _LARGEST:
        return "a number of more than 64 bits"
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
