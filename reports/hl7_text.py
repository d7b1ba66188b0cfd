r"""HL7 v2 messages as text: delimiters, character sets, segments, fields and escapes (HL7 v2.5.1 chapter 2).

Only the delimiters that MSH announces are trusted, so that messages of any version and with local segments can be
read. The character set is that of MSH-18 (table 0211); bytes are decoded before anything is cut, since the second byte
of a Chinese or Japanese character may be a delimiter.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from reports.sourced import ReportError, quoted

_CHARSETS = {
    "ASCII": "ascii", "ISO IR6": "ascii", "UNICODE": "utf-8", "UNICODE UTF-8": "utf-8", "UTF-8": "utf-8",
    **{f"8859/{n}": f"iso8859-{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)},
    **{f"ISO-8859-{n}": f"iso8859-{n}" for n in (1, 2, 5, 7, 9, 15)},
    "ISO IR14": "shift_jis", "ISO IR87": "iso2022_jp", "ISO IR159": "iso2022_jp_1", "GB 18030-2000": "gb18030",
    "GB18030": "gb18030", "KS X 1001": "euc_kr", "BIG-5": "big5", "CNS 11643-1992": "euc_tw", "UNICODE UTF-16": "utf-8",
    "UNICODE UTF-32": "utf-8",
}  # fmt: skip
_BOMS = (  # a byte order mark states the encoding; the longer ones first, since one begins like another
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_MOST_FIELDS = 512  # of one segment; those of the standard have fewer than 100
_MOST_LINES = 200_000  # of one message
_COMMAND = (
    r"[FSTREHNhn]|X(?:[0-9A-Fa-f]{2}){1,2000}|\.(?:br|BR|sp|SP|ce|in|ti|sk|fi|nf)[ +\-\d]{0,8}"
    r"|[CM][0-9A-Fa-f]{4,6}|Z[A-Za-z0-9]{0,40}"
)
_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")


@dataclass(frozen=True)
class Delimiters:
    """The five characters a message is cut at, from MSH-1 and MSH-2."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str


@dataclass(frozen=True)
class Message:
    """Segments as lists of fields, numbered as HL7 numbers them (MSH-1 is the delimiter itself)."""

    segments: list[list[str]]
    marks: Delimiters
    charset: str

    def field(self, segment: list[str], index: int) -> str:
        """A field as it stands in the message, empty when absent or null ("")."""
        return segment[index].strip() if index < len(segment) and segment[index].strip() != '""' else ""

    def component(self, value: str, index: int) -> str:
        """A component (numbered from 1) of the first repetition of a field, without its subcomponents, unescaped."""
        parts = value.split(self.marks.repetition, 1)[0].split(self.marks.component, index)
        return self.plain(parts[index - 1].split(self.marks.subcomponent, 1)[0]).strip() if index <= len(parts) else ""

    def plain(self, text: str) -> str:
        """The text without escapes."""
        return unescape(text, self.marks, self.charset)


def stated_encoding(data: bytes) -> str:
    """The encoding that a byte order mark states, or nothing."""
    return next((name for mark, name in _BOMS if data.startswith(mark)), "")


def parse(data: bytes, encoding: str = "") -> Message:
    """One message. `encoding` is used where MSH-18 is empty; without either, the text must be UTF-8.

    Raises: ReportError.
    """
    head = re.split(rb"[\r\n]", data[:4096], maxsplit=1)[0].decode("latin-1")
    if len(head) < 8:
        raise ReportError("damaged-message", f"an MSH of {len(head)} characters", "at least 8", "Export it again.")
    mark = head[3]
    coding = head[4:].split(mark)[0][:4]
    coding += "^~\\&"[len(coding) :]
    if len({mark, *coding}) < 5:
        raise ReportError("damaged-message", f"delimiters {quoted(mark + coding)}", "five different characters",
                          "Export it again.")  # fmt: skip
    declared = (head.split(mark) + [""] * 18)[17].strip()
    charset = _charset(declared.split(coding[1]), encoding)
    try:
        text = data.decode(charset)
    except UnicodeDecodeError as error:
        stated = f"MSH-18 {quoted(declared)}" if declared else f"empty MSH-18, so {charset}"
        raise ReportError("undecodable-text", f"byte {error.start} that is not {charset} ({stated})", "text in it",
                          "State the encoding of the files, for example encoding='latin-1'.") from error  # fmt: skip
    marks = Delimiters(mark, coding[0], coding[1], coding[2], coding[3])
    segments = _segments(text.replace("\x0b", "").replace("\x1c", ""), marks)
    if not segments:
        raise ReportError("damaged-message", "no segment", "an MSH segment", "Export it again.")
    segments[0] = ["MSH", mark, *segments[0][1:]]
    return Message(segments, marks, charset)


def _charset(declared: list[str], encoding: str) -> str:
    """The codec of MSH-18. Of several sets, the later ones are reached by ISO 2022 escapes: Japanese in practice."""
    names = [name.strip().upper() for name in declared if name.strip()]
    if not names:
        try:
            return codecs.lookup(encoding or "utf-8").name
        except LookupError as error:
            raise ReportError("unknown-charset", f"encoding {quoted(encoding)}", "an encoding that Python knows",
                              "For example utf-8 or latin-1.") from error  # fmt: skip
    unknown = [name for name in names if name not in _CHARSETS]
    if unknown:
        raise ReportError("unknown-charset", f"MSH-18 {quoted(unknown[0])}", f"one of {', '.join(_CHARSETS)}",
                          "Export in UTF-8.")  # fmt: skip
    if any(name in ("ISO IR87", "ISO IR159") for name in names[1:]):
        return "iso2022_jp_2"
    try:
        return codecs.lookup(_CHARSETS[names[0]]).name
    except LookupError as error:
        raise ReportError("unknown-charset", f"MSH-18 {names[0]}, which Python does not know", "another character set",
                          "Export in UTF-8.") from error  # fmt: skip


def _segments(text: str, marks: Delimiters) -> list[list[str]]:
    """Cut at line ends; a line that begins no segment belongs to the field before it."""
    broken = marks.escape + ".br" + marks.escape
    lines: list[list[str]] = []
    for number, found in enumerate(re.finditer(r"[^\r\n]+", text)):
        line = found[0]
        if _NAME.match(line) and line[3:4] in ("", marks.field):
            lines.append([line])
        elif lines and not line.isspace():
            lines[-1].append(line)
        if number > _MOST_LINES:
            raise ReportError("too-large", f"more than {_MOST_LINES} lines", "one report",
                              "Export one message per report.")  # fmt: skip
    return [broken.join(parts).split(marks.field, _MOST_FIELDS) for parts in lines]


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
        if command[0] == "X":
            return _bytes(bytes.fromhex(command[1:]), charset)
        if command[:3].lower() in (".br", ".sp", ".ce"):
            return "\n"
        return " " if command.startswith(".sk") else ""  # highlighting, indents, character sets, local commands

    return re.sub(f"{mark}({_COMMAND}){mark}", meaning, text)  # another backslash is a backslash


def _bytes(raw: bytes, charset: str) -> str:
    r"""The characters of \X..\. Some systems write Latin-1 there whatever MSH-18 says."""
    try:
        return raw.decode(charset)
    except UnicodeDecodeError:
        return raw.decode("latin-1")
