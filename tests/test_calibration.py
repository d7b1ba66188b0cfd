"""Calibration makes probabilities honest on new studies, keeps the ranking, and never sees the test split."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from evaluation.calibration import Calibration, fit_platt, fit_temperature, reliability_table
from evaluation.classification import auroc, ece

NAMES = ("edema", "mass")


def overconfident(seed: int, n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are three times too large and shifted by 1, and labels from the true probabilities."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 1.5, (n, 2))
    return 3 * true + 1, (rng.random((n, 2)) < expit(true)).astype(float)


def test_platt_recovers_the_true_scale_and_repairs_new_studies() -> None:
    fitted = fit_platt(*overconfident(1), NAMES)
    logits, labels = overconfident(2)
    probabilities = fitted.apply(logits, NAMES)

    for k, name in enumerate(NAMES):
        assert fitted.scales[name].slope == pytest.approx(1 / 3, abs=0.04)
        assert fitted.scales[name].intercept == pytest.approx(-1 / 3, abs=0.1)
        assert ece(probabilities[:, k], labels[:, k]) < 0.04 < ece(expit(logits[:, k]), labels[:, k])
        assert auroc(probabilities[:, k], labels[:, k]) == pytest.approx(auroc(logits[:, k], labels[:, k]))
    assert fitted.split == "validation"


def test_few_studies_move_the_scale_little() -> None:
    fitted = fit_platt([[5.0], [-5.0]], [[1], [0]], ["edema"])

    assert fitted.scales["edema"].slope == pytest.approx(1.0, abs=0.1)
    assert fitted.scales["edema"].intercept == pytest.approx(0.0, abs=0.01)


def test_an_upside_down_validation_does_not_turn_the_ranking() -> None:
    fitted = fit_platt([[-4.0]] * 50 + [[4.0]] * 50, [[1]] * 50 + [[0]] * 50, ["edema"])

    assert fitted.apply_one(2.0, "edema") > fitted.apply_one(-2.0, "edema")


def test_a_finding_with_one_class_is_left_alone_and_named() -> None:
    fitted = fit_platt([[1.0, 2.0], [2.0, 0.5]], [[0, 1], [0, 0]], NAMES)

    assert fitted.unfitted == ("edema",)
    assert (fitted.scales["edema"].slope, fitted.scales["edema"].intercept) == (1.0, 0.0)
    assert fitted.apply_one(0.7, "edema") == pytest.approx(expit(0.7))


def test_unknown_labels_do_not_count() -> None:
    fitted = fit_platt([[1.0], [-1.0], [9.0]], [[1], [0], [np.nan]], ["edema"])

    assert (fitted.scales["edema"].n, fitted.scales["edema"].positives) == (2, 1)


def test_one_temperature_for_all_findings() -> None:
    logits, labels = overconfident(3)
    fitted = fit_temperature(logits - 1, labels, NAMES)

    assert fitted.scales["edema"].slope == fitted.scales["mass"].slope == pytest.approx(1 / 3, abs=0.03)
    assert fitted.scales["edema"].intercept == 0


def test_json_brings_back_the_same_calibration() -> None:
    fitted = fit_platt(*overconfident(4, 50), NAMES)

    assert Calibration.from_json(fitted.to_json()) == fitted


def test_the_reliability_table_says_what_was_found() -> None:
    (low, high) = reliability_table([0.2, 0.2, 0.2, 0.2, 0.9], [0, 0, 0, 1, 1], bins=2)

    assert (low.said, low.found, low.n) == (pytest.approx(0.2), 0.25, 4)
    assert (high.said, high.found, high.n) == (0.9, 1.0, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_platt([[1.0]], [[1]], ["a"], split="test"), "a scale fitted on test studies flatters the test"),
        (lambda: fit_platt([[1.0]], [[1]], ["a", "b"]), r"must both be \(N, 2\)"),
        (lambda: fit_platt([[1.0]], [[-1]], ["a"]), "values other than 1"),
        (lambda: Calibration.from_json('{"scales": {}}'), "this is not a calibration: 'unfitted'"),
        (
            lambda: Calibration.from_json(
                '{"scales": {"a": {"slope": -1, "intercept": 0, "n": 1, "positives": 1}},'
                ' "unfitted": [], "method": "platt", "split": "validation"}'
            ),
            "slope -1, expected a finite number above 0",
        ),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_an_unknown_finding_is_named() -> None:
    with pytest.raises(KeyError, match="no calibration for"):
        fit_platt([[1.0], [0.0]], [[1], [0]], ["edema"]).apply([[0.1]], ["mass"])
