"""CheXbert-F1: the arithmetic of its published versions on given labels, and labels by CheXbert itself when it is here.

They disagree. f1chexbert counts uncertain as positive and "No Finding" as a 14th label; CXRMate counts uncertain as
negative and takes the macro over 14 labels with 0 for 0/0; RGRG takes one for its micro averages and the other for its
example-based ones. One number of each must not stand in one column.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from evaluation.finding_labels import ABSENT, BLANK, PRESENT, UNCERTAIN, Empty, LabelCounts, LabelTable, label_counts
from evaluation.originals import Original, OriginalMissingError, find_original, load_package, metric_name, offline

CHEXBERT14: tuple[str, ...] = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)
"""The order of CheXbert's heads; `reports.schemes.CHEXPERT14` has the same names in the order of the rule labeler."""
CHEXBERT5: tuple[str, ...] = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
"""The five with enough positives (Irvin et al. 2019), in the order of the heads."""

_METRIC = "CheXbert-F1"
_WEIGHTS = "chexbert.pth"
_INSTALL = 'pip install "medvlm-platform[originals]"'
_CLASSES = {0: BLANK, 1: PRESENT, 2: ABSENT, 3: UNCERTAIN}  # of the heads

Convention = Literal["f1chexbert", "cxrmate", "rgrg"]


@dataclass(frozen=True)
class CheXbertF1:
    """One published version of the metric. `scores` are named as that version names them; `name` is what to print."""

    name: str
    scores: dict[str, float]
    variant: str
    n: int


def class_table(classes: np.ndarray) -> LabelTable:
    """Labels from CheXbert's classes (N, 14), its heads in order: 0 blank, 1 positive, 2 negative, 3 uncertain.

    Raises: ValueError for another width or class.
    """
    given = np.asarray(classes)
    if given.ndim != 2 or given.shape[1] != len(CHEXBERT14):
        raise ValueError(f"classes have shape {given.shape}, expected (N, {len(CHEXBERT14)})")
    strange = sorted(set(np.unique(given).tolist()) - set(_CLASSES))
    if strange:
        raise ValueError(f"classes hold {strange[:5]}, expected 0 blank, 1 positive, 2 negative, 3 uncertain")
    codes = np.full(given.shape, BLANK, np.int8)
    for code, value in _CLASSES.items():
        codes[given == code] = value
    return LabelTable(CHEXBERT14, codes)


def chexbert_f1(
    pred: LabelTable,
    ref: LabelTable,
    by: str | Original,
    convention: Convention = "f1chexbert",
    empty: Empty = "0",
    studies: Sequence[Hashable] | None = None,
) -> CheXbertF1:
    """The metric as a published code computes it, on labels of the 14 names.

    "f1chexbert" (package 0.0.2, mode "rrg"): uncertain is positive; classification report over 14 and over 5 labels;
    accuracy is exact match on the 5. empty: its 0/0 is 0; one fork takes 1. "cxrmate" (arXiv:2307.09758): only present
    is positive; studies (N,) averages the counts of several reports of a study. "rgrg" (Tanida et al. 2023,
    arXiv:2304.08295): micro averages as f1chexbert, example-based ones as cxrmate.
    Raises: ValueError for other labels, tables that differ, or an unknown convention.
    """
    pred, ref = pred.only(CHEXBERT14), ref.only(CHEXBERT14)
    who = str(by)
    loose = label_counts(pred, ref, who, "positive")
    strict = label_counts(pred, ref, who, "negative")
    five = label_counts(pred.only(CHEXBERT5), ref.only(CHEXBERT5), who, "positive")
    if studies is not None:
        loose, strict, five = (counts.averaged_over(studies) for counts in (loose, strict, five))
    scores, variant = _scores(convention, loose, strict, five, empty)
    return CheXbertF1(metric_name(_METRIC, by, "labels"), scores, f"{variant}; 0/0 {_shown(empty)}", loose.n)


def _scores(
    convention: Convention, loose: LabelCounts, strict: LabelCounts, five: LabelCounts, empty: Empty
) -> tuple[dict[str, float], str]:
    if convention == "f1chexbert":
        scores = {f"{name}_14": loose.f1(average, empty) for name, average in _REPORT}
        scores |= {f"{name}_5": five.f1(average, empty) for name, average in _REPORT}
        return scores | {"accuracy_5": five.exact_match()}, f"f1chexbert 0.0.2, mode rrg; {loose.variant}"
    example = {
        "precision_example": strict.precision("example", empty),
        "recall_example": strict.recall("example", empty),
        "f1_example": strict.f1("example", empty),
    }
    if convention == "cxrmate":
        averages = {f"f1_{average}": strict.f1(average, empty) for average in ("macro", "micro")}
        return averages | example, f"CXRMate; {strict.variant}"
    if convention == "rgrg":
        averages = {"f1_micro_5": five.f1("micro", empty), "f1_micro_14": loose.f1("micro", empty)}
        return averages | example, f"RGRG: micro {loose.variant}; example-based {strict.variant}"
    raise ValueError(f'convention is "{convention}", expected f1chexbert, cxrmate or rgrg')


_REPORT: tuple[tuple[str, Any], ...] = (
    ("micro", "micro"), ("macro", "macro"), ("weighted", "weighted"), ("samples", "example"),
)  # fmt: skip


def _shown(empty: Empty) -> str:
    return "left out" if empty == "left out" else f"is {empty}"


class CheXbertLabeller:
    """Labels by CheXbert itself: the package f1chexbert, its cache pointed at a folder that holds `chexbert.pth`."""

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        """Raises: OriginalMissingError when the package, its weights or its tokenizer are not here."""
        self.original = find_original(_METRIC, "f1chexbert", weights, (_WEIGHTS,), _INSTALL)
        load_package("f1chexbert")
        module: Any = load_package("f1chexbert.f1chexbert")
        if not hasattr(module, "CACHE_DIR"):
            raise OriginalMissingError("f1chexbert has no CACHE_DIR any more, expected the layout of version 0.0.2")
        module.CACHE_DIR = str(weights)  # else it would look elsewhere, and download
        with offline():
            try:
                self._scorer: Any = module.F1CheXbert(device=device)
            except (OSError, KeyError, RuntimeError) as error:
                raise OriginalMissingError(
                    "f1chexbert found its weights and did not load; it also needs the configuration and tokenizer of"
                    f" bert-base-uncased in the hub's cache: {error!r}"
                ) from error
        if tuple(self._scorer.target_names) != CHEXBERT14:
            raise OriginalMissingError("f1chexbert names other heads than expected; use version 0.0.2")

    def labels(self, texts: Sequence[str]) -> LabelTable:
        """The 14 labels of each text."""
        with offline():
            rows = [self._scorer.get_label(text.strip(), mode="classification") for text in texts]
        codes = [[BLANK if value == "" else int(value) for value in row] for row in rows]
        return LabelTable(CHEXBERT14, np.array(codes, np.int8).reshape(len(texts), len(CHEXBERT14)))
