"""How hard a fuzz test tries: some examples in ``make test``, many in ``make proof``; the same ones every time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st


def budget(quick: int, thorough: int) -> pytest.MarkDecorator:
    """Parametrises ``examples``: few, and many under the marker ``proof``."""
    return pytest.mark.parametrize(
        "examples",
        [pytest.param(quick, id="quick"), pytest.param(thorough, id="thorough", marks=pytest.mark.proof)],
    )


def tries(examples: int) -> settings:
    """Settings for that many examples, derived from the test alone; how long one takes decides nothing."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def deep(levels: int) -> Any:
    """A list in a list in a list …"""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


NASTY_TEXTS = (
    "",
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b[0m",
    "$(touch x); rm -rf /",
    "'\"`",
    "../../etc/passwd",
    "!!python/object:os.system",
    "line\nline",
    "\u202ertl",
    "\x00",
    "9" * 5000,
    "-1",
    "NaN",
    "true",
    "\ud800",
    "\u0663",  # a digit, to Unicode
)
"""What somebody may have called a guest, or a broken program may print."""

NASTY = (
    None,
    True,
    False,
    -1,
    0,
    2,
    10**30,
    1.5,
    float("nan"),
    float("inf"),
    [],
    {},
    [None],
    [[]],
    {"": None},
    deep(50),
)
"""What stands where something else was expected."""


def spoilt(value: Any, draw: Any) -> Any:
    """The value with one to three places of it changed, dropped, doubled or replaced by something nasty."""
    for _ in range(draw(st.integers(1, 3))):
        value = _once(value, draw)
    return value


def _once(value: Any, draw: Any) -> Any:
    if isinstance(value, dict) and value and draw(st.integers(0, 6)):
        key = draw(st.sampled_from(sorted(value)))
        rest = {name: each for name, each in value.items() if name != key}
        if not draw(st.integers(0, 5)):
            return rest
        if not draw(st.integers(0, 9)):
            return {**rest, draw(st.sampled_from(NASTY_TEXTS)): value[key]}
        return {**rest, key: _once(value[key], draw)}
    if isinstance(value, list) and value and draw(st.integers(0, 6)):
        index = draw(st.integers(0, len(value) - 1))
        if not draw(st.integers(0, 5)):
            return [*value, value[index]]
        return [*value[:index], _once(value[index], draw), *value[index + 1 :]]
    return draw(st.sampled_from(NASTY + NASTY_TEXTS))


def spoilt_bytes(content: bytes, draw: Any) -> bytes:
    """The bytes cut, flipped, doubled in part, or with something nasty put in."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(found) - 1)))
        match draw(st.integers(0, 4)):
            case 0:
                del found[place:]
            case 1 if found:
                found[place] ^= 1 << draw(st.integers(0, 7))
            case 2:
                found[place:place] = draw(st.sampled_from(NASTY_TEXTS)).encode("utf-8", "surrogatepass")
            case 3:
                end = draw(st.integers(place, min(len(found), place + 200)))
                found[place:place] = found[place:end]
            case _:
                found[place : place + draw(st.integers(1, 40))] = draw(st.binary(max_size=20))
    return bytes(found)
