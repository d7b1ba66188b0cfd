"""The top of a card's page: what it says in a few sentences, the flags, and the main numbers with their controls."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from html import escape

from evaluation.flags import worst_first
from evaluation.page_marks import CONTROL, MAIN, between, number, strip
from evaluation.scorecard import Metric, ScoreCard
from evaluation.subgroups import subgroup_number, worst_group

SINGLE = ("macro", "micro", "focal")
"""Last parts of names that stand for several findings, and so do not belong among the findings."""


@dataclass(frozen=True)
class Headline:
    """A number for the top of the page: its metric, how to read it, and the controls that stand beside it."""

    name: str
    title: str
    meaning: str
    better: str  # "higher" or "lower"
    controls: tuple[str, ...] = ()  # patterns of metric names


HEADLINES = (
    Headline(
        "zero_shot.auroc.macro",
        "Diagnosis without training labels",
        "AUROC, mean over findings. 0.5 is guessing, 1 is perfect.",
        "higher",
        ("reliance.*.auroc", "*untrained*.auroc", "*untrained*.auroc.macro", "zero_shot.baseline.*.auroc.macro"),
    ),
    Headline(
        "classification.auroc.macro",
        "Diagnosis",
        "AUROC, mean over findings. 0.5 is guessing, 1 is perfect.",
        "higher",
    ),
    Headline(
        "zero_shot.ece",
        "Calibration",
        "How far the probabilities are from what is found. 0 is honest.",
        "lower",
        ("zero_shot.ece.*", "*untrained*.ece"),
    ),
    Headline(
        "ground.pointing_game",
        "Pointing",
        "Share of findings where the hottest pixel lies on the finding.",
        "higher",
        ("ground.chance.pointing_game", "reliance.*.pointing_game"),
    ),
    Headline(
        "ground.false_area",
        "False alarm area",
        "Share of the image lit for findings that are absent.",
        "lower",
        ("reliance.*.false_area",),
    ),
    Headline(
        "search.recall_at_5",
        "Search",
        "Share of studies whose own report is among the first five.",
        "higher",
        ("search.recall_at_5.chance", "search.*.recall_at_5", "reliance.*.recall_at_5"),
    ),
    Headline(
        "draft.finding_f1.micro",
        "Draft findings",
        "F1 of the findings a draft states as present.",
        "higher",
        ("draft.baseline.*.finding_f1.micro", "reliance.*.finding_f1.micro"),
    ),
    Headline(
        "draft.hallucination_rate",
        "Hallucination",
        "Share of drafted findings that are not there.",
        "lower",
        ("draft.baseline.*.hallucination_rate", "reliance.*.hallucination_rate"),
    ),
    Headline(
        "draft.omission_rate",
        "Omission",
        "Share of true findings that the draft leaves out.",
        "lower",
        ("draft.baseline.*.omission_rate",),
    ),
    Headline(
        "draft.laterality_error",
        "Wrong side",
        "Share of rightly drafted findings put on the wrong side.",
        "lower",
        ("draft.baseline.*.laterality_error",),
    ),
    Headline(
        "text.rouge_score.rouge_l", "Wording", "ROUGE-L F1: words in the same order. Says little about truth.", "higher"
    ),
)


def in_short(card: ScoreCard) -> str:
    """What the card says, in sentences that need no manual; every number with its interval and n."""
    said = [line for line in (_whom(card), _diagnosis(card), _image(card), _draft(card), _weakest(card)) if line]
    items = "".join(f"<li>{line}</li>" for line in said)
    return f'<section class="short"><h2>In short</h2><ul>{items}</ul></section>' if items else ""


def _whom(card: ScoreCard) -> str:
    if card.population is None:
        return ""
    kind = "simulated " if card.simulated else ""
    studies, patients = card.population.studies, card.population.patients
    one = "study" if studies == 1 else "studies"
    return f"Measured on <b>{studies} {one} of {patients} {kind}{'patient' if patients == 1 else 'patients'}</b>."


def _diagnosis(card: ScoreCard) -> str:
    for prefix in ("zero_shot.auroc.", "classification.auroc."):
        whole = card.get(f"{prefix}macro")
        if whole is None or math.isnan(whole.value):
            continue
        single = [m for m in finding_metrics(card.metrics, prefix) if not math.isnan(m.value)]
        line = f"Tells findings apart with a mean AUROC of <b>{whole.value:.2f}</b> ({_range(whole)})."
        if len(single) > 1:
            best, worst = max(single, key=lambda m: m.value), min(single, key=lambda m: m.value)
            line += f" Best: {_finding(best, prefix)}. Weakest: {_finding(worst, prefix)}."
        return line
    return ""


def _finding(metric: Metric, prefix: str) -> str:
    return f"{escape(metric.name.removeprefix(prefix))} {metric.value:.2f} ({_range(metric)})"


def _image(card: ScoreCard) -> str:
    own, swapped = card.get("zero_shot.auroc.macro"), card.get("reliance.swapped.auroc")
    if own is None or swapped is None or math.isnan(own.low) or math.isnan(swapped.high):
        return ""
    if swapped.high < own.low:
        verdict = "it does look at the image"
    else:
        verdict = "<b>nothing shows that it looks at the image</b>"
    return f"With another patient’s image the AUROC is {swapped.value:.2f} ({_range(swapped)}): {verdict}."


def _draft(card: ScoreCard) -> str:
    invented, missed = card.get("draft.hallucination_rate"), card.get("draft.omission_rate")
    if invented is None or missed is None or math.isnan(invented.value) or math.isnan(missed.value):
        return ""
    return (
        f"Of the findings that its drafts state, <b>{invented.value:.0%}</b> are not there ({_range(invented)}); of"
        f" those that are there, <b>{missed.value:.0%}</b> are left out ({_range(missed)}). A radiologist must check"
        " each draft."
    )


def _weakest(card: ScoreCard) -> str:
    worst = worst_group(card.metrics)
    if worst is None:
        return ""
    _, attribute, group, _ = worst.name.split(".", 3)
    clear = "" if worst.high < 0 else ", which may be chance"
    return (
        f"Weakest group: {escape(attribute)} <b>{escape(group)}</b>,"
        f" {subgroup_number(card.metrics)} {abs(worst.value):.2f}"
        f" {'below' if worst.value < 0 else 'above'} all others ({_range(worst)}){clear}."
    )


def _range(metric: Metric) -> str:
    if math.isnan(metric.low):
        return f"n={metric.n}"
    low, high = (f"{bound:.2f}".replace("-", "−") for bound in (metric.low, metric.high))
    return f"{low} to {high}, n={metric.n}"


def finding_metrics(metrics: Iterable[Metric], prefix: str) -> list[Metric]:
    """Metrics of single findings under a prefix, such as "zero_shot.auroc."."""
    return [m for m in metrics if m.name.startswith(prefix) and m.name.removeprefix(prefix) not in SINGLE]


_STATES = {"clear": "nothing found", "flagged": "flagged", "not possible": "not checked"}


def flags(card: ScoreCard) -> str:
    """What must not be overlooked, serious first, and what was looked for."""
    if not card.flags and not card.checks:
        return ""
    items = "".join(
        f'<article class="flag {flag.severity}"><h3><span>{flag.severity}</span> {escape(flag.found)}</h3>'
        f"<p><b>Why it matters.</b> {escape(flag.why)}</p><p><b>What to do.</b> {escape(flag.do)}</p></article>"
        for flag in worst_first(card.flags)
    )
    made = [check for check in card.checks if check.state != "not possible"]
    clear = f"<p class='unflagged'>No flag was raised by {len(made)} checks.</p>" if made and not card.flags else ""
    rows = "".join(
        f'<li class="{check.state.replace(" ", "-")}"><b>{_STATES[check.state]}</b> {escape(check.question)}'
        f"{f' <small>{escape(check.reason)}</small>' if check.reason else ''}</li>"
        for check in card.checks
    )
    return f"<section><h2>Flags</h2>{items}{clear}<ul class='checks'>{rows}</ul></section>"


def headlines(card: ScoreCard) -> str:
    """The main numbers, each with its interval, its n, and its controls on one axis."""
    shown = [(headline, metric) for headline in HEADLINES if (metric := card.get(headline.name)) is not None]
    if not shown:
        return ""
    cards = "".join(_card(headline, metric, _controls(headline, card.metrics)) for headline, metric in shown)
    hint = (
        '<p class="hint" style="margin-top:12px">Blue: the model. Orange: a control. Swapped: the image of another'
        " patient; blank: no image; untrained: random weights; thumbnails: a logistic regression on tiny images, taught"
        " with labels; nearest: the report of the most similar training image; frequent: the commonest findings or text"
        " of the training reports; chance: a random place or order. A model that reads the image stands clear of"
        " them.</p>"
    )
    controlled = any(_controls(headline, card.metrics) for headline, _ in shown)
    return f'<section class="cards">{cards}</section>{hint if controlled else ""}'


def _controls(headline: Headline, metrics: Iterable[Metric]) -> list[Metric]:
    return [
        metric
        for metric in metrics
        if metric.name != headline.name and any(fnmatchcase(metric.name, pattern) for pattern in headline.controls)
    ]


def _card(headline: Headline, metric: Metric, controls: Sequence[Metric]) -> str:
    rows = [("this model", metric, MAIN)]
    rows += [(_control_name(metric.name, control.name), control, CONTROL) for control in controls]
    return (
        f'<article class="card"><h3>{escape(headline.title)}<span>{headline.better} is better</span></h3>'
        f'<div class="big">{number(metric.value)}<small>{between(metric)}, n={metric.n}</small></div>'
        f"<p>{escape(headline.meaning)}</p>{strip(rows)}</article>"
    )


def _control_name(main: str, control: str) -> str:
    """What is left of the control's dotted name without the words it shares with the main one."""
    shared = {*main.split("."), "reliance", "baseline"}
    left = [part for part in control.split(".") if part not in shared]
    return " ".join(left).replace("_", " ") or control
