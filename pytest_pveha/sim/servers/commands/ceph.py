"""``ceph`` in a simulated node's shell. Without a quorum of mons it waits, as the real one does.

Exit statuses and messages: ceph(8), and the tool as it is known from Pacific on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pytest_pveha.sim.servers.ceph import config, groups, osds, pools, status
from pytest_pveha.sim.servers.ceph.common import version_text
from pytest_pveha.sim.servers.ceph.text import status_text, tree_text
from pytest_pveha.sim.servers.commands.registry import command
from pytest_pveha.sim.servers.shell import Invocation, Result
from pytest_pveha.sim.world.ceph import FLAGS, Ceph, Osd
from pytest_pveha.sim.world.model import Node

_ENOENT, _EAGAIN, _EBUSY, _EINVAL = 2, 11, 16, 22
_PATIENCE = 300.0
"""client_mount_timeout."""
_MANAGER = ("pg", "osd df", "osd ok-to-stop", "osd perf", "osd safe-to-destroy")
"""What the active manager answers."""
_CHANGES = (
    "osd set", "osd unset", "osd in", "osd out", "osd reweight", "osd add-noout", "osd rm-noout", "health mute",
    "health unmute",
)  # fmt: skip
"""What changes a map, for which the mons have to agree."""
_TIMED_OUT = "[errno 110] RADOS timed out (error connecting to the cluster)\n"
_GAVE_UP = "timed out\n"
"""With a patience of its own given (recorded on 16.2.15)."""
_VALUED = ("-f", "--format", "--connect-timeout", "-c", "--conf", "-n", "--name", "--id", "-k", "--keyring")


@command("ceph")
def _ceph(call: Invocation) -> Result:
    ceph = call.facts.world.ceph
    if ceph is None:
        return Result(1, err="Error initializing cluster client: ObjectNotFound('RADOS object not found')\n")
    options, words = _split(call.args)
    if words in (["--version"], ["-v"]):
        return Result(out=f"{version_text(ceph)}\n")
    if words[:1] == ["daemon"]:
        return _daemon(ceph, call.facts.node, words[1:])
    as_json = options.get("--format", options.get("-f", "plain")).startswith("json")
    given = options.get("--connect-timeout", "")
    patience = float(given) if given.isdigit() and int(given) else _PATIENCE
    asked = " ".join(words)
    asks_manager = asked.startswith(_MANAGER)
    changes = asked.startswith(_CHANGES)
    node, timeline = call.facts.node, ceph.world.timeline

    def connected() -> bool:
        return node.running and ceph.mons.heard_from(node.name)

    def answered() -> bool:
        return (ceph.answers(node) if changes else connected()) and (ceph.managers.works or not asks_manager)

    def run() -> Result:
        return _run(ceph, words, as_json)

    if answered():
        return run()
    if connected():  # its patience is for the connection; whoever has one waits for ever
        return Result(until=answered, then=run)
    begun = timeline.now

    def over() -> bool:
        return connected() or timeline.now - begun >= patience * 1e9

    def then() -> Result:
        if connected():
            return Result(until=answered, then=run)
        return Result(1, err=_GAVE_UP if given else _TIMED_OUT)

    return Result(until=over, then=then)


def _daemon(ceph: Ceph, node: Node, words: list[str]) -> Result:
    """What a mon on this very node says through its socket, which needs no quorum."""
    kind, _, name = words[0].partition(".") if words else ("", "", "")
    mon = ceph.mons.all.get(name)
    if kind != "mon" or mon is None or mon.node != node.name or not ceph.mons.alive(mon):
        text = "admin_socket: exception getting command descriptions: [Errno 2] No such file or directory\n"
        return Result(_EINVAL, err=text)
    if words[1:] != ["mon_status"]:
        return _invalid(words)
    return Result(out=json.dumps(status.mon_status(ceph, mon), indent=4) + "\n")


def _split(args: list[str]) -> tuple[dict[str, str], list[str]]:
    """The options, and what is asked for."""
    options: dict[str, str] = {}
    words: list[str] = []
    left = list(args)
    while left:
        word = left.pop(0)
        name, equals, value = word.partition("=")
        if name in _VALUED:
            options[name] = value if equals else left.pop(0) if left else ""
        elif word in ("-s", "--status"):
            words.append("status")
        elif word.startswith("-fjson"):
            options["-f"] = word[2:]
        else:
            words.append(word)
    return options, words


def _run(ceph: Ceph, words: list[str], as_json: bool) -> Result:
    for length in (4, 3, 2, 1):
        act = _ACTS.get(" ".join(words[:length])) if len(words) >= length else None
        if act is not None:
            return act(ceph, words[length:], as_json)
    return _invalid(words)


def _invalid(words: list[str]) -> Result:
    return Result(_EINVAL, err=f"no valid command found: {' '.join(words)}\nError EINVAL: invalid command\n")


Act = Callable[[Ceph, list[str], bool], Result]


def _json(value: Any) -> Result:
    return Result(out="\n" + json.dumps(value) + "\n")


def _shows(asked: Callable[[Ceph], Any], plain: Callable[[Ceph], str] | None = None, beside: str = "") -> Act:
    """An answer without arguments; ``beside`` is what it says on its standard error."""

    def act(ceph: Ceph, rest: list[str], as_json: bool) -> Result:
        if rest:
            return _invalid(rest)
        if as_json or plain is None:
            return replace(_json(asked(ceph)), err=beside)
        return Result(out=plain(ceph) + "\n")

    return act


# --- what it shows ----------------------------------------------------------------------------------------------------


def _health(ceph: Ceph, rest: list[str], as_json: bool) -> Result:
    if rest[:1] in (["mute"], ["unmute"]) and len(rest) > 1:
        code = rest[1]
        if rest[0] == "mute" and code not in status.health(ceph, detail=False)["checks"] and "--sticky" not in rest:
            return Result(_ENOENT, err=f"Error ENOENT: health alert {code} is not currently raised\n")
        if rest[0] == "mute":
            ceph.muted[code] = "--sticky" in rest
        else:
            ceph.muted.pop(code, None)
        return Result()
    if rest not in ([], ["detail"]):
        return _invalid(["health", *rest])
    told = status.health(ceph, detail=bool(rest))
    if as_json:
        return _json(told)
    checks = told["checks"]
    messages = "; ".join(check["summary"]["message"] for check in checks.values() if not check["muted"])
    lines = [f"{told['status']} {messages}".rstrip()]
    for code, check in checks.items() if rest else ():
        word = "WRN" if check["severity"].endswith("WARN") else "ERR"
        lines.append(f"{'(MUTED) ' if check['muted'] else ''}[{word}] {code}: {check['summary']['message']}")
        lines += [f"    {line['message']}" for line in check["detail"]]
    return Result(out="\n".join(lines) + "\n")


def _number(text: str) -> int | None:
    number = text.removeprefix("osd.")
    return int(number) if number.isdigit() else None


def _osd_of(ceph: Ceph, text: str) -> Osd | None:
    number = _number(text)
    return None if number is None else ceph.osds.get(number)


def _metadata(ceph: Ceph, rest: list[str], as_json: bool) -> Result:
    if not rest:
        return _json(osds.api_list(ceph))
    osd = _osd_of(ceph, rest[0])
    return _json(osds.metadata(ceph, osd)) if osd else _no_osd(rest[0])


def _find(ceph: Ceph, rest: list[str], as_json: bool) -> Result:
    osd = _osd_of(ceph, rest[0]) if rest else None
    return _json(osds.find(ceph, osd)) if osd else _no_osd(*rest[:1])


def _no_osd(name: str = "") -> Result:
    return Result(_ENOENT, err=f"Error ENOENT: osd.{name.removeprefix('osd.')} does not exist\n")


def _ok_to_stop(ceph: Ceph, rest: list[str], as_json: bool) -> Result:
    numbers = [_number(word) for word in rest]
    if not numbers or None in numbers:
        return _invalid(["osd", "ok-to-stop", *rest])
    told = osds.ok_to_stop(ceph, [number for number in numbers if number is not None])
    out = f"\n{json.dumps(told)}\n"
    if told["ok_to_stop"]:
        return Result(out=out)
    bad = told["num_not_ok_pgs"]
    return Result(
        _EBUSY, out, f"Error EBUSY: unsafe to stop osd(s) at this time ({bad} PGs are or would become offline)\n"
    )


def _safe_to_destroy(ceph: Ceph, rest: list[str], as_json: bool) -> Result:
    numbers = [number for word in rest if (number := _number(word)) is not None]
    if not numbers or len(numbers) < len(rest):
        return _invalid(["osd", "safe-to-destroy", *rest])
    mapped = {number: len(ceph.osds[number].groups) for number in numbers if number in ceph.osds}
    active = [number for number in numbers if mapped.get(number)]
    if as_json:
        safe = [number for number in numbers if number not in active]
        return _json({"safe_to_destroy": safe, "active": active, "missing_stats": [], "stored_pgs": []})
    if active:
        count = sum(mapped[number] for number in active)
        said = f"OSD(s) {','.join(map(str, active))} have {count} pgs currently mapped to them."
        return Result(_EBUSY, err=f"Error EBUSY: {said} \n")
    return Result(err=f"OSD(s) {','.join(map(str, numbers))} are safe to destroy without reducing data durability.\n")


def _pg_ls(ceph: Ceph, rest: list[str], as_json: bool) -> Result:
    known = [word for word in rest if word in ceph.pools or word.isdigit()]
    states = frozenset(word for word in rest if word not in known)
    told = groups.listed(ceph, known[0] if known else "", states=states)
    return (
        _json(told) if as_json else Result(out="".join(f"{row['pgid']} {row['state']}\n" for row in told["pg_stats"]))
    )


def _pg_by_osd(ceph: Ceph, rest: list[str], as_json: bool) -> Result:
    osd = _osd_of(ceph, rest[0]) if rest else None
    if osd is not None and not osd.up:
        return Result(_EAGAIN, err=f"Error EAGAIN: osd {osd.number} is not up\n")
    return _json(groups.listed(ceph, osd=osd.number)) if osd else _no_osd(*rest[:1])


def _pool_ls(ceph: Ceph, rest: list[str], as_json: bool) -> Result:
    if rest == ["detail"]:
        return _json(pools.pool_list(ceph))
    return _json(list(ceph.pools)) if as_json else Result(out="".join(f"{name}\n" for name in ceph.pools))


def _pool_get(ceph: Ceph, rest: list[str], as_json: bool) -> Result:
    pool = ceph.pools.get(rest[0]) if rest else None
    known = {} if pool is None else {"size": pool.size, "min_size": pool.min_size, "pg_num": len(pool.groups)}
    if pool is None or len(rest) != 2 or rest[1] not in known:
        what = f"Error ENOENT: unrecognized pool '{rest[0] if rest else ''}'\n"
        return Result(_ENOENT, err=what) if pool is None else _invalid(["osd", "pool", "get", *rest])
    value = known[rest[1]]
    if as_json:
        return _json({"pool": pool.name, "pool_id": pool.number, rest[1]: value})
    return Result(out=f"{rest[1]}: {value}\n")


def _config_get(ceph: Ceph, rest: list[str], as_json: bool) -> Result:
    if len(rest) != 2:
        return _invalid(["config", "get", *rest])
    found = config.value(ceph, rest[0], rest[1])
    if found is None:
        return Result(_ENOENT, err=f"Error ENOENT: unrecognized key '{rest[1]}'\n")
    return Result(out=f"{found}\n")


def _tell(ceph: Ceph, rest: list[str], as_json: bool) -> Result:
    """A mon's own value, wherever it has it from: that of its file, too, which ``config get`` does not know."""
    name = rest[0].removeprefix("mon.") if rest else ""
    if not rest or not rest[0].startswith("mon.") or rest[1:3] != ["config", "get"] or len(rest) != 4:
        return _invalid(["tell", *rest])
    mon = ceph.mons.all.get(name)
    if mon is None:
        return Result(_ENOENT, err=f"Error ENOENT: problem getting command descriptions from {rest[0]}\n")
    found = config.value(ceph, rest[0], rest[3])
    return _json({rest[3]: found}) if found is not None else Result(_ENOENT, err="Error ENOENT: \n")


