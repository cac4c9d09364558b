"""report.html: says everything, in the right order, to everybody, and nothing from the site can act in it."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
import report_samples as samples

from pytest_pveha.report.html import badge, render

NASTY = "<script>alert(1)</script>\"'&"
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """A strict reader: every element closed in order; text, attributes and ids collected."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def words(self) -> str:
        return " ".join(" ".join(data for tag, data in self.text if tag != "style").split())


def page(**kind: bool) -> Page:
    return Page(render(*samples.run(**kind)))


def everywhere(data: Any, text: str) -> Any:
    """The same data with ``text`` in every free string, at every depth."""
    if isinstance(data, dict):
        kept = {"verdict", "unit", "measure", "started", "finished", "answer", "outcome", "op"}
        return {key: value if key in kept else everywhere(value, text) for key, value in data.items()}
    if isinstance(data, list):
        return [everywhere(item, text) for item in data]
    return data + text if isinstance(data, str) else data


def test_the_same_input_gives_the_same_bytes() -> None:
    """Rendering twice gives one page, byte for byte."""
    assert render(*samples.run(rejected=True)) == render(*samples.run(rejected=True))


@pytest.mark.parametrize("kind", [{}, {"rejected": True}, {"simulated": False}])
def test_the_page_needs_nothing_but_itself(kind: dict[str, bool]) -> None:
    """No script, no address, no file: the page is whole offline, and its policy forbids everything else."""
    text = render(*samples.run(**kind))
    read = Page(text)
    policy = next(meta["content"] for meta in read.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in read.tags}
    for tag, attributes in read.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        assert (attributes.get("href") or "#").startswith("#")
        assert "src" not in attributes
    assert not re.search(r"https?://|@import|url\((?!#)", text)


def test_whoever_reads_it_can_read_it() -> None:
    """Language, a skip link, one h1, headings without a jump, headed tables, and named charts with a description."""
    read = page(rejected=True)
    assert read.all("html")[0]["lang"] == "en"
    assert read.all("meta")[0] == {"charset": "utf-8"}
    assert read.all("a")[0]["href"] == "#main"
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(cell.get("scope") in {"col", "row"} for cell in read.all("th"))
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert len(read.all("svg")) == 6
    for chart in read.all("svg"):
        assert chart["role"] == "img"
        assert set((chart["aria-labelledby"] or "").split()) <= set(ids)
    for attributes in read.all("a"):
        assert (attributes["href"] or "").removeprefix("#") in ids
    for _, attributes in read.tags:
        for named in (attributes.get("aria-labelledby") or "").split():
            assert named in ids


def test_each_chart_is_well_formed_xml() -> None:
    """An inline chart cut out of the page is an SVG that an XML reader takes."""
    for chart in re.findall(r"<svg.*?</svg>", render(*samples.run(rejected=True)), flags=re.DOTALL):
        assert len(ElementTree.fromstring(chart)) > 5


def test_what_was_not_proven_comes_before_the_figures() -> None:
    """Verdict, what failed, what was proven, what was not with its reason: in this order, before any table."""
    text = page(rejected=True).words()
    order = [
        "Rejected".lower(),
        "two tests ran on the simulated site sim-3node",
        "Failed",
        "Proven on the simulated site",
        "Not proven",
        "left out by the scope one-per-role",
        "not applicable: the inventory has no ceph block",
        "About this run",
        "Objectives and measurements",
        "How to verify this evidence",
    ]
    places = [text.lower().index(part.lower()) for part in order]
    assert places == sorted(places)


@pytest.mark.parametrize("rejected", [False, True])
def test_a_simulated_run_says_so_in_title_and_top(rejected: bool) -> None:
    """SIMULATED stands in the title, at the top and at the bottom; a real site's report has the word nowhere."""
    text = render(*samples.run(rejected=rejected))
    assert "<title>SIMULATED: " in text
    assert text.index("SIMULATED</strong>") < text.index("<h1")
    real = render(*samples.run(rejected=rejected, simulated=False))
    assert "SIMULATED" not in real


def test_the_figures_are_those_of_the_verdict() -> None:
    """Each claim shows its value, bounds, objective and verdict; one that never ended shows no value."""
    text = page(rejected=True).words()
    assert "db-1 recovery time 183.3 s 182.2 to 184.5 s at most 240 s ✓ accepted" in text
    assert "web-2 recovery time 246.6 s" not in text
    assert "mail recovery time > 600.0 s at most 240 s ✗ rejected" in text
    assert "cluster other nodes reset 0 0 ✓ accepted" in text


