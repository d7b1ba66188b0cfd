"""Rankings, boxes, masks and short answers beside torchmetrics, scikit-learn, pycocotools, MONAI, SciPy and nltk.

All input is drawn from a fixed seed. LLaVA-Med, PathVQA, M3D, RadVLM, CheXlocalize, CT-CLIP and generate_to_ground are
on no package index: their scorings are checked by hand-worked cases in the tests.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evaluation.boxes import box_ious
from evaluation.detection import COCO_THRESHOLDS, coco_average_precision
from evaluation.froc import froc
from evaluation.lesion_detection import match_lesions
from evaluation.mean_iou import miou_two_classes
from evaluation.multiple_choice import label_f1
from evaluation.ranking import mean_average_precision, ndcg
from evaluation.retrieval import recall_at_k
from evaluation.segmentation import average_surface_distance, dice, hausdorff, mask_iou, surface_dice, surface_distances
from evaluation.vqa import score_answers

SEED = 5
SPACING_MM = (2.5, 0.7, 0.8)
Floats = NDArray[np.float64]


class Row(NamedTuple):
    """One comparison; means over cases, and the largest difference of single cases."""

    name: str
    n: int
    ours: float
    original: float | None
    difference: float | None


def main() -> Iterator[Row]:
    """Every comparison of this section."""
    rng = np.random.default_rng(SEED)
    yield from rankings(rng)
    yield from boxes(rng)
    yield from marks(rng)
    yield from masks(rng)
    yield from answers(rng)


def rankings(rng: np.random.Generator) -> Iterator[Row]:
    """200 queries over a gallery of 60 with 1 to 8 right items and no ties."""
    import torch
    from sklearn.metrics import average_precision_score, ndcg_score
    from torchmetrics.functional import retrieval as original

    scores = rng.permutation(200 * 60).reshape(200, 60) / (200 * 60)
    grades = np.zeros((200, 60), dtype=np.int64)
    for query in grades:
        places = rng.choice(60, rng.integers(1, 9), replace=False)
        query[places] = rng.integers(1, 4, len(places))
    right = grades > 0
    pairs = [(torch.from_numpy(s), torch.from_numpy(r)) for s, r in zip(scores, right, strict=True)]
    theirs = version("torchmetrics")
    ours = mean_average_precision(scores, right).items
    yield row("MAP", theirs, ours, [float(original.retrieval_average_precision(s, r)) for s, r in pairs])
    sklearn = version("scikit-learn")
    yield row("MAP", sklearn, ours, [average_precision_score(r, s) for s, r in zip(scores, right, strict=True)])
    for k in (5, None):
        depth = f"NDCG at {k}" if k else "NDCG"
        expected = [ndcg_score([g], [s], k=k) for s, g in zip(scores, grades, strict=True)]
        yield row(f"{depth}, linear gain", sklearn, ndcg(scores, grades, k).items, expected)
        expected = [ndcg_score([2**g - 1], [s], k=k) for s, g in zip(scores, grades, strict=True)]
        yield row(f"{depth}, exponential gain", sklearn, ndcg(scores, grades, k, "exponential").items, expected)
    alone = np.arange(60)[:, None] == np.arange(60)[None]
    found = recall_at_k(scores[:60], list(range(60)), list(range(60)))
    own = [(pairs[query][0], torch.from_numpy(alone[query])) for query in range(60)]
    for k in (1, 5, 10):
        expected = [float(original.retrieval_hit_rate(s, r, top_k=k)) for s, r in own]
        yield row(f"recall at {k}", theirs, found.hits(k), expected)
    expected = [float(original.retrieval_reciprocal_rank(s, r)) for s, r in own]
    yield row("reciprocal rank", theirs, found.reciprocal_ranks, expected)


def boxes(rng: np.random.Generator) -> Iterator[Row]:
    """100 images with 0 to 4 true boxes; found ones are shaken, false ones added, scores rounded so that some tie."""
    true, predicted, scores = drawn_boxes(rng, 100)
    ours = coco_average_precision(predicted, scores, true)
    values = np.asarray([ours[threshold].value for threshold in COCO_THRESHOLDS])
    count = sum(map(len, true))
    original = coco_precision(predicted, scores, true)
    name = version("pycocotools")
    if original is None:
        yield Row(f"average precision, COCO | {name}", count, float(values.mean()), None, None)
        return
    yield row("AP at IoU 0.5, COCO", name, values[:1], original[:1], count)
    yield row("AP at IoU 0.5 to 0.95, COCO", name, values, original, count)
    from pycocotools import mask

    some, others = drawn_boxes(rng, 1)[1][0], np.concatenate(true)
    corner = [np.concatenate([one[:, :2], one[:, 2:] - one[:, :2]], 1) for one in (some, others)]
    expected = mask.iou(corner[0], corner[1], [0] * len(others))
    yield row("IoU of boxes", name, box_ious(some, others).ravel(), np.asarray(expected).ravel())


def drawn_boxes(rng: np.random.Generator, images: int) -> tuple[list[Floats], list[Floats], list[Floats]]:
    """True boxes, predicted boxes and their scores for each image."""

    def some(count: int) -> Floats:
        start = rng.integers(0, 80, (count, 2))
        return np.concatenate([start, start + rng.integers(1, 40, (count, 2))], 1).astype(np.float64)

    true = [some(int(rng.integers(0, 5))) for _ in range(images)]
    predicted, scores = [], []
    for targets in true:
        shaken = targets[rng.random(len(targets)) < 0.8]
        shaken = shaken + rng.normal(0, 2, shaken.shape)
        found = np.concatenate([np.minimum(shaken[:, :2], shaken[:, 2:]), np.maximum(shaken[:, :2], shaken[:, 2:])], 1)
        predicted.append(np.concatenate([found, some(int(rng.integers(1, 4)))]))
        scores.append(np.round(rng.random(len(predicted[-1])), 1))
    return true, predicted, scores


def coco_precision(predicted: Sequence[Floats], scores: Sequence[Floats], true: Sequence[Floats]) -> Floats | None:
    """AP of pycocotools at each IoU threshold, (10,); None where it is not installed."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image} for image in range(len(true))],
            "categories": [{"id": 1}],
            "annotations": [
                {
                    "id": number,
                    "image_id": image,
                    "category_id": 1,
                    "bbox": corner(box),
                    "area": area(box),
                    "iscrowd": 0,
                }
                for number, (image, box) in enumerate(
                    ((image, box) for image, targets in enumerate(true) for box in targets), 1
                )
            ],
        }
        truth.createIndex()
        found = truth.loadRes(
            [
                {"image_id": image, "category_id": 1, "bbox": corner(box), "score": float(score)}
                for image, (marks, values) in enumerate(zip(predicted, scores, strict=True))
                for box, score in zip(marks, values, strict=True)
            ]
        )
        judge = COCOeval(truth, found, "bbox")
        judge.evaluate()
        judge.accumulate()
    return np.asarray(judge.eval["precision"][:, :, 0, 0, 2].mean(1), dtype=np.float64)


