"""The site's replies against the official REST schema of that version: required keys, types and value sets.

The schema is not ours to carry: it is read where it lies in ``shared/reference/api`` beside the checkout, as in CI.
Where a recorded reply of a real control plane differs from it, the recording is right, and the difference is listed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pytest_pveha.faults.objections.ourselves import WHAT_FOR
from pytest_pveha.sim.servers.api_registry import ROUTES
from pytest_pveha.sim.servers.api_routes import ApiError, Call, Listing, find
from pytest_pveha.sim.servers.facts import Facts
from tests.sim.ha_kit import Site, guest

SHELF = next(
    (
        folder / "shared" / "reference" / "api"
        for folder in Path(__file__).resolve().parents
        if (folder / "shared" / "reference" / "api").is_dir()
    ),
    None,
)
SCHEMAS = {"8.4.14": "pve-8.4-api.json", "9.1.9": "pve-9-api.json"}
PARTS = {
    "node": "pve1",
    "vmid": "101",
    "id": "101-0",
    "sid": "vm:101",
    "group": "first",
    "rule": "home",
    "service": "pve-ha-lrm",
    "flag": "noout",
    "osdid": "0",
    "name": "ceph-vm",
    "storage": "pbs1",
}

ASKED: Mapping[str, Mapping[str, str]] = {
    "/nodes/{node}/ceph/cmd-safety": {"service": "osd", "id": "0", "action": "stop"},
}
"""The parameters of those that need some."""
REALLY: Mapping[str, str] = {
    "/nodes/{node}/qemu/{vmid}/status/current clipboard": "null where none is set (recorded on PVE 9.1.9)",
    "/nodes/{node}/ceph/mon[] host": "the node's name; the schema's boolean is a slip",
}
"""What real replies do otherwise than their schema says, by ``path key``, with where it was recorded."""


def reachable() -> Iterator[tuple[str, str]]:
    """Each GET the site answers, as its version and the schema's path."""
    for version in SCHEMAS:
        for path in sorted({schema_path(route.pattern.pattern) for route in ROUTES if route.method == "GET"}):
            for kind in ("qemu", "lxc") if "{kind}" in path else ("",):
                yield version, path.replace("{kind}", kind)


def schema_path(pattern: str) -> str:
    """A route's pattern as the schema writes the path."""
    return re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", pattern).removesuffix("/?")


@cache
def schema(version: str) -> dict[str, Any]:
    """What each GET returns by that version's schema."""
    assert SHELF is not None
    entries = json.loads((SHELF / SCHEMAS[version]).read_text(encoding="utf-8"))
    return {entry["path"]: entry["info"].get("returns", {}) for entry in entries if entry["method"] == "GET"}


@cache
def site(version: str) -> Site:
    """A site of that version with a VM, a container, a group or a rule, and a task that has ended."""
    eight = version.startswith("8")
    home = {"name": "home", "affinity": "node", "guests": ["vm:101"], "nodes": ["pve1:2", "pve2"], "strict": False}
    group = {"name": "first", "nodes": ["pve1:2", "pve2"], "restricted": False, "nofailback": False}
    made = Site(
        guest(101, "pve1", storage="local-zfs", **({"group": "first"} if eight else {})),
        guest(102, "pve1", kind="ct"),
        guest(103, "pve2", ha=False),
        version=version,
        storages=[{"name": "local-zfs", "kind": "zfs"}, {"name": "vault", "kind": "nfs", "server": "10.99.7.7"}],
        replication=[{"guest": "vm:101", "target": "pve2"}],
        ceph={},
        backup={"storage": "pbs1", "encrypted": True},
        **({"groups": [group]} if eight else {"rules": [home]}),
    )
    made.command("migrate vm:101 pve2")
    made.play(60)
    made.command("migrate vm:101 pve1")
    made.play(60)
    return made


