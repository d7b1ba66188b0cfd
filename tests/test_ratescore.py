"""RaTEScore's arithmetic worked by hand on entities with embeddings, and the package's own scores behind its name."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from evaluation.originals import OriginalMissingError
from evaluation.ratescore import TYPES, Affinity, OriginalRaTE, Typed, one_way, pair_score, rate_score

EQUAL = Affinity.of({f"{a}_{b}".lower(): 1.0 for a in TYPES for b in TYPES}, "all equal", opposed=0.5)


def typed(*entities: tuple[str, list[float]]) -> Typed:
    return Typed(tuple(kind for kind, _ in entities), np.array([vector for _, vector in entities], float))


def test_each_direction_takes_the_most_similar_entity() -> None:
    ref = typed(("DISEASE", [2, 0]), ("ANATOMY", [0, 3]))
    pred = typed(("DISEASE", [1, 0]))

    assert one_way(ref, pred, EQUAL) == pytest.approx((1 + 0) / 2)
    assert one_way(pred, ref, EQUAL) == 1.0
    assert pair_score(pred, ref, EQUAL) == pytest.approx(2 * 0.5 * 1 / 1.5)


def test_weights_are_of_the_pair_of_types_and_have_a_direction() -> None:
    weights = {f"{a}_{b}".lower(): 1.0 for a in TYPES for b in TYPES} | {"disease_anatomy": 3.0, "neg_weight": 0.5}
    affinity = Affinity.of(weights, "by hand")
    ref = typed(("DISEASE", [1, 0]), ("DISEASE", [0, 1]))
    pred = typed(("ANATOMY", [1, 0]), ("DISEASE", [0.6, 0.8]))

    # ref 1 meets the anatomy (cosine 1, weight 3), ref 2 the disease (0.8, weight 1)
    assert one_way(ref, pred, affinity) == pytest.approx((1 * 3 + 0.8 * 1) / 4)
    # from pred: anatomy-disease weighs 1, not 3
    assert one_way(pred, ref, affinity) == pytest.approx((1 + 0.8) / 2)


@pytest.mark.parametrize(
    ("here", "there", "factor"),
    [
        ("DISEASE", "NON-DISEASE", 0.5), ("NON-ABNORMALITY", "DISEASE", 0.5), ("ABNORMALITY", "NON-ABNORMALITY", 0.5),
        ("DISEASE", "ABNORMALITY", 1.0), ("NON-DISEASE", "NON-ABNORMALITY", 1.0), ("ANATOMY", "NON-DISEASE", 1.0),
    ],
)  # fmt: skip
def test_what_one_affirms_and_the_other_denies_is_penalised(here: str, there: str, factor: float) -> None:
    assert one_way(typed((here, [1, 0])), typed((there, [1, 0])), EQUAL) == factor


def test_reports_without_entities_score_half_or_what_the_version_says() -> None:
    nothing, something = Typed((), np.zeros((0, 2))), typed(("DISEASE", [1, 0]))

    found = rate_score([nothing, something, nothing], [nothing, something, something], EQUAL, "somebody")

    assert found.per_report == [0.5, 1.0, 0.5]
    assert found.value == pytest.approx(2 / 3)
    assert found.name == "RaTEScore arithmetic on entities by somebody"
    assert rate_score([nothing], [something], EQUAL, "x", no_entities=0.0).value == 0.0
    assert math.isnan(rate_score([], [], EQUAL, "x").value)
    opposite = typed(("DISEASE", [-1, 0]))
    assert pair_score(something, opposite, EQUAL) == pytest.approx(-1.0)  # cosines may be negative
    none = Affinity.of({f"{a}_{b}".lower(): 0.0 for a in TYPES for b in TYPES}, "zero", opposed=1.0)
    assert pair_score(something, something, none) == 0.0


def test_a_matrix_is_read_from_the_original_s_form(tmp_path: Path) -> None:
    weights = {f"{a}_{b}".lower(): 0.25 for a in TYPES for b in TYPES}
    (tmp_path / "long_weight.json").write_text(json.dumps(weights))

    with pytest.raises(ValueError, match=r'long_weight\.json has no "neg_weight"; give the factor of its version'):
        Affinity.read(tmp_path / "long_weight.json")
    assert Affinity.read(tmp_path / "long_weight.json", opposed=0.36).opposed == 0.36
    (tmp_path / "short.json").write_text(json.dumps({**weights, "neg_weight": 0.9, "disease_anatomy": -1}))
    with pytest.raises(ValueError, match='has -1 at "disease_anatomy", expected a number, 0 or more'):
        Affinity.read(tmp_path / "short.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"list\.json holds a list"):
        Affinity.read(tmp_path / "list.json")


def test_wrong_entities_are_refused() -> None:
    with pytest.raises(ValueError, match="entity type 'ORGAN' is not known, expected one of ABNORMALITY"):
        typed(("ORGAN", [1, 0]))
    with pytest.raises(ValueError, match=r"there are 2 types and vectors of shape \(1, 2\)"):
        Typed(("DISEASE", "ANATOMY"), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="not finite"):
        typed(("DISEASE", [math.nan, 0]))
    with pytest.raises(ValueError, match="there are 1 drafts and 0 references"):
        rate_score([typed(("DISEASE", [1, 0]))], [], EQUAL, "us")


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A package of the interface of RaTEScore 0.6.0, which drops empty texts, and a folder of its models."""

    class RaTEScore:
        def __init__(self, bert_model: str, eval_model: str, use_gpu: bool, affinity_matrix: str) -> None:
            assert Path(bert_model).is_dir()
            assert not use_gpu

        def compute_score(self, candidate_list: list[str], reference_list: list[str]) -> list[float]:
            return [
                float(a == b)
                for a, b in zip(filter(str.strip, candidate_list), filter(str.strip, reference_list), strict=True)
                if "vanishes" not in a
            ]

    module = ModuleType("RaTEScore")
    module.RaTEScore = RaTEScore  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "RaTEScore", module)
    for name in ("ner", "embedding"):
        (tmp_path / name).mkdir()
        for file in ("config.json", "model.safetensors"):
            (tmp_path / name / file).write_bytes(b"{}")
    return tmp_path


def test_the_package_s_scores_stay_with_their_reports(weights: Path) -> None:
    """The package pairs the wrong reports after an empty one; here each score is of its own pair."""
    original = OriginalRaTE(weights)

    found = original.score(["", "edema", "mass", "  "], ["edema", "edema", "nodule", ""])

    assert found.per_report == [0.5, 1.0, 0.0, 0.5]
    assert found.name.startswith("RaTEScore (RaTEScore ")
    assert "matrix long" in found.variant
    with pytest.raises(ValueError, match="RaTEScore gave 0 scores for 1 pairs"):
        original.score(["this vanishes"], ["edema"])
    with pytest.raises(ValueError, match='matrix is "wide", expected long or short'):
        OriginalRaTE(weights, "wide")


def test_missing_models_are_named(weights: Path) -> None:
    (weights / "ner" / "model.safetensors").unlink()
    with pytest.raises(OriginalMissingError, match=r"ner/model\.safetensors not found there"):
        OriginalRaTE(weights)
