"""A storage that one server serves to all nodes, with everything that hangs on that server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pytest_pveha.clock import Deadline
from pytest_pveha.errors import SiteError
from pytest_pveha.handles import storages
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.site import Site
from pytest_pveha.handles.storages import Defined, Path


@dataclass(frozen=True, slots=True)
class Served:
    """A storage, its server as every node's kernel has it, and whose disks lie behind that server."""

    name: str
    type: str
    servers: tuple[tuple[str, int], ...]
    """Addresses and ports."""
    guests: tuple[str, ...]
    """Running guests, HA or not, that have a disk or medium there."""
    gives_up: float | None
    """Seconds after which the first node fails requests; None: none ever does."""
    gives_up_by: str


def served(site: Site, name: str, deadline: Callable[[], Deadline]) -> Served:
    """That storage now. Other storages of the same server hang with it, so their guests count, too.

    Raises:
        SiteError: it is not there, not served, or a node does not say how it reaches it.
    """
    defined = site.storages.defined(deadline())
    if name not in defined:
        raise SiteError(f"the cluster has no storage {name}, or our token may not see it (Datastore.Audit)")
    having = [node for node in site.nodes if defined[name].on(node.name)]
    ways = {node.name: storages.paths(node, defined[name], deadline()) for node in having}
    servers = {(path.server, path.port) for paths in ways.values() for path in paths}
    behind = {name} | _behind(site.nodes, defined, {server for server, _ in servers}, ways, deadline)
    known = [(path, node) for node, paths in ways.items() for path in paths if path.gives_up is not None]
    first = min(known, key=lambda each: each[0].gives_up or 0.0, default=None)
    return Served(
        name,
        defined[name].type,
        tuple(sorted(servers)),
        _guests(site, behind, deadline),
        first[0].gives_up if first else None,
        f"{first[1]} fails requests ({first[0].why})" if first else "no node fails requests",
    )


def _behind(
    nodes: Nodes,
    defined: Mapping[str, Defined],
    servers: set[str],
    ways: dict[str, tuple[Path, ...]],
    deadline: Callable[[], Deadline],
) -> set[str]:
    """The other storages that hang when those servers are silent; what they make the nodes wait is added to ways."""
    found = set()
    first = next(iter(nodes))
    mounted = {mount.target: mount for mount in storages.mounts(first.command(deadline(), "cat", "/proc/mounts"))}
    for one in defined.values():
        if one.type in storages.SERVED:
            paths = {node.name: storages.paths(node, one, deadline()) for node in nodes if one.on(node.name)}
            if any(path.server in servers for each in paths.values() for path in each):
                found.add(one.name)
                for name, each in paths.items():
                    known = ways.get(name, ())
                    ways[name] = (*known, *(path for path in each if path not in known))
        elif one.path:
            below = [at for at in mounted if one.path == at or one.path.startswith(f"{at.rstrip('/')}/")]
            mount = mounted[max(below, key=len)] if below else None
            if mount is not None and mount.option("addr") in servers:
                found.add(one.name)
    iscsi = any(defined[name].type == storages.ISCSI for name in found if name in defined)
    # LVM made by hand on a LUN names no base, and may lie there
    lvm = [one for one in defined.values() if one.type == "lvm"]
    return found | {one.name for one in lvm if one.base in found or (iscsi and one.shared)}


def _guests(site: Site, behind: Iterable[str], deadline: Callable[[], Deadline]) -> tuple[str, ...]:
    lying = []
    for sid, row in sorted(site.cluster.guests(deadline()).items()):
        if row.status != "stopped" and not row.template:
            drives = site.cluster.hardware(sid, row.node, deadline()).drives
            lying += [sid] * any(drive.storage in behind for drive in drives)
    return tuple(lying)
