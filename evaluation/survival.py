"""Time to an event with censoring: does a higher risk mean an earlier event, and are survival probabilities honest?

Who is compared: a patient whose event was seen, with everybody known to be free of it at that time. Two events at the
same time are not compared; an event and a censoring at the same time are (censored counts as later). This is how
Harrell, lifelines and scikit-survival count. They differ in ties of risk, exact or within 1e-8, and in the sign of the
score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.labelled import Floats

Ties = Literal["exact", "within 1e-8"]
_BRUTE = 128
"""Below this many rows, comparing all pairs is quicker than dividing them."""


@dataclass(frozen=True)
class Concordance:
    """Pairs in the right order, with equal risk, and comparable at all; value = (right + tied / 2) / comparable.

    With weights (Uno) the pairs are counted and the value is weighted. value is nan without a comparable pair.
    """

    value: float
    right: int
    tied: int
    comparable: int
    n: int
    events: int
    variant: str


def harrell_concordance(times: ArrayLike, events: ArrayLike, risks: ArrayLike, ties: Ties = "exact") -> Concordance:
    """Harrell's C: times > 0, events 1 (seen) or 0 (censored), risks (higher: earlier), all (N,).

    "exact" ties are those of lifelines (whose score is a survival time: give it -risk), "within 1e-8" those of
    scikit-survival. Rows where any of the three is nan are refused: a missing outcome is not a censored one. O(N log^2
    N).
    Source: Harrell et al. 1982, doi:10.1001/jama.1982.03320430047030.
    Raises: ValueError on unequal lengths, nan, times below 0, or events other than 0 and 1.
    """
    time, event, risk = _checked(times, events, risks)
    right, tied, comparable = _pairs(time, event, risk, ties)
    return _concordance(right, tied, comparable, np.ones(time.size), event, f"Harrell, ties of risk {ties}")


def uno_concordance(
    times: ArrayLike,
    events: ArrayLike,
    risks: ArrayLike,
    censoring: Censoring,
    horizon: float | None = None,
    ties: Ties = "within 1e-8",
    weight_before: bool = False,
) -> Concordance:
    """Uno's C: pairs weigh 1 / G(t)^2 of the earlier event, so the value does not depend on how censoring fell.

    G is the chance of being uncensored, fitted on the training patients (Censoring.fit) or on these. `horizon` leaves
    out events at or after that time, where G is unsure. weight_before takes G just before the event, as Uno's paper
    does; False takes G at the event, as scikit-survival does; they differ where a censoring falls on the time of an
    event.
    Source: Uno et al. 2011, doi:10.1002/sim.4154. Raises: as harrell_concordance, and ValueError where G is 0 or
    unknown.
    """
    time, event, risk = _checked(times, events, risks)
    used = event & (time < horizon) if horizon is not None else event
    weight = np.zeros(time.size)
    free = censoring.at(time[used], before=weight_before)
    if (free == 0).any():
        raise ValueError(
            f"the chance of being uncensored is 0 at {time[used][free == 0].min():g}, the time of an event; give a"
            " horizon before that time"
        )
    weight[used] = 1 / free**2
    right, tied, comparable = _pairs(time, event, risk, ties)
    limit = "" if horizon is None else f", before {horizon:g}"
    place = "just before" if weight_before else "at"
    return _concordance(right, tied, comparable, weight, used, f"Uno, G {place} the event{limit}, ties of risk {ties}")


@dataclass(frozen=True)
class Censoring:
    """Chance of being uncensored beyond each time, by Kaplan-Meier with censorings as the events.

    times (T,) ascending and free (T,) from 1 down. Where an event and a censoring share a time, the event comes first.
    """

    times: Floats
    free: Floats

    @classmethod
    def fit(cls, times: ArrayLike, events: ArrayLike) -> Censoring:
        """From patients (N,), the training ones if there are any. Raises: as harrell_concordance; ValueError without
        rows."""
        time, event, _ = _checked(times, events, np.zeros(np.shape(times)))
        if time.size == 0:
            raise ValueError("there are 0 patients, expected at least one to fit the censoring")
        distinct, place = np.unique(time, return_inverse=True)
        seen = np.bincount(place, event)
        lost = np.bincount(place, ~event)
        at_risk = np.cumsum((seen + lost)[::-1])[::-1] - seen
        return cls(distinct, np.cumprod(1 - np.divide(lost, at_risk, out=np.zeros(lost.size), where=lost > 0)))

    def at(self, times: ArrayLike, before: bool = False) -> Floats:
        """G at times (M,), or just before them. Beyond the last patient it is 0 if G reached 0, and unknown otherwise.

        Raises: ValueError for a time beyond the last patient where G is unknown.
        """
        wanted = np.asarray(times, dtype=np.float64)
        if self.free[-1] > 0 and wanted.size and wanted.max() > self.times[-1]:
            raise ValueError(
                f"time {wanted.max():g} is beyond the last patient that the censoring was fitted on"
                f" ({self.times[-1]:g}), where the chance of being uncensored is unknown; give an earlier horizon"
            )
        place = np.searchsorted(self.times, wanted, "left" if before else "right")
        return np.append(1.0, self.free)[place]


def kaplan_meier(times: ArrayLike, events: ArrayLike) -> tuple[Floats, Floats]:
    """Distinct times (T,) and the chance of no event up to each (T,). Raises: as harrell_concordance."""
    time, event, _ = _checked(times, events, np.zeros(np.shape(times)))
    distinct, place = np.unique(time, return_inverse=True)
    seen, everyone = np.bincount(place, event, minlength=0), np.bincount(place)
    at_risk = np.cumsum(everyone[::-1])[::-1]
    return distinct, np.cumprod(1 - seen / at_risk).astype(np.float64)


def survival_brier(
    times: ArrayLike, events: ArrayLike, survival: ArrayLike, at: ArrayLike, censoring: Censoring
) -> Floats:
    """Brier score of survival probabilities at each time, patients weighted for censoring; (T,), nan without patients.

    Shapes: times, events (N,); survival (N, T), P(no event up to that time); at (T,). A patient with an event before
    counts survival^2 / G(event time), one still free (1 - survival)^2 / G(t), one censored before 0.
    Source: Graf et al. 1999, doi:10.1002/(SICI)1097-0258(19990915/30)18:17/18<2529::AID-SIM274>3.0.CO;2-5; the
    definition of scikit-survival. Raises: as harrell_concordance; ValueError for shapes, probabilities or unknown G.
    """
    time, event, _ = _checked(times, events, np.zeros(np.shape(times)))
    moments, said = np.asarray(at, dtype=np.float64), np.asarray(survival, dtype=np.float64)
    if said.shape != (time.size, moments.size) or moments.ndim != 1:
        raise ValueError(f"survival has shape {said.shape}, expected ({time.size}, {moments.size}): patients, times")
    if not np.isfinite(said).all() or (said.size and (said.min() < 0 or said.max() > 1)):
        raise ValueError("survival holds values outside [0, 1] or nan, expected probabilities of no event")
    if time.size == 0:
        return np.full(moments.size, math.nan)
    by_moment, by_patient = censoring.at(moments), censoring.at(time)
    with np.errstate(divide="ignore"):
        at_moment = np.where(by_moment > 0, 1 / by_moment, 0.0)
        at_event = np.where(by_patient > 0, 1 / by_patient, 0.0)
    gone = (time[:, None] <= moments) & event[:, None]
    still = time[:, None] > moments
    return np.asarray((said**2 * gone * at_event[:, None] + (1 - said) ** 2 * still * at_moment).mean(axis=0))


def integrated_brier(
    times: ArrayLike, events: ArrayLike, survival: ArrayLike, at: ArrayLike, censoring: Censoring
) -> float:
    """Mean of survival_brier over the span of `at`, by trapezoids; nan without patients.

    Raises: as survival_brier, and ValueError unless `at` holds at least two ascending times.
    """
    moments = np.asarray(at, dtype=np.float64)
    if moments.ndim != 1 or moments.size < 2 or not (np.diff(moments) > 0).all():
        raise ValueError(f"at has {moments.size} times, expected at least two, ascending")
    scores = survival_brier(times, events, survival, moments, censoring)
    return float(np.trapezoid(scores, moments) / (moments[-1] - moments[0]))


def _pairs(
    time: Floats, event: NDArray[np.bool_], risk: Floats, ties: Ties
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For each row (N,) that is an event: rows later with a lower risk, with an equal one, and all later ones."""
    if ties not in ("exact", "within 1e-8"):
        raise ValueError(f"ties is {ties!r}, expected exact or 'within 1e-8'")
    tolerance = 0.0 if ties == "exact" else 1e-8
    # A censoring at the time of an event is later than it, and two events at one time share a key: not compared.
    _, step = np.unique(time, return_inverse=True)
    key = (2 * step + ~event).astype(np.int64)
    order = np.argsort(key, kind="stable")
    right, tied = np.zeros(time.size, dtype=np.int64), np.zeros(time.size, dtype=np.int64)
    _divide(key[order], event[order], risk[order], tolerance, right, tied)
    later = time.size - np.searchsorted(key[order], key, "right")
    back = np.empty(time.size, dtype=np.intp)
    back[order] = np.arange(time.size)
    return right[back], tied[back], np.where(event, later, 0)


