"""What ping and corosync's stats map print is read in full, or refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.echo import echoes, latencies
from pytest_pveha.handles.node import Node

HEAD = "PING 10.0.0.2 (10.0.0.2) 56(84) bytes of data.\n"
GOOD = f"""{HEAD}64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.345 ms
64 bytes from 10.0.0.2: icmp_seq=2 ttl=64 time=1.25 ms
64 bytes from 10.0.0.2: icmp_seq=2 ttl=64 time=9.99 ms (DUP!)
64 bytes from 10.0.0.2: icmp_seq=4 ttl=64 time=12 ms

--- 10.0.0.2 ping statistics ---
4 packets transmitted, 3 received, +1 duplicates, 25% packet loss, time 152ms
rtt min/avg/max/mdev = 0.345/4.531/12.000/5.286 ms
"""
NOBODY = f"""{HEAD}From 10.0.0.1 icmp_seq=1 Destination Host Unreachable

--- 10.0.0.2 ping statistics ---
4 packets transmitted, 0 received, +4 errors, 100% packet loss, time 3051ms
pipe 4
"""
STATS = """stats.knet.node1.link0.latency_ave (u32) = 0
stats.knet.node1.link0.latency_max (u32) = 0
stats.knet.node1.link0.latency_samples (u32) = 0
stats.knet.node2.link0.connected (u8) = 1
stats.knet.node2.link0.latency_ave (u32) = 1204
stats.knet.node2.link0.latency_max (u32) = 9551
stats.knet.node2.link0.latency_samples (u32) = 2048
stats.knet.node2.link1.latency_ave (u32) = 350
stats.knet.node2.link1.latency_max (u32) = 400
stats.knet.node2.link1.latency_samples (u32) = 2048
stats.srp.mcast_retx (u64) = 3
"""


def node(out: str, status: int = 0) -> Node:
    """One whose shell prints that."""
    now = LiveClock().now()
    result = SimpleNamespace(
        exit_status=status, stdout=out.encode(), stderr=b"ping: trouble", asked_at=now, answered_at=now
    )
    ssh = SimpleNamespace(run=lambda line, deadline: result)
    return cast("Node", SimpleNamespace(name="n1", ssh=ssh, command=lambda deadline, *words: out))


def asked(out: str, status: int = 0) -> Any:
    """What is read of it."""
    return echoes(node(out, status), "10.0.0.2", 4, 0.05, LiveClock().deadline(5))


def test_each_echo_counts_once() -> None:
    """In the order of sending; a duplicate's time is no second one."""
    told = asked(GOOD)
    assert (told.sent, told.times) == (4, (0.345, 1.25, 12.0))


def test_silence_is_told_as_silence() -> None:
    """Status 1, with or without errors from the way: nothing came back."""
    told = asked(NOBODY, 1)
    assert (told.sent, told.times) == (4, ())


@pytest.mark.parametrize(
    ("out", "status", "words"),
    [
        ("", 127, r"tells of no packets \(status 127\): ping: trouble"),
        (HEAD, 0, r"tells of no packets \(status 0\): PING"),
        (GOOD.replace("time=12 ms", "time=12 µs"), 0, "counts 3 answers and shows 2"),
    ],
)
def test_what_is_not_understood_is_no_measurement(out: str, status: int, words: str) -> None:
    """A missing tool, half an output, another unit."""
    with pytest.raises(ProtocolError, match=words):
        asked(out, status)


def test_the_slowest_link_to_each_node_is_told() -> None:
    """In milliseconds; a link without samples, such as to oneself, says nothing."""
    found = latencies(node(STATS), LiveClock().deadline(5))
    told = {peer: (link.average, link.longest, link.samples) for peer, link in found.items()}
    assert told == {2: (1.204, 9.551, 2048)}
