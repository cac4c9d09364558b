"""A site reached to be read, outside of a run: nothing is journalled, nothing is broken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pytest_pveha.clock import LiveClock
from pytest_pveha.embedded import attach, start
from pytest_pveha.errors import UsageError
from pytest_pveha.handles.connect import connect
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.record.lease import Lease


@contextmanager
def visited(inventory: Inventory, *, begin: bool = True) -> Iterator[Site]:
    """The site's handles; a simulated one runs meanwhile.

    Args:
        begin: whether a simulated site that does not run is started; else that is a UsageError.

    Raises:
        SiteBusy: the site is simulated, and a run is on it.
        UsageError: a file or secret that the inventory names cannot be used.
    """
    if not inventory.simulated:
        site = connect(inventory, LiveClock())
        try:
            yield site
        finally:
            site.close()
        return
    lease = Lease(inventory.name)
    lease.take()
    try:
        found = attach(inventory)
        if found is None and not begin:
            raise UsageError(f"{inventory.path}: this simulated site does not run; nobody is on it")
        embedded = found or start(inventory)
        try:
            clock = embedded.clock()
            site = connect(embedded.inventory, clock)
            try:
                yield site
            finally:
                site.close()
                clock.close()
        finally:
            if found is None:
                embedded.stop()
    finally:
        lease.give_back()
