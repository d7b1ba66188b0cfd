"""Entity and relation F1 on annotations in RadGraph's form: simple, partial, complete, and the combined one.

"RadGraph F1" is at least four numbers. The package's are F1 of sets, report by report: *simple* compares entities,
*partial* also whether an entity has any relation, *complete* one item for each relation. CXR-Report-Metric's *combined*
is the mean of an entity F1 and a relation F1 of another form; RadCliQ rests on that one. Most papers print partial.
Sources: Jain et al. 2021, arXiv:2106.14463; Delbrouck et al. 2022, arXiv:2210.12186; Yu et al. 2023,
doi:10.1016/j.patter.2023.100802.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evaluation.originals import Original, OriginalMissingError, find_original, load_package, metric_name, offline

Level = Literal["simple", "partial", "complete"]
LEVELS: tuple[Level, ...] = ("simple", "partial", "complete")

_METRIC = "RadGraph-F1"
_INSTALL = 'pip install "medvlm-platform[originals]"'
_MODELS = ("radgraph", "radgraph-xl", "modern-radgraph-xl", "echograph")


@dataclass(frozen=True)
class Entity:
    """Words of a report with a label ("OBS-DP", "Anatomy::definitely present") and relations to other entities.

    A relation is a pair: its name and the other entity's key.
    """

    tokens: str
    label: str
    relations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Graph:
    """The entities of one report by key."""

    entities: dict[str, Entity]

    @classmethod
    def of(cls, annotation: Mapping[str, Any], where: str = "annotation") -> Graph:
        """From {"entities": {"1": {"tokens": …, "label": …, "relations": [["modify", "2"]]}}}, the package's form.

        Raises: ValueError that says where something is missing, or which relation points nowhere.
        """
        given = annotation.get("entities") if isinstance(annotation, Mapping) else None
        if not isinstance(given, Mapping):
            raise ValueError(f'{where} has no mapping "entities", expected the form of the radgraph package')
        entities = {}
        for key, one in given.items():
            if not isinstance(one, Mapping) or not {"tokens", "label", "relations"} <= set(one):
                raise ValueError(f"{where}, entity {key}: expected tokens, label and relations")
            relations = tuple((str(relation), str(target)) for relation, target in one["relations"])
            lost = [target for _, target in relations if target not in given]
            if lost:
                raise ValueError(f"{where}, entity {key}: a relation points to {lost[0]!r}, which is no entity")
            entities[str(key)] = Entity(str(one["tokens"]), str(one["label"]), relations)
        return cls(entities)

    def to_dict(self) -> dict[str, Any]:
        """The package's form, JSON-ready."""
        return {
            "entities": {
                key: {"tokens": e.tokens, "label": e.label, "relations": [list(pair) for pair in e.relations]}
                for key, e in self.entities.items()
            }
        }

    def items(self, level: Level) -> set[tuple[Any, ...]]:
        """What is compared at a level.

        As package 0.1.18: case counts, except in the complete items of entities that have relations; those hold the
        other entity's words and not its label.
        """
        entities = self.entities.values()
        if level == "simple":
            return {(e.tokens, e.label) for e in entities}
        if level == "partial":
            return {(e.tokens, e.label, True) if e.relations else (e.tokens, e.label) for e in entities}
        if level != "complete":
            raise ValueError(f'level is "{level}", expected simple, partial or complete')
        found: set[tuple[Any, ...]] = {(e.tokens, e.label) for e in entities if not e.relations}
        for e in entities:
            found |= {(e.tokens.lower(), e.label, name, self.entities[to].tokens.lower()) for name, to in e.relations}
        return found

    def relations(self) -> set[tuple[Any, ...]]:
        """(tokens, label), (tokens, label), name of each relation, case kept: what CXR-Report-Metric compares."""
        return {
            ((e.tokens, e.label), (self.entities[to].tokens, self.entities[to].label), name)
            for e in self.entities.values()
            for name, to in e.relations
        }


