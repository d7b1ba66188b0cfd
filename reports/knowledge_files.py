"""Knowledge in files of one's own: folders of documents, single documents, JSON Lines, ontologies."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from pathlib import Path

from reports.document import Place, passages_of
from reports.json_lines import JsonLines, read_json_lines
from reports.manifest import MANIFEST, Manifest, Terms, read_manifest
from reports.passage import NO_LICENCE, KnowledgeError, KnowledgeSource, Passage
from reports.reading import READERS, digest, digest_all, read_documents, stamp_of

MAX_FILES = 10_000
_BESIDE = frozenset(  # files that belong to web pages, and the manifest
    {".css", ".js", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".ico", ".woff", ".woff2", ".ttf", ".map", ".yaml", ".yml"}
)
_ONTOLOGIES = (".obo", ".owl", ".csv", ".json")


@dataclass(frozen=True)
class KnowledgeFolder:
    """Passages of a folder of documents, or of one document: Markdown, text, HTML, PDF and JSON Lines.

    What a folder states in its `knowledge.yaml` stands with each passage (see `reports.manifest`). A file that cannot
    be read costs itself only: `problems()` says why.
    """

    path: Path
    name: str = ""
    licence: str = ""

    def passages(self) -> tuple[Passage, ...]:
        """Raises: KnowledgeError when the folder holds no document that can be read, or its manifest is wrong."""
        return self._read()[0]

    def problems(self) -> tuple[str, ...]:
        """What was not read, left out or guessed, and documents that are expired; one line each."""
        return self._read()[1]

    @property
    def version(self) -> str:
        """The version that the manifest states, else the start of the sha256 of all files."""
        return self._manifest().terms.version or digest_all(tuple((p, stamp_of(p)) for p in self._files()[0]))

    def _manifest(self) -> Manifest:
        return read_manifest(self.path) if self.path.is_dir() else Manifest()

    def _files(self) -> tuple[list[Path], list[str]]:
        return find_documents(self.path) if self.path.is_dir() else ([self.path], [])

    def _read(self) -> tuple[tuple[Passage, ...], tuple[str, ...]]:
        files, strange = self._files()
        if not files:
            raise KnowledgeError(
                f"{self.path}: found no document, expected files ending in {', '.join((*READERS, '.jsonl'))}."
                + "".join(f" Not read: {one}" for one in strange[:3])
            )
        stamps = [*files, *([self.path / MANIFEST] if (self.path / MANIFEST).is_file() else [])]
        return _read_folder(self, tuple((file, stamp_of(file)) for file in stamps), date.today())


def open_knowledge(path: Path | str) -> KnowledgeSource:
    """The source in a path: a folder of documents, one document, a .jsonl file, an ontology or a folder of its tables.

    Raises: KnowledgeError when the path is missing or holds none of these.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if path.is_dir():
        from reports.ontology_releases import is_release

        if is_release(path):
            return _open_ontology(path)
    if path.is_dir() or (path.is_file() and ending in READERS):
        return KnowledgeFolder(path, path.name)
    if path.is_file() and ending == ".jsonl":
        return JsonLines(path, path.stem)
    if path.is_file() and (ending in _ONTOLOGIES or path.name.upper().endswith(".RRF")):
        return _open_ontology(path)
    found = f"a file ending in {path.suffix!r}" if path.is_file() else "nothing"
    raise KnowledgeError(
        f"{path}: found {found}, expected a folder of documents, or a file ending in"
        f" {', '.join((*READERS, '.jsonl', *_ONTOLOGIES))}. Check the path, or convert the knowledge to one of these."
    )


def _open_ontology(path: Path) -> KnowledgeSource:
    from reports.ontology_files import read_ontology

    return read_ontology(path)


def find_documents(folder: Path) -> tuple[list[Path], list[str]]:
    """(documents of a folder in a fixed order, why others are left out). Hidden files and links out of it are no part.

    Raises: KnowledgeError for more than `MAX_FILES` documents.
    """
    found: list[Path] = []
    strange: list[str] = []
    root = folder.resolve()
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(here) / name
            ending = path.suffix.lower()
            if name.startswith(".") or ending in _BESIDE:
                continue
            relative = path.relative_to(folder).as_posix()
            if ending not in READERS and ending != ".jsonl":
                strange.append(f"{relative}: not read, found a file ending in {ending!r}; save it as PDF, HTML or text")
            elif not path.resolve().is_relative_to(root):
                strange.append(f"{relative}: not read, a link that leads out of the folder")
            else:
                found.append(path)
        if len(found) > MAX_FILES:
            raise KnowledgeError(
                f"{folder}: more than {MAX_FILES} documents, expected at most that. Name smaller folders."
            )
    return found, strange


@lru_cache(maxsize=16)
def _read_folder(
    source: KnowledgeFolder, stamps: tuple[tuple[Path, tuple[int, int]], ...], today: date
) -> tuple[tuple[Passage, ...], tuple[str, ...]]:
    """(passages, problems); raises when nothing could be read."""
    manifest, (files, problems) = source._manifest(), source._files()
    root = source.path if source.path.is_dir() else source.path.parent
    name = source.name or source.path.name
    general = manifest.terms.before(Terms(licence=source.licence))
    passages: list[Passage] = []
    known = {file.relative_to(root).as_posix() for file in files}
    problems += [
        f"{file}: named in {MANIFEST} and not in the folder" for file in manifest.documents if file not in known
    ]
    documents = [file for file in files if file.suffix.lower() != ".jsonl"]
    for path, found in read_documents(documents):
        relative = path.relative_to(root).as_posix()
        if isinstance(found, KnowledgeError):
            problems.append(str(found).replace(f"{path}: ", f"{relative}: not read, ", 1))
            continue
        place = Place(name, relative, digest(path, stamp_of(path)))
        made = list(passages_of(found, place, general, manifest.documents.get(relative, Terms()), today))
        passages += made
        problems += [f"{relative}: {note}" for note in found.notes] + _warnings(relative, made)
    for path in (file for file in files if file.suffix.lower() == ".jsonl"):
        relative = path.relative_to(root).as_posix()
        try:
            rows = read_json_lines(path, f"{name}:{relative}", general.licence or NO_LICENCE, stamp_of(path))
        except KnowledgeError as error:
            problems.append(str(error).replace(f"{path}:", f"{relative}: not read,", 1))
            continue
        terms = manifest.documents.get(relative, Terms()).before(general)
        passages += [_under(passage, terms, relative, today) for passage in rows]
    if not passages:
        raise KnowledgeError(f"{source.path}: no document could be read: {'; '.join(problems[:5]) or 'all are empty'}")
    return tuple(passages), tuple(problems)


def _warnings(file: str, passages: list[Passage]) -> list[str]:
    """What a person should know of a document that was read."""
    said = []
    if any("expired" in passage.flags for passage in passages):
        said.append(f"{file}: expired on {passages[0].valid_until}; its passages say so")
    suspect = sum("instructions" in passage.flags for passage in passages)
    if suspect:
        said.append(f"{file}: {suspect} passages read like instructions to a language model; they are only quoted")
    return said


def _under(passage: Passage, terms: Terms, file: str, today: date) -> Passage:
    """A row of JSON Lines with what the folder states of it, where the row is silent."""
    return replace(
        passage,
        file=file,
        publisher=terms.publisher,
        url=passage.url or terms.url,
        version=terms.version if passage.version.startswith("sha256:") and terms.version else passage.version,
        valid_until=terms.valid_until.isoformat() if terms.valid_until else "",
        flags=(("expired", *passage.flags) if terms.expired(today) else passage.flags),
    )
