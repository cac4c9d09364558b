"""From a file to a Site, or to one error that lists everything wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pytest_pveha.inventory.document import Document, parse, read
from pytest_pveha.inventory.findings import findings
from pytest_pveha.inventory.model import Inventory
from pytest_pveha.inventory.rules import broken_rules


@dataclass(frozen=True, slots=True)
class Site:
    """One site as its inventory describes it."""

    path: Path
    """The file, absolute."""
    sha256: str
    """Checksum of the file as it was read."""
    model: Inventory
    """What it says."""
    _document: Document = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name of the site."""
        return self.model.site.name

    @property
    def simulated(self) -> bool:
        """Whether we simulate it; nothing real is touched then."""
        return self.model.simulator is not None

    @property
    def permitted(self) -> frozenset[str] | None:
        """The guests that may go down with their node: those under test and those consented to; None: all of them.

        On a simulated site all may, unless a consent block says otherwise.
        """
        consent = self.model.consent
        if (self.simulated and consent is None) or (consent is not None and consent.bystanders == ("all",)):
            return None
        named = {guest.id for guest in self.model.guests}
        return frozenset(named | set(consent.bystanders if consent else ()))

    @property
    def never_touch(self) -> frozenset[str]:
        """Guests and nodes that no fault may reach, not even beside its target."""
        consent = self.model.consent
        return frozenset((*consent.never_touch.guests, *consent.never_touch.nodes) if consent else ())

    @property
    def base(self) -> Path:
        """The folder that relative paths and secret references start from."""
        return self.path.parent

    def file(self, path: Path) -> Path:
        """A path of the inventory, absolute."""
        return self.base / path.expanduser()

    def supplied(self, extra: Mapping[str, Any]) -> Site:
        """This site with what the simulator supplies: addresses, ports, credentials; same file, same checksum.

        Blocks are merged key by key, the entries of ``guests`` by their ``id``; what ``extra`` says wins.

        Raises:
            ValueError: the site is real; nothing may be put into its inventory.
            InventoryError: the result is no valid inventory.
        """
        if not self.simulated:
            raise ValueError("only a simulated site can be supplied with addresses")
        data = _merged(self._document.data, extra)
        return Site(self.path, self.sha256, checked(self._document, data), self._document)


def load(path: Path, raw: bytes | None = None) -> Site:
    """The site that this inventory file describes. Opens that one file and nothing else; not even that one where
    ``raw`` is what stood in it.

    Raises:
        InventoryError: it cannot be read or is not valid; one line ``FILE:LINE: key: what is wrong, what is expected``
            for each finding.
    """
    document = read(path) if raw is None else parse(path, raw)
    return Site(path.absolute(), document.sha256, checked(document, document.data), document)


def checked(document: Document, data: Mapping[str, Any]) -> Inventory:
    """The model of a document's data, or the error that lists what is wrong with it."""
    found = list(document.findings)
    try:
        inventory = Inventory.model_validate(data)
    except ValidationError as error:
        silent = {finding.where for finding in found}  # a refused value is not also "missing"
        found += [finding for finding in findings(error, Inventory) if finding.where not in silent]
    else:
        if found:
            raise document.refuse(found)
        # between blocks only once each block by itself is right: a rule on half a file misleads
        found = list(broken_rules(inventory))
    if found:
        raise document.refuse(found) from None
    return inventory


def _merged(base: Any, extra: Any) -> Any:
    if isinstance(extra, Mapping):
        base = base if isinstance(base, dict) else {}
        return {
            **base,
            **{
                key: _guests(base.get(key, ()), value) if key == "guests" else _merged(base.get(key), value)
                for key, value in extra.items()
            },
        }
    if isinstance(extra, Mapping):
        return {key: _merged(None, value) for key, value in extra.items()}
    return tuple(_merged(None, one) for one in extra) if isinstance(extra, list | tuple) else extra


def _guests(base: Any, extra: Any) -> tuple[Any, ...]:
    supplied = {guest["id"]: guest for guest in extra}
    return tuple(_merged(guest, supplied.get(guest["id"], {})) for guest in base)
