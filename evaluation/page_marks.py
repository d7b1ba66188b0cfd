"""Small drawings and phrases that the sections of a page share: numbers, intervals, dots on an axis, pictures."""

from __future__ import annotations

import base64
import math
from html import escape

from evaluation.scorecard import Metric

INK, MAIN, CONTROL, BAD, GRID = "#16222e", "#0b6e8f", "#b3541e", "#a4243b", "#dde3e8"


def number(value: float) -> str:
    """Three decimals, or a dash for nan."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def signed(value: float) -> str:
    """A difference with its sign, or a dash for nan."""
    return "–" if math.isnan(value) else f"{value:+.3f}".replace("-", "−")


def between(metric: Metric, sign: bool = False) -> str:
    """The interval in words."""
    if math.isnan(metric.low):
        return "no interval"
    write = signed if sign else number
    return f"{write(metric.low)} to {write(metric.high)}"


def image(png: bytes, text: str) -> str:
    """A picture inside the page."""
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}">'


def dot(
    metric: Metric, low: float, high: float, reference: float | None = None, color: str = MAIN, width: int = 220
) -> str:
    """One value with its interval on an axis from `low` to `high`, as inline SVG; `reference` is a dashed line."""

    def x(value: float) -> float:
        return 6 + (width - 12) * (min(max(value, low), high) - low) / (high - low)

    parts = [f'<line x1="6" x2="{width - 6}" y1="9" y2="9" stroke="{GRID}"/>']
    if reference is not None:
        parts.append(
            f'<line x1="{x(reference):.1f}" x2="{x(reference):.1f}" y1="0" y2="18" stroke="{CONTROL}"'
            ' stroke-dasharray="3 3"/>'
        )
    if not math.isnan(metric.value):
        if not math.isnan(metric.low):
            parts.append(
                f'<line x1="{x(metric.low):.1f}" x2="{x(metric.high):.1f}" y1="9" y2="9" stroke="{color}"'
                ' stroke-opacity=".45" stroke-width="4" stroke-linecap="round"/>'
            )
        parts.append(f'<circle cx="{x(metric.value):.1f}" cy="9" r="4.5" fill="{color}"/>')
    said = f"{metric.value:.3f}, {between(metric)}, n={metric.n}"
    size = f'viewBox="0 0 {width} 18" width="{width}" height="18"'
    return f'<svg class="dot" {size} role="img" aria-label="{said}">{"".join(parts)}</svg>'


def axis(low: float, high: float, ticks: list[float], width: int = 220) -> str:
    """The numbers under a column of dots, as inline SVG."""
    parts = []
    for tick in ticks:
        x = 6 + (width - 12) * (tick - low) / (high - low)
        anchor = "start" if tick == low else "end" if tick == high else "middle"
        parts.append(f'<text class="tick" x="{x:.1f}" y="11" text-anchor="{anchor}">{tick:g}</text>')
    size = f'viewBox="0 0 {width} 14" width="{width}" height="14"'
    return f'<svg class="dot" {size} aria-hidden="true">{"".join(parts)}</svg>'


def strip(rows: list[tuple[str, Metric, str]]) -> str:
    """Several values on one axis from 0 to 1, each with its name, its colour, its value and its n, as inline SVG."""
    rows = [row for row in rows if not math.isnan(row[1].value)]
    left, width, step = 100, 112, 20
    height = step * len(rows) + 16
    parts = []
    for tick in (0, 0.5, 1):
        x = left + width * tick
        parts.append(f'<line x1="{x}" x2="{x}" y1="0" y2="{height - 14}" stroke="{GRID}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{height - 2}" text-anchor="middle">{tick:g}</text>')
    for place, (label, row, color) in enumerate(rows):
        y = 10 + step * place
        parts.append(f'<text x="0" y="{y + 4}">{escape(label)}</text>')
        if not math.isnan(row.low):
            low, high = (left + width * min(max(bound, 0.0), 1.0) for bound in (row.low, row.high))
            parts.append(
                f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{color}" stroke-opacity=".4"'
                ' stroke-width="4" stroke-linecap="round"/>'
            )
        x = left + width * min(max(row.value, 0.0), 1.0)
        parts.append(f'<circle cx="{x:.1f}" cy="{y}" r="4.5" fill="{color}"/>')
        parts.append(f'<text x="248" y="{y + 4}" text-anchor="end">{row.value:.2f}</text>')
        parts.append(f'<text class="n" x="300" y="{y + 4}" text-anchor="end">n={row.n}</text>')
    described = "; ".join(f"{label} {row.value:.2f}" for label, row, _ in rows)
    return f'<svg viewBox="0 0 300 {height}" role="img" aria-label="{escape(described)}">{"".join(parts)}</svg>'


def curve(points: list[Metric], low: float = 0.5, high: float = 1.0) -> str:
    """Values with their intervals from left to right (untouched first), joined by a line, as inline SVG."""
    width, height, left, bottom = 240, 108, 30, 90

    def y(value: float) -> float:
        return 6 + (bottom - 12) * (high - min(max(value, low), high)) / (high - low)

    parts = []
    for tick in (low, (low + high) / 2, high):
        parts.append(f'<line x1="{left}" x2="{width}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="{GRID}"/>')
        parts.append(f'<text class="tick" x="{left - 5}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{tick:g}</text>')
    step = (width - left - 30) / max(len(points) - 1, 1)
    places = [left + 15 + step * k for k in range(len(points))]
    shown = [(x, point) for x, point in zip(places, points, strict=True) if not math.isnan(point.value)]
    line = " ".join(f"{x:.1f},{y(point.value):.1f}" for x, point in shown)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{MAIN}" stroke-width="1.6"/>')
    for x, point in shown:
        if not math.isnan(point.low):
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y(point.low):.1f}" y2="{y(point.high):.1f}" stroke="{MAIN}"'
                ' stroke-opacity=".4" stroke-width="4" stroke-linecap="round"/>'
            )
        parts.append(f'<circle cx="{x:.1f}" cy="{y(point.value):.1f}" r="4" fill="{MAIN}"/>')
    for x, word in zip(places, ("as is", *map(str, range(1, len(points)))), strict=False):
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 5}" text-anchor="middle">{word}</text>')
    said = "; ".join(f"{point.value:.2f}" for point in points)
    return f'<svg class="curve" viewBox="0 0 {width} {height}" role="img" aria-label="{said}">{"".join(parts)}</svg>'
