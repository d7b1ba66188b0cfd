"""Do two models get equally many cases right? McNemar's tests on the cases where just one of them is right.

Independent cases: exact (binomial), mid-p (less cautious, and as valid in practice), or chi-squared with or without the
correction. Several studies a patient: the excess of each patient is the unit (Obuchowski 1998, Durkalski et al. 2003).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom, chi2

from evaluation.labelled import Floats, numbered_patients

Form = Literal["exact", "mid-p", "chi2", "chi2 corrected"]
ClusteredForm = Literal["obuchowski", "durkalski"]


@dataclass(frozen=True)
class DiscordanceTest:
    """`first_only` and `second_only` count rows that only one model got right, out of n rows known for both.

    difference is (first_only - second_only) / n, the gain in the share of right rows. p is two-sided; it is 1 without a
    discordant row, nan without any row. statistic is chi-squared with 1 degree, or nan for the exact forms.
    """

    first_only: int
    second_only: int
    difference: float
    statistic: float
    p: float
    n: int
    groups: int
    variant: str


def mcnemar(first_right: ArrayLike, second_right: ArrayLike, form: Form = "mid-p") -> DiscordanceTest:
    """Test on independent rows: first_right, second_right (N,) of 1, 0 or nan (the row is left out).

    Source: McNemar 1947, doi:10.1007/BF02295996; Fagerland et al. 2013, doi:10.1186/1471-2288-13-91 (mid-p).
    Raises: ValueError on unequal lengths, values other than 0, 1, nan, or another form.
    """
    gain, _ = _discordance(first_right, second_right, None)
    first, second, n = int((gain == 1).sum()), int((gain == -1).sum()), gain.size
    few, all_of_them = min(first, second), first + second
    statistic = math.nan
    if form == "exact":
        p = min(1.0, 2 * float(binom.cdf(few, all_of_them, 0.5)))
    elif form == "mid-p":
        p = min(1.0, 2 * float(binom.cdf(few, all_of_them, 0.5)) - float(binom.pmf(few, all_of_them, 0.5)))
    elif form in ("chi2", "chi2 corrected"):
        step = abs(first - second) - (1 if form == "chi2 corrected" else 0)
        statistic = step**2 / all_of_them if all_of_them else 0.0
        p = float(chi2.sf(statistic, 1))
    else:
        raise ValueError(f"form is {form!r}, expected exact, mid-p, chi2 or 'chi2 corrected'")
    if all_of_them == 0:
        p = 1.0
    share = (first - second) / n if n else math.nan
    return DiscordanceTest(first, second, share, statistic, p if n else math.nan, n, n, f"McNemar, {form}")


def clustered_mcnemar(
    first_right: ArrayLike,
    second_right: ArrayLike,
    groups: Sequence[Hashable],
    form: ClusteredForm = "obuchowski",
) -> DiscordanceTest:
    """Test with patients as clusters: rows (N,) as in mcnemar, groups (N,) the patient of each.

    With d_g the rows of patient g that only the first got right less those that only the second did, n_g their rows,
    and G patients: "obuchowski" is (sum d_g)^2 / (G / (G - 1) x sum d_g^2), about the pooled shares; "durkalski" is
    (sum d_g / n_g)^2 / sum (d_g / n_g)^2, where each patient counts alike. Durkalski with one row each is McNemar's
    chi-squared. Both ask for some 20 patients with a discordant row; for fewer, take permutation_test.
    Source: Obuchowski 1998 (Statistics in Medicine 17: 1495); Durkalski et al. 2003, doi:10.1002/sim.1438.
    Raises: as mcnemar.
    """
    gain, patient = _discordance(first_right, second_right, groups)
    excess, size = np.bincount(patient, gain).astype(np.float64), np.bincount(patient)
    first, second, n, people = int((gain == 1).sum()), int((gain == -1).sum()), gain.size, excess.size
    if form == "durkalski":
        excess, scale = np.asarray(excess / size, dtype=np.float64), 1.0
    elif form == "obuchowski":
        scale = people / (people - 1) if people > 1 else math.nan
    else:
        raise ValueError(f"form is {form!r}, expected obuchowski or durkalski")
    square = float((excess**2).sum())
    statistic = float(excess.sum()) ** 2 / (scale * square) if square else 0.0
    p = float(chi2.sf(statistic, 1)) if n else math.nan
    share = (first - second) / n if n else math.nan
    return DiscordanceTest(first, second, share, statistic, p, n, people, f"McNemar over patients, {form}")


def _discordance(
    first_right: ArrayLike, second_right: ArrayLike, groups: Sequence[Hashable] | None
) -> tuple[Floats, NDArray[np.intp]]:
    """first - second (M,) in -1, 0, 1 of rows known for both, and their patients, 0 to G - 1."""
    first, second = np.asarray(first_right, dtype=np.float64), np.asarray(second_right, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"first {first.shape} and second {second.shape} must share one shape (N,): the same cases")
    for given in (first, second):
        strange = given[~np.isnan(given) & (given != 0) & (given != 1)]
        if strange.size:
            raise ValueError(f"rows hold {strange[0]:g}, expected 1 (right), 0 (wrong) or nan (unknown)")
    patient = np.arange(first.size) if groups is None else numbered_patients(groups, first.size)
    known = ~np.isnan(first) & ~np.isnan(second)
    _, number = np.unique(patient[known], return_inverse=True)
    return (first - second)[known], number.astype(np.intp)
