"""Releases of SNOMED CT (RF2 snapshot) and of the UMLS (RRF).

Both need a licence and are never shipped: these readers are for hospitals that hold one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from reports.ontology import Ontology, Term
from reports.ontology_files import lines_of, made
from reports.passage import KnowledgeError

FSN, SYNONYM = "900000000000003001", "900000000000013009"
IS_A, PREFERRED = "116680003", "900000000000548007"


def is_release(folder: Path) -> bool:
    """Whether a folder holds tables of SNOMED CT (RF2) or of the UMLS (RRF)."""
    return bool(_rf2(folder, "Description")) or (folder / "MRCONSO.RRF").is_file()


def read_release(folder: Path, name: str, licence: str = "") -> Ontology:
    """An RF2 snapshot or an RRF folder. Raises: KnowledgeError when it is neither."""
    if (folder / "MRCONSO.RRF").is_file():
        return read_rrf(folder, name, licence)
    if _rf2(folder, "Description"):
        return read_rf2(folder, name, licence)
    raise KnowledgeError(
        f"{folder}: found neither sct2_Description_Snapshot*.txt (SNOMED CT) nor MRCONSO.RRF (UMLS), expected one."
        " Name the folder of the release."
    )


def _rf2(folder: Path, table: str) -> list[Path]:
    prefix = "der2_cRefset_" if table == "Language" else "sct2_"
    pattern = f"*{prefix}{table}*Snapshot*.txt"
    return sorted(
        {*folder.glob(pattern), *folder.glob(f"Snapshot/**/{pattern}"), *folder.glob(f"Terminology/{pattern}")}
    )


def _table(paths: Sequence[Path], columns: Sequence[str]) -> Iterator[list[str]]:
    """The named columns of active rows of RF2 tables: tabs between cells, and no quoting."""
    for path in paths:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            rows = lines_of(file, path)
            header = next(rows, "").split("\t")
            absent = [column for column in (*columns, "active") if column not in header]
            if absent:
                raise KnowledgeError(f"{path}: found no column {absent[0]}, expected a table of an RF2 release.")
            places, active = [header.index(column) for column in columns], header.index("active")
            for row in rows:
                cells = row.split("\t")
                if len(cells) == len(header) and cells[active] == "1":
                    yield [cells[place] for place in places]


def read_rf2(folder: Path, name: str, licence: str = "", language: str = "en") -> Ontology:
    """Active concepts of a SNOMED CT snapshot: descriptions, definitions, is-a relationships.

    The name is the preferred synonym of the first language reference set, else the fully specified name without its
    semantic tag; concepts that the concept table calls inactive are obsolete.
    """
    descriptions = [p for p in _rf2(folder, "Description") if f"-{language}" in p.name or "-" not in p.name]
    full, names, synonyms = _rf2_names(descriptions, _rf2(folder, "Language"))
    definitions = {row[0]: row[1] for row in _table(_rf2(folder, "TextDefinition"), ("conceptId", "term"))}
    parents: dict[str, list[str]] = {}
    for child, parent, kind in _table(_rf2(folder, "Relationship"), ("sourceId", "destinationId", "typeId")):
        if kind == IS_A:
            parents.setdefault(child, []).append(parent)
    living = {row[0] for row in _table(_rf2(folder, "Concept"), ("id",))}
    terms = []
    for concept in dict.fromkeys((*full, *synonyms)):
        plain = re.sub(r" \([^()]+\)$", "", full.get(concept, ""))
        said = names.get(concept) or plain or synonyms[concept][0]
        others = dict.fromkeys(word for word in (*synonyms.get(concept, ()), plain) if word and word != said)
        above = tuple(dict.fromkeys(parents.get(concept, ())))
        gone = bool(living) and concept not in living
        terms.append(Term(concept, said, tuple(others), definitions.get(concept, ""), above, obsolete=gone))
    dated = re.search(r"_(\d{8})\.txt$", descriptions[0].name) if descriptions else None
    return made(folder, name, terms, dated[1] if dated else "", licence or "SNOMED CT affiliate licence")


def _rf2_names(
    descriptions: Sequence[Path], languages: Sequence[Path]
) -> tuple[dict[str, str], dict[str, str], dict[str, list[str]]]:
    """(fully specified names, preferred synonyms, all synonyms) by concept."""
    columns = ("referencedComponentId", "acceptabilityId")
    preferred = {row[0] for row in _table(languages, columns) if row[1] == PREFERRED}
    full: dict[str, str] = {}
    names: dict[str, str] = {}
    synonyms: dict[str, list[str]] = {}
    for identifier, concept, kind, words in _table(descriptions, ("id", "conceptId", "typeId", "term")):
        if kind == FSN:
            full[concept] = words
        elif kind == SYNONYM:
            synonyms.setdefault(concept, []).append(words)
            if identifier in preferred:
                names.setdefault(concept, words)
    return full, names, synonyms


def read_rrf(
    folder: Path, name: str, licence: str = "", vocabularies: Sequence[str] = (), language: str = "ENG"
) -> Ontology:
    """Concepts of the UMLS: MRCONSO.RRF, and MRREL.RRF and MRDEF.RRF where they are. Suppressed rows are left out.

    `vocabularies` (SAB, such as SNOMEDCT_US) keeps memory small; all of them when empty. Codes are CUIs, `xrefs` the
    codes in the vocabularies. Columns: UMLS Reference Manual, chapter 3.
    """
    names: dict[str, str] = {}
    synonyms: dict[str, dict[str, None]] = {}
    xrefs: dict[str, dict[str, None]] = {}
    for row in _rrf(folder / "MRCONSO.RRF", 18):
        cui, lat, ts, stt, preferred, sab, code, words, suppressed = (row[i] for i in (0, 1, 2, 4, 6, 11, 13, 14, 16))
        if lat != language or suppressed not in ("N", "") or (vocabularies and sab not in vocabularies):
            continue
        synonyms.setdefault(cui, {})[words] = None
        xrefs.setdefault(cui, {})[f"{sab}:{code}"] = None
        if (ts, stt, preferred) == ("P", "PF", "Y"):
            names.setdefault(cui, words)
    parents, definitions = _rrf_parents(folder, vocabularies), _rrf_definitions(folder, vocabularies)
    terms = []
    for cui, said in synonyms.items():
        name_of = names.get(cui) or next(iter(said))
        others = tuple(word for word in said if word != name_of)
        known = tuple(parent for parent in parents.get(cui, ()) if parent in synonyms)
        terms.append(Term(cui, name_of, others, definitions.get(cui, ""), known, tuple(xrefs[cui])))
    return made(folder, name, terms, "", licence or "UMLS Metathesaurus licence")


def _rrf_parents(folder: Path, vocabularies: Sequence[str]) -> dict[str, dict[str, None]]:
    parents: dict[str, dict[str, None]] = {}
    for row in _rrf(folder / "MRREL.RRF", 16):
        first, rel, second, rela, sab, suppressed = (row[i] for i in (0, 3, 4, 7, 10, 14))
        if suppressed not in ("N", "") or (vocabularies and sab not in vocabularies) or first == second:
            continue
        # REL says what the second concept is to the first
        if rel == "PAR" and rela in ("", "inverse_isa"):
            parents.setdefault(first, {})[second] = None
        elif rel == "CHD" and rela in ("", "isa"):
            parents.setdefault(second, {})[first] = None
    return parents


def _rrf_definitions(folder: Path, vocabularies: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for row in _rrf(folder / "MRDEF.RRF", 8):
        if row[6] in ("N", "") and (not vocabularies or row[4] in vocabularies):
            found.setdefault(row[0], row[5])
    return found


def _rrf(path: Path, columns: int) -> Iterator[list[str]]:
    """Rows of an RRF table, each cell closed by a bar; none where the table is absent."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(lines_of(file, path), 1):
            cells = line.split("|")
            if len(cells) not in (columns, columns + 1):
                raise KnowledgeError(
                    f"{path}:{number}: {len(cells) - 1} columns, expected the {columns} of an RRF release."
                )
            yield cells
