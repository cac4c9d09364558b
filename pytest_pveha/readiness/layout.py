"""Whether a site in two rooms is laid out so that one room, one switch or one UPS may be lost: asked, not tried.

Most of it no cluster knows of itself: the inventory says it. What it does not say is "can't tell".
Sources: corosync-qdevice(8), votequorum(5); Ceph, stretch mode; qemu-server, QemuServer.pm (cores of a VM and of its
node).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.readiness.check import Check

MEMORY_SHARE = 0.9
"""Share of a survivor's memory that guests may have: the rest is the hypervisor's own."""

PRODUCTION = ("corosync", "guest", "ceph_public", "ceph_cluster", "migration")
"""What the networks' names begin with that carry the site."""


def _votes(observer: Observer) -> Answer:
    """By the votes each room may be lost, and the quorum device too."""
    site, layout = observer.site, observer.site.layout
    votes = site.cluster.votes(site.clock.deadline(READ))
    nodes = sum(votes.values())
    told = [node.votes(site.clock.deadline(READ)).expected for node in site.nodes]
    expected, device = max(told), max(told) - nodes
    needed = expected // 2 + 1
    rooms = {room: sum(votes.get(name, 0) for name in names) for room, names in layout.rooms.items()}
    short = [
        f"without {room} {expected} − {lost} = {expected - lost} votes are left"
        for room, lost in rooms.items()
        if expected - lost < needed
    ]
    if nodes < needed:
        short.append(f"without the quorum device {expected} − {device} = {nodes} votes are left")
    counted = ", ".join(f"{room} {count}" for room, count in rooms.items())
    if short:
        return no(f"{'; '.join(short)}, and {needed} of {expected} are needed ({counted}, quorum device {device})")
    return yes(f"{counted}, quorum device {device}: of {expected} votes {needed} are needed, and each may be lost")


def _tiebreaker(observer: Observer) -> Answer:
    """The quorum device, or a node that is the tiebreaker, stands in a third room."""
    layout = observer.site.layout
    if not layout.device and (third := layout.arbiter_room):
        return yes(f"{_list(layout.rooms[third])} is the tiebreaker, in {third}")
    if not layout.device:
        return no(f"nobody outside of {_list(layout.rooms)} has a vote: the inventory has no quorum_device")
    if not layout.device_room:
        return cant_tell("where the quorum device stands is not said; add quorum_device.room")
    if layout.device_room in layout.rooms:
        room = layout.device_room
        return no(
            f"the quorum device stands in {room}: with that room its {len(layout.rooms[room])} nodes and the device "
            f"are lost together, and who is left is no majority"
        )
    return yes(f"the quorum device stands in {layout.device_room}, the nodes in {_list(layout.rooms)}")


def _arbiters(observer: Observer) -> Answer:
    """Ceph's tiebreaker stands where corosync's does: else each may decide for another room."""
    layout = observer.site.layout
    if not observer.site.has_ceph:
        return yes("no Ceph is in scope: corosync decides alone")
    if not layout.ceph_tiebreaker:
        return no("Ceph is in scope and has no tiebreaker; add ceph.stretch_tiebreaker")
    here = layout.arbiter_room
    if not (layout.ceph_room and here):
        return cant_tell("where the two tiebreakers stand is not said; add ceph.tiebreaker_room and quorum_device.room")
    what = "the quorum device" if layout.device else "corosync's tiebreaker node"
    if layout.ceph_room != here:
        return no(
            f"mon {layout.ceph_tiebreaker} stands in {layout.ceph_room}, {what} in {here}: "
            f"when one of the two ways is cut as well, Ceph goes on in one room and corosync in the other"
        )
    return yes(f"mon {layout.ceph_tiebreaker} and {what} both stand in {here}")


def _bmcs(observer: Observer) -> Answer:
    """The BMCs do not go over the switches of production alone: else the way to fence dies with them."""
    layout = observer.site.layout
    own = layout.switches.get("bmc", ())
    if not own:
        return cant_tell("over which switch the BMCs go is not said; add networks.bmc.switch")
    carries: dict[str, list[str]] = {}
    for network, switches in layout.switches.items():
        for switch in switches if network.startswith(PRODUCTION) else ():
            carries.setdefault(switch, []).append(network)
    if not carries:
        return cant_tell("over which switches the other networks go is not said; add networks.….switch")
    shared = [switch for switch in own if switch in carries]
    if len(shared) == len(own):
        told = "; ".join(f"{switch} carries {', '.join(carries[switch])}" for switch in shared)
        return no(
            f"the BMCs go over {_list(own)}, {len(shared)} of {len(own)} of which production uses too ({told}): "
            f"when it fails no node can be fenced by its BMC"
        )
    return yes(f"the BMCs go over {_list(own)}, production over {_list(carries)}")


