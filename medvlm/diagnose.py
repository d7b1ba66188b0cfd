"""Zero-shot diagnosis: prompt pairs for the answer, descriptors for the reason, calibration for the number."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch

from medvlm.encoders import ImageTokens
from medvlm.ground import Grounding, locate
from medvlm.model import Look, Model, load_model
from reports.grammar import DESCRIPTORS, PromptPair, prompts
from volumes.study import Reading, Series, Study, read_study
from volumes.subject import doubts as subject_doubts
from volumes.volume import Film, StudyError, Volume

UNFAMILIAR = 1.5
"""The input itself is in doubt when it lies this many times farther out than 99 % of the validation images."""
SURELY_ABSENT = 0.15
"""Below this probability a finding is called absent; between it and the threshold the answer is withheld."""
HOW_SURE = (
    "How sure this is: the checks of what an image shows are rules of thumb, held against a handful of scans and not"
    " validated. They find coarse cases only; where they find nothing, nothing is proven."
)
"""What is said beside every doubt about the input."""


@dataclass(frozen=True)
class Diagnosis:
    """The answer for one finding.

    `probability` is calibrated when `calibrated`, otherwise the plain sigmoid of the prompt pair's log-odds. `answer`
    is "present", "absent" or "unsure" (an abstention). `sides` holds the probability for each side that was asked.
    `descriptors` are (text, probability) pairs, most probable first: what a reader would look for.
    """

    name: str
    probability: float
    answer: str
    threshold: float
    calibrated: bool
    sides: dict[str, float]
    descriptors: tuple[tuple[str, float], ...]
    place: Grounding | None


@dataclass(frozen=True)
class Diagnoses:
    """Answers for one study, with what they were read from and what speaks against trusting them.

    `doubts` withhold every answer; `notes` hold weaker doubts, repairs made in reading, and which series was read.
    """

    study_uid: str
    series_uid: str
    findings: tuple[Diagnosis, ...]
    unfamiliarity: float
    doubts: tuple[str, ...]
    notes: tuple[str, ...]
    made_by: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        found = asdict(self)
        for row, finding in zip(found["findings"], self.findings, strict=True):
            row["place"] = None if finding.place is None else finding.place.to_dict()
        return found | {"notice": "Draft for review by a radiologist. Not a diagnosis."}

    def text(self) -> str:
        """A table for people."""
        lines = [f"study {self.study_uid}", "Draft for review by a radiologist. Not a diagnosis."]
        lines += [f"doubt: {doubt}" for doubt in self.doubts]
        if self.doubts:
            lines.append(f"Every answer is withheld. {HOW_SURE}")
        lines += [f"note: {note}" for note in self.notes]
        for f in sorted(self.findings, key=lambda item: -item.probability):
            where = f" at {f.place.text()}" if f.place is not None and f.place.region is not None else ""
            side = max(f.sides, key=lambda s: f.sides[s]) + " " if f.sides and f.answer == "present" else ""
            lines.append(f"  {f.probability:5.2f}  {f.answer:8s} {side}{f.name}{where}")
        return "\n".join(lines)


def finding_odds(
    model: Model, tokens: ImageTokens, names: Sequence[str], ask: Callable[[str, str | None], PromptPair] = prompts
) -> np.ndarray:
    """Log-odds (B, K) of each finding: half the difference between the prompts that state and those that deny it.

    Prompts of one kind are averaged as log-odds. A finding that takes a side is also asked with each side; the highest
    of the three counts, since a finding on either side is a finding. `ask` words the prompts.
    """
    columns = []
    for name in names:
        asked = [None, *(s for s in model.concepts.get(name, ()) if s is not None)]
        columns.append(torch.stack([pair_odds(model, tokens, name, side, ask) for side in asked]).amax(0))
    return torch.stack(columns, 1).double().numpy()


def pair_odds(
    model: Model,
    tokens: ImageTokens,
    name: str,
    side: str | None,
    ask: Callable[[str, str | None], PromptPair] = prompts,
) -> torch.Tensor:
    """Log-odds (B,) of one prompt pair. What is denied is the finding as such: reports deny no single side."""
    states, denies = ask(name, side).positive, ask(name, None).negative
    return (model.odds(tokens, states).mean(1) - model.odds(tokens, denies).mean(1)) / 2


def probabilities(model: Model, odds: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[bool]]:
    """Probabilities (B, K) and whether each finding was calibrated on validation studies."""
    known = [
        model.calibration is not None and n in model.calibration.scales and n not in model.calibration.unfitted
        for n in names
    ]
    result = 1 / (1 + np.exp(-odds))
    fitted = [i for i, k in enumerate(known) if k]
    if fitted and model.calibration is not None:
        result[:, fitted] = model.calibration.apply(odds[:, fitted], [names[i] for i in fitted])
    return result, known


def descriptor_probabilities(
    model: Model, tokens: ImageTokens, name: str, temperature: float = 0.5
) -> tuple[tuple[str, float], ...]:
    """Probability of each descriptor of a finding, most probable first; empty for a finding without descriptors.

    "There are {descriptor}" against "There are no {descriptor}", softmax of the two cosines over `temperature`.
    Source: Xplainer, Pellegrini et al. 2023, arXiv:2303.13391 (level L1).
    """
    from medvlm.objectives import similarity_attention

    found = []
    for text in DESCRIPTORS.get(name, ()):
        pair = [f"There is {text} indicating {name}.", f"There is no {text} indicating {name}."]
        cosine = similarity_attention(tokens.local, model.vectors(pair), model.towers.sharpness).pooled[0]
        found.append((text, float((cosine / temperature).softmax(0)[0])))
    return tuple(sorted(found, key=lambda item: -item[1]))


def fitting_series(study: Study, model: Model) -> Series:
    """The series that the model can look at: of films a frontal one first, of volumes the only one.

    Raises:
        StudyError: No series has a modality of the model's contract, or several volumes have; says which there are.
    """
    accepted = ", ".join(model.contract.modality)
    fits = [series for series in study.series if series.modality in model.contract.modality]
    if not fits and any(not series.modality for series in study.series):
        raise StudyError(
            f"study {study.study_uid}: the file does not say what it shows; this model looks at {accepted}. If it is"
            " that, say so: --modality CT --unit HU",
            reason="wrong-modality",
        )
    if not fits:
        found = ", ".join(sorted({series.modality for series in study.series})) or "no image at all"
        raise StudyError(
            f"study {study.study_uid}: has {found}; this model was trained on {accepted} and cannot look at it. Use a"
            " model trained on that modality: there are recipes for films (film_contrastive) and CT (ct_contrastive)",
            reason="wrong-modality",
        )
    frontal = [series for series in fits if series.view in ("PA", "AP")]
    if len(fits) > 1 and frontal:
        return min(frontal, key=lambda s: (s.view != "PA", s.series_uid))
    return replace(study, series=tuple(fits)).main_series()


def left_out(study: Study, read: Series) -> tuple[str, ...]:
    """One note that says which images of the study nobody looked at, if there are others."""
    others = "; ".join(series.label() for series in study.series if series is not read)
    return (f"read from series {read.label()}; not looked at: {others}",) if others else ()


def diagnose(study: Study, model: Model, findings: Sequence[str] | None = None) -> Diagnoses:
    """Calibrated probabilities for findings, each with its descriptors and its place, or an abstention.

    Args:
        study: From `read_study`.
        model: From `load_model`.
        findings: Any names; all that the model was trained to tell apart when left out.

    Raises:
        VolumeError: The study cannot be brought into the model's preprocessing contract.
    """
    series = fitting_series(study, model)
    look = model.look(series.read())
    return diagnose_look(study, series, look, model, findings)


def diagnose_look(
    study: Study, series: Series, look: Look, model: Model, findings: Sequence[str] | None = None
) -> Diagnoses:
    """As `diagnose`, for an image that has been looked at already."""
    names = list(findings or model.concepts)
    if not names:
        raise ValueError(
            f"{model.folder.name}: has learned no finding, so there is nothing to ask by default; expected `findings`,"
            " such as --findings pneumothorax. Training needs each finding in several reports (data.least of a recipe)."
        )
    tokens = look.tokens()
    odds = finding_odds(model, tokens, names)
    values, known = probabilities(model, odds, names)
    strange = float(model.unfamiliarity(look.whole[None])[0])
    doubts, weaker = doubts_about(look.original, strange)
    items = []
    for k, name in enumerate(names):
        p, threshold = float(values[0, k]), model.thresholds.get(name, 0.5)
        answer = "present" if p >= threshold else "absent" if p <= min(SURELY_ABSENT, threshold) else "unsure"
        answer = "unsure" if doubts else answer
        sides = side_probabilities(model, tokens, name, known[k])
        side = max(sides, key=lambda s: sides[s]) if sides else None
        place = locate(model, look, name, side) if answer == "present" else None
        items.append(
            Diagnosis(
                name,
                p,
                answer,
                threshold,
                known[k],
                sides,
                descriptor_probabilities(model, tokens, name),
                place,
            )
        )
    notes = (*left_out(study, series), *weaker, *look.original.notes)
    return Diagnoses(study.study_uid, series.series_uid, tuple(items), strange, doubts, notes, made_by(model))


def side_probabilities(model: Model, tokens: ImageTokens, name: str, calibrated: bool) -> dict[str, float]:
    """Probability of the finding on each side that the model knows it on."""
    found = {}
    for side in model.concepts.get(name, ()):
        if side is not None:
            odds = pair_odds(model, tokens, name, side).double().numpy()[:, None]
            found[side] = (
                float(probabilities(model, odds, [name])[0][0, 0])
                if calibrated
                else float(1 / (1 + np.exp(-odds[0, 0])))
            )
    return found


def doubts_about(image: Film | Volume, unfamiliarity: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Reasons to withhold every answer, and weaker ones: what is shown, and how unlike the learned images it is."""
    found = subject_doubts(image)
    doubts = [doubt for doubt in found if doubt.startswith("strong")]
    if unfamiliarity > UNFAMILIAR:  # NaN, a checkpoint without a reference, says nothing
        doubts.append(
            f"the image lies {unfamiliarity:.2f} times as far from the training images as 99% of the validation"
            f" images do; expected at most {UNFAMILIAR:g} times. The model has seen nothing like it"
        )
    return tuple(doubts), tuple(doubt for doubt in found if not doubt.startswith("strong"))


def made_by(model: Model) -> dict[str, str]:
    """What made an output, for its provenance line."""
    return {
        "model": model.folder.name,
        "model_digest": model.digest[:16],
        "preprocess_digest": model.preprocess_digest[:16],
        "trained_on": "simulated patients"
        if model.simulated
        else str(model.config.get("learned_from", "the catalog given to `medvlm train`")),
    }


def command(
    study: Path, model: Path, findings: Sequence[str] | None, json: bool = False, **reading: Unpack[Reading]
) -> None:
    """`medvlm diagnose`: print a table, or one JSON object."""
    result = diagnose(read_study(study, **reading), load_model(model), findings)
    print(json_module.dumps(result.to_dict(), indent=1) if json else result.text())
