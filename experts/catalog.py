"""The experts there are. A plain list: to add one, write its file and its card here."""

from __future__ import annotations

from difflib import get_close_matches

from experts.card import ExpertCard, Takes

_CARDS = (
    ExpertCard(
        name="ct-body",
        takes=Takes(kind="volume", modality=("CT",), unit=("HU",), body_part="chest"),
        gives=(
            "pleural effusion",
            "cardiomegaly",
            "right lung volume",
            "left lung volume",
            "lung attenuation",
            "heart width",
            "thorax width",
            "cardiothoracic ratio",
            "body width",
        ),
        source="thresholds and geometry; no training. Ratio: Gollub et al. 2012, J Comput Assist Tomogr 36:67",
        licence="Apache-2.0",
        not_for="children; prone scans; after lung resection; anything but CT in HU; a diagnosis",
        load="experts.ct_body:CtBody",
    ),
    ExpertCard(
        name="film-thorax",
        takes=Takes(
            kind="film",
            modality=("CR", "DX", "DR", "RG", "XA", "OT", "SC"),
            unit=("raw", "1"),
            body_part="chest",
            views=("PA", "AP", "unknown"),
        ),
        gives=("cardiomegaly", "cardiothoracic ratio", "heart width", "thorax width"),
        source="threshold, components and shape; no training. Ratio: Danzer 1919, Am J Med Sci 157:513",
        licence="Apache-2.0",
        not_for="children; lateral films; white-out of a lung; a diagnosis",
        load="experts.film_thorax:FilmThorax",
    ),
)


def cards() -> list[ExpertCard]:
    """Every card. Imports no expert's code."""
    return list(_CARDS)


def find(name: str) -> ExpertCard:
    """The card of that name. Raises: KeyError that lists the names there are, and the likely one."""
    for card in _CARDS:
        if card.name == name:
            return card
    names = [card.name for card in _CARDS]
    likely = get_close_matches(name, names, n=1)
    hint = f"; did you mean {likely[0]!r}?" if likely else ""
    raise KeyError(f"there is no expert {name!r}; there are {', '.join(names)}{hint}")
