"""What must hold of a copy while it is there: kept apart, its guest's content, and the guest itself as it was."""

from __future__ import annotations

import re

from pytest_pveha.errors import ProtocolError
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.copies import Copy, original, reaches, settings_of
from pytest_pveha.observe.observer import Observer
from pytest_pveha.readiness.check import Check

HASHED = 60.0
"""Seconds that reading a file and hashing it inside of a guest may take."""
_SUM = re.compile(r"\\?(?P<sum>[0-9a-f]{64}) [ *].*", re.DOTALL)


def apart(copy: Copy) -> Check:
    """That the copy, as it runs, reaches nothing beyond itself."""

    def ask(observer: Observer) -> Answer:
        trouble = reaches(observer, copy, settings_of(observer, copy))
        return no("; ".join(trouble)) if trouble else yes(f"{copy.sid} has no link, device or address of others")

    return Check("copy-apart", "The copy reaches nothing beyond itself", "look at its configuration", ask)


def untouched(copy: Copy) -> Check:
    """That the original is as it was: configuration, process, disks."""

    def ask(observer: Observer) -> Answer:
        before, now = copy.original, original(observer, copy.of)
        parts = (
            ("node", before.node, now.node),
            ("configuration", before.digest, now.digest),
            ("process", before.process, now.process),
            ("disks", before.disks, now.disks),
        )
        changed = [f"its {name}: {was} → {is_now}" for name, was, is_now in parts if was != is_now]
        if not before.digest:
            return cant_tell(f"the configuration of {copy.of.sid} shows no digest")
        return no("; ".join(changed)) if changed else yes(f"{copy.of.sid} has its configuration, process and disks")

    return Check("original-untouched", "The original is as it was", "compare its configuration and process", ask)


def same_content(copy: Copy) -> Check:
    """That the declared file is the same inside of both: what was restored is that guest."""

    def ask(observer: Observer) -> Answer:
        if not copy.file:
            return cant_tell("no file is declared whose checksum could tell; set backup.restore.checksum_file")
        here = _checksum(observer, copy.of.sid, copy.original.node, copy.file)
        there = _checksum(observer, copy.sid, copy.node, copy.file)
        if here != there:
            return no(f"{copy.file}: {here[:16]}… in {copy.of.sid}, {there[:16]}… in its copy")
        return yes(f"{copy.file} is {here[:16]}… in both")

    return Check("same-content", "What was restored is that guest", "compare the file inside of both", ask)


def _checksum(observer: Observer, sid: str, node: str, path: str) -> str:
    ran = observer.site.inside(sid, node).run(observer.site.clock.deadline(HASHED), "sha256sum", path)
    if ran.status != 0 or (found := _SUM.fullmatch(ran.out.strip())) is None:
        raise ProtocolError(f"{sid}: `sha256sum {path}` ended with {ran.status}: {(ran.err or ran.out).strip()[:200]}")
    return found["sum"]
