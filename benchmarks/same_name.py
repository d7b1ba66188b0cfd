"""The same predictions under each computation that shares a name: how much of a published number is the choice of code.

    python benchmarks/same_name.py [--out docs/same_name.md]

Everything is simulated from a fixed seed: answers to questions, heat maps and boxes, masks, an archive with duplicates.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evaluation.detection import box_average_precision, match_boxes, radvlm_map
from evaluation.grounding import pointing_game
from evaluation.heat_maps import contrast_to_noise, energy_pointing
from evaluation.item_scores import ItemScores
from evaluation.mean_iou import (
    miou_all_pairs,
    miou_over_thresholds,
    miou_tuned,
    miou_two_classes,
    tune_map_threshold,
)
from evaluation.multiple_choice import PARSERS, choice_accuracy, m3d_right
from evaluation.ranking import as_ct_clip_prints, label_overlap_at_k, label_overlap_chance
from evaluation.retrieval import recall_at_k
from evaluation.segmentation import average_surface_distance, dice, hausdorff, surface_dice
from evaluation.vqa import SCORINGS, Kind, score_answers

SEED = 11
HEAD = """# One name, several numbers

Written by `python benchmarks/same_name.py --out docs/same_name.md`. The predictions of each table are the same in all
its rows; only the computation differs. All of them are simulated from a fixed seed.
"""
Floats = NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the page, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="page to write, such as docs/same_name.md")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(SEED)
    parts = [answers(rng), choices(), maps(rng), masks(rng), archive(rng)]
    page = HEAD + "".join("\n" + "\n".join(part) + "\n" for part in parts)
    print(page)
    if options.out is not None:
        options.out.write_text(page, encoding="utf-8")
    return 0


def answers(rng: np.random.Generator) -> Iterator[str]:
    """Closed and open questions, answered by four simulated models."""
    closed = rng.choice(["yes", "no"], 300).tolist()
    places = ("left lung", "right lower lobe", "pleural effusion", "heart")
    opened = rng.choice(places, 200).tolist()
    true, kinds = [*closed, *opened], [*(["closed"] * len(closed)), *(["open"] * len(opened))]
    lucky = rng.random(len(true)) < 0.7
    models = {
        "says 'normal' to everything": ["The study is normal." for _ in true],
        "says yes and no": ["Yes. There is no doubt." for _ in true],
        "right at 70 %, terse": [_terse(t, k, good) for t, k, good in zip(true, kinds, lucky, strict=True)],
        "right at 70 %, in sentences": [_wordy(t, k, good) for t, k, good in zip(true, kinds, lucky, strict=True)],
    }
    yield "## Answers to questions"
    yield ""
    yield f"{len(closed)} closed and {len(opened)} open questions. In brackets: n, where answers are left out."
    yield ""
    yield "| scoring | questions | " + " | ".join(models) + " |"
    yield "|---|---|" + "---:|" * len(models)
    for scoring in SCORINGS.values():
        for kind in scoring.kinds:
            asked = closed if kind == "closed" else opened
            cells = [_cell(said, true, kinds, kind, scoring.name, len(asked)) for said in models.values()]
            yield f"| {scoring.name} | {kind} | " + " | ".join(cells) + " |"


def _cell(said: Sequence[str], true: Sequence[str], kinds: Sequence[str], kind: Kind, name: str, asked: int) -> str:
    rows = [row for row, is_kind in enumerate(kinds) if is_kind == kind]
    found = score_answers(name, [said[row] for row in rows], [true[row] for row in rows])
    return f"{found.value:.3f}" + (f" ({found.n})" if found.n < asked else "")


def _terse(truth: str, kind: str, good: bool) -> str:
    if kind == "closed":
        return truth if good else {"yes": "no", "no": "yes"}[truth]
    return truth if good else "spleen"


def _wordy(truth: str, kind: str, good: bool) -> str:
    if kind == "closed":
        said = truth if good else {"yes": "no", "no": "yes"}[truth]
        return "Yes, this is seen on the image." if said == "yes" else "No, this is not seen on the image."
    return f"It is best seen in the {truth if good else 'spleen'}."


def choices() -> Iterator[str]:
    """Replies to multiple-choice questions in the ways in which models phrase them."""
    options = {"A": "pneumonia", "B": "left pleural effusion", "C": "pleural effusion", "D": "normal study"}
    replies = [
        "B", "(B)", "B. left pleural effusion", "The answer is B.", "left pleural effusion",
        "A left pleural effusion is seen.", "Option A can be excluded, so the answer is B", "A. B. C. D.",
        "I cannot tell.", "It looks like pneumonia.",
    ]  # fmt: skip
    yield "## Replies to a question with options"
    yield ""
    yield "The true option is B, left pleural effusion. What each parser reads:"
    yield ""
    yield "| reply | " + " | ".join(PARSERS) + " |"
    yield "|---|" + "---|" * len(PARSERS)
    for reply in replies:
        yield f"| {reply} | " + " | ".join(parser(reply, options) or "–" for parser in PARSERS.values()) + " |"
    rates = [choice_accuracy(replies, [options] * len(replies), ["B"] * len(replies), name) for name in PARSERS]
    yield f"| accuracy (n={len(replies)}) | " + " | ".join(f"{rate.accuracy.value:.2f}" for rate in rates) + " |"
    yield ""
    own = m3d_right(replies, ["B"] * len(replies))
    yield f"M3D's own rule, the true letter and a full stop anywhere, gives {own.value:.2f} (n={own.n})."


def maps(rng: np.random.Generator) -> Iterator[str]:
    """Heat maps that lie near their targets; every tenth is flat and every seventh points elsewhere."""
    heats, targets, boxes, found_boxes, scores = [], [], [], [], []
    grid = np.stack(np.meshgrid(np.arange(48), np.arange(40), indexing="ij"), -1)
    for number in range(120):
        start = rng.integers(4, (30, 22))
        stop = start + rng.integers(6, 14, 2)
        center = (start + stop) / 2 + rng.normal(0, 3, 2)
        if number % 7 == 0:
            center = rng.uniform(0, (48, 40))
        heat = np.exp(-((grid - center) ** 2).sum(-1) / 60) + 0.02 * rng.random((48, 40))
        heats.append(np.zeros((48, 40)) if number % 10 == 0 else np.minimum(heat, 0.9))
        mask = np.zeros((48, 40), bool)
        mask[start[0] : stop[0], start[1] : stop[1]] = True
        targets.append(mask)
        boxes.append([(*start.tolist(), *stop.tolist())])
        lit = np.argwhere(heats[-1] > 0.5)
        found_boxes.append([(*lit.min(0).tolist(), *(lit.max(0) + 1).tolist())] if len(lit) else [])
        scores.append([float(heats[-1].max())] * len(found_boxes[-1]))
    half = len(heats) // 2
    threshold = tune_map_threshold(heats[:half], targets[:half])
    test, wanted = heats[half:], targets[half:]
    masks_found = [heat > 0.5 for heat in test]
    yield "## Maps and boxes"
    yield ""
    yield from _head()
    for ties in ("first", "share", "all", "any"):
        game = pointing_game(test, wanted, ties=ties)
        yield f"| pointing game | clipped maps, of equal peaks: {ties} | {game.n} | {game.value:.3f} |"
    for scored in (
        miou_over_thresholds(test, wanted),
        miou_tuned(test, wanted, threshold),
        miou_tuned(test, wanted, threshold, true_positives_only=False),
        miou_two_classes(masks_found, wanted),
        miou_all_pairs(found_boxes[half:], boxes[half:]),
        contrast_to_noise(test, wanted, "signed"),
        contrast_to_noise(test, wanted, "absolute"),
        energy_pointing(test, wanted),
        radvlm_map(found_boxes[half:], boxes[half:]),
    ):
        yield _line(scored)
    for rule, form in (("coco", "coco101"), ("voc", "voc2007"), ("voc", "voc2010")):
        matched = match_boxes(found_boxes[half:], scores[half:], boxes[half:], rule=rule)
        area = box_average_precision(matched, form)
        yield f"| box_average_precision | {area.variant} | {area.true} | {area.value:.3f} |"


def masks(rng: np.random.Generator) -> Iterator[str]:
    """Lumpy masks; one in six is empty in truth, one in ten is not found."""
    from scipy import ndimage

    predicted, true = [], []
    for number in range(60):
        field = ndimage.gaussian_filter(rng.normal(size=(10, 40, 40)), (1, 3, 3))
        change = ndimage.gaussian_filter(rng.normal(size=field.shape), (1, 3, 3))
        level = np.quantile(field, 0.93)
        true.append(np.zeros(field.shape, bool) if number % 6 == 0 else field > level)
        missed = (number % 6 == 0 and number % 12) or number % 10 == 1
        predicted.append(np.zeros(field.shape, bool) if missed else field + 0.4 * change > level)
    spacing = [(5.0, 0.8, 0.8)] * len(true)
    yield "## Masks"
    yield ""
    yield "Voxels of 5 x 0.8 x 0.8 mm."
    yield ""
    yield from _head()
    for empty in ("exclude", "one", "zero"):
        yield _line(dice(predicted, true, empty))
    for form in ("larger", "pooled"):
        yield _line(hausdorff(predicted, true, spacing, 95, form))
    yield _line(hausdorff(predicted, true, spacing, 95, one_empty="diagonal"))
    yield _line(hausdorff(predicted, true, spacing, 100))
    for average in ("pooled", "mean of means"):
        yield _line(average_surface_distance(predicted, true, spacing, average))
    for surface in ("voxels", "area"):
        yield _line(surface_dice(predicted, true, spacing, 2.0, surface))


def archive(rng: np.random.Generator) -> Iterator[str]:
    """A search from images to reports: a third of the reports are the same words, patients have two studies."""
    studies = 600
    words = [0 if number % 3 == 0 else number for number in range(studies)]
    patients = [number // 2 for number in range(studies)]
    meaning = rng.normal(size=(studies, 24))[words] + 0.8 * rng.normal(size=(studies // 2, 24))[patients]
    images, texts = meaning + 1.5 * rng.normal(size=meaning.shape), meaning
    similarity = images @ texts.T
    yield "## Search"
    yield ""
    yield f"{studies} studies; a third of the reports have the same words; every patient has two studies."
    yield ""
    yield "| measure | computation | n | value | by chance |"
    yield "|---|---|---:|---:|---:|"
    both = (patients, patients)
    for name, groups, rule in (
        ("own report only, as CT-CLIP and M3D count", list(range(studies)), "keep"),
        ("any report with the same words", words, "keep"),
        ("same words; the patient's other study is no negative", words, "leave out negatives"),
    ):
        found = recall_at_k(similarity, groups, groups, (5,), patients=both, same_patient=rule)
        yield f"| recall at 5 | {name} | {found.queries} | {found.recall[5]:.3f} | {found.chance[5]:.3f} |"
    labels = (rng.random((studies, 18)) < 0.12).astype(np.float64)[words]
    near = images @ images.T
    overlap = label_overlap_at_k(near, labels, labels)
    chance = label_overlap_chance(labels, labels)
    for k, scored in overlap.items():
        yield f"| CT-CLIP's MAP at {k} | {scored.variant} | {scored.n} | {scored.value:.3f} | {chance:.3f} |"
    for k, value in as_ct_clip_prints(overlap).items():
        yield f"| CT-CLIP's MAP at {k} | as its script prints it | {overlap[k].n} | {value:.3f} | {chance:.3f} |"
    np.fill_diagonal(near, -np.inf)
    for k, scored in label_overlap_at_k(near, labels, labels, (1, 5)).items():
        without = "the query is not in its gallery"
        yield f"| CT-CLIP's MAP at {k} | {without} | {scored.n} | {scored.value:.3f} | {chance:.3f} |"


def _head() -> Iterator[str]:
    yield "| measure | computation | n | value |"
    yield "|---|---|---:|---:|"


def _line(scored: ItemScores) -> str:
    return f"| {scored.name} | {scored.variant} | {scored.n} | {scored.value:.3f} |"


if __name__ == "__main__":
    sys.exit(main())
