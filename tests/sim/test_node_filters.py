"""Packet filters on nodes: what they part, what they leave, and what the tools show of them."""

from __future__ import annotations

import re

import pytest

from pytest_pveha.clock import SECOND
from tests.sim.servers_kit import PlayingGate, shell, small_site, told

NAME = "pveha_4312a98e_partition_1"
ADDRESS = {name: f"10.99.0.{10 + number}" for number, name in enumerate(("pve1", "pve2", "pve3", "pve4"), 1)}
COROSYNC = "udp dport 5405-5412 "


@pytest.fixture
def gate() -> PlayingGate:
    """A healthy site, at some phase of its daemons' rounds."""
    gate = PlayingGate(small_site())
    gate.play(33)
    return gate


def batch(*others: str, what: str = COROSYNC, chains: str = "from to") -> str:
    """The filter that parts a node from those others, in these directions."""
    peers = "{ " + ", ".join(ADDRESS[name] for name in others) + " }"
    base = "type filter hook {} priority -300; policy accept;"
    parts = {
        "from": f"chain from {{ {base.format('input')} ip saddr {peers} {what}counter drop; }}",
        "to": f"chain to {{ {base.format('output')} ip daddr {peers} {what}counter drop; }}",
    }
    body = "\n    ".join(parts[name] for name in chains.split())
    return f'table inet {NAME} {{\n    comment "pveha 4312a98e partition-1"\n    {body}\n}}\n'


def part(gate: PlayingGate, *groups: tuple[str, ...], what: str = COROSYNC) -> None:
    """Every node drops what comes from and goes to those of other groups."""
    for group in groups:
        others = [name for other in groups if other is not group for name in other]
        for name in group:
            told(gate, "nft -f -", name, given=batch(*others, what=what))


def ring(gate: PlayingGate, node: str) -> set[int]:
    """The node ids that node has in its ring."""
    return set(gate.world.nodes[node].members)


def test_a_minority_is_parted_and_resets_itself(gate: PlayingGate) -> None:
    """A cut slave loses quorum in seconds and resets within 78; the majority recovers its guest after 120."""
    victim, vmid = ("pve1", 101) if gate.world.nodes["pve3"].crm_state == "master" else ("pve3", 103)
    others = tuple(name for name in gate.world.nodes if name != victim)
    part(gate, (victim,), others)
    began = gate.world.timeline.now

    def passed() -> float:
        return (gate.world.timeline.now - began) / SECOND

    node = gate.world.nodes[victim]
    gate.until(lambda: not gate.world.quorate(node), 10)
    assert 5.5 <= passed() <= 8.5
    assert ring(gate, victim) == {node.nodeid}
    assert len(ring(gate, others[0])) == 2
    assert all(gate.world.quorate(gate.world.nodes[name]) for name in others)
    assert "Permission denied" in shell(gate, "touch /etc/pve/x", victim).err
    assert told(gate, "nft list tables", victim) == f"table inet {NAME}\n"
    gate.until(lambda: not node.running, 90)
    assert 60 <= passed() <= 78.5
    gate.until(lambda: gate.world.guests[vmid].config_node != victim, 120)
    assert 120 <= passed() <= 141


def test_after_a_reset_the_others_rules_part_it_still(gate: PlayingGate) -> None:
    """The node's own filter died with it; as long as the others drop its packets it stays outside, then it joins."""
    part(gate, ("pve3",), ("pve1", "pve2"))
    gate.until(lambda: not gate.world.nodes["pve3"].running, 90)
    gate.until(lambda: gate.world.nodes["pve3"].running, 90)
    gate.play(60)
    assert told(gate, "nft list tables", "pve3") == ""
    assert ring(gate, "pve3") == {3}
    for name in ("pve1", "pve2"):
        told(gate, f"nft delete table inet {NAME}", name)
    gate.play(10)
    assert ring(gate, "pve3") == ring(gate, "pve1") == {1, 2, 3}
    assert gate.world.quorate(gate.world.nodes["pve3"])


