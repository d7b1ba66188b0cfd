"""A draft as a PDF: every page is headed as a draft, pictures carry their boxes, nothing is fetched.

Written with fpdf2. The font is DejaVu Sans, which comes with matplotlib: Latin, Greek, Cyrillic, Hebrew, Arabic and
more. Characters outside it are shown as U+FFFD, and the first page says how many.
"""

from __future__ import annotations

import datetime as dt
import io
import math
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.draft import Draft, DraftSentence
from reports.draft_figure import Box, Figure
from reports.render_text import evidence_words, in_order, notices, place, provenance

if TYPE_CHECKING:
    from fpdf import FPDF

_INK, _SOFT, _FAINT, _LINE = (24, 28, 33), (84, 92, 102), (120, 128, 138), (214, 219, 225)
_TONES = {"supported": (11, 122, 102), "unsupported": (146, 92, 0), "contradicted": (179, 38, 30)}
_MARKS = {"supported": "✓", "unsupported": "?", "contradicted": "✕"}
_MARGIN, _GAP, _TALLEST = 16.0, 5.0, 92.0  # mm; the last is the height of the pictures of one row
_MISSING = "\ufffd"


def document(draft: Draft, pictures: Mapping[str, bytes], issued: dt.datetime) -> bytes:
    """The bytes of the PDF. Give it a draft whose texts are visible (`visible_draft`); `issued` is its date.

    Raises: ImportError that says what to install without fpdf2; ValueError for a picture that is no PNG.
    """
    figures = [Figure.of(key, data, draft) for key, data in pictures.items()]
    pdf = _pages(draft, issued)
    drawable = _Drawable(pdf)
    draft = drawable.draft(draft)
    pdf.add_page()
    _title(pdf, draft, drawable.replaced)
    for start in range(0, len(figures), 2):
        _figures(pdf, figures[start : start + 2], draft)
    for section, sentences in in_order(draft):
        _heading(pdf, section.capitalize() or "Other")
        for index, sentence in sentences:
            _sentence(pdf, index, sentence)
    _heading(pdf, "How this draft was made")
    for what, which in provenance(draft):
        _pair(pdf, what, which)
    return bytes(pdf.output())


def require() -> None:
    """Raises: ImportError that says what to install where fpdf2 is missing."""
    try:
        import fpdf  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'a PDF needs fpdf2, which is not installed: pip install "medvlm-platform[pdf]"', name="fpdf"
        ) from error


def _pages(draft: Draft, issued: dt.datetime) -> FPDF:
    require()
    from fpdf import FPDF

    class Pages(FPDF):
        """Each page says at its head that it is a draft, and at its foot of which study it is."""

        def header(self) -> None:
            self.set_y(8)
            for notice, paper, ink in zip(
                notices(draft), ((255, 240, 205), (221, 234, 252)), ((92, 60, 0), (22, 56, 110)), strict=False
            ):
                self.set_fill_color(*paper)
                _pen(self, 8.5, ink, "B")
                self.cell(0, 6, notice, align="C", fill=True, new_x="LMARGIN", new_y="NEXT")
            self.ln(4)

        def footer(self) -> None:
            self.set_y(-12)
            _pen(self, 7, _FAINT)
            self.cell(0, 4, f"Draft, not verified · study {_fit(self, draft.study_uid)}")
            self.set_x(self.l_margin)
            self.cell(0, 4, f"page {self.page_no()} of {{nb}}", align="R")

    pdf = Pages(format="A4")
    for style, name in (("", "DejaVuSans.ttf"), ("B", "DejaVuSans-Bold.ttf")):
        pdf.add_font("DejaVu", style, fname=_fonts() / name)
    pdf.set_creation_date(issued)
    pdf.set_title("Draft report, not verified" + (", SIMULATED" if draft.simulated else ""))
    pdf.set_subject(" ".join(notices(draft)))
    pdf.set_author("medvlm")
    pdf.set_lang("en")
    pdf.set_margins(_MARGIN, 8, _MARGIN)
    pdf.c_margin = 0  # text starts where lines and bars do
    pdf.set_auto_page_break(True, 18)
    return pdf


@cache
def _fonts() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