# --- what it changes --------------------------------------------------------------------------------------------------


def _set(on: bool) -> Act:
    def act(ceph: Ceph, rest: list[str], as_json: bool) -> Result:
        if len(rest) != 1 or rest[0] not in FLAGS:
            return _invalid(["osd", "set" if on else "unset", *rest])
        ceph.set_flag(rest[0], on)
        word = "pauserd,pausewr" if rest[0] == "pause" else rest[0]
        return Result(out="\n" if as_json else "", err=f"{word} is {'set' if on else 'unset'}\n")

    return act


def _in_or_out(is_in: bool) -> Act:
    word = "in" if is_in else "out"

    def act(ceph: Ceph, rest: list[str], as_json: bool) -> Result:
        numbers = [_number(text) for text in rest]
        if not numbers or None in numbers:
            return _invalid(["osd", word, *rest])
        named = [ceph.osds.get(number) for number in numbers if number is not None]
        said = ""
        for number, osd in zip(numbers, named, strict=True):
            if osd is None:
                said += f"osd.{number} does not exist. "
            else:
                already = f"osd.{osd.number} is already {word}. "
                said += already if osd.is_in is is_in else f"marked {word} osd.{osd.number}. "
        ceph.osd_map.set_in([osd for osd in named if osd is not None], is_in)
        return Result(err=f"{said}\n")

    return act