def test_a_short_cut_is_forgotten(gate: PlayingGate) -> None:
    """A cut healed within the token's time changes no membership; one of twenty seconds is rejoined in peace."""
    rings = {node.ring_id for node in gate.world.nodes.values()}
    boots = [node.boot_id for node in gate.world.nodes.values()]
    told(gate, "nft -f -", "pve3", given=batch("pve1", "pve2"))
    gate.play(1.5)
    told(gate, f"nft delete table inet {NAME}", "pve3")
    gate.play(30)
    assert {node.ring_id for node in gate.world.nodes.values()} == rings
    told(gate, "nft -f -", "pve3", given=batch("pve1", "pve2"))
    gate.play(20)
    assert ring(gate, "pve3") == {3}
    told(gate, f"nft delete table inet {NAME}", "pve3")
    gate.play(200)
    assert ring(gate, "pve3") == {1, 2, 3}
    assert [node.boot_id for node in gate.world.nodes.values()] == boots


@pytest.mark.parametrize("chains", ["from", "to"])
def test_a_one_way_cut_parts_as_well(gate: PlayingGate, chains: str) -> None:
    """A link of which one direction is dropped is down for both: knet wants answers."""
    told(gate, "nft -f -", "pve3", given=batch("pve1", "pve2", chains=chains))
    gate.play(9)
    assert ring(gate, "pve3") == {3}
    assert ring(gate, "pve1") == {1, 2}
    network, nodes = gate.world.network, gate.world.nodes
    heard = network.hears(nodes["pve1"], nodes["pve3"], "udp", 5405, 5405)
    assert heard == (chains == "from")
    assert network.hears(nodes["pve3"], nodes["pve1"], "udp", 5405, 5405) == (chains == "to")


def test_a_cut_of_two_nodes_only(gate: PlayingGate) -> None:
    """Where two nodes do not hear each other and a third hears both, the lowest node id's ring is the larger."""
    told(gate, "nft -f -", "pve3", given=batch("pve1"))
    gate.play(9)
    assert (ring(gate, "pve1"), ring(gate, "pve2"), ring(gate, "pve3")) == ({1, 2}, {1, 2}, {3})


def test_a_partition_in_halves_stops_everything() -> None:
    """Four nodes parted two and two have no quorum anywhere, and nothing is recovered."""
    nodes = [{"name": f"pve{n}", "nodeid": n, "boot_seconds": 60.0} for n in (1, 2, 3, 4)]
    gate = PlayingGate(small_site(nodes=nodes))
    part(gate, ("pve1", "pve2"), ("pve3", "pve4"))
    gate.play(12)
    assert not any(gate.world.quorate(node) for node in gate.world.nodes.values())
    assert (ring(gate, "pve1"), ring(gate, "pve4")) == ({1, 2}, {3, 4})
    gate.play(300)
    assert gate.world.guests[103].config_node == "pve3"


def test_whoever_asks_may_be_kept_out(gate: PlayingGate) -> None:
    """Requesters come from an address of their own, by which a node can refuse them a port and nobody else."""
    nodes, network = gate.world.nodes, gate.world.network
    assert told(gate, "printenv SSH_CONNECTION", "pve3") == "10.99.200.1 50022 10.99.0.13 22\n"
    rule = "ip saddr { 10.99.200.1 } tcp dport 8006 counter drop"
    hook = "type filter hook input priority 0; policy accept;"
    told(gate, "nft -f -", "pve3", given=f"table inet office {{\n    chain in {{ {hook} {rule}; }}\n}}\n")
    assert not network.lets_in(nodes["pve3"], 8006)
    assert network.lets_in(nodes["pve3"], 22)
    assert network.lets_in(nodes["pve2"], 8006)
    assert network.talks(nodes["pve1"], nodes["pve3"], 8006)


def test_other_traffic_is_left_alone(gate: PlayingGate) -> None:
    """Rules for corosync's ports leave the API between nodes; rules without ports cut it too."""
    nodes, network = gate.world.nodes, gate.world.network
    part(gate, ("pve3",), ("pve1", "pve2"))
    assert network.talks(nodes["pve1"], nodes["pve3"], 8006)
    for name in nodes:
        told(gate, f"nft delete table inet {NAME}", name)
    part(gate, ("pve3",), ("pve1", "pve2"), what="")
    assert not network.talks(nodes["pve1"], nodes["pve3"], 8006)
    assert not network.talks(nodes["pve3"], nodes["pve2"], 22)
    assert network.talks(nodes["pve1"], nodes["pve2"], 8006)