def _divide(
    key: NDArray[np.int64],
    event: NDArray[np.bool_],
    risk: Floats,
    tolerance: float,
    right: NDArray[np.int64],
    tied: NDArray[np.int64],
) -> None:
    """Add up pairs of rows sorted by key: within halves by recursion, between them by sorting the later half's
    risks."""
    if key.size < 2 or key[0] == key[-1]:
        return
    if key.size <= _BRUTE:
        compared = event[:, None] & (key > key[:, None])
        below, above = risk < (risk - tolerance)[:, None], risk <= (risk + tolerance)[:, None]
        right += (compared & below).sum(1)
        tied += (compared & above & ~below).sum(1)
        return
    middle = int(np.searchsorted(key, key[key.size // 2], "left"))  # never between rows of one key
    if middle == 0:
        middle = int(np.searchsorted(key, key[key.size // 2], "right"))
    ordered, early = np.sort(risk[middle:]), event[:middle]
    lower = np.searchsorted(ordered, risk[:middle][early] - tolerance, "left")
    right[:middle][early] += lower
    tied[:middle][early] += np.searchsorted(ordered, risk[:middle][early] + tolerance, "right") - lower
    for part in (slice(None, middle), slice(middle, None)):
        _divide(key[part], event[part], risk[part], tolerance, right[part], tied[part])


def _concordance(
    right: NDArray[np.int64],
    tied: NDArray[np.int64],
    comparable: NDArray[np.int64],
    weight: Floats,
    used: NDArray[np.bool_],
    variant: str,
) -> Concordance:
    below = float(weight @ comparable)
    value = float(weight @ right + weight @ tied / 2) / below if below > 0 else math.nan
    hits, equal, pairs = (int(part[used].sum()) for part in (right, tied, comparable))
    return Concordance(value, hits, equal, pairs, weight.size, int(used.sum()), variant)


def _checked(times: ArrayLike, events: ArrayLike, risks: ArrayLike) -> tuple[Floats, NDArray[np.bool_], Floats]:
    time, event, risk = (np.asarray(given, dtype=np.float64) for given in (times, events, risks))
    if time.ndim != 1 or not time.shape == event.shape == risk.shape:
        raise ValueError(f"times {time.shape}, events {event.shape} and risks {risk.shape} must share one shape (N,)")
    for name, given in (("times", time), ("events", event), ("risks", risk)):
        if not np.isfinite(given).all():
            raise ValueError(
                f"{int((~np.isfinite(given)).sum())} of {given.size} {name} are not finite, expected numbers: a patient"
                " whose outcome is unknown from the start cannot be used"
            )
    if (time < 0).any() or not np.isin(event, (0, 1)).all():
        raise ValueError("times must be 0 or more, and events 1 (seen) or 0 (censored)")
    return time, event == 1, risk
