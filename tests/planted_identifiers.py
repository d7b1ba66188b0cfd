"""Plants identifiers into DICOM files, each one different, and looks for them afterwards in bytes and in words."""

from __future__ import annotations

import random
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import config
from pydicom.datadict import DicomDictionary, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from volumes.deidentify_profile import kept_lists, table
from volumes.deidentify_text import folded, is_known_word

ENCODINGS = ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "gb18030", "iso2022_jp", "shift_jis", "euc_kr")
FIRST_DAY = np.datetime64("2081-03-01")  # far from any shifted date: no planted date equals another one moved
SCRIPTS = {
    "ISO_IR 100": "äöüéñçÅØ",
    "ISO_IR 192": "αβγδЖЩЮЯ王明",
    "GB18030": "王小东李建国张伟",
    "ISO 2022 IR 87": "山田太郎鈴木花子",
}
_PATIENT_TAGS = (0x00100010, 0x00100020)
_NEVER_IN_A_FILE = (0xFFFAFFFA, 0xFFFCFFFC)


@dataclass
class Planter:
    """Makes identifiers that never repeat; `planted` holds every one."""

    seed: int
    planted: list[str] = field(default_factory=list)
    dates: set[str] = field(default_factory=set)
    patients: list[str] = field(default_factory=list)  # patient IDs, whose dates move together
    _made: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)

    def word(self, letters: int = 8) -> str:
        """A word that no list knows and that was not made before."""
        while True:
            made = "".join(self.draw.choice("bcdfgklmnprstvz" if i % 2 == 0 else "aeiou") for i in range(letters))
            if made not in self._made and not is_known_word(made):
                self._made.add(made)
                self.planted.append(made)
                return made.capitalize()

    def number(self) -> str:
        """Nine digits, as hospitals number patients."""
        while True:
            made = str(self.draw.randrange(10**8, 10**9))
            if made not in self._made:
                self._made.add(made)
                self.planted.append(made)
                return made

    def date(self) -> str:
        day = str(FIRST_DAY + self.draw.randrange(300)).replace("-", "")
        self.dates.add(day)
        return day

    def patient(self) -> str:
        self.patients.append(self.number())
        return self.patients[-1]

    def uid(self) -> str:
        return f"1.2.826.0.1.3680043.9.{self.number()}"

    def value(self, vr: str, depth: int = 0) -> Any:
        """A value of a VR with an identifier in it, or None where a VR can hold none."""
        if vr == "PN":
            return f"{self.word()}^{self.word()}"
        if vr == "LO":
            return f"Chest {self.word()} {self.number()}"
        if vr in ("SH", "AE", "CS"):
            return self.word().upper()
        if vr in ("ST", "LT", "UT", "UC"):
            return f"Seen by Dr. {self.word()}, tel. +49 30 {self.number()}.\r\nThorax of {self.word()} is normal."
        if vr == "UR":
            return f"https://{self.word().lower()}.example/{self.number()}"
        if vr == "UI":
            return self.uid()
        if vr in ("DA", "DT"):
            return self.date() + ("101500.000000+0100" if vr == "DT" else "")
        if vr == "TM":
            return "101500"
        if vr == "AS":
            return "093Y"
        if vr in ("DS", "IS"):
            return self.number()
        if vr in ("OB", "UN", "OW"):
            return f"{self.word()} {self.number()}".ljust(20).encode()
        if vr == "SQ" and depth < 2:
            return Sequence([self.item(depth)])
        return None

    def item(self, depth: int) -> Dataset:
        """A sequence item that names somebody in several ways."""
        item = Dataset()
        for tag in (0x00080050, 0x00080080, 0x00080100, 0x00080102, 0x00080104, 0x00081030, 0x00081155, 0x0040A123):
            put(item, tag, self.value(dictionary_VR(tag), depth + 1))
        put(item, 0x00091010, self.word(), "LO")
        put(item, 0x00090010, self.word().upper(), "LO")
        return item


def put(dataset: Dataset, tag: int, value: Any, vr: str = "") -> None:
    """Set an element without any check of its value."""
    element = DataElement(tag, vr or dictionary_VR(tag).split()[0], value, validation_mode=config.IGNORE)
    dataset[tag] = element


def plant_table(dataset: Dataset, planter: Planter) -> None:
    """Fill every attribute of PS3.15 table E.1-1 that a dataset can hold, but for the patient's name and ID."""
    for name in table():
        if "X" in name:
            continue
        tag = int(name, 16)
        known = tag in DicomDictionary
        if tag in _PATIENT_TAGS or tag in _NEVER_IN_A_FILE or tag >> 16 in (0, 2, 4) or name == "00420011":
            continue
        value = planter.value(dictionary_VR(tag).split()[0] if known else "LO")
        if value is not None:
            put(dataset, tag, value, "" if known else "LO")
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        setattr(dataset, name, planter.uid())


