"""The middle of a card's page: whom it was measured on, findings, groups, robustness, worst cases, run time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from evaluation.page_headlines import finding_metrics
from evaluation.page_marks import BAD, MAIN, axis, between, curve, dot, image, number, signed
from evaluation.population import Share
from evaluation.scorecard import Case, Metric, ScoreCard
from evaluation.subgroups import subgroup_number, worst_group

TITLES = {
    "dose": "Lower dose (noise)",
    "motion": "Motion blur",
    "window": "Display window",
    "crop": "Crop",
    "rotation": "Rotation",
    "jpeg": "JPEG compression",
    "wording": "Wording of the prompts",
}


def whom(card: ScoreCard) -> str:
    """Studies and patients by group and by finding."""
    people = card.population
    if people is None:
        return ""
    attributes = dict.fromkeys(share.of for share in people.shares)
    blocks = "".join(_shares(name, [s for s in people.shares if s.of == name], people.studies) for name in attributes)
    return (
        f"<section><h2>On whom it was measured</h2><p class='hint'>{people.studies} studies of {people.patients}"
        f" patients: {escape(card.data)}. Each line: studies, and their share of those for which it is known.</p>"
        f'<div class="shares">{blocks}</div></section>'
    )


def _shares(name: str, shares: Sequence[Share], studies: int) -> str:
    known = shares[0].known
    rest = f" (known for {known} of {studies})" if known < studies and name != "finding" else ""
    rows = "".join(
        f"<tr><td>{escape(share.name)}</td><td class='n'>{share.studies}</td>"
        f"<td class='n'>{share.studies / share.known if share.known else math.nan:.0%}</td>"
        f'<td class="bar"><i style="width:{100 * share.studies / max(share.known, 1):.0f}%"></i></td></tr>'
        for share in sorted(shares, key=lambda one: -one.studies if name == "finding" else 0)
    )
    title = "findings present" if name == "finding" else name
    return f"<div><h3>{escape(title)}{rest}</h3><table class='plain'>{rows}</table></div>"


def findings(card: ScoreCard) -> str:
    """A row for each finding: positives, AUROC with its interval, sensitivity and specificity at its threshold."""
    for prefix in ("zero_shot.", "classification."):
        rows = finding_metrics(card.metrics, f"{prefix}auroc.")
        if rows:
            return _finding_table(card, prefix, rows)
    return ""


def _finding_table(card: ScoreCard, prefix: str, rows: list[Metric]) -> str:
    names = [metric.name.removeprefix(f"{prefix}auroc.") for metric in rows]
    shown = sorted(
        ((name, m) for name, m in zip(names, rows, strict=True) if not math.isnan(m.value)),
        key=lambda row: -row[1].value,
    )
    silent = [name for name, m in zip(names, rows, strict=True) if math.isnan(m.value)]
    left_out = f" Without a value (one class only): {escape(', '.join(silent))}." if silent else ""
    bounds = [m.low for _, m in shown if not math.isnan(m.low)] + [m.value for _, m in shown]
    low = 0.0 if bounds and min(bounds) < 0.4 else 0.4
    positives = {s.name: s for s in card.population.shares if s.of == "finding"} if card.population else {}
    calls = any(card.get(f"{prefix}sensitivity.{name}") for name in names)
    lines = []
    for name, metric in shown:
        count = f"{positives[name].studies} of {positives[name].known}" if name in positives else f"n={metric.n}"
        cells = "".join(_call(card.get(f"{prefix}{what}.{name}")) for what in ("sensitivity", "specificity"))
        lines.append(
            f"<tr><td>{escape(name)}</td><td class='n'>{count}</td><td class='n'><b>{number(metric.value)}</b></td>"
            f"<td class='n'>{between(metric)}</td><td>{dot(metric, low, 1.0, 0.5)}</td>{cells if calls else ''}</tr>"
        )
    heads = "<th class='n'>sensitivity</th><th class='n'>specificity</th>" if calls else ""
    at = (
        " Sensitivity and specificity are those at the threshold that was chosen on validation studies."
        if calls
        else ""
    )
    return (
        "<section><h2>Diagnosis, finding by finding</h2><p class='hint'>AUROC; bar: 95% interval over patients; dashed:"
        f" chance. A bar that touches it may be chance.{at}{left_out}</p><div class='wide'><table>"
        "<thead><tr><th>finding</th><th class='n'>present</th><th class='n'>AUROC</th><th class='n'>95% interval</th>"
        f"<th>{axis(low, 1.0, [low, 0.5, 0.75, 1.0])}</th>{heads}</tr></thead><tbody>"
        f"{''.join(lines)}</tbody></table></div></section>"
    )


def _call(metric: Metric | None) -> str:
    if metric is None or math.isnan(metric.value):
        return "<td class='n'>–</td>"
    return f"<td class='n'>{metric.value:.2f} <small>({metric.low:.2f} to {metric.high:.2f}, n={metric.n})</small></td>"


def groups(card: ScoreCard) -> str:
    """AUROC in each group of patients, scanners and views; the weakest group is named."""
    gaps = [metric for metric in card.metrics if metric.name.startswith("subgroup.") and metric.name.endswith(".gap")]
    if not gaps:
        return ""
    worst, what = worst_group(card.metrics), subgroup_number(card.metrics)
    spread = max([0.1, *(abs(b) for m in gaps for b in (m.low, m.high) if not math.isnan(b))])
    lines, before = [], ""
    for gap in gaps:
        _, attribute, group, _ = gap.name.split(".", 3)
        stem = gap.name.removesuffix(".gap")
        own = card.get(f"{stem}.auroc") or card.get(f"{stem}.finding_f1")
        if own is None:
            continue
        if attribute != before:
            lines.append(f'<tr class="group"><td colspan="6">{escape(attribute)}</td></tr>')
            before = attribute
        weakest = " <span class='chip bad'>weakest</span>" if gap is worst else ""
        color = BAD if gap.high < 0 else MAIN
        lines.append(
            f"<tr><td>{escape(group)}{weakest}</td><td class='n'>{gap.n}</td><td class='n'>{number(own.value)}</td>"
            f"<td class='n'>{between(own)}</td><td>{dot(gap, -spread, spread, 0.0, color, 200)}</td>"
            f"<td class='n'>{signed(gap.value)} <small>({between(gap, sign=True)})</small></td></tr>"
        )
    clear = sum(1 for gap in gaps if gap.high < 0)
    verdict = (
        f"{clear} of {len(gaps)} groups lie clearly below all others."
        if clear
        else f"None of the {len(gaps)} groups lies clearly below all others; small groups could hide a gap."
    )
    return (
        f"<section><h2>Groups of patients and machines</h2><p class='hint'>{verdict} The gap is the group’s {what}"
        " minus that of all others, over findings that both can be measured on; its interval is widened for the number"
        " of groups. Groups of fewer than 20 studies are not shown.</p><div class='wide'><table><thead><tr>"
        f"<th>group</th><th class='n'>n</th><th class='n'>{what}</th><th class='n'>95% interval</th>"
        "<th>gap: left of the dashed line is worse</th><th class='n'>gap (interval)</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div></section>"
    )


def robustness(card: ScoreCard) -> str:
    """A small curve for each kind of trouble, with the loss at each step."""
    base = card.get("robust.untouched.auroc")
    drops = [metric for metric in card.metrics if metric.name.startswith("robust.") and metric.name.endswith(".drop")]
    if base is None or not drops:
        return ""
    panels = []
    for condition in dict.fromkeys(metric.name.split(".")[1] for metric in drops):
        steps = [metric for metric in drops if metric.name.split(".")[1] == condition]
        points = [card.get(f"{step.name.removesuffix('.drop')}.auroc") for step in steps]
        known = [point for point in points if point is not None]
        lines = "".join(
            f"<li>{escape(step.variant.split(';')[0])}: <b>{signed(-step.value)}</b>"
            f" <small>({signed(-step.high)} to {signed(-step.low)})</small></li>"
            for step in steps
        )
        panels.append(
            f'<article class="card"><h3>{escape(TITLES.get(condition, condition.replace("_", " ")))}</h3>'
            f"{curve([base, *known])}<ol>{lines}</ol></article>"
        )
    return (
        "<section><h2>When the input gets worse</h2><p class='hint'>AUROC, mean over findings, on"
        f" n={base.n} studies as they are ({number(base.value)}, {between(base)}) and spoiled step by step; every line"
        f" says by how much it changes on the same n={base.n} studies, with its 95% interval.</p>"
        f'<div class="cards">{"".join(panels)}</div></section>'
    )


def cases(card: ScoreCard) -> str:
    """The studies with most errors: the picture, what the reference says and what the draft says, errors marked."""
    if not card.cases:
        return ""
    tag = ' <span class="tag">simulated</span>' if card.simulated else ""
    legend = " Marked red in the draft: denied although it is there."
    if any(case.png for case in card.cases):
        legend += (
            " Solid red box: missed or on the wrong side, where it truly is. Dashed amber box: invented or on the wrong"
            " side, where the model sees it."
        )
    return (
        f"<section><h2>The {len(card.cases)} worst studies</h2><p class='hint'>Chosen because they have most errors,"
        f" so they are not typical.{legend}</p>"
        f"<div class='cases'>{''.join(_case(case, tag) for case in card.cases)}</div></section>"
    )


def _case(case: Case, tag: str) -> str:
    chips = "".join(
        f'<span class="chip {kind}">{word}: {escape(name)}</span>'
        for word, kind, names in (
            ("missed", "bad", case.missed),
            ("invented", "warn", case.invented),
            ("wrong side", "warn", case.wrong_side),
        )
        for name in names
    )
    picture = image(case.png, f"study with errors: {', '.join((*case.missed, *case.invented))}") if case.png else ""
    return (
        f'<article class="case{"" if picture else " words"}">{f"<figure>{picture}</figure>" if picture else ""}'
        f"<div><p>{chips}</p>"
        f'<div class="two"><div><h3>What is true</h3>{_marked(case.reference, case)}</div>'
        f"<div><h3>What the draft says</h3>{_marked(case.drafted, case)}</div></div>"
        f"<p class='uid'>study {escape(case.study)}{tag}{' · ' + escape(case.note) if case.note else ''}</p>"
        "</div></article>"
    )


def _marked(rows: Sequence[tuple[str, str]], case: Case) -> str:
    if not rows:
        return "<p class='hint'>Nothing.</p>"
    lines = []
    for text, name in rows:
        word = "missed" if name in case.missed else "invented" if name in case.invented else "wrong side"
        kind = "bad" if name in case.missed else "warn"
        marked = f'<mark class="{kind}" title="{word}: {escape(name)}">{escape(text)}</mark>' if name else escape(text)
        lines.append(f"<p>{marked}</p>")
    return "".join(lines)


def gallery(card: ScoreCard) -> str:
    """Typical pictures, with what was drafted."""
    if not card.pictures:
        return ""
    tag = ' <span class="tag">simulated</span>' if card.simulated else ""
    items = "".join(
        f"<figure>{image(picture.png, picture.caption)}<figcaption>{escape(picture.caption)}{tag}</figcaption>"
        + (f"<pre>{escape(picture.text)}</pre>" if picture.text else "")
        + "</figure>"
        for picture in card.pictures
    )
    return f'<section><h2>Typical pictures and drafts</h2><div class="gallery">{items}</div></section>'


def run_time(card: ScoreCard) -> str:
    """Seconds and memory of one study."""
    rows = [metric for metric in card.metrics if metric.name.startswith(("time.", "memory."))]
    if not rows:
        return ""
    lines = "".join(
        f"<tr><td>{escape(_plain(metric.name))}</td><td class='n'>{metric.value:.3g} {_unit(metric.name)}</td>"
        f"<td class='n'>{'' if math.isnan(metric.low) else f'{metric.low:.3g} to {metric.high:.3g}'}</td>"
        f"<td class='n'>{metric.n}</td><td>{escape(metric.variant.split('; 95%')[0])}</td></tr>"
        for metric in rows
    )
    return (
        "<section><h2>What a study costs</h2><div class='wide'><table><thead><tr><th></th><th class='n'>mean</th>"
        "<th class='n'>95% interval</th><th class='n'>n</th><th>how</th></tr></thead>"
        f"<tbody>{lines}</tbody></table></div></section>"
    )


def _plain(name: str) -> str:
    return name.split(".", 1)[1].rsplit("_", 1)[0].replace("peak", "most memory")


def _unit(name: str) -> str:
    return "GiB" if name.endswith("_gib") else "s"
