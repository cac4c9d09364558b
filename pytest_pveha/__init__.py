"""Prove, with measurements and signed evidence, that a Proxmox VE cluster's high availability really works."""

__version__ = "0.1.0"
