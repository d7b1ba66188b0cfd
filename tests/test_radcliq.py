"""RadCliQ: a linear model on given coefficients, and the authors' pickles read without running them."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from evaluation.originals import OriginalMissingError
from evaluation.pickled_numbers import Built, PickleReadError, read_pickled
from evaluation.radcliq import (
    Coefficients,
    bleu2_words,
    embedding_cosines,
    original_coefficients,
    radcliq,
    score_table,
)

GIVEN = Coefficients(np.full(4, 2.0), np.full(4, -1.0), np.array([1.0, 0.5, 0.0, -1.0]), 3.0, "v1", "by hand")
GENERATOR = np.random.default_rng(7)
SCORES = GENERATOR.uniform(size=(40, 4))
ERRORS = GENERATOR.uniform(0, 5, 40)


class CompositeMetric:
    """The shape of the authors' v1 object: a scaler, and coefficients with the intercept last."""

    def __init__(self, scaler: object, coefs: np.ndarray) -> None:
        self.scaler = scaler
        self.coefs = coefs


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.marker,)


def test_the_arithmetic_by_hand() -> None:
    found = radcliq([[1.0, 0.5, 0.3, 0.0]], GIVEN, "somebody")

    # scaled: 1, 0, -0.4, -1; weighted: 1 + 0 + 0 + 1; plus 3
    assert found.per_report.tolist() == pytest.approx([5.0])
    assert found.value == pytest.approx(5.0)
    assert found.name == "RadCliQ-v1 arithmetic on scores by somebody"
    assert "lower is better" in found.variant


def test_reports_without_a_score_have_none() -> None:
    found = radcliq([[1.0, 0.5, 0.3, 0.0], [math.nan, 0, 0, 0]], GIVEN, "us")

    assert (found.n, found.value) == (1, pytest.approx(5.0))
    assert math.isnan(radcliq(np.zeros((0, 4)), GIVEN, "us").value)
    with pytest.raises(ValueError, match=r"scores have shape \(4,\), expected \(N, 4\): radgraph_combined, bertscore"):
        radcliq([1.0, 0.5, 0.3, 0.0], GIVEN, "us")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_v0_of_the_original_s_files_is_what_scikit_learn_predicts(tmp_path: Path, protocol: int) -> None:
    scaler = MinMaxScaler().fit(SCORES)
    model = LinearRegression().fit(scaler.transform(SCORES), ERRORS)
    for name, one in (("normalizer.pkl", scaler), ("composite_metric_model.pkl", model)):
        (tmp_path / name).write_bytes(pickle.dumps(one, protocol=protocol))

    found = radcliq(SCORES, original_coefficients(tmp_path, "v0"), "the same scores")

    assert found.per_report == pytest.approx(model.predict(scaler.transform(SCORES)), abs=1e-12)
    assert found.name.startswith("RadCliQ-v0 (CXR-Report-Metric v0, weights ")
    assert found.n == 40


@pytest.mark.parametrize("scaler", [MinMaxScaler(), StandardScaler()])
@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_v1_of_the_original_s_file_has_the_intercept_last(
    tmp_path: Path, scaler: object, shape: tuple[int, ...]
) -> None:
    fitted = scaler.fit(SCORES)  # type: ignore[attr-defined]
    coefficients = np.array([-0.4, -0.2, -0.1, 0.3, 1.5])
    (tmp_path / "radcliq-v1.pkl").write_bytes(pickle.dumps(CompositeMetric(fitted, coefficients.reshape(shape)), 4))

    found = radcliq(SCORES, original_coefficients(tmp_path), "the same scores")

    scaled = np.concatenate([fitted.transform(SCORES), np.ones((40, 1))], axis=1)
    assert found.per_report == pytest.approx(scaled @ coefficients, abs=1e-12)


def test_a_hostile_pickle_starts_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "started"
    (tmp_path / "radcliq-v1.pkl").write_bytes(pickle.dumps(Hostile(marker)))
    pickle.loads(pickle.dumps(Hostile(marker)))
    assert marker.exists()  # unpickling would have run it
    marker.unlink()

    assert isinstance(read_pickled(tmp_path / "radcliq-v1.pkl"), Built)
    with pytest.raises(OriginalMissingError, match="the files of RadCliQ-v1 are not as expected"):
        original_coefficients(tmp_path)
    assert not marker.exists()


