"""The JSON Schema of verdict.json, for whoever reads it without this package."""

from __future__ import annotations

from typing import Any

from pytest_pveha.judge.phases import NAMES
from pytest_pveha.judge.verdict import SCHEMA, UNCOUNTED, WORST_FIRST

_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}
_NUMBER: dict[str, Any] = {"type": "number"}
_MAYBE_NUMBER: dict[str, Any] = {"type": ["number", "null"]}
_MOMENT: dict[str, Any] = {"type": ["string", "null"], "format": "date-time"}


def verdict_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of verdict.json, schema 1. Later versions may add keys; they take none away."""
    accepted = ["accepted", "accepted (simulated)", "accepted (partial)", "accepted (partial, simulated)"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pytest-pveha verdict",
        "description": "What one run proved. Durations in seconds; value is null when censored or not measured.",
        **_object(
            {
                "schema": {"const": SCHEMA},
                "run": _TEXT,
                "site": _TEXT,
                "simulated": {"type": "boolean"},
                "started": _MOMENT,
                "finished": _MOMENT,
                "verdict": {"enum": [*accepted, *(word for word in WORST_FIRST if word != "accepted")]},
                "scope": _TEXT,
                "gate": _object(
                    {
                        "verdict": {"enum": ["accepted", "rejected", "inconclusive", "not proven", "not applicable"]},
                        "checks": {"type": "array", "items": {"type": "object"}},
                    }
                ),
                "not_proven": {"type": "array", "items": _object({"id": _TEXT, "reason": _TEXT})},
                "tests": {"type": "array", "items": _test()},
                "requirements": {"type": "array", "items": _requirement()},
                "coverage": _coverage(),
                "left": _object({"compared": {"type": "boolean"}, "differences": _TEXTS, "surroundings": _TEXTS}),
                "time": _time(),
                "campaign": _campaign(),
                "approval": {
                    **_object({"approved_by": _TEXT, "key": _TEXT, "plan_digest": _TEXT}),
                    "type": ["object", "null"],
                },
            },
            closed=False,
        ),
    }


def _requirement() -> dict[str, Any]:
    verdict = {"enum": [*WORST_FIRST, "not applicable"]}
    tests = {"type": "array", "items": _object({"id": _TEXT, "verdict": {"enum": [*WORST_FIRST, *UNCOUNTED]}})}
    return _object({"id": _TEXT, "question": _TEXT, "verdict": verdict, "reason": _TEXT, "tests": tests})


def _coverage() -> dict[str, Any]:
    here = {"enum": [*WORST_FIRST, None]}
    cell = _object(
        {
            **dict.fromkeys(("fault", "role", "subject"), _TEXT),
            "proven": _MOMENT,
            "run": {"type": ["string", "null"]},
            "age": _MAYBE_NUMBER,
            "here": here,
        }
    )
    return _object(
        {
            "proven": {"type": "integer"},
            "of": {"type": "integer"},
            "cells": {"type": "array", "items": cell},
            "uncounted": {"type": "array", "items": _object({"run": _TEXT, "reason": _TEXT})},
        }
    )


def _campaign() -> dict[str, Any]:
    steps = {"type": "array", "items": _object({"step": {"type": "integer"}, "id": _TEXT})}
    found = _object({"seed": {"type": "integer"}, "scenarios": {"type": "integer"}, "steps": steps})
    return {**found, "type": ["object", "null"]}


def _time() -> dict[str, Any]:
    spent = dict.fromkeys(("seconds", "waited_for_site", "watched", "tool_added"), _NUMBER)
    found = _object({**spent, "tool_added_percent": _MAYBE_NUMBER})
    return {**found, "type": ["object", "null"]}


def _test() -> dict[str, Any]:
    return _object(
        {
            "id": _TEXT,
            "title": _TEXT,
            "verdict": {"enum": [*WORST_FIRST, *UNCOUNTED]},
            "reason": _TEXT,
            "claims": {
                "type": "array",
                "items": _object(
                    {
                        "measure": _TEXT,
                        "subject": _TEXT,
                        "value": _MAYBE_NUMBER,
                        "low": _MAYBE_NUMBER,
                        "high": _MAYBE_NUMBER,
                        "unit": _TEXT,
                        "censored": {"type": "boolean"},
                        "op": _TEXT,
                        "objective": _MAYBE_NUMBER,
                        "verdict": {"enum": ["accepted", "rejected", "inconclusive"]},
                    }
                ),
            },
            "phases": {
                "type": "array",
                "items": _object(
                    {"name": {"enum": list(NAMES)}, "start": _NUMBER, "low": _NUMBER, "high": _NUMBER, "source": _TEXT}
                ),
            },
        }
    )


def _object(properties: dict[str, Any], *, closed: bool = True) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": not closed,
    }
