"""The journal: one writer, a chain, and nothing wrong ever accepted."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_pveha.clock import SECOND, Instant, LiveClock
from pytest_pveha.errors import EvidenceError, SiteBusy
from pytest_pveha.record.journal import FIRST, Journal, canonical_json, read
from pytest_pveha.record.kinds import FIELDS, missing
from pytest_pveha.record.volatile import canonical


class SetClock(LiveClock):
    """A clock that says what it is told."""

    def __init__(self, mono: int = 0, utc: int = 1_767_340_800 * SECOND) -> None:
        super().__init__()
        self.mono = mono
        self.utc = utc

    def now(self) -> Instant:
        """One millisecond after the last question."""
        self.mono += 1_000_000
        self.utc += 1_000_000
        return Instant(self.mono, self.utc)


def written(path: Path, texts: list[str]) -> bytes:
    """A journal of notes is in the file; its content."""
    with Journal(path, SetClock()) as journal:
        for text in texts:
            journal.write("note", {"text": text}, test="a test")
    return path.read_bytes()


def test_a_line_has_the_promised_form(tmp_path: Path) -> None:
    """A line is canonical JSON with the eight keys and its own sum, and names the line before by its SHA-256."""
    content = written(tmp_path / "j", ["ä", "b"])
    first, second = content.splitlines()
    value = json.loads(first)
    assert value.pop("sum") == hashlib.sha256(canonical_json(value)).hexdigest()
    assert value == {
        "data": {"text": "ä"},
        "kind": "note",
        "mono": 1_000_000,
        "prev": FIRST,
        "schema": 1,
        "seq": 0,
        "test": "a test",
        "utc": "2026-01-02T08:00:00.001000Z",
    }
    assert json.loads(second)["prev"] == hashlib.sha256(first).hexdigest()
    assert "ä".encode() in first
    assert b" " not in first.replace(b"a test", b"")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Reading gives back the very lines that write returned."""
    path = tmp_path / "j"
    with Journal(path, SetClock()) as journal:
        lines = [journal.write("note", {"text": "x", "nested": {"b": (1, 2), "a": None}}) for _ in range(3)]
    assert read(path) == lines
    assert lines[0].data["nested"] == {"a": None, "b": [1, 2]}


