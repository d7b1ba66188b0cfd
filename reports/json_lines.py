"""Passages in JSON Lines: one object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from reports.document import clean, cut, plain
from reports.injection import looks_like_instructions
from reports.passage import NO_LICENCE, KnowledgeError, Passage
from reports.reading import digest, stamp_of

MAX_JSONL_BYTES = 2**30
MAX_LINE_BYTES = 2**23
"""Longest line of a JSON Lines file, 8 MiB."""


@dataclass(frozen=True)
class JsonLines:
    """Passages in a JSON Lines file: one object per line with `text` (or `definition`), and optionally title, section,
    source, url, version, licence, id.

    Understands the fields of MedQuAD exports too (focus, question, qtype, doc_id). `version` is the sha256 of the file.
    """

    path: Path
    name: str = ""
    licence: str = NO_LICENCE

    def passages(self) -> tuple[Passage, ...]:
        """Raises: KnowledgeError naming the line."""
        return read_json_lines(self.path, self.name or self.path.stem, self.licence, stamp_of(self.path))

    @property
    def version(self) -> str:
        return digest(self.path, stamp_of(self.path))

    def problems(self) -> tuple[str, ...]:
        """How many passages carry a flag."""
        suspect = sum("instructions" in passage.flags for passage in self.passages())
        return (f"{suspect} passages read like instructions to a language model; they are only quoted",) * bool(suspect)


@lru_cache(maxsize=32)
def read_json_lines(path: Path, name: str, licence: str, stamp: tuple[int, int]) -> tuple[Passage, ...]:
    """The passages of a file, kept while its `stamp` stays. Raises: KnowledgeError naming the line."""
    version = digest(path, stamp)
    passages: list[Passage] = []
    for number, line in enumerate(_json_rows(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig"))
            if not isinstance(row, dict):
                raise TypeError(f"found a {type(row).__name__}")
            text = str(row["text"] if "text" in row else row.get("definition") or row["text"]).strip()
        except UnicodeDecodeError as error:
            raise KnowledgeError(
                f"{path}:{number}: byte {error.start} of the line is not UTF-8; expected UTF-8 text. Convert the"
                " file, for example with iconv."
            ) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if isinstance(error, KeyError) and "definition" in row:
                continue  # a term without a definition says nothing that can be cited
            raise KnowledgeError(
                f"{path}:{number}: {type(error).__name__} {str(error)[:100]}; expected one JSON object per line with a"
                " `text` field. Fix or remove the line."
            ) from error
        passages += _row_passages(row, text, name, licence, version, number)
    return tuple(passages)


def _json_rows(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if file.tell() > MAX_JSONL_BYTES:
                    raise KnowledgeError(f"{path}: more than {MAX_JSONL_BYTES // 2**20} MiB, expected at most that.")
                if len(line) > MAX_LINE_BYTES:
                    raise KnowledgeError(
                        f"{path}:{number}: a line of more than {MAX_LINE_BYTES // 2**20} MiB, expected one JSON object"
                        " per line. The file may be no JSON Lines."
                    )
                yield line
    except OSError as error:
        raise KnowledgeError(f"{path}: {error.strerror or error}; expected a readable file. Check the path.") from error


def _row_passages(
    row: dict[str, Any], text: str, name: str, licence: str, version: str, number: int
) -> Iterator[Passage]:
    """A row as one passage, or as several with #2, #3 … after its id when it is longer than a passage may be."""

    def first(*keys: str) -> str:
        return plain(next((str(row[key]) for key in keys if row.get(key)), ""), 500)

    origin = first("source")
    text = clean(text)[0]
    where = f"{name}:{first('passage_id', 'doc_id', 'id') or number}"
    for count, (start, stop) in enumerate(cut(text, 0, len(text)), 1):
        piece = text[start:stop]
        yield Passage(
            text=" ".join(piece.split()),
            title=first("title", "focus", "name"),
            section=first("section", "question", "qtype"),
            source=f"{name} ({origin})" if origin and origin != name else name,
            url=first("url"),
            version=first("version") or version,
            licence=first("licence", "license") or licence,
            passage_id=where if count == 1 else f"{where}#{count}",
            span=(start, stop),
            flags=("instructions",) if looks_like_instructions(piece) else (),
        )
