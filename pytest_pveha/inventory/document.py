"""A YAML file as plain data, and the line on which each key stands.

The node graph of ruamel.yaml's round-trip reader is walked by ourselves rather than constructed: so every value keeps
its line, all duplicate keys are reported at once, aliases cannot expand without bound, and no tag builds an object.
"""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pytest_pveha.errors import InventoryError

MAX_BYTES = 256 * 1024
"""Largest inventory read; a site of 32 nodes and 1,000 guests needs about half of it."""
MAX_VALUES = 100_000
"""Most values after aliases are expanded: a few lines of aliases of aliases can name millions."""
MAX_DEPTH = 40
"""Deepest nesting; the schema itself needs eight."""

_TAG = "tag:yaml.org,2002:"

Key = str | int
Where = tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where."""

    where: Where
    what: str
    line: int | None = None


@dataclass(slots=True)
class Document:
    """What a file says, and on which line it says it."""

    path: Path
    sha256: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Where, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def line(self, where: Where) -> int:
        """The line of that key, or of the nearest block around it that the file has."""
        for end in range(len(where), 0, -1):
            if where[:end] in self.lines:
                return self.lines[where[:end]]
        return 1

    def refuse(self, findings: Iterable[Finding]) -> InventoryError:
        """The error that lists all findings, one a line, in the order of the file."""
        lines = []
        for one in findings:
            line = self.line(one.where) if one.line is None else one.line
            lines.append((line, f"{shown(str(self.path), 300)}:{line}: {spelled(one.where)}{one.what}"))
        return InventoryError("\n".join(text for _, text in sorted(dict.fromkeys(lines), key=lambda pair: pair[0])))


def shown(text: str, limit: int = 60) -> str:
    """Text from a file made fit for a message: no control characters, not endless."""
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[: limit + 1])
    return clean[:limit] + "…" if len(clean) > limit else clean


def spelled(where: Where) -> str:
    """``nodes.pve1.bmc: `` or ``guests[0].id: ``; nothing for the whole file."""
    text = ""
    for index, key in enumerate(where):
        if isinstance(key, str) and ":" in key and "fingerprints" not in where[:index]:
            key = f"{key.partition(':')[0]}:…"  # `{password:secret}`, the blank forgotten, is a key as a whole
        text += f"[{key}]" if isinstance(key, int) else f".{shown(key)}"
    return f"{text.removeprefix('.')}: " if text else ""


def read(path: Path) -> Document:
    """The document of that file.

    Raises:
        InventoryError: the file cannot be read, or is not one YAML mapping. What can be told beside the rest (duplicate
            keys, empty values, foreign tags) is left in ``findings``, for one message with everything.
    """
    raw = _bytes(path)
    return parse(path, raw)


def parse(path: Path, raw: bytes) -> Document:
    """The document that these bytes are."""
    document = Document(path, sha256(raw).hexdigest())
    node = _compose(document, _text(document, raw))
    if node is None:
        raise _whole(document, "the file is empty; expected one YAML mapping with the blocks site, cluster, nodes, …")
    if not isinstance(node, MappingNode):
        raise _whole(
            document,
            f"the file is {_kind(node)}; expected one YAML mapping with the blocks site, cluster, nodes, …",
            node,
        )
    try:
        document.data = _Walk(document).mapping(node, (), 0)
    except RecursionError:
        raise _whole(document, "the file is nested too deeply") from None
    return document


def _bytes(path: Path) -> bytes:
    name = shown(str(path), 300)
    try:
        # O_NONBLOCK: a FIFO must not hang us; it is refused by its type
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InventoryError(
            f"{name}: there is no such file; name your inventory, or try inventories/sim-3node.yml"
        ) from None
    except (OSError, ValueError) as error:
        raise InventoryError(f"{name}: cannot be read: {_why(error)}; expected a readable YAML file") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise InventoryError(f"{name}: is {kind}; expected one YAML file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InventoryError(f"{name}: cannot be read: {_why(error)}; expected one YAML file") from None
    finally:
        os.close(descriptor)
    if len(raw) > MAX_BYTES:
        raise InventoryError(f"{name}: is larger than {MAX_BYTES // 1024} KiB; expected an inventory, one site a file")
    return raw


def _why(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else "not a usable file name"


def _text(document: Document, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        finding = Finding((), f"byte {error.start} is not UTF-8; expected a YAML text file in UTF-8", line)
        raise document.refuse([finding]) from None


def _brackets(text: str) -> int:
    """How deep the brackets go, comment lines left out; quoted ones count, so it is an upper bound."""
    depth = deepest = 0
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        for char in line:
            if char in "[{":
                depth += 1
                deepest = max(deepest, depth)
            elif char in "]}" and depth:
                depth -= 1
    return deepest


def _compose(document: Document, text: str) -> Node | None:
    if _brackets(text) > 5 * MAX_DEPTH:
        # the reader takes seconds over what it then refuses
        raise _whole(document, "the file is nested too deeply")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            node: Node | None = YAML(typ="rt", pure=True).compose(text)
    except RecursionError:
        raise _whole(document, "the file is nested too deeply") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        position = getattr(error, "position", None)  # of a character that YAML does not allow
        line = 1 if mark is None else mark.line + 1
        if mark is None and isinstance(position, int):
            line = text.count("\n", 0, position) + 1
        # only the problem, never the mark's snippet: the line may hold a secret somebody typed in
        parts = [getattr(error, name, None) or getattr(error, other, None) for name, other in _PROBLEM]
        problem = _blinded(", ".join(str(part) for part in parts if part)) or type(error).__name__
        raise document.refuse([Finding((), f"not valid YAML: {shown(problem, 200)}", line)]) from None
    except Exception as error:
        # a parser's own slip on mad input (a ValueError in a directive, say) is still only bad input
        raise _whole(document, f"not valid YAML ({type(error).__name__})") from None
    return node


_PROBLEM = (("context", "context"), ("problem", "reason"))


def _blinded(problem: str) -> str:
    """The parser's words without what it quotes from the file: a password may begin with * or !."""
    if "undefined alias" in problem:
        return "found an alias (*) without its anchor (&); a text that begins with * needs quotes"
    return re.sub(r"""'([^']*)'|"([^"]*)\"""", lambda match: _token(match[1] or match[2] or ""), problem)


