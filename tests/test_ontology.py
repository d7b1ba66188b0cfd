"""Ontologies in their own formats: terms, synonyms, parents, definitions; look-up, ancestors, expansion."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.knowledge import KnowledgeError, look_up, open_knowledge
from reports.ontology import Ontology, Term
from reports.ontology_files import read_ontology
from reports.ontology_releases import read_rrf

OBO = r"""format-version: 1.2
data-version: releases/2025-01-31
property_value: http://purl.org/dc/terms/license "CC0 1.0" xsd:string
ontology: toy

[Term]
id: TOY:1
name: lung disease
def: "A disease of the \"lung\"." [url:https\://example.org]

[Term]
id: TOY:2 ! comment
name: pneumonia {source="x"}
synonym: "lung infection" EXACT []
synonym: "pneumonitis" RELATED [x]
is_a: TOY:1 {source="x"} ! lung disease
xref: ICD10CM:J18.9 "note"

[Term]
id: TOY:3
name: lobar pneumonia
is_a: TOY:2
is_a: TOY:99

[Term]
id: TOY:4
name: old lung disease
is_obsolete: true
replaced_by: TOY:1

[Typedef]
id: part_of
name: part of
""".replace(' {source="x"}\nsynonym: "lung', '\nsynonym: "lung')

OWL = """<?xml version="1.0"?>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:owl="http://www.w3.org/2002/07/owl#"
 xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#" xmlns:obo="http://purl.obolibrary.org/obo/"
 xmlns:oio="http://www.geneontology.org/formats/oboInOwl#" xmlns:rid="http://www.radlex.org/RID/"
 xmlns:terms="http://purl.org/dc/terms/">
 <owl:Ontology rdf:about="http://example.org/toy"><owl:versionInfo>4.1</owl:versionInfo>
  <terms:license rdf:resource="https://creativecommons.org/licenses/by/4.0/"/></owl:Ontology>
 <owl:Class rdf:about="http://purl.obolibrary.org/obo/TOY_1"><rdfs:label xml:lang="de">Lungenkrankheit</rdfs:label>
  <rdfs:label xml:lang="en">lung disease</rdfs:label><obo:IAO_0000115>A disease of the lung.</obo:IAO_0000115>
 </owl:Class>
 <owl:Class rdf:about="http://www.radlex.org/RID/RID2"><rid:Preferred_name>pneumonia</rid:Preferred_name>
  <rid:Synonym>lung infection</rid:Synonym><rdfs:subClassOf rdf:resource="http://purl.obolibrary.org/obo/TOY_1"/>
  <rdfs:subClassOf><owl:Restriction><owl:onProperty rdf:resource="http://x#part_of"/></owl:Restriction></rdfs:subClassOf>
  <oio:hasDbXref>ICD10CM:J18.9</oio:hasDbXref></owl:Class>
 <owl:Class rdf:about="http://purl.obolibrary.org/obo/TOY_4"><rdfs:label>old</rdfs:label>
  <owl:deprecated rdf:datatype="http://www.w3.org/2001/XMLSchema#boolean">true</owl:deprecated></owl:Class>
</rdf:RDF>
"""


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_obo(tmp_path: Path) -> None:
    found = read_ontology(written(tmp_path, "toy.obo", OBO))
    assert (found.version, found.licence, len(found)) == ("releases/2025-01-31", "CC0 1.0", 4)
    assert found.find("TOY:1") == Term("TOY:1", "lung disease", definition='A disease of the "lung".')
    assert found.find("Pneumonias") == Term(
        "TOY:2", "pneumonia", ("lung infection", "pneumonitis"), parents=("TOY:1",), xrefs=("ICD10CM:J18.9",)
    )
    old = found.find("old lung-disease")
    assert old is not None
    assert (old.obsolete, old.replaced_by) == (True, ("TOY:1",))
    assert found.problems() == ("1 parents are named and not in the file, such as TOY:99",)


def test_owl(tmp_path: Path) -> None:
    found = read_ontology(written(tmp_path, "toy.owl", OWL))
    assert (found.version, found.licence) == ("4.1", "https://creativecommons.org/licenses/by/4.0/")
    assert found.find("lung disease") == Term("TOY:1", "lung disease", definition="A disease of the lung.")
    assert found.find("lung infection") == Term(
        "RID2", "pneumonia", ("lung infection",), parents=("TOY:1",), xrefs=("ICD10CM:J18.9",)
    )
    assert found.find("Lungenkrankheit") is None
    assert [term.obsolete for term in found.terms] == [False, False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<!DOCTYPE x [<!ENTITY a "b">]><rdf>&a;</rdf>', r"declares XML entities \(EntitiesForbidden\), .* or as OBO"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><rdf/>', r"found no term|declares XML entities"),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><rdf>&a;</rdf>', r"declares XML entities"),
        ("<rdf><unclosed></rdf>", r"line 1 is not XML; expected OWL as RDF/XML"),
        ("@prefix owl: <http://www.w3.org/2002/07/owl#> .", r"line 1 is not XML"),
        ("<rdf/>", r"found no term, expected at least one"),
    ],
)
def test_owl_that_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(KnowledgeError, match=message):
        read_ontology(written(tmp_path, "x.owl", text))


def test_radlex_as_csv(tmp_path: Path) -> None:
    rows = (
        "Class ID,Preferred Label,Synonyms,Definitions,Obsolete,Parents\n"
        "http://www.radlex.org/RID/RID5,effusion,,,false,\n"
        'http://www.radlex.org/RID/RID34539,pleural effusion,"pleural fluid|hydrothorax",'
        '"Fluid, in the pleura.",false,http://www.radlex.org/RID/RID5\n'
        "http://www.radlex.org/RID/RID9,gone,,,true,\n"
    )
    found = read_ontology(written(tmp_path, "radlex.csv", rows), licence="RadLex licence")
    assert found.find("hydrothorax") == Term(
        "RID34539", "pleural effusion", ("pleural fluid", "hydrothorax"), "Fluid, in the pleura.", ("RID5",)
    )
    assert found.licence == "RadLex licence"
    assert found.terms[2].obsolete
    assert found.version.startswith("sha256:")
    (passage,) = open_knowledge(tmp_path / "radlex.csv").passages()
    assert (passage.title, passage.section, passage.passage_id) == ("pleural effusion", "RID34539", "radlex:RID34539")
    assert look_up([open_knowledge(tmp_path / "radlex.csv")], "pleural effusion") == [passage]


SCT = {
    "sct2_Concept_Snapshot_INT_20250101.txt": [
        "id effectiveTime active moduleId definitionStatusId",
        "1 20250101 1 m d",
        "2 20250101 1 m d",
        "3 20250101 0 m d",
    ],
    "sct2_Description_Snapshot-en_INT_20250101.txt": [
        "id effectiveTime active moduleId conceptId languageCode typeId term caseSignificanceId",
        "11 20250101 1 m 1 en 900000000000003001 Lung_disease_(disorder) c",
        "21 20250101 1 m 2 en 900000000000003001 Pneumonia_(disorder) c",
        "22 20250101 1 m 2 en 900000000000013009 Lung_\"infection\" c",
        "23 20250101 1 m 2 en 900000000000013009 Pneumonia c",
        "24 20250101 0 m 2 en 900000000000013009 withdrawn_words c",
        "31 20250101 1 m 3 en 900000000000013009 Old_disease c",
    ],
    "der2_cRefset_LanguageSnapshot-en_INT_20250101.txt": [
        "id effectiveTime active moduleId refsetId referencedComponentId acceptabilityId",
        "a 20250101 1 m r 23 900000000000548007",
        "b 20250101 1 m r 22 900000000000549004",
    ],
    "sct2_TextDefinition_Snapshot-en_INT_20250101.txt": [
        "id effectiveTime active moduleId conceptId languageCode typeId term caseSignificanceId",
        "d 20250101 1 m 2 en 900000000000550004 An_infection_of_the_lung. c",
    ],
    "sct2_Relationship_Snapshot_INT_20250101.txt": [
        "id effectiveTime active moduleId sourceId destinationId relationshipGroup typeId characteristicTypeId"
        " modifierId",
        "x 20250101 1 m 2 1 0 116680003 c m",
        "y 20250101 1 m 2 9 0 363698007 c m",
        "z 20250101 0 m 1 2 0 116680003 c m",
    ],
}  # fmt: skip


def test_snomed_release(tmp_path: Path) -> None:
    folder = tmp_path / "Snapshot" / "Terminology"
    folder.mkdir(parents=True)
    for name, lines in SCT.items():
        written(folder, name, "\r\n".join(line.replace(" ", "\t").replace("_", " ") for line in lines) + "\r\n")
    found = open_knowledge(tmp_path)
    assert isinstance(found, Ontology)
    assert (found.version, found.licence, len(found)) == ("20250101", "SNOMED CT affiliate licence", 3)
    assert found.find("2") == Term("2", "Pneumonia", ('Lung "infection"',), "An infection of the lung.", ("1",))
    assert found.ancestors("2") == ("1",)
    assert found.find("withdrawn words") is None
    assert [term.code for term in found.terms if term.obsolete] == ["3"]


def rrf(*rows: str) -> str:
    return "".join(row + "|\n" for row in rows)


def test_umls_release(tmp_path: Path) -> None:
    def atom(cui: str, words: str, flags: str = "P|PF|Y", sab: str = "MSH", code: str = "D1", lat: str = "ENG") -> str:
        ts, stt, preferred = flags.split("|")
        return f"{cui}|{lat}|{ts}|L|{stt}|S|{preferred}|A||||{sab}|PT|{code}|{words}|0|N|"

    concepts = [
        atom("C1", "Lung Diseases"),
        atom("C2", "Pneumonia", code="D2"),
        atom("C2", "Lung inflammation", "S|VO|N", "SNOMEDCT_US", "233604007"),
        atom("C2", "Neumonía", lat="SPA"),
        atom("C3", "Suppressed").replace("|0|N|", "|0|O|"),
    ]
    written(tmp_path, "MRCONSO.RRF", rrf(*concepts))
    written(tmp_path, "MRREL.RRF", rrf("C2|A|S|PAR|C1|A|S||R||MSH|MSH|||N|", "C1|A|S|CHD|C2|A|S|isa|R||X|X|||N|",
                                       "C1|A|S|RO|C2|A|S||R||X|X|||N|"))  # fmt: skip
    written(tmp_path, "MRDEF.RRF", rrf("C2|A|T||MSH|Infection of the lung.|N|"))
    found = read_ontology(tmp_path)
    assert found.find("lung inflammation") == Term(
        "C2",
        "Pneumonia",
        ("Lung inflammation",),
        "Infection of the lung.",
        ("C1",),
        ("MSH:D2", "SNOMEDCT_US:233604007"),
    )
    assert found.ancestors("C2") == ("C1",)
    assert found.descendants("C1") == ("C2",)
    assert len(found) == 2
    assert read_rrf(tmp_path, "umls", vocabularies=["SNOMEDCT_US"]).terms[0].name == "Lung inflammation"
    written(tmp_path, "MRCONSO.RRF", "C1|ENG|\n")
    with pytest.raises(KnowledgeError, match=r"MRCONSO\.RRF:1: 2 columns, expected the 18 of an RRF release"):
        read_ontology(tmp_path / "MRCONSO.RRF")


def test_a_long_definition_is_read_whatever_limit_others_set(tmp_path: Path) -> None:
    found = read_ontology(written(tmp_path, "a.csv", 'code,name,definition\n1,cyst,"' + "x" * 200_000 + '"\n'))
    assert [len(term.definition) for term in found.terms] == [200_000]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "x,y\n1,2\n", r"found the columns x, y; expected one of codes \(class id, code"),
        ("a.csv", "code,name\n", r"found no term, expected at least one"),
        ("a.csv", "code,name\n" + "x" * (2**20 + 9), r"a\.csv:2: a line of more than 1048576 characters"),
        ("a.json", "[]", r"TypeError; expected an object with `terms`"),
        ("a.json", "{", r"JSONDecodeError; expected an object with `terms`"),
        ("a.obo", "[Term]\nname: x\n", r"a \[Term\] without an id: line \(named 'x'\)"),
        ("a.obo", "nothing\n", r"found no term"),
        ("a.ttl", "x", r"found a file ending in '\.ttl', expected one of \.obo, \.owl"),
    ],
)
def test_what_is_no_ontology_says_so(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(KnowledgeError, match=message):
        read_ontology(written(tmp_path, name, text))


def test_a_wrong_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"code,name\n1,caf\xe9\n")
    with pytest.raises(KnowledgeError, match=r"a\.csv: line \d or later is not UTF-8; expected UTF-8 text"):
        read_ontology(tmp_path / "a.csv")
    with pytest.raises(
        KnowledgeError, match=r"found neither sct2_Description_Snapshot\*\.txt \(SNOMED CT\) nor MRCONSO"
    ):
        read_ontology(tmp_path)
    with pytest.raises(KnowledgeError, match="No such file or directory; expected a readable file"):
        read_ontology(tmp_path / "absent.obo")


CIRCLE = Ontology(
    "circle",
    (
        Term("A", "alpha", ("first",), parents=("C",)),
        Term("B", "beta", ("first", "second"), parents=("A",)),
        Term("C", "gamma", parents=("B",)),
        Term("D", "first", obsolete=True, parents=("A",)),
    ),
)


def test_circles_end_and_living_terms_go_first() -> None:
    assert CIRCLE.ancestors("a") == ("C", "B")
    assert CIRCLE.descendants("A") == ("B", "D", "C")
    assert CIRCLE.is_a("C", "A")
    assert CIRCLE.is_a("A", "A")
    assert not CIRCLE.is_a("A", "D")
    found = CIRCLE.find_all("FIRST")
    assert [term.code for term in found] == ["D", "A", "B"]


def test_expansion_for_a_search() -> None:
    assert CIRCLE.expand("beta") == ("beta", "first", "second")
    assert CIRCLE.expand("unknown words") == ("unknown words",)
    assert CIRCLE.expand("alpha", narrower=True) == ("alpha", "first", "beta", "second", "gamma")


def test_a_code_that_is_not_there() -> None:
    with pytest.raises(KeyError, match=r"X is no code of circle \(4 terms\)"):
        CIRCLE.ancestors("X")


def test_real_ontologies_read(real_data: Path) -> None:
    diseases = read_ontology(real_data / "knowledge" / "disease_ontology_RAD_slim.jsonl")
    copd = diseases.find("COPD")
    assert copd is not None
    assert "ICD10CM:J44.9" in copd.xrefs
    names = [term.name for code in diseases.ancestors(copd.code) if (term := diseases.find(code))]
    assert names[:2] == ["lung disease", "lower respiratory tract disease"]
    phecodes = read_ontology(real_data / "knowledge" / "merlin_phecodes.csv")
    assert phecodes.ancestors("8.51") == ("8.5", "8")
    radlex = read_ontology(real_data / "knowledge" / "radlex_cache_used_by_templates.json")
    effusion = radlex.find("pleural effusion")
    assert effusion is not None
    assert effusion.code == "RID34539"
