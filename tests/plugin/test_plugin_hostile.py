"""What a site calls its things is data: on the terminal, in the pages, in JUnit, in the shell, and on the disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from plugin_kit import SITE, Bench, Result

from pytest_pveha.errors import InventoryError
from pytest_pveha.inventory import load

NASTY = (
    "<script>alert(1)</script>\"'`$(touch pwned); touch pwned #"
    "\x1b[2J\x1b]0;owned\x07\u202e\x00]]>&amp;%s{{7*7}}../../\n.. x"
)

SUITE = f'''
import logging
from pytest_pveha.errors import ProtocolError, Unreachable, NotMet, HarmSeen, TaskFailed
from pytest_pveha.observe.answer import Condition, no, cant_tell

NASTY = {NASTY!r}

def test_sees_it(run):
    """Waits for what does not come."""
    run.expect(Condition("nothing of " + NASTY, lambda observer: no("saw " + NASTY)), within="2 s")

def test_cannot_tell(run):
    """Waits for what cannot be told."""
    run.expect(Condition("nothing of " + NASTY, lambda observer: cant_tell("saw " + NASTY)), within="2 s")

def test_is_told_it(run):
    """Gets it in an error."""
    raise ProtocolError("GET /x: " + NASTY)

def test_is_told_it_by_a_task(run):
    """Gets it in a task's log."""
    raise TaskFailed("UPID:" + NASTY, NASTY)

def test_is_harmed(run):
    """Gets it in the last thing before the end."""
    raise HarmSeen("lost " + NASTY)
'''


class Tags(HTMLParser):
    """The tags of a page, and its scripts' texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on") and tag != "body"]


@pytest.fixture(scope="module")
def told(new_bench: Callable[[], Bench]) -> Result:
    """A run that meets them everywhere."""
    bench = new_bench()
    bench.suite(SUITE)
    return bench.armed("-rA")


def test_nothing_reaches_the_terminal(told: Result) -> None:
    """No escape, no bell, no turning of the line; and nobody's message is lost either."""
    assert told.code == 1
    assert not re.search("[\x00\x07\x1b\u202e]", told.text)
    assert "saw <script>" in told.text
    assert "\\x1b[2J" in told.text


def test_nothing_is_markup(told: Result) -> None:
    """Our page has no script; pytest-html's has its own and no more; both have every control character spelled."""
    ours = (told.folder / "report.html").read_text("utf-8")
    theirs = (told.folder / "pytest.html").read_text("utf-8")
    assert "script" not in Tags(ours).tags
    assert Tags(ours).handlers == []
    assert Tags(theirs).tags.count("script") == 2 or "alert(1)" not in "".join(
        re.findall(r"<script[^>]*>(.*?)</script>", theirs, re.S)
    )
    assert "<script>alert" not in ours
    assert "<script>alert" not in theirs
    assert "{{7*7}}" in ours
    assert not re.search("[\x00\x07\x1b\u202e]", ours)


def test_junit_is_xml(told: Result) -> None:
    """An XML reader takes it, and each message has the verdict's word before what the site says."""
    root = ElementTree.parse(told.folder / "junit.xml").getroot()
    messages = [str(each.get("message")) for each in root.iter() if each.tag in ("failure", "error")]
    assert any("<script>alert(1)</script>" in message for message in messages)
    words = {message.removeprefix("Failed: ").split(":")[0] for message in messages}
    assert words == {"rejected", "inconclusive"}
    assert not re.search("[\x07\x1b\u202e]", "".join(messages))


def test_nothing_is_run_or_left_outside(told: Result) -> None:
    """No shell took any of it, and the run folder is the only place with files of the run."""
    assert list(told.reports.parent.rglob("pwned")) == []
    assert {path.name for path in told.reports.iterdir()} == {"bench", "latest"}
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", path.name) for path in told.reports.rglob("*"))


def test_the_record_keeps_it_as_it_was(told: Result) -> None:
    """The journal is evidence: it has the very text, in JSON."""
    assert any("\\u001b[2J" in line for line in (told.folder / "journal.jsonl").read_text("utf-8").splitlines())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("site: {name: bench}", "site: {name: ../../etc}"),
        ("site: {name: bench}", 'site: {name: ".."}'),
        ("site: {name: bench}", 'site: {name: "a/b"}'),
        ("site: {name: bench}", 'site: {name: "a\\x1b[2J"}'),
        ("site: {name: bench}", 'site: {name: "<script>"}'),
        ("cluster: {name: bench}", 'cluster: {name: "$(touch pwned)"}'),
        ("  pve1: {room: a}", '  "../pve1": {room: a}'),
        ("  pve1: {room: a}", '  "pve1;rm": {room: a}'),
        ("  pve1: {room: a}", '  "-oProxyCommand=x": {room: a}'),
        ("  pve1: {room: a}", '  "<img src=x>": {room: a}'),
        ("  pve1: {room: a}", '  pve1: {room: "a\\u202eb"}'),
        ('"vm:101"', '"vm:101/../.."'),
        ('"vm:101"', '"<b>:101"'),
        ("operator: tests", 'operator: "x\\x07"'),
        ("site: {name: bench}", "site: !!python/object/apply:os.system [touch pwned]"),
    ],
)
def test_names_of_an_inventory_are_names(tmp_path: Path, old: str, new: str) -> None:
    """What becomes a path, a test id, or a word of a command is refused unless it is plain; so ids need no escaping."""
    assert old in SITE
    path = tmp_path / "site.yml"
    path.write_text(SITE.replace(old, new), encoding="utf-8")
    with pytest.raises(InventoryError) as refused:
        load(path)
    assert str(refused.value).replace("\n", "").isprintable()
