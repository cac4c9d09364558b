"""What a node has written: its own disk, what lives in memory, and the cluster file system.

A disk keeps over a power loss what was synced, renamed, or old enough to have been written back; /run and /tmp keep
nothing over a boot. /etc/pve is shared: it is written with quorum alone, and read without it as it was last seen.
Sources: ext4(5), commit; Linux Documentation/admin-guide/sysctl/vm.rst, dirty_expire_centisecs; a PVE 9.1.9 control
plane (``mkdir`` from two nodes at once, writes without quorum).
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND

if TYPE_CHECKING:
    from pytest_pveha.sim.world.model import Node
    from pytest_pveha.sim.world.world import World

_COMMIT = 5 * SECOND
"""Names, folders and links are on the disk that much later without being synced."""
_WRITE_BACK = 30 * SECOND
"""So is the content of a file."""
_ON_DISK = (
    "/",
    "/etc",
    "/etc/systemd",
    "/etc/systemd/system",
    "/etc/systemd/system/timers.target.wants",
    "/root",
    "/var",
    "/var/lib",
    "/var/tmp",
)
_IN_MEMORY = ("/run", "/run/systemd", "/run/systemd/system", "/tmp")
_CLUSTER = ("/etc/pve", "/etc/pve/ha", "/etc/pve/local", "/etc/pve/nodes", "/etc/pve/priv", "/etc/pve/priv/lock")
NO_SUCH = "No such file or directory"
EXISTS = "File exists"
IS_FOLDER = "Is a directory"
NO_FOLDER = "Not a directory"
NOT_EMPTY = "Directory not empty"
DENIED = "Permission denied"
READ_ONLY = "Read-only file system"


class FileTrouble(Exception):
    """A file cannot be read or changed; the message is the kernel's, such as ``No such file or directory``."""


class Stalled(Exception):
    """The cluster file system waits for a new membership: try again a little later."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, a folder (``content`` is None) or a symbolic link (``link`` is where it leads)."""

    content: str | None = None
    mode: int = 0o755
    link: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.content is None and not self.link


