"""The management network as nodes meet it: which BMC answers at which address, and to whom."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BmcLogin:
    """A BMC as the site was built: the node at whose address it is, and the one user it lets in."""

    node: str
    user: str
    password: str
    pin: str = ""
    """SHA-256 of its TLS public key, base64; empty where it speaks IPMI."""
