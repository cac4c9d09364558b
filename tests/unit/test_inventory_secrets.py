"""Secrets are had at use, and never seen anywhere else."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from inventory_texts import REAL

from pytest_pveha.errors import InventoryError
from pytest_pveha.inventory import SecretRef, load, secrets


def refused(reference: str, base: Path) -> str:
    """What resolving that reference says."""
    with pytest.raises(InventoryError) as caught:
        SecretRef.parse(reference).resolve(base)
    return str(caught.value).replace(str(base), "BASE")


def secret_file(base: Path, content: bytes = b"canary\n", mode: int = 0o600) -> Path:
    """A file with a secret in it."""
    path = base / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """env:NAME gives the variable's value."""
    monkeypatch.setenv("PVEHA_TEST", "canary")
    assert SecretRef.parse("env:PVEHA_TEST").resolve(tmp_path) == "canary"


def test_environment_variable_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set is named."""
    monkeypatch.delenv("PVEHA_TEST", raising=False)
    expected = "secret: environment variable PVEHA_TEST is not set; export it before the run"
    assert refused("env:PVEHA_TEST", tmp_path) == expected


def test_empty_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty value is no secret."""
    monkeypatch.setenv("PVEHA_TEST", "")
    expected = "secret: environment variable PVEHA_TEST is empty; put the secret there"
    assert refused("env:PVEHA_TEST", tmp_path) == expected


def test_file_relative_to_the_inventory(tmp_path: Path) -> None:
    """file:PATH gives the file's only line, from the inventory's folder."""
    secret_file(tmp_path)
    assert SecretRef.parse("file:secret").resolve(tmp_path) == "canary"
    assert SecretRef.parse(f"file:{tmp_path}/secret").resolve(Path("/")) == "canary"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_file_that_others_may_read(mode: int, tmp_path: Path) -> None:
    """A file that others may read is refused, with the command that mends it."""
    secret_file(tmp_path, mode=mode)
    expected = f"secret: file secret may be read by others (mode {mode:04o}); type: chmod 600 BASE/secret"
    assert refused("file:secret", tmp_path) == expected


def test_file_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another user owns, and so can change, is refused."""
    owner = secret_file(tmp_path).stat().st_uid
    monkeypatch.setattr("pytest_pveha.inventory.secrets.os.geteuid", lambda: owner + 1)
    expected = f"secret: file secret belongs to user id {owner}, not to you ({owner + 1}); make it yours"
    assert refused("file:secret", tmp_path) == expected


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is named, with the place where it was looked for."""
    expected = "secret: file secret cannot be read: No such file or directory; check the path, it is BASE/secret"
    assert refused("file:secret", tmp_path) == expected


def test_directory_in_place_of_a_file(tmp_path: Path) -> None:
    """A directory is no secret."""
    (tmp_path / "secret").mkdir()
    assert refused("file:secret", tmp_path) == "secret: file secret is no regular file; expected a file with the secret"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\n", "is empty; put the secret there"),
        (b"canary\nsecond\n", "has more than one line, or control characters; expected one line"),
        (b"can\x1bary", "has more than one line, or control characters; expected one line"),
        (b"\xff\xfe", "is not UTF-8 text; expected text"),
        (b"x" * (secrets.MAX_SECRET + 1), "gives more than 64 KiB; expected a secret"),
    ],
)
def test_unusable_content(content: bytes, what: str, tmp_path: Path) -> None:
    """A value that cannot be a password is refused, and not shown."""
    secret_file(tmp_path, content)
    assert refused("file:secret", tmp_path) == f"secret: file secret {what}"


def test_command(tmp_path: Path) -> None:
    """cmd: runs a command without a shell in the inventory's folder, and takes what it prints."""
    secret_file(tmp_path, b"canary\r\n")
    assert SecretRef.parse("cmd:cat secret").resolve(tmp_path) == "canary"
    assert SecretRef.parse("cmd:printf '%s' '$HOME; `id`'").resolve(tmp_path) == "$HOME; `id`"


def test_command_has_no_input(tmp_path: Path) -> None:
    """A command that asks for something reads an end of file, and does not hang."""
    assert refused("cmd:cat", tmp_path) == "secret: command cat is empty; put the secret there"


def test_command_that_fails(tmp_path: Path) -> None:
    """A failing command is named with its exit status; neither its arguments nor its output are shown."""
    expected = "secret: command sh ended with exit status 3; run it by hand to see why (its output is not shown here)"
    assert refused("cmd:sh -c 'echo canary; echo canary >&2; exit 3'", tmp_path) == expected


def test_command_killed(tmp_path: Path) -> None:
    """A command that a signal ended is told with the signal."""
    assert "ended with signal 9;" in refused("cmd:sh -c 'kill -9 $$'", tmp_path)


def test_command_not_there(tmp_path: Path) -> None:
    """A command that does not exist is named."""
    expected = (
        "secret: command no-such-command cannot be started: No such file or directory; "
        "check the command, it is run without a shell"
    )
    assert refused("cmd:no-such-command --token canary", tmp_path) == expected


@pytest.mark.parametrize("command", ["sleep 60", "sh -c 'sleep 60 & exit 0'", "sh -c 'exec >&-; sleep 60'"])
def test_command_that_hangs(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that does not end is ended, children too, when its time is over."""
    monkeypatch.setattr(secrets, "COMMAND_SECONDS", 0.1)
    program = command.split()[0]
    expected = f"secret: command {program} did not end within 0.1 s; run it by hand to see what it waits for"
    assert refused(f"cmd:{command}", tmp_path) == expected


def test_command_that_never_stops_talking(tmp_path: Path) -> None:
    """Endless output is cut off."""
    assert refused("cmd:yes", tmp_path) == "secret: command yes gives more than 64 KiB; expected a secret"


def test_secrets_of_several_lines(tmp_path: Path) -> None:
    """A private key is had as it stands, line ends and all."""
    secret_file(tmp_path, b"line 1\nline 2\n")
    assert SecretRef.parse("file:secret").resolve_text(tmp_path) == "line 1\nline 2\n"


def test_bare_path_of_a_key(tmp_path: Path) -> None:
    """A signing key may be named by its path alone."""
    assert SecretRef.parse_key("keys/evidence") == SecretRef("file", "keys/evidence")
    assert SecretRef.parse_key("keys/evidence").path(tmp_path) == tmp_path / "keys/evidence"


def test_never_shown(tmp_path: Path) -> None:
    """No way of printing an inventory shows more of a secret than the kind of its reference."""
    path = tmp_path / "site.yml"
    path.write_text(REAL.replace("env:TOKEN", "cmd:vault read sparrow").replace("env:BMC", "file:canary"))
    site = load(path)
    for text in (str(site), repr(site), str(site.model), site.model.model_dump_json(), str(site.model.model_dump())):
        assert "sparrow" not in text
        assert "***" in text


def test_travels_between_processes() -> None:
    """A reference can be handed to a child process."""
    reference = SecretRef("env", "NAME")
    assert pickle.loads(pickle.dumps(reference)) == reference
    assert repr(reference) == "SecretRef(env:***)"
    assert str(reference) == "env:***"
