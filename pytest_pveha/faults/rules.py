"""Packet filter rules of ours on a node: they drop what comes from, or goes to, some addresses.

nft where the node has it, else iptables, which every PVE node has. Everything is in a table, or a chain, of one name,
so that taking it back is one act that cannot touch a rule of anybody else's. Rules are gone after a reboot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.shell import ShellLine, each_of, quote, whatever_comes

EARLY = -300
"""Before connection tracking and anybody's own rules: what is let through elsewhere is dropped here (nft(8), hooks)."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Which packets: those from or to these addresses: all, only to these UDP ports, or only of this TCP service."""

    addresses: tuple[str, ...]
    udp: tuple[int, int] | None = None
    incoming: bool = True
    outgoing: bool = True
    tcp: int | None = None
    """A port that the other side listens on."""

    def ports(self, *, leaving: bool) -> tuple[str, str, str] | None:
        """Protocol, which end of it (dport or sport), and the port or range; None for all packets."""
        if self.tcp is not None:
            return "tcp", "dport" if leaving else "sport", str(self.tcp)
        return None if self.udp is None else ("udp", "dport", f"{self.udp[0]}-{self.udp[1]}")


def put(node: Node, tag: str, *traffic: Traffic, deadline: Deadline) -> None:
    """The node drops all that traffic. ProtocolError where it has neither nft nor iptables."""
    match _tool(node, deadline):
        case "nft":
            node.act(deadline, "nft", "-f", "-", input=_ruleset(tag, traffic))
        case "iptables":
            for words in _chains(tag, traffic):
                node.act(deadline, *words)
        case _:
            raise ProtocolError(f"node {node.name} has neither nft nor iptables: its network cannot be cut by rules")


def there(node: Node, tag: str, deadline: Deadline) -> bool:
    """Whether the node has rules of that tag."""
    if _tool(node, deadline) == "nft":
        return f"table inet {_table(tag)}" in node.command(deadline, "nft", "list", "tables").splitlines()
    return any(
        f"-N {tag}" in node.command(deadline, tool, "-w", "-S").splitlines() for tool in ("iptables", "ip6tables")
    )


def take_back(node: Node, tag: str, deadline: Deadline) -> None:
    """The node has no rules of that tag."""
    if there(node, tag, deadline):
        node.act(deadline, "sh", "-c", each_of(*undo_script(tag)))


def undo_script(tag: str) -> tuple[ShellLine, ...]:
    """The same for a script on the node, whatever tool put them there; what is not there is no error."""
    lines = [whatever_comes(quote("nft", "delete", "table", "inet", _table(tag)))]
    for tool in ("iptables", "ip6tables"):
        for words in (("-D", "INPUT", "-j", tag), ("-D", "OUTPUT", "-j", tag), ("-F", tag), ("-X", tag)):
            lines.append(whatever_comes(quote(tool, "-w", *words)))
    return tuple(lines)


def _tool(node: Node, deadline: Deadline) -> str:
    """``nft`` or ``iptables``, as the node has them; empty for neither."""
    for tool in ("nft", "iptables"):
        try:
            node.command(deadline, "sh", "-c", quote("command", "-v", tool))
        except ProtocolError:
            continue
        return tool
    return ""


def _table(tag: str) -> str:
    return tag.replace("-", "_")


def _families(addresses: Iterable[str]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for address in addresses:
        found.setdefault(ip_address(address).version, []).append(address)
    return found


def _ruleset(tag: str, traffic: Sequence[Traffic]) -> str:
    chains = []
    for name, hook, which in (("from", "input", "saddr"), ("to", "output", "daddr")):
        rules = [rule for each in traffic for rule in _rules(each, which, leaving=hook == "output")]
        if rules:
            head = f"        type filter hook {hook} priority {EARLY}; policy accept;"
            chains.append("\n".join((f"    chain {name} {{", head, *rules, "    }")))
    name = f"table inet {_table(tag)}"
    # in one transaction: made if it is not there, and never twice in it (nft adds to a table that is; seen)
    return "\n".join((name, f"delete {name}", f"{name} {{", *chains, "}", ""))


def _rules(traffic: Traffic, which: str, *, leaving: bool) -> list[str]:
    if not (traffic.outgoing if leaving else traffic.incoming):
        return []
    told = traffic.ports(leaving=leaving)
    ports = f" {' '.join(told)}" if told else ""
    return [
        f"        {'ip' if version == 4 else 'ip6'} {which} {{ {', '.join(some)} }}{ports} counter drop"
        for version, some in _families(traffic.addresses).items()
    ]


def _chains(tag: str, traffic: Sequence[Traffic]) -> list[tuple[str, ...]]:
    commands: list[tuple[str, ...]] = []
    for version, tool in ((4, "iptables"), (6, "ip6tables")):
        here = [each for each in traffic if version in _families(each.addresses)]
        if not here:
            continue
        commands.append((tool, "-w", "-N", tag))
        for each in here:
            into, out = (_match(each.ports(leaving=leaving)) for leaving in (False, True))
            for address in _families(each.addresses)[version]:
                commands += [(tool, "-w", "-A", tag, "-s", address, *into, "-j", "DROP")] * each.incoming
                commands += [(tool, "-w", "-A", tag, "-d", address, *out, "-j", "DROP")] * each.outgoing
        commands += [(tool, "-w", "-I", "INPUT", "-j", tag)] * any(each.incoming for each in here)
        commands += [(tool, "-w", "-I", "OUTPUT", "-j", tag)] * any(each.outgoing for each in here)
    return commands


def _match(ports: tuple[str, str, str] | None) -> tuple[str, ...]:
    if ports is None:
        return ()
    protocol, end, numbers = ports
    return ("-p", protocol, f"--{end}", numbers.replace("-", ":"))
