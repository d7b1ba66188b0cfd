"""Ontologies as plain tables: CSV (RadLex, phecodes), JSON and JSON Lines."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports.ontology import Ontology, Term, key
from reports.ontology_files import MAX_LINE_CHARACTERS, lines_of, made
from reports.passage import KnowledgeError

_COLUMNS = {
    "code": ("class id", "code", "id", "phecode", "rid", "concept id", "identifier"),
    "name": ("preferred label", "preferred name", "name", "label", "phecode str", "prefname", "term", "string"),
    "synonyms": ("synonyms", "synonym", "alternative labels"),
    "definition": ("definitions", "definition"),
    "parents": ("parents", "parent", "is a", "parent id", "subclass of"),
    "obsolete": ("obsolete", "deprecated", "is obsolete"),
    "replaced": ("replaced by", "replacedby"),
    "version": ("version",),
}
_JSON_NAMES = ("englishLabel", "prefLabel", "name")
_MAX_JSON_BYTES = 2**28


def read_csv(path: Path, name: str, licence: str = "") -> Ontology:
    """A table with a column of codes and one of names, as BioPortal exports RadLex; lists in cells are split at |.

    Phecodes have no column of parents: there the code tells them (8.51 is a kind of 8.5, which is one of 8).
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_CHARACTERS))  # one limit for the whole process
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(lines_of(file, path), strict=False)
        header = [key(cell) for cell in next(rows, [])]
        places = {what: next((header.index(n) for n in names if n in header), -1) for what, names in _COLUMNS.items()}
        if min(places["code"], places["name"]) < 0:
            raise KnowledgeError(
                f"{path}: found the columns {', '.join(header[:8]) or 'none'}; expected one of codes"
                f" ({', '.join(_COLUMNS['code'])}) and one of names ({', '.join(_COLUMNS['name'])})."
            )
        try:
            terms = [term for row in rows if (term := _csv_term(row, places, header[places["code"]] == "phecode"))]
        except csv.Error as error:
            raise KnowledgeError(f"{path}: line {rows.line_num}: {error}; expected CSV.") from error
    if header[places["code"]] == "phecode":
        terms = _with_phecode_parents(terms)
    return made(path, name, terms, "", licence)


def _csv_term(row: Sequence[str], places: dict[str, int], phecode: bool) -> Term | None:
    def cell(what: str) -> str:
        place = places[what]
        return row[place].strip() if 0 <= place < len(row) else ""

    def listed(what: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in cell(what).split("|") if part.strip())

    code = cell("code") if phecode else _last(cell("code"))
    if not code or not cell("name"):
        return None
    parents = tuple(_last(parent) for parent in listed("parents"))
    obsolete = cell("obsolete").lower() in ("true", "1", "yes")
    return Term(
        code,
        cell("name"),
        listed("synonyms"),
        cell("definition"),
        parents,
        (),
        obsolete,
        tuple(map(_last, listed("replaced"))),
    )


def _last(address: str) -> str:
    return re.split(r"[#/]", address.rstrip("/"))[-1] if "://" in address else address


def _with_phecode_parents(terms: list[Term]) -> list[Term]:
    codes = {term.code for term in terms}

    def parent(code: str) -> tuple[str, ...]:
        while "." in code:
            code = code[:-1].rstrip(".")
            if code in codes:
                return (code,)
        return ()

    return [Term(term.code, term.name, parents=parent(term.code)) for term in terms]


def read_json(path: Path, name: str, licence: str = "") -> Ontology:
    """A JSON object with `terms`: code -> {prefLabel, englishLabel, synonyms, obsolete}, as caches of RadLex."""
    data = path.read_bytes() if path.stat().st_size <= _MAX_JSON_BYTES else None
    if data is None:
        raise KnowledgeError(f"{path}: more than {_MAX_JSON_BYTES // 2**20} MiB, expected at most that.")
    try:
        given: Any = json.loads(data)
        named = {code: term for code, term in given["terms"].items() if any(map(term.get, _JSON_NAMES))}
        terms = [_json_term(code, term) for code, term in named.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise KnowledgeError(
            f"{path}: {type(error).__name__}; expected an object with `terms`, from codes to objects with prefLabel."
        ) from error
    missing = len(given["terms"]) - len(terms)
    notes = (f"{missing} of {len(given['terms'])} codes have no term",) if missing else ()
    return made(path, name, terms, str(given.get("generated") or given.get("version") or ""), licence, notes)


def _json_term(code: str, given: dict[str, Any]) -> Term:
    name = next(str(given[label]) for label in _JSON_NAMES if given.get(label))
    others = [str(given.get("prefLabel") or ""), *map(str, given.get("synonyms") or ())]
    synonyms = tuple(dict.fromkeys(other for other in others if other and other != name))
    definition = str(given.get("definition") or "")
    return Term(code, name, synonyms, definition, obsolete=bool(given.get("obsolete")))


def read_jsonl(path: Path, name: str, licence: str = "") -> Ontology:
    """One term per line: id, name, definition, synonyms, is_a (codes or names), xrefs, as slims of OBO are kept."""
    rows: list[dict[str, Any]] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(lines_of(file, path), 1):
            try:
                if line.strip():
                    row = json.loads(line)
                    rows.append({**row, "id": str(row["id"]), "name": str(row["name"])})
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise KnowledgeError(
                    f"{path}:{number}: {type(error).__name__}; expected an object with `id` and `name`."
                ) from error
    codes = {key(row["name"]): row["id"] for row in rows}
    terms = [
        Term(
            row["id"],
            row["name"],
            tuple(map(str, row.get("synonyms") or ())),
            str(row.get("definition") or ""),
            tuple(codes.get(key(str(parent)), str(parent)) for parent in row.get("is_a") or ()),
            tuple(map(str, row.get("xrefs") or ())),
            bool(row.get("obsolete", False)),
        )
        for row in rows
    ]
    return made(path, name, terms, "", licence)
