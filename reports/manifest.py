"""`knowledge.yaml`: what a folder of documents states about itself, so that its citations can be checked."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from reports.passage import KnowledgeError

MANIFEST = "knowledge.yaml"
_MAX_BYTES = 2**20


@dataclass(frozen=True)
class Terms:
    """What is stated about a source or a document; empty where nothing is."""

    title: str = ""
    version: str = ""
    licence: str = ""
    publisher: str = ""
    url: str = ""
    source: str = ""
    valid_until: date | None = None

    def before(self, other: Terms) -> Terms:
        """These terms, with those of `other` where these are silent."""
        return replace(other, **{f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name)})

    def expired(self, today: date) -> bool:
        return self.valid_until is not None and self.valid_until < today


@dataclass(frozen=True)
class Manifest:
    """Terms of a folder, and of documents in it that have their own, by path within the folder."""

    terms: Terms = field(default_factory=Terms)
    documents: dict[str, Terms] = field(default_factory=dict)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder; an empty one where it has none.

    Raises: KnowledgeError on YAML that cannot be read, keys that do not exist, and dates that are none.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return Manifest()
    given = _mapping(_load(path), path, "")
    documents = _mapping(given.pop("documents", {}), path, "documents")
    own = {str(file): read_terms(terms, path, f"documents: {file}") for file, terms in documents.items()}
    return Manifest(read_terms(given, path, ""), own)


def read_terms(given: Any, path: Path, where: str) -> Terms:
    """Terms from a mapping; keys in any case, `license` read as `licence`. Raises: KnowledgeError naming the key."""
    terms: dict[str, Any] = {}
    known = [f.name for f in fields(Terms)]
    for key, value in _mapping(given, path, where).items():
        name = {"license": "licence"}.get(str(key).lower(), str(key).lower())
        if name not in known:
            raise KnowledgeError(
                f"{path}: {_at(where)}found the key {str(key)[:60]!r}, expected one of {', '.join(known)}."
                " Correct or remove it."
            )
        if value is None:
            continue
        if not isinstance(value, str | int | float | date):
            raise KnowledgeError(
                f"{path}: {_at(where)}{name} holds a {type(value).__name__}, expected a text or a date."
            )
        terms[name] = (
            read_date(str(value), path, where) if name == "valid_until" else " ".join(str(value).split())[:500]
        )
    return Terms(**terms)


def read_date(text: str, path: Path, where: str) -> date:
    """An ISO date. Raises: KnowledgeError."""
    try:
        return date.fromisoformat(text.strip()[:10])
    except ValueError:
        raise KnowledgeError(
            f"{path}: {_at(where)}valid_until is {text[:40]!r}, expected a date such as 2027-01-31. Correct it."
        ) from None


def _at(where: str) -> str:
    return f"under {where}, " if where else ""


def _mapping(value: Any, path: Path, where: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        found = "nothing" if value is None else f"a {type(value).__name__}"
        raise KnowledgeError(f"{path}: {_at(where)}found {found}, expected lines of the form `key: value`.")
    return dict(value)


def _load(path: Path) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KnowledgeError(f"{path}: {error.strerror or error}; expected a readable file.") from error
    if len(data) > _MAX_BYTES:
        raise KnowledgeError(f"{path}: {len(data)} bytes, expected a manifest of at most {_MAX_BYTES}.")
    try:
        # anchors are the bricks of YAML bombs, and a manifest needs none
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(data, Loader=yaml.SafeLoader)):
            raise KnowledgeError(f"{path}: found a YAML alias (*name), expected plain values. Write the value out.")
        return yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, KnowledgeError):
            raise
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = "" if line is None else f" in line {line + 1}"
        problem = getattr(error, "problem", None) or type(error).__name__
        raise KnowledgeError(f"{path}: not YAML{at}: {problem}; expected lines of the form `key: value`.") from error
