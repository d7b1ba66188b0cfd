"""PET values -> SUV by body weight, after the vendor-neutral recipe of the QIBA FDG-PET/CT profile.

SUV = activity (Bq/ml) x weight (g) / dose (Bq) decayed to the time to which the scan was corrected. Each vendor writes
units and times in its own way; where an attribute is missing or makes no sense the values stay as they are, and the
reason names the attribute. QIBA wiki, "Standardized Uptake Value (SUV)"; PS3.3 C.8.9.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydicom.dataset import Dataset

from volumes.errors import VolumeError
from volumes.header import items, numbers, text, texts

_GE_CREATOR, _GE_SCAN_TIME = 0x00090010, 0x0009100D  # GEMS_PETD_01: scan date and time
_PHILIPS_CREATOR, _PHILIPS_SUV, _PHILIPS_ACTIVITY = 0x70530010, 0x70531000, 0x70531009
_LEAST_DOSE_BQ = 1e5  # less was written in MBq by mistake: a patient gets 10^7 to 10^9
_WEIGHTS_KG = (0.2, 500.0)
_MOST_HALF_LIVES = 20  # later nothing is left to be seen: the dates do not belong together


@dataclass(frozen=True)
class Suv:
    """`factor` turns rescaled values into SUV (g/ml); `told` says how it came about, in words."""

    factor: float
    told: str


def body_weight_suv(dataset: Dataset, acquired: Iterable[str] = ()) -> Suv:
    """The factor of one PET series from any of its files.

    `acquired` are date and time (YYYYMMDDHHMMSS.f) of every slice: the earliest counts where the series time was
    altered. Raises VolumeError ("no-suv") naming the attribute that is missing or contradicts another.
    """
    units = text(dataset, "Units")
    kind = text(dataset, "SUVType")
    if kind not in ("", "BW"):
        raise _no(f"SUVType is {kind}, expected BW (body weight)")
    if units == "GML":
        return Suv(1.0, "Units GML: the file holds SUV by body weight already")
    _check_corrections(dataset)
    if units == "CNTS":
        creator = _creator(dataset)
        suv = _private_number(dataset, _PHILIPS_SUV) if creator else None
        if suv:
            return Suv(suv, f"Philips SUV scale factor (7053,1000) {suv:g}")
        activity = _private_number(dataset, _PHILIPS_ACTIVITY) if creator else None
        if not activity:
            raise _no("Units are CNTS, and the Philips scale factors (7053,1000) and (7053,1009) are missing")
        found = _from_activity(dataset, acquired)
        return Suv(activity * found.factor, f"Philips activity factor (7053,1009) {activity:g}; {found.told}")
    if units != "BQML":
        raise _no(f"Units are {units or 'missing'}, expected BQML, GML or CNTS")
    return _from_activity(dataset, acquired)


def _from_activity(dataset: Dataset, acquired: Iterable[str]) -> Suv:
    """Bq/ml -> SUV: weight over the dose that was left at the time to which the scan was decay-corrected."""
    tracer = next(iter(items(dataset, "RadiopharmaceuticalInformationSequence")), Dataset())
    weight_kg = _positive(dataset, "PatientWeight", "kg", *_WEIGHTS_KG)
    dose_bq = _positive(tracer, "RadionuclideTotalDose", "Bq", _LEAST_DOSE_BQ, math.inf)
    to = text(dataset, "DecayCorrection")
    if to == "ADMIN":
        told = f"{weight_kg:g} kg, {dose_bq:.4g} Bq, decay corrected to the injection"
        return Suv(weight_kg * 1000 / dose_bq, told)
    half_life_s = _positive(tracer, "RadionuclideHalfLife", "s", 1.0, math.inf)
    scan, how = scan_time(dataset, acquired, half_life_s)
    injected, note = _injection(tracer, scan)
    waited_s = (scan - injected).total_seconds()
    if waited_s > _MOST_HALF_LIVES * half_life_s:
        raise _no(f"the injection lies {waited_s / 3600:.1f} h before the scan, over {_MOST_HALF_LIVES} half-lives")
    left = dose_bq * 2 ** (-waited_s / half_life_s)
    told = f"{weight_kg:g} kg, {dose_bq:.4g} Bq injected {waited_s / 60:.1f} min before the {how}{note}"
    return Suv(weight_kg * 1000 / left, told)


def scan_time(dataset: Dataset, acquired: Iterable[str], half_life_s: float) -> tuple[datetime, str]:
    """The moment to which DecayCorrection START corrected, and where it was found.

    Series time; but where that lies after the acquisition (a series made later) GE's private scan time, else the time
    computed back from the frame reference time, else the earliest acquisition of the series.
    """
    series = _moment(text(dataset, "SeriesDate") + text(dataset, "SeriesTime"))
    own = _moment(text(dataset, "AcquisitionDate") + text(dataset, "AcquisitionTime"))
    if own is None:
        own = _moment(text(dataset, "AcquisitionDateTime"))
    moments = [m for m in map(_moment, acquired) if m is not None] or ([own] if own is not None else [])
    if series is not None and series <= min(moments, default=series):
        return series, "series time"
    private = _moment(_private_text(dataset, _GE_SCAN_TIME)) if _ge(dataset) else None
    if private is not None:
        return private, "scan time of GE (0009,100D)"
    reference_ms = _first(numbers(dataset, "FrameReferenceTime", 1))
    duration_ms = _first(numbers(dataset, "ActualFrameDuration", 1))
    if own is not None and reference_ms > 0 and duration_ms > 0:
        decay = math.log(2) / half_life_s
        during = decay * duration_ms / 1000
        average_s = math.log(during / -math.expm1(-during)) / decay
        return own - timedelta(seconds=reference_ms / 1000 - average_s), "start computed from the frame reference time"
    if not moments:
        raise _no("SeriesTime and AcquisitionTime (with their dates) are missing")
    return min(moments), "earliest acquisition of the series"


def _injection(tracer: Dataset, scan: datetime) -> tuple[datetime, str]:
    """When the tracer was given: the date and time where they fit the scan, else the time on the day before it."""
    whole = _moment(text(tracer, "RadiopharmaceuticalStartDateTime"))
    if whole is not None and whole <= scan:
        return whole, ""
    time = text(tracer, "RadiopharmaceuticalStartTime")
    given = _moment(f"{scan:%Y%m%d}{time}") if time else None
    if given is None:
        if whole is not None:
            raise _no("RadiopharmaceuticalStartDateTime lies after the scan")
        raise _no("RadiopharmaceuticalStartTime is missing")
    note = " (RadiopharmaceuticalStartDateTime lies after the scan: its time alone was used)" if whole else ""
    if given > scan:
        return given - timedelta(days=1), note + ", across midnight"
    return given, note


def _check_corrections(dataset: Dataset) -> None:
    done = set(texts(dataset, "CorrectedImage"))
    missing = [name for name, words in (("ATTN", {"ATTN"}), ("DECY", {"DECY", "DECAY"})) if not done & words]
    if missing:
        raise _no(f"CorrectedImage does not hold {' and '.join(missing)}: the values are no activity")
    to = text(dataset, "DecayCorrection")
    if to not in ("START", "ADMIN"):
        raise _no(f"DecayCorrection is {to or 'missing'}, expected START or ADMIN")


def _positive(dataset: Dataset, name: str, unit: str, low: float, high: float) -> float:
    found = numbers(dataset, name, 1)
    if not found or found[0] <= 0:
        raise _no(f"{name} is missing")
    if not low <= found[0] <= high:
        limit = f"at least {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
        raise _no(f"{name} is {found[0]:g}, expected {limit} {unit}")
    return found[0]


def _moment(value: str) -> datetime | None:
    """YYYYMMDDHHMMSS[.f], a zone after it left out (one scanner has one clock); None for anything less."""
    value = value.partition("+")[0].partition("-")[0].strip()
    whole, _, fraction = value.partition(".")
    if not whole.isdigit() or len(whole) < 12:
        return None
    try:
        moment = datetime.strptime(whole[:14].ljust(14, "0"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        return moment + timedelta(seconds=float(f"0.{fraction or 0}"))
    except ValueError:
        return None


def _ge(dataset: Dataset) -> bool:
    return _private_text(dataset, _GE_CREATOR) == "GEMS_PETD_01"


def _creator(dataset: Dataset) -> bool:
    return _private_text(dataset, _PHILIPS_CREATOR).startswith("Philips PET Private")


def _private_text(dataset: Dataset, tag: int) -> str:
    try:
        element = dataset.get(tag)
        value = None if element is None else element.value
    except Exception:  # a damaged value fails when it is first used, with any error
        return ""
    found = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return found.strip(" \0")


def _private_number(dataset: Dataset, tag: int) -> float | None:
    try:
        found = float(_private_text(dataset, tag))
    except ValueError:
        return None
    return found if math.isfinite(found) and found > 0 else None


def _first(found: tuple[float, ...]) -> float:
    return found[0] if found else 0.0


def _no(reason: str) -> VolumeError:
    return VolumeError(reason, "no-suv")
