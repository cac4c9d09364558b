"""What is blanked in logs and messages, and what is left alone."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pveha.wire import redaction
from pytest_pveha.wire.redaction import Redaction, hide, scrub


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Secrets of one test are unknown to the next."""
    before, redaction._hidden = redaction._hidden, ()
    yield
    redaction._hidden = before


@given(st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=9), st.text(max_size=20))
def test_a_hidden_secret_is_never_shown(secret: str, around: str) -> None:
    """Whatever stands around it, a hidden secret is gone, plain and as in an address."""
    redaction._hidden = ()
    hide(secret)
    for spelled in (secret, quote_plus(secret)):
        assert spelled not in scrub(f"{around} {spelled} {around}").replace(f"{around} ", "").replace(f" {around}", "")


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("Authorization: PVEAPIToken=root@pam!x=1234-5678", "Authorization: PVEAPIToken=root@pam!x=***"),
        ("PBSAPIToken=u@pbs!x:1234-5678 ok", "PBSAPIToken=u@pbs!x:*** ok"),
        (
            "POST https://h {'password': 'hunter2', 'realm': 'pam'}",
            "POST https://h {'password': '***', 'realm': 'pam'}",
        ),
        ("/x?password=hunter2&a=1", "/x?password=***&a=1"),
        ("Cookie: PVEAuthCookie=PVE:root@pam:66AA::abc; x", "Cookie: PVEAuthCookie=***; x"),
        ("type check failed: password: property is missing", "type check failed: password: property is missing"),
        ("the change ticket is CHG-1", "the change ticket is CHG-1"),
    ],
)
def test_what_looks_like_a_credential_is_blanked(said: str, left: str) -> None:
    """Credentials that nobody told us of are known by their shape; plain prose is left."""
    assert scrub(said) == left


def test_a_secret_within_another_is_blanked_whole() -> None:
    """The longer secret goes first, or its rest would stay."""
    hide("abcdef")
    hide("abcdef-ghijkl")
    assert scrub("abcdef-ghijkl") == "***"
    hide("")
    assert scrub("nothing") == "nothing"


def test_a_record_is_cleaned_with_its_traceback() -> None:
    """Arguments and exceptions of a log record are cleaned; the record passes."""
    hide("canary-1")
    try:
        raise ValueError("canary-1")
    except ValueError:
        record = logging.LogRecord("x", logging.INFO, __file__, 1, "sent %s", ("canary-1",), sys.exc_info())
    assert Redaction().filter(record)
    assert "canary-1" not in logging.Formatter().format(record)
    assert "sent ***" in logging.Formatter().format(record)


def test_a_wrong_format_is_left_to_logging() -> None:
    """A record whose arguments do not fit passes; logging reports it."""
    assert Redaction().filter(logging.LogRecord("x", logging.INFO, __file__, 1, "%d", ("a",), None))


def test_installing_twice_filters_once() -> None:
    """The filter sits once on each logger, and changes no level and no handler."""
    logger = logging.getLogger("urllib3.connectionpool")
    before = (logger.level, logger.handlers[:])
    redaction.install()
    redaction.install()
    assert len([each for each in logger.filters if isinstance(each, Redaction)]) == 1
    assert (logger.level, logger.handlers) == before
