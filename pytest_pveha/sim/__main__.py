"""``python -m pytest_pveha.sim RUNTIME [--speed N [--present]]``: plays the site described on standard input.

It goes on until told to stop.
Prints ``ready`` once everything listens. Started by a run, ``pveha sim`` or a test; nobody types this.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pytest_pveha.sim")
    parser.add_argument("runtime", type=Path)
    parser.add_argument("--speed", type=float, default=None)
    parser.add_argument("--present", action="store_true", help="its clocks begin with the present moment")
    options = parser.parse_args()
    from pytest_pveha.clock import SECOND, LiveClock
    from pytest_pveha.sim.site import SimulatedSite
    from pytest_pveha.sim.spec import SiteSpec

    try:
        spec = SiteSpec.from_json(json.load(sys.stdin))
    except ValueError as error:
        sys.stdout.write(f"refused {error}\n")
        return 2
    began = None
    if options.present:
        now = LiveClock().now()
        spec = replace(spec, epoch_utc=now.utc // SECOND)
        began = now.mono - now.utc % SECOND
    site = SimulatedSite(spec, options.runtime, speed=options.speed, began=began)
    signal.signal(signal.SIGTERM, lambda *_: site.baton.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's; the site outlives it
    site.announce()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    site.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
