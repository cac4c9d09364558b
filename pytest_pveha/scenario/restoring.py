"""What is restored, to which number, where: chosen now, and on record."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults.copies import EARLIER, GuestRestored
from pytest_pveha.handles.backups import Backup, Backups
from pytest_pveha.handles.guest import Guest
from pytest_pveha.handles.isolation import hazards, isolated
from pytest_pveha.inventory.storage import Restore
from pytest_pveha.observe.copies import Copy, Original, age, original
from pytest_pveha.observe.observer import READ, Observer

MIB = 1 << 20
_LEAST = 512 * MIB
"""Memory of a guest whose configuration does not say it (qm.conf(5), pct.conf(5))."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A restore that is to be made."""

    guest: Guest
    backup: Backup
    copy_sid: str
    node: str
    terms: Restore
    original: Original
    settings: dict[str, str]
    """The configuration in the backup."""

    def copy(self, fault: GuestRestored) -> Copy:
        """What that fault makes."""
        file = self.terms.checksum_file or ""
        return Copy(self.copy_sid, self.node, self.guest, fault.tag, fault.since, self.original, file)


def chosen(observer: Observer, guest: Guest) -> Choice:
    """The guest's newest backup, a free number, and a node with room; the backup's age is on record.

    Raises:
        PreflightRefused: there is no backup, no free number, or nobody can say.
    """
    site, deadline = observer.site, observer.site.clock.deadline
    if site.backups is None or (terms := site.backups.block.restore) is None:
        raise PreflightRefused("the inventory has no block backup.restore, so nothing is restored")
    try:
        before = original(observer, guest)
        backup = _newest(observer, site.backups, guest, before.node)
        node = terms.node or _roomiest(observer)
        settings = _settings(observer, site.backups, backup, node)
        used = {int(sid.partition(":")[2]) for sid in site.cluster.guests(deadline(READ))}
        first, last = terms.ids
        free = (number for number in range(first, last + 1) if number not in used)
        number = next((one for one in free if site.copies.free(one, deadline(READ))), None)
    except SiteError as error:
        raise PreflightRefused(f"what would be restored cannot be told, so nothing was made: {error}") from error
    if number is None:
        raise PreflightRefused(f"no number from {first} to {last} is free; widen backup.restore.ids")
    return Choice(guest, backup, f"{guest.sid.partition(':')[0]}:{number}", node, terms, before, settings)


def planned(observer: Observer, choice: Choice, tag: str, *, live: bool) -> GuestRestored:
    """The fault that makes the copy, under that tag.

    Raises:
        PreflightRefused: it would run before it could be kept apart.
    """
    site = observer.site
    if live and (found := hazards(choice.settings)):
        raise PreflightRefused(
            f"the backup of {choice.guest.sid} has {', '.join(found)}: a live restore would start it with them; "
            f"it is not made"
        )
    offset = site.nodes[choice.node].clock_offset(site.clock.deadline(READ))
    return GuestRestored(
        choice.guest.sid,
        choice.copy_sid,
        choice.node,
        choice.terms.storage,
        choice.backup.volume,
        choice.backup.size,
        _memory(choice.settings),
        tag,
        site.copies.user,
        int(site.clock.now().utc / SECOND + offset.offset - offset.error) - EARLIER,
        tuple(sorted(isolated(choice.settings, tag).items())),
        live,
    )


def _newest(observer: Observer, backups: Backups, guest: Guest, node: str) -> Backup:
    found = backups.of(guest.sid, node, observer.site.clock.deadline(READ))
    if not found:
        raise PreflightRefused(f"there is no backup of {guest.sid} on {backups.block.storage}; nothing can be restored")
    low, high = age(observer, found[0])
    data = {"guest": guest.sid, "volume": found[0].volume, "taken": found[0].taken, "least": low, "most": high}
    observer.write("backup", {**data, "size": found[0].size, "verification": found[0].verification})
    return found[0]


def _settings(observer: Observer, backups: Backups, backup: Backup, node: str) -> dict[str, str]:
    """The configuration in the backup; without the key it cannot be read, which the interlock says in its own words."""
    if backup.key and not backups.key_on(observer.site.nodes[node], observer.site.clock.deadline(READ)):
        return {}
    return backups.settings(backup, node, observer.site.clock.deadline(READ))


def _roomiest(observer: Observer) -> str:
    """The node of the inventory with the most free memory."""
    site = observer.site
    memory = site.cluster.memory(site.clock.deadline(READ))
    here = {name: total - used for name, (total, used) in memory.items() if name in site.nodes.names}
    if not here:
        raise SiteError("no node says how much memory is free")
    return max(sorted(here), key=lambda name: here[name])


def _memory(settings: dict[str, str]) -> int:
    told = settings.get("memory", "").rpartition("=")[2]
    return int(told) * MIB if told.isdecimal() else _LEAST
