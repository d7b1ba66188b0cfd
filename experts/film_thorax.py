"""Cardiothoracic ratio on a frontal chest film, with an uncertainty, or a reason why it cannot be measured.

Ratio = greatest width of the heart / greatest inner width of the thorax, both horizontal.
Source: Danzer 1919, Am J Med Sci 157:513; 0.5 is the usual limit on a PA film of an adult.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from experts.card import ExpertError, Opinion
from experts.heart_border import border, smoothed
from experts.lung_fields import LungFields, Pair, Plane, find_lung_fields
from experts.measure import Measurement, ratio
from reports.findings import Finding
from volumes.volume import Film, Region, Volume, film_region

NAME = "film-thorax"

METHOD_UNCERTAINTY = 0.05
"""Part of every ratio's uncertainty: on 26 real PA films with outlines drawn by radiologists, many with pneumonia, 21
were measured with a mean absolute error of 0.055 (median 0.04, 90% within two uncertainties), and 5 were refused."""

_PLAUSIBLE = (0.30, 0.80)
"""An outline whose ratio is outside this range has swallowed or missed the heart, and has no vote."""

_LEAST_VOTES = 0.4
"""Share of the outlines that must have a vote."""

_LARGEST_SPREAD = 0.08
"""Ratio: if equally good outlines differ by more than this (one standard deviation), nothing is measured."""

_SURE = 1.5
"""A ratio must be this many uncertainties away from the limit before the heart is called large, or not large."""

_LIMIT = {"PA": 0.50, "AP": 0.55, "unknown": 0.55}
"""The heart is magnified on an AP film, so its limit is higher; an unknown view is treated as the careful one."""


@dataclass(frozen=True)
class _Widths:
    """Columns of the heart's and thorax's borders, and rows they hold for; all in pixels of the working plane."""

    heart: tuple[float, float]
    thorax: tuple[float, float]
    rows: tuple[float, float]

    @property
    def ratio(self) -> float:
        return (self.heart[1] - self.heart[0]) / (self.thorax[1] - self.thorax[0])


class FilmThorax:
    """Lung fields and cardiothoracic ratio of one frontal film."""

    def look(self, image: Volume | Film) -> Opinion:
        """Measure heart and thorax. Raises: ExpertError if it is no frontal film, or what is found is implausible."""
        if not isinstance(image, Film):
            raise ExpertError("this is a volume; expected a frontal film", "wrong-kind")
        if image.view == "LATERAL":
            raise ExpertError(
                "the view is LATERAL; expected PA or AP: width of the heart needs a frontal film", "wrong-view"
            )
        fields = find_lung_fields(image.pixels.numpy())
        along = smoothed(fields.plane)
        every = [widths for pair in fields.pairs for widths in _widths(pair, fields.plane, along)]
        votes = [widths for widths in every if _PLAUSIBLE[0] <= widths.ratio <= _PLAUSIBLE[1]]
        _check(every, votes)
        ratios = np.array([vote.ratio for vote in votes])
        middle = votes[int(np.argsort(ratios)[len(ratios) // 2])]
        return _opinion(image, fields, middle, float(ratios.std()), len(votes))


def _check(every: list[_Widths], votes: list[_Widths]) -> None:
    if len(votes) < max(1, _LEAST_VOTES * len(every)):
        middle = float(np.median([widths.ratio for widths in every])) if every else float("nan")
        raise ExpertError(
            f"{len(every) - len(votes)} of {len(every)} outlines give a cardiothoracic ratio outside {_PLAUSIBLE[0]} to"
            f" {_PLAUSIBLE[1]} (median {middle:.2f}): the lung fields do not follow the heart on this film",
            "implausible-ratio",
        )
    spread = float(np.std([vote.ratio for vote in votes]))
    if spread > _LARGEST_SPREAD:
        raise ExpertError(
            f"{len(votes)} equally good outlines give ratios that differ by {spread:.2f} (one standard deviation),"
            f" expected at most {_LARGEST_SPREAD}: heart or chest wall has no clear border on this film",
            "unclear-border",
        )


def _opinion(film: Film, fields: LungFields, found: _Widths, spread: float, votes: int) -> Opinion:
    pixel = 1.0  # a border lies within a pixel of the working plane, on either side
    heart = found.heart[1] - found.heart[0]
    thorax = found.thorax[1] - found.thorax[0]
    value, sampling = ratio(heart, pixel, thorax, pixel)
    uncertainty = float(np.sqrt(sampling**2 + spread**2 + METHOD_UNCERTAINTY**2))
    heart_box = _region(film, fields.scale, found.rows, found.heart)
    thorax_box = _region(film, fields.scale, found.rows, found.thorax)
    how = f"median over {votes} outlines of the lung fields; view {film.view}"
    measurements = [Measurement("cardiothoracic ratio", value, "1", uncertainty, heart_box, NAME, how)]
    notes = [f"cardiothoracic ratio {value:.2f} ± {uncertainty:.2f}"]
    if film.spacing_mm is None:
        notes.append("no pixel spacing in the file: widths in mm were not measured")
    else:
        mm = film.spacing_mm[1] / fields.scale
        at = f"{how}; mm at the detector, magnification not corrected"
        # The ratio's error is shared out as if the heart's border made it, which is where outlines disagree.
        error = float(np.hypot(pixel, np.hypot(spread, METHOD_UNCERTAINTY) * thorax)) * mm
        measurements += [
            Measurement("heart width", heart * mm, "mm", error, heart_box, NAME, at),
            Measurement("thorax width", thorax * mm, "mm", pixel * mm + 0.02 * thorax * mm, thorax_box, NAME, at),
        ]
    if film.view != "PA":
        notes.append(f"view {film.view}: the heart may be magnified, limit {_LIMIT[film.view]} instead of 0.5")
    status = _status(value, uncertainty, _LIMIT[film.view])
    return Opinion((Finding("cardiomegaly", status, region=heart_box, by=NAME),), tuple(measurements), tuple(notes))


def _status(value: float, uncertainty: float, limit: float) -> Literal["present", "absent", "uncertain"]:
    if value - _SURE * uncertainty > limit:
        return "present"
    return "absent" if value + _SURE * uncertainty < limit else "uncertain"


def _region(film: Film, scale: float, rows: tuple[float, float], columns: tuple[float, float]) -> Region:
    height, width = film.shape
    box = (rows[0] / scale, columns[0] / scale, rows[1] / scale, columns[1] / scale)
    return film_region(film, tuple(float(np.clip(v, 0, top)) for v, top in zip(box, (height, width) * 2, strict=True)))


def _widths(pair: Pair, plane: Plane, along: Plane) -> list[_Widths]:
    """Heart by the fields' inner outline, and by its own border: two opinions, both of which vote."""
    left, right = pair.left.mask, pair.right.mask
    dome = _dome_row(left)
    top = pair.left.rows[0]
    cardiac = np.arange(round(top + 0.45 * (dome - top)), round(dome) + 1)
    lower = np.arange(cardiac[0], min(plane.shape[0] - 1, round(dome + 0.03 * plane.shape[0])) + 1)
    heart = _heart_border(plane, left, cardiac, -1), _heart_border(plane, right, lower, 1)
    both = np.flatnonzero(left.any(axis=1) & right.any(axis=1))
    if heart[0] is None or heart[1] is None or not both.size:
        return []
    # A field may have swallowed part of the heart: then its border lies further out.
    shared = np.intersect1d(both, cardiac[:-2])
    edges = border(along, left, shared, -1), border(along, right, shared, 1)
    wider = (
        heart[0] if edges[0] is None else min(heart[0], edges[0]),
        heart[1] if edges[1] is None else max(heart[1], edges[1]),
    )
    outer_left = left[both].argmax(axis=1)
    outer_right = right.shape[1] - right[both][:, ::-1].argmax(axis=1)
    widest = int(np.argmax(outer_right - outer_left))
    rows = _around(int(both[widest]), plane)
    thorax = (
        float(_to_edge(plane, rows, int(outer_left[widest]), -1, rising=True)),
        float(_to_edge(plane, rows, int(outer_right[widest]) - 1, 1, rising=True) + 1),
    )
    lines = float(cardiac[0]), float(lower[-1] + 1)
    if thorax[1] <= thorax[0]:
        return []
    found = [(heart[0], heart[1]), wider]
    return [_Widths(columns, thorax, lines) for columns in found if columns[1] > columns[0]]


