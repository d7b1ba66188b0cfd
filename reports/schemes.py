"""The lists of findings that others label reports with, what each covers, and which label lies under which."""

from __future__ import annotations

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
"""Irvin et al. 2019, CheXpert, arXiv:1901.07031, in the order of its labeler. Every hedge is -1."""

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
"""Hamamci et al. 2024, CT-RATE, arXiv:2403.17834."""

NIH14: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""Wang et al. 2017, ChestX-ray14, arXiv:1705.02315, with presence as the Indiana reports are coded (Demner-Fushman et
al. 2016, J Am Med Inform Assoc 23:304-310, the gold standard of NegBio, arXiv:1712.05898).

Labels follow the word of the report. Nodule is a nodule: a nodular density or opacity is an opacity, and a granuloma is
a granuloma. Mass is what is called a mass, Infiltration what is called an infiltrate, Edema an edema: a lung cancer, an
airspace disease and a heart failure are none. Pleural_Thickening is no pleural scar. Borderline size of the heart is
Cardiomegaly; the upper limit of normal is not. "Probable effusion" and "atelectasis versus scar" count as present (1),
what merely may be, is suggested or cannot be excluded as uncertain (-1). Hernia is one at the diaphragm.
"""

SCHEMES: dict[str, tuple[str, ...]] = {"chexpert14": CHEXPERT14, "ctrate18": CTRATE18, "nih14": NIH14}

FIRM: dict[str, frozenset[str | None]] = {
    "nih14": frozenset({"probable", "alternative"}),
    "ctrate18": frozenset({"probable"}),
}
"""Hedges that a scheme counts as presence; all others are uncertain."""

PARENTS: dict[str, dict[str, str]] = {
    "chexpert14": {
        "Cardiomegaly": "Enlarged Cardiomediastinum",
        "Lung Lesion": "Lung Opacity",
        "Edema": "Lung Opacity",
        "Consolidation": "Lung Opacity",
        "Pneumonia": "Consolidation",
        "Atelectasis": "Lung Opacity",
    }
}
"""Child -> parent, as in figure 1 of the CheXpert paper. The labeler itself does not spread values along it."""
