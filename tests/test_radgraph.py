"""Entity and relation F1 of graphs: each form worked by hand where it differs from the others."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from evaluation.fact_graph import fact_graph
from evaluation.originals import OriginalMissingError
from evaluation.radgraph import Entity, Graph, RadGraphAnnotator, combined_f1, radgraph_f1, read_graphs, report_f1
from reports.findings import Finding, find


def graph(*entities: tuple[str, str, list[tuple[str, str]]]) -> Graph:
    return Graph({str(at + 1): Entity(words, label, tuple(to)) for at, (words, label, to) in enumerate(entities)})


# "Small left effusion." against "Left effusion. No edema."
SAID = graph(
    ("small", "OBS-DP", [("modify", "3")]),
    ("left", "ANAT-DP", []),
    ("effusion", "OBS-DP", [("located_at", "2")]),
)
TRUE = graph(
    ("left", "ANAT-DP", []),
    ("effusion", "OBS-DP", [("located_at", "1")]),
    ("edema", "OBS-DA", []),
)


def test_each_form_by_hand() -> None:
    # simple: left, effusion of three and three. partial: the same two, effusion with its flag.
    assert report_f1(SAID, TRUE, "simple") == pytest.approx(4 / 6)
    assert report_f1(SAID, TRUE, "partial") == pytest.approx(4 / 6)
    # complete: left; (effusion located at left); not (small modifies effusion), not edema.
    assert report_f1(SAID, TRUE, "complete") == pytest.approx(4 / 6)
    # combined: entities 4/6; relations: 1 shared of 2 and 1.
    assert combined_f1(SAID, TRUE) == pytest.approx((4 / 6 + 2 / 3) / 2)


def test_forms_part_where_a_relation_is_lost_or_another() -> None:
    """The same words, without the relation, and with a relation to another place."""
    bare = graph(("left", "ANAT-DP", []), ("effusion", "OBS-DP", []), ("edema", "OBS-DA", []))
    moved = graph(("left", "ANAT-DP", []), ("effusion", "OBS-DP", [("located_at", "3")]), ("edema", "OBS-DA", []))

    assert [report_f1(bare, TRUE, level) for level in ("simple", "partial", "complete")] == pytest.approx(
        [1.0, 4 / 6, 4 / 6]
    )
    assert [report_f1(moved, TRUE, level) for level in ("simple", "partial", "complete")] == pytest.approx(
        [1.0, 1.0, 4 / 6]
    )
    assert combined_f1(bare, TRUE) == 0.5  # all entities, no relation
    assert combined_f1(bare, bare) == 0.5  # and so for a perfect report without relations


def test_certainty_is_part_of_an_entity_and_sets_forget_repeats() -> None:
    sure, denied = graph(("edema", "OBS-DP", [])), graph(("edema", "OBS-DA", []))
    twice = graph(("edema", "OBS-DP", []), ("edema", "OBS-DP", []))

    assert report_f1(sure, denied, "simple") == 0.0
    assert report_f1(twice, sure, "simple") == 1.0


def test_case_counts_except_in_complete_items_with_relations() -> None:
    def effusion(word: str) -> Graph:
        return graph(("Left", "ANAT-DP", []), (word, "OBS-DP", [("located_at", "1")]))

    assert report_f1(effusion("Effusion"), effusion("effusion"), "simple") == 0.5
    assert report_f1(effusion("Effusion"), effusion("effusion"), "complete") == 1.0
    lower = graph(("left", "ANAT-DP", []), ("effusion", "OBS-DP", [("located_at", "1")]))
    # "Left" alone is compared with its capital, as target without.
    assert report_f1(effusion("effusion"), lower, "complete") == 0.5


def test_a_report_without_entities_scores_zero_also_against_another() -> None:
    empty = Graph({})
    found = radgraph_f1([empty, TRUE, empty], [empty, TRUE, TRUE], "somebody")

    assert found.per_report["partial"] == [0.0, 1.0, 0.0]
    assert found.partial == pytest.approx(1 / 3)
    assert found.n == 3
    assert found.name == "RadGraph-F1 arithmetic on graphs by somebody"
    assert math.isnan(radgraph_f1([], [], "somebody").simple)


def test_the_best_image_of_a_study_counts_in_the_combined_form() -> None:
    bare = graph(("left", "ANAT-DP", []), ("effusion", "OBS-DP", []), ("edema", "OBS-DA", []))
    pairs = [(bare, TRUE), (SAID, TRUE), (TRUE, TRUE)]

    found = radgraph_f1([a for a, _ in pairs], [b for _, b in pairs], "us", studies=["a", "a", "b"])

    # study a: best entity F1 is 1 (first image), best relation F1 2/3 (second); study b: both 1
    assert found.per_report["combined"] == pytest.approx([(1 + 2 / 3) / 2, 1.0])
    assert len(found.per_report["simple"]) == 3
    assert "best of a study" in found.variant


def test_the_package_s_json_is_read_and_written(tmp_path: Path) -> None:
    given = {"0": SAID.to_dict() | {"text": "small left effusion", "data_source": None}, "1": Graph({}).to_dict()}
    (tmp_path / "graphs.json").write_text(json.dumps(given))

    found = read_graphs(tmp_path / "graphs.json")

    assert found == {"0": SAID, "1": Graph({})}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[]", "holds a list, expected an object"),
        ("{", "graphs.json is not JSON"),
        ('{"7": {}}', 'report 7 has no mapping "entities"'),
        ('{"7": 3}', 'report 7 has no mapping "entities"'),
        ('{"7": {"entities": {"1": {"tokens": "a"}}}}', "report 7, entity 1: expected tokens, label and relations"),
        (
            '{"7": {"entities": {"1": {"tokens": "a", "label": "b", "relations": [["modify", "9"]]}}}}',
            "a relation points to '9', which is no entity",
        ),
    ],
)
def test_a_broken_file_says_where(tmp_path: Path, given: str, message: str) -> None:
    (tmp_path / "graphs.json").write_text(given)
    with pytest.raises(ValueError, match=message):
        read_graphs(tmp_path / "graphs.json")


def test_lengths_and_levels_are_checked() -> None:
    with pytest.raises(ValueError, match="there are 1 drafts, 2 references and no studies"):
        radgraph_f1([SAID], [TRUE, TRUE], "us")
    with pytest.raises(ValueError, match='level is "exact", expected simple, partial or complete'):
        report_f1(SAID, TRUE, "exact")  # type: ignore[arg-type]


def test_our_facts_make_a_graph() -> None:
    facts = (
        Finding("pleural effusion", "present", side="left", severity="mild", by="stated"),
        Finding("lung nodule", "uncertain", location="upper lobe", size_mm=6.4, by="stated"),
        Finding("pneumothorax", "absent", by="stated"),
        Finding("consolidation", "absent", by="implied"),
    )
    made = fact_graph(facts)

    assert made.items("simple") == {
        ("pleural effusion", "OBS-DP"), ("left", "ANAT-DP"), ("mild", "OBS-DP"), ("lung nodule", "OBS-U"),
        ("upper lobe", "ANAT-DP"), ("6 mm", "OBS-DP"), ("pneumothorax", "OBS-DA"),
    }  # fmt: skip
    assert ("pleural effusion", "OBS-DP", "located_at", "left") in made.items("complete")
    assert ("6 mm", "OBS-DP", "modify", "lung nodule") in made.items("complete")
    assert len(fact_graph(facts, implied=True).entities) == 8
    assert fact_graph((*facts, *facts)) == made  # said twice is said once
    assert Graph.of(made.to_dict()) == made


def test_a_wrong_side_costs_relations_in_our_graphs() -> None:
    left, right = (fact_graph(find(f"Small {side} pleural effusion. No pneumothorax.")) for side in ("left", "right"))

    assert report_f1(left, left, "complete") == 1.0
    # effusion, mild, pneumothorax are shared; the side is not. complete: pneumothorax and "mild modifies" of four.
    assert report_f1(left, right, "simple") == pytest.approx(6 / 8)
    assert report_f1(left, right, "complete") == pytest.approx(4 / 8)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package of the interface of radgraph 0.1.18 that finds the word "edema"."""

    class RadGraph:
        def __init__(self, model_type: str, model_cache_dir: str, tokenizer_cache_dir: str, cuda: int) -> None:
            assert (Path(model_cache_dir) / model_type / "weights.th").is_file()

        def __call__(self, texts: list[str]) -> dict[str, Any]:
            assert all(texts)
            found = {}
            for at, text in enumerate(texts):
                edema = {"1": {"tokens": "edema", "label": "OBS-DP", "relations": []}} if "edema" in text else {}
                if "lost" not in text:
                    found[str(at)] = {"text": text, "entities": edema}
            return found

    module = ModuleType("radgraph")
    module.RadGraph = RadGraph  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "radgraph", module)
    return module


def test_with_package_and_model_the_number_has_its_name_and_the_model_s(package: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "radgraph-xl"
    folder.mkdir()
    for name in ("config.json", "weights.th"):
        (folder / name).write_bytes(b"{}")
    annotator = RadGraphAnnotator(tmp_path)

    graphs = annotator.graphs(["edema", "", "clear", "edema"])

    assert [len(one.entities) for one in graphs] == [1, 0, 0, 1]
    found = radgraph_f1(graphs, graphs, annotator.original)
    assert found.name.startswith("RadGraph-F1 (radgraph radgraph-xl of unknown version, weights ")
    with pytest.raises(ValueError, match="radgraph gave no annotation for report 1 of 2"):
        annotator.graphs(["", "lost"])


def test_a_missing_model_is_not_downloaded(package: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(OriginalMissingError, match=r"config\.json, weights\.th not found there"):
        RadGraphAnnotator(tmp_path)
    with pytest.raises(ValueError, match='there is no RadGraph model "huge"'):
        RadGraphAnnotator(tmp_path, "huge")
