"""The part of nft's language that cuts networks: tables, base chains, rules by address and port that drop or accept.

Source: nft(8). What is not in this part is a syntax error, and a batch with an error changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pytest_pveha.sim.world.network import IN, OUT, Chain, Rule, Table

FAMILIES = ("inet", "ip", "ip6")
_PRIORITIES = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
_TOKEN = re.compile(r'"[^"\n]*"|[{};,\n]|[^\s{};,"]+')
_NOT_THERE = "Could not process rule: No such file or directory"
Tables = dict[str, Table]


class NftTrouble(Exception):
    """nft refuses; the message is what it prints after ``Error: ``."""


def apply(text: str, tables: Tables) -> Tables:
    """The tables after the batch; NftTrouble if any of it cannot be done, and then nothing has been."""
    changed = {name: _copied(table) for name, table in tables.items()}
    reader = _Reader(text)
    while reader.more():
        _statement(reader, changed)
    return changed


def _copied(table: Table) -> Table:
    """The table with the same rules, whose counters so go on."""
    chains = {n: Chain(c.name, c.hook, c.priority, c.policy, list(c.rules)) for n, c in table.chains.items()}
    return Table(table.name, table.comment, chains)


class _Reader:
    """The tokens of a batch; line ends count as ``;``."""

    def __init__(self, text: str) -> None:
        without_comments = re.sub(r"(?m)^\s*#.*$", "", text)
        self._tokens = [";" if token == "\n" else token for token in _TOKEN.findall(without_comments)]
        self._at = 0

    def more(self) -> bool:
        """Whether anything is left but line ends."""
        self.skip_ends()
        return self._at < len(self._tokens)

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self._at += 1
        return token

    def expect(self, wanted: str) -> None:
        if (token := self.take()) != wanted:
            raise NftTrouble(f"syntax error, unexpected {token or 'end of file'}, expecting {wanted}")

    def skip_ends(self) -> None:
        while self.peek() == ";":
            self._at += 1

    def name(self) -> str:
        token = self.take()
        if not re.fullmatch(r"[A-Za-z_][\w/.\\-]*", token):
            raise NftTrouble(f"syntax error, unexpected {token or 'end of file'}, expecting string")
        return token

    def values(self) -> list[str]:
        """One value, or those between braces."""
        if self.peek() != "{":
            return [self.take()]
        self.take()
        found = []
        while (token := self.take()) != "}":
            if not token:
                raise NftTrouble("syntax error, unexpected end of file")
            if token not in (",", ";"):
                found.append(token)
        if not found:
            raise NftTrouble("syntax error, unexpected }")
        return found


def _statement(reader: _Reader, tables: Tables) -> None:
    word = reader.take()
    if word == "table":
        _add_table(reader, tables)
        return
    act = _STATEMENTS.get((word, reader.take()))
    if act is None:
        raise NftTrouble(f"syntax error, unexpected {word}")
    act(reader, tables)


def _table_name(reader: _Reader) -> str:
    family = reader.take() if reader.peek() in FAMILIES else "ip"
    return f"{family} {reader.name()}"


def _existing(reader: _Reader, tables: Tables) -> Table:
    name = _table_name(reader)
    if name not in tables:
        raise NftTrouble(_NOT_THERE)
    return tables[name]


def _add_table(reader: _Reader, tables: Tables) -> None:
    name = _table_name(reader)
    tables.setdefault(name, Table(name))
    if reader.peek() == "{":
        _table_body(reader, tables[name])


def _delete_table(reader: _Reader, tables: Tables) -> None:
    del tables[_existing(reader, tables).name]


def _destroy_table(reader: _Reader, tables: Tables) -> None:
    tables.pop(_table_name(reader), None)


def _flush_table(reader: _Reader, tables: Tables) -> None:
    for chain in _existing(reader, tables).chains.values():
        chain.rules.clear()


def _add_chain(reader: _Reader, tables: Tables) -> None:
    table = _existing(reader, tables)
    chain = table.chains.setdefault(name := reader.name(), Chain(name))
    if reader.peek() == "{":
        _chain_body(reader, table, chain)


def _add_rule(reader: _Reader, tables: Tables) -> None:
    table = _existing(reader, tables)
    name = reader.name()
    if name not in table.chains:
        raise NftTrouble(_NOT_THERE)
    table.chains[name].rules.append(_rule(reader, table))


_STATEMENTS: dict[tuple[str, str], Callable[[_Reader, Tables], None]] = {
    ("add", "table"): _add_table,
    ("create", "table"): _add_table,
    ("delete", "table"): _delete_table,
    ("destroy", "table"): _destroy_table,
    ("flush", "table"): _flush_table,
    ("add", "chain"): _add_chain,
    ("add", "rule"): _add_rule,
}


def _table_body(reader: _Reader, table: Table) -> None:
    reader.expect("{")
    while True:
        reader.skip_ends()
        word = reader.take()
        if word == "}":
            return
        if word == "comment":
            table.comment = reader.take().strip('"')
        elif word == "chain":
            chain = table.chains.setdefault(name := reader.name(), Chain(name))
            _chain_body(reader, table, chain)
        else:
            raise NftTrouble(f"syntax error, unexpected {word or 'end of file'}")


def _chain_body(reader: _Reader, table: Table, chain: Chain) -> None:
    reader.expect("{")
    while True:
        reader.skip_ends()
        if reader.peek() == "}":
            reader.take()
            return
        if not reader.peek():
            raise NftTrouble("syntax error, unexpected end of file")
        if reader.peek() == "type":
            _base(reader, chain)
        elif reader.peek() == "policy":
            reader.take()
            chain.policy = reader.take()
        else:
            chain.rules.append(_rule(reader, table))


def _base(reader: _Reader, chain: Chain) -> None:
    reader.expect("type")
    reader.expect("filter")
    reader.expect("hook")
    hook = reader.take()
    if hook not in (IN, OUT):
        raise NftTrouble(f"{hook}: this site plays input and output")
    reader.expect("priority")
    text = reader.take()
    if text not in _PRIORITIES and not re.fullmatch(r"-?\d+", text):
        raise NftTrouble(f"syntax error, unexpected {text}")
    chain.hook, chain.priority = hook, _PRIORITIES[text] if text in _PRIORITIES else int(text)


def _rule(reader: _Reader, table: Table) -> Rule:
    rule = Rule("")
    words: list[str] = []
    while reader.peek() not in (";", "}", ""):
        words.append(_expression(reader, table, rule))
    if not words:
        raise NftTrouble("syntax error, unexpected newline")
    rule.text = " ".join(words)
    return rule


def _expression(reader: _Reader, table: Table, rule: Rule) -> str:
    """One match or statement, entered in the rule; its text as nft lists it."""
    word = reader.take()
    if word in ("ip", "ip6"):
        side = reader.take()
        values = reader.values()
        if side == "saddr":
            rule.sources = frozenset(values)
        elif side == "daddr":
            rule.destinations = frozenset(values)
        else:
            raise NftTrouble(f"syntax error, unexpected {side}")
        return f"{word} {side} {_set(values)}"
    if word in ("udp", "tcp"):
        side = reader.take()
        values = reader.values()
        if side not in ("sport", "dport"):
            raise NftTrouble(f"syntax error, unexpected {side}")
        ports = tuple(_ports(value) for value in values)
        rule.protocol = word
        if side == "sport":
            rule.source_ports = ports
        else:
            rule.destination_ports = ports
        return f"{word} {side} {_set(values)}"
    if word == "meta":
        reader.expect("l4proto")
        rule.protocol = reader.take()
        return f"meta l4proto {rule.protocol}"
    if word == "counter":
        rule.counter = True
        if reader.peek() == "packets":  # as listed
            for _ in range(4):
                reader.take()
        return "counter"
    if word == "comment":
        return f"comment {reader.take()}"
    if word in ("drop", "accept", "reject", "return"):
        rule.verdict = word
        return word
    if word == "jump":
        target = reader.name()
        if target not in table.chains:
            raise NftTrouble(_NOT_THERE)
        rule.verdict = f"jump {target}"
        return rule.verdict
    raise NftTrouble(f"syntax error, unexpected {word}")


def _ports(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if match is None or not 0 < int(match[1]) <= int(match[2] or match[1]) < 65536:
        raise NftTrouble("syntax error, unexpected string, expecting a port")
    return int(match[1]), int(match[2] or match[1])


def _set(values: list[str]) -> str:
    return values[0] if len(values) == 1 else "{ " + ", ".join(values) + " }"


def listed(table: Table, counts: Callable[[Rule], tuple[int, int]]) -> str:
    """The table as ``nft list table`` prints it. ``counts``: packets and bytes that a rule has counted."""
    names = {number: name for name, number in _PRIORITIES.items()}
    out = f"table {table.name} {{\n" + (f'\tcomment "{table.comment}"\n' if table.comment else "")
    blocks = []
    for chain in table.chains.values():
        block = f"\tchain {chain.name} {{\n"
        if chain.hook:
            priority = names.get(chain.priority, str(chain.priority))
            block += f"\t\ttype filter hook {chain.hook} priority {priority}; policy {chain.policy};\n"
        for rule in chain.rules:
            packets, size = counts(rule) if rule.counter else (0, 0)
            block += f"\t\t{re.sub(r'counter', f'counter packets {packets} bytes {size}', rule.text, count=1)}\n"
        blocks.append(f"{block}\t}}\n")
    return out + "\n".join(blocks) + "}\n"