def test_plain_values_come_back_as_they_were(tmp_path: Path) -> None:
    given = {
        "a": [1, -2, 3.5, None, True, False, "é", b"x", 1 << 70],
        "b": ((1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ()),
        "c": np.arange(6, dtype=np.float32).reshape(2, 3, order="F"),
        "d": np.float64(2.5),
        "e": np.array([1.5, 2.5], ">f8"),
    }
    for protocol in range(6):
        (tmp_path / "v.pkl").write_bytes(pickle.dumps(given, protocol))
        found = read_pickled(tmp_path / "v.pkl")
        assert found["a"] == given["a"]
        assert found["b"] == given["b"]
        assert found["c"].tolist() == given["c"].tolist()  # type: ignore[union-attr]
        assert found["d"] == 2.5
        assert found["e"].tolist() == [1.5, 2.5]


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x80\x04.", pickle.dumps(list(range(10)))[:-3], b"\x80\x04(t"])
def test_broken_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "radcliq-v1.pkl").write_bytes(data)
    with pytest.raises(OriginalMissingError, match="RadCliQ-v1 are not as expected"):
        original_coefficients(tmp_path)


def test_a_file_that_mentions_itself_again_and_again_takes_no_time(tmp_path: Path) -> None:
    doubled: list[object] = []
    for _ in range(60):  # 2 ** 60 empty lists if each mention were built
        doubled = [doubled, doubled]
    (tmp_path / "doubled.pkl").write_bytes(pickle.dumps(doubled, 4))
    assert len(read_pickled(tmp_path / "doubled.pkl")) == 2

    inside: list[object] = []
    inside.append(inside)
    (tmp_path / "inside.pkl").write_bytes(pickle.dumps(inside, 4))
    with pytest.raises(PickleReadError, match="is no pickle that can be read: RecursionError"):
        read_pickled(tmp_path / "inside.pkl")


def test_files_of_the_wrong_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "radcliq-v1.pkl"
    path.write_bytes(b"\x00" * ((1 << 20) + 1))
    with pytest.raises(PickleReadError, match="has 1048577 bytes, expected at most 1048576"):
        read_pickled(path)
    path.write_bytes(pickle.dumps(np.array(["a", "b"], object)))
    with pytest.raises(PickleReadError, match="numbers"):
        read_pickled(path)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(OriginalMissingError, match="not as expected"):
        original_coefficients(tmp_path)
    with pytest.raises(OriginalMissingError, match=r"normalizer\.pkl, composite_metric_model\.pkl not found"):
        original_coefficients(tmp_path, "v0")
    with pytest.raises(ValueError, match='version is "v2", expected v0 or v1'):
        original_coefficients(tmp_path, "v2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"scale has shape \(3,\), expected 4 numbers"):
        Coefficients(np.ones(3), np.ones(4), np.ones(4), 0.0, "v1", "by hand")
    with pytest.raises(ValueError, match="the intercept is nan"):
        Coefficients(np.ones(4), np.ones(4), np.ones(4), math.nan, "v1", "by hand")


def test_coefficients_are_read_from_json(tmp_path: Path) -> None:
    given = {
        "version": "v0",
        "scale": [1] * 4,
        "shift": [0] * 4,
        "weights": [1, 2, 3, 4],
        "intercept": 1,
        "source": "a paper",
    }
    path = tmp_path / "coefficients.json"
    path.write_text(json.dumps(given))

    assert radcliq([[1, 1, 1, 1]], Coefficients.read(path), "us").value == 11.0
    assert "coefficients a paper" in radcliq([[1, 1, 1, 1]], Coefficients.read(path), "us").variant
    path.write_text(json.dumps(given | {"version": "v7"}))
    with pytest.raises(ValueError, match=r'coefficients\.json is of version "v7", expected v0 or v1'):
        Coefficients.read(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="does not hold scale, shift, weights, intercept, version and source"):
        Coefficients.read(path)


def test_what_goes_into_the_four_scores() -> None:
    assert bleu2_words("No effusion.  Heart Normal.") == ["no", "effusion", ".", "heart", "normal", "."]
    cosines = embedding_cosines([[1, 0], [1, 1], [0, 0]], [[2, 0], [1, 0], [1, 0]])
    assert cosines[:2] == pytest.approx([1.0, math.sqrt(0.5)])
    assert math.isnan(cosines[2])
    assert score_table([[1, 2], [3, 4], [5, 6], [7, 8]]).tolist() == [[1, 3, 5, 7], [2, 4, 6, 8]]
    with pytest.raises(ValueError, match="expected 4 alike"):
        score_table([[1], [2], [3]])
    with pytest.raises(ValueError, match=r"embeddings have shapes \(1, 2\) and \(2, 2\)"):
        embedding_cosines([[1, 0]], [[1, 0], [0, 1]])
