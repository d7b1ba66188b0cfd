"""The ledger of ingest: what every file of the archive said when it was last read, kept in pages of some 250 files.

    ingest_folders   one row for each folder or zip, with a digest of the names, sizes and times in it
    ingest_pages     consecutive files of one folder; where one page ends depends on names only, so that a new file
                     changes one page and not all that follow
    ingest_parts     the headers of a page that belong to one study, packed; the part "" holds the refusals

A folder whose digest is unchanged costs one look at its row. A page is written in one transaction.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from medvlm.ingest_read import Found, load_header
from medvlm.ingest_walk import Entry, entries_digest
from volumes.instance import InstanceHeader, Refusal

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS ingest_state(key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS ingest_folders(
        folder_id INTEGER PRIMARY KEY, folder TEXT NOT NULL UNIQUE, mark TEXT NOT NULL, digest BLOB,
        files INTEGER NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS ingest_pages(
        page_id INTEGER PRIMARY KEY, folder_id INTEGER NOT NULL, digest BLOB NOT NULL, first TEXT NOT NULL,
        last TEXT NOT NULL, files INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS ingest_pages_by_folder ON ingest_pages(folder_id)",
    """CREATE TABLE IF NOT EXISTS ingest_parts(
        page_id INTEGER NOT NULL, study_uid TEXT NOT NULL, digest BLOB NOT NULL, entries BLOB NOT NULL,
        lines BLOB NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS ingest_parts_by_page ON ingest_parts(page_id)",
    "CREATE INDEX IF NOT EXISTS ingest_parts_by_study ON ingest_parts(study_uid, digest)",
)
TABLES = ("ingest_folders", "ingest_pages", "ingest_parts")
_PAGE = 256  # files on a page, on average
_PAGE_MOST = 2048


@dataclass(frozen=True)
class KnownPage:
    """A page of the ledger, without its content."""

    page_id: int
    digest: bytes
    first: str
    last: str
    files: int


@dataclass
class Page:
    """A page to be written: its files, and the line of each as soon as it is known."""

    folder_id: int
    folder: str
    mark: str
    entries: Sequence[Entry]
    lines: dict[str, Found] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """Names of the files that must be read."""
        return [entry[0] for entry in self.entries if entry[0] not in self.lines]

    def location(self, name: str) -> str:
        """Where a file lies."""
        return join(self.folder, self.mark, name)


def join(folder: str, mark: str, name: str) -> str:
    """Location of a file of a folder or zip; without a name, of the folder itself."""
    return f"{folder}{'' if folder.endswith(mark) else mark}{name}" if name else folder


