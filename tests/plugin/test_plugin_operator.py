"""A person is asked in the middle of a run: typed on its terminal, answered from another one, or not at all."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

from plugin_kit import Bench, Result

from pytest_pveha.clock import LiveClock

ASKS = '''
def test_asked(operator, run):
    """Somebody looked at the rack."""
    operator.ask("look", "look at the rack", within=os.environ["WITHIN"])
    run.check(CHECKS[0])

def test_after(run):
    """All is well after that."""
    run.check(CHECKS[0])
'''
LONG = "20 h"
"""Of the site's time, which passes in less than a minute: whoever answers in a second is in time."""


def typed(bench: Bench) -> list[str]:
    """The command line of a run."""
    few = ("-p", "pveha", "-p", "pytest_metadata.plugin", "-p", "pytest_html.plugin")
    return [sys.executable, "-m", "pytest", *few, "--inventory", "sim.yml"]


def test_an_answer_is_typed_at_the_terminal(bench: Bench) -> None:
    """Past pytest's capturing; the terminal says for whom, what, and how, and the journal who answered."""
    bench.suite(ASKS)
    pid, person = pty.fork()
    if pid == 0:
        os.chdir(bench.project)
        environment = {**bench.env, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "WITHIN": LONG, "NO_COLOR": "1"}
        os.execve(sys.executable, typed(bench), environment)
    shown, answered = "", False
    while True:
        try:
            chunk = os.read(person, 4000).decode(errors="replace")
        except OSError:  # it has ended
            break
        if not chunk:
            break
        shown += chunk
        if not answered and "type that last word." in shown:
            os.write(person, b"done\n")
            answered = True
    os.close(person)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0, shown
    assert re.search(r"the operator: look at the rack\s+Then type: pveha answer [0-9a-f]{8} look done", shown), shown
    answer = answers(Result(code, shown, "", bench.project / "reports"))
    assert (answer["step"], answer["answer"], answer["way"]) == ("look", "done", "terminal")


def test_an_answer_comes_from_another_terminal(bench: Bench) -> None:
    """`pveha answer` reaches a run that has no terminal; what is left of the question is nothing to answer any more."""
    bench.suite(ASKS)
    told: list[subprocess.CompletedProcess[str]] = []
    over = threading.Event()

    def somebody() -> None:
        while not over.is_set():
            for path in (bench.root / "s" / "questions").glob("*/look.json"):
                told.append(pveha(bench, "answer", path.parent.name, "look", "done", "--by", "J. Doe"))
                return
            LiveClock().sleep(0.05)

    person = threading.Thread(target=somebody)
    person.start()
    try:
        result = bench.armed(WITHIN=LONG)
    finally:
        over.set()
        person.join()
    assert result.code == 0, result.text
    assert [each.returncode for each in told] == [0], told
    answer = answers(result)
    assert (answer["answer"], answer["user"], answer["way"]) == ("done", "J. Doe", "pveha answer")
    late = pveha(bench, "answer", result.verdict["run"], "look")
    assert (late.returncode, "does not wait for look" in late.stdout) == (1, True)
    assert bench.sites == []


def test_nobody_answers(bench: Bench) -> None:
    """Not proven, by its name, and the run goes on with the next test."""
    bench.suite(ASKS)
    result = bench.armed(WITHIN="5 min")
    assert result.code == 6, result.text
    assert result.test("test_asked")["verdict"] == "not proven"
    assert "the operator gave no answer in 300 s (look: look at the rack)" in result.test("test_asked")["reason"]
    assert result.test("test_after")["verdict"] == "accepted"
    assert "fault.plan" not in result.kinds()


def answers(result: Result) -> dict[str, str]:
    """The only answer on record."""
    lines = [json.loads(line) for line in (result.folder / "journal.jsonl").read_text().splitlines()]
    (answer,) = (line["data"] for line in lines if line["kind"] == "answer")
    return dict(answer)


def pveha(bench: Bench, *words: str) -> subprocess.CompletedProcess[str]:
    """``pveha`` in another terminal of the same user."""
    command = [sys.executable, "-m", "pytest_pveha", *words]
    return subprocess.run(command, env=bench.env, cwd=Path("/"), capture_output=True, text=True, check=False)
