"""Figures of a score card, as PNG bytes. Drawn with the Agg canvas directly: no window, no global state."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from evaluation.calibration import reliability_table
from evaluation.classification import auroc, ece, roc_points
from evaluation.scorecard import FindingScores
from evaluation.selective import binary_risk_coverage

INK, MUTED, GRID, MAIN, CONTROL = "#16222e", "#5d6b78", "#dde3e8", "#0b6e8f", "#b3541e"
_SIZE = 9.5  # points; figures are shown at 96 dpi of page width, so this reads like the text around it


def reliability(scores: Sequence[FindingScores], simulated: bool, bins: int = 15) -> bytes:
    """Said against found over all findings pooled, with counts beneath; a perfect model lies on the diagonal."""
    figure = Figure(figsize=(4.1, 4.7))
    top, bottom = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    _plain(top)
    _plain(bottom)
    pairs = [score.known() for score in scores]
    said = np.concatenate([pair[0] for pair in pairs]) if pairs else np.empty(0)
    found = np.concatenate([pair[1] for pair in pairs]) if pairs else np.empty(0)
    table = reliability_table(said, found, bins)
    top.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (4, 3)))
    for row in table:
        low, high = _wilson(row.found, row.n)
        top.plot([row.said, row.said], [low, high], color=MAIN, lw=1.6, alpha=0.45)
    top.plot([row.said for row in table], [row.found for row in table], "o-", color=MAIN, ms=5, lw=1.2)
    top.set_ylabel("share found present", color=MUTED)
    top.set_xlim(0, 1)
    top.set_ylim(0, 1)
    top.grid(color=GRID, lw=0.8)
    bottom.bar(
        [(row.low + row.high) / 2 for row in table],
        [row.n for row in table],
        width=[0.86 * (row.high - row.low) for row in table],
        color=MAIN,
        alpha=0.55,
    )
    bottom.set_yscale("log")
    bottom.yaxis.set_minor_formatter(NullFormatter())
    bottom.set_ylabel("rows", color=MUTED)
    bottom.set_xlabel("probability said" + _suffix(simulated), color=MUTED)
    if table:
        top.set_title(
            f"all findings pooled: ECE {ece(said, found, bins):.3f}, {bins} bins, n={said.size} answers",
            fontsize=_SIZE,
            color=INK,
        )
    return _png(figure)


def risk_coverage_plot(scores: Sequence[FindingScores], simulated: bool) -> bytes:
    """Share of wrong calls at 0.5 among the surest answers, all findings pooled; a point at 80 % of the answers."""
    figure = Figure(figsize=(4.1, 4.7))
    axes = figure.add_subplot()
    _plain(axes)
    pairs = [score.known() for score in scores]
    said = np.concatenate([pair[0] for pair in pairs]) if pairs else np.empty(0)
    found = np.concatenate([pair[1] for pair in pairs]) if pairs else np.empty(0)
    drawn = binary_risk_coverage(said, found)
    if drawn.n:
        axes.plot(drawn.coverage, drawn.risk, color=MAIN, lw=1.7)
        low = drawn.risk_at(0.8)
        axes.plot([0.8], [low], "o", color=MAIN, ms=6)
        axes.annotate(
            f"{low:.1%} wrong when the surest 80 %\nare answered, {drawn.risk[-1]:.1%} when all are"
            f"\n(n={drawn.n} answers)",
            (0.03, 0.97),
            xycoords="axes fraction",
            va="top",
            fontsize=_SIZE - 1,
            color=INK,
        )
        axes.set_ylim(0, max(0.02, float(drawn.risk.max()) * 1.45))
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(color=GRID, lw=0.8)
    axes.set_xlabel("share of answers given, surest first" + _suffix(simulated), color=MUTED)
    axes.set_ylabel("share of them that is wrong", color=MUTED)
    return _png(figure)


def roc_grid(scores: Sequence[FindingScores], simulated: bool) -> bytes:
    """A small ROC curve for each finding, with its AUROC and its positives and negatives; one-class findings say so."""
    columns = 4
    rows = max(1, math.ceil(len(scores) / columns))
    figure = Figure(figsize=(7.0, 1.86 * rows + 0.2))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(scores) :]:
        axes.set_axis_off()
    for axes, score in zip(grid.flat, scores, strict=False):
        probability, label = score.known()
        _plain(axes)
        axes.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=(0, (4, 3)))
        false, true = roc_points(probability, label)
        if false.size:
            axes.fill_between(false, true, color=MAIN, alpha=0.10, lw=0)
            axes.plot(false, true, color=MAIN, lw=1.7, solid_joinstyle="round")
            note = f"{auroc(probability, label):.2f}"
        else:
            note = "one class only"
        axes.text(0.96, 0.16, note, ha="right", fontsize=_SIZE, color=INK, weight="bold")
        axes.text(0.96, 0.05, f"{int(label.sum())} of {label.size}", ha="right", fontsize=_SIZE - 2.5, color=MUTED)
        axes.set_title(score.name, fontsize=_SIZE - 1, color=INK)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xticks([0, 0.5, 1], ["0", "", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", "", "1"])
        axes.set_aspect("equal")
    figure.supxlabel("false positive rate" + _suffix(simulated), fontsize=_SIZE - 0.5, color=MUTED)
    figure.supylabel("true positive rate", fontsize=_SIZE - 0.5, color=MUTED)
    return _png(figure)


def _wilson(share: float, n: int) -> tuple[float, float]:
    """95% interval of a share of n independent rows (Wilson 1927); a guide to the eye, not a patient bootstrap."""
    z = 1.96
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return center - half, center + half


def _suffix(simulated: bool) -> str:
    return "  ·  simulated data" if simulated else ""


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=_SIZE - 0.5, length=0)
    axes.xaxis.label.set_size(_SIZE - 0.5)
    axes.yaxis.label.set_size(_SIZE - 0.5)
    axes.set_axisbelow(True)


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=192, metadata={"Software": None})
    return buffer.getvalue()
