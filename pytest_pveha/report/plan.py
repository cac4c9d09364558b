"""A plan in words: what would be broken, who goes down, and what the consent says to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_pveha.report.words import length

UNSAID = "does not say what it breaks"


Refusals = Mapping[str, Sequence[str]]


def plan_lines(
    document: Mapping[str, Any],
    refusals: Refusals | None,
    digest: str,
    *,
    approval: str | None = None,
    expected: str = "",
) -> list[str]:
    """The plan, a test each, in the order of the run; the last line says whether all of it is granted now.

    Args:
        refusals: what the consent refuses of each destructive test; None where nobody was asked.
        approval: why the second signature does not hold; empty where it does, None where none is needed.
        expected: how long it will take by all that is known, in words.
    """
    return list(_lines(document, refusals, digest, approval, expected))


def _lines(
    document: Mapping[str, Any], refusals: Refusals | None, digest: str, approval: str | None, expected: str
) -> Iterator[str]:
    kind = "SIMULATED: nothing real is touched" if document["simulated"] else "real"
    yield f"site {document['site']} ({kind}), cluster {document['cluster']}: {', '.join(document['nodes'])}"
    if document["connected"]:
        yield "targets are as roles and guests are now; both are decided again when each test begins"
    else:
        yield "from the inventory alone: roles are not bound, guests on their preferred node, bystanders not known"
    if document["unplaced"]:
        yield f"no preferred node, so not placed here: {', '.join(document['unplaced'])}"
    destructive = [test for test in document["tests"] if test["destructive"]]
    for number, test in enumerate(destructive, 1):
        yield ""
        yield from _test(number, test, None if refusals is None else refusals.get(test["id"], ()))
    looking = len(document["tests"]) - len(destructive)
    yield ""
    if looking:
        yield f"{looking} more only look{'s' if looking == 1 else ''}"
    for word, rows in (("waived", document.get("waived")), ("not applicable", document.get("not_applicable"))):
        for row in rows or ():
            yield f"{word}: {row['id']}: {row['reason']}"
    if left_out := document.get("not_selected"):
        yield f"left out, so the verdict will be partial: {', '.join(row['id'] for row in left_out)}"
    yield _total(destructive, document["expected_seconds"], document["scope"])
    if expected:
        yield f"estimate: {expected}"
    yield f"plan {digest}"
    if approval is not None:
        yield f"second signature: {f'REFUSED: {approval}' if approval else 'it holds'}"
    if refusals is not None:
        yield _conclusion(destructive, refusals, approval, simulated=document["simulated"])


def _test(number: int, test: Mapping[str, Any], refused: Sequence[str] | None) -> Iterator[str]:
    targets = [target["name"] for target in test["targets"]]
    on = f"one of {', '.join(targets)}" if len(targets) > 1 else "".join(targets)
    role = f" ({test['role']})" if test["role"] else ""
    what = ", ".join(test["breaks"]) or UNSAID
    long = f"about {length(test['expected_seconds'])}" if test["expected_seconds"] else "it does not say how long"
    yield f"{number:>3}  {what}, on {on}{role}: {long}"
    yield f"     {test['title']}"
    yield f"     {test['id']}"
    for target in test["targets"]:
        where = f"if it is {target['name']}, " if len(targets) > 1 else ""
        yield f"     {where}down: {', '.join(_guest(guest) for guest in target['guests']) or 'no guest'}"
    if test["site_reset"]:
        yield "     may reset more than its victim (site_reset)"
    if test.get("may"):
        yield f"     where that is consented to, also: {', '.join(test['may'])}"
    if test.get("combined"):
        yield "     a second fault comes while the first is not over (combined)"
    wanted = ", ".join(test["families"]) or "whatever it breaks"
    for reason in refused or ():
        yield f"     consent for {wanted}: REFUSED: {reason}"
    if not refused:
        yield f"     consent for {wanted}: {'needed' if refused is None else 'granted'}"


def _guest(guest: Mapping[str, Any]) -> str:
    name = f"{guest['id']} {guest['name']}".strip()
    if guest["ha"] and guest["listed"] and guest["permitted"]:
        return name
    outside = [word for word, key in (("not in HA", "ha"), ("not in the inventory", "listed")) if not guest[key]]
    leave = "permitted" if guest["permitted"] else "NOT PERMITTED"
    return f"{name} ({', '.join([*(['bystander'] if outside else []), *outside, leave])})"


def _total(destructive: Sequence[Mapping[str, Any]], seconds: float, scope: str) -> str:
    silent = sum(not test["expected_seconds"] for test in destructive)
    more = f", and {silent} that do not say" if silent else ""
    many = f"{len(destructive)} test{'' if len(destructive) == 1 else 's'} would break something"
    return f"{many} (scope {scope}), about {length(seconds)} in all{more}"


def _conclusion(
    destructive: Sequence[Mapping[str, Any]], refusals: Refusals, approval: str | None, *, simulated: bool
) -> str:
    refused = sum(bool(refusals.get(test["id"])) for test in destructive)
    if not destructive:
        return "NOTHING would be broken"
    if refused:
        return f"REFUSED now: {refused} of {len(destructive)}; nothing was touched"
    if approval:
        return "REFUSED now: the consent grants it, and the second signature is missing; nothing was touched"
    return (
        f"GRANTED now: all {len(destructive)}{', for the site is simulated' if simulated else ''}; nothing was touched"
    )
