"""``/nodes`` and what a node says about itself: load, services, journal; and how it is told to go down.

Field by field as recorded on a PVE 9.1.9 control plane.
"""

from __future__ import annotations

from typing import Any

from pytest_pveha.sim.servers.api_cluster import DISK, node_entry, used
from pytest_pveha.sim.servers.api_registry import AUDIT, PARAMETERS, ApiError, Call, route
from pytest_pveha.sim.servers.facts import DESCRIPTIONS, KERNEL, KERNEL_BUILD, Facts, clock_text, digest


@route("GET", "/nodes")
def nodes(call: Call) -> list[dict[str, Any]]:
    """Every node of the cluster; figures only of those that are online."""
    return [
        {**node_entry(call.facts, node), "ssl_fingerprint": call.fingerprints.get(node.name, "")}
        for node in call.facts.world.nodes.values()
    ]


@route("GET", "/nodes/{node}/status", AUDIT, "/nodes/{node}")
def node_status(call: Call, node: str) -> dict[str, Any]:
    """The node's hardware, load and uptime."""
    facts = call.facts
    total, taken = facts.node.spec.memory_bytes, used(facts.node)
    return {
        "boot-info": {"mode": "efi", "secureboot": 0},
        "cpu": 0.05,
        "cpuinfo": {
            "cores": 8,
            "cpus": 8,
            "flags": "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov",
            "hvm": "1",
            "mhz": "2300.000",
            "model": "Simulated Processor",
            "sockets": 1,
            "user_hz": 100,
            "vendor": "Simulated",
        },
        "current-kernel": {"machine": "x86_64", "release": KERNEL, "sysname": "Linux", "version": KERNEL_BUILD},
        "idle": 0,
        "ksm": {"shared": 0},
        "kversion": f"Linux {KERNEL} {KERNEL_BUILD}",
        "loadavg": ["0.10", "0.10", "0.10"],
        "memory": {"available": total - taken, "free": total - taken, "total": total, "used": taken},
        "pveversion": facts.pveversion,
        "rootfs": {
            "avail": DISK["maxdisk"] - DISK["disk"],
            "free": DISK["maxdisk"] - DISK["disk"],
            "total": DISK["maxdisk"],
            "used": DISK["disk"],
        },
        "swap": {"free": 0, "total": 0, "used": 0},
        "uptime": int(facts.uptime()),
        "wait": 0,
    }


@route("POST", "/nodes/{node}/status", ("Sys.PowerMgmt",), "/nodes/{node}")
def node_command(call: Call, node: str) -> None:
    """The node reboots or powers off, in good order, from two seconds later on."""
    reboot = call.one_of("command", "reboot", "shutdown") == "reboot"
    world, name = call.world, call.node.name
    world.on(call.node, 2.0, lambda: world.shutdown(name, reboot), f"{name} is told to go down")


@route("GET", "/nodes/{node}/services", AUDIT, "/nodes/{node}")
def services(call: Call, node: str) -> list[dict[str, str]]:
    """The units PVE lists; the watchdog multiplexer and qdevice are not among them."""
    return [_service(call.facts, unit) for unit in DESCRIPTIONS]


@route("GET", "/nodes/{node}/services/{service}/state", AUDIT, "/nodes/{node}")
def service_state(call: Call, node: str, service: str) -> dict[str, str]:
    """One unit's state."""
    if service not in DESCRIPTIONS:
        message = f"value '{service}' does not have a value in the enumeration '{', '.join(DESCRIPTIONS)}'"
        raise ApiError(400, PARAMETERS, {"service": message})
    return _service(call.facts, service)


def _service(facts: Facts, unit: str) -> dict[str, str]:
    state = facts.unit(unit)
    return {
        "active-state": state.active,
        "desc": DESCRIPTIONS[unit],
        "name": unit,
        "service": unit,
        "state": state.sub,
        "unit-state": state.enabled,
    }


@route("GET", "/nodes/{node}/journal", ("Sys.Syslog",), "/nodes/{node}")
def journal(call: Call, node: str) -> list[str]:
    """The node's journal, a cursor before and after; ``since``, ``until`` and ``lastentries`` apply."""
    since, until = call.number("since"), call.number("until")
    lines = [
        f"{clock_text(epoch)} {call.node.name} {line.ident}[{line.pid}]: {line.text}"
        for line, epoch in ((line, call.facts.epoch(line)) for line in call.node.journal)
        if (since is None or epoch >= since) and (until is None or epoch <= until)
    ]
    if last := call.number("lastentries"):
        lines = lines[-last:]
    cursor = f"s={digest(call.node.name)[:32]};i={len(call.node.journal):x}"
    return [cursor, *lines, cursor]
