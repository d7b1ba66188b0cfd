"""A report without the people in it: names, places, numbers and addresses replaced, dates moved with the images.

The dates of a patient move by the same whole weeks as those of the images (`volumes.deidentify_keys`), given the same
key and the same patient ID. What describes the body stays: measurements, levels, scores, eponyms, relative dates. The
rules are written for English reports; a text in another language is refused, since they would overlook its names.
How well it works is measured by benchmarks/deidentified_text.py, see docs/deidentified_text.md: not every identifier
is found, so treat the output as what it is, pseudonymous text.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from reports.deidentify_dates import REMOVED, Calendar, take_dates
from reports.deidentify_numbers import take_ages, take_numbers, take_written_addresses
from reports.deidentify_people import take_people
from reports.deidentify_places import take_places
from reports.deidentify_spans import Searched, Span, replaced
from reports.deidentify_surrogates import TAGS, Style, Surrogates
from reports.deidentify_vocabulary import is_word
from volumes.deidentify_keys import Pseudonyms
from volumes.deidentify_text import Identifiers, identifiers_of
from volumes.errors import VolumeError

LONGEST = 500_000  # characters of one report; the longest have a tenth of this
_PRIVATE = re.compile("[\ue000-\uf8ff\0]")
_WORDS = re.compile(r"[^\W\d_]{3,}")
_FEWEST_WORDS = 12  # fewer do not tell a language
_KNOWN_SHARE = 0.5


@dataclass(frozen=True)
class CleanedText:
    """A text after cleaning, and where in the original what stood. Spans point into the original: keep them private."""

    text: str
    spans: tuple[Span, ...] = field(default=(), repr=False)

    def counts(self) -> dict[str, int]:
        """How many identifiers of each kind were replaced."""
        return dict(Counter(span.kind for span in self.spans).most_common())


@dataclass(frozen=True)
class TextDeidentifier:
    """Cleans the reports of many patients under one key.

    Attributes:
        pseudonyms: The key that also cleaned the images.
        dates: "shift" moves dates with the images, "keep" leaves them, "remove" writes [DATE].
        style: "surrogates" writes made-up values of the same form, "tags" writes [NAME] and the like.
        day_first: How "03/04/2019" is read where nothing in the text decides.
    """

    pseudonyms: Pseudonyms
    dates: Literal["shift", "keep", "remove"] = "shift"
    style: Style = "surrogates"
    day_first: bool = False

    def clean(
        self, text: str, patient: str, known: Identifiers | Iterable[str] = (), study_date: dt.date | None = None
    ) -> CleanedText:
        """The text without identifiers.

        Args:
            text: A report or a part of one.
            patient: What tells patients apart, as `volumes.deidentify_dataset.patient_of`; the shift and the
                substitutes are his. With an empty one dates become [DATE].
            known: Names, IDs and numbers that the header or message of this report states.
            study_date: Day of the study, which says how its dates are to be read.

        Raises: VolumeError ("text-too-long", "other-language") when the rules cannot vouch for the result.
        """
        text = _PRIVATE.sub(" ", text)
        _check(text)
        known = known if isinstance(known, Identifiers) else identifiers_of(known)
        searched = Searched(text)
        take_written_addresses(searched)
        take_dates(searched, Calendar(self._move(patient), study_date, self.day_first))
        take_ages(searched)
        take_numbers(searched)
        take_places(searched)
        take_people(searched, known)
        spans = searched.ordered()
        if self.dates == "keep":
            spans = [span for span in spans if span.kind != "date"]
        surrogates = Surrogates(self.pseudonyms, patient, self.style)
        spans = _joined(text, spans) if self.style == "tags" else spans
        return CleanedText(replaced(text, spans, lambda span: surrogates.write(text, span)), tuple(spans))

    def shift(self, patient: str) -> dt.timedelta:
        """How far the dates of a patient move, in text as in images."""
        return self.pseudonyms.shift(patient)

    def _move(self, patient: str) -> Callable[[dt.date], dt.date | None]:
        if self.dates == "remove" or not patient.strip():
            return lambda day: None
        shift = self.shift(patient)

        def move(day: dt.date) -> dt.date | None:
            try:
                return day + shift
            except OverflowError:
                return None

        return move


def _check(text: str) -> None:
    if len(text) > LONGEST:
        raise VolumeError(
            f"a text of {len(text)} characters; expected a report of at most {LONGEST}. Cut it into its reports",
            "text-too-long",
        )
    words = _WORDS.findall(text[:20_000])
    known = sum(is_word(word) for word in words)
    if len(words) >= _FEWEST_WORDS and known < _KNOWN_SHARE * len(words):
        raise VolumeError(
            f"of {len(words)} words {known} are English or medical; expected at least half. The rules that find names"
            " are written for English: translate the report first, or leave it out",
            "other-language",
        )


def _joined(text: str, spans: list[Span]) -> list[Span]:
    """Spans of one kind with nothing but blanks between them as one: "John Smith" is one [NAME]."""
    found: list[Span] = []
    for span in spans:
        last = found[-1] if found else None
        if (
            last is not None
            and last.kind == span.kind
            and last.instead is None
            and span.instead is None
            and re.fullmatch(r"\.?[ ,]{0,2}", text[last.stop : span.start])
        ):
            found[-1] = Span(last.start, span.stop, span.kind)
        else:
            found.append(span)
    return found


__all__ = ["LONGEST", "REMOVED", "TAGS", "CleanedText", "TextDeidentifier"]
