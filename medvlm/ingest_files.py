"""First stage of ingest: read the header of every file once, and remember it by place, size and times.

An unchanged folder costs the times of its files. A call that was killed continues where it stopped, and tomorrow's call
reads tomorrow's files only.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from medvlm.ingest_engine import Engine
from medvlm.ingest_ledger import (
    SCHEMA,
    TABLES,
    KnownPage,
    Page,
    cut,
    drop_pages,
    join,
    known_lines,
    known_pages,
    page_content,
    write_page,
)
from medvlm.ingest_read import FORMAT, Found, refusal_line
from medvlm.ingest_summary import FileCounts
from medvlm.ingest_walk import NOT_A_FILE, Entry, Listing, entries_digest, listed, open_zip, walk
from volumes.archive import DIRECTORY_NAME, locations
from volumes.catalog import Catalog

_BATCH = 2000  # files per transaction, about


@dataclass
class _Folder:
    """A folder whose pages are being replaced."""

    folder_id: int
    digest: bytes
    files: int
    stale: list[KnownPage]
    pages: int = 0  # still to be written
    names: set[str] = field(default_factory=set)  # on new pages, where old ones go


@dataclass
class _Walked:
    """What one call has met: folders by id, and paths of which nothing could be learned."""

    seen: set[int] = field(default_factory=set)
    closed: list[str] = field(default_factory=list)


_Waiting = deque[tuple[_Folder, Page]]


def create_ledger(catalog: Catalog) -> None:
    """Make the ledger; empty it when it was written by another version."""
    for statement in SCHEMA:
        catalog.connection.execute(statement)
    with catalog.transaction() as db:
        row = db.execute("SELECT value FROM ingest_state WHERE key = 'format'").fetchone()
        if row is None or row[0] != FORMAT:
            for table in TABLES:
                db.execute(f"DELETE FROM {table}")
            db.execute("DROP TABLE IF EXISTS ingest_files")  # the ledger of older versions
            db.execute("INSERT OR REPLACE INTO ingest_state VALUES ('format', ?)", (FORMAT,))


def read_files(catalog: Catalog, roots: Sequence[Path], named: Sequence[str], engine: Engine) -> FileCounts:
    """Bring the ledger up to date with everything below `roots` and with the locations in `named`.

    What lay below the roots in an earlier call and is gone now leaves the ledger; what lies in a folder that cannot be
    listed today does not.
    """
    counts, walked = FileCounts(), _Walked()
    waiting: _Waiting = deque()
    batch: list[tuple[_Folder, Page]] = []
    files = 0
    with tqdm(desc="read headers", unit="file", disable=None) as bar:
        results = engine.read(_wanted(catalog, _listings(roots, named), walked, counts, waiting))
        for folder, page, read in _filled(results, waiting):
            batch.append((folder, page))
            counts.read += read
            bar.update(read)
            files += len(page.entries)
            if files >= _BATCH:
                _write(catalog, batch, counts)
                files = 0
        _write(catalog, batch, counts)
    counts.gone += _forget(catalog, roots, walked)
    return counts


def _listings(roots: Sequence[Path], named: Sequence[str]) -> Iterator[Listing]:
    """Folders below the roots; then, by folder, the files that were given one by one or that tables name."""
    alone = [str(root) for root in roots if not root.is_dir() and root.suffix.lower() != ".zip"]
    beside: dict[str, set[str]] = {}
    for location in (*named, *alone, *_indexed(alone)):
        folder, name = os.path.split(location)
        beside.setdefault(folder, set()).add(name)
    for listing in walk([root for root in roots if str(root) not in alone]):
        beside.pop(listing.folder, None)
        yield listing
    for folder, names in sorted(beside.items()):
        yield listed(folder, names)


def _indexed(files: Sequence[str]) -> Iterator[str]:
    """Files that are listed by those of the given files that are DICOMDIRs; what they lack is told later."""
    for path in files:
        if os.path.basename(path).upper() == DIRECTORY_NAME:
            yield from (place for place in locations([path]) if isinstance(place, str))


def _wanted(
    catalog: Catalog, listings: Iterator[Listing], walked: _Walked, counts: FileCounts, waiting: _Waiting
) -> Iterator[str]:
    """Locations of new and changed files. Their pages are put into `waiting` before, in the same order."""
    db = catalog.connection
    for listing in listings:
        query = "SELECT folder_id, digest, files FROM ingest_folders WHERE folder = ?"
        known = db.execute(query, (listing.folder,)).fetchone()
        if known is not None and known[0] in walked.seen:
            continue  # a root inside another root
        if listing.unreadable:
            walked.closed.append(listing.folder)
        if known is not None and (listing.unreadable or not listing.whole):
            _complete(db, listing, known[0])
        digest = listing.digest()
        if known is not None and known[1] == digest:
            counts.unchanged += known[2]
            walked.seen.add(known[0])
            continue
        if listing.stamp:
            open_zip(listing)
        folder = _begin(catalog, listing, digest, None if known is None else known[0])
        walked.seen.add(folder.folder_id)
        yield from _changed(db, folder, listing, counts, waiting)


def _complete(db: sqlite3.Connection, listing: Listing, folder_id: int) -> None:
    """Add what the ledger has of a folder of which only some files were listed."""
    there = {entry[0] for entry in listing.entries}
    for page in known_pages(db, folder_id):
        for entry, (_, line) in page_content(db, page.page_id):
            name, size, *_ = entry
            if name and name not in there:
                there.add(name)
                listing.entries.append(entry)
                if size == NOT_A_FILE:
                    reason, message = json.loads(line)
                    listing.refused[name] = (reason, message)
    listing.entries.sort()


def _begin(catalog: Catalog, listing: Listing, digest: bytes, folder_id: int | None) -> _Folder:
    files = sum(entry[1] != NOT_A_FILE for entry in listing.entries)
    if folder_id is not None:
        return _Folder(folder_id, digest, files, known_pages(catalog.connection, folder_id))
    with catalog.transaction() as db:
        query = "INSERT INTO ingest_folders(folder, mark, digest, files) VALUES (?, ?, NULL, 0)"
        return _Folder(int(db.execute(query, (listing.folder, listing.mark)).lastrowid or 0), digest, files, [])


def _changed(
    db: sqlite3.Connection, folder: _Folder, listing: Listing, counts: FileCounts, waiting: _Waiting
) -> Iterator[str]:
    """Put the changed pages of one folder into `waiting` and yield the locations that they lack."""
    old = {page.digest: page for page in folder.stale}
    fresh: list[Sequence[Entry]] = []
    for entries in cut(listing.entries):
        if old.pop(entries_digest(entries), None) is None:
            fresh.append(entries)
        else:
            counts.unchanged += sum(entry[1] != NOT_A_FILE for entry in entries)
    folder.stale = list(old.values())
    if not fresh:  # whole pages are gone and no other has changed, or the last call was killed before its last word
        fresh.append([])
    folder.pages = len(fresh)
    if folder.stale:
        folder.names = {entry[0] for entries in fresh for entry in entries}
    for entries in fresh:
        page = Page(folder.folder_id, listing.folder, listing.mark, entries)
        page.lines = {name: refusal_line(*told) for name, told in _refused(listing, entries)}
        if entries and folder.stale:
            lines = known_lines(db, folder.stale, entries)
            counts.unchanged += sum(name not in page.lines for name in lines)
            page.lines = {**lines, **page.lines}
        waiting.append((folder, page))
        yield from (page.location(name) for name in page.missing())


def _refused(listing: Listing, entries: Sequence[Entry]) -> Iterator[tuple[str, tuple[str, str]]]:
    """What walking refused on a page, by name."""
    for name, size, *_ in entries if listing.refused else ():
        if size == NOT_A_FILE:
            yield name, listing.refused[name]


def _filled(results: Iterator[Found], waiting: _Waiting) -> Iterator[tuple[_Folder, Page, int]]:
    """Pages with all lines, in order, and how many of their files were read for that."""
    for found in results:
        while not (names := waiting[0][1].missing()):
            yield *waiting.popleft(), 0
        page = waiting[0][1]
        page.lines[names[0]] = found
        for name in names[1:]:
            page.lines[name] = next(results)
        yield *waiting.popleft(), len(names)
    while waiting:
        yield *waiting.popleft(), 0


def _write(catalog: Catalog, batch: list[tuple[_Folder, Page]], counts: FileCounts) -> None:
    """Write pages in one transaction; the last page of a folder makes it known as unchanged from now on."""
    if not batch:
        return
    with catalog.transaction() as db:
        catalog.forget_conclusion()
        for folder, page in batch:
            if page.entries:
                write_page(db, page)
            folder.pages -= 1
            if folder.pages:  # a folder of which old and new pages are there is never taken for unchanged
                db.execute("UPDATE ingest_folders SET digest = NULL WHERE folder_id = ?", (folder.folder_id,))
            else:
                counts.gone += _gone(db, folder)
                drop_pages(db, folder.stale)
                query = "UPDATE ingest_folders SET digest = ?, files = ? WHERE folder_id = ?"
                db.execute(query, (folder.digest, folder.files, folder.folder_id))
    batch.clear()


def _gone(db: sqlite3.Connection, folder: _Folder) -> int:
    """How many files of the old pages are on no new page."""
    old = {e[0] for page in folder.stale for e, _ in page_content(db, page.page_id) if e[1] != NOT_A_FILE}
    return len(old - folder.names)


def _forget(catalog: Catalog, roots: Sequence[Path], walked: _Walked) -> int:
    """Drop the folders and zips below the roots that this call should have met and did not; how many files they had."""
    closed = tuple(join(folder, os.sep, "x")[:-1] for folder in walked.closed)
    files = 0
    with catalog.transaction() as db:
        for root in map(str, roots):
            prefix = join(root, os.sep, "x")[:-1]
            query = "SELECT folder_id, folder FROM ingest_folders WHERE folder = ? OR substr(folder, 1, ?) = ?"
            below = db.execute(query, (root, len(prefix), prefix))
            gone = [key for key, path in below if key not in walked.seen and not (closed and path.startswith(closed))]
            for folder_id in gone:
                catalog.forget_conclusion()
                pages = known_pages(db, folder_id)
                files += _gone(db, _Folder(folder_id, b"", 0, pages))
                drop_pages(db, pages)
                db.execute("DELETE FROM ingest_folders WHERE folder_id = ?", (folder_id,))
    return files
