"""``/access``: what the token may do. The tree has one grant, on ``/`` and all below it, less what the token lacks."""

from __future__ import annotations

from pytest_pveha.sim.servers.api_registry import Call, route
from pytest_pveha.sim.world import versions

_LISTED = ("/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms")
"""What is told of without being asked for by name (pve-access-control, RPCEnvironment.pm)."""
_PRIVILEGES = (
    "Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.Audit", "Group.Allocate", "Mapping.Audit",
    "Mapping.Modify", "Mapping.Use", "Permissions.Modify", "Pool.Allocate", "Pool.Audit", "SDN.Audit", "SDN.Use",
    "Sys.Audit", "Sys.Console", "Sys.Modify", "Sys.PowerMgmt", "Sys.Syslog", "User.Modify", "VM.Allocate", "VM.Audit",
    "VM.Backup", "VM.Clone", "VM.Config.Disk", "VM.Config.Network", "VM.Config.Options", "VM.Console", "VM.Migrate",
    "VM.PowerMgmt", "VM.Snapshot", "VM.Snapshot.Rollback",
)  # fmt: skip
_OF_AGENTS = ("VM.GuestAgent.Audit", "VM.GuestAgent.FileRead", "VM.GuestAgent.FileWrite", "VM.GuestAgent.Unrestricted")
"""In the place of VM.Monitor since PVE 9."""


@route("GET", "/access/permissions")
def permissions(call: Call) -> dict[str, dict[str, int]]:
    """Of each path, or of the one that is named, what the token may there; 1 = and on all below it."""
    call.only("path", "userid")
    nine = versions.has(call.world.spec.version, versions.RULES)
    every = [*_PRIVILEGES, *(_OF_AGENTS if nine else ("VM.Monitor",))]
    held = dict.fromkeys((name for name in every if call.may(name)), 1)
    return {path: held for path in ([call.params["path"]] if "path" in call.params else _LISTED)}
