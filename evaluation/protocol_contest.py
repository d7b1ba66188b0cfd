"""Head to head: two models on the same studies, each tuned as much as the other.

Half of a published gain is often the prompt, the threshold or the temperature that only one side was given. Here each
model brings the same number of settings, each picks its best on the same validation studies, and the test decides on
that one. What tuning itself did is printed beside it.

Source: Dodge et al. 2019, arXiv:1909.03004 (results depend on the tuning budget); Musgrave et al. 2020,
arXiv:2003.08505 (gains that go away under equal tuning).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from evaluation.protocol_outcome import Outcome, judged, metric
from evaluation.score_table import ENOUGH, ScoreTable


@dataclass(frozen=True)
class Contender:
    """A model's scores under each of its settings, the first being its default.

    validation: setting -> scores (V, K); test: setting -> scores (N, K), of the same settings.
    """

    name: str
    validation: Mapping[str, ArrayLike]
    test: Mapping[str, ArrayLike]


@dataclass(frozen=True)
class Studies:
    """Labels (N, K), nan unknown, and patients (N,), of one split."""

    labels: ArrayLike
    patients: Sequence[Hashable]


def head_to_head(
    names: Sequence[str],
    first: Contender,
    second: Contender,
    validation: Studies,
    test: Studies,
    data: str,
    margin: float = 0.02,
) -> Outcome:
    """Difference of macro AUROC, first minus second, each with the setting that was best on validation.

    difference: tuned. untuned: with the defaults. <name>.auroc: each with its setting, which the variant names. The
    verdict speaks for the first model: passed when it is at worst `margin` behind (non-inferior), failed when it is
    surely farther behind.
    Raises: ValueError for an unequal number of settings, settings missing on one split, patients on both splits, or no
    finding with 10 patients of each class on both.
    """
    check_budgets(first, second)
    shared = set(validation.patients) & set(test.patients)
    if shared:
        raise ValueError(f"{len(shared)} patients are in validation and test: settings would be chosen on the test")
    held, tested = _tables(names, first, second, validation, True), _tables(names, first, second, test, False)
    columns = sorted(
        set(next(iter(held[first.name].values())).usable()) & set(next(iter(tested[first.name].values())).usable())
    )
    if not columns:
        raise ValueError(f"no finding has {ENOUGH} patients of each class on both splits: the contest cannot be judged")
    best = {name: max(tables, key=lambda s: tables[s].macro(columns).value) for name, tables in held.items()}
    default = {name: next(iter(tables)) for name, tables in held.items()}
    tuned, plain = ([tested[name][chosen[name]].macro(columns) for name in held] for chosen in (best, default))
    budget = len(first.validation)
    how = f"{first.name} ({best[first.name]}) minus {second.name} ({best[second.name]}); best of {budget} on validation"
    difference = metric("head_to_head", "difference", tuned[0] - tuned[1], how, data, within=False)
    found = [
        difference,
        metric("head_to_head", "untuned", plain[0] - plain[1], "both with their default setting", data, within=False),
    ]
    for name, estimate in zip(held, tuned, strict=True):
        setting = f"setting {best[name]!r} of {budget}; macro over {len(columns)} findings"
        found.append(metric("head_to_head", f"{name}.auroc", estimate, setting, data))
    rule = (
        f"passed when {first.name} is at most {margin:g} of AUROC behind {second.name}, failed when surely farther"
        " behind; better when the whole interval of the difference is above 0. Each chose among"
        f" {budget} settings on validation."
    )
    question = f"Is {first.name} as good as {second.name} when both are tuned alike?"
    return Outcome("head_to_head", question, tuple(found), judged((difference, "least", -margin)), rule)


def _tables(
    names: Sequence[str], first: Contender, second: Contender, studies: Studies, is_validation: bool
) -> dict[str, dict[str, ScoreTable]]:
    """Contender -> setting -> table of one split."""
    return {
        contender.name: {
            setting: ScoreTable.of(names, scores, studies.labels, studies.patients)
            for setting, scores in (contender.validation if is_validation else contender.test).items()
        }
        for contender in (first, second)
    }


def check_budgets(first: Contender, second: Contender) -> None:
    """Raises: ValueError if names are equal, one may choose among more settings, or a split lacks a setting."""
    if first.name == second.name:
        raise ValueError(f"both contenders are called {first.name!r}: give them two names")
    if len(first.validation) != len(second.validation) or not first.validation:
        raise ValueError(
            f"{first.name} brings {len(first.validation)} settings and {second.name} {len(second.validation)}, expected"
            " equally many, at least 1: tuning one side more decides the contest"
        )
    for contender in (first, second):
        missing = set(contender.validation) ^ set(contender.test)
        if missing:
            raise ValueError(
                f"{contender.name} lacks scores of {sorted(missing)[:5]} on one split, expected the same settings on"
                " both"
            )
