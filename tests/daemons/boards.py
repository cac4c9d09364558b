"""BMCs that we did not write, OpenIPMI's ipmi_sim: how one is set up, and how it holds a laboratory machine's power."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from lab import AMPLE, Lab, Machine

from pytest_pveha.clock import LiveClock
from pytest_pveha.wire.ipmi import IpmiBmc

USER, PASSWORD = "pveha", "a-pass-word"

CHASSIS = """#!/bin/sh
# called as: chassis MC get|set|check NAME [VALUE]
shift
case "$1" in
  get) shift; for name; do case $name in power) echo "power:$(cat {state})";; *) echo "$name:0";; esac; done;;
  set) shift; while [ $# -gt 0 ]; do
    case "$1" in
      power) echo "$2" {goes_to};;
      reset|shutdown) echo "$1" >>{wanted};;
    esac
    shift 2; done;;
esac
"""
"""``reset`` and ``shutdown`` are what ipmi_sim calls IPMI's hard reset and soft-shutdown (lanserv/bmc_chassis.c)."""
LAN = """name "node"
set_working_mc 0x20
  startlan 1
    addr {address} {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid {guid}
  endlan
  chassis_control "{chassis} 0x20"
  user 1 true "" "test" user 10 none md2 md5 straight
  user 2 true "{user}" "{password}" admin 10 none md2 md5 straight
"""
BOARD = """mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
"""
COMMAND = ("ipmi_sim", "-c", "lan.conf", "-f", "board.emu", "-s", "state", "-n")
"""In the folder that ``describe`` filled, seen as ``seen_at`` there."""


def describe(folder: Path, address: str, port: int, guid: str, *, seen_at: Path | None = None) -> None:
    """The folder holds a board that is on, for ``COMMAND``.

    Args:
        seen_at: what the folder is called on the board's machine. All commands are then lines of ``wanted``, for a
            ``Board`` to follow; otherwise those of power change the state ``power``.
    """
    there = seen_at or folder
    wanted = str(there / "wanted")
    goes_to = f">>{wanted}" if seen_at else f">{there / 'power'}"
    (folder / "power").write_text("1\n")
    (folder / "wanted").write_text("")
    chassis = folder / "chassis"
    chassis.write_text(_filled(CHASSIS, state=str(there / "power"), goes_to=goes_to, wanted=wanted))
    chassis.chmod(0o755)
    lan = LAN.format(address=address, port=port, guid=guid, chassis=there / "chassis", user=USER, password=PASSWORD)
    (folder / "lan.conf").write_text(lan)
    (folder / "board.emu").write_text(BOARD)
    (folder / "state").mkdir(exist_ok=True)


def _filled(script: str, **values: str) -> str:
    for name, value in values.items():
        script = script.replace(f"{{{name}}}", value)
    return script


class Board:
    """A BMC on a machine of its own in the network ``mgmt``: its chassis is the power of another machine."""

    def __init__(self, lab: Lab, node: Machine, number: int, boot: Callable[[Machine], None]) -> None:
        self.node = node
        self.machine = lab.machine(f"bmc{number}", {"mgmt": f"10.77.0.{100 + number}/24"})
        self.address = self.machine.addresses["mgmt"]
        self.guid = f"a123456789abcdefa1234567{number:08x}"
        self._boot = boot
        self._followed = 0
        self._falling = False
        """Whether the node was told to go down by itself, and is not seen to have."""
        self._folder = self.machine.path("/srv")
        self._unplugged = threading.Event()
        # for as long as the laboratory: what a thread starts ends with it
        self._supply = threading.Thread(target=self._follow, name=f"power of {node.name}", daemon=True)
        lab.at_end.append(self.unplug)

    @property
    def uuid(self) -> str:
        """Its GUID as it is told: in IPMI the least significant byte comes first (IPMI 2.0, 20.8)."""
        return str(UUID(bytes=bytes(reversed(bytes.fromhex(self.guid)))))

    def start(self, guid: str = "") -> None:
        """It answers, as that board; the node has its power from it."""
        describe(self._folder, self.address, 623, guid or self.guid, seen_at=Path("/srv"))
        self._followed = 0
        self.machine.start()
        self.machine.daemon("sh", "-c", f"cd /srv && exec {' '.join(COMMAND)}")
        if not self._supply.is_alive():
            self._supply.start()

    def restart(self, guid: str = "") -> None:
        """It lost its own power for a moment, the node did not; with another GUID it is another board."""
        self.machine.cut_power()
        self.start(guid)

    def client(self, password: str = PASSWORD) -> IpmiBmc:
        """A client of it; ipmi_sim knows suite 3 and not 17."""
        return IpmiBmc(self.address, 623, USER, lambda: password, LiveClock(), cipher=3, privilege="OPERATOR")

    def unplug(self) -> None:
        """The node's power no longer follows it."""
        self._unplugged.set()
        if self._supply.is_alive():
            self._supply.join(AMPLE)

    def force(self) -> None:
        """A node that was told to go down, and has not, loses its power."""
        if self._falling:
            with (self._folder / "wanted").open("a") as wanted:
                wanted.write("0\n")

    @property
    def settled(self) -> bool:
        """Whether the node's power has followed every command."""
        return self._followed == len(self._commands()) and not self._falling

    def _commands(self) -> list[str]:
        return (self._folder / "wanted").read_text().split()

    def _follow(self) -> None:
        while not self._unplugged.wait(0.05):
            for command in self._commands()[self._followed :]:
                self._obey(command)
                self._followed += 1
            if self._falling and not self.node.running:
                self._switch(on=False)

    def _obey(self, command: str) -> None:
        if command == "shutdown":
            if self.node.running:
                self.node.press_button()
                self._falling = True
            return
        if command != "1":
            self._switch(on=False)
        if command != "0":
            self._switch(on=True)

    def _switch(self, *, on: bool) -> None:
        if not on or not self.node.running:
            self.node.cut_power()  # of one that went down by itself the cards still answer
            self._falling = False
        if on and not self.node.running:
            self._boot(self.node)
        (self._folder / "power").write_text(f"{on:d}\n")
