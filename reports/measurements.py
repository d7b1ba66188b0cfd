"""What a report measures: sizes in one to three axes, ranges, bounds, distances, HU, SUV and volumes, now or before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["size", "range", "bound", "distance", "slice", "attenuation", "uptake", "volume"]


class Measurement(NamedTuple):
    """One measurement of a text.

    `values` in `unit`: "mm" (centimetres are converted), "HU", "SUV" or "ml". A size has one to three axes in the
    order of the text, a range its two ends. `kind`: "bound" is a limit ("smaller than 4 mm"), "distance" places
    something ("4 cm above the carina"), "slice" belongs to the technique. `prior`: the value of an earlier study.
    `start` and `stop` are positions in the text.
    """

    values: tuple[float, ...]
    unit: str
    kind: Kind
    prior: bool
    start: int
    stop: int

    @property
    def largest(self) -> float:
        """The largest axis or the upper end."""
        return max(self.values)


_NUMBER = r"\d+(?:[.,]\d+)?"
_LENGTH = r"(?:mm|cm|millimet\w+|centimet\w+)"
_TIMES = rf"(?: ?{_LENGTH}\.?)?(?:(?: in)? (?:ap|cc|tr|craniocaudal|transverse|anteroposterior))? ?(?:x|×|\*|by) ?"
_MEASURED = re.compile(
    rf"(?<![\d.,/-])(?P<numbers>-?{_NUMBER}(?P<axes>(?:{_TIMES}{_NUMBER}){{0,2}})"
    rf"(?:(?P<to>(?: ?{_LENGTH})? ?(?:-|–|to|and) ?)(?P<second>{_NUMBER}))?)[ -]?"
    rf"(?P<unit>{_LENGTH}|hu\b|hounsfield\w*(?: units?)?|ml|cc|millilit\w+|lit(?:er|re)s?)\b"
    rf"|\bsuv(?:[ _-]?(?:max|mean|peak|bw|lbm))?(?: (?:of|is|was|up to|value|values|measures|measuring))*[ :=]*"
    rf"(?P<suv>{_NUMBER})",
    re.IGNORECASE,
)
_DISTANCE_AFTER = re.compile(
    r"\s*(?:above|below|from the|from|proximal|distal|beyond|superior to|inferior to|deep to|away|cranial|caudal"
    r"|anterior to"
    r"|posterior to|medial to|lateral to|over the carina)\b(?! (?:\d|the (?:prior|previous)))"
)
_SLICE_AFTER = re.compile(
    r"\s*(?:thick(?:ness)? (?:\w+ )?(?:sections?|slices?|cuts?|images?)"
    r"|(?:\w+ )?(?:slices?|sections?|cuts?|collimation|reconstruction\w*|interval))"
)
_SLICE_BEFORE = re.compile(r"(?:slice thickness|collimation|sections?|reconstruct\w+)(?: (?:of|at|is))* ?$")
_PRIOR_AFTER = re.compile(
    r"[\s,(]*(?:previously|before|formerly|(?:on|in|at) (?:the )?(?:prior|previous|last|earlier|older|comparison|old)"
    r"|in (?:19|20)\d\d|(?:\w+ )?(?:months?|weeks?|years?|days?) (?:ago|earlier|before))\b"
)
_PRIOR_BEFORE = re.compile(
    r"(?:(?:previous(?:ly)?|prior|formerly|earlier|was|were|(?<!apart )(?<!aside )(?<!away )from|used to (?:be"
    r"|measure)|(?:compared|comparison) (?:with|to)"
    r"|relative to|versus|vs\.?|old)(?: (?:the|a|its|prior|previous|previously|measured|measuring|measurement of"
    r"|size of"
    r"|about|approximately|of))*)[ (:,]*$"
)
_RANGE_BEFORE = re.compile(r"(?:rang\w+|var\w+|between|extend\w*|sizes?)(?: (?:in size|from|between))*[ :]*$")
_BOUND_BEFORE = re.compile(
    r"(?:larger|greater|more|bigger|smaller|less|under|over|below|above"
    r"|at least)(?: than)?(?: or equal to)? ?$|[<>≤≥] ?$"
)
_FROM_TO = re.compile(r"\bfrom $")
_MM = {"c": 10.0, "m": 1.0}


def measurements(text: str) -> tuple[Measurement, ...]:
    """The measurements of `text` in its order.

    "12 x 8 mm" has two values, "4-5 mm" is a range, "from 8 to 11 mm" gives a prior 8 and a present 11, "1,2 cm" is
    12 mm. A dimension without a unit of its own takes the next one's.
    """
    if not any(letter.isdigit() for letter in text):
        return ()
    return tuple(one for match in _MEASURED.finditer(text) for one in _read(match, text))


def _read(match: re.Match[str], text: str) -> Iterator[Measurement]:
    start, stop = match.span()
    if match["suv"]:
        yield Measurement((_number(match["suv"]),), "SUV", "uptake", _is_prior(text, start, stop), start, stop)
        return
    unit = match["unit"].lower()
    if unit.startswith(("hu", "hounsfield")):
        values = tuple(_number(n) for n in re.findall(rf"(?:(?<![\d])-)?{_NUMBER}", match["numbers"]))
        yield Measurement(values, "HU", "attenuation", _is_prior(text, start, stop), start, stop)
        return
    numbers = [_number(n) for n in re.findall(_NUMBER, match["numbers"])]
    if unit[:2] in ("ml", "cc", "li") or unit.startswith("millil"):
        scale = 1000.0 if unit.startswith("lit") else 1.0
        volumes = tuple(n * scale for n in numbers)
        yield Measurement(volumes, "ml", "volume", _is_prior(text, start, stop), start, stop)
        return
    yield from _lengths(match, text, numbers, _MM[unit[0]])


def _lengths(match: re.Match[str], text: str, numbers: list[float], scale: float) -> Iterator[Measurement]:
    start, stop = match.span()
    before = text[:start].lower()
    second = match["second"]
    own = re.search(_LENGTH, match["to"] or "")
    first_scale = _MM[own.group()[0]] if own else scale
    values = tuple(round(n * scale, 3) for n in numbers)
    if second is None:
        kind: Kind = _kind(text, before, stop)
        yield Measurement(values, "mm", kind, kind != "distance" and _is_prior(text, start, stop), start, stop)
        return
    ends = (*(round(n * first_scale, 3) for n in numbers[:-1]), round(numbers[-1] * scale, 3))
    if _FROM_TO.search(before) and not _RANGE_BEFORE.search(before):
        yield Measurement(ends[:-1], "mm", "size", True, start, match.start("to"))
        yield Measurement(ends[-1:], "mm", "size", False, match.start("second"), stop)
        return
    kind = _kind(text, before, stop)
    if "and" in match["to"].lower() and not _RANGE_BEFORE.search(before):  # "nodules of 5 and 7 mm" are two
        for value, place in ((ends[:-1], (start, match.start("to"))), (ends[-1:], (match.start("second"), stop))):
            yield Measurement(value, "mm", kind, _is_prior(text, start, stop), *place)
        return
    kind = "range" if kind == "size" else kind
    prior = kind != "distance" and not _RANGE_BEFORE.search(before) and _is_prior(text, start, stop)
    yield Measurement(ends, "mm", kind, prior, start, stop)


def _kind(text: str, before: str, stop: int) -> Kind:
    after = text[stop : stop + 40].lower()
    if _SLICE_AFTER.match(after) or _SLICE_BEFORE.search(before[-40:]):
        return "slice"
    if _DISTANCE_AFTER.match(after) and not re.match(r"\s*from (?:\d|(?:the )?(?:prior|previous))", after):
        return "distance"
    return "bound" if _BOUND_BEFORE.search(before[-40:]) else "size"


def _is_prior(text: str, start: int, stop: int) -> bool:
    if _PRIOR_BEFORE.search(text[max(start - 60, 0) : start].lower()):
        return True
    # "8 mm, previously 6 mm": the word belongs to the number after it.
    after = _PRIOR_AFTER.match(text[stop : stop + 60].lower())
    return after is not None and not re.match(r"[\s:(]*(?:\w+ ){0,3}\d", text[stop + after.end() :])


def _number(written: str) -> float:
    return float(written.replace(",", "."))
