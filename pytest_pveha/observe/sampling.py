"""The sampler in a process of its own: on a real site nothing that pytest does may delay a probe.

Both processes read this host's monotonic clock, so that its moments need no conversion. Commands go to the child's
standard input, what it heard comes back on its standard output, one JSON object a line each way; end of input ends it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from dataclasses import asdict
from typing import Any, Protocol

from pytest_pveha.clock import Clock, LiveClock
from pytest_pveha.observe.answer import Write
from pytest_pveha.observe.sampler import Probe, Sampler

FIRST = -10
"""The child's priority, by setpriority(2)."""

GOODBYE = 10.0
"""Real seconds the child has to hand over its last samples."""


class Sampling(Protocol):
    """What a run needs of a sampler, wherever it lives."""

    @property
    def alive(self) -> bool: ...
    def watch(self, probes: list[Probe]) -> None: ...
    def fast(self) -> None: ...
    def slow(self) -> None: ...
    def mark(self) -> None: ...
    def good_since(self, subject: str) -> int | None: ...
    def stop(self) -> None: ...


def sampler(clock: Clock, write: Write) -> Sampling:
    """The sampler for this clock: a participant of a simulated site's time, a process of its own on a real one."""
    return Sampler(clock, write) if clock.simulated else SamplerProcess(write)


class SamplerProcess:
    """The run's end of the child."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._subjects: dict[str, str] = {}
        self._answers: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()
        self._stopping = False
        self.program: tuple[str, ...] = ("-m", "pytest_pveha.observe.sampling")
        """What the interpreter runs as the child."""

    @property
    def alive(self) -> bool:
        """Whether anything is being asked."""
        return self._process is not None and self._process.poll() is None

    def watch(self, probes: list[Probe]) -> None:
        """These probes are asked from now on."""
        if self._process is None:
            self._start()
        self._subjects |= {probe.name: probe.subject for probe in probes}
        self._send(watch=[asdict(probe) for probe in probes])

    def fast(self) -> None:
        """From the next tick on ten times a second."""
        self._send(pace="fast")

    def slow(self) -> None:
        """From the next tick on once a second."""
        self._send(pace="slow")

    def mark(self) -> None:
        """How long the answers took until about now is soon in the journal, by itself."""
        self._send(mark=True)

    def good_since(self, subject: str) -> int | None:
        """Since which sending (mono ns) every probe of the subject has answered well; None while one does not."""
        names = [name for name, of in self._subjects.items() if of == subject]
        with self._lock:
            answers = [self._answers.get(name) for name in names]
        if not answers or any(answer is None or answer[0] != "good" for answer in answers):
            return None
        return max(answer[1] for answer in answers if answer is not None)

    def stop(self) -> None:
        """The last answers are in the journal; nothing is asked any more."""
        process, self._stopping = self._process, True
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        if self._reader is not None:
            self._reader.join(GOODBYE)
        process.kill()
        process.wait()
        if self._reader is not None:
            self._reader.join(GOODBYE)  # now that its writer has ended
        if process.stdout is not None:
            process.stdout.close()
        self._process = None

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *self.program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is the run's; what is being broken goes on being watched
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self._reader = threading.Thread(target=self._read, name="sampler", daemon=True)
        self._reader.start()

    def _send(self, **command: Any) -> None:
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                message = json.loads(line)
            except ValueError:  # killed in mid-word: it is over, and the note below says so
                break
            if "kind" in message:
                self._write(message["kind"], message["data"])
            else:
                with self._lock:
                    self._answers[message["probe"]] = (message["answer"], message["first"])
        if not self._stopping:
            self._write("note", {"text": "the sampler's process ended before its time; what it watched is not covered"})


def main() -> int:
    """The child: asks until its input ends."""
    with contextlib.suppress(OSError):  # where we may: then a busy controller delays no probe
        os.setpriority(os.PRIO_PROCESS, 0, FIRST)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    telling = threading.Thread(target=_tell, args=(lines,), name="telling", daemon=True)
    telling.start()

    def tell(message: dict[str, Any]) -> None:
        lines.put(json.dumps(message) + "\n")

    asking = Sampler(
        LiveClock(),
        lambda kind, data: tell({"kind": kind, "data": data}),
        lambda probe, answer, first: tell({"probe": probe.name, "answer": answer, "first": first}),
    )
    with contextlib.suppress(BrokenPipeError):
        for line in sys.stdin:
            command = json.loads(line)
            if "watch" in command:
                asking.watch([Probe(**probe) for probe in command["watch"]])
            elif "mark" in command:
                asking.mark()
            elif command["pace"] == "fast":
                asking.fast()
            else:
                asking.slow()
        asking.stop()
    lines.put("")
    telling.join()
    return 0


def _tell(lines: queue.SimpleQueue[str]) -> None:
    """All lines up to an empty one are handed over, in their order: who reads slowly holds up nobody who asks."""
    with contextlib.suppress(BrokenPipeError):
        while line := lines.get():
            sys.stdout.write(line)
            sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
