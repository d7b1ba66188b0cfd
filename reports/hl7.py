r"""Reading HL7 v2 result messages (ORU^R01): text, accession number, study UID, status and pseudonym of the patient.

Only the delimiters that MSH announces are trusted, so that messages of any version and with local segments can be
read. Where IHE Radiology and practice differ, IHE is tried first: the accession number from an OBX (DICOM 121022), then
OBR-18, then OBR-3; the study UID from an OBX (DICOM 113014) or a ZDS segment. A status A (partial) counts as corrected:
radiology systems send it for addenda.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

from reports.sourced import ReportStatus, SourcedReport, comparable_time, joined, refuse, without_name
from volumes.instance import Refusal, patient_key

_STATUS: dict[str, ReportStatus] = {
    "F": "final", "R": "preliminary", "P": "preliminary", "I": "preliminary", "S": "preliminary", "O": "preliminary",
    "C": "corrected", "A": "corrected", "K": "corrected", "X": "cancelled", "W": "cancelled", "D": "cancelled",
}  # fmt: skip
_CHARSETS = {
    "": "utf-8", "ASCII": "ascii", "UNICODE": "utf-8", "UNICODE UTF-8": "utf-8", "8859/1": "latin-1",
    "8859/2": "iso8859-2", "8859/5": "iso8859-5", "8859/7": "iso8859-7", "8859/9": "iso8859-9", "8859/15": "iso8859-15",
}  # fmt: skip
_HEADINGS = {
    "IMP": "impression", "GDT": "findings", "ADT": "addendum", "REC": "recommendation", "19005-8": "impression",
    "59776-5": "findings", "55111-9": "technique", "18834-2": "comparison", "18785-6": "indication",
    "18783-1": "recommendation",
}  # fmt: skip
_TEXT_TYPES = frozenset({"TX", "FT", "ST", "ED", "CE", "CWE"})
_MESSAGE_START = re.compile(rb"(?:^|(?<=[\r\n\x0b]))MSH(?=[^A-Za-z0-9\s])")


@dataclass(frozen=True)
class Delimiters:
    """The five characters a message is cut at, from MSH-1 and MSH-2."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str


class Hl7Error(ValueError):
    """A message cannot be read. Carries what a refusal needs."""

    def __init__(self, reason: str, found: str, expected: str, advice: str) -> None:
        super().__init__(f"found {found}; expected {expected}. {advice}")
        self.parts = (reason, found, expected, advice)


def read_hl7(data: bytes, source: str, encoding: str = "") -> Iterator[SourcedReport | Refusal]:
    """All reports of the messages in `data`; a batch or several messages in one file are fine.

    `encoding` is used where MSH-18 is empty; without either, the text must be UTF-8.
    """
    starts = [match.start() for match in _MESSAGE_START.finditer(data)]
    if not starts:
        yield refuse(source, "not-hl7", "no MSH segment", "an HL7 v2 message", "Export the report again as ORU^R01.")
        return
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(data)], strict=True), 1):
        where = source if len(starts) == 1 else f"{source}:message {number}"
        try:
            yield from _read_message(data[start:stop], where, encoding)
        except Hl7Error as error:
            reason, found, expected, advice = error.parts
            yield refuse(where, reason, found, expected, advice)


def _read_message(data: bytes, where: str, encoding: str) -> Iterator[SourcedReport | Refusal]:
    segments, marks, charset = _segments(data, encoding)
    kind = _field(segments[0], 9, marks)  # MSH counts its first delimiter as a field, see _segments
    if not kind.startswith("ORU"):
        raise Hl7Error(
            "not-a-result", f"a message of type {kind or 'nothing'}", "ORU^R01", "Orders and admissions hold no report."
        )
    pid = next((s for s in segments if s[0] == "PID"), ["PID"])
    identity = _component(_field(pid, 3, marks).split(marks.repetition)[0], 1, marks, charset)
    name = _field(pid, 5, marks).split(marks.repetition)[0]
    person = (_component(name, 1, marks, charset), _component(name, 2, marks, charset))
    study_uid = next((_component(_field(s, 1, marks), 1, marks, charset) for s in segments if s[0] == "ZDS"), "")
    groups: list[list[list[str]]] = []
    for segment in segments:
        if segment[0] == "OBR":
            groups.append([segment])
        elif segment[0] == "OBX" and groups:
            groups[-1].append(segment)
    if not groups:
        raise Hl7Error("no-report", "no OBR segment", "an OBR with its OBX segments", "Export the report again.")
    issued = _field(segments[0], 7, marks)
    for group in groups:
        yield _read_group(group, marks, charset, where, identity, person, study_uid, issued)


