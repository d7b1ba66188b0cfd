"""Folders in the formats of public benchmarks, two or three invented items in each split, for tests of their readers.

Nothing is copied from a benchmark but the names of files, columns and findings.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.benchmark_boxes import VINDR_FINDINGS
from evaluation.benchmark_chexpert import OBSERVATIONS

FILM = b"\x89PNG film"


@dataclass(frozen=True)
class Tiny:
    """A writer, and how a test breaks what it wrote: `edit` is (file, text, other text) that makes another split of it,
    `table` a file without which it cannot be read, `image` one of its image files, `column` a name in the table."""

    write: Callable[[Path], None]
    items: dict[str, int]
    table: str
    edit: tuple[str, str, str]
    image: str = ""
    column: str = ""


def put(path: Path, content: str | bytes) -> None:
    """Write a file, packed where its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def text_of(path: Path) -> str:
    """The text of a file, unpacked where its name ends in .gz."""
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str = ",") -> str:
    """A CSV table."""
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows([header, *rows])
    return file.getvalue()


def films(folder: Path, *names: str) -> None:
    """Image files; nobody decodes them."""
    for name in names:
        put(folder / name, FILM)


def write_chexpert(folder: Path) -> None:
    header = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS)
    said = ["", "1.0", "0.0", "-1.0", *[""] * 10]
    paths = {
        "train": ["train/patient00001/study1/view1_frontal.jpg", "train/patient00002/study1/view1_frontal.jpg"],
        "valid": ["valid/patient00003/study1/view1_frontal.jpg", "valid/patient00003/study1/view2_lateral.jpg"],
    }
    for split, names in paths.items():
        rows = [(f"CheXpert-v1.0-small/{name}", "Female", 61, "Frontal", "AP", *said) for name in names]
        put(folder / f"{split}.csv", table(header, rows))
        films(folder, *names)
    film = "test/patient00004/study1/view1_frontal.jpg"
    put(folder / "test.csv", table(("Path", *OBSERVATIONS), [(film, *["0"] * 14)]))
    films(folder, film)


def write_mimic_cxr(folder: Path) -> None:
    studies = [("10000001", "50000001"), ("10000001", "50000002"), ("11000002", "50000003")]
    paths = [f"files/p{subject[:2]}/p{subject}/s{study}.txt" for subject, study in studies]
    put(
        folder / "cxr-study-list.csv.gz",
        table(("subject_id", "study_id", "path"), [(*one, path) for one, path in zip(studies, paths, strict=True)]),
    )
    for path in paths:
        put(folder / path, "FINDINGS: The lungs are clear.\n\nIMPRESSION: No effusion.\n")
    rows = [
        (f"d{at}", study, subject, split)
        for at, ((subject, study), split) in enumerate(zip(studies, ("train", "train", "test"), strict=True))
    ]
    put(folder / "mimic-cxr-2.0.0-split.csv.gz", table(("dicom_id", "study_id", "subject_id", "split"), rows))


def write_mimic_cxr_jpg(folder: Path) -> None:
    rows = [
        ("da", "50000001", "10000001", "train"),
        ("db", "50000001", "10000001", "train"),
        ("dc", "50000002", "11000002", "validate"),
        ("dd", "50000003", "12000003", "test"),
    ]
    put(folder / "mimic-cxr-2.0.0-split.csv.gz", table(("dicom_id", "study_id", "subject_id", "split"), rows))
    header = ("subject_id", "study_id", *OBSERVATIONS)
    for name, first in (("chexpert", "1.0"), ("negbio", "-1.0")):
        said = [(subject, study, *["", first, *[""] * 12]) for _, study, subject, _ in rows[1:]]
        put(folder / f"mimic-cxr-2.0.0-{name}.csv.gz", table(header, said))
    put(
        folder / "mimic-cxr-2.1.0-test-set-labeled.csv",
        table(("study_id", *OBSERVATIONS), [("50000003", "1.0", *["0.0"] * 13)]),
    )
    views = [(dicom, "chest", view) for (dicom, *_), view in zip(rows, ("PA", "LATERAL", "AP", "AP"), strict=True)]
    put(
        folder / "mimic-cxr-2.0.0-metadata.csv.gz",
        table(("dicom_id", "PerformedProcedureStepDescription", "ViewPosition"), views),
    )
    films(folder, *(f"files/p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg" for dicom, study, subject, _ in rows))


def write_ms_cxr(folder: Path) -> None:
    header = (
        "dicom_id",
        "category_name",
        "label_text",
        "path",
        "x",
        "y",
        "w",
        "h",
        "image_width",
        "image_height",
        "split",
    )
    paths = [f"files/p10/p1000000{at}/s5000000{at}/d{at}.jpg" for at in (1, 2)]
    rows = [
        ("d1", "Pneumonia", "patchy opacity", paths[0], 10, 20, 30, 40, 2544, 3056, "train"),
        ("d1", "Pneumonia", "patchy opacity", paths[0], 100, 20, 30, 40, 2544, 3056, "train"),
        ("d2", "Edema", "mild edema", paths[1], 1, 2, 3, 4, 2544, 3056, "test"),
    ]
    put(folder / "MS_CXR_Local_Alignment_v1.1.0.csv", table(header, rows))
    films(folder, *paths)


