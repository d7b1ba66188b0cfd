"""A learned head on top of the rules: presence of each label by logistic regression on what the rules read, and words.

The rules know the language and not the habits of whoever gave the labels; the head learns these from labelled reports.
For each label it starts from the rules' own value, which is hardly penalised, and corrects it by the facts (each
finding with its status and hedge, by section, and how it was said) and by words and pairs of words, which are. With few
reports it answers as the rules do. It is saved as safetensors with a JSON header, and predicts with numpy alone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reports.findings import find
from reports.keyed_parts import share_of
from reports.labels import Label, label_findings
from reports.lexicon import Lexicon
from reports.sections import section_sentences

FORMAT = "medvlm-label-head-1"
MIN_REPORTS = 5  # a word of fewer reports is left out: it teaches little, and may be a name
PENALTY = 0.05  # inverse strength of the ridge, as in scikit-learn
_OWN, _FACT, _WORDS = 10.0, 1.0, 0.3  # a larger feature bears less of the penalty
_VALUES: tuple[Label, ...] = (None, 0, -1, 1)
_WORD = re.compile(r"[a-z]{2,}(?:-[a-z]+)*")


class ReadReport(NamedTuple):
    """What the head sees of a report: the rules' labels, and the names of the features that are on."""

    labels: dict[str, Label]
    on: frozenset[str]


def read_report(text: str, scheme: str, lexicon: Lexicon | None = None) -> ReadReport:
    """Read one report by the rules and collect its features."""
    placed = section_sentences(text)
    findings = find(text, lexicon)
    on: set[str] = set()
    for finding in findings:
        place = placed[finding.sentence][0] if finding.sentence is not None else ""
        kind = (finding.hedge or finding.by) if finding.status != "present" else ""
        on.add(f"fact={finding.name}:{finding.status}:{kind}")
        on.add(f"fact={finding.name}:{finding.status}@{place}")
        on.update(f"fact={finding.name} as {said}:{finding.status}:{kind}" for said in finding.words)
    for _, sentence in placed:
        said = _WORD.findall(sentence.lower())
        on.update(f"word={word}" for word in said)
        on.update(f"word={one} {other}" for one, other in pairwise(said))
    return ReadReport(label_findings(findings, scheme, text, lexicon), frozenset(on))


@dataclass(frozen=True)
class LabelHead:
    """One logistic regression per label.

    names: labels (K); features: names (F); own: (K, 4), what the rules' value of the label (none, 0, -1, 1) adds;
    weights: (K, F); bias: (K,); trained_on: number of reports.
    """

    scheme: str
    names: tuple[str, ...]
    features: tuple[str, ...]
    own: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    trained_on: int

    def probabilities(self, report: ReadReport) -> NDArray[np.float64]:
        """Probability of presence of each label, (K,)."""
        columns = [self._column[name] for name in report.on if name in self._column]
        value = [_VALUES.index(report.labels[name]) for name in self.names]
        logits = self.weights[:, columns].sum(axis=1, dtype=np.float64) + self.bias
        logits += self.own[np.arange(len(self.names)), value]
        return 1 / (1 + np.exp(-np.clip(logits, -60, 60)))

    def label(self, text: str, lexicon: Lexicon | None = None) -> dict[str, Label]:
        """Labels of a report. The head says what is present; where it does not, the rules' absent, uncertain or nothing
        stands, and what only the rules call present is uncertain (-1). Labels it did not learn are the rules' own."""
        report = read_report(text, self.scheme, lexicon)
        labels = dict(report.labels)
        for name, probability in zip(self.names, self.probabilities(report).tolist(), strict=True):
            labels[name] = 1 if probability >= 0.5 else -1 if labels[name] == 1 else labels[name]
        return labels

    @cached_property
    def _column(self) -> Mapping[str, int]:
        return {name: at for at, name in enumerate(self.features)}

    def save(self, path: Path | str) -> None:
        """Write one .safetensors file."""
        from safetensors.numpy import save_file

        about = {"scheme": self.scheme, "names": self.names, "features": self.features, "trained_on": self.trained_on}
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ("own", "weights", "bias")}
        save_file(arrays, str(path), metadata={"format": FORMAT, "about": json.dumps(about)})


