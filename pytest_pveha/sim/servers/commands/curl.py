"""curl, to a Redfish BMC on the management network: its power state, and switching it.

Exit statuses: curl(1), 22 (HTTP error with --fail), 28 (timed out), 90 (public key does not match the pinned one).
"""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

from pytest_pveha.sim.servers.commands.registry import command
from pytest_pveha.sim.servers.shell import STDIN, Invocation, Result
from pytest_pveha.sim.world.files import FileTrouble
from pytest_pveha.sim.world.storages import PORTS

_WITH_VALUE = frozenset(
    {
        *("--max-time", "--connect-timeout", "--write-out", "--pinnedpubkey", "--config", "--header", "--data"),
        "--request",
    }
)
_USER = re.compile(r'^\s*user\s*=\s*"((?:[^"\\]|\\.)*)"\s*$', re.MULTILINE)
_RESETS = {"On": "on", "ForceOff": "off", "ForceRestart": "reset", "PowerCycle": "cycle", "GracefulShutdown": "soft"}
_ASKING_SECONDS = 0.2
PDU_HOST = "pdu.pveha.invalid"
"""Where nodes reach the outlets."""


@command("curl")
def _curl(call: Invocation) -> Result:
    given, url = _parsed(call.args)
    parts = urlsplit(url)
    world = call.facts.world
    if parts.scheme == "telnet":
        return _knock(call, parts.hostname or "", parts.port or 23)
    if parts.hostname == PDU_HOST and world.pdu_login:
        return _outlets(call, given, parts.path)
    login = world.bmcs.get((parts.hostname or "", parts.port or 443))
    if login is None or not login.pin or not world.bmc_reachable(login.node, call.facts.node.name):
        seconds = float(given.get("--max-time", "300"))
        return Result(
            28, err=f"curl: (28) Connection timed out after {seconds * 1000:.0f} milliseconds\n", wait=seconds
        )
    if given.get("--pinnedpubkey", "") != f"sha256//{login.pin}":
        return Result(90, err="curl: (90) SSL: public key does not match pinned public key\n", wait=_ASKING_SECONDS)
    if _user(call, given.get("--config", "")) != f"{login.user}:{login.password}":
        return Result(22, err="curl: (22) The requested URL returned error: 401\n", wait=_ASKING_SECONDS)
    machine = world.behind_bmc(login.node, call.facts.node.name)
    spec = world.bmc_spec(login.node)
    wait = _ASKING_SECONDS + spec.answer_seconds
    if parts.path.endswith("/Actions/ComputerSystem.Reset") and "--data" in given:
        wanted = str(json.loads(given["--data"]).get("ResetType"))
        if spec.privilege == "USER" or (wanted == "ForceOff" and world.bmc_refuses(machine.name)):
            return Result(22, err="curl: (22) The requested URL returned error: 403\n", wait=wait)
        if wanted not in _RESETS:
            return Result(22, err="curl: (22) The requested URL returned error: 400\n", wait=_ASKING_SECONDS)
        world.chassis(machine.name, _RESETS[wanted])
        return Result(wait=wait)
    if "/Systems/" in parts.path:
        state = "On" if machine.chassis_on else "Off"
        return Result(out=json.dumps({"PowerState": state, "UUID": str(machine.spec.system_uuid)}), wait=wait)
    return Result(22, err="curl: (22) The requested URL returned error: 404\n", wait=_ASKING_SECONDS)


def _knock(call: Invocation, host: str, port: int) -> Result:
    """A TCP connection to a storage server, which says nothing by itself; status 28 either way (curl 7.88, seen)."""
    facts = call.facts
    served = [one for one in facts.world.storages if one.served and one.spec.server == host]
    if any(facts.world.storages.reaches(facts.node, one) and PORTS[one.kind] == port for one in served):
        return Result(28, out="0.000631", wait=2.0)
    return Result(28, out="0.000000", wait=2.0)


def _outlets(call: Invocation, given: dict[str, str], path: str) -> Result:
    """The PDU's own web interface: /outlets/NODE says on or off, and takes either by PUT."""
    world, (_, folder, node) = call.facts.world, [*path.split("/"), "", ""][:3]
    if _user(call, given.get("--config", "")) != world.pdu_login:
        return Result(22, err="curl: (22) The requested URL returned error: 401\n", wait=_ASKING_SECONDS)
    if folder != "outlets" or node not in world.nodes:
        return Result(22, err="curl: (22) The requested URL returned error: 404\n", wait=_ASKING_SECONDS)
    wanted = {"on": True, "off": False}.get(given.get("--data", "")) if given.get("--request") == "PUT" else None
    if wanted is not None:
        world.mains(node, wanted)
    return Result(out=f"{'on' if world.outlets.get(node, True) else 'off'}\n", wait=_ASKING_SECONDS)


def _parsed(args: list[str]) -> tuple[dict[str, str], str]:
    given: dict[str, str] = {}
    url = ""
    words = iter(args)
    for word in words:
        if word in _WITH_VALUE:
            given[word] = next(words, "")
        elif not word.startswith("-"):
            url = word
    return given, url


def _user(call: Invocation, path: str) -> str:
    """The user and password of a curl configuration file."""
    try:
        text = call.input if path == STDIN else call.facts.world.files[call.facts.node.name].read(path)
    except FileTrouble:
        return ""
    found = _USER.search(text)
    return re.sub(r"\\(.)", r"\1", found[1]) if found else ""
