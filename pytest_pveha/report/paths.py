"""The table of fence paths: who asks down the side, whose BMC along the top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_pveha.judge.facts import Path
from pytest_pveha.report import words

_WORST = ("no", "cant_tell", "yes")
_LOOKS = {"no": ("✗", "rejected"), "cant_tell": ("?", "inconclusive"), "yes": ("✓", "accepted")}


def matrix(paths: Sequence[Path]) -> dict[str, Any] | None:
    """The rows and cells of the table, and in words what is not as it should be; None where nothing was asked."""
    if not paths:
        return None
    asked = {(path.peer, path.bmc): path for path in paths}
    names = list(dict.fromkeys([path.peer for path in paths] + [path.bmc for path in paths]))
    rows = [
        {
            "peer": words.clean(peer),
            "cells": [_cell(asked.get((peer, bmc))) if peer != bmc else None for bmc in names],
        }
        for peer in names
    ]
    troubles = [
        {"path": words.clean(f"{path.peer} → {path.bmc}"), "text": words.clean("; ".join(_troubles(path)))}
        for path in asked.values()
        if _troubles(path)
    ]
    return {"bmcs": [words.clean(name) for name in names], "rows": rows, "troubles": troubles}


def _cell(path: Path | None) -> dict[str, str]:
    if path is None:
        sign, css = _LOOKS["cant_tell"]
        return {"sign": sign, "css": css, "text": "not asked"}
    sign, css = _LOOKS[min((path.answer, path.own, path.may), key=_WORST.index)]
    if path.answer == "yes":
        text = words.seconds(path.seconds[1])
    else:
        text = "no answer" if path.answer == "no" else "can't tell"
    return {"sign": sign, "css": css, "text": text}


def _troubles(path: Path) -> list[str]:
    if path.answer != "yes":
        return [path.saw]
    told = ((path.own, path.own_saw), (path.may, path.may_saw))
    return [saw for answer, saw in told if answer != "yes"]
