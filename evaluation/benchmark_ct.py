"""CT-RATE and Merlin: volumes with their report.

Sources: Hamamci et al. 2024, arXiv:2403.17834; Blankemeier et al. 2024, arXiv:2406.06512.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from evaluation.benchmark_item import NOT_MENTIONED, PRESENT, BenchmarkError, Item, Reading
from evaluation.benchmark_tables import Row, check_columns, find_file, label, listed, need_files, one_of, read_table

CT_RATE_FINDINGS = (
    "Medical material", "Arterial wall calcification", "Cardiomegaly", "Pericardial effusion",
    "Coronary artery wall calcification", "Hiatal hernia", "Lymphadenopathy", "Emphysema", "Atelectasis",
    "Lung nodule", "Lung opacity", "Pulmonary fibrotic sequela", "Pleural effusion", "Mosaic attenuation pattern",
    "Peribronchial thickening", "Consolidation", "Bronchiectasis", "Interlobular septal thickening",
)  # fmt: skip
_SECTIONS = {
    "ClinicalInformation_EN": "indication", "Technique_EN": "technique", "Findings_EN": "findings",
    "Impressions_EN": "impression",
}  # fmt: skip
_VOLUME = re.compile(r"((?:train|valid)_\d+)_([a-z]+)_(\d+)\.nii\.gz")
_MOST_XML = 2**30  # bytes of an unpacked spreadsheet
_CELL = re.compile(r"([A-Z]+)\d+")


def ct_rate(reading: Reading) -> None:
    """train_reports.csv and validation_reports.csv with the labels and metadata of each volume."""
    parts = ("train", "train", "train"), ("valid", "validation", "valid")
    found = False
    for split, reports_name, labels_name in parts:
        reports = _ct_rate_table(reading, "radiology_text_reports", f"{reports_name}_reports.csv")
        if reports is None:
            continue
        found = True
        labels_path = _ct_rate_table(reading, "multi_abnormality_labels", f"{labels_name}_predicted_labels.csv")
        if labels_path is None:
            need_files(reading, f"multi_abnormality_labels/{labels_name}_predicted_labels.csv")
            return
        columns = ("VolumeName", *CT_RATE_FINDINGS)
        labels = {
            row["VolumeName"]: {name: label(row[name], f"{where}, {name}") for name in CT_RATE_FINDINGS}
            for where, row in read_table(reading, labels_path, columns)
        }
        about = _ct_rate_metadata(reading, reports_name)
        root = next(
            (
                f"{base}{split}{kind}"
                for base in ("dataset/", "")
                for kind in ("_fixed", "")
                if (reading.folder / f"{base}{split}{kind}").is_dir()
            ),
            f"dataset/{split}",
        )
        for where, row in read_table(reading, reports, ("VolumeName", *_SECTIONS)):
            match = _VOLUME.fullmatch(row["VolumeName"])
            if match is None or not match[1].startswith(split):
                raise BenchmarkError(f"{where}: volume {row['VolumeName']!r}, expected one like {split}_1_a_1.nii.gz")
            if reading.lists(row["VolumeName"], split, match[1]):
                study = f"{match[1]}_{match[2]}"
                if row["VolumeName"] not in labels:
                    raise BenchmarkError(f"{labels_path}: lacks {row['VolumeName']} of {reports.name}")
                sections = {name: row[column].strip() for column, name in _SECTIONS.items() if row[column].strip()}
                reading.items.append(
                    Item(
                        row["VolumeName"],
                        split,
                        (f"{root}/{match[1]}/{study}/{row['VolumeName']}",),
                        match[1],
                        study,
                        labels=labels[row["VolumeName"]],
                        sections=sections,
                        text="\n".join(f"{name.upper()}: {text}" for name, text in sections.items()),
                        details=about.get(row["VolumeName"], {}),
                    )
                )
    if not found:
        need_files(reading, "radiology_text_reports/train_reports.csv", "radiology_text_reports/validation_reports.csv")


def _ct_rate_table(reading: Reading, folder: str, name: str) -> Path | None:
    return find_file(reading, f"dataset/{folder}/{name}", f"{folder}/{name}", name)


def _ct_rate_metadata(reading: Reading, part: str) -> dict[str, Row]:
    path = _ct_rate_table(reading, "metadata", f"{part}_metadata.csv")
    if path is None:
        return {}
    kept = ("Manufacturer", "ManufacturerModelName", "PatientSex", "PatientAge")
    # The table repeats some forty DICOM attributes; these are the ones that subgroups are made of.
    return {
        row["VolumeName"]: {name: row[name] for name in kept if row.get(name)}
        for _, row in read_table(reading, path, ("VolumeName",), others=True)
    }


def merlin(reading: Reading) -> None:
    """reports_final.xlsx (or the same saved as CSV) and zero_shot_findings_disease_cls.csv; -1 is not mentioned."""
    (path,) = need_files(reading, ("reports_final.xlsx", "reports_final.csv"))
    if path.suffix == ".xlsx":
        rows = spreadsheet(reading, path, ("study id", "findings", "split"))
    else:
        rows = (
            (where, {name.lower().replace("_", " "): cell for name, cell in row.items()})
            for where, row in read_table(reading, path, (), others=True)
        )
    labels = _merlin_labels(reading)
    for where, row in rows:
        if not {"study id", "findings", "split"} <= row.keys():
            raise BenchmarkError(f"{path}: has the columns {listed(row)}; expected study id, findings and split")
        split = one_of(row["split"].strip().lower(), ("train", "val", "validation", "test"), "split", where)
        if reading.lists(row["study id"], "val" if split == "validation" else split):
            study = row["study id"]
            plain = f"merlin_data/{study}.nii"
            image = plain if (reading.folder / plain).is_file() else f"{plain}.gz"
            text = row["findings"].strip()
            reading.items.append(
                Item(
                    study,
                    "val" if split == "validation" else split,
                    (image,),
                    study=study,
                    labels=labels.get(study, {}),
                    text=text,
                    sections={"findings": text} if text else {},
                )
            )


def _merlin_labels(reading: Reading) -> dict[str, dict[str, float]]:
    path = find_file(reading, "zero_shot_findings_disease_cls.csv")
    labels: dict[str, dict[str, float]] = {}
    if path is None:
        reading.notes.append("zero_shot_findings_disease_cls.csv is not in the folder, so no labels")
        return labels
    for where, row in read_table(reading, path, (), others=True):
        key, *names = row  # the first column names the study, the others are findings
        said = {name: label(row[name], f"{where}, {name}") for name in names}
        labels[row[key]] = {name: NOT_MENTIONED if value == -PRESENT else value for name, value in said.items()}
    return labels


def spreadsheet(reading: Reading, path: Path, required: tuple[str, ...]) -> Iterator[tuple[str, Row]]:
    """(place, row) of the first sheet of an .xlsx file; names of columns in small letters. Formulas are not computed.

    Raises: BenchmarkError if it is no such file, unpacks to more than 1 GiB, or lacks a column.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    reading.files.append(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = ("xl/sharedStrings.xml", "xl/worksheets/sheet1.xml")
            if sum(archive.getinfo(name).file_size for name in names if name in archive.namelist()) > _MOST_XML:
                raise BenchmarkError(f"{path}: unpacks to more than {_MOST_XML} bytes; save it as CSV")
            space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
            shared: list[str] = []
            if names[0] in archive.namelist():
                texts = fromstring(archive.read(names[0])).iter(f"{space}si")
                shared = ["".join(part.text or "" for part in one.iter(f"{space}t")) for one in texts]
            sheet = fromstring(archive.read(names[1]))
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise BenchmarkError(f"{path}: no spreadsheet that can be read ({_brief(error)}); save it as CSV") from None
    except (ParseError, DefusedXmlException) as error:
        raise BenchmarkError(f"{path}: no spreadsheet that can be read ({_brief(error)}); save it as CSV") from None
    header: dict[str, str] = {}
    for row in sheet.iter(f"{space}row"):
        cells: Row = {}
        for cell in row.iter(f"{space}c"):
            place, value = _CELL.fullmatch(cell.get("r", "")), cell.find(f"{space}v")
            text = "".join(part.text or "" for part in cell.iter(f"{space}t")) if value is None else value.text or ""
            if place is not None:
                cells[place[1]] = _shared(shared, text, path) if cell.get("t") == "s" else text
        if not header:
            header = {column: name.strip().lower().replace("_", " ") for column, name in cells.items() if name.strip()}
            check_columns(path, list(header.values()), required, (), True)
        else:
            yield f"{path.name}, row {row.get('r')}", {name: cells.get(at, "") for at, name in header.items()}


def _shared(texts: list[str], place: str, path: Path) -> str:
    """A text that a cell names by its place in the list of texts."""
    if not place.isdecimal() or int(place) >= len(texts):
        raise BenchmarkError(f"{path}: a cell names text {place[:20]!r} of {len(texts)}; save it as CSV")
    return texts[int(place)]


def _brief(error: Exception) -> str:
    return type(error).__name__
