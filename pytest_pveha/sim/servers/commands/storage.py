"""Storages and replication in a node's shell.

Formats: pvesm and pvesr as pve-storage 9.1 (CLI/pvesm.pm) and pve-manager 9.2 (CLI/pvesr.pm) print them; zfs-list(8);
open-iscsi 2.1 (``iscsiadm -m session`` without a session ends with status 21); proc_pid_mounts(5) and findmnt(8).
"""

from __future__ import annotations

from datetime import UTC, datetime

from pytest_pveha.sim.servers.commands.registry import command, option
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.servers.mounts import mounts, sessions
from pytest_pveha.sim.servers.shell import Invocation, Result
from pytest_pveha.sim.servers.storage_facts import entry, volumes

_NO_SESSIONS = 21


@command("pvesm")
def _pvesm(call: Invocation) -> Result:
    if call.args[:1] == ["list"] and len(call.args) == 2:
        return _list(call.facts, call.args[1])
    if call.args[:1] != ["status"]:
        return Result(255, err="ERROR: unknown command 'pvesm " + " ".join(call.args) + "'\n")
    facts, wanted = call.facts, option(call.args[1:], "--storage", "-storage")
    stores = [one for one in facts.world.storages if wanted in (None, one.name)]
    width = max(len(one.name) for one in stores) + 1 if stores else 5
    head = ("Type", "Status", "Total (KiB)", "Used (KiB)", "Available (KiB)", "%")
    out = "{:<{w}} {:>10} {:>10} {:>15} {:>15} {:>15} {:>8}\n".format("Name", *head, w=width)
    for one in sorted(stores, key=lambda store: store.name):
        row = entry(facts, one)
        share = 100 * row["used"] / row["total"] if row["total"] else 0.0
        word = "active" if row["active"] else "inactive"
        sizes = [row[key] // 1024 for key in ("total", "used", "avail")]
        out += "{:<{w}} {:>10} {:>10} {:>15} {:>15} {:>15} {: 7.2f}%\n".format(
            one.name, row["type"], word, *sizes, share, w=width
        )
    return Result(out=out, wait=facts.world.storages.hangs(facts.node))


def _list(facts: Facts, name: str) -> Result:
    """The volumes on a storage."""
    storage = next((one for one in facts.world.storages if one.name == name), None)
    if storage is None:
        return Result(2, err=f"storage '{name}' does not exist\n")
    rows = [[row["volid"], row["format"], row["content"], row["size"], row.get("vmid", "")]
            for row in sorted(volumes(facts, storage), key=lambda row: str(row["volid"]))]  # fmt: skip
    wide = max((len(row[0]) for row in rows), default=5)
    out = f"{'Volid':<{wide}} {'Format':<7} {'Type':<9} {'Size':>14} {'VMID'}\n"
    return Result(
        out=out
        + "".join(f"{one:<{wide}} {two:<7} {three:<9} {size:>14} {vmid}\n" for one, two, three, size, vmid in rows)
    )


@command("pvesr")
def _pvesr(call: Invocation) -> Result:
    facts, replication = call.facts, call.facts.world.replication
    match call.args[:1]:
        case ["list"]:
            out = f"{'JobID':<20} {'Target':<20} {'Schedule':>10} {'Rate':>5} {'Enabled':>8}\n"
            for job in replication.jobs.values():
                enabled = "no" if job.disable else "yes"
                out += f"{job.id:<20} {'local/' + job.target:<20} {job.schedule:>10} {'-':>5} {enabled:>8}\n"
            return Result(out=out)
        case ["status"]:
            head = ("JobID", "Target", "LastSync", "NextSync", "Duration", "FailCount", "State")
            out = "{:<20} {:<20} {:>20} {:>20} {:>10} {:>10} {}\n".format(*head)
            for job in replication.on(facts.node):
                told = replication.told(job, facts.node)
                state = "SYNCING" if told.get("pid") else told.get("error", "OK")
                due = told["next_sync"]
                soon = _moment(due) if due > facts.now else "pending" if due else "-"
                out += "{:<20} {:<20} {:>20} {:>20} {:>10} {:>10} {}\n".format(
                    job.id, f"local/{job.target}", _moment(told["last_sync"]), soon, told.get("duration", "-"),
                    told["fail_count"], state,
                )  # fmt: skip
            return Result(out=out)
    return Result(255, err="ERROR: unknown command 'pvesr " + " ".join(call.args) + "'\n")


def _moment(epoch: int) -> str:
    return f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%d_%H:%M:%S}" if epoch else "-"