def write_nih(folder: Path) -> None:
    # As in the original: brackets with unquoted commas, and a comma at the end of each line.
    head = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
    )
    rows = [
        ("00000001_000.png", "Cardiomegaly|Effusion", 1),
        ("00000001_001.png", "No Finding", 1),
        ("00000002_000.png", "Infiltration", 2),
    ]
    body = "".join(f"{name},{said},0,{who},58,M,PA,2682,2749,0.143,0.143,\n" for name, said, who in rows)
    put(folder / "Data_Entry_2017.csv", head + body)
    put(
        folder / "BBox_List_2017.csv",
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000002_000.png,Infiltrate,225.08,547.02,86.78,79.19,,,\n",
    )
    put(folder / "train_val_list.txt", "00000001_000.png\n00000001_001.png\n")
    put(folder / "test_list.txt", "00000002_000.png\n")
    films(
        folder,
        "images_001/images/00000001_000.png",
        "images_001/images/00000001_001.png",
        "images_002/images/00000002_000.png",
    )


def write_padchest(folder: Path) -> None:
    header = (
        "",
        "ImageID",
        "ImageDir",
        "StudyDate_DICOM",
        "StudyID",
        "PatientID",
        "Projection",
        "Report",
        "MethodLabel",
        "Labels",
        "Localizations",
    )
    rows = [
        (0, "a1.png", 0, 20100101, "s1", "p1", "PA", "sin hallazgos", "Physician", "['normal']", "[]"),
        (1, "a2.png", 1, 20110101, "s2", "p2", "L", "derrame", "RNN_model", "['pleural effusion', ' scoliosis']", ""),
    ]
    put(folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", table(header, rows))
    films(folder, "0/a1.png", "1/a2.png")


def write_open_i(folder: Path) -> None:
    for at in (1, 2):
        put(
            folder / f"ecgen-radiology/{at}.xml",
            f'<?xml version="1.0"?><eCitation><uId id="CXR{at}"/><MedlineCitation><Article><Abstract>'
            '<AbstractText Label="FINDINGS">Clear lungs.</AbstractText><AbstractText Label="IMPRESSION"/>'
            "</Abstract></Article></MedlineCitation><MeSH><major>normal</major></MeSH>"
            f'<parentImage id="CXR{at}_IM-0001-1001"/><parentImage id="CXR{at}_IM-0001-2001"/></eCitation>',
        )
        films(folder, f"NLMCXR_png/CXR{at}_IM-0001-1001.png", f"NLMCXR_png/CXR{at}_IM-0001-2001.png")


def write_r2gen(folder: Path) -> None:
    data = {}
    for at, split in enumerate(("train", "val", "test")):
        images = [f"CXR{at}_IM-0001/{view}.png" for view in (0, 1)]
        row = {"id": f"CXR{at}_IM-0001", "report": "the heart is normal .", "image_path": images, "split": split}
        data[split] = [row]
        films(folder, *(f"images/{image}" for image in images))
    put(folder / "annotation.json", json.dumps(data))


def write_vindr(folder: Path) -> None:
    plural = [f"{name}s" if name == "Other disease" else name for name in VINDR_FINDINGS]
    no, yes = [0] * 28, [0, 0, 0, 1, *[0] * 24]
    rows = [
        (image, reader, *(yes if image == "a" and reader != "R3" else no))
        for image in ("a", "b")
        for reader in ("R1", "R2", "R3")
    ]
    put(folder / "annotations/image_labels_train.csv", table(("image_id", "rad_id", *plural), rows))
    put(folder / "annotations/image_labels_test.csv", table(("image_id", *VINDR_FINDINGS), [("c", *yes)]))
    corners = ("x_min", "y_min", "x_max", "y_max")
    put(
        folder / "annotations/annotations_train.csv",
        table(
            ("image_id", "rad_id", "class_name", *corners),
            [("a", "R1", "Cardiomegaly", 10, 20, 110, 70), ("b", "R1", "No finding", "", "", "", "")],
        ),
    )
    put(
        folder / "annotations/annotations_test.csv",
        table(("image_id", "class_name", *corners), [("c", "Cardiomegaly", 1.5, 2, 3, 4)]),
    )
    films(folder, "train/a.dicom", "train/b.dicom", "test/c.dicom")


def write_rsna(folder: Path) -> None:
    put(
        folder / "stage_2_train_labels.csv",
        table(
            ("patientId", "x", "y", "width", "height", "Target"),
            [("f1", 264.0, 152.0, 213.0, 379.0, 1), ("f1", 562.0, 152.0, 256.0, 453.0, 1), ("f2", "", "", "", "", 0)],
        ),
    )
    put(
        folder / "stage_2_detailed_class_info.csv",
        table(("patientId", "class"), [("f1", "Lung Opacity"), ("f1", "Lung Opacity"), ("f2", "Normal")]),
    )
    put(folder / "stage_2_sample_submission.csv", table(("patientId", "PredictionString"), [("f3", "0.5 0 0 100 100")]))
    films(folder, "stage_2_train_images/f1.dcm", "stage_2_train_images/f2.dcm", "stage_2_test_images/f3.dcm")


def write_siim(folder: Path) -> None:
    # The original has a blank before the second name and before -1.
    put(folder / "train-rle.csv", "ImageId, EncodedPixels\n1.2.3, -1\n1.2.4,1025 2 1022 3\n1.2.4,0 1\n")
    films(folder, "dicom-images-train/1.9/1.8/1.2.3.dcm", "dicom-images-train/1.9/1.7/1.2.4.dcm")


def write_chestx_det(folder: Path) -> None:
    one = {
        "file_name": "36199.png",
        "syms": ["Effusion"],
        "boxes": [[10, 20, 30, 60]],
        "polygons": [[[10, 20], [30, 20], [30, 60], [10, 60]]],
    }
    other = {"file_name": "36200.png", "syms": [], "boxes": [], "polygons": []}
    put(folder / "ChestX_Det_train.json", json.dumps([one, other]))
    put(folder / "ChestX_Det_test.json", json.dumps([{**one, "file_name": "36201.png"}]))
    films(folder, "train_data/36199.png", "train_data/36200.png", "test_data/36201.png")


FILMS: dict[str, Tiny] = {
    "chexpert": Tiny(
        write_chexpert,
        {"train": 2, "valid": 2, "test": 1},
        "valid.csv",
        ("train.csv", "patient00002", "patient00009"),
        "valid/patient00003/study1/view2_lateral.jpg",
        "Sex",
    ),
    "mimic-cxr": Tiny(
        write_mimic_cxr,
        {"train": 2, "test": 1},
        "cxr-study-list.csv.gz",
        ("mimic-cxr-2.0.0-split.csv.gz", "11000002,test", "11000002,train"),
        "files/p11/p11000002/s50000003.txt",
        "path",
    ),
    "mimic-cxr-jpg": Tiny(
        write_mimic_cxr_jpg,
        {"train": 2, "validate": 1, "test": 1},
        "mimic-cxr-2.0.0-chexpert.csv.gz",
        ("mimic-cxr-2.0.0-split.csv.gz", "11000002,validate", "11000002,train"),
        "files/p12/p12000003/s50000003/dd.jpg",
        "study_id",
    ),
    "ms-cxr": Tiny(
        write_ms_cxr,
        {"train": 1, "test": 1},
        "MS_CXR_Local_Alignment_v1.1.0.csv",
        ("MS_CXR_Local_Alignment_v1.1.0.csv", "3056,test", "3056,val"),
        "files/p10/p10000002/s50000002/d2.jpg",
        "image_width",
    ),
    "nih": Tiny(
        write_nih,
        {"train_val": 2, "test": 1},
        "test_list.txt",
        ("Data_Entry_2017.csv", "00000002_000", "00000003_000"),
        "images_002/images/00000002_000.png",
        "View Position",
    ),
    "padchest": Tiny(
        write_padchest,
        {"all": 2},
        "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz",
        ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", "a2.png", "a3.png"),
        "1/a2.png",
        "Labels",
    ),
    "iu-xray": Tiny(
        write_open_i,
        {"all": 2},
        "",
        ("ecgen-radiology/2.xml", 'uId id="CXR2"', 'uId id="CXR3"'),
        "NLMCXR_png/CXR2_IM-0001-2001.png",
    ),
    "iu-xray-r2gen": Tiny(
        write_r2gen,
        {"train": 1, "val": 1, "test": 1},
        "annotation.json",
        ("annotation.json", '"id": "CXR2_', '"id": "CXR7_'),
        "images/CXR2_IM-0001/1.png",
        '"report"',
    ),
    "vindr-cxr": Tiny(
        write_vindr,
        {"train": 2, "test": 1},
        "annotations/annotations_train.csv",
        ("annotations/image_labels_train.csv", "b,R", "d,R"),
        "test/c.dicom",
        "rad_id",
    ),
    "rsna-pneumonia": Tiny(
        write_rsna,
        {"train": 2, "test": 1},
        "stage_2_detailed_class_info.csv",
        ("stage_2_sample_submission.csv", "f3", "f4"),
        "stage_2_train_images/f2.dcm",
        "Target",
    ),
    "siim-acr": Tiny(
        write_siim,
        {"train": 2},
        "train-rle.csv",
        ("train-rle.csv", "1.2.3", "1.2.5"),
        "dicom-images-train/1.9/1.8/1.2.3.dcm",
        "ImageId",
    ),
    "chestx-det": Tiny(
        write_chestx_det,
        {"train": 2, "test": 1},
        "",
        ("ChestX_Det_train.json", "36200", "36202"),
        "test_data/36201.png",
        '"syms"',
    ),
}
