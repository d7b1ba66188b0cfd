r"""Reading HL7 v2 result messages (ORU^R01): text, accession number, study UID, status and pseudonym of the patient.

Where IHE Radiology and practice differ, IHE is tried first: the accession number from an OBX (DICOM 121022), then
OBR-18, then OBR-3; the study UID from an OBX (DICOM 113014) or a ZDS segment. The status is that of OBR-25 (table 0123)
and, where the text says otherwise, of its OBX-11 (table 0085): a corrected line makes a correction, text of which
every line is deleted (D) or of another patient (W) withdraws the report. OBR-25 A ("some, but not all, results
available") is what radiology systems send for addenda and counts as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from reports.attachment import attached_text, unpacked
from reports.finding_codes import OWN_SCHEME
from reports.hl7_text import Message, parse, stated_encoding
from reports.modality import modality_code, procedure_modality
from reports.sourced import (
    MAX_CHARACTERS,
    ReportError,
    ReportStatus,
    SourcedReport,
    compact_time,
    joined,
    pseudonyms,
    quoted,
    refuse,
    without_name,
)
from volumes.instance import Refusal

_STATUS: dict[str, ReportStatus] = {
    "F": "final", "R": "preliminary", "P": "preliminary", "I": "preliminary", "S": "preliminary", "O": "preliminary",
    "N": "preliminary", "C": "corrected", "K": "corrected", "M": "corrected", "A": "addendum", "X": "cancelled",
    "W": "cancelled", "D": "cancelled", "Y": "cancelled",
}  # fmt: skip
_GONE = frozenset("DW")
_UNSAID = frozenset("XN")  # no result, not asked
_HEADINGS = {
    "IMP": "impression", "GDT": "findings", "ADT": "addendum", "REC": "recommendation", "19005-8": "impression",
    "59776-5": "findings", "55111-9": "technique", "18834-2": "comparison", "18785-6": "indication",
    "18783-1": "recommendation", "55107-7": "addendum", "11329-0": "history",
}  # fmt: skip
_TEXT_TYPES = frozenset({"TX", "FT", "ST", "ED", "CE", "CWE", "CF"})
_TRAILER = re.compile(rb"BTS[^A-Za-z0-9\s](\d{1,9})")
_LONGEST_VALUE, _LONGEST_DOCUMENT = 8 * MAX_CHARACTERS, 2**27  # of OBX-5, with its escapes; of type ED


def read_hl7(data: bytes, source: str, encoding: str = "") -> Iterator[SourcedReport | Refusal]:
    """All reports of the messages in `data`; a batch (FHS, BHS) or several messages in one file are fine.

    `encoding` is used where MSH-18 is empty; without either, the text must be UTF-8.
    """
    stated = stated_encoding(data)
    if stated:
        try:
            data, encoding = data.decode(stated).encode(), "utf-8"
        except (UnicodeDecodeError, UnicodeEncodeError) as error:
            yield refuse(source, "undecodable-text", f"a byte order mark of {stated} and bytes that are not ({error})",
                         f"{stated} text", "Export the file again.")  # fmt: skip
            return
    starts = list(_segments_at(data, b"MSH"))
    if not starts:
        yield refuse(source, "not-hl7", "no MSH segment", "an HL7 v2 message", "Export the report again as ORU^R01.")
        return
    yield from _counted(data, source, len(starts))
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(data)], strict=True), 1):
        where = source if len(starts) == 1 else f"{source}:message {number}"
        try:
            yield from _read_message(parse(data[start:stop], encoding), where)
        except ReportError as error:
            yield error.refusal(where)


def _segments_at(data: bytes, name: bytes) -> Iterator[int]:
    """Where segments of a name begin: at the start of a line or a block, before a delimiter."""
    at = data.find(name)
    while at >= 0:
        after = data[at + 3 : at + 4]
        if (at == 0 or data[at - 1] in b"\r\n\x0b") and after and not after.isalnum() and not after.isspace():
            yield at
        at = data.find(name, at + 3)


def _counted(data: bytes, source: str, count: int) -> Iterator[Refusal]:
    """A refusal when the trailer of a batch says that another number of messages was sent."""
    told = [int(match[1]) for at in _segments_at(data, b"BTS") if (match := _TRAILER.match(data, at))]
    if told and sum(told) != count:
        yield refuse(source, "incomplete-batch", f"{count} message(s)", f"the {sum(told)} that BTS-1 counts",
                     "The file was cut or put together by hand; export it again.")  # fmt: skip
    elif not told and any(True for name in (b"FHS", b"BHS") for _ in _segments_at(data[:65536], name)):
        yield refuse(source, "incomplete-batch", "a batch header without a trailer (BTS)", "the end of the batch",
                     "The file may have been cut; export it again.")  # fmt: skip


def _read_message(message: Message, where: str) -> Iterator[SourcedReport | Refusal]:
    segments = message.segments
    kind = message.field(segments[0], 9)
    if not kind.startswith("ORU"):
        raise ReportError("not-a-result", f"a message of type {kind[:40] or 'nothing'}", "ORU^R01",
                          "Orders and admissions hold no report.")  # fmt: skip
    pid = next((s for s in segments if s[0] == "PID"), ["PID"])
    zds = next((s for s in segments if s[0] == "ZDS"), ["ZDS"])
    study_uid = message.component(message.field(zds, 1), 1)
    orders = _orders(message)
    if not orders:
        raise ReportError("no-report", "no OBR segment", "an OBR with its OBX segments", "Export the report again.")
    found = [_read_order(order, study_uid) for order in orders]
    yield from _settled([_of_patient(one, message, pid) if isinstance(one, _Read) else one for one in found], where)


def _orders(message: Message) -> list[_Order]:
    """One per OBR, with its OBX segments in their order; NTE segments are remarks of the laboratory kind, no text."""
    orders: list[_Order] = []
    for segment in message.segments:
        if segment[0] == "OBR":
            orders.append(_Order(message, segment))
        elif segment[0] == "OBX" and orders:
            orders[-1].add(segment)
    return orders


@dataclass
class _Order:
    """One OBR and the OBX segments after it: sections of text in their order, study UID and accession number."""

    message: Message
    obr: list[str]
    sections: list[tuple[str, list[str]]] = field(default_factory=list)
    study_uid: str = ""
    accession: str = ""
    letters: list[str] = field(default_factory=list)  # OBX-11 of the text, those left out as well
    notes: list[str] = field(default_factory=list)

    def add(self, obx: list[str]) -> None:
        """Take one OBX."""
        message = self.message
        kind, value, identifier = message.field(obx, 2), message.field(obx, 5), message.field(obx, 3)
        code = message.component(identifier, 1)
        if code in {"113014", "110180"} or "study instance uid" in identifier.lower():
            self.study_uid = message.component(value, 1)
            return
        if code == "121022":
            self.accession = message.component(value, 1)
            return
        if (kind and kind not in _TEXT_TYPES) or OWN_SCHEME in identifier:  # our drafts repeat their findings as codes
            return
        letter = message.field(obx, 11)[:1]
        self.letters.append(letter)
        if letter in _GONE | _UNSAID and letter:
            self.notes.append(f"an OBX with status {letter} was left out")
            return
        most = _LONGEST_DOCUMENT if kind == "ED" else _LONGEST_VALUE
        if len(value) > most:
            raise ReportError("too-long", f"an OBX-5 of {len(value)} characters", f"at most {most}",
                              "This is no report of one study.")  # fmt: skip
        text = self._attached(value) if kind == "ED" else self._plain(value, kind)
        heading = next((_HEADINGS[part] for part in re.split(r"[\^&]", identifier[:400]) if part in _HEADINGS), "")
        if self.sections and self.sections[-1][0] == heading:
            self.sections[-1][1].append(text)
        else:
            self.sections.append((heading, [text]))

    def _plain(self, value: str, kind: str) -> str:
        marks = self.message.marks
        if kind in {"CE", "CWE", "CF"}:  # coded: the second component is the text
            lines = value.split(marks.repetition, 1000)
            value = marks.repetition.join([*line.split(marks.component, 2), ""][1] for line in lines)
        return self.message.plain(value.replace(marks.repetition, "\n"))

    def _attached(self, value: str) -> str:
        """ED: source application ^ type of data ^ subtype ^ encoding ^ data."""
        message = self.message
        parts = [*value.split(message.marks.component, 4), "", "", "", "", ""]
        kind, form, coding, data = (part.strip() for part in parts[1:5])
        if coding.lower() == "base64":
            raw = unpacked(message.plain(data))
        elif coding.lower() == "hex":
            try:
                raw = bytes.fromhex(data)
            except ValueError as error:
                raise ReportError("damaged-text", "data that is not hexadecimal", "pairs of hexadecimal digits",
                                  "Export the report again.") from error  # fmt: skip
        else:
            raw = message.plain(data).encode(message.charset, errors="replace")
        form = form.lower() if form.lower() not in ("", "octet-stream", "octer-stream") else kind.lower()
        try:
            return attached_text(raw, form, message.charset)
        except ReportError as error:
            self.notes.append(f"an OBX with {kind[:20].lower()}/{form[:20]} was left out: {error}")
            return ""

    @property
    def status(self) -> ReportStatus | None:
        """From OBR-25 and the OBX-11 of the text; None for a letter that no table has."""
        letter = self.message.field(self.obr, 25)
        status = _STATUS.get(letter, "final" if not letter else None)
        said = [one for one in self.letters if one not in _UNSAID]
        if status is None or status == "cancelled":
            return status
        if said and all(one in _GONE for one in said):
            return "cancelled"
        kept = [one for one in said if one not in _GONE]
        if not letter and kept and all(_STATUS.get(one) == "preliminary" for one in kept):
            return "preliminary"
        if status == "final" and "C" in kept:
            status = "corrected"
        only_addenda = bool(self.sections) and all(heading == "addendum" for heading, _ in self.sections)
        if status in ("final", "corrected") and (only_addenda or (kept and all(one == "B" for one in kept))):
            return "addendum"
        return status


@dataclass(frozen=True)
class _Read:
    """What one order says, before it is known whether another order of the message belongs to the same report."""

    report: SourcedReport
    sections: tuple[tuple[str, str], ...]


def _read_order(order: _Order, zds: str) -> _Read | ReportError:
    message, obr = order.message, order.obr
    status = order.status
    if status is None:
        letter = quoted(message.field(obr, 25))
        return ReportError("unknown-status", f"OBR-25 {letter}", "one of F, C, A, P", "Correct the status.")
    sections = tuple((heading, "\n".join(lines)) for heading, lines in order.sections)
    accession = order.accession or message.component(message.field(obr, 18), 1) or message.component(
        message.field(obr, 3), 1
    )  # fmt: skip
    service = message.field(obr, 4)
    modality = modality_code(message.component(message.field(obr, 24), 1)) or procedure_modality(
        message.component(service, 2)
    )
    issued = message.field(obr, 22) or message.field(message.segments[0], 7)
    report = SourcedReport(
        "",
        accession,
        order.study_uid or zds,
        status=status,
        issued=compact_time(issued),
        performed=compact_time(message.field(obr, 7)),
        modality=modality,
        notes=tuple(order.notes),
    )
    return _Read(report, sections)


def _of_patient(one: _Read, message: Message, pid: list[str]) -> _Read:
    """With the patient's pseudonyms, and without the patient's name in the text."""
    marks = message.marks
    identities = [message.component(x, 1) for x in message.field(pid, 3).split(marks.repetition, 20)]
    identities.append(message.component(message.field(pid, 2), 1))
    keys = pseudonyms(identities)
    names = [
        (message.component(name, 1), message.component(name, 2))
        for name in message.field(pid, 5).split(marks.repetition, 10)
    ]
    sections, replaced = [], 0
    for heading, body in one.sections:
        for person in names:
            body, count = without_name(body, *person)
            replaced += count
        sections.append((heading, body))
    notes = one.report.notes + ((f"the patient's name was replaced {replaced} time(s)",) if replaced else ())
    report = replace(one.report, patient_key=keys[0] if keys else None, other_keys=keys[1:], notes=notes)
    return _Read(report, tuple(sections))


def _settled(found: Sequence[_Read | ReportError], where: str) -> Iterator[SourcedReport | Refusal]:
    """Orders of one accession number, study and status in one message are one report; then each is checked."""
    groups: dict[tuple[str, str, str], list[_Read]] = {}
    for one in found:
        if isinstance(one, ReportError):
            yield one.refusal(where)
        else:
            groups.setdefault((one.report.accession, one.report.study_uid, one.report.status), []).append(one)
    for group in groups.values():
        try:
            yield _checked(group, where)
        except ReportError as error:
            yield error.refusal(where)


def _checked(group: Sequence[_Read], where: str) -> SourcedReport:
    report = replace(group[0].report, notes=tuple(note for one in group for note in one.report.notes), source=where)
    if report.status == "cancelled":
        return _placed(replace(report, notes=()))  # what its lines say does not matter any more
    report = replace(report, text=joined(_once(section for one in group for section in one.sections)))
    if not report.text:
        raise ReportError(
            "empty-report", "; ".join(report.notes[:3]) or "no text in the OBX segments",
            "OBX segments of type TX, FT, ST or ED with text", "Export it again.",
        )  # fmt: skip
    return _placed(report)


def _placed(report: SourcedReport) -> SourcedReport:
    if not report.can_be_placed:
        raise ReportError(
            "no-link", "neither an accession number nor a study UID", "OBR-18, OBR-3, or OBX 113014 or 121022",
            "Without one the report cannot be joined to its study; add it to the export.",
        )  # fmt: skip
    return report


def _once(sections: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Sections without repetitions: some systems repeat the whole text under every order of a visit."""
    return list(dict.fromkeys(sections))