def _token(text: str) -> str:
    return f"'{text}'" if len(text) <= 1 or re.fullmatch(r"<[a-z ]+>|\\[a-z]", text) else "'…'"


def _whole(document: Document, what: str, node: Node | None = None) -> InventoryError:
    return document.refuse([Finding((), what, 1 if node is None else node.start_mark.line + 1)])


def _kind(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, SequenceNode) else "a single value"


_MISSING = object()


# the tag itself is not repeated: it may be a password that begins with an exclamation mark
_NO_TAG = "has a tag (!…), and tags are not used here; write the plain value, in quotes if it begins with !"


class _Walk:
    """One pass over the node graph, bounded in depth and number."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._left = MAX_VALUES

    def mapping(self, node: MappingNode, where: Where, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        first: dict[str, int] = {}
        inherited: list[Node] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if str(key_node.tag) == f"{_TAG}merge":
                inherited.append(value_node)
                continue
            if not isinstance(key_node, ScalarNode) or not str(key_node.value):
                self._say((*where,), "a key is empty or no plain text; expected a name before the colon", line)
                continue
            key = str(key_node.value)
            if key in first:
                self._say((*where, key), f"duplicate key, first on line {first[key]}; keep one of them", line)
                continue
            first[key] = line
            self._document.lines[(*where, key)] = line
            value = self.value(value_node, (*where, key), depth + 1)
            if value is not _MISSING:
                found[key] = value
        for value_node in inherited:
            self._inherit(value_node, found, first, where, depth)
        return found

    def _inherit(self, node: Node, found: dict[str, Any], first: dict[str, int], where: Where, depth: int) -> None:
        """``<<: *anchor``: keys of the anchor's block that this one does not say itself."""
        if isinstance(node, SequenceNode):
            for one in node.value:
                self._spend(one, where, depth)
                self._inherit(one, found, first, where, depth + 1)
            return
        if not isinstance(node, MappingNode):
            line = node.start_mark.line + 1
            self._say(where, "<< has no mapping; expected an alias of a block, like <<: *name", line)
            return
        self._spend(node, where, depth)
        own, self._document.lines = self._document.lines, {}
        try:
            values = self.mapping(node, where, depth + 1)
        finally:
            inherited, self._document.lines = self._document.lines, own
        own.update({place: line for place, line in inherited.items() if place[len(where)] not in first})
        for key, value in values.items():
            if key not in first:
                first[key] = inherited[(*where, key)]
                found[key] = value

    def value(self, node: Node, where: Where, depth: int) -> Any:
        self._spend(node, where, depth)
        line = node.start_mark.line + 1
        tag = str(node.tag)
        if isinstance(node, MappingNode) and tag == f"{_TAG}map":
            return self.mapping(node, where, depth)
        if isinstance(node, SequenceNode) and tag == f"{_TAG}seq":
            items = []
            for index, one in enumerate(node.value):
                self._document.lines[(*where, index)] = one.start_mark.line + 1
                item = self.value(one, (*where, index), depth + 1)
                if item is not _MISSING:
                    items.append(item)
            return tuple(items)
        if isinstance(node, ScalarNode):
            return self._scalar(str(node.value), tag.removeprefix(_TAG), where, line)
        return self._say(where, _NO_TAG, line)

    def _scalar(self, text: str, tag: str, where: Where, line: int) -> Any:
        try:
            match tag:
                case "str" | "timestamp":  # dates stay text: their meaning is the schema's business
                    return text
                case "int":
                    return _integer(text)
                case "float":
                    return Number(text)
                case "bool":
                    return text.lower() in {"true", "yes", "on"}
                case "null":
                    return self._say(
                        where, "has no value; write one, {} for a block with only defaults, or remove it", line
                    )
        except ValueError:
            return self._say(where, "is no usable number", line)
        return self._say(where, _NO_TAG, line)

    def _say(self, where: Where, what: str, line: int) -> Any:
        self._document.findings.append(Finding(where, what, line))
        return _MISSING

    def _spend(self, node: Node, where: Where, depth: int) -> None:
        self._left -= 1
        line = node.start_mark.line + 1
        if self._left < 0:
            what = f"more than {MAX_VALUES} values once aliases are expanded; expected an inventory"
            raise self._document.refuse([Finding((), what, line)])
        if depth > MAX_DEPTH:
            what = f"nested deeper than {MAX_DEPTH} levels, or an alias of a block inside itself"
            raise self._document.refuse([Finding((), what, line)])


class Number(float):
    """A YAML number with a point, and how it was written: 1.10 is not 1.1 to whoever typed a version."""

    text: str

    def __new__(cls, text: str) -> Number:
        plain = text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan")
        self = super().__new__(cls, plain)
        self.text = text
        return self


def _integer(text: str) -> int:
    plain = text.replace("_", "")
    digits = plain.lstrip("+-").lower()
    base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2], 10)
    return int(plain, base)
