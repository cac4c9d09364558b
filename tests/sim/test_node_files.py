"""What a node's shell writes: on its own disk, in memory, and in the cluster file system."""

from __future__ import annotations

import pytest

from tests.sim.servers_kit import PlayingGate, shell, small_site, told

STORE = "/var/lib/pveha/4312a98e"
PUT = (
    f"umask 077 && mkdir -p {STORE} && cat > {STORE}/.plan.new && sync {STORE}/.plan.new"
    f" && mv -f {STORE}/.plan.new {STORE}/plan && sync {STORE}"
)
LEASE = "/etc/pve/priv/pveha-lease"


@pytest.fixture
def gate() -> PlayingGate:
    """A healthy site."""
    return PlayingGate(small_site())


def test_a_stored_file_is_there_and_private(gate: PlayingGate) -> None:
    """What is written through standard input is read back, to the byte, and is root's alone."""
    told(gate, PUT, given='{"undo": "äöü $x `y`"}\n')
    assert told(gate, f"cat {STORE}/plan") == '{"undo": "äöü $x `y`"}\n'
    assert told(gate, f"ls -1 {STORE}") == "plan\n"
    assert told(gate, f"stat -c %a {STORE}/plan {STORE}") == "600\n700\n"
    assert shell(gate, f"test -e {STORE}/.plan.new").status == 1
    assert shell(gate, f"cat {STORE}/plan", "pve2").err == f"cat: {STORE}/plan: No such file or directory\n"


def test_a_stored_file_outlives_a_power_cut(gate: PlayingGate) -> None:
    """What was synced and renamed is there after the node lost power that same moment; memory is empty."""
    told(gate, PUT, "pve3", given="plan\n")
    told(gate, "touch /run/pveha-mark && touch /tmp/mark", "pve3")
    gate.kill("pve3")
    gate.revive("pve3")
    assert told(gate, f"cat {STORE}/plan", "pve3") == "plan\n"
    assert shell(gate, "test -e /run/pveha-mark", "pve3").status == 1
    assert shell(gate, "test -e /tmp/mark", "pve3").status == 1


@pytest.mark.parametrize(("waited", "found"), [(0.0, ""), (6.0, ""), (40.0, "half a thought\n")])
def test_an_unsynced_file_is_lost_with_the_power(gate: PlayingGate, waited: float, found: str) -> None:
    """What nobody synced is gone after a power cut, its content later safe than its name."""
    told(gate, "cat > /var/lib/note", "pve3", given="half a thought\n")
    gate.play(waited)
    gate.kill("pve3")
    gate.revive("pve3")
    assert shell(gate, "cat /var/lib/note", "pve3").out == found


def test_a_synced_folder_does_not_make_its_files_content_safe(gate: PlayingGate) -> None:
    """Who syncs the folder alone finds the name and an empty file."""
    told(gate, "cat > /var/lib/note && sync /var/lib", "pve3", given="half a thought\n")
    gate.kill("pve3")
    gate.revive("pve3")
    assert told(gate, "ls -1 /var/lib", "pve3") == "note\n"
    assert told(gate, "cat /var/lib/note", "pve3") == ""


def test_a_removed_file_may_come_back(gate: PlayingGate) -> None:
    """A removal that was not synced is undone by a power cut; a synced one is not."""
    told(gate, PUT, "pve3", given="plan\n")
    told(gate, f"rm -f {STORE}/plan", "pve3")
    gate.kill("pve3")
    gate.revive("pve3")
    assert told(gate, f"ls -1 {STORE}", "pve3") == "plan\n"
    told(gate, f"rm -f {STORE}/plan && sync {STORE}", "pve3")
    gate.kill("pve3")
    gate.revive("pve3")
    assert told(gate, f"ls -1 {STORE}", "pve3") == ""


def test_a_clean_shutdown_loses_nothing(gate: PlayingGate) -> None:
    """A node that is shut down writes everything to its disk first."""
    told(gate, "cat > /var/lib/note", "pve3", given="all of it\n")
    gate.world.chassis("pve3", "soft")
    gate.until(lambda: not gate.world.nodes["pve3"].chassis_on)
    gate.revive("pve3")
    assert told(gate, "cat /var/lib/note", "pve3") == "all of it\n"


@pytest.mark.parametrize(
    ("line", "status", "complaint"),
    [
        ("mkdir /var/lib/a/b", 1, "mkdir: cannot create directory ‘/var/lib/a/b’: No such file or directory\n"),
        ("mkdir /var/lib", 1, "mkdir: cannot create directory ‘/var/lib’: File exists\n"),
        ("cat /var/lib", 1, "cat: /var/lib: Is a directory\n"),
        ("echo x > /nowhere/file", 1, "bash: line 1: /nowhere/file: No such file or directory\n"),
        ("cat < /nowhere", 1, "bash: line 1: /nowhere: No such file or directory\n"),
        ("rm /nowhere", 1, "rm: cannot remove '/nowhere': No such file or directory\n"),
        ("rm /var/lib", 1, "rm: cannot remove '/var/lib': Is a directory\n"),
        ("ls -1 /nowhere", 2, "ls: cannot access '/nowhere': No such file or directory\n"),
        ("mv -f /nowhere /var/lib/x", 1, "mv: cannot stat '/nowhere': No such file or directory\n"),
        ("sync /nowhere", 1, "sync: error opening '/nowhere': No such file or directory\n"),
        ("rm -f /nowhere", 0, ""),
        ("rm -rf /nowhere", 0, ""),
        ("mkdir -p /var/lib/x/y && mkdir -p /var/lib/x/y", 0, ""),
    ],
)
def test_what_the_file_tools_say(gate: PlayingGate, line: str, status: int, complaint: str) -> None:
    """Exit status and wording are those of the real tools."""
    done = shell(gate, line)
    assert (done.status, done.err) == (status, complaint)