def test_what_was_lost_on_a_link_is_asked_for_again() -> None:
    """Now and then, in one burst right before the link is called down; a cut that is healed says nothing more."""
    bursts = []
    for seed in range(1, 13):
        gate = PlayingGate(small_site(links=2, seed=seed))
        gate.play(20)
        told(gate, "nft -f -", "pve3", given=batch("pve1", "pve2", what="udp dport 5405 "))
        gate.play(10)
        told(gate, f"nft delete table inet {NAME}", "pve3")
        gate.play(30)
        lines = [told(gate, "journalctl -u corosync -o cat", name).splitlines() for name in ADDRESS if name != "pve4"]
        bursts += [sum("Retransmit List" in line for line in each) for each in lines]
    assert 0 in bursts
    assert any(15 <= burst <= 60 for burst in bursts)


def test_only_one_of_two_links(gate: PlayingGate) -> None:
    """With two links the loss of one is in the journal and changes no membership; the loss of both does."""
    gate = PlayingGate(small_site(links=2))
    gate.play(20)
    told(gate, "nft -f -", "pve3", given=batch("pve1", "pve2", what="udp dport 5405 "))
    gate.play(10)
    assert ring(gate, "pve3") == {1, 2, 3}
    assert "  [KNET  ] link: host: 1 link: 0 is down\n" in told(gate, "journalctl -u corosync -o cat", "pve3")
    assert re.search(
        r"LINK ID 0 udp(?s:.*)1:\tdisconnected(?s:.*)LINK ID 1 udp(?s:.*)1:\tconnected",
        told(gate, "corosync-cfgtool -s", "pve3"),
    )
    assert "ring1_addr: 10.99.1.13\n" in told(gate, "cat /etc/pve/corosync.conf")
    others = "{ 10.99.1.11, 10.99.1.12 }"
    rule = f"add rule inet {NAME} from ip saddr {others} drop\n"
    told(gate, "nft -f -", "pve3", given=rule)
    gate.play(10)
    assert ring(gate, "pve3") == {3}


def test_a_table_as_listed(gate: PlayingGate) -> None:
    """nft lists what was loaded, with counters that grow while corosync looks for those it misses."""
    told(gate, "nft -f -", "pve3", given=batch("pve1", "pve2"))
    gate.play(5)
    text = told(gate, f"nft list table inet {NAME}", "pve3")
    counted = [int(number) for number in re.findall(r"counter packets (\d+) bytes \d+ drop", text)]
    assert re.sub(r"packets \d+ bytes \d+", "packets N bytes N", text) == (
        f"table inet {NAME} {{\n"
        '\tcomment "pveha 4312a98e partition-1"\n'
        "\tchain from {\n"
        "\t\ttype filter hook input priority raw; policy accept;\n"
        "\t\tip saddr { 10.99.0.11, 10.99.0.12 } udp dport 5405-5412 counter packets N bytes N drop\n"
        "\t}\n\n"
        "\tchain to {\n"
        "\t\ttype filter hook output priority raw; policy accept;\n"
        "\t\tip daddr { 10.99.0.11, 10.99.0.12 } udp dport 5405-5412 counter packets N bytes N drop\n"
        "\t}\n}\n"
    )
    gate.play(20)
    later = told(gate, f"nft list table inet {NAME}", "pve3")
    grown = [int(number) for number in re.findall(r"counter packets (\d+) bytes \d+ drop", later)]
    assert all(old < new for old, new in zip(counted, grown, strict=True))


def test_a_rule_nobody_meets_counts_nothing(gate: PlayingGate) -> None:
    """A filter with the wrong addresses drops nothing, and its counters say so."""
    told(gate, "nft -f -", "pve3", given=batch("pve1").replace("10.99.0.11", "10.1.2.3"))
    gate.play(30)
    assert "counter packets 0 bytes 0 drop" in told(gate, f"nft list table inet {NAME}", "pve3")
    assert ring(gate, "pve3") == {1, 2, 3}


@pytest.mark.parametrize(
    "text",
    [
        f"table inet {NAME} {{ chain from {{ type filter hook input priority -300; ip saddr 10.99.0.11 dorp; }} }}",
        f"table inet {NAME} {{ chain from {{ type filter hook input priority -300; ip saddr 10.99.0.11 drop; }}",
        f"add table inet {NAME}\nadd rule inet {NAME} nowhere drop",
        f"table inet {NAME} {{ chain from {{ udp dport 99999 drop; }} }}",
        "delete table inet nothing",
        "frobnicate",
    ],
)
def test_a_wrong_batch_changes_nothing(gate: PlayingGate, text: str) -> None:
    """nft carries out a batch whole or not at all."""
    done = shell(gate, "nft -f -", given=text)
    assert done.status == 1
    assert done.err.startswith("Error: ")
    assert told(gate, "nft list tables") == ""


