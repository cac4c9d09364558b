"""The tables of ``make proof`` for people: reports/proof/*.jsonl become one page of Markdown.

python benchmarks/tables.py [reports/proof]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

MARKS = {
    "accepted": "✓",
    "not applicable": "·",
    "not proven": "–",
    "inconclusive": "?",
    "invalid": "!",
    "rejected": "✗",
    "dirty": "DIRTY",
}
"""From best to worst; of several roles the worst is shown."""

Row = Mapping[str, Any]


def read(path: Path) -> list[Row]:
    """The table's rows; none where it was not made."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def grid(rows: Iterable[Row]) -> list[str]:
    """Sites down, tests across, and the worst verdict of each."""
    cells: dict[tuple[str, str], str] = {}
    bad: set[tuple[str, str]] = set()
    order = list(MARKS)
    for row in rows:
        if row["test"] == "gate":
            continue
        key = row["site"], row["test"].rpartition("/")[2].partition("[")[0].replace(".py::test_", " ")
        verdict = row["verdict"].partition(" (")[0]
        cells[key] = max(cells.get(key, verdict), verdict, key=order.index)
        if not row["allowed"]:
            bad.add(key)
    sites = list(dict.fromkeys(site for site, _ in cells))
    tests = sorted({test for _, test in cells})
    lines = [f"| | {' | '.join(tests)} |", f"| --- |{' --- |' * len(tests)}"]
    for site in sites:
        marks = [MARKS[cells[site, test]] if (site, test) in cells else "" for test in tests]
        shown = [f"**{mark}**" if (site, test) in bad else mark for mark, test in zip(marks, tests, strict=True)]
        lines.append(f"| {site} | {' | '.join(shown)} |")
    return lines


def crashes(rows: Iterable[Row]) -> list[str]:
    """Faults and journal lines down, ways to be struck across: who healed, after how many seconds of the site."""
    table: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        table.setdefault((row["fault"], row["line"]), {}).setdefault(row["way"], []).append(row)
    ways = sorted({way for cells in table.values() for way in cells})
    lines = [f"| fault | struck | {' | '.join(ways)} |", f"| --- | --- |{' --- |' * len(ways)}"]
    for (fault, line), cells in sorted(table.items()):
        shown = [_healed(cells[way]) if way in cells else "" for way in ways]
        lines.append(f"| {fault} | {line} | {' | '.join(shown)} |")
    return lines


def _healed(rows: list[Row]) -> str:
    return f"{', '.join(sorted({row['by'] for row in rows}))}, {median(row['seconds'] for row in rows):g} s"


def draws(rows: Iterable[Row]) -> list[str]:
    """Random scenarios by what was wrong: how many, how many were struck, and how often each verdict was given."""
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["number"]):
        count = len(row["defects"])
        planted = "nothing planted" if not count else f"{count} defect{'' if count == 1 else 's'}"
        groups.setdefault(f"{planted}{', struck' if row['blow'] else ''}", []).append(row)
    lines = [f"| | scenarios | {' | '.join(MARKS)} | not allowed |", f"| --- | --- |{' --- |' * (len(MARKS) + 1)}"]
    for name, group in sorted(groups.items()):
        given = [verdict for row in group for verdict in row["verdicts"].values()]
        bad = [str(row["number"]) for row in group if not row["allowed"]]
        counts = " | ".join(str(given.count(verdict)) for verdict in MARKS)
        lines.append(f"| {name} | {len(group)} | {counts} | {', '.join(bad)} |")
    return lines


def page(folder: Path) -> str:
    """All tables that were made."""
    legend = ", ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items())
    parts = ["# Proof", "", f"Worst verdict over the roles: {legend}. **Bold**: not what the table allows.", ""]
    for title, name, render in (
        ("Healthy variants × tests", "variants", grid),
        ("Planted defects × tests (bold is what a healthy site would not show)", "defects", grid),
        ("Random scenarios: verdicts of their tests, by what was wrong", "random", draws),
        ("Crash matrix: who healed, and after how many seconds", "crashes", crashes),
    ):
        rows = read(folder / f"{name}.jsonl")
        parts += [f"## {title}", "", *(render(rows) if rows else ["Not made."]), "", f"{len(rows)} rows.", ""]
    return "\n".join(parts)


def main() -> None:
    """The page lies beside the tables."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "reports/proof")
    target = folder / "tables.md"
    target.write_text(page(folder), encoding="utf-8")
    print(f"tables: {target}")


if __name__ == "__main__":
    main()
