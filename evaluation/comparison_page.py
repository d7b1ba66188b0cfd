"""comparison.html and comparison.json: two models side by side on the same studies, with paired tests."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from evaluation.flags import Flag, worst_first
from evaluation.page import document
from evaluation.page_marks import CONTROL, MAIN, axis, dot, number, signed
from evaluation.paired_cards import ALPHA, Comparison, Difference, compare
from evaluation.predictions import data_digest, read_predictions
from evaluation.provenance import versions
from evaluation.scorecard import Metric

CARD = "card.json"


@dataclass(frozen=True)
class Side:
    """What is known of one of the two: its name for people, what made it, its flags, whether the data are simulated."""

    name: str
    made_by: Mapping[str, str]
    flags: tuple[Flag, ...]
    simulated: bool

    @classmethod
    def read(cls, path: Path) -> Side:
        """From the card.json beside the predictions, where there is one. Raises: ValueError if it is no score card."""
        folder = path if path.is_dir() else path.parent
        card = folder / CARD
        if not card.is_file():
            return cls(path.name, {}, (), False)
        try:
            held = json.loads(card.read_text(encoding="utf-8"))
            flags = tuple(Flag.from_dict(row) for row in held.get("flags", ()))
            made_by = {str(key): str(value) for key, value in held.get("made_by", {}).items()}
            return cls(folder.name, made_by, flags, bool(held.get("simulated")))
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{card}: not a score card: {error}") from error


@dataclass(frozen=True)
class SideBySide:
    """A comparison with the names and the provenance of both sides."""

    a: Side
    b: Side
    found: Comparison
    digest: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        sides = {
            key: {"name": side.name, "made_by": dict(side.made_by), "flags": [flag.to_dict() for flag in side.flags]}
            for key, side in (("a", self.a), ("b", self.b))
        }
        return {
            **sides,
            "studies": self.found.studies,
            "patients": self.found.patients,
            "data_digest": self.digest,
            "simulated": self.a.simulated or self.b.simulated,
            "rows": [row.to_dict() for row in self.found.rows],
            "notes": list(self.found.notes),
            "made_by": versions(),
        }

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write comparison.json and comparison.html into a folder, made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        data, page = folder / "comparison.json", folder / "comparison.html"
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False)
        data.write_text(f"{text}\n", encoding="utf-8")
        page.write_text(self.page(), encoding="utf-8")
        return data, page

    def text(self) -> str:
        """A table for people, A first."""
        lines = [f"{self.found.studies} studies of {self.found.patients} patients; A {self.a.name}, B {self.b.name}"]
        for row in self.found.rows:
            better = {"a": "A better", "b": "B better", "": ""}[row.better]
            bounds = f"({signed(row.low)} to {signed(row.high)})"
            lines.append(
                f"  {row.name:34s} A {number(row.a)}  B {number(row.b)}  A−B {signed(row.difference)} {bounds:20s}"
                f" n={row.n:<5d} p={_p(row.adjusted):7s} {better}"
            )
        lines.append(f"p is adjusted for {len(self.found.rows)} tests (Holm)")
        return "\n".join(lines)

    def page(self) -> str:
        """The whole page; it stands alone."""
        title = f"{self.a.name} against {self.b.name}"
        body = "".join([_head(self, title), _short(self), _flags(self), _table(self), _notes(self), _made(self)])
        return document(title, body, self.a.simulated or self.b.simulated)


def side_by_side(a: Path, b: Path) -> SideBySide:
    """Compare two folders of score cards, or two files of predictions.

    Raises: ValueError where a file is missing or damaged, or where the studies or their truth differ.
    """
    first, second = read_predictions(a), read_predictions(b)
    one, other = Side.read(a), Side.read(b)
    if one.name == other.name:
        folders = [path.resolve() if path.is_dir() else path.resolve().parent for path in (a, b)]
        one, other = (
            Side(f"{folder.parent.name}/{side.name}", side.made_by, side.flags, side.simulated)
            for side, folder in zip((one, other), folders, strict=True)
        )
    return SideBySide(one, other, compare(first, second), data_digest(first))


def _head(both: SideBySide, title: str) -> str:
    found = both.found
    return (
        f"<header><h1>{escape(title)}</h1><p class='lead'>A: {escape(both.a.name)}. B: {escape(both.b.name)}."
        f" Both on the same {found.studies} studies of {found.patients} patients.</p></header>"
    )


def _short(both: SideBySide) -> str:
    rows = both.found.rows
    items = []
    for key, side in (("a", both.a), ("b", both.b)):
        won = [row for row in rows if row.better == key]
        names = ", ".join(f"{escape(row.name)} ({signed(row.difference)}, n={row.n})" for row in won[:6])
        more = f" and {len(won) - 6} more" if len(won) > 6 else ""
        said = f"better in <b>{len(won)} of {len(rows)}</b> numbers" + (f": {names}{more}" if won else "")
        items.append(f"<li>{key.upper()}, {escape(side.name)}: {said}.</li>")
    open_ = sum(1 for row in rows if not row.better)
    items.append(
        f"<li>In {open_} of {len(rows)} no difference is shown on n={both.found.studies} studies. That is not the same"
        " as being equal: look at how wide the interval is.</li>"
    )
    return f'<section class="short"><h2>In short</h2><ul>{"".join(items)}</ul></section>'


def _flags(both: SideBySide) -> str:
    items = "".join(
        f'<article class="flag {flag.severity}"><h3><span>{flag.severity}</span> {key}: {escape(flag.found)}</h3>'
        f"<p>{escape(flag.why)}</p></article>"
        for key, side in (("A", both.a), ("B", both.b))
        for flag in worst_first(side.flags)
    )
    return f"<section><h2>Flags of the two cards</h2>{items}</section>" if items else ""


def _table(both: SideBySide) -> str:
    rows = both.found.rows
    reach = max([0.05, *(abs(v) for row in rows for v in (row.low, row.high, row.difference) if not math.isnan(v))])
    reach = math.ceil(reach * 20) / 20
    lines = []
    for row in rows:
        shown = Metric(row.name, row.difference, row.low, row.high, row.n, row.variant, "")
        word = f"<span class='chip {'a' if row.better == 'a' else 'b'}'>{row.better.upper()} better</span>"
        color = {"a": MAIN, "b": CONTROL, "": "#5d6b78"}[row.better]
        lines.append(
            f"<tr title='{escape(row.variant)}'><td><code>{escape(row.name)}</code>"
            f"{' <small>lower is better</small>' if row.lower_is_better else ''}</td>"
            f"<td class='n'>{number(row.a)}</td><td class='n'>{number(row.b)}</td><td class='n'>{row.n}</td>"
            f"<td>{dot(shown, -reach, reach, 0.0, color, 200)}</td><td class='n'>{signed(row.difference)}"
            f" <small>({signed(row.low)} to {signed(row.high)})</small></td><td class='n'>{_p(row.adjusted)}</td>"
            f"<td>{word if row.better else ''}</td></tr>"
        )
    return (
        f"<section><h2>Side by side</h2><p class='hint'>A minus B with its 95% interval, on the same resamples of"
        f" patients. p is adjusted for {len(rows)} tests (Holm); below {ALPHA} it counts as a difference. Intervals are"
        " those of single comparisons.</p><div class='wide'><table><thead><tr><th>metric</th><th class='n'>A</th>"
        f"<th class='n'>B</th><th class='n'>n</th><th>{axis(-reach, reach, [-reach, 0.0, reach], 200)}</th>"
        f"<th class='n'>A − B (interval)</th><th class='n'>p</th><th></th></tr></thead><tbody>{''.join(lines)}</tbody>"
        "</table></div></section>"
    )


def _notes(both: SideBySide) -> str:
    notes = [*both.found.notes, *_warnings(both), *_ways(both.found.rows)]
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<section><h2>How it was compared</h2><ul>{items}</ul></section>" if items else ""


def _warnings(both: SideBySide) -> list[str]:
    """What a reader of both cards should know."""
    digests = [side.made_by.get("metrics_digest") for side in (both.a, both.b)]
    if None not in digests and digests[0] != digests[1]:
        return [
            "The cards were made by different versions of the metrics; here both were computed again by one version."
        ]
    return []


def _ways(rows: Sequence[Difference]) -> list[str]:
    return [f"{row.name}: {row.variant}." for row in rows if row.name.startswith(("auroc.macro", "error", "draft.f"))]


def _made(both: SideBySide) -> str:
    parts = [("studies and truth", both.digest)]
    for key, side in (("A", both.a), ("B", both.b)):
        parts += [(f"{key}: {name}", value) for name, value in side.made_by.items()]
    parts += list(versions().items())
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in parts)
    return f"<section><h2>What made these numbers</h2><dl>{items}</dl></section>"


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"
