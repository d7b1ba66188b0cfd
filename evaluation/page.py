"""card.html: the score card as one page that needs no network, no script and no other file."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from html import escape

from evaluation.plots import forest, reliability, roc_grid
from evaluation.scorecard import Metric, ScoreCard


@dataclass(frozen=True)
class _Headline:
    """A number for the top of the page: its metric, how to read it, and the controls that stand beside it."""

    name: str
    title: str
    meaning: str
    better: str  # "higher" or "lower"
    controls: tuple[str, ...] = ()  # patterns of metric names


_HEADLINES = (
    _Headline(
        "zero_shot.auroc.macro",
        "Zero-shot diagnosis",
        "AUROC, mean over findings. 0.5 is guessing, 1 is perfect.",
        "higher",
        ("reliance.*.auroc", "*untrained*.auroc", "*untrained*.auroc.macro", "zero_shot.baseline.*.auroc.macro"),
    ),
    _Headline(
        "zero_shot.ece",
        "Calibration",
        "How far the probabilities are from what is found. 0 is honest.",
        "lower",
        ("zero_shot.ece.*", "*untrained*.ece"),
    ),
    _Headline(
        "ground.pointing_game",
        "Pointing",
        "Share of findings where the hottest pixel lies on the finding.",
        "higher",
        ("ground.pointing_game.chance", "ground.*.pointing_game", "reliance.*.pointing_game"),
    ),
    _Headline(
        "ground.false_area",
        "False alarm area",
        "Share of the image lit for findings that are absent.",
        "lower",
        ("reliance.*.false_area", "ground.*.false_area"),
    ),
    _Headline(
        "search.recall_at_5",
        "Search",
        "Share of studies whose own report is among the first five.",
        "higher",
        ("search.recall_at_5.chance", "search.*.recall_at_5", "reliance.*.recall_at_5"),
    ),
    _Headline(
        "draft.finding_f1.micro",
        "Draft findings",
        "F1 of the findings a draft states as present.",
        "higher",
        ("draft.baseline.*.finding_f1.micro", "reliance.*.finding_f1.micro"),
    ),
    _Headline(
        "draft.hallucination_rate",
        "Hallucination",
        "Share of drafted findings that are not there.",
        "lower",
        ("draft.baseline.*.hallucination_rate", "reliance.*.hallucination_rate"),
    ),
    _Headline(
        "draft.omission_rate",
        "Omission",
        "Share of true findings that the draft leaves out.",
        "lower",
        ("draft.baseline.*.omission_rate",),
    ),
    _Headline(
        "draft.laterality_error",
        "Wrong side",
        "Share of rightly drafted findings put on the wrong side.",
        "lower",
        ("draft.baseline.*.laterality_error",),
    ),
)

_GROUPS = ("macro", "micro", "focal")
"""Last parts of names that stand for several findings, and so do not belong among the findings."""

_CAVEATS = (
    "Intervals are 95% percentile intervals of a bootstrap that resamples patients. They say how much the number would"
    " move with other patients of the same kind, and nothing about other hospitals, scanners or readers.",
    "Every draft is a draft for review by a radiologist. No number here is a claim of clinical use.",
)

_STYLE = """
:root{--ink:#16222e;--muted:#5d6b78;--line:#dde3e8;--soft:#f4f7f9;--main:#0b6e8f;--control:#b3541e}
*{box-sizing:border-box}
body{margin:0;background:#fff;color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",
 "DejaVu Sans",sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1080px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:30px;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:19px;margin:44px 0 6px}
p{margin:0 0 10px;max-width:74ch}
.lead,.hint{color:var(--muted)}
.banner{background:#8a3b0d;color:#fff;padding:11px 24px;text-align:center;font-size:15px}
.banner b{letter-spacing:.06em}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(310px,1fr));gap:14px;margin-top:20px}
.card{border:1px solid var(--line);border-radius:10px;padding:16px 18px 12px;break-inside:avoid}
.card h3{margin:0;font-size:14px;font-weight:600;color:var(--muted);display:flex;justify-content:space-between}
.card h3 span{font-weight:400;font-size:12.5px}
.big{font-size:38px;font-weight:650;line-height:1.15;letter-spacing:-.02em}
.big small{font-size:14.5px;font-weight:400;letter-spacing:0;color:var(--muted);margin-left:7px}
.card p{font-size:13.5px;color:var(--muted);margin:2px 0 8px;line-height:1.4}
.card svg{display:block;width:100%;height:auto}
.card text{font-size:11.5px;fill:var(--ink)}
.card text.tick{font-size:10px;fill:var(--muted);text-anchor:middle}
figure{margin:12px 0 0}
figure img{max-width:100%;height:auto;display:block}
.forest img{width:800px}
.pair{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1.7fr);gap:28px;align-items:start}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px}
th{text-align:left;color:var(--muted);font-weight:600;border-bottom:2px solid var(--line);padding:6px 10px 6px 0}
td{border-bottom:1px solid var(--line);padding:6px 10px 6px 0;vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap}
td code{font:12.5px ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
tr.group td{padding-top:18px;font-weight:650;border-bottom-color:#b9c4cd}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(320px,1fr));gap:20px;margin-top:14px}
.gallery figure{margin:0;border:1px solid var(--line);border-radius:10px;overflow:hidden;break-inside:avoid}
.gallery img{width:100%;background:#000}
.gallery figcaption{padding:10px 14px;font-size:14px}
.gallery pre{margin:0;padding:0 14px 14px;font:13px/1.45 system-ui,"DejaVu Sans",sans-serif;white-space:pre-wrap;
 color:#33414d}
ul{padding-left:20px;max-width:78ch}
li{margin:0 0 6px}
.simulated{position:relative}
.tag{color:#8a3b0d;font-weight:600;font-size:12.5px}
footer{margin-top:48px;border-top:1px solid var(--line);padding-top:12px;color:var(--muted);font-size:13px;
 overflow-wrap:anywhere}
@media(max-width:760px){.pair{grid-template-columns:1fr}main{padding:22px 16px 48px}}
@media print{.banner{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""


def page(card: ScoreCard) -> str:
    """The whole page as HTML text; pictures are inlined as base64 PNG, all text is escaped."""
    banner = (
        '<div class="banner" role="note"><b>SIMULATED DATA</b> · These numbers come from the phantom hospital. They'
        " show that the platform works, and say nothing about patients.</div>"
        if card.simulated
        else ""
    )
    body = "".join(
        [
            f"<header><h1>{escape(card.title)}</h1><p class='lead'>{escape(card.data)}</p></header>",
            _headlines(card),
            _findings(card),
            _curves(card),
            _gallery(card),
            _caveats(card),
            _table(card.metrics),
            _footer(card),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(card.title)}</title><style>{_STYLE}</style></head><body>{banner}<main>{body}</main></body></html>\n"
    )


def _headlines(card: ScoreCard) -> str:
    shown = [(headline, metric) for headline in _HEADLINES if (metric := card.get(headline.name)) is not None]
    if not shown:
        return ""
    cards = "".join(_card(headline, metric, _controls(headline, card.metrics)) for headline, metric in shown)
    return (
        f'<section class="cards">{cards}</section><p class="hint" style="margin-top:12px">Blue: the model.'
        " Orange: a control, such as an image swapped for another patient’s, a blank image, an untrained model, a"
        " baseline without an image, or chance. A model that reads the image stands clear of its controls.</p>"
    )


def _controls(headline: _Headline, metrics: Iterable[Metric]) -> list[Metric]:
    return [
        metric
        for metric in metrics
        if metric.name != headline.name and any(fnmatchcase(metric.name, pattern) for pattern in headline.controls)
    ]


def _card(headline: _Headline, metric: Metric, controls: Sequence[Metric]) -> str:
    return (
        f'<article class="card"><h3>{escape(headline.title)}<span>{headline.better} is better</span></h3>'
        f'<div class="big">{_number(metric.value)}<small>{_between(metric)}, n={metric.n}</small></div>'
        f"<p>{escape(headline.meaning)}</p>{_strip(metric, controls)}</article>"
    )


def _strip(metric: Metric, controls: Sequence[Metric]) -> str:
    """Model and controls on one axis from 0 to 1, as inline SVG."""
    rows = [("this model", metric, "var(--main)")]
    rows += [(_control_name(metric.name, control.name), control, "var(--control)") for control in controls]
    rows = [row for row in rows if not math.isnan(row[1].value)]
    left, width, step = 104, 158, 20
    height = step * len(rows) + 16
    parts = []
    for tick in (0, 0.5, 1):
        x = left + width * tick
        parts.append(f'<line x1="{x}" x2="{x}" y1="0" y2="{height - 14}" stroke="#dde3e8"/>')
        parts.append(f'<text class="tick" x="{x}" y="{height - 2}">{tick:g}</text>')
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
        parts.append(f'<text x="300" y="{y + 4}" text-anchor="end">{row.value:.2f}</text>')
    described = "; ".join(f"{label} {row.value:.2f}" for label, row, _ in rows)
    return f'<svg viewBox="0 0 300 {height}" role="img" aria-label="{escape(described)}">{"".join(parts)}</svg>'


def _control_name(main: str, control: str) -> str:
    """What is left of the control's dotted name without the words it shares with the main one."""
    shared = {*main.split("."), "reliance", "baseline"}
    left = [part for part in control.split(".") if part not in shared]
    return " ".join(left).replace("_", " ") or control


def _findings(card: ScoreCard) -> str:
    prefix = "zero_shot.auroc."
    groups = {prefix + name for name in _GROUPS}
    rows = [metric for metric in card.metrics if metric.name.startswith(prefix) and metric.name not in groups]
    if not rows:
        return ""
    silent = [metric.name.removeprefix(prefix) for metric in rows if math.isnan(metric.value)]
    left_out = f" Without a value (one class only): {escape(', '.join(silent))}." if silent else ""
    figure = forest(rows, "AUROC, 95% interval over patients", 0.5, card.simulated)
    return (
        "<section><h2>Diagnosis, finding by finding</h2><p class='hint'>Dot: value; bar: 95% interval over patients."
        f" A bar that touches the dashed line may be chance.{left_out}</p>"
        f"<figure class='forest'>{_image(figure, 'AUROC of each finding with its interval')}</figure></section>"
    )


def _curves(card: ScoreCard) -> str:
    if not card.scores:
        return ""
    left = _image(reliability(card.scores, card.simulated), "Reliability plot, all findings pooled")
    right = _image(roc_grid(card.scores, card.simulated), "ROC curve of each finding")
    return (
        '<section class="pair"><div><h2>Do the probabilities mean what they say?</h2><p class="hint">On the diagonal, a'
        f" probability of 0.8 is right 8 times in 10.</p><figure>{left}</figure></div><div><h2>ROC curves</h2>"
        f'<p class="hint">Bold: AUROC. Below it: positives of all studies.</p><figure>{right}</figure></div></section>'
    )


def _gallery(card: ScoreCard) -> str:
    if not card.pictures:
        return ""
    tag = ' <span class="tag">simulated</span>' if card.simulated else ""
    items = "".join(
        f"<figure>{_image(picture.png, picture.caption)}<figcaption>{escape(picture.caption)}{tag}</figcaption>"
        + (f"<pre>{escape(picture.text)}</pre>" if picture.text else "")
        + "</figure>"
        for picture in card.pictures
    )
    return f'<section><h2>Pictures and drafts</h2><div class="gallery">{items}</div></section>'


def _caveats(card: ScoreCard) -> str:
    notes = [*card.notes, *_CAVEATS]
    if card.simulated:
        notes.insert(0, "The data are simulated. No number on this page is a clinical result, nor a forecast of one.")
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<section><h2>What to keep in mind</h2><ul>{items}</ul></section>"


def _table(metrics: Sequence[Metric]) -> str:
    if not metrics:
        return "<section><h2>All numbers</h2><p>No metric was computed.</p></section>"
    groups: dict[str, list[Metric]] = {}
    for metric in metrics:
        groups.setdefault(metric.name.split(".", 1)[0], []).append(metric)
    rows = []
    for group, members in groups.items():
        rows.append(f'<tr class="group"><td colspan="6">{escape(group)}</td></tr>')
        rows += [
            f"<tr><td><code>{escape(metric.name)}</code></td><td class='n'>{_number(metric.value)}</td>"
            f"<td class='n'>{_between(metric)}</td><td class='n'>{metric.n}</td><td>{escape(metric.variant)}</td>"
            f"<td>{escape(metric.data)}</td></tr>"
            for metric in members
        ]
    return (
        "<section><h2>All numbers</h2><div class='wide'><table><thead><tr><th>metric</th><th class='n'>value</th>"
        "<th class='n'>95% interval</th><th class='n'>n</th><th>variant</th><th>data</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _footer(card: ScoreCard) -> str:
    made = " · ".join(f"{escape(key)}: {escape(value)}" for key, value in card.made_by.items())
    return f"<footer>The same numbers for programs: card.json.{'<br>' + made if made else ''}</footer>"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _between(metric: Metric) -> str:
    return "no interval" if math.isnan(metric.low) else f"{metric.low:.3f} to {metric.high:.3f}"


def _image(png: bytes, text: str) -> str:
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}">'
