"""The journal and the units of a node as the real journald and systemd have them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from container import RELEASES, Container

from pytest_pveha.clock import Deadline, LiveClock
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles import system, watchdog
from pytest_pveha.handles.connect import connect
from pytest_pveha.handles.logs import whole_journal
from pytest_pveha.handles.node import JournalLine, Node
from pytest_pveha.inventory import load

pytestmark = pytest.mark.daemons

AMPLE = 60.0
FORGED = "9999999999.5 pve1 watchdog-mux[7]: watchdog expired - disable watchdog updates"
"""A line that would be bad news, had it been written by whom it names."""

BREAKS = ("\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1e", "\x85", "\r")
"""What Python, and some readers, take for the end of a line; journald does not."""
_SEND = (
    "local $/; my $text = <STDIN>; socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; "
    'send($s, $text, 0, sockaddr_un("/run/systemd/journal/socket")) or die $!;'
)


@pytest.fixture(scope="module", params=RELEASES, ids=RELEASES.values())
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A machine that is up."""
    machine = Container(tmp_path_factory.mktemp("journal") / "machine", "pve1", request.param)
    machine.start()
    yield machine
    machine.cut_power()


@pytest.fixture
def node(machine: Container) -> Iterator[Node]:
    """The machine as a node of a site."""
    site = connect(load(machine.inventory()), LiveClock())
    yield site.nodes["pve1"]
    site.close()


def ample() -> Deadline:
    return LiveClock().deadline(AMPLE)


def now(node: Node) -> float:
    """The node's own clock."""
    return float(node.command(ample(), "date", "+%s.%N"))


def said(lines: list[JournalLine], who: str) -> list[str]:
    """What that one wrote."""
    return [line.text for line in lines if line.unit == who]


def written(node: Node, *texts: str) -> None:
    """Each text is an entry in the journal, by the identifier ``teller``."""
    for text in texts:
        node.act(ample(), "logger", "--journald", input=f"SYSLOG_IDENTIFIER=teller\nPRIORITY=5\nMESSAGE={text}\n")


def test_lines_are_read_as_they_were_written(node: Node) -> None:
    """Who wrote, what and when; nothing from before the moment that was asked for."""
    written(node, "too early")
    begun = now(node)
    written(node, "plain", "with: colons [7]: and = signs", "Größe ✓", "two  blanks\tand a tab")
    lines = whole_journal(node, begun, ample())
    assert said(lines, "teller") == [
        "plain",
        "with: colons [7]: and = signs",
        "Größe ✓",
        "two  blanks        and a tab",
    ]
    ended = now(node)
    assert all(begun <= line.at <= ended for line in lines)
    assert [line.at for line in lines] == sorted(line.at for line in lines)


def test_no_line_is_forged_by_what_another_says(node: Node) -> None:
    """A text that holds a whole line of somebody else's is that text still, whatever stands before it."""
    begun = now(node)
    for between in BREAKS:
        written(node, f"harmless{between}{FORGED}")
    for lines in (whole_journal(node, begun, ample()), node.journal(begun, (), ample())):
        assert said(lines, "watchdog-mux") == []
        assert len(said([line for line in lines if line.at >= begun], "teller")) == len(BREAKS)


def test_an_entry_of_many_lines(node: Node) -> None:
    """What stands behind a line's end inside an entry is no entry of its own."""
    begun = now(node)
    text = f"first\n{FORGED}\nlast"
    size = len(text).to_bytes(8, "little").decode()
    # the journal's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): a value that spans lines has its length before it
    node.act(ample(), "perl", "-MSocket", "-e", _SEND, input=f"SYSLOG_IDENTIFIER=teller\nMESSAGE\n{size}{text}\n")
    lines = whole_journal(node, begun, ample())
    assert said(lines, "teller") == ["first"]
    assert said(lines, "watchdog-mux") == []


def test_a_unit_s_own_lines(node: Node) -> None:
    """Of the units that are named, and of no other."""
    begun = now(node)
    written(node, "not of a unit that is asked for")
    node.act(ample(), "systemd-run", "--quiet", "--wait", "--unit=talker", "echo", "hello")
    (line,) = [line for line in node.journal(begun, ("talker",), ample()) if line.unit == "echo"]
    assert line.text == "hello"
    assert said(node.journal(begun, ("talker",), ample()), "teller") == []


