"""``pveha sim``: a site to look around in with stock tools, until somebody ends it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_kit import BACKSTOP, EXAMPLE, SIMULATED, Shell

from pytest_pveha.sim.defects import DEFECTS


@contextmanager
def running(
    shell: Shell, *words: object, inventory: Path = SIMULATED
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """``pveha sim`` in the foreground of another terminal, and what it printed."""
    process = shell.begin("sim", *words, inventory)
    assert process.stdout is not None
    printed = []
    try:
        for line in process.stdout:
            printed.append(line.rstrip("\n"))
            if line.startswith("vm:106 answers at "):
                break
        yield process, printed
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=BACKSTOP)


def sites(shell: Shell) -> list[Path]:
    """The sites that are running."""
    return list(Path(shell.environment["PVEHA_RUNTIME"]).glob("pveha-*/*/site.json"))


@pytest.mark.parametrize(
    ("tool", "says"),
    [("curl", '"name":"pveha-sim"'), ("ssh", "Quorate:          Yes"), ("ipmitool", "Chassis Power is on")],
)
def test_the_printed_lines_work(shell: Shell, tool: str, says: str) -> None:
    """Pasted as they are, for every node, they reach it with its credentials."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    with running(shell) as (_, printed):
        lines = [line.strip() for line in printed if line.startswith(f"  {tool} ")]
        assert len(lines) == 3
        for line in lines:
            done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=BACKSTOP, check=False)
            assert says in done.stdout, done.stderr


def test_a_redfish_bmc_is_asked_by_curl(shell: Shell, tmp_path: Path) -> None:
    """For a node whose BMC speaks Redfish the line to paste is a curl command, and it answers."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    path = tmp_path / "site.yml"
    text = SIMULATED.read_text(encoding="utf-8").replace("pve2: {room", "pve2: {bmc: {driver: redfish}, room")
    path.write_text(text, encoding="utf-8")
    with running(shell, inventory=path) as (_, printed):
        assert len([line for line in printed if line.startswith("  ipmitool ")]) == 2
        (line,) = [line.strip() for line in printed if "/redfish/v1/Systems" in line]
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=BACKSTOP, check=False)
        assert "Members@odata.count" in done.stdout, done.stderr


@pytest.mark.skipif(not all(map(shutil.which, ("curl", "ssh", "ipmitool"))), reason="curl, ssh, ipmitool are needed")
def test_a_person_switches_a_node_off_and_watches(shell: Shell) -> None:
    """By the printed lines alone: power off by ipmitool, and by ssh and curl elsewhere its guests are seen to move."""
    with running(shell, "--speed", "50") as (_, printed):
        lines = {
            tool: [line.strip() for line in printed if line.startswith(f"  {tool} ")]
            for tool in ("curl", "ssh", "ipmitool")
        }
        assert "chassis power" in lines["ipmitool"][1]

        def typed(line: str) -> str:
            done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=BACKSTOP, check=False)
            return done.stdout

        watch = lines["ssh"][0].replace("pvecm status", "ha-manager status")
        assert "service vm:103 (pve2, started)" in typed(watch)
        typed(lines["ipmitool"][1].replace("power status", "power off"))
        seen = [status := typed(watch)]
        while "service vm:103 (pve2" in status and len(seen) < 400:  # some 150 s of the site
            seen.append(status := typed(watch))
        assert any("old timestamp - dead?" in status or "(pve2, fence)" in status for status in seen), seen[-1]
        assert re.search(r"service vm:103 \(pve[13], (recovery|started|starting)\)", seen[-1]), seen[-1]
        assert '"online":0' in typed(lines["curl"][0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_site(shell: Shell, number: signal.Signals) -> None:
    """Ctrl-C, a kill or a closed terminal: the site is gone, and that is the normal end."""
    with running(shell, "--speed", "5") as (process, printed):
        assert printed[0].startswith("SIMULATED site sim-3node, at 5 times real time; process ")
        assert len(sites(shell)) == 1
        process.send_signal(number)
        _, err = process.communicate(timeout=BACKSTOP)
        assert process.returncode == 0
        assert err == "pveha: the simulated site has ended\n"
        assert sites(shell) == []


def test_a_second_one_is_refused_and_the_first_goes_on(shell: Shell) -> None:
    """The message names the process and how to end it; a check finds the running one and leaves it running."""
    with running(shell) as (_, printed):
        number = printed[0].rpartition(" ")[2]
        done = shell.pveha("sim", SIMULATED)
        assert done.code == 4
        assert done.out == ""
        assert f"is running already (process {number}" in done.err
        assert f"kill {number}" in done.err
        assert shell.pveha("check", SIMULATED).code == 0
        assert len(sites(shell)) == 1


def test_a_site_that_is_killed_is_told(shell: Shell) -> None:
    """The foreground command does not wait for a site that is gone; exit code 6."""
    import os

    with running(shell) as (process, printed):
        os.kill(int(printed[0].rpartition(" ")[2]), signal.SIGKILL)
        _, err = process.communicate(timeout=BACKSTOP)
        assert process.returncode == 6
        assert "ended by itself" in err


def test_a_real_inventory_is_refused(shell: Shell) -> None:
    """Nothing is started for a site that is not simulated."""
    done = shell.pveha("sim", EXAMPLE)
    assert done.code == 4
    assert "describes a real site; nothing was started" in done.err


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "1001", "nan"])
def test_a_speed_that_is_none_is_refused(shell: Shell, speed: str) -> None:
    """A wrong command line is exit code 2, and says what is expected."""
    done = shell.pveha("sim", f"--speed={speed}", SIMULATED)
    assert done.code == 2
    assert "expected a number above 0, at most 1000" in done.err


def test_defects_are_listed_one_a_line(shell: Shell) -> None:
    """Name, catching test, verdict and meaning of each, and the test exists."""
    done = shell.pveha("sim", "defects")
    assert done.code == 0
    assert len(done.lines) == len(DEFECTS)
    for line, defect in zip(done.lines, DEFECTS.values(), strict=True):
        words = [word.strip() for word in line.split("  ") if word.strip()]
        assert words == [defect.name, defect.caught_by, defect.verdict, defect.meaning]
        assert (SIMULATED.parents[1] / defect.caught_by).is_file()