def test_a_table_that_is_not_there(gate: PlayingGate) -> None:
    """Deleting or listing an absent table fails, and a script goes on over it."""
    assert shell(gate, f"nft list table inet {NAME}").status == 1
    assert shell(gate, f"nft delete table inet {NAME}").err.startswith(
        "Error: Could not process rule: No such file or directory"
    )
    told(gate, f"nft delete table inet {NAME} 2>/dev/null || true")


CUT = (
    "iptables -w -N PVEHA; iptables -w -A PVEHA -s 10.99.0.11 -p udp --dport 5405:5412 -j DROP;"
    " iptables -w -A PVEHA -s 10.99.0.12 -p udp --dport 5405:5412 -j DROP;"
    " iptables -w -A PVEHA -d 10.99.0.11 -p udp --dport 5405:5412 -j DROP;"
    " iptables -w -A PVEHA -d 10.99.0.12 -p udp --dport 5405:5412 -j DROP;"
    " iptables -w -I INPUT -j PVEHA; iptables -w -I OUTPUT -j PVEHA"
)
HEAL = "iptables -w -D INPUT -j PVEHA; iptables -w -D OUTPUT -j PVEHA; iptables -w -F PVEHA; iptables -w -X PVEHA"


def test_the_same_by_iptables(gate: PlayingGate) -> None:
    """A chain of iptables parts the node, is listed, and once taken away lets it join."""
    told(gate, CUT, "pve3")
    gate.play(9)
    assert ring(gate, "pve3") == {3}
    listed = told(gate, "iptables -w -S", "pve3")
    assert "-N PVEHA\n" in listed
    assert "-A INPUT -j PVEHA\n" in listed
    assert "-A PVEHA -s 10.99.0.11/32 -p udp -m udp --dport 5405:5412 -j DROP\n" in listed
    assert shell(gate, "iptables -w -X PVEHA", "pve3").status == 4
    assert shell(gate, "iptables -w -N PVEHA", "pve3").err == "iptables: Chain already exists.\n"
    told(gate, HEAL, "pve3")
    gate.play(9)
    assert ring(gate, "pve3") == {1, 2, 3}
    assert shell(gate, "iptables -w -D INPUT -j PVEHA", "pve3").status == 2
    assert shell(gate, "iptables -w -F PVEHA", "pve3").status == 1
    assert shell(gate, "iptables -w -X PVEHA", "pve3").status == 1
    assert shell(gate, f"iptables -w -N {'x' * 28}", "pve3").status == 0
    assert shell(gate, f"iptables -w -N {'x' * 29}", "pve3").status == 2


def test_a_dead_man_heals_a_cut(gate: PlayingGate) -> None:
    """The whole way: a timer on the node takes the filter away when nobody else does."""
    told(
        gate, "mkdir -p /var/lib/pveha && cat > /var/lib/pveha/undo.sh", "pve2", given=f"nft delete table inet {NAME}\n"
    )
    line = "systemd-run --quiet --collect --unit=pveha-x --on-active=40 --timer-property=AccuracySec=100ms"
    told(gate, f"{line} /bin/sh /var/lib/pveha/undo.sh", "pve2")
    told(gate, "nft -f -", "pve2", given=batch("pve1", "pve3"))
    gate.play(30)
    assert ring(gate, "pve2") == {2}
    gate.play(20)
    assert ring(gate, "pve2") == {1, 2, 3}
    assert told(gate, "nft list tables", "pve2") == ""


def test_nodes_lack_tools() -> None:
    """What is not installed is not found, neither by name nor by command -v."""
    nodes = [{"name": f"pve{n}", "nodeid": n} for n in (1, 2)] + [
        {"name": "pve3", "nodeid": 3, "missing_tools": ["nft", "ipmitool"]}
    ]
    gate = PlayingGate(small_site(nodes=nodes))
    assert told(gate, "command -v nft iptables") == "/usr/bin/nft\n/usr/bin/iptables\n"
    assert told(gate, "command -v nft iptables", "pve3") == "/usr/bin/iptables\n"
    assert shell(gate, "command -v nft", "pve3").status == 1
    missing = shell(gate, "nft list tables", "pve3")
    assert (missing.status, missing.err) == (127, "bash: line 1: nft: command not found\n")