def _switches(observer: Observer) -> Answer:
    """Corosync has a link over another switch, whichever is lost."""
    layout = observer.site.layout
    links = {name: over for name, over in layout.switches.items() if name.startswith("corosync")}
    if unsaid := [name for name, over in links.items() if not over] or ([] if links else ["corosync0"]):
        return cant_tell(f"over which switch {', '.join(unsaid)} goes is not said; add networks.….switch")
    for switch in dict.fromkeys(one for over in links.values() for one in over):
        gone = [name for name, over in links.items() if over == (switch,)]
        if len(gone) == len(links):
            return no(
                f"{len(gone)} of {len(links)} corosync links go over {switch} alone: without it all nodes lose each "
                f"other"
            )
    return yes("; ".join(f"{name} over {_list(over)}" for name, over in links.items()))


def _power(observer: Observer) -> Answer:
    """No UPS carries nodes of two rooms alone, nor both feeds of a node that has two."""
    layout = observer.site.layout
    if dark := [name for name in observer.site.nodes.names if not layout.feeds.get(name)]:
        return cant_tell(f"on which power feed {', '.join(dark)} hangs is not said; add nodes.….feed")
    feeds = dict.fromkeys(feed for each in layout.feeds.values() for feed in each)
    if unsaid := [feed for feed in feeds if feed not in layout.ups]:
        return cant_tell(f"what is behind {', '.join(unsaid)} is not said; add feeds.{unsaid[0]}.ups")
    behind = {name: {layout.ups[feed] for feed in each} for name, each in layout.feeds.items()}
    found = [
        f"{name} has {len(layout.feeds[name])} feeds ({_list(layout.feeds[name])}), all behind {next(iter(ups))}"
        for name, ups in behind.items()
        if len(layout.feeds[name]) > 1 and len(ups) == 1
    ]
    for ups in dict.fromkeys(layout.ups[feed] for feed in feeds):
        lost = [name for name, each in behind.items() if each == {ups}]
        rooms = {layout.room_of(name) for name in lost}
        if len(rooms) > 1:
            found.append(
                f"{ups} alone carries {len(lost)} of {len(behind)} nodes, in {len(rooms)} rooms: "
                f"{', '.join(f'{name} ({layout.room_of(name)})' for name in lost)}"
            )
    if found:
        return no("; ".join(found))
    return yes("; ".join(f"{name}: {_list(sorted(ups))}" for name, ups in behind.items()))


def _fits(observer: Observer) -> Answer:
    """Each room has memory, and processors, for the HA guests of the other."""
    site, layout, deadline = observer.site, observer.site.layout, observer.site.clock.deadline
    memory = site.cluster.memory(deadline(READ))
    guests = site.cluster.guests(deadline(READ))
    managed = site.cluster.ha_rules(deadline(READ)).resources
    cores = site.cluster.processors(deadline(READ))
    if absent := [name for name in site.nodes.names if name not in memory]:
        return cant_tell(f"{', '.join(absent)} does not say its memory")
    told = []
    for room, lost in layout.rooms.items():
        free = {
            name: max(0, round(total * MEMORY_SHARE) - used)
            for name, (total, used) in memory.items()
            if name not in lost
        }
        coming = [row for sid, row in guests.items() if row.node in lost and sid in managed and row.status == "running"]
        needed = sum(row.memory for row in coming)
        if problem := _unplaced(free, {row.sid: row.memory for row in coming}):
            return no(
                f"without {room} its {len(coming)} HA guests need {_gib(needed)}, and {_gib(sum(free.values()))} are "
                f"free ({MEMORY_SHARE:.0%} of {_list(free)} less what is used): {problem}"
            )
        most = max((cores.get(name, 0) for name in free), default=0)
        if wide := [f"{row.sid} ({cores[row.sid]})" for row in coming if cores.get(row.sid, 0) > most > 0]:
            return no(
                f"without {room} no node has the processors of {', '.join(wide)}: at most {most}, so it cannot start"
            )
        told.append(f"without {room} {_gib(needed)} of {_gib(sum(free.values()))} free")
    return yes("; ".join(told))


def _unplaced(free: Mapping[str, int], guests: Mapping[str, int]) -> str:
    """Largest first, each where most room is: the first guest that fits nowhere, in words; empty if all do."""
    left = dict(free)
    for sid, size in sorted(guests.items(), key=lambda one: (-one[1], one[0])):
        best = max(left, key=lambda name: left[name], default=None)
        if best is None or size > left[best]:
            room = ", ".join(f"{name} {_gib(size)}" for name, size in left.items())
            return f"largest first, {sid} ({_gib(size)}) fits nowhere any more: {room or 'nobody'} left"
        left[best] -= size
    return ""


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


ROOMS = (
    Check("votes", "By the votes either room may be lost, and the tiebreaker too", "even the rooms' votes", _votes),
    Check("tiebreaker", "The tiebreaker stands in neither room", "move qnetd to a third place", _tiebreaker),
    Check("arbiters", "Ceph's tiebreaker stands where corosync's does", "move one of them", _arbiters),
    Check("bmc-switch", "The BMCs have a switch that is not production's", "give the BMCs a switch", _bmcs),
    Check("ring-switch", "No switch carries all corosync links", "move a link to another switch", _switches),
    Check("power", "No UPS carries nodes of both rooms alone", "move a feed to another UPS", _power),
    Check("room-fits", "Each room has room for the other's HA guests", "add memory, or stop guests", _fits),
)
"""What a site in two rooms must be. No part of the gate: a site that lacks it may still be tested for all else."""
