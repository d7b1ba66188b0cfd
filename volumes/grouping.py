"""One DICOM series -> the images that it holds: split by plane, size, kind, time, echo, phase and diffusion weighting.

Works on headers alone, and gives the same parts in the same order whatever the order or names of the files, so that a
part can be named by its number. Nothing is dropped here: what cannot be told apart stays together for the reader to
refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from volumes.errors import VolumeError
from volumes.geometry import MAX_COSINE_ERROR, same_place, stack
from volumes.instance import InstanceHeader

FILM_MODALITIES = ("CR", "DX", "DR", "RG", "RF", "SC", "XA", "MG", "PX", "IO")
ULTRASOUND_MODALITIES = ("US", "IVUS")
SINGLE_IMAGES = FILM_MODALITIES + ULTRASOUND_MODALITIES  # each file is an image of its own
# Enhanced CT, MR and PET, and what was converted to them: planes lie in functional groups, not in the header
ENHANCED = tuple(f"1.2.840.10008.5.1.4.1.1.{n}" for n in ("2.1", "2.2", "4.1", "4.4", "130", "128.1"))
MOST_STACKS = 256  # planes of one multi-frame file; a file that claims more is not taken apart


@dataclass(frozen=True)
class Part:
    """Files that make one image. `frames` names the frames of one multi-frame file; empty means all of them."""

    instances: tuple[InstanceHeader, ...]
    frames: tuple[int, ...] = ()


def parts(members: Sequence[InstanceHeader]) -> list[Part]:
    """Split one DICOM series, or one file of another format, into images."""
    films = [h for h in members if _is_single(h)]
    found = [Part((h,)) for h in sorted(films, key=_number)]  # those without a number keep the order of the archive
    planes = sorted((h for h in members if not _is_single(h)), key=lambda h: (_number(h), h.sop_uid, h.path))
    found += _multiframes([h for h in planes if _is_multiframe(h)])
    mosaics = [h for h in planes if is_mosaic(h)]
    found += [Part((h,)) for h in sorted(mosaics, key=lambda h: (h.acquired, _number(h), h.sop_uid))]
    groups: list[list[InstanceHeader]] = []
    for header in planes:
        if _is_multiframe(header) or is_mosaic(header):
            continue
        home = next((g for g in groups if belongs(g[0], header)), None)
        if home is None:
            groups.append([header])
        else:
            home.append(header)
    return found + [Part(tuple(one)) for group in groups for one in occasions(group)]


def _is_single(header: InstanceHeader) -> bool:
    return header.format != "dicom" or header.modality in SINGLE_IMAGES


def _is_multiframe(header: InstanceHeader) -> bool:
    return header.frames > 1 or bool(header.concatenation)


def is_mosaic(header: InstanceHeader) -> bool:
    """Whether Image Type says that the file is a Siemens mosaic: many slices tiled into one image."""
    return header.format == "dicom" and header.frames == 1 and "MOSAIC" in header.image_type


def _number(header: InstanceHeader) -> tuple[bool, int]:
    return header.instance_number is None, header.instance_number or 0


def _multiframes(files: Sequence[InstanceHeader]) -> Iterator[Part]:
    """Each file, or files that one concatenation joins; a file that says so is taken apart into its stacks."""
    joined: dict[str, list[InstanceHeader]] = {}
    for header in files:
        joined.setdefault(header.concatenation or header.sop_uid + header.path, []).append(header)
    for group in joined.values():
        if len(group) > 1 or not group[0].stacks:
            yield Part(tuple(sorted(group, key=lambda h: (h.concatenation_number or 0, h.sop_uid))))
            continue
        for stack_frames in group[0].stacks:
            yield Part((group[0],), tuple(int(n) for n in stack_frames.split()))


def belongs(a: InstanceHeader, b: InstanceHeader) -> bool:
    """Whether two slices can lie in one stack: same matrix, plane, spacing and kind of image."""
    if (a.rows, a.columns, a.modality, a.frame_of_reference) != (b.rows, b.columns, b.modality, b.frame_of_reference):
        return False
    if ("LOCALIZER" in a.image_type) != ("LOCALIZER" in b.image_type):
        return False
    planes = (a.orientation, b.orientation, MAX_COSINE_ERROR), (a.pixel_spacing, b.pixel_spacing, 1e-3)
    for one, other, tolerance in planes:
        if len(one) != len(other) or any(abs(x - y) > tolerance for x, y in zip(one, other, strict=True)):
            return False
    return bool(a.position) == bool(b.position)


_Tag = Callable[[InstanceHeader], Hashable]
# what may tell whole scans of the same places apart, the surest first
_TAGS: tuple[_Tag, ...] = (
    lambda h: h.time_point,
    lambda h: h.echo,
    lambda h: h.inversion,
    lambda h: h.b_value,
    lambda h: h.direction,
    lambda h: h.phase,
    lambda h: h.acquisition,
    lambda h: h.image_type,
    lambda h: h.acquired,
)
_CERTAIN = _TAGS[:4]  # differ only between scans, never between the slices of one
_CLOCKS: tuple[Callable[[InstanceHeader], str], ...] = (lambda h: h.phase, lambda h: h.acquired)


def occasions(group: Sequence[InstanceHeader]) -> list[list[InstanceHeader]]:
    """Split where a tag tells scans of the same places apart; else leave the doubles to the reader."""
    if len(group) < 2 or not all(h.position for h in group):
        return [list(group)]
    place: dict[int, int] = {}
    for number, indices in enumerate(same_place(np.array([h.position for h in group]))):
        place.update(dict.fromkeys(indices, number))
    return [[group[n] for n in one] for one in _split(group, list(range(len(group))), place)]


def _split(group: Sequence[InstanceHeader], members: list[int], place: dict[int, int]) -> list[list[int]]:
    counts = _counts(members, place)
    if max(counts.values()) == 1:
        return [members]
    for tag in _TAGS:
        values = _by_value(group, members, tag)
        if len(values) > 1 and all(_whole(one, counts, place) for one in values):
            return [part for one in values for part in _split(group, one, place)]
    for clock in _CLOCKS:
        ranked = _by_rank(group, members, place, counts, clock)
        if ranked:
            return ranked
    for tag in _TAGS[:-1]:
        values = _by_value(group, members, tag)
        single = len(values) > 1 and all(_single(one, place) for one in values)
        if single and (tag in _CERTAIN or all(_regular(group, one) for one in values)):
            return values
    return [members]


def _counts(members: Sequence[int], place: dict[int, int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for n in members:
        counts[place[n]] = counts.get(place[n], 0) + 1
    return counts


def _whole(members: Sequence[int], all_counts: dict[int, int], place: dict[int, int]) -> bool:
    """Whether these images cover every place equally often."""
    counts = _counts(members, place)
    return len(counts) == len(all_counts) and len(set(counts.values())) == 1


def _single(members: Sequence[int], place: dict[int, int]) -> bool:
    return len(members) > 1 and max(_counts(members, place).values()) == 1


def _regular(group: Sequence[InstanceHeader], members: Sequence[int]) -> bool:
    chosen = [group[n] for n in members]
    try:
        stack(
            np.array([h.position for h in chosen]),
            np.array([h.orientation for h in chosen]),
            np.array([h.pixel_spacing for h in chosen]),
        )
    except (VolumeError, ValueError):
        return False
    return True


def _by_value(group: Sequence[InstanceHeader], members: Sequence[int], tag: _Tag) -> list[list[int]]:
    """Members with equal values, in the order of the values: numbers by size, then texts."""
    found: dict[Hashable, list[int]] = {}
    for n in members:
        found.setdefault(tag(group[n]), []).append(n)
    return [found[value] for value in sorted(found, key=_order)]


def _order(value: Hashable) -> tuple[bool, float, str]:
    number = _as_number(value)
    return number is None, number or 0.0, str(value)


def _as_number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


def _by_rank(
    group: Sequence[InstanceHeader],
    members: Sequence[int],
    place: dict[int, int],
    counts: dict[int, int],
    clock: Callable[[InstanceHeader], str],
) -> list[list[int]]:
    """The first image of every place, the second of every place ...: slices of one phase start at differing times."""
    if len(set(counts.values())) != 1:
        return []
    times = {n: _as_number(clock(group[n])) for n in members}
    at: dict[int, list[tuple[float, int]]] = {}
    for n, time in times.items():
        if time is None:
            return []
        at.setdefault(place[n], []).append((time, n))
    ordered = [sorted(here) for here in at.values()]
    if any(len({time for time, _ in here}) < len(here) for here in ordered):
        return []
    return [[here[rank][1] for here in ordered] for rank in range(next(iter(counts.values())))]
