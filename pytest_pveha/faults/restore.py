"""The site as it was found again: what HA does not bring back by itself is asked for, then waited for."""

from __future__ import annotations

from pytest_pveha.errors import CantTell, HealFailed, NotMet, SiteError
from pytest_pveha.observe.answer import Answer, Condition, Met, cant_tell, no, wait_until, yes
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.observe.snapshot import Snapshot, differences, take

AGAIN = 60.0
"""Seconds before the same request is made again: an HA request takes a CRM round and an LRM round (≤ 20 s)."""

PAUSE = 5.0
"""Seconds between looks while waiting for minutes."""


def restore(observer: Observer, found: Snapshot, within: float) -> Met:
    """The site is as it was found: quorum, nodes, HA services and guests on their nodes, guests running that ran.

    Raises:
        HealFailed: not within that time; says what differs.
    """
    clock = observer.site.clock
    asked: dict[str, int] = {}

    def ask(observer: Observer) -> Answer:
        try:
            now = take(observer)
        except SiteError as error:
            return cant_tell(str(error))
        rows = differences(found, now)
        if not rows:
            return yes("as found")
        if now.quorate and all(state == "online" for state in now.nodes.values()):
            _request(observer, found, now, asked)
        return no("; ".join(rows))

    with clock.shielded(), observer.undeterred():
        try:
            return wait_until(Condition("the site is as it was found", ask), within, observer, every=PAUSE)
        except (NotMet, CantTell) as error:
            raise HealFailed(f"the site is DIRTY: {error}. Put it right by hand, then `pveha heal`.") from error


def _request(observer: Observer, found: Snapshot, now: Snapshot, asked: dict[str, int]) -> None:
    """Guests that are not where, or not as, they were found are moved or started, each at most once a minute."""
    site = observer.site
    present = site.clock.now().mono
    for sid, was in found.guests.items():
        status, node = was.split("@")
        is_status, is_node = now.guests.get(sid, "absent@").split("@")
        due = asked.get(sid, -1) < 0 or present - asked[sid] > AGAIN * 1e9
        service = now.services.get(sid, "")
        if not due:
            continue
        if sid in found.services and service == f"started@{is_node}" and is_node != node:
            asked[sid] = present
            site.cluster.migrate(sid, node, site.clock.deadline(READ))
        elif sid not in found.services and status == "running" and is_status == "stopped" and is_node == node:
            asked[sid] = present
            site.cluster.start(sid, node, site.clock.deadline(READ))
