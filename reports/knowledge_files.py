"""Knowledge in files of one's own: JSON Lines and folders of Markdown."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from reports.passage import KnowledgeError, KnowledgeSource, Passage


@dataclass(frozen=True)
class JsonLines:
    """Passages in a JSON Lines file: one object per line with `text`, and optionally title, source, url, licence, id.

    Understands the fields of MedQuAD exports too (focus, question, qtype, doc_id). `version` is the sha256 of the file.
    """

    path: Path
    name: str = ""
    licence: str = "not stated"

    def passages(self) -> tuple[Passage, ...]:
        return _read_json_lines(self.path, self.name or self.path.stem, self.licence)

    @property
    def version(self) -> str:
        return _digest([self.path])


@dataclass(frozen=True)
class MarkdownFolder:
    """Passages in a folder of .md files (or one file): one per heading.

    `source`, `url`, `licence`, `version` may stand on top as `key: value` lines between two `---` lines; without a
    version, the sha256 of the file is the version.
    """

    path: Path
    name: str = ""
    licence: str = "not stated"

    def passages(self) -> tuple[Passage, ...]:
        return _read_markdown(self.path, self.name or self.path.name, self.licence)

    @property
    def version(self) -> str:
        return _digest(_markdown_files(self.path))


def open_knowledge(path: Path | str) -> KnowledgeSource:
    """The reader for a path: a folder of Markdown, one .md file, or a .jsonl file.

    Raises: KnowledgeError when the path is missing or neither.
    """
    path = Path(path)
    if path.is_dir() or path.suffix.lower() == ".md":
        return MarkdownFolder(path)
    if path.is_file() and path.suffix.lower() == ".jsonl":
        return JsonLines(path)
    found = f"a file ending in {path.suffix!r}" if path.is_file() else "nothing"
    raise KnowledgeError(
        f"{path}: found {found}, expected a folder of .md files or a .jsonl file with a `text` field per line."
        " Check the path, or convert the knowledge to one of these."
    )


@lru_cache(maxsize=32)
def _read_json_lines(path: Path, name: str, licence: str) -> tuple[Passage, ...]:
    data = _bytes(path)
    version = _digest([path])
    passages = []
    for number, line in enumerate(data.decode("utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            text = str(row["text"]).strip()
        except (ValueError, KeyError, TypeError) as error:
            raise KnowledgeError(
                f"{path}:{number}: {type(error).__name__} {error}; expected one JSON object per line with a `text`"
                " field. Fix or remove the line."
            ) from error
        if text:
            passages.append(_row_passage(row, text, name, licence, version, number))
    return tuple(passages)


def _row_passage(row: dict[str, Any], text: str, name: str, licence: str, version: str, number: int) -> Passage:
    def first(*keys: str) -> str:
        return next((str(row[key]) for key in keys if row.get(key)), "")

    origin = first("source")
    return Passage(
        text=" ".join(text.split()),
        title=first("title", "focus", "name"),
        section=first("section", "question", "qtype"),
        source=f"{name} ({origin})" if origin and origin != name else name,
        url=first("url"),
        version=first("version") or version,
        licence=first("licence", "license") or licence,
        passage_id=f"{name}:{first('passage_id', 'doc_id', 'id') or number}",
    )


@lru_cache(maxsize=32)
def _read_markdown(path: Path, name: str, licence: str) -> tuple[Passage, ...]:
    files = _markdown_files(path)
    root = path.parent if path.is_file() else path
    return tuple(passage for file in files for passage in _sections_of(file, root, name, licence))


def _markdown_files(path: Path) -> list[Path]:
    files = [path] if path.is_file() else sorted(path.rglob("*.md"))
    if not files:
        raise KnowledgeError(f"{path}: found no .md file, expected at least one. Check the path.")
    return files


def _digest(files: Sequence[Path]) -> str:
    """Version of files that carry none: the start of the sha256 of their contents, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(_bytes(file))
    return f"sha256:{digest.hexdigest()[:12]}"


def _sections_of(file: Path, root: Path, name: str, licence: str) -> Iterator[Passage]:
    data = _bytes(file)
    meta, body = _front_matter(data.decode("utf-8-sig"))
    version = meta.get("version") or _digest([file])
    title, section, held = meta.get("title") or file.stem.replace("_", " "), "", list[str]()
    relative = file.relative_to(root).as_posix()
    count = 0
    for line in (*body.splitlines(), "# "):  # the last, empty heading flushes the last section
        heading = re.match(r"(#{1,6})\s*(.*)$", line)
        if heading is None:
            held.append(line)
            continue
        text = " ".join(" ".join(held).split())
        if text:
            count += 1
            origin = meta.get("source") or name
            terms = meta.get("licence") or meta.get("license") or licence
            where = f"{name}:{relative}#{count}"
            yield Passage(text, title, section, origin, meta.get("url", ""), version, terms, where)
        held = []
        if len(heading[1]) == 1 and heading[2]:
            title, section = heading[2], ""
        else:
            section = heading[2]


def _front_matter(text: str) -> tuple[dict[str, str], str]:
    match = re.match(r"---\r?\n(.*?)\r?\n---\r?\n", text, re.DOTALL)
    if match is None:
        return {}, text
    pairs = (line.split(":", 1) for line in match[1].splitlines() if ":" in line)
    return {key.strip().lower(): value.strip().strip("\"'") for key, value in pairs}, text[match.end() :]


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        data.decode("utf-8-sig")
    except OSError as error:
        raise KnowledgeError(f"{path}: {error.strerror or error}; expected a readable file. Check the path.") from error
    except UnicodeDecodeError as error:
        raise KnowledgeError(
            f"{path}: byte {error.start} is not UTF-8; expected UTF-8 text. Convert the file, for example with iconv."
        ) from error
    return data
