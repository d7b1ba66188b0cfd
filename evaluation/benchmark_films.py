"""NIH ChestX-ray14 and PadChest: films whose table lists what is there, and the films of Open-i with their reports.

What a table of these does not list was not reported, which is weaker than absent.
Sources: Wang et al. 2017, arXiv:1705.02315; Bustos et al. 2020, arXiv:1901.07441; Demner-Fushman et al. 2016,
doi:10.1093/jamia/ocv080.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from evaluation.benchmark_item import ABSENT, PRESENT, BenchmarkError, Item, Reading
from evaluation.benchmark_regions import Box
from evaluation.benchmark_tables import (
    check_objects,
    find_file,
    listed,
    need_files,
    number,
    one_of,
    read_json,
    read_table,
    refuse_strangers,
)

NIH_FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia",
    "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax",
)  # fmt: skip
_QUOTED = re.compile(r"'([^']*)'")


def nih(reading: Reading) -> None:
    """Data_Entry_2017.csv (or _v2020), train_val_list.txt, test_list.txt and, where it is there, BBox_List_2017.csv."""
    entries, train, test = need_files(
        reading, ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv"), "train_val_list.txt", "test_list.txt"
    )
    splits = {**_list(reading, train, "train_val"), **_list(reading, test, "test")}
    both = len(_list(reading, train, "train_val").keys() & _list(reading, test, "test").keys())
    if both:
        raise BenchmarkError(f"{reading.folder}: {both} images stand in {train.name} and in {test.name}, expected none")
    boxes = _nih_boxes(reading)
    places = _nih_images(reading.folder)
    unlisted = []
    columns = ("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "View Position")
    size = ("Patient Gender", "Patient Sex", "OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]")
    for where, row in read_table(reading, entries, columns, size):
        name = row["Image Index"]
        split = splits.pop(name, "")
        if not split:
            unlisted.append(name)
        elif reading.lists(name, split, row["Patient ID"]):
            said = set(row["Finding Labels"].split("|")) - {"No Finding"}
            for finding in said:
                one_of(finding, NIH_FINDINGS, "finding", where)
            sex = row.get("Patient Gender") or row.get("Patient Sex", "")
            reading.items.append(
                Item(
                    name,
                    split,
                    (places.get(name, f"images/{name}"),),
                    row["Patient ID"],
                    f"{row['Patient ID']}/{row['Follow-up #']}",
                    row["View Position"],
                    {one: PRESENT if one in said else ABSENT for one in NIH_FINDINGS},
                    boxes=tuple(boxes.get(name, ())),
                    details={"sex": sex, "age": row["Patient Age"]},
                )
            )
    reading.version = entries.name.removesuffix(".gz").removesuffix(".csv")
    if unlisted or splits:
        raise BenchmarkError(
            f"{reading.folder}: {len(unlisted)} images of {entries.name} are in no list ({listed(unlisted, 5)}), and"
            f" {len(splits)} of the lists are not in the table ({listed(splits, 5)}); the tables are of two releases"
        )
    refuse_strangers(reading.folder / "BBox_List_2017.csv", boxes, [item for item, _, _ in reading.roster])


def _list(reading: Reading, path: Path, split: str) -> dict[str, str]:
    if path not in reading.files:
        reading.files.append(path)
    return dict.fromkeys(path.read_text(encoding="utf-8").split(), split)


def _nih_boxes(reading: Reading) -> dict[str, list[Box]]:
    path = find_file(reading, "BBox_List_2017.csv")
    boxes: dict[str, list[Box]] = defaultdict(list)
    if path is not None:
        # The header says "Bbox [x,y,w,h]" without quotes, so its commas make four columns of it.
        for where, row in read_table(reading, path, ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")):
            name = one_of(row["Finding Label"].replace("Infiltrate", "Infiltration"), NIH_FINDINGS, "finding", where)
            corner = [number(row[key], f"{where}, {key}") for key in ("Bbox [x", "y", "w", "h]")]
            boxes[row["Image Index"]].append(Box.from_corner(name, *corner))
    return boxes


def _nih_images(folder: Path) -> dict[str, str]:
    """Image name to relative path: the twelve archives unpack into images_001/images and so on, others use images/."""
    places = {}
    for inner in [folder / "images", *sorted(folder.glob("images_0*/images")), *sorted(folder.glob("images_0*"))]:
        if inner.is_dir():
            prefix = inner.relative_to(folder).as_posix()
            places.update({path.name: f"{prefix}/{path.name}" for path in inner.iterdir() if path.suffix == ".png"})
    return places


def padchest(reading: Reading) -> None:
    """PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv; no official split, so all are in "all"."""
    names = ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", "PADCHEST_chest_x_ray_images_labels_160K.csv")
    (path,) = need_files(reading, names)
    columns = ("ImageID", "ImageDir", "StudyID", "PatientID", "Projection", "Report", "MethodLabel", "Labels")
    # The other columns are attributes of DICOM and codes of the labels.
    for where, row in read_table(reading, path, columns, others=True):
        if reading.lists(row["ImageID"], "all", row["PatientID"]):
            reading.items.append(
                Item(
                    row["ImageID"],
                    "all",
                    (f"{row['ImageDir']}/{row['ImageID']}",),
                    row["PatientID"],
                    row["StudyID"],
                    row["Projection"],
                    dict.fromkeys(_words(row["Labels"], where), PRESENT),
                    text=row["Report"],
                    details={"labelled by": row["MethodLabel"], "language": "es"},
                )
            )
    reading.version = "01.02.19"


def _words(cell: str, where: str) -> list[str]:
    """The words of a Python list of strings, read without evaluating it."""
    text = cell.strip()
    if text in ("", "nan"):
        return []
    words = [word.strip() for word in _QUOTED.findall(text)]
    if not (text.startswith("[") and text.endswith("]")) or _QUOTED.sub("", text).strip("[], "):
        raise BenchmarkError(f"{where}: labels {text[:60]!r}, expected a list such as ['normal', 'cardiomegaly']")
    return [word for word in words if word]


def open_i(reading: Reading) -> None:
    """The XML reports of Indiana University (folder ecgen-radiology) with the PNG films (folder NLMCXR_png)."""
    folders = [reading.folder / "ecgen-radiology", reading.folder]
    paths = next((found for one in folders if (found := sorted(one.glob("*.xml")))), [])
    if not paths:
        raise BenchmarkError(
            f"{reading.folder}: no XML reports, neither here nor in ecgen-radiology; unpack NLMCXR_reports.tgz"
        )
    inside = "NLMCXR_png/" if (reading.folder / "NLMCXR_png").is_dir() else ""
    for path in paths:
        root = _xml(path)
        uid = root.find("uId")
        if uid is None or not uid.get("id"):
            raise BenchmarkError(f"{path}: no <uId id=...>; expected a report of Open-i")
        reading.files.append(path)
        if reading.lists(uid.get("id"), "all", uid.get("id")):
            sections = {(one.get("Label") or "").lower(): (one.text or "").strip() for one in root.iter("AbstractText")}
            major = [(one.text or "").strip() for one in root.iter("major")]
            reading.items.append(
                Item(
                    uid.get("id"),
                    "all",
                    tuple(f"{inside}{one.get('id')}.png" for one in root.iter("parentImage")),
                    uid.get("id"),
                    uid.get("id"),
                    labels={name: PRESENT for name in major if name},
                    text="\n".join(f"{name.upper()}: {text}" for name, text in sections.items() if text),
                    sections={name: text for name, text in sections.items() if text},
                )
            )
    reading.version = "ecgen"


def _xml(path: Path) -> Any:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, parse

    try:
        return parse(path).getroot()
    except (ParseError, DefusedXmlException, UnicodeDecodeError, ValueError) as error:
        raise BenchmarkError(f"{path}: no XML that can be read ({type(error).__name__}); download it again") from None


def r2gen(reading: Reading) -> None:
    """annotation.json of R2Gen for IU X-ray: studies with two films, and the split that papers on reports use."""
    (path,) = need_files(reading, "annotation.json")
    data = read_json(reading, path)
    if not isinstance(data, dict) or set(data) != {"train", "val", "test"}:
        keys = listed(map(repr, data), 5) if isinstance(data, dict) else type(data).__name__
        raise BenchmarkError(f"{path}: found {keys}, expected the splits train, val and test")
    for split, rows in data.items():
        for where, row in check_objects(path, rows, ("id", "report"), ("split",), lists=("image_path",)):
            if row.get("split", split) != split:
                raise BenchmarkError(f"{where}: stands under {split} and says split {row['split']!r}")
            # "CXR2384_IM-0942": the report's number, then its first image.
            patient = str(row["id"]).partition("_")[0]
            if reading.lists(str(row["id"]), split, patient):
                images = tuple(f"images/{image}" for image in row["image_path"])
                reading.items.append(
                    Item(str(row["id"]), split, images, patient, str(row["id"]), text=str(row["report"]))
                )
    reading.version = "R2Gen"