def corner(box: Floats) -> list[float]:
    """A box as COCO writes it: start, then size."""
    return [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]


def area(box: Floats) -> float:
    """The size of a plane box."""
    return float((box[2:] - box[:2]).prod())


def marks(rng: np.random.Generator) -> Iterator[Row]:
    """FROC of points in 40 images with 0 to 4 square lesions, beside MONAI's, which also takes points."""
    from monai.metrics import compute_fp_tp_probs, compute_froc_curve_data, compute_froc_score

    true, predicted, scores = [], [], []
    false, right = [], []
    for _ in range(40):
        labels = np.zeros((64, 64), dtype=np.int64)
        cells = rng.choice(16, int(rng.integers(0, 5)), replace=False)
        squares = np.asarray([[16 * (c // 4), 16 * (c % 4), 16 * (c // 4) + 9, 16 * (c % 4) + 9] for c in cells])
        for number, (top, left, bottom, far) in enumerate(squares, 1):
            labels[top:bottom, left:far] = number
        aimed = squares.reshape(-1, 4)[:, :2] + rng.integers(0, 13, (len(squares), 2))
        points = np.concatenate([rng.integers(0, 64, (6, 2)), np.minimum(aimed, 63)])
        chance = np.concatenate([rng.random(6), 0.3 + rng.random(len(aimed))])
        fp, tp, _ = compute_fp_tp_probs(chance, points[:, 0], points[:, 1], labels)
        false.extend(np.asarray(fp).tolist())
        right.extend(np.asarray(tp).tolist())
        true.append(squares.reshape(-1, 4).astype(np.float64))
        predicted.append(np.concatenate([points, points], 1).astype(np.float64))
        scores.append(chance)
    ours = froc(predicted, scores, true, "center")
    rates, found = compute_froc_curve_data(np.asarray(false), np.asarray(right), ours.n, ours.images)
    for rate in (0.125, 0.25, 0.5, 1.0, 2.0, 4.0):
        expected = compute_froc_score(rates, found, (rate,))
        value = ours.sensitivity(rate, "linear")
        yield row(f"FROC, sensitivity at {rate:g} false marks", version("monai"), [value], [expected], ours.n)


def masks(rng: np.random.Generator) -> Iterator[Row]:
    """Twelve pairs of lumpy masks in voxels of 2.5 x 0.7 x 0.8 mm."""
    import torch
    from monai import metrics
    from sklearn.metrics import jaccard_score

    one, other = lumps(rng, 12)
    spacing = [SPACING_MM] * len(one)
    channels = [torch.from_numpy(np.stack(side)[:, None]).float() for side in (one, other)]
    own: dict[str, Any] = {"include_background": True, "spacing": SPACING_MM}
    monai = version("monai")

    def theirs(values: torch.Tensor) -> Floats:
        return values[:, 0].double().numpy()

    yield row("Dice", monai, dice(one, other).items, theirs(metrics.compute_dice(*channels)))
    yield row("IoU of masks", monai, mask_iou(one, other).items, theirs(metrics.compute_iou(*channels)))
    expected = theirs(metrics.compute_hausdorff_distance(*channels, **own))
    yield row("HD100 in mm", monai, hausdorff(one, other, spacing, 100).items, expected)
    expected = theirs(metrics.compute_hausdorff_distance(*channels, percentile=95, **own))
    yield row("HD95 in mm, float32 form", monai, hausdorff(one, other, spacing, 95, "monai").items, expected)
    expected = theirs(metrics.compute_average_surface_distance(*channels, symmetric=True, **own))
    yield row("ASSD in mm, pooled", monai, average_surface_distance(one, other, spacing).items, expected)
    expected = theirs(metrics.compute_surface_dice(*channels, class_thresholds=[1.0], **own))
    yield row("NSD at 1 mm, voxels", monai, surface_dice(one, other, spacing, 1.0).items, expected)
    expected = theirs(metrics.compute_surface_dice(*channels, class_thresholds=[1.0], use_subvoxels=True, **own))
    yield row("NSD at 1 mm, area", monai, surface_dice(one, other, spacing, 1.0, "area").items, expected)
    yield from by_scipy(one, other)
    expected = np.asarray([
        (jaccard_score(t.ravel(), p.ravel()) + jaccard_score(~t.ravel(), ~p.ravel())) / 2
        for p, t in zip(one, other, strict=True)
    ])  # fmt: skip
    yield row("mIoU of two classes", version("scikit-learn"), miou_two_classes(one, other).items, expected)
    yield from panoptic(one, other)


def by_scipy(one: Sequence[NDArray[np.bool_]], other: Sequence[NDArray[np.bool_]]) -> Iterator[Row]:
    """Surface distances from all pairs of surface voxels, in float64."""
    from scipy import ndimage
    from scipy.spatial.distance import cdist

    def surface(mask: NDArray[np.bool_]) -> Floats:
        return np.argwhere(mask & ~ndimage.binary_erosion(mask)) * np.asarray(SPACING_MM)

    tables = [cdist(surface(p), surface(t)) for p, t in zip(one, other, strict=True)]
    ours = [surface_distances(p, t, SPACING_MM) for p, t in zip(one, other, strict=True)]
    both = [np.concatenate([table.min(1), table.min(0)]) for table in tables]
    scipy = version("scipy")
    larger = [max(np.percentile(table.min(1), 95), np.percentile(table.min(0), 95)) for table in tables]
    yield row("HD95 in mm, larger direction", scipy, [found.hausdorff_mm(95) for found in ours], larger)
    pooled = [np.percentile(distances, 95) for distances in both]
    yield row("HD95 in mm, pooled", scipy, [found.hausdorff_mm(95, "pooled") for found in ours], pooled)
    expected = [float(distances.mean()) for distances in both]
    yield row("ASSD in mm, pooled", scipy, [found.average_mm() for found in ours], expected)
    expected = [float((table.min(1).mean() + table.min(0).mean()) / 2) for table in tables]
    yield row("ASSD in mm, mean of means", scipy, [found.average_mm("mean of means") for found in ours], expected)


def panoptic(one: Sequence[NDArray[np.bool_]], other: Sequence[NDArray[np.bool_]]) -> Iterator[Row]:
    """Panoptic quality over connected components, beside MONAI's on components that SciPy labelled."""
    import torch
    from monai.metrics import compute_panoptic_quality
    from scipy import ndimage

    shape = np.ones((3, 3, 3))
    expected, ours = [], []
    for predicted, true in zip(one, other, strict=True):
        labels = [torch.from_numpy(ndimage.label(mask, shape)[0]) for mask in (predicted, true)]
        expected.append(float(compute_panoptic_quality(*labels, match_iou_threshold=0.5, smooth_numerator=1e-12)))
        ours.append(match_lesions([predicted], [true], smallest_iou=0.5).panoptic_quality)
    yield row("panoptic quality of lesions, unsmoothed", version("monai"), ours, expected)


def lumps(rng: np.random.Generator, pairs: int) -> tuple[list[NDArray[np.bool_]], list[NDArray[np.bool_]]]:
    """Masks of several lumps, and the same ones after they changed a little."""
    from scipy import ndimage

    one, other = [], []
    for _ in range(pairs):
        field = ndimage.gaussian_filter(rng.normal(size=(12, 30, 26)), 2)
        change = ndimage.gaussian_filter(rng.normal(size=field.shape), 2)
        level = np.quantile(field, 0.7)
        one.append(field + 0.3 * change > level)
        other.append(field > level)
    return one, other


def answers(rng: np.random.Generator) -> Iterator[Row]:
    """500 pairs of short answers from a small vocabulary, and a table of labels."""
    from sklearn.metrics import f1_score
    from torchmetrics.functional.text import squad

    words = ["the", "left", "right", "lung", "a", "no", "yes", "mass", "3", "cm", "effusion,", "x-ray", "Normal"]
    said, true = ([" ".join(rng.choice(words, rng.integers(1, 7))) for _ in range(500)] for _ in range(2))
    for name, key in (("squad_f1", "f1"), ("squad_exact", "exact_match")):
        pairs = []
        for s, t in zip(said, true, strict=True):
            truth = {"answers": {"text": [t], "answer_start": [0]}, "id": "0"}
            pairs.append(float(squad({"prediction_text": s, "id": "0"}, truth)[key]))
        yield row(name, version("torchmetrics"), score_answers(name, said, true).items, np.asarray(pairs) / 100)
    yield from nltk_bleu(said, true)
    table = [(rng.random((300, 13)) < share).astype(np.float64) for share in (0.3, 0.4)]
    ours = label_f1(table[0], table[1])
    for average in ("micro", "macro"):
        expected = f1_score(table[1], table[0], average=average, zero_division=0)
        yield row(f"F1 of mentioned labels, {average}", version("scikit-learn"), [ours[average]], [expected], 300)


def nltk_bleu(said: Sequence[str], true: Sequence[str]) -> Iterator[Row]:
    """BLEU-1 of LLaVA-Med, which calls nltk on words in the VQA challenge's form."""
    from evaluation.answer_words import vqa_words

    ours = score_answers("bleu_1", said, true).items
    name = version("nltk")
    try:
        from nltk.translate.bleu_score import sentence_bleu
    except ImportError:
        yield Row(f"BLEU-1 of answers | {name}", len(ours), float(ours.mean()), None, None)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [
            sentence_bleu([vqa_words(t).split()], vqa_words(s).split(), weights=(1, 0, 0, 0))
            for s, t in zip(said, true, strict=True)
        ]
    yield row("BLEU-1 of answers", name, ours, expected)


def row(name: str, original: str, ours: Sequence[float] | Floats, theirs: Any, n: int | None = None) -> Row:
    """A comparison of values one by one."""
    mine, other = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    return Row(f"{name} | {original}", n or len(mine), float(mine.mean()), float(other.mean()),
               float(np.abs(mine - other).max()))  # fmt: skip


def version(package: str) -> str:
    """The name of a package with its version, if it is installed."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return package


if __name__ == "__main__":
    for found in main():
        print(found)