def _read_group(
    group: list[list[str]],
    marks: Delimiters,
    charset: str,
    where: str,
    identity: str,
    person: tuple[str, str],
    study_uid: str,
    issued: str,
) -> SourcedReport | Refusal:
    obr = group[0]
    content = _Content(marks, charset)
    for segment in group[1:]:
        if segment[0] == "OBX":
            content.add(segment)
    letter = _field(obr, 25, marks)
    status = _STATUS.get(letter, "final" if not letter else None)
    if status is None:
        return refuse(where, "unknown-status", f"OBR-25 {letter!r}", "one of F, C, A, P", "Correct the status.")
    accession = content.accession or next(
        (value for index in (18, 3) if (value := _component(_field(obr, index, marks), 1, marks, charset))), ""
    )
    study = content.study_uid or study_uid
    text, replaced = without_name(joined(content.sections), *person)
    notes = content.notes + ([f"the patient's name was replaced {replaced} time(s)"] if replaced else [])
    if not text and status != "cancelled":
        found = "; ".join(content.notes) or "no text in the OBX segments"
        return refuse(
            where, "empty-report", found, "OBX segments of type TX, FT, ST or ED with text", "Export it again."
        )
    if not accession and not study:
        return refuse(
            where, "no-link", "neither an accession number nor a study UID", "OBR-18, OBR-3, or OBX 113014 or 121022",
            "Without one the report cannot be joined to its study; add it to the export.",
        )  # fmt: skip
    time = _iso(_field(obr, 22, marks) or issued)
    key = patient_key(identity) if identity else None
    return SourcedReport(text, accession, study, key, status, where, time, notes=tuple(notes))


class _Content:
    """The OBX segments of one report: sections of text in their order, study UID and accession number."""

    def __init__(self, marks: Delimiters, charset: str) -> None:
        self.marks, self.charset = marks, charset
        self.sections: list[tuple[str, str]] = []
        self.study_uid = self.accession = ""
        self.notes: list[str] = []

    def add(self, obx: list[str]) -> None:
        marks = self.marks
        if _field(obx, 11, marks) in {"D", "W", "X"}:  # deleted, wrong patient, no result
            self.notes.append(f"an OBX with status {_field(obx, 11, marks)} was left out")
            return
        kind, value = _field(obx, 2, marks), _field(obx, 5, marks)
        identifier = _field(obx, 3, marks)
        code = _component(identifier, 1, marks, self.charset)
        if code in {"113014", "110180"} or "study instance uid" in identifier.lower():
            self.study_uid = unescape(value.split(marks.component)[0], marks, self.charset).strip()
            return
        if code == "121022":
            self.accession = unescape(value.split(marks.component)[0], marks, self.charset).strip()
            return
        if kind and kind not in _TEXT_TYPES:
            return
        text = self._encapsulated(value) if kind == "ED" else self._plain(value, kind)
        heading = next((_HEADINGS[part] for part in re.split(r"[\^&]", identifier) if part in _HEADINGS), "")
        if self.sections and self.sections[-1][0] == heading:
            self.sections[-1] = (heading, f"{self.sections[-1][1]}\n{text}")
        else:
            self.sections.append((heading, text))

    def _plain(self, value: str, kind: str) -> str:
        lines = value.split(self.marks.repetition)
        if kind in {"CE", "CWE"}:  # coded: the second component is the text
            lines = [[*line.split(self.marks.component), ""][1] for line in lines]
        return "\n".join(unescape(line, self.marks, self.charset) for line in lines)

    def _encapsulated(self, value: str) -> str:
        parts = value.split(self.marks.component) + [""] * 5
        kind, form, coding, data = f"{parts[1]}/{parts[2]}".lower(), parts[2].lower(), parts[3].lower(), parts[4]
        if "text" not in kind and form not in {"plain", "txt"}:
            self.notes.append(f"an OBX with {kind.strip('/') or 'encapsulated data'} was left out: no plain text")
            return ""
        if coding == "base64":
            try:
                return base64.b64decode(re.sub(r"\s", "", data), validate=True).decode(self.charset)
            except (binascii.Error, UnicodeDecodeError) as error:
                raise Hl7Error("damaged-text", f"OBX-5 that is not base64 {self.charset} ({error})",
                               "base64 text", "Export the report again.") from error  # fmt: skip
        return unescape(data, self.marks, self.charset)


