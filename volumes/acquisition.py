"""Whom an image shows and what made it, as far as groups need it: sex, age, site, scanner. No name, ID or birth date.

Read when somebody asks how a model does on parts of a test set. Nothing of it is kept in the catalog.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

from volumes.archive import file_format, read_bytes
from volumes.errors import VolumeError
from volumes.zips import ZIP_MARK, regular_file

OLDEST_YEARS = 130
_TAGS = (
    "PatientSex",
    "PatientAge",
    "PatientBirthDate",
    "StudyDate",
    "Manufacturer",
    "ManufacturerModelName",
    "InstitutionName",
    "SpecificCharacterSet",
)
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
_SEX = {"M": "male", "F": "female", "O": "other"}
_LONGEST = 64


@dataclass(frozen=True)
class Acquisition:
    """What one file says; "" and None mean that it does not say.

    `sex` is "male", "female" or "other"; `age_years` in years at the study; `scanner` is manufacturer and model.
    """

    sex: str = ""
    age_years: float | None = None
    site: str = ""
    scanner: str = ""


def read_acquisition(location: str) -> Acquisition:
    """What the header of a DICOM file says. Files of other formats, and damaged ones, say nothing."""
    if file_format(location) not in (None, "dicom"):
        return Acquisition()
    from pydicom.errors import InvalidDicomError

    from volumes.header import open_dataset

    try:
        if ZIP_MARK in location:
            dataset = open_dataset(io.BytesIO(read_bytes(location)), stop_before_pixels=True, specific_tags=list(_TAGS))
        else:
            with open(location, "rb", opener=regular_file) as stream:
                dataset = open_dataset(stream, stop_before_pixels=True, specific_tags=list(_TAGS))
    except (OSError, VolumeError, InvalidDicomError):
        return Acquisition()
    said = {tag: _text(dataset.get(tag)) for tag in _TAGS}
    maker, model = said["Manufacturer"], said["ManufacturerModelName"]
    scanner = model if maker and model.startswith(maker) else f"{maker} {model}".strip()
    return Acquisition(
        _SEX.get(said["PatientSex"].upper(), ""),
        age_years(said["PatientAge"], said["PatientBirthDate"], said["StudyDate"]),
        said["InstitutionName"],
        scanner,
    )


def age_years(age: str, birth: str = "", study: str = "") -> float | None:
    """Age in years from an age string (PS3.5 6.2, "064Y"), else from dates of birth and study (YYYYMMDD), else None."""
    found = _AGE.fullmatch(age.strip().upper())
    if found:
        years = int(found[1]) * _YEARS[found[2]]
    elif re.fullmatch(r"\d{8}", birth) and re.fullmatch(r"\d{8}", study):
        years = int(study[:4]) - int(birth[:4]) - (study[4:] < birth[4:])
    else:
        return None
    return float(years) if 0 <= years <= OLDEST_YEARS else None


def _text(value: object) -> str:
    return " ".join(str(value).split())[:_LONGEST] if value is not None else ""
