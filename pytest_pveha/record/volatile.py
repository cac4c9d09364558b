"""What may differ between two runs of the same seed, declared; and the journal without it.

Everything else must be the same, byte for byte: times too, because a simulated site has its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from pytest_pveha.record.journal import Line, canonical_json

VOLATILE_KEYS: Final = frozenset({
    "address", "addresses", "argv", "cwd", "earlier", "endpoint", "endpoints", "environment", "fingerprint",
    "fingerprints", "host", "inventory", "inventory_path", "operator", "pid", "platform", "port", "ports", "python",
    "run", "run_dir", "runtime_dir", "user", "volatile",
})  # fmt: skip
"""Data keys, at any depth, whose values belong to the machine, the moment or the person, not to what happened."""

VOLATILE_TEXT: Final = re.compile(r"\b127\.0\.0\.1:\d{1,5}\b")
"""Inside texts, and as pairs: a simulated site's servers listen on whatever ports this machine had free."""


def canonical(lines: Iterable[Line]) -> bytes:
    """The journal as it must be again with the same seed: no chain, no volatile keys, loopback ports as ``*``."""
    kept = (
        {
            "data": _without(line.data),
            "kind": line.kind,
            "mono": line.mono,
            "schema": line.schema,
            "seq": line.seq,
            "test": line.test,
            "utc": line.utc,
        }
        for line in lines
    )
    return b"".join(canonical_json(each) + b"\n" for each in kept)


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(each) for key, each in value.items() if key not in VOLATILE_KEYS}
    if isinstance(value, list) and len(value) == 2 and value[0] == "127.0.0.1" and isinstance(value[1], int):
        return ["127.0.0.1", "*"]
    if isinstance(value, list):
        return [_without(each) for each in value]
    if isinstance(value, str):
        return VOLATILE_TEXT.sub("127.0.0.1:*", value)
    return value
