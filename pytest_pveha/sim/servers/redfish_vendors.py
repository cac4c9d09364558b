"""How the Redfish services of different makers differ, as far as a client of power, identity and log can see.

Shapes and habits after published mockups and client code (DSP2043 mockups; fence-agents, sushy and Ironic drivers);
names are what those show. None of it stands for a certain firmware.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Vendor:
    """One maker's ways."""

    name: str
    system: str
    manager: str
    chassis: str
    manufacturer: str
    model: str
    port: str
    """The management controller's own Ethernet interface."""
    log: str
    resets: tuple[str, ...]
    log_at: str = "Managers"
    """Whose LogServices has the event log."""
    log_type: bool = True
    """Whether the log says that it is a SEL."""
    other_ports: tuple[str, ...] = ()
    """Further interfaces, such as the host's USB one."""
    other_logs: tuple[str, ...] = ()
    resets_in_action_info: bool = False
    """Whether the allowed values stand in a document of their own."""
    accepted: int = 204
    """The status of a power command taken."""
    accepted_body: bool = False
    refuses_what_is_so: bool = False
    """Whether On of a machine that is on is an error, and ForceOff of one that is off."""
    tells_transitions: bool = False
    """Whether the power state is PoweringOff until it is off."""
    spells: dict[str, str] = field(default_factory=dict)
    """Power states in its own spelling."""
    swapped_uuid: bool = False
    """Whether the first three fields of the UUID stand in the other byte order (SMBIOS 2.6, §7.2.1)."""
    content_type: str = "application/json; charset=utf-8"
    etag: str = ""
    entries_as_links: bool = False
    """Whether log entries are to be fetched one by one."""
    newest_first: bool = False
    page: int = 50
    """Log entries in one answer."""
    zone: str = "+00:00"
    """Of the log's times."""


_ALL = (
    Vendor(
        name="generic",
        system="system",
        manager="bmc",
        chassis="chassis",
        manufacturer="Example",
        model="Server",
        port="eth0",
        log="SEL",
        resets=("On", "ForceOff", "ForceOn", "ForceRestart", "GracefulRestart", "GracefulShutdown", "PowerCycle"),
        log_at="Systems",
    ),
    Vendor(
        name="idrac",
        system="System.Embedded.1",
        manager="iDRAC.Embedded.1",
        chassis="System.Embedded.1",
        manufacturer="Dell Inc.",
        model="PowerEdge",
        port="NIC.1",
        log="Sel",
        resets=("On", "ForceOff", "ForceRestart", "GracefulShutdown", "PushPowerButton", "Nmi", "PowerCycle"),
        other_logs=("Lclog",),
        refuses_what_is_so=True,
        etag='W/"{}"',
        newest_first=True,
        zone="-06:00",
    ),
    Vendor(
        name="ilo",
        system="1",
        manager="1",
        chassis="1",
        manufacturer="HPE",
        model="ProLiant",
        port="1",
        log="IML",
        resets=("On", "ForceOff", "ForceRestart", "Nmi", "PushPowerButton"),
        log_at="Systems",
        log_type=False,
        other_ports=("2",),
        accepted=200,
        accepted_body=True,
        tells_transitions=True,
        etag='"{}"',
        entries_as_links=True,
        zone="Z",
    ),
    Vendor(
        name="supermicro",
        system="1",
        manager="1",
        chassis="1",
        manufacturer="Supermicro",
        model="SYS",
        port="1",
        log="Log1",
        resets=(
            "On",
            "ForceOff",
            "GracefulShutdown",
            "GracefulRestart",
            "ForceRestart",
            "Nmi",
            "ForceOn",
            "PowerCycle",
        ),
        log_at="Systems",
        log_type=False,
        resets_in_action_info=True,
        accepted=200,
        spells={"On": "ON", "Off": "OFF"},
        swapped_uuid=True,
        content_type="text/plain",
        page=2,
        zone="",
    ),
)

VENDORS: dict[str, Vendor] = {vendor.name: vendor for vendor in _ALL}
