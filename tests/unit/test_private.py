"""What a run keeps is for its owner alone, and what it is installed from is what was locked."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_pveha.errors import PvehaError
from pytest_pveha.record.lease import Lease
from pytest_pveha.record.openings import OpenRuns, open_runs
from pytest_pveha.record.private import private_directory, private_file

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _careless() -> Iterator[None]:
    """The user's own umask forbids nobody anything."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_directory_that_is_made_is_private(tmp_path: Path) -> None:
    """Not only the last one, as mkdir(parents=True) has it."""
    tmp_path.chmod(0o755)
    private_directory(tmp_path / "a" / "b" / "c")
    assert [mode(tmp_path / part) for part in ("a", "a/b", "a/b/c")] == [0o700] * 3
    assert mode(tmp_path) == 0o755


def test_the_state_is_private(tmp_path: Path) -> None:
    """Register and lease, their directories, and the state's own."""
    home = tmp_path / "state"
    environ = {"PVEHA_STATE": str(home)}
    (tmp_path / "run").mkdir()
    open_runs("lab", environ).add(tmp_path / "run")
    lease = Lease("lab", environ)
    lease.take()
    lease.ask_to_stop("x")
    lease.give_back()
    made = [home, *home.rglob("*")]
    assert len(made) == 7
    assert all(mode(path) & 0o077 == 0 for path in made if path.is_dir())
    assert all(mode(path) & 0o077 == 0 for path in made if path.suffix in (".json", ".lock"))


def test_a_register_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """Somebody else could take a run out of it, or put one in; the message has the command that mends it."""
    (tmp_path / "open").mkdir(mode=0o777)
    with pytest.raises(PvehaError, match=r"others may write here .* chmod 700"):
        OpenRuns(tmp_path / "open").add(tmp_path)


def test_a_private_file_replaces_a_link(tmp_path: Path) -> None:
    """A link that lies in its place leads nothing out of the folder."""
    (tmp_path / "elsewhere").write_text("whole")
    (tmp_path / "verdict.json").symlink_to(tmp_path / "elsewhere")
    with private_file(tmp_path / "verdict.json") as file:
        file.write(b"{}")
    assert (tmp_path / "elsewhere").read_text() == "whole"
    assert mode(tmp_path / "verdict.json") == 0o600


@pytest.mark.parametrize("site", ["..", ".", "../../etc", "a/b", "a\x00b", ".hidden", "lock.stop", "%2e%2e"])
def test_no_name_of_a_site_leads_out_of_the_state(tmp_path: Path, site: str) -> None:
    """Whatever the inventory calls the site, its files lie one level below."""
    environ = {"PVEHA_STATE": str(tmp_path / "state")}
    register = open_runs(site, environ).state_dir
    assert register.resolve().parent == (tmp_path / "state" / "open").resolve()
    lease = Lease(site, environ)
    lease.take()
    lease.give_back()
    assert [path.parent.name for path in (tmp_path / "state").rglob("*.lock")] == ["lease"]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_every_requirement_is_locked_with_its_hashes(name: str) -> None:
    """Each has an exact version and one hash or more, and none comes from elsewhere than the index."""
    entries = re.split(r"\n(?=[^\s#])", "\n" + (ROOT / name).read_text("utf-8"))[1:]
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^ \n]+", entry), entry
        assert "--hash=sha256:" in entry, entry
        assert "://" not in entry, entry


def test_what_is_installed_is_what_is_locked() -> None:
    """The Makefile installs by hash, but for the project itself, and that without looking for more."""
    lines = [
        line for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if " install " in line and "PIP" in line
    ]
    assert len(lines) >= 3
    for line in lines:
        assert "--require-hashes -r requirements" in line or "--no-deps --no-build-isolation --editable ." in line
