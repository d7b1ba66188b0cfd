"""A picture of the draft with the places of its sentences, for forms that show images."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from reports.draft import Draft
from reports.evidence import ImageExtent
from reports.verdict import Verdict
from volumes.volume import Region

_PNG = b"\x89PNG\r\n\x1a\n"
_WORST_FIRST: tuple[Verdict, ...] = ("contradicted", "unsupported", "supported")


@dataclass(frozen=True)
class Box:
    """A place with the sentences that point to it: `start` and `stop` are (row, column) of the image.

    `verdict` is the worst of its sentences, so that a shared place never looks better than one of them.
    """

    start: tuple[float, float]
    stop: tuple[float, float]
    by_model: bool
    users: tuple[int, ...]
    verdict: Verdict

    @property
    def label(self) -> str:
        """Numbers of the sentences, counted from one; the first four of many."""
        shown = "·".join(str(user + 1) for user in self.users[:4])
        return shown if len(self.users) <= 4 else f"{shown}…"


@dataclass(frozen=True)
class Figure:
    """One PNG picture and the image it shows, which may be larger: `rows` and `columns` are those of the image."""

    key: str
    data: bytes
    base: str
    slice: int | None
    view: str
    rows: int
    columns: int
    title: str

    @classmethod
    def of(cls, key: str, data: bytes, draft: Draft) -> Figure:
        """`key` is a SOP or series UID, or `<series UID>#k12` for slice 12. Raises: ValueError for no PNG."""
        if not data.startswith(_PNG) or len(data) < 24:
            raise ValueError(f"picture of {key}: {len(data)} bytes that do not start like a PNG; expected a PNG file")
        base, _, slice_of = key.partition("#k")
        index = int(slice_of) if slice_of.isdigit() else None
        width, height = struct.unpack(">II", data[16:24])
        extent = draft.extents.get(base) or ImageExtent((height, width))
        rows, columns = extent.shape[-2:]
        named = {"PA": "PA film", "AP": "AP film", "LATERAL": "Lateral film"}.get(extent.view.upper(), "")
        title = named or (f"slice {index}" if index is not None else f"{draft.modality} image")
        return cls(key, data, base, index, extent.view, rows, columns, title)

    def holds(self, region: Region) -> bool:
        """Whether a region lies in this picture: in its image, and across its slice."""
        if self.base not in {region.sop_uid, region.series_uid}:
            return False
        return len(region.start) == 2 or self.slice is None or region.start[0] <= self.slice < region.stop[0]

    def sides(self) -> tuple[tuple[str, float], ...]:
        """Letters of the sides and where they stand across the picture, as a share of its width.

        Only for frontal films, which are shown with the patient's right at the left.
        """
        return (("R", 0.03), ("L", 0.97)) if self.view.upper() in {"PA", "AP"} else ()

    def boxes(self, draft: Draft) -> list[Box]:
        """One box per place and maker; sentences that share a place share its box."""
        shared: dict[tuple[tuple[float, ...], tuple[float, ...], bool], dict[int, None]] = {}
        for index, sentence in enumerate(draft.sentences):
            for e in sentence.evidence:
                if e.region is not None and self.holds(e.region):
                    corners = (e.region.start[-2:], e.region.stop[-2:], e.by == "model")
                    shared.setdefault(corners, {})[index] = None
        boxes = []
        for ((y0, x0), (y1, x1), by_model), users in shared.items():
            verdicts = {draft.sentences[user].verdict for user in users}
            worst = next(verdict for verdict in _WORST_FIRST if verdict in verdicts)
            boxes.append(Box((y0, x0), (y1, x1), by_model, tuple(users), worst))
        return boxes