class Tree:
    """Names and what they stand for. ``entries`` is the store itself, changed in place."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        self.entries = entries

    def find(self, path: str) -> Entry | None:
        """What has that name, links followed; None if nothing has, or a link leads nowhere."""
        for _ in range(8):
            entry = self.entries.get(path)
            if entry is None or not entry.link:
                return entry
            path = entry.link
        return None

    def names(self, path: str) -> list[str]:
        """What lies in that folder, sorted."""
        within = path.rstrip("/") + "/"
        return sorted(p[len(within) :] for p in self.entries if p.startswith(within) and "/" not in p[len(within) :])

    def put(self, path: str, entry: Entry) -> None:
        """That name now stands for that; its folder must be there."""
        parent = self.find(_parent(path))
        if parent is None:
            raise FileTrouble(NO_SUCH)
        if not parent.is_folder:
            raise FileTrouble(NO_FOLDER)
        self.entries[path] = entry

    def remove(self, path: str) -> None:
        """That name stands for nothing any more; a folder must be empty."""
        if path not in self.entries:
            raise FileTrouble(NO_SUCH)
        if self.names(path):
            raise FileTrouble(NOT_EMPTY)
        del self.entries[path]

    def rename(self, old: str, new: str) -> None:
        """What had the one name, and all below it, has the other."""
        moved = {p: e for p, e in self.entries.items() if p == old or p.startswith(f"{old}/")}
        if not moved:
            raise FileTrouble(NO_SUCH)
        self.put(new, moved[old])
        for path, entry in moved.items():
            del self.entries[path]
            self.entries[new + path[len(old) :]] = entry


class Disk(Tree):
    """A tree that survives power losses, but for what was changed in the last seconds."""

    def __init__(self, world: World) -> None:
        super().__init__({path: Entry() for path in _ON_DISK})
        self._world = world
        self._safe = dict(self.entries)
        self._changed: dict[str, int] = {}

    def put(self, path: str, entry: Entry) -> None:
        """See Tree; not yet safe from a power loss."""
        super().put(path, entry)
        self._changed[path] = self._world.timeline.now

    def remove(self, path: str) -> None:
        """See Tree; not yet safe from a power loss."""
        super().remove(path)
        self._changed[path] = self._world.timeline.now

    def rename(self, old: str, new: str) -> None:
        """See Tree; a file renamed over another is written before."""
        super().rename(old, new)
        for path in [
            p for p in {*self.entries, *self._safe} if p in (old, new) or p.startswith((f"{old}/", f"{new}/"))
        ]:
            self._keep(path)

    def sync(self, path: str) -> None:
        """That file's content, or that folder's names, survive a power loss."""
        entry = self.find(path)
        if entry is None:
            raise FileTrouble(NO_SUCH)
        for one in (path, *_above(path)):
            self._keep(one)
        if entry.is_folder:
            for child in {p for p in {*self.entries, *self._safe} if _parent(p) == path}:
                self._keep_name(child)

    def _keep_name(self, path: str) -> None:
        entry = self.entries.get(path)
        if entry is None or entry.content is None or path not in self._changed:
            self._keep(path)
        elif path not in self._safe:
            self._safe[path] = Entry("", entry.mode)  # its name is safe, its content is not

    def sync_all(self) -> None:
        """Everything survives a power loss."""
        self._safe = dict(self.entries)
        self._changed.clear()

    def lose_power(self) -> None:
        """Only what was safe is left."""
        now = self._world.timeline.now
        for path, when in list(self._changed.items()):
            entry = self.entries.get(path)
            if now - when >= (_COMMIT if entry is None or entry.content is None else _WRITE_BACK):
                self._keep(path)
        self.entries.clear()
        self.entries.update(self._safe)
        self._changed.clear()

    def _keep(self, path: str) -> None:
        self._changed.pop(path, None)
        if path in self.entries:
            self._safe[path] = self.entries[path]
        else:
            self._safe.pop(path, None)


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _above(path: str) -> list[str]:
    """The folders that a path lies in."""
    found = []
    while path != "/":
        path = _parent(path)
        found.append(path)
    return found


class NodeFiles:
    """All that one node sees below ``/``, as far as somebody wrote it."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self.disk = Disk(world)
        self._memory = Tree({})
        self.boot()

    @property
    def _node(self) -> Node:
        return self._world.nodes[self._name]

    def boot(self) -> None:
        """What lived in memory is gone."""
        self._memory = Tree({path: Entry() for path in _IN_MEMORY})

    def find(self, path: str) -> Entry | None:
        """What has that name; None if nothing has."""
        return self._tree(path).find(_plain(path))

    def is_link(self, path: str) -> bool:
        """Whether that name is a symbolic link, wherever it leads."""
        entry = self._tree(path).entries.get(_plain(path))
        return entry is not None and bool(entry.link)

    def names(self, path: str) -> list[str]:
        """What lies in that folder, sorted."""
        return self._tree(path).names(_plain(path))

    def read(self, path: str) -> str:
        """That file's content."""
        entry = self.find(path)
        if entry is None:
            raise FileTrouble(NO_SUCH)
        if entry.content is None:
            raise FileTrouble(IS_FOLDER)
        return entry.content

    def write(self, path: str, text: str, mode: int = 0o644, *, append: bool = False) -> None:
        """The file is there with that content, or with it at its end; an older file keeps its mode."""
        old = self.find(path)
        if old is not None and old.is_folder:
            raise FileTrouble(IS_FOLDER)
        before = (old.content or "") if old else ""
        self._writable(path).put(_plain(path), Entry((before if append else "") + text, old.mode if old else mode))

    def change_mode(self, path: str, mode: int) -> None:
        """What has that name may be used as ``mode`` says."""
        entry = self.find(path)
        if entry is None:
            raise FileTrouble(NO_SUCH)
        self._writable(path).put(_plain(path), replace(entry, mode=mode))

    def link(self, path: str, target: str) -> None:
        """A symbolic link of that name leads to ``target``."""
        self._writable(path).put(_plain(path), Entry(link=target))

    def make_folder(self, path: str, mode: int = 0o755, *, parents: bool = False) -> None:
        """The folder is there; with ``parents`` it may have been, and those above it need not."""
        path = _plain(path)
        if parents:
            for one in reversed(_above(path)):
                if self.find(one) is None:
                    self._writable(one).put(one, Entry())
        old = self.find(path)
        if old is None:
            self._writable(path).put(path, Entry(mode=mode))
        elif not (parents and old.is_folder):
            raise FileTrouble(EXISTS)

    def remove(self, path: str, *, recursive: bool = False) -> None:
        """Nothing has that name any more; a folder goes with all below it if ``recursive``, else not at all."""
        path = _plain(path)
        tree = self._writable(path)
        entry = tree.entries.get(path)
        if entry is None:
            raise FileTrouble(NO_SUCH)
        if entry.is_folder and not recursive:
            raise FileTrouble(IS_FOLDER)
        for one in sorted((p for p in tree.entries if p.startswith(f"{path}/")), reverse=True):
            tree.remove(one)
        tree.remove(path)

    def remove_folder(self, path: str) -> None:
        """The folder, which was empty, is gone."""
        path = _plain(path)
        entry = self._writable(path).entries.get(path)
        if entry is not None and not entry.is_folder:
            raise FileTrouble(NO_FOLDER)
        self._writable(path).remove(path)

    def rename(self, old: str, new: str) -> None:
        """What had the old name has the new one; atomic where both are of one file system."""
        old, new = _plain(old), _plain(new)
        entry = self.find(new)
        if entry is not None and entry.is_folder:
            new = f"{new}/{old.rpartition('/')[2]}"
        if self._tree(old) is self._tree(new) or (_in_cluster(old) and _in_cluster(new)):
            self._writable(new).rename(old, new)
        else:
            self.write(new, self.read(old))
            self.remove(old)

    def leads_nowhere(self, path: str) -> bool:
        """Whether that is a link to /dev/null: what it is called has been switched off."""
        entry = self._tree(path).entries.get(_plain(path))
        return entry is not None and entry.link == "/dev/null"

    def sync(self, path: str) -> None:
        """What has that name survives a power loss."""
        tree = self._tree(path)
        if isinstance(tree, Disk):
            tree.sync(_plain(path))
        elif tree.find(_plain(path)) is None:
            raise FileTrouble(NO_SUCH)

    def _tree(self, path: str) -> Tree:
        path = _plain(path)
        if _in_cluster(path):
            if self._node.cfs_started is None:
                return Tree({"/etc/pve": Entry()})  # not mounted
            seen = self._node.frozen
            shared = self._world.pmxcfs.store.files if seen is None else seen.files
            return Tree(shared | {each: Entry() for each in _CLUSTER})
        if any(path == top or path.startswith(f"{top}/") for top in ("/run", "/tmp")):
            return self._memory
        return self.disk

    def _writable(self, path: str) -> Tree:
        path = _plain(path)
        if _in_cluster(path):
            if self._node.cfs_started is None:
                raise FileTrouble(NO_SUCH)
            if self._node.syncing:
                raise Stalled
            if not (self._world.quorate(self._node) or self._world.planted("writable-without-quorum")):
                raise FileTrouble(DENIED)
            store = self._world.pmxcfs.store.files
            for each in _CLUSTER:
                store.setdefault(each, Entry())
            return Tree(store)
        tree = self._tree(path)
        full = self._world.planted("undo-store-read-only") and self._name == max(self._world.nodes)
        if full and tree is self.disk and path.startswith("/var/"):
            raise FileTrouble(READ_ONLY)
        return tree


def _plain(path: str) -> str:
    """The path without what changes nothing: double slashes, dots, a slash at the end."""
    return posixpath.normpath(f"/{path}").replace("//", "/")


def _in_cluster(path: str) -> bool:
    return path == "/etc/pve" or path.startswith("/etc/pve/")
