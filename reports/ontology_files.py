"""Ontologies in the formats of their community: OBO (1.2, 1.4) and OWL as RDF/XML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from reports.ontology import Ontology, Term, dangling
from reports.passage import NO_LICENCE, KnowledgeError
from reports.reading import digest, stamp_of

MAX_ONTOLOGY_BYTES = 2**31
MAX_LINE_CHARACTERS = 2**20
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_NO_TERMS = "found no term, expected at least one. Check that the file is complete and of the format its name says."


def read_ontology(path: Path | str, name: str = "", licence: str = "") -> Ontology:
    """The ontology in a file (.obo, .owl, .csv, .json, .jsonl, .RRF) or in a folder of SNOMED RF2 or UMLS RRF tables.

    `licence` is used where the file states none. Raises: KnowledgeError.
    """
    from reports import ontology_releases, ontology_tables

    path = Path(path)
    name = name or path.name.removesuffix(path.suffix)
    ending = path.suffix.lower()
    if path.is_dir() or ending == ".rrf":
        return ontology_releases.read_release(path if path.is_dir() else path.parent, name, licence)
    readers = {
        ".obo": read_obo,
        ".owl": read_owl,
        ".csv": ontology_tables.read_csv,
        ".json": ontology_tables.read_json,
        ".jsonl": ontology_tables.read_jsonl,
    }
    if ending not in readers:
        raise KnowledgeError(
            f"{path}: found a file ending in {ending!r}, expected one of {', '.join(readers)} or a folder of RF2 or RRF"
            " tables."
        )
    try:
        size = path.stat().st_size
    except OSError as error:
        raise KnowledgeError(f"{path}: {error.strerror or error}; expected a readable file. Check the path.") from error
    if size > MAX_ONTOLOGY_BYTES:
        raise KnowledgeError(f"{path}: {size} bytes, expected at most {MAX_ONTOLOGY_BYTES}.")
    return readers[ending](path, name, licence)


def made(
    path: Path, name: str, terms: Iterable[Term], version: str, licence: str, notes: tuple[str, ...] = ()
) -> Ontology:
    """The ontology of some terms; its version the digest of the file where none is stated."""
    held = tuple(terms)
    if not held:
        raise KnowledgeError(f"{path}: {_NO_TERMS}")
    if not version and path.is_file():
        version = digest(path, stamp_of(path))
    return Ontology(name, held, version, licence or NO_LICENCE, (*notes, *dangling(held)))


def lines_of(file: IO[str], path: Path) -> Iterator[str]:
    """Lines without their ends, none longer than a MiB. Raises: KnowledgeError for these and for no UTF-8."""
    number = 0
    try:
        while line := file.readline(MAX_LINE_CHARACTERS + 1):
            number += 1
            if len(line) > MAX_LINE_CHARACTERS:
                raise KnowledgeError(
                    f"{path}:{number}: a line of more than {MAX_LINE_CHARACTERS} characters; it is no table."
                )
            yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise KnowledgeError(
            f"{path}: line {number + 1} or later is not UTF-8; expected UTF-8 text. Convert it."
        ) from error


def read_obo(path: Path, name: str, licence: str = "") -> Ontology:
    """The [Term] stanzas of an OBO file (format 1.2 and 1.4, owlcollab.github.io/oboformat)."""
    header: dict[str, list[str]] = {}
    terms: list[Term] = []
    with path.open(encoding="utf-8-sig") as file:
        stanza, tags = "", header
        for line in [*lines_of(file, path), "[End]"]:
            if line.startswith("["):
                if stanza == "[Term]":
                    terms.append(_obo_term(tags, path))
                stanza, tags = line.strip(), {}
            elif ":" in line and not line.startswith("!"):
                tag, value = line.split(":", 1)
                tags.setdefault(tag.strip(), []).append(value.strip())
    stated = next((m[1] for v in header.get("property_value", []) if "license" in v and (m := _QUOTED.search(v))), "")
    stated = stated or next((v.split()[1] for v in header.get("property_value", []) if "license" in v and " " in v), "")
    version = " ".join(header.get("data-version", [])[:1])
    return made(path, name, terms, version, stated or licence)


def _obo_term(tags: dict[str, list[str]], path: Path) -> Term:
    if not tags.get("id"):
        raise KnowledgeError(f"{path}: a [Term] without an id: line (named {tags.get('name', ['nothing'])[0][:60]!r}).")

    def bare(tag: str) -> tuple[str, ...]:
        # "ID {modifiers} ! comment": only the first word is the value
        return tuple(value.split()[0] for value in tags.get(tag, []) if value.split())

    def quoted(tag: str) -> tuple[str, ...]:
        return tuple(_unescaped(match[1]) for value in tags.get(tag, []) if (match := _QUOTED.match(value)))

    code = tags["id"][0].split(" ")[0]
    name = _unescaped(re.sub(r"\s+!\s.*$", "", tags.get("name", [code])[0]))
    return Term(
        code=code,
        name=name,
        synonyms=quoted("synonym"),
        definition=next(iter(quoted("def")), ""),
        parents=bare("is_a"),
        xrefs=bare("xref"),
        obsolete=any(value.startswith("true") for value in tags.get("is_obsolete", [])),
        replaced_by=bare("replaced_by"),
    )


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t", "W": " "}.get(m[1], m[1]), text)


_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_OWL = "{http://www.w3.org/2002/07/owl#}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_SYNONYMS = (
    "hasExactSynonym",
    "hasRelatedSynonym",
    "hasBroadSynonym",
    "hasNarrowSynonym",
    "altLabel",
    "Synonym",
    "synonym",
)
_DEFINITIONS = ("IAO_0000115", "definition", "Definition")
_NAMES = ("Preferred_name", "prefLabel", "label")


def read_owl(path: Path, name: str, licence: str = "") -> Ontology:
    """The named classes of an OWL file in RDF/XML, with OBO, SKOS and RadLex annotations; English where tagged.

    Raises: KnowledgeError for other serialisations, for broken XML, and for entities, which are never expanded.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException, ElementTree

    terms: list[Term] = []
    stated: dict[str, str] = {}
    depth, root = 0, None
    try:
        for event, element in ElementTree.iterparse(path, events=("start", "end")):
            if event == "start":
                root = element if root is None else root
                depth += 1
                continue
            depth -= 1
            if depth != 1:
                continue
            if element.tag == f"{_OWL}Class" and (term := _owl_term(element)):
                terms.append(term)
            elif element.tag == f"{_OWL}Ontology":
                stated = {
                    _local(child.tag): (child.text or child.get(f"{_RDF}resource") or "").strip() for child in element
                }
            if root is not None:
                root.clear()  # a class that was read takes no memory
    except DefusedXmlException as error:
        raise KnowledgeError(
            f"{path}: declares XML entities ({type(error).__name__}), which are not expanded; expected RDF/XML without."
            " Save it again without entities, or as OBO."
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        at = getattr(error, "position", ("?",))[0]
        raise KnowledgeError(
            f"{path}: line {at} is not XML; expected OWL as RDF/XML. Convert it, or save it as OBO."
        ) from error
    version = stated.get("versionInfo") or stated.get("versionIRI", "")
    return made(path, name, terms, version, stated.get("license") or stated.get("rights") or licence)


def _owl_term(element: Any) -> Term | None:
    """A class with an address; None for the nameless ones that restrictions make."""
    about = element.get(f"{_RDF}about") or element.get(f"{_RDF}ID")
    if not about:
        return None
    said: dict[str, list[str]] = {}
    parents = []
    for child in element:
        tag = _local(child.tag)
        target = child.get(f"{_RDF}resource")
        if tag == "subClassOf" and target:
            parents.append(_code(target))
        elif child.get(_LANGUAGE, "en").startswith("en"):
            text = " ".join("".join(child.itertext()).split()) or _code(target or "")
            if text:
                said.setdefault(tag, []).append(text)

    def first(*tags: str) -> str:
        return next((said[tag][0] for tag in tags if said.get(tag)), "")

    name = first(*_NAMES) or _code(about)
    other = [text for tag in (*_SYNONYMS, *_NAMES) for text in said.get(tag, []) if text != name]
    return Term(
        code=first("id") or _code(about),
        name=name,
        synonyms=tuple(dict.fromkeys(other)),
        definition=first(*_DEFINITIONS),
        parents=tuple(parents),
        xrefs=tuple(said.get("hasDbXref", [])),
        obsolete=first("deprecated").lower() in ("true", "1"),
        replaced_by=tuple(said.get("IAO_0100001", [])),
    )


def _local(tag: str) -> str:
    return re.split(r"[}#/]", tag)[-1]


def _code(address: str) -> str:
    """The code in an address: ".../obo/DOID_1532" is DOID:1532, ".../RID/RID5350" is RID5350."""
    last = re.split(r"[#/]", address.rstrip("/"))[-1]
    return re.sub(r"^([A-Za-z]+)_(\w+)$", r"\1:\2", last)
