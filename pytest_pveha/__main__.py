"""``python -m pytest_pveha``: the same as ``pveha``, where its script is not on the path."""

import sys

from pytest_pveha.cli import main

sys.exit(main())
