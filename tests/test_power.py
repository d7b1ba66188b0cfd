"""How many patients, how small a difference: formulas by hand and simulations that agree with them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.classification import auroc
from evaluation.intervals import clustered_error
from evaluation.power import (
    auroc_error,
    design_effect,
    intraclass_correlation,
    minimal_detectable_difference,
    normal_power,
    patients_for_noninferiority,
    patients_for_width,
    patients_to_detect,
    rows_for_mcnemar,
    simulated_detectable_difference,
    simulated_power,
)


def test_the_detectable_difference_is_about_2_8_errors() -> None:
    assert minimal_detectable_difference(0.1) == pytest.approx(0.28016, abs=1e-5)
    assert normal_power(minimal_detectable_difference(0.1, power=0.9), 0.1) == pytest.approx(0.9)
    assert normal_power(0.0, 0.1) == pytest.approx(0.05)
    assert normal_power(-0.3, 0.1) == pytest.approx(normal_power(0.3, 0.1))
    assert math.isnan(minimal_detectable_difference(math.nan))


def test_patients_follow_the_square() -> None:
    assert patients_to_detect(0.28016, 0.1, 100) == pytest.approx(100, abs=1)
    assert patients_to_detect(0.14008, 0.1, 100) == pytest.approx(400, abs=1)
    assert patients_for_width(0.05, 0.1, 100) == math.ceil(100 * (1.959964 * 2) ** 2)
    assert patients_for_noninferiority(0.1, 0.05, 100) == math.ceil(100 * ((1.959964 + 0.841621) / 2) ** 2)
    assert patients_for_noninferiority(0.1, 0.05, 100, true_difference=0.1) < 60
    assert rows_for_mcnemar(0.2, 0.1) == 155  # Connor's worked formula: (1.96 sqrt .2 + .8416 sqrt .19)^2 / .01


def test_the_auroc_formula_agrees_with_simulation() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0.0, 1.0], [60, 30])
    drawn = [auroc(rng.exponential(1 + 2.0 * labels), labels) for _ in range(1500)]

    assert auroc_error(0.75, 30, 60) == pytest.approx(np.std(drawn), rel=0.1)  # exponential scores: an AUROC of 3 / 4
    assert auroc_error(1.0, 5, 5) == 0.0


def test_correlation_and_design_effect_explain_the_clustered_error() -> None:
    rng = np.random.default_rng(1)
    who = np.repeat(np.arange(2000), rng.integers(1, 8, 2000))
    values = rng.normal(0, math.sqrt(0.4), 2000)[who] + rng.normal(0, math.sqrt(0.6), who.size)
    correlation = intraclass_correlation(values, who.tolist())

    assert correlation == pytest.approx(0.4, abs=0.05)
    naive = values.std(ddof=1) / math.sqrt(values.size)
    expected = naive * math.sqrt(design_effect(who.tolist(), correlation))
    assert clustered_error(values, who) == pytest.approx(expected, rel=0.06)
    assert design_effect(list("aabb"), 0.5) == 1.5
    assert design_effect(list("abcd"), 0.5) == 1.0


def test_simulated_power_agrees_with_the_formula() -> None:
    rng = np.random.default_rng(2)
    who = np.repeat(np.arange(150), 4)
    pilot = (rng.normal(size=150)[who] + rng.normal(size=600)) * 0.2
    error = clustered_error(pilot - pilot.mean(), who)
    found = simulated_detectable_difference(pilot, who.tolist())

    assert found.difference == pytest.approx(minimal_detectable_difference(error), rel=0.08)
    assert simulated_power(pilot, who.tolist(), found.difference) == pytest.approx(0.8, abs=0.01)
    assert simulated_power(pilot, who.tolist(), 0.0) == pytest.approx(0.05, abs=0.02)
    double = simulated_detectable_difference(pilot, who.tolist(), patients=600)
    assert double.difference == pytest.approx(found.difference / 2, rel=0.08)
    assert double.patients == 600


def test_too_little_is_nan_and_nonsense_refused() -> None:
    assert math.isnan(simulated_power([0.1], ["a"], 0.2))
    assert math.isnan(simulated_detectable_difference([0.1, 0.1], ["a", "b"]).difference)
    assert math.isnan(intraclass_correlation([1.0, 2.0], ["a", "b"]))
    assert math.isnan(intraclass_correlation([1.0, 1.0, 1.0], ["a", "a", "b"]))
    with pytest.raises(ValueError, match="expected 0 < alpha < power < 1 and an error above 0"):
        minimal_detectable_difference(0.0)
    with pytest.raises(ValueError, match=r"is 0\.0, expected above 0; no n is enough"):
        patients_for_noninferiority(0.1, 0.05, 100, true_difference=-0.1)
    with pytest.raises(ValueError, match="difference is 0 and patients 10"):
        patients_to_detect(0, 0.1, 10)
    with pytest.raises(ValueError, match=r"discordant 0\.1, expected 0 <"):
        rows_for_mcnemar(0.1, 0.2)
    with pytest.raises(ValueError, match=r"expected \[0, 1\] and at least 1 each"):
        auroc_error(0.8, 0, 10)
    with pytest.raises(ValueError, match="half_width is 0"):
        patients_for_width(0, 0.1, 10)
    with pytest.raises(ValueError, match="there are 0 rows"):
        design_effect([], 0.1)
    with pytest.raises(ValueError, match=r"pilot has shape \(0,\)"):
        simulated_power([], [], 0.1)
