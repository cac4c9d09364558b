"""What a node's own ping says of a way, and what its corosync says of its links.

ping is asked in the C locale; its wording: iputils 20240905 and 20221126 (Debian 13 and 12). The stats map's keys:
cmap_keys(7); a link's latency there is the round trip in microseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_pveha.clock import Deadline, Instant
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.shell import quote

PATIENCE = 2
"""Seconds that ping waits for the last answer."""

_ANSWER = re.compile(r"^\d+ bytes from .*\bicmp_seq=(?P<number>\d+)\b.*\btime=(?P<time>\d+(?:\.\d+)?) ms\s*$", re.M)
_SENT = re.compile(r"^(?P<sent>\d+) packets transmitted, (?P<heard>\d+) received, .*packet loss", re.M)
_LINK = re.compile(r"^stats\.knet\.node(\d+)\.link(\d+)\.(\w+) \(\w+\) = (\d+)\s*$", re.M)


@dataclass(frozen=True, slots=True)
class Echoes:
    """Echoes that one node asked for of one machine."""

    sent: int
    times: tuple[float, ...]
    """Milliseconds of each that was answered, in the order in which they were sent."""
    asked_at: Instant
    answered_at: Instant


@dataclass(frozen=True, slots=True)
class LinkLatency:
    """What the node's corosync measured itself on one link since it started: round trips in milliseconds."""

    average: float
    longest: float
    samples: int


def echoes(node: Node, host: str, count: int, interval: float, deadline: Deadline) -> Echoes:
    """So many echoes asked of that address, and which came back. ProtocolError where ping cannot be used there."""
    words = ("env", "LC_ALL=C", "ping", "-n", "-c", str(count), "-i", f"{interval:g}", "-W", str(PATIENCE), host)
    result = node.ssh.run(quote(*words), deadline=deadline)
    said = result.stdout.decode(errors="replace")
    sent = _SENT.search(said)
    if result.exit_status not in (0, 1) or sent is None:  # 1: nothing came back (ping(8))
        told = (said + result.stderr.decode(errors="replace")).strip()[-200:]
        raise ProtocolError(
            f"node {node.name}: `ping {host}` tells of no packets (status {result.exit_status}): {told}"
        )
    # an echo that came twice counts once
    times = {int(found["number"]): float(found["time"]) for found in reversed(list(_ANSWER.finditer(said)))}
    if len(times) != int(sent["heard"]):
        raise ProtocolError(
            f"node {node.name}: `ping {host}` counts {sent['heard']} answers and shows {len(times)}; its output is not "
            f"understood"
        )
    in_order = tuple(times[number] for number in sorted(times))
    return Echoes(int(sent["sent"]), in_order, result.asked_at, result.answered_at)


def latencies(node: Node, deadline: Deadline) -> dict[int, LinkLatency]:
    """Each other node, by its id, and the slowest of its links as this node's corosync measured them."""
    said = node.command(deadline, "corosync-cmapctl", "-m", "stats")
    told: dict[tuple[int, int], dict[str, int]] = {}
    for peer, link, key, value in _LINK.findall(said):
        told.setdefault((int(peer), int(link)), {})[key] = int(value)
    found: dict[int, LinkLatency] = {}
    for (peer, _), keys in sorted(told.items()):
        if not keys.get("latency_samples") or not {"latency_ave", "latency_max"} <= keys.keys():
            continue
        link = LinkLatency(keys["latency_ave"] / 1000, keys["latency_max"] / 1000, keys["latency_samples"])
        if peer not in found or link.average > found[peer].average:
            found[peer] = link
    return found
