"""ping, and what corosync says of its links.

Wording of ping: iputils 20240905 (Debian 13). Keys and types of the stats map: cmap_keys(7), corosync 3.1; a link's
latency is the round trip in microseconds (libknet.h, struct knet_link_stats).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from pytest_pveha.sim.servers.commands.registry import command, option
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.servers.shell import Invocation, Result
from pytest_pveha.sim.world.model import Node

_PATIENCE = 10.0
"""Seconds that ping waits for the last answer (ping(8), -W)."""
_DAYS = 86400 * 5
_PINGS_A_SECOND = 1.28
"""knet asks once in a quarter of the token's time."""


@command("ping")
def _ping(call: Invocation) -> Result:
    wanted = {name: option(call.args, name) for name in ("-c", "-i", "-W", "-s")}
    host = call.args[-1] if call.args else ""
    if not host or host.startswith("-"):
        return Result(1, err="ping: usage error: Destination address required\n")
    count, interval = int(wanted["-c"] or 5), float(wanted["-i"] or 1.0)
    world, paths, ceph = call.facts.world, call.facts.world.paths, call.facts.world.ceph
    if ceph is not None and (holder := ceph.network.holder(host)):
        room, heard = world.nodes[holder].spec.room, ceph.network.echoed(call.facts.node.name, host)
    elif paths.node_at(host) is not None or host == world.spec.qdevice_host:
        room, heard = paths.room(host), world.network.echoed(call.facts.node, host)
    else:
        return Result(2, err=f"ping: {host}: Name or service not known\n")
    rooms = call.facts.node.spec.room, room
    times = [paths.round_trip(*rooms) if heard else None for _ in range(count)]
    return _told(host, int(wanted["-s"] or 56), times, interval, float(wanted["-W"] or _PATIENCE))


def _told(host: str, size: int, times: list[float | None], interval: float, patience: float) -> Result:
    lines = [f"PING {host} ({host}) {size}({size + 28}) bytes of data."]
    for number, time in enumerate(times, 1):
        if time is not None:
            lines.append(f"{size + 8} bytes from {host}: icmp_seq={number} ttl=64 time={_figure(time)} ms")
    good = [time for time in times if time is not None]
    last = times[-1]
    took = (len(times) - 1) * interval + (patience if last is None else last / 1000)
    lost = f"{100 * (len(times) - len(good)) / len(times):g}% packet loss"
    sent = f"{len(times)} packets transmitted, {len(good)} received"
    lines += ["", f"--- {host} ping statistics ---", f"{sent}, {lost}, time {(len(times) - 1) * interval * 1000:.0f}ms"]
    if good:
        mean = sum(good) / len(good)
        deviation = math.sqrt(max(0.0, sum(time * time for time in good) / len(good) - mean * mean))
        figures = "/".join(f"{each:.3f}" for each in (min(good), mean, max(good), deviation))
        lines.append(f"rtt min/avg/max/mdev = {figures} ms")
    else:
        lines.append("")
    return Result(0 if good else 1, "\n".join(lines) + "\n", wait=took)


def _figure(milliseconds: float) -> str:
    """As ping writes it: three figures."""
    digits = sum(milliseconds < limit for limit in (1, 10, 100))
    return f"{milliseconds:.{digits}f}"


@command("corosync-cmapctl")
def _cmapctl(call: Invocation) -> Result:
    if not call.facts.node.corosync_up:
        return Result(1, err="Failed to initialize the cmap API. Error CS_ERR_LIBRARY\n")
    args = [arg for arg in call.args if arg != "-g"]
    if option(args, "-m") == "stats":
        rows = list(_stats(call.facts))
        args = [arg for arg in args if arg not in ("-m", "stats")]
    else:
        rows = [(f"runtime.config.totem.{key}", "u32", value) for key, value in _totem(call.facts)]
    found = [row for row in rows if not args or row[0].startswith(args[0])]
    if not found:
        return Result(1, err=f"Can't get key {args[0]}. Error CS_ERR_NOT_EXIST\n")
    return Result(out="".join(f"{key} ({kind}) = {value}\n" for key, kind, value in found))


def _totem(facts: Facts) -> Iterator[tuple[str, int]]:
    ring, world = facts.world.corosync, facts.world
    slow = 16 if world.planted("ring-token-differs") and facts.node is list(world.nodes.values())[-1] else 1
    yield "consensus", round(ring.consensus * 1000) * slow
    yield "token", round(ring.token * 1000) * slow


def _stats(facts: Facts) -> Iterator[tuple[str, str, int]]:
    for node in sorted(facts.world.nodes.values(), key=lambda node: node.nodeid):
        for link in range(facts.world.spec.links):
            for name, kind, value in _link(facts, node, link):
                yield f"stats.knet.node{node.nodeid}.link{link}.{name}", kind, value


def _link(facts: Facts, other: Node, link: int) -> Iterator[tuple[str, str, int]]:
    """One link as this node's daemon has seen it, in the order of the map."""
    own = other is facts.node
    up = own or facts.world.corosync.calls_up(facts.node, other, link)
    paths, rooms = facts.world.paths, (facts.node.spec.room, other.spec.room)
    mean, worst = (0, 0) if own else (round(1000 * paths.mean(*rooms)), round(1000 * paths.worst(*rooms)))
    least = 0 if own else round(1000 * (paths.way(*rooms).delay_ms + paths.way(*rooms[::-1]).delay_ms))
    yield "connected", "u8", int(up)
    yield "down_count", "u32", 0
    yield "enabled", "u8", 1
    yield "latency_ave", "u32", mean
    yield "latency_max", "u32", worst
    yield "latency_min", "u32", least
    yield "latency_samples", "u32", 0 if own else min(2048, round((_DAYS + facts.uptime()) * _PINGS_A_SECOND))
    yield "mtu", "u32", 1397
    yield "up_count", "u32", 0 if own else 1
