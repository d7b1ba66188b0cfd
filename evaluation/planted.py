"""A simulated evaluation without a defect, and the same with one planted: what the flags are held against.

No image and no model: patients, labels and scores are drawn, so that the truth of every claim is known. The clean one
is as trying as a real one: patients come more than once, a tube goes with pneumothorax (which the score does not use),
scanners and sites differ in number, reports repeat templates, and calibration and thresholds come from validation
patients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from evaluation.calibration import Calibration, fit_platt
from evaluation.evidence import Evidence
from evaluation.flag_laterality import MirrorScores, SideAnswers
from evaluation.flag_leaks import Sources
from evaluation.labelled import Floats
from evaluation.thresholds import choose_threshold

FINDINGS: Mapping[str, float] = {
    "pleural effusion": 0.25,
    "pneumothorax": 0.15,
    "consolidation": 0.18,
    "atelectasis": 0.2,
    "lung nodule": 0.12,
    "cardiomegaly": 0.22,
    "pulmonary edema": 0.15,
    "rib fracture": 0.12,
}
"""Findings with the share of patients who have them."""
SIGNAL, PATIENT, NOISE = 1.9, 0.5, 0.85
"""Distance of the classes, and spread of scores between and within patients: an AUROC of about 0.91."""
TUBE = "tube"


@dataclass(frozen=True)
class Cohort:
    """Studies of one split. Shapes: scores, labels (N, K); patient (N,) numbers; groups and tube (N,)."""

    scores: Floats
    labels: Floats
    patient: NDArray[np.intp]
    groups: Mapping[str, tuple[str, ...]]
    tube: tuple[bool, ...]
    prefix: str

    @property
    def patients(self) -> list[str]:
        """Keys."""
        return [f"{self.prefix}{number}" for number in self.patient]


def cohort(seed: int, people: int, prefix: str, signal: Callable[[Mapping[str, Any]], Floats] | None = None) -> Cohort:
    """Patients with one to three studies each. `signal` maps groups to a factor (N,) on the distance of the classes."""
    rng = np.random.default_rng([seed, sum(map(ord, prefix))])
    patient = np.repeat(np.arange(people), rng.choice([1, 2, 3], people, p=[0.7, 0.2, 0.1]))
    n, k = len(patient), len(FINDINGS)
    ill = rng.random((people, k)) < np.array(list(FINDINGS.values()))
    labels = (ill[patient] ^ (rng.random((n, k)) < 0.05)).astype(float)
    groups = {
        "sex": rng.choice(["F", "M"], people)[patient],
        "age": rng.choice(["under 40", "40 to 64", "65 and over"], people, p=[0.25, 0.4, 0.35])[patient],
        "site": rng.choice(["A", "B", "C"], people, p=[0.4, 0.35, 0.25])[patient],
        "scanner": rng.choice(["one", "two", "three", "four"], n),
    }
    drained = labels[:, list(FINDINGS).index("pneumothorax")] == 1
    tube = rng.random(n) < np.where(drained, 0.6, 0.2)
    factor = np.ones(n) if signal is None else signal(groups)
    scores = SIGNAL * labels * factor[:, None] + PATIENT * rng.normal(size=(people, k))[patient]
    scores += NOISE * rng.normal(size=(n, k)) - 2.0
    labels[rng.random((n, k)) < 0.03] = np.nan  # some labels are always unknown
    words = {name: tuple(map(str, values)) for name, values in groups.items()}
    return Cohort(scores, labels, patient, words, tuple(map(bool, tube)), prefix)


def clean(seed: int, people: int = 400) -> Evidence:
    """An evaluation without a defect."""
    return evidence_of(cohort(seed, people, "test"), cohort(seed, people, "validation"), seed)


def evidence_of(test: Cohort, validation: Cohort, seed: int) -> Evidence:
    """Everything that can be known of two cohorts, calibrated and called as it should be."""
    rng = np.random.default_rng([seed, 7])
    names = list(FINDINGS)
    calibration = fit_platt(validation.scores, validation.labels, names)
    n = len(test.scores)
    return Evidence(
        names,
        test.scores,
        test.labels,
        test.patients,
        probabilities=calibration.apply(test.scores, names),
        thresholds=thresholds_of(calibration, validation),
        studies=[f"study {row}" for row in range(n)],
        fitted_on={f"validation study {row}" for row in range(len(validation.scores))},
        learned=sources(rng, [f"train{number}" for number in range(900)], "l"),
        measured=sources(rng, test.patients, "m"),
        groups=test.groups,
        markers={TUBE: test.tube, "scanner": test.groups["scanner"], "site": test.groups["site"]},
        controls={
            "swapped": test.scores[rng.permutation(n)],
            "blank": np.broadcast_to(test.scores.mean(0), test.scores.shape),
        },
        sides=side_answers(rng, test.patients),
        mirrored=mirror_scores(rng, test.patients),
    )


def thresholds_of(calibration: Calibration, chosen_on: Cohort) -> dict[str, float]:
    """The best F1 on the probabilities of a cohort."""
    probabilities = calibration.apply(chosen_on.scores, list(FINDINGS))
    return {
        name: choose_threshold(probabilities[:, k], chosen_on.labels[:, k], "f1").value
        for k, name in enumerate(FINDINGS)
    }


def sources(rng: np.random.Generator, patients: list[str], prefix: str) -> Sources:
    """Images of their own; of the reports, a third are one of eight templates."""
    template = [
        f"template {number} " + "the lungs are clear and the heart is normal in size " * 2 for number in range(8)
    ]
    own = [
        f"{prefix} {row} " + "a finding that is described in words of its own here " * 2 for row in range(len(patients))
    ]
    reports = [template[rng.integers(8)] if rng.random() < 1 / 3 else text for text in own]
    return Sources(patients, [f"{prefix}{row:06d}" for row in range(len(patients))], reports)


def side_answers(rng: np.random.Generator, patients: list[str], right: float = 0.9) -> SideAnswers:
    """Sides of one finding of every third study, with a share of right ones."""
    asked = patients[::3]
    true = rng.choice(["left", "right"], len(asked))
    hit = rng.random(len(asked)) < right
    said = np.where(hit, true, np.where(true == "left", "right", "left"))
    return SideAnswers(said.tolist(), true.tolist(), asked)


def mirror_scores(rng: np.random.Generator, patients: list[str], turns: bool = True) -> MirrorScores:
    """Scores of both sides, which the mirror exchanges, or leaves where they are."""
    asked = patients[::3]
    left, right = rng.normal(size=len(asked)), rng.normal(size=len(asked))
    again = [side + 0.1 * rng.normal(size=len(asked)) for side in (left, right)]
    second = again[::-1] if turns else again
    return MirrorScores(left, right, second[0], second[1], asked)


def _test_threshold(seed: int, people: int) -> Evidence:
    test, validation = cohort(seed, people, "test"), cohort(seed, people, "validation")
    calibration = fit_platt(validation.scores, validation.labels, list(FINDINGS))
    return replace(evidence_of(test, validation, seed), thresholds=thresholds_of(calibration, test))


def _rounded_test_threshold(seed: int, people: int) -> Evidence:
    """Chosen on the test and written down with three digits: the fingerprint is gone, the luck is not."""
    found = _test_threshold(seed, people)
    return replace(found, thresholds={name: round(float(value), 3) for name, value in (found.thresholds or {}).items()})  # type: ignore[arg-type]


def _test_calibration(seed: int, people: int) -> Evidence:
    test, validation = cohort(seed, people, "test"), cohort(seed, people, "validation")
    calibration = fit_platt(test.scores, test.labels, list(FINDINGS))
    probabilities = calibration.apply(test.scores, list(FINDINGS))
    base = evidence_of(test, validation, seed)
    return replace(base, probabilities=probabilities, thresholds=thresholds_of(calibration, validation))


def _leaked_patient(seed: int, people: int) -> Evidence:
    found = clean(seed, people)
    learned, measured = found.learned, found.measured
    assert learned is not None
    assert measured is not None
    rows = [row for row, patient in enumerate(measured.patients) if patient == measured.patients[0]]
    return replace(
        found,
        learned=Sources(
            [*learned.patients, *(measured.patients[row] for row in rows)],
            [*learned.images, *(measured.images[row] for row in rows)],
            [*learned.reports, *(measured.reports[row] for row in rows)],
        ),
    )


def _leaked_image(seed: int, people: int) -> Evidence:
    """The patient of a test study stands in training under another key, with one of the same images."""
    found = clean(seed, people)
    learned, measured = found.learned, found.measured
    assert learned is not None
    assert measured is not None
    images = [measured.images[3], *learned.images[1:]]
    return replace(found, learned=replace(learned, images=images))


def _leaked_reports(seed: int, people: int) -> Evidence:
    """A third of the test was copied into training under new keys, the images saved anew."""
    found = clean(seed, people)
    learned, measured = found.learned, found.measured
    assert learned is not None
    assert measured is not None
    texts = list(measured.reports[: len(measured.reports) // 3])
    return replace(found, learned=replace(learned, reports=[*texts, *learned.reports[len(texts) :]]))


def _subgroup_gap(seed: int, people: int) -> Evidence:
    test = cohort(seed, people, "test", lambda groups: np.where(groups["site"] == "C", 0.25, 1.0))
    return evidence_of(test, cohort(seed, people, "validation"), seed)


def _shortcut(seed: int, people: int) -> Evidence:
    """The score of pneumothorax sees the tube, and the lung a little."""
    parts = []
    for part in (cohort(seed, people, "test"), cohort(seed, people, "validation")):
        scores, k = part.scores.copy(), list(FINDINGS).index("pneumothorax")
        scores[:, k] += 2.0 * np.array(part.tube) - 0.6 * SIGNAL * np.nan_to_num(part.labels[:, k])
        parts.append(replace(part, scores=scores))
    return evidence_of(parts[0], parts[1], seed)


def _ignored_image(seed: int, people: int) -> Evidence:
    """Scores of another study's image: what a model gives that does not look."""
    parts = []
    for part in (cohort(seed, people, "test"), cohort(seed, people, "validation")):
        order = np.random.default_rng([seed, 11]).permutation(len(part.scores))
        parts.append(replace(part, scores=part.scores[order]))
    return evidence_of(parts[0], parts[1], seed)


