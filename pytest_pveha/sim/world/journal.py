"""Which systemd unit a journal identifier belongs to, where the two differ."""

UNIT_OF = {"pmxcfs": "pve-cluster", "kernel": "", "pve-guests": "pve-guests", "systemd-logind": "systemd-logind"}
"""``journalctl -u pve-cluster`` shows lines of ``pmxcfs``; the kernel's belong to no unit."""
