"""Questions about images: VQA-RAD, SLAKE, PMC-VQA and MediConfusion.

Where there are options, `options` map a letter to its text and `answer` is the letter.
Sources: Lau et al. 2018, doi:10.1038/sdata.2018.251; Liu et al. 2021, arXiv:2102.09542; Zhang et al. 2023,
arXiv:2305.10415; Sepehri et al. 2024, arXiv:2409.15477.
"""

from __future__ import annotations

from evaluation.benchmark_item import BenchmarkError, Item, Reading
from evaluation.benchmark_regions import MaskFile
from evaluation.benchmark_tables import (
    Row,
    find_file,
    need_files,
    one_of,
    read_objects,
    read_table,
)

_RAD_PHRASES = ("freeform", "para", "test_freeform", "test_para")
_RAD_KEYS = ("qid", "phrase_type", "image_name", "question", "answer", "answer_type", "question_type", "image_organ")
_RAD_MORE = (
    "qid_linked_id",
    "image_case_url",
    "evaluation",
    "question_rephrase",
    "question_relation",
    "question_frame",
)
_SLAKE_KEYS = ("img_name", "question", "answer", "q_lang", "answer_type", "qid")
_SLAKE_MORE = ("img_id", "location", "modality", "base_type", "content_type", "triple")
_LETTERS = ("A", "B", "C", "D")
_PMC_TABLES = {"": ("train", "test", "test_clean"), "2": ("train_2", "test_2")}


def vqa_rad(reading: Reading) -> None:
    """VQA_RAD Dataset Public.json; the test split are the questions whose phrase_type begins with "test"."""
    (path,) = need_files(reading, ("VQA_RAD Dataset Public.json", "VQA_RAD_Dataset_Public.json"))
    inner = next(
        (one for one in ("VQA_RAD Image Folder", "VQA_RAD_Image_Folder", "images") if (reading.folder / one).is_dir()),
        "VQA_RAD Image Folder",
    )
    for where, row in read_objects(reading, path, _RAD_KEYS, _RAD_MORE):
        phrase = one_of(str(row["phrase_type"]), _RAD_PHRASES, "phrase type", where)
        split = "test" if phrase.startswith("test") else "train"
        if reading.lists(str(row["qid"]), split, str(row["image_name"])):
            kind = one_of(str(row["answer_type"]).strip().lower(), ("open", "closed"), "answer type", where)
            details = {"organ": row["image_organ"], "question type": row["question_type"], "phrase": phrase}
            reading.items.append(
                Item(
                    str(row["qid"]),
                    split,
                    (f"{inner}/{row['image_name']}",),
                    row["image_name"],
                    question=str(row["question"]),
                    answer=str(row["answer"]),
                    answer_type=kind,
                    details=details,
                )
            )
    reading.version = "public"


def slake(reading: Reading) -> None:
    """train.json, validate.json and test.json of SLAKE, English and Chinese, with the mask of each image."""
    tables = [(split, find_file(reading, f"{split}.json")) for split in ("train", "validate", "test")]
    if not any(path for _, path in tables):
        need_files(reading, "train.json", "validate.json", "test.json")
    for split, path in tables:
        if path is None:
            continue
        for where, row in read_objects(reading, path, _SLAKE_KEYS, _SLAKE_MORE):
            folder = str(row["img_name"]).partition("/")[0]
            item = f"{folder}/{row['qid']}"
            if reading.lists(item, split, folder):
                language = one_of(row["q_lang"], ("en", "zh"), "language", where)
                mask = f"imgs/{folder}/mask.png"
                masks = (
                    (MaskFile("organs and lesions, see mask.txt", mask),) if (reading.folder / mask).is_file() else ()
                )
                details: dict[str, str] = {name: str(row[name]) for name in _SLAKE_MORE[1:5] if name in row}
                reading.items.append(
                    Item(
                        item,
                        split,
                        (f"imgs/{row['img_name']}",),
                        folder,
                        masks=masks,
                        question=str(row["question"]),
                        answer=str(row["answer"]),
                        answer_type=str(row["answer_type"]).strip().lower(),
                        details={"language": language, **details},
                    )
                )


