"""A guest that was restored beside another: how far it is, whether it is kept apart, and whether it is that guest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_pveha.clock import Instant
from pytest_pveha.errors import NotMet, PreflightRefused, SiteError
from pytest_pveha.handles import guest_process
from pytest_pveha.handles.agent import AgentAway
from pytest_pveha.handles.backups import Backup
from pytest_pveha.handles.guest import Guest
from pytest_pveha.handles.isolation import addresses, hazards, open_links
from pytest_pveha.observe.answer import Answer, Condition, no, yes
from pytest_pveha.observe.observer import READ, Observer

_DISK = re.compile(r"(?:scsi|virtio|sata|ide|mp)\d+|rootfs")
_LAST_WORDS = re.compile(r"TASK|.*NOT cleaned up")
_REFUSED = frozenset({"lxc"})


@dataclass(frozen=True, slots=True)
class Original:
    """The guest as it was before its copy was made: its configuration's digest, its process and its disks."""

    node: str
    digest: str
    process: int
    disks: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy under way, or made."""

    sid: str
    node: str
    of: Guest
    tag: str
    since: int
    original: Original
    file: str = ""
    """The file whose checksum tells the guest; empty where none is declared."""


def original(observer: Observer, guest: Guest) -> Original:
    """The guest as it is now. SiteError where it cannot be seen whole."""
    site, deadline = observer.site, observer.site.clock.deadline
    rows = site.cluster.guests(deadline(READ))
    if guest.sid not in rows:
        raise SiteError(f"{guest.sid} is not there")
    node = rows[guest.sid].node
    settings = site.copies.settings(guest.sid, node, deadline(READ))
    if settings is None:
        raise SiteError(f"{guest.sid} has no configuration on {node}")
    disks = {
        key: value for key, value in settings.items() if re.fullmatch(r"(?:scsi|virtio|sata|ide|mp)\d+|rootfs", key)
    }
    pid = guest_process.pid(site.nodes[node], guest.sid, deadline(READ))
    return Original(node, settings.get("digest", ""), pid, disks)


def age(observer: Observer, backup: Backup) -> tuple[float, float]:
    """How old that backup is: seconds, at least and at most, whichever node's clock it was stamped by.

    Stamps are whole seconds.
    """
    site, clock = observer.site, observer.site.clock
    asked: Instant = clock.now()
    offsets = [node.clock_offset(clock.deadline(READ)) for node in site.nodes]
    answered = clock.now()
    behind, ahead = min(one.offset - one.error for one in offsets), max(one.offset + one.error for one in offsets)
    return asked.utc / 1e9 - (backup.taken + 1 - behind), answered.utc / 1e9 - (backup.taken - ahead)


# --- conditions ------------------------------------------------------------------------------------------------------


def restored(copy: Copy) -> Condition:
    """Its restore has ended well. NotMet at once where it has failed."""

    def ask(observer: Observer) -> Answer:
        site, deadline = observer.site, observer.site.clock.deadline
        tasks = site.copies.restores(copy.sid, copy.node, copy.since, deadline(READ))
        if not tasks:
            return no(f"no restore to {copy.sid} is there on {copy.node}")
        last = tasks[0]
        if last.ended == "OK" or last.ended.startswith("WARNINGS"):
            return yes(f"the restore to {copy.sid} ended {last.ended}")
        log = site.copies.log(last.upid, copy.node, deadline(READ))
        told = next((line for line in reversed(log) if line and not line.startswith("TASK ERROR")), "")
        if last.running:
            return no(f"the restore to {copy.sid} runs: {told[:100]}")
        why = next(
            (line for line in reversed(log) if "NOT cleaned up" not in line and not line.startswith("TASK")), told
        )
        raise NotMet(f"the restore to {copy.sid} failed: {last.ended[:200]}: {why[:200]}", f"{last.ended}: {why}"[:400])

    return Condition(f"{copy.of.sid} is restored", ask)


def unlocked(copy: Copy) -> Condition:
    """Nothing holds it any more, so that it can be started."""

    def ask(observer: Observer) -> Answer:
        settings = observer.site.copies.settings(copy.sid, copy.node, observer.site.clock.deadline(READ))
        if settings is None:
            return no(f"{copy.sid} is not there")
        lock = settings.get("lock", "")
        return no(f"{copy.sid} is locked ({lock})") if lock else yes(f"{copy.sid} is not locked")

    return Condition(f"the copy of {copy.of.sid} is not locked", ask)


def runs(copy: Copy) -> Condition:
    """Its process is there."""

    def ask(observer: Observer) -> Answer:
        ages = observer.site.nodes[copy.node].processes(observer.site.clock.deadline(READ)).ages
        if copy.sid in ages:
            return yes(f"{copy.sid} runs on {copy.node}")
        return no(f"no process of {copy.sid} on {copy.node}")

    return Condition(f"the copy of {copy.of.sid} runs", ask)


def answers_inside(copy: Copy) -> Condition:
    """Somebody answers inside of it: a VM's agent, a container's shell. Its links are down, so nobody else can."""

    def ask(observer: Observer) -> Answer:
        try:
            observer.site.inside(copy.sid, copy.node).ping(observer.site.clock.deadline(READ))
        except AgentAway as away:
            return no(str(away))
        return yes(f"{copy.sid} answers inside")

    return Condition(f"the copy of {copy.of.sid} answers inside", ask)


# --- kept apart ------------------------------------------------------------------------------------------------------


def keep_apart(observer: Observer, copy: Copy) -> None:
    """The copy reaches nothing beyond itself, and is seen not to.

    Raises:
        PreflightRefused: it would; it is not to be started.
    """
    site, deadline = observer.site, observer.site.clock.deadline
    settings = settings_of(observer, copy)
    if drop := hazards(settings):
        if refused := [key for key in drop if key.partition(".")[0] in _REFUSED]:
            raise PreflightRefused(f"{copy.sid} has {', '.join(refused)}, which no tool takes away; it is not started")
        site.copies.drop(copy.sid, site.nodes[copy.node], tuple(drop), deadline(READ))
        settings = settings_of(observer, copy)
    if trouble := reaches(observer, copy, settings):
        raise PreflightRefused(f"{copy.sid} is not started, for it would not be kept apart: {'; '.join(trouble)}")


def reaches(observer: Observer, copy: Copy, settings: Mapping[str, str]) -> list[str]:
    """What of the copy reaches beyond itself; nothing where it is kept apart."""
    site, deadline = observer.site, observer.site.clock.deadline
    theirs = site.copies.settings(copy.of.sid, copy.original.node, deadline(READ)) or {}
    found = [f"{card} is up" for card in open_links(settings)]
    found += [f"{key} is set" for key in hazards(settings)]
    found += [f"it starts at boot ({settings['onboot']})"] if settings.get("onboot", "0") != "0" else []
    found += [f"the address {mac} is the original's" for mac in sorted(addresses(settings) & addresses(theirs))]
    if copy.tag not in re.split(r"[;, ]", settings.get("tags", "")):
        found.append(f"our tag is not on it ({settings.get('tags', 'none')})")
    if "smbios1" in settings and settings["smbios1"] == theirs.get("smbios1"):
        found.append("its UUID is the original's")
    if copy.sid in site.cluster.ha_rules(deadline(READ)).resources:
        found.append("HA manages it")
    return found


def settings_of(observer: Observer, copy: Copy) -> dict[str, str]:
    """The copy's configuration as it is now."""
    settings = observer.site.copies.settings(copy.sid, copy.node, observer.site.clock.deadline(READ))
    if settings is None:
        raise SiteError(f"{copy.sid} is not there on {copy.node}")
    return settings
