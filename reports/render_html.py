"""A draft as one HTML page that needs no network: the images with boxes on the left, the sentences on the right.

Everything that comes from outside is escaped. A content security policy allows the page's own script and style by
their hash and nothing else, so that text in a draft can neither run nor fetch anything.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from html import escape

from reports.draft import DRAFT_NOTICE, SIMULATED_NOTICE, Draft, DraftSentence, Evidence
from reports.draft_figure import Box, Figure
from reports.draft_page import CSS, JS
from reports.render_text import evidence_words, in_order, mark, place

_MARKS = {"supported": "✓", "unsupported": "?", "contradicted": "✕"}
_KINDS = {
    "image-support": "image",
    "region": "place",
    "measurement": "measured",
    "passage": "knowledge",
    "header": "header",
}


def page(draft: Draft, pictures: Mapping[str, bytes]) -> str:
    """The whole page. `pictures` are PNG files by SOP or series UID (`<uid>#k12` for slice 12 of a volume).

    Boxes are placed by `draft.extents`, so a picture may be smaller than its image. Raises: ValueError for no PNG.
    """
    figures = [Figure.of(key, data, draft) for key, data in pictures.items()]
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(CSS)}'; script-src '{_hash(JS)}';"
        " base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Draft report{' (simulated)' if draft.simulated else ''}</title><style>{CSS}</style></head><body>",
            *_head(draft),
            "<main>",
            *_viewer(draft, figures),
            '<div class="pane">',
            *_report(draft),
            *_footer(draft),
            "</div></main>",
            f"<script>{JS}</script></body></html>",
            "",
        ]
    )


def _head(draft: Draft) -> Iterator[str]:
    yield '<a class="skip" href="#report">To the sentences</a>'
    yield f'<div class="banners"><div class="banner draft" role="note">{escape(DRAFT_NOTICE)}</div>'
    if draft.simulated:
        yield f'<div class="banner simulated" role="note">{escape(SIMULATED_NOTICE)}</div>'
    yield '</div><header class="top"><h1>Draft report</h1>'
    yield f'<span class="study">{escape(draft.modality)} study <code>{escape(draft.study_uid)}</code></span></header>'


def _viewer(draft: Draft, figures: list[Figure]) -> Iterator[str]:
    yield '<section class="viewer" aria-label="Images">'
    if not figures:
        yield '<p class="nofilm">No picture was given. Places stand with the evidence of each sentence.</p></section>'
        return
    yield '<div class="tools">'
    if len(figures) > 1:
        for figure in figures:
            uid, title = escape(figure.key), escape(figure.title)
            yield f'<button type="button" data-tab="{uid}" aria-pressed="false">{title}</button>'
    yield '<label class="push"><input type="checkbox" id="boxes" checked> boxes</label>'
    yield '<label><input type="checkbox" id="invert"> invert</label>'
    yield '<label>brightness <input type="range" id="level" min="40" max="220" value="100"></label>'
    yield '<label>contrast <input type="range" id="contrast" min="40" max="260" value="100"></label></div>'
    yield '<div class="films">'
    for figure in figures:
        yield from _figure(figure, draft)
    yield "</div></section>"


def _figure(figure: Figure, draft: Draft) -> Iterator[str]:
    boxes = figure.boxes(draft)
    marked = len({user for box in boxes for user in box.users})
    label = f"{figure.title} with the places of {marked} sentence(s) marked"
    yield f'<figure data-uid="{escape(figure.key)}">'
    yield f'<svg viewBox="0 0 {figure.columns} {figure.rows}" role="img" aria-label="{escape(label)}">'
    encoded = base64.b64encode(figure.data).decode("ascii")
    yield (
        f'<image href="data:image/png;base64,{encoded}" width="{figure.columns}" height="{figure.rows}"'
        ' preserveAspectRatio="none"/>'
    )
    size = max(figure.rows, figure.columns) / 32
    for side, x in figure.sides():
        yield (
            f'<text class="side" x="{x * figure.columns:.1f}" y="{0.05 * figure.rows:.1f}" font-size="{size:.1f}"'
            f' text-anchor="middle">{side}</text>'
        )
    for box in boxes:
        yield _box(box, draft, figure.columns, size)
    shown = f"{figure.title}, {figure.rows} × {figure.columns}"
    yield f"</svg><figcaption>{escape(shown)} <code>{escape(figure.base)}</code></figcaption></figure>"


def _box(box: Box, draft: Draft, columns: int, size: float) -> str:
    (y0, x0), (y1, x1) = box.start, box.stop
    wide = size * (0.55 + 0.5 * len(box.label))
    left, top = min(max(x0, 0), columns - wide), max(y0 - size, 0)
    middle, down = left + wide / 2, top + 0.52 * size
    return (
        f'<g class="box{"" if box.by_model else " expert"}" data-i="{" ".join(map(str, box.users))}"'
        f' data-tone="{box.verdict}" data-rest="{box.verdict}">'
        f"<title>{box.label}. {escape(draft.sentences[box.users[0]].text)}</title>"
        f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" rx="{size / 6:.1f}"/>'
        f'<rect class="tag" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{size:.1f}"/>'
        f'<text x="{middle:.1f}" y="{down:.1f}" font-size="{0.72 * size:.1f}">{box.label}</text></g>'
    )


def _report(draft: Draft) -> Iterator[str]:
    yield '<section class="report" id="report" tabindex="-1" aria-label="Sentences">'
    yield '<ul class="summary">'
    for verdict, count in draft.verdicts.items():
        chip = f'<span class="chip {verdict}">{_MARKS[verdict]} {count} {verdict}</span>'
        first = next((i for i, s in enumerate(draft.sentences) if s.verdict == verdict), None)
        yield f"<li>{chip}</li>" if first is None else f'<li><a href="#s{first + 1}">{chip}</a></li>'
    yield "</ul>"
    yield (
        '<p class="hint">Point at a sentence to see its place, click to keep it. <kbd>↑</kbd> <kbd>↓</kbd> next'
        " sentence, <kbd>Esc</kbd> release, <kbd>b</kbd> boxes, <kbd>i</kbd> invert. Solid: model; dashed: expert.</p>"
    )
    for section, sentences in in_order(draft):
        yield f'<h2>{escape(section or "other")}</h2><ol class="sentences">'
        for index, sentence in sentences:
            yield from _sentence(index, sentence)
        yield "</ol>"
    yield "</section>"


def _sentence(index: int, sentence: DraftSentence) -> Iterator[str]:
    marked = f'<b class="mark">{mark(sentence)}</b>' if mark(sentence) else ""
    yield f'<li class="s {sentence.verdict}" id="s{index + 1}" data-i="{index}" data-verdict="{sentence.verdict}">'
    yield (
        f'<button type="button" class="pick" aria-pressed="false"><span class="n">{index + 1}</span>'
        f'<span class="t">{marked}<bdi>{escape(sentence.text)}</bdi></span></button>'
    )
    yield f'<div class="meta"><span class="chip">{_MARKS[sentence.verdict]} {sentence.verdict}</span>'
    yield _confidence(sentence.confidence)
    yield f'<span class="why">{escape(sentence.reason)}</span></div>'
    count = len(sentence.evidence)
    if count:
        yield f"<details><summary>{count} piece{'s' if count != 1 else ''} of evidence</summary><ul>"
        for evidence in sentence.evidence:
            yield _evidence(evidence)
        yield "</ul></details>"
    yield "</li>"


def _confidence(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return '<span class="bar">no probability</span>'
    width = 100 * min(max(value, 0.0), 1.0)
    return (
        f'<span class="bar"><svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect class="track"'
        f' width="100" height="8" rx="4"/><rect class="fill" width="{width:.1f}" height="8" rx="4"/></svg>'
        f"confidence {value:.2f}</span>"
    )


def _evidence(evidence: Evidence) -> str:
    parts = [f'<span class="kind">{_KINDS[evidence.kind]}</span>{escape(evidence_words(evidence))}']
    if evidence.region is not None:
        parts.append(f' <span class="by">[{escape(place(evidence))}]</span>')
    passage = evidence.passage
    if passage is not None:
        if re.match(r"https?://", passage.url):
            parts.append(f' <a href="{escape(passage.url)}" rel="noopener noreferrer">source</a>')
        parts.append(f' <span class="by">{escape(passage.licence)}</span>')
        parts.append(f"<blockquote>{escape(passage.text)}</blockquote>")
    elif evidence.by:
        parts.append(f' <span class="by">{escape(evidence.by)}</span>')
    return f"<li>{''.join(parts)}</li>"


def _footer(draft: Draft) -> Iterator[str]:
    yield "<footer><h2>How this draft was made</h2><dl>"
    for key, value in draft.made_by.items():
        yield f"<dt>{escape(key.replace('_', ' '))}</dt><dd>{escape(value)}</dd>"
    for uid in draft.series_uids:
        yield f"<dt>series read</dt><dd><code>{escape(uid)}</code></dd>"
    for note in draft.notes:
        yield f"<dt>note</dt><dd>{escape(note)}</dd>"
    yield f"</dl><p>{escape(DRAFT_NOTICE)}</p></footer>"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