def test_the_file_is_private_and_never_written_over(tmp_path: Path) -> None:
    """A journal is readable by its owner only, and a second one does not begin in its place."""
    path = tmp_path / "j"
    written(path, ["x"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(EvidenceError, match="lies here already"):
        Journal(path, SetClock())


@pytest.mark.parametrize("data", [{"x": float("nan")}, {"x": float("inf")}, {"x": object()}, {"x": {1: 2, "a": 3}}])
def test_what_json_cannot_say_is_refused(tmp_path: Path, data: dict[str, Any]) -> None:
    """NaN, infinities and foreign objects are refused, and the journal goes on unharmed."""
    with Journal(tmp_path / "j", SetClock()) as journal:
        with pytest.raises(EvidenceError, match="JSON cannot say"):
            journal.write("note", data)
        journal.write("note", {"text": "after"})
    assert [line.data for line in read(tmp_path / "j")] == [{"text": "after"}]


def test_unknown_kinds_are_refused(tmp_path: Path) -> None:
    """A kind outside the table is refused by the writer."""
    with Journal(tmp_path / "j", SetClock()) as journal, pytest.raises(EvidenceError, match="no kind"):
        journal.write("fault.planned", {})


def test_bytes_that_were_no_text_do_not_stop_the_journal(tmp_path: Path) -> None:
    """A lone surrogate, as surrogateescape leaves it, becomes a question mark."""
    with Journal(tmp_path / "j", SetClock()) as journal:
        assert journal.write("note", {"text": "a\udc80b"}).data == {"text": "a?b"}
    assert read(tmp_path / "j")[0].data == {"text": "a?b"}


def test_control_lines_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault's plan is on the disk when write returns; a sample is not waited for."""
    synced: list[int] = []
    real = os.fsync

    def noting(descriptor: int) -> None:
        synced.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    with Journal(tmp_path / "j", SetClock()) as journal:
        assert len(synced) == 1, "the directory, for the file's name"
        journal.write("samples", {})
        assert len(synced) == 1
        journal.write("fault.plan", {"fault": "f"})
        assert len(synced) == 2


def test_threads_share_a_journal(tmp_path: Path) -> None:
    """Lines of many threads are whole and in one chain."""
    path = tmp_path / "j"
    with Journal(path, LiveClock()) as journal:

        def work() -> None:
            for _ in range(50):
                journal.write("note", {"text": "x"})

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(read(path)) == 200


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    """A healer does not write into a journal that its run still writes."""
    path = tmp_path / "j"
    with Journal(path, SetClock()), pytest.raises(SiteBusy, match="another process"):
        Journal.reopen(path, SetClock())
    Journal.reopen(path, SetClock()).close()


def test_a_healer_goes_on_where_the_run_ended(tmp_path: Path) -> None:
    """A reopened journal continues seq and chain, and its lines say by whom they are."""
    path = tmp_path / "j"
    written(path, ["x"])
    with Journal.reopen(path, SetClock(mono=5 * SECOND), by="pveha heal") as journal:
        journal.write("fault.heal", {"fault": "power-cut-1"})
    lines = read(path)
    assert [line.seq for line in lines] == [0, 1]
    assert lines[1].data == {"fault": "power-cut-1", "by": "pveha heal"}


def test_a_torn_last_line_is_set_aside(tmp_path: Path) -> None:
    """What a killed writer left of its last line is kept beside, and a note says so."""
    path = tmp_path / "j"
    content = written(path, ["x", "y"])
    for number, size in enumerate((len(content) - 1, len(content) - 20), start=1):
        path.write_bytes(content[:size])
        assert len(read(path, tolerant_tail=True)) == 1
        with pytest.raises(EvidenceError, match=r"j:2: the line is torn"):
            read(path)
        with Journal.reopen(path, SetClock(mono=5 * SECOND), by="supervisor"):
            pass
        torn = tmp_path / f"j.torn-{number}"
        assert content[:size].endswith(torn.read_bytes())
        last = read(path)[-1]
        assert last.kind == "note"
        assert f"j.torn-{number}" in last.data["text"]
        assert last.data["by"] == "supervisor"


def test_a_journal_torn_in_its_first_line_can_be_reopened(tmp_path: Path) -> None:
    """A writer killed in its very first line leaves a journal that begins anew."""
    path = tmp_path / "j"
    path.write_bytes(b'{"data"')
    with Journal.reopen(path, SetClock()) as journal:
        journal.write("note", {"text": "x"})
    assert [line.kind for line in read(path)] == ["note", "note"]


def test_time_goes_on_after_a_restart_of_this_machine(tmp_path: Path) -> None:
    """When the monotonic clock began anew, the journal's time goes on by UTC and says so."""
    path = tmp_path / "j"
    with Journal(path, SetClock(mono=10**15)) as journal:
        before = journal.write("note", {"text": "x"})
    clock = SetClock(mono=0, utc=1_767_340_800 * SECOND + 100 * SECOND)
    with Journal.reopen(path, clock) as journal:
        after = journal.write("note", {"text": "y"})
    assert 100 * SECOND <= after.mono - before.mono < 101 * SECOND
    assert "began anew" in read(path)[1].data["text"]


def test_a_broken_journal_is_not_continued(tmp_path: Path) -> None:
    """Nobody appends to a journal whose chain is broken."""
    path = tmp_path / "j"
    content = written(path, ["x", "y", "z"])
    path.write_bytes(content.replace(b'"text":"y"', b'"text":"Y"'))
    with pytest.raises(EvidenceError, match=r"j:2: the line was changed"):
        Journal.reopen(path, SetClock())
    assert path.read_bytes() == content.replace(b'"text":"y"', b'"text":"Y"')


def test_removed_and_swapped_lines_are_seen(tmp_path: Path) -> None:
    """A line missing from the middle, or two swapped, breaks the chain."""
    path = tmp_path / "j"
    first, second, third = written(path, ["x", "y", "z"]).splitlines(keepends=True)
    for changed in (first + third, second + first + third, second + third):
        path.write_bytes(changed)
        with pytest.raises(EvidenceError, match=r"j:[12]: "):
            read(path)


def test_a_line_without_a_sum_is_refused(tmp_path: Path) -> None:
    """Whoever changes the last line, and takes out its sum with it, is noticed: no later line names it."""
    path = tmp_path / "j"
    *whole, last = written(path, ["x", "y"]).splitlines()
    value = json.loads(last) | {"data": {"text": "Y"}}
    del value["sum"]
    path.write_bytes(b"\n".join([*whole, canonical_json(value)]) + b"\n")
    with pytest.raises(EvidenceError, match="not the keys of a journal line"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"\n", b"{}\n", b"[]\n", b"\xff\n", b"[" * 5000 + b"\n", b"1e999\n"])
def test_what_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    """Any other file is refused with file, line and reason."""
    path = tmp_path / "j"
    path.write_bytes(content)
    with pytest.raises(EvidenceError, match=r"j:1: "):
        read(path)


def test_a_missing_journal_is_one_clear_error(tmp_path: Path) -> None:
    """A journal that is not there is an EvidenceError for reader and healer."""
    with pytest.raises(EvidenceError, match="cannot read"):
        read(tmp_path / "none")
    with pytest.raises(EvidenceError, match="cannot open"):
        Journal.reopen(tmp_path / "none", SetClock())


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full, the error is clear and what was written before stays readable."""
    path = tmp_path / "j"
    real = os.write

    def full(descriptor: int, content: bytes) -> int:
        real(descriptor, bytes(content)[:10])
        raise OSError(28, "No space left on device")

    with Journal(path, SetClock()) as journal:
        journal.write("note", {"text": "x"})
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            with pytest.raises(EvidenceError, match="No space left"):
                journal.write("note", {"text": "y"})
        journal.write("note", {"text": "z"})
    assert [line.data["text"] for line in read(path)] == ["x", "z"]


SAMPLE = ["first", "second ü", "third"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 7)), min_size=1, max_size=3))
def test_flipped_bits_are_never_accepted(tmp_path: Path, flips: list[tuple[int, int]]) -> None:
    """A journal with flipped bits is an EvidenceError, or the flips undid each other."""
    path = tmp_path / "fuzz"
    path.unlink(missing_ok=True)
    content = bytearray(written(path, SAMPLE))
    truth = read(path)
    for place, bit in flips:
        content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    for tolerant in (False, True):
        try:
            lines = read(path, tolerant_tail=tolerant)
        except EvidenceError:
            continue
        assert lines == truth[: len(lines)]
        assert tolerant or lines == truth


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(size=st.integers(0, 2_000), tail=st.binary(max_size=8))
def test_a_cut_journal_is_never_misread(tmp_path: Path, size: int, tail: bytes) -> None:
    """A journal cut anywhere, with rubbish behind, gives its first lines as they were, or an EvidenceError."""
    path = tmp_path / "fuzz"
    path.unlink(missing_ok=True)
    content = written(path, SAMPLE)
    truth = read(path)
    path.write_bytes(content[: size % (len(content) + 1)] + tail)
    for tolerant in (False, True):
        try:
            lines = read(path, tolerant_tail=tolerant)
        except EvidenceError:
            continue
        assert lines == truth[: len(lines)]


def test_the_same_events_are_the_same_journal(tmp_path: Path) -> None:
    """Run id, addresses, ports and paths may differ; anything else that differs shows."""
    with Journal(tmp_path / "a", SetClock()) as one:
        one.write("run.open", {"run": "0a1b2c3d", "site": "s", "environment": {"x": 1}, "volatile": 1})
        one.write("note", {"text": "asked 127.0.0.1:4711", "tag": "pveha-0a1b2c3d-x", "at": ["127.0.0.1", 4711]})
    with Journal(tmp_path / "b", SetClock()) as two:
        two.write("run.open", {"run": "99999999", "site": "s", "environment": {"x": 2}, "pid": 7})
        two.write("note", {"text": "asked 127.0.0.1:815", "tag": "pveha-99999999-x", "at": ["127.0.0.1", 815]})
    assert canonical(read(tmp_path / "a")) == canonical(read(tmp_path / "b"))
    with Journal(tmp_path / "c", SetClock()) as three:
        three.write("run.open", {"run": "3", "site": "t"})
    assert canonical(read(tmp_path / "c")) != canonical(read(tmp_path / "a"))[:1]
    assert canonical(read(tmp_path / "c")) != canonical(read(tmp_path / "a")[:1])


def test_missing_fields_are_named() -> None:
    """The table says what a line of a kind lacks."""
    assert missing("fault.close", {"fault": "f"}) == ["outcome"]
    assert all(missing(kind, dict.fromkeys(fields)) == [] for kind, fields in FIELDS.items())
