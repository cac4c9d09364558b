"""The report's three charts, as inline SVG: bars against objectives, phases as steps, outages as lanes.

Drawn by hand: rectangles, lines and text, rounded to a tenth, so that the same data give the same bytes. Colours come
from the page's CSS variables (dark mode, print); thickness, hatching and words say the same without colour. Each chart
is ``role="img"`` with title and description, and the page puts the same data in a table below it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pytest_pveha.report.words import seconds

WIDTH = 720.0
_LABELS = 184.0
_FIGURES = 104.0
_ROW = 30.0
_TOP = 34.0
_CAPTION = 14.0
_CHAR = 7.3
"""Mean width of a character of 13 px in the fonts the page asks for."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One measured value with its bounds, against its objective. ``high`` is None when it never ended."""

    label: str
    value: float | None
    low: float
    high: float | None
    objective: float | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Step:
    """One phase: from ``begin`` to ``end`` seconds after the fault; without ``end`` a moment, nothing followed it.

    ``number`` is the phase's in the table; ``calm`` when everything answered again by then.
    """

    number: int
    label: str
    begin: float
    end: float | None
    calm: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of equal answers of one probe, in seconds after the fault."""

    start: float
    end: float
    answer: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One probe's answers over the test."""

    label: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A numbered moment, in seconds after the fault."""

    number: int
    at: float
    label: str


def bars(ident: str, title: str, description: str, rows: Sequence[Bar]) -> Markup:
    """Measured values as bars with error whiskers, each with a tick where its objective lies."""
    edges = [edge for row in rows for edge in (row.low, row.high, row.objective) if edge is not None]
    scale = _Scale(min([0.0, *edges]), max([0.0, *edges]) * 1.04, _LABELS, WIDTH - _FIGURES)
    objectives = {row.objective for row in rows if row.objective is not None}
    top = _TOP
    parts = []
    if len(objectives) == 1:
        only = objectives.pop()
        parts.append(_text("demand", scale.x(only), 12.0, f"objective {only:g} s", anchor="middle"))
        top += _CAPTION
    height = top + _ROW * len(rows)
    parts += [scale.grid(height, y=top - _TOP), scale.labels(y=top - _TOP)]
    for index, row in enumerate(rows):
        parts.append(_bar(scale, row, top + _ROW * index))
    return _chart(ident, title, description, height, parts)


def steps(ident: str, title: str, description: str, rows: Sequence[Step]) -> Markup:
    """Phases one below the other, each bar beginning where the one before ended."""
    reach = max((edge for row in rows for edge in (row.begin, row.end) if edge is not None), default=0.0)
    scale = _Scale(min((row.begin for row in rows), default=0.0), reach * 1.02, _LABELS, WIDTH - _FIGURES)
    height = _TOP + _ROW * len(rows)
    parts = [scale.grid(height), scale.labels()]
    for index, row in enumerate(rows):
        y = _TOP + _ROW * index
        begin, end = scale.x(row.begin), scale.x(row.end if row.end is not None else row.begin)
        css = "step calm" if row.calm else "step"
        parts.append(_label(f"{row.number}  {row.label}", y))
        if row.end is None:
            parts.append(Markup('<circle class="{}" cx="{}" cy="{}" r="5"/>').format(css, _n(begin), _n(y + 15)))
            parts.append(_figure(f"at {seconds(row.begin)}", y))
            continue
        parts.append(_rect(css, begin, end, y + 7, 16))
        parts.append(_figure(seconds(row.end - row.begin), y))
        if index + 1 < len(rows):
            parts.append(_line("link", end, y + 23, end, y + _ROW + 7))
    return _chart(ident, title, description, height, parts)


def lanes(
    ident: str, title: str, description: str, rows: Sequence[Lane], marks: Sequence[Mark], *, fault: bool = True
) -> Markup:
    """One lane a probe: a thin line while it answers, a hatched bar while it does not, dots where nobody can tell."""
    edges = [edge for row in rows for segment in row.segments for edge in (segment.start, segment.end)]
    scale = _Scale(min(edges, default=0.0), max(edges, default=0.0), _LABELS, WIDTH - 24)
    flags, tiers = _flags(scale, marks)
    top = _TOP + 18.0 * tiers
    height = top + _ROW * len(rows)
    parts = [
        _hatch(ident),
        scale.grid(height, y=18.0 * tiers),
        *(_line("mark", scale.x(mark.at), y + 16, scale.x(mark.at), height) for mark, y in flags),
    ]
    for index, row in enumerate(rows):
        parts.append(_lane(ident, scale, row, top + _ROW * index))
    if fault:
        parts.append(_line("fault", scale.x(0.0), 18.0 * tiers + 24, scale.x(0.0), height))
    parts += [scale.labels(y=18.0 * tiers), *(_flag(scale, mark, y) for mark, y in flags)]
    return _chart(ident, title, description, height, parts)


class _Scale:
    """Seconds to pixels."""

    def __init__(self, low: float, high: float, left: float, right: float) -> None:
        self.low, self.high = low, high if high > low else low + 1.0
        self._left, self._right = left, right

    def x(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self._left + share * (self._right - self._left)

    def ticks(self) -> list[float]:
        """Five to eight round numbers."""
        rough = (self.high - self.low) / 6
        magnitude = 10.0 ** math.floor(math.log10(rough))
        step = next(magnitude * factor for factor in (1, 2, 3, 5, 6, 10) if magnitude * factor >= rough or factor == 10)
        first = math.ceil(self.low / step)
        return [n * step for n in range(first, math.floor(self.high / step) + 1)]

    def grid(self, height: float, y: float = 0.0) -> Markup:
        """Thin lines down the chart, below everything else."""
        places = [self.x(tick) for tick in self.ticks()]
        return Markup("").join(_line("grid", x, y + 24, x, height) for x in places)

    def labels(self, y: float = 0.0) -> Markup:
        """What the lines stand for, above everything else."""
        return Markup("").join(
            _text("tick", self.x(tick), y + 18, f"{tick:g} s", anchor="middle") for tick in self.ticks()
        )


def _bar(scale: _Scale, row: Bar, y: float) -> Markup:
    reach = row.value if row.value is not None else row.low
    parts = [
        _label(row.label, y),
        _rect(f"bar {_css(row.verdict)}", scale.x(min(0.0, reach)), scale.x(max(0.0, reach)), y + 8, 14),
    ]
    if row.high is None:
        # an arrow: it goes on beyond what was observed
        x = scale.x(reach)
        parts.append(Markup('<path class="whisker" d="M{} {}l8 7l-8 7"/>').format(_n(x + 2), _n(y + 8)))
    elif row.high > row.low:
        low, high, middle = scale.x(row.low), scale.x(row.high), y + 15
        parts.append(
            Markup('<path class="whisker" d="M{0} {2}v10M{1} {2}v10M{0} {3}H{1}"/>').format(
                _n(low), _n(high), _n(middle - 5), _n(middle)
            )
        )
    if row.objective is not None:
        x = scale.x(row.objective)
        parts.append(_line("objective", x, y + 1, x, y + _ROW - 1))
    parts.append(_figure(seconds(row.value) if row.value is not None else f"> {seconds(row.low)}", y))
    return Markup("").join(parts)


def _lane(ident: str, scale: _Scale, row: Lane, y: float) -> Markup:
    parts = [_label(row.label, y)]
    for segment in row.segments:
        low, high = scale.x(segment.start), scale.x(segment.end)
        length = seconds(segment.end - segment.start)
        hint = Markup("<title>{}: {} from {} to {}</title>").format(
            row.label, segment.answer, seconds(segment.start), seconds(segment.end)
        )
        if segment.answer == "good":
            parts.append(_rect("good", low, high, y + 12, 6, hint))
        elif segment.answer == "bad":
            parts.append(_rect("bad", low, high, y + 5, 20, hint))
            parts.append(
                Markup('<rect class="over" fill="url(#{}-hatch)" x="{}" y="{}" width="{}" height="20"/>').format(
                    ident, _n(low), _n(y + 5), _n(max(high - low, 1.5))
                )
            )
            if high - low > len(length) * _CHAR + 16:
                middle, half = (low + high) / 2, len(length) * _CHAR / 2 + 5
                parts.append(_rect("plate", middle - half, middle + half, y + 7, 16))
                parts.append(_text("inside", middle, y + 19.5, length, anchor="middle"))
        else:
            parts.append(_rect("unknown", low, high, y + 9, 12, hint))
    return Markup("").join(parts)


def _flags(scale: _Scale, marks: Iterable[Mark]) -> tuple[list[tuple[Mark, float]], int]:
    """Each mark with the height of its number, in as few tiers as keep the numbers apart."""
    ends: list[float] = []
    placed: list[tuple[Mark, int]] = []
    for mark in sorted(marks, key=lambda mark: (mark.at, mark.number)):
        x = scale.x(mark.at)
        tier = next((n for n, end in enumerate(ends) if x - end >= 19), len(ends))
        ends[tier : tier + 1] = [x]
        placed.append((mark, tier))
    return [(mark, 18.0 * tier) for mark, tier in placed], len(ends)


def _flag(scale: _Scale, mark: Mark, y: float) -> Markup:
    x = scale.x(mark.at)
    return Markup('<g><title>{}: {}</title><circle class="flag" cx="{}" cy="{}" r="8"/>{}</g>').format(
        mark.label,
        seconds(mark.at),
        _n(x),
        _n(y + 8.5),
        _text("number", x, y + 12.5, str(mark.number), anchor="middle"),
    )


def _chart(ident: str, title: str, description: str, height: float, parts: Iterable[Markup]) -> Markup:
    return Markup(
        '<svg role="img" aria-labelledby="{0}-t {0}-d" viewBox="0 0 {1} {2}" width="{1}" height="{2}">'
        '<title id="{0}-t">{3}</title><desc id="{0}-d">{4}</desc>{5}</svg>'
    ).format(ident, _n(WIDTH), _n(height + 4), title, description, Markup("\n").join(parts))


def _hatch(ident: str) -> Markup:
    return Markup(
        '<defs><pattern id="{}-hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect class="hatch" width="2" height="6"/></pattern></defs>'
    ).format(ident)


def _label(text: str, y: float) -> Markup:
    room = int((_LABELS - 16) / _CHAR)
    shown = text if len(text) <= room else text[: room - 1] + "…"
    hint = Markup("<title>{}</title>").format(text) if shown != text else Markup("")
    return Markup('<text class="label" x="0" y="{}">{}{}</text>').format(_n(y + 19.5), hint, shown)


def _figure(text: str, y: float) -> Markup:
    return _text("figure", WIDTH, y + 19.5, text, anchor="end")


def _text(css: str, x: float, y: float, text: str, *, anchor: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(css, _n(x), _n(y), anchor, text)


def _rect(css: str, low: float, high: float, y: float, height: float, inside: Markup | None = None) -> Markup:
    # never thinner than a person can see: a short outage must not vanish
    width = max(high - low, 1.5)
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}" rx="2">{}</rect>').format(
        css, _n(low), _n(y), _n(width), _n(height), inside or Markup("")
    )


def _line(css: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(css, _n(x1), _n(y1), _n(x2), _n(y2))


def _css(verdict: str) -> str:
    return "".join(char if char.isalnum() and char.isascii() else "-" for char in verdict)


def _n(value: float) -> str:
    """A coordinate, to a tenth, spelled one way."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
