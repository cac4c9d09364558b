"""Packet filters: nft and iptables, as far as they cut one node from others."""

from __future__ import annotations

import re
import shlex

from pytest_pveha.sim.servers.commands.registry import command
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.servers.nft_syntax import FAMILIES, NftTrouble, apply, listed
from pytest_pveha.sim.servers.shell import Invocation, Result
from pytest_pveha.sim.world.files import FileTrouble
from pytest_pveha.sim.world.network import IN, OUT, Chain, Rule, Table

_IPTABLES = "ip filter"
_VERDICTS = ("DROP", "ACCEPT", "REJECT", "RETURN")
_LONGEST = 28
"""Characters of a chain's name."""
_MISUSED, _IN_USE = 2, 4
"""Exit statuses besides 1."""
_BUILT_IN = {"INPUT": IN, "FORWARD": "forward", "OUTPUT": OUT}


@command("nft")
def _nft(call: Invocation) -> Result:
    facts, args = call.facts, [arg for arg in call.args if arg not in ("-n", "-nn", "-a", "-s")]
    tables = facts.world.network.tables(facts.node)
    match args:
        case ["list", "tables", *_]:
            return Result(out="".join(f"table {name}\n" for name in tables))
        case ["list", "ruleset"]:
            return Result(out="\n".join(_listed(facts, table) for table in tables.values()))
        case ["list", "table", *words]:
            name = " ".join(words if words[:1] and words[0] in FAMILIES else ["ip", *words])
            if name not in tables:
                return _missing("list table", name)
            return Result(out=_listed(facts, tables[name]))
        case ["-f", path]:
            try:
                text = call.input if path in ("-", "/dev/stdin") else facts.world.files[facts.node.name].read(path)
            except FileTrouble as trouble:
                return Result(1, err=f'internal:0:0-0: Error: Could not open file "{path}": {trouble}\n')
        case _:
            text = " ".join(args)
    try:
        changed = apply(text, tables)
    except NftTrouble as trouble:
        return Result(1, err=f"Error: {trouble}\n{text.splitlines()[0] if text else ''}\n")
    tables.clear()
    tables.update(changed)
    facts.world.network.changed(facts.node)
    return Result()


def _listed(facts: Facts, table: Table) -> str:
    network = facts.world.network

    def counts(rule: Rule) -> tuple[int, int]:
        packets = network.count(facts.node, rule)
        return packets, network.bytes_of(packets)

    return listed(table, counts)


def _missing(what: str, name: str) -> Result:
    return Result(1, err=f"Error: No such file or directory\n{what} {name}\n")


# --- iptables ---------------------------------------------------------------------------------------------------------


