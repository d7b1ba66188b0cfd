"""An expert is a card before it is code: reading cards imports no model, and a card says what it is not for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Protocol, runtime_checkable

from experts.measure import Measurement
from reports.findings import Finding
from volumes.volume import Film, Volume, VolumeError


class ExpertError(VolumeError):
    """An expert declines an image, and says why: `reason` for programs, the message for people."""


@dataclass(frozen=True)
class Takes:
    """What an expert can look at. Empty `views` means any view; `body_part` is for people, contents decide."""

    kind: str  # "volume" or "film"
    modality: tuple[str, ...]
    unit: tuple[str, ...]
    body_part: str = ""
    views: tuple[str, ...] = ()

    def refusal(self, image: Volume | Film) -> ExpertError | None:
        """Why this image is not suitable by its headers alone, or None."""
        kind = "film" if isinstance(image, Film) else "volume"
        found = f"this is a {kind} of modality {image.source.modality or 'unknown'} in unit {image.unit!r}"
        expected = f"expected a {self.kind} of modality {' or '.join(self.modality)} in unit {' or '.join(self.unit)}"
        if kind != self.kind:
            return ExpertError(f"{found}; {expected}", "wrong-kind")
        if image.source.modality not in self.modality:
            return ExpertError(f"{found}; {expected}", "wrong-modality")
        if image.unit not in self.unit:
            return ExpertError(f"{found}; {expected}. Read the series so that its rescale applies", "wrong-unit")
        if isinstance(image, Film) and self.views and image.view not in self.views:
            return ExpertError(f"the view is {image.view}; expected one of {', '.join(self.views)}", "wrong-view")
        return None


@dataclass(frozen=True)
class Weights:
    """Trained weights: where they come from, their checksum, and their own licence (often not the code's)."""

    url: str
    sha256: str
    licence: str


@dataclass(frozen=True)
class Opinion:
    """What an expert says about one image. `notes` are limits a reader must know, in words."""

    findings: tuple[Finding, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    notes: tuple[str, ...] = ()


@runtime_checkable
class Expert(Protocol):
    """The contract: no arguments to make it, one verb, and a VolumeError (with `.reason`) for what it declines."""

    def look(self, image: Volume | Film) -> Opinion:
        """Look at one image. Raises: VolumeError if the image is unsuitable or its content implausible."""
        ...


@dataclass(frozen=True)
class ExpertCard:
    """One expert: what it takes and gives, whose work it is, and what it must not be used for.

    `gives` names findings and measurements. `network` says what leaves or enters the machine. `load` is "module:Class",
    resolved on demand.
    """

    name: str
    takes: Takes
    gives: tuple[str, ...]
    source: str
    licence: str
    not_for: str
    load: str
    weights: Weights | None = None
    network: str = "none"
    version: str = "1"

    def expert(self) -> Expert:
        """Import and make the expert. Raises: ExpertError if its module or an optional package is missing."""
        try:
            found = resolve_name(self.load)()
        except (ImportError, AttributeError) as error:
            raise ExpertError(f"{self.name}: {self.load} cannot be loaded: {error}", "not-installed") from error
        if not isinstance(found, Expert):
            raise ExpertError(f"{self.name}: {self.load} has no method `look`", "not-an-expert")
        return found


def listing(cards: Iterable[ExpertCard]) -> str:
    """Cards as aligned lines of text, one expert a line: name, what it takes, what it gives."""
    rows = [(card.name, f"{'/'.join(card.takes.modality)} {card.takes.kind}", ", ".join(card.gives)) for card in cards]
    widths = [max((len(row[place]) for row in rows), default=0) for place in (0, 1)]
    return "\n".join(f"{name:<{widths[0]}}  {takes:<{widths[1]}}  {gives}" for name, takes, gives in rows)
