"""Files: read, written, listed, tested. Wording: GNU coreutils 9.7."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from pytest_pveha.sim.servers import given
from pytest_pveha.sim.servers.commands.registry import command, option
from pytest_pveha.sim.servers.facts import Facts
from pytest_pveha.sim.servers.shell import Invocation, Result
from pytest_pveha.sim.world.files import IS_FOLDER, NO_SUCH, Entry, FileTrouble, NodeFiles


def _files(facts: Facts) -> NodeFiles:
    return facts.world.files[facts.node.name]


def _read(facts: Facts, path: str) -> str:
    content = given.content(facts, path)
    if content is not None:
        return content
    if given.is_folder(facts, path):
        raise FileTrouble(IS_FOLDER)
    return _files(facts).read(path)


def _is_folder(facts: Facts, path: str) -> bool:
    entry = _files(facts).find(path)
    return given.is_folder(facts, path) or (entry is not None and entry.is_folder)


def _exists(facts: Facts, path: str) -> bool:
    return _is_folder(facts, path) or given.content(facts, path) is not None or _files(facts).find(path) is not None


def _split(args: list[str]) -> tuple[set[str], list[str]]:
    """The options, a letter each or by their long names, and the operands."""
    given_options = [arg for arg in args if arg.startswith("-") and arg not in ("-", "--")]
    names = {name for arg in given_options for name in ([arg] if arg.startswith("--") else arg[1:])}
    return names, [arg for arg in args if arg not in given_options and arg != "--"]


def _each(paths: Iterable[str], act: Callable[[str], None], complaint: str) -> Result:
    """The act on each path; ``complaint`` is filled with path and reason where it fails, and the rest goes on."""
    err = ""
    for path in paths:
        try:
            act(path)
        except FileTrouble as trouble:
            err += complaint.format(path=path, why=trouble) + "\n"
    return Result(1 if err else 0, err=err)


@command("cat")
def _cat(call: Invocation) -> Result:
    paths = [arg for arg in call.args if arg not in ("--", "-")]
    if not paths:
        return Result(out=call.input)
    out, err = "", ""
    for path in paths:
        try:
            out += _read(call.facts, path)
        except FileTrouble as trouble:
            err += f"cat: {path}: {trouble}\n"
    return Result(1 if err else 0, out, err)


@command("tee")
def _tee(call: Invocation) -> Result:
    letters, paths = _split(call.args)
    text = call.input
    mode = 0o666 & ~call.umask
    done = _each(
        paths,
        lambda path: _files(call.facts).write(path, text, mode, append=bool(letters & {"a", "--append"})),
        "tee: {path}: {why}",
    )
    return Result(done.status, text, done.err)


@command("mkdir")
def _mkdir(call: Invocation) -> Result:
    letters, paths = _split(call.args)
    mode = 0o777 & ~call.umask
    if "m" in letters:
        mode = int(paths.pop(0), 8)
    parents = bool(letters & {"p", "--parents"})

    def make(path: str) -> None:
        if not (parents and given.is_folder(call.facts, path)):
            _files(call.facts).make_folder(path, mode, parents=parents)

    return _each(paths, make, "mkdir: cannot create directory ‘{path}’: {why}")


@command("rm")
def _rm(call: Invocation) -> Result:
    letters, paths = _split(call.args)
    force, recursive = "f" in letters, bool(letters & {"r", "R", "--recursive"})

    def remove(path: str) -> None:
        try:
            _files(call.facts).remove(path, recursive=recursive)
        except FileTrouble as trouble:
            if not (force and str(trouble) == NO_SUCH):
                raise

    return _each(paths, remove, "rm: cannot remove '{path}': {why}")


@command("rmdir")
def _rmdir(call: Invocation) -> Result:
    _, paths = _split(call.args)
    return _each(paths, _files(call.facts).remove_folder, "rmdir: failed to remove '{path}': {why}")


@command("mv")
def _mv(call: Invocation) -> Result:
    _, paths = _split(call.args)
    if len(paths) != 2:
        return Result(1, err="mv: missing file operand\n")
    old, new = paths
    if not _exists(call.facts, old):
        return Result(1, err=f"mv: cannot stat '{old}': {NO_SUCH}\n")
    return _each(
        [old], lambda path: _files(call.facts).rename(path, new), f"mv: cannot move '{{path}}' to '{new}': {{why}}"
    )


@command("touch")
def _touch(call: Invocation) -> Result:
    _, paths = _split(call.args)
    mode = 0o666 & ~call.umask

    def touch(path: str) -> None:
        if not _is_folder(call.facts, path):
            _files(call.facts).write(path, "", mode, append=True)

    return _each(paths, touch, "touch: cannot touch '{path}': {why}")


@command("sync")
def _sync(call: Invocation) -> Result:
    _, paths = _split(call.args)
    if not paths:
        _files(call.facts).disk.sync_all()
        return Result()

    def sync(path: str) -> None:
        if not given.is_folder(call.facts, path):
            _files(call.facts).sync(path)

    return _each(paths, sync, "sync: error opening '{path}': {why}")


@command("ls")
def _ls(call: Invocation) -> Result:
    letters, paths = _split(call.args)
    out, err = "", ""
    for path in paths or ["/root"]:
        if not _exists(call.facts, path):
            err += f"ls: cannot access '{path}': {NO_SUCH}\n"
        elif "d" in letters or not _is_folder(call.facts, path):
            out += f"{path}\n"
        else:
            names = [n for n in _files(call.facts).names(path) if letters & {"a", "A"} or not n.startswith(".")]
            out += "".join(f"{name}\n" for name in names)
    return Result(2 if err else 0, out, err)


@command("chmod")
def _chmod(call: Invocation) -> Result:
    mode, *paths = [arg for arg in call.args if not arg.startswith("-")] or ["0"]
    if not re.fullmatch(r"[0-7]{3,4}", mode):
        return Result(1, err=f"chmod: invalid mode: ‘{mode}’\n")

    def change(path: str) -> None:
        _files(call.facts).change_mode(path, int(mode, 8))

    return _each(paths, change, "chmod: cannot access '{path}': {why}")


@command("stat")
def _stat(call: Invocation) -> Result:
    form = option(call.args, "-c", "--format")
    paths = [arg for at, arg in enumerate(call.args) if not arg.startswith("-") and call.args[at - 1] != "-c"]
    if form is None:
        return Result(1, err="stat: only -c FORMAT is understood\n")
    out, err = "", ""
    for path in paths:
        if not _exists(call.facts, path):
            err += f"stat: cannot statx '{path}': {NO_SUCH}\n"
            continue
        entry = _files(call.facts).find(path) or Entry(given.content(call.facts, path), 0o644)
        kind = "directory" if _is_folder(call.facts, path) else "regular file"
        values = {
            "a": f"{entry.mode:o}",
            "n": path,
            "s": str(len((entry.content or "").encode())),
            "F": kind,
            "U": "root",
        }
        out += re.sub(r"%(\w)", lambda part, values=values: values.get(part[1], "?"), form) + "\n"  # type: ignore[misc]
    return Result(1 if err else 0, out, err)


@command("test", "[")
def _test(call: Invocation) -> Result:
    args = [arg for arg in call.args if arg != "]"]
    wanted = True
    if args[:1] == ["!"]:
        args, wanted = args[1:], False
    facts = call.facts
    match args:
        case ["-d", path]:
            found = _is_folder(facts, path)
        case ["-f" | "-r" | "-w", path]:
            found = _exists(facts, path) and not _is_folder(facts, path)
        case ["-s", path]:
            found = _exists(facts, path) and (_is_folder(facts, path) or bool(_read(facts, path)))
        case ["-e", path]:
            found = _exists(facts, path)
        case ["-L" | "-h", path]:
            found = _files(facts).is_link(path)
        case ["-n", text]:
            found = bool(text)
        case ["-z", text]:
            found = not text
        case [_, _]:
            found = False
        case [left, "=" | "==", right]:
            found = left == right
        case [left, "!=", right]:
            found = left != right
        case _:
            return Result(2, err="bash: line 1: test: too many arguments\n")
    return Result(0 if found == wanted else 1)


@command("grep")
def _grep(call: Invocation) -> Result:
    flags = "".join(arg[1:] for arg in call.args if re.fullmatch(r"-[a-zA-Z]+", arg))
    rest = [arg for arg in call.args if not re.fullmatch(r"-[a-zA-Z]+|--", arg)]
    if not rest:
        return Result(2, err="Usage: grep [OPTION]... PATTERNS [FILE]...\n")
    text = "" if rest[1:] else call.input
    for path in rest[1:]:
        try:
            text += _read(call.facts, path)
        except FileTrouble as trouble:
            return Result(2, err="" if "s" in flags else f"grep: {path}: {trouble}\n")
    pattern = re.escape(rest[0]) if "F" in flags else rest[0]
    matcher = re.compile(pattern, re.IGNORECASE if "i" in flags else 0)
    lines = [line for line in text.splitlines() if bool(matcher.search(line)) != ("v" in flags)]
    if "q" in flags:
        out = ""
    elif "c" in flags:
        out = f"{len(lines)}\n"
    else:
        out = "".join(f"{line}\n" for line in lines)
    return Result(0 if lines else 1, out)
