"""qm and pct."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from pytest_pveha.sim.servers.commands.acts import attempt
from pytest_pveha.sim.servers.commands.registry import command
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.servers.shell import Invocation, Result
from pytest_pveha.sim.world.configs import config_of, rewrite
from pytest_pveha.sim.world.model import Guest


@command("qm", "pct")
def _qm(call: Invocation) -> Result:
    facts = call.facts
    here = [
        guest for guest in facts.world.guests.values() if facts.view.config_nodes.get(guest.vmid) == facts.node.name
    ]
    match call.args:
        case ["list"]:
            return Result(out=_guest_table(facts, [guest for guest in here if guest.kind == "vm"]))
        case ["status", vmid]:
            guest = next((guest for guest in here if str(guest.vmid) == vmid), None)
            if guest is None:
                return _no_such_guest(facts, vmid)
            running = facts.node.name in guest.processes
            return Result(out=f"status: {'running' if running else 'stopped'}\n")
        case ["config", vmid]:
            guest = next((guest for guest in here if str(guest.vmid) == vmid), None)
            if guest is None:
                return _no_such_guest(facts, vmid)
            config = config_of(facts.world, guest)
            return Result(out="".join(f"{key}: {value}\n" for key, value in sorted(config.items())))
        case ["unlock", vmid]:
            guest = next((guest for guest in here if str(guest.vmid) == vmid), None)
            if guest is None:
                return _no_such_guest(facts, vmid)
            return attempt(partial(facts.world.restores.unlock, guest))
        case ["destroy", vmid, *options]:
            guest = next((guest for guest in here if str(guest.vmid) == vmid), None)
            return _no_such_guest(facts, vmid) if guest is None else _destroy(facts, guest, options)
        case ["exec", vmid, "--", *words]:
            return _exec(call, vmid, words)
        case ["set", vmid, "--delete", keys]:
            guest = next((guest for guest in here if str(guest.vmid) == vmid), None)
            if guest is None:
                return _no_such_guest(facts, vmid)
            return attempt(partial(rewrite, facts.world, guest, {}, keys.split(",")))
        case ["start" | "stop" as verb, vmid, *_]:
            guest = next((guest for guest in here if str(guest.vmid) == vmid), None)
            if guest is None:
                return _no_such_guest(facts, vmid)
            world = facts.world
            done = attempt(lambda: (world.start_guest if verb == "start" else world.stop_guest)(guest.vmid))
            managed = facts.service_shown(guest.sid) is not None
            said = f"Requesting HA {verb} for {guest.kind.upper()} {vmid}\n" if managed and done.status == 0 else ""
            # of a guest without HA it returns when that has stopped
            waits = verb == "stop" and not managed and done.status == 0
            ended = (lambda: facts.node.name not in guest.processes) if waits else None
            return Result(done.status, said, done.err, until=ended)
        case _:
            return Result(255, err="ERROR: unknown command 'qm " + " ".join(call.args) + "'\n")


def _destroy(facts: Facts, guest: Guest, options: list[str]) -> Result:
    """The command returns when the guest is gone."""
    given = {name.lstrip("-") for name in options}
    world = facts.world
    done = attempt(
        lambda: world.restores.destroy(
            guest,
            "root@pam",
            purge="purge" in given,
            unreferenced="destroy-unreferenced-disks" in given,
            skip_lock="skiplock" in given,
        )
    )
    return replace(done, until=lambda: guest.vmid not in world.guests) if done.status == 0 else done


def _exec(call: Invocation, vmid: str, words: list[str]) -> Result:
    """A program in a container, with our input; texts as pct has them (pve-container, PVE/CLI/pct.pm)."""
    facts = call.facts
    guest = facts.world.guests.get(int(vmid)) if vmid.isdigit() else None
    if guest is None or guest.kind != "ct" or facts.view.config_nodes.get(guest.vmid) != facts.node.name:
        return Result(2, err=f"Configuration file 'nodes/{facts.node.name}/lxc/{vmid}.conf' does not exist\n")
    process = guest.processes.get(facts.node.name)
    if process is None:
        return Result(255, err=f"container '{vmid}' not running!\n")
    return Result(*facts.world.canaries.run(guest, process, words, call.input))


def _no_such_guest(facts: Facts, vmid: str) -> Result:
    path = f"nodes/{facts.node.name}/qemu-server/{vmid}.conf"
    return Result(2, err=f"Configuration file '{path}' does not exist\n")


def _guest_table(facts: Facts, guests: list[Guest]) -> str:
    out = "      VMID NAME                 STATUS     MEM(MB)    BOOTDISK(GB) PID       \n"
    for guest in sorted(guests, key=lambda guest: guest.vmid):
        process = guest.processes.get(facts.node.name)
        status, pid = ("running", process.pid) if process else ("stopped", 0)
        memory = guest.spec.memory_bytes >> 20
        out += f"{guest.vmid:10d} {guest.name:<20} {status:<10} {memory:<10d} {0:12.2f} {pid:<10d}\n"
    return out if guests else ""
