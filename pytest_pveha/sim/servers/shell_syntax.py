"""The grammar of the simulated shell: words and quotes, chains, pipes, redirections, comments.

There is no expansion, no background, no substitution and no compound command: what is not understood is an error,
never done otherwise. Source: POSIX.1-2024, Shell Command Language, 2.3 and 2.7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_OPERATOR = re.compile(r"&>>|&>|&&|\|\||[0-9]?>>|[0-9]?>&|[0-9]?>|0?<|[;\n|&()]")
_REDIRECTION = re.compile(r"([0-9]?)(>>|>&|>|<)|(&>>|&>)")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_SUBSTITUTION = ("`", "$(", "${")


class SyntaxFailure(Exception):
    """The shell does not understand the line."""


@dataclass(frozen=True, slots=True)
class Redirection:
    """A stream (0, 1, 2) goes to or comes from a file, or (``target`` a number) where another stream goes."""

    stream: int
    target: str | int
    append: bool = False


@dataclass(frozen=True, slots=True)
class Simple:
    """A simple command: what is set before it, its words, and where its streams go."""

    assignments: tuple[tuple[str, str], ...]
    words: tuple[str, ...]
    redirections: tuple[Redirection, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Simple commands with a pipe between each two. ``before`` is what stood before it: ``;``, ``&&`` or ``||``."""

    before: str
    commands: tuple[Simple, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    operator: bool


def parse(text: str) -> list[Pipeline]:
    """The pipelines of a line or script, in order."""
    pipelines: list[Pipeline] = []
    commands: list[Simple] = []
    pending: list[_Token] = []
    before = ";"
    for token in [*_tokens(text), _Token("\n", True)]:
        if not token.operator or _REDIRECTION.fullmatch(token.text):
            pending.append(token)
            continue
        end = token.text
        if end in ("&", "(", ")"):
            raise SyntaxFailure(f"syntax error near unexpected token `{end}'")
        if not pending:
            if end == "\n" and not commands and (before == ";" or pipelines):
                continue  # an empty line, or a chain that goes on in the next
            raise SyntaxFailure(f"syntax error near unexpected token `{'newline' if end == chr(10) else end}'")
        commands.append(_simple(pending))
        pending = []
        if end != "|":
            pipelines.append(Pipeline(before, tuple(commands)))
            commands, before = [], end if end in ("&&", "||") else ";"
    if commands or before != ";":
        raise SyntaxFailure("syntax error: unexpected end of file")
    return pipelines


def _simple(tokens: list[_Token]) -> Simple:
    assignments: list[tuple[str, str]] = []
    words: list[str] = []
    redirections: list[Redirection] = []
    rest = iter(tokens)
    for token in rest:
        if token.operator:
            target = next(rest, None)
            if target is None or target.operator:
                raise SyntaxFailure("syntax error near unexpected token `newline'")
            redirections += _redirections(token.text, target.text)
        elif not words and (match := _ASSIGNMENT.fullmatch(token.text)):
            assignments.append((match[1], match[2]))
        else:
            words.append(token.text)
    return Simple(tuple(assignments), tuple(words), tuple(redirections))


def _redirections(operator: str, target: str) -> list[Redirection]:
    match = _REDIRECTION.fullmatch(operator)
    assert match is not None
    if match[3]:
        return [Redirection(1, target, match[3] == "&>>"), Redirection(2, 1)]
    stream = int(match[1]) if match[1] else 0 if match[2] == "<" else 1
    if match[2] == ">&":
        if target not in ("1", "2"):
            raise SyntaxFailure(f"{target}: ambiguous redirect")
        return [Redirection(stream, int(target))]
    return [Redirection(stream, target, match[2] == ">>")]


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    word: str | None = None
    at = 0
    while at < len(text):
        char = text[at]
        operator = _OPERATOR.match(text, at)
        if operator and operator[0][0].isdigit() and word is not None:
            operator = None  # a digit within a word belongs to it
        if operator or char in " \t\r":
            if word is not None:
                tokens.append(_Token(word, False))
                word = None
            if operator:
                tokens.append(_Token(operator[0], True))
            at = operator.end() if operator else at + 1
        elif char == "#" and word is None:
            at = end if (end := text.find("\n", at)) >= 0 else len(text)
        else:
            piece, at = _piece(text, at)
            word = (word or "") + piece
    if word is not None:
        tokens.append(_Token(word, False))
    return tokens


def _piece(text: str, at: int) -> tuple[str, int]:
    """The part of a word that begins here, without its quotes, and where the next one begins."""
    char = text[at]
    if char == "'":
        end = text.find("'", at + 1)
        if end < 0:
            raise SyntaxFailure("unexpected EOF while looking for matching `''")
        return text[at + 1 : end], end + 1
    if char == '"':
        return _double_quoted(text, at + 1)
    if char == "\\":
        if text[at + 1 : at + 2] == "\n":
            return "", at + 2
        return text[at + 1 : at + 2], at + 2
    _refuse_substitution(text, at)
    return char, at + 1


def _double_quoted(text: str, at: int) -> tuple[str, int]:
    found = ""
    while at < len(text):
        char = text[at]
        if char == '"':
            return found, at + 1
        if char == "\\" and text[at + 1 : at + 2] in ("\\", '"', "$", "`", "\n"):
            found += text[at + 1].replace("\n", "")
            at += 2
            continue
        _refuse_substitution(text, at)
        found += char
        at += 1
    raise SyntaxFailure("unexpected EOF while looking for matching `\"'")


def _refuse_substitution(text: str, at: int) -> None:
    if text.startswith(_SUBSTITUTION, at):
        raise SyntaxFailure("bad substitution: this shell has none")
