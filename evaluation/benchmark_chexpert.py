"""CheXpert and MIMIC-CXR(-JPG): the benchmarks labelled with the 14 observations of CheXpert, and MS-CXR's phrases.

Both label sets hold 1, 0, -1 (uncertain) and nothing (not mentioned); all four stay apart.
Sources: Irvin et al. 2019, arXiv:1901.07031; Johnson et al. 2019, doi:10.1038/s41597-019-0322-0 and arXiv:1901.07042;
Boecking et al. 2022, arXiv:2204.09817.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path

from evaluation.benchmark_item import BenchmarkError, Item, Reading
from evaluation.benchmark_regions import Box
from evaluation.benchmark_tables import (
    Row,
    check_columns,
    check_objects,
    check_points,
    find_file,
    label,
    listed,
    need_files,
    number,
    one_of,
    read_json,
    read_table,
)
from reports.sections import split_sections

OBSERVATIONS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
_FILM = re.compile(r"(?:(CheXpert-v1\.0[^/]*)/)?((?:train|valid|val|test)/(patient\d+)/(study\d+))(?:/(view[^/]+))?")
_REPORT = re.compile(r"files/p\d{2}/p\d{8}/s\d{8}\.txt")
_MIMIC = ("train", "validate", "test")
_CLASSES = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Lung Opacity", "Pleural Effusion", "Pneumonia",
    "Pneumothorax",
)  # fmt: skip


def chexpert(reading: Reading) -> None:
    """train.csv, valid.csv and test.csv: one item per image. groundtruth.csv of the test set: one item per study."""
    tables = [(name, find_file(reading, name)) for name in ("train.csv", "valid.csv", "test.csv", "groundtruth.csv")]
    if not any(path for _, path in tables):
        need_files(reading, "train.csv", "valid.csv", "test.csv")
    versions = set()
    for name, path in tables:
        if path is None:
            continue
        key = "Study" if name == "groundtruth.csv" else "Path"
        split = "test_studies" if key == "Study" else name.removesuffix(".csv")
        plain = ("Sex", "Age", "Frontal/Lateral", "AP/PA")
        for where, row in read_table(reading, path, (key, *OBSERVATIONS), plain):
            match = _FILM.fullmatch(row[key].strip())
            if match is None or (match[5] is None) != (key == "Study"):
                raise BenchmarkError(
                    f"{where}: path {row[key]!r}, expected one like train/patient00001/study1/view1_frontal.jpg"
                )
            versions.add(match[1] or "")
            place = row[key].strip().removeprefix(f"{match[1]}/")
            if reading.lists(place, split, match[3]):
                reading.items.append(_film(reading, place, split, match, row, where))
    reading.version = ", ".join(sorted(versions - {""})) or "CheXpert-v1.0"


def _film(reading: Reading, place: str, split: str, match: re.Match[str], row: Row, where: str) -> Item:
    images: tuple[str, ...] = (place,)
    if match[5] is None:  # a study: its films are those that lie in its folder
        found = sorted(
            path.relative_to(reading.folder).as_posix() for path in (reading.folder / place).glob("view*.jpg")
        )
        images = tuple(found) or (f"{place}/view1_frontal.jpg",)
    return Item(
        place,
        split,
        images,
        patient=match[3],
        study=match[2],
        view=" ".join(filter(None, (row.get("Frontal/Lateral", ""), row.get("AP/PA", "")))),
        labels={name: label(row[name], f"{where}, {name}") for name in OBSERVATIONS},
        details={name.lower(): row[name] for name in ("Sex", "Age") if row.get(name)},
    )


def mimic_cxr(reading: Reading) -> None:
    """Reports of MIMIC-CXR, one item per study, with the films where the list of records is there.

    The split comes with MIMIC-CXR-JPG (mimic-cxr-2.0.0-split.csv.gz); without that table all studies are in "all".
    """
    (studies,) = need_files(reading, "cxr-study-list.csv")
    splits = _study_splits(reading)
    films = _films_of_studies(reading)
    for where, row in read_table(reading, studies, ("subject_id", "study_id", "path")):
        if not _REPORT.fullmatch(row["path"]):
            raise BenchmarkError(f"{where}: path {row['path']!r}, expected files/pXX/pXXXXXXXX/sXXXXXXXX.txt")
        split = splits.get(row["study_id"], "") if splits else "all"
        if not split:
            raise BenchmarkError(f"{where}: study {row['study_id']} is in no split; the tables are of two releases")
        if reading.lists(row["study_id"], split, row["subject_id"]):
            reading.items.append(_report(reading, row, split, tuple(films.get(row["study_id"], ()))))
    _refuse_unread(reading)
    reading.version = "2"
    if not splits:
        reading.notes.append("mimic-cxr-2.0.0-split.csv.gz is not in the folder, so no official split")


def _report(reading: Reading, row: Row, split: str, films: tuple[str, ...]) -> Item:
    path = reading.folder / row["path"]
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return Item(
        row["study_id"],
        split,
        films,
        patient=row["subject_id"],
        study=row["study_id"],
        text=text,
        sections=split_sections(text),
        details={"report": row["path"]},
    )


def _refuse_unread(reading: Reading) -> None:
    missing = [
        item.details["report"] for item in reading.items if not os.path.exists(reading.folder / item.details["report"])
    ]
    if missing:
        raise BenchmarkError(
            f"{reading.folder}: {len(missing)} of {len(reading.items)} reports are missing: {listed(missing)}. Unpack"
            " mimic-cxr-reports.zip here"
        )


def _study_splits(reading: Reading) -> dict[str, str]:
    path = find_file(reading, "mimic-cxr-2.0.0-split.csv")
    if path is None:
        return {}
    splits: dict[str, str] = {}
    for where, row in read_table(reading, path, ("dicom_id", "study_id", "subject_id", "split")):
        split = one_of(row["split"], _MIMIC, "split", where)
        if splits.setdefault(row["study_id"], split) != split:
            raise BenchmarkError(f"{where}: images of study {row['study_id']} are in two splits")
    return splits


def _films_of_studies(reading: Reading) -> dict[str, list[str]]:
    path = find_file(reading, "cxr-record-list.csv")
    films: dict[str, list[str]] = defaultdict(list)
    if path is not None:
        for _, row in read_table(reading, path, ("subject_id", "study_id", "dicom_id", "path")):
            films[row["study_id"]].append(row["path"])
    return films


def mimic_cxr_jpg(reading: Reading) -> None:
    """Films of MIMIC-CXR-JPG, one item per image: labels of CheXpert; those of NegBio, and of the radiologist for the
    test set of version 2.1.0, stand in `readings`."""
    split_path, chexpert_path = need_files(reading, "mimic-cxr-2.0.0-split.csv", "mimic-cxr-2.0.0-chexpert.csv")
    readers = {"chexpert": _study_labels(reading, chexpert_path)}
    for name, table in (
        ("negbio", "mimic-cxr-2.0.0-negbio.csv"),
        ("radiologist", "mimic-cxr-2.1.0-test-set-labeled.csv"),
    ):
        path = find_file(reading, table)
        if path is not None:
            readers[name] = _study_labels(reading, path)
    views = _views(reading)
    for where, row in read_table(reading, split_path, ("dicom_id", "study_id", "subject_id", "split")):
        subject, study, dicom = row["subject_id"], row["study_id"], row["dicom_id"]
        split = one_of(row["split"], _MIMIC, "split", where)
        if reading.lists(dicom, split, subject):
            said = {name: labels[study] for name, labels in readers.items() if study in labels}
            image = f"files/p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg"
            reading.items.append(
                Item(dicom, split, (image,), subject, study, views.get(dicom, ""), said.get("chexpert", {}), said)
            )
    reading.version = "2.1.0" if "radiologist" in readers else "2.0.0"


def _study_labels(reading: Reading, path: Path) -> dict[str, dict[str, float]]:
    found = {}
    renamed = "Airspace Opacity"  # another name of Lung Opacity, from the labellers' first version
    needed = [name for name in OBSERVATIONS if name != "Lung Opacity"]
    rows = read_table(reading, path, ("study_id", *needed), ("subject_id", "Lung Opacity", renamed))
    for where, row in rows:
        names = {("Lung Opacity" if name == renamed else name): name for name in row if not name.endswith("_id")}
        found[row["study_id"]] = {name: label(row[column], f"{where}, {column}") for name, column in names.items()}
    return found


def _views(reading: Reading) -> dict[str, str]:
    path = find_file(reading, "mimic-cxr-2.0.0-metadata.csv")
    if path is None:
        return {}
    # The table repeats a dozen DICOM attributes of each image; the view is the one that evaluations split by.
    return {
        row["dicom_id"]: row["ViewPosition"]
        for _, row in read_table(reading, path, ("dicom_id", "ViewPosition"), others=True)
    }


def ms_cxr(reading: Reading) -> None:
    """Phrases of MS-CXR with their boxes, one item per image and phrase; from the CSV, else from the COCO JSON."""
    for version in ("1.1.0", "1.0.0"):
        stem = f"MS_CXR_Local_Alignment_v{version}"
        if find_file(reading, f"{stem}.csv", f"{stem}.json"):
            break
    path = find_file(reading, f"{stem}.csv", f"{stem}.json")
    if path is None:
        need_files(reading, ("MS_CXR_Local_Alignment_v1.1.0.csv", "MS_CXR_Local_Alignment_v1.0.0.csv", f"{stem}.json"))
        return
    reading.version = version
    rows = _phrases_csv(reading, path) if path.suffix == ".csv" else _phrases_coco(reading, path)
    grouped: dict[tuple[str, str, str], list[tuple[Row, Box]]] = defaultdict(list)
    for where, row in rows:
        name = one_of(row["category_name"], _CLASSES, "finding", where)
        corner = [number(row[key], f"{where}, {key}") for key in ("x", "y", "w", "h")]
        grouped[row["dicom_id"], name, row["label_text"]].append((row, Box.from_corner(name, *corner)))
    order: dict[tuple[str, str], int] = defaultdict(int)
    for (dicom, name, text), boxes in sorted(grouped.items()):
        row = boxes[0][0]
        order[dicom, name] += 1
        place = re.search(r"/p(\d{8})/s(\d{8})/", row["path"])
        patient, study = (place[1], place[2]) if place else ("", "")
        item = f"{dicom}/{name}/{order[dicom, name]}"
        if reading.lists(item, row.get("split") or "all", patient):
            reading.items.append(
                Item(
                    item,
                    row.get("split") or "all",
                    (row["path"],),
                    patient,
                    study,
                    labels={name: 1.0},
                    boxes=tuple(box for _, box in boxes),
                    text=text,
                    details={"width": row["image_width"], "height": row["image_height"]},
                )
            )


def _phrases_csv(reading: Reading, path: Path) -> list[tuple[str, Row]]:
    columns = ("category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height", "dicom_id")
    return list(read_table(reading, path, columns, ("split",)))


def _phrases_coco(reading: Reading, path: Path) -> list[tuple[str, Row]]:
    coco = read_json(reading, path)
    if not isinstance(coco, dict):
        raise BenchmarkError(f"{path}: found {type(coco).__name__}, expected an object in the COCO format")
    check_columns(path, list(coco), ("images", "annotations", "categories"), ("info", "licenses"), False)
    names = {
        row["id"]: str(row["name"]) for _, row in check_objects(path, coco["categories"], ("id", "name"), others=True)
    }
    images = {
        row["id"]: row
        for _, row in check_objects(path, coco["images"], ("id", "file_name", "width", "height", "path"), others=True)
    }
    rows = []
    needed = ("image_id", "category_id")
    for where, row in check_objects(path, coco["annotations"], needed, ("label_text",), lists=("bbox",), others=True):
        image = images.get(row["image_id"])
        if image is None or row["category_id"] not in names:
            raise BenchmarkError(f"{where}: image {row['image_id']!r} or category {row['category_id']!r} is not listed")
        text = row.get("label_text", "")
        ((x, y, w, h),) = check_points([row["bbox"]], 4, f"{where}, bbox")
        found = {
            "category_name": names[row["category_id"]],
            "label_text": " ".join(map(str, text)) if isinstance(text, list) else str(text),
            **{"x": str(x), "y": str(y), "w": str(w), "h": str(h)},
            **{"image_width": str(image["width"]), "image_height": str(image["height"])},
            **{
                "path": str(image["path"]),
                "dicom_id": Path(str(image["file_name"])).stem,
                "split": str(image.get("split", "")),
            },
        }
        rows.append((where, found))
    return rows