def reply(version: str, path: str) -> Any:
    """What the site answers there."""
    world = site(version).world
    facts = Facts(world, world.nodes["pve1"])
    parts = {**PARTS, "vmid": "102" if "/lxc" in path else "101"}
    if "{upid}" in path:
        parts["upid"] = world.nodes["pve1"].tasks[-1].upid
    route, found = find("GET", path.format(**parts), version)
    volume = f"pbs1:backup/{world.pbs.snapshots[0].name}"
    params = {"volume": volume} if path.endswith("extractconfig") else ASKED.get(path, {})
    if path.endswith("exec-status"):
        asked = world.guests[101]
        params = {"pid": str(world.canaries.start(asked, asked.processes["pve1"], ["sha256sum", "/etc/hosts"], ""))}
    data = route.function(Call(facts, "root@pam!t", params, dict.fromkeys(world.nodes, "AA:BB")), **found)
    return data.data if isinstance(data, Listing) else data


def misfits(value: Any, wanted: Mapping[str, Any], where: str) -> list[str]:
    """What of the value is not as the schema says."""
    kind = wanted.get("type")
    if kind == "array":
        if not isinstance(value, list):
            return [f"{where}: {type(value).__name__} instead of a list"]
        return [text for entry in value for text in misfits(entry, wanted.get("items", {}), f"{where}[]")]
    if kind == "object":
        if not isinstance(value, dict):
            return [f"{where}: {type(value).__name__} instead of an object"]
        found = []
        for name, inner in wanted.get("properties", {}).items():
            if "[n]" in name:
                continue
            if name.startswith("{"):
                found += [text for each in value.values() for text in misfits(each, inner, f"{where} {name}")]
                continue
            if name in value:
                found += misfits(value[name], inner, f"{where} {name}")
            elif not inner.get("optional"):
                found.append(f"{where} {name}: missing, and it is not optional")
        return found
    return scalar_misfits(value, wanted, where)


def scalar_misfits(value: Any, wanted: Mapping[str, Any], where: str) -> list[str]:
    """The same of a value without parts. Perl has no booleans: 0 and 1 stand for them, and numbers may be texts."""
    fits = {
        "boolean": value in (0, 1, "0", "1", ""),
        "integer": isinstance(value, int) or (isinstance(value, str) and value.lstrip("-").isdigit()),
        "number": isinstance(value, int | float),
        "string": isinstance(value, str | int | float),
        "null": value is None,
    }.get(wanted.get("type", ""), True)
    if not fits:
        return [f"{where}: {value!r} is no {wanted['type']}"]
    if "enum" in wanted and value not in wanted["enum"]:
        return [f"{where}: {value!r} is not among {', '.join(map(str, wanted['enum']))}"]
    return []


@pytest.mark.skipif(
    SHELF is None, reason="the official schema does not lie beside this checkout (shared/reference/api)"
)
@pytest.mark.parametrize(("version", "path"), list(reachable()))
def test_a_reply_fits_its_schema(version: str, path: str) -> None:
    """Every key that is not optional is there, and every value has its type and is among those that may be."""
    known = schema(version)
    if path not in known:
        with pytest.raises(ApiError, match="not implemented"):
            find("GET", path.format(**PARTS, upid="U"), version)
        return
    if path.startswith("/cluster/ha/groups") and version.startswith("9"):
        with pytest.raises(ApiError, match="have been migrated to rules"):
            reply(version, path)
        return
    found = [text for text in misfits(reply(version, path), known[path], path) if text.partition(":")[0] not in REALLY]
    assert sorted(set(found)) == []