def _dome_row(field: NDArray[np.bool_]) -> float:
    """Row of the top of the diaphragm under the patient's right lung: below it, the inner border is no heart border."""
    columns = np.flatnonzero(field.any(axis=0))
    middle = columns[len(columns) // 4 : len(columns) * 3 // 4 + 1]
    bottom = field.shape[0] - 1 - field[::-1][:, middle].argmax(axis=0)
    return float(np.percentile(bottom, 20))


def _heart_border(plane: Plane, field: NDArray[np.bool_], rows: NDArray[np.int_], direction: int) -> float | None:
    """Outermost reach of the heart into one field, as a column; `direction` is +1 to the right of the film."""
    rows = rows[field[rows].any(axis=1)]
    if not rows.size:
        return None
    inner = field[rows] if direction > 0 else field[rows][:, ::-1]
    reach = inner.argmax(axis=1)  # first column of lung, counted from the other side of the film
    # A percentile, as ribs and vessels cut single rows.
    far = float(np.percentile(reach, 96))
    row = int(rows[np.argmin(np.abs(reach - far))])
    column = round(far) - 1 if direction > 0 else field.shape[1] - round(far)
    edge = _to_edge(plane, _around(row, plane), column, direction, rising=False)
    return float(edge + 1 if direction > 0 else edge)


def _around(row: int, plane: Plane) -> NDArray[np.int_]:
    return np.arange(max(row - 4, 0), min(row + 5, plane.shape[0]))


def _to_edge(plane: Plane, rows: NDArray[np.int_], column: int, direction: int, rising: bool) -> int:
    """Move a border outward by at most 4% of the width to where brightness changes fastest.

    Outward of a lung it rises (to the ribs); outward of the heart it falls (to the lung).
    """
    profile = ndimage.gaussian_filter1d(plane[rows].mean(axis=0), 1.0)
    change = np.gradient(profile) * direction * (1 if rising else -1)
    places = np.clip(column + direction * np.arange(-2, int(0.04 * plane.shape[1]) + 1), 0, plane.shape[1] - 1)
    return int(places[np.argmax(change[places])])
