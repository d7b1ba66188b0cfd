"""Knowledge is cited with its version, and an irrelevant question gets no passage."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from reports.findings import LEXICON, Finding
from reports.knowledge import Glossary, JsonLines, KnowledgeError, KnowledgeFolder, look_up, open_knowledge

PHANTOM = (
    "cardiomegaly", "pleural effusion", "pneumothorax", "consolidation", "atelectasis", "lung nodule", "lung mass",
    "pulmonary edema", "rib fracture", "endotracheal tube", "central venous catheter", "emphysema",
)  # fmt: skip


def test_the_glossary_explains_every_simulated_finding_first() -> None:
    for name in PHANTOM:
        assert name in LEXICON
        first = look_up([Glossary()], Finding(name, "present"), k=1)[0]
        assert first.title == name
        assert first.version == Glossary().version
        assert first.licence == "Apache-2.0"
        assert len(first.text) > 100


def test_glossary_ids_are_unique_and_synonyms_lead_to_their_entry() -> None:
    passages = Glossary().passages()
    assert len({passage.passage_id for passage in passages}) == len(passages) >= 27
    entry = Glossary().concept("Kerley-B lines")
    assert entry is not None
    assert entry.title == "interlobular septal thickening"
    assert Glossary().concept("nonsense") is None


@pytest.mark.parametrize(
    "question", ["best pizza in Naples", "who won the football cup", "the of and", "consolidation of bank debts", ""]
)
def test_a_question_beside_the_point_gets_nothing(question: str) -> None:
    assert look_up([Glossary()], question) == []


def test_a_question_in_words_finds_its_entry() -> None:
    (first, *_) = look_up([Glossary()], "what does the cardiothoracic ratio tell?")
    assert first.title == "cardiomegaly"
    assert look_up([Glossary()], "nodules in the lung", k=1)[0].title == "lung nodule"


def test_json_lines_keep_source_and_version(tmp_path: Path) -> None:
    rows = [
        {"doc_id": "d1", "source": "NIH", "url": "https://x", "focus": "Sarcoidosis", "question": "What is it?",
         "text": "Sarcoidosis makes granulomas.\n  They may scar the lung."},
        {"text": "Tea is a drink.", "title": "Tea"},
    ]  # fmt: skip
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    (found,) = look_up([open_knowledge(path), Glossary()], "sarcoidosis", k=1)
    assert found.text == "Sarcoidosis makes granulomas. They may scar the lung."
    assert found.passage_id == "facts:d1"
    assert found.source == "facts (NIH)"
    assert found.version == JsonLines(path).version == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert found.licence == "licence not stated"
    assert found.span == (0, len(rows[0]["text"]))
    assert found.citation() == f"Sarcoidosis, What is it?, facts (NIH), version {found.version}"


def test_markdown_is_cut_at_its_headings(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "chest.md").write_text(
        "---\nsource: House rules\nlicence: CC0\nversion: 3\n---\n# Drains\nIntro text.\n\n## Removal\nClamp first.\n"
    )
    intro, removal = KnowledgeFolder(tmp_path, "rules").passages()
    assert (intro.title, intro.section, intro.text) == ("Drains", "", "Intro text.")
    assert (removal.title, removal.section, removal.text) == ("Drains", "Removal", "Clamp first.")
    assert (removal.source, removal.licence, removal.version) == ("House rules", "CC0", "3")
    assert removal.passage_id == "rules:sub/chest.md#2"
    assert look_up([KnowledgeFolder(tmp_path, "rules")], "removal of drains") == [removal]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            b'{"text": "fine"}\n{"no": 1}\n',
            r"a\.jsonl:2: KeyError 'text'; expected one JSON object per line",
        ),
        ("a.jsonl", b'{"text": "\xff"}\n', r"a\.jsonl:1: byte 10 of the line is not UTF-8; expected UTF-8 text"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl:1: TypeError .*; expected one JSON object per line"),
        ("a.jsonl", b"[" * 200_000 + b"\n", r"a\.jsonl:1: RecursionError .*; expected one JSON object per line"),
    ],
)
def test_a_damaged_file_names_its_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KnowledgeError, match=message):
        JsonLines(tmp_path / name).passages()


def test_a_path_that_holds_no_knowledge_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"x")
    with pytest.raises(
        KnowledgeError, match=r"found a file ending in '\.docx', expected a folder of documents, or a file"
    ):
        open_knowledge(tmp_path / "a.docx")
    with pytest.raises(KnowledgeError, match=r"found nothing, expected a folder of documents"):
        open_knowledge(tmp_path / "absent")
    with pytest.raises(
        KnowledgeError,
        match=r"found no document, .* Not read: a\.docx: not read, found a file ending in '\.docx'; save it as PDF",
    ):
        open_knowledge(tmp_path).passages()


def test_a_long_row_becomes_passages_with_ids_of_their_own(tmp_path: Path) -> None:
    text = " ".join(f"Sentence number {i} says a thing." for i in range(120))
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "long", "title": "T", "text": text}))
    passages = JsonLines(tmp_path / "a.jsonl").passages()
    assert [p.passage_id for p in passages] == ["a:long", "a:long#2", "a:long#3"]
    assert " ".join(p.text for p in passages) == text


def test_halves_of_characters_and_hidden_ones_do_not_pass(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(r'{"id": "\ud800x", "title": "T\u202e\u0000", "text": "A \udfffsmall\u200b note."}')
    (passage,) = JsonLines(path).passages()
    assert (passage.passage_id, passage.title, passage.text) == ("a:x", "T", "A small note.")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "The first wording."}))
    before = JsonLines(path).passages()[0]
    path.write_text(json.dumps({"text": "The second wording, longer."}))
    after = JsonLines(path).passages()[0]
    assert (after.text, before.passage_id) == ("The second wording, longer.", after.passage_id)
    assert after.version != before.version


def test_a_section_heading_makes_a_passage_be_about_its_words(tmp_path: Path) -> None:
    body = "Wait for as long as the house allows, and write down what was seen on that day. " * 8
    (tmp_path / "guide.md").write_text(f"---\ntitle: House rules\n---\n# Bronchiectasis\n{body}\n# Coffee\n{body}")
    (first, *others) = look_up([open_knowledge(tmp_path)], "bronchiectasis")
    assert (first.section, others) == ("Bronchiectasis", [])


def test_asking_for_no_passage_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="k is 0, expected at least 1 passage"):
        look_up([Glossary()], "pneumothorax", k=0)


def test_real_passages_answer_medical_questions_only(real_data: Path) -> None:
    sources = [Glossary(), JsonLines(real_data / "knowledge" / "medquad_imaging_related.jsonl", "MedQuAD", "CC BY 4.0")]
    assert look_up(sources, "glioma", k=1)[0].source.startswith("MedQuAD")
    assert [p.title for p in look_up(sources, "pneumonia", k=2)] == ["pneumonia", "Pneumonia"]
    for question in (
        "how much does a car cost",
        "capital of France",
        "python list comprehension",
        "stock market crash",
    ):
        assert look_up(sources, question) == []