def plant_other_texts(dataset: Dataset, planter: Planter, patient: str) -> None:
    """Fill every other attribute of the dictionary that holds text; names of products get the patient's name."""
    technical = kept_lists()["technical"]
    listed = {int(name, 16) for name in table() if "X" not in name}
    for tag in DicomDictionary:
        vr, keyword = dictionary_VR(tag).split()[0], keyword_for_tag(tag)
        if tag in listed or tag in _NEVER_IN_A_FILE or tag >> 16 in (0, 2, 4) or not keyword or tag in dataset:
            continue
        if vr in ("LO", "SH", "ST", "LT", "UT", "UC", "PN", "AE", "UR", "CS", "UN"):
            put(dataset, tag, f"Chest {patient}"[:16] if keyword in technical else planter.value(vr))


def plant_elsewhere(dataset: Dataset, planter: Planter) -> None:
    """Private groups, overlays, curves, retired groups, free text with the patient's own name in many forms."""
    last, first = str(dataset.PatientName).split("^")[:2]
    put(dataset, 0x00290010, "SIEMENS CSA HEADER", "LO")
    put(dataset, 0x00291010, planter.value("OB"), "OB")
    put(dataset, 0x00291020, Sequence([planter.item(0)]), "SQ")
    put(dataset, 0x00291030, planter.value("UN"), "UN")
    put(dataset, 0x00190010, "SIEMENS MR HEADER", "LO")
    put(dataset, 0x0019100C, "1000", "IS")  # the b-value, safe to keep
    put(dataset, 0x0019100D, planter.word().upper(), "CS")  # safe by its place, not by its value
    put(dataset, 0x70530010, "Philips PET Private Group", "LO")
    put(dataset, 0x70531000, "2.5", "DS")
    put(dataset, 0x60000010, 8, "US")
    put(dataset, 0x60000011, 8, "US")
    put(dataset, 0x60000022, planter.value("LO"), "LO")
    put(dataset, 0x60001500, planter.value("LO"), "LO")
    put(dataset, 0x60003000, planter.value("OB"), "OB")
    put(dataset, 0x60004000, planter.value("LT"), "LT")
    put(dataset, 0x50000022, planter.value("LO"), "LO")
    put(dataset, 0x50003000, planter.value("OB"), "OB")
    put(dataset, 0x40000010, planter.value("LT"), "LT")
    put(dataset, 0x00880906, planter.value("ST"), "ST")
    dataset.StudyDescription = f"Thorax {first.upper()} {last.lower()}"
    dataset.SeriesDescription = f"{last}x chest, {last[1:]} AP"
    dataset.ImageComments = f"{first}, {last}: MRN {dataset.PatientID}, {planter.uid()}, born 1943-02-07"
    dataset.ProtocolName = f"{last}_{first}_CHEST"
    deep = planter.item(0)
    for _ in range(6):
        deeper = Dataset()
        deeper.ReferencedSeriesSequence = Sequence([deep])
        deep = deeper
    dataset.ReferencedSeriesSequence = Sequence([deep])


def save(path: Path, dataset: Dataset, planter: Planter, *, implicit: bool = False) -> None:
    """Write with identifiers in the preamble, the meta group, the trailing padding and after the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    meta = dataset.file_meta
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.ImplementationVersionName = planter.word().upper()
    meta.SourceApplicationEntityTitle = planter.word().upper()
    meta.SendingApplicationEntityTitle = planter.word().upper()
    meta.PrivateInformationCreatorUID = planter.uid()
    meta.PrivateInformation = planter.value("OB")
    put(dataset, 0xFFFCFFFC, planter.value("OB"), "OB")
    dataset.preamble = f"{planter.word()} {planter.number()}".encode().ljust(128, b"\0")
    pydicom.dcmwrite(path, dataset, implicit_vr=implicit, little_endian=True, force_encoding=True)
    with path.open("ab") as stream:
        stream.write(f"\n{planter.word()} {planter.number()}".encode())


def zip_folder(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                packed.write(path, path.relative_to(folder))


def found_in(folder: Path, needles: list[str]) -> dict[str, str]:
    """Which identifiers remain below a folder, and where: in names, in bytes of any encoding, in decoded values."""
    hay = [("names", "\n".join(str(p.relative_to(folder)) for p in folder.rglob("*")))]
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            hay += [(f"{path.suffix} as {code}", data.decode(code, "ignore")) for code in ENCODINGS]
            if path.suffix == ".dcm":
                hay.append(("decoded", str(pydicom.dcmread(path))))
    found: dict[str, str] = {}
    for where, text in hay:
        found |= dict.fromkeys(seen_in(text, needles), where)
    return found


def seen_in(text: str, needles: list[str]) -> set[str]:
    """The identifiers that stand in a text, in any case, with or without accents, inside longer words too."""
    text = folded(text) if not text.isascii() else text.casefold()
    words = {run[i : i + n] for run in set(re.findall(r"[a-z]{8,}", text)) for n in (8, 9, 10) for i in range(len(run))}
    # pseudonyms of UIDs have 39 digits, among which any nine may stand by chance
    numbers = {run[i : i + 9] for run in set(re.findall(r"\d{9,38}", text)) for i in range(len(run))}
    others = {n for n in needles if not re.fullmatch(r"[a-z]{8,10}|\d{9}", n) and folded(n) in text}
    return (words | numbers) & set(needles) | others
