"""A plugin: the simulated site outlives the run, as a real one does, so that its state can be looked at afterwards."""

from pytest_pveha.embedded import Embedded

Embedded.stop = lambda self: None  # type: ignore[method-assign]