ON_OUR_OWN = {
    ("POST", "/nodes/{node}/status"): ("/nodes/{node}", "Sys.PowerMgmt"),
    ("PUT", "/cluster/ha/resources/{sid}"): ("/", "Sys.Console"),
    ("POST", "/cluster/ha/resources/{sid}/migrate"): ("/", "Sys.Console"),
    ("POST", "/cluster/ha/resources/{sid}/relocate"): ("/", "Sys.Console"),
    ("POST", "/nodes/{node}/qemu/{vmid}/status/start"): ("/vms/{vmid}", "VM.PowerMgmt"),
    ("POST", "/nodes/{node}/lxc/{vmid}/status/start"): ("/vms/{vmid}", "VM.PowerMgmt"),
    ("POST", "/nodes/{node}/qemu/{vmid}/status/stop"): ("/vms/{vmid}", "VM.PowerMgmt"),
    ("POST", "/nodes/{node}/lxc/{vmid}/status/stop"): ("/vms/{vmid}", "VM.PowerMgmt"),
    ("DELETE", "/nodes/{node}/qemu/{vmid}"): ("/vms/{vmid}", "VM.Allocate"),
    ("DELETE", "/nodes/{node}/lxc/{vmid}"): ("/vms/{vmid}", "VM.Allocate"),
}
"""Every call of ours that changes something, and the privilege that the interlock asks for before it may be made."""


@pytest.mark.skipif(SHELF is None, reason="the official schema does not lie beside this checkout")
@pytest.mark.parametrize("version", SCHEMAS)
def test_our_calls_need_what_the_interlock_asks_for(version: str) -> None:
    """The schema wants exactly that privilege, and that path; and of these calls there are no others in the code."""
    assert SHELF is not None
    entries = json.loads((SHELF / SCHEMAS[version]).read_text(encoding="utf-8"))
    wanted = {(each["method"], each["path"]): each["info"].get("permissions") for each in entries}
    for call, (path, privilege) in ON_OUR_OWN.items():
        assert wanted[call] == {"check": ["perm", path, [privilege]]}, call
    assert {privilege for _, privilege in ON_OUR_OWN.values()} <= WHAT_FOR.keys()
    handles = Path(__file__).parents[2] / "pytest_pveha" / "handles"
    source = "".join(path.read_text(encoding="utf-8") for path in sorted(handles.glob("*.py")))
    changing = re.findall(r"_api\.(post|put|delete)\(", source)
    # beside them: a restore, which needs what its request is about (GuestRestored.reach), and the end of a task of ours
    asking = (handles / "agent.py").read_text(encoding="utf-8").count("_api.post(")
    assert sorted(changing) == ["delete"] * 2 + ["post"] * (7 + asking) + ["put"]


@pytest.mark.skipif(SHELF is None, reason="the official schema does not lie beside this checkout")
@pytest.mark.parametrize("version", SCHEMAS)
def test_the_site_wants_what_the_schema_wants(version: str) -> None:
    """Of each call that changes something the simulated site wants the schema's privilege, on the schema's path."""
    assert SHELF is not None
    entries = json.loads((SHELF / SCHEMAS[version]).read_text(encoding="utf-8"))
    wanted = {(each["method"], each["path"]): each["info"].get("permissions") or {} for each in entries}
    for (method, path), permission in wanted.items():
        try:
            route, _ = find(method, path.format(**PARTS, upid="U"), version) if method != "GET" else (None, None)
        except (ApiError, KeyError):
            continue
        if route is None or "agent" in path:  # one of several privileges suffices there, by version
            continue
        if "check" not in permission:  # what is needed depends on the request: the function asks for it itself
            assert route.needs == (), path
            continue
        if permission["check"][3:] == ["any", 1]:
            assert permission["check"][:3] == ["perm", route.on, list(route.needs)], path
            continue
        assert permission["check"] == ["perm", route.on, list(route.needs)], path


def test_misfits_are_seen() -> None:
    """The comparison can fail: a missing key, a wrong type and an unknown word are each told."""
    wanted = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string", "enum": ["x"]}}}
    assert misfits({"b": "y"}, wanted, "p") == ["p a: missing, and it is not optional", "p b: 'y' is not among x"]
    assert misfits({"a": "one", "b": "x"}, wanted, "p") == ["p a: 'one' is no integer"]
    assert misfits({}, {"type": "array"}, "p") == ["p: dict instead of a list"]
