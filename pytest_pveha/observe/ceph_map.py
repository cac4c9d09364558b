"""Ceph's maps, read by a node that answers; and what it is doing now."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from pytest_pveha.errors import ProtocolError, SiteError
from pytest_pveha.handles.ceph import shell
from pytest_pveha.handles.ceph.status import CephStatus
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.observer import Observer
from pytest_pveha.observe.what_if import CephMap

ASK = 15.0
"""Seconds for one question to Ceph's own tool."""

T = TypeVar("T")


def told_by(observer: Observer, ask: Callable[[Node], T], but: Iterable[str] = ()) -> T:
    """What the first node says that has an answer. SiteError where none has.

    Those named, those that were last seen not to be members, and those that had no answer when they were asked last
    are asked last: a dead node, and one that is cut off, takes its time.
    """
    avoided, mute = frozenset(but), observer.mute_of_ceph
    trouble = []
    for node in sorted(
        observer.site.nodes, key=lambda node: (_lost(observer, node), node.name in mute, node.name in avoided)
    ):
        try:
            found = ask(node)
        except SiteError as error:
            mute.add(node.name)
            trouble.append(str(error))
        else:
            mute.discard(node.name)
            return found
    raise SiteError(f"no node could say how Ceph is: {'; '.join(trouble)[:400]}")


def _lost(observer: Observer, node: Node) -> bool:
    return observer.last(f"membership/{node.name}") == "offline"


def read(observer: Observer, but: Iterable[str] = ()) -> CephMap:
    """The maps as they are now, all from one node.

    Raises:
        SiteError: no node answers, or what one answers does not fit together.
    """
    deadline = observer.site.clock.deadline

    def ask(node: Node) -> CephMap:
        found = CephMap(
            osd_map=shell.osd_map(node, deadline(ASK)),
            places=shell.places(node, deadline(ASK)),
            rules=shell.rules(node, deadline(ASK)),
            pgs=shell.pgs(node, deadline(ASK)),
            rooms=shell.rooms(node, deadline(ASK)),
            stored=shell.stored(node, deadline(ASK)),
        )
        if found.gaps:
            raise ProtocolError(f"node {node.name}: Ceph's maps do not fit together: {'; '.join(found.gaps)[:300]}")
        return found

    return told_by(observer, ask, but)


def status(observer: Observer, but: Iterable[str] = ()) -> CephStatus:
    """What Ceph says of itself now."""
    return told_by(observer, lambda node: shell.status(node, observer.site.clock.deadline(ASK)), but)
