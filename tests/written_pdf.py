"""Small PDF files for tests, written by hand (PDF 32000-1): lines of Helvetica at given heights and sizes."""

from __future__ import annotations

from collections.abc import Sequence

Row = tuple[str, float, float]  # text, size of the type in points, height on the page in points


def page_of(lines: Sequence[str | Row], top: float = 700.0, size: float = 10.0) -> list[Row]:
    """Rows from plain lines, one under the other; rows given as such stay where they are."""
    rows: list[Row] = []
    y = top
    for line in lines:
        if isinstance(line, str):
            rows.append((line, size, y))
            y -= 14
        else:
            rows.append(line)
    return rows


def pdf(
    pages: Sequence[Sequence[Row]], title: str = "", outline: Sequence[tuple[str, int]] = (), pictures: bool = False
) -> bytes:
    """A PDF with these pages; `outline` holds (title, page from 0); `pictures` draws an image on every page."""
    count = len(pages)
    first_page, font, image = 3, 3 + 2 * count, 4 + 2 * count
    first_item = 5 + 2 * count
    objects: list[bytes] = []
    catalog = f"<< /Type /Catalog /Pages 2 0 R{f' /Outlines {first_item} 0 R' if outline else ''} >>"
    objects.append(catalog.encode())
    kids = " ".join(f"{first_page + 2 * i} 0 R" for i in range(count))
    objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {count} >>".encode())
    for i, rows in enumerate(pages):
        resources = f"<< /Font << /F1 {font} 0 R >> /XObject << {f'/I1 {image} 0 R' if pictures else ''} >> >>"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources {resources}"
            f" /Contents {first_page + 2 * i + 1} 0 R >>".encode()
        )
        drawn = [f"BT /F1 {size} Tf 1 0 0 1 72 {y} Tm ({_escaped(text)}) Tj ET" for text, size, y in rows]
        stream = "\n".join([*drawn, *(["q 500 0 0 700 50 50 cm /I1 Do Q"] if pictures else [])]).encode("cp1252")
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    objects.append(
        b"<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8"
        b" /Length 1 >>\nstream\n\x80\nendstream"
    )
    objects += _outline(outline, first_item, first_page)
    return _file(objects, title)


def _outline(outline: Sequence[tuple[str, int]], first_item: int, first_page: int) -> list[bytes]:
    if not outline:
        return []
    last = first_item + len(outline)
    made = [f"<< /Type /Outlines /First {first_item + 1} 0 R /Last {last} 0 R /Count {len(outline)} >>".encode()]
    for i, (words, page) in enumerate(outline):
        here = first_item + 1 + i
        before = f" /Prev {here - 1} 0 R" if i else ""
        after = f" /Next {here + 1} 0 R" if here < last else ""
        made.append(
            f"<< /Title ({_escaped(words)}) /Parent {first_item} 0 R{before}{after}"
            f" /Dest [{first_page + 2 * page} 0 R /Fit] >>".encode()
        )
    return made


def _file(objects: Sequence[bytes], title: str) -> bytes:
    information = f"<< /Title ({_escaped(title)}) /ModDate (D:20250301120000Z) >>".encode()
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate([*objects, information], 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\n" % (len(places) + 1, len(places))
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % start)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