def test_it_outlives_a_power_cut(machine: Container, node: Node) -> None:
    """What was written before is read after it, before what came later."""
    begun = now(node)
    written(node, "before the cut")
    node.act(ample(), "journalctl", "--sync")
    machine.cut_power()
    machine.start()
    written(node, "after the cut")
    assert said(whole_journal(node, begun, ample()), "teller") == ["before the cut", "after the cut"]


def test_who_may_not_read_it_is_told(machine: Container, node: Node) -> None:
    """A user outside the group sees nothing of the system's, and that is an error; inside it he sees it."""
    begun = now(node)
    node.act(ample(), "useradd", "--create-home", "plain")
    as_plain = machine.inventory()
    as_plain.write_text(as_plain.read_text().replace("ssh:\n", "ssh:\n      user: plain\n"))
    for allowed in (False, True):
        if allowed:
            node.act(ample(), "usermod", "--append", "--groups", "systemd-journal", "plain")
        site = connect(load(as_plain), LiveClock())
        if allowed:
            assert whole_journal(site.nodes["pve1"], begun, ample()) != []
        else:
            with pytest.raises(ProtocolError, match="group systemd-journal"):
                whole_journal(site.nodes["pve1"], begun, ample())
        site.close()
    node.act(ample(), "userdel", "--remove", "--force", "plain")


def test_units(node: Node) -> None:
    """Running, stopped, started anew and unknown ones are told apart, and the main process is named."""
    units = node.units
    assert units.active("ssh.service", ample())
    node.act(ample(), "systemd-run", "--quiet", "--unit=pveha-sleeper", "sleep", "1000")
    first = units.main_pid("pveha-sleeper.service", ample())
    assert first in node.pids(ample())
    units.restart("pveha-sleeper.service", ample())
    second = units.main_pid("pveha-sleeper.service", ample())
    assert second not in (0, first)
    assert units.listed("pveha-*", ample()) == ["pveha-sleeper.service"]
    units.stop("pveha-sleeper.service", ample())
    assert not units.active("pveha-sleeper.service", ample())
    assert units.main_pid("pveha-sleeper.service", ample()) == 0
    assert not units.active("no-such.service", ample())
    with pytest.raises(ProtocolError, match="not found"):
        units.start("no-such.service", ample())


def test_the_system_s_state(node: Node) -> None:
    """Running, and degraded once a unit has failed."""
    assert system.state(node, ample()) == "running"
    with pytest.raises(ProtocolError):
        node.act(ample(), "systemd-run", "--quiet", "--wait", "--unit=failing", "false")
    assert system.state(node, ample()) == "degraded"
    node.act(ample(), "systemctl", "reset-failed", "failing.service")
    assert system.state(node, ample()) == "running"


def test_which_watchdog(node: Node) -> None:
    """Without a word of watchdog-mux it cannot be told; its last word since boot counts."""
    with pytest.raises(ProtocolError, match="cannot be told"):
        watchdog.identity(node, ample())
    for kind in ("Software Watchdog", "iTCO_wdt"):
        words = ["echo", f"Watchdog driver '{kind}', version 0"]
        node.act(ample(), "systemd-run", "--quiet", "--wait", "--collect", "--unit=watchdog-mux", *words)
    assert watchdog.identity(node, ample()) == "iTCO_wdt"
    assert node.watchdog_has_clients(ample()) is False


def test_a_journal_that_keeps_nothing(node: Node) -> None:
    """An empty journal is told as that, not taken for silence."""
    node.act(ample(), "mkdir", "-p", "/etc/systemd/journald.conf.d")
    node.act(ample(), "tee", "/etc/systemd/journald.conf.d/none.conf", input="[Journal]\nStorage=none\n")
    node.act(ample(), "systemctl", "restart", "systemd-journald")
    node.act(ample(), "rm", "-rf", "/var/log/journal", "/run/log/journal")
    with pytest.raises(ProtocolError, match="no line at all"):
        whole_journal(node, now(node) - 1, ample())
    node.act(ample(), "rm", "/etc/systemd/journald.conf.d/none.conf")
    node.act(ample(), "systemctl", "restart", "systemd-journald")
