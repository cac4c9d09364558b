"""Ceph asked itself, again and again, while a test runs: what its placement groups, mons and OSDs are doing.

Each change is a ``seen`` line; when it could be asked is on record like any probe's, so that what was not seen is not
taken for fine.
"""

from __future__ import annotations

from pytest_pveha.clock import SECOND, Instant
from pytest_pveha.errors import SiteError
from pytest_pveha.handles.ceph import shell
from pytest_pveha.handles.ceph.status import CephStatus, whole
from pytest_pveha.observe import ceph_map
from pytest_pveha.observe.ceph import COPIES, LOST
from pytest_pveha.observe.ceph_map import ASK, told_by
from pytest_pveha.observe.heard import Heard
from pytest_pveha.observe.ledger import REBUILDING
from pytest_pveha.observe.observer import Observer, View

EVERY = 2 * SECOND
"""Nanoseconds between two questions."""

MAP_EVERY = 6 * SECOND
"""Nanoseconds between two looks at the OSD map, which is longer: an OSD that was lost and came back meanwhile still
shows, by the epoch since which it is up."""

FULL = ("OSD_FULL", "POOL_FULL", "OSD_BACKFILLFULL", "POOL_BACKFILLFULL")
"""Health checks at which a ratio is passed that stops writes, or the rebuild (Ceph's documentation, Health Checks)."""


def _complaint(found: CephStatus, check: str) -> str:
    """Its name; in brackets where it is muted, and nobody who watches health hears of it."""
    return f"({check})" if check in found.muted else check


class CephWitness:
    """Sees Ceph whenever the run looks at the site."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._clock = observer.site.clock
        self._heard = Heard(observer, EVERY)
        self._due = self._map_due = 0
        observer.afresh("ceph/", "osd/")
        self._heard.expect("ceph")

    def __call__(self, view: View) -> None:
        """It was asked, if it is its turn."""
        del view
        if self._clock.now().mono < self._due:
            return
        asked = self._clock.now()
        try:
            found = ceph_map.status(self._observer)
        except SiteError:
            self._heard.told("ceph", "bad", asked.mono, self._clock.now().mono)
            self._due = self._clock.now().mono + EVERY
            return
        self._note(found, asked, self._clock.now())
        if asked.mono >= self._map_due:
            self._map_due = asked.mono + MAP_EVERY
            self._note_osds()
        # what was told of no placement group says nothing about them
        self._heard.told("ceph", "good" if found.told_all else "bad", asked.mono, self._clock.now().mono)
        self._due = asked.mono + EVERY

    def stop(self) -> None:
        """When it was seen is in the journal."""
        self._heard.stop()

    def _note(self, found: CephStatus, asked: Instant, answered: Instant) -> None:
        lost = sum(count for state, count in found.pgs.items() if LOST & set(state.split("+")))
        full = [check for check in FULL if check in found.checks]
        for what, value in (
            ("ceph/health", " ".join((found.health, *(_complaint(found, check) for check in found.checks)))),
            ("ceph/mons", " ".join(sorted(found.quorum)) or "none"),
            ("ceph/osds", f"{found.osds_up} up {found.osds_in} in of {found.osds}"),
            ("ceph/full", " ".join(full) or "no"),
            ("ceph/states", found.in_words),
        ):
            self._observer.note(what, value, asked, answered, "ceph")
        if not found.told_all:
            return
        copying = any(COPIES & set(state.split("+")) for state in found.pgs)
        unclean = sum(count for state, count in found.pgs.items() if not whole(state))
        for what, value in (
            ("ceph/serving", "no" if found.inactive else "yes"),
            (REBUILDING, "yes" if copying else "no"),
            ("ceph/lost", str(lost)),
            ("ceph/unclean", str(unclean)),
            ("ceph/hurt", "yes" if found.inactive or found.osds_up < found.osds else "no"),
        ):
            self._observer.note(what, value, asked, answered, "ceph")

    def _note_osds(self) -> None:
        asked = self._clock.now()
        try:
            known = told_by(self._observer, lambda node: shell.osd_map(node, self._clock.deadline(ASK))).osds
        except SiteError:
            return
        for number, osd in sorted(known.items()):
            word = f"up since {osd.up_from}" if osd.up else "down"
            self._observer.note(f"osd/{number}", word, asked, self._clock.now(), "ceph")
