"""``pveha sim``: a simulated site to look around in, and the defects it can be given."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pveha.cli.output import complain, say
from pytest_pveha.errors import SiteError, UsageError

if TYPE_CHECKING:
    from pytest_pveha.embedded import Embedded
    from pytest_pveha.inventory import Site

DEFECTS = "defects"
FASTEST = 1000.0
PATIENCE = 30.0
"""Seconds a site that was told to end may take before it is killed; it holds nothing that could be lost."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``pveha sim [--speed N] INVENTORY`` and ``pveha sim defects``."""
    parser = commands.add_parser(
        "sim",
        help="run a simulated site to look around in; list planted defects",
        description="Starts the simulated site of an inventory and prints how to reach it with curl, ssh and "
        "ipmitool. It stays in the foreground; Ctrl-C or SIGTERM ends it. `pveha sim defects` lists the planted "
        "defects instead, one line each: name, the test that catches it, the verdict it gives, what it is.",
    )
    parser.add_argument("what", metavar="INVENTORY", help="a simulated site's inventory, or the word: defects")
    parser.add_argument(
        "--speed", metavar="N", type=_speed, help="times real time, above 0 to 1000; default: simulator.speed, or 1"
    )
    parser.set_defaults(run=run)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= FASTEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no speed; expected a number above 0, at most {FASTEST:g}")
    return speed


def run(options: argparse.Namespace) -> int:
    """The defects are listed, or the site has run until somebody ended it."""
    return _defects() if options.what == DEFECTS else _site(Path(options.what), options.speed)


def _defects() -> int:
    from pytest_pveha.sim.defects import DEFECTS as known

    name, test, verdict = (
        max(len(getattr(defect, key)) for defect in known.values()) for key in ("name", "caught_by", "verdict")
    )
    for defect in known.values():
        say(f"{defect.name:<{name}}  {defect.caught_by:<{test}}  {defect.verdict:<{verdict}}  {defect.meaning}")
    return 0


def _site(path: Path, speed: float | None) -> int:
    from pytest_pveha.embedded import attach, start
    from pytest_pveha.inventory import load
    from pytest_pveha.record.lease import Lease

    inventory = load(path)
    simulator = inventory.model.simulator
    if simulator is None:
        raise UsageError(f"{path}: has no simulator block, so it describes a real site; nothing was started")
    # held while starting only: afterwards runs, checks and heal may come and go
    lease = Lease(inventory.name)
    lease.take()
    try:
        running = attach(inventory)
        if running is not None:
            raise UsageError(
                f"{path}: its site is running already (process {running.pid}, in {running.runtime}); "
                f"use that one, or end it with: kill {running.pid}"
            )
        with _waking() as wake:
            site = start(inventory, speed=speed or simulator.speed or 1.0)
            lease.give_back()
            try:
                _tell(site, inventory, speed or simulator.speed or 1.0)
                ended = _wait(site.pid, wake)
            finally:
                _stop(site)
    finally:
        lease.give_back()
    if ended:
        raise SiteError(f"the simulated site ended by itself; its log: {site.runtime / 'site.log'}")
    complain("the simulated site has ended")
    return 0


@contextmanager
def _waking() -> Iterator[int]:
    """A descriptor that becomes readable when somebody wants us to end."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    former = signal.set_wakeup_fd(write)
    handlers = {
        number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield read
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(former)
        os.close(read)
        os.close(write)


def _wait(pid: int, wake: int) -> bool:
    """Until somebody wants us to end; whether the site ended first."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        ready, _, _ = select.select([wake, process], [], [])
        return wake not in ready
    finally:
        os.close(process)


def _stop(site: Embedded) -> None:
    """Its process has ended."""
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(site.pid)
        try:
            site.stop()
            if not select.select([process], [], [], PATIENCE)[0]:
                os.kill(site.pid, signal.SIGKILL)
        finally:
            os.close(process)


def _tell(site: Embedded, inventory: Site, speed: float) -> None:
    """Addresses and credentials, ready to paste."""
    api = site.inventory.model.cluster.api
    assert api is not None
    known = site.runtime / "known_hosts"
    hosts = [f"[{node.address}]:{node.ssh.port} {node.ssh.host_key}\n" for node in site.inventory.model.nodes.values()]
    known.write_text("".join(hosts), encoding="utf-8")
    authorization = shlex.quote(f"Authorization: PVEAPIToken={api.token_id}=")
    say(f"SIMULATED site {inventory.name}, at {speed:g} times real time; process {site.pid}")
    say(f"credentials, for this site only: {site.runtime}")
    say("Ctrl-C ends it.")
    for endpoint, (name, node) in zip(api.endpoints, site.inventory.model.nodes.items(), strict=True):
        say()
        say(name)
        say(
            f"  curl --cacert {_word(site.runtime / 'ca.pem')} "
            f'-H {authorization}"$(cat {_word(site.runtime / "token")})" '
            f"https://{endpoint}/api2/json/cluster/status"
        )
        say(
            f"  ssh -i {_word(node.ssh.key_file)} -o UserKnownHostsFile={_word(known)} -o IdentitiesOnly=yes "
            f"-p {node.ssh.port} {node.ssh.user}@{node.address} pvecm status"
        )
        if node.bmc is not None and node.bmc.driver == "redfish":
            say(
                f"  curl --cacert {_word(site.runtime / 'ca.pem')} "
                f'-u {node.bmc.user}:"$(cat {_word(site.runtime / "bmc-password")})" '
                f"https://{node.bmc.address}:{node.bmc.port}/redfish/v1/Systems"
            )
        elif node.bmc is not None:
            say(
                f"  ipmitool -I lanplus -H {node.bmc.address} -p {node.bmc.port} -U {node.bmc.user} "
                f"-f {_word(site.runtime / 'bmc-password')} -C {node.bmc.cipher} -L {node.bmc.privilege} "
                "chassis power status"
            )
    say()
    for guest in site.inventory.model.guests:
        for probe in guest.probes:
            if probe.tcp is not None:
                say(f"{guest.id} answers at {probe.tcp.host}:{probe.tcp.port} (TCP)")


def _word(path: object) -> str:
    return shlex.quote(str(path))
