"""``pveha check`` and the backup server: each finding is a line that says what to do."""

from __future__ import annotations

import re

import pytest
from cli_kit import ROOT, Done, Shell

DEMO = ROOT / "inventories" / "sim-hyperconverged.yml"
LIKE = r"Newest backups of tier gold: vm:101: "


def check(shell: Shell, defects: str = "", **backup: str) -> Done:
    """What is said of the demo's site with these defects, and a backup server that is set so."""
    text = DEMO.read_text(encoding="utf-8").replace("defects: []", f"defects: [{defects}]")
    if backup:
        keys = ", ".join(f"{key}: {value}" for key, value in backup.items())
        text = text.replace("  seed: 1\n", f"  seed: 1\n  backup: {{{keys}}}\n")
    path = shell.place / "site.yml"
    path.write_text(text, encoding="utf-8")
    return shell.pveha("check", path)


def test_a_server_that_is_well_is_told(shell: Shell) -> None:
    """The server, its datastore, our rights, the cluster's storage, and each tier with the ages."""
    done = check(shell)
    assert done.code == 0, done.out
    said = "\n".join(done.starting("OK"))
    for words in (
        r"Backup server 127\.0\.0\.1: Proxmox Backup Server 3\.2\.4, with the certificate that the inventory pins",
        r"Datastore main: \d+ of 4000 GiB used",
        r"Our token on datastore main: Datastore\.Audit",
        r"Storage pbs1 of the cluster: backs up to datastore main of \S+, as pve@pbs!cluster",
        r"Newest backups of tier gold: vm:101 \d\.\d h, vm:103 \d\.\d h, vm:105 \d\.\d h; verified",
        r"Newest backups of tier silver: vm:102",
    ):
        assert re.search(words, said), said


@pytest.mark.parametrize(
    ("defect", "finding"),
    [
        (
            "backup-too-old",
            LIKE + r"60\.\d h old, at most 26 h \(backup\.max_age\); look at the backup job",
        ),
        ("backup-unverified", LIKE + r"never verified; make a verify job there"),
        ("backup-verification-failed", LIKE + r"its verification failed, .*check the server's disks"),
        ("backup-owner-wrong", LIKE + r"it belongs to root@pam, and the cluster asks as .*Change owner"),
    ],
)
def test_what_is_wrong_with_backups_is_a_line_each(shell: Shell, defect: str, finding: str) -> None:
    """Each guest's finding by itself, with what to do; other tests are not said to be refused for it."""
    done = check(shell, defect)
    assert done.code == 1, done.out
    red = done.starting("NO")
    assert len(red) == 6
    assert re.search(finding, "\n".join(red)), done.out
    assert re.search(
        r"NOT READY: 6 of \d+ answers are NO; no test is refused for it, but those that need it", done.lines[-1]
    )


def test_a_token_that_may_not_look_is_told_what_it_lacks(shell: Shell) -> None:
    """The privilege, and the command that gives it."""
    done = check(shell, token_lacks="[Datastore.Audit]")
    assert done.code == 1
    (red,) = done.starting("NO")
    assert "it has Datastore.Backup there, and Datastore.Audit is needed" in red
    assert "acl update /datastore/main DatastoreAudit --auth-id TOKEN" in red


def test_a_guest_without_a_backup_is_told(shell: Shell) -> None:
    """The server itself, where it is a guest of the cluster, is backed up nowhere."""
    done = check(shell, guest="'vm:106'")
    (red,) = done.starting("NO")
    assert "Newest backups of tier silver: vm:106 has none; add it to a backup job" in red
    assert "vzdump 106 --storage STORAGE" in red
