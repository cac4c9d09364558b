"""The blocks about machines and wires: nodes with their ways to power, and networks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from pytest_pveha.inventory.base import Block
from pytest_pveha.inventory.secrets import SecretRef
from pytest_pveha.inventory.values import (
    Address,
    Cidr,
    FilePath,
    Fingerprint,
    Guid,
    HostKey,
    Interface,
    JumpHost,
    Label,
    Mac,
    OneOrMore,
    Port,
    PositiveDuration,
    User,
    Word,
)


class Ssh(Block):
    """How to reach a node's shell."""

    user: User = "root"
    """Login name; most fault handling needs root."""
    port: Port = 22
    """TCP port of sshd."""
    key_file: FilePath | None = None
    """Private key to log in with, mode 0600; without it the SSH agent is asked."""
    known_hosts: FilePath | None = None
    """File with the node's host key, as ~/.ssh/known_hosts; or host_key. Unknown keys are refused."""
    host_key: HostKey | None = None
    """The node's public host key itself, "ssh-ed25519 AAAA…"."""
    jump: JumpHost | None = None
    """Jump host, USER@HOST or USER@HOST:PORT; it must not be a node of this cluster."""


class Identity(Block):
    """How to know that a BMC is this node's own, before any power command."""

    mac: Mac | None = None
    """MAC address of the BMC."""
    guid: Guid | None = None
    """GUID of the BMC or system, as `ipmitool mc guid` prints it; either byte order."""
    confirmed_by: Label | None = None
    """Who made sure by hand, and when, for boards that cannot be told apart by the above."""


class Bmc(Block):
    """The node's management controller: the usual way to cut its power."""

    driver: Literal["ipmi", "redfish"] = "ipmi"
    """Protocol: ipmi (IPMI 2.0 over LAN) or redfish."""
    address: Address | None = None
    """IP address or name of the BMC."""
    port: Port | None = None
    """Port; 623/udp for ipmi and 443/tcp for redfish unless said."""
    user: User | None = None
    """Login name; OPERATOR privilege is enough to switch power."""
    password: SecretRef | None = None
    """Where the password comes from."""
    cipher: Annotated[int, Field(ge=1, le=17)] | None = None
    """IPMI cipher suite; 17 and 3 are usual. Suite 0 would mean no password at all."""
    privilege: Literal["OPERATOR", "ADMINISTRATOR"] = "OPERATOR"
    """IPMI privilege to ask for."""
    ca_file: FilePath | None = None
    """Redfish: CA certificate of the BMC's own; or fingerprint."""
    fingerprint: Fingerprint | None = None
    """Redfish: SHA-256 fingerprint of the BMC's certificate."""
    system: Label | None = None
    """Redfish: id of the node's system (the last word of its path), where the service has several."""
    identity: Identity | None = None
    """How to know that it is this node's BMC."""

    @property
    def effective_port(self) -> int:
        """The port it is reached on."""
        return self.port or {"ipmi": 623, "redfish": 443}[self.driver]


Argv = Annotated[tuple[Word, ...], Field(min_length=1)]


class PduFromNodes(Block):
    """Commands by which another node switches the outlets on when nobody comes; each a list of words, no shell."""

    on: Argv
    """Switches them on. `{secret}` in a word becomes the path of the secret's file there."""
    status: Argv
    """Only reads, and ends well: it is tried on that node before anything is broken."""
    secret: SecretRef | None = None
    """The text of that file, for root alone, such as curl's `user = "NAME:PASSWORD"`."""


class Pdu(Block):
    """Commands that the controller runs to switch the node's outlets; each a list of words, no shell."""

    off: Argv
    """Switches all outlets of the node off."""
    on: Argv
    """Switches them on again."""
    status: Argv | None = None
    """Prints "on" or "off"; without it the PDU's own view stays unknown."""
    timeout: PositiveDuration = 30.0
    """Longest time one command may take."""
    from_nodes: PduFromNodes | None = None
    """How another node does it; without it the outlets stay off when nobody is left to switch them on."""


class Operator(Block):
    """A person who pulls the cord, of a node only where there is no pdu, when the run asks for it."""

    who: Label
    """Name of the person or team standing at the rack."""
    contact: Label | None = None
    """How to reach them; printed with the prompt."""
    answer_within: PositiveDuration = 900.0
    """How long the run waits for each answer; none at first = not proven, nothing is broken."""
    page: Argv | None = None
    """Command that calls them: what is asked stands on its standard input. Without it, on the terminal alone."""


Names = Annotated[
    tuple[Label, ...],
    OneOrMore,
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class Node(Block):
    """One hypervisor."""

    address: Address | None = None
    """Address for SSH and probes; better not on a network that a test cuts."""
    room: Label | None = None
    """Failure domain: room, rack or site."""
    feed: Names = ()
    """Power feed it hangs on, or a list of them for two power supplies: one is enough for it."""
    ssh: Ssh = Field(default_factory=Ssh)
    """How to reach its shell."""
    bmc: Bmc | None = None
    """Its management controller; without bmc, pdu or operator, power tests on it are not proven."""
    pdu: Pdu | None = None
    """Commands that switch its outlets: a true loss of power, of the BMC too."""
    operator: Operator | None = None
    """A hand on the cord."""


class Feed(Block):
    """One power feed."""

    ups: Label
    """What keeps it alive, such as the UPS behind it."""


class Switch(Block):
    """One physical switch that networks go over."""

    operator: Operator | None = None
    """Who takes it off the network when the run asks, by its power or its uplinks, and puts it back."""


class Network(Block):
    """What one network runs over."""

    cidr: Cidr | None = None
    """Its addresses, like "192.0.2.0/24"; the node's interface is found by it. Or interface."""
    interface: Interface | None = None
    """The nodes' interface or bridge that carries it, if it is named alike on all."""
    switch: Names = ()
    """Physical switch it goes through, or a list of them for a bond over several."""
