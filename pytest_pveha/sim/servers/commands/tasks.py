"""Tasks by the shell of a node: pvenode. Its table as pve-manager 9.1 prints it, reduced to the columns we rely on."""

from __future__ import annotations

from pytest_pveha.sim.servers.commands.registry import command, option
from pytest_pveha.sim.servers.facts import Facts, clock_text
from pytest_pveha.sim.servers.shell import Invocation, Result
from pytest_pveha.sim.world.model import Task


@command("pvenode")
def _pvenode(call: Invocation) -> Result:
    if call.args[:2] != ["task", "list"]:
        return Result(255, err="ERROR: unknown command 'pvenode " + " ".join(call.args) + "'\n")
    asked = [word for word in call.args[2:]]
    source = option(asked, "--source") or "archive"
    found = [
        task
        for task in sorted(call.facts.node.tasks, key=lambda task: -task.starttime)
        if _fits(task, asked) and (source == "all" or (task.endtime is None) == (source == "active"))
    ]
    return Result(out="".join(_row(call.facts, task) for task in found))


def _fits(task: Task, asked: list[str]) -> bool:
    vmid, kind, user = (option(asked, name) for name in ("--vmid", "--typefilter", "--userfilter"))
    since = option(asked, "--since")
    return (
        vmid in (None, task.id)
        and (kind is None or kind in task.type)
        and (user is None or user in task.user)
        and (since is None or task.starttime >= int(since))
    )


def _row(facts: Facts, task: Task) -> str:
    return f"{task.upid} {task.type} {task.id} {task.user} {clock_text(task.starttime)} {task.exitstatus or ''}\n"
