"""Folders in the formats of public benchmarks of CT, captions, questions and reports, for tests of their readers."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from tiny_benchmarks import FILM, Tiny, films, put, table

from evaluation.benchmark_ct import CT_RATE_FINDINGS


def write_ct_rate(folder: Path) -> None:
    parts = {
        "train": ["train_1_a_1.nii.gz", "train_1_a_2.nii.gz", "train_2_b_1.nii.gz"],
        "valid": ["valid_1_a_1.nii.gz"],
    }
    names = ("VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN")
    for split, volumes in parts.items():
        long = "validation" if split == "valid" else split
        put(
            folder / f"dataset/radiology_text_reports/{long}_reports.csv",
            table(names, [(volume, "Cough.", "CT", "No nodule.", "Normal.") for volume in volumes]),
        )
        put(
            folder / f"dataset/multi_abnormality_labels/{split}_predicted_labels.csv",
            table(("VolumeName", *CT_RATE_FINDINGS), [(volume, 1, *[0] * 17) for volume in volumes]),
        )
        put(
            folder / f"dataset/metadata/{long}_metadata.csv",
            table(
                ("VolumeName", "Manufacturer", "PatientSex", "KVP"), [(volume, "Maker", "F", 120) for volume in volumes]
            ),
        )
        for volume in volumes:
            who, study, _ = volume.rsplit("_", 2)
            films(folder, f"dataset/{split}/{who}/{who}_{study}/{volume}")


def write_merlin(folder: Path) -> None:
    rows = [
        ("study id", "Findings", "Split", "Few Shot"),
        ("AC1", "Liver: normal.", "train", "1"),
        ("AC2", "Spleen: enlarged & soft.", "test", "0"),
    ]
    put(folder / "reports_final.xlsx", workbook(rows))
    put(
        folder / "zero_shot_findings_disease_cls.csv",
        table(("study id", "splenomegaly", "ascites"), [("AC1", 0, -1), ("AC2", 1, -1)]),
    )
    films(folder, "merlin_data/AC1.nii.gz", "merlin_data/AC2.nii.gz")


def workbook(rows: Sequence[Sequence[str]]) -> bytes:
    """The two parts of an .xlsx file that hold its texts, which is all that a reader of texts needs."""
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    texts = list(dict.fromkeys(text for row in rows for text in row))
    strings = "".join(f"<si><t>{escape(text)}</t></si>" for text in texts)
    lines = "".join(
        f'<row r="{at}">'
        + "".join(
            f'<c r="{chr(65 + place)}{at}" t="s"><v>{texts.index(text)}</v></c>' for place, text in enumerate(row)
        )
        + "</row>"
        for at, row in enumerate(rows, 1)
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/sharedStrings.xml", f"<sst {space}>{strings}</sst>")
        archive.writestr("xl/worksheets/sheet1.xml", f"<worksheet {space}><sheetData>{lines}</sheetData></worksheet>")
    return file.getvalue()


def write_roco(folder: Path) -> None:
    for split, numbers in (("train", (1, 2)), ("validation", (3,)), ("test", (4,))):
        lines = "".join(f"ROCO_0000{at}\t Chest film of case {at}.\n" for at in numbers)
        put(folder / f"all_data/{split}/radiology/captions.txt", lines)
        films(folder, *(f"all_data/{split}/radiology/images/ROCO_0000{at}.jpg" for at in numbers))


def write_roco_v2(folder: Path) -> None:
    for at, split in enumerate(("train", "valid", "test")):
        name = f"ROCOv2_2023_{split}_00000{at}"
        put(folder / f"{split}_captions.csv", table(("ID", "Caption"), [(name, "CT of the chest")]))
        put(folder / f"{split}_concepts.csv", table(("ID", "CUIs"), [(name, "C0040405;C0817096")]))
        films(folder, f"{split}/{name}.jpg")


def write_vqa_rad(folder: Path) -> None:
    base = {
        "qid_linked_id": "x",
        "image_case_url": "https://example.org",
        "image_organ": "CHEST",
        "evaluation": "evaluated",
        "question_rephrase": "NULL",
        "question_relation": "NULL",
        "question_frame": "NULL",
        "question_type": "PRES",
    }
    rows = [
        {
            **base,
            "qid": 0,
            "phrase_type": "freeform",
            "image_name": "a.jpg",
            "question": "Is the heart large?",
            "answer": "Yes",
            "answer_type": "CLOSED",
        },
        {
            **base,
            "qid": 1,
            "phrase_type": "para",
            "image_name": "b.jpg",
            "question": "How many?",
            "answer": 2,
            "answer_type": "OPEN",
        },
        {
            **base,
            "qid": 2,
            "phrase_type": "test_freeform",
            "image_name": "a.jpg",
            "question": "Where?",
            "answer": "left",
            "answer_type": "CLOSED ",
        },
    ]
    put(folder / "VQA_RAD Dataset Public.json", json.dumps(rows))
    films(folder, "VQA_RAD Image Folder/a.jpg", "VQA_RAD Image Folder/b.jpg")


def write_slake(folder: Path) -> None:
    for at, split in enumerate(("train", "validate", "test")):
        row = {
            "img_id": at,
            "img_name": f"xmlab{at}/source.jpg",
            "question": "What modality?",
            "answer": "CT",
            "q_lang": "en",
            "location": "Lung",
            "modality": "CT",
            "answer_type": "OPEN",
            "base_type": "vqa",
            "content_type": "Modality",
            "triple": ["vhead", "_", "_"],
            "qid": at,
        }
        put(
            folder / f"{split}.json",
            json.dumps([row, {**row, "q_lang": "zh", "qid": at + 10, "question": "成像方式?"}]),
        )
        films(folder, f"imgs/xmlab{at}/source.jpg", f"imgs/xmlab{at}/mask.png")


def write_pmc_vqa(folder: Path) -> None:
    header = ("Figure_path", "Question", "Answer", "Choice A", "Choice B", "Choice C", "Choice D", "Answer_label")
    for at, split in enumerate(("train", "test", "test_clean")):
        figure = f"PMC{at}_F1.jpg"
        put(
            folder / f"{split}.csv",
            table(header, [(figure, "Which organ?", " Liver", " A: Lung", " B: Liver", " C: Bone", " D: Skin", "B")]),
        )
        films(folder, f"images/{figure}")


def write_gmai(folder: Path) -> None:
    header = ("index", "image", "question", "A", "B", "C", "D", "E", "category", "clinical VQA task", "department")
    images = [base64.b64encode(FILM + bytes([at])).decode() for at in range(3)]
    rows = [
        (at, image, "What is shown?", "lung", "heart", "skin", "", "", "Heart", "Disease Diagnosis", "Radiology")
        for at, image in enumerate(images)
    ]
    put(folder / "GMAI_mm_bench_VAL.tsv", table(header, rows[:2], "\t"))
    hidden = [(*row[:8], "", *row[9:]) for row in rows[2:]]
    put(folder / "GMAI_mm_bench_TEST_part_1.tsv", table(header, hidden, "\t"))


def write_mediconfusion(folder: Path) -> None:
    header = (
        "",
        "id",
        "im_1",
        "im_2",
        "im_1_local",
        "im_2_local",
        "cap_1",
        "cap_2",
        "question",
        "option_A",
        "option_B",
        "im_1_correct",
        "im_2_correct",
    )
    rows = [
        (
            0,
            10001,
            "train/radiology/images/ROCO_1.jpg",
            "test/radiology/images/ROCO_2.jpg",
            20001,
            20002,
            "one",
            "two",
            "Which side?",
            "Left",
            "Right",
            "B",
            "A",
        )
    ]
    put(folder / "data/dataset.csv", table(header, rows))
    films(folder, "data/images/20001.jpg", "data/images/20002.jpg")


def write_rexval(folder: Path) -> None:
    rows = [(f"s{at}", "No effusion.", "Effusion.", "No effusion.", "Clear.", "No.") for at in (0, 1)]
    put(
        folder / "50_samples_gt_and_candidates.csv",
        table(("study_id", "gt_report", "radgraph", "bertscore", "s_emb", "bleu"), rows),
    )
    header = ("study_number", "candidate_type", "rater_index", "error_category", "clinically_significant", "num_errors")
    put(
        folder / "6_valid_raters_per_rater_error_categories.csv",
        table(
            header, [(0, "radgraph", 0, 1, True, 2), (0, "radgraph", 0, 1, False, 0), (0, "radgraph", 1, 1, True, 1)]
        ),
    )


def write_rexrank(folder: Path) -> None:
    film = "/p10/p10000001/s50000001/d.jpg"
    row = {
        "image_path": [film],
        "key_image_path": film,
        "context": "Age:50-60.",
        "frontal_lateral": ["postero-anterior"],
        "section_findings": "Clear lungs.",
        "section_impression": float("nan"),
        "split": "test",
        "subject_id": 10000001,
        "report": "Findings: Clear lungs. Impression: None.",
    }
    put(folder / "mimic-cxr/ReXRank_MIMICCXR_test.json", json.dumps({"50000001": row}))
    films(folder, f"mimic-cxr/files{film}")
    other = {**row, "image_path": ["CXR1/0.png"], "key_image_path": "CXR1/0.png", "subject_id": None}
    put(folder / "iu_xray/ReXRank_IUXray_test.json", json.dumps({"CXR1": other, "CXR2": other}))
    films(folder, "iu_xray/images/CXR1/0.png")


def write_path_vqa(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    for at, split in enumerate(("train", "validation", "test")):
        rows = [
            {"image": {"bytes": FILM + bytes([at]), "path": None}, "question": f"Is it {word}?", "answer": answer}
            for word, answer in (("red", "yes"), ("what", "a cell"))
        ]
        path = folder / f"data/{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.Table.from_pylist(rows), path)


TEXTS: dict[str, Tiny] = {
    "ct-rate": Tiny(
        write_ct_rate,
        {"train": 3, "valid": 1},
        "dataset/multi_abnormality_labels/valid_predicted_labels.csv",
        ("dataset/radiology_text_reports/train_reports.csv", "train_1_a_2.nii.gz,Cough.,CT,No nodule.,Normal.\n", ""),
        "dataset/valid/valid_1/valid_1_a/valid_1_a_1.nii.gz",
        "Technique_EN",
    ),
    "merlin": Tiny(
        write_merlin,
        {"train": 1, "test": 1},
        "reports_final.xlsx",
        ("reports_final.xlsx", "AC2", "AC3"),
        "merlin_data/AC2.nii.gz",
    ),
    "roco": Tiny(
        write_roco,
        {"train": 2, "validation": 1, "test": 1},
        "",
        ("all_data/train/radiology/captions.txt", "ROCO_00002", "ROCO_00009"),
        "all_data/test/radiology/images/ROCO_00004.jpg",
    ),
    "rocov2": Tiny(
        write_roco_v2,
        {"train": 1, "valid": 1, "test": 1},
        "",
        ("test_captions.csv", "000002", "000003"),
        "valid/ROCOv2_2023_valid_000001.jpg",
        "Caption",
    ),
    "vqa-rad": Tiny(
        write_vqa_rad,
        {"train": 2, "test": 1},
        "VQA_RAD Dataset Public.json",
        ("VQA_RAD Dataset Public.json", '"para"', '"test_para"'),
        "VQA_RAD Image Folder/b.jpg",
        '"question_type"',
    ),
    "slake": Tiny(
        write_slake,
        {"train": 2, "validate": 2, "test": 2},
        "",
        ("train.json", '"qid": 10', '"qid": 99'),
        "imgs/xmlab2/source.jpg",
        '"q_lang"',
    ),
    "pathvqa": Tiny(write_path_vqa, {"train": 2, "validation": 2, "test": 2}, "", ("", "", "")),
    "pmc-vqa": Tiny(
        write_pmc_vqa,
        {"train": 1, "test": 1, "test_clean": 1},
        "",
        ("test.csv", "Skin,B\n", "Skin,B\nPMC1_F2.jpg,Where?,x,A: x,B: y,C: z,D: w,A\n"),
        "images/PMC2_F1.jpg",
        "Choice C",
    ),
    "gmai-mmbench": Tiny(
        write_gmai, {"val": 2, "test": 1}, "", ("GMAI_mm_bench_VAL.tsv", "\n1\t", "\n7\t"), "", "question"
    ),
    "mediconfusion": Tiny(
        write_mediconfusion,
        {"test": 2},
        "data/dataset.csv",
        ("data/dataset.csv", "10001", "10002"),
        "data/images/20002.jpg",
        "option_B",
    ),
    "rexval": Tiny(
        write_rexval,
        {"all": 8},
        "6_valid_raters_per_rater_error_categories.csv",
        ("50_samples_gt_and_candidates.csv", "s1,No effusion.", "s2,a,b,c,d,e\ns1,No effusion."),
        "",
        "gt_report",
    ),
    "rexrank": Tiny(
        write_rexrank,
        {"mimic-cxr": 1, "iu-xray": 2},
        "",
        ("iu_xray/ReXRank_IUXray_test.json", "CXR2", "CXR3"),
        "iu_xray/images/CXR1/0.png",
        '"context"',
    ),
}
