"""The cluster's tools: pvecm, corosync's, ha-manager, pveversion. Outputs as recorded on a PVE 9.1.9 control plane;
those with a quorum device, and where nothing runs, on corosync 3.1.7 with corosync-qdevice 3.0.3."""

from __future__ import annotations

import json

from pytest_pveha.sim.servers.commands.acts import attempt
from pytest_pveha.sim.servers.commands.registry import command, option
from pytest_pveha.sim.servers.facts import KERNEL, Facts, date_text
from pytest_pveha.sim.servers.shell import Invocation, Result
from pytest_pveha.sim.world.files import Stalled
from pytest_pveha.sim.world.model import Node


def _quorum_text(facts: Facts, *, hexadecimal: bool) -> str:
    view, node = facts.view, facts.node
    nodes, device = len(view.members), bool(facts.world.spec.qdevice)
    two_node = facts.world.spec.two_node
    flags = ("2Node " if two_node else "") + ("Quorate " if view.quorate else "")
    flags += ("WaitForAll " if two_node else "") + ("Qdevice " if device else "")
    blocked = " " if view.quorate else "Activity blocked"
    return (
        "Quorum information\n------------------\n"
        f"Date:             {date_text(facts.now)}\n"
        "Quorum provider:  corosync_votequorum\n"
        f"Nodes:            {nodes}\n"
        f"Node ID:          {f'0x{node.nodeid:08x}' if hexadecimal else node.nodeid}\n"
        f"Ring ID:          {view.ring_id}\n"
        f"Quorate:          {'Yes' if view.quorate else 'No'}\n\n"
        "Votequorum information\n----------------------\n"
        f"Expected votes:   {view.expected_votes}\n"
        f"Highest expected: {view.expected_votes}\n"
        f"Total votes:      {nodes + view.device_votes}\n"
        f"Quorum:           {view.quorum} {blocked}\n"
        f"Flags:            {flags}\n\n"
        f"{_membership_text(facts, hexadecimal=hexadecimal)}"
    )


def _membership_text(facts: Facts, *, hexadecimal: bool) -> str:
    """Who votes. Flags of the device's column: alive, votes for us, does not know a master (corosync-quorumtool(8)).

    Alive is the daemon on that node, also while it looks for qnetd (seen).
    """
    device = facts.world.spec.qdevice
    text = _membership_title("   Qdevice " if device else "")
    for each in facts.members:
        number = f"0x{each.nodeid:08x}" if hexadecimal else f"{each.nodeid:10d}"
        name = facts.address(each) if hexadecimal else each.name
        flags = f"{_device_flags(facts, each):>10} " if device else ""
        text += f"{number}          1 {flags}{name}{' (local)' if each is facts.node else ''}\n"
    if device:
        votes, all_of_them = facts.view.device_votes, facts.world.corosync.device.votes
        silent = "" if votes else f" (votes {all_of_them})"
        text += f"{'0x00000000' if hexadecimal else f'{0:10d}'} {votes:10d}            Qdevice{silent}\n"
    return text


def _device_flags(facts: Facts, node: Node) -> str:
    return f"A,{'V' if facts.world.corosync.device.counted(node) else 'NV'},NMW"


def _membership_title(device: str = "") -> str:
    return f"Membership information\n----------------------\n    Nodeid      Votes {device}Name\n"


@command("pvecm")
def _pvecm(call: Invocation) -> Result:
    facts = call.facts
    if not facts.node.corosync_up:
        return Result(1, err="Cannot initialize CMAP service\n")
    match call.args:
        case ["status"]:
            spec = facts.world.spec
            head = (
                "Cluster information\n-------------------\n"
                f"Name:             {spec.cluster}\nConfig Version:   {len(spec.nodes)}\n"
                "Transport:        knet\nSecure auth:      on\n\n"
            )
            return Result(out=head + _quorum_text(facts, hexadecimal=True))
        case ["nodes"]:
            rows = "".join(
                f"{node.nodeid:10d}          1 {node.name}{' (local)' if node is facts.node else ''}\n"
                for node in facts.members
            )
            return Result(out=f"\n{_membership_title()}{rows}")
        case _:
            return Result(255, err="ERROR: unknown command 'pvecm " + " ".join(call.args) + "'\n")


@command("corosync-quorumtool")
def _quorumtool(call: Invocation) -> Result:
    if not call.facts.node.corosync_up:
        return Result(1, err="Cannot initialize CMAP service\n")
    return Result(0 if call.facts.view.quorate else 2, _quorum_text(call.facts, hexadecimal=False))


