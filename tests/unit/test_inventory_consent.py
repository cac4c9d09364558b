"""Nothing is broken on a real site without its written, unexpired consent; each refusal is clear."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from inventory_texts import CONSENT, REAL, SIMULATED

from pytest_pveha.inventory import Site, consent_refusal, load, node_digest

NOON = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)
DIGEST = node_digest(["pve1", "pve2"])
FULL = CONSENT.replace("ticket:", f"node_digest: {DIGEST}\n  ticket:")


def site_of(folder: Path, text: str) -> Site:
    """The site of that text."""
    path = folder / "site.yml"
    path.write_text(text)
    return load(path)


def asked(
    site: Site,
    *,
    now: datetime = NOON,
    cluster_name: str | None = "prod1",
    node_names: Sequence[str] | None = ("pve2", "pve1"),
    fault: str | None = "power",
    target: str | None = "pve1",
    site_reset: bool = False,
    combined: bool = False,
) -> str | None:
    """The refusal, with the file spelled ``site.yml``; by default everything is as granted."""
    text = consent_refusal(
        site,
        now=now,
        cluster_name=cluster_name,
        node_names=node_names,
        fault=fault,
        target=target,
        site_reset=site_reset,
        combined=combined,
    )
    return text and text.replace(str(site.path), "site.yml")


def test_granted(tmp_path: Path) -> None:
    """All as written: allowed."""
    assert asked(site_of(tmp_path, REAL + FULL)) is None


def test_granted_before_anything_was_asked(tmp_path: Path) -> None:
    """A plan, which asks nobody, is judged by what the file says."""
    site = site_of(tmp_path, REAL + FULL)
    assert asked(site, cluster_name=None, node_names=None, fault=None, target=None) is None


def test_no_consent(tmp_path: Path) -> None:
    """Without the block: refused, with what to add."""
    assert asked(site_of(tmp_path, REAL)) == (
        "site.yml: consent: there is none, so nothing is broken on this site; "
        "add a consent block (docs/reference/inventory.md) once the change is approved"
    )


def test_not_destructive(tmp_path: Path) -> None:
    """destructive: false refuses, whatever else is granted."""
    site = site_of(tmp_path, REAL + FULL.replace("destructive: true", "destructive: false"))
    assert asked(site) == (
        "site.yml: consent.destructive: is false, so nothing is broken on this site; "
        "set it to true once the change is approved"
    )


def test_other_cluster(tmp_path: Path) -> None:
    """The live cluster has another name: refused."""
    assert asked(site_of(tmp_path, REAL + FULL), cluster_name="prod2") == (
        "site.yml: consent.cluster: is for prod1, and the live cluster calls itself prod2; "
        "check cluster.api.endpoints, this may be the wrong cluster"
    )


def test_other_nodes(tmp_path: Path) -> None:
    """A node was added since: refused, naming both digests."""
    names = ["pve1", "pve2", "pve3"]
    assert asked(site_of(tmp_path, REAL + FULL), node_names=names) == (
        f"site.yml: consent.node_digest: is {DIGEST}, and the cluster's nodes now are pve1, pve2, pve3, which is "
        f"{node_digest(names)}; a node was added, removed or renamed since: have the consent renewed"
    )


def test_no_digest(tmp_path: Path) -> None:
    """A consent without the digest is refused, and the digest to write is said."""
    assert asked(site_of(tmp_path, REAL + CONSENT)) == (
        "site.yml: consent.node_digest: is missing, so the consent names no node list; if the cluster's nodes are "
        f"pve1, pve2, have {DIGEST} approved and written there"
    )


def test_not_yet(tmp_path: Path) -> None:
    """Before the window: refused."""
    site = site_of(tmp_path, REAL + FULL)
    assert asked(site, now=datetime(2026, 3, 1, 19, 59, 59, tzinfo=UTC)) == (
        "site.yml: consent.not_before: the window opens 2026-03-01T20:00:00+00:00, and it is "
        "2026-03-01T19:59:59+00:00; wait, or renew it"
    )
    assert asked(site, now=datetime(2026, 3, 1, 20, tzinfo=UTC)) is None


def test_expired(tmp_path: Path) -> None:
    """At the end of the window: refused."""
    assert asked(site_of(tmp_path, REAL + FULL), now=datetime(2026, 3, 2, 4, tzinfo=UTC)) == (
        "site.yml: consent.not_after: it expired 2026-03-02T04:00:00+00:00, and it is 2026-03-02T04:00:00+00:00; "
        "have it renewed"
    )


def test_kind_not_granted(tmp_path: Path) -> None:
    """Another kind of fault than granted: refused."""
    assert asked(site_of(tmp_path, REAL + FULL), fault="network") == (
        "site.yml: consent.faults: network (links, partitions, switches) is not granted, only power; "
        "leave that test out, or have it granted"
    )


def test_target_not_granted(tmp_path: Path) -> None:
    """Another target than granted: refused."""
    site = site_of(tmp_path, REAL + FULL.replace("targets: all", 'targets: [pve2, "vm:101"]'))
    assert asked(site) == (
        "site.yml: consent.targets: pve1 is not granted, only pve2, vm:101; choose another target, or have it granted"
    )
    assert asked(site, target="pve2") is None
    assert asked(site, target="vm:101") is None


@pytest.mark.parametrize("target", ["pve1", "vm:900"])
def test_never_touch(target: str, tmp_path: Path) -> None:
    """What is protected is refused even where all is granted."""
    site = site_of(tmp_path, REAL + FULL + '  never_touch: {nodes: [pve1], guests: ["vm:900"]}\n')
    assert asked(site, target=target) == (
        f"site.yml: consent.never_touch: {target} is never to be touched; choose another target"
    )


def test_site_reset(tmp_path: Path) -> None:
    """What may reset more than its victim needs a leave of its own; a simulated site needs none."""
    assert asked(site_of(tmp_path, REAL + FULL), site_reset=True) == (
        "site.yml: consent.site_reset: is false, and this test may reset more than its victim; "
        "leave that test out, or have site_reset granted"
    )
    assert asked(site_of(tmp_path, REAL + FULL + "  site_reset: true\n"), site_reset=True) is None
    assert asked(site_of(tmp_path, SIMULATED), cluster_name="sim", site_reset=True) is None


def test_combined(tmp_path: Path) -> None:
    """A second fault during the recovery from the first needs a leave of its own; a simulated site needs none."""
    assert asked(site_of(tmp_path, REAL + FULL), combined=True) == (
        "site.yml: consent.combined: is false, and this test breaks something while the site recovers from something "
        "else; leave that test out, or have combined granted"
    )
    assert asked(site_of(tmp_path, REAL + FULL + "  combined: true\n"), combined=True) is None
    assert asked(site_of(tmp_path, SIMULATED), cluster_name="sim", combined=True) is None


def test_never_touch_holds_on_a_simulated_site(tmp_path: Path) -> None:
    """What is protected is refused there too."""
    consent = CONSENT.replace("prod1", "sim") + "  never_touch: {nodes: [pve1]}\n"
    assert asked(site_of(tmp_path, SIMULATED + consent), cluster_name="sim") == (
        "site.yml: consent.never_touch: pve1 is never to be touched; choose another target"
    )


def test_simulated_site_needs_none(tmp_path: Path) -> None:
    """A simulated site may be broken without consent."""
    assert asked(site_of(tmp_path, SIMULATED), cluster_name="sim") is None


def test_moment_without_zone(tmp_path: Path) -> None:
    """The caller must know which time it is."""
    site = site_of(tmp_path, REAL + FULL)
    with pytest.raises(ValueError, match="needs a time zone"):
        asked(site, now=NOON.replace(tzinfo=None))


def test_digest_is_of_the_set_of_names() -> None:
    """Order and repetition do not change the digest; a name does. It is what `sha256sum` says of the sorted names."""
    assert node_digest(["b", "a", "b"]) == node_digest(["a", "b"])
    assert node_digest(["a", "b"]) != node_digest(["a", "c"])
    assert node_digest(["a"]) == "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
