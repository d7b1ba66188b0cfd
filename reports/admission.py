"""The last check of every report that was read, whatever its format: only what can be kept and compared goes on."""

from __future__ import annotations

import re
from dataclasses import fields, replace

from reports.sourced import CodedMeasurement, ReportError, SourcedReport, check_length
from volumes.instance import Refusal

_LONGEST_NAME = 256  # of an accession number, a UID, a view ...; DICOM allows 64
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\u200b\u2060\ufeff\ufffe\uffff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_NAMES = tuple(
    field.name for field in fields(SourcedReport) if field.type == "str" and field.name not in ("text", "source")
)


def admitted(report: SourcedReport) -> SourcedReport | Refusal:
    """The report in characters that any database keeps, or why it cannot be taken.

    Control characters (NUL, escapes of terminals) and invisible marks go away, halves of surrogate pairs become U+FFFD;
    what was changed is noted. A name of a study that needed it is no such name, and the report is refused.
    """
    where = stored_name(report.source)
    try:
        for name in _NAMES:
            _check_name(name, getattr(report, name))
        text, notes = report.text, list(report.notes)
        if _CONTROL.search(text):
            text, count = _CONTROL.subn("", text)
            notes.append(f"{count} control character(s) were left out")
        if _SURROGATE.search(text):
            text, count = _SURROGATE.subn("\ufffd", text)
            notes.append(f"{count} character(s) that are no Unicode became U+FFFD")
        if not check_length(text).strip() and report.status != "cancelled":
            raise ReportError("empty-report", "nothing but control characters", "a text", "Export the report again.")
    except ReportError as error:
        return error.refusal(where)
    measurements = tuple(one for one in report.measurements if _storable(one))
    told = tuple(dict.fromkeys(_SURROGATE.sub("\ufffd", note)[:400] for note in notes))
    return replace(report, text=text, source=where, notes=told, measurements=measurements)


def admitted_refusal(refusal: Refusal) -> Refusal:
    """The refusal in characters that any database keeps."""
    message = _CONTROL.sub("", _SURROGATE.sub("\ufffd", refusal.message))
    if len(message) > 1000:
        message = message[:1000] + "…"
    return Refusal(stored_name(refusal.where), refusal.reason, message, refusal.kind)


def stored_name(path: str) -> str:
    """A location as text that can be stored: bytes of a file name that are no UTF-8 are spelled out."""
    return path.encode(errors="backslashreplace").decode()


def _check_name(name: str, value: str) -> None:
    shown = name.replace("_", " ")
    if len(value) > _LONGEST_NAME:
        raise ReportError("damaged-field", f"{len(value)} characters as {shown}", f"at most {_LONGEST_NAME}",
                          "Export the report again.")  # fmt: skip
    if _CONTROL.search(value) or _SURROGATE.search(value) or "\n" in value:
        raise ReportError("damaged-field", f"characters in the {shown} that cannot be typed", "letters and digits",
                          "Export the report again.")  # fmt: skip


def _storable(one: CodedMeasurement) -> bool:
    words = [getattr(one, f.name) for f in fields(one) if f.type == "str"]
    return all(len(word) <= _LONGEST_NAME and not _SURROGATE.search(word) for word in words)
