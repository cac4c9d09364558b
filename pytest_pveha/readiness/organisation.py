"""What no machine promises, and people must: switches of their own for fencing, a runbook, repetition in time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path

from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.observer import Observer
from pytest_pveha.readiness.check import Check

DAY = 86400.0


def fence_network(inventory: Inventory) -> Check | str:
    """The check that what fences a node goes through no switch of production; in words why it cannot be made."""
    networks = inventory.model.networks
    bmc = networks.get("bmc")
    if bmc is None or not bmc.switch:
        return "the inventory does not say which switch the BMCs use (networks.bmc.switch)"
    if silent := sorted(name for name, one in networks.items() if not one.switch):
        return f"the inventory does not say which switch {', '.join(silent)} uses (networks.*.switch)"
    others = {name: one for name, one in networks.items() if name != "bmc"}
    if not others:
        return "the inventory names no network but the BMCs' own"

    def ask(observer: Observer) -> Answer:
        del observer
        shared = {name: sorted(set(one.switch) & set(bmc.switch)) for name, one in others.items()}
        if bad := [f"{name} over {', '.join(both)}" for name, both in sorted(shared.items()) if both]:
            return no(f"the BMCs share a switch with {'; '.join(bad)}: when it fails, nodes are lost and not fenced")
        return yes(f"the BMCs use {', '.join(bmc.switch)}; {', '.join(sorted(others))} use none of these")

    return Check(
        "fence-network",
        "The fencing network goes through no switch of another network",
        "give the BMCs a switch of their own",
        ask,
    )


def runbook(inventory: Inventory) -> Check | str:
    """The check that the runbook is there and was acknowledged lately; in words why it cannot be made."""
    block = inventory.model.organisation
    if block is None:
        return "the inventory has no organisation block"
    path = inventory.file(block.runbook)

    def ask(observer: Observer) -> Answer:
        today = datetime.fromtimestamp(observer.site.clock.now().utc / 1e9).astimezone().date()
        return known(path, block.acknowledged_by, block.acknowledged_on, block.revalidate_every, today)

    return Check("runbook", "The runbook is there, and was acknowledged in time", "read it, and say so anew", ask)


def known(path: Path, by: str, on: date, every: float, today: date) -> Answer:
    """Whether that file is a runbook that somebody has read lately."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return no(f"{path.name} cannot be read: {error.strerror}")
    if not content.strip():
        return no(f"{path.name} is empty")
    days = (today - on).days
    told = f"{path.name}, acknowledged by {by} on {on.isoformat()}"
    if days < 0:
        return no(f"{told}, which is still to come")
    if days > every / DAY:
        return no(f"{told}, {days} days ago; it is to be every {every / DAY:g} days")
    return yes(f"{told}, {days} days ago; SHA-256 {hashlib.sha256(content).hexdigest()}")


def repeated(
    inventory: Inventory,
    last: tuple[str, str, Mapping[str, str]] | None,
    versions: Callable[[], Mapping[str, str]],
    *,
    repeats: bool,
) -> Check | str:
    """The check that all was proven again in time and after each update; in words why it cannot be made.

    Args:
        last: run, end (UTC) and versions by node of the last run in which all was proven.
        versions: by node, as they are now.
        repeats: whether this run breaks things, and so is itself the repetition after an update.
    """
    block = inventory.model.organisation
    if block is None:
        return "the inventory has no organisation block, which says how often (revalidate_every)"
    if last is None:
        return "no earlier run that counts has proven all of it: there is nothing yet that this one could repeat"
    run, at, then = last

    def ask(observer: Observer) -> Answer:
        now = dict(versions())
        seconds = observer.site.clock.now().utc / 1e9 - datetime.fromisoformat(at).timestamp()
        told = f"run {run} proved all of it {max(0.0, seconds) / DAY:.0f} days ago"
        if seconds > block.revalidate_every:
            return no(f"{told}; it is to be proven every {block.revalidate_every / DAY:g} days")
        if unknown := sorted({name for each in (then, now) for name, version in each.items() if version == "unknown"}):
            return cant_tell(f"{told}; which version runs on {', '.join(unknown)} is not known")
        if now == then:
            return yes(f"{told}, with the versions of now")
        changed = [name for name in sorted({**then, **now}) if then.get(name) != now.get(name)]
        what = "; ".join(f"{name} {then.get(name, 'absent')} → {now.get(name, 'absent')}" for name in changed)
        if repeats:
            return yes(f"{told}; since then: {what}; this run is the repetition")
        return no(f"{told}; since then: {what}, and nobody has proven it again: run the destructive tests")

    return Check("repeated", "All was proven again in time, and after each update", "run the destructive tests", ask)