@command("corosync-qdevice-tool")
def _qdevice_tool(call: Invocation) -> Result:
    facts = call.facts
    if not (facts.world.spec.qdevice and facts.node.corosync_up):
        why = "Can't connect to QDevice socket (is QDevice running?): No such file or directory"
        return Result(3, err=f"corosync-qdevice-tool: {why}\n")
    ids = [node.nodeid for node in facts.world.nodes.values()]
    listed = "".join(f"    {at}\tNode ID = {number}\n" for at, number in enumerate(ids))
    told = facts.qdevice
    return Result(
        out="Qdevice information\n-------------------\n"
        f"Model:\t\t\t{told['Model']}\nNode ID:\t\t{facts.node.nodeid}\n"
        f"Configuration version:\t{len(ids)}\n"
        f"Configured node list:\n{listed}"
        f"Membership node list:\t{', '.join(str(each.nodeid) for each in facts.members)}\n\n"
        "Qdevice-net information\n----------------------\n"
        f"Cluster name:\t\t{facts.world.spec.cluster}\n"
        f"QNetd host:\t\t{told['QNetd host']}\n"
        f"Algorithm:\t\t{told['Algorithm']}\n"
        f"Tie-breaker:\t\t{told['Tie-breaker']}\n"
        f"State:\t\t\t{told['State']}\n"
    )


@command("corosync-cfgtool")
def _cfgtool(call: Invocation) -> Result:
    facts = call.facts
    if not facts.node.corosync_up:
        return Result(1, err="Could not initialize corosync configuration API error 2\n")
    others = sorted(facts.world.nodes.values(), key=lambda node: node.nodeid)
    calls_up = facts.world.corosync.calls_up
    text = f"Local node ID {facts.node.nodeid}, transport knet\n"
    for link in range(facts.world.spec.links):
        text += f"LINK ID {link} udp\n\taddr\t= {facts.address(facts.node, link)}\n\tstatus:\n"
        for node in others:
            word = (
                "localhost"
                if node is facts.node
                else "connected"
                if calls_up(facts.node, node, link)
                else "disconnected"
            )
            text += f"\t\tnodeid: {node.nodeid:10d}:\t{word}\n"
    return Result(out=text)


@command("ha-manager")
def _ha_manager(call: Invocation) -> Result:
    match call.args:
        case ["status", *options]:
            text = _ha_text(call.facts)
            if any(option.lstrip("-") == "verbose" for option in options):
                document = json.dumps(call.facts.ha_status, indent=3, sort_keys=True, separators=(",", " : "))
                text += f"full cluster state:\n{document}\n"
            return Result(out=text)
        case ["config"]:
            return Result(
                out="\n".join(f"{each['sid']}\n\tstate {each['state']}\n" for each in call.facts.ha_resources)
            )
        case ["migrate" | "relocate" as verb, sid, target]:
            if target not in call.facts.world.nodes:
                return Result(255, err=f"no such cluster node '{target}'\n")
            if sid not in (resource["sid"] for resource in call.facts.ha_resources):
                return Result(255, err=f"no such resource '{sid}'\n")
            return _queue(call.facts, f"{verb} {sid} {target}")
        case ["crm-command", *words]:
            return _crm_command(call.facts, words)
        case ["rules", "remove", name]:
            return attempt(lambda: call.facts.world.remove_rule(call.facts.node.name, name))
        case ["rules", "add", kind, name, *words]:
            given = {key: option(words, f"--{key}") for key in ("resources", "nodes", "affinity", "strict")}
            return attempt(lambda: call.facts.world.add_rule(call.facts.node.name, kind, name, given))
        case _:
            return Result(255, err="ERROR: unknown command 'ha-manager " + " ".join(call.args) + "'\n")


def _crm_command(facts: Facts, words: list[str]) -> Result:
    """What the master is asked to do, as a line for it to read in its next round."""
    match words:
        case ["node-maintenance", ("enable" | "disable") as verb, name]:
            if name not in facts.world.nodes:
                return Result(255, err=f"no such cluster node '{name}'\n")
            line = f"{verb}-node-maintenance {name}"
        case ["disarm-ha", ("freeze" | "ignore") as mode]:
            line = f"disarm-ha {mode}"
        case ["arm-ha"]:
            line = "arm-ha"
        case _:
            return Result(255, err="ERROR: unknown command 'ha-manager crm-command " + " ".join(words) + "'\n")
    return _queue(facts, line)


def _queue(facts: Facts, line: str) -> Result:
    if facts.node.syncing:
        raise Stalled
    return attempt(lambda: facts.world.crm_command(facts.node.name, line))


def _ha_text(facts: Facts) -> str:
    names = {"quorum": "quorum", "master": "master", "fencing": "fencing", "lrm": "lrm", "service": "service"}
    return "".join(f"{names[entry['type']]} {entry['status']}\n" for entry in facts.ha_current)


@command("pveversion")
def _pveversion(call: Invocation) -> Result:
    return Result(out=f"{call.facts.pveversion} (running kernel: {KERNEL})\n")