class _Trouble(Exception):
    """iptables refuses; the message is its own, ``status`` its exit status (as iptables 1.8.11 ended)."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@command("iptables", "ip6tables")
def _iptables(call: Invocation) -> Result:
    facts = call.facts
    tables = facts.world.network.tables(facts.node)
    table = tables.get(_IPTABLES) or Table(_IPTABLES, "", {n: Chain(n, hook) for n, hook in _BUILT_IN.items()})
    args = [arg for arg in call.args if arg not in ("-w", "--wait", "-n", "-v")]
    try:
        out = _apply(facts, table, args)
    except _Trouble as trouble:
        return Result(trouble.status, err=f"iptables: {trouble}\n")
    if out is not None:
        return Result(out=out)
    tables[_IPTABLES] = table
    facts.world.network.changed(facts.node)
    return Result()


def _apply(facts: Facts, table: Table, args: list[str]) -> str | None:
    """The act done on the table, or the text asked for."""
    match args:
        case ["-N", name]:
            if name in table.chains:
                raise _Trouble("Chain already exists.")
            if len(name) > _LONGEST:
                raise _Trouble(f"chain name `{name}' too long (must be under {_LONGEST + 1} chars)", _MISUSED)
            table.chains[name] = Chain(name)
        case ["-F", name]:
            _chain(table, name).rules.clear()
        case ["-X", name]:
            _delete_chain(table, name)
        case ["-A", name, *words]:
            _chain(table, name).rules.append(_rule(table, words))
        case ["-I", name, *words]:
            _chain(table, name).rules.insert(0, _rule(table, words))
        case ["-D", name, *words]:
            for each in (name, *(words[at + 1] for at, word in enumerate(words[:-1]) if word == "-j")):
                if each not in table.chains and each not in _VERDICTS:
                    raise _Trouble(f"Chain '{each}' does not exist", _MISUSED)
            rules, wanted = _chain(table, name).rules, _rule(table, words).text
            found = next((rule for rule in rules if rule.text == wanted), None)
            if found is None:
                raise _Trouble("Bad rule (does a matching rule exist in that chain?).")
            rules.remove(found)
        case ["-C", name, *words]:
            wanted = _rule(table, words).text
            if wanted not in (rule.text for rule in _chain(table, name).rules):
                raise _Trouble("Bad rule (does a matching rule exist in that chain?).")
            return ""
        case ["-S", *names]:
            return _specified(table, names[0] if names else None)
        case ["-L", *names]:
            return _counted(facts, table, next((name for name in names if not name.startswith("-")), None))
        case _:
            raise _Trouble(f"{' '.join(args)}: not played here")
    return None


def _chain(table: Table, name: str) -> Chain:
    if name not in table.chains:
        raise _Trouble("No chain/target/match by that name.")
    return table.chains[name]


def _delete_chain(table: Table, name: str) -> None:
    chain = _chain(table, name)
    if name in _BUILT_IN or any(r.verdict == f"jump {name}" for c in table.chains.values() for r in c.rules):
        raise _Trouble("Device or resource busy." if name not in _BUILT_IN else "Invalid argument.", _IN_USE)
    if chain.rules:
        raise _Trouble("Directory not empty.")
    del table.chains[name]


def _rule(table: Table, words: list[str]) -> Rule:
    rule, rest = Rule("", counter=True), list(words)
    text: list[str] = []
    while rest:
        key = rest.pop(0)
        if not rest:
            raise _Trouble(f"option '{key}' requires an argument")
        value = rest.pop(0)
        if key in ("-s", "-d"):
            addresses = frozenset(one.removesuffix("/32") for one in value.split(","))
            if key == "-s":
                rule.sources = addresses
            else:
                rule.destinations = addresses
            value = f"{value.removesuffix('/32')}/32"
        elif key == "-p":
            rule.protocol = value
            text += [key, value, "-m", value] if any(word in rest for word in ("--dport", "--sport")) else [key, value]
            continue
        elif key in ("--dport", "--sport"):
            match = re.fullmatch(r"(\d+)(?::(\d+))?", value)
            if match is None:
                raise _Trouble(f"invalid port/service `{value}' specified")
            ports = ((int(match[1]), int(match[2] or match[1])),)
            if key == "--dport":
                rule.destination_ports = ports
            else:
                rule.source_ports = ports
        elif key == "-m":
            if value == "comment" and rest[:1] == ["--comment"] and len(rest) > 1:
                text += ["-m", "comment", "--comment", shlex.quote(rest[1])]
                del rest[:2]
            continue
        elif key == "-j":
            if value not in _VERDICTS and value not in table.chains:
                raise _Trouble("No chain/target/match by that name.")
            rule.verdict = f"jump {value}" if value in table.chains else value.lower()
        else:
            raise _Trouble(f'unknown option "{key}"')
        text += [key, value]
    rule.text = " ".join(text)
    return rule


def _specified(table: Table, only: str | None) -> str:
    """The rules as ``iptables -S`` prints them."""
    chosen = [_chain(table, only)] if only is not None else list(table.chains.values())
    heads = [f"-P {c.name} ACCEPT" if c.name in _BUILT_IN else f"-N {c.name}" for c in chosen]
    return "".join(f"{line}\n" for line in [*heads, *(f"-A {c.name} {r.text}" for c in chosen for r in c.rules)])


def _counted(facts: Facts, table: Table, only: str | None) -> str:
    """The rules with their counters, as ``iptables -nvL`` prints them, roughly."""
    network, out = facts.world.network, ""
    for chain in [_chain(table, only)] if only is not None else table.chains.values():
        out += f"Chain {chain.name}\n    pkts      bytes target\n"
        for rule in chain.rules:
            packets = network.count(facts.node, rule)
            out += f"{packets:8d} {network.bytes_of(packets):10d} {rule.verdict.removeprefix('jump ')} {rule.text}\n"
    return out
