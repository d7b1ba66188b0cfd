"""Labels per report: 1 present, 0 absent, -1 uncertain, None not mentioned, in the schemes that others use."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from reports.findings import Finding, find
from reports.lexicon import lexicon, names
from reports.sections import split_sections

Scheme = Literal["open", "chexpert14", "ctrate18"]
Label = int | None

# Irvin et al. 2019, CheXpert, arXiv:1901.07031, in the order of its labeler.
CHEXPERT14: tuple[str, ...] = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Lesion",
    "Lung Opacity",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
# Hamamci et al. 2024, CT-RATE, arXiv:2403.17834.
CTRATE18: tuple[str, ...] = (
    "Medical material",
    "Arterial wall calcification",
    "Cardiomegaly",
    "Pericardial effusion",
    "Coronary artery wall calcification",
    "Hiatal hernia",
    "Lymphadenopathy",
    "Emphysema",
    "Atelectasis",
    "Lung nodule",
    "Lung opacity",
    "Pulmonary fibrotic sequela",
    "Pleural effusion",
    "Mosaic attenuation pattern",
    "Peribronchial thickening",
    "Consolidation",
    "Bronchiectasis",
    "Interlobular septal thickening",
)

_VALUE = {"present": 1, "absent": 0, "uncertain": -1}
_STRENGTH = {None: 0, 0: 1, -1: 2, 1: 3}  # one positive statement outweighs a hedge, a hedge outweighs a denial
_IMPLIED_IN_CHEXPERT = frozenset({"cardiomegaly", "enlarged cardiomediastinum"})
_NORMAL = re.compile(
    r"\b(?:normal (?:chest|study|exam\w*|radiograph|cxr)|no (?:\w+ ){0,2}(?:acute"
    r"|active) (?:\w+ ){0,3}(?:abnormalit\w+|disease"
    r"|process\w*|findings?)|(?:lungs?|heart|study|exam\w*|chest)(?: \w+){0,4} (?:normal|clear|unremarkable)"
    r"|clear lungs|unremarkable"
    r"|within normal limits)\b",
    re.IGNORECASE,
)
_KEY_COLUMN = re.compile(
    r"^(?:.*_)?(?:id|uid|no|number|accession\w*|study|studyinstanceuid|image|filename|name)$", re.IGNORECASE
)
_KEY_WORDS = re.compile(r"accession|study|report_?id|volume_?name|uid", re.IGNORECASE)


class LabelSummary(NamedTuple):
    """What `label_reports` did: rows written, rows without any text, positives per label."""

    rows: int
    empty: int
    present: dict[str, int]


def scheme_names(scheme: str) -> tuple[str, ...]:
    """The label names of a scheme in its own order. Raises: ValueError for an unknown scheme."""
    known = {"open": names(), "chexpert14": CHEXPERT14, "ctrate18": CTRATE18}
    if scheme not in known:
        raise ValueError(f'unknown labelling scheme "{scheme}"; expected one of {", ".join(get_args(Scheme))}')
    return known[scheme]


def label(text: str, scheme: str = "open") -> dict[str, Label]:
    """Label one report: 1 present, 0 absent, -1 uncertain, None not mentioned.

    Schemes: "open" has every name of the lexicon, "chexpert14" and "ctrate18" theirs. In chexpert14, "lungs are clear"
    leaves the lung findings empty as the reference labeler does, and "No Finding" is 1 when something was read and
    nothing but devices is present or uncertain; otherwise it stays empty.
    """
    return label_findings(find(text), scheme, text)


def label_findings(findings: Iterable[Finding], scheme: str = "open", text: str = "") -> dict[str, Label]:
    """As `label`, from findings that are already read; `text` only serves "No Finding" of a report without any."""
    labels: dict[str, Label] = dict.fromkeys(scheme_names(scheme))
    findings = list(findings)
    for finding in findings:
        target = _target(finding, scheme)
        value = _VALUE[finding.status]
        if target is not None and target in labels and _STRENGTH[value] > _STRENGTH[labels[target]]:
            labels[target] = value
    if scheme == "chexpert14":
        labels["No Finding"] = _no_finding(findings, text)
    return labels


def _target(finding: Finding, scheme: str) -> str | None:
    entry = lexicon().entries.get(finding.name)
    if scheme == "open":
        return finding.name
    if entry is None:
        return None
    if scheme == "ctrate18":
        return entry.ctrate
    return None if finding.by == "implied" and finding.name not in _IMPLIED_IN_CHEXPERT else entry.chexpert


def _no_finding(findings: Sequence[Finding], text: str) -> Label:
    entries = lexicon().entries
    ill = [
        f
        for f in findings
        if f.status != "absent" and (f.name not in entries or entries[f.name].chexpert != "Support Devices")
    ]
    return None if ill or not (findings or _NORMAL.search(text)) else 1


def join_columns(row: dict[str, str], columns: Sequence[str]) -> str:
    """One report text from several columns; one named like a section keeps its role ("indication" states nothing)."""
    parts = []
    for column in columns:
        text = (row.get(column) or "").strip()
        if text:
            heading = column.replace("_", " ")
            is_section = len(columns) > 1 and split_sections(f"{heading}:\nx") != {"findings": f"{heading}:\nx"}
            parts.append(f"{heading.upper()}:\n{text}" if is_section else text)
    return "\n\n".join(parts)


def label_reports(reports: Path | str, columns: Sequence[str], scheme: str, out: Path | str) -> LabelSummary:
    """Label every row of a CSV file and write a CSV: `row` (from 0), its key columns, then one column per label.

    Cells are 1, 0, -1 or empty. Key columns are those whose names say so (accession, study, uid, id). A row without
    text gets empty cells. Raises: ValueError if a column is missing or the scheme unknown.
    """
    wanted = scheme_names(scheme)
    present = dict.fromkeys(wanted, 0)
    rows = empty = 0
    with Path(reports).open(encoding="utf-8-sig", newline="") as source:
        reader = csv.DictReader(source)
        keys = _key_columns(reports, list(reader.fieldnames or ()), columns, wanted)
        with Path(out).open("w", encoding="utf-8", newline="") as sink:
            writer = csv.writer(sink)
            writer.writerow(["row", *keys, *wanted])
            for row in reader:
                text = join_columns(row, columns)
                labels = label(text, scheme) if text else dict.fromkeys(wanted)
                writer.writerow(
                    [rows, *(row[key] for key in keys), *("" if labels[n] is None else labels[n] for n in wanted)]
                )
                rows, empty = rows + 1, empty + (not text)
                for name in wanted:
                    present[name] += labels[name] == 1
    return LabelSummary(rows, empty, present)


def _key_columns(reports: Path | str, header: list[str], columns: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The columns that name a row; refuses when a text column is not there."""
    missing = [column for column in columns if column not in header]
    if missing or not columns:
        raise ValueError(
            f"{reports}: text column(s) {', '.join(missing) or '(none given)'} not found;"
            f" the file has: {', '.join(header)}."
            " Name the report column with --column."
        )
    free = [column for column in header if column not in columns and column not in wanted]
    return [column for column in free if _KEY_COLUMN.match(column) or _KEY_WORDS.search(column)]
