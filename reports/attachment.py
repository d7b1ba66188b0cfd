"""The text of a document that travels inside another: plain text, HTML, RTF, CDA or PDF.

HL7 v2 carries them in OBX-5 of type ED, FHIR in `presentedForm`, C-CDA in `nonXMLBody`, DICOM as an encapsulated
document. A PDF is read by pypdf in a process of its own, within bounds of time and memory; a PDF of scanned pages has
no text and is refused, for nobody here reads pictures of letters.
"""

from __future__ import annotations

import atexit
import base64
import binascii
import html
import io
import logging
import re
from functools import lru_cache

from reports.sourced import ReportError, check_length, quoted, tidy
from volumes.errors import VolumeError
from volumes.isolation import Workers

MAX_PDF_BYTES = 64 * 2**20
MAX_PDF_PAGES = 200
_PDF_SECONDS, _PDF_MEMORY_BYTES = 20.0, 2**30
_PLAIN = ("text/plain", "text/markdown", "plain", "txt", "text")
_MARKUP = ("text/html", "application/xhtml+xml", "html", "htm")
_CDA = ("text/xml", "application/xml", "application/hl7-v3+xml", "text/xml-cda", "xml", "cda", "application/cda+xml")
_PDF = ("application/pdf", "pdf")
_RTF = ("text/rtf", "application/rtf", "rtf")
_BLOCK = re.compile(r"<\s*(?:br|/p|/div|/li|/tr|/h\d|/td|/th|/title)\b[^<>]*>", re.IGNORECASE)
_RTF_TOKEN = re.compile(
    r"\\([a-z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-z])|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.IGNORECASE
)
_RTF_UNSEEN = frozenset(
    ("fonttbl", "colortbl", "stylesheet", "info", "pict", "object", "header", "footer", "generator", "themedata",
     "datastore", "listtable", "listoverridetable", "xmlnstbl", "rsidtbl", "latentstyles", "fldinst", "bin")
)  # fmt: skip
_RTF_CHARACTERS = {"par": "\n", "line": "\n", "sect": "\n", "page": "\n", "row": "\n", "tab": "\t", "cell": "\t",
                   "emdash": "—", "endash": "–", "lquote": "'", "rquote": "'", "ldblquote": '"',
                   "rdblquote": '"', "bullet": "•"}  # fmt: skip


def attached_text(data: bytes, kind: str, charset: str = "utf-8") -> str:
    """The text of a document of MIME type (or HL7 subtype) `kind`.

    Raises: ReportError: "unknown-attachment" for a type that is not read, "image-only-pdf", "damaged-pdf",
    "undecodable-text", "too-long", or what the CDA reader refuses.
    """
    kind = kind.strip().lower()
    if kind in _PDF or data.startswith(b"%PDF-"):
        return tidy(pdf_text(data))
    if kind in _CDA:
        from reports.cda import cda_text  # which reads attachments itself

        return cda_text(data)
    if kind not in (*_PLAIN, *_MARKUP, *_RTF):
        raise ReportError("unknown-attachment", f"a document of type {quoted(kind)}", "text, HTML, RTF, CDA or PDF",
                          "Export the report as text.")  # fmt: skip
    text = decoded(data, charset)
    if kind in _RTF or text.startswith("{\\rtf"):
        return tidy(rtf_text(text))
    return tidy(markup_text(text)) if kind in _MARKUP else tidy(text)


def decoded(data: bytes, charset: str) -> str:
    """Bytes as text. Raises ReportError ("undecodable-text")."""
    try:
        return data.decode(charset)
    except (UnicodeDecodeError, LookupError) as error:
        where = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        raise ReportError("undecodable-text", f"bytes that are not {quoted(charset)}{where}", "text in it",
                          "State the encoding that the sender uses.") from error  # fmt: skip


