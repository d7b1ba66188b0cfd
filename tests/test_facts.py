from __future__ import annotations

import pytest

from reports.facts import graphs, sentence_graph
from reports.findings import find


@pytest.mark.parametrize(
    ("sentence", "triples"),
    [
        (
            "A 6 mm nodule in the right upper lobe is unchanged.",
            {
                ("6 mm", "modify", "nodule"),
                ("nodule", "located_at", "right upper lobe"),
                ("unchanged", "modify", "nodule"),
            },
        ),
        (
            "Left lower lobe consolidation may represent pneumonia.",
            {("consolidation", "located_at", "left lower lobe"), ("consolidation", "suggestive_of", "pneumonia")},
        ),
        (
            "Small right effusion and a large left pneumothorax.",
            {
                ("small", "modify", "effusion"),
                ("effusion", "located_at", "right"),
                ("large", "modify", "pneumothorax"),
                ("pneumothorax", "located_at", "left"),
            },
        ),
        ("No pneumothorax or effusion.", set()),
        ("Nodule of 11 mm, previously 8 mm.", {("11 mm", "modify", "nodule")}),
    ],
)
def test_relations_tie_each_word_to_its_own_observation(sentence: str, triples: set[tuple[str, str, str]]) -> None:
    assert set(sentence_graph(sentence).triples()) == triples


def test_observations_have_the_status_and_names_of_the_findings() -> None:
    text = "No pneumothorax. Possible left effusion. Bibasilar atelectasis or consolidation. History of emphysema."
    read = [
        (entity.name, entity.kind)
        for graph in graphs(text)
        for entity in graph.entities
        if entity.name and "obs" in entity.kind
    ]
    assert read == [(finding.name, f"observation {finding.status}") for finding in find(text)]
    assert len(read) == 4


def test_entities_are_places_in_the_sentence() -> None:
    graph = sentence_graph("Displaced fracture of the left sixth rib, new.")
    assert [graph.sentence[one.start : one.stop] for one in graph.entities] == [one.words for one in graph.entities]
    assert {one.name for one in graph.entities if one.kind == "anatomy"} == {"sixth rib"}
    assert ("displaced", "modify", graph.entities[0].words) in graph.triples()


def test_questions_and_sections_that_state_nothing_have_no_graph() -> None:
    assert graphs("INDICATION: Pneumothorax?\nFINDINGS: The trachea is midline.") == ()
    assert sentence_graph("").entities == ()