def pmc_vqa(reading: Reading) -> None:
    """PMC-VQA: train.csv, test.csv and test_clean.csv of the first version, or train_2.csv and test_2.csv."""
    tables = {
        version: [(split, find_file(reading, f"{split}.csv")) for split in splits]
        for version, splits in _PMC_TABLES.items()
    }
    there = [version for version, found in tables.items() if any(path for _, path in found)]
    if not there:
        need_files(reading, "train.csv", "test.csv", "test_clean.csv")
    if len(there) > 1:
        raise BenchmarkError(f"{reading.folder}: holds versions 1 and 2 of PMC-VQA, whose splits differ; keep one")
    reading.version = there[0] or "1"
    inner = next((one for one in ("images", "images_2", "figures") if (reading.folder / one).is_dir()), "images")
    for split, path in tables[there[0]]:
        if path is None:
            continue
        columns = ("Figure_path", "Question", "Answer", *(f"Choice {letter}" for letter in _LETTERS))
        rows = read_table(reading, path, columns, ("index", "Caption", "Answer_label", "split"))
        for number, (where, row) in enumerate(rows):
            article = row["Figure_path"].partition("_")[0]
            if reading.lists(f"{split}/{number}", split, article):
                reading.items.append(
                    _pmc_item(f"{split}/{number}", split, f"{inner}/{row['Figure_path']}", article, row, where)
                )


def _pmc_item(item: str, split: str, image: str, article: str, row: Row, where: str) -> Item:
    options = {}
    for letter in _LETTERS:
        text = row[f"Choice {letter}"].strip()  # " A: Renal cell carcinoma"
        options[letter] = text[len(letter) + 1 :].strip() if text.startswith(f"{letter}:") else text
    answer = (row.get("Answer_label") or row["Answer"]).strip()
    if answer not in _LETTERS:  # some tables give the text of the answer alone
        answer = next((letter for letter, text in options.items() if text == answer), answer)
    one_of(answer, _LETTERS, "answer", where)
    return Item(
        item,
        split,
        (image,),
        article,
        text=row.get("Caption", "").strip(),
        question=row["Question"].strip(),
        answer=answer,
        answer_type="choice",
        options=options,
    )


def mediconfusion(reading: Reading) -> None:
    """dataset.csv of MediConfusion: each pair of images shares a question, and the right options differ. Two items per
    pair, "10001/1" and "10001/2"; `details` name the pair, which counts only if both are right."""
    (path,) = need_files(reading, ("data/dataset.csv", "dataset.csv"))
    base = "data/" if path.parent.name == "data" else ""
    sides = tuple(f"im_{side}{end}" for side in (1, 2) for end in ("", "_local", "_correct"))
    columns = ("id", "question", "option_A", "option_B", *sides)
    more = (
        "cap_1",
        "cap_2",
        "category_1",
        "category_2",
        "BiomedCLIP_sim",
        "DINO_sim",
        "AI_question",
        "AI_option_A",
        "AI_option_B",
    )
    for where, row in read_table(reading, path, columns, more):
        if row["im_1_correct"] == row["im_2_correct"]:
            raise BenchmarkError(f"{where}: both images have the answer {row['im_1_correct']!r}, expected A and B")
        for side in ("1", "2"):
            if reading.lists(f"{row['id']}/{side}", "test", row[f"im_{side}"]):
                image = f"{base}images/{row[f'im_{side}_local']}.jpg"
                options = {letter: row[f"option_{letter}"] for letter in ("A", "B")}
                answer = one_of(row[f"im_{side}_correct"], ("A", "B"), "answer", where)
                reading.items.append(
                    Item(
                        f"{row['id']}/{side}",
                        "test",
                        (image,),
                        row[f"im_{side}"],
                        question=row["question"],
                        text=row.get(f"cap_{side}", "").strip(),
                        answer=answer,
                        answer_type="choice",
                        options=options,
                        details={"pair": row["id"], "ROCO image": row[f"im_{side}"]},
                    )
                )
