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

_RUN_ID: Final = re.compile(r"[0-9a-f]{8}")


def canonical(lines: Iterable[Line]) -> bytes:
    """The journal as it must be again with the same seed: no chain, no volatile keys, no ports and no run's id."""
    lines = list(lines)
    run = next((str(line.data.get("run")) for line in lines if line.kind == "run.open"), "")
    texts = re.compile(f"{VOLATILE_TEXT.pattern}|{run}" if _RUN_ID.fullmatch(run) else VOLATILE_TEXT.pattern)
    kept = (
        {
            "data": _without(line.data, texts),
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


def _without(value: Any, texts: re.Pattern[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(each, texts) for key, each in value.items() if key not in VOLATILE_KEYS}
    if isinstance(value, list) and len(value) == 2 and value[0] == "127.0.0.1" and isinstance(value[1], int):
        return ["127.0.0.1", "*"]
    if isinstance(value, list):
        return [_without(each, texts) for each in value]
    if isinstance(value, str):
        return texts.sub(lambda found: "127.0.0.1:*" if ":" in found[0] else "RUN", value)
    return value