def unpacked(data: str) -> bytes:
    """The bytes of base64 with or without line ends. Raises ReportError ("damaged-text")."""
    try:
        return base64.b64decode(re.sub(r"\s+", "", data), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ReportError("damaged-text", f"data that is not base64 ({error})", "base64 as RFC 4648 has it",
                          "Export the report again.") from error  # fmt: skip


def markup_text(markup: str) -> str:
    """XHTML as text: block elements end a line, other tags go away. No markup is ever rendered from it."""
    check_length(markup[: 1 + len(markup) // 8])  # markup may be eight times its text
    markup = _without(_without(_without(markup, "<!--", "-->"), "<script", "</script"), "<style", "</style")
    return html.unescape(re.sub(r"<[^<>]*>", "", _BLOCK.sub("\n", markup)))


def _without(markup: str, start: str, stop: str) -> str:
    """The markup without what stands between two marks; one scan, also where the marks do not match."""
    lower, parts, at = markup.lower(), [], 0
    while (begin := lower.find(start, at)) >= 0:
        end = lower.find(stop, begin + len(start))
        end = lower.find(">", end) if end >= 0 else end
        parts.append(markup[at:begin])
        at = len(markup) if end < 0 else end + 1
    return "".join([*parts, markup[at:]])


def rtf_text(source: str) -> str:
    r"""The text of RTF 1.9: paragraphs, tabs, \'hh in Windows-1252, \uN; fonts, styles and pictures are left out."""
    check_length(source[: 1 + len(source) // 8])
    out: list[str] = []
    unseen: list[bool] = []  # of every open group
    hidden, skip = False, 0
    for found in _RTF_TOKEN.finditer(source):
        word, number, code, symbol, brace, plain = found.groups()
        if brace == "{":
            unseen.append(hidden)
        elif brace == "}":
            hidden = unseen.pop() if unseen else False
        elif (word and word.lower() in _RTF_UNSEEN) or symbol == "*":
            hidden = True
        elif not hidden:
            piece, wanted = _rtf_piece(word, number, code, symbol, plain)
            out.append(piece[skip:] if skip and not word else piece)
            skip = wanted
    return "".join(out)


def _rtf_piece(
    word: str | None, number: str | None, code: str | None, symbol: str | None, plain: str | None
) -> tuple[str, int]:
    """The characters of one token, and how many of the next stand in for them where Unicode is not read."""
    if code:
        return bytes.fromhex(code).decode("cp1252", errors="replace"), 0
    if word == "u" and number:
        point = int(number) % 0x10000
        return ("\ufffd" if 0xD800 <= point < 0xE000 else chr(point)), 1
    if word:
        return _RTF_CHARACTERS.get(word.lower(), ""), 0
    return ({"~": " ", "_": "-", "-": ""}.get(symbol, symbol) if symbol else plain or ""), 0


def pdf_text(data: bytes) -> str:
    """The text of a PDF, page after page. Raises ReportError.

    Reading happens in another process that is kept: the first call takes a second or two.
    """
    if len(data) > MAX_PDF_BYTES:
        raise ReportError("too-large", f"a PDF of {len(data)} bytes", f"at most {MAX_PDF_BYTES}", "Export it as text.")
    if not _has_pypdf():
        raise ReportError("missing-package", "a PDF, and no pypdf to read it with", "pypdf",
                          'Run pip install "medvlm-platform[pdf]".')  # fmt: skip
    _, found = next(_pdf_reader().map([data]))
    if isinstance(found, VolumeError):
        reason = found.reason if found.reason in ("image-only-pdf", "too-large", "locked-pdf") else "damaged-pdf"
        raise ReportError(reason, f"a PDF: {found}", "a PDF with text", "Export the report as text.")
    return found


def _has_pypdf() -> bool:
    from importlib.util import find_spec

    return find_spec("pypdf") is not None


@lru_cache(maxsize=1)
def _pdf_reader() -> Workers[bytes, str]:
    pool: Workers[bytes, str] = Workers(
        read_pdf, 1, _PDF_SECONDS, _PDF_MEMORY_BYTES, chunk=1, preload=("pypdf", "reports.attachment")
    )
    pool.__enter__()
    atexit.register(pool.__exit__, None, None, None)
    return pool


def read_pdf(data: bytes) -> str:
    """The text of a PDF, in this process and without any bound of time: see `pdf_text`. Raises VolumeError."""
    import pypdf
    from pypdf.errors import FileNotDecryptedError, PyPdfError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its remarks quote the file
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise VolumeError("it is locked by a password", "locked-pdf")
        count = len(reader.pages)
        if count > MAX_PDF_PAGES:
            raise VolumeError(f"it has {count} pages, at most {MAX_PDF_PAGES} are read", "too-large")
        pages = [page.extract_text().strip() for page in reader.pages]
    except FileNotDecryptedError as error:
        raise VolumeError("it is locked by a password", "locked-pdf") from error
    except (VolumeError, MemoryError):
        raise
    except PyPdfError as error:
        raise VolumeError(f"it is damaged ({type(error).__name__})", "damaged-pdf") from error
    except Exception as error:  # pypdf raises what Python raises where a damaged file leads it
        raise VolumeError(f"it is damaged ({type(error).__name__})", "damaged-pdf") from error
    text = "\n\n".join(page for page in pages if page)
    if not re.search(r"\w", text):
        raise VolumeError(f"its {count} page(s) are pictures without text", "image-only-pdf")
    return text
