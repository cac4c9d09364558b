"""What a run asks of people, and what they answer: small files in this user's state directory.

``questions/RUN/STEP.json`` is a question, ``STEP.answer`` beside it the answer: the first one counts. Both are written
whole or not at all, for their owner's eyes alone. The run, its healers and ``pveha answer`` meet here.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

from pytest_pveha.errors import EvidenceError, UsageError
from pytest_pveha.record.openings import state_home
from pytest_pveha.record.private import private_directory

Word = Literal["done", "refuse"]
WORDS: Final = ("done", "refuse")

_STEP = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")


@dataclass(frozen=True, slots=True)
class Question:
    """Something that a person is to do, or is not to do, and to say so."""

    run: str
    step: str
    text: str
    who: str
    pid: int
    """The process that waits for the answer."""
    settled: bool = False
    """Whether it was seen to be done, whatever is answered."""

    @property
    def command(self) -> str:
        """What answers it, in another terminal of the same user."""
        return f"pveha answer {self.run} {self.step}"

    @property
    def heard(self) -> bool:
        """Whether the process that asked still lives."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, and whose it is."""

    word: Word
    user: str


class Desk:
    """The questions of one run, on this machine."""

    def __init__(self, run: str, environ: Mapping[str, str] = os.environ) -> None:
        self.run = run
        self._folder = state_home(environ) / "questions" / quote(run, safe="").replace(".", "%2E")

    def ask(self, step: str, text: str, who: str) -> Question:
        """The question can be answered; what was answered to it before counts no more.

        Raises:
            UsageError: the step's name cannot be one.
            EvidenceError: it cannot be written.
        """
        question = Question(self.run, _named(step), text, who, os.getpid())
        self._write(question, anew=True)
        return question

    def question(self, step: str) -> Question | None:
        """What was asked; None if nothing was, or it is over."""
        found = _read(self._folder / f"{step}.json")
        try:
            return None if found is None else Question(**found)
        except TypeError:
            return None

    def open(self) -> list[Question]:
        """What waits for an answer, in the order of names."""
        steps = sorted(path.stem for path in self._folder.glob("*.json"))
        asked = [question for step in steps if (question := self.question(step)) is not None]
        return [question for question in asked if not question.settled and self.answer(question.step) is None]

    def say(self, step: str, word: Word, user: str) -> Said:
        """The first answer to it, which may be somebody's earlier one.

        Raises:
            EvidenceError: it cannot be written.
        """
        path = self._answer(_named(step))
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            _draft(draft, {"word": word, "user": user})
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)  # unlike a rename it fails where there is one
            draft.unlink()
        except OSError as error:
            raise EvidenceError(f"{path}: cannot be written ({error.strerror}); nobody hears this answer") from error
        return self.answer(step) or Said(word, user)

    def recall(self, step: str, text: str, who: str, settled: bool, said: Said | None) -> None:
        """It counts as asked here, and as answered with that: a run on another machine asked it, and has ended.

        Raises:
            UsageError: the step's name cannot be one.
            EvidenceError: it cannot be written.
        """
        self._write(Question(self.run, _named(step), text, who, os.getpid(), settled), anew=True)
        if said is not None:
            self.say(step, said.word, said.user)

    def answer(self, step: str) -> Said | None:
        """What was answered first; None as long as nobody has."""
        found = _read(self._answer(step))
        if found is None or found.get("word") not in WORDS:
            return None
        return Said(found["word"], str(found.get("user") or "nobody knows who"))

    def settle(self, step: str) -> None:
        """It was seen to be done: no answer is needed any more."""
        if (question := self.question(step)) is not None:
            self._write(replace(question, settled=True))

    def clear(self) -> None:
        """Nothing is asked any more, and no answer is kept here: the journal has them."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answer(self, step: str) -> Path:
        return self._folder / f"{step}.answer"

    def _write(self, question: Question, *, anew: bool = False) -> None:
        path = self._folder / f"{question.step}.json"
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            private_directory(self._folder)
            if anew:
                self._answer(question.step).unlink(missing_ok=True)
            _draft(draft, asdict(question))
            draft.replace(path)
        except OSError as error:
            raise EvidenceError(
                f"{path}: cannot be written ({error.strerror}), so nobody can be asked; set PVEHA_STATE"
            ) from error


def login() -> str:
    """Whose process this is."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def is_step(text: str) -> bool:
    """Whether a question can have that name."""
    return _STEP.fullmatch(text) is not None


def _named(step: str) -> str:
    if not is_step(step):
        raise UsageError(f"{step!r} cannot be a step's name; expected small letters, digits and hyphens")
    return step


def _draft(path: Path, content: Mapping[str, Any]) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
