"""The blocks about who allows, who knows and who signs: organisation, consent, evidence."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from pytest_pveha.inventory.base import Block
from pytest_pveha.inventory.secrets import SecretRef
from pytest_pveha.inventory.values import (
    ClusterName,
    Day,
    FilePath,
    GuestId,
    Label,
    Moment,
    NodeDigest,
    NodeName,
    PositiveDuration,
)

FaultKind = Literal["power", "process", "network", "quorum", "storage", "guest", "maintenance", "restore"]

FAULT_KINDS: Final[dict[str, str]] = {
    "power": "a node's power, by BMC, PDU or hand",
    "process": "daemons and kernels: stopped, killed, frozen, crashed",
    "network": "links, partitions, switches",
    "quorum": "the quorum device, and scenarios in which the cluster loses quorum",
    "storage": "OSDs, mons, storage servers",
    "guest": "guests: killed, migrated, relocated",
    "maintenance": "clean reboots, maintenance mode, rolling updates",
    "restore": "guests restored beside the originals",
}
"""The kinds of fault that consent can grant."""


class Organisation(Block):
    """What people must know for the cluster to be safe."""

    runbook: FilePath
    """The runbook for failures; its checksum goes into the evidence."""
    acknowledged_by: Label
    """Who has read it and can follow it."""
    acknowledged_on: Day
    """When they said so."""
    on_call: Label
    """Team to call."""
    revalidate_every: PositiveDuration = 90 * 86400.0
    """How often all this is to be proven again."""


class NeverTouch(Block):
    """What no fault may reach, whatever is granted."""

    guests: tuple[GuestId, ...] = ()
    """Guests, also such as the inventory does not list otherwise."""
    nodes: tuple[NodeName, ...] = ()
    """Nodes."""


def _all_or_list(value: Any) -> Any:
    return (value,) if value == "all" else value


Targets = Annotated[
    tuple[Label, ...],
    BeforeValidator(_all_or_list),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"const": "all"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


Bystanders = Annotated[
    tuple[Label, ...],
    BeforeValidator(_all_or_list),
    WithJsonSchema({"anyOf": [{"const": "all"}, {"type": "array", "items": {"type": "string"}}]}),
]


class Approval(Block):
    """A second person's signature under the plan, `pveha approve`; present = nothing is broken without it."""

    file: FilePath
    """The signature, PLAN.approval; the plan itself lies beside it, without that ending."""
    allowed_signers: FilePath
    """Who may approve, in ssh-keygen's form; not who signs the evidence."""


class Consent(Block):
    """The written, expiring leave to break things on this very cluster."""

    destructive: bool
    """true = destructive tests may run."""
    cluster: ClusterName
    """The cluster it is for; must be cluster.name again."""
    node_digest: NodeDigest | None = None
    """Digest of the cluster's node names, as `pveha check` prints it; destructive tests need it."""
    granted_by: Label
    """Who allows it."""
    ticket: Label
    """Change ticket."""
    not_before: Moment
    """Start of the window."""
    not_after: Moment
    """End of the window."""
    faults: Annotated[tuple[FaultKind, ...], Field(min_length=1)]
    """Kinds of fault that are granted."""
    targets: Targets
    """Nodes, guests and storages that are granted, or all."""
    storage_cut: PositiveDuration = 30.0
    """Longest time for which a storage's server may be cut off."""
    site_reset: bool = False
    """true = also scenarios that may reset more than their victim."""
    combined: bool = False
    """true = also scenarios in which a second fault comes while the site recovers from the first."""
    bystanders: Bystanders = ()
    """Guests that `guests` does not list and that may go down with their node all the same, or all."""
    never_touch: NeverTouch = Field(default_factory=NeverTouch)
    """What no fault may reach."""
    approval: Approval | None = None
    """A second signature that is needed as well."""


KeyRef = Annotated[
    SecretRef,
    BeforeValidator(lambda value: value if isinstance(value, SecretRef) else SecretRef.parse_key(value)),
    WithJsonSchema({"type": "string", "minLength": 1}),
]


class Evidence(Block):
    """Who stands for the evidence."""

    signing_key: KeyRef | None = None
    """OpenSSH private key that signs the manifest: a path (mode 0600), or env:NAME, file:PATH, cmd:COMMAND."""
    signer: Label | None = None
    """Identity written into the signature, usually an e-mail address."""
    operator: Label | None = None
    """Who runs the tests."""
    approver: Label | None = None
    """Who accepts the result."""
