"""reboot, poweroff and shutdown: the node goes down in good order, as the site's shutdown policy says: systemctl(1)."""

from __future__ import annotations

from pytest_pveha.sim.servers.commands.registry import command
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.servers.shell import Invocation, Result


def go_down(facts: Facts, args: list[str], *, reboot: bool) -> Result:
    """The system has been told so; the shell goes on until it is stopped."""
    if args:
        return Result(1, err=f"{' '.join(args)}: not played here\n")
    facts.world.shutdown(facts.node.name, reboot)
    return Result()


@command("reboot")
def _reboot(call: Invocation) -> Result:
    return go_down(call.facts, call.args, reboot=True)


@command("poweroff")
def _poweroff(call: Invocation) -> Result:
    return go_down(call.facts, call.args, reboot=False)


@command("shutdown")
def _shutdown(call: Invocation) -> Result:
    left = [arg for arg in call.args if arg not in ("-r", "-h", "-P")]
    if left != ["now"]:
        return Result(1, err="shutdown: only `now` is played here\n")
    return go_down(call.facts, [], reboot="-r" in call.args)
