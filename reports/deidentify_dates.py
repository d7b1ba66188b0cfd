"""Dates in a report, in the forms that people write, moved by a shift: every interval stays, the form stays.

Moved are days, months and years with a cue ("in March", "since 2015"); kept are times, weekdays (the shift is whole
weeks), relative dates ("3 weeks ago") and numbers that only look like dates ("T4/5", "2/6 murmur", "3/10 pain").
A date that no calendar has, and a holiday, becomes [DATE].
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from reports.deidentify_spans import HIDDEN, Searched, Span

REMOVED = "[DATE]"
_PIVOT = 50  # two digits below it are years after 2000
_LANGUAGES: tuple[tuple[str, ...], ...] = (
    ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
     "december"),
    ("januar", "februar", "märz", "april", "mai", "juni", "juli", "august", "september", "oktober", "november",
     "dezember"),
    ("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre",
     "décembre"),
    ("enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre",
     "diciembre"),
    ("gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno", "luglio", "agosto", "settembre", "ottobre",
     "novembre", "dicembre"),
    ("janeiro", "fevereiro", "março", "abril", "maio", "junho", "julho", "agosto", "setembro", "outubro", "novembro",
     "dezembro"),
    ("januari", "februari", "maart", "april", "mei", "juni", "juli", "augustus", "september", "oktober", "november",
     "december"),
)  # fmt: skip
_SHORT = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NUMBER_OF = {name: n for names in _LANGUAGES[::-1] for n, name in enumerate(names, 1)}
_NUMBER_OF |= {name: n for n, name in enumerate(_SHORT, 1)} | {"sept": 9, "mrz": 3, "okt": 10, "dez": 12}
_MONTH = "|".join(sorted(_NUMBER_OF, key=len, reverse=True))

_Y4, _Y2 = r"(?P<y>(?:19|20)\d\d)", r"(?P<y>(?:19|20)\d\d|['’]?\d\d)"
_M, _D = r"(?P<m>0?[1-9]|1[0-2])", r"(?P<d>0?[1-9]|[12]\d|3[01])"
_NAME = rf"(?<![^\W\d_])(?P<n>(?i:{_MONTH}))(?![^\W\d_])\.?"
_ORDINAL = r"(?P<o>(?i:st|nd|rd|th)\b|\.)?"
_NO_DIGIT = r"(?<![\d.,/])"
_UNIT = r"(?!\s?(?:mm|cm|m|HU|ml|mL|cc|kg|mg|g|%|x\s?\d)\b)"
_FULL = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_NO_DIGIT}{_Y4}(?P<s>[-/.])(?P<m>0?[1-9]|1[0-2])(?P=s)(?P<d>0?[1-9]|[12]\d|3[01])(?![\d])",
        r"(?<![\d.])(?P<y>(?:19|20)\d\d)(?P<m>0[1-9]|1[0-2])(?P<d>0[1-9]|[12]\d|3[01])"
        r"(?=(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?(?:\.\d+)?(?:[+-]\d{4})?(?!\d)|[T_-]|(?![\w]))",
        rf"{_NAME}\s{{0,2}}(?P<d>[12]\d|3[01]|0?[1-9]){_ORDINAL}\s{{0,2}}(?:-|–|to|through|and|&)\s{{0,2}}"
        rf"(?P<e>[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?\b(?:\s{{0,2}},)?\s{{1,2}}{_Y4}(?!\d)",
        rf"{_NAME}(?:\s{{0,2}}|-|/)(?P<d>[12]\d|3[01]|0?[1-9]){_ORDINAL}(?:\s{{0,2}},\s{{0,2}}|"
        rf"\s{{1,2}}(?:of\s)?|-|/){_Y2}"
        r"(?![\d:]|\s?(?:mm|cm|HU|ml)\b)",
        rf"(?<![\d.,/])(?P<d>[12]\d|3[01]|0?[1-9]){_ORDINAL}(?:\s{{1,2}}(?:day\s)?(?:of\s|de\s)?|-|/|\.)?{_NAME}"
        rf"(?:\s{{0,2}},\s{{0,2}}|\s{{1,2}}(?:of\s|de[l]?\s)?|-|/|\.)?{_Y2}(?![\d:]|\s?(?:mm|cm|HU|ml)\b)",
    )
)
# day and month as numbers with a year: which comes first is decided by the text
_NUMERIC = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?<![\d.,/A-Za-z])(?P<a>\d{{1,2}})(?P<s>\s?/\s?)(?P<b>\d{{1,2}})(?P=s){_Y4}(?![\d/])",
        rf"(?<![\d.,/A-Za-z])(?P<a>\d{{1,2}})(?P<s>/)(?P<b>\d{{1,2}})/(?P<y>\d\d)(?![\d/])(?!\.\d){_UNIT}",
        rf"(?<![\d.,/A-Za-z-])(?P<a>\d{{1,2}})(?P<s>\s?[.-]\s?)(?P<b>\d{{1,2}})(?P=s){_Y4}(?![\d/])",
        rf"(?<![\d.,/A-Za-z-])(?P<a>\d{{1,2}})(?P<s>[.-])(?P<b>\d{{1,2}})(?P=s)(?P<y>\d\d)(?![\d/-])(?!\.\d){_UNIT}",
    )
)
_YEAR_MONTH = re.compile(rf"{_NO_DIGIT}(?<!-){_Y4}-(?P<m>0[1-9]|1[0-2])(?![\d-])")
_MONTH_YEAR = (
    re.compile(rf"{_NAME}(?:\s{{0,2}},\s{{0,2}}|\s{{1,2}}(?:of\s|de[l]?\s)?|-|/)(?P<y>(?:19|20)\d\d|['’]\d\d)(?!\d)"),
    re.compile(rf"(?<![\d.,/A-Za-z-])(?P<m>0?[1-9]|1[0-2])(?P<s>[/.-]){_Y4}(?![\d/-]){_UNIT}"),
    re.compile(r"\b(?P<q>Q[1-4]|[1-4]Q)[\s/-]{1,2}(?P<y>(?:19|20)\d\d)\b"),
)
_DAY_MONTH = (
    re.compile(rf"{_NAME}\s{{0,2}}(?P<d>[12]\d|3[01]|0?[1-9]){_ORDINAL}(?!\.?\d|\s?(?:mm|cm|HU|ml|/)|:)"),
    re.compile(rf"(?<![\d.,/])(?P<d>[12]\d|3[01]|0?[1-9]){_ORDINAL}[\s-]{{1,2}}(?:day\s)?(?:of\s|de\s)?{_NAME}(?!\w)"),
)
_CUE_WORD = (
    r"on|dated?|since|until|till|through|thru|by|from|am|vom|prior|previous|last|study|studies|exam|examination|"
    r"radiographs?|films?|ct|mri?|us|cxr|pet|x-?rays?|scans?|ultrasound|mammogram|dos|dob|comparison|admitted|"
    r"discharged|seen|performed|obtained|signed|reported|dictated|transcribed|visit|done|taken|between|"
    r"(?:compared|comparison|prior|up|made|compare)\s(?:to|with)|"
    r"(?:study|exam|examination|radiographs?|films?|ct|mri?|scan|that|one|date|day|as)\sof"
)
_BEFORE_SHORT = re.compile(
    rf"(?:\b(?:{_CUE_WORD})|(?:^|\s)[dt]:|{HIDDEN}\s?[,;&/-]?|{HIDDEN}\s(?:and|or|to))\s?[:.]?\s?(?:the\s)?$",
    re.IGNORECASE,
)
_BAD_BEFORE = re.compile(
    r"\b(?:pain|scores?|scored|strength|motor|power|grades?|graded|murmur|ratio|scale|rated|severity|level|apgar|"
    r"series|images?|slices?|im|se|steps?|stations?|ribs?|nodes?|vertebra\w*|fraction|probability|[CTLS]\d{1,2}|"
    r"gleason|ecog|asa|mmrc|gcs)\b[\w\s:()/-]{0,24}$",
    re.IGNORECASE,
)
_BAD_AFTER = re.compile(
    r"\s?(?:%|mm\b|cm\b|cases?\b|patients?\b|(?:\w+\s)?ribs?\b|pain\b|strength\b|(?:\w+\s)?murmur\b|positive\b|"
    r"nodes?\b|lymph\b|lobes?\b|of\b|quadrants?\b|views?\b|images?\b|power\b|motor\b|level\b|disc\b|interspace|"
    r"(?:st|nd|rd|th)\b|inch|to\s\d/\d|\")",
    re.IGNORECASE,
)
_SHORT_NUMERIC = re.compile(rf"(?<![\d.,/A-Za-z-])(?P<a>\d{{1,2}})(?P<s>[/])(?P<b>\d{{1,2}})(?![\d/]|\.\d){_UNIT}")
_RANGE_AFTER = re.compile(rf"\s?(?:-|–|to|through|and|until)\s?{HIDDEN}")
_MONTH_ALONE = re.compile(
    r"\b(?i:in|since|last|this|next|early|mid|late|of|until|from|during|by)[\s-]"
    r"(?P<n>January|February|March|April|May|June|July|August|September|October|November|December)\b(?!\s?\d)"
)
_YEAR = re.compile(
    r"\b(?i:in|since|until|till|before|after|from|dated|year|circa|of|to|early|late|mid|through|and|or|during|by)"
    r"[\s-](?:the\s(?:year\s)?)?(?P<y>(?:19|20)\d\d)(?![\d.,/-]?\d|s\b|\s?(?:HU|mm|cm|ml|mL|cc|mg|g|x|guideline|"
    r"classification|criteria|edition|version|revision|recommendation|consensus|mGy|cells|patients|cases))"
)
_YEAR_FIRST = re.compile(
    r"(?<![\d.,/-])(?P<y>(?:19|20)\d\d)(?=\s(?i:ct|mri?|cxr|pet|x-?ray|radiograph|exam|study|scan|surgery|"
    r"accident|chest|mammogram|ultrasound)\b)"
)
_YEAR_NEXT = re.compile(
    rf"{HIDDEN}(?:,\s|,?\s(?:and|or|to)\s|\s?[-–/]\s?)(?P<y>(?:19|20)\d\d)(?![.,/-]?\d|\s?(?:HU|mm|cm|ml|mL)\b)"
)
_GUIDE_BEFORE = re.compile(
    r"(?:fleischner|rads|tnm|ajcc|who|acr|recist|criteria|guidelines?|society|classification)[\w\s-]{0,20}$", re.I
)
_HOLIDAY = re.compile(
    r"\b(?:Christmas(?:\sEve|\sDay)?|Thanksgiving(?:\sDay)?|New\sYear(?:['’]?s)?(?:\sEve|\sDay)|Easter(?:\sSunday|"
    r"\sMonday)?|Halloween|(?:Labor|Memorial|Independence|Veterans|Columbus|Presidents|Mother['’]?s|Father['’]?s|"
    r"Valentine['’]?s|Boxing)\sDay|Hanukkah|Ramadan|Diwali|Passover)\b(?!\s(?:tree|disease|bug))"
)


@dataclass(frozen=True)
class Calendar:
    """How dates are read and written. `near` is a day that dates of the text lie about, such as that of the study."""

    move: Callable[[dt.date], dt.date | None]  # None: dates do not stay
    near: dt.date | None = None
    day_first: bool = False  # how "03/04/2019" is read where nothing in the text decides


def take_dates(searched: Searched, calendar: Calendar) -> None:
    """Find dates, each with what stands in its place after the move."""
    for pattern in _FULL:
        searched.take_all(_spans(searched.left, pattern, partial(_full, calendar=calendar)))
    order = _order(searched.left, calendar)
    for pattern in _NUMERIC:
        searched.take_all(_spans(searched.left, pattern, partial(_numeric, calendar=calendar, day_first=order)))
    year = _year_of(searched, calendar)
    for pattern in (_YEAR_MONTH, *_MONTH_YEAR):
        searched.take_all(_spans(searched.left, pattern, partial(_month_year, calendar=calendar)))
    for pattern in _DAY_MONTH:
        searched.take_all(_spans(searched.left, pattern, partial(_day_month, calendar=calendar, year=year)))
    for _ in range(2):  # a second time for lists: what the first time hid is a cue
        searched.take_all(_short_numeric(searched.left, calendar, order, year))
    months = _spans(searched.left, _MONTH_ALONE, partial(_month_alone, calendar=calendar, year=year))
    searched.take_all(months)
    for pattern in (_YEAR, _YEAR_FIRST, _YEAR_NEXT, _YEAR_NEXT, _YEAR_NEXT):
        searched.take_all(_years(searched.left, pattern, calendar))
    searched.take_all([Span(*found.span(), "date", REMOVED) for found in _HOLIDAY.finditer(searched.left)])


def _spans(text: str, pattern: re.Pattern[str], write: Callable[[re.Match[str]], str | None]) -> Iterator[Span]:
    for found in pattern.finditer(text):
        instead = write(found)
        if instead is not None:
            start = found.start("n") if pattern is _MONTH_ALONE else found.start()
            yield Span(start, found.end(), "date", instead)


def _full(found: re.Match[str], calendar: Calendar) -> str | None:
    names = found.groupdict()
    month = int(names["m"]) if names.get("m") else _month(names["n"])
    if names.get("n") and len(names["y"]) < 4 and not _is_month_name(found):
        return None
    day = _date(names["y"], month, int(names["d"]))
    moved = calendar.move(day) if day else None
    if day is None or moved is None:
        return REMOVED
    if names.get("e"):
        last = _date(names["y"], month, int(names["e"]))
        then = calendar.move(last) if last else None
        if then is None:
            return REMOVED
        shown = str(then.day) if then.month == moved.month else f"{_like(names['n'], then.month)} {then.day}"
        return _rewritten(found, moved, {"e": shown})
    return _rewritten(found, moved)


def _numeric(found: re.Match[str], calendar: Calendar, day_first: bool) -> str | None:
    first, second = int(found["a"]), int(found["b"])
    if found["s"] in ".-" and len(found["y"]) == 2 and not _plausible_short(found):
        return None
    if not 0 < first <= 31 or not 0 < second <= 31:
        return REMOVED if len(found["y"]) == 4 and found["s"].strip() == "/" else None
    is_day_first = first > 12 or (second <= 12 and (day_first or found["s"].strip() == "."))
    month, day_of = (second, first) if is_day_first else (first, second)
    day = _date(found["y"], month, day_of)
    moved = calendar.move(day) if day else None
    if day is None or moved is None:
        return REMOVED
    numbers = (moved.day, moved.month) if is_day_first else (moved.month, moved.day)
    return _rewritten(
        found, moved, {"a": _padded(found["a"], numbers[0], found[0]), "b": _padded(found["b"], numbers[1], found[0])}
    )


def _plausible_short(found: re.Match[str]) -> bool:
    """Whether "4-3-19" or "4.3.19" can be a date: a month is among the first two, and it is no list "1-2-3"."""
    first, second, year = int(found["a"]), int(found["b"]), int(found["y"])
    in_order = second == first + 1 and year == second + 1
    return min(first, second) in range(1, 13) and max(first, second) <= 31 and not in_order


def _month_year(found: re.Match[str], calendar: Calendar) -> str | None:
    names = found.groupdict()
    if names.get("n") and len(names["y"]) < 4 and not _is_month_name(found):
        return None
    quarter = int(names["q"].strip("Q")) if names.get("q") else 0
    month = quarter * 3 - 1 if quarter else int(names["m"]) if names.get("m") else _month(names["n"])
    middle = _date(names["y"], month, 15)
    moved = calendar.move(middle) if middle else None
    if moved is None:
        return REMOVED
    return _rewritten(found, moved, {"q": f"Q{(moved.month + 2) // 3}"} if quarter else {})


def _day_month(found: re.Match[str], calendar: Calendar, year: int) -> str | None:
    if not _is_month_name(found):
        return None
    day = _date(str(year), _month(found["n"]), int(found["d"]))
    moved = calendar.move(day) if day else None
    return REMOVED if moved is None else _rewritten(found, moved)


def _month_alone(found: re.Match[str], calendar: Calendar, year: int) -> str | None:
    moved = calendar.move(dt.date(year, _month(found["n"]), 15))
    return REMOVED if moved is None else _like(found["n"], moved.month)


def _short_numeric(text: str, calendar: Calendar, day_first: bool, year: int) -> Iterator[Span]:
    """Day and month without a year, where a word before or a date beside says that it is a date."""
    for found in _SHORT_NUMERIC.finditer(text):
        before, after = text[max(0, found.start() - 40) : found.start()], text[found.end() : found.end() + 24]
        ranged = _RANGE_AFTER.match(after) is not None
        if not ranged and (
            _BEFORE_SHORT.search(before) is None or _BAD_BEFORE.search(before) or _BAD_AFTER.match(after)
        ):
            continue
        first, second = int(found["a"]), int(found["b"])
        is_day_first = first > 12 or (second <= 12 and day_first)
        month, day_of = (second, first) if is_day_first else (first, second)
        day = _date(str(year), month, day_of)
        if day is None:
            continue
        moved = calendar.move(day)
        instead = REMOVED
        if moved is not None:
            numbers = (moved.day, moved.month) if is_day_first else (moved.month, moved.day)
            instead = f"{_padded(found['a'], numbers[0], found[0])}/{_padded(found['b'], numbers[1], found[0])}"
        yield Span(*found.span(), "date", instead)


def _years(text: str, pattern: re.Pattern[str], calendar: Calendar) -> Iterator[Span]:
    for found in pattern.finditer(text):
        if not _GUIDE_BEFORE.search(text[max(0, found.start() - 40) : found.start()]):
            moved = calendar.move(dt.date(int(found["y"]), 7, 1))
            yield Span(*found.span("y"), "date", REMOVED if moved is None else str(moved.year))


def _order(text: str, calendar: Calendar) -> bool:
    """Whether days come first, decided by dates that can be read in one way only, else by the day of the study."""
    found = [m for pattern in _NUMERIC[:2] for m in pattern.finditer(text) if m["s"].strip() == "/"]
    days = sum(int(m["a"]) > 12 for m in found)
    months = sum(int(m["b"]) > 12 for m in found)
    if days != months or calendar.near is None:
        return days > months or (days == months and calendar.day_first)
    for m in found:
        readings = (_date(m["y"], int(m["a"]), int(m["b"])), _date(m["y"], int(m["b"]), int(m["a"])))
        if calendar.near in readings and readings[0] != readings[1]:
            return readings.index(calendar.near) == 1
    return calendar.day_first


def _year_of(searched: Searched, calendar: Calendar) -> int:
    """The year of dates that name none: that of the study, else the latest that the text names, else 2001."""
    if calendar.near is not None:
        return calendar.near.year
    stated = [int(y) for y in re.findall(r"(?<!\d)(?:19|20)\d\d(?!\d)", searched.text)]
    short = [int(y) for y in re.findall(r"(?<!\d)\d{1,2}/\d{1,2}/(\d\d)(?!\d)", searched.text)]
    stated += [y + (2000 if y < _PIVOT else 1900) for y in short]
    return max(stated, default=2001)


def _date(year: str, month: int, day: int) -> dt.date | None:
    digits = year.lstrip("'’")
    number = int(digits)
    if len(digits) == 2:
        number += 2000 if number < _PIVOT else 1900
    try:
        return dt.date(number, month, day)
    except ValueError:
        return None


def _month(name: str) -> int:
    return _NUMBER_OF[name.lower()]


def _is_month_name(found: re.Match[str]) -> bool:
    """Whether a name is one: "may" and "mars" are words too, and no month is written in small letters in English."""
    return found["n"] not in ("may", "mar", "mars", "mai", "mei", "march", "dec", "sept", "jun")


def _rewritten(found: re.Match[str], moved: dt.date, more: dict[str, str] | None = None) -> str:
    """The text of a match with year, month and day of another date, each in the form of the old."""
    new = dict(more or {})
    for name, old in found.groupdict().items():
        if old is None or name in new:
            continue
        if name == "y":
            new["y"] = f"{moved.year:04d}" if len(old) == 4 else old[:-2] + f"{moved.year % 100:02d}"
        elif name == "m":
            new["m"] = _padded(old, moved.month, found[0])
        elif name == "d":
            new["d"] = _padded(old, moved.day, "" if found.groupdict().get("m") else "1")
        elif name == "n":
            beside = found.string[max(0, found.start("n") - 1) : found.start("n")]
            short = old.lower() == "may" and (beside.isdigit() or beside == "-")  # "25-May-2017": three letters
            new["n"] = _like("Mar" if short and old == "May" else "MAR" if short else old, moved.month)
        elif name == "o" and old != ".":
            new["o"] = _ordinal(moved.day) if old.islower() else _ordinal(moved.day).upper()
    places = sorted(
        (found.start(name), found.end(name), value) for name, value in new.items() if found.start(name) >= 0
    )
    text, at = "", found.start()
    for start, stop, value in places:
        text, at = text + found.string[at:start] + value, stop
    return text + found.string[at : found.end()]


def _padded(old: str, number: int, whole: str = "") -> str:
    """With a zero in front where the old number had one, or had no need of one and no other number lacks it."""
    bare = old[0] != "0" and re.search(r"(?<!\d)[1-9](?!\d)", whole) is not None
    return f"{number:02d}" if len(old) == 2 and not bare else str(number)


def _ordinal(day: int) -> str:
    return "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def _like(old: str, month: int) -> str:
    """Another month in the language, length and case of the old name."""
    low = old.lower()
    language = next((names for names in _LANGUAGES if low in names), None)
    name = language[month - 1] if language else _SHORT[month - 1]
    return name.upper() if old.isupper() else name.capitalize() if old[0].isupper() else name
