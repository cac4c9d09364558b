"""The backup server's half of ``pveha check``: is it there, is it the right one, and is what it keeps fit to restore?

One line a finding. None of it keeps a destructive test from running, but for those that restore.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from pytest_pveha.cli.asked import Asked, asked
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.backups import Backups
from pytest_pveha.handles.guest import Guest
from pytest_pveha.handles.pbs import Pbs, Snapshot
from pytest_pveha.observe.answer import Answer, no, yes
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.readiness.backups import protected

FULL = 0.9
"""From this part of a datastore on, backups may soon fail: garbage collection itself needs room."""

AUDIT = "Datastore.Audit"
MAY_DESTROY = ("Datastore.Modify", "Datastore.Prune")
HOUR = 3600.0
GIB = 2**30


def ask_backups(observer: Observer) -> Iterator[Asked]:
    """One answer for each way to the backups, and one for each tier, or for each finding about it."""
    backups, pbs = observer.site.backups, observer.site.pbs
    if backups is None or pbs is None:  # check's warnings say what that leaves unasked
        return
    there = _asked(f"Backup server {pbs.address}", partial(_version, observer, pbs))
    yield there
    if there.verdict != "yes":
        return
    yield _asked(f"Datastore {pbs.datastore}", partial(_usage, observer, pbs))
    yield _asked(f"Our token on datastore {pbs.datastore}", partial(_rights, observer, pbs))
    yield _asked(f"Storage {backups.block.storage} of the cluster", partial(_same, observer, backups, pbs))
    yield from _tiers(observer, backups, pbs)


def _asked(what: str, ask: Callable[[], Answer]) -> Asked:
    return asked(what, ask, blocks=False)


def _version(observer: Observer, pbs: Pbs) -> Answer:
    version = pbs.version(observer.site.clock.deadline(READ))
    return yes(f"Proxmox Backup Server {version}, with the certificate that the inventory pins")


def _usage(observer: Observer, pbs: Pbs) -> Answer:
    try:
        total, used = pbs.usage(observer.site.clock.deadline(READ))
    except ProtocolError as error:
        if error.status in (400, 404):
            return no(f"{error}. Type `proxmox-backup-manager datastore list` there, and mend backup.pbs.datastore")
        raise
    told = f"{used / GIB:.0f} of {total / GIB:.0f} GiB used"
    if used > FULL * total:
        return no(f"{told}: it is nearly full, and the next backups may fail; prune, collect garbage, or add disks")
    return yes(told)


def _rights(observer: Observer, pbs: Pbs) -> Answer:
    held = pbs.rights(observer.site.clock.deadline(READ))
    if AUDIT not in held:
        told = ", ".join(sorted(held)) or "nothing"
        return no(
            f"it has {told} there, and {AUDIT} is needed to see others' backups; type there: proxmox-backup-manager "
            f"acl update /datastore/{pbs.datastore} DatastoreAudit --auth-id TOKEN, with backup.pbs.token_id for TOKEN"
        )
    if more := sorted(held.intersection(MAY_DESTROY)):
        return yes(f"{AUDIT}; and {', '.join(more)}, which nothing here needs: the role DatastoreAudit is enough")
    return yes(AUDIT)


def _same(observer: Observer, backups: Backups, pbs: Pbs) -> Answer:
    """The cluster writes its backups where the inventory has them looked for."""
    told = backups.storage(observer.site.clock.deadline(READ))
    if told.get("type") != "pbs":
        return no(f"it is of type {told.get('type', 'unknown')}, not pbs; mend backup.storage")
    declared = {"datastore": pbs.datastore, "namespace": pbs.namespace}
    other = [
        f"{key} {told.get(key) or 'none'} in the cluster, {value or 'none'} in the inventory"
        for key, value in declared.items()
        if told.get(key, "") != value
    ]
    theirs, ours = (_plain(text) for text in (told.get("fingerprint", ""), pbs.fingerprint))
    if theirs and ours and theirs != ours:
        other.append("the fingerprint is another one: one of both is old (`proxmox-backup-manager cert info` there)")
    if other:
        return no(f"{'; '.join(other)}. Mend backup.pbs, or the storage with pvesm set")
    where = f"datastore {pbs.datastore}" + (f", namespace {pbs.namespace}" if pbs.namespace else "")
    server, user = told.get("server", "an unknown server"), told.get("username", "nobody we know")
    return yes(f"backs up to {where} of {server}, as {user}")


def _plain(fingerprint: str) -> str:
    return fingerprint.replace(":", "").lower()


def _tiers(observer: Observer, backups: Backups, pbs: Pbs) -> Iterator[Asked]:
    kept: list[Snapshot] = []
    owner = ""

    def look() -> Answer:
        nonlocal owner
        kept.extend(pbs.snapshots(observer.site.clock.deadline(READ)))
        owner = backups.storage(observer.site.clock.deadline(READ)).get("username", "")
        return yes(f"{len(kept)} backups, of {len({one.sid for one in kept})} guests")

    listed = _asked("Backups on the server", look)
    yield listed
    if listed.verdict != "yes":
        return
    newest: dict[str, Snapshot] = {}
    for one in kept:
        newest.setdefault(one.sid, one)
    now = observer.site.clock.now().utc / 1e9
    tiers: dict[str, list[Guest]] = {}
    for guest in protected(observer):
        tiers.setdefault(guest.tier, []).append(guest)
    for tier, guests in tiers.items():
        what = f"Newest backups of tier {tier}"
        findings = [
            finding
            for guest in guests
            for finding in _wrong(guest.sid, newest.get(guest.sid), now, backups.block.max_age, owner)
        ]
        yield from (Asked("no", what, finding, blocks=False) for finding in findings)
        if not findings:
            ages = ", ".join(f"{guest.sid} {(now - newest[guest.sid].taken) / HOUR:.1f} h" for guest in guests)
            yield Asked("yes", what, f"{ages}; verified", blocks=False)


def _wrong(sid: str, one: Snapshot | None, now: float, max_age: float, owner: str) -> Iterator[str]:
    """What is wrong with the guest's newest backup, and what to do, a finding each."""
    if one is None:
        number = sid.partition(":")[2]
        yield f"{sid} has none; add it to a backup job, or start one now: vzdump {number} --storage STORAGE"
        return
    if (age := now - one.taken) > max_age:
        yield (
            f"{sid}: {age / HOUR:.1f} h old, at most {max_age / HOUR:g} h (backup.max_age); "
            f"look at the backup job's last task, and whether the job is enabled"
        )
    if one.verification == "failed":
        yield (
            f"{sid}: its verification failed, so it cannot be relied on; look at the verify task there, check the "
            f"server's disks, and back {sid} up anew"
        )
    elif one.verification != "ok":
        yield f"{sid}: never verified; make a verify job there, or verify it now in the server's web interface"
    if owner and one.owner != owner:
        yield (
            f"{sid}: it belongs to {one.owner}, and the cluster asks as {owner}, so it cannot be restored; "
            f"change the owner there: Datastore, Content, Change owner"
        )


__all__ = ["ask_backups"]
