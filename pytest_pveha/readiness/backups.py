"""What must hold of the backups before anybody relies on them. Asked by ``-m readiness``; no blocker of other tests."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from pytest_pveha.errors import SiteError
from pytest_pveha.handles.backups import Backup, Backups
from pytest_pveha.handles.guest import Guest
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.readiness.check import Check

HOUR = 3600.0
_RESOLVED = 10.0


def protected(observer: Observer) -> list[Guest]:
    """The guests of the inventory that must be backed up."""
    tiers = observer.site.backups.block.tiers if observer.site.backups is not None else ()
    return [guest for guest in observer.site.guests if not tiers or guest.tier in tiers]


def _recent(observer: Observer) -> Answer:
    backups, newest = _newest(observer)
    now = observer.site.clock.now().utc / 1e9
    old, missing = [], []
    for guest in protected(observer):
        if guest.sid not in newest:
            missing.append(guest.sid)
        elif (hours := (now - newest[guest.sid].taken) / HOUR) > backups.block.max_age / HOUR:
            old.append(f"{guest.sid} {hours:.1f} h")
    if old or missing:
        return no("; ".join([*(f"no backup of {sid}" for sid in missing), *old]))
    return yes(f"{len(protected(observer))} guests, none older than {backups.block.max_age / HOUR:g} h")


def _verified(observer: Observer) -> Answer:
    _, newest = _newest(observer)
    mine = [newest[guest.sid] for guest in protected(observer) if guest.sid in newest]
    wrong = [f"{one.sid} {one.verification or 'never verified'}" for one in mine if one.verification != "ok"]
    if not mine:
        return cant_tell("no backup of a protected guest is there")
    return no("; ".join(wrong)) if wrong else yes(f"the newest backups of {len(mine)} guests were verified")


def _key(observer: Observer) -> Answer:
    backups, newest = _newest(observer)
    if not any(one.key for one in newest.values()):
        return yes("no backup is encrypted, so none needs a key")
    without = [
        node.name for node in observer.site.nodes if not backups.key_on(node, observer.site.clock.deadline(READ))
    ]
    if without:
        return no(f"backups are encrypted, and there is no key on {', '.join(without)}")
    return yes("every node has the key; whether a copy is kept elsewhere only its keeper can say")


def _covered(observer: Observer) -> Answer:
    """Every guest that HA manages, in the inventory or not, has some backup."""
    _, newest = _newest(observer)
    managed = observer.site.cluster.ha_rules(observer.site.clock.deadline(READ)).resources
    bare = sorted(set(managed) - newest.keys())
    return no(f"no backup at all of {', '.join(bare)}") if bare else yes(f"{len(managed)} HA guests, each backed up")


def _outside(observer: Observer) -> Answer:
    """The backup server is none of the guests that it is to bring back: told by who has its address on the network."""
    site, deadline = observer.site, observer.site.clock.deadline
    assert site.backups is not None
    server = site.backups.storage(deadline(READ)).get("server", "")
    guests = site.cluster.guests(deadline(READ))
    named = sorted(sid for sid, row in guests.items() if row.name and row.name == server.partition(".")[0])
    macs = site.cluster.guest_identities(deadline(READ), guests)
    seen: set[str] = set()
    for node in site.nodes:
        seen |= _neighbour(observer, node.name, server)
    inside = sorted({macs[mac] for mac in seen if mac in macs} | set(named))
    if inside:
        return no(f"the backup server ({server}) is {', '.join(inside)}, a guest of this cluster: it goes with it")
    if seen:
        return yes(f"the backup server ({server}) is a machine that is no guest of this cluster")
    pbs = site.backups.block.pbs
    if pbs is not None and pbs.confirmed_outside:
        return yes(f"confirmed by {pbs.confirmed_outside}")
    return cant_tell(
        f"no node has {server or 'the backup server'} as a neighbour, so what it is cannot be seen; "
        f"find out, then set backup.pbs.confirmed_outside"
    )


def _neighbour(observer: Observer, node: str, server: str) -> set[str]:
    """The hardware addresses that the node's network has for the server (ip-neighbour(8))."""
    try:
        ip_address(server)
    except ValueError:
        return set()
    try:
        told = observer.site.nodes[node].command(
            observer.site.clock.deadline(_RESOLVED), "ip", "neigh", "show", "to", server
        )
    except SiteError:
        return set()
    words = told.split()
    return {words[at + 1].lower() for at, word in enumerate(words[:-1]) if word == "lladdr"}


def _newest(observer: Observer) -> tuple[Backups, dict[str, Backup]]:
    """Each guest's newest backup."""
    backups = observer.site.backups
    if backups is None:
        raise SiteError("the inventory has no block backup")
    found: dict[str, Backup] = {}
    for one in _every(observer, backups):
        found.setdefault(one.sid, one)
    return backups, found


def _every(observer: Observer, backups: Backups) -> Iterable[Backup]:
    """What the first node that answers lists."""
    trouble: SiteError | None = None
    for node in observer.site.nodes.names:
        try:
            return backups.every(node, observer.site.clock.deadline(READ))
        except SiteError as error:
            trouble = error
    raise trouble or SiteError("there is no node")


BACKUP_CHECKS = (
    Check("backups-recent", "Every protected guest has a recent backup", "look at the backup jobs' tasks", _recent),
    Check("backups-verified", "Every protected guest's newest backup was verified", "make a verify job", _verified),
    Check("restore-key", "The key of encrypted backups is there", "keep it off the cluster, too", _key),
    Check("ha-guests-backed-up", "No HA guest is without a backup", "add it to a backup job", _covered),
    Check("backup-server-outside", "The backup server is outside of what it protects", "move it out", _outside),
)


def server_agrees(observer: Observer) -> Answer:
    """The server itself has the newest backups that PVE shows, verified, and owned by the cluster's own user."""
    site = observer.site
    if site.pbs is None:
        return cant_tell("the inventory does not say how the backup server is asked; add backup.pbs")
    backups, newest = _newest(observer)
    owner = backups.storage(site.clock.deadline(READ)).get("username", "")
    there = {(one.sid, one.taken): one for one in site.pbs.snapshots(site.clock.deadline(READ))}
    wrong = []
    for guest in protected(observer):
        if (mine := newest.get(guest.sid)) is None:
            wrong.append(f"no backup of {guest.sid}")
            continue
        snapshot = there.get((mine.sid, mine.taken))
        if snapshot is None:
            wrong.append(f"{mine.volume} is not in datastore {site.pbs.datastore}")
            continue
        if snapshot.verification != "ok":
            wrong.append(f"{mine.sid}: {snapshot.verification or 'never verified'}")
        if owner and snapshot.owner != owner:
            wrong.append(f"{mine.sid} belongs to {snapshot.owner}, and the cluster asks as {owner}")
    return no("; ".join(wrong)) if wrong else yes(f"the newest backups of {len(protected(observer))} guests")


SERVER_CHECK = Check(
    "backup-server-agrees", "The backup server has what PVE shows, verified and owned", "compare both", server_agrees
)


def verified(guest: Guest) -> Check:
    """That this guest's newest backup was verified."""

    def ask(observer: Observer) -> Answer:
        _, newest = _newest(observer)
        if guest.sid not in newest:
            return no(f"there is no backup of {guest.sid}")
        word = newest[guest.sid].verification
        told = f"{newest[guest.sid].volume}: {word or 'never verified'}"
        return yes(told) if word == "ok" else no(told)

    return Check("backup-verified", "The newest backup was verified", "make a verify job", ask)
