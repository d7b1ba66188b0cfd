"""One draft with every verdict, for the tests of its forms."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset

from reports.draft import Draft, DraftSentence, Evidence, ImageExtent
from reports.findings import find
from reports.passage import Passage
from reports.verdict import Verdict
from volumes.volume import Region

ISSUED = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
BOX = Region("1.2.5", "1.2.5.1", (100.0, 40.0), (180.0, 90.0), (40.0, 16.0), (72.0, 36.0), 0.7)
PASSAGE = Passage("Fluid fills the angle first.", "Pleural effusion", "signs", "glossary", "", "3", "Apache-2.0", "g:1")
GROUNDS = (
    Evidence("region", "most likely place of pleural effusion", BOX, 0.7, "1", by="model"),
    Evidence("measurement", "fluid depth", None, 12.0, "mm", by="ruler"),
    Evidence("passage", PASSAGE.citation(), passage=PASSAGE, by="glossary"),
)


def sentence(
    text: str,
    verdict: Verdict = "supported",
    section: str = "findings",
    evidence: Sequence[Evidence] = (),
    confidence: float | None = 0.9,
) -> DraftSentence:
    """A sentence with the findings that its text states."""
    stated = () if section in {"indication", "technique", "comparison"} else find(text)
    return DraftSentence(section, text, stated, tuple(evidence), confidence, verdict, f"because {verdict}")


SENTENCES = (
    sentence("PA radiograph of the chest.", section="technique", confidence=None),
    sentence("None.", "unsupported", "comparison", confidence=None),
    sentence("There is a moderate left pleural effusion.", evidence=GROUNDS, confidence=0.93),
    sentence("There is a 12 mm nodule in the left upper lobe.", confidence=0.81),
    sentence("No pneumothorax.", confidence=0.98),
    sentence("The heart is enlarged.", "contradicted", evidence=GROUNDS[:1], confidence=0.07),
    sentence("There is a 30 mm mass in the right lower lobe.", "unsupported", confidence=0.4),
    sentence("Left effusion, größer.", section="impression", confidence=0.93),
    sentence("Follow-up in 3 months.", "unsupported", "recommendation", confidence=None),
)
MARKED = (
    "[UNSUPPORTED] None.",
    "[CONTRADICTED] The heart is enlarged.",
    "[UNSUPPORTED] There is a 30 mm mass in the right lower lobe.",
    "[UNSUPPORTED] Follow-up in 3 months.",
)
MADE_BY = {
    "model": "demo",
    "model_digest": "sha256:ab",
    "preprocess_digest": "sha256:cd",
    "experts": "ruler: answered",
    "knowledge": "glossary 3",
}


def draft(*sentences: DraftSentence, simulated: bool = True) -> Draft:
    """The draft of a film study; of the sentences given, or of one of each kind."""
    extent = ImageExtent((200, 160), "PA")
    return Draft(
        "1.2.3",
        ("1.2.5",),
        "DX",
        sentences or SENTENCES,
        MADE_BY,
        ("not mentioned in the draft: pneumonia, probability 0.71",),
        simulated,
        {"1.2.5.1": extent, "1.2.5": extent},
    )


def header(study_uid: str = "1.2.3") -> Dataset:
    """The header of the film."""
    image = Dataset()
    image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID = study_uid, "1.2.5", "1.2.5.1"
    image.SOPClassUID, image.Modality = "1.2.840.10008.5.1.4.1.1.1.1", "DX"
    image.PatientID, image.PatientName, image.PatientBirthDate, image.PatientSex = "P1", "SIMULATED^P1", "", "F"
    image.AccessionNumber, image.StudyID, image.StudyDate, image.StudyTime = "A1", "S1", "20240102", "030405"
    image.Rows, image.Columns = 200, 160
    return image


def png(rows: int = 100, columns: int = 80) -> bytes:
    """A black picture."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((rows, columns), np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()
