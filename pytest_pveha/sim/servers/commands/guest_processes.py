"""A guest as its node sees it: its process and its network card. kill, lxc-info, ip link.

A container's monitor and its init are one process here.
Formats: ip(8) of iproute2 6.15 with -o, lxc-info(1) with -p -H.
"""

from __future__ import annotations

import json

from pytest_pveha.sim.servers.commands.registry import command
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.servers.links import links
from pytest_pveha.sim.servers.shell import Invocation, Result
from pytest_pveha.sim.world.ceph.wires import CARDS
from pytest_pveha.sim.world.configs import config_of
from pytest_pveha.sim.world.model import Guest, GuestProcess

_DEADLY = frozenset({"-9", "-KILL", "-SIGKILL"})


def _here(facts: Facts) -> list[tuple[Guest, GuestProcess]]:
    name = facts.node.name
    return [(guest, guest.processes[name]) for guest in facts.world.guests.values() if name in guest.processes]


@command("kill")
def _kill(call: Invocation) -> Result:
    signals = [arg for arg in call.args if arg.startswith("-")]
    pid = next((arg for arg in call.args if not arg.startswith("-")), "")
    for guest, process in _here(call.facts):
        if str(process.pid) == pid:
            if _DEADLY.intersection(signals):
                call.facts.world.kill_guest(guest.vmid, call.facts.node.name)
            return Result()
    return Result(1, err=f"bash: line 1: kill: ({pid}) - No such process\n")


@command("lxc-info")
def _lxc_info(call: Invocation) -> Result:
    words = dict(zip(call.args, [*call.args[1:], ""], strict=True))
    name = words.get("-n", "")
    for guest, process in _here(call.facts):
        if guest.kind == "ct" and str(guest.vmid) == name:
            return Result(out=f"{process.pid}\n")
    return Result(1, err=f"{name} doesn't exist\n")


def _card(guest: Guest) -> str:
    """The name of the first card's end on the node (pve-container, qemu-server)."""
    return f"{'tap' if guest.kind == 'vm' else 'veth'}{guest.vmid}i0"


@command("ip")
def _ip(call: Invocation) -> Result:
    cards = {_card(guest): process for guest, process in _here(call.facts)}
    ceph, kinds = call.facts.world.ceph, {name: kind for kind, name in CARDS.items()}
    words = [arg for arg in call.args if arg not in ("-o", "-oneline")]
    match words:
        case ["neigh", "show", "to", address]:
            return Result(out=_neighbour(call.facts, address))
        case ["-j", "-d", "link", "show"]:
            return Result(out=f"{json.dumps(links(call.facts))}\n")
        case ["link"] | ["link", "show"]:
            return Result(out="".join(_shown(at, name, one.link_up) for at, (name, one) in enumerate(cards.items(), 8)))
        case ["link", "set", "dev", name, ("up" | "down") as verb] | ["link", "set", name, ("up" | "down") as verb]:
            if ceph is not None and kinds.get(name) in ceph.network.kinds:
                ceph.network.set_link(call.facts.node.name, kinds[name], verb == "up")
                return Result()
            if name in call.facts.world.bonds.members():
                call.facts.world.bonds.set_link(call.facts.node, name, up=verb == "up")
                return Result()
            if name not in cards:
                return Result(1, err=f'Cannot find device "{name}"\n')
            cards[name].link_up = verb == "up"
            call.facts.world.truth("guest_link", {"card": name, "node": call.facts.node.name, "up": verb == "up"})
            return Result()
    return Result(255, err=f'Object "{" ".join(words)}" is unknown, try "ip help".\n')


def _neighbour(facts: Facts, address: str) -> str:
    """Whose hardware answers for that address: the backup server's own, or its guest's."""
    pbs = facts.world.pbs
    if pbs.spec is None or address != pbs.address:
        return ""
    guest = facts.world.guests.get(pbs.guest)
    card = config_of(facts.world, guest).get("net0", "") if guest is not None else "virtio=BC:24:11:FF:00:07,"
    return f"{address} dev vmbr0 lladdr {card.partition('=')[2].partition(',')[0].lower()} REACHABLE\n"


def _shown(number: int, name: str, up: bool) -> str:
    flags, state = ("BROADCAST,MULTICAST,PROMISC,UP,LOWER_UP", "UNKNOWN") if up else ("BROADCAST,MULTICAST", "DOWN")
    return (
        f"{number}: {name}: <{flags}> mtu 1500 qdisc fq_codel master vmbr0 state {state} mode DEFAULT group default "
        f"qlen 1000\\    link/ether 36:00:00:00:00:{number:02x} brd ff:ff:ff:ff:ff:ff\n"
    )