def _reweight(ceph: Ceph, rest: list[str], as_json: bool) -> Result:
    osd = _osd_of(ceph, rest[0]) if rest else None
    if len(rest) != 2 or not re.fullmatch(r"0|1|[01]?\.\d+", rest[1]) or float(rest[1]) > 1:
        return _invalid(["osd", "reweight", *rest])
    if osd is None:
        return _no_osd(rest[0])
    ceph.osd_map.reweight(osd, float(rest[1]))
    return Result(err=f"reweighted osd.{osd.number} to {float(rest[1]):g} ({int(float(rest[1]) * 65536):x})\n")


def _one_flag(on: bool, flag: str) -> Act:
    def act(ceph: Ceph, rest: list[str], as_json: bool) -> Result:
        named = [osd for text in rest if (osd := _osd_of(ceph, text)) is not None]
        if not named:
            return _invalid([f"{'add' if on else 'rm'}-{flag}", *rest])
        for osd in named:
            (osd.flags.add if on else osd.flags.discard)(flag)
        ceph.new_epoch()
        ceph.osd_map.take_out()
        return Result()

    return act


_ACTS: dict[str, Act] = {
    "status": _shows(status.status, status_text),
    "health": _health,
    "osd tree": _shows(osds.tree, tree_text),
    "osd dump": _shows(osds.dump),
    "osd df": _shows(osds.df),
    "osd perf": _shows(osds.perf),
    "osd stat": _shows(status.osd_stat),
    "osd metadata": _metadata,
    "osd find": _find,
    "osd ok-to-stop": _ok_to_stop,
    "osd safe-to-destroy": _safe_to_destroy,
    "osd pool ls": _pool_ls,
    "osd pool get": _pool_get,
    "osd crush rule dump": _shows(pools.rule_dump),
    "osd set": _set(True),
    "osd unset": _set(False),
    "osd in": _in_or_out(True),
    "osd out": _in_or_out(False),
    "osd reweight": _reweight,
    "osd add-noout": _one_flag(True, "noout"),
    "osd rm-noout": _one_flag(False, "noout"),
    "pg dump pgs_brief": _shows(groups.dump_brief, beside="dumped pgs_brief\n"),
    "pg ls": _pg_ls,
    "pg ls-by-osd": _pg_by_osd,
    "pg stat": _shows(groups.stat, groups.stat_text),
    "mon stat": _shows(status.mon_stat),
    "mon dump": _shows(status.mon_dump, beside="dumped monmap epoch 3\n"),
    "quorum_status": _shows(status.quorum_status),
    "mgr dump": _shows(status.mgr_dump),
    "time-sync-status": _shows(status.time_sync),
    "config get": _config_get,
    "tell": _tell,
    "config dump": _shows(config.entries),
    "df": _shows(pools.df),
    "versions": _shows(status.versions),
    "fsid": _shows(lambda ceph: {"fsid": ceph.fsid}, lambda ceph: ceph.fsid),
}
