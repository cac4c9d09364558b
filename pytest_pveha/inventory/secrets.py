"""References to secrets: where a value comes from, never the value.

An inventory is mailed, printed and kept with the evidence; so it names the place (``env:``, ``file:``, ``cmd:``), the
place is asked only when the value is used, and no message, log line or report shows what came out.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import InventoryError
from pytest_pveha.inventory.document import shown

FORMS: Final = "env:NAME, file:PATH (mode 0600) or cmd:COMMAND"
COMMAND_SECONDS: Final = 30.0
MAX_SECRET: Final = 64 * 1024


@dataclass(frozen=True, slots=True, repr=False)
class SecretRef:
    """Where a secret comes from: kind ``env``, ``file`` or ``cmd``, and its name, path or command line."""

    kind: str
    source: str

    @classmethod
    def parse(cls, value: object) -> SecretRef:
        """The reference a text is.

        Raises:
            ValueError: it is none; the text itself is never repeated, for it may be the secret.
        """
        kind, colon, source = value.partition(":") if isinstance(value, str) else ("", "", "")
        if not colon or kind not in ("env", "file", "cmd"):
            raise ValueError(f"is no reference to a secret (its value is not shown here); expected {FORMS}")
        if not source.strip() or not source.isprintable():
            raise ValueError(f"names nothing usable after {kind}:; expected {FORMS}")
        if kind == "env" and not (source.isidentifier() and source.isascii()):
            raise ValueError("is no name of an environment variable after env: (not shown); expected env:NAME")
        if kind == "cmd":
            try:
                shlex.split(source)
            except ValueError:
                raise ValueError("has an open quote after cmd:; expected a command line, run without a shell") from None
        return cls(kind, source)

    @classmethod
    def parse_key(cls, value: object) -> SecretRef:
        """As ``parse``; a bare path stands for ``file:PATH``."""
        if (
            isinstance(value, str)
            and value.strip()
            and value.isprintable()
            and ":" not in value
            and "-----" not in value
        ):
            return cls("file", value)
        try:
            return cls.parse(value)
        except ValueError as error:
            raise ValueError(f"{error}; or a path to an OpenSSH private key") from None

    def __str__(self) -> str:
        return f"{self.kind}:***"

    def __repr__(self) -> str:
        return f"SecretRef({self.kind}:***)"

    def resolve(self, base: Path) -> str:
        """The secret itself: one line, without its line end.

        Args:
            base: the inventory's folder, for relative paths; ``cmd:`` runs there.

        Raises:
            InventoryError: it cannot be had. The message names the variable, file or command, never what it gave.
        """
        text = self.resolve_text(base).removesuffix("\n").removesuffix("\r")
        if not text:
            raise self._refused("is empty; put the secret there")
        if not text.isprintable():
            raise self._refused("has more than one line, or control characters; expected one line")
        return text

    def resolve_text(self, base: Path) -> str:
        """The secret as it stands, for those of several lines, such as a private key.

        Raises:
            InventoryError: as for ``resolve``.
        """
        match self.kind:
            case "env":
                raw = os.environb.get(self.source.encode())
                if raw is None:
                    raise self._refused("is not set; export it before the run")
            case "file":
                raw = self._from_file(self.path(base))
            case _:
                raw = self._from_command(base)
        if len(raw) > MAX_SECRET:
            raise self._refused(f"gives more than {MAX_SECRET // 1024} KiB; expected a secret")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self._refused("is not UTF-8 text; expected text") from None

    def path(self, base: Path) -> Path:
        """The file of a ``file:`` reference."""
        return base / Path(self.source).expanduser()

    def _refused(self, what: str) -> InventoryError:
        if self.kind == "env":
            return InventoryError(f"secret: environment variable {self.source} {what}")
        if self.kind == "file":
            return InventoryError(f"secret: file {shown(self.source, 300)} {what}")
        # only the program: an argument may be telling
        return InventoryError(f"secret: command {shown(shlex.split(self.source)[0], 300)} {what}")

    def _from_file(self, path: Path) -> bytes:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._refused(f"cannot be read: {error.strerror}; check the path, it is {path}") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise self._refused("is no regular file; expected a file with the secret")
            mode = stat.S_IMODE(status.st_mode)
            if mode & 0o077:
                raise self._refused(
                    f"may be read by others (mode {mode:04o}); type: chmod 600 {shlex.quote(str(path))}"
                )
            if status.st_uid != os.geteuid():
                raise self._refused(f"belongs to user id {status.st_uid}, not to you ({os.geteuid()}); make it yours")
            return os.read(descriptor, MAX_SECRET + 1)
        finally:
            os.close(descriptor)

    def _from_command(self, base: Path) -> bytes:
        try:
            process = subprocess.Popen(
                shlex.split(self.source),
                cwd=base,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # its own session: no prompt can reach a terminal, and all its children end with it
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "not a usable command line"
            raise self._refused(f"cannot be started: {why}; check the command, it is run without a shell") from None
        try:
            raw, status = self._outcome(process)
        except BaseException:
            # not reaped yet, so the group is still ours
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if status:
            how = f"exit status {status}" if status > 0 else f"signal {-status}"
            raise self._refused(f"ended with {how}; run it by hand to see why (its output is not shown here)")
        return raw

    def _outcome(self, process: subprocess.Popen[bytes]) -> tuple[bytes, int]:
        """What the command wrote and its exit status, within the time and size allowed."""
        deadline = LiveClock().deadline(COMMAND_SECONDS)
        raw = bytearray()
        assert process.stdout is not None
        with process.stdout as out:
            while True:
                if not select.select([out], [], [], deadline.remaining())[0]:
                    raise self._refused(
                        f"did not end within {COMMAND_SECONDS:g} s; run it by hand to see what it waits for"
                    )
                block = os.read(out.fileno(), MAX_SECRET)
                raw += block
                if not block:
                    break
                if len(raw) > MAX_SECRET:
                    raise self._refused(f"gives more than {MAX_SECRET // 1024} KiB; expected a secret")
        try:
            return bytes(raw), process.wait(deadline.remaining())
        except subprocess.TimeoutExpired:
            what = f"did not end within {COMMAND_SECONDS:g} s; run it by hand to see what it waits for"
            raise self._refused(what) from None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, SecretRef) else cls.parse(value),
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": "^(env|file|cmd):.+$"}
