"""Whether this site, now, allows that fault on that target. Pure: time and live facts come from the caller."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from pytest_pveha.inventory.document import shown
from pytest_pveha.inventory.load import Site
from pytest_pveha.inventory.people import FAULT_KINDS, Consent


def node_digest(names: Sequence[str]) -> str:
    """The digest that consent names a cluster's node list by: the sorted names, one a line, as SHA-256."""
    return f"sha256:{sha256(chr(10).join(sorted(set(names))).encode()).hexdigest()}"


def consent_refusal(
    site: Site,
    *,
    now: datetime,
    cluster_name: str | None,
    node_names: Sequence[str] | None,
    fault: str | None,
    target: str | None,
    site_reset: bool = False,
    combined: bool = False,
) -> str | None:
    """Why it is not allowed; None = allowed. A simulated site needs no consent, but its never_touch holds.

    Args:
        now: with its time zone.
        cluster_name: what the live cluster calls itself; None while it was not asked, as in a plan.
        node_names: the live cluster's node list; None while it was not asked: the inventory's list stands for it.
        fault: a kind of FAULT_KINDS; None = any at all.
        target: a node's name or a guest's id; None = any at all.
        site_reset: whether more than the target may be reset.
        combined: whether a second fault comes while the site recovers from the first.

    Raises:
        ValueError: ``now`` has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError("the present moment needs a time zone")
    consent = site.model.consent
    where = site.path
    if consent is not None and (reason := _protected(consent, target)):
        return f"{where}: consent.never_touch: {reason}"
    if site.simulated:
        return None
    if consent is None:
        return (
            f"{where}: consent: there is none, so nothing is broken on this site; "
            "add a consent block (docs/reference/inventory.md) once the change is approved"
        )
    reason = (
        _not_given(consent)
        or _other_cluster(site, consent, cluster_name, node_names)
        or _outside_window(consent, now)
        or _not_granted(consent, fault, target)
        or _no_reset(consent, site_reset=site_reset)
        or _not_combined(consent, combined=combined)
    )
    return f"{where}: consent.{reason}" if reason else None


def _protected(consent: Consent, target: str | None) -> str | None:
    if target is not None and target in (*consent.never_touch.nodes, *consent.never_touch.guests):
        return f"{shown(target)} is never to be touched; choose another target"
    return None


def _not_given(consent: Consent) -> str | None:
    if not consent.destructive:
        return "destructive: is false, so nothing is broken on this site; set it to true once the change is approved"
    return None


def _other_cluster(
    site: Site, consent: Consent, cluster_name: str | None, node_names: Sequence[str] | None
) -> str | None:
    if cluster_name is not None and cluster_name != consent.cluster:
        return (
            f"cluster: is for {consent.cluster}, and the live cluster calls itself {shown(cluster_name)}; "
            "check cluster.api.endpoints, this may be the wrong cluster"
        )
    names = tuple(site.model.nodes) if node_names is None else tuple(node_names)
    digest = node_digest(names)
    listed = ", ".join(shown(name) for name in sorted(names)[:32])
    if consent.node_digest is None:
        return (
            f"node_digest: is missing, so the consent names no node list; if the cluster's nodes are {listed}, "
            f"have {digest} approved and written there"
        )
    if consent.node_digest != digest:
        return (
            f"node_digest: is {consent.node_digest}, and the cluster's nodes now are {listed}, which is {digest}; "
            "a node was added, removed or renamed since: have the consent renewed"
        )
    return None


def _outside_window(consent: Consent, now: datetime) -> str | None:
    if now < consent.not_before:
        return (
            f"not_before: the window opens {consent.not_before.isoformat()}, and it is {_utc(now)}; wait, or renew it"
        )
    if now >= consent.not_after:
        return f"not_after: it expired {consent.not_after.isoformat()}, and it is {_utc(now)}; have it renewed"
    return None


def _no_reset(consent: Consent, *, site_reset: bool) -> str | None:
    if site_reset and not consent.site_reset:
        return (
            "site_reset: is false, and this test may reset more than its victim; "
            "leave that test out, or have site_reset granted"
        )
    return None


def _not_combined(consent: Consent, *, combined: bool) -> str | None:
    if combined and not consent.combined:
        return (
            "combined: is false, and this test breaks something while the site recovers from something else; "
            "leave that test out, or have combined granted"
        )
    return None


def _utc(now: datetime) -> str:
    return now.isoformat(timespec="seconds")


def _not_granted(consent: Consent, fault: str | None, target: str | None) -> str | None:
    if fault is not None and fault not in consent.faults:
        meaning = FAULT_KINDS.get(fault, "unknown kind")
        return (
            f"faults: {shown(fault)} ({meaning}) is not granted, only {', '.join(consent.faults)}; "
            "leave that test out, or have it granted"
        )
    if target is not None and target not in consent.targets and consent.targets != ("all",):
        return (
            f"targets: {shown(target)} is not granted, only {', '.join(consent.targets)}; "
            "choose another target, or have it granted"
        )
    return None
