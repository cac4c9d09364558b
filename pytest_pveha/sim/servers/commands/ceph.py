"""``ceph`` in a simulated node's shell: the one question that REST cannot put for several daemons at once."""

from __future__ import annotations

import json

from pytest_pveha.sim.servers.commands.registry import command
from pytest_pveha.sim.servers.shell import Invocation, Result

_EBUSY = 16


@command("ceph")
def _ceph(call: Invocation) -> Result:
    ceph = call.facts.world.ceph
    if not ceph.there:
        return Result(1, err="Error initializing cluster client: ObjectNotFound('RADOS object not found')\n")
    match call.args:
        case ["osd", "ok-to-stop", *osds] if osds and all(osd.isdigit() for osd in osds):
            said = ceph.ok_to_stop(tuple(int(osd) for osd in osds))
            if said["ok_to_stop"]:
                return Result(out=json.dumps(said) + "\n")
            bad = said["num_not_ok_pgs"]
            return Result(_EBUSY, json.dumps(said) + "\n", f"Error EBUSY: unsafe to stop osd(s) ({bad} PGs)\n")
    return Result(22, err=f"no valid command found: {' '.join(call.args)}\nError EINVAL: invalid command\n")
