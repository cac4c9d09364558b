"""ipmitool: to the node's own BMC, and by the management network to any other.

Wording, and how long it tries in vain (20.1 s, with -C or without): ipmitool 1.8.19, measured against our own BMC and
against a port that says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_pveha.sim.servers.commands.registry import command
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.servers.shell import STDIN, Invocation, Result
from pytest_pveha.sim.world.files import FileTrouble
from pytest_pveha.sim.world.model import Node

_NO_SESSION = "Error: Unable to establish IPMI v2 / RMCP+ session\n"
_NO_ROLE = "RAKP 2 message indicates an error : unauthorized role or privilege level requested\n"
"""IPMI 2.0 §13.17, to whoever asks for more than the user's limit (wording: ipmitool 1.8.19, lanplus)."""
_HPM = "Get HPM.x Capabilities request failed, compcode = d4\n"
"""What it complains of to whoever is not an administrator, though all goes well."""
_DEAD_SECONDS = 20.1
_ASKING_SECONDS = 0.1
_WITH_VALUE = {"-I": "interface", "-H": "host", "-p": "port", "-U": "user", "-P": "password", "-f": "file"}
_IGNORED = {"-C", "-L", "-N", "-R", "-o", "-k", "-y", "-e", "-d"}
_POWER = {"on": "Up/On", "off": "Down/Off", "cycle": "Cycle", "reset": "Reset", "soft": "Soft"}


class _NoPassword(Exception):
    """The password's file cannot be read; the message is ipmitool's."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line says."""

    host: str
    port: int
    user: str
    password: str
    words: tuple[str, ...]
    operator: bool
    """Whether it asks for no more than an operator may."""


@command("ipmitool")
def _ipmitool(call: Invocation) -> Result:
    if "-H" not in call.args:
        return _answer(call.facts, call.facts.node, tuple(call.args))
    try:
        asked = _asked(call)
    except _NoPassword as missing:
        return Result(1, err=f"{missing}\n")
    world = call.facts.world
    login = world.bmcs.get((asked.host, asked.port))
    peer = call.facts.node.name
    if login is None or login.pin or not _heard(call.facts, login.node):
        return Result(1, err=_NO_SESSION, wait=_DEAD_SECONDS)
    if (asked.user, asked.password) != (login.user, login.password):
        return Result(1, err=_NO_SESSION, wait=_ASKING_SECONDS)
    spec = world.bmc_spec(login.node)
    wait = _ASKING_SECONDS + spec.answer_seconds
    if spec.privilege == "USER" and asked.operator:
        return Result(1, err=_NO_ROLE + _NO_SESSION, wait=wait)
    machine = world.behind_bmc(login.node, peer)
    done = _answer(call.facts, machine, asked.words)
    return Result(done.status, done.out, _HPM + done.err if asked.operator else done.err, wait=wait)


def _heard(facts: Facts, node: str) -> bool:
    """Whether that node's BMC answers this node at all."""
    return facts.world.bmc_spec(node).state == "answering" and facts.world.bmc_reachable(node, facts.node.name)


def _asked(call: Invocation) -> _Asked:
    given = {"port": "623", "user": "", "password": ""}
    args = iter(call.args)
    words: list[str] = []
    for arg in args:
        if words or not arg.startswith("-"):
            words.append(arg)
        elif arg == "-E":
            given["password"] = call.env.get("IPMI_PASSWORD", call.env.get("IPMITOOL_PASSWORD", ""))
        elif arg in _WITH_VALUE:
            given[_WITH_VALUE[arg]] = next(args, "")
        elif arg in _IGNORED:
            next(args, "")
    if "file" in given:
        path = given["file"]
        try:
            text = call.input if path == STDIN else call.facts.world.files[call.facts.node.name].read(path)
        except FileTrouble:
            lines = (f"File {path} does not exist", f"Unable to open password file {path}")
            raise _NoPassword("\n".join((*lines, f"Unable to read password from file {path}"))) from None
        given["password"] = text.splitlines()[0] if text else ""
    return _Asked(
        given["host"], int(given["port"]), given["user"], given["password"], tuple(words), "OPERATOR" in call.args
    )


def _answer(facts: Facts, machine: Node, words: tuple[str, ...]) -> Result:
    """What the BMC of that machine answers."""
    match words:
        case ("chassis", "power", "status") | ("power", "status") | ("chassis", "power"):
            return Result(out=f"Chassis Power is {'on' if machine.chassis_on else 'off'}\n")
        case ("chassis", "power", verb) | ("power", verb) if verb in _POWER:
            if verb == "off" and facts.world.bmc_refuses(machine.name):
                why = "Insufficient privilege level"
                return Result(1, err=f"Set Chassis Power Control to {_POWER[verb]} failed: {why}\n")
            if verb in ("cycle", "reset", "soft") and not machine.chassis_on:
                why = "Command not supported in present state"
                return Result(1, err=f"Set Chassis Power Control to {_POWER[verb]} failed: {why}\n")
            facts.world.chassis(machine.name, verb)
            return Result(out=f"Chassis Power Control: {_POWER[verb]}\n")
        case ("chassis", "status"):
            return Result(out=f"System Power         : {'on' if machine.chassis_on else 'off'}\n")
        case ("chassis", "bootparam", "get", "5"):
            if not machine.spec.bmc.boot_options:
                return Result(1, err="Chassis Get Boot Parameter 5 failed: Invalid command\n")
            return Result(
                out="Boot parameter version: 1\nBoot parameter 5 is valid/unlocked\n"
                f"Boot parameter data: {machine.boot_flags.hex()}\n"
            )
        case ("mc", "guid"):
            return Result(out=f"System GUID  : {machine.spec.system_uuid}\nTimestamp    : 01/01/1970 00:00:00\n")
        case ("lan", "print") | ("lan", "print", "1"):
            return Result(
                out=f"IP Address Source       : Static Address\nIP Address              : {facts.address(machine)}\n"
                f"Subnet Mask             : 255.255.255.0\nMAC Address             : {machine.spec.bmc_mac}\n"
            )
        case ("session", "info", *_):
            return Result(
                out="session handle                : 1\nslot count                    : 4\n"
                "active sessions               : 1\nuser id                       : 2\n"
                "privilege level               : OPERATOR\nsession type                  : IPMIv2/RMCP+\n"
            )
        case ("user", "list", *_):
            user = next((login.user for login in facts.world.bmcs.values()), "admin")
            return Result(
                out="ID  Name\t     Callin  Link Auth\tIPMI Msg   Channel Priv Limit\n"
                "1                    true    false      false      NO ACCESS\n"
                f"2   {user:<16} true    true       true       ADMINISTRATOR\n"
            )
    return Result(1, "", "Invalid command\n")