def read_graphs(path: Path) -> dict[str, Graph]:
    """Graphs by report key from a JSON file of the package's or the RadGraph data set's form.

    Raises: ValueError that names the file and what is wrong in it.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise ValueError(f"{path.name} holds a {type(given).__name__}, expected an object with one entry per report")
    return {key: Graph.of(one, f"{path.name}, report {key}") for key, one in given.items()}


def report_f1(pred: Graph, ref: Graph, level: Level) -> float:
    """F1 of the sets of one pair; 0 if either has no entity, also when both have none (as the package)."""
    if not pred.entities or not ref.entities:
        return 0.0
    return set_f1(pred.items(level), ref.items(level))


def combined_f1(pred: Graph, ref: Graph) -> float:
    """Mean of entity F1 and relation F1 as CXR-Report-Metric ("radgraph_combined"): each 0 where a side has none.

    A perfect report without relations therefore scores 0.5.
    """
    return (set_f1(pred.items("simple"), ref.items("simple")) + set_f1(pred.relations(), ref.relations())) / 2


def set_f1(pred: set[tuple[Any, ...]], ref: set[tuple[Any, ...]]) -> float:
    """F1 of two sets; 0 if they share nothing, also when both are empty."""
    both = len(pred & ref)
    return 2 * both / (len(pred) + len(ref)) if both else 0.0


@dataclass(frozen=True)
class RadGraphF1:
    """The mean over reports of each form, and the F1 of each report for resampling. `name` is what to print."""

    name: str
    simple: float
    partial: float
    complete: float
    combined: float
    per_report: dict[str, list[float]]
    n: int
    variant: str


def radgraph_f1(
    pred: Sequence[Graph], ref: Sequence[Graph], by: str | Original, studies: Sequence[Hashable] | None = None
) -> RadGraphF1:
    """All four forms on given graphs.

    by: who annotated. studies (N,): the study of each report; "combined" then takes the best of a study's entity F1 and
    the best of its relation F1, as CXR-Report-Metric does for a study of several images; the others keep every report.
    Raises: ValueError if there are not as many drafts as references.
    """
    if len(pred) != len(ref) or (studies is not None and len(studies) != len(ref)):
        raise ValueError(
            f"there are {len(pred)} drafts, {len(ref)} references and"
            f" {'no' if studies is None else len(studies)} studies, expected as many"
        )
    pairs = list(zip(pred, ref, strict=True))
    per_report = {level: [report_f1(said, true, level) for said, true in pairs] for level in LEVELS}
    scores: dict[str, list[float]] = {str(level): values for level, values in per_report.items()}
    scores["combined"] = (
        [combined_f1(said, true) for said, true in pairs] if studies is None else _best_of_study(pairs, studies)
    )
    how = (
        "F1 of sets report by report, mean; simple, partial, complete of radgraph 0.1.18; combined of CXR-Report-Metric"
    )
    return RadGraphF1(
        metric_name(_METRIC, by, "graphs"),
        _mean(scores["simple"]),
        _mean(scores["partial"]),
        _mean(scores["complete"]),
        _mean(scores["combined"]),
        scores,
        len(pairs),
        how + ("" if studies is None else ", best of a study"),
    )


def _best_of_study(pairs: Sequence[tuple[Graph, Graph]], studies: Sequence[Hashable]) -> list[float]:
    entity: dict[Hashable, float] = {}
    relation: dict[Hashable, float] = {}
    for (said, true), study in zip(pairs, studies, strict=True):
        entity[study] = max(entity.get(study, 0.0), set_f1(said.items("simple"), true.items("simple")))
        relation[study] = max(relation.get(study, 0.0), set_f1(said.relations(), true.relations()))
    return [(entity[study] + relation[study]) / 2 for study in entity]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


class RadGraphAnnotator:
    """Graphs by a RadGraph model itself: the package radgraph with the unpacked model in `weights`/<model>."""

    def __init__(self, weights: Path, model: str = "radgraph-xl") -> None:
        """Raises: OriginalMissingError when the package or the unpacked model is not here; ValueError for the model."""
        if model not in _MODELS:
            raise ValueError(f'there is no RadGraph model "{model}", expected one of {", ".join(_MODELS)}')
        found = find_original(_METRIC, "radgraph", weights / model, ("config.json", "weights.th"), _INSTALL)
        # The model is part of the number: scores by radgraph and by radgraph-xl are not comparable.
        self.original = Original(found.metric, f"{found.package} {model}", found.version, found.weights)
        package = load_package("radgraph")
        with offline():
            try:
                self._model: Any = package.RadGraph(
                    model_type=model, model_cache_dir=str(weights), tokenizer_cache_dir=str(weights), cuda=-1
                )
            except (OSError, KeyError, RuntimeError) as error:
                raise OriginalMissingError(f"radgraph found its weights and did not load: {error!r}") from error

    def graphs(self, texts: Sequence[str]) -> list[Graph]:
        """The graph of each text; an empty text has no entities (the package would annotate the word "None")."""
        asked = [at for at, text in enumerate(texts) if text.strip()]
        with offline():
            answers = self._model([texts[at] for at in asked]) if asked else {}
        lost = [asked[place] for place in range(len(asked)) if str(place) not in answers]
        if lost:
            raise ValueError(f"radgraph gave no annotation for report {lost[0]} of {len(texts)}")
        found = {at: Graph.of(answers[str(place)], f"report {at}") for place, at in enumerate(asked)}
        return [found.get(at, Graph({})) for at in range(len(texts))]
