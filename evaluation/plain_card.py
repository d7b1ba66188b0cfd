"""A score card from plain tables: for people who have reports or scores, and none of our models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from evaluation.bleu import coco_bleu
from evaluation.case_errors import Errors, errors_of, marked, missed_in
from evaluation.chrf import chrf
from evaluation.cider import cider_d
from evaluation.clinical import present, sides
from evaluation.clinical_card import clinical_metrics
from evaluation.evidence import Evidence, Examination, examine
from evaluation.intervals import patient_bootstrap
from evaluation.meteor import nltk_meteor
from evaluation.plain_files import Columns, Paired, read_pair
from evaluation.population import population
from evaluation.predictions import StudyPrediction, numbered
from evaluation.ptb import PTB
from evaluation.rouge import coco_rouge_l, rouge_l_f1
from evaluation.score_metrics import Labelled, calibration_metrics, call_metrics, precision_metrics, ranking_metrics
from evaluation.scorecard import Case, FindingScores, Metric, ScoreCard
from evaluation.subgroups import draft_subgroup_metrics, subgroup_metrics
from evaluation.text_pairs import TextScore, TokenPairs
from evaluation.tokenization import ROUGE_STEMS
from reports.findings import Finding, find

BY = "our rule labeller"
CASES = 6
RESAMPLES = 200
Progress = Callable[[Iterable[str], str], Iterable[str]]


def _silently(texts: Iterable[str], what: str) -> Iterable[str]:
    return texts


def score_files(
    references: Path,
    predictions: Path,
    columns: Columns,
    shared: bool = False,
    progress: Progress = _silently,
    sentences: bool = True,
) -> ScoreCard:
    """Measure predictions against references: text metrics and findings of reports, ranking and calls of scores.

    `sentences` False leaves the worst cases, which quote reports, off the card.

    Raises: ValueError as read_pair.
    """
    paired = read_pair(references, predictions, columns, shared)
    data = f"{predictions.name} against {references.name}"
    notes = [
        "Findings of reports are what our rule labeller reads in them, on both sides: it is no radiologist.",
        "Text metrics compare words. A report can share most words with the reference and say the opposite.",
    ] if paired.references else []  # fmt: skip
    if paired.references and sentences:
        notes.append("This page quotes reports: keep it as confidential as they are, or make it with --no-pictures.")
    if not columns.patient:
        notes.append("No patient is named, so each study counts as a patient of its own; intervals may be too narrow.")
    if any(paired.left_out):
        only, extra = paired.left_out
        notes.append(f"Left out: {only} studies without a prediction and {extra} predictions without a reference.")
    metrics: list[Metric] = []
    scores: list[FindingScores] = []
    seen = Examination(())
    if paired.names:
        metrics, scores, seen = _scored(paired, data)
        notes.append(f"Labels of -1 (uncertain) count as {columns.uncertain}.")
    facts: tuple[list[list[Finding]], list[list[Finding]]] = ([], [])
    values: dict[str, np.ndarray] = {}
    if paired.references:
        told, values = text_metrics(paired.generated, paired.references, paired.patients, data)
        true, said = facts = _facts(paired, progress)
        metrics += told + clinical_metrics("draft", said, true, paired.patients, data, BY, texts=paired.generated)
        if not paired.names:
            metrics += _draft_groups(paired, said, true, data)
    return ScoreCard(
        title=f"Score card of {predictions.stem}",
        data=data,
        simulated=False,
        metrics=tuple(metrics),
        notes=tuple(notes),
        made_by={"predictions": predictions.name, "references": references.name},
        scores=tuple(scores),
        population=population(paired.patients, paired.groups, paired.labels, paired.names),
        flags=seen.flags,
        checks=seen.checks,
        cases=tuple(_cases(paired, facts)) if sentences else (),
        predictions=tuple(_rows(paired, facts, values, _probabilities(paired))),
    )


def _scored(paired: Paired, data: str) -> tuple[list[Metric], list[FindingScores], Examination]:
    truth = Labelled(paired.names, paired.labels, paired.patients, data)
    metrics = ranking_metrics("classification.auroc", paired.scores, truth, "the scores as given")
    metrics += precision_metrics("classification.average_precision", paired.scores, truth)
    p = _probabilities(paired)
    scores = []
    if p is not None:
        metrics += calibration_metrics("classification", p, truth, "the probabilities as given")
        metrics += call_metrics("classification", p >= 0.5, truth, "present from 0.5 on, not a chosen threshold")
        scores = [FindingScores(name, p[:, k], paired.labels[:, k]) for k, name in enumerate(paired.names)]
    metrics += subgroup_metrics(paired.scores, paired.labels, paired.names, paired.groups, paired.patients, data)
    seen = examine(
        Evidence(
            names=paired.names,
            scores=paired.scores,
            labels=paired.labels,
            patients=paired.patients,
            probabilities=p,
            groups=dict(paired.groups) or None,
        )
    )
    return metrics, scores, seen


def _probabilities(paired: Paired) -> np.ndarray | None:
    """The scores, if all of them could be probabilities."""
    inside = paired.scores.size and paired.scores.min() >= 0 and paired.scores.max() <= 1
    return paired.scores if inside else None


def text_metrics(
    generated: Sequence[str], references: Sequence[str], patients: Sequence[str], data: str
) -> tuple[list[Metric], dict[str, np.ndarray]]:
    """`text.FAMILY.METRIC` with an interval over patients, and the values of each text (N,) where the metric is a mean.

    Raises: ValueError, TypeError as TokenPairs.
    """
    words, stems = TokenPairs(generated, references, PTB), TokenPairs(generated, references, ROUGE_STEMS)
    found: list[TextScore] = [*coco_bleu(words), coco_rouge_l(words), rouge_l_f1(stems), nltk_meteor(words)]
    found += [cider_d(words), chrf(generated, references)]
    metrics = []
    for score in found:
        bounds = patient_bootstrap(score.over, patients, n=RESAMPLES)
        metrics.append(Metric.of(f"text.{score.name}", bounds, score.variant, data))
    means = {f"text.{score.name}": score.items for score in found if abs(score.items.mean() - score.value) < 1e-9}
    return metrics, means


def _draft_groups(
    paired: Paired, said: Sequence[Sequence[Finding]], true: Sequence[Sequence[Finding]], data: str
) -> list[Metric]:
    pairs = [(present(a), present(b)) for a, b in zip(said, true, strict=True)]
    both, drafted, reference = ([len(a & b) for a, b in pairs], [len(a) for a, _ in pairs], [len(b) for _, b in pairs])
    return draft_subgroup_metrics(both, drafted, reference, paired.groups, paired.patients, data)


def _facts(paired: Paired, progress: Progress) -> tuple[list[list[Finding]], list[list[Finding]]]:
    """Facts of the references and of the generated reports."""
    true = [list(find(text)) for text in progress(paired.references, "read references")]
    said = [list(find(text)) for text in progress(paired.generated, "read predictions")]
    return true, said


def _cases(paired: Paired, facts: tuple[list[list[Finding]], list[list[Finding]]]) -> list[Case]:
    true, said = facts
    names = {fact.name for rows in facts for row in rows for fact in row if fact.status == "present"}
    wrong = [errors_of(sides(a), sides(b), names) for a, b in zip(said, true, strict=True)]
    worst = sorted(range(len(wrong)), key=lambda row: (-wrong[row].count, row))[:CASES]
    return [_case(paired, row, wrong[row]) for row in worst if wrong[row].count]


def _case(paired: Paired, row: int, wrong: Errors) -> Case:
    reference = missed_in(paired.references[row], wrong)
    drafted = marked(paired.generated[row], wrong)
    return Case(paired.studies[row], None, wrong.missed, wrong.invented, wrong.wrong_side, drafted, reference)


def _rows(
    paired: Paired,
    facts: tuple[list[list[Finding]], list[list[Finding]]],
    values: dict[str, np.ndarray],
    p: np.ndarray | None,
) -> list[StudyPrediction]:
    true, said = facts
    rows = []
    for row, (study, patient) in enumerate(zip(paired.studies, numbered(paired.patients), strict=True)):
        own = dict(zip(paired.names, paired.scores[row].tolist(), strict=True))
        rows.append(
            StudyPrediction(
                study=study,
                patient=patient,
                labels=dict(zip(paired.names, paired.labels[row].tolist(), strict=True)),
                scores=own,
                probabilities=own if p is not None else {},
                called={name: value >= 0.5 for name, value in own.items()} if p is not None else {},
                reference=_sides(true[row]) if true else None,
                drafted=_sides(said[row]) if said else None,
                draft=paired.generated[row] if said else None,
                values={name: float(one[row]) for name, one in values.items()},
                groups={name: told[row] for name, told in paired.groups.items() if told[row]},
            )
        )
    return rows


def _sides(facts: Sequence[Finding]) -> dict[str, list[str]]:
    found = sides(facts)
    return {name: sorted(found.get(name, ())) for name in sorted(present(facts))}