class _Drawable:
    """Replaces what the font cannot draw, counts it, and turns on shaping for scripts that need it."""

    def __init__(self, pdf: FPDF) -> None:
        self.pdf, self.replaced = pdf, 0
        font: Any = pdf.fonts["dejavu"]
        self.known: Collection[int] = font.cmap

    def text(self, text: str) -> str:
        lost = sum(1 for char in text if ord(char) not in self.known)
        self.replaced += lost
        if any(unicodedata.bidirectional(char) in {"R", "AL"} for char in text):
            self.pdf.set_text_shaping(True)
        return "".join(char if ord(char) in self.known else _MISSING for char in text) if lost else text

    def draft(self, draft: Draft) -> Draft:
        return replace(
            draft,
            modality=self.text(draft.modality),
            made_by={self.text(key): self.text(value) for key, value in draft.made_by.items()},
            notes=tuple(self.text(note) for note in draft.notes),
            sentences=tuple(self._sentence(sentence) for sentence in draft.sentences),
        )

    def _sentence(self, sentence: DraftSentence) -> DraftSentence:
        evidence = []
        for e in sentence.evidence:
            passage = e.passage
            if passage is not None:
                passage = replace(passage, text=self.text(passage.text), licence=self.text(passage.licence))
            evidence.append(replace(e, text=self.text(e.text), by=self.text(e.by), passage=passage))
        return replace(
            sentence,
            section=self.text(sentence.section),
            text=self.text(sentence.text),
            reason=self.text(sentence.reason),
            evidence=tuple(evidence),
        )


def _title(pdf: FPDF, draft: Draft, replaced: int) -> None:
    _pen(pdf, 17, _INK, "B")
    pdf.cell(0, 9, "Draft report", new_x="LMARGIN", new_y="NEXT")
    _pen(pdf, 9, _SOFT)
    _paragraph(pdf, f"{draft.modality} study {draft.study_uid}", 4.6)
    for uid in draft.series_uids:
        _paragraph(pdf, f"read from series {uid}", 4.6)
    pdf.ln(1.5)
    for verdict, count in draft.verdicts.items():
        _pen(pdf, 8.5, _TONES[verdict], "B")
        text = f"{_MARKS[verdict]} {count} {verdict}"
        pdf.set_draw_color(*_TONES[verdict])
        pdf.cell(pdf.get_string_width(text) + 5, 5.6, text, border=1, align="C")
        pdf.set_x(pdf.get_x() + 3)
    pdf.ln(8)
    if replaced:
        _pen(pdf, 8.5, _TONES["contradicted"], "B")
        _paragraph(
            pdf,
            f"{replaced} character(s) have no glyph in the font of this PDF and are shown as {_MISSING}:"
            " read the sentences in another form of this draft.",
            4.4,
        )


def _figures(pdf: FPDF, figures: Sequence[Figure], draft: Draft) -> None:
    """Up to two pictures in a row, each with its boxes and its caption; a row never breaks over a page."""
    wide = (pdf.epw - _GAP * (len(figures) - 1)) / len(figures)
    scales = [min(wide / f.columns, _TALLEST / f.rows) for f in figures]  # mm per pixel
    high = max(f.rows * scale for f, scale in zip(figures, scales, strict=True))
    if pdf.will_page_break(high + 8):
        pdf.add_page()
    top, left = pdf.get_y(), pdf.l_margin
    for figure, scale in zip(figures, scales, strict=True):
        width, height = figure.columns * scale, figure.rows * scale
        x = left + (wide - width) / 2
        pdf.image(io.BytesIO(figure.data), x, top, width, height, alt_text=figure.title)
        for side, share in figure.sides():
            _pen(pdf, 9, (255, 255, 255), "B")
            pdf.text(x + share * width - 1, top + 5, side)
        for box in figure.boxes(draft):
            _box(pdf, box, x, top, scale, (width, height))
        _pen(pdf, 7, _FAINT)
        pdf.set_xy(left, top + height + 1)
        pdf.cell(wide, 3.5, f"{figure.title}, {figure.rows} × {figure.columns}", align="C")
        left += wide + _GAP
    pdf.set_xy(pdf.l_margin, top + high + 7)


def _box(pdf: FPDF, box: Box, x: float, y: float, scale: float, size: tuple[float, float]) -> None:
    """Solid where the model says so, dashed where an expert does, as on the page; clipped to its picture."""
    x0, x1 = (min(max(value * scale, 0.0), size[0]) for value in (box.start[1], box.stop[1]))
    y0, y1 = (min(max(value * scale, 0.0), size[1]) for value in (box.start[0], box.stop[0]))
    tone = _TONES[box.verdict]
    bright = tuple(min(255, 70 + value) for value in tone)  # on a dark picture
    pdf.set_draw_color(*bright)
    pdf.set_line_width(0.5)
    if not box.by_model:
        pdf.set_dash_pattern(dash=1.6, gap=1.0)
    pdf.rect(x + x0, y + y0, x1 - x0, y1 - y0)
    pdf.set_dash_pattern()
    pdf.set_line_width(0.2)
    _pen(pdf, 7, (255, 255, 255), "B")
    wide = pdf.get_string_width(box.label) + 2
    left, top = x + min(x0, max(size[0] - wide, 0.0)), y + max(y0 - 3.6, 0.0)
    pdf.set_fill_color(*tone)
    pdf.rect(left, top, wide, 3.6, style="F")
    pdf.set_xy(left, top)
    pdf.cell(wide, 3.6, box.label, align="C")


