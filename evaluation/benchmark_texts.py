"""Benchmarks of texts: captions (ROCO, ROCOv2), and reports to compare (ReXVal) or to write (ReXrank).

Sources: Pelka et al. 2018, doi:10.1007/978-3-030-01364-6_20; Rückert et al. 2024, arXiv:2405.10004; Yu et al. 2023,
doi:10.1016/j.patter.2023.100802; Zhang et al. 2024, arXiv:2411.15122.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from evaluation.benchmark_item import PRESENT, BenchmarkError, Item, Reading
from evaluation.benchmark_tables import (
    Row,
    check_columns,
    find_file,
    need_files,
    number,
    one_of,
    read_json,
    read_table,
)

REXVAL_CANDIDATES = ("radgraph", "bertscore", "s_emb", "bleu")
REXVAL_ERRORS = {
    "1": "false finding", "2": "omitted finding", "3": "wrong location", "4": "wrong severity",
    "5": "false comparison", "6": "omitted comparison",
}  # fmt: skip
_REXRANK = {
    "mimic-cxr": ("mimic-cxr/ReXRank_MIMICCXR_test.json", "mimic-cxr/files"),
    "iu-xray": ("iu_xray/ReXRank_IUXray_test.json", "iu_xray/images"),
    "iu-xray-valid": ("iu_xray/ReXRank_IUXray_valid.json", "iu_xray/images"),
    "chexpert-plus": ("chexpert_plus/ReXRank_CheXpertPlus.json", "chexpert_plus/PNG"),
}
_REXRANK_KEYS = (
    "image_path",
    "key_image_path",
    "context",
    "frontal_lateral",
    "section_findings",
    "section_impression",
    "report",
)


def roco(reading: Reading) -> None:
    """ROCO of 2018: {train,validation,test}/radiology/captions.txt, images beside them; the non-radiology images are
    left out, as evaluations do."""
    base = next((inner for inner in ("all_data/", "data/") if (reading.folder / inner).is_dir()), "")
    tables = [
        (split, find_file(reading, f"{base}{split}/radiology/captions.txt"))
        for split in ("train", "validation", "test")
    ]
    if not any(path for _, path in tables):
        need_files(reading, *(f"{split}/radiology/captions.txt" for split in ("train", "validation", "test")))
    for split, path in tables:
        if path is None:
            continue
        reading.files.append(path)
        for place, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            name, tab, caption = line.partition("\t")
            if not line.strip():
                continue
            if not tab or not name.startswith("ROCO_"):
                raise BenchmarkError(f"{path}: line {place}: {line[:40]!r}, expected ROCO_00001, a tab and a caption")
            if reading.lists(name, split):
                image = f"{base}{split}/radiology/images/{name}.jpg"
                reading.items.append(Item(name, split, (image,), text=caption.strip()))
    reading.version = "1"


def roco_v2(reading: Reading) -> None:
    """ROCOv2: {train,valid,test}_captions.csv with {train,valid,test}_concepts.csv (UMLS concepts as labels)."""
    tables = [(split, find_file(reading, f"{split}_captions.csv")) for split in ("train", "valid", "test")]
    if not any(path for _, path in tables):
        need_files(reading, *(f"{split}_captions.csv" for split in ("train", "valid", "test")))
    for split, path in tables:
        if path is None:
            continue
        about = find_file(reading, f"{split}_concepts.csv")
        concepts = (
            {row["ID"]: row["CUIs"].split(";") for _, row in read_table(reading, about, ("ID", "CUIs"))}
            if about
            else {}
        )
        inner = next(
            (one for one in (f"{split}_images/{split}", f"{split}_images") if (reading.folder / one).is_dir()), split
        )
        for _, row in read_table(reading, path, ("ID", "Caption")):
            if reading.lists(row["ID"], split):
                labels = {concept: PRESENT for concept in concepts.get(row["ID"], ()) if concept}
                image = f"{inner}/{row['ID']}.jpg"
                reading.items.append(Item(row["ID"], split, (image,), labels=labels, text=row["Caption"].strip()))
    reading.version = "2"


def rexval(reading: Reading) -> None:
    """ReXVal: 50_samples_gt_and_candidates.csv and the errors that six radiologists counted.

    One item per pair of reports. `sections` hold "reference" and "candidate", `readings` map a rater to the errors
    of each kind, as "significant: false finding" or "insignificant: ...". It has no images and no split ("all").
    """
    pairs, errors = need_files(
        reading, "50_samples_gt_and_candidates.csv", "6_valid_raters_per_rater_error_categories.csv"
    )
    counted = _rexval_errors(reading, errors)
    used = set()
    columns = ("gt_report", *REXVAL_CANDIDATES)
    for study, (_, row) in enumerate(read_table(reading, pairs, columns, ("study_id", "study_number", "Unnamed: 0"))):
        for candidate in REXVAL_CANDIDATES:
            item = f"{study}/{candidate}"
            used.add(item)
            if reading.lists(item, "all", str(study)):
                raters = counted.get(item, {})
                sections = {"reference": row["gt_report"], "candidate": row[candidate]}
                reading.items.append(
                    Item(
                        item,
                        "all",
                        (),
                        str(study),
                        row.get("study_id", ""),
                        readings=raters,
                        text=row[candidate],
                        sections=sections,
                    )
                )
    strange = sorted(counted.keys() - used)
    if strange:
        raise BenchmarkError(f"{errors}: counts errors of {strange[:5]}, which {pairs.name} does not hold")
    reading.version = "1.0.0"


def _rexval_errors(reading: Reading, path: Path) -> dict[str, dict[str, dict[str, float]]]:
    counted: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    columns = (
        "study_number",
        "candidate_type",
        "rater_index",
        "error_category",
        "clinically_significant",
        "num_errors",
    )
    for where, row in read_table(reading, path, columns, ("Unnamed: 0",)):
        candidate = one_of(row["candidate_type"], REXVAL_CANDIDATES, "candidate", where)
        kind = REXVAL_ERRORS[one_of(row["error_category"], REXVAL_ERRORS, "error category", where)]
        significant = one_of(row["clinically_significant"].lower(), ("true", "false", "1", "0"), "significance", where)
        name = f"{'significant' if significant in ('true', '1') else 'insignificant'}: {kind}"
        rater = counted[f"{row['study_number']}/{candidate}"][row["rater_index"]]
        if name in rater:
            raise BenchmarkError(f"{where}: this rater, pair and kind of error stand twice")
        rater[name] = number(row["num_errors"], f"{where}, num_errors")
    return {pair: dict(raters) for pair, raters in counted.items()}


def rexrank(reading: Reading) -> None:
    """ReXrank's reports to write: one JSON for each of its public test sets, with the films of a study."""
    tables = {split: find_file(reading, name) for split, (name, _) in _REXRANK.items()}
    if not any(tables.values()):
        need_files(reading, tuple(name for name, _ in _REXRANK.values()))
    for split, path in tables.items():
        if path is None:
            continue
        data = read_json(reading, path)
        if not isinstance(data, dict):
            raise BenchmarkError(
                f"{path}: found {type(data).__name__}, expected one object with a study under each key"
            )
        for study, row in data.items():
            where = f"{path.name}, study {study}"
            if not isinstance(row, dict):
                raise BenchmarkError(f"{where}: found {type(row).__name__}, expected an object")
            check_columns(path.with_name(where), list(row), _REXRANK_KEYS, (), True)
            patient = str(row.get("subject_id", "") or "")
            if reading.lists(f"{split}/{study}", split, f"{split}/{patient}" if patient else ""):
                reading.items.append(_rexrank_item(split, study, row, patient))


def _rexrank_item(split: str, study: str, row: dict[str, object], patient: str) -> Item:
    films, views = row["image_path"], row["frontal_lateral"]
    root = _REXRANK[split][1]
    paths = tuple(f"{root}/{str(film).lstrip('/')}" for film in films) if isinstance(films, list) else ()
    sections: Row = {
        name: text
        for name in ("findings", "impression")
        if isinstance(text := row[f"section_{name}"], str) and text.strip()
    }
    return Item(
        f"{split}/{study}",
        split,
        paths,
        f"{split}/{patient}" if patient else "",
        study,
        view=", ".join(map(str, views)) if isinstance(views, list) else str(views),
        text=str(row["report"]),
        sections=sections,
        details={"context": str(row["context"]), "key image": str(row["key_image_path"])},
    )