def unescape(text: str, marks: Delimiters, charset: str = "utf-8") -> str:
    r"""Undo \F\ \S\ \T\ \R\ \E\, \Xhh..\ and the formatting commands of FT: \.br\ and its kin become line ends."""
    if marks.escape not in text:
        return text
    plain = {"F": marks.field, "S": marks.component, "T": marks.subcomponent, "R": marks.repetition, "E": marks.escape}
    mark = re.escape(marks.escape)

    def meaning(match: re.Match[str]) -> str:
        command = match[1]
        if command in plain:
            return plain[command]
        if re.fullmatch(r"\.(br|sp)\d*|\.sp *\+?\d+|\.ce", command):
            return "\n"
        if re.fullmatch(r"X([0-9A-Fa-f]{2})+", command):
            return bytes.fromhex(command[1:]).decode(charset, errors="replace")
        if re.fullmatch(r"[HN]|\.(in|ti|sk|fi|nf).*|[CM][0-9A-Fa-f]+|Z.*", command):
            return " " if command.startswith(".sk") else ""
        return match[0]  # not an escape of the standard: a lone backslash in the text

    return re.sub(rf"{mark}([^{mark}\r\n]{{1,40}}){mark}", meaning, text)


def _segments(data: bytes, encoding: str) -> tuple[list[list[str]], Delimiters, str]:
    """Segments as lists of fields, numbered as HL7 numbers them (MSH-1 is the delimiter itself)."""
    head = re.split(rb"[\r\n]", data, maxsplit=1)[0].decode("latin-1")
    if len(head) < 8:
        raise Hl7Error("damaged-message", f"an MSH of {len(head)} characters", "at least 8", "Export it again.")
    mark = head[3]
    coding = (head[4:].split(mark)[0] + "^~\\&"[len(head[4:].split(mark)[0]) :])[:4]
    declared = (head.split(mark) + [""] * 18)[17].split(coding[1])[0].strip()
    charset = _CHARSETS.get(declared.upper(), "") if declared else (encoding or "utf-8")
    if not charset:
        raise Hl7Error("unknown-charset", f"MSH-18 {declared!r}", f"one of {', '.join(filter(None, _CHARSETS))}",
                       "Export in UTF-8.")  # fmt: skip
    try:
        text = data.decode(charset)
    except UnicodeDecodeError as error:
        stated = f"MSH-18 {declared!r}" if declared else f"empty MSH-18, so {charset}"
        raise Hl7Error("undecodable-text", f"byte {error.start} that is not {charset} ({stated})", "text in it",
                       "State the encoding of the files, for example encoding='latin-1'.") from error  # fmt: skip
    text = text.replace("\x0b", "").replace("\x1c", "")
    lines: list[str] = []
    for line in re.split(r"[\r\n]+", text):
        if re.match(rf"[A-Z][A-Z0-9]{{2}}({re.escape(mark)}|$)", line):
            lines.append(line)
        elif lines and line.strip():
            lines[-1] += coding[2] + ".br" + coding[2] + line  # a bare line end inside a field
    segments = [line.split(mark) for line in lines]
    segments[0] = ["MSH", mark, *segments[0][1:]]
    return segments, Delimiters(mark, coding[0], coding[1], coding[2], coding[3]), charset


def _field(segment: list[str], index: int, marks: Delimiters) -> str:
    return segment[index].strip() if index < len(segment) and segment[index] != '""' else ""


def _component(value: str, index: int, marks: Delimiters, charset: str) -> str:
    parts = value.split(marks.component)
    return unescape(parts[index - 1], marks, charset).strip() if index <= len(parts) else ""


def _iso(stamp: str) -> str:
    """HL7 time YYYYMMDD[HHMM[SS[.S]]][+ZZZZ] as `sourced.comparable_time`; empty when it is not one."""
    match = re.match(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?(?:\.\d+)?([+-]\d{4})?", stamp)
    if match is None:
        return ""
    year, month, day, hour, minute, second, zone = match.groups(default="00")
    offset = f"{zone[:3]}:{zone[3:]}" if len(zone) == 5 else ""
    return comparable_time(f"{year}-{month}-{day}T{hour}:{minute}:{second}{offset}")
