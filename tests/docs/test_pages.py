"""The pages hold together: links resolve, commands exist, and nothing in them belongs to one machine."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_pveha.cli import parser

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.M | re.S)


def name(path: Path) -> str:
    """A file's place in the project, for a test's id."""
    return path.relative_to(ROOT).as_posix()


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    found = re.findall(r"^#+ (.+)$", FENCE.sub("", page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def broken_links(page: Path, root: Path) -> list[str]:
    """The links of a page that lead nowhere, or out of the project."""
    found = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        there = target.exists() and target.is_relative_to(root)
        if not there or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page: Path) -> None:
    """Every link inside the project leads to a file, and to a heading where it names one."""
    assert broken_links(page, ROOT) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    """A missing file, a missing heading and a file outside the project are seen; code blocks are not links."""
    page = tmp_path / "page.md"
    page.write_text("# A `b` c\n[x](page.md#a-b-c) [y](no.md) [z](#no) [o](../o.md)\n```\n[c](no.md)\n```\n")
    assert broken_links(page, tmp_path) == ["no.md", "#no", "../o.md"]


def test_every_page_is_reachable_from_the_readme() -> None:
    """Nobody has to know where a page lies."""
    seen: set[Path] = set()
    front = {ROOT / "README.md"}
    while front:
        page = front.pop()
        seen.add(page)
        links = (page.parent / link.partition("#")[0] for link in LINK.findall(page.read_text(encoding="utf-8")))
        front |= {link.resolve() for link in links if link.suffix == ".md" and link.exists()} - seen
    assert [name(page) for page in PAGES if page not in seen] == []


def commands(text: str) -> Iterator[str]:
    """The commands in a page's indented blocks and code spans."""
    yield from re.findall(r"^    (\S.*)$", text, re.M)
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", text)))


def ours(program: str) -> Iterator[tuple[str, list[str]]]:
    """Where the pages tell the reader to type this program, with which words."""
    for page in PAGES:
        for command in commands(page.read_text(encoding="utf-8")):
            words = command.split("     ")[0].removeprefix(".venv/bin/").split()  # a remark may stand to the right
            if words and words[0] == program:
                yield name(page), [word for word in words[1:] if word != "…"]


def test_make_targets_exist() -> None:
    """Every `make TARGET` that a page names can be made."""
    asked = {(page, target) for page, words in ours("make") for target in words if "=" not in target}
    assert {("README.md", "demo"), ("README.md", "test")} <= asked
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert {(page, target) for page, target in asked if target not in targets} == set()


def test_make_demo_types_what_the_readme_says() -> None:
    """The demo is the main job, word for word, with a key to sign with."""
    typed = "pytest --inventory inventories/sim-hyperconverged.yml -m destructive"
    assert typed in (ROOT / "README.md").read_text(encoding="utf-8")
    planned = subprocess.run(["make", "-n", "demo"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    (line,) = [each for each in planned.splitlines() if each.startswith(".venv/bin/pytest ")]
    words = shlex.split(line)
    assert " ".join(words[:5]) == f".venv/bin/{typed}"
    assert words[5] == "--pveha-signing-key"
    assert "THROW-AWAY" in planned


def known(words: list[str]) -> bool:
    """Whether the command line is one that `pveha` takes; placeholders in capitals stand for files."""
    try:
        parser().parse_args(words)
    except SystemExit as ended:
        return ended.code == 0
    return True


def test_pveha_commands_are_ones_that_exist() -> None:
    """Every `pveha …` that a page names is taken by the real command line."""
    asked = [(page, words) for page, words in ours("pveha") if words and not {"COMMAND", "N", "="} & set(words)]
    assert {words[0] for _, words in asked} >= {"check", "judge", "verify", "heal", "sim"}
    # `pveha heal` alone names the command, and is no line to type
    assert [(page, words) for page, words in asked if len(words) > 1 and not known(words)] == []
    assert not known(["chekc", "x.yml"])
    assert not known(["heal", "--inventroy", "x.yml"])


def test_every_pveha_command_is_named_in_the_pages() -> None:
    """No command is a secret."""
    there = {word for action in parser()._actions if isinstance(action.choices, dict) for word in action.choices}
    assert there
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert {word for word in there if f"pveha {word}" not in text} == set()


MACHINE = re.compile(
    r"(?<![\w.])/(?:work|root|home)/(?!\.\.\.)[\w.-]+"  # somebody's folders
    r"|\b(?:pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|deb\.debian\.org|archive\.ubuntu\.com)\b"
)


def committed() -> list[Path]:
    """Every file that belongs to the project."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git clone")
    return [ROOT / file for file in listed.stdout.split("\0") if file and (ROOT / file).is_file()]


def test_no_file_names_a_machine() -> None:
    """No path of one machine, and no registry's host, stands in any file."""
    found = []
    for path in committed():
        if path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{name(path)}: {hit[0]}" for hit in MACHINE.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("see /home/" + "jane/x", True),
        ("in /root/" + ".cache", True),
        ("https://pypi." + "org/simple", True),
        ("api2/json/nodes/root/x", False),
        ("working at homework", False),
    ],
)
def test_machine_names_are_found(text: str, hit: bool) -> None:
    """The search sees what it is for, and nothing else."""
    assert bool(MACHINE.search(text)) == hit