def _heading(pdf: FPDF, text: str) -> None:
    if pdf.will_page_break(24):  # a heading alone at the foot of a page helps nobody
        pdf.add_page()
    pdf.ln(2)
    _pen(pdf, 11, _INK, "B")
    _paragraph(pdf, text, 6)
    pdf.set_draw_color(*_LINE)
    pdf.line(pdf.l_margin, pdf.get_y(), pdf.l_margin + pdf.epw, pdf.get_y())
    pdf.ln(1.5)


def _sentence(pdf: FPDF, index: int, sentence: DraftSentence) -> None:
    """Number, words, verdict in its color and in words, and the evidence in small print, beside a bar of that color."""
    tone = _TONES[sentence.verdict]
    if pdf.will_page_break(16):
        pdf.add_page()
    first, top = pdf.page_no(), pdf.get_y()
    pdf.set_left_margin(_MARGIN + 9)
    pdf.set_xy(_MARGIN + 2.5, top + 0.5)
    _pen(pdf, 8, _FAINT)
    pdf.cell(6, 5, str(index + 1))
    pdf.set_xy(_MARGIN + 9, top)
    if sentence.verdict != "supported":
        _pen(pdf, 10, tone, "B")
        pdf.write(5.4, f"[{sentence.verdict.upper()}] ")
    _pen(pdf, 10, _INK)
    _paragraph(pdf, sentence.text, 5.4, pdf.get_x())
    _pen(pdf, 8, tone, "B")
    known = sentence.confidence is not None and math.isfinite(sentence.confidence)
    sure = f"confidence {sentence.confidence:.2f}" if known else "no probability"
    _paragraph(pdf, f"{_MARKS[sentence.verdict]} {sentence.verdict} · {sure}", 4.4)
    _pen(pdf, 7.5, _SOFT)
    if sentence.reason:
        _paragraph(pdf, f"why: {sentence.reason}", 3.8)
    _pen(pdf, 7.5, _FAINT)
    for evidence in sentence.evidence:
        where = f" [{place(evidence)}]" if evidence.region is not None else ""
        source = f" ({evidence.by})" if evidence.by and evidence.passage is None else ""
        _paragraph(pdf, f"{evidence.kind}: {evidence_words(evidence)}{where}{source}", 3.8)
        if evidence.passage is not None:
            _paragraph(pdf, f"“{evidence.passage.text}” [{evidence.passage.licence}]", 3.8)
    pdf.set_left_margin(_MARGIN)
    if pdf.page_no() == first:
        pdf.set_fill_color(*tone)
        pdf.rect(_MARGIN, top + 0.6, 1.0, pdf.get_y() - top - 0.6, style="F")
    pdf.set_xy(_MARGIN, pdf.get_y() + 2.4)


def _pair(pdf: FPDF, what: str, which: str) -> None:
    if pdf.will_page_break(5):
        pdf.add_page()
    _pen(pdf, 8, _FAINT)
    pdf.cell(38, 4.4, _fit(pdf, what, 36))
    _pen(pdf, 8, _SOFT)
    pdf.set_left_margin(_MARGIN + 38)
    _paragraph(pdf, which or "none", 4.4)
    pdf.set_left_margin(_MARGIN)
    pdf.set_x(_MARGIN)


def _paragraph(pdf: FPDF, text: str, line: float, x: float | None = None) -> None:
    """Text over the rest of the line and the lines below it; a word longer than a line is broken anywhere."""
    if x is None or x == pdf.l_margin:
        pdf.multi_cell(0, line, text, align="L", new_x="LMARGIN", new_y="NEXT")
        return
    pdf.write(line, text)
    pdf.ln(line)


def _fit(pdf: FPDF, text: str, most: float = 120.0) -> str:
    """The text, cut with an ellipsis where it is wider than `most` mm in the font that is set."""
    if pdf.get_string_width(text) <= most:
        return text
    while text and pdf.get_string_width(text + "…") > most:
        text = text[: -max(1, len(text) // 8)]
    return text + "…"


def _pen(pdf: FPDF, size: float, color: tuple[int, ...], style: str = "") -> None:
    pdf.set_font("DejaVu", style, size)
    pdf.set_text_color(*color)
