"""pydantic's errors in this project's words: what is wrong, what is expected, did you mean."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pytest_pveha.inventory.base import Block
from pytest_pveha.inventory.document import Finding, Key, Where, shown
from pytest_pveha.inventory.values import kind, quoted


def findings(error: ValidationError, root: type[Block]) -> Iterator[Finding]:
    """One finding for each of the errors, at the key it is about."""
    details = error.errors(include_url=False, include_context=True, include_input=True)
    for detail in details:
        below = (other["loc"][: len(detail["loc"])] for other in details if len(other["loc"]) > len(detail["loc"]))
        if detail["type"] == "too_short" and detail["loc"] in below:
            continue  # it was long enough before the wrong entries were taken out
        where = tuple(key for key in detail["loc"] if key != "[key]")
        yield Finding(where, _words(detail, where, root))


def meant(wrong: str, known: Collection[str]) -> str:
    """`` did you mean `x`?`` when one of the known names is near; nothing otherwise."""
    near = get_close_matches(wrong.lower(), [name.lower() for name in known], n=1, cutoff=0.6)
    return next((f" did you mean `{name}`?" for name in known if [name.lower()] == near), "")


def _words(detail: ErrorDetails, where: Where, root: type[Block]) -> str:
    value = detail.get("input")
    context = detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return f"is missing; expected: {_meaning(root, where)}"
        case "extra_forbidden":
            known = _keys(root, where[:-1])
            return f"unknown key;{meant(str(where[-1]), known)} expected one of {', '.join(known)}"
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return _literal(value, context)
        case "string_type":
            if isinstance(value, int | float) and not isinstance(value, bool):
                return f"{kind(value)[4:]} is read as a number; write it {quoted(value)}"
            return f"is {kind(value)}; expected text"
        case "model_type" | "model_attributes_type":
            return f"is {kind(value)}; expected a block with {', '.join(_keys(root, where))}"
        case "dict_type" | "mapping_type":
            return f"is {kind(value)}; expected a block of names, each with its own keys"
        case "tuple_type" | "list_type":
            return f"is {kind(value)}; expected a list"
        case "int_type" | "int_from_float":
            return f"is {kind(value)}; expected a whole number"
        case "float_type":
            return f"is {kind(value)}; expected a number"
        case "bool_type":
            return f"is {kind(value)}; expected true or false"
        case "too_short":
            return f"has too few entries; expected at least {context['min_length']}"
        case "too_long":
            return f"has too many entries; expected at most {context['max_length']}"
        case "greater_than_equal" | "less_than_equal" | "greater_than" | "less_than":
            name, limit = next(iter(context.items()))
            return f"is out of range; expected {_LIMITS[name]} {limit}"
        case "finite_number":
            return "is no usable number; expected a finite one"
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}"


_LIMITS = {"ge": "at least", "le": "at most", "gt": "more than", "lt": "less than"}


def _literal(value: object, context: Mapping[str, Any]) -> str:
    expected = str(context["expected"]).replace("'", "")
    if not isinstance(value, str):
        return f"is {kind(value)}; expected {expected}"
    names = expected.replace(" or ", ", ").split(", ")
    return f'"{shown(value)}" is not known;{meant(value, names)} expected {expected}'


def _meaning(root: type[Block], where: Where) -> str:
    """What the schema says about that key."""
    model = _type_at(root, where[:-1])
    if isinstance(model, type) and issubclass(model, BaseModel):
        field = model.model_fields.get(str(where[-1]))
        if field is not None and field.description:
            return field.description.split("; ")[0].rstrip(".")
    return "a value"


def _keys(root: type[Block], where: Where) -> list[str]:
    model = _type_at(root, where)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _type_at(root: type[Block], where: Where) -> Any:
    found: Any = root
    for key in where:
        found = _step(_plain(found), key)
    return _plain(found)


def _step(kind_: Any, key: Key) -> Any:
    if isinstance(kind_, type) and issubclass(kind_, BaseModel):
        field = kind_.model_fields.get(str(key))
        return field.annotation if field else None
    arguments = get_args(kind_)
    if not arguments:
        return None
    return arguments[0] if isinstance(key, int) else arguments[-1]


def _plain(kind_: Any) -> Any:
    """The type without Annotated and without ``| None``."""
    while True:
        if get_origin(kind_) is Annotated:
            kind_ = get_args(kind_)[0]
        elif get_origin(kind_) in (Union, UnionType):
            kind_ = next(one for one in get_args(kind_) if one is not type(None))
        else:
            return kind_


def inner_type(annotation: Any) -> tuple[Any, str]:
    """What a field holds in the end, and how its place is written: ``[]`` for a list, ``.<name>`` for names."""
    suffix = ""
    found = _plain(annotation)
    while get_args(found) and get_origin(found) is not Literal:
        suffix += ".<name>" if len(get_args(found)) == 2 and get_args(found)[1] is not Ellipsis else "[]"
        found = _plain(_step(found, "" if suffix.endswith(">") else 0))
    return found, suffix
