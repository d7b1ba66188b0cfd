"""Benchmarks that show the place: VinDr-CXR, RSNA Pneumonia, SIIM-ACR Pneumothorax and ChestX-Det.

Sources: Nguyen et al. 2022, arXiv:2012.15029; Shih et al. 2019, doi:10.1148/ryai.2019180041; the SIIM-ACR challenge of
2019; Liu et al. 2020, arXiv:2006.10550 and Lian et al. 2021, arXiv:2104.10326.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from evaluation.benchmark_item import ABSENT, PRESENT, BenchmarkError, Item, Reading
from evaluation.benchmark_regions import Box, Polygon, RunLengths
from evaluation.benchmark_tables import (
    Row,
    check_points,
    find_file,
    label,
    listed,
    need_files,
    number,
    one_of,
    read_objects,
    read_table,
    refuse_strangers,
)

VINDR_FINDINGS = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation",
    "Edema", "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst",
    "Mediastinal shift", "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax",
    "Pulmonary fibrosis", "Rib fracture", "Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis",
    "Other disease", "No finding",
)  # fmt: skip
_OTHER = ("Other disease", "Other diseases")  # the two tables of the release spell it in two ways
CHESTX_DET_FINDINGS = (
    "Atelectasis", "Calcification", "Cardiomegaly", "Consolidation", "Diffuse Nodule", "Effusion", "Emphysema",
    "Fibrosis", "Fracture", "Mass", "Nodule", "Pleural Thickening", "Pneumothorax",
)  # fmt: skip
_VINDR_READERS = 3  # of each training image
_RSNA_CLASSES = ("Normal", "No Lung Opacity / Not Normal", "Lung Opacity")
_SIIM_SIZE = (1024, 1024)


def vindr_cxr(reading: Reading) -> None:
    """image_labels_{train,test}.csv and annotations_{train,test}.csv. A training image has the labels of three
    radiologists in `readings`, and in `labels` what two of them say; a test image has one consensus."""
    any_found = False
    for split in ("train", "test"):
        labels = find_file(reading, f"annotations/image_labels_{split}.csv", f"image_labels_{split}.csv")
        if labels is None:
            continue
        any_found = True
        (drawn,) = need_files(reading, (f"annotations/annotations_{split}.csv", f"annotations_{split}.csv"))
        readers = ("rad_id",) if split == "train" else ()
        needed = [name for name in VINDR_FINDINGS if name != "Other disease"]
        images: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
        for where, row in read_table(reading, labels, ("image_id", *readers, *needed), _OTHER):
            said = images[row["image_id"]]
            if row.get("rad_id", "") in said:
                raise BenchmarkError(f"{where}: this image and reader stand twice, expected one row for each")
            said[row.get("rad_id", "")] = _vindr_labels(row, where)
        alone = [image for image, said in images.items() if readers and len(said) != _VINDR_READERS]
        if alone:
            raise BenchmarkError(f"{labels}: {len(alone)} images without {_VINDR_READERS} readers: {listed(alone)}")
        boxes = _vindr_boxes(reading, drawn, readers) if reading.wanted(split) else {}
        refuse_strangers(drawn, boxes, images)
        for image, said in images.items():
            if reading.lists(image, split):
                reading.items.append(
                    Item(
                        image,
                        split,
                        (f"{split}/{image}.dicom",),
                        labels=_majority(said),
                        readings=said if readers else {},
                        boxes=tuple(boxes.get(image, ())),
                    )
                )
    if not any_found:
        need_files(reading, "annotations/image_labels_train.csv", "annotations/image_labels_test.csv")
    reading.version = "1.0.0"


def _vindr_labels(row: Row, where: str) -> dict[str, float]:
    names = [name for name in row if name not in ("image_id", "rad_id")]
    return {_OTHER[0] if name in _OTHER else name: label(row[name], f"{where}, {name}") for name in names}


def _majority(said: dict[str, dict[str, float]]) -> dict[str, float]:
    votes = list(said.values())
    return {
        name: PRESENT if sum(vote[name] == PRESENT for vote in votes) * 2 > len(votes) else ABSENT for name in votes[0]
    }


def _vindr_boxes(reading: Reading, path: Path, readers: tuple[str, ...]) -> dict[str, list[Box]]:
    boxes: dict[str, list[Box]] = defaultdict(list)
    corners = ("x_min", "y_min", "x_max", "y_max")
    for where, row in read_table(reading, path, ("image_id", *readers, "class_name", *corners), ("class_id",)):
        name = one_of(_OTHER[0] if row["class_name"] in _OTHER else row["class_name"], VINDR_FINDINGS, "finding", where)
        if name != "No finding":
            x0, y0, x1, y1 = (number(row[key], f"{where}, {key}") for key in corners)
            boxes[row["image_id"]].append(Box(name, x0, y0, x1, y1, row.get("rad_id", "")))
    return boxes


def rsna(reading: Reading) -> None:
    """Stage 2: stage_2_train_labels.csv with stage_2_detailed_class_info.csv, and the images of the test set, whose
    labels were not published in this form (stage_2_sample_submission.csv lists them)."""
    labels, classes = need_files(reading, "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv")
    kinds = {
        row["patientId"]: one_of(row["class"], _RSNA_CLASSES, "class", where)
        for where, row in read_table(reading, classes, ("patientId", "class"))
    }
    boxes: dict[str, list[Box]] = defaultdict(list)
    targets: dict[str, float] = {}
    corners = ("x", "y", "width", "height")
    for where, row in read_table(reading, labels, ("patientId", *corners, "Target")):
        image, target = row["patientId"], label(row["Target"], f"{where}, Target")
        if targets.setdefault(image, target) != target:
            raise BenchmarkError(f"{where}: this image has Target 0 and 1")
        if target == PRESENT:
            boxes[image].append(Box.from_corner("Pneumonia", *(number(row[key], f"{where}, {key}") for key in corners)))
    for image, target in targets.items():
        if image not in kinds:
            raise BenchmarkError(f"{classes}: lacks the image {image} of {labels.name}; the tables are of two releases")
        if reading.lists(image, "train"):
            reading.items.append(
                Item(
                    image,
                    "train",
                    (f"stage_2_train_images/{image}.dcm",),
                    labels={"Pneumonia": target},
                    boxes=tuple(boxes.get(image, ())),
                    details={"class": kinds[image]},
                )
            )
    test = find_file(reading, "stage_2_sample_submission.csv")
    if test is not None:
        for _, row in read_table(reading, test, ("patientId", "PredictionString")):
            if reading.lists(row["patientId"], "test"):
                reading.items.append(Item(row["patientId"], "test", (f"stage_2_test_images/{row['patientId']}.dcm",)))
    reading.version = "stage 2"


def siim_acr(reading: Reading) -> None:
    """train-rle.csv (stage 1) or stage_2_train.csv: run lengths of each pneumothorax, -1 for none."""
    (path,) = need_files(reading, ("stage_2_train.csv", "train-rle.csv"))
    masks: dict[str, list[RunLengths]] = {}
    for where, row in read_table(reading, path, ("ImageId", "EncodedPixels")):
        runs = row["EncodedPixels"].split()
        here = masks.setdefault(row["ImageId"].strip(), [])
        if runs != ["-1"]:
            if not all(run.lstrip("-").isdigit() for run in runs):
                raise BenchmarkError(
                    f"{where}: run lengths {row['EncodedPixels'][:40]!r}, expected whole numbers or -1"
                )
            here.append(RunLengths("Pneumothorax", tuple(map(int, runs)), _SIIM_SIZE))
    # Each image lies in folders of its study and series, whose names no table tells.
    places = {found.stem: found.relative_to(reading.folder).as_posix() for found in reading.folder.rglob("*.dcm")}
    for image, drawn in masks.items():
        if reading.lists(image, "train"):
            reading.items.append(
                Item(
                    image,
                    "train",
                    (places.get(image, f"dicom-images-train/{image}.dcm"),),
                    labels={"Pneumothorax": PRESENT if drawn else ABSENT},
                    masks=tuple(drawn),
                )
            )
    reading.version = "stage 2" if path.name.startswith("stage_2") else "stage 1"


def chestx_det(reading: Reading) -> None:
    """ChestX_Det_train.json and ChestX_Det_test.json: a finding, a box and an outline for each place."""
    tables = [(split, find_file(reading, f"ChestX_Det_{split}.json")) for split in ("train", "test")]
    if not any(path for _, path in tables):
        need_files(reading, "ChestX_Det_train.json", "ChestX_Det_test.json")
    for split, path in tables:
        if path is None:
            continue
        for where, row in read_objects(reading, path, ("file_name",), lists=("syms", "boxes", "polygons")):
            name, found = str(row["file_name"]), row["syms"]
            if not len(found) == len(row["boxes"]) == len(row["polygons"]):
                raise BenchmarkError(
                    f"{where}: {len(found)} findings, {len(row['boxes'])} boxes and {len(row['polygons'])} outlines,"
                    " expected as many of each"
                )
            for one in found:
                one_of(one, CHESTX_DET_FINDINGS, "finding", where)
            if reading.lists(f"{split}/{name}", split):
                image = next(
                    (
                        f"{inner}/{name}"
                        for inner in (f"{split}_data/{split}", f"{split}_data", split)
                        if (reading.folder / inner / name).is_file()
                    ),
                    f"{split}_data/{name}",
                )
                corners = check_points(row["boxes"], 4, where)
                boxes = tuple(_corners(one, box, where) for one, box in zip(found, corners, strict=True))
                masks = tuple(_outline(one, points, where) for one, points in zip(found, row["polygons"], strict=True))
                labels = {one: PRESENT if one in found else ABSENT for one in CHESTX_DET_FINDINGS}
                reading.items.append(Item(f"{split}/{name}", split, (image,), labels=labels, boxes=boxes, masks=masks))


def _corners(finding: str, box: list[float], where: str) -> Box:
    x0, y0, x1, y1 = (number(edge, where) for edge in box)
    return Box(finding, x0, y0, x1, y1)


def _outline(finding: str, points: object, where: str) -> Polygon:
    return Polygon(finding, tuple((number(x, where), number(y, where)) for x, y in check_points(points, 2, where)))
