"""``pveha schema``: the JSON Schemas, for editors and for whoever reads our files."""

from __future__ import annotations

import argparse
import json


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``pveha schema inventory|verdict``."""
    parser = commands.add_parser(
        "schema",
        help="print a JSON Schema",
        description="Prints the JSON Schema (2020-12) of the inventory, for editors, or of verdict.json, for programs.",
    )
    parser.add_argument("what", choices=("inventory", "verdict"), help="of which file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The schema is on standard output."""
    if options.what == "inventory":
        from pytest_pveha.inventory import json_schema

        schema = json_schema()
    else:
        from pytest_pveha.judge.schema import verdict_schema

        schema = verdict_schema()
    print(json.dumps(schema, indent=2, ensure_ascii=False))
    return 0