def cut(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Sorted files in pages. A page ends after a name whose checksum says so: nothing else shifts the ends."""
    start = 0
    for place, entry in enumerate(entries, 1):
        ends = zlib.crc32(entry[0].encode()) % _PAGE == 0
        if ends or place - start >= _PAGE_MOST or place == len(entries):
            yield entries[start:place]
            start = place


def known_pages(db: sqlite3.Connection, folder_id: int) -> list[KnownPage]:
    """Pages of a folder."""
    query = "SELECT page_id, digest, first, last, files FROM ingest_pages WHERE folder_id = ?"
    return [KnownPage(*row) for row in db.execute(query, (folder_id,)).fetchall()]


def known_lines(db: sqlite3.Connection, pages: Sequence[KnownPage], wanted: Sequence[Entry]) -> dict[str, Found]:
    """Lines that the ledger has of files with this very name, size and times."""
    first, last = wanted[0][0], wanted[-1][0]
    stamps = {entry[0]: entry for entry in wanted}
    found: dict[str, Found] = {}
    for page in pages:
        if page.first <= last and page.last >= first:
            for entry, line in page_content(db, page.page_id):
                if stamps.get(entry[0]) == entry:
                    found[entry[0]] = line
    return found


def page_content(db: sqlite3.Connection, page_id: int) -> Iterator[tuple[Entry, Found]]:
    """Every file of a page with its line."""
    query = "SELECT study_uid, entries, lines FROM ingest_parts WHERE page_id = ?"
    for study, entries, lines in db.execute(query, (page_id,)).fetchall():
        yield from ((entry, (study, line)) for entry, line in _unpack(entries, lines))


def write_page(db: sqlite3.Connection, page: Page) -> None:
    """Write a page whose lines are all known."""
    row = (page.folder_id, entries_digest(page.entries), page.entries[0][0], page.entries[-1][0], len(page.entries))
    page_id = db.execute(
        "INSERT INTO ingest_pages(folder_id, digest, first, last, files) VALUES (?, ?, ?, ?, ?)", row
    ).lastrowid
    parts: dict[str, tuple[list[Entry], list[str]]] = {}
    for entry in page.entries:
        study, line = page.lines[entry[0]]
        entries, lines = parts.setdefault(study, ([], []))
        entries.append(entry)
        lines.append(line)
    db.executemany(
        "INSERT INTO ingest_parts VALUES (?, ?, ?, ?, ?)",
        [(page_id, study, *_packed(page, *part)) for study, part in parts.items()],
    )


def drop_pages(db: sqlite3.Connection, pages: Sequence[KnownPage]) -> None:
    """Remove pages with their content."""
    for page in pages:
        db.execute("DELETE FROM ingest_parts WHERE page_id = ?", (page.page_id,))
        db.execute("DELETE FROM ingest_pages WHERE page_id = ?", (page.page_id,))


def headers_of(db: sqlite3.Connection, study_uid: str) -> Iterator[InstanceHeader]:
    """Headers that name a study, in no order."""
    query = (
        "SELECT f.folder, f.mark, s.entries, s.lines FROM ingest_parts s JOIN ingest_pages p USING(page_id)"
        " JOIN ingest_folders f USING(folder_id) WHERE s.study_uid = ?"
    )
    for folder, mark, entries, lines in db.execute(query, (study_uid,)).fetchall():
        for entry, line in _unpack(entries, lines):
            yield load_header(join(folder, mark, entry[0]), study_uid, line)


def refusals(db: sqlite3.Connection) -> Iterator[Refusal]:
    """What could not be read, by folder; one part in memory at a time."""
    query = (
        "SELECT f.folder, f.mark, s.entries, s.lines FROM ingest_parts s JOIN ingest_pages p USING(page_id)"
        " JOIN ingest_folders f USING(folder_id) WHERE s.study_uid = '' ORDER BY f.folder, p.first"
    )
    for folder, mark, entries, lines in db.execute(query):
        for entry, line in _unpack(entries, lines):
            reason, message = json.loads(line)
            yield Refusal(join(folder, mark, entry[0]), reason, message)


def files_at(db: sqlite3.Connection, folder: str, names: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """The study that each of some files of a folder names, and a digest of what the file says.

    Files that are refused or unknown are left out.
    """
    row = db.execute("SELECT folder_id FROM ingest_folders WHERE folder = ?", (folder,)).fetchone()
    if row is None:
        return {}
    wanted = sorted(names)
    found: dict[str, tuple[str, str]] = {}
    for page in known_pages(db, row[0]):
        start = bisect_left(wanted, page.first)
        if start < len(wanted) and wanted[start] <= page.last:
            inside = set(wanted[start:])
            for entry, (study, line) in page_content(db, page.page_id):
                if study and entry[0] in inside:
                    found[entry[0]] = (study, hashlib.blake2b(line.encode(), digest_size=16).hexdigest())
    return found


def _packed(page: Page, entries: list[Entry], lines: list[str]) -> tuple[bytes, bytes, bytes]:
    """Digest of where the files lie and what they say, their entries, and their lines."""
    text = "\n".join(lines).encode()  # JSON holds no bare line end
    told = repr((page.folder, [entry[0] for entry in entries])).encode()
    digest = hashlib.blake2b(told + text, digest_size=16).digest()
    return digest, zlib.compress(json.dumps(entries).encode(), 1), zlib.compress(text, 1)


def _unpack(entries: bytes, lines: bytes) -> Iterator[tuple[Entry, str]]:
    texts = zlib.decompress(lines).decode().split("\n")
    yield from zip(map(tuple, json.loads(zlib.decompress(entries))), texts, strict=True)
