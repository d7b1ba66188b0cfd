"""Damaged and hostile files end in a document or in an error of ours, in bounded time."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from test_knowledge_documents import HTML_PAGE, PDF_PAGES
from test_ontology import OBO, OWL
from written_pdf import page_of, pdf

from reports.document import Document
from reports.document_html import read_html
from reports.document_pdf import read_pdf
from reports.document_text import read_markdown
from reports.knowledge import KnowledgeError, open_knowledge
from reports.ontology_files import read_ontology
from reports.reading import read_documents

Reader = Callable[[bytes, Path], Document]
SEEDS: dict[str, tuple[Reader, bytes]] = {
    "pdf": (read_pdf, pdf(PDF_PAGES, "Guide", [("Nodules", 0), ("Effusions", 3)])),
    "html": (read_html, HTML_PAGE.encode()),
    "md": (read_markdown, b"---\ntitle: a\nvalid_until: 2030-01-01\n---\n# A\ntext\n## B\n```\nx\n```\nC\n===\nend\n"),
}
HERE = Path("x")


def mutated(data: bytes, random_: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled or replaced by what breaks parsers."""
    out = bytearray(data)
    for _ in range(random_.randint(1, 6)):
        at = random_.randrange(len(out) + 1)
        match random_.randrange(5):
            case 0:
                out[at : at + 1] = bytes([random_.randrange(256)])
            case 1:
                del out[at : at + random_.randrange(60)]
            case 2:
                out[at:at] = out[at : at + random_.randrange(200)]
            case 3:
                out[at:at] = random_.choice(
                    [b"\x00", b"<", b">>", b"<<", b"\xff\xfe", b"&#0;", b"[", b"endobj", b"---", b"%"]
                )
            case _:
                out[at : at + 3] = str(random_.choice([-1, 0, 2**31, 10**20])).encode()
    return bytes(out)


@pytest.mark.parametrize("kind", SEEDS)
def test_mutated_documents_are_read_or_refused(kind: str) -> None:
    reader, seed = SEEDS[kind]
    random_ = random.Random(7)
    read = 0
    for _ in range(120):
        try:
            document = reader(mutated(seed, random_), HERE)
        except KnowledgeError:
            continue
        read += 1
        assert all(0 <= p.start <= p.stop <= len(document.text) for p in document.parts)
    assert read > 10  # else nothing beyond the first check was tested


@pytest.mark.parametrize(
    ("name", "seed"), [("x.obo", OBO), ("x.owl", OWL), ("x.csv", "code,name,parents\n1,a,\n2,b,1\n")]
)
def test_mutated_ontologies_are_read_or_refused(name: str, seed: str, tmp_path: Path) -> None:
    random_ = random.Random(8)
    for _ in range(60):
        (tmp_path / name).write_bytes(mutated(seed.encode(), random_))
        try:
            found = read_ontology(tmp_path / name)
        except KnowledgeError:
            continue
        assert all(found.ancestors(term.code) is not None for term in found.terms)


def bomb(size: int) -> bytes:
    """A PDF whose one page is a stream of blanks, packed a thousand times."""
    sound = pdf([page_of(["BOMB"])])
    start = sound.index(b"<< /Length ", sound.index(b"/Contents"))
    stop = sound.index(b"endobj", start)
    packed = zlib.compress(b" " * size, 9)
    stream = b"<< /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream\n" % (len(packed), packed)
    return sound[:start] + stream + sound[stop:]


def test_a_pdf_bomb_costs_itself_only(tmp_path: Path) -> None:
    (tmp_path / "bomb.pdf").write_bytes(bomb(400_000_000))
    (tmp_path / "good.pdf").write_bytes(pdf([page_of(["A page of text that is long enough to be read."])]))
    found = {
        path.name: result for path, result in read_documents(sorted(tmp_path.iterdir()), seconds=20, memory_bytes=2**29)
    }
    assert isinstance(found["bomb.pdf"], KnowledgeError)
    assert isinstance(found["good.pdf"], Document)


def test_pages_that_are_their_own_parent_are_refused(tmp_path: Path) -> None:
    sound = pdf([page_of(["A page of text that is long enough to be read."])])
    circle = sound.replace(b"/Kids [3 0 R]", b"/Kids [2 0 R]")
    (tmp_path / "circle.pdf").write_bytes(circle)
    with pytest.raises(KnowledgeError, match=r"circle\.pdf: not read, "):
        open_knowledge(tmp_path / "circle.pdf").passages()


def test_nested_entities_of_an_ontology_are_never_expanded(tmp_path: Path) -> None:
    levels = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    (tmp_path / "laughs.owl").write_text(f'<!DOCTYPE x [<!ENTITY l0 "ha">{levels}]><rdf>&l9;</rdf>')
    with pytest.raises(KnowledgeError, match="declares XML entities"):
        open_knowledge(tmp_path / "laughs.owl")
