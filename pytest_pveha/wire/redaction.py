"""Secrets stay out of what we log, raise and keep.

The libraries under us log requests: proxmoxer writes form fields in clear at INFO. A filter on their loggers blanks
every secret told to :func:`hide`, and what looks like a credential. Levels and handlers are left as they are.
"""

from __future__ import annotations

import base64
import logging
import re
import threading
from urllib.parse import quote, quote_plus

BLANK = "***"

LOGGERS = (
    "proxmoxer.core",
    "proxmoxer.backends.https",
    "urllib3.connection",
    "urllib3.connectionpool",
    "urllib3.poolmanager",
    "urllib3.util.retry",
    "paramiko.transport",
    "paramiko.hostkeys",
    "sushy.connector",
    "sushy.exceptions",
    "testinfra",
    "pytest_pveha.wire.ssh.transport",
)
"""The loggers that can see a secret. By name, because a logger's filter does not see its children's records."""

_CREDENTIALS = (
    re.compile(r"((?:PVE|PBS)APIToken=[^\s=:'\"]+[=:])[^\s'\",}]+"),
    re.compile(r"(P[VB][ES]AuthCookie=)[^\s'\",;}]+"),
    re.compile(r"(\bPVE:[^\s:'\"]+:)[^\s'\",;}]{12,}"),  # a ticket
    re.compile(r"(['\"](?:password|otp|secret|ticket|CSRFPreventionToken)['\"]\s*:\s*['\"])[^'\"]+", re.I),
    re.compile(r"(\b(?:password|otp|CSRFPreventionToken)=)[^\s&'\",}]+", re.I),
)


class Hidden(str):
    """A secret on its way through a library: it is what it is, and shows as *** in a traceback's local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(BLANK)

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> HiddenBytes:
        """Its bytes, which show as little."""
        return HiddenBytes(super().encode(encoding, errors))


class HiddenBytes(bytes):
    """The same for bytes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(BLANK.encode())


_lock = threading.Lock()
_hidden: tuple[str, ...] = ()


def hide(secret: str) -> None:
    """``secret``, in every spelling it takes on the wire, is blanked from now on."""
    global _hidden
    if not secret:
        return
    spellings = {secret, quote(secret, safe=""), quote_plus(secret), base64.b64encode(secret.encode()).decode()}
    with _lock:
        # longest first: a secret that holds another one is blanked whole
        _hidden = tuple(sorted({*_hidden, *spellings}, key=lambda text: (-len(text), text)))


def scrub(text: str) -> str:
    """``text`` without any secret told to ``hide`` and without what looks like a credential."""
    for secret in _hidden:
        text = text.replace(secret, BLANK)
    for pattern in _CREDENTIALS:
        text = pattern.sub(rf"\g<1>{BLANK}", text)
    return text


class Redaction(logging.Filter):
    """Blanks secrets in a record's message and traceback; lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            said = record.getMessage()
        except Exception:  # a wrong format string is its author's to see, by logging's own report
            return True
        clean = scrub(said)
        if clean != said:
            record.msg, record.args = clean, ()
        if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
            record.exc_text = scrub(logging.Formatter().formatException(record.exc_info))
        return True


_filter = Redaction("pveha")


def install() -> None:
    """The filter sits on every logger of LOGGERS; once, however often this is called."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_filter)