def test_a_claim_that_cannot_be_told_is_shown_as_unknown() -> None:
    """A claim without any bound is in the table as unknown, and in no chart."""
    verdict, _, environment = samples.run()
    verdict["tests"][1]["claims"] = [
        samples.claim("vm:101", None, None, None, "inconclusive", censored=False, objective=None)
    ]
    read = Page(render(verdict, [], environment))
    assert "db-1 recovery time unknown not set ? inconclusive" in read.words()


def test_nothing_from_the_site_becomes_markup() -> None:
    """A guest, node, test, reason or operator called like a script stays text: in HTML, in SVG and in attributes."""
    verdict, timelines, environment = samples.run(rejected=True)
    plain = Page(render(verdict, timelines, environment))
    environment["guests"] = {subject: name + NASTY for subject, name in environment["guests"].items()}
    nasty_timelines = [samples.renamed(timeline, NASTY) for timeline in timelines]
    text = render(everywhere(verdict, NASTY), nasty_timelines, everywhere(environment, NASTY))
    read = Page(text)
    assert [tag for tag, _ in read.tags if tag == "script"] == []
    assert NASTY in read.words()
    assert {name for _, attributes in read.tags for name in attributes} == {
        name for _, attributes in plain.tags for name in attributes
    }
    for chart in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        root = ElementTree.fromstring(chart)
        assert any(NASTY in (element.text or "") for element in root.iter())


def test_characters_that_are_not_for_reading_are_spelled() -> None:
    """A NUL, an escape or a right-to-left override in a name cannot hide or turn the text around."""
    verdict, timelines, environment = samples.run()
    environment["guests"] = {"vm:101": "db\x00\x1b[2J\u202egnp"}
    text = render(verdict, timelines, environment)
    assert "db\\x00\\x1b[2J\\u202egnp" in text
    assert not re.search("[\x00\x1b\u202e]", text)


def test_an_empty_run_says_that_nothing_was_proven() -> None:
    """A run in which nothing ran makes a page that says so; unknown environment is left out, not invented."""
    verdict, _, _ = samples.run()
    verdict |= {"tests": [], "not_proven": [], "verdict": "not proven", "gate": {"verdict": "rejected", "checks": []}}
    text = Page(render(verdict, [], {})).words()
    assert "No tests ran on the simulated site sim-3node" in text
    assert "Nothing." in text
    assert "not signed" in text
    assert "This run was not signed." in text


def test_the_commands_are_those_an_auditor_can_paste() -> None:
    """The page shows the ssh-keygen and sha256sum commands with the signer's identity, quoted for a shell."""
    verdict, timelines, environment = samples.run()
    environment["signer"] = "it's me"
    text = Page(render(verdict, timelines, environment)).words()
    assert "-I 'it'\"'\"'s me' -n pveha-evidence -s MANIFEST.sig < MANIFEST" in text
    assert "sha256sum --strict --quiet -c MANIFEST" in text
    assert "pveha verify ." in text


@pytest.mark.parametrize(
    "verdict", ["accepted", "rejected", "inconclusive", "invalid", "not proven", "dirty", "accepted (partial)"]
)
def test_every_verdict_has_a_sign_of_its_own(verdict: str) -> None:
    """No verdict is told by colour alone: each has a word and a sign."""
    shown = badge(verdict)
    assert shown.text == verdict
    assert shown.sign != "·"
    assert shown.css in {"accepted", "rejected", "inconclusive", "invalid", "not-proven", "dirty"}


def test_a_verdict_of_a_later_version_is_never_green() -> None:
    """A verdict word this version does not know is shown as it is, and not as a success."""
    assert badge("splendid").css == "other"


def test_how_the_site_was_left_is_told() -> None:
    """Each difference from the site as found is in the page; a site that was not compared is not called left well."""
    assert "As found → as left: HA rule pin: nodes=pve1 → absent" in page().words()
    assert "nft tables of pve1: ip mangle → nothing" in page().words()
    verdict, timelines, environment = samples.run()
    whole = {**verdict, "left": {"compared": True, "differences": [], "surroundings": []}}
    assert "all as found" in Page(render(whole, timelines, environment)).words()
    for unseen in ({}, {"left": {"compared": False, "differences": [], "surroundings": []}}):
        told = {key: value for key, value in verdict.items() if key != "left"} | unseen
        assert "was not compared at the end" in Page(render(told, timelines, environment)).words()


def test_what_was_asked_and_what_was_never_proven_are_told() -> None:
    """Each question with its answer and tests, and each gap of the map."""
    words = page(rejected=True).words()
    assert "The hard failure of a node is survived" in words
    assert "backup/test_restore.py was not part of this run" in words
    assert "1 of 2 proven" in words
    assert "pve2 (rejected in this run)" in words
    assert "pve1 32 days ago" in words
    assert "20251101T080000Z-deadbeef" in words
    assert "--pveha-campaign 2 --pveha-seed 7, of which only step 1" in words