def test_streams_go_where_they_are_sent(gate: PlayingGate) -> None:
    """Output and errors go to files, appended or anew, in the order in which the line says so."""
    told(gate, "echo one > /tmp/out; echo two >> /tmp/out; cat /nowhere /tmp/out > /tmp/both 2>&1 || true")
    assert told(gate, "cat /tmp/both") == "one\ntwo\ncat: /nowhere: No such file or directory\n"
    assert shell(gate, "cat /nowhere 2> /tmp/err").err == ""
    assert told(gate, "cat < /tmp/err") == "cat: /nowhere: No such file or directory\n"
    assert shell(gate, "echo x > /etc/hostname").status == 1
    assert told(gate, "echo 'a  b' | tee /tmp/tee && cat /tmp/tee") == "a  b\na  b\n"


def test_a_script_is_run(gate: PlayingGate) -> None:
    """A script's lines run one after the other, comments and failures passed over, the last one's status its own."""
    script = "#!/bin/sh\n# why\n\ndate +%s > /var/lib/fired\nfalse || echo beside\nnonsense || true\nfalse\n"
    told(gate, "cat > /var/lib/undo.sh", given=script)
    done = shell(gate, "/bin/sh /var/lib/undo.sh")
    assert (done.status, done.out) == (1, "beside\n")
    assert int(told(gate, "cat /var/lib/fired")) == int(gate.world.utc(gate.world.nodes["pve1"]))
    assert shell(gate, "sh /var/lib/other.sh").status == 2


def test_the_lease_is_shared_and_taken_once(gate: PlayingGate) -> None:
    """A folder made in the cluster file system is there on every node, and nobody can make it again."""
    told(gate, f"mkdir {LEASE} && cat > {LEASE}/holder", "pve1", given='{"run": "a"}')
    again = shell(gate, f"mkdir {LEASE}", "pve2")
    assert (again.status, again.err) == (1, f"mkdir: cannot create directory ‘{LEASE}’: File exists\n")
    assert told(gate, f"cat {LEASE}/holder", "pve3") == '{"run": "a"}'
    told(gate, f"rm -r {LEASE}", "pve3")
    assert told(gate, "ls -1 /etc/pve/priv", "pve1") == "lock\n"


def test_the_lease_without_quorum(gate: PlayingGate) -> None:
    """Without quorum nothing is written and the last state is read on; with quorum all is as the others left it."""
    told(gate, f"mkdir {LEASE} && cat > {LEASE}/holder", given="first")
    gate.world.cut_network("pve3")
    gate.play(20)
    denied = shell(gate, "touch /etc/pve/x", "pve3")
    assert (denied.status, denied.err) == (1, "touch: cannot touch '/etc/pve/x': Permission denied\n")
    assert "Permission denied" in shell(gate, f"mkdir {LEASE}2", "pve3").err
    told(gate, f"cat > {LEASE}/holder", "pve1", given="second")
    assert told(gate, f"cat {LEASE}/holder", "pve3") == "first"
    gate.world.restore_network("pve3")
    gate.play(5)
    assert told(gate, f"cat {LEASE}/holder", "pve3") == "second"


def test_a_write_waits_for_the_new_membership(gate: PlayingGate) -> None:
    """While the ring is broken a write to the cluster file system hangs, and then goes through or is denied."""
    gate.world.cut_network("pve3")
    gate.play(1)
    told(gate, f"mkdir {LEASE}", "pve1")
    assert 4 < sum(gate.parked) < 8
    gate.parked.clear()
    gate.world.restore_network("pve3")
    gate.play(5)
    gate.world.cut_network("pve3")
    gate.play(1)
    assert "Permission denied" in shell(gate, f"touch {LEASE}/x", "pve3").err
    assert 4 < sum(gate.parked) < 8


def test_the_planted_read_only_store() -> None:
    """With the defect one node's undo cannot be stored, and the others' can."""
    gate = PlayingGate(small_site(defects=["undo-store-read-only"]))
    assert shell(gate, PUT, "pve2", given="x").status == 0
    refused = shell(gate, PUT, "pve3", given="x")
    assert (refused.status, refused.out) == (1, "")
    assert refused.err == f"mkdir: cannot create directory ‘{STORE}’: Read-only file system\n"