def _flipped(seed: int, people: int) -> Evidence:
    found = clean(seed, people)
    assert found.sides is not None
    other = {"left": "right", "right": "left"}
    return replace(found, sides=replace(found.sides, said=[other[side] for side in found.sides.said]))


def _mirror_ignored(seed: int, people: int) -> Evidence:
    found = clean(seed, people)
    return replace(found, mirrored=mirror_scores(np.random.default_rng(seed), list(found.patients), turns=False))  # type: ignore[arg-type]


def _inverted(seed: int, people: int) -> Evidence:
    """One column with its sign the wrong way round, calibrated on validation studies where it was right."""
    found = clean(seed, people)
    scores, probabilities = np.array(found.scores), np.array(found.probabilities)
    scores[:, 2], probabilities[:, 2] = -scores[:, 2], 1 / (1 + np.exp(logit(probabilities[:, 2])))
    return replace(found, scores=scores, probabilities=probabilities)


def _one_class(seed: int, people: int) -> Evidence:
    found = clean(seed, people)
    labels = np.array(found.labels)
    labels[:, 4] = 0
    return replace(found, labels=labels)


DEFECTS: Mapping[str, tuple[str, Callable[[int, int], Evidence]]] = {
    "thresholds chosen on the test": ("threshold.chosen_on_test", _test_threshold),
    "the same, written with three digits": ("threshold.chosen_on_test", _rounded_test_threshold),
    "calibration fitted on the test": ("calibration.fitted_on_test", _test_calibration),
    "one patient in training and test": ("leak.patient", _leaked_patient),
    "one image in training under another key": ("leak.image", _leaked_image),
    "a third of the reports copied into training": ("leak.report", _leaked_reports),
    "a quarter of the signal at one of three sites": ("subgroup.gap", _subgroup_gap),
    "a score that follows the tube": ("shortcut.used", _shortcut),
    "a model that ignores its image": ("image.ignored", _ignored_image),
    "left and right exchanged": ("laterality.flipped", _flipped),
    "a side that does not turn with the mirror": ("laterality.mirror_ignored", _mirror_ignored),
    "one score with the wrong sign": ("scores.inverted", _inverted),
    "a finding that nobody has": ("labels.one_class", _one_class),
}
"""What is planted -> the flag that it must raise, and the evaluation with it (seed, patients)."""