@command("zfs")
def _zfs(call: Invocation) -> Result:
    """``zfs list -t snapshot``, with ``-H``, ``-p`` and ``-o name,creation``: the snapshots of replication."""
    args = call.args
    if args[:1] != ["list"] or option(args, "-t") != "snapshot":
        return Result(2, err="unrecognized command '" + " ".join(args[:1]) + "'\n")
    letters = {letter for arg in args if arg.startswith("-") and not arg.startswith("-o") for letter in arg[1:]}
    columns = (option(args, "-o") or "name,used,avail,refer,mountpoint").split(",")
    rows = []
    for name, created in _snapshots(call.facts):
        plain = str(created) if "p" in letters else f"{datetime.fromtimestamp(created, UTC):%a %b %d %H:%M %Y}"
        known = {"name": name, "creation": plain, "used": "0B", "refer": "8G"}
        rows.append([known.get(column, "-") for column in columns])
    if "H" in letters:
        return Result(out="".join("\t".join(row) + "\n" for row in rows))
    table = [[column.upper() for column in columns], *rows]
    widths = [max(len(row[at]) for row in table) for at in range(len(columns))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
    return Result(out="".join(f"{line.rstrip()}\n" for line in lines) if rows else "")


def _snapshots(facts: Facts) -> list[tuple[str, int]]:
    """The snapshots of replication that this node has: of copies, and of what it replicates itself."""
    world, found = facts.world, []
    for job in world.replication.jobs.values():
        disk = world.replication.volume(job.guest).partition(":")[2]
        if epoch := world.replication.snapshot(job, facts.node):
            found.append((f"rpool/data/{disk}@__replicate_{job.id}_{epoch}__", epoch))
    return found


@command("iscsiadm")
def _iscsiadm(call: Invocation) -> Result:
    found = sessions(call.facts)
    mode = option(call.args, "-m", "--mode")
    if mode == "session":
        if not found:
            return Result(_NO_SESSIONS, err="iscsiadm: No active sessions.\n")
        rows = (f"tcp: [{one.number}] {one.portal},1 {one.target} (non-flash)\n" for one in found)
        return Result(out="".join(rows))
    if mode == "node":
        wanted = option(call.args, "-T", "--targetname")
        chosen = [one for one in found if wanted in (None, one.target)]
        if not chosen:
            return Result(_NO_SESSIONS, err="iscsiadm: No records found\n")
        show = option(call.args, "-o", "--op") == "show"
        rows = (
            f"# BEGIN RECORD 2.1.11\nnode.name = {one.target}\nnode.tpgt = 1\nnode.startup = manual\n"
            f"node.session.timeo.replacement_timeout = {one.recovery:g}\n"
            f"node.conn[0].timeo.noop_out_interval = 5\nnode.conn[0].timeo.noop_out_timeout = 5\n# END RECORD\n"
            if show
            else f"{one.portal},1 {one.target}\n"
            for one in chosen
        )
        return Result(out="".join(rows))
    return Result(1, err="iscsiadm: unrecognized mode\n")


@command("findmnt")
def _findmnt(call: Invocation) -> Result:
    """``findmnt -t nfs,nfs4``: what is mounted, by the kernel's own list."""
    kinds = (option(call.args, "-t", "--types") or "").split(",")
    rows = [one for one in mounts(call.facts) if kinds == [""] or one.kind in kinds]
    if not rows:
        return Result(1)
    head = [] if "-n" in call.args else [("TARGET", "SOURCE", "FSTYPE", "OPTIONS")]
    table = [*head, *((one.target, one.source, one.kind, one.options) for one in rows)]
    widths = [max(len(row[at]) for row in table) for at in range(4)]
    lines = (" ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)
    return Result(out="".join(f"{line}\n" for line in lines))
