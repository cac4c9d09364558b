"""Whether we are outside of what falls, would see it, and may undo it."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_pveha.faults.fault import Reach
from pytest_pveha.faults.objections.guests import hit
from pytest_pveha.faults.objections.state import State
from pytest_pveha.faults.objections.words import listed
from pytest_pveha.handles.cluster import GuestRow

WHAT_FOR = {
    "Sys.Audit": "to see the cluster",
    "VM.Audit": "to see every guest",
    "Sys.Console": "to have HA bring its services back",
    "VM.PowerMgmt": "to start a guest again that ran",
    "Sys.PowerMgmt": "to have a node go down in good order",
    "VM.Allocate": "to make a guest from a backup, and to take it away",
    "VM.Backup": "to read a guest's backup",
    "VM.Config.Network": "to keep a copy's links down",
    "VM.Config.Options": "to keep a copy from starting by itself",
    "Datastore.AllocateSpace": "to make a copy's disks",
    "VM.GuestAgent.Unrestricted": "to count a canary's writes",
    "VM.Monitor": "to count a canary's writes",
}
"""Privileges of our API token, as the REST schema wants them for the calls we make (PVE 8.4 and 9)."""


def controller(state: State, reach: Reach) -> str | None:
    if state.controller_guest is None:
        return None
    return f"this machine is {state.controller_guest}, a guest of the cluster under test; run from outside it"


def sight(state: State, reach: Reach) -> str | None:
    if not state.online - reach.nodes:
        return None  # everything goes: the votes speak to that, and the BMCs remain
    for what, answered in (("API", state.api_answered), ("SSH", state.ssh_answered)):
        if not answered - reach.nodes:
            return (
                f"sight: only {listed(answered)} answered over {what}, and nobody outside of {listed(reach.nodes)}: "
                f"what would happen could be neither seen nor undone; add a way to the others"
            )
    return None


def way(state: State, reach: Reach) -> str | None:
    """Of a jump host, a forwarder, or this machine being a node: the others see us come from an address of it."""
    others = (state.ssh_answered & state.online) - reach.nodes
    if untold := sorted(others - state.seen_from.keys()):
        return f"way: {', '.join(untold)} did not tell from where it sees us come, so what is on our way is not known"
    for node in sorted(others):
        for lost in sorted(reach.nodes):
            if state.seen_from[node] in state.addresses.get(lost, ()):
                return (
                    f"way: {node} sees us come from {state.seen_from[node]}, which is {lost}: with {lost} our way to "
                    f"{node} is lost, and what happens could be neither seen nor undone; run from outside the cluster"
                )
    return None


def privileges(state: State, reach: Reach) -> str | None:
    found = lacking(state.privileges, needs(state.guests, reach)) if state.proxmox else ""
    return f"token: {found}" if found else None


def needs(guests: Mapping[str, GuestRow], reach: Reach) -> frozenset[tuple[str, str]]:
    """What our API token must be allowed, as (path, privilege): to look, for the fault itself, and to undo it all."""
    falling = {f"/vms/{guest.sid.partition(':')[2]}" for guest in hit(guests, reach)}
    always = {("/", "Sys.Audit"), ("/vms", "VM.Audit"), ("/", "Sys.Console")}
    return reach.privileges | always | {(path, "VM.PowerMgmt") for path in falling}


def lacking(held: Mapping[str, Mapping[str, bool]], needed: frozenset[tuple[str, str]]) -> str:
    """What our API token lacks of that (path, privilege), by what it has on each path: what for, and what to type.

    Empty if it lacks nothing.
    """
    missing: dict[str, list[str]] = {}
    for path, privilege in sorted(needed):
        below = held.get(path, {}).get(privilege)
        if below is None or (path == "/vms" and not below):  # a guest that we are not shown would fall unnoticed
            missing.setdefault(privilege, []).append(path)
    if not missing:
        return ""
    told = "; ".join(f"{name} on {', '.join(paths)} ({WHAT_FOR[name]})" for name, paths in sorted(missing.items()))
    return f"our API token has not {told}; `pveum acl modify`, for the token and for its user"