def load_head(path: Path | str) -> LabelHead:
    """Read a head. Raises: ValueError for any other file, with what was found."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            said: dict[str, str] = file.metadata() or {}
            if said.get("format") != FORMAT:
                raise ValueError(f'{path}: format "{said.get("format")}", expected "{FORMAT}" (medvlm label-fit)')
            about: dict[str, Any] = json.loads(said["about"])
            own, weights, bias = (file.get_tensor(name) for name in ("own", "weights", "bias"))
        names, features = tuple(map(str, about["names"])), tuple(map(str, about["features"]))
        head = LabelHead(str(about["scheme"]), names, features, own, weights, bias, int(about["trained_on"]))
    except (SafetensorError, KeyError, json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{path}: no head of a labeller ({error}); make one with medvlm label-fit") from None
    shapes = (own.shape, weights.shape, bias.shape)
    expected = ((len(names), len(_VALUES)), (len(names), len(features)), (len(names),))
    if shapes != expected:
        raise ValueError(f"{path}: arrays of shapes {shapes}, expected {expected}")
    return head


def fit_head(reports: Sequence[ReadReport], gold: NDArray[np.bool_], names: Sequence[str], scheme: str) -> LabelHead:
    """Fit one regression per label. gold: (N, K), presence. Deterministic.

    Labels that all reports share, or none has, are left to the rules. Raises: ValueError for shapes that differ.
    """
    from scipy.sparse import hstack
    from sklearn.linear_model import LogisticRegression

    if gold.shape != (len(reports), len(names)) or not len(reports):
        raise ValueError(f"gold has shape {gold.shape}, expected ({len(reports)}, {len(names)}) with a report")
    kept = [at for at in range(len(names)) if 0 < gold[:, at].sum() < len(reports)]
    counts = Counter(name for report in reports for name in report.on)
    known = tuple(sorted(name for name, count in counts.items() if MIN_REPORTS <= count < len(reports)))
    scales = np.array([_WORDS if name.startswith("word=") else _FACT for name in known])
    table = _matrix([report.on for report in reports], known, scales)
    own = np.zeros((len(kept), len(_VALUES)), np.float32)
    weights = np.zeros((len(kept), len(known)), np.float32)
    bias = np.zeros(len(kept), np.float32)
    for row, at in enumerate(kept):
        values = [[_OWN * (report.labels[names[at]] == value) for value in _VALUES] for report in reports]
        model = LogisticRegression(C=PENALTY, solver="liblinear", max_iter=200, random_state=0)
        model.fit(hstack([np.array(values), table]).tocsr(), gold[:, at])
        own[row] = model.coef_[0, : len(_VALUES)] * _OWN
        weights[row] = model.coef_[0, len(_VALUES) :] * scales
        bias[row] = model.intercept_[0]
    return LabelHead(scheme, tuple(names[at] for at in kept), known, own, weights, bias, len(reports))


def cross_validated(
    reports: Sequence[ReadReport],
    gold: NDArray[np.bool_],
    names: Sequence[str],
    scheme: str,
    groups: Sequence[str],
    folds: int = 5,
) -> NDArray[np.bool_]:
    """Presence (N, K) of each report as read by a head that saw no report of its group (a report, or a patient).

    Groups are dealt to folds in the order of a hash of their key. Raises: ValueError for fewer groups than folds.
    """
    dealt = sorted(set(groups), key=lambda group: share_of(group, "folds"))
    if len(dealt) < folds:
        raise ValueError(f"{len(dealt)} reports or patients are too few for {folds} folds; label more of them")
    fold_of = {group: number % folds for number, group in enumerate(dealt)}
    fold = np.array([fold_of[group] for group in groups])
    read = np.array([[report.labels[name] == 1 for name in names] for report in reports], dtype=bool)
    for number in range(folds):
        out, into = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        if not len(out) or not len(into):
            raise ValueError(
                f"fold {number + 1} of {folds} is empty; {len(set(groups))} reports or patients are too few"
            )
        head = fit_head([reports[at] for at in into.tolist()], gold[into], names, scheme)
        columns = [list(names).index(name) for name in head.names]
        for at in out.tolist():
            read[at, columns] = head.probabilities(reports[at]) >= 0.5
    return read


def _matrix(rows: Iterable[frozenset[str]], known: Sequence[str], scales: NDArray[np.float64]) -> Any:
    """Sparse (N, F): the scale of a feature where it is on."""
    from scipy.sparse import csr_matrix

    column = {name: at for at, name in enumerate(known)}
    places = [sorted(column[name] for name in row if name in column) for row in rows]
    starts = np.cumsum([0, *map(len, places)])
    columns = np.array([at for place in places for at in place], dtype=np.int32)
    return csr_matrix((scales[columns], columns, starts), shape=(len(places), len(known)))
